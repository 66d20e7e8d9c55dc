package objects

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"countersign/internal/store"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/valyala/fasthttp"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
	"golang.org/x/sys/unix"
)

// A bucket is the document of one bucket. The backend's directory exists only
// between the document's creation and its deletion.
type bucket struct {
	Name    string    `json:"name"`
	Region  string    `json:"region"`
	Account string    `json:"account"`
	Created time.Time `json:"created"`
	// Settings are the documents of setting.go that are kept, by their query
	// parameter. The empty string means deleted: no default applies.
	Settings map[string]string `json:"settings,omitempty"`
}

// owner returns the account a bucket belongs to, or the empty string.
func (g *Gateway) owner(name string) string {
	b, _, _ := g.buckets.Get(store.Key(name))
	return b.Account
}

// backend is versitygw's posix backend as one region sees it: it keeps our
// bucket documents, makes writes durable, and hides grants from requests
// nobody has signed.
type backend struct {
	*posix.Posix
	g      *Gateway
	region string
}

// authenticated reports whether versitygw has verified the signature of the
// request that ctx belongs to. Before that the account is the zero one.
func authenticated(ctx context.Context) bool {
	a, ok := ctx.Value("account").(auth.Account)
	return ok && a.Access != ""
}

// GetBucketPolicy hides the policy from versitygw's public-access check, which
// runs before any signature is verified: no policy makes anything public. It
// also hides it when root deletes the policy, or a Deny would lock the account
// out of its own bucket for good; AWS lets root do the same.
func (b *backend) GetBucketPolicy(ctx context.Context, name string) ([]byte, error) {
	if !authenticated(ctx) || b.deletesPolicyAsRoot(ctx, name) {
		return nil, s3err.GetAPIError(s3err.ErrNoSuchBucketPolicy)
	}
	return b.Posix.GetBucketPolicy(ctx, name)
}

func (b *backend) deletesPolicyAsRoot(ctx context.Context, name string) bool {
	r, ok := ctx.(*fasthttp.RequestCtx)
	if !ok || !r.IsDelete() || !r.QueryArgs().Has("policy") {
		return false
	}
	a := ctx.Value("account").(auth.Account)
	_, c, ok := b.g.cfg.Keys.Lookup(ctx, a.SessionToken)
	return ok && c.Root && c.Account == b.g.owner(name)
}

// GetBucketAcl hides the ACL likewise.
func (b *backend) GetBucketAcl(ctx context.Context, in *s3.GetBucketAclInput) ([]byte, error) {
	acl, err := b.Posix.GetBucketAcl(ctx, in)
	if err == nil && !authenticated(ctx) {
		return nil, s3err.GetAPIError(s3err.ErrAccessDenied)
	}
	return acl, err
}

// CreateBucket claims the name with the document, then makes the directory. A
// crash in between leaves a document without a directory, which Open removes.
func (b *backend) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	owner, _ := ctx.Value("bucket-owner").(auth.Account)
	d := bucket{Name: *in.Bucket, Region: b.region, Account: owner.Access, Created: time.Now().UTC().Truncate(time.Millisecond)}
	key := store.Key(d.Name)
	rev, err := b.g.buckets.Create(ctx, key, d)
	if errors.Is(err, store.ErrExists) {
		if b.g.owner(d.Name) == owner.Access {
			return s3err.GetBucketErr(s3err.ErrBucketAlreadyOwnedByYou, d.Name)
		}
		return s3err.GetBucketErr(s3err.ErrBucketAlreadyExists, d.Name)
	}
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", d.Name, err)
	}
	if err := b.Posix.CreateBucket(ctx, in, acl); err != nil {
		return errors.Join(err, b.g.buckets.Delete(ctx, key, rev))
	}
	return errors.Join(syncPath(d.Name), syncPath("."))
}

// DeleteBucket removes the directory, then the document. A crash in between is
// as above.
func (b *backend) DeleteBucket(ctx context.Context, name string) error {
	d, rev, ok := b.g.buckets.Get(store.Key(name))
	if !ok {
		return s3err.GetBucketErr(s3err.ErrNoSuchBucket, name)
	}
	if err := b.Posix.DeleteBucket(ctx, name); err != nil {
		return err
	}
	if err := syncPath("."); err != nil {
		return err
	}
	for {
		err := b.g.buckets.Delete(ctx, store.Key(name), rev)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		var now bucket
		if now, rev, ok = b.g.buckets.Get(store.Key(name)); !ok || !now.Created.Equal(d.Created) {
			return nil
		}
	}
}

// published makes a new object durable, unless its bucket was deleted under
// it: then it never was.
func (b *backend) published(name, key string) error {
	if _, _, ok := b.g.buckets.Get(store.Key(name)); !ok {
		_ = os.Remove(filepath.Join(name, key))
		return s3err.GetBucketErr(s3err.ErrNoSuchBucket, name)
	}
	return b.g.sync(name, key)
}

func (b *backend) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	if in.Key != nil && !isPlain(*in.Key) { // a form's key is not in the path
		return s3response.PutObjectOutput{}, errKey
	}
	if r, ok := ctx.(*fasthttp.RequestCtx); ok && r.IsPut() && in.ContentLength != nil {
		in.Body = whole(in.Body, *in.ContentLength)
	}
	out, err := b.Posix.PutObject(ctx, in)
	if err != nil {
		return out, err
	}
	return out, b.published(*in.Bucket, *in.Key)
}

