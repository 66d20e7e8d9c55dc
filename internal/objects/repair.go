package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"countersign/internal/store"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"
)

// What a crash leaves, and what is done about it.
//
//   - A document without a directory (CreateBucket or DeleteBucket half done):
//     the document goes. A directory without a document (a put raced the
//     deletion of its bucket): it is moved to lost/, never deleted. Every Open.
//   - A staged file with a name, or a second name of an object on its way over
//     an older one: removed.
//   - An old version whose key has nothing, or something without an etag (the
//     latest version was being deleted and this one brought back): brought back.
//   - An old version with the id of the object that is still the latest (it was
//     about to be replaced): the copy goes. If the latest is a delete marker (it
//     was being marked): the marker gets an id of its own.
//
// The last three take a walk over every object, so Open does it only when the
// mark of an unclean stop is there.

// reconcile makes documents and directories agree.
func (g *Gateway) reconcile(ctx context.Context) error {
	for it := range g.buckets.All("") {
		if _, err := os.Stat(it.Val.Name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := g.buckets.Delete(ctx, it.Key, it.Rev); err != nil {
			return fmt.Errorf("forget bucket %s: %w", it.Val.Name, err)
		}
		g.cfg.Log.Info("forgot a bucket that was being created or deleted", "bucket", it.Val.Name)
	}
	dirs, err := os.ReadDir(".")
	if err != nil {
		return fmt.Errorf("list buckets: %w", err)
	}
	for _, d := range dirs {
		if _, _, ok := g.buckets.Get(store.Key(d.Name())); ok || !d.IsDir() || strings.HasPrefix(d.Name(), ".") {
			continue
		}
		lost := filepath.Join(g.cfg.Dir, dirLost)
		if err := os.MkdirAll(lost, 0o700); err != nil {
			return fmt.Errorf("move bucket %s away: %w", d.Name(), err)
		}
		to := filepath.Join(lost, fmt.Sprintf("%s-%d", d.Name(), time.Now().UnixNano()))
		if err := os.Rename(d.Name(), to); err != nil {
			return fmt.Errorf("move bucket %s away: %w", d.Name(), err)
		}
		g.cfg.Log.Warn("moved a bucket without a document away", "bucket", d.Name(), "to", to)
	}
	return nil
}

// The backend's names for files that are not objects: see its
// with_otmpfile.go. A key of this form is taken for one.
var (
	secondName = regexp.MustCompile(`^\..+\.sgwtmp\.[0-9]{19}$`)
	stagedName = regexp.MustCompile(`^[0-9a-f]{64}\.[0-9]+$`)
)

const stagingDir = ".sgwtmp"

func (g *Gateway) repair(ctx context.Context) error {
	start, mended := time.Now(), 0
	for it := range g.buckets.All("") {
		n, err := g.sweep(ctx, it.Val.Name)
		if err != nil {
			return err
		}
		versions := filepath.Join(g.cfg.Dir, dirVersions, it.Val.Name)
		m, err := g.sweep(ctx, versions)
		if err != nil {
			return err
		}
		k, err := g.mendVersions(ctx, it.Val.Name, versions)
		if err != nil {
			return err
		}
		mended += n + m + k
	}
	g.cfg.Log.Info("checked objects after an unclean stop", "mended", mended, "took", time.Since(start))
	return nil
}

// sweep removes what a put that was never acknowledged left below root.
func (g *Gateway) sweep(ctx context.Context, root string) (n int, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case d.IsDir():
			return nil // parts of an upload are below staging too: kept
		case secondName.MatchString(d.Name()), filepath.Base(filepath.Dir(path)) == stagingDir && stagedName.MatchString(d.Name()):
			n++
			return os.Remove(path)
		}
		return nil
	})
	if err != nil {
		return n, fmt.Errorf("sweep %s: %w", root, err)
	}
	return n, nil
}

// mendVersions looks at every key of a bucket that has old versions. They are
// in one directory per key, named by their ids, which sort by age.
func (g *Gateway) mendVersions(ctx context.Context, bucket, root string) (n int, err error) {
	m := g.meta
	err = filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case !d.IsDir() || len(d.Name()) != 64:
			return nil
		}
		ids, err := os.ReadDir(dir)
		if err != nil || len(ids) == 0 {
			return err
		}
		newest := ids[len(ids)-1].Name()
		old := filepath.Join(dir, newest)
		keyed, err := m.RetrieveAttribute(nil, old, "", keyAttribute)
		if err != nil {
			g.cfg.Log.Warn("an old version does not say its key", "file", old, "err", err)
			return nil
		}
		key := string(keyed)
		if !filepath.IsLocal(key) {
			return fmt.Errorf("version %s has key %q", old, key)
		}
		if st, err := os.Lstat(filepath.Join(bucket, key)); err == nil && st.IsDir() {
			g.cfg.Log.Warn("an old version's key has become a directory", "bucket", bucket, "key", key)
			return nil
		}
		if _, err := m.RetrieveAttribute(nil, bucket, key, etagAttribute); err != nil {
			n++
			return g.bringBack(bucket, key, old)
		}
		id := "null"
		if v, err := m.RetrieveAttribute(nil, bucket, key, versionAttribute); err == nil {
			id = string(v)
		}
		twin := filepath.Join(dir, id)
		if _, err := os.Lstat(twin); err != nil {
			return nil
		}
		n++
		if _, err := m.RetrieveAttribute(nil, bucket, key, markerAttribute); err == nil {
			return m.StoreAttribute(nil, bucket, key, versionAttribute, []byte(ulid.Make().String()))
		}
		if err := os.Remove(twin); err != nil {
			return err
		}
		return m.DeleteAttributes(twin, "")
	})
	if err != nil {
		return n, fmt.Errorf("mend versions of %s: %w", bucket, err)
	}
	return n, nil
}

// bringBack makes an old version the latest: it copies the file and then its
// attributes to a staged file, puts that in place and removes the old one. A
// crash anywhere leaves what this is called for.
func (g *Gateway) bringBack(bucket, key, old string) error {
	m := g.meta
	dir := filepath.Join(bucket, stagingDir)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.MkdirAll(filepath.Dir(filepath.Join(bucket, key)), 0o700)); err != nil {
		return err
	}
	from, err := os.Open(old)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.CreateTemp(dir, strings.Repeat("0", 64)+".")
	if err != nil {
		return err
	}
	defer to.Close()
	defer os.Remove(to.Name()) // it has moved, or it is in the way
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	names, err := m.ListAttributes(old, "")
	if err != nil {
		return err
	}
	for _, name := range names {
		val, err := m.RetrieveAttribute(from, old, "", name)
		if err != nil {
			return err
		}
		if err := m.StoreAttribute(to, bucket, key, name, val); err != nil {
			return err
		}
	}
	if st, err := from.Stat(); err == nil {
		ts := []unix.Timespec{unix.NsecToTimespec(st.ModTime().UnixNano()), unix.NsecToTimespec(st.ModTime().UnixNano())}
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, to.Name(), ts, 0) // Last-Modified; nice to have
	}
	if err := to.Sync(); err != nil {
		return err
	}
	if err := os.Rename(to.Name(), filepath.Join(bucket, key)); err != nil {
		return err
	}
	if err := g.sync(bucket, key); err != nil {
		return err
	}
	if err := os.Remove(old); err != nil {
		return err
	}
	return m.DeleteAttributes(old, "")
}
