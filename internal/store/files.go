package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"countersign"
)

// files is [Blobs] in a directory: DIR/ab/abcdef..., a file per blob, named by
// its digest and written once.
type files struct {
	dir string

	mu     sync.Mutex
	proven map[countersign.Digest]proof // files whose content was checked, as they then were; guarded by mu
}

// A proof identifies one state of one file. The kernel sets ctime at every
// write, and at every attempt to set the other times back; an attacker needs
// to turn the machine's clock or write to the disk's blocks to change a file
// and keep its proof.
type proof struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func proofOf(fi fs.FileInfo) (proof, bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return proof{}, false
	}
	return proof{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}, true
}

func openFiles(dir string) (*files, error) {
	// Nobody else is here: DIR is locked. What is in tmp was being written
	// when a process died.
	tmp := filepath.Join(dir, "tmp")
	if err := os.RemoveAll(tmp); err != nil {
		return nil, err
	}
	if err := makeDir(tmp); err != nil {
		return nil, err
	}
	return &files{dir: dir, proven: map[countersign.Digest]proof{}}, nil
}

func (b *files) path(d countersign.Digest) string {
	s := d.String()
	return filepath.Join(b.dir, s[:2], s)
}

func (b *files) Put(ctx context.Context, r io.Reader) (countersign.Digest, int64, error) {
	d, n, err := b.put(ctx, r)
	if err != nil {
		return countersign.Digest{}, 0, fmt.Errorf("put blob: %w", err)
	}
	return d, n, nil
}

func (b *files) put(ctx context.Context, r io.Reader) (d countersign.Digest, n int64, err error) {
	f, err := os.CreateTemp(filepath.Join(b.dir, "tmp"), "put-*")
	if err != nil {
		return d, 0, err
	}
	defer f.Close()
	defer os.Remove(f.Name()) // finds nothing once the file is in place

	h := sha256.New()
	if n, err = io.Copy(io.MultiWriter(f, h), contextReader{ctx, r}); err != nil {
		return d, 0, err
	}
	h.Sum(d[:0])
	if b.isProven(d) {
		// The other Put may not have come to this yet.
		return d, n, syncDir(filepath.Dir(b.path(d)))
	}
	if err := f.Chmod(0o400); err != nil {
		return d, 0, err
	}
	if err := f.Sync(); err != nil {
		return d, 0, err
	}
	// Whatever is there under this name is replaced: if it is the same,
	// nothing changes, and if it has rotted, it is mended.
	path := b.path(d)
	if err := makeDir(filepath.Dir(path)); err != nil {
		return d, 0, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return d, 0, err
	}
	// A crash before this may lose the name, and the blob was not acknowledged.
	if err := syncDir(filepath.Dir(path)); err != nil {
		return d, 0, err
	}
	return d, n, nil
}

// isProven reports whether d is there and still the file whose content was
// checked.
func (b *files) isProven(d countersign.Digest) bool {
	fi, err := os.Stat(b.path(d))
	if err != nil {
		return false
	}
	p, ok := proofOf(fi)
	b.mu.Lock()
	defer b.mu.Unlock()
	return ok && b.proven[d] == p
}

func (b *files) open(d countersign.Digest) (*os.File, fs.FileInfo, error) {
	f, err := os.Open(b.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("open blob %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	return f, fi, nil
}

func (b *files) Open(ctx context.Context, d countersign.Digest) (io.ReadCloser, int64, error) {
	f, fi, err := b.open(d)
	if err != nil {
		return nil, 0, err
	}
	return &checkedReader{f: f, h: sha256.New(), want: d}, fi.Size(), nil
}

func (b *files) OpenFile(ctx context.Context, d countersign.Digest) (BlobFile, error) {
	f, fi, err := b.open(d)
	if err != nil {
		return nil, err
	}
	if err := b.prove(ctx, f, fi, d); err != nil {
		f.Close()
		return nil, err
	}
	return blobFile{f, fi.Size()}, nil
}

// prove checks all of f against d, unless this very file was checked before.
func (b *files) prove(ctx context.Context, f *os.File, fi fs.FileInfo, d countersign.Digest) error {
	p, ok := proofOf(fi)
	b.mu.Lock()
	known := ok && b.proven[d] == p
	b.mu.Unlock()
	if known {
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, contextReader{ctx, io.NewSectionReader(f, 0, fi.Size())}); err != nil {
		return fmt.Errorf("check blob %s: %w", d, err)
	}
	if countersign.Digest(h.Sum(nil)) != d {
		return corruptBlob(d)
	}
	// What was read was right. It is worth remembering only if the file is
	// still as it was when reading it began; another Put may have replaced it.
	after, err := f.Stat()
	if err != nil {
		return fmt.Errorf("check blob %s: %w", d, err)
	}
	if q, _ := proofOf(after); ok && q == p {
		b.mu.Lock()
		b.proven[d] = p
		b.mu.Unlock()
	}
	return nil
}

func (b *files) Delete(ctx context.Context, d countersign.Digest) error {
	b.mu.Lock()
	delete(b.proven, d)
	b.mu.Unlock()
	err := os.Remove(b.path(d))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete blob %s: %w", d, err)
	}
	return nil
}

// ErrCorrupt says that a blob's bytes are not those its digest names.
var ErrCorrupt = errors.New("content does not match its digest")

func corruptBlob(d countersign.Digest) error { return fmt.Errorf("blob %s: %w", d, ErrCorrupt) }

type blobFile struct {
	*os.File
	size int64
}

func (f blobFile) Size() int64 { return f.size }

// checkedReader reads all of a blob and compares at its end, before the
// reader's user learns that it is the end.
type checkedReader struct {
	f    io.ReadCloser
	h    hash.Hash
	want countersign.Digest
}

func (r *checkedReader) Read(p []byte) (int, error) {
	n, err := r.f.Read(p)
	r.h.Write(p[:n])
	if err == io.EOF && countersign.Digest(r.h.Sum(nil)) != r.want {
		return n, corruptBlob(r.want)
	}
	return n, err
}

func (r *checkedReader) Close() error { return r.f.Close() }

// contextReader stops reading when ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
