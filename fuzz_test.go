package countersign

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What opens and has sound bodies is the same archive to archive/zip, unpacks
// inside its directory, and survives signing with its digests.
func FuzzOpenArchive(f *testing.F) {
	for _, c := range hostile() {
		f.Add(c.zip)
	}
	f.Add(zipOf(f, sources()...))
	f.Add(withZip64End(rawOf(stored("a", "1")), true, nil))
	f.Add(withZip64End(rawOf(stored("a", "1")), false, nil))
	f.Add(reordered())
	f.Add(rawOf(rawEntry{name: "s", body: "body", flags: flagStreamed, descriptor: descriptor(true, nameCRC("body"), 4, 4)}).bytes())
	f.Add(rawOf(link("l", "d/x"), stored("d/x", "1"), rawEntry{name: "naïve", body: "x", dirExtra: unicodeName("naïve", "naïve")}).bytes())
	signed, _ := golden(f)
	f.Add(signed)
	lim := Limits{MaxBytes: 1 << 20, MaxUnpacked: 4 << 20, MaxEntries: 500}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := OpenArchive(bytes.NewReader(b), int64(len(b)), lim)
		if err != nil {
			codes(t, err) // nothing but refusals: the reader cannot fail
			return
		}
		d, err := a.Digests(t.Context())
		if err != nil {
			codes(t, err)
			return
		}
		if d.Unpacked >= lim.MaxUnpacked {
			t.Fatalf("%d bytes got past the limit", d.Unpacked)
		}
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatalf("archive/zip refuses what opened: %v", err)
		}
		entries := a.Entries()
		if len(entries) != len(z.File) {
			t.Fatalf("got %d entries, archive/zip has %d", len(entries), len(z.File))
		}
		for i, e := range entries {
			zf := z.File[i]
			if e.Name != zf.Name || uint64(e.Size) != zf.UncompressedSize64 || e.Mode.IsDir() != zf.Mode().IsDir() ||
				e.Mode&fs.ModeSymlink != 0 && zf.Mode()&fs.ModeSymlink == 0 {
				t.Fatalf("got %+v, archive/zip has %q %d %v", e, zf.Name, zf.UncompressedSize64, zf.Mode())
			}
			ours, err := a.Open(i)
			if err != nil {
				t.Fatal(err)
			}
			want, err := io.ReadAll(ours)
			ours.Close()
			if err != nil {
				t.Fatalf("%q was sound a moment ago: %v", e.Name, err)
			}
			theirs, err := zf.Open()
			if err != nil {
				t.Fatalf("archive/zip: %v", err)
			}
			got, err := io.ReadAll(theirs)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%q: got %q, archive/zip has %q, %v", e.Name, want, got, err)
			}
		}
		base := t.TempDir()
		dir := filepath.Join(base, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := a.Unpack(t.Context(), dir); err != nil {
			t.Fatalf("an archive that opened does not unpack: %v", err)
		}
		if names, err := os.ReadDir(base); err != nil || len(names) != 1 {
			t.Fatalf("something was written outside: %v %v", names, err)
		}
		linksInside(t, dir)

		var out bytes.Buffer
		if err := a.WriteSigned(&out, []byte("signature")); err != nil {
			return // it has one, or something like one
		}
		s, err := OpenArchive(bytes.NewReader(out.Bytes()), int64(out.Len()), Limits{})
		if err != nil {
			t.Fatalf("signing made it unreadable: %v", err)
		}
		after, err := s.Digests(t.Context())
		if err != nil || after.Content != d.Content || after.Strict != d.Strict {
			t.Fatalf("signing changed the digests: %v", err)
		}
	})
}

// linksInside checks that every link made resolves to something below dir, and
// removes write protection so that the directory can be cleaned up.
func linksInside(t *testing.T, dir string) {
	t.Helper()
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d.IsDir() {
			os.Chmod(p, 0o700)
		}
		if d.Type()&fs.ModeSymlink != 0 {
			to, err := filepath.EvalSymlinks(p)
			if err != nil || to != real && !strings.HasPrefix(to, real+"/") {
				t.Errorf("the link %q leads to %q, %v", p, to, err)
			}
		}
		return nil
	})
}

// goldenSF is the golden archive's signature file. Seeds must be the same in
// every process of a fuzzing run, so they are not signed afresh.
func goldenSF(f *testing.F) []byte {
	f.Helper()
	b, _ := golden(f)
	sf, err := open(f, b).Signature()
	if err != nil {
		f.Fatal(err)
	}
	return sf
}

// Whatever the bytes, parsing ends, and what parses is consistent.
func FuzzParseSignature(f *testing.F) {
	sf := goldenSF(f)
	s, err := ParseSignature(sf)
	if err != nil {
		f.Fatal(err)
	}
	leaf := s.Chain[0]
	f.Add(cmsOf(f, sf))
	f.Add(indefinite(f, cmsOf(f, sf), true))
	f.Add(indefinite(f, cmsOf(f, sf), false))
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Add([]byte{0x24, 0x80, 0x24, 0x80, 0x04, 0x01, 0x61, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, cms []byte) {
		d, err := toDER(cms)
		if err == nil {
			// DER is where conversion stops, and it only ever shortens.
			again, err := toDER(d)
			if err != nil || !bytes.Equal(again, d) || len(d) > len(cms) {
				t.Fatalf("toDER is not stable: %x, %x, %v", d, again, err)
			}
		}
		s, err := ParseSignature(sfOf(cms))
		if err != nil {
			return
		}
		if err := s.Statement.check(); err != nil {
			t.Fatalf("a statement that is none was parsed: %v", err)
		}
		if len(s.Chain) == 0 || len(s.Chain) > maxCertificates {
			t.Fatalf("got %d certificates", len(s.Chain))
		}
		s.Covers(ContentDigest{})
		if s.Chain[0].Equal(leaf) && s.signedByLeaf() && (s.Statement.Job != testJob || !s.Statement.SignedAt.Equal(signedAt)) {
			t.Fatalf("forged: %+v", s.Statement)
		}
	})
}

// The same around the PEM, where the fuzzer would otherwise never get in.
func FuzzSignatureFile(f *testing.F) {
	f.Add(goldenSF(f))
	f.Add([]byte("-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----\n"))
	f.Fuzz(func(t *testing.T, sf []byte) {
		if _, err := ParseSignature(sf); err == nil && !bytes.HasPrefix(sf, []byte("-----BEGIN PKCS7-----")) {
			t.Fatal("parsed with something in front")
		}
	})
}

func FuzzLoadTrust(f *testing.F) {
	_, trust := golden(f)
	f.Add(trust)
	f.Add(append([]byte(strictOptional+"\n"), trust...))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := LoadTrust(b)
		if err != nil {
			return
		}
		again, err := LoadTrust(tr.PEM())
		if err != nil || len(again.Roots) != len(tr.Roots) {
			t.Fatalf("a trust file does not survive being written: %v", err)
		}
		for i, r := range tr.Roots {
			if r.RequireStrict != again.Roots[i].RequireStrict {
				t.Fatal("strictness was lost")
			}
		}
	})
}
