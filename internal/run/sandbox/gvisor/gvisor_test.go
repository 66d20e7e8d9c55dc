package gvisor

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"countersign/internal/run/sandbox"
	"countersign/internal/run/sandbox/sandboxtest"
)

// exe is what guests' processes are in these tests: see [Config.Exe].
var exe string

// exeVariable says so to a process that cannot build it.
const exeVariable = "GVISOR_TEST_EXE"

func open(dir string) (sandbox.Driver, error) { return New(Config{Dir: dir, Exe: exe}) }

func TestMain(m *testing.M) {
	Reexec()
	var err error
	if exe = os.Getenv(exeVariable); exe == "" {
		exe, err = sandboxtest.Static("countersign/internal/run/sandbox/gvisor/guestmain")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(sandboxtest.Main(m, open))
}

func TestDriver(t *testing.T) { sandboxtest.Run(t) }

// TestOrdinaryUser runs the driver's tests again as somebody without rights.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("these tests run as an ordinary user as it is")
	}
	if testing.Short() {
		t.Skip("takes as long as all the others together")
	}
	dir := t.TempDir()
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	from := exe
	if from == "" {
		from = "/proc/self/exe"
	}
	copyFile(t, from, filepath.Join(dir, "exe"))
	copyFile(t, sandboxtest.Probe(t), filepath.Join(dir, "probe"))

	c := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestDriver$", "-test.v")
	c.Dir = "/"
	c.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent",
		exeVariable + "=" + filepath.Join(dir, "exe"), sandboxtest.ProbeVariable + "=" + filepath.Join(dir, "probe"),
	}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := exec.Command("setpriv", "--reuid=65534", "--clear-groups", "unshare", "--user", "true").CombinedOutput(); err != nil {
		t.Skipf("an ordinary user has no user namespaces here: %v: %s", err, out)
	}
	out, err := c.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "--- SKIP") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestAfterCrash opens a driver where one was killed.
func TestAfterCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := New(Config{Dir: dir, Exe: exe})
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	if d.groups != nil {
		for _, p := range d.groups.parents {
			left = append(left, filepath.Join(p.path, "dead"))
			if err := os.Mkdir(left[len(left)-1], 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	left = append(left, d.dir)
	if _, err := New(Config{Dir: dir, Exe: exe}); err == nil {
		t.Error("two drivers have one directory")
	}
	d.lock.Close() // all that the kernel does for a process that is killed

	d, err = New(Config{Dir: dir, Exe: exe})
	if err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	for _, p := range left {
		if _, err := os.Stat(p); err == nil {
			t.Errorf("left of the crash: %s", p)
		}
	}
	mine := []string{d.dir}
	if d.groups != nil {
		for _, p := range d.groups.parents {
			mine = append(mine, p.path)
		}
	}
	if err := d.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	for _, p := range mine {
		if _, err := os.Stat(p); err == nil {
			t.Errorf("left of Close: %s", p)
		}
	}
}

// TestHostIdentity looks at a guest from outside.
func TestHostIdentity(t *testing.T) {
	t.Parallel()
	d, err := New(Config{Dir: t.TempDir(), Exe: exe})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s := sandbox.Spec{
		ID: "identity", Init: []string{"/opt/probe"}, Limits: sandbox.Limits{CPUs: 0.25, MemoryBytes: 64 << 20},
		Mounts: []sandbox.Mount{{Host: sandboxtest.Probe(t), Guest: "/opt/probe"}},
	}
	if _, err := d.Start(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	g := d.guests[s.ID]
	d.mu.Unlock()
	for _, p := range []*os.Process{g.sentry.Process, g.gofer.Process} {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
			f := strings.Fields(v)
			switch k {
			case "Uid", "Gid":
				if f[0] == "0" || f[1] == "0" {
					t.Errorf("a guest's process is root on the host: %s", line)
				}
			case "Groups":
				if os.Geteuid() == 0 && len(f) > 0 {
					t.Errorf("a guest's process has our groups: %s", line)
				}
			case "Seccomp":
				if f[0] != "2" {
					t.Errorf("a guest's process has no filter: %s", line)
				}
			case "NoNewPrivs":
				if f[0] != "1" {
					t.Errorf("a guest's process may gain rights: %s", line)
				}
			}
		}
		for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts"} {
			mine, err := os.Readlink("/proc/self/ns/" + ns)
			if err != nil {
				t.Fatal(err)
			}
			if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.Pid, ns)); err != nil || theirs == mine {
				t.Errorf("%s namespace: %q, %v; ours is %q", ns, theirs, err, mine)
			}
		}
	}
	if g.group == nil || g.group.cpu == "" {
		t.Skip("no cgroup here for processor time")
	}
	for name, want := range map[string]string{"cpu.cfs_quota_us": "25000", "cpu.max": "25000 100000"} {
		b, err := os.ReadFile(filepath.Join(g.group.cpu, name))
		if err == nil && strings.TrimSpace(string(b)) != want {
			t.Errorf("%s: got %s, want %s", name, b, want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	good := func() sandbox.Spec {
		return sandbox.Spec{ID: "a", Init: []string{"/init"}, Mounts: []sandbox.Mount{{Host: "/x", Guest: "/x"}}}
	}
	if err := check(good()); err != nil {
		t.Errorf("a good one: %v", err)
	}
	for name, spoil := range map[string]func(*sandbox.Spec){
		"no id":              func(s *sandbox.Spec) { s.ID = "" },
		"long id":            func(s *sandbox.Spec) { s.ID = strings.Repeat("a", 41) },
		"id leaves":          func(s *sandbox.Spec) { s.ID = "../a" },
		"id is a flag's end": func(s *sandbox.Spec) { s.ID = "a=b" },
		"no init":            func(s *sandbox.Spec) { s.Init = nil },
		"relative init":      func(s *sandbox.Spec) { s.Init[0] = "init" },
		"relative host":      func(s *sandbox.Spec) { s.Mounts[0].Host = "x" },
		"relative guest":     func(s *sandbox.Spec) { s.Mounts[0].Guest = "x" },
		"unclean guest":      func(s *sandbox.Spec) { s.Mounts[0].Guest = "/x/../y" },
		"over the root":      func(s *sandbox.Spec) { s.Mounts[0].Guest = "/" },
		"over proc":          func(s *sandbox.Spec) { s.Mounts[0].Guest = "/proc/sys" },
		"over tmp":           func(s *sandbox.Spec) { s.Mounts[0].Guest = "/tmp" },
		"too many":           func(s *sandbox.Spec) { s.Mounts = make([]sandbox.Mount, maxMounts+1) },
	} {
		s := good()
		spoil(&s)
		if check(s) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestReexecLeavesOthersAlone: whatever a person calls our program with, it
// is gVisor only under gVisor's names.
func TestReexecLeavesOthersAlone(t *testing.T) {
	for _, args := range [][]string{
		nil, {"countersign"}, {"countersign", "boot"}, {"countersign", "gofer"}, {"countersign", "umount"},
		{"/usr/bin/countersign", "server"}, {sentryName}, {sentryName, "gofer"}, {goferName, "boot"},
	} {
		old := os.Args
		os.Args = args
		Reexec() // does not return if it is wrong
		os.Args = old
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	r, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, r); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
