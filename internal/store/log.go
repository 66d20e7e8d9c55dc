package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// eventLog is a [Log] on one stream. What one Append writes is one message, so
// that it is there whole or not at all, and costs one sync however many
// records it has. A message is its records, each after its length.
//
// A position is a message's sequence number and how many of its records are
// behind it.
type eventLog struct {
	s      *jetStream
	name   string
	stream jetstream.Stream
	prefix string // of every subject, "countersign.log.<name>."
}

// perBatch is the bits of a position that count records in a message.
const perBatch = 16

// maxBatch is the most records one Append takes.
const maxBatch = 1<<perBatch - 1

func position(seq uint64, records int) uint64 { return seq<<perBatch | uint64(records) }

func openLog(ctx context.Context, s *jetStream, name string) (*eventLog, error) {
	l := &eventLog{s: s, name: name, prefix: "countersign.log." + name + "."}
	var err error
	l.stream, err = s.stream(ctx, jetstream.StreamConfig{
		Name:     "countersign-log-" + name,
		Subjects: []string{l.prefix + ">"},
		// Direct reads come in batches and need no consumer. In a cluster a
		// replica that is a moment behind may answer one.
		AllowDirect: true,
	})
	return l, err
}

func (l *eventLog) Append(ctx context.Context, subject string, records ...[]byte) (uint64, error) {
	if len(records) > maxBatch {
		return 0, fmt.Errorf("append to %s in %s: %d records are more than %d", subject, l.name, len(records), maxBatch)
	}
	if len(records) == 0 {
		end, err := l.end(ctx)
		if err != nil {
			return 0, fmt.Errorf("append to %s in %s: %w", subject, l.name, err)
		}
		return position(end, maxBatch), nil
	}
	seq, err := l.s.publish(ctx, &nats.Msg{Subject: l.prefix + subject, Data: joinRecords(records)})
	if err != nil {
		return 0, fmt.Errorf("append to %s in %s: %w", subject, l.name, err)
	}
	return position(seq, len(records)), nil
}

func (l *eventLog) end(ctx context.Context) (uint64, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, l.s.why(err)
	}
	return info.State.LastSeq, nil
}

func (l *eventLog) Read(ctx context.Context, subject string, from uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := l.read(ctx, subject, from, func(r Record) bool { return yield(r, nil) }); err != nil {
			yield(Record{}, fmt.Errorf("read %s in %s: %w", subject, l.name, err))
		}
	}
}

func (l *eventLog) read(ctx context.Context, subject string, from uint64, yield func(Record) bool) error {
	end, err := l.end(ctx)
	if err != nil {
		return err
	}
	seq, skip := from>>perBatch, int(from&maxBatch)
	start := seq
	for more := true; more; {
		var msgs []*nats.Msg
		if msgs, more, err = l.batch(ctx, subject, max(1, seq)); err != nil {
			return l.s.why(err)
		}
		for _, m := range msgs {
			at, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
			if err != nil {
				return fmt.Errorf("server sent a message without a sequence: %w", err)
			}
			if at > end {
				return nil
			}
			subj := strings.TrimPrefix(m.Header.Get("Nats-Subject"), l.prefix)
			n := 0
			for data, err := range splitRecords(m.Data) {
				if err != nil {
					return fmt.Errorf("message %d: %w", at, err)
				}
				if n++; at == start && n <= skip {
					continue
				}
				if !yield(Record{Subject: subj, Next: position(at, n), Data: data}) {
					return nil
				}
			}
			seq = at + 1
		}
	}
	return nil
}

// Bounds of one direct read: enough that asking is cheap beside reading, few
// enough that a reader who stops early has not moved much.
const (
	readMessages = 256
	readBytes    = 1 << 20
)

// batch asks for the next messages of subject from sequence seq on, and
// reports whether there are more behind them. See ADR-31 of NATS for the
// request's form.
func (l *eventLog) batch(ctx context.Context, subject string, seq uint64) (msgs []*nats.Msg, more bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	req, err := json.Marshal(map[string]any{
		"seq": seq, "next_by_subj": l.prefix + subject, "batch": readMessages, "max_bytes": readBytes,
	})
	if err != nil {
		return nil, false, err
	}
	inbox := l.s.nc.NewInbox()
	answers := make(chan *nats.Msg, readMessages+1)
	sub, err := l.s.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, false, err
	}
	defer sub.Unsubscribe()
	get := "$JS.API.DIRECT.GET." + l.stream.CachedInfo().Config.Name
	if err := l.s.nc.PublishRequest(get, inbox, req); err != nil {
		return nil, false, err
	}
	for {
		var m *nats.Msg
		select {
		case m = <-answers:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
		switch status := m.Header.Get("Status"); status {
		case "":
			// The server numbers a batch, so that a lost message is seen.
			var last uint64
			if n := len(msgs); n > 0 {
				last, _ = strconv.ParseUint(msgs[n-1].Header.Get("Nats-Sequence"), 10, 64)
			}
			if m.Header.Get("Nats-Last-Sequence") != strconv.FormatUint(last, 10) {
				return nil, false, errGap
			}
			msgs = append(msgs, m)
		case "204":
			return msgs, m.Header.Get("Nats-Num-Pending") != "0", nil
		case "404":
			return msgs, false, nil
		default:
			return nil, false, fmt.Errorf("direct read: %s %s", status, m.Header.Get("Description"))
		}
	}
}

func (l *eventLog) Purge(ctx context.Context, subject string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := l.stream.Purge(ctx, jetstream.WithPurgeSubject(l.prefix+subject)); err != nil {
		return fmt.Errorf("purge %s in %s: %w", subject, l.name, l.s.why(err))
	}
	return nil
}

// joinRecords writes each record after its length.
func joinRecords(records [][]byte) []byte {
	n := 0
	for _, r := range records {
		n += len(r) + binary.MaxVarintLen32
	}
	b := make([]byte, 0, n)
	for _, r := range records {
		b = binary.AppendUvarint(b, uint64(len(r)))
		b = append(b, r...)
	}
	return b
}

var errRecord = errors.New("the records in it are not whole")

// splitRecords yields what joinRecords joined.
func splitRecords(b []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for len(b) > 0 {
			n, w := binary.Uvarint(b)
			if w <= 0 || n > uint64(len(b)-w) {
				yield(nil, errRecord)
				return
			}
			if !yield(bytes.Clone(b[w:w+int(n)]), nil) {
				return
			}
			b = b[w+int(n):]
		}
	}
}
