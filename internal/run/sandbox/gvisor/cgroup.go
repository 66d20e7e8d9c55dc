package gvisor

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"countersign/internal/run/sandbox"
)

// Control groups bound what gVisor cannot bound from inside: the memory of
// guest and sentry together, and processor time. They are used where this
// user may make them; see [Driver.Missing] for where not.
//
// Version 2 (one hierarchy) and version 1 (one per controller) are both
// spoken. The layout is a group for the driver, named for its directory, and
// in it a group for each guest.

const (
	// sentryBytes is what a guest's group may hold beyond the guest's own
	// limit: the sentry's and gofer's own memory, which gVisor needs more of
	// for a guest with more processes. Measured: 30 MB for an idle guest. The
	// guest's limit itself is kept by the watch, to a few megabytes.
	sentryBytes = 96 << 20
	// period is the kernel's own default for sharing out processor time.
	period = 100 * time.Millisecond
)

// groups is where guests' groups are made.
type groups struct {
	unified bool
	parents map[string]groupDir // by controller: "memory", "cpu"; the same directory for all in version 2
	log     *slog.Logger
}

// groupDir is one directory of a group. home is where this process is, in
// the same hierarchy.
type groupDir struct{ path, home string }

// cgroup is one guest's group: a directory, or in version 1 one for each controller.
type cgroup struct {
	unified bool
	dirs    []groupDir
	memory  string // the directory with the memory controller, or empty
	cpu     string // the directory with the cpu controller, or empty
}

var controllers = []string{"memory", "cpu"}

// findGroups looks for a place where guests' groups can be made and frees what
// an earlier driver on dir left there. It returns nil when there is none.
func findGroups(dir string, log *slog.Logger) *groups {
	sum := sha256.Sum256([]byte(dir))
	name := "countersign-" + hex.EncodeToString(sum[:6])
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	g := &groups{parents: map[string]groupDir{}, log: log}
	for _, c := range controllers {
		for _, h := range hierarchies(mounts, own, c) {
			p, err := h.claim(name, c)
			if err != nil {
				log.Debug("cgroup", "controller", c, "at", h.home, "error", err)
				continue
			}
			g.parents[c] = groupDir{p, h.home}
			g.unified = h.unified
			break
		}
	}
	if len(g.parents) == 0 {
		return nil
	}
	return g
}

// hierarchy is a place to try.
type hierarchy struct {
	unified bool
	parent  string // existing directory to make ours in
	home    string // where this process is
}

