// Package e2e tells the platform's promises as stories: scripts under
// testdata/script that use it the way strangers do, with the real aws CLI,
// boto3 and Terraform against a real server process.
package e2e

import (
	"archive/zip"
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/internal/testenv"
	"github.com/rogpeppe/go-internal/testscript"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "countersign-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "countersign")
	build := exec.Command("go", "build", "-o", binary, "countersign/cmd/countersign")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the program under test:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// Root credentials of every story's platform.
const (
	accessKey = "AKIAE2E00000000000E2"
	secretKey = "not-a-secret-but-a-test/of+forty-letters"
)

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"platform": platform,
			"kill9":    kill9,
			"relative": relative,
			"stop":     stop,
			"bundle":   bundle,
			"flip":     flip,
			"capture":  capture,
			"tfmirror": tfmirror,
		},
		Condition: condition,
	})
}

// setup gives a story an empty home and nothing of the developer's clouds.
func setup(env *testscript.Env) error {
	home := filepath.Join(env.WorkDir, "home")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	// Version 2 of the CLI takes payloads as base64 unless told otherwise.
	if err := os.WriteFile(filepath.Join(home, "config"), []byte("[default]\ncli_binary_format = raw-in-base64-out\n"), 0o600); err != nil {
		return err
	}
	s := &server{dir: filepath.Join(env.WorkDir, "data"), listen: "127.0.0.1:0"}
	env.Values[serverKey{}] = s
	env.Defer(s.kill)
	for k, v := range map[string]string{
		"HOME": home, "DATA": s.dir, "PATH": filepath.Dir(binary) + ":" + os.Getenv("PATH"),
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1",
		"AWS_CONFIG_FILE": filepath.Join(home, "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(home, "credentials"),
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": "", "AWS_MAX_ATTEMPTS": "1", "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
		"COUNTERSIGN_ROOT_ACCESS_KEY_ID": accessKey, "COUNTERSIGN_ROOT_SECRET_ACCESS_KEY": secretKey,
		"PYTHONDONTWRITEBYTECODE": "1", "CHECKPOINT_DISABLE": "1", "TMPDIR": os.TempDir(),
	} {
		env.Setenv(k, v)
	}
	return nil
}

// condition knows [missing:TOOL]: true where TOOL is not installed. With CI
// set that is a failure instead of a reason to skip. A tool may be a program,
// python:MODULE, or tf:PROVIDER.
func condition(cond string) (bool, error) {
	tool, ok := strings.CutPrefix(cond, "missing:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	var err error
	switch kind, name, _ := strings.Cut(tool, ":"); kind {
	case "python":
		err = exec.Command("python3", "-c", "import "+name).Run()
	case "tf":
		_, err = testenv.FindProviderMirror()
	default:
		_, err = exec.LookPath(tool)
	}
	if err != nil && os.Getenv("CI") != "" {
		return true, fmt.Errorf("%s is missing, and CI may not skip: %w", tool, err)
	}
	return err != nil, nil
}

type serverKey struct{}

// A server is the story's platform: one process at a time, on one directory.
type server struct {
	dir, listen string
	mu          sync.Mutex
	cmd         *exec.Cmd
	log         strings.Builder // guarded by mu
	done        chan struct{}
}

func serverOf(ts *testscript.TestScript) *server { return ts.Value(serverKey{}).(*server) }

const readyLine = "countersign: ready on "

// platform [FLAG…] starts the server, or starts it again, and points the aws
// CLI at it.
func platform(ts *testscript.TestScript, neg bool, args []string) {
	s := serverOf(ts)
	if neg {
		ts.Fatalf("! platform: use ! exec countersign server")
	}
	s.cmd = exec.Command(binary, append([]string{"server", "--data", s.dir, "--listen", s.listen}, args...)...)
	s.cmd.Dir = ts.Getenv("WORK")
	s.cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "TMPDIR=" + ts.Getenv("TMPDIR"),
		"COUNTERSIGN_ROOT_ACCESS_KEY_ID=" + accessKey, "COUNTERSIGN_ROOT_SECRET_ACCESS_KEY=" + secretKey}
	pipe, err := s.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(s.cmd.Start())
	ready, done := make(chan string, 1), make(chan struct{})
	s.done = done
	go func() {
		defer close(done)
		for sc := bufio.NewScanner(pipe); sc.Scan(); {
			if url, ok := strings.CutPrefix(sc.Text(), readyLine); ok {
				ready <- url
			}
			s.mu.Lock()
			fmt.Fprintln(&s.log, sc.Text())
			s.mu.Unlock()
		}
		s.cmd.Wait() // what it said is worth more than its status
	}()
	select {
	case url := <-ready:
		s.listen = strings.TrimPrefix(url, "http://") // a restart keeps the address
		ts.Setenv("AWS_ENDPOINT_URL", url)
		ts.Setenv("ENDPOINT", url)
		ts.Logf("platform at %s", url)
	case <-done:
		ts.Fatalf("the server ended at once:\n%s", s.said())
	}
}

func (s *server) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func (s *server) kill() {
	if s.cmd != nil && s.cmd.Process != nil && s.done != nil {
		s.cmd.Process.Kill() // an error means that it is gone already
		<-s.done
	}
}

// relative DIR has the server started with a data directory relative to $WORK.
func relative(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: relative DIR")
	}
	serverOf(ts).dir = args[0]
}

