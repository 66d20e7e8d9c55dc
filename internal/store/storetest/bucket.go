package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"sync"
	"testing"

	"countersign/internal/store"
)

func buckets(t *testing.T, open func(*testing.T) store.Store) {
	for name, f := range map[string]func(*testing.T, store.Bucket){
		"GetsWhatIsThere":    getsWhatIsThere,
		"ComparesAndSwaps":   comparesAndSwaps,
		"CreatesAfterDelete": createsAfterDelete,
		"TakesAnyKey":        takesAnyKey,
		"LosesNoUpdate":      losesNoUpdate,
		"OneCreatorWins":     oneCreatorWins,
		"WatchIsWhole":       watchIsWhole,
		"WatchOfNothing":     watchOfNothing,
		"WatchEnds":          watchEnds,
		"WatchMissesNothing": watchMissesNothing,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, must[store.Bucket](t)(open(t).Bucket(t.Context(), "things")))
		})
	}
}

func getsWhatIsThere(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	if _, rev, err := b.Get(ctx, "a"); !errors.Is(err, store.ErrNotFound) || !rev.IsZero() {
		t.Errorf("Get of a missing key: got %v, %v, want ErrNotFound", rev, err)
	}
	for _, val := range []string{"", "x", "{}\x00\xff"} {
		key := store.Key("k", val)
		made := must[store.Revision](t)(b.Create(ctx, key, []byte(val)))
		got, rev, err := b.Get(ctx, key)
		if err != nil || string(got) != val || rev != made {
			t.Errorf("Get: got %q, %v, %v, want %q, %v", got, rev, err, val, made)
		}
	}
}

func comparesAndSwaps(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	one := must[store.Revision](t)(b.Create(ctx, "k", []byte("1")))
	other := must[store.Revision](t)(b.Create(ctx, "other", nil))
	two := must[store.Revision](t)(b.Swap(ctx, "k", []byte("2"), one))
	if !one.Before(other) || !other.Before(two) {
		t.Errorf("revisions do not grow: %v %v %v", one, other, two)
	}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"Create over a key", second(b.Create(ctx, "k", nil)), store.ErrExists},
		{"Swap from an old revision", second(b.Swap(ctx, "k", nil, one)), store.ErrConflict},
		{"Swap from another key's revision", second(b.Swap(ctx, "k", nil, other)), store.ErrConflict},
		{"Swap from the zero revision", second(b.Swap(ctx, "k", nil, store.Revision{})), store.ErrConflict},
		{"Swap of a missing key from zero", second(b.Swap(ctx, "new", nil, store.Revision{})), store.ErrConflict},
		{"Swap of a missing key", second(b.Swap(ctx, "new", nil, two)), store.ErrConflict},
		{"Delete from an old revision", b.Delete(ctx, "k", one), store.ErrConflict},
		{"Delete from the zero revision", b.Delete(ctx, "k", store.Revision{}), store.ErrConflict},
		{"Delete of a missing key", b.Delete(ctx, "new", two), store.ErrConflict},
		{"Delete of a missing key from zero", b.Delete(ctx, "new", store.Revision{}), store.ErrConflict},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, c.err, c.want)
		}
	}
	if got, rev, err := b.Get(ctx, "k"); err != nil || string(got) != "2" || rev != two {
		t.Errorf("after refused writes: got %q, %v, %v, want 2, %v", got, rev, err, two)
	}
	if _, _, err := b.Get(ctx, "new"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a refused write made a key: got %v", err)
	}
}

func createsAfterDelete(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	var last store.Revision
	for i := range 3 {
		rev := must[store.Revision](t)(b.Create(ctx, "k", []byte{byte(i)}))
		if !last.Before(rev) {
			t.Errorf("a key made again has revision %v, not after %v", rev, last)
		}
		if err := b.Delete(ctx, "k", rev); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Get(ctx, "k"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get of a deleted key: got %v, want ErrNotFound", err)
		}
		if err := b.Delete(ctx, "k", rev); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Delete of a deleted key: got %v, want ErrConflict", err)
		}
		if _, err := b.Swap(ctx, "k", nil, rev); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Swap of a deleted key: got %v, want ErrConflict", err)
		}
		last = rev
	}
	must[store.Revision](t)(b.Create(ctx, "k", nil))
	if _, err := b.Create(ctx, "k", nil); !errors.Is(err, store.ErrExists) {
		t.Errorf("Create over a key made again: got %v, want ErrExists", err)
	}
}

func takesAnyKey(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	keys := []string{
		store.Key(""), store.Key("", ""), store.Key("arn:aws:lambda:eu-west-1:000000000000:function:f"),
		store.Key("a.b"), store.Key("a", "b"), store.Key("*"), store.Key(">"), store.Key("$JS.API"),
		store.Key("ü", "\x00\xff", " ", "\r\n"), store.Key(string(make([]byte, 1024))),
	}
	for i, k := range keys {
		if _, err := b.Create(ctx, k, []byte{byte(i)}); err != nil {
			t.Errorf("Create %q: %v", k, err)
		}
	}
	for i, k := range keys {
		if got, _, err := b.Get(ctx, k); err != nil || len(got) != 1 || got[0] != byte(i) {
			t.Errorf("Get %q: got %v, %v, want %d", k, got, err, i)
		}
	}
}

