package sign_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign"
	"countersign/internal/sign"
	"countersign/internal/store"
	"countersign/internal/store/storetest"
)

const elsewhere = "111111111111" // another account

// signed runs a job and returns it with what its signature says.
func (p *platform) signed(tb testing.TB, name string) (sign.Job, countersign.Statement) {
	tb.Helper()
	j := p.sign(tb, p.request(hello(tb), name))
	vs := p.shelves.versions("dst", j.Target.Key)
	if j.Status != sign.Succeeded || len(vs) != 1 {
		tb.Fatalf("job: got %s: %s", j.Status, j.Reason)
	}
	return j, checkSigned(tb, p, j, vs[0]).Statement()
}

// codes are the reasons against a statement, for short.
func (p *platform) codes(tb testing.TB, st countersign.Statement) string {
	tb.Helper()
	why, err := p.Revoked(tb.Context(), st)
	must(tb, err)
	var cs []string
	for _, r := range why {
		if r.Check != countersign.CheckRevocation || r.Detail == "" {
			tb.Errorf("got reason %+v", r)
		}
		cs = append(cs, r.Code)
	}
	return strings.Join(cs, " ")
}

func TestRevokeSignature(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	j, st := p.signed(t, "app.zip")
	other, otherSt := p.signed(t, "other.zip")
	failed := p.sign(t, p.request([]byte("no zip"), "bad.zip"))

	checkKind(t, p.RevokeSignature(t.Context(), here, root, j.ID, elsewhere, "x"), countersign.Denied,
		"User: "+root.ARN+" is not authorized to perform: signer:RevokeSignature on resource: "+strings.Replace(j.ARN(), account, elsewhere, 1))
	checkKind(t, p.RevokeSignature(t.Context(), sign.Scope{Account: elsewhere, Region: region}, root, j.ID, "", "x"), countersign.NotFound, "")
	checkKind(t, p.RevokeSignature(t.Context(), sign.Scope{Account: account, Region: "us-east-1"}, root, j.ID, "", "x"), countersign.NotFound, "")
	checkKind(t, p.RevokeSignature(t.Context(), here, root, "../"+j.ID, "", "x"), countersign.NotFound, "")
	checkKind(t, p.RevokeSignature(t.Context(), here, root, failed.ID, account, "x"), countersign.Conflict,
		"Signing job with id "+failed.ID+" is Failed and has no signature to revoke")
	if got := p.codes(t, st); got != "" {
		t.Errorf("before any revocation: got %q", got)
	}

	p.clock.add(time.Hour)
	must(t, p.RevokeSignature(t.Context(), here, root, j.ID, account, "a secret was in it"))
	p.clock.add(time.Hour)
	must(t, p.RevokeSignature(t.Context(), here, sign.Caller{Account: account, ARN: "another"}, j.ID, "", "another reason"))
	got, err := p.Job(t.Context(), here, j.ID)
	must(t, err)
	if want := (sign.JobRevocation{Reason: "a secret was in it", At: p.clock.now().Add(-time.Hour), By: root.ARN}); got.Revocation == nil || *got.Revocation != want {
		t.Errorf("got record %+v, want the first one, %+v", got.Revocation, want)
	}
	if got.Status != sign.Succeeded {
		t.Errorf("got status %s: it has no word for revocation", got.Status)
	}
	if got := p.codes(t, st); got != "revoked-signature" {
		t.Errorf("got %q", got)
	}
	if got := p.codes(t, otherSt); got != "" {
		t.Errorf("another signature of the profile: got %q", got)
	}
	for revoked, want := range map[bool][]string{true: {j.ID}, false: {other.ID, failed.ID}} {
		js, _, err := p.Jobs(here, sign.JobFilter{Revoked: &revoked}, sign.PageRequest{})
		must(t, err)
		var ids []string
		for _, x := range js {
			ids = append(ids, x.ID)
		}
		if slices.Sort(ids); !slices.Equal(ids, slices.Sorted(slices.Values(want))) {
			t.Errorf("revoked %v: got %v, want %v", revoked, ids, want)
		}
	}
	// The token still names the job, and the job is still revoked.
	p.Close()
	p.start(t)
	if got := p.codes(t, st); got != "revoked-signature" {
		t.Errorf("after a restart: got %q", got)
	}
}

