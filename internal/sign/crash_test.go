package sign_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign"
	"countersign/internal/sign"
	"countersign/internal/store"
	"countersign/internal/store/storetest"
)

// errDead is what a process that is no more sees of the world.
var errDead = errors.New("the process is dead")

// A fuse kills a process at one of its durable steps: before the step is
// stored, or after, with its answer lost. From then on nothing answers. The
// nil fuse never blows. Unlike storetest's faults, which know the writes to a
// store, a fuse counts the writing of the object among the steps.
type fuse struct {
	after bool

	mu    sync.Mutex
	left  int      // steps that still succeed; guarded by mu
	steps []string // what was done so far; guarded by mu
	blown bool     // guarded by mu
}

func (f *fuse) step(name string, do func() error) error {
	if f == nil {
		return do()
	}
	f.mu.Lock()
	if f.blown {
		f.mu.Unlock()
		return errDead
	}
	f.steps = append(f.steps, name)
	f.left--
	f.blown = f.left < 0
	blown := f.blown
	f.mu.Unlock()
	if !blown {
		return do()
	}
	if f.after {
		_ = do()
	}
	return errDead
}

func (f *fuse) dead() error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blown {
		return errDead
	}
	return nil
}

// mortalStore is a store as seen by a process that dies when its fuse blows.
type mortalStore struct {
	store.Store
	fuse *fuse
}

func (s mortalStore) Bucket(ctx context.Context, name string) (store.Bucket, error) {
	b, err := s.Store.Bucket(ctx, name)
	return mortalBucket{b, s.fuse, name}, errors.Join(err, s.fuse.dead())
}

func (s mortalStore) Queue(ctx context.Context, name string) (store.Queue, error) {
	q, err := s.Store.Queue(ctx, name)
	return mortalQueue{q, s.fuse, name}, errors.Join(err, s.fuse.dead())
}

type mortalBucket struct {
	store.Bucket
	fuse *fuse
	name string
}

func (b mortalBucket) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	if err := b.fuse.dead(); err != nil {
		return nil, store.Revision{}, err
	}
	return b.Bucket.Get(ctx, key)
}

func (b mortalBucket) Create(ctx context.Context, key string, val []byte) (rev store.Revision, err error) {
	err = b.fuse.step("create in "+b.name, func() (err error) { rev, err = b.Bucket.Create(ctx, key, val); return err })
	return rev, err
}

func (b mortalBucket) Swap(ctx context.Context, key string, val []byte, old store.Revision) (rev store.Revision, err error) {
	err = b.fuse.step("swap in "+b.name, func() (err error) { rev, err = b.Bucket.Swap(ctx, key, val, old); return err })
	return rev, err
}

func (b mortalBucket) Delete(ctx context.Context, key string, old store.Revision) error {
	return b.fuse.step("delete in "+b.name, func() error { return b.Bucket.Delete(ctx, key, old) })
}

func (b mortalBucket) Watch(ctx context.Context) iter.Seq2[store.Event, error] {
	return b.Bucket.Watch(ctx)
}

type mortalQueue struct {
	store.Queue
	fuse *fuse
	name string
}

func (q mortalQueue) Put(ctx context.Context, id string, item []byte) error {
	return q.fuse.step("put in "+q.name, func() error { return q.Queue.Put(ctx, id, item) })
}

// Work counts the removal of a finished item as the step it is.
func (q mortalQueue) Work(ctx context.Context, n int, do func(context.Context, string, []byte) error) error {
	return q.Queue.Work(ctx, n, func(ctx context.Context, id string, item []byte) error {
		if err := q.fuse.dead(); err != nil {
			return err
		}
		if err := do(ctx, id, item); err != nil {
			return err
		}
		err := q.fuse.step("ack in "+q.name, func() error { return nil })
		if err != nil && q.fuse.after {
			return nil // the queue has forgotten the item; the process does not know
		}
		return err
	})
}

// mortalObjects is the objects as such a process sees them.
type mortalObjects struct {
	sign.Objects
	fuse *fuse
}

func (o mortalObjects) Bucket(ctx context.Context, as sign.Caller, name string) (sign.BucketInfo, error) {
	if err := o.fuse.dead(); err != nil {
		return sign.BucketInfo{}, err
	}
	return o.Objects.Bucket(ctx, as, name)
}

