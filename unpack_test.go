package countersign

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnpack(t *testing.T) {
	t.Parallel()
	a := open(t, rawOf(
		stored("top.py", "1"),
		mode("bin/run", "#!/bin/sh\n", 0o100755),
		mode("secret", "s", 0o100400),
		mode("none", "n", 0o100000),
		mode("open", "o", 0o100666),
		mode("closed/", "", 0o040500),
		stored("closed/in/side", "2"),
		stored("implied/deep/er/x", "3"),
		mode("late/a", "4", 0o100644),
		mode("late/", "", 0o040711),
		link("lnk", "bin/run"),
		link("bin/dir", "../implied"),
	).bytes())
	dir := t.TempDir()
	t.Cleanup(func() { os.Chmod(filepath.Join(dir, "closed"), 0o700) }) // so that TempDir can be removed
	if err := a.Unpack(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	onDisk(t, a, dir)
	if b, err := os.ReadFile(filepath.Join(dir, "bin/dir/deep/er/x")); err != nil || string(b) != "3" {
		t.Errorf("through a link: got %q, %v", b, err)
	}
	if err := a.Unpack(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v for a directory in use, want an error", err)
	}
	if err := a.Unpack(t.Context(), filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v for a missing directory, want fs.ErrNotExist", err)
	}
}

// An archive forged in memory, past every check, still cannot leave dir: the
// second line holds by itself.
func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	for name, forge := range map[string]func(a *Archive){
		"upwards":        func(a *Archive) { a.entries[1].Name = "../escaped" },
		"absolute":       func(a *Archive) { a.entries[1].Name = filepath.Join(outside, "escaped") },
		"through a link": func(a *Archive) { a.entries[0].Target = outside; a.entries[1].Name = "lnk/escaped" },
		"onto a link":    func(a *Archive) { a.entries[0].Target = filepath.Join(outside, "escaped"); a.entries[1].Name = "lnk" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := open(t, rawOf(link("lnk", "x"), stored("x", "evil")).bytes())
			forge(a)
			base := t.TempDir()
			dir := filepath.Join(base, "in")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := a.Unpack(t.Context(), dir); err == nil {
				t.Error("got no error")
			}
			for _, d := range []string{base, outside} {
				if _, err := os.Lstat(filepath.Join(d, "escaped")); err == nil {
					t.Errorf("wrote outside, into %s", d)
				}
			}
		})
	}
}
