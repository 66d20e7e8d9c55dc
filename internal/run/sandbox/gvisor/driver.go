// Package gvisor keeps functions apart with gVisor, linked into our binary.
//
// gVisor is a kernel in user space, the sentry: what runs in a guest makes its
// system calls there and never to the host. A guest is two processes of ours
// on the host: the sentry, and a gofer that opens the guest's read-only mounts
// for it and then only waits. Both are this binary under another name (see
// [Reexec]), each root in a user namespace of its own where root is, on the
// host, a user who exists nowhere else (or ourselves, when we are not root),
// without a host capability, in an empty root directory, in an empty network,
// behind gVisor's system call filter. There is no other program, no daemon, no
// state on disk: a guest is its processes, and they die with us.
//
// What a guest sees: its mounts, read-only; a /proc, /dev and /sys that the
// sentry makes up; a /tmp of bounded size; a loopback interface. It trusts the
// host kernel, gVisor, and that whoever can write the configured directory or
// the mounted trees is us.
//
// The packages runsc/container and runsc/sandbox do this for runsc's command
// line. They keep state files, assume that the process has nothing else to do
// and give the guest that process's own stdin, stdout and stderr; so we start
// gVisor's two internal commands ourselves. The flags and the calls are those
// of the pinned version of gVisor.
package gvisor

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"countersign/internal/run/sandbox"
)

// A Config says where and how guests are kept.
type Config struct {
	// Dir is a directory of this driver alone. It is made if missing. Guests'
	// /tmp lives there, in files without names.
	Dir string
	// Exe is the binary that guests' processes are. Empty means this one.
	// It has to call [Reexec] and to be statically linked: a sentry starts
	// itself again where there is no dynamic linker to be found.
	Exe string
	// Log receives what gVisor complains about. Nil is silence.
	Log *slog.Logger
}

// A Driver starts gVisor guests. See [sandbox.Driver].
type Driver struct {
	cfg     Config
	dir     string   // skeletons: readable by whoever guests run as
	root    *os.Root // on dir
	private *os.Root // on cfg.Dir
	lock    *os.File // held on cfg.Dir: one driver at a time
	exe     *os.File // what guests' processes are
	forker  *forker
	groups  *groups // where guests' cgroups go; nil when there is no place

	mu        sync.Mutex        // never held while a guest starts or ends
	guests    map[string]*Guest // guarded by mu; nil is a name taken by a start under way
	skeletons map[string]bool   // guarded by mu

	open     context.Context // cancelled, under mu, by Close
	close    context.CancelFunc
	starting sync.WaitGroup // grows under mu and only while open
}

// New makes a driver on cfg.Dir and frees what an earlier process left there.
// It refuses when another live driver has the directory, and when this
// machine cannot run guests.
func New(cfg Config) (*Driver, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("sandbox directory: %w", err)
	}
	d := &Driver{
		cfg:       cfg,
		guests:    map[string]*Guest{},
		skeletons: map[string]bool{},
	}
	d.open, d.close = context.WithCancel(context.Background())
	if err := d.acquire(); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// acquire takes everything a driver holds; release gives back what was taken.