// TestRevokingBeforeDelivery revokes a signature that is made and not yet
// delivered: the job ends as it would have, and stays revoked.
func TestRevokingBeforeDelivery(t *testing.T) {
	t.Parallel()
	p := prepare(t, storetest.Memory())
	arrived, leave := make(chan struct{}), make(chan struct{})
	p.objects = &broken{shelves: p.shelves, put: func(string, string) error {
		arrived <- struct{}{}
		<-leave
		return nil
	}}
	p.start(t)
	p.profile(t, "prod")
	j, err := p.StartJob(t.Context(), here, root, p.request(hello(t), "app.zip"))
	must(t, err)
	<-arrived
	must(t, p.RevokeSignature(t.Context(), here, root, j.ID, "", "too early"))
	close(leave)
	j = p.await(t, j.ID)
	if j.Status != sign.Succeeded || j.Revocation == nil || j.Revocation.Reason != "too early" {
		t.Fatalf("got %s: %s, %+v", j.Status, j.Reason, j.Revocation)
	}
	st := checkSigned(t, p, j, p.shelves.versions("dst", j.Target.Key)[0]).Statement()
	if got := p.codes(t, st); got != "revoked-signature" {
		t.Errorf("got %q", got)
	}
}

func TestRevokeProfile(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	pr, err := p.Profile(t.Context(), here, "prod")
	must(t, err)
	p.clock.add(100 * time.Hour)
	now := p.clock.now()
	ago := func(h int) time.Time { return now.Add(-time.Duration(h) * time.Hour) }
	revoke := func(from time.Time, reason string) error {
		return p.RevokeProfile(t.Context(), here, root, "prod", pr.Version, reason, from)
	}
	checkKind(t, p.RevokeProfile(t.Context(), here, root, "never", pr.Version, "x", ago(1)), countersign.NotFound, "profile with name never does not exist")
	checkKind(t, p.RevokeProfile(t.Context(), here, root, "prod", "abcdef1234", "x", ago(1)), countersign.NotFound, "profile with name prod and version abcdef1234 does not exist")
	checkKind(t, revoke(now.Add(time.Nanosecond), "x"), countersign.Invalid, "")
	checkKind(t, revoke(time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), "x"), countersign.Invalid, "")
	if got, _ := p.Profile(t.Context(), here, "prod"); got.Status != sign.Active || got.Revocation != nil {
		t.Fatalf("a refused revocation changed the profile: %+v", got)
	}

	for _, c := range []struct {
		from       time.Time
		kind       countersign.Kind // of the answer; Internal for none
		want       time.Time
		wantReason string
	}{
		{ago(10), countersign.Internal, ago(10), "0"},
		{ago(10), countersign.Internal, ago(10), "0"}, // twice is once
		{ago(9), countersign.Invalid, ago(10), "0"},
		{now, countersign.Invalid, ago(10), "0"},
		{ago(20), countersign.Internal, ago(20), "4"},
		{ago(10), countersign.Invalid, ago(20), "4"},
		{ago(1 << 20), countersign.Internal, ago(1 << 20), "6"}, // before there was a profile: all of it
	} {
		err := revoke(c.from, c.wantReason)
		if c.kind == countersign.Internal {
			must(t, err)
		} else {
			checkKind(t, err, c.kind, "")
		}
		got, err := p.Profile(t.Context(), here, "prod")
		must(t, err)
		if r := got.Revocation; got.Status != sign.Revoked || r == nil || !r.From.Equal(c.want) || r.By != root.ARN || !r.At.Equal(now) || r.Reason != c.wantReason || got.Reason != c.wantReason {
			t.Errorf("revoke from %s: got %s, %+v, want from %s for %s", c.from, got.Status, r, c.want, c.wantReason)
		}
	}
	checkKind(t, p.CancelProfile(t.Context(), here, "prod"), countersign.Conflict,
		"Signing Profile prod cannot be canceled because it has been revoked. A revoked profile cannot be canceled.")
	_, err = p.StartJob(t.Context(), here, root, p.request(hello(t), "app.zip"))
	checkKind(t, err, countersign.Conflict, "Profile with name prod is revoked and cannot start signing jobs")
	_, err = p.PutProfile(t.Context(), here, sign.NewProfile{Name: "prod", Platform: sign.LambdaPlatform})
	checkKind(t, err, countersign.Exists, "")
	for want, f := range map[int]sign.ProfileFilter{0: {IncludeCanceled: true}, 1: {Statuses: []sign.ProfileStatus{sign.Revoked}}} {
		if ps, _, err := p.Profiles(here, f, sign.PageRequest{}); err != nil || len(ps) != want {
			t.Errorf("%+v: got %d profiles, %v, want %d", f, len(ps), err, want)
		}
	}
}

