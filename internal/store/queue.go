package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// queue is a [Queue] on one work-queue stream with one durable pull consumer.
// An item's id is its subject, which makes the stream the judge of whether the
// same item is there already.
type queue struct {
	s      *jetStream
	name   string
	stream jetstream.Stream
	prefix string // of every subject, "countersign.queue.<name>."
}

const (
	consumerName = "work"
	// ackWait is how long the server waits for a sign of life before it gives
	// an item to somebody else. It matters with several processes on one
	// cluster only.
	ackWait = 30 * time.Second
	// pullWait is how long one request for work stays open.
	pullWait = 30 * time.Second
	// retryMin and retryMax bound the delay before an item that failed comes
	// back; in between it doubles.
	retryMin = 250 * time.Millisecond
	retryMax = 2 * time.Minute
)

// Later wraps the error a worker returns to have its item back after d instead
// of the usual delay. After a restart the item may come back sooner.
func Later(d time.Duration, err error) error { return &later{d, err} }

type later struct {
	after time.Duration
	err   error
}

func (l *later) Error() string { return l.err.Error() }
func (l *later) Unwrap() error { return l.err }

// RetryDelay is for implementations of [Queue]: how long an item stays away
// after its n-th attempt, counted from 1, ended with err.
func RetryDelay(n int, err error) time.Duration {
	if l, ok := errors.AsType[*later](err); ok {
		return max(0, l.after)
	}
	d := retryMin
	for ; n > 1 && d < retryMax; n-- {
		d *= 2
	}
	return min(d, retryMax)
}

func openQueue(ctx context.Context, s *jetStream, name string) (*queue, error) {
	q := &queue{s: s, name: name, prefix: "countersign.queue." + name + "."}
	var err error
	q.stream, err = s.stream(ctx, jetstream.StreamConfig{
		Name:      "countersign-queue-" + name,
		Subjects:  []string{q.prefix + ">"},
		Retention: jetstream.WorkQueuePolicy,
	})
	if err != nil {
		return nil, err
	}
	if s.srv != nil {
		// This process has the data directory to itself, so whoever held
		// items before is dead. Without the consumer that remembers them as
		// taken they are free at once, instead of after ackWait. The items
		// stay in the stream; their count of attempts begins again.
		err := q.stream.DeleteConsumer(ctx, consumerName)
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil, fmt.Errorf("free the items of a former process: %w", err)
		}
	}
	_, err = q.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       consumerName,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxAckPending: -1, // Work's n is the bound
		MaxWaiting:    8192,
	})
	if err != nil {
		return nil, fmt.Errorf("make consumer: %w", err)
	}
	return q, nil
}

func (q *queue) Put(ctx context.Context, id string, item []byte) error {
	_, err := q.s.publish(ctx, &nats.Msg{Subject: q.prefix + Key(id), Data: item},
		jetstream.WithExpectLastSequencePerSubject(0))
	if err != nil && !errors.Is(err, errMoved) { // errMoved: it is there
		return fmt.Errorf("put %s in %s: %w", id, q.name, err)
	}
	return nil
}

func (q *queue) Work(ctx context.Context, n int, do func(ctx context.Context, id string, item []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.s.ctx, cancel)()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { q.worker(ctx, do) })
	}
	wg.Wait()
	if q.s.ctx.Err() != nil {
		return fmt.Errorf("work on %s: %w", q.name, ErrClosed)
	}
	return ctx.Err()
}

