package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign"
	"countersign/internal/store"
)

func TestOneProcessPerDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	_, err := store.Open(t.Context(), store.Config{Dir: dir})
	want := fmt.Sprintf("the data directory %s is in use by process %d", dir, os.Getpid())
	if countersign.KindOf(err) != countersign.Conflict || err.Error() != want {
		t.Fatalf("second Open: got %v, want a conflict: %s", err, want)
	}
	// The refused one did not disturb the first, and leaves nothing behind.
	b, err := s.Bucket(t.Context(), "docs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err = open(t, dir).Bucket(t.Context(), "docs")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(t.Context(), "k"); err != nil {
		t.Errorf("after Open, Close, Open: %v", err)
	}
}

// TestStaleLock: a lock file that names a process is not a lock.
func TestStaleLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	got, err := os.ReadFile(filepath.Join(dir, "lock"))
	if want := fmt.Sprintln(os.Getpid()); err != nil || string(got) != want {
		t.Errorf("lock file: got %q, %v, want %q", got, err, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file, filepath.Join(file, "below")} {
		if s, err := store.Open(t.Context(), store.Config{Dir: dir}); err == nil {
			t.Errorf("Open of %q: got no error", dir)
			s.Close()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := store.Open(ctx, store.Config{Dir: t.TempDir(), URL: "nats://user:hunter2@127.0.0.1:1"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Open of a server that is not there: got %v, want an error without the password", err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	ctx := t.Context()
	for _, name := range []string{"", "A", "a.b", "../a", "a b", "-a", "a*"} {
		_, bucket := s.Bucket(ctx, name)
		_, blobs := s.Blobs(ctx, name)
		_, queue := s.Queue(ctx, name)
		_, log := s.Log(ctx, name)
		if bucket == nil || blobs == nil || queue == nil || log == nil {
			t.Errorf("%q is accepted as a name: %v %v %v %v", name, bucket, blobs, queue, log)
		}
	}
	for range 2 {
		one, err := s.Bucket(ctx, "docs")
		if err != nil {
			t.Fatal(err)
		}
		if two, _ := s.Bucket(ctx, "docs"); one != two {
			t.Error("opening a bucket twice made two")
		}
	}
	b, err := s.Bucket(ctx, "docs")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, "k", nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Create after Close: got %v, want ErrClosed", err)
	}
	if _, _, err := b.Get(ctx, "k"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Get after Close: got %v, want ErrClosed", err)
	}
	if _, err := s.Log(ctx, "late"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("opening a log after Close: got %v, want ErrClosed", err)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	b, err := open(t, t.TempDir()).Bucket(t.Context(), "docs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(t.Context(), "k", make([]byte, 9<<20)); err == nil {
		t.Error("a value of 9 MiB: got no error")
	}
	if _, err := b.Create(t.Context(), "k", make([]byte, 7<<20)); err != nil {
		t.Errorf("a value of 7 MiB after one that was refused: %v", err)
	}
}
