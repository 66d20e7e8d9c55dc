package gvisor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/urpc"

	"countersign/internal/run/sandbox"
)

// A Guest is one gVisor kernel and what runs in it. See [sandbox.Guest].
type Guest struct {
	id     string
	forget func() // frees the name
	limits sandbox.Limits
	pipe   duplex
	sentry *exec.Cmd
	gofer  *exec.Cmd
	rpc    *urpc.Client // to the sentry; used by start only
	group  *cgroup      // nil without cgroups
	talk   tail         // what sentry and gofer wrote to stderr: their last words
	stderr sync.WaitGroup

	mu     sync.Mutex
	memory *os.File // guarded by mu: the file that is the guest's memory, for its size; nil before and after
	peak   int64    // guarded by mu: highest size seen, in bytes
	gone   bool     // guarded by mu: the processes have ended, and what has our name may be another's

	exceeded atomic.Bool  // ended for its memory
	killed   atomic.Bool  // ended by Kill
	exit     sandbox.Exit // written before done is closed
	done     chan struct{}
}

// Control is the stream to process 1's descriptors 3 and 4.
func (g *Guest) Control() io.ReadWriteCloser { return g.pipe }

// Done is closed when no process of the guest is left.
func (g *Guest) Done() <-chan struct{} { return g.done }

// Exit is zero until Done is closed.
func (g *Guest) Exit() sandbox.Exit {
	select {
	case <-g.done:
		return g.exit
	default:
		return sandbox.Exit{}
	}
}

// Kill ends the guest.
func (g *Guest) Kill() error {
	g.killed.Store(true)
	g.end()
	<-g.done
	return nil
}

// end kills the sentry. It is the first process of its PID namespace, so
// every process of the guest dies before it is gone itself. A process that
// has ended already is not an error, nor can its number mean another one: Go
// signals through a descriptor.
func (g *Guest) end() {
	g.sentry.Process.Kill()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.group != nil && !g.gone {
		g.group.release() // dying takes processor time too
	}
}

// reap waits for the guest to end and frees what it held.
func (g *Guest) reap() {
	sentryGone, goferGone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(goferGone)
		g.gofer.Wait()
		// A gofer ends when the sentry hangs up, which is the last thing a
		// sentry does. Where that is not why, the guest has lost its mounts.
		select {
		case <-sentryGone:
		case <-time.After(goodbye):
			g.end()
		}
	}()
	g.sentry.Wait()
	close(sentryGone)
	g.gofer.Process.Kill()
	<-goferGone
	g.stderr.Wait() // ends: nobody is left who could write

	g.closeMemory()
	g.mu.Lock()
	g.gone = true
	g.mu.Unlock()
	if g.group != nil {
		if g.group.oomKilled() {
			g.exceeded.Store(true)
		}
		g.exit.Err = g.group.remove()
	}
	g.verdict()
	g.rpc.Close()
	g.pipe.Close()
	g.forget()
	close(g.done)
}

// goodbye is how long a sentry without a gofer has to end by itself.
const goodbye = time.Second

// verdict says how process 1 ended. The sentry ends as process 1 does.
func (g *Guest) verdict() {
	g.exit.Code = g.sentry.ProcessState.ExitCode()
	if ws, ok := g.sentry.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		g.exit.Code = 128 + int(ws.Signal())
	}
	g.exit.OutOfMemory = g.exceeded.Load()
	if said := g.talk.String(); said != "" && !g.killed.Load() && !g.exceeded.Load() {
		g.exit.Err = errors.Join(g.exit.Err, fmt.Errorf("gvisor: %s", said))
	}
}

// A duplex is two pipes as one stream.
type duplex struct {
	r, w *os.File
}

func (d duplex) Read(p []byte) (int, error)  { return d.r.Read(p) }
func (d duplex) Write(p []byte) (int, error) { return d.w.Write(p) }

// Close may come twice, from the guest's end and from its owner.
func (d duplex) Close() error {
	err := errors.Join(d.w.Close(), d.r.Close())
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte // guarded by mu
}

const tailBytes = 4 << 10 // enough for the top of a panic

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// A panic says what it is about first, so the beginning is what is kept.
	if room := tailBytes - len(t.b); room > 0 {
		t.b = append(t.b, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