func (b *backend) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	if err := plainSource(in.CopySource); err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	out, err := b.Posix.CopyObject(ctx, in)
	if err != nil {
		return out, err
	}
	return out, b.published(*in.Bucket, *in.Key)
}

func (b *backend) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	out, version, err := b.Posix.CompleteMultipartUpload(ctx, in)
	if err != nil {
		return out, version, err
	}
	return out, version, b.published(*in.Bucket, *in.Key)
}

// plainSource checks the key of a copy's source, "/bucket/key?versionId=…".
func plainSource(source *string) error {
	if source == nil {
		return nil
	}
	s, _, _ := strings.Cut(*source, "?versionId=")
	_, key, _ := strings.Cut(strings.TrimPrefix(unescaped(s), "/"), "/")
	if !isPlain(key) {
		return errKey
	}
	return nil
}

// uploadDir is where the backend keeps the parts of an upload.
func uploadDir(bucket, key, upload string) string {
	return filepath.Join(bucket, posix.MetaTmpMultipartDir, fmt.Sprintf("%x", sha256.Sum256([]byte(key))), upload)
}

func (b *backend) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (s3response.InitiateMultipartUploadResult, error) {
	out, err := b.Posix.CreateMultipartUpload(ctx, in)
	if err != nil {
		return out, err
	}
	return out, syncUp(uploadDir(*in.Bucket, *in.Key, out.UploadId), ".")
}

func (b *backend) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	if in.ContentLength != nil {
		in.Body = whole(in.Body, *in.ContentLength)
	}
	out, err := b.Posix.UploadPart(ctx, in)
	if err != nil {
		return out, err
	}
	return out, syncPart(*in.Bucket, *in.Key, *in.UploadId, *in.PartNumber)
}

func (b *backend) UploadPartCopy(ctx context.Context, in *s3.UploadPartCopyInput) (s3response.CopyPartResult, error) {
	if err := plainSource(in.CopySource); err != nil {
		return s3response.CopyPartResult{}, err
	}
	out, err := b.Posix.UploadPartCopy(ctx, in)
	if err != nil {
		return out, err
	}
	return out, syncPart(*in.Bucket, *in.Key, *in.UploadId, *in.PartNumber)
}

func syncPart(bucket, key, upload string, part int32) error {
	dir := uploadDir(bucket, key, upload)
	return errors.Join(syncPath(filepath.Join(dir, fmt.Sprint(part))), syncPath(dir))
}

// DeleteObject takes the lock the backend holds while it publishes to the same
// key, which the backend itself does not take to delete: without it a delete
// that meets a put could turn the new object into the delete marker.
func (b *backend) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	if in.Bucket == nil || in.Key == nil {
		return b.Posix.DeleteObject(ctx, in)
	}
	if !isPlain(*in.Key) { // a batch's keys are not in the path
		return nil, errKey
	}
	if _, _, ok := b.g.buckets.Get(store.Key(*in.Bucket)); !ok {
		return nil, s3err.GetBucketErr(s3err.ErrNoSuchBucket, *in.Bucket)
	}
	unlock, err := lockKey(*in.Bucket, *in.Key, true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	out, err := b.Posix.DeleteObject(ctx, in)
	if err != nil {
		return out, err
	}
	// What was restored or marked is synced where its attributes are set;
	// what is gone is gone when its directory is durable. An emptied directory
	// is removed: the nearest one left is what changed.
	path := filepath.Join(*in.Bucket, *in.Key)
	return out, errors.Join(syncPath(path), syncNearest(filepath.Dir(path)))
}

func syncNearest(dir string) error {
	for dir != "." && dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			return syncPath(dir)
		}
		dir = filepath.Dir(dir)
	}
	return nil
}

// lockKey takes the lock the backend publishes under, alone or shared with
// other readers. The layout of the files is that of the backend's objlock.go:
// if another version of it moved them, TestDeleteMeetsPut fails.
func lockKey(bucket, key string, alone bool) (unlock func(), err error) {
	b, k := sha256.Sum256([]byte(bucket)), sha256.Sum256([]byte(key))
	dir := filepath.Join(".vgwlocks", fmt.Sprintf("%x", b))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock %s/%s: %w", bucket, key, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%02x", k[0])), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s/%s: %w", bucket, key, err)
	}
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s/%s: %w", bucket, key, err)
	}
	return func() { f.Close() }, nil
}

// DeleteObjects deletes one after the other, each as DeleteObject does.
func (b *backend) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (out s3response.DeleteResult, _ error) {
	for _, o := range in.Delete.Objects {
		res, err := b.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: in.Bucket, Key: o.Key, VersionId: o.VersionId})
		if err != nil {
			out.Error = append(out.Error, s3err.ObjectDeleteError(o.Key, o.VersionId, err))
			continue
		}
		d := types.DeletedObject{Key: o.Key, VersionId: o.VersionId, DeleteMarker: res.DeleteMarker}
		if res.DeleteMarker != nil && *res.DeleteMarker {
			d.DeleteMarkerVersionId = res.VersionId
		}
		out.Deleted = append(out.Deleted, d)
	}
	return out, nil
}
