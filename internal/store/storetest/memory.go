package storetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign"
	"countersign/internal/store"
)

// Memory returns a store without files, network or goroutines of its own, for
// tests in a synctest bubble. It keeps every promise of [store.Store] but
// durability.
//
// Close ends what is running, watches and work, and forgets nothing: the store
// may be used again afterwards, as a directory may after a restart.
func Memory() store.Store {
	return &memory{
		buckets: map[string]*memBucket{}, blobs: map[string]*memBlobs{},
		queues: map[string]*memQueue{}, logs: map[string]*memLog{},
		life: &life{end: make(chan struct{})},
	}
}

type memory struct {
	life *life

	mu      sync.Mutex
	buckets map[string]*memBucket // guarded by mu, as are those below
	blobs   map[string]*memBlobs
	queues  map[string]*memQueue
	logs    map[string]*memLog
}

// A life is the time between two Closes.
type life struct {
	mu  sync.Mutex
	end chan struct{} // closed by Close, and made anew; guarded by mu
}

func (l *life) over() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

func (m *memory) Close() error {
	m.life.mu.Lock()
	defer m.life.mu.Unlock()
	close(m.life.end)
	m.life.end = make(chan struct{})
	return nil
}

func open[T any](m *memory, in map[string]T, name string, make func() T) (T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := in[name]
	if !ok {
		v = make()
		in[name] = v
	}
	return v, nil
}

func (m *memory) Bucket(_ context.Context, name string) (store.Bucket, error) {
	return open(m, m.buckets, name, func() *memBucket {
		return &memBucket{life: m.life, name: name, docs: map[string]store.Event{}, watches: map[*memWatch]bool{}}
	})
}

func (m *memory) Blobs(_ context.Context, name string) (store.Blobs, error) {
	return open(m, m.blobs, name, func() *memBlobs { return &memBlobs{data: map[countersign.Digest][]byte{}} })
}

func (m *memory) Queue(_ context.Context, name string) (store.Queue, error) {
	return open(m, m.queues, name, func() *memQueue { return &memQueue{life: m.life, name: name, wake: make(chan struct{})} })
}

func (m *memory) Log(_ context.Context, name string) (store.Log, error) {
	return open(m, m.logs, name, func() *memLog { return &memLog{name: name} })
}

// memBucket is a map and the watches that want to hear of its changes.
type memBucket struct {
	life *life
	name string

	mu      sync.Mutex
	seq     uint64                 // of the latest write; guarded by mu
	docs    map[string]store.Event // guarded by mu
	watches map[*memWatch]bool     // guarded by mu
}

// A memWatch is what one watch has yet to yield.
type memWatch struct {
	events []store.Event // guarded by the bucket's mu
	wake   chan struct{} // holds one token when there are events
}

func (w *memWatch) add(e store.Event) {
	w.events = append(w.events, e)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (b *memBucket) fail(op, key string, err error) error {
	return fmt.Errorf("%s %s in %s: %w", op, key, b.name, err)
}

func (b *memBucket) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, store.Revision{}, b.fail("get", key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.docs[key]
	if !ok {
		return nil, store.Revision{}, b.fail("get", key, store.ErrNotFound)
	}
	return bytes.Clone(e.Value), e.Rev, nil
}

func (b *memBucket) Create(ctx context.Context, key string, val []byte) (store.Revision, error) {
	return b.write(ctx, "create", key, store.Event{Value: val}, store.Revision{}, store.ErrExists)
}

func (b *memBucket) Swap(ctx context.Context, key string, val []byte, old store.Revision) (store.Revision, error) {
	if old.IsZero() {
		return old, b.fail("swap", key, store.ErrConflict)
	}
	return b.write(ctx, "swap", key, store.Event{Value: val}, old, store.ErrConflict)
}

func (b *memBucket) Delete(ctx context.Context, key string, old store.Revision) error {
	if old.IsZero() {
		return b.fail("delete", key, store.ErrConflict)
	}
	_, err := b.write(ctx, "delete", key, store.Event{Deleted: true}, old, store.ErrConflict)
	return err
}

func (b *memBucket) write(ctx context.Context, op, key string, e store.Event, old store.Revision, moved error) (store.Revision, error) {
	if err := ctx.Err(); err != nil {
		return store.Revision{}, b.fail(op, key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.docs[key].Rev != old { // a missing key's is zero
		return store.Revision{}, b.fail(op, key, moved)
	}
	b.seq++
	e.Key, e.Rev = key, store.RevisionAt(b.seq)
	if e.Deleted {
		delete(b.docs, key)
	} else {
		e.Value = append([]byte{}, e.Value...)
		b.docs[key] = e
	}
	for w := range b.watches {
		w.add(e)
	}
	return e.Rev, nil
}

func (b *memBucket) Watch(ctx context.Context) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		over := b.life.over()
		w := &memWatch{wake: make(chan struct{}, 1)}
		b.mu.Lock()
		for _, e := range b.docs {
			w.events = append(w.events, e)
		}
		slices.SortFunc(w.events, func(x, y store.Event) int {
			if x.Rev.Before(y.Rev) {
				return -1
			}
			return 1
		})
		w.add(store.Event{Ready: true})
		b.watches[w] = true
		b.mu.Unlock()
		defer func() {
			b.mu.Lock()
			delete(b.watches, w)
			b.mu.Unlock()
		}()
		for {
			select {
			case <-ctx.Done():
				yield(store.Event{}, fmt.Errorf("watch %s: %w", b.name, ctx.Err()))
				return
			case <-over:
				yield(store.Event{}, fmt.Errorf("watch %s: %w", b.name, store.ErrClosed))
				return
			case <-w.wake:
			}
			b.mu.Lock()
			events := w.events
			w.events = nil
			b.mu.Unlock()
			for _, e := range events {
				if !e.Deleted && !e.Ready {
					e.Value = append([]byte{}, e.Value...)
				}
				if ctx.Err() != nil || !yield(e, nil) {
					return
				}
			}
		}
	}
}

type memBlobs struct {
	mu   sync.Mutex
	data map[countersign.Digest][]byte // guarded by mu; a value is never changed
}

func (b *memBlobs) Put(ctx context.Context, r io.Reader) (countersign.Digest, int64, error) {
	data, err := io.ReadAll(r)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return countersign.Digest{}, 0, fmt.Errorf("put blob: %w", err)
	}
	d := countersign.DigestOf(data)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data[d] = data
	return d, int64(len(data)), nil
}

