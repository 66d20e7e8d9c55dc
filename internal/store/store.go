// Package store keeps the platform's state on NATS JetStream: documents that
// are changed by compare-and-swap, work that survives its worker, append-only
// records, and blobs named by their digest.
//
// It promises that what it acknowledged survives kill -9 and power loss: the
// embedded server syncs every write before it answers. It trusts the data
// directory's owner: an attacker who can write there can change any document,
// but not a blob's content, which is checked against its digest on every read.
//
// With an outside cluster (Config.URL) durability is what that cluster is
// configured for, and whoever can write to its streams is trusted likewise.
//
// Only this package knows NATS. The contracts are declared here, beside
// storetest, which holds the tests every implementation passes.
package store

import (
	"context"
	"errors"
	"io"
	"iter"

	"countersign"
)

// Errors every implementation returns, wrapped with the key or id at hand.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrConflict = errors.New("changed by somebody else")
	ErrClosed   = errors.New("the store is closed")
)

// A Revision is what Swap must still find. It is opaque: JetStream numbers the
// bucket, not the key. The zero Revision means "no such key". Of two writes to
// one bucket the later has the greater revision, whatever their keys.
type Revision struct{ seq uint64 }

// RevisionAt is for implementations of [Bucket] outside this package: the
// revision of the bucket's seq-th write, counted from 1.
func RevisionAt(seq uint64) Revision { return Revision{seq} }

// Before reports whether r was written before o, both being of one bucket.
func (r Revision) Before(o Revision) bool { return r.seq < o.seq }

// IsZero reports whether r is the revision of a key that is not there.
func (r Revision) IsZero() bool { return r.seq == 0 }

// A Bucket holds small values (at most 8 MiB, meant to be a few KiB) under keys
// made by [Key]. What a write returned is durable; a write that returned an
// error other than those named here may have been stored or not. Every method
// is safe for concurrent use.
type Bucket interface {
	// Get returns ErrNotFound for a key that is missing.
	Get(ctx context.Context, key string) ([]byte, Revision, error)
	// Create returns ErrExists if key is there.
	Create(ctx context.Context, key string, val []byte) (Revision, error)
	// Swap returns ErrConflict if key has moved on from old.
	Swap(ctx context.Context, key string, val []byte, old Revision) (Revision, error)
	// Delete removes key if it is still at old, else ErrConflict. A deleted
	// key can be created again.
	Delete(ctx context.Context, key string, old Revision) error
	// Watch yields every key's present value, then one Event with Ready set,
	// then every change in the order of the writes, until ctx ends. A
	// connection that breaks is resumed without a gap, or Watch ends with an
	// error; it never skips.
	Watch(ctx context.Context) iter.Seq2[Event, error]
}

// An Event is one change a Bucket's watcher sees.
type Event struct {
	Key     string
	Value   []byte // nil when Deleted
	Rev     Revision
	Deleted bool
	Ready   bool // no change: everything written before Watch began has been yielded
}

// Blobs holds immutable bytes under their SHA-256. Putting what is there
// already is cheap and succeeds. A reader never sees bytes that do not match
// the digest: Open's reader fails before EOF instead.
type Blobs interface {
	// Put stores all of r. It is durable when Put returns.
	Put(ctx context.Context, r io.Reader) (countersign.Digest, int64, error)
	// Open returns ErrNotFound for a digest that is missing.
	Open(ctx context.Context, d countersign.Digest) (io.ReadCloser, int64, error)
	// OpenFile opens d for reading anywhere in it. All of the content has been
	// checked before OpenFile returns; what is read after that is not checked
	// again, see [BlobFile]. It returns ErrNotFound for a digest that is missing.
	OpenFile(ctx context.Context, d countersign.Digest) (BlobFile, error)
	// Delete forgets d; deleting what is missing succeeds.
	Delete(ctx context.Context, d countersign.Digest) error
}

// A BlobFile is a blob opened for random access, as reading a zip needs. It is
// safe for concurrent use.
//
// Its bytes matched the digest when it was opened. Somebody who can write to
// the data directory can change the file underneath an open BlobFile, between
// the check and the read; whoever must be sure of what it got digests what it
// read, as admission and unpacking do.
type BlobFile interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// A Queue holds work that must be done at least once. The worker makes its
// work idempotent; the queue makes sure somebody does it.
type Queue interface {
	// Put adds an item. The same id put again while the first is waiting or
	// being worked on is the same item. Durable when it returns.
	Put(ctx context.Context, id string, item []byte) error
	// Work calls do for every item, up to n at once, until ctx ends. An item
	// leaves the queue when do returns nil; otherwise, and when the process
	// dies, it comes back, after a delay that grows with its attempts. A do
	// that runs long keeps its item.
	Work(ctx context.Context, n int, do func(ctx context.Context, id string, item []byte) error) error
}

// A Log is append-only records in one order per subject. A subject is made by
// [Key]; a reader may end it with ".>" for everything below.
type Log interface {
	// Append adds records to subject, in order, as one durable step, and
	// returns the position after the last: the present end when there are no
	// records. All of them together have at most 8 MiB and 65,535 records.
	Append(ctx context.Context, subject string, records ...[]byte) (uint64, error)
	// Read yields the records of subject from position from on (0 is the
	// beginning), oldest first, and stops at the end as it is now. The
	// position yielded with a record resumes after it.
	Read(ctx context.Context, subject string, from uint64) iter.Seq2[Record, error]
	// Purge forgets the records of subject.
	Purge(ctx context.Context, subject string) error
}

// A Record is one entry of a Log.
type Record struct {
	Subject string
	Next    uint64 // position that resumes after this record
	Data    []byte
}

// A Store opens the four kinds of thing by name, making each on first use.
// Names are lower-case words. Opening a name twice gives the same thing.
type Store interface {
	Bucket(ctx context.Context, name string) (Bucket, error)
	Blobs(ctx context.Context, name string) (Blobs, error)
	Queue(ctx context.Context, name string) (Queue, error)
	Log(ctx context.Context, name string) (Log, error)
	Close() error
}
