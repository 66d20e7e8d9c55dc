// Package objects is the platform's S3: versitygw's gateway and its posix
// backend as a library, behind our own keys, telling our own decision and
// event seams.
//
// # What it promises
//
// Every request is authenticated by versitygw's SigV4 verification (header,
// presigned, signed and unsigned streaming chunks, POST forms) with keys that
// only [KeyProvider] knows. Nothing is anonymous: a request without a
// signature is refused before it reaches versitygw, and the backend hides
// policies and ACLs from requests nobody has signed, so that no public grant
// can ever be found. versitygw's admin API, its IAM, its web interface, its
// website endpoint and its metrics are never mounted.
//
// What was acknowledged survives kill -9 and power loss: see durable.go for
// the order of writes and repair.go for what a crash leaves and how Open
// mends it.
//
// A bucket lives in the region whose scope created it. A request signed for
// another region gets AuthorizationHeaderMalformed with the region that was
// expected, as AWS answers. There is one gateway per region (region.go),
// because versitygw compares scopes with one fixed region.
//
// # Settings
//
// A setting that nobody here enforces is not stored: PUT answers 501
// NotImplemented with the operation's name, GET answers AWS's "not
// configured". A PUT that asks for what is already so succeeds. The table is
// in setting.go. Objects are not encrypted at rest, so GetBucketEncryption
// says that no encryption is configured. ACLs are off for good, as they are
// for new buckets on AWS; the account's public access block is on for good,
// so a bucket's own block is kept and shown, and changes nothing.
//
// # Whom it trusts
//
// The data directory's owner: an attacker who can write there owns every
// object. The sockets between our listener and versitygw are in a 0700
// directory below it.
//
// # One per process
//
// versitygw's posix backend changes the working directory of the process and
// works with relative paths. So there is one open [Gateway] per process, Open
// makes its paths absolute first, Close goes back, and requests are refused
// while the working directory is not ours.
//
// BUG(objects): the gateway sees a connection from our listener, not from the
// client, so aws:SourceIp in a bucket policy does not match the client.
//
// BUG(objects): keys are paths of the file system: "a//b", "./a" and "/a" are
// refused, "a" and "a/b" cannot both exist, and one part of a key between
// slashes is at most 255 bytes.
//
// BUG(objects): buckets are addressed in the path. A virtual-hosted-style
// request to bucket.localhost is refused; clients choose the path by themselves
// for an address like 127.0.0.1.
//
// BUG(objects): versitygw writes its internal errors to standard error itself.
package objects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"countersign/internal/store"

	"github.com/versity/versitygw/backend/posix"
)

// Config says where a Gateway keeps its objects and whom it asks.
type Config struct {
	// Dir holds buckets/, versions/, run/ and the mark of an unclean stop. It
	// is made if missing, 0700.
	Dir string
	// Store holds one document per bucket, in the bucket "buckets".
	Store store.Store
	// Keys knows the access keys. Required.
	Keys KeyProvider
	// Authorize decides what an authenticated caller may do; nil allows
	// everything within the caller's own account. A [countersign.Error] of kind
	// Denied is a no; any other error means it could not decide, and the caller
	// gets InternalError. ctx is not the request's: versitygw has none to give.
	Authorize func(ctx context.Context, d Decision) error
	// Events is told of every change to an object after it has happened. It
	// must not block. Nil tells nobody.
	Events func(e Event)
	// Region is where a request that names no region is answered from;
	// empty is us-east-1.
	Region string
	// Log is for what an operator should know; nil discards.
	Log *slog.Logger

	sidecar bool // tests: as if the file system had no extended attributes
}

// ErrOpen is returned by [Open] while another Gateway is open in this process.
var ErrOpen = errors.New("another object gateway is open in this process")

var open atomic.Bool // one Gateway per process: the working directory is its

// A Gateway is an open S3. It is an http.Handler for requests in S3's scope.
type Gateway struct {
	cfg     Config
	keys    *identity
	posix   *posix.Posix
	meta    metadata
	buckets *store.Docs[bucket]
	home    os.FileInfo // the working directory requests need
	back    string      // the working directory before Open

	regions regions
	mark    string // path of the file that says: not stopped cleanly
	closing sync.Once
	closed  error
}