func (o mortalObjects) Open(ctx context.Context, as sign.Caller, bucket, key, version string) (io.ReadCloser, sign.ObjectInfo, error) {
	if err := o.fuse.dead(); err != nil {
		return nil, sign.ObjectInfo{}, err
	}
	return o.Objects.Open(ctx, as, bucket, key, version)
}

func (o mortalObjects) PutIfAbsent(ctx context.Context, as sign.Caller, bucket, key string, body io.Reader, size int64) error {
	return o.fuse.step("put object", func() error { return o.Objects.PutIfAbsent(ctx, as, bucket, key, body, size) })
}

// live runs one life of the platform: it starts, the client asks for the job
// (again), and the process goes on until the job is done or the fuse blows.
// It reports whether the client was told that there is a job.
func (p *platform) live(t *testing.T, f *fuse, r *sign.JobRequest) (acknowledged bool) {
	t.Helper()
	m := *p
	m.store, m.objects = mortalStore{p.store, f}, mortalObjects{p.objects, f}
	if err := m.open(t.Context(), t); err != nil {
		if f.dead() == nil {
			t.Fatal(err)
		}
		return false
	}
	defer m.Close()
	if r != nil {
		j, err := m.StartJob(t.Context(), here, root, *r)
		if err == nil {
			acknowledged = true
			p.shelves.acknowledged(j.ID)
		} else if f.dead() == nil {
			t.Fatal(err)
		}
	}
	// Everything that can still happen happens: every goroutine of the bubble
	// is waiting for time, and there is no time for the dead.
	synctest.Wait()
	return acknowledged
}

// checkOneSigning asserts what must be true after any history of crashes and
// one whole life: acknowledged jobs have ended well, in one object each, and
// no signed object is without its job.
func checkOneSigning(t *testing.T, p *platform, acknowledged bool) {
	t.Helper()
	if err := p.open(t.Context(), t); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	js, _, err := p.Jobs(here, sign.JobFilter{}, sign.PageRequest{})
	must(t, err)
	if acknowledged && len(js) != 1 || len(js) > 1 {
		t.Fatalf("got %d jobs, acknowledged: %v", len(js), acknowledged)
	}
	for _, j := range js {
		j = p.await(t, j.ID)
		vs := p.shelves.versions("dst", j.Target.Key)
		if j.Status != sign.Succeeded || len(vs) != 1 {
			t.Fatalf("got %s: %s, with %d versions of its object", j.Status, j.Reason, len(vs))
		}
		st := checkSigned(t, p, j, vs[0]).Statement()
		if !st.SignedAt.Equal(j.SignedAt) || st.Strict.String() != j.Content {
			t.Errorf("the object's signature of %s is not the one on record, of %s", st.SignedAt, j.SignedAt)
		}
		if ids := p.shelves.acks(); len(ids) > 0 && slices.ContainsFunc(ids, func(id string) bool { return id != j.ID }) {
			t.Errorf("the client was told of jobs %v, there is %s", ids, j.ID)
		}
	}
	if n := p.shelves.keys("dst"); n != len(js) {
		t.Errorf("got %d signed objects for %d jobs", n, len(js))
	}
}

// TestJobSurvivesACrashAtEveryStep kills the process at each durable step of a
// job, then at each step of the resumed one, and lets the third life finish.
func TestJobSurvivesACrashAtEveryStep(t *testing.T) {
	t.Parallel()
	var seen []string
	histories := 0
	crash := func(t *testing.T, first, second *fuse, retry bool) (steps []string) {
		synctest.Test(t, func(t *testing.T) {
			p := prepare(t, storetest.Memory())
			must(t, p.open(t.Context(), t))
			p.profile(t, "prod")
			p.Close()
			r := p.request(hello(t), "app.zip")
			ack := p.live(t, first, &r)
			again := &r
			if !retry {
				again = nil
			}
			if second != nil {
				// The second life comes at another time: were it to sign
				// anew, the signature would be another one.
				p.clock.add(1234567)
				ack = p.live(t, second, again) || ack
			}
			p.clock.add(1234567)
			ack = p.live(t, nil, again) || ack
			if retry && !ack {
				t.Error("the last life did not acknowledge")
			}
			checkOneSigning(t, p, ack)
		})
		histories++
		return first.steps
	}
	for _, retry := range []bool{true, false} {
		for _, after := range []bool{false, true} {
			for n := 0; ; n++ {
				steps := crash(t, &fuse{after: after, left: n}, nil, retry)
				if len(steps) <= n { // it lived to the end
					seen = steps
					break
				}
				for m := 0; retry; m++ {
					second := &fuse{after: m%2 == 1, left: m / 2}
					crash(t, &fuse{after: after, left: n}, second, retry)
					if !second.blown {
						break
					}
				}
			}
		}
	}
	want := []string{"create in signtokens", "create in signjobs", "put in signwork", "swap in signjobs", "put object", "swap in signjobs", "ack in signwork"}
	if !slices.Equal(seen, want) {
		t.Errorf("got the steps %q, want %q", seen, want)
	}
	t.Logf("%d histories", histories)
}

