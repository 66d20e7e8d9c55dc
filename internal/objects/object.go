package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"countersign"
	"countersign/internal/store"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// A Code is S3's name for an error. It is the cause of the [countersign.Error]
// that the methods below return: errors.Is(err, objects.NoSuchKey).
type Code string

func (c Code) Error() string { return string(c) }

// The codes a caller tells apart.
const (
	NoSuchBucket      Code = "NoSuchBucket"
	NoSuchKey         Code = "NoSuchKey"
	NoSuchVersion     Code = "NoSuchVersion"
	PermanentRedirect Code = "PermanentRedirect" // the bucket is in another region
)

// CodeOf returns S3's name for err and S3's sentence for it, as Lambda quotes
// them. Both are empty if err did not come from S3.
func CodeOf(err error) (code Code, message string) {
	var e *countersign.Error
	if errors.As(err, &e) && errors.As(e.Err, &code) {
		return code, e.Message
	}
	return "", ""
}

// Info describes one stored object.
type Info struct {
	Size      int64
	ETag      string // without quotes
	VersionID string // empty on a bucket that was never versioned
	Modified  time.Time
	Metadata  map[string]string // x-amz-meta-*, names in lower case without the prefix
}

// GetObject opens one object for the platform itself: no policy is asked.
// version may be empty (the latest) or "null". region is the caller's; a
// bucket elsewhere gives PermanentRedirect; the empty region asks for none. The
// bytes read are those of the version that was there when GetObject returned,
// even if the key is overwritten or deleted meanwhile.
func (g *Gateway) GetObject(ctx context.Context, region, bucket, key, version string) (io.ReadCloser, Info, error) {
	b, err := g.inRegion(region, bucket)
	if err != nil {
		return nil, Info{}, err
	}
	out, err := b.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key, VersionId: &version, Range: new("")})
	if err != nil {
		return nil, Info{}, known("get", bucket, key, err)
	}
	info := Info{Metadata: make(map[string]string, len(out.Metadata)), VersionID: value(out.VersionId), ETag: strings.Trim(value(out.ETag), `"`)}
	for k, v := range out.Metadata {
		info.Metadata[strings.ToLower(k)] = v
	}
	if out.ContentLength != nil {
		info.Size = *out.ContentLength
	}
	if out.LastModified != nil {
		info.Modified = *out.LastModified
	}
	if out.Body == nil {
		out.Body = http.NoBody
	}
	return out.Body, info, nil
}

// PutObject stores size bytes of r. It is durable when PutObject returns.
func (g *Gateway) PutObject(ctx context.Context, bucket, key string, r io.Reader, size int64, metadata map[string]string) (Info, error) {
	return g.put(ctx, bucket, key, r, size, metadata, nil)
}

// PutIfAbsent stores an object unless the key has one. If it has, created is
// false, info describes that one, and nothing was written: work that is done
// again after a crash makes one object, and one version. The caller compares
// info.Metadata to know its own work from a stranger's. A delete marker counts
// as an object that is there, and gives NoSuchKey.
func (g *Gateway) PutIfAbsent(ctx context.Context, bucket, key string, r io.Reader, size int64, metadata map[string]string) (info Info, created bool, err error) {
	info, err = g.put(ctx, bucket, key, r, size, metadata, new("*"))
	if err == nil {
		return info, true, nil
	}
	if code, _ := CodeOf(err); code != "PreconditionFailed" {
		return Info{}, false, err
	}
	body, info, err := g.GetObject(ctx, "", bucket, key, "")
	if err != nil {
		return Info{}, false, err
	}
	return info, false, body.Close()
}

