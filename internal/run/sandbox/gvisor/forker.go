package gvisor

import (
	"fmt"
	"math"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// A forker starts processes from one operating system thread that lives as
// long as this process.
//
// Two properties of Linux make that thread necessary. A child's parent-death
// signal fires when the thread that forked it ends, and Go ends threads; ours
// never does, so the signal means what it says. And in cgroup v1 a thread can
// step into a cgroup alone: what it forks there is inside from its first
// instruction, with no moment in which it could have forked something outside.
type forker struct {
	work chan func()
}

func newForker() *forker {
	f := &forker{work: make(chan func())}
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the forker
		for w := range f.work {
			w()
		}
	}()
	return f
}

// close ends the thread, and with it any child there still is.
func (f *forker) close() { close(f.work) }

// start starts c inside cg, which may be nil.
func (f *forker) start(c *exec.Cmd, cg *cgroup) error {
	done := make(chan error, 1)
	f.work <- func() { done <- startIn(c, cg) }
	return <-done
}

// firstGiven is the first descriptor above the standard three.
const firstGiven = 3

// startIn runs on the forker's thread.
func startIn(c *exec.Cmd, cg *cgroup) error {
	// A child gets what it is given and nothing else. Not everybody in this
	// process opens descriptors so that they close on exec; gVisor's own calls
	// do not, and what they bring is other guests' memory.
	if err := unix.CloseRange(firstGiven, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep descriptors from a guest: %w", err)
	}
	if cg == nil {
		return c.Start()
	}
	if cg.unified {
		d, err := cg.openDir()
		if err != nil {
			return err
		}
		defer d.Close()
		c.SysProcAttr.UseCgroupFD = true
		c.SysProcAttr.CgroupFD = int(d.Fd())
		return c.Start()
	}
	home, err := cg.enter()
	if err != nil {
		return err
	}
	defer home()
	return c.Start()
}