// TestResumedJobNeedsNoSource loses the source between a job's object and its
// end: the object tells that the work is done.
func TestResumedJobNeedsNoSource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		left   int                 // steps of the first life
		after  func(object []byte) // what becomes of the object until then
		status sign.JobStatus
	}{
		{"delivered", 5, nil, sign.Succeeded},
		{"delivered and altered", 5, func(object []byte) { object[40] ^= 1 }, sign.Failed}, // in the first body
		{"staged only", 4, nil, sign.Failed},
		{"not staged", 3, nil, sign.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := prepare(t, storetest.Memory())
				must(t, p.open(t.Context(), t))
				p.profile(t, "prod")
				p.Close()
				r := p.request(hello(t), "app.zip")
				p.live(t, &fuse{left: c.left}, &r)
				p.shelves.remove("src", "app.zip")
				p.clock.add(10 * time.Minute)
				objects := 0
				for _, vs := range p.shelves.buckets["dst"].objects {
					objects++
					if c.after != nil {
						c.after(vs[0].body)
					}
				}
				must(t, p.open(t.Context(), t))
				defer p.Close()
				j := p.await(t, p.shelves.acks()[0])
				if j.Status != c.status {
					t.Errorf("got %s: %s, want %s", j.Status, j.Reason, c.status)
				}
				if got := len(p.shelves.versions("dst", j.Target.Key)); got != objects || objects == 0 && c.status == sign.Succeeded {
					t.Errorf("a %s job has %d objects, and had %d", j.Status, got, objects)
				}
				if len(j.Envelope) != 0 {
					t.Error("an ended job keeps its envelope")
				}
			})
		})
	}
}

// TestCancelingFinishesWhatWasStarted cancels the profile between a job's start
// and its signature. A canceled profile starts no jobs and finishes its own.
func TestCancelingFinishesWhatWasStarted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := prepare(t, storetest.Memory())
		must(t, p.open(t.Context(), t))
		p.profile(t, "prod")
		p.Close()
		r := p.request(hello(t), "app.zip")
		p.live(t, &fuse{left: 3}, &r) // dies before it has signed
		gate := make(chan struct{})
		p.objects = &broken{shelves: p.shelves, open: func(string, string) error { <-gate; return nil }}
		must(t, p.open(t.Context(), t))
		defer p.Close()
		must(t, p.CancelProfile(t.Context(), here, "prod"))
		close(gate)
		if j := p.await(t, p.shelves.acks()[0]); j.Status != sign.Succeeded {
			t.Errorf("got %s: %s", j.Status, j.Reason)
		}
	})
}

// TestTwinsMakeOneObject has every job worked on by three attempts that walk
// in step: all have signed before one stores its envelope, and all have an
// envelope before one writes its object. The last to store is not the first
// to write.
func TestTwinsMakeOneObject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := prepare(t, storetest.Memory())
		var steps barrier
		p.objects = &broken{shelves: p.shelves,
			open: func(bucket, _ string) error {
				if bucket == "src" {
					steps.wait()
				}
				return nil
			},
			put: func(string, string) error { steps.wait(); return nil },
		}
		p.store, p.workers, p.clock.tick = twinStore{p.store, 0}, 1, time.Millisecond
		must(t, p.open(t.Context(), t))
		defer p.Close()
		p.profile(t, "prod")
		for i := range 8 {
			j := p.sign(t, p.request(zipped(t, "n", fmt.Sprint(i)), fmt.Sprintf("%d.zip", i)))
			vs := p.shelves.versions("dst", j.Target.Key)
			if j.Status != sign.Succeeded || len(vs) != 1 {
				t.Fatalf("got %s: %s, %d objects", j.Status, j.Reason, len(vs))
			}
			if st := checkSigned(t, p, j, vs[0]).Statement(); !st.SignedAt.Equal(j.SignedAt) {
				t.Errorf("the object's signature is of %s, the one on record of %s", st.SignedAt, j.SignedAt)
			}
		}
	})
}

