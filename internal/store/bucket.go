package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// bucket is a [Bucket] on one stream that keeps the last message of every
// subject. Names and headers are those of NATS's own key-value convention, so
// that `nats kv` can look into a bucket.
//
// It is not NATS's key-value client: that one has no delete which both names a
// revision and goes away by itself, and resumes a broken watch out of the
// caller's sight.
type bucket struct {
	s      *jetStream
	name   string
	stream jetstream.Stream
	prefix string // of every subject, "$KV.<stream>."
}

const (
	opHeader = "KV-Operation"
	opDelete = "DEL"

	// tombstoneTTL is how long a deleted key leaves a trace. Watches that are
	// running see the trace; one that was cut off starts anew and has no use
	// for it. A running watch hears from the server every few seconds, so an
	// hour is ample.
	tombstoneTTL = time.Hour
	// heartbeat is how often the server speaks to an idle watch.
	heartbeat = 5 * time.Second
)

func openBucket(ctx context.Context, s *jetStream, name string) (*bucket, error) {
	b := &bucket{s: s, name: name, prefix: "$KV.countersign_" + name + "."}
	var err error
	b.stream, err = s.stream(ctx, jetstream.StreamConfig{
		Name:              "KV_countersign_" + name,
		Subjects:          []string{b.prefix + ">"},
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardNew,
		DenyDelete:        true,
		AllowRollup:       true,
		AllowMsgTTL:       true,
		// A direct read costs a sixth of one through the leader's API, and any
		// replica may answer it, a late one too: only where there is just one.
		AllowDirect: s.cfg.Replicas <= 1,
	})
	return b, err
}

// last returns key's last message, which may be a tombstone, or ErrNotFound.
func (b *bucket) last(ctx context.Context, key string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	m, err := b.stream.GetLastMsgForSubject(ctx, b.prefix+key)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, ErrNotFound
	case err != nil:
		return nil, b.s.why(err)
	}
	return m, nil
}

func (b *bucket) Get(ctx context.Context, key string) ([]byte, Revision, error) {
	m, err := b.last(ctx, key)
	if err == nil && deleted(m.Header) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, Revision{}, b.fail("get", key, err)
	}
	return m.Data, Revision{m.Sequence}, nil
}

func (b *bucket) Create(ctx context.Context, key string, val []byte) (Revision, error) {
	var at uint64 // 0: there is no message for key
	for {
		seq, err := b.put(ctx, key, val, at)
		if !errors.Is(err, errMoved) {
			return Revision{seq}, b.fail("create", key, err)
		}
		// There is a message. Over a tombstone a key can be made again.
		m, err := b.last(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound):
			at = 0 // the tombstone's time was up just now
		case err != nil:
			return Revision{}, b.fail("create", key, err)
		case !deleted(m.Header):
			return Revision{}, b.fail("create", key, ErrExists)
		default:
			at = m.Sequence
		}
	}
}

func (b *bucket) Swap(ctx context.Context, key string, val []byte, old Revision) (Revision, error) {
	if old.IsZero() {
		return Revision{}, b.fail("swap", key, ErrConflict)
	}
	seq, err := b.put(ctx, key, val, old.seq)
	if errors.Is(err, errMoved) {
		err = ErrConflict
	}
	return Revision{seq}, b.fail("swap", key, err)
}

func (b *bucket) Delete(ctx context.Context, key string, old Revision) error {
	if old.IsZero() {
		return b.fail("delete", key, ErrConflict)
	}
	msg := nats.NewMsg(b.prefix + key)
	msg.Header.Set(opHeader, opDelete)
	_, err := b.s.publish(ctx, msg, jetstream.WithExpectLastSequencePerSubject(old.seq), jetstream.WithMsgTTL(tombstoneTTL))
	if errors.Is(err, errMoved) {
		err = ErrConflict
	}
	return b.fail("delete", key, err)
}

func (b *bucket) put(ctx context.Context, key string, val []byte, at uint64) (uint64, error) {
	msg := &nats.Msg{Subject: b.prefix + key, Data: val}
	return b.s.publish(ctx, msg, jetstream.WithExpectLastSequencePerSubject(at))
}

// fail adds the operation and the key to err; nil stays nil.
func (b *bucket) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s in %s: %w", op, key, b.name, err)
}

func deleted(h nats.Header) bool { return h.Get(opHeader) == opDelete }

// Watch reads the stream through a push consumer and ends with an error at the
// first irregularity: a consumer sequence that skips, silence for longer than
// two heartbeats, a connection that is gone. It does not mend anything itself.
func (b *bucket) Watch(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := b.watch(ctx, func(e Event) bool { return yield(e, nil) })
		if err != nil {
			yield(Event{}, fmt.Errorf("watch %s: %w", b.name, err))
		}
	}
}

func (b *bucket) watch(ctx context.Context, yield func(Event) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.s.ctx, cancel)()

	f, err := b.s.follow(ctx, b.stream)
	if err != nil {
		return b.s.why(err)
	}
	defer f.close()

	ready := false
	for {
		if !ready && f.caughtUp() {
			ready = true
			if !yield(Event{Ready: true}) {
				return nil
			}
		}
		m, err := f.next(ctx)
		switch {
		case err != nil && b.s.ctx.Err() != nil:
			return ErrClosed
		case err != nil:
			return err // ctx's own error when ctx ended
		case m == nil:
			continue // a heartbeat
		}
		e := Event{Key: strings.TrimPrefix(m.Subject, b.prefix), Rev: Revision{f.seq}}
		if e.Deleted = deleted(m.Header); !e.Deleted {
			e.Value = m.Data
			if e.Value == nil {
				e.Value = []byte{}
			}
		}
		if !yield(e) {
			return nil
		}
	}
}
