package code

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign"
	"countersign/internal/admit"
)

// artifacts are archives in memory; get may be replaced by something worse.
type artifacts struct {
	m     map[countersign.Digest][]byte
	opens atomic.Int32
	get   func(countersign.Digest) (io.Reader, error)
}

func (a *artifacts) Open(_ context.Context, d countersign.Digest) (io.ReadCloser, int64, error) {
	a.opens.Add(1)
	if a.get != nil {
		r, err := a.get(d)
		return io.NopCloser(r), -1, err
	}
	return io.NopCloser(bytes.NewReader(a.m[d])), int64(len(a.m[d])), nil
}

// admitted shows the same to a gate.
type admitted struct{ *artifacts }

type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

func (a admitted) Open(_ context.Context, d countersign.Digest) (admit.Artifact, error) {
	return file{bytes.NewReader(a.m[d])}, nil
}

// admission makes an archive with one file and has it admitted.
func (a *artifacts) admission(t *testing.T, name, content string) admit.Admission {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if a.m == nil {
		a.m = make(map[countersign.Digest][]byte)
	}
	d := countersign.DigestOf(b.Bytes())
	a.m[d] = b.Bytes()
	adm, err := admit.New(admitted{a}, countersign.Trust{}, nil, time.Now).Admit(t.Context(), admit.Request{Artifact: d})
	if err != nil {
		t.Fatal(err)
	}
	return adm
}

func open(t *testing.T, a *artifacts, dir string, max int64) *Cache {
	t.Helper()
	c, err := New(a, dir, max)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// unpacked expects a folder with name in it.
func unpacked(t *testing.T, c *Cache, adm admit.Admission, name, content string) (dir string, release func()) {
	t.Helper()
	dir, release, err := c.Unpacked(t.Context(), adm)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != content {
		t.Fatalf("%s: got %q, %v; want %q", name, b, err, content)
	}
	return dir, release
}

func TestUnpacksOnce(t *testing.T) {
	t.Parallel()
	a := new(artifacts)
	adm := a.admission(t, "d/a.py", "x = 1\n")
	c := open(t, a, filepath.Join(t.TempDir(), "code"), 0)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, release, err := c.Unpacked(context.Background(), adm)
			if err != nil {
				t.Error(err)
				return
			}
			release()
			release() // again is harmless
		})
	}
	wg.Wait()
	dir, release := unpacked(t, c, adm, "d/a.py", "x = 1\n")
	release()
	if n := a.opens.Load(); n != 1 {
		t.Errorf("got %d unpackings, want 1", n)
	}
	if filepath.Base(dir) != adm.Digest().String() {
		t.Errorf("got %s, want the digest's name", dir)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("got %v, %v; want a folder that functions can read", st.Mode(), err)
	}
	left, err := os.ReadDir(c.dir)
	if err != nil || len(left) != 1 {
		t.Errorf("got %v, %v; want nothing but the folder", left, err)
	}
}

// What a blob store returns is not believed, and a bad answer is not kept.
func TestRefusesOtherBytes(t *testing.T) {
	t.Parallel()
	a := new(artifacts)
	adm, other := a.admission(t, "a", "good"), a.admission(t, "a", "evil")
	c := open(t, a, filepath.Join(t.TempDir(), "code"), 0)
	for name, get := range map[string]func(countersign.Digest) (io.Reader, error){
		"another artifact": func(countersign.Digest) (io.Reader, error) { return bytes.NewReader(a.m[other.Digest()]), nil },
		"one byte more": func(d countersign.Digest) (io.Reader, error) {
			return io.MultiReader(bytes.NewReader(a.m[d]), strings.NewReader("x")), nil
		},
		"cut short": func(d countersign.Digest) (io.Reader, error) { return bytes.NewReader(a.m[d][:20]), nil },
		"missing":   func(countersign.Digest) (io.Reader, error) { return strings.NewReader(""), errors.New("no such blob") },
		"breaks": func(d countersign.Digest) (io.Reader, error) {
			r, w := io.Pipe()
			go w.CloseWithError(errors.New("the disk is gone"))
			return r, nil
		},
	} {
		a.get = get
		if dir, _, err := c.Unpacked(t.Context(), adm); err == nil {
			t.Errorf("%s: got %s, want an error", name, dir)
		}
	}
	a.get = nil
	_, release := unpacked(t, c, adm, "a", "good")
	release()
	if left, err := os.ReadDir(c.dir); err != nil || len(left) != 1 {
		t.Errorf("got %v, %v; want nothing left of the failures", left, err)
	}
	if _, _, err := c.Unpacked(t.Context(), admit.Admission{}); err == nil {
		t.Error("the zero admission: got a folder")
	}
}

func TestEvictsUnused(t *testing.T) {
	t.Parallel()
	a := new(artifacts)
	c := open(t, a, filepath.Join(t.TempDir(), "code"), 2500)
	kb := strings.Repeat("x", 1000)
	var adm [4]admit.Admission
	for i := range adm {
		adm[i] = a.admission(t, "a", kb+string(rune('0'+i)))
	}
	first, keep := unpacked(t, c, adm[0], "a", kb+"0")
	for i := 1; i < len(adm); i++ {
		_, release := unpacked(t, c, adm[i], "a", kb+string(rune('0'+i)))
		release()
	}
	if _, err := os.Stat(first); err != nil {
		t.Errorf("a folder in use: %v", err)
	}
	left, err := os.ReadDir(c.dir)
	if err != nil || len(left) != 2 {
		t.Errorf("got %d folders, %v; want the one in use and the newest", len(left), err)
	}
	// One that was evicted comes back.
	before := a.opens.Load()
	_, release := unpacked(t, c, adm[1], "a", kb+"1")
	release()
	if a.opens.Load() != before+1 {
		t.Error("what was evicted was not unpacked again")
	}
	keep()
}

// A new cache believes nothing that it finds.
func TestStartsEmpty(t *testing.T) {
	t.Parallel()
	a := new(artifacts)
	adm := a.admission(t, "a", "good")
	dir := filepath.Join(t.TempDir(), "code")
	got, release := unpacked(t, open(t, a, dir, 0), adm, "a", "good")
	release()
	if err := os.WriteFile(filepath.Join(got, "a"), []byte("evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "unpacking-1", "half"), 0o500); err != nil {
		t.Fatal(err)
	}
	_, release = unpacked(t, open(t, a, dir, 0), adm, "a", "good")
	release()
}

// A caller that gives up does not spoil the work for the next.
func TestCancel(t *testing.T) {
	t.Parallel()
	a := new(artifacts)
	adm := a.admission(t, "a", "good")
	r, w := io.Pipe()
	a.get = func(countersign.Digest) (io.Reader, error) { return r, nil }
	c := open(t, a, filepath.Join(t.TempDir(), "code"), 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Unpacked(ctx, adm); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	go func() {
		_, err := w.Write(a.m[adm.Digest()])
		w.CloseWithError(err)
	}()
	_, release := unpacked(t, c, adm, "a", "good")
	release()
	if n := a.opens.Load(); n != 1 {
		t.Errorf("got %d unpackings, want the first to have gone on", n)
	}
}
