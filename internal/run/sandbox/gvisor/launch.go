package gvisor

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// A child is a process of a guest being put together: this binary under
// another name, in namespaces of its own, with descriptors handed to it.
type child struct {
	cmd   *exec.Cmd
	flags []string
}

// newChild prepares a process that is root in a fresh user namespace, where
// root is the host's user id and nobody else exists.
func newChild(exe *os.File, name, command string, id identity) *child {
	c := &exec.Cmd{
		// By its descriptor: the path may lead through directories of ours
		// that are closed to whom the process will be.
		Path: fmt.Sprintf("/proc/self/fd/%d", exe.Fd()),
		Args: []string{name, command},
		Env:  []string{}, // nothing of ours is in a guest's memory
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:    true, // a terminal's signals are for us to handle
			Pdeathsig: syscall.SIGKILL,
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
				syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: id.uid, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: id.gid, Size: 1}},
			// Our own groups go, where we may drop them.
			GidMappingsEnableSetgroups: id.privileged,
			Credential:                 &syscall.Credential{NoSetGroups: !id.privileged},
		},
	}
	return &child{cmd: c}
}

// donate hands files over; flag tells the child their numbers, one by one.
func (c *child) donate(flag string, files ...*os.File) {
	for _, f := range files {
		c.flags = append(c.flags, "--"+flag+"="+strconv.Itoa(c.give(f)))
	}
}

// give hands f over and returns its number in the child.
func (c *child) give(f *os.File) int {
	c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, f)
	return 2 + len(c.cmd.ExtraFiles)
}

// set adds a flag.
func (c *child) set(flag string, value any) {
	c.flags = append(c.flags, fmt.Sprintf("--%s=%v", flag, value))
}

// finish closes the argument list with the name of the guest.
func (c *child) finish(id string) *exec.Cmd {
	c.cmd.Args = append(append(c.cmd.Args, c.flags...), id)
	return c.cmd
}

// An identity is who a guest's processes are on the host.
type identity struct {
	uid, gid   int
	privileged bool // we are root and may choose
}

// hostIdentity chooses it: ourselves for an ordinary user, who has no other;
// for root the user who owns nothing.
func hostIdentity() identity {
	if uid := os.Geteuid(); uid != 0 {
		return identity{uid: uid, gid: os.Getegid()}
	}
	return identity{uid: nobody, gid: nobody, privileged: true}
}

// nobody is the kernel's overflow id: it owns no file.
const nobody = 65534