// kill9 ends the server without a word.
func kill9(ts *testscript.TestScript, neg bool, args []string) { serverOf(ts).kill() }

// stop ends the server as an operator would, and fails if that is not clean.
func stop(ts *testscript.TestScript, neg bool, args []string) {
	s := serverOf(ts)
	ts.Check(s.cmd.Process.Signal(os.Interrupt))
	select {
	case <-s.done:
	case <-time.After(time.Minute):
		ts.Fatalf("the server does not stop:\n%s", s.said())
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		ts.Fatalf("the server stopped with status %d:\n%s", code, s.said())
	}
}

// bundle OUT FILE… zips files under their base names, the same bytes every
// time.
func bundle(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: bundle OUT FILE...")
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	z := zip.NewWriter(f)
	for _, name := range args[1:] {
		h := &zip.FileHeader{Name: filepath.Base(name), Method: zip.Deflate}
		h.SetMode(0o644)
		if filepath.Base(name) == "bootstrap" {
			h.SetMode(0o755)
		}
		w, err := z.CreateHeader(h)
		ts.Check(err)
		_, err = io.WriteString(w, ts.ReadFile(name))
		ts.Check(err)
	}
	ts.Check(z.Close())
	ts.Check(f.Close())
}

// flip IN OUT OFFSET copies a file with one bit changed; a negative offset
// counts from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: flip IN OUT OFFSET")
	}
	b := []byte(ts.ReadFile(args[0]))
	var at int
	if _, err := fmt.Sscan(args[2], &at); err != nil {
		ts.Fatalf("flip: %v", err)
	}
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o644))
}

// capture VAR keeps the standard output of the last command, without the
// line's end, in an environment variable.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: capture VAR")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// tfmirror FILE writes a Terraform configuration that takes providers from
// this machine's mirror alone.
func tfmirror(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: tfmirror FILE")
	}
	dir, err := testenv.FindProviderMirror()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), fmt.Appendf(nil, "provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", dir), 0o644))
}

// TestHealth is the one request that needs no signature.
func TestHealth(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "server", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--sandbox", "process")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(os.Interrupt)
	for sc := bufio.NewScanner(pipe); sc.Scan(); {
		url, ok := strings.CutPrefix(sc.Text(), readyLine)
		if !ok {
			continue
		}
		res, err := http.Get(url + "/_countersign/health")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), `"status":"ok"`) {
			t.Fatalf("got %d %s %v, want 200 and status ok", res.StatusCode, body, err)
		}
		return
	}
	t.Fatal("the server never said it was ready")
}
