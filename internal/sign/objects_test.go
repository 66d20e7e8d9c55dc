package sign_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"testing"

	"countersign"
	"countersign/internal/sign"
)

// shelves keeps objects in memory under the contract of sign.Objects:
// versions, "null" ones, and puts of which one wins. It lives through the
// restarts of a service, as buckets do.
type shelves struct {
	mu      sync.Mutex
	buckets map[string]*shelf // guarded by mu
	puts    int               // successful PutIfAbsent calls; guarded by mu
	told    []string          // ids of jobs a client was told of; guarded by mu
}

type shelf struct {
	info      sign.BucketInfo
	account   string              // whose it is
	suspended bool                // it keeps the versions it has and makes no more
	objects   map[string][]object // oldest first
}

type object struct {
	version string
	body    []byte // nil: a delete marker
}

func newShelves() *shelves { return &shelves{buckets: map[string]*shelf{}} }

func (o *shelves) make(account, name string, info sign.BucketInfo) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buckets[name] = &shelf{info: info, account: account, objects: map[string][]object{}}
}

// put writes an object as its owner would and returns its version.
func (o *shelves) put(bucket, key string, body []byte) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.buckets[bucket]
	v := "null"
	if b.info.Versioned && !b.suspended {
		v = "v" + strconv.Itoa(len(b.objects[key])+1)
	}
	b.objects[key] = append(b.objects[key], object{v, body})
	return v
}

// remove forgets every version of an object.
func (o *shelves) remove(bucket, key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.buckets[bucket].objects, key)
}

// versions returns the bodies under key, oldest first.
func (o *shelves) versions(bucket, key string) (bodies [][]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, v := range o.buckets[bucket].objects[key] {
		bodies = append(bodies, v.body)
	}
	return bodies
}

// keys counts the keys in bucket.
func (o *shelves) keys(bucket string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buckets[bucket].objects)
}

// acknowledged remembers, across restarts, what a client was told.
func (o *shelves) acknowledged(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = append(o.told, id)
}

func (o *shelves) acks() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.told
}

func (o *shelves) find(as sign.Caller, name string) (*shelf, error) {
	b := o.buckets[name]
	switch {
	case b == nil:
		return nil, countersign.Errorf(countersign.NotFound, "The specified bucket does not exist")
	case b.account != as.Account:
		return nil, countersign.Errorf(countersign.Denied, "Access Denied")
	}
	return b, nil
}

func (o *shelves) Bucket(_ context.Context, as sign.Caller, name string) (sign.BucketInfo, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, err := o.find(as, name)
	if err != nil {
		return sign.BucketInfo{}, err
	}
	return b.info, nil
}

func (o *shelves) Open(_ context.Context, as sign.Caller, bucket, key, version string) (io.ReadCloser, sign.ObjectInfo, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, err := o.find(as, bucket)
	if err != nil {
		return nil, sign.ObjectInfo{}, err
	}
	vs := b.objects[key]
	for i := len(vs) - 1; i >= 0; i-- {
		if version != "" && vs[i].version != version {
			continue
		}
		if vs[i].body == nil {
			break
		}
		return io.NopCloser(bytes.NewReader(vs[i].body)), sign.ObjectInfo{Size: int64(len(vs[i].body)), Version: vs[i].version}, nil
	}
	return nil, sign.ObjectInfo{}, countersign.Errorf(countersign.NotFound, "The specified key does not exist.")
}

func (o *shelves) PutIfAbsent(_ context.Context, as sign.Caller, bucket, key string, body io.Reader, size int64) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if int64(len(data)) != size {
		return fmt.Errorf("got %d bytes, promised %d", len(data), size)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	b, err := o.find(as, bucket)
	if err != nil {
		return err
	}
	if vs := b.objects[key]; len(vs) > 0 && vs[len(vs)-1].body != nil {
		return countersign.Errorf(countersign.Exists, "At least one of the pre-conditions you specified did not hold")
	}
	b.objects[key] = append(b.objects[key], object{"v" + strconv.Itoa(len(b.objects[key])+1), data})
	o.puts++
	return nil
}

// broken lets a test answer one method's calls in its own way first.
type broken struct {
	*shelves
	open func(bucket, key string) error
	put  func(bucket, key string) error
}

func (b *broken) Open(ctx context.Context, as sign.Caller, bucket, key, version string) (io.ReadCloser, sign.ObjectInfo, error) {
	if b.open != nil {
		if err := b.open(bucket, key); err != nil {
			return nil, sign.ObjectInfo{}, err
		}
	}
	return b.shelves.Open(ctx, as, bucket, key, version)
}

func (b *broken) PutIfAbsent(ctx context.Context, as sign.Caller, bucket, key string, body io.Reader, size int64) error {
	if b.put != nil {
		if err := b.put(bucket, key); err != nil {
			return err
		}
	}
	return b.shelves.PutIfAbsent(ctx, as, bucket, key, body, size)
}

func TestShelvesKeepTheirContract(t *testing.T) {
	t.Parallel()
	o := newShelves()
	o.make(account, "b", sign.BucketInfo{Region: region, Versioned: true})
	ctx := t.Context()
	if err := o.PutIfAbsent(ctx, root, "b", "k", bytes.NewReader([]byte("one")), 3); err != nil {
		t.Fatal(err)
	}
	if err := o.PutIfAbsent(ctx, root, "b", "k", bytes.NewReader([]byte("two")), 3); countersign.KindOf(err) != countersign.Exists {
		t.Errorf("second put: got %v, want Exists", err)
	}
	if _, _, err := o.Open(ctx, root, "b", "k", "v9"); countersign.KindOf(err) != countersign.NotFound {
		t.Errorf("unknown version: got %v, want NotFound", err)
	}
	if _, err := o.Bucket(ctx, sign.Caller{Account: "111111111111"}, "b"); countersign.KindOf(err) != countersign.Denied {
		t.Errorf("stranger: got %v, want Denied", err)
	}
}
