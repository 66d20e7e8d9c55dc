package gvisor

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
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

// newIdentity chooses one for a guest: ourselves for an ordinary user, who has
// no other; for root a number that nobody has. A shared one such as nobody's
// would let whatever else runs under it trace a sentry and read a function's
// memory.
func newIdentity() (identity, error) {
	if uid := os.Geteuid(); uid != 0 {
		return identity{uid: uid, gid: os.Getegid()}, nil
	}
	uid, err := unusedID("/proc/self/uid_map")
	if err != nil {
		return identity{}, err
	}
	gid, err := unusedID("/proc/self/gid_map")
	if err != nil {
		return identity{}, err
	}
	return identity{uid: uid, gid: gid, privileged: true}, nil
}

// Where users and groups are not: above what distributions, containers and
// systemd give out (up to 1,879,048,191), below what is negative to somebody.
const (
	firstUnused = 1_900_000_000
	lastUnused  = 2_100_000_000
)

// unusedID picks an id from the upper half of the largest range that this
// process may map, within the bounds above where that range is a whole
// machine's. Where we are in a container, that is the best to be had.
func unusedID(mapFile string) (int, error) {
	b, err := os.ReadFile(mapFile)
	if err != nil {
		return 0, err
	}
	var first, count int64
	for line := range strings.Lines(string(b)) {
		var inside, outside, n int64
		if _, err := fmt.Sscan(line, &inside, &outside, &n); err != nil {
			return 0, fmt.Errorf("%s: %w", mapFile, err)
		}
		if n > count {
			first, count = inside, n
		}
	}
	if first+count > lastUnused {
		first, count = firstUnused, lastUnused-firstUnused
	} else {
		first, count = first+count/2, count-count/2
	}
	if count < 1 {
		return 0, fmt.Errorf("%s maps no id", mapFile)
	}
	return int(first + rand.Int64N(count)), nil
}
