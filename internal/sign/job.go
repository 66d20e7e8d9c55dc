package sign

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"countersign"
	"countersign/internal/store"
)

// A JobStatus is where a job stands. The words are AWS's.
type JobStatus string

// The statuses. A job leaves InProgress once.
const (
	InProgress JobStatus = "InProgress"
	Succeeded  JobStatus = "Succeeded"
	Failed     JobStatus = "Failed"
)

// A Source is one version of one object.
type Source struct {
	Bucket  string `json:"bucket"`
	Key     string `json:"key"`
	Version string `json:"version"` // "null" for an object older than its bucket's versioning
}

// A Target is where the signed object goes.
type Target struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
}

// A Job is the work of signing one object, and the record that it was done.
//
// It walks InProgress → InProgress with Envelope → Succeeded, or to Failed
// from either. The Envelope is what makes resuming safe: with it stored, every
// attempt writes the same bytes, so that the second finds the first's object
// and knows it for its own.
type Job struct {
	ID      string    `json:"id"`
	Account string    `json:"account"` // the profile owner's, who owns the job
	Region  string    `json:"region"`
	Invoker Caller    `json:"invoker"`
	Profile string    `json:"profile"` // name, in the job's own scope
	Version string    `json:"version"` // of the profile
	Source  Source    `json:"source,omitzero"`
	Target  Target    `json:"target,omitzero"`
	Created time.Time `json:"created"`

	Status    JobStatus `json:"status"`
	Reason    string    `json:"reason,omitempty"`
	Completed time.Time `json:"completed,omitzero"`

	// Set when the signature was made.
	Envelope []byte    `json:"envelope,omitempty"` // the signature file; dropped when the object holds it
	SignedAt time.Time `json:"signed_at,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`  // of the signature
	Content  string    `json:"content,omitempty"` // strict digest that was signed, hex

	Revocation *JobRevocation `json:"revocation,omitempty"`
}

// A JobRevocation takes one signature back.
type JobRevocation struct {
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	By     string    `json:"by"` // caller's ARN
}

// Scope is where j lives.
func (j Job) Scope() Scope { return Scope{j.Account, j.Region} }

// ARN names the job in signatures.
func (j Job) ARN() string { return arn(j.Scope(), "/signing-jobs/"+j.ID) }

func (j Job) key() string { return store.Key(j.Account, j.Region, j.ID) }

// A JobRequest is what StartJob is asked for.
type JobRequest struct {
	Profile string
	Owner   string // the profile's account; empty for the caller's own
	Source  Source
	Bucket  string // of the signed object
	Prefix  string // of its key, as it is: no slash is added
	Token   string // the same token asks for the same job
}

// A token is the document that makes a client's token mean one job.
type token struct {
	Job     string    `json:"job"`     // key of the job's document
	ID      string    `json:"id"`      // the job's id, reserved
	Request string    `json:"request"` // digest of the request that came with it
	Created time.Time `json:"created"`
}

// StartJob makes a signing job and returns as soon as it is durable; a worker
// begins at once. What depends on the request alone, and on the buckets, is
// checked before; what depends on the object fails the job.
//
// The same token in the same account and region returns the first job, even
// after its profile was canceled. With another request it is Invalid: AWS does
// not say what it does, and returning a job that signs something else would be
// the worst answer.
func (s *Service) StartJob(ctx context.Context, sc Scope, who Caller, r JobRequest) (Job, error) {
	if r.Owner == "" {
		r.Owner = sc.Account
	}
	if r.Owner != sc.Account {
		return Job{}, notYours("signer:StartSigningJob", who, Scope{r.Owner, sc.Region}, r.Profile)
	}
	key := tokenKey(sc, r.Token)
	if t, _, ok := s.tokens.Get(key); ok {
		return s.again(ctx, sc, who, r, t)
	}
	p, err := s.checkJob(ctx, sc, who, r)
	if err != nil {
		return Job{}, err
	}
	j := newJob(p, who, r, s.now().UTC())
	t := token{Job: j.key(), ID: j.ID, Request: r.digest(), Created: j.Created}
	switch _, err := s.tokens.Create(ctx, key, t); {
	case errors.Is(err, store.ErrExists):
		// Somebody was faster with the same token.
		if t, err = fresh(ctx, s.tokens, key); err != nil {
			return Job{}, fmt.Errorf("start job: read token: %w", err)
		}
		return s.again(ctx, sc, who, r, t)
	case err != nil:
		return Job{}, fmt.Errorf("start job: reserve token: %w", err)
	}
	// A crash here leaves a token without its job: the next request with the
	// token makes it, under the id reserved.
	return s.create(ctx, j)
}

// tokenKey digests the token: a client may send one of any length.
func tokenKey(sc Scope, t string) string {
	d := sha256.Sum256([]byte(t))
	return store.Key(sc.Account, sc.Region, hex.EncodeToString(d[:]))
}

