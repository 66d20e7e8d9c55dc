package store

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// maxValue is the largest value, queue item or batch of log records the
	// embedded server takes. The largest thing the platform keeps in one piece
	// is an event for an asynchronous invocation (1 MiB), and log batches are
	// bounded at 1 MiB by their API; the rest is room for escaping.
	maxValue = 8 << 20
	// maxSubject bounds a protocol line, and so a key. An S3 object key has up
	// to 1,024 bytes, which escaping can make 3,072.
	maxSubject = 16 << 10
	// serverStart bounds the wait for the embedded server. Recovering a large
	// stream after a crash reads all of it.
	serverStart = 5 * time.Minute
)

// startServer runs a NATS server inside this process, keeping its files in
// dir. It opens no port: the only way in is an in-process connection.
func startServer(dir string, log *slog.Logger) (*server.Server, error) {
	l := &serverLog{log: log}
	srv, err := server.NewServer(&server.Options{
		ServerName:             "countersign",
		DontListen:             true,
		NoSigs:                 true, // signals belong to the program
		NoSystemAccount:        true, // no monitoring, no cluster
		JetStream:              true,
		DisableJetStreamBanner: true,
		StoreDir:               dir,
		// Acknowledged means durable. The default answers first and syncs
		// every two minutes.
		SyncAlways: true,
		// Streams live in files. A full disk refuses writes by itself; a quota
		// worked out from the disk's size at start would only do it earlier.
		JetStreamMaxMemory: 64 << 20,
		JetStreamMaxStore:  math.MaxInt64 / 2,
		MaxPayload:         maxValue,
		MaxControlLine:     maxSubject,
	})
	if err != nil {
		return nil, fmt.Errorf("make embedded NATS server: %w", err)
	}
	srv.SetLoggerV2(l, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(serverStart) || !srv.JetStreamEnabled() {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, fmt.Errorf("start embedded NATS server: %s", l.worst())
	}
	l.ready.Store(true)
	return srv, nil
}

// serverLog hands the NATS server's lines to slog. What it calls a notice is
// of interest only to somebody who debugs it.
type serverLog struct {
	log   *slog.Logger
	ready atomic.Bool // set when the server has started

	mu   sync.Mutex
	last string // the latest error, for startServer; guarded by mu
}

func (l *serverLog) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.line(slog.LevelError, format, v) }

// Warnf is no warning while the server starts: it tells that indexes are
// rebuilt from the messages, which is how it comes back from every crash.
func (l *serverLog) Warnf(format string, v ...any) {
	if l.ready.Load() {
		l.line(slog.LevelWarn, format, v)
	} else {
		l.line(slog.LevelInfo, format, v)
	}
}

// Fatalf does not end the process, which is not the server's to end: the
// server is found not to be ready, and Open fails with the reason.
func (l *serverLog) Fatalf(format string, v ...any) { l.line(slog.LevelError, format, v) }

func (l *serverLog) line(level slog.Level, format string, v []any) {
	if level < slog.LevelWarn && !l.log.Enabled(context.Background(), level) {
		return
	}
	text := strings.TrimSpace(fmt.Sprintf(format, v...))
	if level >= slog.LevelError {
		l.mu.Lock()
		l.last = text
		l.mu.Unlock()
	}
	l.log.Log(context.Background(), level, "nats: "+text)
}

// worst returns why the server did not start, as far as it said.
func (l *serverLog) worst() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return "it did not become ready"
	}
	return l.last
}
