// Package runtimes knows what a runtime identifier such as python3.12 means on
// this machine: which interpreter runs it, which files that interpreter needs
// to see, and the bootstrap of ours that connects it to the Runtime API.
//
// It promises that an interpreter other than the one asked for is never used
// silently: a substitute comes with a notice, and strict tables refuse. It
// trusts the machine's administrator: whatever is first on the search path is
// run. Interpreters are looked for when a runtime is first asked for, not
// before, and remembered.
//
// Identifiers are those of "Lambda runtimes" in the AWS Lambda developer
// guide, deprecated ones included; the bootstraps follow the runtime interface
// that guide documents.
package runtimes

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"countersign"
	"countersign/internal/run/sandbox"
)

// Places inside a guest, as the managed runtimes have them.
const (
	TaskRoot   = "/var/task"
	RuntimeDir = "/var/runtime"
)

// A Config says where to look. The zero value but for Dir is usable.
type Config struct {
	// Dir is where the bootstraps are written for guests to see; made if it
	// is missing.
	Dir string
	// Interpreters overrides what is found, by runtime identifier: an
	// interpreter's path.
	Interpreters map[string]string
	// Strict refuses a runtime whose exact version is not there.
	Strict bool
	// Path is the search path, "" for $PATH.
	Path string
	// Home is where version managers keep interpreters, "" for $HOME.
	Home string
}

// A Family is a kind of runtime.
type Family string

// The families.
const (
	Python   Family = "python"
	Node     Family = "nodejs"
	Provided Family = "provided" // the artifact brings its own: /var/task/bootstrap
	Go       Family = "go"       // the artifact is the program: /var/task/HANDLER
)

// A Runtime is what a function with one runtime identifier runs on.
type Runtime struct {
	ID     string
	Family Family
	// Version is the interpreter's own, "3.12.1"; empty for Provided and Go.
	Version string
	// Notice is one sentence for the function's log when the interpreter is
	// not the version asked for, else empty.
	Notice string
	// Interpreter is its path, on the machine and inside; empty for Provided
	// and Go.
	Interpreter string
	// Mounts are what the runtime needs of the machine, parents first. The
	// function's code is not among them.
	Mounts []sandbox.Mount

	bootstrap string // the file in RuntimeDir that is run
}

// Exact reports whether r is the version its identifier names.
func (r *Runtime) Exact() bool { return r.Notice == "" }

// Command is the runtime process for a handler. at turns a path inside into
// the path to use.
func (r *Runtime) Command(handler string, at func(string) string) []string {
	switch r.Family {
	case Python:
		// -S: what else is installed here is not the function's, and looking
		// for it is most of an interpreter's start. -B: the code is read-only,
		// so do not try to write bytecode beside it.
		return []string{r.Interpreter, "-S", "-B", at(RuntimeDir + "/" + r.bootstrap)}
	case Node:
		return []string{r.Interpreter, at(RuntimeDir + "/" + r.bootstrap)}
	case Go:
		return []string{at(TaskRoot + "/" + handler)}
	default:
		return []string{at(TaskRoot + "/bootstrap")}
	}
}

// Env is what the runtime adds to a function's environment.
func (r *Runtime) Env(at func(string) string) map[string]string {
	switch r.Family {
	case Python:
		return map[string]string{"AWS_EXECUTION_ENV": "AWS_Lambda_" + r.ID, "PYTHONPATH": at(RuntimeDir)}
	case Node:
		return map[string]string{"AWS_EXECUTION_ENV": "AWS_Lambda_" + r.ID, "NODE_PATH": strings.Join([]string{
			"/opt/nodejs/node" + r.major() + "/node_modules", "/opt/nodejs/node_modules",
			at(RuntimeDir) + "/node_modules", at(RuntimeDir), at(TaskRoot),
		}, ":")}
	case Go:
		return map[string]string{"AWS_EXECUTION_ENV": "AWS_Lambda_" + r.ID}
	}
	return nil // "not defined for OS-only runtimes"
}

func (r *Runtime) major() string {
	m, _, _ := strings.Cut(r.Version, ".")
	return m
}

