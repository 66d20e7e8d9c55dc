package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestSealAndUnseal(t *testing.T) {
	t.Parallel()
	k := NewKey()
	for _, plain := range []string{"", "x", strings.Repeat("secret", 1000)} {
		sealed, err := k.Seal("ca-key", []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(sealed), len(plain)+29; got != want {
			t.Errorf("sealed length: got %d, want %d", got, want)
		}
		if plain == strings.Repeat("secret", 1000) && bytes.Contains(sealed, []byte("secret")) {
			t.Error("the plain text shows")
		}
		got, err := k.Unseal("ca-key", sealed)
		if err != nil || string(got) != plain {
			t.Errorf("got %q, %v, want %q", got, err, plain)
		}
	}
}

func TestSealedTwiceDiffers(t *testing.T) {
	t.Parallel()
	k := NewKey()
	a, _ := k.Seal("p", []byte("same"))
	b, _ := k.Seal("p", []byte("same"))
	if bytes.Equal(a, b) {
		t.Error("the same text sealed twice looks the same")
	}
}

func TestUnsealRefuses(t *testing.T) {
	t.Parallel()
	k := NewKey()
	sealed, err := k.Seal("ca-key", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(name string, k *Key, purpose string, b []byte) {
		t.Helper()
		if got, err := k.Unseal(purpose, b); !errors.Is(err, ErrOpen) || got != nil {
			t.Errorf("%s: got %q, %v, want ErrOpen", name, got, err)
		}
	}
	refuse("wrong key", NewKey(), "ca-key", sealed)
	refuse("wrong purpose", k, "session", sealed)
	refuse("longer purpose", k, "ca-key ", sealed)
	refuse("grown", k, "ca-key", append(bytes.Clone(sealed), 0))
	for n := range sealed {
		refuse(fmt.Sprint("cut to ", n), k, "ca-key", sealed[:n])
	}
	for i := range sealed {
		for bit := range 8 {
			b := bytes.Clone(sealed)
			b[i] ^= 1 << bit
			refuse(fmt.Sprintf("bit %d of byte %d", bit, i), k, "ca-key", b)
		}
	}
	if _, err := k.Seal("", nil); err == nil {
		t.Error("sealed without a purpose")
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	a, err := Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("key file: got %v, %v, want mode 0600", fi.Mode(), err)
	}
	b, err := Open(dir, "")
	if err != nil || b.master != a.master {
		t.Errorf("opened again: %v, the same key: %v", err, b != nil && b.master == a.master)
	}
	given := NewKey()
	if c, err := Open(dir, given.text()); err != nil || c.master != given.master {
		t.Errorf("a given key did not win: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("got %d files, want only the key", len(entries))
	}
	if err := os.Chmod(filepath.Join(dir, FileName), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, ""); err == nil || !strings.Contains(err.Error(), "0640") {
		t.Errorf("got %v, want a refusal of a file group can read", err)
	}
}

// Two processes that start at once end with one key.
func TestOpenRaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wg sync.WaitGroup
	keys := make([]*Key, 16)
	for i := range keys {
		wg.Go(func() {
			k, err := Open(dir, "")
			if err != nil {
				t.Error(err)
			}
			keys[i] = k
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k == nil || k.master != keys[0].master {
			t.Fatal("two different master keys")
		}
	}
}

func TestFromTextRefuses(t *testing.T) {
	t.Parallel()
	short := "c2hvcnQgc2VjcmV0"
	for _, s := range []string{"", "x", short, NewKey().text() + "AAAA", new(Key).text()} {
		if _, err := FromText(s); err == nil {
			t.Errorf("%q: accepted", s)
		} else if s == short && strings.Contains(err.Error(), short) {
			t.Errorf("the error repeats the text: %v", err)
		}
	}
}

func TestKeyDoesNotPrint(t *testing.T) {
	t.Parallel()
	k := NewKey()
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "key", k, "in", []any{k})
	fmt.Fprintf(&b, "%v %+v %#v %s %x %d", k, k, k, k, k, k)
	for _, leak := range []string{k.text(), fmt.Sprintf("%x", k.master), fmt.Sprint(k.master[0], " ", k.master[1])} {
		if strings.Contains(b.String(), leak) {
			t.Errorf("the key shows in %q", b.String())
		}
	}
}

func TestCreateFileKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := CreateFile(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want ErrExist", err)
	}
	if b, err := ReadFile(path); err != nil || string(b) != "first" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := ReadFile(filepath.Dir(path)); err == nil {
		t.Error("read a directory")
	}
}
