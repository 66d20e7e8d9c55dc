package sign

import (
	"context"
	"io"
)

// Objects is where code comes from and goes to. Every call is made for a
// caller, the one who started the job, and may do what that caller may do and
// nothing more: a job is no way around a bucket's owner. An error that is a
// countersign.Error is final: NotFound, Denied, Exists, Invalid. Any other
// means that nobody knows, and is tried again.
type Objects interface {
	// Bucket looks at a bucket.
	Bucket(ctx context.Context, as Caller, name string) (BucketInfo, error)
	// Open reads one version of an object; an empty version is the latest.
	// NotFound when the bucket, the key or the version is not there, or the
	// version is a delete marker. What is read does not change under the reader.
	Open(ctx context.Context, as Caller, bucket, key, version string) (io.ReadCloser, ObjectInfo, error)
	// PutIfAbsent writes an object whose key has none, durable when it
	// returns; Exists when the key has one. Of two at once, one wins.
	PutIfAbsent(ctx context.Context, as Caller, bucket, key string, body io.Reader, size int64) error
}

// BucketInfo is what signing wants to know of a bucket.
type BucketInfo struct {
	Region    string
	Versioned bool // its objects have versions: enabled, or suspended since
}

// ObjectInfo is what signing wants to know of an object.
type ObjectInfo struct {
	Size    int64
	Version string // the version opened; may be empty for a latest without one
}
