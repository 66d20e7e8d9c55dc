package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"countersign"
	"countersign/internal/store"
)

// ErrFault is what a write returns that a [Fault] broke, and everything else
// once the process counts as dead.
var ErrFault = errors.New("fault injected")

// A Fault breaks one write to a store: the N-th whose description has all the
// words of Match. A write's description is the kind of thing, its name, and
// what is done to it:
//
//	bucket NAME create|swap|delete
//	blobs NAME put|delete
//	queue NAME put|done
//	log NAME append|purge
//
// "queue NAME done" is an item leaving the queue because its work returned
// nil; lost, the item comes back.
//
// The zero Fault breaks nothing. A Fault is used for one run, and its fields
// are not changed once Wrap was called.
type Fault struct {
	Name  string // for t.Run; Faults fills it in
	Match string // words; empty matches every write
	N     int    // which one, counted from 1; 0 is none
	After bool   // the write is stored and its writer does not learn of it; otherwise it is not stored
	Dies  bool   // the process counts as dead from then on: nothing more is stored, read or worked on
	Crash func() // called when the write breaks, may be nil; the place to cancel what a dead process would not finish

	mu    sync.Mutex
	count int  // guarded by mu
	fired bool // guarded by mu
	dead  bool // guarded by mu
}

// Faults returns the four ways in which the first write that matches can go
// wrong: lost before and lost after it was stored, the process living on, and
// dying there.
func Faults(match string) []*Fault {
	var fs []*Fault
	for _, dies := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			fs = append(fs, newFault(match, 1, after, dies))
		}
	}
	return fs
}

func newFault(match string, n int, after, dies bool) *Fault {
	name := "lost before"
	if after {
		name = "lost after"
	}
	if dies {
		name += ", dies"
	}
	return &Fault{Name: fmt.Sprintf("%s %d %s", match, n, name), Match: match, N: n, After: after, Dies: dies}
}

// EachCrash runs f with the process dying before, and then after, the first
// write that matches, then the second, and so on until f does fewer writes
// than that. It is how to show that there is no step at which a crash hurts:
//
//	storetest.EachCrash(t, "", func(t *testing.T, fault *storetest.Fault) {
//		p := start(t, fault.Wrap(s)); _ = p.publish("hello") // may fail
//		start(t, s).check(t)                                 // may never be inconsistent
//	})
func EachCrash(t *testing.T, match string, f func(t *testing.T, fault *Fault)) {
	t.Helper()
	for n := 1; ; n++ {
		for _, after := range []bool{false, true} {
			fault := newFault(match, n, after, true)
			if !t.Run(fault.Name, func(t *testing.T) { f(t, fault) }) {
				return
			}
			if !fault.Fired() {
				if n == 1 {
					t.Errorf("no write matches %q", match)
				}
				return
			}
		}
	}
}

// Fired reports whether the write that was to break came.
func (f *Fault) Fired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired
}

// Wrap returns s with the fault in it. Closing it closes s.
func (f *Fault) Wrap(s store.Store) store.Store { return faulty{s, f} }

// alive returns an error once the process counts as dead.
func (f *Fault) alive() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return ErrFault
	}
	return nil
}

// write does one write, or breaks it.
func (f *Fault) write(what string, do func() error) error {
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return fmt.Errorf("%s: %w", what, ErrFault)
	}
	words := strings.Fields(what)
	hit := f.N > 0 && !slices.ContainsFunc(strings.Fields(f.Match), func(w string) bool { return !slices.Contains(words, w) })
	if hit {
		f.count++
		hit = f.count == f.N
	}
	if !hit {
		f.mu.Unlock()
		return do()
	}
	f.fired = true
	f.dead = f.Dies
	f.mu.Unlock()

	var err error
	if f.After {
		err = do()
	}
	if f.Crash != nil {
		f.Crash()
	}
	if err != nil {
		return err // it would have failed anyway
	}
	return fmt.Errorf("%s: %w", what, ErrFault)
}

type faulty struct {
	store.Store
	f *Fault
}

func (s faulty) Bucket(ctx context.Context, name string) (store.Bucket, error) {
	b, err := s.Store.Bucket(ctx, name)
	return faultyBucket{b, s.f, "bucket " + name + " "}, errors.Join(err, s.f.alive())
}

func (s faulty) Blobs(ctx context.Context, name string) (store.Blobs, error) {
	b, err := s.Store.Blobs(ctx, name)
	return faultyBlobs{b, s.f, "blobs " + name + " "}, errors.Join(err, s.f.alive())
}

