package sign_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"countersign"
	"countersign/internal/sign"
	"countersign/internal/store"
	"countersign/internal/store/storetest"
)

// grant is a permission that may be given on any Lambda profile.
func grant(statement string) sign.Permission {
	return sign.Permission{Statement: statement, Action: "signer:StartSigningJob", Principal: elsewhere}
}

// granted lists all permissions of "prod", page by page.
func (p *platform) granted(tb testing.TB) (ids []string, revision string, size, pages int) {
	tb.Helper()
	for page := (sign.PageRequest{}); ; {
		ps, n, next, err := p.Permissions(tb.Context(), here, "prod", page)
		if countersign.KindOf(err) == countersign.NotFound {
			return nil, "", 0, 0
		}
		must(tb, err)
		for _, g := range ps.Granted {
			ids = append(ids, g.Statement)
		}
		revision, size, pages = ps.Revision, n, pages+1
		if page.Token = next; next == "" {
			return ids, revision, size, pages
		}
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	pr, err := p.Profile(t.Context(), here, "prod")
	must(t, err)
	ctx := t.Context()
	add := func(g sign.Permission, revision *string) (string, error) {
		return p.AddPermission(ctx, here, "prod", g, revision)
	}
	_, _, _, err = p.Permissions(ctx, here, "prod", sign.PageRequest{})
	checkKind(t, err, countersign.NotFound, "Profile with name prod has no permissions")
	_, _, _, err = p.Permissions(ctx, here, "never", sign.PageRequest{})
	checkKind(t, err, countersign.NotFound, "profile with name never does not exist")
	_, err = p.RemovePermission(ctx, here, "prod", "a", "")
	checkKind(t, err, countersign.NotFound, "Statement with id a does not exist")

	// Terraform says "" where there is nothing yet.
	_, err = add(grant("b"), new("someone's"))
	checkKind(t, err, countersign.Stale, "")
	r1, err := add(grant("b"), new(""))
	must(t, err)
	_, err = add(grant("a"), new(""))
	checkKind(t, err, countersign.Stale, "")
	r2, err := add(sign.Permission{Statement: "a", Action: "signer:RevokeSignature", Principal: "arn:aws:iam::111111111111:role/ci/release", Version: pr.Version}, &r1)
	must(t, err)
	_, err = add(grant("c"), &r1)
	checkKind(t, err, countersign.Stale, "")
	_, err = add(grant("a"), &r2)
	checkKind(t, err, countersign.Exists, "Statement with id a already exists")
	r3, err := add(grant("c"), nil)
	must(t, err)
	ids, revision, size, _ := p.granted(t)
	if !slices.Equal(ids, []string{"a", "b", "c"}) || revision != r3 || r1 == r2 || r2 == r3 {
		t.Errorf("got %v at %s, want a b c at %s", ids, revision, r3)
	}
	ps, _, _, err := p.Permissions(ctx, here, "prod", sign.PageRequest{})
	must(t, err)
	policy := string(ps.Policy(pr))
	want := `{"Sid":"a","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:role/ci/release"},"Action":"signer:RevokeSignature","Resource":"` + pr.ARN() +
		`","Condition":{"StringEquals":{"signer:ProfileVersion":"` + pr.Version + `"}}}`
	if !json.Valid([]byte(policy)) || !strings.Contains(policy, want) || len(policy) != size {
		t.Errorf("got policy %s of %d bytes, want %s in it", policy, size, want)
	}

	// They are kept, and removed under the latest revision only.
	p.Close()
	p.start(t)
	_, err = p.RemovePermission(ctx, here, "prod", "a", r2)
	checkKind(t, err, countersign.Stale, "")
	_, err = p.RemovePermission(ctx, here, "prod", "never", r3)
	checkKind(t, err, countersign.NotFound, "Statement with id never does not exist")
	_, err = p.RemovePermission(ctx, here, "never", "a", r3)
	checkKind(t, err, countersign.NotFound, "profile with name never does not exist")
	r := r3
	for _, id := range []string{"a", "c", "b"} {
		next, err := p.RemovePermission(ctx, here, "prod", id, r)
		must(t, err)
		if next == r || next == "" {
			t.Errorf("remove %s: got revision %q after %q", id, next, r)
		}
		r = next
	}
	if ids, _, _, _ := p.granted(t); ids != nil {
		t.Errorf("got %v, want none", ids)
	}
	// With nothing left, both its last revision and none name the state.
	_, err = add(grant("x"), &r3)
	checkKind(t, err, countersign.Stale, "")
	r, err = add(grant("x"), &r)
	must(t, err)
	_, err = p.RemovePermission(ctx, here, "prod", "x", r)
	must(t, err)
	_, err = add(grant("x"), new(""))
	must(t, err)

	// Granting is not being allowed: whose account a caller is of decides.
	_, err = p.ProfileOf(ctx, sign.Scope{Account: elsewhere, Region: region}, sign.Caller{Account: elsewhere, ARN: "arn:aws:iam::111111111111:root"}, "prod", account)
	checkKind(t, err, countersign.Denied, "")
}

func TestAddPermissionRefuses(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	_, err := p.PutProfile(t.Context(), here, sign.NewProfile{Name: "oci", Platform: sign.NotationPlatform})
	must(t, err)
	with := func(f func(*sign.Permission)) sign.Permission { g := grant("s"); f(&g); return g }
	action := func(a string) sign.Permission { return with(func(g *sign.Permission) { g.Action = a }) }
	to := func(a string) sign.Permission { return with(func(g *sign.Permission) { g.Principal = a }) }
	for _, c := range []struct {
		profile string
		in      sign.Permission
		kind    countersign.Kind
		want    string
	}{
		{"oci", action("signer:StartSigningJob"), countersign.NotAllowed, "Action signer:StartSigningJob not supported for platform Notation-OCI-SHA384-ECDSA. Action must be one of [signer:SignPayload, signer:GetSigningProfile, signer:RevokeSignature]."},
		{"prod", action("signer:SignPayload"), countersign.NotAllowed, "Action signer:SignPayload not supported for platform AWSLambda-SHA384-ECDSA. Action must be one of [signer:StartSigningJob, signer:GetSigningProfile, signer:RevokeSignature]."},
		{"prod", action("signer:*"), countersign.NotAllowed, ""},
		{"prod", action("signer:startsigningjob"), countersign.NotAllowed, ""},
		{"prod", action("signer:RevokeSigningProfile"), countersign.NotAllowed, ""},
		{"prod", action(""), countersign.NotAllowed, ""},
		{"prod", to("*"), countersign.Invalid, ""},
		{"prod", to(""), countersign.Invalid, ""},
		{"prod", to("11111111111"), countersign.Invalid, ""},
		{"prod", to("111111111111\n"), countersign.Invalid, ""},
		{"prod", to("arn:aws:iam::111111111111:user/eve"), countersign.Invalid, ""},
		{"prod", to("arn:aws:iam::111111111111:role/*"), countersign.Invalid, ""},
		{"prod", to("arn:aws:sts::111111111111:assumed-role/r/s"), countersign.Invalid, ""},
		{"prod", to("lambda.amazonaws.com"), countersign.Invalid, ""},
		{"prod", with(func(g *sign.Permission) { g.Version = "abcdef1234" }), countersign.NotFound, "profile with name prod and version abcdef1234 does not exist"},
		{"prod", with(func(g *sign.Permission) { g.Statement = "" }), countersign.Invalid, "statementId should not be empty"},
		{"never", grant("s"), countersign.NotFound, "profile with name never does not exist"},
	} {
		_, err := p.AddPermission(t.Context(), here, c.profile, c.in, nil)
		checkKind(t, err, c.kind, c.want)
	}
	if ids, _, _, _ := p.granted(t); ids != nil {
		t.Errorf("got %v: a refused permission is there", ids)
	}
	_, err = p.AddPermission(t.Context(), here, "oci", action("signer:SignPayload"), nil)
	must(t, err)
	_, err = p.AddPermission(t.Context(), here, "prod", to(account), nil) // the owner's own account is one, too
	must(t, err)
}

// TestPolicyHasALimit fills a policy, reads it by pages, and changes it while
// it is read.
func TestPolicyHasALimit(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	n := 0
	for ; ; n++ {
		_, err := p.AddPermission(t.Context(), here, "prod", grant(fmt.Sprintf("s%03d", n)), nil)
		if err != nil {
			checkKind(t, err, countersign.TooLarge, "")
			break
		}
	}
	ids, revision, size, pages := p.granted(t)
	if len(ids) != n || pages != (n+24)/25 || size > 20480 || size < 20480-300 || !slices.IsSorted(ids) || len(slices.Compact(ids)) != n {
		t.Errorf("got %d statements of %d in %d pages, %d bytes", len(ids), n, pages, size)
	}
	first, _, next, err := p.Permissions(t.Context(), here, "prod", sign.PageRequest{})
	must(t, err)
	last := first.Granted[len(first.Granted)-1].Statement
	for _, id := range []string{"s000", last} {
		revision, err = p.RemovePermission(t.Context(), here, "prod", id, revision)
		must(t, err)
	}
	second, _, _, err := p.Permissions(t.Context(), here, "prod", sign.PageRequest{Token: next})
	must(t, err)
	if got := second.Granted[0].Statement; got != "s025" {
		t.Errorf("the second page begins with %s, want s025", got)
	}
	if len(first.Granted) != 25 || first.Granted[0].Statement != "s000" {
		t.Errorf("the first page changed under its reader: %v", first.Granted)
	}
	p.profile(t, "second")
	_, err = p.AddPermission(t.Context(), here, "second", grant("s"), nil)
	must(t, err)
	_, _, _, err = p.Permissions(t.Context(), here, "second", sign.PageRequest{Token: next})
	checkKind(t, err, countersign.Invalid, "Invalid next token.")
}

// TestPermissionsAreAddedOnce races additions: each that was acknowledged is
// there, and of those under one revision one wins.
func TestPermissionsAreAddedOnce(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if _, err := p.AddPermission(t.Context(), here, "prod", grant(fmt.Sprint(i%8)), nil); err != nil && countersign.KindOf(err) != countersign.Exists {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ids, revision, _, _ := p.granted(t)
	if len(ids) != 8 {
		t.Errorf("got %v, want eight", ids)
	}
	won := make([]bool, 8)
	for i := range won {
		wg.Go(func() {
			_, err := p.AddPermission(t.Context(), here, "prod", grant(fmt.Sprint("w", i)), &revision)
			if won[i] = err == nil; err != nil && countersign.KindOf(err) != countersign.Stale {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(slices.DeleteFunc(won, func(w bool) bool { return !w })); n != 1 {
		t.Errorf("%d of 8 won under one revision", n)
	}
}

// A rival's store runs what a rival does just before the first document of a
// bucket is created.
type rivalStore struct {
	store.Store
	bucket string
	acts   func() // may be nil
}

func (s *rivalStore) Bucket(ctx context.Context, name string) (store.Bucket, error) {
	b, err := s.Store.Bucket(ctx, name)
	if name == s.bucket {
		b = rivalBucket{b, s}
	}
	return b, err
}

type rivalBucket struct {
	store.Bucket
	s *rivalStore
}

func (b rivalBucket) Create(ctx context.Context, key string, val []byte) (store.Revision, error) {
	if acts := b.s.acts; acts != nil {
		b.s.acts = nil
		acts()
	}
	return b.Bucket.Create(ctx, key, val)
}

// TestFirstPermissionOfTwo adds the first permission while another node adds
// one, too: both are there, unless the caller said that there was none.
func TestFirstPermissionOfTwo(t *testing.T) {
	t.Parallel()
	for name, revision := range map[string]*string{"unconditional": nil, "none yet": new("")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t)
			other := *p
			rival := &rivalStore{Store: p.store, bucket: "signpermissions"}
			other.store = rival
			other.start(t)
			rival.acts = func() {
				_, err := p.AddPermission(t.Context(), here, "prod", grant("a"), nil)
				must(t, err)
			}
			_, err := other.AddPermission(t.Context(), here, "prod", grant("b"), revision)
			want := []string{"a", "b"}
			if revision == nil {
				must(t, err)
			} else {
				checkKind(t, err, countersign.Stale, "")
				want = want[:1]
			}
			if got, _, _, _ := other.granted(t); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestPermissionsSurviveACrash kills the process at each write of an addition
// and of a removal.
func TestPermissionsSurviveACrash(t *testing.T) {
	t.Parallel()
	storetest.EachCrash(t, "signpermissions", func(t *testing.T, fault *storetest.Fault) {
		p := newPlatform(t)
		p.Close()
		m := *p
		m.store = fault.Wrap(p.store)
		m.start(t)
		var acknowledged int // of three steps
		err := func() error {
			r, err := m.AddPermission(t.Context(), here, "prod", grant("a"), new(""))
			if err != nil {
				return err
			}
			acknowledged++
			if r, err = m.AddPermission(t.Context(), here, "prod", grant("b"), &r); err != nil {
				return err
			}
			acknowledged++
			if _, err = m.RemovePermission(t.Context(), here, "prod", "a", r); err == nil {
				acknowledged++
			}
			return err
		}()
		m.Close()
		if (err == nil) == fault.Fired() || err != nil && !errors.Is(err, storetest.ErrFault) {
			t.Fatalf("fault fired: %v, got %v", fault.Fired(), err)
		}
		p.start(t)
		done := acknowledged
		if fault.Fired() && fault.After {
			done++ // stored, and nobody was told
		}
		got, revision, _, _ := p.granted(t)
		if want := [][]string{nil, {"a"}, {"a", "b"}, {"b"}}[done]; !slices.Equal(got, want) || (revision == "") != (want == nil) {
			t.Errorf("after %d steps: got %v at %q, want %v", done, got, revision, want)
		}
	})
}