// again answers a token that was seen before.
func (s *Service) again(ctx context.Context, sc Scope, who Caller, r JobRequest, t token) (Job, error) {
	if t.Request != r.digest() {
		return Job{}, countersign.Errorf(countersign.Invalid, "The clientRequestToken was used before with different parameters.")
	}
	switch j, err := find(ctx, s.jobs, t.Job); {
	case err == nil && j.Status == InProgress:
		// The first request may have failed between the job and the queue.
		return j, s.enqueue(ctx, j.key(), j.ID)
	case err == nil:
		return j, nil
	case !errors.Is(err, store.ErrNotFound):
		return Job{}, fmt.Errorf("find job %s: %w", t.ID, err)
	}
	p, err := s.checkJob(ctx, sc, who, r)
	if err != nil {
		return Job{}, err
	}
	j := newJob(p, who, r, t.Created)
	j.ID = t.ID
	j.Target.Key = targetKey(p, j.ID, r)
	return s.create(ctx, j)
}

func (s *Service) create(ctx context.Context, j Job) (Job, error) {
	switch _, err := s.jobs.Create(ctx, j.key(), j); {
	case errors.Is(err, store.ErrExists): // two requests with one token; both get the one job
	case err != nil:
		return Job{}, fmt.Errorf("start job %s: %w", j.ID, err)
	}
	// A crash here leaves a job that no worker knows: Open enqueues it. Without
	// a crash, the caller learns that something is wrong, and the job that is
	// there all the same goes its way.
	if err := s.enqueue(ctx, j.key(), j.ID); err != nil {
		go s.enqueueLater(j.key(), j.ID)
		return Job{}, fmt.Errorf("start job: %w", err)
	}
	return j, nil
}

// enqueueLater tries until the queue takes the job or the service is closed.
func (s *Service) enqueueLater(key, id string) {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		select {
		case <-s.run.Done():
			return
		case <-time.After(wait):
		}
		if err := s.enqueue(s.run, key, id); err == nil {
			return
		}
	}
}

func (s *Service) enqueue(ctx context.Context, key, id string) error {
	if err := s.queue.Put(ctx, id, []byte(key)); err != nil {
		return fmt.Errorf("enqueue job %s: %w", id, err)
	}
	return nil
}

// checkJob is everything that is wrong with a request before there is a job.
// The sentences that name a field of the request follow the one that is known
// of AWS's ("StartSigningJobRequest:source:version should not be empty").
func (s *Service) checkJob(ctx context.Context, sc Scope, who Caller, r JobRequest) (Profile, error) {
	p, err := s.signer(ctx, Scope{r.Owner, sc.Region}, r.Profile)
	if err != nil {
		return Profile{}, err
	}
	for _, f := range []struct{ name, val string }{
		{"source:bucketName", r.Source.Bucket},
		{"source:key", r.Source.Key},
		{"source:version", r.Source.Version},
		{"destination:bucketName", r.Bucket},
		{"clientRequestToken", r.Token},
	} {
		if f.val == "" {
			return Profile{}, invalidJob("%s should not be empty", f.name)
		}
	}
	if n := len(r.Prefix) + idLen + len(".zip"); n > maxKey {
		return Profile{}, invalidJob("destination:prefix is too long: the signed object's key would have %d bytes, and %d are allowed", n, maxKey)
	}
	src, err := s.bucket(ctx, who, sc, "source", r.Source.Bucket)
	if err != nil {
		return Profile{}, err
	}
	if !src.Versioned {
		// There, "version null" is whatever lies there at the moment: what is
		// signed need not be what was meant when the job was started.
		return Profile{}, invalidJob("source:bucketName %s is not versioning-enabled", r.Source.Bucket)
	}
	_, err = s.bucket(ctx, who, sc, "destination", r.Bucket)
	return p, err
}

// signer finds a profile that may sign archives now.
func (s *Service) signer(ctx context.Context, sc Scope, name string) (Profile, error) {
	p, err := s.Profile(ctx, sc, name)
	if err != nil {
		return Profile{}, err
	}
	if p.Status != Active {
		return Profile{}, countersign.Errorf(countersign.Conflict, "Profile with name %s is %s and cannot start signing jobs", p.Name, strings.ToLower(string(p.Status)))
	}
	if p.Platform != LambdaPlatform {
		return Profile{}, countersign.Errorf(countersign.NotAllowed, "Action signer:StartSigningJob not supported for platform %s.", p.Platform)
	}
	return p, nil
}

const (
	idLen  = 36   // of a UUID's text
	maxKey = 1024 // bytes of an S3 key
)

func invalidJob(format string, args ...any) error {
	return countersign.Errorf(countersign.Invalid, "StartSigningJobRequest:"+format, args...)
}

