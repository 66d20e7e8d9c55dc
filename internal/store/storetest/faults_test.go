package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"countersign"
	"countersign/internal/store"
	"countersign/internal/store/storetest"
)

// TestFaults breaks each kind of write in each way, and looks into the store
// underneath for what became of it.
func TestFaults(t *testing.T) {
	t.Parallel()
	for what, do := range map[string]struct {
		write  func(ctx context.Context, s store.Store) error
		stored func(ctx context.Context, s store.Store) bool
	}{
		"bucket b create": {
			func(ctx context.Context, s store.Store) error {
				b, _ := s.Bucket(ctx, "b")
				_, err := b.Create(ctx, "k", nil)
				return err
			},
			func(ctx context.Context, s store.Store) bool {
				b, _ := s.Bucket(ctx, "b")
				_, _, err := b.Get(ctx, "k")
				return err == nil
			},
		},
		"blobs b put": {
			func(ctx context.Context, s store.Store) error {
				b, _ := s.Blobs(ctx, "b")
				_, _, err := b.Put(ctx, strings.NewReader("x"))
				return err
			},
			func(ctx context.Context, s store.Store) bool {
				b, _ := s.Blobs(ctx, "b")
				_, err := b.OpenFile(ctx, countersign.DigestOf([]byte("x")))
				return err == nil
			},
		},
		"queue q put": {
			func(ctx context.Context, s store.Store) error {
				q, _ := s.Queue(ctx, "q")
				return q.Put(ctx, "i", nil)
			},
			func(ctx context.Context, s store.Store) bool {
				q, _ := s.Queue(ctx, "q")
				return count(ctx, q) == 1
			},
		},
		"log l append": {
			func(ctx context.Context, s store.Store) error {
				l, _ := s.Log(ctx, "l")
				_, err := l.Append(ctx, "s", []byte("x"))
				return err
			},
			func(ctx context.Context, s store.Store) bool {
				l, _ := s.Log(ctx, "l")
				for range l.Read(ctx, "s", 0) {
					return true
				}
				return false
			},
		},
	} {
		words := strings.Fields(what)
		for _, fault := range storetest.Faults(words[0] + " " + words[2]) {
			t.Run(fault.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					under := storetest.Memory()
					s := fault.Wrap(under)
					if err := do.write(t.Context(), s); !errors.Is(err, storetest.ErrFault) {
						t.Errorf("got %v, want ErrFault", err)
					}
					if !fault.Fired() {
						t.Error("the fault did not fire")
					}
					if got := do.stored(t.Context(), under); got != fault.After {
						t.Errorf("stored: got %v, want %v", got, fault.After)
					}
					// A process that died does nothing more; one that lives on does.
					if err := do.write(t.Context(), s); errors.Is(err, storetest.ErrFault) != fault.Dies {
						t.Errorf("the next write: got %v", err)
					}
				})
			})
		}
	}
}

// count works q until nothing is left and returns how many items there were.
func count(ctx context.Context, q store.Queue) int {
	ctx, cancel := context.WithTimeout(ctx, time.Hour) // of the bubble's time
	defer cancel()
	n := 0
	_ = q.Work(ctx, 1, func(context.Context, string, []byte) error { n++; return nil })
	return n
}

func TestFaultAtDone(t *testing.T) {
	t.Parallel()
	for _, fault := range storetest.Faults("queue done") {
		t.Run(fault.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				under := storetest.Memory()
				q, err := fault.Wrap(under).Queue(t.Context(), "q")
				if err != nil {
					t.Fatal(err)
				}
				if err := q.Put(t.Context(), "i", nil); err != nil {
					t.Fatal(err)
				}
				got := count(t.Context(), q)
				rest, err := under.Queue(t.Context(), "q")
				if err != nil {
					t.Fatal(err)
				}
				left := count(t.Context(), rest)
				want := [2]int{1, 0} // it left the queue, and nobody noticed
				switch {
				case !fault.After && !fault.Dies:
					want = [2]int{2, 0} // it came back
				case !fault.After:
					want = [2]int{1, 1} // it is there for whoever comes after the crash
				}
				if [2]int{got, left} != want {
					t.Errorf("worked %d times, %d left; want %v", got, left, want)
				}
			})
		})
	}
}

// TestEachCrash has a process write three documents: EachCrash must kill it
// before and after each of them, and no other way.
func TestEachCrash(t *testing.T) {
	t.Parallel()
	runs := 0
	storetest.EachCrash(t, "bucket", func(t *testing.T, fault *storetest.Fault) {
		runs++
		ctx := t.Context()
		under := storetest.Memory()
		b, err := fault.Wrap(under).Bucket(ctx, "b")
		if err != nil {
			t.Fatal(err)
		}
		writes := 0
		for i := range 3 {
			if _, err := b.Create(ctx, fmt.Sprint(i), nil); err != nil {
				break
			}
			writes++
		}
		there := 0
		b, _ = under.Bucket(ctx, "b")
		for i := range 3 {
			if _, _, err := b.Get(ctx, fmt.Sprint(i)); err == nil {
				there++
			}
		}
		want := writes
		if fault.Fired() && fault.After {
			want++
		}
		if there != want {
			t.Errorf("%d writes are there, want %d", there, want)
		}
	})
	if want := 2*3 + 1; runs != want { // before and after each of three, and the run in which nothing breaks
		t.Errorf("ran %d times, want %d", runs, want)
	}
}

// TestMemoryInABubble uses every kind of thing where time is the test's.
func TestMemoryInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := storetest.Memory()
		b, _ := s.Bucket(ctx, "b")
		d, err := store.OpenDocs[int](ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Create(ctx, "k", 1); err != nil {
			t.Fatal(err)
		}
		q, _ := s.Queue(ctx, "q")
		var at []time.Duration
		start := time.Now()
		go func() {
			_ = q.Work(ctx, 1, func(context.Context, string, []byte) error {
				at = append(at, time.Since(start))
				return errors.New("again")
			})
		}()
		if err := q.Put(ctx, "i", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want := []time.Duration{0, 250 * time.Millisecond, 750 * time.Millisecond, 1750 * time.Millisecond}
		if fmt.Sprint(at) != fmt.Sprint(want) {
			t.Errorf("tried at %v, want %v", at, want)
		}
		if err := s.Close(); err != nil { // ends the work and the documents' watch
			t.Fatal(err)
		}
		synctest.Wait()
		d.Close()
		if err := d.Err(); !errors.Is(err, store.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}

		// The store forgets nothing.
		d, err = store.OpenDocs[int](ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if got, _, _ := d.Get("k"); got != 1 {
			t.Errorf("after Close: got %d, want 1", got)
		}
	})
}