// hierarchies lists the places for controller c, best first. mountinfo and
// own are the kernel's two files on this process, see proc(5) and cgroups(7).
func hierarchies(mountinfo, own []byte, c string) []hierarchy {
	var hs []hierarchy
	for m := range bytes.Lines(mountinfo) {
		before, after, ok := strings.Cut(string(m), " - ")
		f, t := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(t) < 3 {
			continue
		}
		at := f[4]
		switch {
		case t[0] == "cgroup" && slices.Contains(strings.Split(t[2], ","), c):
			if p, ok := ownGroup(own, c); ok {
				home := inMount(at, f[3], p)
				hs = append(hs, hierarchy{parent: home, home: home})
			}
		case t[0] == "cgroup2":
			if p, ok := ownGroup(own, ""); ok {
				home := inMount(at, f[3], p)
				// A group with processes in it cannot hand controllers on
				// ("no internal processes"), so ours is beside our own where
				// that is delegated to us, else at the top.
				hs = append(hs, hierarchy{true, home, home})
				if home != at {
					hs = append(hs, hierarchy{true, filepath.Dir(home), home}, hierarchy{true, at, home})
				}
			}
		}
	}
	// Version 1 first: where both are mounted, it has the controllers.
	slices.SortStableFunc(hs, func(a, b hierarchy) int { return cmp.Compare(btoi(a.unified), btoi(b.unified)) })
	return hs
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// inMount turns a path in a hierarchy whose part root is mounted at at into a
// path here. In a container the path may be outside what is mounted; then it
// is the mount itself.
func inMount(at, root, p string) string {
	rel, err := filepath.Rel(root, p)
	if err != nil || strings.HasPrefix(rel, "..") {
		return at
	}
	if full := filepath.Join(at, rel); isDir(full) {
		return full
	}
	return at
}

func isDir(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.IsDir()
}

// ownGroup finds this process's path for controller c, or in the unified
// hierarchy for c empty.
func ownGroup(own []byte, c string) (string, bool) {
	sc := bufio.NewScanner(bytes.NewReader(own))
	for sc.Scan() {
		p := strings.SplitN(sc.Text(), ":", 3)
		if len(p) == 3 && slices.Contains(strings.Split(p[1], ","), c) {
			return p[2], true
		}
	}
	return "", false
}

// claim makes the driver's group in h and shows that guests' groups can be
// made in it with controller c.
func (h hierarchy) claim(name, c string) (string, error) {
	p := filepath.Join(h.parent, name)
	if err := os.Mkdir(p, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := sweep(p); err != nil {
		return "", err
	}
	if h.unified {
		if err := writeTo(p, "cgroup.subtree_control", "+"+c); err != nil {
			os.Remove(p)
			return "", err
		}
	}
	trial := filepath.Join(p, "trial")
	if err := os.Mkdir(trial, 0o755); err != nil {
		os.Remove(p)
		return "", err
	}
	defer os.Remove(trial)
	l := sandbox.Limits{MemoryBytes: 1 << 30, CPUs: 1}
	if err := limit(trial, c, h.unified, l); err != nil {
		os.Remove(trial)
		os.Remove(p)
		return "", err
	}
	return p, nil
}

// sweep removes the groups of guests that an earlier process left in p. Those
// guests died with that process; the kernel may still be about it.
func sweep(p string) error {
	es, err := os.ReadDir(p)
	if err != nil {
		return err
	}
	for _, e := range es {
		if e.IsDir() {
			if err := removeGroup(filepath.Join(p, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeGroup removes an empty group, waiting a little for it to become so.
func removeGroup(p string) (err error) {
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err = os.Remove(p); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
}

// limit writes what l says about controller c into the group at p.
func limit(p, c string, unified bool, l sandbox.Limits) error {
	switch {
	case c == "memory" && l.MemoryBytes > 0:
		total := strconv.FormatInt(l.MemoryBytes+sentryBytes, 10)
		if !unified {
			return writeTo(p, "memory.limit_in_bytes", total)
		}
		// All of a guest or nothing: a sentry without its gofer is no use.
		return errors.Join(writeTo(p, "memory.max", total), writeTo(p, "memory.oom.group", "1"))
	case c == "cpu" && l.CPUs > 0:
		quota := strconv.FormatInt(max(1000, int64(math.Ceil(l.CPUs*float64(period.Microseconds())))), 10)
		us := strconv.FormatInt(period.Microseconds(), 10)
		if !unified {
			return errors.Join(writeTo(p, "cpu.cfs_period_us", us), writeTo(p, "cpu.cfs_quota_us", quota))
		}
		return writeTo(p, "cpu.max", quota+" "+us)
	}
	return nil
}

func writeTo(dir, name, val string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(val), 0)
}

// make makes a guest's group.
func (g *groups) make(id string, l sandbox.Limits) (*cgroup, error) {
	cg := &cgroup{unified: g.unified}
	for c, parent := range g.parents {
		p := filepath.Join(parent.path, id)
		if err := os.Mkdir(p, 0o755); err != nil && !(g.unified && errors.Is(err, fs.ErrExist)) {
			return nil, errors.Join(fmt.Errorf("cgroup: %w", err), cg.remove())
		}
		if d := (groupDir{p, parent.home}); !slices.Contains(cg.dirs, d) {
			cg.dirs = append(cg.dirs, d)
		}
		if c == "cpu" {
			cg.cpu = p
			continue
		}
		cg.memory = p
		if err := limit(p, c, g.unified, l); err != nil {
			return nil, errors.Join(fmt.Errorf("cgroup: %w", err), cg.remove())
		}
	}
	return cg, nil
}

// throttle begins to limit processor time.
func (c *cgroup) throttle(l sandbox.Limits) error {
	if c.cpu == "" {
		return nil
	}
	if err := limit(c.cpu, "cpu", c.unified, l); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

// release ends the limit of processor time.
func (c *cgroup) release() {
	switch {
	case c.cpu == "":
	case c.unified:
		writeTo(c.cpu, "cpu.max", "max")
	default:
		writeTo(c.cpu, "cpu.cfs_quota_us", "-1")
	}
}

// missing names the limits that no group keeps.
func (g *groups) missing() []string {
	var m []string
	if _, ok := g.parents["cpu"]; !ok {
		m = append(m, missingCPU)
	}
	if _, ok := g.parents["memory"]; !ok {
		m = append(m, missingMemory)
	}
	return m
}

const (
	missingCPU    = "cpu: needs root or a delegated cgroup; guests share all processors"
	missingMemory = "memory: needs root or a delegated cgroup; without, a guest is ended when it is seen over its limit, and its kernel's own memory is not counted"
)

// close removes the driver's group.
func (g *groups) close() error {
	var errs []error
	for _, p := range g.parents {
		errs = append(errs, removeGroup(p.path))
	}
	return errors.Join(errs...)
}

// remove removes a guest's group. All its processes are gone.
func (c *cgroup) remove() error {
	var errs []error
	for _, d := range c.dirs {
		errs = append(errs, removeGroup(d.path))
	}
	return errors.Join(errs...)
}

// oomKilled reports whether the kernel ended something in the group for want
// of memory.
func (c *cgroup) oomKilled() bool {
	if c.memory == "" {
		return false
	}
	name := "memory.oom_control"
	if c.unified {
		name = "memory.events"
	}
	b, err := os.ReadFile(filepath.Join(c.memory, name))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strings.TrimSpace(n) != "0"
		}
	}
	return false
}

// enter moves the calling thread into the group, in version 1 only, and
// returns how to move it home.
func (c *cgroup) enter() (home func(), err error) {
	var entered []groupDir
	home = func() {
		for _, d := range entered {
			// "0" is the writing thread. Were this to fail, the thread
			// would be counted in the wrong place and nothing else.
			writeTo(d.home, "tasks", "0")
		}
	}
	for _, d := range c.dirs {
		entered = append(entered, d)
		if err := writeTo(d.path, "tasks", "0"); err != nil {
			home()
			return nil, fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return home, nil
}

// openDir opens the group for a process to be born in, in version 2 only.
func (c *cgroup) openDir() (*os.File, error) {
	return os.OpenFile(c.dirs[0].path, unix.O_DIRECTORY|unix.O_RDONLY, 0)
}
