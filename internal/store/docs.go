package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/btree"
)

// Docs is JSON documents of one type in a Bucket, all of them also in memory:
// its view. Reading decides nothing by I/O and takes no lock; it sees the
// documents as they stood after some write, and never half of one.
//
// A write returns when the view has it, and so has every write to the bucket
// before it. Two processes that each write and then read what the other writes
// cannot both miss the other.
//
// If the bucket's watch breaks, the view stays as it was, [Docs.Err] says so,
// and a new watch is tried until it succeeds. Unknown fields in a document are
// ignored, and lost when it is next written.
type Docs[T any] struct {
	b    Bucket
	stop context.CancelFunc
	done chan struct{} // closed when follow has returned

	view atomic.Pointer[view[T]] // a tree is never changed after it is stored here

	mu      sync.Mutex              // never held while talking to the bucket or to a watcher
	applied uint64                  // the view has every write up to this one; guarded by mu
	waits   map[string][]*wait      // by key: writers whose write is not in the view yet; guarded by mu
	round   int                     // counts watches; guarded by mu
	hooks   map[int]func(Change[T]) // guarded by mu
	hookID  int                     // guarded by mu
	changed chan struct{}           // closed at the next change, nil if nobody asked; guarded by mu
	broken  error                   // why there is no watch now; guarded by mu
	corrupt map[string]error        // documents that cannot be read; guarded by mu
}

type view[T any] = btree.Map[string, *Item[T]]

// An Item is one document. Val is shared with every other reader: treat what
// it points to as read-only.
type Item[T any] struct {
	Key string
	Val T
	Rev Revision
}

// A Change is one document as it is now; Val is the zero value if it was deleted.
type Change[T any] struct {
	Item[T]
	Deleted bool
}

// A CorruptError says that a document is not JSON for its type. Where it came
// up when documents were opened, nothing was opened: a document that counts
// as missing could let something pass that it forbids.
type CorruptError struct {
	Key string
	Err error
}

func (e *CorruptError) Error() string { return fmt.Sprintf("document %s is corrupt: %v", e.Key, e.Err) }
func (e *CorruptError) Unwrap() error { return e.Err }

// OpenDocs opens the documents in b, and returns when all of them are in
// memory. It returns a [CorruptError] for each that cannot be read, joined.
// Close ends it.
func OpenDocs[T any](ctx context.Context, b Bucket) (*Docs[T], error) {
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	d := &Docs[T]{
		b: b, stop: stop, done: make(chan struct{}),
		waits: map[string][]*wait{}, hooks: map[int]func(Change[T]){}, corrupt: map[string]error{},
	}
	d.view.Store(new(view[T]))
	ready := make(chan error, 1)
	go d.follow(run, ready)

	var err error
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("open documents: %w", err)
	}
	return d, nil
}

// Close stops following the bucket. Reads go on answering from the view as it
// is; writes fail.
func (d *Docs[T]) Close() {
	d.stop()
	<-d.done
}

// Err returns why the view may be behind the bucket or lacks a document, and
// nil when it is whole and current.
func (d *Docs[T]) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	errs := []error{d.broken}
	for _, err := range d.corrupt {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Get returns the document under key, from memory.
func (d *Docs[T]) Get(key string) (T, Revision, bool) {
	if it, ok := d.view.Load().Get(key); ok {
		return it.Val, it.Rev, true
	}
	var zero T
	return zero, Revision{}, false
}

// Page returns up to limit documents whose keys begin with prefix and sort
// strictly after after, in ascending order, and whether there are more.
func (d *Docs[T]) Page(prefix, after string, limit int) (items []Item[T], more bool) {
	from := prefix
	if after >= prefix {
		from = after
	}
	d.view.Load().Ascend(from, func(key string, it *Item[T]) bool {
		switch {
		case key == after:
			return true
		case !strings.HasPrefix(key, prefix):
			return false
		case len(items) >= limit:
			more = true
			return false
		}
		items = append(items, *it)
		return true
	})
	return items, more
}

// All yields the documents whose keys begin with prefix, ascending, all as
// they stood when All's range began.
func (d *Docs[T]) All(prefix string) iter.Seq[Item[T]] {
	return func(yield func(Item[T]) bool) {
		d.view.Load().Ascend(prefix, func(key string, it *Item[T]) bool {
			return strings.HasPrefix(key, prefix) && yield(*it)
		})
	}
}

// Len counts the documents whose keys begin with prefix. It takes time in
// proportion to their number, unless prefix is empty.
func (d *Docs[T]) Len(prefix string) int {
	v := d.view.Load()
	if prefix == "" {
		return v.Len()
	}
	n := 0
	v.Ascend(prefix, func(key string, _ *Item[T]) bool {
		if !strings.HasPrefix(key, prefix) {
			return false
		}
		n++
		return true
	})
	return n
}

// Changed returns a channel that is closed at the next change of the view. To
// miss nothing, take the channel first and look at the documents then.
func (d *Docs[T]) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return d.changed
}

