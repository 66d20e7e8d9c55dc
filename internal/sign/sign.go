// Package sign makes signatures: it keeps the platform's certificate
// authority, the signing profiles in whose name code is signed, and the jobs
// that turn a source object into a signed one.
//
// It promises three things. A signature is recorded before anyone can see it:
// the job's document holds the finished envelope, durably, before the signed
// object is written. A job that was acknowledged ends, in one signed object or
// in a reason, whatever is killed in between; it never ends in two objects.
// And a private key is used in one place only ([Authority]), the root's for
// nothing but issuing an intermediate.
//
// It trusts the store's and the data directory's owner and the clock: who can
// write job documents can have code signed, and who controls the clock dates
// signatures. It does not trust source objects, which are read under
// [countersign.OpenArchive]'s rules, nor destination buckets, where an object
// that is not exactly this job's is left alone and fails the job. Who may call
// is the caller's business (guard); objects are reached as the caller who
// started the job, never with the platform's own rights.
//
// The operations follow AWS Signer (API 2017-08-25); the certificates RFC 5280.
package sign

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"countersign"
	"countersign/internal/store"
)

// Config is what a [Service] needs. Store, Objects and Authority must be set.
type Config struct {
	Store     store.Store
	Objects   Objects
	Authority *Authority

	Now     func() time.Time // the platform's clock; time.Now when nil
	Scratch string           // where archives over 8 MiB lie while they are read; os.TempDir() when empty
	Workers int              // jobs worked on at once; one per CPU when zero
	Log     *slog.Logger     // slog.Default() when nil
}

// A Service answers for profiles and jobs, of every account and region. All
// methods are safe for concurrent use.
type Service struct {
	objects Objects
	ca      *Authority
	now     func() time.Time
	scratch string
	log     *slog.Logger

	profiles    *store.Docs[Profile]
	permissions *store.Docs[Permissions] // by the profile's key
	jobs        *store.Docs[Job]
	tokens      *store.Docs[token]
	queue       store.Queue

	run     context.Context    // the service's life
	stop    context.CancelFunc // ends it
	workers sync.WaitGroup
}

// A Scope is where profiles and jobs live: one account in one region.
type Scope struct{ Account, Region string }

// A Caller is who asks: the account and the ARN of the principal, as the
// request's signature proved them.
type Caller struct {
	Account string `json:"account"`
	ARN     string `json:"arn"`
}

// Open loads what there is, puts every unfinished job back to work and starts
// the workers. They run until Close; ctx bounds the opening only.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Objects == nil || cfg.Authority == nil {
		return nil, errors.New("open signing: store, objects and authority must be set")
	}
	s := &Service{
		objects: cfg.Objects,
		ca:      cfg.Authority,
		now:     cfg.Now,
		scratch: cfg.Scratch,
		log:     cfg.Log,
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	n := cfg.Workers
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	if err := s.load(ctx, cfg.Store); err != nil {
		s.closeDocs()
		return nil, fmt.Errorf("open signing: %w", err)
	}
	s.run, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.workers.Go(func() {
		if err := s.queue.Work(s.run, n, s.work); err != nil && s.run.Err() == nil {
			s.log.Error("signing workers stopped", "err", err)
		}
	})
	return s, nil
}

func (s *Service) load(ctx context.Context, st store.Store) (err error) {
	if s.profiles, err = openDocs[Profile](ctx, st, "signprofiles"); err != nil {
		return err
	}
	if s.permissions, err = openDocs[Permissions](ctx, st, "signpermissions"); err != nil {
		return err
	}
	if s.jobs, err = openDocs[Job](ctx, st, "signjobs"); err != nil {
		return err
	}
	if s.tokens, err = openDocs[token](ctx, st, "signtokens"); err != nil {
		return err
	}
	if s.queue, err = st.Queue(ctx, "signwork"); err != nil {
		return err
	}
	// A job is acknowledged once its document is written; a crash before the
	// queue had it leaves the document alone. Putting an item that is still
	// waiting is no second item, so nothing has to be told apart here.
	for it := range s.jobs.All("") {
		if it.Val.Status == InProgress {
			if err := s.enqueue(ctx, it.Key, it.Val.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func openDocs[T any](ctx context.Context, st store.Store, name string) (*store.Docs[T], error) {
	b, err := st.Bucket(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	d, err := store.OpenDocs[T](ctx, b)
	if err != nil {
		return nil, fmt.Errorf("documents %s: %w", name, err)
	}
	return d, nil
}

// find reads a document from the view, and if it is not there from the store:
// another node may have written it a moment ago, and clients that wait for a
// job take "not found" for an answer.
func find[T any](ctx context.Context, d *store.Docs[T], key string) (T, error) {
	if v, _, ok := d.Get(key); ok {
		return v, nil
	}
	return fresh(ctx, d, key)
}

// fresh reads a document from the store itself.
func fresh[T any](ctx context.Context, d *store.Docs[T], key string) (v T, err error) {
	_, err = d.Update(ctx, key, func(p *T) error { v = *p; return errUnchanged })
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return v, err
}

// errUnchanged ends an update that finds its work done.
var errUnchanged = errors.New("nothing to change")

// Close stops the workers, waits for the jobs in hand to reach a step they can
// be resumed from, and lets go of the documents. The store stays open.
func (s *Service) Close() {
	s.stop()
	s.workers.Wait()
	s.closeDocs()
}

func (s *Service) closeDocs() {
	if s.profiles != nil {
		s.profiles.Close()
	}
	if s.permissions != nil {
		s.permissions.Close()
	}
	if s.jobs != nil {
		s.jobs.Close()
	}
	if s.tokens != nil {
		s.tokens.Close()
	}
}

// Authority returns the authority the service signs with.
func (s *Service) Authority() *Authority { return s.ca }

// arn makes a signer ARN. Signer's resource parts begin with a slash.
func arn(sc Scope, resource string) string {
	return countersign.ARN{Partition: "aws", Service: "signer", Region: sc.Region, Account: sc.Account, Resource: resource}.String()
}
