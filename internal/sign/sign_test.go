package sign_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"countersign"
	"countersign/internal/sign"
	"countersign/internal/store"
	"countersign/internal/store/storetest"
)

const (
	account = "000000000000"
	region  = "eu-central-1"
)

var (
	here = sign.Scope{Account: account, Region: region}
	root = sign.Caller{Account: account, ARN: "arn:aws:iam::000000000000:root"}
)

// box is a Sealer: AES-256-GCM, the purpose authenticated.
type box struct{ aead cipher.AEAD }

func newBox(tb testing.TB, secret string) box {
	tb.Helper()
	key := sha256.Sum256([]byte(secret))
	b, err := aes.NewCipher(key[:])
	if err != nil {
		tb.Fatal(err)
	}
	g, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		tb.Fatal(err)
	}
	return box{g}
}

func (b box) Seal(purpose string, plain []byte) ([]byte, error) {
	return b.aead.Seal(nil, nil, plain, []byte(purpose)), nil
}

func (b box) Unseal(purpose string, sealed []byte) ([]byte, error) {
	return b.aead.Open(nil, nil, sealed, []byte(purpose))
}

// A clock stands still until it is told otherwise, or given a tick.
type clock struct {
	mu   sync.Mutex
	t    time.Time     // guarded by mu
	tick time.Duration // added at every look; guarded by mu
}

func newClock() *clock { return &clock{t: time.Date(2026, 9, 28, 9, 19, 26, 806_543_210, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(c.tick)
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

// A platform is a service and all it stands on, able to be started again.
type platform struct {
	*sign.Service
	store   store.Store
	objects sign.Objects
	shelves *shelves
	clock   *clock
	dir     string // of the authority
	workers int
}

// newPlatform starts a platform on an in-memory store, with the buckets "src"
// and "dst" in its region and a profile "prod".
func newPlatform(tb testing.TB) *platform {
	tb.Helper()
	p := prepare(tb, storetest.Memory())
	p.start(tb)
	p.profile(tb, "prod")
	return p
}

func prepare(tb testing.TB, st store.Store) *platform {
	tb.Helper()
	o := newShelves()
	for _, b := range []string{"src", "dst"} {
		o.make(account, b, sign.BucketInfo{Region: region, Versioned: true})
	}
	return &platform{store: st, objects: o, shelves: o, clock: newClock(), dir: filepath.Join(tb.TempDir(), "ca"), workers: 2}
}

func (p *platform) authority(ctx context.Context, tb testing.TB) (*sign.Authority, error) {
	return sign.OpenAuthority(ctx, sign.AuthorityConfig{
		Dir: p.dir, Keys: sign.SealedKeys{Sealer: newBox(tb, "test")}, Store: p.store, Instance: "test platform", Now: p.clock.now,
	})
}

// open starts the service, and may fail.
func (p *platform) open(ctx context.Context, tb testing.TB) error {
	ca, err := p.authority(ctx, tb)
	if err != nil {
		return err
	}
	p.Service, err = sign.Open(ctx, sign.Config{
		Store: p.store, Objects: p.objects, Authority: ca, Now: p.clock.now,
		Scratch: tb.TempDir(), Workers: p.workers, Log: slog.New(slog.DiscardHandler),
	})
	return err
}

func (p *platform) start(tb testing.TB) {
	tb.Helper()
	if err := p.open(tb.Context(), tb); err != nil {
		tb.Fatal(err)
	}
	s := p.Service
	tb.Cleanup(s.Close)
}

func (p *platform) profile(tb testing.TB, name string) sign.Profile {
	tb.Helper()
	pr, err := p.PutProfile(tb.Context(), here, sign.NewProfile{Name: name, Platform: sign.LambdaPlatform})
	if err != nil {
		tb.Fatal(err)
	}
	return pr
}

// request asks for the signing of body, put under key in "src".
func (p *platform) request(body []byte, key string) sign.JobRequest {
	v := p.shelves.put("src", key, body)
	return sign.JobRequest{
		Profile: "prod", Source: sign.Source{Bucket: "src", Key: key, Version: v},
		Bucket: "dst", Prefix: "signed/app-", Token: rand.Text(),
	}
}

// sign runs a job to its end.
func (p *platform) sign(tb testing.TB, r sign.JobRequest) sign.Job {
	tb.Helper()
	j, err := p.StartJob(tb.Context(), here, root, r)
	if err != nil {
		tb.Fatal(err)
	}
	return p.await(tb, j.ID)
}

// await waits for a job to end. The test's own deadline is the limit.
func (p *platform) await(tb testing.TB, id string) sign.Job {
	tb.Helper()
	j, err := p.AwaitJob(tb.Context(), here, id)
	if err != nil {
		tb.Fatalf("job %s: %v", id, err)
	}
	return j
}

// zipped makes a small function; names and bodies alternate.
func zipped(tb testing.TB, parts ...string) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i := 0; i+1 < len(parts); i += 2 {
		f, err := w.Create(parts[i])
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := f.Write([]byte(parts[i+1])); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func hello(tb testing.TB) []byte {
	return zipped(tb, "app.py", "def handler(event, context):\n    return event['key1']\n")
}

// checkSigned verifies a signed object as an outsider with the root would.
func checkSigned(tb testing.TB, p *platform, j sign.Job, object []byte) *countersign.Evidence {
	tb.Helper()
	a, err := countersign.OpenArchive(bytes.NewReader(object), int64(len(object)), countersign.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	e, err := countersign.Verify(tb.Context(), a, p.Authority().Trust())
	if err != nil {
		tb.Fatal(err)
	}
	if got := e.Statement().Job; got != j.ARN() {
		tb.Errorf("statement's job: got %s, want %s", got, j.ARN())
	}
	return e
}

// checkKind asserts an error's kind and sentence.
func checkKind(tb testing.TB, err error, kind countersign.Kind, message string) {
	tb.Helper()
	var no *countersign.Error
	if !errors.As(err, &no) || no.Kind != kind || message != "" && no.Message != message {
		tb.Errorf("got %v (%v), want %v (%v)", err, countersign.KindOf(err), message, kind)
	}
}
