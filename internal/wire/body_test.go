package wire

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"testing"
	"testing/iotest"
)

func TestReadBody(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // 3.2 MB
	for _, size := range []int{0, 1, 4095, 4096, 4097, firstRead - 1, firstRead, firstRead + 1, len(data)} {
		for _, chunked := range []bool{false, true} {
			r := httptest.NewRequest("POST", "/", io.NopCloser(bytes.NewReader(data[:size])))
			r.ContentLength = int64(size)
			if chunked {
				r.ContentLength = -1
			}
			if got, err := readBody(r, int64(size)); err != nil || !bytes.Equal(got, data[:size]) {
				t.Errorf("%d bytes, chunked %t: got %d, %v", size, chunked, len(got), err)
			}
			if size == 0 {
				continue
			}
			r.Body = io.NopCloser(bytes.NewReader(data[:size]))
			if _, err := readBody(r, int64(size)-1); !errors.Is(err, errTooLarge) {
				t.Errorf("%d bytes, chunked %t, limit one less: got %v, want %v", size, chunked, err, errTooLarge)
			}
		}
	}
	r := httptest.NewRequest("POST", "/", io.NopCloser(io.MultiReader(bytes.NewReader(data[:10]), iotest.ErrReader(io.ErrUnexpectedEOF))))
	r.ContentLength = 20
	if _, err := readBody(r, 100); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut short: got %v", err)
	}
}

// TestReadBodyTrustsNoHeader holds that announcing a body costs little.
func TestReadBodyTrustsNoHeader(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "/", io.NopCloser(bytes.NewReader([]byte("x"))))
	r.ContentLength = 64 << 20
	got, err := readBody(r, 70<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || cap(got) > 2*firstRead {
		t.Errorf("got %d bytes of memory for a body of %d, want at most %d", cap(got), len(got), 2*firstRead)
	}
}
