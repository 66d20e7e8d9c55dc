package admit_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/admit/admittest"
)

// The publishers of these tests.
const (
	job      = "arn:aws:signer:eu-central-1:000000000000:/signing-jobs/7f0e2f6e-3d0c-4d6c-9f2e-0d6c9f2e7f0e"
	profile  = "arn:aws:signer:eu-central-1:000000000000:/signing-profiles/release"
	version  = profile + "/abcDEF1234"
	stranger = "arn:aws:signer:eu-central-1:000000000000:/signing-profiles/release2/abcDEF1234"
)

var signedAt = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// An authority is a root and a leaf made for one test.
type authority struct {
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	issue := func(tmpl, parent *x509.Certificate, pub *ecdsa.PublicKey, by *ecdsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	rootKey, leafKey := key(), key()
	rt := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: signedAt.AddDate(-1, 0, 0), NotAfter: signedAt.AddDate(50, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, SignatureAlgorithm: x509.ECDSAWithSHA384}
	root := issue(rt, rt, &rootKey.PublicKey, rootKey)
	lt := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: signedAt.Add(-time.Hour), NotAfter: signedAt.Add(48 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, BasicConstraintsValid: true, SignatureAlgorithm: x509.ECDSAWithSHA384}
	return authority{leafKey, []*x509.Certificate{issue(lt, root, &leafKey.PublicKey, rootKey), root}}
}

func (a authority) trust() countersign.Trust {
	return countersign.Trust{Roots: []countersign.Root{{Cert: a.chain[1], RequireStrict: true}}}
}

// sign signs a zip for a profile version, for one year.
func (a authority) sign(t *testing.T, zip []byte, profileVersion string) []byte {
	t.Helper()
	ar, err := countersign.OpenArchive(bytes.NewReader(zip), int64(len(zip)), countersign.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := ar.Digests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sf, err := countersign.Statement{Job: job, ProfileVersion: profileVersion, SignedAt: signedAt, Expires: signedAt.AddDate(1, 0, 0), Content: d.Content, Strict: &d.Strict}.Sign(rand.Reader, a.key, a.chain)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := ar.WriteSigned(&out, sf); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// revoked takes back what its map names.
type revoked map[string]bool

func (r revoked) Revoked(_ context.Context, s countersign.Statement) ([]countersign.Reason, error) {
	if r[s.Job] {
		return []countersign.Reason{{Check: countersign.CheckRevocation, Code: "job", Detail: "taken back"}}, nil
	}
	return nil, nil
}

type broken struct{}

func (broken) Revoked(context.Context, countersign.Statement) ([]countersign.Reason, error) {
	return nil, errors.New("cannot ask")
}

// TestAdmit is the table of the developer guide: what each state of a package
// does under no policy, Warn and Enforce.
func TestAdmit(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	plain := admittest.Zip(t, "app.py", "def handler(e, c): return e\n", "lib/x.py", "x = 1\n")
	good := ours.sign(t, plain, version)
	flipped := bytes.Clone(good)
	flipped[45] ^= 1
	unsignedFlipped := bytes.Clone(plain)
	unsignedFlipped[45] ^= 1
	// The same signature over another archive: the replay.
	replayed := func() []byte {
		ar, err := countersign.OpenArchive(bytes.NewReader(good), int64(len(good)), countersign.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		sf, err := ar.Signature()
		if err != nil {
			t.Fatal(err)
		}
		other := admittest.Zip(t, "app.py", "def handler(e, c): return 'evil'\n", "lib/x.py", "x = 1\n")
		or, err := countersign.OpenArchive(bytes.NewReader(other), int64(len(other)), countersign.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := or.WriteSigned(&out, sf); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}()

	type outcome struct {
		ok     bool
		checks []countersign.Check // of the refusal, or of the warnings
	}
	yes := outcome{ok: true}
	warned := func(c ...countersign.Check) outcome { return outcome{true, c} }
	no := func(c ...countersign.Check) outcome { return outcome{false, c} }
	const (
		integrity, expiry, mismatch, revocation, archive = countersign.CheckIntegrity, countersign.CheckExpiry, countersign.CheckMismatch, countersign.CheckRevocation, countersign.CheckArchive
	)
	for _, c := range []struct {
		name                string
		zip                 []byte
		at                  time.Time
		revoked             admit.Revocations
		publishers          []string
		none, warn, enforce outcome
	}{
		{"signed by the version", good, signedAt, nil, []string{version}, yes, yes, yes},
		{"signed, profile named without version", good, signedAt, nil, []string{profile}, yes, yes, yes},
		{"unsigned", plain, signedAt, nil, []string{version}, warned(mismatch), warned(mismatch), no(mismatch)},
		{"signed by another profile", good, signedAt, nil, []string{stranger}, yes, warned(mismatch), no(mismatch)},
		{"a profile whose name begins alike", ours.sign(t, plain, stranger), signedAt, nil, []string{profile}, yes, warned(mismatch), no(mismatch)},
		{"expired", good, signedAt.AddDate(1, 0, 1), nil, []string{version}, warned(expiry), warned(expiry), no(expiry)},
		{"expired and another profile", good, signedAt.AddDate(1, 0, 1), nil, []string{stranger}, warned(expiry), warned(expiry, mismatch), no(expiry, mismatch)},
		{"revoked", good, signedAt, revoked{job: true}, []string{version}, warned(revocation), warned(revocation), no(revocation)},
		{"another root", theirs.sign(t, plain, version), signedAt, nil, []string{version}, warned(integrity), no(integrity), no(integrity)},
		{"replayed on another archive", replayed, signedAt, nil, []string{version}, warned(integrity), no(integrity), no(integrity)},
		{"one bit flipped", flipped, signedAt, nil, []string{version}, no(archive), no(integrity, archive), no(integrity, archive)},
		{"unsigned and one bit flipped", unsignedFlipped, signedAt, nil, []string{version}, no(archive), no(archive), no(archive)},
		{"not a zip", []byte("hello"), signedAt, nil, []string{version}, no(archive), no(archive), no(archive)},
		{"empty", nil, signedAt, nil, []string{version}, no(archive), no(archive), no(archive)},
	} {
		for _, p := range []struct {
			name   string
			policy *admit.Policy
			want   outcome
		}{{"none", nil, c.none}, {"warn", &admit.Policy{Publishers: c.publishers}, c.warn}, {"enforce", &admit.Policy{Publishers: c.publishers, Enforce: true}, c.enforce}} {
			t.Run(c.name+"/"+p.name, func(t *testing.T) {
				t.Parallel()
				as := admittest.Artifacts{}
				g := admit.New(as, ours.trust(), c.revoked, func() time.Time { return c.at })
				a, err := g.Admit(t.Context(), admit.Request{Artifact: as.Add(c.zip), Policy: p.policy})
				var reasons []countersign.Reason
				var r *countersign.Refusal
				switch {
				case errors.As(err, &r):
					reasons = r.Reasons
				case err != nil:
					t.Fatalf("could not decide: %v", err)
				default:
					reasons = a.Record().Warnings
				}
				if (err == nil) != p.want.ok {
					t.Fatalf("got %v, want admitted %v", err, p.want.ok)
				}
				var got []countersign.Check
				for _, x := range reasons {
					if !slices.Contains(got, x.Check) {
						got = append(got, x.Check)
					}
				}
				if !slices.Equal(got, p.want.checks) {
					t.Errorf("got reasons %v, want of %v", reasons, p.want.checks)
				}
				if err != nil && !a.Digest().IsZero() {
					t.Error("a refusal came with an admission")
				}
				valid := err == nil && bytes.Equal(c.zip, good)
				if has := a.Record().Signature != nil; valid && !has {
					t.Error("a valid signature is not on record")
				} else if has && a.Record().Signature.Job != job {
					t.Errorf("got job %s", a.Record().Signature.Job)
				}
			})
		}
	}
}

// TestNotDecidingIsRefusing: who cannot ask about revocation does not admit.
func TestNotDecidingIsRefusing(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	as := admittest.Artifacts{}
	d := as.Add(ours.sign(t, admittest.Zip(t, "a", "b"), version))
	a, err := admit.New(as, ours.trust(), broken{}, func() time.Time { return signedAt }).Admit(t.Context(), admit.Request{Artifact: d, Policy: &admit.Policy{Publishers: []string{version}}})
	if err == nil || !a.Digest().IsZero() {
		t.Errorf("got %v %v, want an error and no admission", a, err)
	}
	var r *countersign.Refusal
	if errors.As(err, &r) {
		t.Errorf("a failure to decide came out as a decision: %v", r)
	}
}

// TestRecall: a record that was never made by an admission opens nothing.
func TestRecall(t *testing.T) {
	t.Parallel()
	g := admit.New(admittest.Artifacts{}, countersign.Trust{}, nil, time.Now)
	if _, err := g.Recall(t.Context(), admit.Record{}); err == nil {
		t.Error("the zero record was recalled")
	}
	a := admittest.Admission(t, "x")
	b, err := g.Recall(t.Context(), a.Record())
	if err != nil || b.Digest() != a.Digest() {
		t.Errorf("got %v %v, want the admission again", b.Digest(), err)
	}
}