// TestEffectiveTime: what was signed before the moment stays trusted, what was
// signed at it or after is not, and canceling is no way around.
func TestEffectiveTime(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	pr, err := p.Profile(t.Context(), here, "prod")
	must(t, err)
	var sts []countersign.Statement
	for i := range 4 {
		p.clock.add(24 * time.Hour)
		_, st := p.signed(t, fmt.Sprintf("%d.zip", i))
		sts = append(sts, st)
	}
	must(t, p.CancelProfile(t.Context(), here, "prod"))
	p.clock.add(time.Hour)
	for _, c := range []struct {
		from    time.Time
		trusted int // how many of the signatures, oldest first
	}{
		{sts[3].SignedAt.Add(time.Millisecond), 4},
		{sts[3].SignedAt, 3},
		{sts[1].SignedAt.Add(time.Millisecond), 2},
		{sts[0].SignedAt, 0},
	} {
		must(t, p.RevokeProfile(t.Context(), here, root, "prod", pr.Version, "key lost", c.from))
		for i, st := range sts {
			want := "revoked-profile"
			if i < c.trusted {
				want = ""
			}
			if got := p.codes(t, st); got != want {
				t.Errorf("from %s, signed at %s: got %q, want %q", c.from, st.SignedAt, got, want)
			}
		}
	}
}

// TestRevokedAsksTheRecord is what a stolen key cannot do, and what a restored
// backup costs.
func TestRevokedAsksTheRecord(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	j, good := p.signed(t, "app.zip")
	second := p.profile(t, "second")
	another := p.sign(t, p.request(zipped(t, "app.py", "something else"), "x.zip"))
	with := func(f func(*countersign.Statement)) countersign.Statement {
		st := good
		f(&st)
		return st
	}
	zero := countersign.ContentDigest{}
	for _, c := range []struct {
		name string
		st   countersign.Statement
		want string
	}{
		{"as signed", good, ""},
		{"without the strict digest", with(func(s *countersign.Statement) { s.Strict = nil }), ""}, // what is remembered of an admission
		{"dated back", with(func(s *countersign.Statement) { s.SignedAt = s.SignedAt.Add(-time.Hour) }), "not-on-record"},
		{"for longer", with(func(s *countersign.Statement) { s.Expires = s.Expires.AddDate(1, 0, 0) }), "not-on-record"},
		{"over something else", with(func(s *countersign.Statement) { s.Strict = &zero }), "not-on-record"},
		{"for another profile", with(func(s *countersign.Statement) { s.ProfileVersion = second.VersionARN() }), "not-on-record"},
		{"another job's name", with(func(s *countersign.Statement) { s.Job = another.ARN() }), "not-on-record"},
		{"a job there never was", with(func(s *countersign.Statement) { s.Job = s.Job[:len(s.Job)-1] + "_" }), "unknown-job"},
		{"another region's job", with(func(s *countersign.Statement) { s.Job = strings.Replace(s.Job, region, "us-east-1", 1) }), "unknown-job"},
		{"another account's job", with(func(s *countersign.Statement) { s.Job = strings.Replace(s.Job, account, elsewhere, 1) }), "unknown-job"},
		{"another partition's job", with(func(s *countersign.Statement) { s.Job = strings.Replace(s.Job, "arn:aws:", "arn:aws-cn:", 1) }), "unknown-job"},
		{"no job at all", with(func(s *countersign.Statement) { s.Job = "" }), "unknown-job"},
		{"a profile there never was", with(func(s *countersign.Statement) { s.ProfileVersion += "x" }), "not-on-record unknown-profile"},
		{"a profile without a version", with(func(s *countersign.Statement) { s.ProfileVersion = s.ProfileVersion[:len(s.ProfileVersion)-11] }), "not-on-record unknown-profile"},
		{"nothing", countersign.Statement{}, "unknown-job unknown-profile"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := p.codes(t, c.st); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}

	// Records older than the signature, the authority the same.
	old := *p
	old.store = storetest.Memory()
	old.start(t)
	if got := old.codes(t, good); got != "unknown-job unknown-profile" {
		t.Errorf("restored from before the job: got %q", got)
	}
	// Several reasons are all told.
	must(t, p.RevokeSignature(t.Context(), here, root, j.ID, "", "x"))
	must(t, p.RevokeProfile(t.Context(), here, root, "prod", j.Version, "x", good.SignedAt))
	if got := p.codes(t, with(func(s *countersign.Statement) { s.Expires = s.Expires.Add(time.Second) })); got != "revoked-signature not-on-record revoked-profile" {
		t.Errorf("got %q", got)
	}
}

// TestRevocationSurvivesACrash kills the process at each write of a
// revocation: one that was acknowledged holds, one that was not can be made
// again, and neither is ever undone.
func TestRevocationSurvivesACrash(t *testing.T) {
	t.Parallel()
	for what, revoke := range map[string]func(*platform, context.Context, sign.Job) error{
		"signjobs": func(p *platform, ctx context.Context, j sign.Job) error {
			return p.RevokeSignature(ctx, here, root, j.ID, "", "leak")
		},
		"signprofiles": func(p *platform, ctx context.Context, j sign.Job) error {
			return p.RevokeProfile(ctx, here, root, "prod", j.Version, "leak", j.SignedAt)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			storetest.EachCrash(t, what, func(t *testing.T, fault *storetest.Fault) {
				p := newPlatform(t)
				j, st := p.signed(t, "app.zip")
				p.Close()
				m := *p
				m.store = fault.Wrap(p.store)
				m.start(t)
				acknowledged := revoke(&m, t.Context(), j) == nil
				m.Close()
				if fault.Fired() == acknowledged {
					t.Errorf("fault fired: %v, acknowledged: %v", fault.Fired(), acknowledged)
				}

				p.start(t)
				if before := p.codes(t, st); before == "" && (acknowledged || fault.After) {
					t.Errorf("the revocation was stored and is gone")
				}
				must(t, revoke(p, t.Context(), j))
				if got := p.codes(t, st); got == "" {
					t.Errorf("revoked again: got no reason")
				}
			})
		})
	}
}

