package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"countersign/internal/store"
)

func queues(t *testing.T, open func(*testing.T) store.Store) {
	for name, f := range map[string]func(*testing.T, store.Queue){
		"WorksEachOnce":       worksEachOnce,
		"RunsNAtOnce":         runsNAtOnce,
		"BringsFailuresBack":  bringsFailuresBack,
		"SameWhilePresent":    sameWhilePresent,
		"HandsBackWhenItEnds": handsBackWhenItEnds,
		"TakesAnyID":          takesAnyID,
		"WakesForNewWork":     wakesForNewWork,
		"ComesBackLater":      comesBackLater,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, must[store.Queue](t)(open(t).Queue(t.Context(), "work")))
		})
	}
}

type worker struct {
	stop context.CancelFunc
	done chan struct{} // closed when Work has returned
	err  error         // what it returned; read it after done
}

// working runs Work until the test ends or halt is called.
func working(t *testing.T, q store.Queue, n int, do func(ctx context.Context, id string, item []byte) error) *worker {
	ctx, cancel := context.WithCancel(t.Context())
	w := &worker{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.err = q.Work(ctx, n, do)
	}()
	t.Cleanup(func() { cancel(); <-w.done })
	return w
}

// halt ends the worker and waits until it has.
func (w *worker) halt(t *testing.T) {
	t.Helper()
	w.stop()
	receive(t, "end of Work", w.done)
	if !errors.Is(w.err, context.Canceled) {
		t.Errorf("Work: got %v, want context.Canceled", w.err)
	}
}

func put(t *testing.T, q store.Queue, id, item string) {
	t.Helper()
	if err := q.Put(t.Context(), id, []byte(item)); err != nil {
		t.Fatal(err)
	}
}

// pass is a do that sends each item's id and data to the channel and is content.
func pass(c chan<- string) func(context.Context, string, []byte) error {
	return func(_ context.Context, id string, item []byte) error {
		c <- id + "=" + string(item)
		return nil
	}
}

