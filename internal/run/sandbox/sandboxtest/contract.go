package sandboxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"countersign/internal/run/sandbox"
	"countersign/internal/run/sandbox/sandboxtest/ask"
)

// Run tests the driver that [Main] was given. What only a sandbox can promise
// is asked of drivers that say they are one.
func Run(t *testing.T) {
	t.Run("FreesEverything", freesEverything) // counts what this process holds, so it is alone
	for _, c := range []struct {
		name string
		test func(*testing.T, sandbox.Driver)
	}{
		{"Echo", echo},
		{"EndsWithCode", endsWithCode},
		{"EndsBySignal", endsBySignal},
		{"Kill", kill},
		{"CancelAfterStart", cancelAfterStart},
		{"CancelledStart", cancelledStart},
		{"InitMissing", initMissing},
		{"Close", closes},
		{"Environment", environment},
		{"Stderr", stderr},
		{"Descriptors", descriptors},
		{"DiesWithUs", diesWithUs},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, newDriver(t))
		})
	}
	for _, c := range []struct {
		name string
		test func(*testing.T, sandbox.Driver)
	}{
		{"SameNameTwice", sameNameTwice},
		{"Identity", identity},
		{"FilesNotListed", filesNotListed},
		{"MountsAreReadOnly", mountsAreReadOnly},
		{"MountInPrivateFolder", mountInPrivateFolder},
		{"TmpIsPrivate", tmpIsPrivate},
		{"TmpIsBounded", tmpIsBounded},
		{"Processes", hostProcesses},
		{"Network", network},
		{"Loopback", guestLoopback},
		{"MemoryIsBounded", memoryIsBounded},
		{"MemoryIsCounted", memoryIsCounted},
		{"ProcessesAreBounded", processesAreBounded},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t)
			if !d.Isolates() {
				t.Skipf("the %s driver does not isolate", d.Name())
			}
			c.test(t, d)
		})
	}
}

func echo(t *testing.T, d sandbox.Driver) {
	g := start(t, d, spec(t, d))
	for _, text := range []string{"hello", "", strings.Repeat("0123456789abcdef", 6<<20/16)} {
		if got := g.must(ask.Echo, text, 0); got != text {
			t.Errorf("echo of %d bytes: got %d others", len(text), len(got))
		}
	}
}

func endsWithCode(t *testing.T, d sandbox.Driver) {
	for _, code := range []int{0, 1, 42, 255} {
		g := start(t, d, spec(t, d))
		g.tell(ask.Ask{Do: ask.Exit, N: code})
		if got := g.ended(); got != (sandbox.Exit{Code: code}) {
			t.Errorf("exit %d: got %+v", code, got)
		}
		if _, err := g.Control().Read(make([]byte, 1)); err == nil {
			t.Error("the control stream outlives the guest")
		}
	}
}

