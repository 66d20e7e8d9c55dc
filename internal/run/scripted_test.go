package run

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/run/frame"
	"countersign/internal/run/runtimes"
	"countersign/internal/run/sandbox"
)

// A script is a guest whose every byte the test decides: n counts the guests
// of its driver, from 0.
type script func(g *scripted, n int)

// A scriptDriver starts scripts, in memory, so that they work in a synctest
// bubble.
type scriptDriver struct {
	play  script
	start error // of Start

	mu      sync.Mutex
	started int
	live    int
}

func (d *scriptDriver) Name() string      { return "script" }
func (d *scriptDriver) Isolates() bool    { return true }
func (d *scriptDriver) Missing() []string { return nil }
func (d *scriptDriver) Close() error      { return nil }

func (d *scriptDriver) Start(context.Context, sandbox.Spec) (sandbox.Guest, error) {
	if d.start != nil {
		return nil, d.start
	}
	d.mu.Lock()
	n := d.started
	d.started++
	d.live++
	d.mu.Unlock()
	toIn, toOut := io.Pipe()
	fromIn, fromOut := io.Pipe()
	g := &scripted{driver: d, in: toIn, out: fromOut, control: twoPipes{fromIn, toOut}, done: make(chan struct{})}
	go func() {
		d.play(g, n)
		_ = g.Kill()
	}()
	return g, nil
}

// count is how many guests were started, and how many live.
func (d *scriptDriver) count() (started, live int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.started, d.live
}

type twoPipes struct {
	in  *io.PipeReader
	out *io.PipeWriter
}

func (p twoPipes) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p twoPipes) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p twoPipes) Close() error                { return errors.Join(p.in.Close(), p.out.Close()) }

type scripted struct {
	driver  *scriptDriver
	in      *io.PipeReader // from the platform
	out     *io.PipeWriter
	control twoPipes
	once    sync.Once
	done    chan struct{}
	oom     bool
	buf     []byte
}

func (g *scripted) Control() io.ReadWriteCloser { return g.control }
func (g *scripted) Done() <-chan struct{}       { return g.done }
func (g *scripted) Exit() sandbox.Exit {
	<-g.done
	return sandbox.Exit{Code: 137, OutOfMemory: g.oom}
}
func (g *scripted) Usage() sandbox.Usage { return sandbox.Usage{PeakMemoryBytes: 5<<20 - 1} }

func (g *scripted) Kill() error {
	g.once.Do(func() {
		g.in.CloseWithError(io.ErrClosedPipe)
		g.out.Close()
		g.control.Close()
		g.driver.mu.Lock()
		g.driver.live--
		g.driver.mu.Unlock()
		close(g.done)
	})
	return nil
}

// next is the next frame the platform sends, nil when it hangs up.
func (g *scripted) next() (frame.Type, []byte) {
	for {
		if t, body, rest, _, ok := frame.Split(g.buf); ok {
			g.buf = rest
			return t, body
		}
		b := make([]byte, 4096)
		n, err := g.in.Read(b)
		g.buf = append(g.buf, b[:n]...)
		if err != nil {
			return 0, nil
		}
	}
}

// invocation is the next event, nil when the platform hangs up.
func (g *scripted) invocation() *frame.Invocation {
	for {
		t, body := g.next()
		if t == 0 {
			return nil
		}
		if v, err := frame.ParseInvocation(body); t == frame.TypeInvocation && err == nil {
			return v
		}
	}
}

func (g *scripted) send(b []byte)              { _, _ = g.out.Write(b) }
func (g *scripted) ready()                     { g.send(frame.Append(nil, frame.TypeReady, nil)) }
func (g *scripted) log(s string)               { g.send(text(frame.TypeLog, s)) }
func (g *scripted) respond(id, payload string) { g.reply(frame.TypeResponse, id, payload) }
func (g *scripted) exit(e frame.Exited)        { g.send(e.Append(nil)) }
func text(t frame.Type, s string) []byte {
	return frame.Append(nil, t, func(b []byte) []byte { return append(b, s...) })
}
func (g *scripted) reply(t frame.Type, id, pay string) {
	g.send((&frame.Reply{ID: id, Payload: []byte(pay)}).Append(nil, t))
}

// echo answers every event with itself.
func (g *scripted) echo() {
	g.ready()
	for v := g.invocation(); v != nil; v = g.invocation() {
		g.respond(v.ID, string(v.Payload))
	}
}

// hang does nothing until it is killed.
func (g *scripted) hang() {
	for t, _ := g.next(); t != 0; t, _ = g.next() {
	}
}

// noFiles is a Code without any, and a Runtimes that knows one.
type noFiles struct{ err error }

func (n noFiles) Unpacked(context.Context, admit.Admission) (string, func(), error) {
	return "/nowhere", func() {}, n.err
}
func (noFiles) Resolve(id string) (*runtimes.Runtime, error) {
	return &runtimes.Runtime{ID: id, Family: runtimes.Provided}, nil
}

// record is a Logs.
type record struct {
	mu   sync.Mutex
	text strings.Builder
	err  error
	hold chan struct{} // if set, Append waits for it
}

func (r *record) Append(_ context.Context, _ Place, lines []Line) error {
	if r.hold != nil {
		<-r.hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	for _, l := range lines {
		r.text.WriteString(l.Text)
	}
	return nil
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// A stage is a pool over a script.
type stage struct {
	*Pool
	t   *testing.T
	d   *scriptDriver
	log *record
	adm admit.Admission
	f   Function
	ids int
}

func newStage(t *testing.T, play script, opts ...func(*Config)) *stage {
	t.Helper()
	s := &stage{t: t, d: &scriptDriver{play: play}, log: new(record), adm: admission(t)}
	cfg := Config{Driver: s.d, Code: noFiles{}, Runtimes: noFiles{}, Logs: s.log, Init: "/init"}
	for _, o := range opts {
		o(&cfg)
	}
	var err error
	if s.Pool, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
		if _, live := s.d.count(); live != 0 {
			t.Errorf("after Close: got %d guests", live)
		}
	})
	s.f = Function{
		ARN: "arn:f", Name: "f", Version: "7", Runtime: "provided.al2023", MemoryMB: 128, TimeoutSeconds: 3,
		Artifact: s.adm.Digest(), Revision: "1",
	}
	return s
}

// invoke sends an event with the next id: r1, r2, …
func (s *stage) invoke(payload string) (*Result, error) {
	s.ids++
	return s.Invoke(s.t.Context(), s.adm, s.f, Request{ID: fmt.Sprint("r", s.ids), Payload: []byte(payload), LogTail: true})
}

func (s *stage) want(payload, want string) *Result {
	s.t.Helper()
	r, err := s.invoke(payload)
	if err != nil {
		s.t.Fatalf("invoke: %v", err)
	}
	if string(r.Payload) != want {
		s.t.Errorf("got %s, want %s", r.Payload, want)
	}
	return r
}

// admission is for an empty archive.
func admission(t *testing.T) admit.Admission {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	if _, err := z.Create("bootstrap"); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	adm, err := admit.New(oneArtifact(b.Bytes()), countersign.Trust{}, nil, time.Now).
		Admit(t.Context(), admit.Request{Artifact: countersign.DigestOf(b.Bytes())})
	if err != nil {
		t.Fatal(err)
	}
	return adm
}

type oneArtifact []byte

func (a oneArtifact) Open(context.Context, countersign.Digest) (admit.Artifact, error) {
	return struct {
		*bytes.Reader
		io.Closer
	}{bytes.NewReader(a), io.NopCloser(nil)}, nil
}
