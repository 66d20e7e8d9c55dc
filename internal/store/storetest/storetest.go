// Package storetest holds the contract of [store.Store] as tests, an
// implementation of it in memory, and faults to inject into any.
//
// The memory store is for tests that own time; it is held to the same tests as
// the real one, and it is nobody's fallback: it forgets.
package storetest

import (
	"testing"
	"time"

	"countersign/internal/store"
)

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// Run tests every promise of [store.Store] that does not need a restart. open
// makes an empty store and closes it when its test ends.
func Run(t *testing.T, open func(*testing.T) store.Store) {
	t.Run("Bucket", func(t *testing.T) { t.Parallel(); buckets(t, open) })
	t.Run("Docs", func(t *testing.T) { t.Parallel(); documents(t, open) })
	t.Run("Blobs", func(t *testing.T) { t.Parallel(); blobs(t, open) })
	t.Run("Queue", func(t *testing.T) { t.Parallel(); queues(t, open) })
	t.Run("Log", func(t *testing.T) { t.Parallel(); logs(t, open) })
	t.Run("Closed", func(t *testing.T) { t.Parallel(); closed(t, open) })
}

// must returns a function that takes the results of a call which may not fail
// here, and returns the first: must[T](t)(call()).
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// second returns the error of a call whose other result does not matter.
func second[T any](_ T, err error) error { return err }

// receive returns the next value of c, or fails the test.
func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case v := <-c:
		return v
	case <-timeout.C:
		t.Fatalf("no %s in %v", what, patience)
		panic("not reached")
	}
}
