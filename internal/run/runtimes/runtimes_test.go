package runtimes

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"countersign"
	"countersign/internal/run/sandbox"
)

func newTable(t *testing.T, cfg Config) *Table {
	t.Helper()
	cfg.Dir = filepath.Join(t.TempDir(), "runtime")
	tb, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id           string
		family       Family
		major, minor int
	}{
		{"python3.12", Python, 3, 12}, {"python2.7", Python, 2, 7}, {"nodejs20.x", Node, 20, -1}, {"nodejs6.10", Node, 6, 10},
		{"nodejs", Node, 0, -1}, {"provided", Provided, 0, 0}, {"provided.al2", Provided, 0, 0}, {"provided.al2023", Provided, 0, 0}, {"go1.x", Go, 0, 0},
	} {
		f, major, minor, err := parse(c.id)
		if err != nil || f != c.family || major != c.major || minor != c.minor {
			t.Errorf("%s: got %s %d %d, %v; want %s %d %d", c.id, f, major, minor, err, c.family, c.major, c.minor)
		}
	}
	for _, id := range []string{"", "java21", "dotnet8", "ruby3.3", "python", "python3", "nodejs20", "provided.al3", "python3.12\n", "../python3.12"} {
		if _, _, _, err := parse(id); countersign.KindOf(err) != countersign.NotBuilt {
			t.Errorf("%q: got %v, want NotBuilt", id, err)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	pythons := []interpreter{{"a", 3, 9}, {"b", 3, 11}, {"c", 3, 11}, {"d", 3, 13}}
	nodes := []interpreter{{"v16", 16, 3}, {"v20", 20, 1}, {"v22", 22, 9}}
	for _, c := range []struct {
		all          []interpreter
		major, minor int
		want         string // paths, best first
	}{
		{pythons, 3, 11, "b c d a"}, // the first on the path, then newer
		{pythons, 3, 12, "d b c a"}, // as near in either direction: newer
		{pythons, 3, 14, "d b c a"},
		{pythons, 3, 6, "a b c d"},
		{pythons, 2, 7, "a b c d"},
		{nodes, 20, -1, "v20 v22 v16"},
		{nodes, 12, -1, "v16 v20 v22"},
		{nodes, 24, -1, "v22 v20 v16"},
		{nodes, 18, -1, "v20 v16 v22"},
	} {
		var got []string
		for _, i := range nearest(c.all, c.major, c.minor) {
			got = append(got, i.path)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("for %d.%d: got %v, want %s", c.major, c.minor, got, c.want)
		}
	}
}

// python finds any interpreter that is really there.
func python(t *testing.T) *Runtime {
	t.Helper()
	r, err := newTable(t, Config{}).Resolve("python3.11")
	if err != nil {
		t.Skipf("no python3 here: %v", err)
	}
	return r
}

func TestPythonHere(t *testing.T) {
	t.Parallel()
	r := python(t)
	if out, err := exec.Command(r.Interpreter, "--version").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "Python "+r.Version {
		t.Errorf("%s says %q, %v; want Python %s", r.Interpreter, out, err, r.Version)
	}
	if exact := strings.HasPrefix(r.Version, "3.11."); r.Exact() != exact {
		t.Errorf("version %s: got exact %v and %q", r.Version, r.Exact(), r.Notice)
	}
	seen := func(path string) bool {
		return slices.ContainsFunc(r.Mounts, func(m sandbox.Mount) bool { return path == m.Guest || strings.HasPrefix(path, m.Guest+"/") })
	}
	if !seen(r.Interpreter) || !seen(RuntimeDir) {
		t.Errorf("mounts %v show neither or one of %s and %s", r.Mounts, r.Interpreter, RuntimeDir)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Skip("nobody's home: ", err)
	}
	for _, private := range []string{"/", "/home", "/root", "/etc", "/var", "/tmp", "/proc", "/etc/passwd", home, home + "/.ssh", home + "/.aws"} {
		if slices.ContainsFunc(r.Mounts, func(m sandbox.Mount) bool { return m.Host == private || m.Guest == private }) {
			t.Errorf("%s is mounted: %v", private, r.Mounts)
		}
	}
	for _, m := range r.Mounts {
		if _, err := os.Stat(m.Host); err != nil {
			t.Errorf("mount: %v", err)
		}
	}
	at := func(p string) string { return "<" + p + ">" }
	if got := r.Command("a.h", at); len(got) != 4 || !strings.HasPrefix(got[3], "</var/runtime/bootstrap") {
		t.Errorf("command: got %q", got)
	}
}

// A substitute is said, or refused.
func TestSubstitute(t *testing.T) {
	t.Parallel()
	p := python(t)
	cfg := Config{Interpreters: map[string]string{"python3.99": p.Interpreter}}
	r, err := newTable(t, cfg).Resolve("python3.99")
	if err != nil || r.Exact() || !strings.Contains(r.Notice, "python3.99") || !strings.Contains(r.Notice, p.Version) {
		t.Errorf("got %+v, %v; want a notice of both versions", r, err)
	}
	if got := r.Env(func(p string) string { return p })["AWS_EXECUTION_ENV"]; got != "AWS_Lambda_python3.99" {
		t.Errorf("AWS_EXECUTION_ENV: got %q, want what was asked for", got)
	}
	cfg.Strict = true
	if r, err := newTable(t, cfg).Resolve("python3.99"); countersign.KindOf(err) != countersign.NotAllowed || !strings.Contains(err.Error(), p.Version) || strings.Contains(err.Error(), "\n") {
		t.Errorf("strict: got %v, %v; want a refusal in one line", r, err)
	}
	cfg.Interpreters["python3.99"] = "/nowhere/python"
	if r, err := newTable(t, cfg).Resolve("python3.99"); err == nil {
		t.Errorf("a configured interpreter that is not there: got %+v", r)
	}
}

// A version manager's shim is not run; what it stands for is found.
func TestShim(t *testing.T) {
	t.Parallel()
	p := python(t)
	minor := strings.Join(strings.Split(p.Version, ".")[:2], ".")
	root := t.TempDir()
	for _, dir := range []string{"shims", "versions/" + p.Version + "/bin"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	shim := filepath.Join(root, "shims", "python"+minor)
	if err := os.WriteFile(shim, []byte("#!/bin/sh\necho should not run > "+root+"/ran\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(p.Interpreter, filepath.Join(root, "versions", p.Version, "bin", "python"+minor)); err != nil {
		t.Fatal(err)
	}
	tb := newTable(t, Config{Path: filepath.Join(root, "shims"), Home: "/nonexistent"})
	all := tb.search(Python)
	if len(all) == 0 || all[0].path != filepath.Join(root, "versions", p.Version, "bin", "python"+minor) {
		t.Errorf("got %v, want the real one first", all)
	}
	if _, err := os.Stat(filepath.Join(root, "ran")); err == nil {
		t.Error("the shim was run")
	}
	r, err := tb.Resolve("python" + minor)
	if err != nil || !r.Exact() || r.Interpreter != p.Interpreter {
		t.Errorf("got %+v, %v; want %s", r, err, p.Interpreter)
	}
}

// An interpreter that sits in a folder of everything is not worth showing
// everything for.
func TestWidePrefix(t *testing.T) {
	t.Parallel()
	tb := newTable(t, Config{Home: "/home/someone"})
	for _, prefix := range []string{"/", "/home", "/home/someone", "/root", "/opt", "/etc", "/srv", "/var"} {
		if ms, err := tb.tree(probed{path: prefix + "/bin/python3.12", prefix: prefix}); err == nil {
			t.Errorf("prefix %s: got %v, want a refusal", prefix, ms)
		}
	}
}

func TestNothingInstalled(t *testing.T) {
	t.Parallel()
	tb := newTable(t, Config{})
	tb.found[Python], tb.found[Node] = nil, nil
	for _, id := range []string{"python3.12", "nodejs20.x"} {
		if r, err := tb.Resolve(id); countersign.KindOf(err) != countersign.NotAllowed || !strings.Contains(err.Error(), id) {
			t.Errorf("%s: got %v, %v; want to be told", id, r, err)
		}
	}
	if r, err := tb.Resolve("provided.al2023"); err != nil || r.Interpreter != "" {
		t.Errorf("provided needs nothing: got %v, %v", r, err)
	}
	for _, e := range tb.List() {
		if (e.Err == nil) != strings.HasPrefix(e.ID, "provided") {
			t.Errorf("%s: got %v", e.ID, e.Err)
		}
	}
}

// A second table over the same folder leaves files alone that others read.
func TestBootstrapsAreKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "r")
	if _, err := New(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "python", "bootstrap.py")
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node", "bootstrap.js"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
		t.Errorf("%s was replaced, %v", file, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "node", "bootstrap.js")); err != nil || string(b) == "old" {
		t.Errorf("an old bootstrap was kept: %q, %v", b, err)
	}
}
