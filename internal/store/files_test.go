package store_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"countersign/internal/store"
)

// TestCorruptBlobs changes a blob's file as somebody would who can write to
// the data directory, and must never be given the changed bytes as the blob.
func TestCorruptBlobs(t *testing.T) {
	t.Parallel()
	good := bytes.Repeat([]byte("reviewed code\n"), 10_000)
	changed := bytes.Clone(good)
	changed[len(changed)/2] ^= 1
	for name, harm := range map[string]func(t *testing.T, path string){
		"one bit": func(t *testing.T, path string) { overwrite(t, path, changed) },
		"one bit, times put back": func(t *testing.T, path string) {
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, path, changed)
			if err := os.Chtimes(path, time.Now(), fi.ModTime()); err != nil {
				t.Fatal(err)
			}
		},
		"cut short": func(t *testing.T, path string) { overwrite(t, path, good[:len(good)-1]) },
		"emptied":   func(t *testing.T, path string) { overwrite(t, path, nil) },
		"appended":  func(t *testing.T, path string) { overwrite(t, path, append(bytes.Clone(good), 0)) },
		"another file in its place": func(t *testing.T, path string) {
			if err := os.WriteFile(path+"x", changed, 0o400); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+"x", path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, opened := range []string{"before", "never"} { // OpenFile remembers what it checked
			t.Run(name+", opened "+opened, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				dir := t.TempDir()
				b, err := open(t, dir).Blobs(ctx, "code")
				if err != nil {
					t.Fatal(err)
				}
				d, _, err := b.Put(ctx, bytes.NewReader(good))
				if err != nil {
					t.Fatal(err)
				}
				if opened == "before" {
					f, err := b.OpenFile(ctx, d)
					if err != nil {
						t.Fatal(err)
					}
					f.Close()
				}
				harm(t, filepath.Join(dir, "blobs", "code", d.String()[:2], d.String()))

				if f, err := b.OpenFile(ctx, d); !errors.Is(err, store.ErrCorrupt) {
					t.Errorf("OpenFile: got %v, %v, want ErrCorrupt", f, err)
				}
				r, _, err := b.Open(ctx, d)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); !errors.Is(err, store.ErrCorrupt) {
					t.Errorf("Open: reading ended with %v, want ErrCorrupt", err)
				}
				r.Close()

				// Putting it again mends it.
				if _, _, err := b.Put(ctx, bytes.NewReader(good)); err != nil {
					t.Fatal(err)
				}
				f, err := b.OpenFile(ctx, d)
				if err != nil {
					t.Fatalf("after Put: %v", err)
				}
				f.Close()
			})
		}
	}
}

// overwrite changes a file in place, as its owner can whatever its mode.
func overwrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBlobsLeaveNoScraps: what a dead process was putting is cleared away.
func TestBlobsLeaveNoScraps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tmp := filepath.Join(dir, "blobs", "code", "tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tmp, "put-1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := open(t, dir).Blobs(t.Context(), "code")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Put(t.Context(), io.MultiReader(bytes.NewReader([]byte("x")), brokenReader{})); err == nil {
		t.Error("Put from a broken reader: got no error")
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }
