// Package observe keeps what running functions say, as CloudWatch Logs knows
// it: groups, the streams in them, and the events in those.
//
// It promises that an event which was flushed survives kill -9, that events
// come back in the order of their times, and that a reader sees everything
// appended before it asked. It trusts its callers about whose group is whose:
// every name lives inside an account and a region, and nothing reaches across.
//
// Groups and streams are documents; events are records of one store.Log, one
// subject a stream. The semantics follow the API reference of Amazon
// CloudWatch Logs.
package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"countersign/internal/store"
)

// Bounds of the write-behind buffer and of one event.
const (
	// maxBuffered is how many bytes of events may wait to be written. At a
	// full buffer Append waits, so that a function which writes faster than the
	// disk is slowed down and loses nothing.
	maxBuffered = 8 << 20
	// maxBatch and maxBatchEvents bound one durable step.
	maxBatch       = 1 << 20
	maxBatchEvents = 10_000
	// MaxEvent is the longest message of one event in bytes; with Overhead it
	// is CloudWatch's 256 KiB.
	MaxEvent = 256<<10 - Overhead
	// Overhead is what CloudWatch counts for an event beside its message.
	Overhead = 26

	// expireEvery is far more often than CloudWatch, which takes up to 72 hours.
	expireEvery = time.Hour

	firstRetry, lastRetry = 50 * time.Millisecond, 5 * time.Second
)

// A Scope is where a group lives.
type Scope struct{ Account, Region string }

// An Event is one line of a function, or one thing it said at once.
type Event struct {
	Time    time.Time // kept to the millisecond
	Message string
}

// Options are a Logs' clock and voice.
type Options struct {
	Now func() time.Time // nil is the system's
	Log *slog.Logger     // nil discards
}

// Logs is the log groups of all accounts and regions. It is safe for
// concurrent use.
//
// Append returns before an event is durable; a goroutine writes behind it, at
// once and as much in one step as has gathered. A kill -9 or a power failure
// may lose what Append took and no Flush has covered: as a rule the last few
// milliseconds, at most maxBuffered bytes. [Logs.Close] loses nothing.
type Logs struct {
	opt     Options
	groups  *store.Docs[group]
	streams *store.Docs[stream]
	log     store.Log

	// shape is held, for reading, while events are written to streams that were
	// looked up, and for writing while groups or streams are made or removed.
	shape sync.RWMutex

	mu      sync.Mutex          // never held while talking to the store
	pending map[target]*backlog // guarded by mu
	order   []target            // keys of pending in the order of their first event; guarded by mu
	size    int                 // bytes in pending; guarded by mu
	taken   uint64              // events Append has taken, ever; guarded by mu
	written uint64              // of those, how many are durable; guarded by mu
	trouble error               // why the last write did not succeed, nil if it did; guarded by mu
	closed  bool                // guarded by mu
	moved   chan struct{}       // closed and made anew whenever written, size, trouble or closed change; guarded by mu
	states  map[string]*state   // by stream id; guarded by mu
	wake    chan struct{}       // one token: there is something in pending
	stop    context.CancelFunc  // ends run
	done    chan struct{}       // closed when run has returned
}

// A target is a stream by name.
type target struct {
	Scope
	group, stream string
}

// A backlog is what waits to be written to one stream.
type backlog struct {
	records [][]byte
	bytes   int
}

// ErrClosed is what Append returns after Close.
var ErrClosed = errors.New("logs are closed")

// Open opens the logs in st. Close ends it.
func Open(ctx context.Context, st store.Store, opt Options) (*Logs, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	l := &Logs{
		opt: opt, pending: map[target]*backlog{}, states: map[string]*state{},
		moved: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	var err error
	if l.groups, err = openDocs[group](ctx, st, "log-groups"); err != nil {
		return nil, err
	}
	if l.streams, err = openDocs[stream](ctx, st, "log-streams"); err != nil {
		l.groups.Close()
		return nil, err
	}
	if l.log, err = st.Log(ctx, "log-events"); err != nil {
		l.groups.Close()
		l.streams.Close()
		return nil, fmt.Errorf("open log events: %w", err)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go l.run(run)
	return l, nil
}

func openDocs[T any](ctx context.Context, st store.Store, name string) (*store.Docs[T], error) {
	b, err := st.Bucket(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	d, err := store.OpenDocs[T](ctx, b)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return d, nil
}

// Close writes everything that was appended, and ends l. When ctx ends first,
// the error says how many events were not written.
func (l *Logs) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.signal()
	l.mu.Unlock()
	err := l.Flush(ctx)
	l.stop()
	<-l.done
	l.mu.Lock()
	lost := l.taken - l.written
	l.mu.Unlock()
	if lost > 0 {
		err = fmt.Errorf("%d log events were not written: %w", lost, err)
	} else {
		err = l.keepStates(ctx)
	}
	l.groups.Close()
	l.streams.Close()
	return err
}

// Append takes events for a stream, in order, and makes group and stream if
// they are not there, as Lambda does. It returns as soon as there is room for
// them in memory. A message longer than MaxEvent is cut.
func (l *Logs) Append(ctx context.Context, sc Scope, group, stream string, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	now := l.opt.Now()
	records, bytes := make([][]byte, len(events)), 0
	for i, e := range events {
		records[i] = encode(e, now)
		bytes += len(records[i])
	}
	to := target{sc, group, stream}

	l.mu.Lock()
	for l.size > 0 && l.size+bytes > maxBuffered && !l.closed {
		moved := l.moved
		l.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("append to log group %s: %w", group, ctx.Err())
		}
		l.mu.Lock()
	}
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("append to log group %s: %w", group, ErrClosed)
	}
	b := l.pending[to]
	if b == nil {
		b = new(backlog)
		l.pending[to] = b
		l.order = append(l.order, to)
	}
	b.records = append(b.records, records...)
	b.bytes += bytes
	l.size += bytes
	l.taken += uint64(len(events))
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// Flush returns when everything appended before it was called is durable, or
// with the reason why that cannot be waited for any longer.
func (l *Logs) Flush(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for want := l.taken; l.written < want; {
		moved := l.moved
		l.mu.Unlock()
		var err error
		select {
		case <-moved:
		case <-l.done:
			err = ErrClosed
		case <-ctx.Done():
			err = ctx.Err()
		}
		l.mu.Lock()
		if err != nil && l.written < want {
			return fmt.Errorf("flush logs: %w", errors.Join(err, l.trouble))
		}
	}
	return nil
}

// signal tells everybody who waits that something moved. l.mu is held.
func (l *Logs) signal() {
	close(l.moved)
	l.moved = make(chan struct{})
}

// run writes what is pending, and lets go of what has expired, until ctx ends.
func (l *Logs) run(ctx context.Context) {
	defer close(l.done)
	expire := time.NewTicker(expireEvery)
	defer expire.Stop()
	for {
		select {
		case <-l.wake:
		case <-expire.C:
			if err := l.Expire(ctx); err != nil && ctx.Err() == nil {
				l.opt.Log.Warn("expired function logs are still on disk", "error", err)
			}
			continue
		case <-ctx.Done():
			return
		}
		for {
			l.mu.Lock()
			if len(l.order) == 0 {
				l.mu.Unlock()
				break
			}
			to := l.order[0]
			b := l.pending[to]
			delete(l.pending, to)
			l.order = slices.Delete(l.order, 0, 1)
			l.mu.Unlock()
			if !l.write(ctx, to, b.records) {
				return
			}
		}
	}
}

// write makes the records of one stream durable, however often it takes. It
// reports false when ctx ended before.
func (l *Logs) write(ctx context.Context, to target, records [][]byte) bool {
	retry := firstRetry
	for len(records) > 0 {
		n, bytes := 0, 0
		for n < len(records) && n < maxBatchEvents && (n == 0 || bytes+len(records[n]) <= maxBatch) {
			bytes += len(records[n])
			n++
		}
		err := l.writeBatch(ctx, to, records[:n])
		l.mu.Lock()
		if l.trouble = err; err == nil {
			records = records[n:]
			l.written += uint64(n)
			l.size -= bytes
			l.signal()
		}
		l.mu.Unlock()
		if err == nil {
			retry = firstRetry
			continue
		}
		if ctx.Err() != nil {
			return false
		}
		l.opt.Log.Warn("function logs are not being written; trying again", "group", to.group, "stream", to.stream, "in", retry, "error", err)
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return false
		}
		retry = min(2*retry, lastRetry)
	}
	return true
}

func (l *Logs) writeBatch(ctx context.Context, to target, records [][]byte) error {
	l.shape.RLock()
	defer l.shape.RUnlock()
	s, ok := l.lookup(to)
	if !ok {
		// Making what is missing needs shape for writing; nothing was looked up
		// yet that somebody could remove meanwhile.
		l.shape.RUnlock()
		err := l.ensure(ctx, to)
		l.shape.RLock()
		if err != nil {
			return err
		}
		if s, ok = l.lookup(to); !ok {
			return fmt.Errorf("log stream %s in %s was deleted", to.stream, to.group)
		}
	}
	if _, err := l.log.Append(ctx, s.subject(), records...); err != nil {
		return fmt.Errorf("append to log stream %s in %s: %w", to.stream, to.group, err)
	}
	l.touch(s.ID)
	return nil
}
