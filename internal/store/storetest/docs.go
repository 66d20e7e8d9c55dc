package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"countersign/internal/store"
)

type doc struct {
	Name string
	N    int
	List []string `json:",omitempty"`
}

func documents(t *testing.T, open func(*testing.T) store.Store) {
	for name, f := range map[string]func(*testing.T, store.Bucket){
		"ReadYourWrites":    readYourWrites,
		"UpdateLosesNone":   updateLosesNone,
		"UpdateIsACopy":     updateIsACopy,
		"PagesInOrder":      pagesInOrder,
		"TwoViewsAgree":     twoViewsAgree,
		"TellsOfChanges":    tellsOfChanges,
		"CorruptIsNamed":    corruptIsNamed,
		"ToleratesUnknown":  toleratesUnknown,
		"SeesWritersBefore": seesWritersBefore,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, must[store.Bucket](t)(open(t).Bucket(t.Context(), "docs")))
		})
	}
}

func docsOf(t *testing.T, b store.Bucket) *store.Docs[doc] {
	t.Helper()
	d := must[*store.Docs[doc]](t)(store.OpenDocs[doc](t.Context(), b))
	t.Cleanup(d.Close)
	return d
}

func readYourWrites(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	d := docsOf(t, b)
	for i := range 50 {
		key := store.Key("d", fmt.Sprint(i%5))
		if _, _, ok := d.Get(key); ok {
			t.Fatalf("%d: %s is there before it is made", i, key)
		}
		one := must[store.Revision](t)(d.Create(ctx, key, doc{N: i}))
		if got, rev, ok := d.Get(key); !ok || got.N != i || rev != one {
			t.Fatalf("after Create: got %v, %v, %v, want N %d at %v", got, rev, ok, i, one)
		}
		if _, err := d.Create(ctx, key, doc{}); !errors.Is(err, store.ErrExists) {
			t.Errorf("Create over %s: got %v, want ErrExists", key, err)
		}
		two := must[store.Revision](t)(d.Swap(ctx, key, doc{N: -i}, one))
		if got, rev, _ := d.Get(key); got.N != -i || rev != two {
			t.Fatalf("after Swap: got %v, %v, want N %d at %v", got, rev, -i, two)
		}
		if _, err := d.Swap(ctx, key, doc{}, one); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Swap of %s from an old revision: got %v, want ErrConflict", key, err)
		}
		if err := d.Delete(ctx, key, one); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Delete of %s at an old revision: got %v, want ErrConflict", key, err)
		}
		if err := d.Delete(ctx, key, two); err != nil {
			t.Fatal(err)
		}
		if got, _, ok := d.Get(key); ok {
			t.Fatalf("after Delete: got %v, want nothing", got)
		}
	}
	if err := d.Err(); err != nil {
		t.Errorf("Err: got %v, want nil", err)
	}
}

func updateLosesNone(t *testing.T, b store.Bucket) {
	const writers, each = 8, 15
	ctx := t.Context()
	views := []*store.Docs[doc]{docsOf(t, b), docsOf(t, b)}
	must[store.Revision](t)(views[0].Create(ctx, "n", doc{}))
	var wg sync.WaitGroup
	for w := range writers {
		d := views[w%len(views)]
		wg.Go(func() {
			for range each {
				was := 0
				got, err := d.Update(ctx, "n", func(x *doc) error { was = x.N; x.N++; return nil })
				if err != nil || got.N != was+1 {
					t.Errorf("Update: got %v, %v, want N %d", got, err, was+1)
				}
				if seen, _, _ := d.Get("n"); seen.N < got.N {
					t.Errorf("wrote %d, and the view has %d", got.N, seen.N)
				}
			}
		})
	}
	wg.Wait()
	if _, err := views[1].Update(ctx, "last", func(*doc) error { return nil }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Update of a missing key: got %v, want ErrNotFound", err)
	}
	got := must[doc](t)(views[0].Update(ctx, "n", func(*doc) error { return nil }))
	if got.N != writers*each {
		t.Errorf("got %d, want %d", got.N, writers*each)
	}
}

func updateIsACopy(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	d := docsOf(t, b)
	must[store.Revision](t)(d.Create(ctx, "k", doc{List: []string{"a"}}))
	before, at, _ := d.Get("k")
	no := errors.New("no")
	_, err := d.Update(ctx, "k", func(x *doc) error { x.List[0] = "changed"; return no })
	if !errors.Is(err, no) {
		t.Errorf("got %v, want the function's own error", err)
	}
	if got, rev, _ := d.Get("k"); got.List[0] != "a" || rev != at {
		t.Errorf("an update that was given up changed the document: %v at %v", got, rev)
	}
	must[doc](t)(d.Update(ctx, "k", func(x *doc) error { x.List[0] = "b"; return nil }))
	if before.List[0] != "a" {
		t.Errorf("an update changed what a reader holds: %v", before)
	}
}

