// Package twin finds the program that is a guest's processes.
//
// That is this very binary, where it is statically linked: inside a guest's
// walls there is no dynamic linker. But `go run` and `go build`, on a machine
// with a C compiler, link it dynamically. Then a static twin, which holds the
// guests' part of the program and nothing else, is built once from the source
// this binary was built from, and kept in the user's cache.
//
// It trusts the cache directory and the source tree as the user who runs the
// program does: who can write them is the user already.
package twin

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// guestMain is the twin's package.
const guestMain = "countersign/internal/run/twin/guestmain"

// ErrDynamic is in the chain of the error when there is no static program and
// none can be built.
var ErrDynamic = errors.New("this program is dynamically linked, and a guest's processes cannot be")

// Path returns the program to be guests' processes: empty for this one, or
// the path of a static twin. Before it builds one, which takes a while, it
// calls notice.
func Path(notice func(string)) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	id, dynamic, err := inspect(self)
	if err != nil {
		return "", fmt.Errorf("inspect %s: %w", self, err)
	}
	if !dynamic {
		return "", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	dir = filepath.Join(dir, "countersign")
	to := filepath.Join(dir, fmt.Sprintf("guest-%x", sha256.Sum256(id))[:38])
	if _, dynamic, err := inspect(to); err == nil && !dynamic {
		return to, nil
	}
	root, err := source()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrDynamic, err)
	}
	notice("this program is dynamically linked; building a static one for guests, once (CGO_ENABLED=0 go build avoids it)")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return to, build(root, to)
}

// inspect returns an ELF file's build id and whether it wants a dynamic
// linker.
func inspect(name string) (id []byte, dynamic bool, err error) {
	f, err := elf.Open(name)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	for _, p := range f.Progs {
		dynamic = dynamic || p.Type == elf.PT_INTERP
	}
	if s := f.Section(".note.go.buildid"); s != nil {
		id, err = s.Data()
	}
	return id, dynamic, err
}

// source finds the module this binary was built from: where this file was.
func source() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", errors.New("it was built without source paths")
	}
	root := filepath.Join(filepath.Dir(file), "..", "..", "..")
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil || !bytes.HasPrefix(mod, []byte("module countersign\n")) {
		return "", errors.New("its source is no longer where it was")
	}
	return root, nil
}

func build(root, to string) error {
	tmp := fmt.Sprintf("%s.%d", to, os.Getpid())
	defer os.Remove(tmp) // an error means that it was renamed
	c := exec.Command("go", "build", "-o", tmp, guestMain)
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: build a static twin: %w: %s", ErrDynamic, err, bytes.TrimSpace(out))
	}
	// Guests run it as nobody.
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}
