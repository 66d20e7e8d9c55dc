// Package platform is the wiring diagram: every stage, opened in the order
// they depend on one another, behind one HTTP handler.
//
// It decides nothing. What it promises is the order: a request is answered
// only when everything an earlier process left unfinished has been taken up
// again, and Close stops taking work before it stops working.
package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/api"
	"countersign/internal/guard"
	"countersign/internal/guard/seal"
	"countersign/internal/objects"
	"countersign/internal/observe"
	"countersign/internal/release"
	"countersign/internal/run"
	"countersign/internal/run/code"
	"countersign/internal/run/runtimes"
	"countersign/internal/run/sandbox"
	"countersign/internal/run/sandbox/gvisor"
	"countersign/internal/run/sandbox/process"
	"countersign/internal/run/twin"
	"countersign/internal/sign"
	"countersign/internal/store"
	"countersign/internal/wire"
)

// Config is every setting of a platform. The zero value of all but Dir is a
// good one.
type Config struct {
	// Dir holds all state: made if missing, 0700, one process at a time.
	Dir string
	// NATS is the URL of an outside cluster; empty is one in this process.
	NATS string
	// Sandbox is gvisor, or process, which isolates nothing.
	Sandbox string
	// StrictRuntimes refuses a function whose exact runtime is not installed.
	StrictRuntimes bool
	// RootAccessKeyID and RootSecretAccessKey are the root's, both or neither;
	// without them they are made on the first start and kept in Dir.
	RootAccessKeyID, RootSecretAccessKey string
	// MasterKey encrypts keys at rest; empty is one kept in Dir.
	MasterKey string
	// Log takes what an operator should know; nil discards.
	Log *slog.Logger
}

// A Platform is everything, running. It is the handler of the one endpoint.
type Platform struct {
	handler http.Handler
	server  *wire.Server
	driver  sandbox.Driver
	logs    *observe.Logs
	pool    *run.Pool
	closers []closer // in the order they were opened
}

type closer struct {
	name  string
	close func() error
}

