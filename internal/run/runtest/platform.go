// Package runtest holds the tests that every sandbox driver passes with
// functions in it: real interpreters, real bootstraps, the real init.
package runtest

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/run"
	"countersign/internal/run/code"
	"countersign/internal/run/runtimes"
	"countersign/internal/run/sandbox"
	"countersign/internal/testenv"
)

// A Kind is a driver to test: Open makes one, Init is the program its guests
// have as process 1.
type Kind struct {
	Open func(testing.TB) sandbox.Driver
	Init string
}

// A Platform is a pool with everything around it that is real and nothing
// that is not needed.
type Platform struct {
	Pool *run.Pool
	Logs *Logs

	t      testing.TB
	driver sandbox.Driver
	blobs  *blobs
	gate   *admit.Gate
}

// An Option changes a platform's configuration.
type Option func(*run.Config)

// New makes a platform that is closed with the test.
func New(t testing.TB, k Kind, opts ...Option) *Platform {
	t.Helper()
	p := &Platform{t: t, Logs: &Logs{}, blobs: &blobs{m: make(map[countersign.Digest][]byte)}}
	p.gate = admit.New(p.blobs, countersign.Trust{}, nil, time.Now)
	dir := publicDir(t)
	cache, err := code.New(blobReader{p.blobs}, filepath.Join(dir, "code"), 0)
	if err != nil {
		t.Fatal(err)
	}
	table, err := runtimes.New(runtimes.Config{Dir: filepath.Join(dir, "runtime")})
	if err != nil {
		t.Fatal(err)
	}
	p.driver = k.Open(t)
	cfg := run.Config{Driver: p.driver, Code: cache, Runtimes: table, Logs: p.Logs, Init: k.Init}
	for _, o := range opts {
		o(&cfg)
	}
	if p.Pool, err = run.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.Pool.Close(ctx); err != nil {
			t.Errorf("close the pool: %v", err)
		}
	})
	return p
}

// publicDir is a folder that another user, such as a function's, can reach.
func publicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "runtest-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Files are an artifact's, by name. Those called bootstrap are executable.
type Files map[string]string

// A Fn is a deployed function.
type Fn struct {
	run.Function
	Adm admit.Admission
	p   *Platform
}

// Deploy admits an artifact and makes a function of it.
func (p *Platform) Deploy(runtime, handler string, files Files) *Fn {
	p.t.Helper()
	f := &Fn{p: p, Function: run.Function{
		ARN: "arn:aws:lambda:eu-west-1:000000000000:function:fn", Name: "fn", Version: "$LATEST", Account: "000000000000", Region: "eu-west-1",
		Runtime: runtime, Handler: handler, LogGroup: "/aws/lambda/fn",
		MemoryMB: 256, TimeoutSeconds: 30, EphemeralMB: 512,
	}}
	f.Name = "fn" + uuid.NewString()[:8]
	f.ARN = "arn:aws:lambda:eu-west-1:000000000000:function:" + f.Name
	f.LogGroup = "/aws/lambda/" + f.Name
	f.Update(files)
	return f
}

// Update gives f other code, and so another revision.
func (f *Fn) Update(files Files) {
	f.p.t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o644)
		if filepath.Base(name) == "bootstrap" {
			h.SetMode(0o755)
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			f.p.t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			f.p.t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		f.p.t.Fatal(err)
	}
	f.Artifact = f.p.blobs.put(b.Bytes())
	f.Revision = uuid.NewString()
	var err error
	if f.Adm, err = f.p.gate.Admit(context.Background(), admit.Request{Artifact: f.Artifact}); err != nil {
		f.p.t.Fatalf("admit: %v", err)
	}
}

// Request is an event with an id of its own.
func (f *Fn) Request(payload string) run.Request {
	return run.Request{ID: uuid.NewString(), InvokedARN: f.ARN, Payload: []byte(payload), LogTail: true}
}

// Invoke sends an event and expects the function to have been run.
func (f *Fn) Invoke(payload string) *run.Result {
	f.p.t.Helper()
	return f.Send(f.Request(payload))
}

// Send is Invoke with a request of the caller's making.
func (f *Fn) Send(r run.Request) *run.Result {
	f.p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	res, err := f.p.Pool.Invoke(ctx, f.Adm, f.Function, r)
	if err != nil {
		f.p.t.Fatalf("invoke: %v", err)
	}
	return res
}

