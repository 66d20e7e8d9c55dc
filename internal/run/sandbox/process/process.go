// Package process is the driver without isolation: a guest is an ordinary
// process of the machine, with the platform's own user, files and network.
//
// It promises nothing about keeping functions apart. It exists for development
// on machines where no sandbox runs, and for tests of everything above a
// sandbox; the operator has to ask for it by name. Every function it runs must
// be trusted like the platform itself.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"countersign/internal/run/sandbox"
)

// A Driver runs guests as processes. It implements [sandbox.Driver].
type Driver struct {
	mu     sync.Mutex
	guests map[*guest]struct{} // guarded by mu
	closed bool                // guarded by mu
}

// New returns a Driver with no guests.
func New() *Driver {
	// What we were started with ourselves, a shell's descriptors for instance,
	// is not for guests. Go's own are marked already. Kernels before 5.11 do
	// not know the call; then guests inherit what we did.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	return &Driver{guests: make(map[*guest]struct{})}
}

// Name is "process".
func (d *Driver) Name() string { return "process" }

// Isolates is false.
func (d *Driver) Isolates() bool { return false }

// SharesFiles is true: a guest sees the machine's own files, so every path in
// a [sandbox.Spec] that is named inside means nothing here. Whoever makes the
// Spec gives host paths throughout.
func (d *Driver) SharesFiles() bool { return true }

// Missing lists everything a sandbox would do.
func (d *Driver) Missing() []string {
	return []string{
		"isolation: functions run as ordinary processes and see the machine's files, processes and network",
		"memory: a function can use all of the machine's",
		"cpu: a function can use every processor",
		"pids: a function can start any number of processes",
		"tmp: functions share the machine's /tmp, without a size",
	}
}

// Start runs s.Init. Mounts, TmpBytes and Limits have no effect.
func (d *Driver) Start(ctx context.Context, s sandbox.Spec) (sandbox.Guest, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start guest %s: %w", s.ID, err)
	}
	if len(s.Init) == 0 {
		return nil, fmt.Errorf("start guest %s: no init command", s.ID)
	}
	toIn, toOut, err := os.Pipe() // platform to guest
	if err != nil {
		return nil, fmt.Errorf("start guest %s: %w", s.ID, err)
	}
	fromIn, fromOut, err := os.Pipe() // guest to platform
	if err != nil {
		toIn.Close()
		toOut.Close()
		return nil, fmt.Errorf("start guest %s: %w", s.ID, err)
	}
	c := exec.Command(s.Init[0], s.Init[1:]...)
	c.Env = append([]string{}, s.Env...) // not nil, which would mean ours
	c.Dir = "/"
	c.Stdout, c.Stderr = s.Stderr, s.Stderr
	c.ExtraFiles = []*os.File{toIn, fromOut} // descriptors 3 and 4
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = c.Start()
	toIn.Close()
	fromOut.Close()
	if err != nil {
		toOut.Close()
		fromIn.Close()
		return nil, fmt.Errorf("start guest %s: %w", s.ID, err)
	}
	g := &guest{d: d, cmd: c, control: control{fromIn, toOut}, done: make(chan struct{})}
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.guests[g] = struct{}{}
	}
	d.mu.Unlock()
	go g.wait()
	if closed {
		_ = g.Kill()
		return nil, fmt.Errorf("start guest %s: the driver is closed", s.ID)
	}
	return g, nil
}

// Close kills every guest.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	all := make([]*guest, 0, len(d.guests))
	for g := range d.guests {
		all = append(all, g)
	}
	d.mu.Unlock()
	var errs []error
	for _, g := range all {
		errs = append(errs, g.Kill())
	}
	return errors.Join(errs...)
}

// A guest is one init and what it started.
type guest struct {
	d       *Driver
	cmd     *exec.Cmd
	control control
	done    chan struct{}
	exit    sandbox.Exit // written before done is closed

	mu   sync.Mutex
	peak int64 // guarded by mu
}

func (g *guest) wait() {
	err := g.cmd.Wait()
	ws, _ := g.cmd.ProcessState.Sys().(syscall.WaitStatus)
	g.exit.Code = g.cmd.ProcessState.ExitCode()
	if ws.Signaled() {
		g.exit.Code = 128 + int(ws.Signal())
	}
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		g.exit.Err = err
	}
	g.d.mu.Lock()
	delete(g.d.guests, g)
	g.d.mu.Unlock()
	g.control.Close()
	close(g.done)
}

func (g *guest) Control() io.ReadWriteCloser { return g.control }
func (g *guest) Done() <-chan struct{}       { return g.done }

func (g *guest) Exit() sandbox.Exit {
	<-g.done
	return g.exit
}

// Kill ends the init; the kernel ends the runtime with it (the init asked for
// that), and the runtime's process group is killed as well.
func (g *guest) Kill() error {
	select {
	case <-g.done:
		return nil
	default:
	}
	for _, pid := range children(g.cmd.Process.Pid) {
		// The runtime leads a group of its own.
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	_ = syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL)
	<-g.done
	return nil
}

// Usage adds up the init and its children.
func (g *guest) Usage() sandbox.Usage {
	pid := g.cmd.Process.Pid
	var u sandbox.Usage
	for _, p := range append(children(pid), pid) {
		now, peak := resident(p)
		u.MemoryBytes += now
		u.PeakMemoryBytes += peak
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peak = max(g.peak, u.PeakMemoryBytes)
	u.PeakMemoryBytes = g.peak
	return u
}

// children lists the direct children of pid: none when it is gone.
func children(pid int) (pids []int) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for f := range strings.FieldsSeq(string(b)) {
			if p, err := strconv.Atoi(f); err == nil {
				pids = append(pids, p)
			}
		}
	}
	return pids
}

// resident reads a process's memory now and at its peak, in bytes: zero when
// it is gone.
func resident(pid int) (now, peak int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range bytes.Lines(b) {
		name, val, _ := bytes.Cut(line, []byte(":"))
		kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(val)), " kB"), 10, 64)
		switch string(name) {
		case "VmRSS":
			now = kb << 10
		case "VmHWM":
			peak = kb << 10
		}
	}
	return now, peak
}

// control joins the two pipes.
type control struct{ in, out *os.File }

func (c control) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c control) Write(b []byte) (int, error) { return c.out.Write(b) }
func (c control) Close() error                { return errors.Join(c.in.Close(), c.out.Close()) }
