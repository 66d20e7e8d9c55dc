package objects

import (
	"io"

	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3err"
)

// whole reads size bytes of r, and fails where r ends before or goes on after
// that. The backend takes the end of a body for the end of the object, and a
// connection that breaks ends a body too: without this, half an upload whose
// payload is not signed would replace the object that was there.
func whole(r io.Reader, size int64) io.Reader {
	w := &wholeReader{r: r, left: size}
	if c, ok := r.(middlewares.ChecksumReader); ok {
		return checkedReader{w, c} // the backend asks the body for its trailing checksum
	}
	return w
}

type wholeReader struct {
	r    io.Reader
	left int64
}

var errIncomplete = s3err.GetAPIError(s3err.ErrIncompleteBody)

func (w *wholeReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.left -= int64(n)
	switch {
	case w.left < 0:
		return 0, errIncomplete
	case err == io.EOF && w.left > 0:
		return n, errIncomplete
	}
	return n, err
}

type checkedReader struct {
	io.Reader
	sum middlewares.ChecksumReader
}

func (c checkedReader) Algorithm() string { return c.sum.Algorithm() }
func (c checkedReader) Checksum() string  { return c.sum.Checksum() }