// worker takes one item after the other until ctx ends.
func (q *queue) worker(ctx context.Context, do func(context.Context, string, []byte) error) {
	for ctx.Err() == nil {
		err := q.pull(ctx, do)
		if err == nil || ctx.Err() != nil {
			continue
		}
		q.s.cfg.Log.Warn("queue is waiting for NATS", "queue", q.name, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// pull takes items one at a time over one subscription until ctx ends, or with
// an error when the server cannot be reached.
func (q *queue) pull(ctx context.Context, do func(context.Context, string, []byte) error) error {
	inbox := q.s.nc.NewInbox()
	sub, err := q.s.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer q.giveBack(sub)
	next := "$JS.API.CONSUMER.MSG.NEXT." + q.stream.CachedInfo().Config.Name + "." + consumerName
	ask := fmt.Appendf(nil, `{"batch":1,"expires":%d,"idle_heartbeat":%d}`, pullWait.Nanoseconds(), heartbeat.Nanoseconds())
	asked := false
	for {
		if !asked {
			if err := q.s.nc.PublishRequest(next, inbox, ask); err != nil {
				return err
			}
			asked = true
		}
		wait, cancel := context.WithTimeout(ctx, 2*heartbeat)
		m, err := sub.NextMsgWithContext(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			if err == nil && m.Header.Get("Status") == "" {
				q.nak(m, 0)
			}
			return nil
		case errors.Is(err, context.DeadlineExceeded):
			return nil // the request or its answer was lost; ask anew
		case err != nil:
			return err
		}
		switch status := m.Header.Get("Status"); status {
		case "100": // a heartbeat: the request stands
		case "": // an item
			q.work(ctx, m, do)
			asked = false
		case "404", "408": // nothing to do so far
			asked = false
		default:
			return fmt.Errorf("%s %s", status, m.Header.Get("Description"))
		}
	}
}

// giveBack ends sub and hands back what arrived on it unasked for.
func (q *queue) giveBack(sub *nats.Subscription) {
	if sub.Drain() != nil {
		return
	}
	for {
		m, err := sub.NextMsg(time.Second)
		if err != nil {
			return
		}
		if m.Header.Get("Status") == "" {
			q.nak(m, 0)
		}
	}
}

// work does one item, keeping the server from giving it to somebody else.
func (q *queue) work(ctx context.Context, m *nats.Msg, do func(context.Context, string, []byte) error) {
	id, attempt, err := q.item(m)
	if err == nil {
		var wg sync.WaitGroup
		done := make(chan struct{})
		wg.Go(func() { q.keep(m, done) })
		err = do(ctx, id, m.Data)
		close(done)
		wg.Wait()
	}
	switch {
	case err == nil:
		q.ack(ctx, m)
	case ctx.Err() != nil:
		q.nak(m, 0)
	default:
		q.nak(m, RetryDelay(attempt, err))
	}
}

func (q *queue) item(m *nats.Msg) (id string, attempt int, err error) {
	parts, err := Parts(strings.TrimPrefix(m.Subject, q.prefix))
	if err != nil || len(parts) != 1 {
		return "", 0, fmt.Errorf("subject %s is not an item of %s", m.Subject, q.name)
	}
	meta, err := m.Metadata()
	if err != nil {
		return "", 0, err
	}
	return parts[0], int(meta.NumDelivered), nil
}

// keep says that m is being worked on, until done is closed.
func (q *queue) keep(m *nats.Msg, done <-chan struct{}) {
	t := time.NewTicker(ackWait / 3)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
			_ = q.s.nc.Publish(m.Reply, []byte("+WPI"))
		}
	}
}

// ack takes m out of the queue and waits until it is. If that fails the item
// comes back, which its worker must expect anyway.
func (q *queue) ack(ctx context.Context, m *nats.Msg) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := q.s.nc.RequestWithContext(ctx, m.Reply, []byte("+ACK")); err != nil {
		q.s.cfg.Log.Warn("a finished item may be done again", "queue", q.name, "err", err)
	}
}

// nak gives m back, to be had again after d.
func (q *queue) nak(m *nats.Msg, d time.Duration) {
	body := []byte("-NAK")
	if d > 0 {
		body = fmt.Appendf(body, ` {"delay":%d}`, d.Nanoseconds())
	}
	_ = q.s.nc.Publish(m.Reply, body)
}
