package objects

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/versity/versitygw/backend/meta"
)

// Durability. versitygw's posix backend stages an object in an unnamed file,
// sets its attributes on that file and then links it to its key, so a reader,
// and a process started after kill -9, sees the old object or the new one. It
// never calls fsync. We add, in this order:
//
//  1. the staged bytes are synced when the etag is set on the staged file, and
//     so is the directory entry of the old version that was copied away just
//     before: both before the link. The link can therefore never become durable
//     before what it names and before what it replaces. The same seam covers
//     multipart parts, copies, and the old version's own bytes.
//  2. after the link, the file and every directory up to the bucket are
//     synced: before the reply. See sync.
//  3. an attribute changed on an object that is already there (tags, delete
//     markers, version ids, a bucket's settings) is synced before the call
//     returns.
//
// A crash between 1 and 2 leaves the old object or the new one, either of
// them whole. A crash inside an operation on a versioned bucket can leave a
// version in two places or in the wrong one: repair.go.

// metadata is where versitygw's backend keeps what is not an object's bytes:
// in the file's extended attributes, which a link moves into place together
// with the bytes. Buckets' own attributes are files, because a policy may have
// 20 KB and a file system's attributes often end at 4.
//
// Where the file system has no extended attributes everything is in files
// (sidecar). Then an overwritten object has its new attributes an instant
// before its new bytes.
type metadata struct {
	objects meta.MetadataStorer
	buckets meta.SideCar
	files   string // directory of the attributes that are files
	old     string // directory of the old versions
	sidecar bool
}

var _ meta.MetadataStorer = metadata{}

// keyAttribute remembers the key an object was stored under: an old version's
// path holds only the key's hash.
const keyAttribute = "countersign-key"

// The backend's names of attributes that matter here.
const (
	etagAttribute    = "etag"
	versionAttribute = "version-id"
	markerAttribute  = "delete-marker"
)

// openMetadata keeps attributes on the files below root, or in files if root's
// file system cannot. The choice is made again at every start, so moving a
// data directory between file systems of different kinds needs a tool that
// keeps extended attributes.
func openMetadata(root, files, old string, sidecar bool) (metadata, error) {
	if err := os.MkdirAll(files, 0o700); err != nil {
		return metadata{}, fmt.Errorf("object attributes: %w", err)
	}
	side, err := meta.NewSideCar(files)
	if err != nil {
		return metadata{}, fmt.Errorf("object attributes: %w", err)
	}
	if sidecar {
		return metadata{objects: side, buckets: side, files: files, old: old, sidecar: true}, nil
	}
	m := metadata{objects: meta.XattrMeta{}, buckets: side, files: files, old: old}
	probe, err := os.CreateTemp(root, ".probe-*")
	if err != nil {
		return metadata{}, fmt.Errorf("object attributes: %w", err)
	}
	defer os.Remove(probe.Name())
	defer probe.Close()
	if err := m.objects.StoreAttribute(probe, "", "", "probe", []byte("1")); err != nil {
		m.objects, m.sidecar = side, true
	}
	return m, nil
}

// isBucket reports whether the pair names a bucket. The backend also passes
// whole paths as a bucket, with no object.
func isBucket(bucket, object string) bool { return object == "" && !strings.Contains(bucket, "/") }

func (m metadata) on(bucket, object string) meta.MetadataStorer {
	if isBucket(bucket, object) {
		return m.buckets
	}
	return m.objects
}

func (m metadata) RetrieveAttribute(f *os.File, bucket, object, name string) ([]byte, error) {
	if f == nil && object == "" && isBucket(bucket, object) {
		return m.buckets.RetrieveAttribute(nil, bucket, "", name)
	}
	return m.objects.RetrieveAttribute(f, bucket, object, name)
}

func (m metadata) StoreAttribute(f *os.File, bucket, object, name string, val []byte) error {
	if f == nil && isBucket(bucket, object) {
		if err := m.buckets.StoreAttribute(nil, bucket, "", name, val); err != nil {
			return err
		}
		return m.syncFiles(bucket, "", name)
	}
	if err := m.objects.StoreAttribute(f, bucket, object, name, val); err != nil {
		return err
	}
	if name == etagAttribute && object != "" && !filepath.IsAbs(bucket) {
		if err := m.objects.StoreAttribute(f, bucket, object, keyAttribute, []byte(object)); err != nil {
			return err
		}
	}
	if m.sidecar {
		if err := m.syncFiles(bucket, object, name); err != nil {
			return err
		}
	}
	if name == etagAttribute || name == markerAttribute {
		if err := m.syncOld(bucket, object); err != nil {
			return err
		}
	}
	switch {
	case f != nil && name == etagAttribute:
		return f.Sync() // the seam of step 1
	case f != nil:
		return nil
	}
	path := filepath.Join(bucket, object)
	if err := syncPath(path); err != nil { // step 3
		return err
	}
	if name == etagAttribute && !filepath.IsAbs(path) {
		// A version that is being brought back: its old place goes next.
		return syncUp(filepath.Dir(path), ".")
	}
	return nil
}

// syncOld syncs the directory of a key's old versions, if it has any. The
// layout is the backend's genObjVersionKey.
func (m metadata) syncOld(bucket, object string) error {
	if object == "" || filepath.IsAbs(bucket) {
		return nil
	}
	h := fmt.Sprintf("%x", sha256.Sum256([]byte(object)))
	dir := filepath.Join(m.old, bucket, h[:2], h[2:4], h[4:6], h)
	if _, err := os.Lstat(dir); err != nil {
		return nil
	}
	return syncUp(dir, m.old)
}

func (m metadata) DeleteAttribute(bucket, object, name string) error {
	if err := m.on(bucket, object).DeleteAttribute(bucket, object, name); err != nil {
		return err
	}
	if isBucket(bucket, object) || m.sidecar {
		return m.syncFiles(bucket, object, "")
	}
	return syncPath(filepath.Join(bucket, object))
}

func (m metadata) ListAttributes(bucket, object string) ([]string, error) {
	return m.on(bucket, object).ListAttributes(bucket, object)
}

func (m metadata) DeleteAttributes(bucket, object string) error {
	if isBucket(bucket, object) {
		return m.buckets.DeleteAttributes(bucket, "") // objects' files below it too
	}
	return m.objects.DeleteAttributes(bucket, object)
}

func (m metadata) RenameObject(bucket, from, to string) error {
	return m.objects.RenameObject(bucket, from, to)
}

// syncFiles syncs one attribute that is a file, and its directories.
func (m metadata) syncFiles(bucket, object, name string) error {
	dir := filepath.Join(m.files, bucket, object, "meta")
	if name != "" {
		if err := syncPath(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return syncUp(dir, m.files)
}

// sync makes the object at key durable: step 2. The object may have been
// replaced or deleted since; then what is there now is synced, and whoever put
// it there syncs it again.
func (g *Gateway) sync(bucket, key string) error {
	path := filepath.Join(bucket, key)
	if err := syncPath(path); err != nil {
		return err
	}
	return syncUp(filepath.Dir(path), ".")
}

// syncPath syncs one file or directory; one that is gone needs none.
func syncPath(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make %s durable: %w", path, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("make %s durable: %w", path, err)
	}
	return nil
}

// syncUp syncs dir and every directory above it, up to and including top.
func syncUp(dir, top string) error {
	for {
		if err := syncPath(dir); err != nil {
			return err
		}
		if dir == top || dir == "." || dir == "/" {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}
