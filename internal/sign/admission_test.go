package sign_test

import (
	"errors"
	"testing"
	"time"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/admit/admittest"
	"countersign/internal/sign"
	"countersign/internal/store/storetest"
)

// TestRevokedCodeAtTheGate deploys what jobs signed, before and after it was
// taken back, through the gate that deployments pass.
func TestRevokedCodeAtTheGate(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	var _ admit.Revocations = p.Service
	code := admittest.Artifacts{}
	gate := admit.New(code, p.Authority().Trust(), p.Service, p.clock.now)
	deploy := func(gate *admit.Gate, d countersign.Digest, policy *admit.Policy) (admit.Admission, error) {
		return gate.Admit(t.Context(), admit.Request{Artifact: d, Policy: policy})
	}
	// check deploys under no policy, Warn and Enforce. code is the reason to
	// expect; "" for none.
	check := func(what string, gate *admit.Gate, d countersign.Digest, publisher, code string) {
		t.Helper()
		for name, policy := range map[string]*admit.Policy{
			"no policy": nil, "Warn": {Publishers: []string{publisher}}, "Enforce": {Publishers: []string{publisher}, Enforce: true},
		} {
			a, err := deploy(gate, d, policy)
			if code != "" && name == "Enforce" {
				var no *countersign.Refusal
				if !errors.As(err, &no) || len(no.Reasons) != 1 || no.Reasons[0].Check != countersign.CheckRevocation || no.Reasons[0].Code != code {
					t.Errorf("%s under %s: got %v, want %s", what, name, err, code)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s under %s: got %v", what, name, err)
				continue
			}
			r := a.Record()
			if code == "" && (len(r.Warnings) != 0 || r.Status() != "VALID") || code != "" && (len(r.Warnings) != 1 || r.Warnings[0].Code != code || r.Status() != "REVOKED") {
				t.Errorf("%s under %s: got warnings %v, status %s", what, name, r.Warnings, r.Status())
			}
		}
	}
	sign1 := func(name string) (sign.Job, countersign.Digest) {
		j, _ := p.signed(t, name)
		return j, code.Add(p.shelves.versions("dst", j.Target.Key)[0])
	}
	pr, err := p.Profile(t.Context(), here, "prod")
	must(t, err)
	first, firstCode := sign1("first.zip")
	p.clock.add(time.Hour)
	second, secondCode := sign1("second.zip")
	p.clock.add(time.Hour)
	third, thirdCode := sign1("third.zip")
	p.clock.add(time.Hour)
	for _, d := range []countersign.Digest{firstCode, secondCode, thirdCode} {
		check("before any revocation", gate, d, pr.VersionARN(), "")
	}
	before, err := deploy(gate, secondCode, &admit.Policy{Publishers: []string{pr.ARN()}, Enforce: true})
	must(t, err)

	must(t, p.RevokeSignature(t.Context(), here, root, second.ID, "", "a secret was in it"))
	check("the revoked signature", gate, secondCode, pr.VersionARN(), "revoked-signature")
	check("one before it", gate, firstCode, pr.VersionARN(), "")
	check("one after it", gate, thirdCode, pr.VersionARN(), "")
	// What was deployed goes on: AWS judges at deployment only.
	if _, err := gate.Recall(t.Context(), before.Record()); err != nil {
		t.Errorf("start of deployed code: %v", err)
	}

	must(t, p.RevokeProfile(t.Context(), here, root, "prod", pr.Version, "key lost", third.SignedAt))
	check("signed before the profile's moment", gate, firstCode, pr.VersionARN(), "")
	check("signed at the profile's moment", gate, thirdCode, pr.VersionARN(), "revoked-profile")
	must(t, p.RevokeProfile(t.Context(), here, root, "prod", pr.Version, "key lost", first.SignedAt))
	check("the moment moved earlier", gate, firstCode, pr.VersionARN(), "revoked-profile")

	// A platform with the same authority and no memory of the jobs.
	old := *p
	old.store = storetest.Memory()
	old.start(t)
	amnesiac := admit.New(code, old.Authority().Trust(), old.Service, old.clock.now)
	var no *countersign.Refusal
	if _, err := deploy(amnesiac, firstCode, &admit.Policy{Publishers: []string{pr.ARN()}, Enforce: true}); !errors.As(err, &no) || no.Reasons[0].Code != "unknown-job" {
		t.Errorf("on restored state: got %v, want unknown-job", err)
	}
	if a, err := deploy(amnesiac, firstCode, &admit.Policy{Publishers: []string{pr.ARN()}}); err != nil || a.Record().Status() != "REVOKED" {
		t.Errorf("on restored state under Warn: got %v", err)
	}
}