func (b *memBlobs) OpenFile(ctx context.Context, d countersign.Digest) (store.BlobFile, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.data[d]
	if !ok {
		return nil, fmt.Errorf("open blob %s: %w", d, store.ErrNotFound)
	}
	return memFile{bytes.NewReader(data)}, nil
}

func (b *memBlobs) Open(ctx context.Context, d countersign.Digest) (io.ReadCloser, int64, error) {
	f, err := b.OpenFile(ctx, d)
	if err != nil {
		return nil, 0, err
	}
	return f.(memFile), f.Size(), nil
}

func (b *memBlobs) Delete(ctx context.Context, d countersign.Digest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.data, d)
	return nil
}

type memFile struct{ *bytes.Reader }

func (memFile) Close() error { return nil }

type memQueue struct {
	life *life
	name string

	mu    sync.Mutex
	items []*memItem    // oldest first; guarded by mu
	wake  chan struct{} // closed when an item becomes free, and made anew; guarded by mu
}

type memItem struct {
	id       string
	data     []byte
	taken    bool
	due      time.Time // not before this
	attempts int
}

func (q *memQueue) Put(ctx context.Context, id string, item []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put %s in %s: %w", id, q.name, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if slices.ContainsFunc(q.items, func(i *memItem) bool { return i.id == id }) {
		return nil
	}
	q.items = append(q.items, &memItem{id: id, data: bytes.Clone(item)})
	q.freed()
	return nil
}

// freed wakes every worker. q.mu is held.
func (q *memQueue) freed() {
	close(q.wake)
	q.wake = make(chan struct{})
}

// take returns an item that is due, or when to look again (0: when woken).
func (q *memQueue) take() (it *memItem, wait time.Duration, wake <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, i := range q.items {
		if i.taken {
			continue
		}
		if d := i.due.Sub(now); d > 0 {
			if wait == 0 || d < wait {
				wait = d
			}
			continue
		}
		i.taken = true
		i.attempts++
		return i, 0, q.wake
	}
	return nil, wait, q.wake
}

func (q *memQueue) Work(ctx context.Context, n int, do func(ctx context.Context, id string, item []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over := q.life.over()
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-over:
			cancel(store.ErrClosed)
		}
	})
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				it, wait, wake := q.take()
				if it != nil {
					q.done(ctx, it, do(ctx, it.id, bytes.Clone(it.data)))
					continue
				}
				q.rest(ctx, wait, wake)
			}
		})
	}
	wg.Wait()
	return fmt.Errorf("work on %s: %w", q.name, context.Cause(ctx))
}

// rest returns when there may be something to take.
func (q *memQueue) rest(ctx context.Context, wait time.Duration, wake <-chan struct{}) {
	var due <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
	case <-wake:
	case <-due:
	}
}

func (q *memQueue) done(ctx context.Context, it *memItem, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil {
		q.items = slices.DeleteFunc(q.items, func(i *memItem) bool { return i == it })
		return
	}
	it.taken = false
	if ctx.Err() == nil {
		it.due = time.Now().Add(store.RetryDelay(it.attempts, err))
	}
	q.freed()
}

type memLog struct {
	name string

	mu      sync.Mutex
	next    uint64         // position of the next record; guarded by mu
	records []store.Record // guarded by mu
}

func (l *memLog) Append(ctx context.Context, subject string, records ...[]byte) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("append to %s in %s: %w", subject, l.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		l.next++
		l.records = append(l.records, store.Record{Subject: subject, Next: l.next, Data: append([]byte{}, r...)})
	}
	return l.next, nil
}

// covers reports whether subject is what a reader or a purge asked for.
func covers(asked, subject string) bool {
	if asked == ">" || asked == subject {
		return true
	}
	below, ok := strings.CutSuffix(asked, ">")
	return ok && strings.HasSuffix(below, ".") && strings.HasPrefix(subject, below)
}

func (l *memLog) Read(ctx context.Context, subject string, from uint64) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		l.mu.Lock()
		records := l.records[:len(l.records):len(l.records)]
		l.mu.Unlock()
		for _, r := range records {
			if r.Next <= from || !covers(subject, r.Subject) {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(store.Record{}, fmt.Errorf("read %s in %s: %w", subject, l.name, err))
				return
			}
			r.Data = append([]byte{}, r.Data...)
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (l *memLog) Purge(ctx context.Context, subject string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var kept []store.Record // a new slice: readers hold the old one
	for _, r := range l.records {
		if !covers(subject, r.Subject) {
			kept = append(kept, r)
		}
	}
	l.records = kept
	return nil
}
