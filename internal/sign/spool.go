package sign

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// spoolMemory is what a spool holds in memory. Most functions are smaller, and
// a worker holds two spools at a time.
const spoolMemory = 8 << 20

// A spool takes bytes once and gives them back at any offset: from memory
// while they are few, and from a file without a name when they are many. It is
// not safe for concurrent writes.
type spool struct {
	dir  string // for the file; os.TempDir() when empty
	mem  []byte
	file *os.File // nil while mem holds everything
	size int64
}

// newSpool makes a spool for about size bytes, its file in dir.
func newSpool(dir string, size int64) *spool {
	s := &spool{dir: dir}
	if size <= spoolMemory {
		s.mem = make([]byte, 0, size)
	}
	return s
}

func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && len(s.mem)+len(p) <= spoolMemory {
		s.mem = append(s.mem, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	if s.file == nil {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	return n, err
}

// spill moves what is in memory to a file that is already unlinked: a crash
// leaves nothing behind, and nobody else can open it.
func (s *spool) spill() error {
	f, err := os.CreateTemp(s.dir, "spool-*")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	if _, err := f.Write(s.mem); err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.mem = f, nil
	return nil
}

func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(p, off)
	}
	return bytes.NewReader(s.mem).ReadAt(p, off)
}

// Reader reads everything from the beginning.
func (s *spool) Reader() io.Reader { return io.NewSectionReader(s, 0, s.size) }

// Close lets the bytes go.
func (s *spool) Close() error {
	s.mem = nil
	if s.file != nil {
		return s.file.Close()
	}
	return nil
}