func endsBySignal(t *testing.T, d sandbox.Driver) {
	s := spec(t, d)
	s.Stderr = nil // Go's runtime has something to say about it
	g := start(t, d, s)
	// Not SIGKILL: the first process of a PID namespace is immune to its own.
	g.tell(ask.Ask{Do: ask.Die, N: int(syscall.SIGSEGV)})
	// Go's handler turns the signal into an exit with code 2.
	if got, want := g.ended(), (sandbox.Exit{Code: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func kill(t *testing.T, d sandbox.Driver) {
	s := spec(t, d)
	g := start(t, d, s)
	g.must(ask.Fork, "", 3)
	within(t, "Kill", func() {
		if err := g.Kill(); err != nil {
			t.Errorf("kill: %v", err)
		}
	})
	select {
	case <-g.Done():
	default:
		t.Error("Kill returned before Done was closed")
	}
	if left := processes(t, s.ID); len(left) > 0 {
		t.Errorf("left after Kill: %q", left)
	}
	if got, want := g.Exit(), (sandbox.Exit{Code: 137}); got != want {
		t.Errorf("exit: got %+v, want %+v", got, want)
	}
	if err := g.Kill(); err != nil {
		t.Errorf("kill what is gone: %v", err)
	}
	start(t, d, s).must(ask.Echo, "the name is free again", 0)
}

func cancelAfterStart(t *testing.T, d sandbox.Driver) {
	ctx, cancel := context.WithCancel(t.Context())
	inner, err := d.Start(ctx, spec(t, d))
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Kill()
	cancel()
	g := &guest{inner, t, json.NewDecoder(inner.Control())}
	g.must(ask.Echo, "still here", 0)
}

func cancelledStart(t *testing.T, d sandbox.Driver) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := spec(t, d)
	if g, err := d.Start(ctx, s); err == nil {
		g.Kill()
		t.Error("a cancelled start started")
	}
	if left := processes(t, s.ID); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func initMissing(t *testing.T, d sandbox.Driver) {
	s := spec(t, d)
	s.Init[0] += "-that-is-not-there"
	if g, err := d.Start(t.Context(), s); err == nil {
		g.Kill()
		t.Error("a guest without an init started")
	}
	if left := processes(t, s.ID); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func sameNameTwice(t *testing.T, d sandbox.Driver) {
	s := spec(t, d)
	g := start(t, d, s)
	if other, err := d.Start(t.Context(), s); err == nil {
		other.Kill()
		t.Error("two guests have one name")
	}
	g.must(ask.Echo, "not disturbed", 0)
}

func closes(t *testing.T, d sandbox.Driver) {
	specs := []sandbox.Spec{spec(t, d), spec(t, d)}
	var guests []*guest
	for _, s := range specs {
		guests = append(guests, start(t, d, s))
	}
	if err := d.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	for i, g := range guests {
		g.ended()
		if left := processes(t, specs[i].ID); len(left) > 0 {
			t.Errorf("left after Close: %q", left)
		}
	}
	if g, err := d.Start(t.Context(), spec(t, d)); err == nil {
		g.Kill()
		t.Error("a closed driver starts guests")
	}
	if err := d.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

func environment(t *testing.T, d sandbox.Driver) {
	for _, want := range [][]string{
		{"A=1", "EMPTY=", "HOME=/tmp", "SPACED=two words", "UTF8=ü"},
		nil,
	} {
		s := spec(t, d)
		s.Env = want
		got := strings.FieldsFunc(start(t, d, s).must(ask.Env, "", 0), func(r rune) bool { return r == '\n' })
		slices.Sort(got)
		// A container runtime gives a process a home where it was given none.
		got = slices.DeleteFunc(got, func(kv string) bool { return kv == "HOME=/" })
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func stderr(t *testing.T, d sandbox.Driver) {
	s := spec(t, d)
	var b bytes.Buffer
	s.Stderr = &b
	g := start(t, d, s)
	g.must(ask.Say, "listen. ", 0)
	g.tell(ask.Ask{Do: ask.Exit})
	g.ended() // what was said is in b when the guest is done
	if got, want := b.String(), "listen. listen. "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func descriptors(t *testing.T, d sandbox.Driver) {
	g := start(t, d, spec(t, d))
	if got, want := g.must(ask.Descriptors, "", 0), "0 1 2 3 4"; got != want {
		t.Errorf("open in process 1: got %s, want %s", got, want)
	}
}

func identity(t *testing.T, d sandbox.Driver) {
	g := start(t, d, spec(t, d))
	got := g.must(ask.Identity, "", 0)
	if !strings.HasPrefix(got, "pid 1 ") || strings.Contains(got, "id 0 ") || strings.HasSuffix(got, "gid 0") {
		t.Errorf("got %q, want process 1 and nobody's root", got)
	}
	status := g.must(ask.Read, "/proc/self/status", 0)
	for line := range strings.Lines(status) {
		if k, v, _ := strings.Cut(strings.TrimSpace(line), ":\t"); strings.HasPrefix(k, "Cap") && strings.Trim(v, "0") != "" {
			t.Errorf("it has capabilities: %s", line)
		}
	}
}

func filesNotListed(t *testing.T, d sandbox.Driver) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, d, spec(t, d))
	for _, p := range []string{
		secret, exe, "/etc/passwd", "/etc/shadow", "/proc/1/root" + secret, "/proc/self/root" + secret,
		probePath + "/../../../../.." + secret, "/usr/bin/env", "/home",
	} {
		if text, err := g.ask(ask.Read, p, 0); err == nil {
			t.Errorf("it reads %s: %.20q", p, text)
		}
	}
	top := strings.Fields(g.must(ask.List, "/", 0))
	if want := []string{"dev", "opt", "proc", "sys", "tmp"}; !slices.Equal(top, want) {
		t.Errorf("it sees %q, want %q", top, want)
	}
	// What a guest's kernel makes up must not be the host's.
	if mine, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		if text, err := g.ask(ask.Read, "/proc/sys/kernel/random/boot_id", 0); err == nil && text == string(mine) {
			t.Error("it sees the host's boot id")
		}
	}
	if host, err := os.Hostname(); err == nil {
		if text, err := g.ask(ask.Read, "/proc/sys/kernel/hostname", 0); err == nil && strings.TrimSpace(text) == host {
			t.Error("it sees the host's name")
		}
	}
	for _, dev := range []string{"/dev/kvm", "/dev/vda", "/dev/sda", "/dev/mem", "/dev/kmsg"} {
		if _, err := g.ask(ask.Read, dev, 0); err == nil {
			t.Errorf("it reads %s", dev)
		}
	}
}

func mountsAreReadOnly(t *testing.T, d sandbox.Driver) {
	tree := t.TempDir()
	for p := tree; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		os.Chmod(p, 0o777)
	}
	if err := os.WriteFile(filepath.Join(tree, "file"), []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	os.Chmod(filepath.Join(tree, "file"), 0o666)
	s := spec(t, d)
	s.Mounts = append(s.Mounts, sandbox.Mount{Host: tree, Guest: "/var/task"})
	g := start(t, d, s)
	if got := g.must(ask.Read, "/var/task/file", 0); got != "mine" {
		t.Errorf("read: got %q", got)
	}
	for _, p := range []string{"/var/task/file", "/var/task/new", probePath, "/new", "/opt/new", "/var/new", "/proc/sys/kernel/hostname", "/dev/new", "/sys/new"} {
		if _, err := g.ask(ask.Write, p, 1); err == nil {
			t.Errorf("it writes %s", p)
		}
	}
	b, err := os.ReadFile(filepath.Join(tree, "file"))
	if err != nil || string(b) != "mine" {
		t.Errorf("the host's file: %q, %v", b, err)
	}
}

// mountInPrivateFolder: artifacts are below a folder that only we may enter,
// and guests do not run as us.
func mountInPrivateFolder(t *testing.T, d sandbox.Driver) {
	private := filepath.Join(t.TempDir(), "private")
	if err := os.MkdirAll(filepath.Join(private, "tree/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"tree/file", "tree/sub/file"} {
		if err := os.WriteFile(filepath.Join(private, p), []byte(p), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	s := spec(t, d)
	s.Mounts = append(s.Mounts,
		sandbox.Mount{Host: filepath.Join(private, "tree"), Guest: "/var/task"},
		sandbox.Mount{Host: filepath.Join(private, "tree/file"), Guest: "/var/one"})
	g := start(t, d, s)
	for at, want := range map[string]string{"/var/task/file": "tree/file", "/var/task/sub/file": "tree/sub/file", "/var/one": "tree/file"} {
		if got := g.must(ask.Read, at, 0); got != want {
			t.Errorf("%s: got %q, want %q", at, got, want)
		}
	}
}

func tmpIsPrivate(t *testing.T, d sandbox.Driver) {
	a, b := start(t, d, spec(t, d)), start(t, d, spec(t, d))
	if got := a.must(ask.List, "/tmp", 0); got != "" {
		t.Errorf("a new /tmp has %q in it", got)
	}
	a.must(ask.Write, "/tmp/mine", 10)
	if _, err := b.ask(ask.Read, "/tmp/mine", 0); err == nil {
		t.Error("one guest reads another's /tmp")
	}
	if _, err := os.Stat("/tmp/mine"); err == nil {
		t.Error("a guest's /tmp is the host's")
	}
}

func tmpIsBounded(t *testing.T, d sandbox.Driver) {
	s := spec(t, d)
	s.TmpBytes = 8 << 20
	s.Limits.MemoryBytes = 64 << 20
	g := start(t, d, s)
	g.must(ask.Write, "/tmp/a", 6<<20)
	if _, err := g.ask(ask.Write, "/tmp/b", 6<<20); err == nil {
		t.Errorf("12 MB fit into a /tmp of 8")
	}
	g.must(ask.Echo, "a full /tmp is no reason to die", 0)
}

func hostProcesses(t *testing.T, d sandbox.Driver) {
	g := start(t, d, spec(t, d))
	var pids []string
	for name := range strings.SplitSeq(g.must(ask.List, "/proc", 0), "\n") {
		if _, err := strconv.Atoi(name); err == nil {
			pids = append(pids, name)
		}
	}
	if !slices.Equal(pids, []string{"1"}) {
		t.Errorf("it sees processes %q, want itself", pids)
	}
	victim := exec.Command("sleep", "1000")
	if err := victim.Start(); err != nil {
		t.Skipf("no process to aim at: %v", err)
	}
	defer victim.Wait()
	defer victim.Process.Kill()
	for _, pid := range []int{victim.Process.Pid, os.Getpid(), os.Getppid()} {
		if pid == 1 {
			continue
		}
		if _, err := g.ask(ask.Signal, "", pid); err == nil {
			t.Errorf("it signals process %d of the host", pid)
		}
	}
}

func network(t *testing.T, d sandbox.Driver) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	all, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	abstract, err := net.Listen("unix", fmt.Sprintf("@sandboxtest-%d-%d", os.Getpid(), serial.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	named, err := net.Listen("unix", filepath.Join(scratch(), fmt.Sprintf("%d.sock", serial.Add(1))))
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	s := spec(t, d)
	s.Mounts = append(s.Mounts, sandbox.Mount{Host: scratch(), Guest: "/var/sockets"})
	g := start(t, d, s)
	port := all.Addr().(*net.TCPAddr).Port
	targets := []string{
		"tcp " + tcp.Addr().String(),
		fmt.Sprintf("tcp [::1]:%d", port),
		"unix " + abstract.Addr().String(),
		"unix /var/sockets/" + filepath.Base(named.Addr().String()),
		"tcp 192.0.2.1:80", "tcp 169.254.169.254:80", "udp 8.8.8.8:53", "tcp [2001:db8::1]:80",
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			targets = append(targets, fmt.Sprintf("tcp %s:%d", n.IP, port))
		}
	}
	for _, target := range targets {
		if _, err := g.ask(ask.Dial, target, 0); err == nil {
			t.Errorf("it connects to %s", target)
		}
	}
}

func guestLoopback(t *testing.T, d sandbox.Driver) {
	g := start(t, d, spec(t, d))
	if got := g.must(ask.Loopback, "round trip", 0); got != "round trip" {
		t.Errorf("got %q", got)
	}
}

func memoryIsBounded(t *testing.T, d sandbox.Driver) {
	s := spec(t, d)
	s.Stderr = nil
	s.Limits.MemoryBytes = 64 << 20
	g := start(t, d, s)
	g.must(ask.Allocate, "", 32) // half of it is fine
	g.must(ask.Echo, "fine", 0)
	g.tell(ask.Ask{Do: ask.Allocate, N: 400})
	got := g.ended()
	if !got.OutOfMemory || got.Code != 137 || got.Err != nil {
		t.Errorf("got %+v, want the end by memory, code 137", got)
	}
	// How late depends on how busy the machine is; never is too late.
	if peak := g.Usage().PeakMemoryBytes; peak > 400<<20 {
		t.Errorf("it held %d MB, and its limit is %d", peak>>20, s.Limits.MemoryBytes>>20)
	}
}

func memoryIsCounted(t *testing.T, d sandbox.Driver) {
	g := start(t, d, spec(t, d))
	g.must(ask.Echo, "", 0)
	before := g.Usage()
	g.must(ask.Allocate, "", 50)
	after := g.Usage()
	if grown := after.MemoryBytes - before.MemoryBytes; grown < 45<<20 || grown > 80<<20 {
		t.Errorf("50 MB allocated, and usage grew by %d MB", grown>>20)
	}
	if after.PeakMemoryBytes < after.MemoryBytes {
		t.Errorf("the peak %d is below the present %d", after.PeakMemoryBytes, after.MemoryBytes)
	}
}

func processesAreBounded(t *testing.T, d sandbox.Driver) {
	s := spec(t, d)
	s.Limits.PIDs = 40
	g := start(t, d, s)
	n, err := g.ask(ask.Fork, "", 500)
	if err == nil {
		t.Errorf("%s processes fit into a limit of 40", n)
	}
	if n == "0" {
		t.Error("not one process fits into a limit of 40")
	}
	g.must(ask.Echo, "and the others live on", 0)
	start(t, d, spec(t, d)).must(ask.Echo, "next door too", 0)
}

// diesWithUs kills a process that has a guest, in the way nobody can prepare for.
func diesWithUs(t *testing.T, _ sandbox.Driver) {
	dir := t.TempDir()
	id := fmt.Sprintf("orphan-%d-%d", os.Getpid(), serial.Add(1))
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), orphanDir+"="+dir, orphanID+"="+id, ProbeVariable+"="+Probe(t))
	hold, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil || string(line[:n]) != "up\n" {
		rest, _ := io.ReadAll(out)
		t.Fatalf("the doomed process: %q, %v", string(line[:n])+string(rest), err)
	}
	if len(processes(t, id)) == 0 {
		t.Fatal("its guest cannot be found")
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "the orphans' end", func() bool { return len(processes(t, id)) == 0 })

	// The next process finds the place usable and its name free.
	d, err := theOpen(filepath.Join(dir, "driver"))
	if err != nil {
		t.Fatalf("open after the kill: %v", err)
	}
	defer d.Close()
	s := spec(t, d)
	s.ID = id
	start(t, d, s).must(ask.Echo, "again", 0)
}

// freesEverything counts what this process and machine hold before and after.
func freesEverything(t *testing.T) {
	d := newDriver(t)
	round := func() {
		s := spec(t, d)
		g := start(t, d, s)
		g.must(ask.Write, "/tmp/sandboxtest-file", 1<<20)
		g.must(ask.Fork, "", 2)
		if err := g.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	round() // what is made once is made
	before := holdings(t)
	for range 3 {
		round()
	}
	os.Remove("/tmp/sandboxtest-file") // of a driver without a /tmp of its own
	until(t, "a state as before", func() bool { return holdings(t) == before })
}

// holdings counts descriptors, threads' children and mounts.
func holdings(t *testing.T) (h struct{ descriptors, children, mounts int }) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	h.descriptors = len(fds)
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tasks {
		b, _ := os.ReadFile(p)
		h.children += len(bytes.Fields(b))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	h.mounts = bytes.Count(mounts, []byte("\n"))
	return h
}
