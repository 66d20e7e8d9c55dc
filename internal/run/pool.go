// Package run runs functions: it keeps warm environments, starts new ones and
// carries invocations to them.
//
// An environment is one sandbox with one runtime in it, and serves one
// invocation at a time. The package promises that no code runs without an
// Admission for exactly its digest; that an event is handed to a function at
// most once; that a function is stopped at its time limit and nothing of its
// memory survives that; that what a function printed before it answered is in
// that invocation's log; and that a warm invocation touches no disk and waits
// for no log to become durable.
//
// It trusts the driver to contain guests, the code provider to unpack what the
// digest names, and nothing that comes out of a guest.
//
// The life cycle, error documents and log lines follow "Understanding the
// Lambda execution environment lifecycle" in the AWS Lambda developer guide
// and captures of the service.
//
// Deviations: after a time-out or a crash the whole sandbox is replaced, so
// /tmp starts empty (Lambda has been seen to keep it); an init that reports an
// error is not tried a second time before the error is answered.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/run/runtimes"
	"countersign/internal/run/sandbox"
)

// Code gives an admitted artifact's files.
type Code interface {
	// Unpacked returns a folder with the artifact's files. They stay there,
	// unchanged, until release is called.
	Unpacked(ctx context.Context, adm admit.Admission) (dir string, release func(), err error)
}

// Runtimes says what a runtime identifier means here.
type Runtimes interface {
	Resolve(id string) (*runtimes.Runtime, error)
}

// A Config is what a Pool is made of. Driver, Code, Runtimes and Logs are
// required.
type Config struct {
	Driver   sandbox.Driver
	Code     Code
	Runtimes Runtimes
	Logs     Logs
	// Init is the program that is process 1 in a guest when its first argument
	// is "init": a path on this machine, "" for this program itself.
	Init string
	// MaxEnvironments bounds live environments; 0 derives it from the
	// machine's memory, 1000 (an account's default concurrency) at most.
	MaxEnvironments int
	// IdleAfter is how long an unused environment is kept; 0 is 10 minutes.
	IdleAfter time.Duration
	// InitLimit is how long a runtime may take to start before it is started
	// again on the invocation's own time; 0 is Lambda's 10 seconds.
	InitLimit time.Duration
	// QueueLimit is how long an event waits for an environment when there can
	// be no more of them; 0 is 10 seconds. Then it is throttled.
	QueueLimit time.Duration
	Log        *slog.Logger // nil discards
}

// A Pool runs functions. Safe for concurrent use.
type Pool struct {
	cfg    Config // read-only after New
	out    *logWriter
	stop   context.CancelFunc
	live   context.Context // ends when the pool closes
	starts chan struct{}   // a token for each start under way
	work   sync.WaitGroup  // goroutines that start and end environments

	mu     sync.Mutex // never held while talking to a sandbox
	groups map[key]*group
	latest map[string]key // by ARN and version: the revision asked for last
	hungry []order        // wait for a place, in the order they came
	count  int            // environments starting, living and ending
	active int            // invocations under way
	closed bool
	quiet  *sync.Cond // on mu: active or count went down
}

// A key is what an environment may be used for: nothing else.
type key struct {
	arn, version, revision string
	artifact               countersign.Digest
}

// A group is the environments of one key, and who waits for one.
// Every field is guarded by Pool.mu.
type group struct {
	idle     []*environment // newest last
	waiting  []*waiter      // in the order they came
	starting int
	live     int  // environments that are not starting: idle or busy
	retired  bool // a later revision was asked for, or the function is gone
}

// A waiter waits for an environment of one group.
type waiter struct {
	ready chan turn // buffered
}

// A turn is what a waiter gets.
type turn struct {
	env *environment
	err error
}

