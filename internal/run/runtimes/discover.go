package runtimes

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign"
	"countersign/internal/run/sandbox"
)

// An interpreter is a program found on the machine, by its name alone until
// it is probed.
type interpreter struct {
	path         string
	major, minor int // -1 where the name does not tell
}

// A probed interpreter has said itself what it is.
type probed struct {
	path    string // with links resolved
	version string
	prefix  string // the tree it is installed in
}

// oldest is the least version a family's bootstrap runs on.
var oldest = map[Family][2]int{Python: {3, 6}, Node: {14, 0}}

// interpret picks the interpreter for r. The caller holds t.mu.
func (t *Table) interpret(r *Runtime, major, minor int) error {
	p, err := t.pick(r, major, minor)
	if err != nil {
		return err
	}
	r.Interpreter, r.Version = p.path, p.version
	mounts, err := t.tree(p)
	if err != nil {
		return err
	}
	r.Mounts = append(r.Mounts, mounts...)
	gotMajor, gotMinor := versionOf(p.version)
	if gotMajor == major && (minor < 0 || gotMinor == minor) {
		return nil
	}
	name := map[Family]string{Python: "Python", Node: "Node.js"}[r.Family]
	if t.cfg.Strict {
		return countersign.Errorf(countersign.NotAllowed, "runtime %s is not installed on this machine (the nearest is %s %s): install it, name an interpreter for it in the configuration, or leave strict mode", r.ID, name, p.version)
	}
	r.Notice = fmt.Sprintf("runtime %s is not installed on this machine: running on %s %s", r.ID, name, p.version)
	return nil
}

// pick finds the exact version, else the nearest, newer before older.
func (t *Table) pick(r *Runtime, major, minor int) (probed, error) {
	if path := t.cfg.Interpreters[r.ID]; path != "" {
		p, err := probe(r.Family, path)
		if err != nil {
			return probed{}, fmt.Errorf("interpreter configured for %s: %w", r.ID, err)
		}
		return p, nil
	}
	all, ok := t.found[r.Family]
	if !ok {
		all = t.search(r.Family)
		t.found[r.Family] = all
	}
	for _, i := range nearest(all, major, minor) {
		if p, err := probe(r.Family, i.path); err == nil {
			return p, nil
		}
	}
	return probed{}, countersign.Errorf(countersign.NotAllowed, "runtime %s cannot run: no %s interpreter was found on this machine; install one or name it in the configuration", r.ID, r.Family)
}

// nearest orders interpreters by how far they are from a version: newer ones
// before older ones that are as far, and those found first before the rest.
func nearest(all []interpreter, major, minor int) []interpreter {
	distance := func(i interpreter) int {
		d := (i.major - major) * 1000
		if minor >= 0 && i.minor >= 0 {
			d += i.minor - minor
		}
		if d < 0 {
			return -2*d + 1
		}
		return 2 * d
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b interpreter) int { return distance(a) - distance(b) })
	return all
}

var (
	pythonName = regexp.MustCompile(`^python(\d+)\.(\d+)$`)
	nodeName   = regexp.MustCompile(`^(?:node|nodejs)\d*$`)
	nodeDir    = regexp.MustCompile(`^v?(\d+)\.(\d+)\.(\d+)$`)
)

// search lists a family's interpreters that its bootstrap can run on, best
// place first: the search path, then where version managers keep them.
func (t *Table) search(f Family) (all []interpreter) {
	add := func(path string, major, minor int) {
		o := oldest[f]
		if major < o[0] || major == o[0] && minor >= 0 && minor < o[1] {
			return
		}
		if program(path) {
			all = append(all, interpreter{path, major, minor})
		}
	}
	dirs := filepath.SplitList(t.cfg.Path)
	dirs = append(dirs, "/usr/local/bin", "/usr/bin", filepath.Join(t.cfg.Home, ".pyenv/shims"))
	if root := os.Getenv("PYENV_ROOT"); root != "" {
		dirs = append(dirs, filepath.Join(root, "shims"))
	}
	seen := make(map[string]bool)
	for i := 0; i < len(dirs); i++ {
		dir := dirs[i]
		if seen[dir] {
			continue
		}
		seen[dir] = true
		if filepath.Base(dir) == "shims" {
			// A shim is a script that picks a version at run time: look where
			// it would, newest first.
			dirs = slices.Insert(dirs, i+1, newestFirst(glob(filepath.Dir(dir), "versions/*/bin"))...)
			continue
		}
		t.searchDir(f, dir, add)
	}
	var kept []string
	switch f {
	case Python:
		kept = append(kept, glob(t.cfg.Home, ".local/share/uv/python/*/bin")...)
		kept = append(kept, glob("/opt", "python*/bin")...)
	case Node:
		kept = append(kept, glob(t.cfg.Home, ".nvm/versions/node/*/bin")...)
		kept = append(kept, glob("/usr/local/n/versions/node", "*/bin")...)
		kept = append(kept, glob(t.cfg.Home, ".volta/tools/image/node/*/bin")...)
	}
	for _, dir := range newestFirst(kept) {
		if m := nodeDir.FindStringSubmatch(filepath.Base(filepath.Dir(dir))); m != nil && f == Node {
			add(filepath.Join(dir, "node"), atoi(m[1]), atoi(m[2])) // its folder tells: no need to ask it
			continue
		}
		t.searchDir(f, dir, add)
	}
	return all
}

