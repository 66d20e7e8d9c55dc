// Package code keeps admitted artifacts unpacked for sandboxes to mount.
//
// It promises that a folder it hands out holds exactly the files of the
// artifact the Admission names: the bytes are hashed again on the way from the
// blob store, and a folder appears under its digest only when it is whole.
// What an earlier process unpacked is never believed: a new Cache starts empty.
// It trusts whoever can write its folder while it runs.
package code

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"countersign"
	"countersign/internal/admit"
)

// Blobs gives artifacts' bytes by digest.
type Blobs interface {
	Open(ctx context.Context, d countersign.Digest) (io.ReadCloser, int64, error)
}

// DefaultMaxBytes is how much unused code is kept unpacked: eight artifacts of
// the largest size Lambda allows.
const DefaultMaxBytes = 8 * 262144000

// A Cache unpacks each artifact once and shares it. Safe for concurrent use.
type Cache struct {
	blobs Blobs
	dir   string
	max   int64

	mu      sync.Mutex
	entries map[countersign.Digest]*entry // guarded by mu
	bytes   int64                         // guarded by mu: of what is ready
	clock   uint64                        // guarded by mu: counts uses
}

// An entry is one artifact's folder. Its fields are guarded by Cache.mu, but
// for ready, and for err and size once ready is closed.
type entry struct {
	dir   string
	ready chan struct{}
	err   error
	size  int64
	users int
	last  uint64 // Cache.clock when it was last used
}

// New makes an empty cache in dir, removing whatever is there: dir belongs to
// the cache. maxBytes bounds what is kept without users; 0 is DefaultMaxBytes.
func New(blobs Blobs, dir string, maxBytes int64) (*Cache, error) {
	if maxBytes == 0 {
		maxBytes = DefaultMaxBytes
	}
	if err := removeAll(dir); err != nil {
		return nil, fmt.Errorf("empty the code cache: %w", err)
	}
	// 0755: the function's user reads through these folders.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the code cache: %w", err)
	}
	return &Cache{blobs: blobs, dir: dir, max: maxBytes, entries: make(map[countersign.Digest]*entry)}, nil
}

// Unpacked returns the folder with the artifact's files, unpacking it if
// nobody has. The files stay until release, which may be called once.
// Cancelling ctx stops the wait, not the work that others may share.
func (c *Cache) Unpacked(ctx context.Context, adm admit.Admission) (dir string, release func(), err error) {
	d := adm.Digest()
	if d.IsZero() {
		return "", nil, errors.New("an admission of nothing")
	}
	c.mu.Lock()
	e := c.entries[d]
	if e == nil {
		e = &entry{dir: filepath.Join(c.dir, d.String()), ready: make(chan struct{})}
		c.entries[d] = e
		go c.fill(context.WithoutCancel(ctx), d, e)
	}
	e.users++
	c.mu.Unlock()

	select {
	case <-e.ready:
		err = e.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		c.release(e)
		return "", nil, fmt.Errorf("artifact %s: %w", d, err)
	}
	return e.dir, sync.OnceFunc(func() { c.release(e) }), nil
}

// release drops one use and removes what is over the bound, least recently
// used first.
func (c *Cache) release(e *entry) {
	c.mu.Lock()
	e.users--
	c.clock++
	e.last = c.clock
	gone := c.evict()
	c.mu.Unlock()
	for _, dir := range gone {
		_ = removeAll(dir) // what stays is removed by the next New
	}
}

// evict takes entries out until the unused ones fit, and returns the folders
// to remove. The caller holds c.mu.
func (c *Cache) evict() (gone []string) {
	for c.bytes > c.max {
		var oldest *entry
		var of countersign.Digest
		for d, e := range c.entries {
			if e.users == 0 && e.size > 0 && (oldest == nil || e.last < oldest.last) {
				oldest, of = e, d
			}
		}
		if oldest == nil {
			return gone // everything is in use
		}
		// Out of the way first: the digest's name may be wanted again at once.
		out := oldest.dir + ".out"
		if err := os.Rename(oldest.dir, out); err != nil {
			return gone
		}
		delete(c.entries, of)
		c.bytes -= oldest.size
		gone = append(gone, out)
	}
	return gone
}

// fill unpacks d for everybody who waits on e.
func (c *Cache) fill(ctx context.Context, d countersign.Digest, e *entry) {
	size, err := c.unpack(ctx, d, e.dir)
	c.mu.Lock()
	defer c.mu.Unlock()
	e.size, e.err = max(size, 1), err
	if err != nil {
		e.size = 0
		delete(c.entries, d) // the next caller tries again
	}
	c.bytes += e.size
	close(e.ready)
}

// unpack copies the artifact, hashing it, unpacks the copy beside dir, and
// renames the result to dir. A crash anywhere leaves only what New removes.
func (c *Cache) unpack(ctx context.Context, d countersign.Digest, dir string) (size int64, err error) {
	blob, _, err := c.blobs.Open(ctx, d)
	if err != nil {
		return 0, fmt.Errorf("open: %w", err)
	}
	defer blob.Close()
	f, err := os.CreateTemp(c.dir, "artifact-*")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), blob)
	if err != nil {
		return 0, fmt.Errorf("copy: %w", err)
	}
	if got := countersign.Digest(h.Sum(nil)); got != d {
		return 0, fmt.Errorf("its bytes have digest %s", got)
	}
	a, err := countersign.OpenArchive(f, n, countersign.Limits{})
	if err != nil {
		return 0, err
	}
	tmp, err := os.MkdirTemp(c.dir, "unpacking-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = removeAll(tmp)
		}
	}()
	if err := os.Chmod(tmp, 0o755); err != nil {
		return 0, err
	}
	if err := a.Unpack(ctx, tmp); err != nil {
		return 0, fmt.Errorf("unpack: %w", err)
	}
	if err := widen(tmp); err != nil {
		return 0, fmt.Errorf("unpack: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return 0, err
	}
	return a.Unpacked(), nil
}

// widen lets everybody read what its owner may, and enter and execute what its
// owner may: a function runs as nobody's user. Lambda does not, and answers a
// zip made by Python's writestr (0600) with "Permission denied" at the first
// call; a mode that locks the function out of its own code protects nothing
// here, where nobody else sees the folder. See docs/rationale.md.
func widen(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		mode := fi.Mode().Perm()
		owner := mode & 0o500
		if wide := mode | owner>>3 | owner>>6; wide != mode {
			return os.Chmod(path, wide)
		}
		return nil
	})
}

// removeAll is os.RemoveAll for a tree whose folders may be read-only: an
// archive decides its entries' modes.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
