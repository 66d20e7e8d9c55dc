package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/nats-io/nats.go/jetstream"

	"countersign"
)

// objects is [Blobs] in a JetStream object store, for a cluster: every node
// reaches every blob. An object's name is its digest. The object store checks
// a digest of its own, which whoever can write to the cluster can write too;
// we check ours, which comes from the caller.
type objects struct {
	store jetstream.ObjectStore
	tmp   string // for what is on its way
}

func openObjects(ctx context.Context, s *jetStream, name, tmp string) (*objects, error) {
	if err := makeDir(tmp); err != nil {
		return nil, err
	}
	st, err := s.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
		Bucket: "countersign_" + name, Storage: jetstream.FileStorage, Replicas: max(1, s.cfg.Replicas),
	})
	if err != nil {
		return nil, err
	}
	return &objects{st, tmp}, nil
}

// temp makes a file without a name, which is gone when it is closed.
func (b *objects) temp() (*os.File, error) {
	f, err := os.CreateTemp(b.tmp, "blob-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (b *objects) Put(ctx context.Context, r io.Reader) (countersign.Digest, int64, error) {
	d, n, err := b.put(ctx, r)
	if err != nil {
		return countersign.Digest{}, 0, fmt.Errorf("put blob: %w", err)
	}
	return d, n, nil
}

// put learns the digest before it sends anything, because it is the name. A
// crash while sending leaves chunks without an object, which nobody finds.
func (b *objects) put(ctx context.Context, r io.Reader) (d countersign.Digest, n int64, err error) {
	f, err := b.temp()
	if err != nil {
		return d, 0, err
	}
	defer f.Close()
	h := sha256.New()
	if n, err = io.Copy(io.MultiWriter(f, h), contextReader{ctx, r}); err != nil {
		return d, 0, err
	}
	h.Sum(d[:0])
	if info, err := b.store.GetInfo(ctx, d.String()); err == nil && info.Size == uint64(n) {
		return d, n, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return d, 0, err
	}
	_, err = b.store.Put(ctx, jetstream.ObjectMeta{Name: d.String()}, contextReader{ctx, f})
	return d, n, err
}

func (b *objects) Open(ctx context.Context, d countersign.Digest) (io.ReadCloser, int64, error) {
	o, err := b.store.Get(ctx, d.String())
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open blob %s: %w", d, err)
	}
	info, err := o.Info()
	if err != nil {
		o.Close()
		return nil, 0, fmt.Errorf("open blob %s: %w", d, err)
	}
	return &checkedReader{f: o, h: sha256.New(), want: d}, int64(info.Size), nil
}

func (b *objects) OpenFile(ctx context.Context, d countersign.Digest) (BlobFile, error) {
	r, _, err := b.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, err := b.temp()
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	n, err := io.Copy(f, contextReader{ctx, r}) // r checks
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	return blobFile{f, n}, nil
}

func (b *objects) Delete(ctx context.Context, d countersign.Digest) error {
	err := b.store.Delete(ctx, d.String())
	if err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return fmt.Errorf("delete blob %s: %w", d, err)
	}
	return nil
}