// searchDir adds the interpreters in one folder. A python's name tells its
// version; a node has to be asked.
func (t *Table) searchDir(f Family, dir string, add func(path string, major, minor int)) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, n := range names {
		path := filepath.Join(dir, n.Name())
		if m := pythonName.FindStringSubmatch(n.Name()); m != nil && f == Python {
			add(path, atoi(m[1]), atoi(m[2]))
		}
		if nodeName.MatchString(n.Name()) && f == Node && program(path) {
			if p, err := probe(f, path); err == nil {
				major, minor := versionOf(p.version)
				add(path, major, minor)
			}
		}
	}
}

// newestFirst orders folders by the version numbers in their paths.
func newestFirst(dirs []string) []string {
	slices.SortFunc(dirs, func(a, b string) int { return -compareVersions(a, b) })
	return dirs
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s) // of digits only
	return n
}

// glob is filepath.Glob below a folder that may be unknown.
func glob(dir, pattern string) []string {
	if dir == "" {
		return nil
	}
	m, _ := filepath.Glob(filepath.Join(dir, pattern))
	return m
}

var number = regexp.MustCompile(`\d+`)

// compareVersions orders paths by the numbers in them.
func compareVersions(a, b string) int {
	x, y := number.FindAllString(a, -1), number.FindAllString(b, -1)
	return slices.CompareFunc(x, y, func(a, b string) int { return atoi(a) - atoi(b) })
}

// versionOf reads "3.12.1" or "v20.1.0".
func versionOf(s string) (major, minor int) {
	p := strings.SplitN(strings.TrimPrefix(s, "v"), ".", 3)
	if len(p) < 2 {
		return -1, -1
	}
	return atoi(p[0]), atoi(p[1])
}

// program reports whether path is a real executable, not a script such as a
// version manager's shim.
func program(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return false
	}
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:]) == "\x7fELF"
}

// probe asks an interpreter what it is. A virtual environment's python
// answers with the installation behind it.
func probe(f Family, path string) (probed, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	args := []string{"-I", "-S", "-c", "import sys,platform,os;print(platform.python_version());print(sys.base_prefix);print(os.path.realpath(sys.executable))"}
	if f == Node {
		args = []string{"-p", "process.versions.node+'\\n\\n'+process.execPath"}
	}
	c := exec.CommandContext(ctx, path, args...)
	c.Env = []string{"LC_ALL=C"}
	out, err := c.Output()
	if err != nil {
		return probed{}, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if len(lines) != 3 {
		return probed{}, fmt.Errorf("ask %s for its version: it answered %q", path, out)
	}
	p := probed{version: string(lines[0]), prefix: string(lines[1]), path: string(lines[2])}
	if p.prefix == "" {
		p.prefix = filepath.Dir(filepath.Dir(p.path))
	}
	if p.prefix, err = filepath.EvalSymlinks(p.prefix); err != nil {
		return probed{}, fmt.Errorf("find the tree of %s: %w", path, err)
	}
	return p, nil
}

// compile has r's own interpreter compile the Python bootstrap in dir, which
// saves every cold start a few milliseconds, and returns the name of the file
// to run: the source where that does not work.
func compile(r *Runtime, dir string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	const source = "bootstrap.py"
	name := "bootstrap-" + r.Version + ".pyc"
	c := exec.CommandContext(ctx, r.Interpreter, "-I", "-S", "-c", "import py_compile,sys; py_compile.compile(sys.argv[1], sys.argv[2], sys.argv[3], doraise=True)",
		filepath.Join(dir, source), filepath.Join(dir, name), RuntimeDir+"/"+source)
	c.Env = []string{"LC_ALL=C"}
	if err := c.Run(); err != nil {
		return source
	}
	return name
}

// tree is what p needs mounted beyond base: its own prefix, and never a folder
// that holds more than an interpreter.
func (t *Table) tree(p probed) ([]sandbox.Mount, error) {
	same := func(dirs ...string) (ms []sandbox.Mount) {
		for _, d := range dirs {
			if _, err := os.Stat(d); err == nil {
				ms = append(ms, sandbox.Mount{Host: d, Guest: d})
			}
		}
		return ms
	}
	switch p.prefix {
	case "/usr":
		return nil, nil
	case "/usr/local":
		return same("/usr/local/bin", "/usr/local/lib"), nil
	}
	home := filepath.Clean(t.cfg.Home)
	for _, wide := range []string{"/", "/home", "/root", "/opt", "/var", "/etc", "/srv", home} {
		if p.prefix == wide {
			return nil, countersign.Errorf(countersign.NotAllowed, "interpreter %s is installed straight into %s, which functions must not see: install it into a folder of its own", p.path, p.prefix)
		}
	}
	ms := same(p.prefix)
	if !strings.HasPrefix(p.path, p.prefix+"/") {
		ms = append(ms, same(p.path)...)
	}
	return ms, nil
}

// base is what every runtime sees of the machine: programs, shared libraries,
// time zones and certificate authorities. A link among them (/lib on most
// distributions) is mounted as what it points to.
func base() (ms []sandbox.Mount) {
	for _, dir := range []string{
		"/bin", "/lib", "/lib32", "/lib64", "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64",
		"/usr/share/zoneinfo", "/etc/ssl/certs", "/usr/share/ca-certificates", "/etc/ld.so.cache", "/etc/alternatives",
	} {
		host, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue
		}
		ms = append(ms, sandbox.Mount{Host: host, Guest: dir})
	}
	return ms
}