// TestEarliestOfManyWins races revocations of one profile: the earliest time
// that was acknowledged holds, whatever order they came in.
func TestEarliestOfManyWins(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	pr, err := p.Profile(t.Context(), here, "prod")
	must(t, err)
	p.clock.add(48 * time.Hour)
	now := p.clock.now()
	var wg sync.WaitGroup
	for h := range 24 {
		wg.Go(func() {
			err := p.RevokeProfile(t.Context(), here, root, "prod", pr.Version, "race", now.Add(-time.Duration(h)*time.Hour))
			if err != nil && countersign.KindOf(err) != countersign.Invalid {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := p.Profile(t.Context(), here, "prod")
	must(t, err)
	if want := now.Add(-23 * time.Hour); !got.Revocation.From.Equal(want) {
		t.Errorf("got %s, want %s", got.Revocation.From, want)
	}
}

// TestRevokingStopsWhatIsSigning revokes while jobs start: a signature that
// gets out after the moment is not trusted, on any side of the race.
func TestRevokingStopsWhatIsSigning(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.clock.mu.Lock()
	p.clock.tick = time.Millisecond
	p.clock.mu.Unlock()
	pr, err := p.Profile(t.Context(), here, "prod")
	must(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var ids []string
	begun := make(chan struct{}, 64)
	for i := range 4 {
		wg.Go(func() {
			for n := range 8 {
				j, err := p.StartJob(t.Context(), here, root, p.request(hello(t), fmt.Sprintf("%d-%d.zip", i, n)))
				if err != nil {
					if countersign.KindOf(err) != countersign.Conflict {
						t.Error(err)
					}
					begun <- struct{}{}
					continue
				}
				mu.Lock()
				ids = append(ids, j.ID)
				mu.Unlock()
				begun <- struct{}{}
			}
		})
	}
	for range 8 {
		<-begun
	}
	moment := p.clock.now()
	must(t, p.RevokeProfile(t.Context(), here, root, "prod", pr.Version, "stop", moment))
	wg.Wait()
	for _, id := range ids {
		j := p.await(t, id)
		vs := p.shelves.versions("dst", j.Target.Key)
		if j.Status == sign.Failed {
			if j.Reason != "The signing profile is revoked." || len(vs) != 0 {
				t.Errorf("job %s: got %s, %d objects", id, j.Reason, len(vs))
			}
			continue
		}
		st := checkSigned(t, p, j, vs[0]).Statement()
		if trusted := p.codes(t, st) == ""; trusted != st.SignedAt.Before(moment) {
			t.Errorf("signed at %s, revoked from %s: trusted %v", st.SignedAt, moment, trusted)
		}
	}
}

// A deaf store's watches end when it is told, and do not come back.
type deaf struct {
	store.Store
	ctx context.Context // ends with hearing
}

func (d deaf) Bucket(ctx context.Context, name string) (store.Bucket, error) {
	b, err := d.Store.Bucket(ctx, name)
	return deafBucket{b, d.ctx}, err
}

type deafBucket struct {
	store.Bucket
	ctx context.Context
}

var errDeaf = errors.New("the connection is gone")

func (b deafBucket) Watch(ctx context.Context) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(b.ctx, cancel)()
		for ev, err := range b.Bucket.Watch(ctx) {
			if b.ctx.Err() != nil {
				break
			}
			if !yield(ev, err) {
				return
			}
		}
		if b.ctx.Err() != nil {
			yield(store.Event{}, errDeaf)
		}
	}
}

// TestRevocationIsNotMissed revokes on one node while another hears nothing of
// it: that one asks the store. And where it cannot, it says that it does not
// know.
func TestRevocationIsNotMissed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		j, st := p.signed(t, "app.zip")
		hearing, stopHearing := context.WithCancel(t.Context())
		other := *p
		fault := &storetest.Fault{Match: "signprofiles create", N: 1, Dies: true}
		other.store = deaf{fault.Wrap(p.store), hearing}
		other.start(t)
		if got := other.codes(t, st); got != "" {
			t.Fatalf("before: got %q", got)
		}
		stopHearing()
		synctest.Wait()
		must(t, p.RevokeSignature(t.Context(), here, root, j.ID, "", "now"))
		must(t, p.RevokeProfile(t.Context(), here, root, "prod", j.Version, "now", st.SignedAt))
		if got := other.codes(t, st); got != "revoked-signature revoked-profile" {
			t.Errorf("the deaf node: got %q", got)
		}
		// From this write on it has no store at all.
		if _, err := other.PutProfile(t.Context(), here, sign.NewProfile{Name: "new", Platform: sign.LambdaPlatform}); !fault.Fired() {
			t.Fatalf("the store is alive: %v", err)
		}
		if why, err := other.Revoked(t.Context(), st); err == nil {
			t.Errorf("the dead node: got %v, want an error", why)
		}
	})
}