// Open opens the objects below cfg.Dir, mends what an unclean stop left, and
// changes the working directory of the process (see the package comment).
// ctx bounds Open only.
func Open(ctx context.Context, cfg Config) (_ *Gateway, err error) {
	if cfg.Keys == nil || cfg.Store == nil || cfg.Dir == "" {
		return nil, errors.New("objects need Dir, Store and Keys")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("object directory: %w", err)
	}
	if !open.CompareAndSwap(false, true) {
		return nil, ErrOpen
	}
	g := &Gateway{cfg: cfg, keys: &identity{keys: cfg.Keys, authorize: cfg.Authorize}}
	defer func() {
		if err != nil {
			_ = g.Close()
		}
	}()
	if g.back, err = os.Getwd(); err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	for _, d := range []string{"", dirBuckets, dirVersions, dirRun} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("object directory: %w", err)
		}
	}
	kv, err := cfg.Store.Bucket(ctx, "buckets")
	if err != nil {
		return nil, fmt.Errorf("bucket documents: %w", err)
	}
	if g.buckets, err = store.OpenDocs[bucket](ctx, kv); err != nil {
		return nil, fmt.Errorf("bucket documents: %w", err)
	}
	g.keys.owner = g.owner
	if g.posix, g.meta, err = openPosix(cfg); err != nil {
		return nil, err
	}
	if g.home, err = os.Stat("."); err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	if err := g.reconcile(ctx); err != nil {
		return nil, err
	}
	mark := filepath.Join(cfg.Dir, markFile)
	if _, err := os.Lstat(mark); err == nil {
		if err := g.repair(ctx); err != nil {
			return nil, fmt.Errorf("mend objects after an unclean stop: %w", err)
		}
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return nil, fmt.Errorf("mark objects open: %w", err)
	}
	if err := syncPath(cfg.Dir); err != nil {
		return nil, fmt.Errorf("mark objects open: %w", err)
	}
	g.mark = mark
	if _, err := g.regions.get(g, cfg.Region); err != nil {
		return nil, err
	}
	return g, nil
}

const (
	dirBuckets  = "buckets"  // one directory per bucket, the key's path below it
	dirVersions = "versions" // what was there before, below the key's hash
	dirMeta     = "meta"     // attributes that are files
	dirRun      = "run"      // sockets
	dirLost     = "lost"     // bucket directories without a document
	markFile    = "open"     // there while a gateway is open
)

// Close finishes the requests that are being answered, for at most ten
// seconds, and goes back to the working directory of before Open. A later
// Open works again.
func (g *Gateway) Close() error {
	g.closing.Do(func() {
		err := g.regions.close()
		if g.posix != nil {
			g.posix.Shutdown()
		}
		if g.buckets != nil {
			g.buckets.Close()
		}
		if g.back != "" {
			err = errors.Join(err, os.Chdir(g.back))
		}
		if g.mark != "" {
			err = errors.Join(err, os.Remove(g.mark))
		}
		open.Store(false)
		g.closed = err
	})
	return g.closed
}

// ServeHTTP answers one S3 request. It is safe to call without any check
// before it.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := g.serve(w, r); err != nil {
		g.refuse(w, r, err)
	}
}

// atHome reports whether relative paths still mean our buckets.
func (g *Gateway) atHome() bool {
	now, err := os.Stat(".")
	return err == nil && os.SameFile(now, g.home)
}

// openPosix opens the backend. Its constructor prints to standard output,
// which is for data; nothing else is printing while a platform opens.
func openPosix(cfg Config) (*posix.Posix, metadata, error) {
	dir := cfg.Dir
	m, err := openMetadata(filepath.Join(dir, dirBuckets), filepath.Join(dir, dirMeta), filepath.Join(dir, dirVersions), cfg.sidecar)
	if err != nil {
		return nil, metadata{}, err
	}
	if m.sidecar {
		cfg.Log.Warn("the object directory's file system has no user extended attributes: a crash while an object is overwritten may show its new attributes with its old bytes", "dir", dir)
	}
	opts := posix.PosixOpts{VersioningDir: filepath.Join(dir, dirVersions), ValidateBucketNames: true, IOBufferSize: 256 << 10, CopyObjectThreshold: 5 << 30}
	opts.SetNewDirPerm(0o700)
	opts.SetNewFilePerm(0o600)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, metadata{}, err
	}
	defer null.Close()
	out := os.Stdout
	os.Stdout = null
	defer func() { os.Stdout = out }()
	p, err := posix.New(filepath.Join(dir, dirBuckets), m, opts)
	if err != nil {
		return nil, metadata{}, fmt.Errorf("open object backend: %w", err)
	}
	return p, m, nil
}
