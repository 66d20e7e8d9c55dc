package sign_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign"
	"countersign/internal/sign"
	"countersign/internal/store/storetest"
)

func TestJobSigns(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	pr, err := p.Profile(t.Context(), here, "prod")
	must(t, err)
	body := hello(t)
	j := p.sign(t, p.request(body, "app.zip"))
	if j.Status != sign.Succeeded || j.Reason != "Signing Succeeded" {
		t.Fatalf("got %s: %s", j.Status, j.Reason)
	}
	if want := "signed/app-" + j.ID + ".zip"; j.Target.Bucket != "dst" || j.Target.Key != want {
		t.Errorf("got %s/%s, want dst/%s", j.Target.Bucket, j.Target.Key, want)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`).MatchString(j.ID) {
		t.Errorf("job id %q is no lower-case UUID", j.ID)
	}
	if want := time.Date(2037, 12, 28, 9, 19, 26, 806_000_000, time.UTC); !j.Expires.Equal(want) {
		t.Errorf("got expiry %s, want %s", j.Expires, want)
	}
	if j.Invoker != root || j.Account != account || j.Version != pr.Version || !j.Completed.Equal(p.clock.now()) {
		t.Errorf("got %+v", j)
	}
	if len(j.Envelope) > 0 {
		t.Error("a finished job still carries its envelope")
	}

	vs := p.shelves.versions("dst", j.Target.Key)
	if len(vs) != 1 {
		t.Fatalf("got %d versions of the signed object, want 1", len(vs))
	}
	e := checkSigned(t, p, j, vs[0])
	st := e.Statement()
	if st.ProfileVersion != pr.VersionARN() || !st.Expires.Equal(j.Expires) || !st.SignedAt.Equal(j.SignedAt) || st.Strict.String() != j.Content {
		t.Errorf("got statement %+v for job %+v", st, j)
	}
	if len(e.Chain()) != 3 || !e.Chain()[2].Equal(p.Authority().Root()) {
		t.Error("the chain does not end at the platform's root")
	}
	// The entries are the source's, byte for byte: the signed zip begins as it did.
	if n := bytes.Index(body, []byte("PK\x01\x02")); n < 0 || !bytes.Equal(vs[0][:n], body[:n]) {
		t.Error("the source's entries were changed")
	}

	// Nobody else's trust accepts it, and one flipped byte is found.
	other := prepare(t, storetest.Memory())
	foreign, err := other.authority(t.Context(), t)
	must(t, err)
	a, err := countersign.OpenArchive(bytes.NewReader(vs[0]), int64(len(vs[0])), countersign.Limits{})
	must(t, err)
	if _, err := countersign.Verify(t.Context(), a, foreign.Trust()); err == nil {
		t.Error("another platform's root accepts the signature")
	}
}

func TestSignedKeyFollowsTheSource(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	for _, c := range []struct{ source, prefix, ending string }{
		{"app.zip", "signed/lambda-", ".zip"},
		{"app.ZIP", "x", ""},
		{"app", "", ""},
		{"dir.zip/app", "signed", ""},
		{".zip", "a/b/", ".zip"},
	} {
		r := p.request(hello(t), c.source)
		r.Prefix = c.prefix
		j := p.sign(t, r)
		if want := c.prefix + j.ID + c.ending; j.Target.Key != want || len(p.shelves.versions("dst", want)) != 1 {
			t.Errorf("%s: got %s (%s: %s), want an object %s", c.source, j.Target.Key, j.Status, j.Reason, want)
		}
	}
}

// tamper returns a copy of a zip with f applied.
func tamper(b []byte, f func([]byte) []byte) []byte { return f(bytes.Clone(b)) }

func TestJobFailsWithAReason(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	signed := p.sign(t, p.request(hello(t), "app.zip"))
	again := p.shelves.versions("dst", signed.Target.Key)[0]
	var bomb bytes.Buffer
	w := zip.NewWriter(&bomb)
	f, err := w.Create("zeros")
	must(t, err)
	zeros := make([]byte, 1<<20)
	for range 251 {
		_, err := f.Write(zeros)
		must(t, err)
	}
	must(t, w.Close())

	for _, c := range []struct {
		name string
		body []byte
		want string // regular expression
	}{
		{"empty file", []byte{}, `^The source object is empty\.$`},
		{"empty archive", zipped(t), `^The source object is not a valid zip archive: the archive has no entries\.$`},
		{"no zip", []byte("def handler(): pass"), `^The source object is not a valid zip archive: .+\.$`},
		{"cut off", tamper(hello(t), func(b []byte) []byte { return b[:len(b)-1] }), `not a valid zip archive`},
		{"byte flipped in a body", tamper(zipped(t, "a", strings.Repeat("x", 3)), func(b []byte) []byte { b[34] ^= 1; return b }), `not a valid zip archive`},
		{"duplicate names", zipped(t, "a", "1", "a", "2"), `not a valid zip archive`},
		{"escaping name", zipped(t, "../a", "1"), `not a valid zip archive`},
		{"data before", tamper(hello(t), func(b []byte) []byte { return append([]byte("#!/bin/sh\n"), b...) }), `not a valid zip archive`},
		{"bomb", bomb.Bytes(), `not a valid zip archive`},
		{"already signed", again, `^The source object is already signed\.$`},
		{"signed by nobody", zipped(t, "a", "1", countersign.SignaturePath, "not a signature"), `^The source object is already signed\.$`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := p.sign(t, p.request(c.body, strings.ReplaceAll(c.name, " ", "-")+".zip"))
			if j.Status != sign.Failed || !regexp.MustCompile(c.want).MatchString(j.Reason) {
				t.Errorf("got %s: %s; want Failed: %s", j.Status, j.Reason, c.want)
			}
			if vs := p.shelves.versions("dst", j.Target.Key); len(vs) != 0 || j.Completed.IsZero() {
				t.Errorf("got %d objects, completed %s", len(vs), j.Completed)
			}
		})
	}

	t.Run("too big", func(t *testing.T) {
		t.Parallel()
		r := p.request(make([]byte, 250<<20+1), "big.zip")
		if j := p.sign(t, r); j.Reason != "The source object has 262144001 bytes; at most 262144000 can be signed." {
			t.Errorf("got %s: %s", j.Status, j.Reason)
		}
		p.shelves.remove("src", "big.zip")
	})
	for name, change := range map[string]func(*sign.JobRequest){
		"no such key":     func(r *sign.JobRequest) { r.Source.Key = "missing.zip" },
		"no such version": func(r *sign.JobRequest) { r.Source.Version = "v99" },
	} {
		r := p.request(hello(t), "here.zip")
		change(&r)
		if j := p.sign(t, r); j.Status != sign.Failed || j.Reason != "The source object does not exist." {
			t.Errorf("%s: got %s: %s", name, j.Status, j.Reason)
		}
	}
}

func TestStartJobRefuses(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	_, err := p.PutProfile(t.Context(), here, sign.NewProfile{Name: "oci", Platform: sign.NotationPlatform})
	must(t, err)
	p.shelves.make(account, "plain", sign.BucketInfo{Region: region})
	p.shelves.make(account, "abroad", sign.BucketInfo{Region: "us-east-1", Versioned: true})
	p.shelves.make("111111111111", "theirs", sign.BucketInfo{Region: region, Versioned: true})
	p.shelves.put("plain", "app.zip", hello(t))
	good := p.request(hello(t), "app.zip")
	for _, c := range []struct {
		name   string
		change func(*sign.JobRequest)
		kind   countersign.Kind
		want   string
	}{
		{"profile nobody knows", func(r *sign.JobRequest) { r.Profile = "never" }, countersign.NotFound, "profile with name never does not exist"},
		{"another account's profile", func(r *sign.JobRequest) { r.Owner = "111111111111" }, countersign.Denied, ""},
		{"Notation profile", func(r *sign.JobRequest) { r.Profile = "oci" }, countersign.NotAllowed, ""},
		{"no version", func(r *sign.JobRequest) { r.Source.Version = "" }, countersign.Invalid, "StartSigningJobRequest:source:version should not be empty"},
		{"no key", func(r *sign.JobRequest) { r.Source.Key = "" }, countersign.Invalid, "StartSigningJobRequest:source:key should not be empty"},
		{"no source bucket", func(r *sign.JobRequest) { r.Source.Bucket = "" }, countersign.Invalid, "StartSigningJobRequest:source:bucketName should not be empty"},
		{"no destination bucket", func(r *sign.JobRequest) { r.Bucket = "" }, countersign.Invalid, "StartSigningJobRequest:destination:bucketName should not be empty"},
		{"no token", func(r *sign.JobRequest) { r.Token = "" }, countersign.Invalid, ""},
		{"source bucket missing", func(r *sign.JobRequest) { r.Source.Bucket = "nowhere" }, countersign.Invalid, "StartSigningJobRequest:source:bucketName nowhere does not exist"},
		{"destination bucket missing", func(r *sign.JobRequest) { r.Bucket = "nowhere" }, countersign.Invalid, "StartSigningJobRequest:destination:bucketName nowhere does not exist"},
		{"source without versions", func(r *sign.JobRequest) { r.Source.Bucket, r.Source.Version = "plain", "null" }, countersign.Invalid, "StartSigningJobRequest:source:bucketName plain is not versioning-enabled"},
		{"source abroad", func(r *sign.JobRequest) { r.Source.Bucket = "abroad" }, countersign.Invalid, ""},
		{"destination abroad", func(r *sign.JobRequest) { r.Bucket = "abroad" }, countersign.Invalid, ""},
		{"another account's source", func(r *sign.JobRequest) { r.Source.Bucket = "theirs" }, countersign.Denied, "source bucket theirs: Access Denied"},
		{"another account's destination", func(r *sign.JobRequest) { r.Bucket = "theirs" }, countersign.Denied, "destination bucket theirs: Access Denied"},
		{"key too long", func(r *sign.JobRequest) { r.Prefix = strings.Repeat("x", 985) }, countersign.Invalid, ""},
	} {
		r := good
		c.change(&r)
		_, err := p.StartJob(t.Context(), here, root, r)
		t.Run(c.name, func(t *testing.T) { checkKind(t, err, c.kind, c.want) })
	}
	if js, _, err := p.Jobs(here, sign.JobFilter{}, sign.PageRequest{}); err != nil || len(js) != 0 {
		t.Errorf("refused requests made jobs: %v, %v", js, err)
	}
	// A request that was refused did not use up its token.
	if j := p.sign(t, good); j.Status != sign.Succeeded {
		t.Errorf("after all that: %s: %s", j.Status, j.Reason)
	}
	// The longest key there can be.
	r := p.request(hello(t), "app.zip")
	r.Prefix = strings.Repeat("x", 984)
	if j := p.sign(t, r); j.Status != sign.Succeeded || len(j.Target.Key) != 1024 {
		t.Errorf("longest prefix: %s: %s, key of %d", j.Status, j.Reason, len(j.Target.Key))
	}
}

func TestSuspendedVersioningHasANullVersion(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.shelves.make(account, "suspended", sign.BucketInfo{Region: region, Versioned: true})
	p.shelves.buckets["suspended"].suspended = true
	v := p.shelves.put("suspended", "app.zip", hello(t))
	j := p.sign(t, sign.JobRequest{Profile: "prod", Source: sign.Source{Bucket: "suspended", Key: "app.zip", Version: v}, Bucket: "dst", Token: "t"})
	if v != "null" || j.Status != sign.Succeeded {
		t.Errorf("version %s: got %s: %s", v, j.Status, j.Reason)
	}
}

func TestATokenIsOneJob(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	r := p.request(hello(t), "app.zip")
	first := p.sign(t, r)
	must(t, p.CancelProfile(t.Context(), here, "prod"))
	again, err := p.StartJob(t.Context(), here, root, r)
	must(t, err)
	if again.ID != first.ID {
		t.Errorf("got job %s, want the first, %s", again.ID, first.ID)
	}
	changed := r
	changed.Prefix = "elsewhere/"
	_, err = p.StartJob(t.Context(), here, root, changed)
	checkKind(t, err, countersign.Invalid, "The clientRequestToken was used before with different parameters.")
	// Elsewhere it is another token, and there the profile is missing.
	_, err = p.StartJob(t.Context(), sign.Scope{Account: account, Region: "us-east-1"}, root, r)
	checkKind(t, err, countersign.NotFound, "")
	if n := p.shelves.keys("dst"); n != 1 {
		t.Errorf("got %d signed objects, want 1", n)
	}
}

func TestManyRequestsWithOneTokenAreOneJob(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	r := p.request(hello(t), "app.zip")
	r.Token = strings.Repeat("any length, any \x00 byte ", 1000)
	ids := make([]string, 32)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			j, err := p.StartJob(t.Context(), here, root, r)
			if err != nil {
				t.Error(err)
			}
			ids[i] = j.ID
		})
	}
	wg.Wait()
	if got := slices.Compact(slices.Clone(ids)); len(got) != 1 {
		t.Fatalf("got jobs %v, want one", got)
	}
	if j := p.await(t, ids[0]); j.Status != sign.Succeeded || p.shelves.keys("dst") != 1 {
		t.Errorf("got %s: %s, %d objects", j.Status, j.Reason, p.shelves.keys("dst"))
	}
}

func TestManyJobsAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			r := p.request(zipped(t, "app.py", fmt.Sprint(i)), fmt.Sprintf("app%d.zip", i))
			j, err := p.StartJob(t.Context(), here, root, r)
			if err != nil {
				t.Error(err)
				return
			}
			j, err = p.AwaitJob(t.Context(), here, j.ID)
			if err != nil || j.Status != sign.Succeeded {
				t.Errorf("job %d: %s: %s, %v", i, j.Status, j.Reason, err)
				return
			}
			checkSigned(t, p, j, p.shelves.versions("dst", j.Target.Key)[0])
		})
	}
	wg.Wait()
	if n := p.shelves.keys("dst"); n != 64 {
		t.Errorf("got %d objects, want 64", n)
	}
}

func TestAForeignObjectInTheWayStays(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"rubbish", "nothing", "another job's object", "an object of another platform"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t, storetest.Memory())
			b := &broken{shelves: p.shelves}
			p.objects = b
			p.start(t)
			p.profile(t, "prod")
			body := []byte(name)
			switch name {
			case "nothing":
				body = []byte{}
			case "another job's object":
				other := p.sign(t, p.request(hello(t), "app.zip"))
				body = p.shelves.versions("dst", other.Target.Key)[0]
			case "an object of another platform":
				q := newPlatform(t)
				other := q.sign(t, q.request(hello(t), "app.zip"))
				body = q.shelves.versions("dst", other.Target.Key)[0]
			}
			b.put = func(bucket, key string) error { // somebody is faster
				p.shelves.put(bucket, key, body)
				return nil
			}
			j := p.sign(t, p.request(hello(t), "app.zip"))
			if j.Status != sign.Failed || j.Reason != "The destination already has an object with the signed object's key." {
				t.Errorf("got %s: %s", j.Status, j.Reason)
			}
			if vs := p.shelves.versions("dst", j.Target.Key); len(vs) != 1 || !bytes.Equal(vs[0], body) {
				t.Error("the object in the way was touched")
			}
		})
	}
}

func TestTroubleIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"open", "put"} {
		synctest.Test(t, func(t *testing.T) {
			p := prepare(t, storetest.Memory())
			left := 3
			trouble := func(string, string) error {
				if left--; left >= 0 {
					return errors.New("the disk is on its way")
				}
				return nil
			}
			b := &broken{shelves: p.shelves}
			if where == "open" {
				b.open = trouble
			} else {
				b.put = trouble
			}
			p.objects = b
			p.start(t)
			p.profile(t, "prod")
			if j := p.sign(t, p.request(hello(t), "app.zip")); j.Status != sign.Succeeded || p.shelves.puts != 1 {
				t.Errorf("%s: got %s: %s after %d puts", where, j.Status, j.Reason, p.shelves.puts)
			}
		})
	}
}

// TestQueueTroubleLosesNoJob has the queue refuse a job whose document is
// already there. Whether its client asks again or not, the job is done, once.
func TestQueueTroubleLosesNoJob(t *testing.T) {
	t.Parallel()
	for _, retry := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			fault := &storetest.Fault{Match: "queue signwork put", N: 1}
			p := prepare(t, fault.Wrap(storetest.Memory()))
			p.start(t)
			p.profile(t, "prod")
			r := p.request(hello(t), "app.zip")
			if _, err := p.StartJob(t.Context(), here, root, r); !errors.Is(err, storetest.ErrFault) {
				t.Fatalf("got %v, want the queue's refusal", err)
			}
			js, _, err := p.Jobs(here, sign.JobFilter{}, sign.PageRequest{})
			must(t, err)
			if len(js) != 1 {
				t.Fatalf("got %d jobs, want the one that was recorded", len(js))
			}
			if retry {
				j, err := p.StartJob(t.Context(), here, root, r)
				must(t, err)
				if j.ID != js[0].ID {
					t.Errorf("got job %s, want %s", j.ID, js[0].ID)
				}
				synctest.Wait() // no time passes: the retry alone must do
				if j, _ = p.Job(t.Context(), here, j.ID); j.Status != sign.Succeeded {
					t.Errorf("after the retry: %s: %s", j.Status, j.Reason)
				}
			}
			if j := p.await(t, js[0].ID); j.Status != sign.Succeeded || p.shelves.puts != 1 {
				t.Errorf("got %s: %s, %d objects", j.Status, j.Reason, p.shelves.puts)
			}
		})
	}
}

// latest ignores the version it is asked for.
type latest struct{ *shelves }

func (l latest) Open(ctx context.Context, as sign.Caller, bucket, key, _ string) (io.ReadCloser, sign.ObjectInfo, error) {
	return l.shelves.Open(ctx, as, bucket, key, "")
}

func TestAnotherVersionIsNotSigned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := prepare(t, storetest.Memory())
		p.objects = latest{p.shelves}
		p.start(t)
		p.profile(t, "prod")
		r := p.request(hello(t), "app.zip")
		p.shelves.put("src", "app.zip", zipped(t, "evil", "code"))
		j, err := p.StartJob(t.Context(), here, root, r)
		must(t, err)
		synctest.Wait()
		p.clock.add(2 * time.Hour)
		if j = p.await(t, j.ID); j.Status != sign.Failed || p.shelves.puts != 0 {
			t.Errorf("got %s: %s, %d objects", j.Status, j.Reason, p.shelves.puts)
		}
	})
}

func TestTroubleWithoutEndFailsTheJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := prepare(t, storetest.Memory())
		p.objects = &broken{shelves: p.shelves, open: func(string, string) error {
			p.clock.add(time.Minute)
			return errors.New("no disk")
		}}
		p.start(t)
		p.profile(t, "prod")
		r := p.request(hello(t), "app.zip")
		if j := p.sign(t, r); j.Status != sign.Failed || j.Reason != "Internal failure." {
			t.Errorf("got %s: %s", j.Status, j.Reason)
		}
	})
}

func TestDestinationThatWentAwayFailsTheJob(t *testing.T) {
	t.Parallel()
	p := prepare(t, storetest.Memory())
	p.objects = &broken{shelves: p.shelves, put: func(string, string) error {
		return countersign.Errorf(countersign.NotFound, "The specified bucket does not exist")
	}}
	p.start(t)
	p.profile(t, "prod")
	if j := p.sign(t, p.request(hello(t), "app.zip")); j.Status != sign.Failed || j.Reason != "The signed object cannot be written: The specified bucket does not exist" {
		t.Errorf("got %s: %s", j.Status, j.Reason)
	}
}

func TestListJobs(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	alice := sign.Caller{Account: account, ARN: "arn:aws:iam::000000000000:user/alice"}
	var ids []string // oldest first
	for i := range 60 {
		r := p.request(hello(t), "app.zip")
		if i%10 == 3 {
			r = p.request([]byte("no zip"), "bad.zip")
		}
		who := root
		if i%20 == 0 {
			who = alice
		}
		j, err := p.StartJob(t.Context(), here, who, r)
		must(t, err)
		p.await(t, j.ID)
		ids = append(ids, j.ID)
		p.clock.add(time.Second)
	}
	slices.Reverse(ids)
	all := func(f sign.JobFilter, max int) (got []string) {
		for page := (sign.PageRequest{Max: max}); ; {
			js, next, err := p.Jobs(here, f, page)
			must(t, err)
			for _, j := range js {
				got = append(got, j.ID)
			}
			if page.Token = next; next == "" {
				return got
			}
		}
	}
	for _, max := range []int{0, 1, 7, 25} {
		if got := all(sign.JobFilter{}, max); !slices.Equal(got, ids) {
			t.Errorf("by %d: got %d jobs, want all 60, newest first", max, len(got))
		}
	}
	half, err := p.Job(t.Context(), here, ids[30])
	must(t, err)
	if half.Status != sign.Succeeded {
		t.Fatalf("job 30 is %s", half.Status)
	}
	for _, c := range []struct {
		name string
		f    sign.JobFilter
		want int
	}{
		{"succeeded", sign.JobFilter{Status: sign.Succeeded}, 54},
		{"failed", sign.JobFilter{Status: sign.Failed}, 6},
		{"in progress", sign.JobFilter{Status: sign.InProgress}, 0},
		{"platform", sign.JobFilter{Platform: sign.LambdaPlatform}, 60},
		{"another platform", sign.JobFilter{Platform: sign.NotationPlatform}, 0},
		{"alice", sign.JobFilter{RequestedBy: alice.ARN}, 3},
		{"account", sign.JobFilter{Invoker: account}, 60},
		{"another account", sign.JobFilter{Invoker: "111111111111"}, 0},
		{"revoked", sign.JobFilter{Revoked: new(true)}, 0},
		{"not revoked", sign.JobFilter{Revoked: new(false)}, 60},
		{"expires before", sign.JobFilter{ExpiresBefore: half.Expires}, 26},
		{"expires after", sign.JobFilter{ExpiresAfter: half.Expires}, 27},
	} {
		if got := all(c.f, 5); len(got) != c.want {
			t.Errorf("%s: got %d jobs, want %d", c.name, len(got), c.want)
		}
	}
	_, err = p.Job(t.Context(), here, "nothing")
	checkKind(t, err, countersign.NotFound, "Signing job with id nothing does not exist")
	_, err = p.Job(t.Context(), sign.Scope{Account: "111111111111", Region: region}, ids[0])
	checkKind(t, err, countersign.NotFound, "")

	// Two years later the old ones are out of the lists, and can be described.
	p.clock.set(half.Created.AddDate(2, 0, 0))
	if got := all(sign.JobFilter{}, 25); len(got) != 31 {
		t.Errorf("after two years: got %d jobs, want 31", len(got))
	}
	_, err = p.Job(t.Context(), here, ids[59])
	must(t, err)
}

func TestSignArchive(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	body := hello(t)
	var out bytes.Buffer
	j, err := p.SignArchive(t.Context(), here, root, "prod", bytes.NewReader(body), int64(len(body)), &out)
	must(t, err)
	checkSigned(t, p, j, out.Bytes())
	back, err := p.Job(t.Context(), here, j.ID)
	must(t, err)
	if back.Status != sign.Succeeded || back.Content != j.Content || back.Target != (sign.Target{}) {
		t.Errorf("got %+v", back)
	}
	for what, bad := range map[string][]byte{"signed": out.Bytes(), "empty": nil, "no zip": []byte("x")} {
		_, err := p.SignArchive(t.Context(), here, root, "prod", bytes.NewReader(bad), int64(len(bad)), failWriter{t})
		checkKind(t, err, countersign.Invalid, "")
		if err == nil {
			t.Errorf("%s was signed", what)
		}
	}
	_, err = p.SignArchive(t.Context(), here, root, "never", bytes.NewReader(body), int64(len(body)), failWriter{t})
	checkKind(t, err, countersign.NotFound, "")
	must(t, p.CancelProfile(t.Context(), here, "prod"))
	_, err = p.SignArchive(t.Context(), here, root, "prod", bytes.NewReader(body), int64(len(body)), failWriter{t})
	checkKind(t, err, countersign.Conflict, "")
}

// failWriter must not be written to.
type failWriter struct{ t *testing.T }

func (w failWriter) Write(b []byte) (int, error) {
	w.t.Errorf("%d bytes were written for an archive that is refused", len(b))
	return len(b), nil
}

func TestLargeArchivesAreSpooled(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	noise := make([]byte, 9<<20) // does not compress, so both spools go to files
	rand.Read(noise)
	j := p.sign(t, p.request(zipped(t, "data", string(noise)), "big.zip"))
	if j.Status != sign.Succeeded {
		t.Fatalf("got %s: %s", j.Status, j.Reason)
	}
	checkSigned(t, p, j, p.shelves.versions("dst", j.Target.Key)[0])
}
