package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/hostos"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"

	"countersign/internal/run/sandbox"
)

// start makes a guest and returns when its process 1 runs. After an error
// nothing of the guest is left.
func (d *Driver) start(ctx context.Context, s sandbox.Spec) (_ *Guest, err error) {
	g := &Guest{id: s.ID, forget: func() { d.forget(s.ID) }, limits: s.Limits, done: make(chan struct{})}
	forked := false // from then on reap frees everything
	defer func() {
		if !forked {
			err = errors.Join(err, g.discard())
			g.forget()
		}
	}()
	var theirs files // the children's ends, closed here once they have them
	defer theirs.close()

	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	booted, ask, err := d.prepare(g, s, &theirs)
	if err != nil {
		return nil, err
	}
	defer booted.Close()
	if err := g.fork(d.forker); err != nil {
		return nil, err
	}
	if err := serveGofer(ask, g.gofer.Process.Pid, s.Mounts); err != nil {
		g.end()
	}
	theirs.close()
	forked = true
	d.mu.Lock()
	d.guests[s.ID] = g
	d.mu.Unlock()
	go g.reap()
	defer context.AfterFunc(ctx, g.end)()

	if err := g.boot(booted); err != nil {
		if !errors.As(err, new(urpc.RemoteError)) {
			// The sentry hung up. If it broke, it has the time to say why.
			select {
			case <-g.done:
			case <-time.After(lastWords):
			}
		}
		g.end()
		<-g.done
		return nil, errors.Join(context.Cause(ctx), err, g.exit.Err)
	}
	if s.Limits.MemoryBytes > 0 {
		go g.watch()
	}
	return g, nil
}

// lastWords is how long a panic may take to be written down.
const lastWords = 500 * time.Millisecond

// prepare puts the guest's two processes together, up to starting them. It
// returns what the sentry says on when it is up, and the socket on which the
// gofer asks.
func (d *Driver) prepare(g *Guest, s sandbox.Spec, theirs *files) (booted, ask *os.File, err error) {
	skeleton, err := d.skeleton(s.Mounts)
	if err != nil {
		return nil, nil, err
	}
	who, err := newIdentity()
	if err != nil {
		return nil, nil, err
	}
	gofer, sentry := newChild(d.exe, goferName, "gofer", who), newChild(d.exe, sentryName, "boot", who)
	for _, c := range []*child{gofer, sentry} {
		spec, err := theirs.add(asFile(runtimeSpec(s, skeleton))) // one each: both read it, at the same time
		if err != nil {
			return nil, nil, err
		}
		c.set("bundle", "/")
		c.set("gofer-mount-confs", mountConfs(s))
		c.donate("spec-fd", spec)
	}
	// Between the two: a connection for each mount, the root first, and what
	// the gofer found the mounts to be.
	for range 1 + len(s.Mounts) {
		a, b, err := theirs.sockets()
		if err != nil {
			return nil, nil, err
		}
		gofer.donate("io-fds", a)
		sentry.donate("io-fds", b)
	}
	mountsRead, mountsWrite, err := theirs.pipe()
	if err != nil {
		return nil, nil, err
	}
	gofer.donate("mounts-fd", mountsWrite)
	sentry.donate("mounts-fd", mountsRead)

	// Between them and us.
	ask, askGofer, err := theirs.sockets()
	if err != nil {
		return nil, nil, err
	}
	gofer.donate("rpc-fd", askGofer)
	control, err := theirs.add(g.listen(d.private))
	if err != nil {
		return nil, nil, err
	}
	sentry.donate("controller-fd", control)
	scratch, err := theirs.add(d.scratch())
	if err != nil {
		return nil, nil, err
	}
	sentry.donate("gofer-filestore-fds", scratch)
	if err := g.connect(sentry, s.Stderr, theirs); err != nil {
		return nil, nil, err
	}

	memory, err := hostos.TotalSystemMemory()
	if err != nil {
		return nil, nil, err
	}
	if l := s.Limits.MemoryBytes; l > 0 {
		memory = min(memory, uint64(l))
	}
	sentry.set("setup-root", true) // into an empty directory, before anything of the guest runs
	sentry.set("apply-caps", true) // then without the capabilities that took
	sentry.set("attached", true)   // dies with us, through every change of credentials
	sentry.set("cpu-num", processors(s.Limits))
	sentry.set("total-memory", memory)
	sentry.set("total-host-memory", memory) // the host's is not the guest's to know
	sentry.set("product-name", hostname)
	sentry.set(tasksFlag, s.Limits.PIDs)

	if d.groups != nil {
		if g.group, err = d.groups.make(s.ID, s.Limits); err != nil {
			return nil, nil, err
		}
	}
	booted, bootedWrite, err := os.Pipe() // last: nothing fails after it
	if err != nil {
		return nil, nil, err
	}
	*theirs = append(*theirs, bootedWrite)
	sentry.donate("start-sync-fd", bootedWrite)
	g.gofer, g.sentry = gofer.finish(s.ID), sentry.finish(s.ID)
	g.gofer.Stderr, g.sentry.Stderr = &g.talk, &g.talk
	return booted, ask, nil
}