func pagesInOrder(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	d := docsOf(t, b)
	var names []string
	for _, n := range []string{"b", "a", "B", "a-b", "a_b", "a.b", "a/b", "a0", "A", "aa", "a b", "a:b", "ä", "~", "0", "-", "_"} {
		names = append(names, n)
		must[store.Revision](t)(d.Create(ctx, store.Key("in", n), doc{Name: n}))
		must[store.Revision](t)(d.Create(ctx, store.Key("in2", n), doc{Name: n}))
	}
	must[store.Revision](t)(d.Create(ctx, store.Key("in"), doc{}))
	slices.Sort(names)

	prefix := store.Key("in") + "."
	for limit := 1; limit <= len(names)+1; limit++ {
		var got []string
		after, more := "", true
		for more {
			var items []store.Item[doc]
			items, more = d.Page(prefix, after, limit)
			if len(items) > limit || more && len(items) < limit || len(items) == 0 {
				t.Fatalf("page after %q, limit %d: got %d items, more %v", after, limit, len(items), more)
			}
			for _, it := range items {
				got = append(got, it.Val.Name)
				after = it.Key
			}
		}
		if !slices.Equal(got, names) {
			t.Fatalf("limit %d: got %q, want %q", limit, got, names)
		}
	}

	var all []string
	for it := range d.All(prefix) {
		all = append(all, it.Val.Name)
	}
	if !slices.Equal(all, names) || d.Len(prefix) != len(names) || d.Len("") != 2*len(names)+1 {
		t.Errorf("All: got %q, Len %d and %d", all, d.Len(prefix), d.Len(""))
	}
	for _, c := range []struct {
		prefix, after string
		want          int
	}{
		{prefix, prefix + "zzz", 2}, // "~" and "ä" are after every letter
		{prefix, "a", len(names)},   // after something that is before the prefix
		{prefix, "zzz", 0},          // after something that is after the prefix
		{"none", "", 0},
	} {
		if items, more := d.Page(c.prefix, c.after, 100); more || len(items) != c.want {
			t.Errorf("Page(%q, %q): got %d items, more %v, want %d", c.prefix, c.after, len(items), more, c.want)
		}
	}
	if items, more := d.Page(prefix, "", 0); len(items) != 0 || !more {
		t.Errorf("a page of none: got %v, %v, want none and more", items, more)
	}
}

// twoViewsAgree has two views of one bucket, as two processes would.
func twoViewsAgree(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	x, y := docsOf(t, b), docsOf(t, b)
	rev := must[store.Revision](t)(x.Create(ctx, "k", doc{N: 1}))
	until(t, y, func() bool { got, at, _ := y.Get("k"); return got.N == 1 && at == rev })
	must[doc](t)(y.Update(ctx, "k", func(d *doc) error { d.N = 2; return nil }))
	until(t, x, func() bool { got, _, _ := x.Get("k"); return got.N == 2 })
	_, rev, _ = x.Get("k")
	if err := x.Delete(ctx, "k", rev); err != nil {
		t.Fatal(err)
	}
	until(t, y, func() bool { _, _, ok := y.Get("k"); return !ok })
}

// until waits for a view to become as wanted.
func until(t *testing.T, d *store.Docs[doc], ok func() bool) {
	t.Helper()
	for {
		changed := d.Changed()
		if ok() {
			return
		}
		receive(t, "change that was waited for", changed)
	}
}

