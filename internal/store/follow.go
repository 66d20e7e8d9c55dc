package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A follower reads a stream from its beginning and then as it grows, in order
// and without a gap. It belongs to one goroutine.
type follower struct {
	s      *jetStream
	stream string
	name   string // of the consumer
	sub    *nats.Subscription
	msgs   chan *nats.Msg
	done   chan struct{} // closed by close

	end     uint64 // the stream's last sequence when the follower began
	pending uint64 // messages the server had yet to send, when last heard of
	seq     uint64 // stream sequence of the last message
	count   uint64 // messages received: the consumer's own sequence
}

// errGap ends a follower that missed something.
var errGap = errors.New("the server skipped a message")

// errSilent ends a follower the server stopped talking to.
var errSilent = errors.New("the server has fallen silent")

func (s *jetStream) follow(ctx context.Context, stream jetstream.Stream) (*follower, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil {
		return nil, err
	}
	f := &follower{
		s: s, stream: info.Config.Name, end: info.State.LastSeq,
		msgs: make(chan *nats.Msg, 64), done: make(chan struct{}),
	}
	inbox := s.nc.NewInbox()
	f.sub, err = s.nc.Subscribe(inbox, func(m *nats.Msg) {
		select {
		case f.msgs <- m:
		case <-f.done:
		}
	})
	if err != nil {
		return nil, err
	}
	// The server stops by itself when a reader lags (flow control), so what
	// waits in the client is bounded, and the client need not drop any of it.
	if err := f.sub.SetPendingLimits(-1, -1); err != nil {
		f.close()
		return nil, err
	}
	c, err := s.js.CreatePushConsumer(ctx, f.stream, jetstream.ConsumerConfig{
		DeliverSubject:    inbox,
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		FlowControl:       true,
		IdleHeartbeat:     heartbeat,
		InactiveThreshold: 4 * heartbeat,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		f.close()
		return nil, err
	}
	f.name = c.CachedInfo().Name
	f.pending = c.CachedInfo().NumPending
	// Until the first delivery, NumPending counts what is to be sent plus what
	// has been sent already, which is the same for caughtUp.
	f.pending += c.CachedInfo().Delivered.Consumer
	return f, nil
}

// caughtUp reports whether everything stored before the follower began has
// been returned by next.
func (f *follower) caughtUp() bool { return f.seq >= f.end || f.pending == 0 }

// next returns the next message, or nil after a heartbeat.
func (f *follower) next(ctx context.Context) (*nats.Msg, error) {
	m, err := f.receive(ctx)
	if err != nil {
		return nil, err
	}
	if m.Header.Get("Status") != "" {
		return nil, f.control(ctx, m)
	}
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	if meta.Sequence.Consumer != f.count+1 {
		return nil, errGap
	}
	f.count, f.seq, f.pending = meta.Sequence.Consumer, meta.Sequence.Stream, meta.NumPending
	return m, nil
}

// receive returns what the server sends next.
func (f *follower) receive(ctx context.Context) (*nats.Msg, error) {
	select { // most often something is there, and needs no timer
	case m := <-f.msgs:
		return m, nil
	default:
	}
	silence := time.NewTimer(2 * heartbeat)
	defer silence.Stop()
	select {
	case m := <-f.msgs:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-silence.C:
		return nil, errSilent
	}
}

// control handles what the server says about the consumer itself.
func (f *follower) control(ctx context.Context, m *nats.Msg) error {
	if s := m.Header.Get("Status"); s != "100" {
		return fmt.Errorf("the server ended the consumer: %s %s", s, m.Header.Get("Description"))
	}
	if m.Reply != "" { // a flow control request: go on
		return m.Respond(nil)
	}
	if stalled := m.Header.Get("Nats-Consumer-Stalled"); stalled != "" { // our answer to one was lost
		return f.s.nc.Publish(stalled, nil)
	}
	if last := m.Header.Get("Nats-Last-Consumer"); last != "" {
		if n, err := strconv.ParseUint(last, 10, 64); err != nil || n != f.count {
			return errGap
		}
	}
	if !f.caughtUp() {
		// Nothing is coming although something was pending: it was removed
		// before it was sent.
		c, err := f.s.js.PushConsumer(ctx, f.stream, f.name)
		if err != nil {
			return err
		}
		f.pending = c.CachedInfo().NumPending
	}
	return nil
}

// close tells the server to forget the consumer, and does not wait for it.
func (f *follower) close() {
	close(f.done)
	_ = f.sub.Unsubscribe()
	if f.name != "" && f.s.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(f.s.ctx, time.Second)
		go func() {
			defer cancel()
			_ = f.s.js.DeleteConsumer(ctx, f.stream, f.name)
		}()
	}
}
