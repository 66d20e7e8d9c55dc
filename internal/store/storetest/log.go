package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"countersign/internal/store"
)

func logs(t *testing.T, open func(*testing.T) store.Store) {
	for name, f := range map[string]func(*testing.T, store.Log){
		"KeepsOrder":        keepsOrder,
		"Resumes":           resumes,
		"ReadsBelow":        readsBelow,
		"Purges":            purges,
		"BatchesAreWhole":   batchesAreWhole,
		"StopsAtTheEnd":     stopsAtTheEnd,
		"TakesManySubjects": takesManySubjects,
		"TakesManyRecords":  takesManyRecords,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, must[store.Log](t)(open(t).Log(t.Context(), "lines")))
		})
	}
}

func add(t *testing.T, l store.Log, subject string, records ...string) uint64 {
	t.Helper()
	var b [][]byte
	for _, r := range records {
		b = append(b, []byte(r))
	}
	return must[uint64](t)(l.Append(t.Context(), subject, b...))
}

// read returns subject:data of every record, and the position after the last.
func read(t *testing.T, l store.Log, subject string, from uint64) (got []string, next uint64) {
	t.Helper()
	next = from
	for r, err := range l.Read(t.Context(), subject, from) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Subject+":"+string(r.Data))
		next = r.Next
	}
	return got, next
}

func checkRead(t *testing.T, l store.Log, subject string, from uint64, want ...string) {
	t.Helper()
	if got, _ := read(t, l, subject, from); !slices.Equal(got, want) {
		t.Errorf("read %s from %d: got %q, want %q", subject, from, got, want)
	}
}

func keepsOrder(t *testing.T, l store.Log) {
	checkRead(t, l, "a", 0)
	add(t, l, "a", "1", "2")
	add(t, l, "b", "x")
	add(t, l, "a", "", "3")
	checkRead(t, l, "a", 0, "a:1", "a:2", "a:", "a:3")
	checkRead(t, l, "b", 0, "b:x")
	checkRead(t, l, "c", 0)
}

func resumes(t *testing.T, l store.Log) {
	var ends []uint64
	for i := range 5 {
		ends = append(ends, add(t, l, "a", fmt.Sprint(i, "a"), fmt.Sprint(i, "b"), fmt.Sprint(i, "c")))
		add(t, l, "other", "x")
	}
	all, end := read(t, l, "a", 0)
	if len(all) != 15 || end != ends[4] {
		t.Fatalf("got %d records to %d, want 15 to %d", len(all), end, ends[4])
	}
	// From the position of every record, what is after it.
	n := 0
	last := uint64(0)
	for r, err := range l.Read(t.Context(), "a", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Next <= last {
			t.Errorf("position %d is not after %d", r.Next, last)
		}
		last = r.Next
		n++
		checkRead(t, l, "a", r.Next, all[n:]...)
	}
	for i, end := range ends {
		checkRead(t, l, "a", end, all[3*(i+1):]...)
	}
	// Appending nothing tells where the end is now.
	here := add(t, l, "a")
	checkRead(t, l, "a", here)
	add(t, l, "a", "after")
	checkRead(t, l, "a", here, "a:after")
}

func readsBelow(t *testing.T, l store.Log) {
	deep := store.Key("fn", "/aws/lambda/f", "2025/01/01/[1]abc")
	add(t, l, "fn", "0")
	add(t, l, store.Key("fn", "g"), "1")
	add(t, l, deep, "2")
	add(t, l, store.Key("fn2", "g"), "3")
	checkRead(t, l, "fn.>", 0, "fn.g:1", deep+":2")
	checkRead(t, l, store.Key("fn", "/aws/lambda/f")+".>", 0, deep+":2")
	checkRead(t, l, ">", 0, "fn:0", "fn.g:1", deep+":2", "fn2.g:3")
	_, at := read(t, l, "fn.g", 0)
	checkRead(t, l, "fn.>", at, deep+":2")
	checkRead(t, l, "none.>", 0)
}

func purges(t *testing.T, l store.Log) {
	ctx := t.Context()
	add(t, l, "a", "1")
	_, at := read(t, l, "a", 0)
	add(t, l, "a.x", "2")
	add(t, l, "a.y", "3")
	add(t, l, "b", "4")
	if err := l.Purge(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	checkRead(t, l, ">", 0, "a.x:2", "a.y:3", "b:4")
	if err := l.Purge(ctx, "a.>"); err != nil {
		t.Fatal(err)
	}
	checkRead(t, l, ">", 0, "b:4")
	if err := l.Purge(ctx, "nothing"); err != nil {
		t.Errorf("Purge of nothing: %v", err)
	}
	// Positions go on where they were.
	add(t, l, "a", "5")
	checkRead(t, l, "a", at, "a:5")
	checkRead(t, l, "a", 0, "a:5")
}

// batchesAreWhole has many writers: the records of one Append are together.
func batchesAreWhole(t *testing.T, l store.Log) {
	const writers, each, size = 4, 10, 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				var batch [][]byte
				for j := range size {
					batch = append(batch, fmt.Append(nil, w, ".", i, ".", j))
				}
				if _, err := l.Append(t.Context(), "s", batch...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, _ := read(t, l, "s", 0)
	if len(got) != writers*each*size {
		t.Fatalf("got %d records, want %d", len(got), writers*each*size)
	}
	next := map[int]int{}
	for i := 0; i < len(got); i += size {
		var w, n, j int
		for k := range size {
			if _, err := fmt.Sscanf(got[i+k], "s:%d.%d.%d", &w, &n, &j); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("s:%d.%d.%d", w, next[w], k); got[i+k] != want {
				t.Fatalf("record %d: got %s, want %s", i+k, got[i+k], want)
			}
		}
		next[w]++
	}
}

// stopsAtTheEnd appends for every record it reads.
func stopsAtTheEnd(t *testing.T, l store.Log) {
	for i := range 5 {
		add(t, l, "s", fmt.Sprint(i))
	}
	n := 0
	for _, err := range l.Read(t.Context(), "s", 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		add(t, l, "s", "more")
		if n > 10 {
			break
		}
	}
	if n != 5 {
		t.Errorf("read %d records, want the 5 that were there", n)
	}
}

func takesManySubjects(t *testing.T, l store.Log) {
	const subjects = 1500
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < subjects; i += 4 {
				if _, err := l.Append(t.Context(), store.Key("s", fmt.Sprint(i)), fmt.Append(nil, i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got, _ := read(t, l, "s.>", 0); len(got) != subjects {
		t.Errorf("got %d records, want %d", len(got), subjects)
	}
	for _, i := range []int{0, 1, subjects - 1} {
		checkRead(t, l, store.Key("s", fmt.Sprint(i)), 0, fmt.Sprintf("s.%d:%d", i, i))
	}
}

func takesManyRecords(t *testing.T, l store.Log) {
	const records = 10_000 // as many as one PutLogEvents may bring
	batch := make([][]byte, records)
	for i := range batch {
		batch[i] = fmt.Appendf(nil, "%06d %090d", i, 0)
	}
	end := must[uint64](t)(l.Append(t.Context(), "s", batch...))
	n := 0
	for r, err := range l.Read(t.Context(), "s", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Data) != string(batch[n]) {
			t.Fatalf("record %d: got %q", n, r.Data)
		}
		if n++; n == records && r.Next != end {
			t.Errorf("the last record's position is %d, want %d", r.Next, end)
		}
	}
	if n != records {
		t.Errorf("got %d records, want %d", n, records)
	}
}