func tellsOfChanges(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	d := docsOf(t, b)
	var got []string // changed by one hook at a time, before the write that caused it returns
	stop := d.Watch(func(c store.Change[doc]) {
		now, _, ok := d.Get(c.Key)
		if ok == c.Deleted || now.N != c.Val.N {
			t.Errorf("told of %+v while the view has %v, %v", c, now, ok)
		}
		got = append(got, fmt.Sprint(c.Key, c.Val.N, c.Deleted))
	})
	must[store.Revision](t)(d.Create(ctx, "a", doc{N: 1}))
	must[doc](t)(d.Update(ctx, "a", func(x *doc) error { x.N = 2; return nil }))
	_, rev, _ := d.Get("a")
	if err := d.Delete(ctx, "a", rev); err != nil {
		t.Fatal(err)
	}
	stop()
	must[store.Revision](t)(d.Create(ctx, "b", doc{}))
	if want := []string{"a1 false", "a2 false", "a0 true"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func corruptIsNamed(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	d := docsOf(t, b)
	rev := must[store.Revision](t)(d.Create(ctx, "good", doc{N: 1}))
	must[store.Revision](t)(b.Swap(ctx, "good", []byte(`{"N":`), rev))
	must[store.Revision](t)(b.Create(ctx, "bad", []byte(`[]`)))
	must[store.Revision](t)(d.Create(ctx, "fine", doc{})) // the view is past the others when this returns

	if got, _, ok := d.Get("good"); !ok || got.N != 1 {
		t.Errorf("a document that went bad: got %v, %v, want the last good one", got, ok)
	}
	names := func(err error) bool {
		var c *store.CorruptError
		return errors.As(err, &c) && strings.Contains(err.Error(), "good") && strings.Contains(err.Error(), "bad")
	}
	if err := d.Err(); !names(err) {
		t.Errorf("Err: got %v, want both documents named", err)
	}
	if _, err := d.Update(ctx, "good", func(*doc) error { return nil }); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("Update of a corrupt document: got %v, want its error", err)
	}
	if _, err := store.OpenDocs[doc](ctx, b); !names(err) {
		t.Errorf("OpenDocs: got %v, want both documents named", err)
	}

	_, rev, err := b.Get(ctx, "good")
	if err != nil {
		t.Fatal(err)
	}
	must[store.Revision](t)(d.Swap(ctx, "good", doc{N: 2}, rev))
	_, rev, _ = b.Get(ctx, "bad")
	if err := d.Delete(ctx, "bad", rev); err != nil {
		t.Fatal(err)
	}
	if err := d.Err(); err != nil {
		t.Errorf("after repair: got %v, want nil", err)
	}
	docsOf(t, b)
}

func toleratesUnknown(t *testing.T, b store.Bucket) {
	must[store.Revision](t)(b.Create(t.Context(), "k", []byte(`{"N":1,"Later":{"x":[1]}}`)))
	if got, _, ok := docsOf(t, b).Get("k"); !ok || got.N != 1 {
		t.Errorf("got %v, %v, want N 1", got, ok)
	}
}

// seesWritersBefore has two writers each write and then look for the other's
// write through views of their own: at least one must find it.
func seesWritersBefore(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	views := [2]*store.Docs[doc]{docsOf(t, b), docsOf(t, b)}
	for round := range 30 {
		var saw [2]bool
		var wg sync.WaitGroup
		for i, d := range views {
			wg.Go(func() {
				if _, err := d.Create(ctx, fmt.Sprintf("r%d.%d", round, i), doc{}); err != nil {
					t.Error(err)
				}
				_, _, saw[i] = d.Get(fmt.Sprintf("r%d.%d", round, 1-i))
			})
		}
		wg.Wait()
		if !saw[0] && !saw[1] {
			t.Fatalf("round %d: neither writer saw the other", round)
		}
	}
}

// closed tests what is left of a store after Close.
func closed(t *testing.T, open func(*testing.T) store.Store) {
	s := open(t)
	b := must[store.Bucket](t)(s.Bucket(t.Context(), "docs"))
	q := must[store.Queue](t)(s.Queue(t.Context(), "work"))
	d := docsOf(t, b)
	must[store.Revision](t)(d.Create(t.Context(), "k", doc{N: 1}))

	worked := make(chan error, 1)
	began := make(chan bool, 1)
	go func() {
		worked <- q.Work(t.Context(), 1, func(ctx context.Context, _ string, _ []byte) error {
			began <- true
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	if err := q.Put(t.Context(), "item", nil); err != nil {
		t.Fatal(err)
	}
	receive(t, "item", began)
	watched := make(chan error, 1)
	ready := make(chan bool, 1)
	go func() {
		for e, err := range b.Watch(t.Context()) {
			if err != nil {
				watched <- err
				return
			}
			if e.Ready {
				ready <- true
			}
		}
		watched <- nil
	}()
	receive(t, "Ready", ready)

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "end of Work", worked); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Work: got %v, want ErrClosed", err)
	}
	if err := receive(t, "end of Watch", watched); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Watch: got %v, want ErrClosed", err)
	}
	if got, _, ok := d.Get("k"); !ok || got.N != 1 {
		t.Errorf("a view after Close: got %v, %v, want what it had", got, ok)
	}
	d.Close()
	if err := d.Err(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Err: got %v, want ErrClosed", err)
	}
}
