package countersign

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// needTool skips where a program is missing, unless CI asked for it.
func needTool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI has no %s: %v", name, err)
		}
		t.Skipf("needs %s: %v", name, err)
	}
}

// tree makes a function's source as people have it.
func tree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range map[string]string{
		"app.py":               "def handler(event, context):\n    return event\n",
		"empty":                "",
		"bin/run":              "#!/bin/sh\nexec true\n",
		"lib/deep/er/mod.py":   strings.Repeat("x = 1\n", 2000),
		"lib/deep/naïve.txt":   "Grüße\n",
		"with space/and (par)": "1",
		"lib/libz.so.1.3":      "\x7fELF",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		m := fs.FileMode(0o644)
		if name == "bin/run" {
			m = 0o755
		}
		if err := os.WriteFile(p, []byte(body), m); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"lib/libz.so": "libz.so.1", "lib/libz.so.1": "libz.so.1.3", "run": "bin/run"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The archives ordinary tools make open, say what archive/zip says, unpack to
// what was packed, and can be signed and verified.
func TestOrdinaryTools(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	python := func(script string) []string { return []string{"python3", "-c", script} }
	const walk = `
import os, sys, zipfile
def fill(z, **kw):
    for d, _, fs in sorted(os.walk('.')):
        for f in sorted(fs):
            z.write(os.path.join(d, f)[2:], **kw)
`
	for name, cmd := range map[string][]string{
		"zip":                      {"zip", "-qr", "-", "."},
		"zip to a file":            {"sh", "-c", "zip -qr $OUT/x.zip . && cat $OUT/x.zip"},
		"zip with links":           {"sh", "-c", "zip -qry $OUT/x.zip . && cat $OUT/x.zip"},
		"zip, no directories":      {"sh", "-c", "zip -qrD - . | cat"},
		"zip, stored":              {"sh", "-c", "zip -0qr $OUT/x.zip . && cat $OUT/x.zip"},
		"zip, no extras":           {"sh", "-c", "zip -X9qr $OUT/x.zip . && cat $OUT/x.zip"},
		"zip from a pipe":          {"sh", "-c", "zip -qr $OUT/x.zip app.py && zip -q $OUT/x.zip - < app.py; zip -q -d $OUT/x.zip - && cat $OUT/x.zip"},
		"zip, zip64 forced":        {"sh", "-c", "zip -fz -qr $OUT/x.zip . && cat $OUT/x.zip"},
		"zip, updated":             {"sh", "-c", "zip -qr $OUT/x.zip . && zip -q -d $OUT/x.zip empty && zip -q $OUT/x.zip empty && cat $OUT/x.zip"},
		"zip, comment":             {"sh", "-c", "zip -qr $OUT/x.zip . && echo built today | zip -qz $OUT/x.zip && cat $OUT/x.zip"},
		"python":                   python(walk + "\nwith zipfile.ZipFile(os.environ['OUT']+'/x.zip', 'w', zipfile.ZIP_DEFLATED) as z: fill(z)\nsys.stdout.buffer.write(open(os.environ['OUT']+'/x.zip','rb').read())"),
		"python, streamed":         python(walk + "\nclass W:\n  def write(s, b): return sys.stdout.buffer.write(b)\n  def flush(s): pass\nwith zipfile.ZipFile(W(), 'w', zipfile.ZIP_DEFLATED) as z: fill(z)"),
		"python, streamed, stored": python(walk + "\nclass W:\n  def write(s, b): return sys.stdout.buffer.write(b)\n  def flush(s): pass\nwith zipfile.ZipFile(W(), 'w') as z: fill(z)"),
		"python, bare ZipInfo":     python("import io, sys, zipfile\nb = io.BytesIO()\nwith zipfile.ZipFile(b, 'w') as z:\n  z.writestr(zipfile.ZipInfo('app.py', (1980,1,1,0,0,0)), 'x = 1'); z.writestr('ü.py', 'y')\nsys.stdout.buffer.write(b.getvalue())"),
		"python, zip64 forced":     python("import io, sys, zipfile\nb = io.BytesIO()\nwith zipfile.ZipFile(b, 'w') as z:\n  with z.open('app.py', 'w', force_zip64=True) as f: f.write(b'x = 1')\nsys.stdout.buffer.write(b.getvalue())"),
		"python, zip64, streamed":  python("import sys, zipfile\nclass W:\n  def write(s, b): return sys.stdout.buffer.write(b)\n  def flush(s): pass\nwith zipfile.ZipFile(W(), 'w', zipfile.ZIP_DEFLATED) as z:\n  with z.open('app.py', 'w', force_zip64=True) as f: f.write(b'x = 1')"),
		"python, make_archive":     python("import os, shutil, sys\nshutil.make_archive(os.environ['OUT']+'/x', 'zip', '.')\nsys.stdout.buffer.write(open(os.environ['OUT']+'/x.zip','rb').read())"),
		"jar":                      {"sh", "-c", "jar cf $OUT/x.zip . && cat $OUT/x.zip"},
		"jar, stored":              {"sh", "-c", "jar c0f $OUT/x.zip . && cat $OUT/x.zip"},
		"jar, no manifest":         {"sh", "-c", "jar cfM $OUT/x.zip . && cat $OUT/x.zip"},
		"git archive":              {"sh", "-c", "export HOME=$OUT GIT_CONFIG_NOSYSTEM=1; git init -q $OUT/r && cp -a . $OUT/r && cd $OUT/r && git add . && git -c user.name=t -c user.email=t@t commit -qm x && git archive --format=zip HEAD"},
		"git archive, prefix":      {"sh", "-c", "export HOME=$OUT GIT_CONFIG_NOSYSTEM=1; git init -q $OUT/r && cp -a . $OUT/r && cd $OUT/r && git add . && git -c user.name=t -c user.email=t@t commit -qm x && git archive --format=zip --prefix=a/b/ HEAD"},
		"7z":                       {"sh", "-c", "7z a -tzip $OUT/x.zip . >/dev/null && cat $OUT/x.zip"},
		"bsdtar":                   {"sh", "-c", "bsdtar --format zip -cf $OUT/x.zip * && cat $OUT/x.zip"}, // to a pipe it pads like a tape
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tool := cmd[0]
			if tool == "sh" {
				tool, _, _ = strings.Cut(cmd[2], " ")
				if tool == "export" {
					tool = "git"
				}
			}
			needTool(t, tool)
			c := exec.CommandContext(t.Context(), cmd[0], cmd[1:]...)
			c.Dir = tree(t)
			c.Env = append(os.Environ(), "OUT="+t.TempDir(), "LC_ALL=C.UTF-8")
			var stderr bytes.Buffer
			c.Stderr = &stderr
			b, err := c.Output()
			if err != nil {
				t.Fatalf("%v: %v\n%s", cmd, err, stderr.Bytes())
			}
			ordinary(t, p, b)
		})
	}

	t.Run("archive/zip", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		if err := w.AddFS(fstest.MapFS{"a/b": {Data: []byte("x"), Mode: 0o755}, "c": {Data: []byte("y")}}); err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"d/", "d/e.txt", "ä.txt"} {
			e, err := w.Create(n)
			if err != nil {
				t.Fatal(err)
			}
			if n[len(n)-1] != '/' {
				io.WriteString(e, "z")
			}
		}
		if err := w.SetComment("c"); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		ordinary(t, p, out.Bytes())
	})
	// What macOS's Archive Utility and ditto write: everything streamed, old
	// Unix extra fields, and a shadow tree of attributes.
	t.Run("ditto", func(t *testing.T) {
		t.Parallel()
		ux := field(0x5855, make([]byte, 8)...)
		made := new(uint16(3<<8 | 21))
		entry := func(name, body string) rawEntry {
			d := deflated(body)
			return rawEntry{name: name, body: body, method: 8, flags: flagStreamed, made: made, dirExtra: ux, localExtra: field(0x5855, make([]byte, 12)...),
				descriptor: descriptor(true, nameCRC(body), uint32(len(d)), uint32(len(body)))}
		}
		ordinary(t, p, rawOf(entry("app.py", "x = 1\n"), rawEntry{name: "__MACOSX/", made: made}, entry("__MACOSX/._app.py", "\x00\x05\x16\x07")).bytes())
	})
	// A Java build that deflates and streams even its directories.
	t.Run("jar plugin", func(t *testing.T) {
		t.Parallel()
		made := new(uint16(20))
		ordinary(t, p, rawOf(
			rawEntry{name: "META-INF/", method: 8, flags: flagStreamed | flagUTF8, made: made, attr: new(uint32(0)), dirExtra: field(0xcafe), localExtra: field(0xcafe), descriptor: descriptor(true, 0, uint32(len(deflated(""))), 0)},
			rawEntry{name: "META-INF/MANIFEST.MF", body: "Manifest-Version: 1.0\r\n", made: made, attr: new(uint32(0))},
			rawEntry{name: "com/x/Handler.class", body: "\xca\xfe\xba\xbe", made: made, attr: new(uint32(0))}).bytes())
	})
}

