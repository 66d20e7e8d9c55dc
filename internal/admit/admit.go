// Package admit is the only door: it turns evidence, trust and a moment into
// an Admission, or into every reason why not.
//
// It promises that a value of type [Admission] exists only for an artifact
// that has exactly one reading and passed what its policy asks, and that a
// refusal carries every reason found rather than the first. An error that is
// not a [countersign.Refusal] means the gate could not decide, and then there
// is no Admission either.
//
// It trusts the pinned roots it was made with, the clock it was given, the
// blob store to return the bytes of the digest it is asked for, and the writer
// of the function documents: an attacker who can change those documents can
// replay an old admission, for the same bytes only.
//
// The checks and their names follow "Configuring code signing for Lambda" in
// the AWS Lambda developer guide.
package admit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"countersign"
)

// A Policy is what an account asks of an artifact: AWS's code signing
// configuration, as far as deciding needs it.
type Policy struct {
	// Publishers are signing profile version ARNs. An entry without a version
	// stands for every version of that profile: AWS's own sample is written
	// that way and AWS does not document the case; see docs/rationale.md.
	Publishers []string
	// Enforce refuses what expiry, mismatch or revocation object to. When it
	// is false those three only warn. The integrity check always refuses.
	Enforce bool
}

// A Request asks whether one artifact may be deployed.
type Request struct {
	Artifact countersign.Digest
	// Policy is nil where no code signing configuration is attached. Then
	// only the archive check can refuse; the signature is still judged, so
	// that a valid one is recorded.
	Policy *Policy
}

// An Admission proves that one artifact passed every check at one moment.
// Only a [Gate] makes one. The zero Admission starts nothing.
type Admission struct {
	rec Record
}

// Digest names the artifact that was admitted. It is zero in the zero
// Admission.
func (a Admission) Digest() countersign.Digest { return a.rec.Artifact }

// Record is what to keep of the admission: [Gate.Recall] takes it back.
func (a Admission) Record() Record { return a.rec }

// A Record is an admission as it is stored beside the function it admitted.
// Holding one starts nothing.
type Record struct {
	Artifact countersign.Digest `json:"artifact"`
	At       time.Time          `json:"at"`
	Size     int64              `json:"size"`     // bytes of the archive file
	Unpacked int64              `json:"unpacked"` // bytes of its entries
	// Signature holds what the valid signature said, nil where there is no
	// signature or an invalid one.
	Signature *Signature `json:"signature,omitempty"`
	// Warnings are the objections the policy let pass.
	Warnings []countersign.Reason `json:"warnings,omitempty"`
}

// A Signature is the part of a valid signature worth remembering.
type Signature struct {
	Job            string    `json:"job"`             // signing job ARN
	ProfileVersion string    `json:"profile_version"` // signing profile version ARN
	SignedAt       time.Time `json:"signed_at"`
	Expires        time.Time `json:"expires"`
}

// Status is the one word AWS's audit record uses for the outcome: VALID, or
// the first objection that was let pass.
func (r Record) Status() string {
	for _, c := range checks {
		for _, w := range r.Warnings {
			if w.Check == c.name {
				return c.status
			}
		}
	}
	return "VALID"
}

// Artifacts opens archives by digest. The reader's content has been checked
// against the digest before Open returns.
type Artifacts interface {
	Open(ctx context.Context, d countersign.Digest) (Artifact, error)
}

// An Artifact is an archive's bytes, open for reading.
type Artifact interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Revocations tells what was taken back. An error refuses.
type Revocations interface {
	Revoked(ctx context.Context, s countersign.Statement) ([]countersign.Reason, error)
}

// A Gate admits or refuses artifacts. Safe for concurrent use.
type Gate struct {
	artifacts Artifacts
	trust     countersign.Trust
	revoked   Revocations
	now       func() time.Time
}

// New makes a gate that believes signatures under trust alone. revoked may be
// nil where nothing can be taken back.
func New(a Artifacts, trust countersign.Trust, revoked Revocations, now func() time.Time) *Gate {
	return &Gate{artifacts: a, trust: trust, revoked: revoked, now: now}
}

// A subject is what the checks look at.
type subject struct {
	at       time.Time
	policy   *Policy
	evidence *countersign.Evidence // nil when there is no valid signature
	unsigned bool
	tampered []countersign.Reason
	revoked  Revocations
}

// checks is the procedure, in the order of the developer guide. A check that
// returns reasons objects; rule says what an objection does.
var checks = []struct {
	name   countersign.Check
	status string // AWS's word in additionalEventData.signatureStatus
	judge  func(context.Context, *subject) ([]countersign.Reason, error)
	rule   func(*Policy) bool // true: an objection refuses
}{
	{countersign.CheckIntegrity, "CORRUPT", integrity, attached},
	{countersign.CheckExpiry, "EXPIRED", expiry, enforced},
	{countersign.CheckMismatch, "MISMATCH", mismatch, enforced},
	{countersign.CheckRevocation, "REVOKED", revocation, enforced},
}

// attached: no policy can soften the check, but there must be one to ask it.
func attached(p *Policy) bool { return p != nil }

func enforced(p *Policy) bool { return p != nil && p.Enforce }

func integrity(_ context.Context, s *subject) ([]countersign.Reason, error) { return s.tampered, nil }