// New returns a Pool with no environments.
func New(cfg Config) (*Pool, error) {
	if cfg.Driver == nil || cfg.Code == nil || cfg.Runtimes == nil || cfg.Logs == nil {
		return nil, errors.New("run: Driver, Code, Runtimes and Logs are required")
	}
	if cfg.Init == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the init: %w", err)
		}
		cfg.Init = self
	}
	if cfg.MaxEnvironments == 0 {
		cfg.MaxEnvironments = room()
	}
	if cfg.IdleAfter == 0 {
		cfg.IdleAfter = 10 * time.Minute
	}
	if cfg.InitLimit == 0 {
		cfg.InitLimit = 10 * time.Second
	}
	if cfg.QueueLimit == 0 {
		cfg.QueueLimit = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Pool{
		cfg: cfg, out: newLogWriter(cfg.Logs, cfg.Log),
		starts: make(chan struct{}, 2*runtime.NumCPU()),
		groups: make(map[key]*group), latest: make(map[string]key),
	}
	p.quiet = sync.NewCond(&p.mu)
	p.live, p.stop = context.WithCancel(context.Background())
	p.work.Go(p.reap)
	return p, nil
}

// environmentBytes is a modest guess at what one environment costs the
// machine, a sandbox's own memory included.
const environmentBytes = 192 << 20

// room is how many environments the machine's memory has place for.
func room() int {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 16
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err == nil {
				return int(min(max(kb<<10*3/4/environmentBytes, 4), 1000))
			}
		}
	}
	return 16
}

// Invoke runs f on one event and returns how it went; an error means the event
// was not handed to the function. Cancelling ctx stops the wait for an
// environment. An event that has been handed over runs to its end: a caller
// that hangs up does not stop a function.
func (p *Pool) Invoke(ctx context.Context, adm admit.Admission, f Function, req Request) (*Result, error) {
	if d := adm.Digest(); d.IsZero() || d != f.Artifact {
		return nil, fmt.Errorf("invoke %s: the admission is for artifact %s, the function is %s", f.Name, d, f.Artifact)
	}
	if f.TimeoutSeconds <= 0 || f.MemoryMB <= 0 {
		return nil, fmt.Errorf("invoke %s: a function needs a time limit and a memory size", f.Name)
	}
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return nil, errClosed
	case p.active >= maxActive:
		p.mu.Unlock()
		return nil, errFull
	}
	p.active++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.active--
		p.quiet.Broadcast()
		p.mu.Unlock()
	}()

	// An idle environment can turn out to be dead or still at work; the event
	// has not been seen by anyone then, and another takes it.
	const tries = 8
	for range tries {
		w, err := p.take(ctx, adm, &f)
		if err != nil {
			return nil, err
		}
		res, next := w.invoke(req)
		p.giveBack(w, next)
		if res != nil {
			return res, nil
		}
	}
	return nil, fmt.Errorf("invoke %s: %d environments in a row could not take the event", f.Name, tries)
}

// maxActive bounds the invocations under way or waiting: an account's default
// concurrency.
const maxActive = 1000

var errClosed = countersign.Errorf(countersign.Throttled, "the server is stopping")

// Retire ends the environments of every version of the function arn, idle ones
// now and busy ones when they are done: for a function that is deleted.
func (p *Pool) Retire(arn string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, g := range p.groups {
		if k.arn == arn {
			p.retire(k, g)
		}
	}
	for id, k := range p.latest {
		if k.arn == arn {
			delete(p.latest, id)
		}
	}
}

// Flush returns when every log line written so far is in the sink.
func (p *Pool) Flush() { p.out.flush() }

// Close takes no more invocations, waits for those under way until ctx ends,
// kills every environment and writes out the logs.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		p.quiet.Broadcast()
		p.mu.Unlock()
	})
	defer stop()

	p.mu.Lock()
	for p.active > 0 && ctx.Err() == nil {
		p.quiet.Wait()
	}
	drained := p.active == 0
	for _, g := range p.groups {
		for _, w := range g.idle {
			p.end(g, w)
		}
		g.idle = nil
	}
	p.mu.Unlock()

	p.stop()
	var err error
	if !drained {
		err = fmt.Errorf("close pool: %w with invocations under way", context.Cause(ctx))
	}
	// Without its environments an invocation ends at once.
	err = errors.Join(err, p.cfg.Driver.Close())
	p.mu.Lock()
	for p.active > 0 {
		p.quiet.Wait()
	}
	p.mu.Unlock()
	p.work.Wait()
	p.out.close()
	return err
}

// Environments is how many environments there are, those starting and ending
// included.
func (p *Pool) Environments() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Limit is how many environments may live at once: what an account's
// concurrency comes to here.
func (p *Pool) Limit() int { return p.cfg.MaxEnvironments }