// A Table answers what an identifier means here. Safe for concurrent use.
type Table struct {
	cfg Config

	mu    sync.Mutex
	known map[string]*Runtime // guarded by mu
	found map[Family][]interpreter
}

//go:embed bootstrap
var bootstraps embed.FS

// New writes the bootstraps under cfg.Dir and returns a table that has looked
// for nothing yet.
func New(cfg Config) (*Table, error) {
	if cfg.Path == "" {
		cfg.Path = os.Getenv("PATH")
	}
	if cfg.Home == "" {
		cfg.Home, _ = os.UserHomeDir()
	}
	if err := writeBootstraps(cfg.Dir); err != nil {
		return nil, fmt.Errorf("write runtime bootstraps: %w", err)
	}
	return &Table{cfg: cfg, known: make(map[string]*Runtime), found: make(map[Family][]interpreter)}, nil
}

// writeBootstraps puts each bootstrap where it belongs unless the same bytes
// are there already: another process may be reading them.
func writeBootstraps(dir string) error {
	src, err := fs.Sub(bootstraps, "bootstrap")
	if err != nil {
		return err
	}
	return fs.WalkDir(src, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		want, err := fs.ReadFile(src, name)
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(to); err == nil && string(got) == string(want) {
			return nil
		}
		tmp := to + ".new"
		if err := os.WriteFile(tmp, want, 0o644); err != nil {
			return err
		}
		return os.Rename(tmp, to)
	})
}

var idForm = regexp.MustCompile(`^(python|nodejs)(\d+)\.(\d+|x)$`)

// parse splits an identifier: python3.12 is (Python, 3, 12), nodejs20.x is
// (Node, 20, -1).
func parse(id string) (f Family, major, minor int, err error) {
	switch id {
	case "provided", "provided.al2", "provided.al2023":
		return Provided, 0, 0, nil
	case "go1.x":
		return Go, 0, 0, nil
	case "nodejs": // 0.10, the first of them
		return Node, 0, -1, nil
	}
	m := idForm.FindStringSubmatch(id)
	if m == nil {
		return "", 0, 0, countersign.Errorf(countersign.NotBuilt, "runtime %s cannot run here: only python3.x, nodejsNN.x, go1.x and provided runtimes can", id)
	}
	major, _ = strconv.Atoi(m[2])
	minor = -1
	if m[3] != "x" {
		minor, _ = strconv.Atoi(m[3])
	}
	return Family(m[1]), major, minor, nil
}

// Resolve says what id runs on. Its errors are [countersign.Error]s with a
// sentence that tells what to do.
func (t *Table) Resolve(id string) (*Runtime, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.known[id]; r != nil {
		return r, nil
	}
	f, major, minor, err := parse(id)
	if err != nil {
		return nil, err
	}
	r := &Runtime{ID: id, Family: f, Mounts: base()}
	if f == Python || f == Node {
		if err := t.interpret(r, major, minor); err != nil {
			return nil, err
		}
		if r.bootstrap = "bootstrap.js"; f == Python {
			r.bootstrap = compile(r, filepath.Join(t.cfg.Dir, f.dir()))
		}
		r.Mounts = append(r.Mounts, sandbox.Mount{Host: filepath.Join(t.cfg.Dir, f.dir()), Guest: RuntimeDir})
	}
	t.known[id] = r
	return r, nil
}

func (f Family) dir() string {
	if f == Node {
		return "node"
	}
	return string(f)
}

// current are the identifiers AWS accepts for new functions, as of this
// writing; Table lists them.
var current = []string{
	"nodejs24.x", "nodejs22.x", "nodejs20.x",
	"python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9",
	"provided.al2023", "provided.al2",
}

// An Entry is one line of [Table.List].
type Entry struct {
	ID      string
	Runtime *Runtime // nil when Err is set
	Err     error
}

// List says for every current identifier what it runs on here.
func (t *Table) List() []Entry {
	es := make([]Entry, len(current))
	for i, id := range current {
		r, err := t.Resolve(id)
		es[i] = Entry{ID: id, Runtime: r, Err: err}
	}
	return es
}