// connect gives the sentry what becomes process 1's descriptors: nothing to
// read on 0, our log on 1 and 2, the control stream on 3 and 4.
func (g *Guest) connect(sentry *child, stderr io.Writer, theirs *files) error {
	null, err := theirs.add(os.OpenFile(os.DevNull, os.O_RDWR, 0))
	if err != nil {
		return err
	}
	out := null
	if stderr != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		*theirs = append(*theirs, w)
		out = w
		g.stderr.Go(func() {
			defer r.Close()
			io.Copy(stderr, r)
		})
	}
	sentry.donate("stdio-fds", null, out, out)

	in, inWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	*theirs = append(*theirs, in, outWrite)
	for _, p := range []*os.File{inWrite, outRead} {
		// Payloads are megabytes. Where this is refused they take more turns.
		if c, err := p.SyscallConn(); err == nil {
			c.Control(func(fd uintptr) { unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes) })
		}
	}
	g.pipe = duplex{r: outRead, w: inWrite}
	sentry.set("pass-fd", fmt.Sprintf("%d:3", sentry.give(in)))
	sentry.set("pass-fd", fmt.Sprintf("%d:4", sentry.give(outWrite)))
	return nil
}

// pipeBytes is how much of a message may be under way. An ordinary user may
// have 64 MB in all his pipes: enough for a hundred guests.
const pipeBytes = 256 << 10

// fork starts both processes, or none.
func (g *Guest) fork(f *forker) error {
	if err := f.start(g.gofer, g.group); err != nil {
		return fmt.Errorf("gofer: %w", err)
	}
	if err := f.start(g.sentry, g.group); err != nil {
		g.gofer.Process.Kill()
		g.gofer.Wait()
		return fmt.Errorf("sentry: %w", err)
	}
	return nil
}

// discard frees what a guest holds that never had a process.
func (g *Guest) discard() error {
	if g.rpc != nil {
		g.rpc.Close()
	}
	if g.pipe.r != nil {
		g.pipe.Close()
	}
	if g.group != nil {
		return g.group.remove()
	}
	return nil
}

// serveGofer answers the gofer's questions on sock until the gofer hangs up.
func serveGofer(sock *os.File, pid int, mounts []sandbox.Mount) error {
	fd, err := unix.FcntlInt(sock.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	conn, err := unet.NewSocket(fd)
	if err != nil {
		return err
	}
	r := &goferToHostRPC{pid: pid, allowed: map[string]bool{}}
	for _, m := range mounts {
		r.allowed[m.Host] = true
	}
	srv := urpc.NewServer()
	srv.Register(r)
	srv.StartHandling(conn)
	return nil
}

// boot waits for the guest's kernel and has it start process 1.
func (g *Guest) boot(booted io.Reader) error {
	if _, err := io.ReadFull(booted, make([]byte, 1)); err != nil {
		return errors.New("the sentry ended before it was up")
	}
	if err := g.openMemory(); err != nil {
		return err
	}
	if err := g.rpc.Call(boot.ContMgrSetNetworkArgs, loopback(), nil); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := g.rpc.Call(boot.ContMgrRootContainerStart, &g.id, nil); err != nil {
		return fmt.Errorf("process 1: %w", err)
	}
	if g.group == nil {
		return nil
	}
	// Only now: the guest's kernel starts at the machine's speed.
	return g.group.throttle(g.limits)
}

// files are descriptors to be closed together.
type files []*os.File

func (fs *files) close() {
	for _, f := range *fs {
		f.Close()
	}
	*fs = nil
}

func (fs *files) add(f *os.File, err error) (*os.File, error) {
	if err == nil {
		*fs = append(*fs, f)
	}
	return f, err
}

func (fs *files) pipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err == nil {
		*fs = append(*fs, r, w)
	}
	return r, w, err
}

func (fs *files) sockets() (a, b *os.File, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	a, b = os.NewFile(uintptr(p[0]), "a"), os.NewFile(uintptr(p[1]), "b")
	*fs = append(*fs, a, b)
	return a, b, nil
}