// Open starts a platform on cfg.Dir. ctx bounds the opening only.
func Open(ctx context.Context, cfg Config) (_ *Platform, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	p := &Platform{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()

	// Kept: the state everything else is made of. It takes the directory's
	// lock, so it comes first.
	st, err := store.Open(ctx, store.Config{Dir: cfg.Dir, URL: cfg.NATS, Log: cfg.Log.With("part", "store")})
	if err != nil {
		return nil, err
	}
	p.onClose("store", st.Close)
	artifacts, err := st.Blobs(ctx, "artifacts")
	if err != nil {
		return nil, err
	}

	// Guarded: whose requests these are.
	root, err := guard.OpenRoot(cfg.Dir, guard.Credentials{AccessKeyID: cfg.RootAccessKeyID, SecretAccessKey: cfg.RootSecretAccessKey})
	if err != nil {
		return nil, err
	}
	master, err := seal.Open(cfg.Dir, cfg.MasterKey)
	if err != nil {
		return nil, err
	}
	auth := &guard.Authenticator{Keys: root}

	// Observed: what functions print.
	if p.logs, err = observe.Open(ctx, st, observe.Options{Log: cfg.Log.With("part", "observe")}); err != nil {
		return nil, fmt.Errorf("open logs: %w", err)
	}
	p.onClose("logs", within(p.logs.Close))

	// Stored: the buckets code comes from and goes to.
	gateway, err := objects.Open(ctx, objects.Config{
		Dir: filepath.Join(cfg.Dir, "objects"), Store: st, Keys: bucketKeys{root}, Log: cfg.Log.With("part", "objects"),
	})
	if err != nil {
		return nil, fmt.Errorf("open objects: %w", err)
	}
	p.onClose("objects", gateway.Close)

	// Signed.
	authority, err := sign.OpenAuthority(ctx, sign.AuthorityConfig{Dir: sign.CADir(cfg.Dir), Keys: sign.SealedKeys{Sealer: master}, Store: st})
	if err != nil {
		return nil, err
	}
	signer, err := sign.Open(ctx, sign.Config{
		Store: st, Objects: bucketObjects{gateway}, Authority: authority,
		Scratch: cfg.Dir, Log: cfg.Log.With("part", "sign"),
	})
	if err != nil {
		return nil, err
	}
	p.onClose("signer", closing(signer.Close))

	// Admitted.
	gate := admit.New(archives{artifacts}, authority.Trust(), signer, time.Now)

	// Run: the sandbox, what functions run on, and their environments.
	guests, err := twin.Path(func(s string) { cfg.Log.Warn(s) })
	if err != nil {
		return nil, err
	}
	if p.driver, err = openSandbox(cfg, guests); err != nil {
		return nil, err
	}
	p.onClose("sandbox", p.driver.Close)
	rts, err := runtimes.New(runtimes.Config{Dir: filepath.Join(cfg.Dir, "runtime"), Strict: cfg.StrictRuntimes})
	if err != nil {
		return nil, err
	}
	unpacked, err := code.New(artifacts, filepath.Join(cfg.Dir, "code"), 0)
	if err != nil {
		return nil, err
	}
	pool, err := run.New(run.Config{
		Driver: p.driver, Init: guests, Code: unpacked, Runtimes: rts, Logs: functionLogs{p.logs}, Log: cfg.Log.With("part", "run"),
	})
	if err != nil {
		return nil, err
	}
	p.pool = pool
	p.onClose("environments", within(pool.Close))

	// Released: functions, versions, aliases.
	functions, err := release.Open(ctx, release.Config{
		Store: st, Now: time.Now, NewID: uuid.NewString, Log: cfg.Log.With("part", "release"),
		Prepare: func(ctx context.Context, v release.Version) error {
			a, err := gate.Recall(ctx, v.Code.Admission)
			if err != nil {
				return err
			}
			// Unpacked now, so that the first call finds it so.
			_, release, err := unpacked.Unpacked(ctx, a)
			if err == nil {
				release()
			}
			return err
		},
		Retired: func(s release.Scope, name string) { pool.Retire(s.FunctionARN(name)) },
	})
	if err != nil {
		return nil, fmt.Errorf("open functions: %w", err)
	}
	p.onClose("functions", closing(functions.Close))

	// Spoken to, in AWS's protocols.
	links := newCodeLinks(artifacts)
	p.server = wire.NewServer(wire.Config{
		Authenticate: auth.Authenticate,
		Precheck:     auth.Precheck,
		Translate:    api.Translate,
		S3:           gateway,
		Health:       http.HandlerFunc(p.health),
		Log:          cfg.Log.With("part", "wire"),
	}, api.Services()...)
	api.Register(p.server, api.Stages{
		Lambda: &api.Lambda{
			Functions: functions, Gate: gate, Pool: pool, Artifacts: artifacts, Objects: gateway,
			Runtimes: func(id string) error { _, err := rts.Resolve(id); return err }, CodeLink: links.address, MaxConcurrency: pool.Limit(),
		},
		Signer: signer,
		Logs:   p.logs,
	})
	p.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// No ServeMux: it would clean paths, and S3's keys may hold "//".
		if strings.HasPrefix(r.URL.Path, codePath) {
			links.ServeHTTP(w, r)
			return
		}
		p.server.ServeHTTP(w, r)
	})
	return p, nil
}

func openSandbox(cfg Config, guests string) (sandbox.Driver, error) {
	switch cfg.Sandbox {
	case "", "gvisor":
		return gvisor.New(gvisor.Config{Dir: filepath.Join(cfg.Dir, "guests"), Exe: guests, Log: cfg.Log.With("part", "sandbox")})
	case "process":
		return process.New(), nil
	}
	return nil, fmt.Errorf("no sandbox is called %q: gvisor and process are", cfg.Sandbox)
}

// ServeHTTP answers for every service.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// Server is the protocol side, for the table of what is built.
func (p *Platform) Server() *wire.Server { return p.server }