func (d *Driver) acquire() (err error) {
	if d.exe, err = openExe(d.cfg.Exe); err != nil {
		return err
	}
	if d.private, err = os.OpenRoot(d.cfg.Dir); err != nil {
		return err
	}
	if d.lock, err = d.private.OpenFile("lock", os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := takeLock(d.lock); err != nil {
		return fmt.Errorf("sandbox directory %s is in use: %w", d.cfg.Dir, err)
	}
	sockets, err := filepath.Glob(filepath.Join(d.cfg.Dir, "*.sock"))
	if err != nil {
		return err
	}
	for _, s := range sockets {
		os.Remove(s) // of a process that was killed while it made one
	}
	if err := d.openPublic(); err != nil {
		return err
	}
	d.groups = findGroups(d.cfg.Dir, d.cfg.Log)
	d.forker = newForker()
	return d.trial()
}

// takeLock locks f, waiting a little: what a killed process was just forking
// may have its descriptors for a moment longer.
func takeLock(f *os.File) (err error) {
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// The link that remembers where the public directory is.
const publicLink = "public"

// openPublic makes the directory for skeletons. It cannot be below Dir, which
// nobody else may enter: a guest's gofer is somebody else. It holds empty
// places only.
func (d *Driver) openPublic() error {
	if old, err := d.private.Readlink(publicLink); err == nil {
		// An earlier process of ours was killed. Its guests died with it.
		if err := os.RemoveAll(old); err != nil {
			return fmt.Errorf("free what an earlier process left: %w", err)
		}
		if err := d.private.Remove(publicLink); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, err := os.MkdirTemp("", "countersign-guests-")
	if err != nil {
		return fmt.Errorf("directory for skeletons: %w", err)
	}
	// The link first: from here on a crash is found by the next New.
	if err := d.private.Symlink(dir, publicLink); err != nil {
		os.Remove(dir)
		return err
	}
	d.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	d.root, err = os.OpenRoot(dir)
	return err
}

// release gives up everything but guests.
func (d *Driver) release() error {
	var errs []error
	if d.forker != nil {
		d.forker.close()
	}
	if d.groups != nil {
		errs = append(errs, d.groups.close())
	}
	if d.root != nil {
		errs = append(errs, d.root.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir), d.private.Remove(publicLink))
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	if d.private != nil {
		errs = append(errs, d.private.Close())
	}
	if d.exe != nil {
		errs = append(errs, d.exe.Close())
	}
	return errors.Join(errs...)
}

// exeDescriptor is the least number of the binary's descriptor: above all that
// a guest with maxMounts mounts is given, below the usual limit of 1024.
const exeDescriptor = 256

// openExe opens the binary and checks that guests can be it.
func openExe(path string) (*os.File, error) {
	name := path
	if path == "" {
		path = "/proc/self/exe"
		name, _ = os.Executable()
	}
	low, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer low.Close()
	// A child's donated descriptors are numbered from 3 before it executes
	// the binary; the binary's own must not be among them.
	fd, err := unix.FcntlInt(low.Fd(), unix.F_DUPFD_CLOEXEC, exeDescriptor)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if err := executable(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("guests cannot be run by %s: %w", name, err)
	}
	return f, nil
}

func executable(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 && fi.Mode().Perm()&0o001 == 0 {
		return errors.New("they run as somebody else, who may not execute it: chmod o+x")
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return err
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is dynamically linked: build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// trial starts a process the way guests' are and lets it end. Whether a user
// may have namespaces is up to half a dozen settings and modules; this asks
// all of them.
func (d *Driver) trial() error {
	who, err := newIdentity()
	if err != nil {
		return err
	}
	c := newChild(d.exe, sentryName, trialCommand, who).finish("-")
	if err := d.forker.start(c, nil); err != nil {
		return fmt.Errorf("this user cannot make the namespaces that guests live in: %w", err)
	}
	return c.Wait()
}

// Name is "gvisor".
func (d *Driver) Name() string { return "gvisor" }

// Isolates is true.
func (d *Driver) Isolates() bool { return true }

// Missing names the limits that this machine or user cannot enforce fully.
func (d *Driver) Missing() []string {
	if d.groups == nil {
		return []string{missingCPU, missingMemory}
	}
	return d.groups.missing()
}

// Start starts a guest. See [sandbox.Driver].
func (d *Driver) Start(ctx context.Context, s sandbox.Spec) (sandbox.Guest, error) {
	if err := check(s); err != nil {
		return nil, err
	}
	if err := d.reserve(s.ID); err != nil {
		return nil, err
	}
	defer d.starting.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.open, func() { cancel(errClosed) })()

	g, err := d.start(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("start guest %s: %w", s.ID, err)
	}
	return g, nil
}

var errClosed = errors.New("the driver is closed")

// reserve takes the name for a start; the start ends with starting.Done. The
// name is free again when the start fails or the guest is gone.
func (d *Driver) reserve(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open.Err() != nil {
		return errClosed
	}
	if _, taken := d.guests[id]; taken {
		return fmt.Errorf("guest %s exists", id)
	}
	d.guests[id] = nil
	d.starting.Add(1)
	return nil
}

// forget frees the name of a guest of which nothing is left.
func (d *Driver) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.guests, id)
}

// Close kills every guest and frees what they held.
func (d *Driver) Close() error {
	d.mu.Lock()
	first := d.open.Err() == nil
	d.close()
	d.mu.Unlock()
	if !first {
		return nil
	}
	d.starting.Wait() // starts under way end early
	var wg sync.WaitGroup
	d.mu.Lock()
	for _, g := range d.guests {
		wg.Go(func() { g.Kill() })
	}
	d.mu.Unlock()
	wg.Wait()
	return d.release()
}