func TestRevokedEntities(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	j, st := p.signed(t, "app.zip")
	hash := strings.Repeat("0aF", 64)
	q := sign.RevocationQuery{Platform: sign.NotationPlatform, ProfileVersion: st.ProfileVersion, Job: st.Job, SignedAt: st.SignedAt, Certificates: []string{hash, hash}}
	with := func(f func(*sign.RevocationQuery)) sign.RevocationQuery { x := q; f(&x); return x }
	check := func(what string, q sign.RevocationQuery, want ...string) {
		t.Helper()
		got, err := p.RevokedEntities(t.Context(), q)
		must(t, err)
		if got == nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("nothing revoked", q)
	check("nothing known", with(func(q *sign.RevocationQuery) {
		q.ProfileVersion, q.Job = strings.Replace(q.ProfileVersion, account, elsewhere, 1), strings.Replace(q.Job, account, elsewhere, 1)
	}))
	for _, c := range []struct {
		name string
		q    sign.RevocationQuery
		want string
	}{
		{"Lambda", with(func(q *sign.RevocationQuery) { q.Platform = sign.LambdaPlatform }), "Invalid platformId: AWSLambda-SHA384-ECDSA"},
		{"IoT", with(func(q *sign.RevocationQuery) { q.Platform = "AmazonFreeRTOS-Default" }), "Invalid platformId: AmazonFreeRTOS-Default"},
		{"no version", with(func(q *sign.RevocationQuery) {
			q.ProfileVersion = "arn:aws:signer:eu-central-1:000000000000:/signing-profiles/prod"
		}), "Invalid profileVersionArn: arn:aws:signer:eu-central-1:000000000000:/signing-profiles/prod"},
		{"no ARN", with(func(q *sign.RevocationQuery) { q.Job = "x" }), "Invalid jobArn: x"},
		{"a hash cut short", with(func(q *sign.RevocationQuery) { q.Certificates = []string{hash, hash[1:]} }), "Invalid certificateHashes: member 2 is not two SHA-384 hashes in hex"},
	} {
		_, err := p.RevokedEntities(t.Context(), c.q)
		checkKind(t, err, countersign.Invalid, c.want)
	}
	must(t, p.RevokeSignature(t.Context(), here, root, j.ID, "", "x"))
	check("the job", q, st.Job)
	must(t, p.RevokeProfile(t.Context(), here, root, "prod", j.Version, "x", st.SignedAt))
	check("both", q, st.ProfileVersion, st.Job)
	check("both, before the profile's moment", with(func(q *sign.RevocationQuery) { q.SignedAt = q.SignedAt.Add(-time.Second) }), st.Job)
}

// BenchmarkRevoked is what the revocation check adds to a deployment, and to a
// start where starts are verified.
func BenchmarkRevoked(b *testing.B) {
	p := newPlatform(b)
	_, st := p.signed(b, "app.zip")
	for b.Loop() {
		if why, err := p.Revoked(b.Context(), st); err != nil || why != nil {
			b.Fatal(why, err)
		}
	}
}