func worksEachOnce(t *testing.T, q store.Queue) {
	const items = 40
	var want []string
	for i := range items {
		put(t, q, fmt.Sprint("i", i), fmt.Sprint(i))
		want = append(want, fmt.Sprintf("i%d=%d", i, i))
	}
	c := make(chan string, 2*items)
	w := working(t, q, 4, pass(c))
	var got []string
	for range items {
		got = append(got, receive(t, "item", c))
	}
	w.halt(t)
	if len(c) > 0 {
		t.Errorf("%d items came twice, %s first", len(c), <-c)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// What is done is out of the queue.
	put(t, q, "sentinel", "")
	w = working(t, q, 1, pass(c))
	if got := receive(t, "item", c); got != "sentinel=" {
		t.Errorf("got %s again", got)
	}
	w.halt(t)
}

func runsNAtOnce(t *testing.T, q store.Queue) {
	const n = 3
	var mu sync.Mutex
	running, most := 0, 0
	all := make(chan bool)
	finished := make(chan bool, 10)
	for i := range cap(finished) {
		put(t, q, fmt.Sprint(i), "")
	}
	working(t, q, n, func(ctx context.Context, id string, item []byte) error {
		mu.Lock()
		running++
		most = max(most, running)
		if running == n {
			select {
			case <-all:
			default:
				close(all)
			}
		}
		mu.Unlock()
		<-all // nobody goes on before n are here
		mu.Lock()
		running--
		mu.Unlock()
		finished <- true
		return nil
	})
	for range cap(finished) {
		receive(t, "finished item", finished)
	}
	if most != n {
		t.Errorf("%d ran at once, want %d", most, n)
	}
}

func bringsFailuresBack(t *testing.T, q store.Queue) {
	put(t, q, "bad", "x")
	put(t, q, "good", "y")
	type try struct {
		id string
		at time.Time
	}
	c := make(chan try, 100)
	fails := 2
	w := working(t, q, 1, func(_ context.Context, id string, item []byte) error {
		c <- try{id, time.Now()}
		if id == "bad" && fails > 0 {
			fails--
			return errors.New("not now")
		}
		return nil
	})
	var bad []time.Time
	good := 0
	for len(bad) < 3 || good < 1 {
		switch x := receive(t, "item", c); x.id {
		case "bad":
			bad = append(bad, x.at)
		case "good":
			good++
		}
	}
	w.halt(t)
	if good != 1 {
		t.Errorf("the good item came %d times", good)
	}
	for i, least := range []time.Duration{store.RetryDelay(1, nil), store.RetryDelay(2, nil)} {
		if d := bad[i+1].Sub(bad[i]); d < least*9/10 {
			t.Errorf("try %d came after %v, want at least %v", i+2, d, least)
		}
	}
}

func sameWhilePresent(t *testing.T, q store.Queue) {
	put(t, q, "k", "first")
	put(t, q, "k", "second") // waiting: the same item
	began, goOn := make(chan string), make(chan bool)
	w := working(t, q, 1, func(_ context.Context, id string, item []byte) error {
		began <- string(item)
		<-goOn
		return nil
	})
	if got := receive(t, "item", began); got != "first" {
		t.Errorf("got %q, want first", got)
	}
	put(t, q, "k", "third") // being worked on: the same item
	goOn <- true
	w.halt(t)

	put(t, q, "k", "fourth") // gone: a new item
	w = working(t, q, 1, func(_ context.Context, id string, item []byte) error {
		began <- string(item)
		return nil
	})
	if got := receive(t, "item", began); got != "fourth" {
		t.Errorf("got %q, want fourth", got)
	}
	w.halt(t)
}

// handsBackWhenItEnds ends a worker that holds an item: the next one gets it
// without the delay of a failure.
func handsBackWhenItEnds(t *testing.T, q store.Queue) {
	put(t, q, "k", "x")
	began := make(chan bool, 1)
	w := working(t, q, 4, func(ctx context.Context, id string, item []byte) error {
		began <- true
		<-ctx.Done()
		return ctx.Err()
	})
	receive(t, "item", began)
	w.halt(t)
	c := make(chan string, 1)
	start := time.Now()
	working(t, q, 1, pass(c))
	receive(t, "item", c)
	if d := time.Since(start); d > patience/2 {
		t.Errorf("the item came back after %v", d)
	}
}

func takesAnyID(t *testing.T, q store.Queue) {
	ids := []string{"", "a.b", "*", ">", "a b", "\x00\xff", "arn:aws:signer:eu-west-1:000000000000:/signing-jobs/x"}
	c := make(chan string, len(ids))
	for _, id := range ids {
		put(t, q, id, id)
	}
	working(t, q, 2, pass(c))
	want := map[string]bool{}
	for _, id := range ids {
		want[id+"="+id] = true
	}
	for range ids {
		got := receive(t, "item", c)
		if !want[got] {
			t.Errorf("got %q, which was not put", got)
		}
		delete(want, got)
	}
}

func wakesForNewWork(t *testing.T, q store.Queue) {
	c := make(chan string, 1)
	working(t, q, 2, pass(c))
	for i := range 20 {
		put(t, q, fmt.Sprint(i), "")
		if got, want := receive(t, "item", c), fmt.Sprintf("%d=", i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func comesBackLater(t *testing.T, q store.Queue) {
	const after = 700 * time.Millisecond
	put(t, q, "k", "")
	c := make(chan time.Time, 2)
	working(t, q, 1, func(_ context.Context, id string, item []byte) error {
		c <- time.Now()
		return store.Later(after, errors.New("not yet"))
	})
	first := receive(t, "item", c)
	if d := receive(t, "item", c).Sub(first); d < after*9/10 {
		t.Errorf("came back after %v, want %v", d, after)
	}
}