// Missing says, a sentence each, what a user should know about how functions
// run here.
func (p *Platform) Missing() []string {
	var m []string
	if !p.driver.Isolates() {
		m = append(m, "--sandbox="+p.driver.Name()+": functions are NOT isolated from this machine, its files, its network or one another")
	}
	for _, s := range p.driver.Missing() {
		m = append(m, "not enforced here: "+s)
	}
	return m
}

func (p *Platform) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"status":"ok","sandbox":%q,"isolated":%t,"os":%q}`+"\n", p.driver.Name(), p.driver.Isolates(), runtime.GOOS)
}

// Flush waits until what functions printed so far can be read.
func (p *Platform) Flush(ctx context.Context) error {
	p.pool.Flush()
	return p.logs.Flush(ctx)
}

func (p *Platform) onClose(name string, f func() error) {
	p.closers = append(p.closers, closer{name, f})
}

// closeLimit bounds a graceful stop of what may wait for functions.
const closeLimit = 15 * time.Second

func within(f func(context.Context) error) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		return f(ctx)
	}
}

func closing(f func()) func() error { return func() error { f(); return nil } }

// Close stops everything, last opened first. Nothing acknowledged is lost, and
// nothing printed.
func (p *Platform) Close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i].close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", p.closers[i].name, err))
		}
	}
	p.closers = nil
	return errors.Join(errs...)
}

// archives shows stored artifacts to the gate.
type archives struct{ store.Blobs }

func (a archives) Open(ctx context.Context, d countersign.Digest) (admit.Artifact, error) {
	return a.OpenFile(ctx, d)
}

// bucketKeys shows the platform's keys to the S3 gateway.
type bucketKeys struct{ keys guard.Keys }

func (b bucketKeys) Lookup(ctx context.Context, id string) (string, objects.Caller, bool) {
	k, err := b.keys.Key(ctx, id, "")
	if err != nil {
		return "", objects.Caller{}, false
	}
	return k.Secret, objects.Caller{Account: k.Caller.Account, ARN: k.Caller.ARN, AccessKey: id, Root: k.Caller.Root, SessionToken: k.Token}, true
}

// functionLogs lets functions print.
type functionLogs struct{ logs *observe.Logs }

func (l functionLogs) Append(ctx context.Context, to run.Place, lines []run.Line) error {
	events := make([]observe.Event, len(lines))
	for i, x := range lines {
		events[i] = observe.Event{Time: x.Time, Message: x.Text}
	}
	return l.logs.Append(ctx, observe.Scope{Account: to.Account, Region: to.Region}, to.Group, to.Stream, events)
}

// bucketObjects lets signing jobs read and write buckets.
type bucketObjects struct{ g *objects.Gateway }

func (b bucketObjects) Bucket(ctx context.Context, as sign.Caller, name string) (sign.BucketInfo, error) {
	region, account, err := b.g.BucketRegion(name)
	if err != nil {
		return sign.BucketInfo{}, err
	}
	if account != as.Account {
		return sign.BucketInfo{}, countersign.Errorf(countersign.Denied, "Access Denied")
	}
	_, versioned, err := b.g.Versioning(ctx, name)
	return sign.BucketInfo{Region: region, Versioned: versioned}, err
}

func (b bucketObjects) Open(ctx context.Context, as sign.Caller, bucket, key, version string) (io.ReadCloser, sign.ObjectInfo, error) {
	if _, err := b.Bucket(ctx, as, bucket); err != nil {
		return nil, sign.ObjectInfo{}, err
	}
	body, info, err := b.g.GetObject(ctx, "", bucket, key, version)
	return body, sign.ObjectInfo{Size: info.Size, Version: info.VersionID}, err
}

func (b bucketObjects) PutIfAbsent(ctx context.Context, as sign.Caller, bucket, key string, body io.Reader, size int64) error {
	if _, err := b.Bucket(ctx, as, bucket); err != nil {
		return err
	}
	_, created, err := b.g.PutIfAbsent(ctx, bucket, key, body, size, nil)
	if err == nil && !created {
		err = countersign.Errorf(countersign.Exists, "%s/%s has an object", bucket, key)
	}
	return err
}
