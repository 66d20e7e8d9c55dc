package wire

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// defaultMaxBody is enough for every operation that carries no archive:
	// the largest is a batch of log events, 1 MiB of text, escaped.
	defaultMaxBody = 10 << 20

	// defaultMaxHeld is a dozen of the largest uploads at once.
	defaultMaxHeld = 1 << 30

	// maxAnonymous is what is read of a form before anything about its sender
	// is known; the largest unsigned call carries a SAML assertion of 100 kB.
	maxAnonymous = 1 << 20

	// firstRead is how much memory a Content-Length alone is good for.
	firstRead = 1 << 20

	// bodyTime is how long a body may take to arrive: the largest, 70 MB, over
	// a line of 2 Mbit/s.
	bodyTime = 5 * time.Minute

	// maxDrain is how much of a body that is too large is read and dropped, so
	// that a client that is still sending gets to see why it was refused.
	maxDrain = 128 << 20
)

var errTooLarge = errors.New("body too large")

// readBody reads all of r's body, or fails with errTooLarge after limit bytes.
// Memory follows what arrives, not what a header announces.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > limit {
		drain(r)
		return nil, errTooLarge
	}
	want := r.ContentLength // -1 when chunked
	size := min(want, firstRead)
	if want < 0 {
		size = 4096
	}
	b := make([]byte, 0, size+1) // one more, so that EOF is seen without growing
	for {
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if int64(len(b)) > limit {
			drain(r)
			return nil, errTooLarge
		}
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read body: %w", err)
		}
		if len(b) < cap(b) {
			continue
		}
		next := min(2*int64(cap(b)), limit+1)
		if want > 0 && int64(len(b)) >= firstRead {
			next = want + 1
		}
		grown := make([]byte, len(b), max(next, int64(len(b))+1))
		copy(grown, b)
		b = grown
	}
}

func drain(r *http.Request) { _, _ = io.CopyN(io.Discard, r.Body, maxDrain) }

// tooLarge is the answer to a body beyond op's limit.
func tooLarge(svc *Service, op *Operation, limit int64) *Fault {
	code := op.TooLarge
	if code == "" {
		code = "RequestEntityTooLargeException"
	}
	return &Fault{
		Code:    code,
		Status:  http.StatusRequestEntityTooLarge,
		Message: fmt.Sprintf("Request must be smaller than %d bytes for the %s operation", limit, or(op.CalledName, op.Name)),
	}
}