// TestAVerdictOnAnOldStateIsNone has attempts find the source gone while
// another, which has signed it, is still writing the object.
func TestAVerdictOnAnOldStateIsNone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		delay time.Duration // between the attempts' beginnings
	}{{"attempts that began before the signature", 0}, {"attempts that began after it", time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := prepare(t, storetest.Memory())
				var steps barrier
				var mu sync.Mutex
				opened := 0
				p.objects = &broken{shelves: p.shelves,
					open: func(bucket, _ string) error {
						if bucket != "src" {
							return nil
						}
						if c.delay == 0 {
							steps.wait() // all have read that there is no envelope
						}
						mu.Lock()
						opened++
						first := opened == 1
						mu.Unlock()
						if first {
							return nil
						}
						time.Sleep(time.Minute) // of the bubble
						return countersign.Errorf(countersign.NotFound, "gone")
					},
					put: func(string, string) error { time.Sleep(4 * time.Minute); return nil },
				}
				p.store, p.workers = twinStore{p.store, c.delay}, 1
				must(t, p.open(t.Context(), t))
				defer p.Close()
				p.profile(t, "prod")
				j := p.sign(t, p.request(hello(t), "app.zip"))
				if vs := p.shelves.versions("dst", j.Target.Key); j.Status != sign.Succeeded || len(vs) != 1 {
					t.Errorf("got %s: %s, %d objects", j.Status, j.Reason, len(vs))
				}
			})
		})
	}
}

// TestALateTwinChangesNothing has one attempt hang while another finishes the
// job, and then fail for a reason that is none any more.
func TestALateTwinChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := prepare(t, storetest.Memory())
		var mu sync.Mutex
		late := twins - 1
		p.objects = &broken{shelves: p.shelves, open: func(bucket, _ string) error {
			mu.Lock()
			wait := bucket == "src" && late > 0
			if wait {
				late--
			}
			mu.Unlock()
			if wait {
				time.Sleep(time.Minute) // of the bubble
			}
			return nil
		}}
		p.store, p.workers = twinStore{p.store, 0}, 1
		must(t, p.open(t.Context(), t))
		defer p.Close()
		p.profile(t, "prod")
		first := p.sign(t, p.request(hello(t), "app.zip"))
		if first.Status != sign.Succeeded {
			t.Fatalf("got %s: %s", first.Status, first.Reason)
		}
		p.shelves.remove("src", "app.zip")
		p.clock.add(time.Minute)
		time.Sleep(time.Hour)
		synctest.Wait()
		if late != 0 {
			t.Fatalf("%d twins never came", late)
		}
		again, err := p.Job(t.Context(), here, first.ID)
		must(t, err)
		if again.Status != sign.Succeeded || !again.Completed.Equal(first.Completed) {
			t.Errorf("the late twin made it %s: %s at %s", again.Status, again.Reason, again.Completed)
		}
	})
}

// twins is how many attempts a twinStore makes at once.
const twins = 3

// A barrier lets its callers go in groups of twins, the last to come a
// moment after the others: bubbles only.
type barrier struct {
	mu   sync.Mutex
	n    int           // waiting; guarded by mu
	open chan struct{} // closed when the group is whole; guarded by mu
}

func (b *barrier) wait() {
	b.mu.Lock()
	if b.n == 0 {
		b.open = make(chan struct{})
	}
	b.n++
	open, last := b.open, b.n == twins
	if last {
		b.n = 0
	}
	b.mu.Unlock()
	if last {
		close(open)
		time.Sleep(time.Millisecond)
	}
	<-open
}

// twinStore gives every item to several workers at once, as a queue does that
// has given up on the first too early.
type twinStore struct {
	store.Store
	delay time.Duration // between the workers' beginnings
}

func (s twinStore) Queue(ctx context.Context, name string) (store.Queue, error) {
	q, err := s.Store.Queue(ctx, name)
	return twinQueue{q, s.delay}, err
}

type twinQueue struct {
	store.Queue
	delay time.Duration
}

func (q twinQueue) Work(ctx context.Context, n int, do func(context.Context, string, []byte) error) error {
	return q.Queue.Work(ctx, n, func(ctx context.Context, id string, item []byte) error {
		var wg sync.WaitGroup
		errs := make([]error, twins)
		for i := range errs {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * q.delay) // of the bubble
				errs[i] = do(ctx, id, item)
			})
		}
		wg.Wait()
		return errors.Join(errs...)
	})
}
