// Package sandboxtest is the test of the sandbox.Driver contract. A driver's
// test file is TestMain calling [Main] and one test calling [Run].
//
// What it proves it proves from inside: process 1 of its guests is a probe of
// ours that tries what an attacker would and reports what happened.
package sandboxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"countersign/internal/run/sandbox"
	"countersign/internal/run/sandbox/sandboxtest/ask"
)

// patience is how long anything may take on a machine that is busy with other
// things. Nothing waits that long unless it is broken.
const patience = time.Minute

// Open makes a driver that keeps its things in dir.
type Open func(dir string) (sandbox.Driver, error)

// Main runs a package's tests, or what they start this binary again for.
// It is called last in TestMain: os.Exit(sandboxtest.Main(m, open)).
func Main(m *testing.M, open Open) int {
	if dir := os.Getenv(orphanDir); dir != "" {
		if err := orphan(open, dir, os.Getenv(orphanID)); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	}
	theOpen = open
	defer os.RemoveAll(scratch())
	return m.Run()
}

var theOpen Open // set once, by Main

// scratch is a directory that guests can reach, for this run.
var scratch = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "sandboxtest-")
	if err != nil {
		panic(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	return dir
})

// ProbeVariable names the environment variable that says where the probe is
// for a process that cannot build it.
const ProbeVariable = "SANDBOXTEST_PROBE"

// Probe builds the probe and returns where it is on this machine.
func Probe(t testing.TB) string {
	t.Helper()
	p, err := probe()
	if err != nil {
		t.Fatalf("build the probe: %v", err)
	}
	return p
}

var probe = sync.OnceValues(func() (string, error) {
	if p := os.Getenv(ProbeVariable); p != "" {
		return p, nil
	}
	p := filepath.Join(scratch(), "probe")
	return p, build("countersign/internal/run/sandbox/sandboxtest/probe", p)
})

// Static returns a static binary of the command pkg for guests to be, or the
// empty path when this test binary is static itself and will do.
func Static(pkg string) (string, error) {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" && s.Value == "0" {
			return "", nil
		}
	}
	// Kept from run to run: linking again what has not changed costs seconds.
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "countersign-test")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	p := filepath.Join(dir, filepath.Base(pkg))
	return p, build(pkg, p)
}

func build(pkg, to string) error {
	c := exec.Command("go", "build", "-o", to, pkg)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// newDriver makes a driver for one test.
func newDriver(t *testing.T) sandbox.Driver {
	t.Helper()
	d, err := theOpen(t.TempDir())
	if err != nil {
		t.Fatalf("open the driver: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close the driver: %v", err)
		}
	})
	return d
}

// probePath is where the probe is inside.
const probePath = "/opt/probe"

var serial atomic.Int64

// spec describes a guest with the probe in it and nothing else.
func spec(t testing.TB, d sandbox.Driver) sandbox.Spec {
	t.Helper()
	id := fmt.Sprintf("probe-%d-%d", os.Getpid(), serial.Add(1))
	s := sandbox.Spec{ID: id, TmpBytes: 16 << 20, Stderr: &complaints{t: t}}
	if d.Isolates() {
		s.Init = []string{probePath, id}
		s.Mounts = []sandbox.Mount{{Host: Probe(t), Guest: probePath}}
	} else {
		s.Init = []string{Probe(t), id} // paths mean what they mean on the host
	}
	return s
}

// complaints fails the test when a probe says something it was not told to.
type complaints struct{ t testing.TB }

func (c *complaints) Write(p []byte) (int, error) {
	c.t.Errorf("the probe complains: %s", p)
	return len(p), nil
}

// A guest is a started one and the conversation with it.
type guest struct {
	sandbox.Guest
	t   testing.TB
	dec *json.Decoder
}

// start starts a guest.
func start(t testing.TB, d sandbox.Driver, s sandbox.Spec) *guest {
	t.Helper()
	g, err := d.Start(t.Context(), s)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() { g.Kill() })
	return &guest{g, t, json.NewDecoder(g.Control())}
}

// tell asks without waiting for a reply.
func (g *guest) tell(a ask.Ask) {
	g.t.Helper()
	if err := json.NewEncoder(g.Control()).Encode(a); err != nil {
		g.t.Fatalf("ask %s: %v", a.Do, err)
	}
}

// ask has the probe do something and returns its reply.
func (g *guest) ask(do, arg string, n int) (string, error) {
	g.t.Helper()
	g.tell(ask.Ask{Do: do, Arg: arg, N: n})
	var r ask.Reply
	within(g.t, "reply to "+do, func() {
		if err := g.dec.Decode(&r); err != nil {
			g.t.Errorf("reply to %s: %v", do, err)
		}
	})
	if g.t.Failed() {
		g.t.FailNow()
	}
	if r.Err != "" {
		return r.Text, errors.New(r.Err)
	}
	return r.Text, nil
}

// must is ask for what has to go well.
func (g *guest) must(do, arg string, n int) string {
	g.t.Helper()
	s, err := g.ask(do, arg, n)
	if err != nil {
		g.t.Fatalf("%s %s: %v", do, arg, err)
	}
	return s
}

// ended waits for the end and returns how it came.
func (g *guest) ended() sandbox.Exit {
	g.t.Helper()
	within(g.t, "the guest's end", func() { <-g.Done() })
	return g.Exit()
}

// within fails the test when f takes longer than patience.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s did not come in %v", what, patience)
	}
}

// processes lists those of this machine with word in their command line.
func processes(t testing.TB, word string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		b, err := os.ReadFile(p)
		if err == nil && bytes.Contains(b, []byte(word)) {
			found = append(found, filepath.Dir(p)+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

// until asks cond again and again, for as long as patience lasts.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s did not come in %v", what, patience)
		}
	}
}

// How the orphan test starts this binary again.
const (
	orphanDir = "SANDBOXTEST_ORPHAN_DIR"
	orphanID  = "SANDBOXTEST_ORPHAN_ID"
)

// orphan starts a guest, says so and waits to be killed.
func orphan(open Open, dir, id string) error {
	d, err := open(filepath.Join(dir, "driver"))
	if err != nil {
		return err
	}
	p, err := probe()
	if err != nil {
		return err
	}
	s := sandbox.Spec{ID: id, Init: []string{p, id}}
	if d.Isolates() {
		s.Init[0] = probePath
		s.Mounts = []sandbox.Mount{{Host: p, Guest: probePath}}
	}
	if _, err := d.Start(context.Background(), s); err != nil {
		return err
	}
	fmt.Println("up")
	io.Copy(io.Discard, os.Stdin) // never ends: the test holds the other end until we are dead
	return nil
}