// losesNoUpdate has many writers add one to a number by compare-and-swap.
func losesNoUpdate(t *testing.T, b store.Bucket) {
	const writers, each = 8, 20
	ctx := t.Context()
	must[store.Revision](t)(b.Create(ctx, "n", []byte("0")))
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				val, rev, err := b.Get(ctx, "n")
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(val))
				_, err = b.Swap(ctx, "n", []byte(strconv.Itoa(n+1)), rev)
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if val, _, err := b.Get(ctx, "n"); string(val) != strconv.Itoa(writers*each) {
		t.Errorf("got %s, %v, want %d", val, err, writers*each)
	}
}

func oneCreatorWins(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	for round := range 5 {
		var wg sync.WaitGroup
		won := make(chan store.Revision, 16)
		for range cap(won) {
			wg.Go(func() {
				rev, err := b.Create(ctx, "k", nil)
				if err == nil {
					won <- rev
				} else if !errors.Is(err, store.ErrExists) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("round %d: %d creators won, want 1", round, len(won))
		}
		if err := b.Delete(ctx, "k", <-won); err != nil { // the next round creates over a deletion
			t.Fatal(err)
		}
	}
}

// watching starts a watch and returns a function that pulls its next event.
func watching(t *testing.T, b store.Bucket) func() store.Event {
	t.Helper()
	next, stop := iter.Pull2(b.Watch(t.Context()))
	t.Cleanup(stop)
	return func() store.Event {
		t.Helper()
		e, err, ok := next()
		if err != nil || !ok {
			t.Fatalf("watch ended: %v", err)
		}
		return e
	}
}

func watchIsWhole(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	a := must[store.Revision](t)(b.Create(ctx, "a", []byte("1")))
	gone := must[store.Revision](t)(b.Create(ctx, "gone", nil))
	must[store.Revision](t)(b.Create(ctx, "b", nil))
	a = must[store.Revision](t)(b.Swap(ctx, "a", []byte("2"), a))
	if err := b.Delete(ctx, "gone", gone); err != nil {
		t.Fatal(err)
	}

	next := watching(t, b)
	seen := map[string]string{}
	for e := next(); !e.Ready; e = next() {
		if e.Deleted {
			delete(seen, e.Key)
			continue
		}
		if e.Value == nil {
			t.Errorf("%s is not deleted and has no value", e.Key)
		}
		seen[e.Key] = string(e.Value)
	}
	if got, want := fmt.Sprint(seen), fmt.Sprint(map[string]string{"a": "2", "b": ""}); got != want {
		t.Errorf("before Ready: got %v, want %v", got, want)
	}

	// From here on every change is an event.
	c := must[store.Revision](t)(b.Create(ctx, "c", []byte("3")))
	if e := next(); e.Key != "c" || string(e.Value) != "3" || e.Rev != c || e.Deleted || e.Ready {
		t.Errorf("create: got %+v", e)
	}
	a = must[store.Revision](t)(b.Swap(ctx, "a", []byte("4"), a))
	if e := next(); e.Key != "a" || string(e.Value) != "4" || e.Rev != a {
		t.Errorf("swap: got %+v", e)
	}
	if err := b.Delete(ctx, "a", a); err != nil {
		t.Fatal(err)
	}
	if e := next(); e.Key != "a" || e.Value != nil || !e.Deleted || !a.Before(e.Rev) {
		t.Errorf("delete: got %+v", e)
	}
}

func watchOfNothing(t *testing.T, b store.Bucket) {
	if e := watching(t, b)(); !e.Ready {
		t.Errorf("first event of an empty bucket: got %+v, want Ready", e)
	}
}

func watchEnds(t *testing.T, b store.Bucket) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	ready := make(chan bool)
	go func() {
		for e, err := range b.Watch(ctx) {
			if err != nil {
				ended <- err
				return
			}
			if e.Ready {
				close(ready)
			}
		}
		ended <- nil
	}()
	receive(t, "Ready", ready)
	cancel()
	if err := receive(t, "end of the watch", ended); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled or nothing", err)
	}
}

// watchMissesNothing watches while others write, and must end up with what is
// there, having seen each key's revisions in order.
func watchMissesNothing(t *testing.T, b store.Bucket) {
	const writers, each = 4, 50
	ctx := t.Context()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			var rev store.Revision
			var err error
			for i := range each {
				key := fmt.Sprintf("k%d", w)
				switch {
				case rev.IsZero():
					rev, err = b.Create(ctx, key, []byte(strconv.Itoa(i)))
				case i%7 == 6:
					err = b.Delete(ctx, key, rev)
					rev = store.Revision{}
				default:
					rev, err = b.Swap(ctx, key, []byte(strconv.Itoa(i)), rev)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	next := watching(t, b)
	var end store.Revision
	seen := map[string]string{}
	var last store.Revision
	finished := false
	for !finished {
		e := next()
		if e.Ready {
			wg.Wait()
			end = must[store.Revision](t)(b.Create(ctx, "end", nil))
			continue
		}
		if !last.Before(e.Rev) {
			t.Fatalf("%s at %v came after %v", e.Key, e.Rev, last)
		}
		last = e.Rev
		if e.Deleted {
			delete(seen, e.Key)
		} else {
			seen[e.Key] = string(e.Value)
		}
		finished = !end.IsZero() && e.Rev == end
	}
	for w := range writers {
		key := fmt.Sprintf("k%d", w)
		val, _, err := b.Get(ctx, key)
		got, ok := seen[key]
		if ok == errors.Is(err, store.ErrNotFound) || got != string(val) {
			t.Errorf("%s: watched %q, %v; is %q, %v", key, got, ok, val, err)
		}
	}
}