// ordinary holds one archive against archive/zip, Unpack and a signature.
func ordinary(t *testing.T, p *pki, b []byte) {
	t.Helper()
	agree(t, b)
	a := open(t, b)
	before, err := a.Digests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signed, _ := p.sign(t, b)
	if !bytes.HasPrefix(signed, b[:a.dirAt]) || !bytes.Contains(signed, a.dir) {
		t.Error("signing changed entries or their directory records")
	}
	agree(t, signed)
	ev, err := Verify(t.Context(), open(t, signed), p.trust())
	if err != nil {
		t.Fatal(err)
	}
	if got := ev.Digests(); got.Content != before.Content || got.Strict != before.Strict {
		t.Error("the digests before and after signing differ")
	}
	dir := t.TempDir()
	if err := a.Unpack(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	onDisk(t, a, dir)
}

// agree holds our reading of b against archive/zip's: names, modes, sizes,
// bodies.
func agree(t testing.TB, b []byte) {
	t.Helper()
	a := open(t, b)
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatalf("archive/zip: %v", err)
	}
	if len(z.File) != len(a.Entries()) {
		t.Fatalf("got %d entries, archive/zip has %d", len(a.Entries()), len(z.File))
	}
	for i, e := range a.Entries() {
		f := z.File[i]
		if e.Name != f.Name || uint64(e.Size) != f.UncompressedSize64 || e.Mode.Type() != f.Mode().Type() {
			t.Errorf("got %q %d %v, archive/zip has %q %d %v", e.Name, e.Size, e.Mode, f.Name, f.UncompressedSize64, f.Mode())
		}
		r, err := a.Open(i)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		zr, err := f.Open()
		if err != nil {
			t.Fatalf("archive/zip: open %q: %v", f.Name, err)
		}
		want, err := io.ReadAll(zr)
		if err != nil {
			t.Fatalf("archive/zip: read %q: %v", f.Name, err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%q: got body %.40q, archive/zip has %.40q", e.Name, got, want)
		}
	}
}

// onDisk holds what Unpack made against the archive, both ways.
func onDisk(t testing.TB, a *Archive, dir string) {
	t.Helper()
	want := map[string]Entry{}
	for _, e := range a.Entries() {
		name := strings.TrimSuffix(e.Name, "/")
		for d := parent(name); d != ""; d = parent(d) {
			if _, ok := want[d]; !ok {
				want[d] = Entry{Mode: fs.ModeDir | 0o755}
			}
		}
		want[name] = e
	}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		e, ok := want[name]
		delete(want, name)
		if !ok {
			t.Errorf("unpacked %q, which no entry asked for", name)
			return nil
		}
		i, err := d.Info()
		if err != nil {
			return err
		}
		if i.Mode() != e.Mode {
			t.Errorf("%q: got mode %v, want %v", name, i.Mode(), e.Mode)
		}
		switch {
		case e.Mode&fs.ModeSymlink != 0:
			if got, err := os.Readlink(p); err != nil || got != e.Target {
				t.Errorf("%q: got link to %q (%v), want %q", name, got, err, e.Target)
			}
		case e.Mode.IsRegular():
			if i.Size() != e.Size || !i.ModTime().Equal(e.Modified) {
				t.Errorf("%q: got %d bytes of %v, want %d of %v", name, i.Size(), i.ModTime(), e.Size, e.Modified)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if len(want) > 0 {
		t.Errorf("not unpacked: %v", slices.Sorted(maps.Keys(want)))
	}
}