func (s faulty) Queue(ctx context.Context, name string) (store.Queue, error) {
	q, err := s.Store.Queue(ctx, name)
	return faultyQueue{q, s.f, "queue " + name + " "}, errors.Join(err, s.f.alive())
}

func (s faulty) Log(ctx context.Context, name string) (store.Log, error) {
	l, err := s.Store.Log(ctx, name)
	return faultyLog{l, s.f, "log " + name + " "}, errors.Join(err, s.f.alive())
}

// faultyBucket leaves Watch alone: a dead process may see what it likes.
type faultyBucket struct {
	store.Bucket
	f    *Fault
	what string
}

func (b faultyBucket) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	if err := b.f.alive(); err != nil {
		return nil, store.Revision{}, err
	}
	return b.Bucket.Get(ctx, key)
}

func (b faultyBucket) Create(ctx context.Context, key string, val []byte) (rev store.Revision, err error) {
	err = b.f.write(b.what+"create", func() (err error) { rev, err = b.Bucket.Create(ctx, key, val); return err })
	return unless(rev, err), err
}

func (b faultyBucket) Swap(ctx context.Context, key string, val []byte, old store.Revision) (rev store.Revision, err error) {
	err = b.f.write(b.what+"swap", func() (err error) { rev, err = b.Bucket.Swap(ctx, key, val, old); return err })
	return unless(rev, err), err
}

func (b faultyBucket) Delete(ctx context.Context, key string, old store.Revision) error {
	return b.f.write(b.what+"delete", func() error { return b.Bucket.Delete(ctx, key, old) })
}

// unless returns v, or nothing if there was an error.
func unless[T any](v T, err error) T {
	if err != nil {
		var zero T
		return zero
	}
	return v
}

type faultyBlobs struct {
	store.Blobs
	f    *Fault
	what string
}

func (b faultyBlobs) Put(ctx context.Context, r io.Reader) (d countersign.Digest, n int64, err error) {
	err = b.f.write(b.what+"put", func() (err error) { d, n, err = b.Blobs.Put(ctx, r); return err })
	return unless(d, err), unless(n, err), err
}

func (b faultyBlobs) Open(ctx context.Context, d countersign.Digest) (io.ReadCloser, int64, error) {
	if err := b.f.alive(); err != nil {
		return nil, 0, err
	}
	return b.Blobs.Open(ctx, d)
}

func (b faultyBlobs) OpenFile(ctx context.Context, d countersign.Digest) (store.BlobFile, error) {
	if err := b.f.alive(); err != nil {
		return nil, err
	}
	return b.Blobs.OpenFile(ctx, d)
}

func (b faultyBlobs) Delete(ctx context.Context, d countersign.Digest) error {
	return b.f.write(b.what+"delete", func() error { return b.Blobs.Delete(ctx, d) })
}

type faultyQueue struct {
	store.Queue
	f    *Fault
	what string
}

func (q faultyQueue) Put(ctx context.Context, id string, item []byte) error {
	return q.f.write(q.what+"put", func() error { return q.Queue.Put(ctx, id, item) })
}

// Work ends when the process dies: a dead worker takes nothing, and what it
// held goes back.
func (q faultyQueue) Work(ctx context.Context, n int, do func(context.Context, string, []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := q.Queue.Work(ctx, n, func(ctx context.Context, id string, item []byte) error {
		if err := q.f.alive(); err != nil {
			cancel(err)
			return err
		}
		err := do(ctx, id, item)
		if err == nil {
			// Once an item has left the queue nobody is told, so lost after is
			// not to be told from done; only the process may die there.
			after := false
			err = q.f.write(q.what+"done", func() error { after = true; return nil })
			if after && q.f.After {
				if q.f.alive() != nil {
					cancel(err)
				}
				return nil
			}
		}
		if dead := q.f.alive(); dead != nil {
			cancel(dead)
			return dead
		}
		return err
	})
	if dead := q.f.alive(); dead != nil {
		return dead
	}
	return err
}

type faultyLog struct {
	store.Log
	f    *Fault
	what string
}

func (l faultyLog) Append(ctx context.Context, subject string, records ...[]byte) (next uint64, err error) {
	err = l.f.write(l.what+"append", func() (err error) { next, err = l.Log.Append(ctx, subject, records...); return err })
	return unless(next, err), err
}

func (l faultyLog) Purge(ctx context.Context, subject string) error {
	return l.f.write(l.what+"purge", func() error { return l.Log.Purge(ctx, subject) })
}