// Want expects an answer.
func (f *Fn) Want(payload, want string) *run.Result {
	f.p.t.Helper()
	r := f.Invoke(payload)
	if r.FunctionError != "" || string(r.Payload) != want {
		f.p.t.Errorf("invoke with %s: got %s %s, want %s\nlog: %s", clip(payload), r.FunctionError, clip(string(r.Payload)), clip(want), r.LogTail)
	}
	return r
}

func clip(s string) string {
	if len(s) > 300 {
		return fmt.Sprintf("%s… (%d bytes)", s[:300], len(s))
	}
	return s
}

// Logs records what a pool wrote.
type Logs struct {
	mu    sync.Mutex
	lines map[string][]run.Line // by group
	names map[string][]string   // streams by group, in order
}

// Append implements [run.Logs].
func (l *Logs) Append(_ context.Context, to run.Place, lines []run.Line) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines == nil {
		l.lines, l.names = make(map[string][]run.Line), make(map[string][]string)
	}
	l.lines[to.Group] = append(l.lines[to.Group], lines...)
	if !slices.Contains(l.names[to.Group], to.Stream) {
		l.names[to.Group] = append(l.names[to.Group], to.Stream)
	}
	return nil
}

// Log is everything f has logged so far.
func (f *Fn) Log() string {
	f.p.Pool.Flush()
	f.p.Logs.mu.Lock()
	defer f.p.Logs.mu.Unlock()
	var b strings.Builder
	for _, l := range f.p.Logs.lines[f.LogGroup] {
		b.WriteString(l.Text)
	}
	return b.String()
}

// Streams are the names of f's log streams.
func (f *Fn) Streams() []string {
	f.p.Pool.Flush()
	f.p.Logs.mu.Lock()
	defer f.p.Logs.mu.Unlock()
	return slices.Clone(f.p.Logs.names[f.LogGroup])
}

// blobs are artifacts in memory, for the gate and for the code cache.
type blobs struct {
	mu sync.Mutex
	m  map[countersign.Digest][]byte
}

func (b *blobs) put(c []byte) countersign.Digest {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := countersign.DigestOf(c)
	b.m[d] = c
	return d
}

func (b *blobs) get(d countersign.Digest) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.m[d]
	if !ok {
		return nil, fmt.Errorf("no artifact %s", d)
	}
	return c, nil
}

// Open implements [admit.Artifacts].
func (b *blobs) Open(_ context.Context, d countersign.Digest) (admit.Artifact, error) {
	c, err := b.get(d)
	if err != nil {
		return nil, err
	}
	return artifact{bytes.NewReader(c)}, nil
}

type artifact struct{ *bytes.Reader }

func (artifact) Close() error { return nil }

// blobReader shows blobs as the code cache wants them.
type blobReader struct{ b *blobs }

func (r blobReader) Open(_ context.Context, d countersign.Digest) (io.ReadCloser, int64, error) {
	c, err := r.b.get(d)
	if err != nil {
		return nil, 0, err
	}
	return io.NopCloser(bytes.NewReader(c)), int64(len(c)), nil
}

// Build builds a Go command of this module, static, once for the process.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	if p := built.m[pkg]; p != "" {
		return p
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "runtest-bin-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.m = dir, make(map[string]string)
	}
	p := filepath.Join(built.dir, filepath.Base(pkg))
	c := exec.Command("go", "build", "-o", p, pkg)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	built.m[pkg] = p
	return p
}

var built struct {
	mu  sync.Mutex
	dir string
	m   map[string]string
}

// Cleanup removes what Build built; TestMain calls it last.
func Cleanup() {
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
}

// echo is the aws-lambda-go function.
func echo(t testing.TB) Files {
	t.Helper()
	b, err := os.ReadFile(Build(t, "countersign/internal/run/runtest/echo"))
	if err != nil {
		t.Fatal(err)
	}
	return Files{"bootstrap": string(b)}
}

// needs skips a test whose interpreter is missing.
func needs(t testing.TB, runtime string) {
	t.Helper()
	table, err := runtimes.New(runtimes.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Resolve(runtime); err != nil {
		testenv.Lacking(t, fmt.Sprintf("%s does not run here: %v", runtime, err))
	}
}
