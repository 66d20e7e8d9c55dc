package gvisor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"countersign/internal/run/sandbox"
)

const (
	guestUser = 1000       // who process 1 is inside; it exists nowhere else
	hostname  = "function" // the same everywhere: a guest learns nothing of its host
	openFiles = 1024       // as AWS Lambda documents
	maxMounts = 200        // each takes a descriptor: see exeDescriptor
)

// check refuses specifications that this driver would misread.
func check(s sandbox.Spec) error {
	if s.ID == "" || len(s.ID) > 40 || strings.Trim(s.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("guest id %q is not 1 to 40 of [a-z0-9-]", s.ID)
	}
	if len(s.Init) == 0 || !path.IsAbs(s.Init[0]) {
		return fmt.Errorf("guest %s: init %q has no absolute path", s.ID, s.Init)
	}
	if len(s.Mounts) > maxMounts {
		return fmt.Errorf("guest %s: %d mounts, and %d are possible", s.ID, len(s.Mounts), maxMounts)
	}
	for _, m := range s.Mounts {
		if !path.IsAbs(m.Host) || !path.IsAbs(m.Guest) || path.Clean(m.Guest) != m.Guest || m.Guest == "/" {
			return fmt.Errorf("guest %s: mount of %q at %q: want two clean absolute paths", s.ID, m.Host, m.Guest)
		}
		for _, own := range []string{"/proc", "/sys", "/dev", "/tmp"} {
			if m.Guest == own || strings.HasPrefix(m.Guest, own+"/") {
				return fmt.Errorf("guest %s: %s belongs to the driver", s.ID, m.Guest)
			}
		}
	}
	return nil
}

// runtimeSpec is what gVisor reads: the Open Container Initiative's runtime
// specification, version 1.2.
func runtimeSpec(s sandbox.Spec, root string) *specs.Spec {
	o := &specs.Spec{
		Version:  specs.Version,
		Hostname: hostname,
		Root:     &specs.Root{Path: root, Readonly: true},
		Process: &specs.Process{
			User:            specs.User{UID: guestUser, GID: guestUser},
			Args:            s.Init,
			Env:             s.Env,
			Cwd:             "/",
			NoNewPrivileges: true,
			Capabilities:    &specs.LinuxCapabilities{}, // none
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: openFiles, Soft: openFiles}, {Type: "RLIMIT_CORE"}},
		},
		Linux: &specs.Linux{},
	}
	for _, m := range s.Mounts {
		o.Mounts = append(o.Mounts, specs.Mount{
			Type: "bind", Source: m.Host, Destination: m.Guest,
			Options: []string{"rbind", "ro", "nosuid", "nodev"},
		})
	}
	tmp := specs.Mount{
		// Of the type "bind" it may be given a file to live in; the
		// configuration from mountConfs makes a tmpfs of it.
		Type: "bind", Source: "/tmp", Destination: "/tmp",
		Options: []string{"nosuid", "nodev", "mode=01777"},
	}
	if s.TmpBytes > 0 {
		tmp.Options = append(tmp.Options, "size="+strconv.FormatInt(s.TmpBytes, 10))
	}
	o.Mounts = append(o.Mounts, tmp)
	return o
}

// mountConfs says how each mount is served, in their order and after the
// root: read through the gofer, and /tmp from a file of its own.
func mountConfs(s sandbox.Spec) string {
	return strings.Repeat("lisafs:none,", 1+len(s.Mounts)) + "none:anon"
}

// processors is how many of them the guest sees. Below two, programs begin to
// behave in ways they were never tested in.
func processors(l sandbox.Limits) int {
	if l.CPUs <= 0 {
		return runtime.NumCPU()
	}
	return min(max(2, int(math.Ceil(l.CPUs))), max(2, runtime.NumCPU()))
}

// asFile puts v, in JSON, into a file that has no name.
func asFile(v any) (*os.File, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("spec", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "spec")
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// skeleton returns the path of a tree that has nothing in it but the places
// to mount on, making it if need be. Guests with the same mounts share one;
// nothing in it can be written from inside.
func (d *Driver) skeleton(mounts []sandbox.Mount) (string, error) {
	h := sha256.New()
	type point struct {
		path string
		file bool
	}
	points := []point{{"proc", false}, {"sys", false}, {"dev", false}, {"tmp", false}}
	for i, m := range mounts {
		if parent, ok := above(m.Guest, mounts[:i]); ok {
			// Its place is in the parent's tree, where the gofer would make
			// a missing one: on the host.
			place := path.Join(parent.Host, strings.TrimPrefix(m.Guest, parent.Guest))
			if _, err := os.Stat(place); err != nil {
				return "", fmt.Errorf("mount %s has no place in %s: %w", m.Guest, parent.Guest, err)
			}
			continue
		}
		fi, err := os.Stat(m.Host)
		if err != nil {
			return "", fmt.Errorf("mount %s: %w", m.Guest, err)
		}
		points = append(points, point{m.Guest[1:], !fi.IsDir()})
	}
	for _, p := range points {
		fmt.Fprintf(h, "%q %t\n", p.path, p.file)
	}
	name := "root-" + hex.EncodeToString(h.Sum(nil)[:8])
	full := path.Join(d.dir, name)

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.skeletons[name] {
		return full, nil
	}
	for _, p := range points {
		dir := path.Join(name, p.path)
		if p.file {
			dir = path.Dir(dir)
		}
		if err := d.root.MkdirAll(dir, 0o755); err != nil {
			return "", fmt.Errorf("skeleton: %w", err)
		}
		if !p.file {
			continue
		}
		f, err := d.root.OpenFile(path.Join(name, p.path), os.O_CREATE|os.O_EXCL, 0o444)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("skeleton: %w", err)
		}
		f.Close()
	}
	d.skeletons[name] = true
	return full, nil
}

// above finds the innermost of mounts that p is below.
func above(p string, mounts []sandbox.Mount) (parent sandbox.Mount, ok bool) {
	for _, m := range mounts {
		if strings.HasPrefix(p, m.Guest+"/") && len(m.Guest) > len(parent.Guest) {
			parent, ok = m, true
		}
	}
	return parent, ok
}

// scratch returns the file that a guest's /tmp lives in. It has no name, so
// nobody finds it and it is gone with the guest.
func (d *Driver) scratch() (*os.File, error) {
	fd, err := unix.Open(d.cfg.Dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		fd, err = unix.MemfdCreate("tmp", unix.MFD_CLOEXEC) // a file system without O_TMPFILE
	}
	if err != nil {
		return nil, fmt.Errorf("file for /tmp: %w", err)
	}
	return os.NewFile(uintptr(fd), "tmp"), nil
}