// bucket looks at one end of a job: the caller's to use and in the profile's
// region, or not for this job.
func (s *Service) bucket(ctx context.Context, who Caller, sc Scope, role, name string) (BucketInfo, error) {
	b, err := s.objects.Bucket(ctx, who, name)
	var no *countersign.Error
	switch {
	case err == nil:
	case countersign.KindOf(err) == countersign.NotFound:
		return b, invalidJob("%s:bucketName %s does not exist", role, name)
	case errors.As(err, &no):
		return b, &countersign.Error{Kind: no.Kind, Message: role + " bucket " + name + ": " + no.Message, Err: err}
	default:
		return b, fmt.Errorf("look at %s bucket %s: %w", role, name, err)
	}
	if b.Region != sc.Region {
		return b, invalidJob("%s:bucketName %s is in Region %s, and the signing profile is in Region %s", role, name, b.Region, sc.Region)
	}
	return b, nil
}

// digest identifies a request for its token.
func (r JobRequest) digest() string {
	r.Token = ""
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // a struct of strings always has a JSON form
	}
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}

func newJob(p Profile, who Caller, r JobRequest, now time.Time) Job {
	id := newID(now)
	return Job{
		ID: id, Account: p.Account, Region: p.Region, Invoker: who,
		Profile: p.Name, Version: p.Version,
		Source: r.Source, Target: Target{r.Bucket, targetKey(p, id, r)},
		Created: now, Status: InProgress,
	}
}

// targetKey is the prefix and the job's id; on the Lambda platform a source
// that ends in .zip keeps its ending.
func targetKey(p Profile, id string, r JobRequest) string {
	k := r.Prefix + id
	if p.Platform == LambdaPlatform && strings.HasSuffix(r.Source.Key, ".zip") {
		k += ".zip"
	}
	return k
}

// newID makes a job's id: a UUID whose first 60 free bits count down the time
// in steps of 2^-12 ms, and whose other 62 are random (RFC 9562 §5.8, UUIDv8).
// Documents are kept in key order, so that jobs list newest first, at any
// number of jobs, without an index. No two alike: 62 random bits within a
// quarter of a microsecond.
func newID(now time.Time) string {
	t := uint64(now.UnixMilli())<<12 | uint64(now.Nanosecond()%1e6)<<12/1e6
	t = ^t & (1<<60 - 1)
	var u uuid.UUID
	rand.Read(u[8:])
	binary.BigEndian.PutUint64(u[:8], t>>12<<16|0x8000|t&0xfff)
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

var jobID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Job finds a job by id, NotFound when there is none in the scope.
func (s *Service) Job(ctx context.Context, sc Scope, id string) (Job, error) {
	if !jobID.MatchString(id) {
		return Job{}, noJob(id)
	}
	j, err := find(ctx, s.jobs, store.Key(sc.Account, sc.Region, id))
	if errors.Is(err, store.ErrNotFound) {
		return Job{}, noJob(id)
	}
	if err != nil {
		return Job{}, fmt.Errorf("find job %s: %w", id, err)
	}
	return j, nil
}

func noJob(id string) error {
	return countersign.Errorf(countersign.NotFound, "Signing job with id %s does not exist", id)
}

// AwaitJob waits for a job to end, or for ctx.
func (s *Service) AwaitJob(ctx context.Context, sc Scope, id string) (Job, error) {
	for {
		changed := s.jobs.Changed()
		j, err := s.Job(ctx, sc, id)
		if err != nil || j.Status != InProgress {
			return j, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return j, ctx.Err()
		}
	}
}

// A JobFilter keeps the jobs a list asks for; zero fields keep all.
type JobFilter struct {
	Status        JobStatus
	Platform      string
	RequestedBy   string // ARN
	Invoker       string // account
	Revoked       *bool
	ExpiresBefore time.Time
	ExpiresAfter  time.Time
}

// jobsListedYears is how long a job stays in lists. It can be described for good.
const jobsListedYears = 2

// Jobs lists jobs, newest first. AWS does not document its order; the newest
// is what people look for.
func (s *Service) Jobs(sc Scope, f JobFilter, page PageRequest) ([]Job, string, error) {
	oldest := s.now().AddDate(-jobsListedYears, 0, 0)
	return list(s.jobs, "jobs", sc, f, page, func(j Job) bool {
		switch {
		case j.Created.Before(oldest),
			f.Status != "" && f.Status != j.Status,
			f.RequestedBy != "" && f.RequestedBy != j.Invoker.ARN,
			f.Invoker != "" && f.Invoker != j.Invoker.Account,
			f.Revoked != nil && *f.Revoked != (j.Revocation != nil),
			!f.ExpiresBefore.IsZero() && (j.Expires.IsZero() || !j.Expires.Before(f.ExpiresBefore)),
			!f.ExpiresAfter.IsZero() && !j.Expires.After(f.ExpiresAfter):
			return false
		}
		return f.Platform == "" || f.Platform == s.platformOf(j)
	})
}

// platformOf is the platform of the job's profile, which never changes.
func (s *Service) platformOf(j Job) string {
	p, _, _ := s.profiles.Get(profileKey(j.Scope(), j.Profile))
	return p.Platform
}
