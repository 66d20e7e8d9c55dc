package gvisor

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"
	"gvisor.dev/gvisor/runsc/container"
)

// listen returns the socket on which the sentry takes commands, and connects
// g.rpc to it. The socket's name is gone before anybody else could use it:
// whoever has such a connection owns the guest.
func (g *Guest) listen(dir *os.Root) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	listener := os.NewFile(uintptr(fd), "control")
	d, err := dir.Open(".")
	if err != nil {
		listener.Close()
		return nil, err
	}
	defer d.Close()
	// A socket's path may have 107 bytes; Dir may be longer.
	path := fmt.Sprintf("/proc/self/fd/%d/%s.sock", d.Fd(), g.id)
	conn, err := connect(fd, path)
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	g.rpc = urpc.NewClient(conn)
	return listener, nil
}

// connect binds fd to path, connects to it, and removes path.
func connect(fd int, path string) (*unet.Socket, error) {
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, err
	}
	defer os.Remove(path)
	if err := unix.Listen(fd, 1); err != nil {
		return nil, err
	}
	return unet.Connect(path, false)
}

// loopback is all the network a guest has.
func loopback() *boot.CreateLinksAndRoutesArgs {
	return &boot.CreateLinksAndRoutesArgs{LoopbackLinks: []boot.LoopbackLink{boot.DefaultLoopbackLink}}
}

// goferToHostRPC answers the one question a gofer has: to open a mount's
// source that its own user may not reach, such as a tree below a private
// directory of ours. gVisor calls it by this name. The gofer asks while it
// sets up, before any code of the guest runs, for what is in allowed.
type goferToHostRPC struct {
	pid     int
	allowed map[string]bool
	mu      sync.Mutex
}

// OpenMount returns a handle on the source inside the gofer's mount
// namespace: only there can it be bound.
func (r *goferToHostRPC) OpenMount(args *container.OpenMountArgs, res *container.OpenMountResult) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.allowed[args.Mount.Source] {
		return fmt.Errorf("%s is not a mount of this guest", args.Mount.Source)
	}
	type answer struct {
		f   *os.File
		err error
	}
	done := make(chan answer)
	go func() {
		// The thread changes its mount namespace and so must end, not be
		// used again: a locked goroutine that returns ends its thread.
		runtime.LockOSThread()
		f, err := openIn(r.pid, args.Mount.Source)
		done <- answer{f, err}
	}()
	a := <-done
	if a.err != nil {
		return a.err
	}
	res.Files = []*os.File{a.f}
	return nil
}

// openIn opens path in the mount namespace of pid. It spoils the thread.
func openIn(pid int, path string) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("enter the gofer's mounts: %w", err)
	}
	return os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
}