// Watch calls f for every change of the view from now on, one at a time, in
// order, until stop is called: after readers see it, before its writer's call
// returns. f must be quick, and must not write to d, which would wait for f.
func (d *Docs[T]) Watch(f func(Change[T])) (stop func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hookID++
	id := d.hookID
	d.hooks[id] = f
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.hooks, id)
	}
}

// Create adds a document. It returns ErrExists if key is taken.
func (d *Docs[T]) Create(ctx context.Context, key string, val T) (Revision, error) {
	data, err := json.Marshal(val)
	if err != nil {
		return Revision{}, fmt.Errorf("create %s: %w", key, err)
	}
	rev, err := d.b.Create(ctx, key, data)
	if err != nil {
		return Revision{}, err
	}
	return rev, d.await(ctx, key, wait{seq: rev.seq})
}

// Swap replaces the document under key if it is still at old, else it returns
// ErrConflict.
func (d *Docs[T]) Swap(ctx context.Context, key string, val T, old Revision) (Revision, error) {
	data, err := json.Marshal(val)
	if err != nil {
		return Revision{}, fmt.Errorf("swap %s: %w", key, err)
	}
	rev, err := d.b.Swap(ctx, key, data, old)
	if err != nil {
		return Revision{}, err
	}
	return rev, d.await(ctx, key, wait{seq: rev.seq})
}

// Delete removes the document under key if it is still at old, else it returns
// ErrConflict.
func (d *Docs[T]) Delete(ctx context.Context, key string, old Revision) error {
	if err := d.b.Delete(ctx, key, old); err != nil {
		return err
	}
	return d.await(ctx, key, wait{seq: old.seq, gone: true})
}

// Update gives f a copy of the document under key, made for it alone, and
// writes what f makes of it. If somebody else writes in between, f is called
// again with what they wrote, so f must not do anything but change the copy.
// f's error ends Update and is returned as it is. Update returns ErrNotFound
// for a key that is missing.
func (d *Docs[T]) Update(ctx context.Context, key string, f func(*T) error) (T, error) {
	var zero T
	for {
		data, rev, err := d.b.Get(ctx, key)
		if err != nil {
			return zero, err
		}
		var val T
		if err := json.Unmarshal(data, &val); err != nil {
			return zero, fmt.Errorf("update: %w", &CorruptError{key, err})
		}
		if err := f(&val); err != nil {
			return zero, err
		}
		_, err = d.Swap(ctx, key, val, rev)
		if errors.Is(err, ErrConflict) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return zero, err
		}
		return val, nil
	}
}

// follow keeps the view up to date until ctx ends or the store is closed. What
// becomes of the first watch goes to ready.
func (d *Docs[T]) follow(ctx context.Context, ready chan<- error) {
	defer close(d.done)
	err := d.watch(ctx, func(err error) { ready <- err })
	for delay := minRewatch; ctx.Err() == nil && !errors.Is(err, ErrClosed); delay = min(2*delay, maxRewatch) {
		select { // a first watch that failed has nobody to read this, which is all right
		case ready <- err:
		default:
		}
		d.mu.Lock()
		d.broken = err
		d.mu.Unlock()
		t := time.NewTimer(delay)
		select {
		case <-ctx.Done():
		case <-t.C:
			err = d.watch(ctx, func(error) { delay = minRewatch })
		}
		t.Stop()
	}
	if err == nil {
		err = ErrClosed
	}
	select {
	case ready <- err:
	default:
	}
	d.mu.Lock()
	d.broken = ErrClosed
	d.mu.Unlock()
}

// How long to leave a broken watch before trying again.
const (
	minRewatch = 50 * time.Millisecond
	maxRewatch = 2 * time.Second
)