func expiry(_ context.Context, s *subject) ([]countersign.Reason, error) {
	if s.evidence == nil {
		return nil, nil
	}
	if r, expired := s.evidence.Expired(s.at); expired {
		return []countersign.Reason{r}, nil
	}
	return nil, nil
}

// mismatch: "the code package is signed by a profile that is not allowed, or
// is not signed". An altered package is the integrity check's to name.
func mismatch(_ context.Context, s *subject) ([]countersign.Reason, error) {
	switch {
	case s.unsigned:
		return []countersign.Reason{{Check: countersign.CheckMismatch, Code: "unsigned", Detail: "the package carries no signature"}}, nil
	case s.evidence == nil || s.policy == nil:
		return nil, nil
	}
	if v := s.evidence.Statement().ProfileVersion; !s.policy.allows(v) {
		return []countersign.Reason{{Check: countersign.CheckMismatch, Code: "publisher",
			Detail: fmt.Sprintf("the package is signed by %s, which is not an allowed publisher", v)}}, nil
	}
	return nil, nil
}

func revocation(ctx context.Context, s *subject) ([]countersign.Reason, error) {
	if s.evidence == nil || s.revoked == nil {
		return nil, nil
	}
	return s.revoked.Revoked(ctx, s.evidence.Statement())
}

// allows compares whole names: "p1" must not stand for "p10".
func (p *Policy) allows(profileVersion string) bool {
	for _, a := range p.Publishers {
		if a == profileVersion {
			return true
		}
		if rest, ok := strings.CutPrefix(profileVersion, a+"/"); ok && len(rest) == profileVersionLength && isProfile(a) {
			return true
		}
	}
	return false
}

// profileVersionLength is the fixed length of a profile version (signer
// model, ProfileVersion).
const profileVersionLength = 10

// Admit judges the artifact as it is now, by the clock as it is now. What it
// returns when it refuses is a [*countersign.Refusal].
func (g *Gate) Admit(ctx context.Context, req Request) (Admission, error) {
	f, err := g.artifacts.Open(ctx, req.Artifact)
	if err != nil {
		return Admission{}, fmt.Errorf("open artifact %s: %w", req.Artifact, err)
	}
	defer f.Close()

	a, err := countersign.OpenArchive(f, f.Size(), countersign.Limits{})
	if err != nil {
		return Admission{}, g.unreadable(f, req.Policy, err)
	}
	s := &subject{at: g.now(), policy: req.Policy, revoked: g.revoked}
	rec := Record{Artifact: req.Artifact, At: s.at, Size: f.Size()}
	for _, e := range a.Entries() {
		rec.Unpacked += e.Size
	}

	s.evidence, err = countersign.Verify(ctx, a, g.trust)
	if errors.Is(err, countersign.ErrUnsigned) {
		// Nobody has read the bodies yet. They have to be what the directory
		// says, signed or not.
		s.unsigned = true
		_, err = a.Digests(ctx)
	}
	if err != nil {
		var r *countersign.Refusal
		if !errors.As(err, &r) {
			return Admission{}, fmt.Errorf("verify artifact %s: %w", req.Artifact, err)
		}
		// The archive's own bytes may fail to inflate only now. That is
		// never a matter of policy.
		if r.Has(countersign.CheckArchive) {
			return Admission{}, g.unreadable(f, req.Policy, r)
		}
		s.tampered = r.Reasons
	}

	var refusal countersign.Refusal
	refused := false
	for _, c := range checks {
		rs, err := c.judge(ctx, s)
		if err != nil {
			return Admission{}, fmt.Errorf("check %s of artifact %s: %w", c.name, req.Artifact, err)
		}
		if len(rs) == 0 {
			continue
		}
		// Every reason goes into a refusal, those that would only have
		// warned as well: the record wants the whole answer.
		refusal.Reasons = append(refusal.Reasons, rs...)
		refused = refused || c.rule(req.Policy)
	}
	if refused {
		return Admission{}, &refusal
	}
	rec.Warnings = refusal.Reasons
	if s.evidence != nil {
		st := s.evidence.Statement()
		rec.Signature = &Signature{Job: st.Job, ProfileVersion: st.ProfileVersion, SignedAt: st.SignedAt, Expires: st.Expires}
	}
	return Admission{rec}, nil
}

// Recall makes an Admission again from the record of an earlier one, for the
// start of an environment. AWS judges at deployment only, and so does this:
// it asks nothing of the artifact again. Whoever unpacks it checks every byte
// against the digest.
func (g *Gate) Recall(ctx context.Context, rec Record) (Admission, error) {
	if rec.Artifact.IsZero() || rec.At.IsZero() {
		return Admission{}, countersign.Errorf(countersign.Refused, "there is no record that this code was admitted")
	}
	return Admission{rec}, nil
}

// unreadable explains an archive without one reading. A package that was
// signed and then damaged is named as such where a policy asks for
// signatures: its bytes still mention the signature's file.
func (g *Gate) unreadable(f Artifact, p *Policy, err error) error {
	var r *countersign.Refusal
	if !errors.As(err, &r) || p == nil || !mentionsSignature(f) {
		return err
	}
	return &countersign.Refusal{Reasons: append([]countersign.Reason{{Check: countersign.CheckIntegrity, Code: "damaged",
		Detail: "the package was signed and its archive is damaged"}}, r.Reasons...)}
}