func (g *Gateway) put(ctx context.Context, bucket, key string, r io.Reader, size int64, metadata map[string]string, ifNoneMatch *string) (Info, error) {
	b, err := g.inRegion("", bucket)
	if err != nil {
		return Info{}, err
	}
	out, err := b.PutObject(ctx, s3response.PutObjectInput{
		Bucket: &bucket, Key: &key, ContentLength: &size, Body: whole(r, size), Metadata: metadata, IfNoneMatch: ifNoneMatch,
	})
	if err != nil {
		return Info{}, known("put", bucket, key, err)
	}
	info := Info{Size: size, ETag: strings.Trim(out.ETag, `"`), VersionID: out.VersionID, Modified: time.Now(), Metadata: metadata}
	if g.cfg.Events != nil {
		d, _, _ := g.buckets.Get(store.Key(bucket))
		g.cfg.Events(Event{Name: "ObjectCreated:Put", Time: info.Modified.UTC(), Region: d.Region, Bucket: bucket, Owner: d.Account, Key: key, Size: size, ETag: info.ETag, VersionID: info.VersionID})
	}
	return info, nil
}

// Versioning reports whether a bucket makes a version of every write, and
// whether it has made versions before: a suspended bucket keeps those it has,
// and calls what is written since "null".
func (g *Gateway) Versioning(ctx context.Context, bucket string) (enabled, ever bool, err error) {
	b, err := g.inRegion("", bucket)
	if err != nil {
		return false, false, err
	}
	v, err := b.GetBucketVersioning(ctx, bucket)
	if err != nil {
		return false, false, known("versioning of", bucket, "", err)
	}
	enabled = v.Status != nil && *v.Status == types.BucketVersioningStatusEnabled
	return enabled, v.Status != nil && *v.Status != "", nil
}

// BucketRegion returns where a bucket lives and whose it is.
func (g *Gateway) BucketRegion(bucket string) (region, account string, err error) {
	d, _, ok := g.buckets.Get(store.Key(bucket))
	if !ok {
		return "", "", noSuchBucket()
	}
	return d.Region, d.Account, nil
}

func noSuchBucket() error {
	return &countersign.Error{Kind: countersign.NotFound, Message: "The specified bucket does not exist", Err: NoSuchBucket}
}

// inRegion returns the backend a bucket's region has.
func (g *Gateway) inRegion(region, bucket string) (*backend, error) {
	if !g.atHome() {
		return nil, errors.New("the working directory of the process was changed")
	}
	at, _, err := g.BucketRegion(bucket)
	if err != nil {
		return nil, err
	}
	if region != "" && region != at {
		return nil, &countersign.Error{Kind: countersign.NotAllowed, Err: PermanentRedirect,
			Message: "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint."}
	}
	return &backend{Posix: g.posix, g: g, region: at}, nil
}

// known turns the backend's error into ours.
func known(verb, bucket, key string, err error) error {
	var e s3err.S3Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s %s/%s: %w", verb, bucket, key, err)
	}
	base := e.BaseError()
	kind := countersign.Invalid
	switch base.HTTPStatusCode {
	case http.StatusNotFound:
		kind = countersign.NotFound
	case http.StatusPreconditionFailed, http.StatusConflict:
		kind = countersign.Exists
	case http.StatusMethodNotAllowed:
		kind = countersign.NotAllowed
	case http.StatusForbidden:
		kind = countersign.Denied
	case http.StatusInternalServerError:
		kind = countersign.Internal
	}
	return &countersign.Error{Kind: kind, Message: base.Description, Err: Code(base.Code)}
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// GetObject and HeadObject hold the key's lock while the backend finds and
// opens the file: it reads the version's id, the attributes and the file by
// path, one after the other, and a put in between would give the bytes of one
// version the name of another.

func (b *backend) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	unlock, err := b.shared(in.Bucket, in.Key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return b.Posix.GetObject(ctx, in)
}

func (b *backend) HeadObject(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	unlock, err := b.shared(in.Bucket, in.Key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return b.Posix.HeadObject(ctx, in)
}

func (b *backend) shared(bucket, key *string) (unlock func(), err error) {
	if bucket == nil || key == nil {
		return func() {}, nil // the backend says what is wrong
	}
	if _, _, ok := b.g.buckets.Get(store.Key(*bucket)); !ok {
		return nil, s3err.GetBucketErr(s3err.ErrNoSuchBucket, *bucket)
	}
	return lockKey(*bucket, *key, false)
}
