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
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
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
