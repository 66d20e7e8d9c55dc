package countersign

import (
	"bufio"
	"bytes"
	"compress/flate"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// A source reads the compressed bytes of one body and remembers why it could
// not, so that a disk that fails is not taken for an archive that lies.
type source struct {
	sec *io.SectionReader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.sec.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// A bodyReader yields one body and refuses it at the end, or as soon as it is
// too long: wrong size, wrong checksum, or compressed data that does not end
// where the directory says.
type bodyReader struct {
	name string
	src  source
	buf  *bufio.Reader
	body io.Reader // buf itself, or the inflater over it
	left int64     // bytes still to come
	crc  uint32
	want uint32
	err  error // sticky
}

// buffers and inflaters keep 64 KiB and 40 KiB of allocation per body off the
// hot path.
var (
	buffers   = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 64<<10) }}
	inflaters = sync.Pool{New: func() any { return flate.NewReader(&noInput) }}
	noInput   bytes.Reader // what an inflater holds while it waits; never read
)

// Open reads the body of entry i of [Archive.Entries]. The reader returns a
// *[Refusal] (CheckArchive) in place of io.EOF when the body is not what the
// directory says; no byte of it is proved before io.EOF. A directory has an
// empty body, a symbolic link's is its target.
func (a *Archive) Open(i int) (io.ReadCloser, error) {
	if i < 0 || i >= len(a.entries) {
		return nil, fmt.Errorf("open entry %d of %d: out of range", i, len(a.entries))
	}
	return a.open(i), nil
}

func (a *Archive) open(i int) *bodyReader {
	e := &a.entries[i]
	b := &bodyReader{name: e.Name, left: e.Size, want: e.crc}
	b.src.sec = io.NewSectionReader(a.r, e.body, e.CompressedSize)
	b.buf = buffers.Get().(*bufio.Reader)
	b.buf.Reset(&b.src)
	b.body = b.buf
	if e.method == methodDeflate {
		// A bufio.Reader is an io.ByteReader, so the inflater takes no byte
		// it does not need and what is left over shows.
		z := inflaters.Get().(io.ReadCloser)
		z.(flate.Resetter).Reset(b.buf, nil)
		b.body = z
	}
	return b
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.body.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		return n, b.refuse("size-mismatch", "the body of %s is longer than the directory says", quoted(b.name))
	}
	b.left -= int64(n)
	b.crc = crc32.Update(b.crc, crc32.IEEETable, p[:n])
	more := err == io.EOF && b.left == 0 && b.rest()
	switch {
	case err == nil:
		return n, nil
	case b.src.err != nil:
		b.err = fmt.Errorf("read %s: %w", quoted(b.name), b.src.err)
		return n, b.err
	case err != io.EOF:
		return n, b.refuse("bad-body", "the compressed body of %s is broken: %v", quoted(b.name), err)
	case b.left > 0:
		return n, b.refuse("size-mismatch", "the body of %s is %d bytes shorter than the directory says", quoted(b.name), b.left)
	case more:
		return n, b.refuse("trailing-data", "data follows the end of the compressed body of %s", quoted(b.name))
	case b.crc != b.want:
		return n, b.refuse("crc-mismatch", "the body of %s does not have the checksum the directory says", quoted(b.name))
	}
	b.err = io.EOF
	return n, io.EOF
}

// rest reports whether compressed bytes are left over. That they cannot be
// read shows in src.err.
func (b *bodyReader) rest() bool {
	_, err := b.buf.ReadByte()
	return err == nil
}

func (b *bodyReader) refuse(code, format string, args ...any) error {
	no := refusing(CheckArchive)
	no.add(code, format, args...)
	b.err = no.err()
	return b.err
}

// Close returns the buffers. It never fails.
func (b *bodyReader) Close() error {
	if b.buf == nil {
		return nil
	}
	if z, ok := b.body.(flate.Resetter); ok {
		z.Reset(&noInput, nil)
		inflaters.Put(z)
	}
	b.buf.Reset(nil)
	buffers.Put(b.buf)
	b.buf, b.body = nil, nil
	if b.err == nil {
		b.err = io.ErrClosedPipe
	}
	return nil
}
