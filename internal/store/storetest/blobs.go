package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"countersign"
	"countersign/internal/store"
)

func blobs(t *testing.T, open func(*testing.T) store.Store) {
	for name, f := range map[string]func(*testing.T, store.Blobs){
		"ReadsWhatWasPut": readsWhatWasPut,
		"PutTwice":        putTwice,
		"Missing":         missing,
		"Deletes":         deletes,
		"GivesUp":         givesUp,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, must[store.Blobs](t)(open(t).Blobs(t.Context(), "code")))
		})
	}
}

func someBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

func readsWhatWasPut(t *testing.T, b store.Blobs) {
	ctx := t.Context()
	for _, n := range []int{0, 1, 31, 4096, 3<<20 + 7} {
		want := someBytes(n)
		d, size, err := b.Put(ctx, bytes.NewReader(want))
		if err != nil || d != countersign.DigestOf(want) || size != int64(n) {
			t.Fatalf("Put of %d bytes: got %v, %d, %v", n, d, size, err)
		}
		r, size, err := b.Open(ctx, d)
		if err != nil || size != int64(n) {
			t.Fatalf("Open: got size %d, %v, want %d", size, err, n)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %d bytes, %v, want the %d put", len(got), err, n)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}

		f, err := b.OpenFile(ctx, d)
		if err != nil || f.Size() != int64(n) {
			t.Fatalf("OpenFile: %v", err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				got, err := io.ReadAll(io.NewSectionReader(f, int64(n)/2, f.Size()))
				if err != nil || !bytes.Equal(got, want[n/2:]) {
					t.Errorf("read %d bytes from the middle, %v", len(got), err)
				}
			})
		}
		wg.Wait()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func putTwice(t *testing.T, b store.Blobs) {
	ctx := t.Context()
	want := someBytes(1000)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			d, _, err := b.Put(ctx, bytes.NewReader(want))
			if err != nil {
				t.Error(err)
				return
			}
			f, err := b.OpenFile(ctx, d)
			if err != nil {
				t.Error(err)
				return
			}
			f.Close()
		})
	}
	wg.Wait()
}

func missing(t *testing.T, b store.Blobs) {
	ctx := t.Context()
	d := countersign.DigestOf([]byte("nobody put this"))
	if _, _, err := b.Open(ctx, d); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Open: got %v, want ErrNotFound", err)
	}
	if _, err := b.OpenFile(ctx, d); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("OpenFile: got %v, want ErrNotFound", err)
	}
	if err := b.Delete(ctx, d); err != nil {
		t.Errorf("Delete of a missing blob: got %v, want nil", err)
	}
}

func deletes(t *testing.T, b store.Blobs) {
	ctx := t.Context()
	for range 2 {
		d, _, err := b.Put(ctx, bytes.NewReader([]byte("x")))
		if err != nil {
			t.Fatal(err)
		}
		f, err := b.OpenFile(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if err := b.Delete(ctx, d); err != nil {
			t.Fatal(err)
		}
		if _, err := b.OpenFile(ctx, d); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("after Delete: got %v, want ErrNotFound", err)
		}
	}
}

// givesUp puts from a reader that fails, and with a context that has ended.
func givesUp(t *testing.T, b store.Blobs) {
	broken := errors.New("broken")
	r := io.MultiReader(bytes.NewReader([]byte("half")), errReader{broken})
	if _, _, err := b.Put(t.Context(), r); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
	if _, _, err := b.Open(t.Context(), countersign.DigestOf([]byte("half"))); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was read before the error is there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Put(ctx, bytes.NewReader([]byte("late"))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
