package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says where the state is kept.
type Config struct {
	// Dir is the data directory. It is made if missing, and belongs to one
	// process at a time. With an outside cluster it holds nothing but the
	// lock and blobs on their way.
	Dir string
	// URL is an outside NATS cluster with JetStream, as nats://user:secret@host:4222;
	// several with commas. Empty runs a server inside this process, without a
	// port. An outside server decides itself how often it syncs to disk: give
	// it sync_interval: always, or enough replicas that one machine may fail.
	URL string
	// Replicas is how many servers of an outside cluster keep each stream; 0
	// is 1. It applies to streams as they are first made.
	Replicas int
	// Log takes what the embedded server and broken connections have to say; nil discards it.
	Log *slog.Logger
}

// requestTimeout bounds one request to JetStream when the caller's context does not.
const requestTimeout = 30 * time.Second

// jetStream is the [Store] on NATS JetStream, embedded or outside.
type jetStream struct {
	cfg  Config
	lock *os.File       // held until Close
	srv  *server.Server // nil with an outside cluster
	nc   *nats.Conn
	js   jetstream.JetStream

	ctx  context.Context // ends when Close begins
	stop context.CancelFunc

	mu     sync.Mutex
	opened map[string]*slot // by kind and name; guarded by mu
	closed bool             // guarded by mu
}

// A slot is where one thing is or will be. Making several things at once is
// much quicker than one after the other: the disk syncs them together.
type slot struct {
	mu sync.Mutex
	v  any // nil until it is made; guarded by mu
}

// Open opens the state in cfg.Dir, making it on first use. A second process on
// the same directory is refused with a [countersign.Error] of kind Conflict
// that names the first.
func Open(ctx context.Context, cfg Config) (_ Store, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dir == "" {
		return nil, errors.New("open store: no data directory")
	}
	if err := makeDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &jetStream{cfg: cfg, opened: map[string]*slot{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, err
	}
	opts := []nats.Option{
		nats.Name("countersign"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.RetryOnFailedConnect(false),
		nats.NoCallbacksAfterClientClose(),
		// A worker asks for one item at a time and needs no room for more.
		// The default makes room for 65,536 at once, for every worker.
		nats.SyncQueueLen(64),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			cfg.Log.Warn("lost the connection to NATS", "err", err)
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			cfg.Log.Warn("NATS connection", "err", err)
		}),
	}
	url := cfg.URL
	if url == "" {
		dir := filepath.Join(cfg.Dir, "nats")
		if err := makeDir(dir); err != nil { // for nobody else to read; NATS would make it for its group
			return nil, fmt.Errorf("open store: %w", err)
		}
		if s.srv, err = startServer(dir, cfg.Log); err != nil {
			return nil, err
		}
		opts = append(opts, nats.InProcessServer(s.srv))
	}
	if s.nc, err = nats.Connect(url, opts...); err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if s.js, err = jetstream.New(s.nc, jetstream.WithDefaultTimeout(requestTimeout)); err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	if _, err := s.js.AccountInfo(ctx); err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return s, nil
}

// Close waits for nothing that is still running: end watches and work first.
func (s *jetStream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()

	s.stop()
	if s.nc != nil {
		// What was published without waiting for an answer (items handed
		// back) still goes out.
		_ = s.nc.FlushTimeout(time.Second)
		s.nc.Close()
	}
	if s.srv != nil {
		s.srv.Shutdown()
		s.srv.WaitForShutdown()
	}
	if s.lock != nil {
		return s.lock.Close()
	}
	return nil
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// once returns what open made for kind and name the first time it is asked.
func once[T any](s *jetStream, kind, name string, open func() (T, error)) (T, error) {
	var zero T
	if !nameForm.MatchString(name) {
		return zero, fmt.Errorf("open %s %q: the name is not a lower-case word", kind, name)
	}
	s.mu.Lock()
	at, ok := s.opened[kind+" "+name]
	if !ok {
		at = new(slot)
		s.opened[kind+" "+name] = at
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return zero, fmt.Errorf("open %s %s: %w", kind, name, ErrClosed)
	}

	at.mu.Lock()
	defer at.mu.Unlock()
	if at.v == nil {
		v, err := open()
		if err != nil {
			return zero, fmt.Errorf("open %s %s: %w", kind, name, err)
		}
		at.v = v
	}
	return at.v.(T), nil
}

func (s *jetStream) Bucket(ctx context.Context, name string) (Bucket, error) {
	return once(s, "bucket", name, func() (Bucket, error) { return openBucket(ctx, s, name) })
}

func (s *jetStream) Blobs(ctx context.Context, name string) (Blobs, error) {
	return once(s, "blobs", name, func() (Blobs, error) {
		dir := filepath.Join(s.cfg.Dir, "blobs", name)
		if s.srv == nil {
			return openObjects(ctx, s, name, dir)
		}
		return openFiles(dir)
	})
}

func (s *jetStream) Queue(ctx context.Context, name string) (Queue, error) {
	return once(s, "queue", name, func() (Queue, error) { return openQueue(ctx, s, name) })
}

func (s *jetStream) Log(ctx context.Context, name string) (Log, error) {
	return once(s, "log", name, func() (Log, error) { return openLog(ctx, s, name) })
}

// stream makes the stream cfg describes, or finds it, or changes what is there
// to cfg after an upgrade.
func (s *jetStream) stream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	cfg.Storage = jetstream.FileStorage
	cfg.Replicas = max(1, s.cfg.Replicas)
	st, err := s.js.CreateStream(ctx, cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		st, err = s.js.UpdateStream(ctx, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("make stream %s: %w", cfg.Name, err)
	}
	return st, nil
}

// publish stores one message and returns its sequence number. It returns
// errMoved if the expectation in opts does not hold.
func (s *jetStream) publish(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (uint64, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	ack, err := s.js.PublishMsg(ctx, msg, opts...)
	if err == nil {
		return ack.Sequence, nil
	}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
			return 0, errMoved
		}
	}
	return 0, s.why(err)
}

// errMoved is the server's answer that a subject is not at the expected message.
var errMoved = errors.New("wrong last sequence")

// why makes errors that come from Close recognizable.
func (s *jetStream) why(err error) error {
	if s.ctx.Err() != nil || errors.Is(err, nats.ErrConnectionClosed) {
		return ErrClosed
	}
	return err
}

// bounded gives ctx a deadline if it has none, so that no request waits for a
// lost answer forever.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, requestTimeout)
}

// makeDir makes dir and its missing parents, each durable in the one above it.
func makeDir(dir string) error {
	if fi, err := os.Stat(dir); err == nil {
		if !fi.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
