package run

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// maxUnwritten bounds the log text that waits for its sink. Above it a
// function that goes on printing is stopped by its own pipe, and an invocation
// that ends waits: bounded memory is worth more than speed then.
const maxUnwritten = 16 << 20

// A logWriter hands lines to the sink behind the invocations' backs: what
// gathers while one Append is durable goes with the next.
type logWriter struct {
	sink Logs
	log  *slog.Logger

	mu      sync.Mutex
	changed *sync.Cond
	waiting []batch          // guarded by mu, in the order of the first line
	at      map[*journal]int // guarded by mu: index in waiting
	bytes   int              // guarded by mu: text in waiting
	writing bool             // guarded by mu: some was taken and is not durable
	closed  bool             // guarded by mu
	done    chan struct{}
}

type batch struct {
	j     *journal
	lines []Line
}

func newLogWriter(sink Logs, log *slog.Logger) *logWriter {
	w := &logWriter{sink: sink, log: log, at: make(map[*journal]int), done: make(chan struct{})}
	w.changed = sync.NewCond(&w.mu)
	go w.run()
	return w
}

// add queues lines, in order.
func (w *logWriter) add(j *journal, lines []Line) {
	if len(lines) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.bytes > maxUnwritten && !w.closed {
		w.changed.Wait()
	}
	i, ok := w.at[j]
	if !ok {
		i = len(w.waiting)
		w.at[j] = i
		w.waiting = append(w.waiting, batch{j: j})
	}
	w.waiting[i].lines = append(w.waiting[i].lines, lines...)
	for _, l := range lines {
		w.bytes += len(l.Text)
	}
	if !w.writing {
		w.changed.Broadcast()
	}
}

func (w *logWriter) run() {
	defer close(w.done)
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.waiting) == 0 {
			if w.closed {
				return
			}
			w.changed.Wait()
		}
		work := w.waiting
		w.waiting, w.at, w.bytes, w.writing = nil, make(map[*journal]int), 0, true
		w.mu.Unlock()
		for _, b := range work {
			w.write(b)
		}
		w.mu.Lock()
		w.writing = false
		w.changed.Broadcast()
	}
}

// write tries a few times; lines the sink will not take are lost, and that is
// said.
func (w *logWriter) write(b batch) {
	var err error
	for try := range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		err = w.sink.Append(ctx, b.j.to, b.lines)
		cancel()
		if err == nil {
			return
		}
		time.Sleep(time.Duration(try+1) * 100 * time.Millisecond)
	}
	w.log.Error("function log lines lost", "group", b.j.to.Group, "stream", b.j.to.Stream, "lines", len(b.lines), "err", err)
}

// flush returns when everything added before it has been written.
func (w *logWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.waiting) > 0 || w.writing {
		w.changed.Wait()
	}
}

// close writes what waits and stops.
func (w *logWriter) close() {
	w.mu.Lock()
	w.closed = true
	w.changed.Broadcast()
	w.mu.Unlock()
	<-w.done
}
