package sign

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"countersign"
	"countersign/internal/store"
)

// RevokeSignature takes back what a job signed, for good. Revoking again
// changes nothing: the first record stands. An empty owner is the caller's own
// account.
//
// A job that has not signed yet has nothing to take back: Conflict. One that
// has can be revoked however it goes on or went, since nobody can say where
// its signature has got to.
func (s *Service) RevokeSignature(ctx context.Context, sc Scope, who Caller, id, owner, reason string) error {
	if owner != "" && owner != sc.Account {
		return denied("signer:RevokeSignature", who, Job{Account: owner, Region: sc.Region, ID: id}.ARN())
	}
	if !jobID.MatchString(id) {
		return noJob(id)
	}
	_, err := s.jobs.Update(ctx, store.Key(sc.Account, sc.Region, id), func(j *Job) error {
		switch {
		case j.Revocation != nil:
			return errUnchanged
		case j.SignedAt.IsZero():
			return countersign.Errorf(countersign.Conflict, "Signing job with id %s is %s and has no signature to revoke", id, j.Status)
		}
		j.Revocation = &JobRevocation{Reason: reason, At: s.now().UTC(), By: who.ARN}
		return nil
	})
	var no *countersign.Error
	switch {
	case err == nil, errors.Is(err, errUnchanged):
		return nil
	case errors.Is(err, store.ErrNotFound):
		return noJob(id)
	case errors.As(err, &no):
		return no
	}
	return fmt.Errorf("revoke signature of job %s: %w", id, err)
}

// RevokeProfile takes back what a profile signed at or after from, and ends
// its signing, for good. From has to be in the past. Revoking again may move
// from to earlier and is then on record in place of what was; moving it to
// later is Invalid, since it would restore trust. A canceled profile can be
// revoked: canceling it left its signatures trusted.
func (s *Service) RevokeProfile(ctx context.Context, sc Scope, who Caller, name, version, reason string, from time.Time) error {
	now := s.now().UTC()
	from = from.UTC()
	if from.After(now) || from.Year() < 1 {
		return countersign.Errorf(countersign.Invalid, "effectiveTime %s must be in the past", from.Format(time.RFC3339))
	}
	return s.updateProfile(ctx, sc, name, func(p *Profile) error {
		if err := p.hasVersion(version); err != nil {
			return err
		}
		if r := p.Revocation; r != nil {
			switch {
			case from.Equal(r.From):
				return errUnchanged
			case from.After(r.From):
				return countersign.Errorf(countersign.Invalid,
					"Signing Profile %s is revoked with effectiveTime %s, which can be moved to an earlier time only", name, r.From.Format(time.RFC3339))
			}
		}
		p.Status, p.Reason = Revoked, reason
		p.Revocation = &ProfileRevocation{From: from, At: now, By: who.ARN, Reason: reason}
		return nil
	})
}

// hasVersion is NotFound for any version but the one there is.
func (p Profile) hasVersion(version string) error {
	if version != p.Version {
		return countersign.Errorf(countersign.NotFound, "profile with name %s and version %s does not exist", p.Name, version)
	}
	return nil
}

// covers reports whether r takes back a signature made at t. A nil r takes
// back none.
func (r *ProfileRevocation) covers(t time.Time) bool { return r != nil && !t.Before(r.From) }

// Revoked returns what speaks against a signature that is otherwise good. It
// answers from memory, wherever code is deployed: a revocation holds in every
// region, whichever it was made in. An error means that nobody knows.
//
// The statement has to be one that this platform's own authority signed. Each
// of those is on record before anybody can see it, and records stay. So a
// signature without its record, or that says other than its record, was made
// with a stolen key, or the records are older than the signature: a backup was
// restored. Either way it cannot be said that it was not revoked, and it is
// not trusted. What was honestly signed can be signed again; code that is
// deployed goes on running.
//
// The codes are "revoked-signature", "revoked-profile", "unknown-job",
// "unknown-profile" and "not-on-record", all of [countersign.CheckRevocation].
func (s *Service) Revoked(ctx context.Context, st countersign.Statement) (why []countersign.Reason, err error) {
	no := func(code, format string, args ...any) {
		why = append(why, countersign.Reason{Check: countersign.CheckRevocation, Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	switch j, ok, err := s.jobNamed(ctx, st.Job); {
	case err != nil:
		return nil, err
	case !ok:
		no("unknown-job", "there is no record of %s, so that nobody can say whether its signature was revoked: sign again", st.Job)
	default:
		if r := j.Revocation; r != nil {
			no("revoked-signature", "the signature of %s was revoked at %s: %s", st.Job, r.At.Format(time.RFC3339), r.Reason)
		}
		if what := j.contradicts(st); what != "" {
			no("not-on-record", "the signature is not the one that %s made: the %s differs", st.Job, what)
		}
	}
	switch p, ok, err := s.profileNamed(ctx, st.ProfileVersion); {
	case err != nil:
		return nil, err
	case !ok:
		no("unknown-profile", "there is no record of %s, so that nobody can say whether it was revoked", st.ProfileVersion)
	case p.Revocation.covers(st.SignedAt):
		no("revoked-profile", "%s was revoked for signatures made from %s on: %s; this one was made at %s",
			st.ProfileVersion, p.Revocation.From.Format(time.RFC3339), p.Revocation.Reason, st.SignedAt.Format(time.RFC3339))
	}
	return why, nil
}

// contradicts says which part of a statement is not what j signed, "" if none.
// It is what keeps a stolen key from dating its work to before a revocation,
// under the name of a job that there was.
func (j Job) contradicts(st countersign.Statement) string {
	switch {
	case j.SignedAt.IsZero():
		return "job's progress" // it has signed nothing yet
	case (Profile{Account: j.Account, Region: j.Region, Name: j.Profile, Version: j.Version}).VersionARN() != st.ProfileVersion:
		return "signing profile version"
	case !st.SignedAt.Equal(j.SignedAt):
		return "signing time"
	case !st.Expires.Equal(j.Expires):
		return "expiry"
	case st.Strict != nil && st.Strict.String() != j.Content:
		return "content"
	}
	return ""
}

// jobNamed finds the job an ARN names, in whichever account and region.
func (s *Service) jobNamed(ctx context.Context, resource string) (Job, bool, error) {
	sc, id, ok := named(resource, "/signing-jobs/")
	if !ok || !jobID.MatchString(id) {
		return Job{}, false, nil
	}
	j, ok, err := sure(ctx, s.jobs, store.Key(sc.Account, sc.Region, id))
	if err != nil {
		return Job{}, false, fmt.Errorf("find %s: %w", resource, err)
	}
	return j, ok, nil
}

// profileNamed finds the profile whose version an ARN names.
func (s *Service) profileNamed(ctx context.Context, resource string) (Profile, bool, error) {
	sc, rest, ok := named(resource, "/signing-profiles/")
	name, version, versioned := strings.Cut(rest, "/")
	if !ok || !versioned {
		return Profile{}, false, nil
	}
	p, ok, err := sure(ctx, s.profiles, profileKey(sc, name))
	if err != nil {
		return Profile{}, false, fmt.Errorf("find %s: %w", resource, err)
	}
	return p, ok && p.Version == version, nil
}

// named takes a signer ARN of a kind apart.
func named(resource, kind string) (sc Scope, rest string, ok bool) {
	a, err := countersign.ParseARN(resource)
	if err != nil || a.Partition != "aws" || a.Service != "signer" || a.Region == "" || a.Account == "" {
		return Scope{}, "", false
	}
	rest, ok = strings.CutPrefix(a.Resource, kind)
	return Scope{a.Account, a.Region}, rest, ok && rest != ""
}

// sure reads a document from the view while the view is known to be whole, and
// from the store when it is not, or does not have the document. A revocation
// that the view missed must not be missed here.
func sure[T any](ctx context.Context, d *store.Docs[T], key string) (T, bool, error) {
	if v, _, ok := d.Get(key); ok && d.Err() == nil {
		return v, true, nil
	}
	v, err := fresh(ctx, d, key)
	if errors.Is(err, store.ErrNotFound) {
		return v, false, nil
	}
	return v, err == nil, err
}

// A RevocationQuery asks about everything a container image's signature stands
// on.
type RevocationQuery struct {
	Platform       string
	ProfileVersion string    // ARN
	Job            string    // ARN
	SignedAt       time.Time // by the signature's authentic timestamp
	Certificates   []string  // for each of the chain: hash of it and hash of its issuer
}

// certificateHash is SHA-384 twice, in hex: of what is signed in a certificate
// and in its issuer's.
var certificateHash = regexp.MustCompile(`^[0-9a-fA-F]{192}$`)

// RevokedEntities returns those of the names in q that are revoked, in q's
// words. Any account may ask about any: verifiers are other people.
//
// Only the Notation platform is asked about this way, by AWS's rule. What this
// platform does not know is not among the revoked, unlike in [Service.Revoked]:
// the answer here is a list of revocations, and there is none. Certificates
// are never among them, either: nothing revokes a certificate of this
// authority; what is revoked is the profile version that it speaks for.
func (s *Service) RevokedEntities(ctx context.Context, q RevocationQuery) ([]string, error) {
	if q.Platform != NotationPlatform {
		return nil, countersign.Errorf(countersign.Invalid, "Invalid platformId: %s", q.Platform)
	}
	if _, rest, ok := named(q.ProfileVersion, "/signing-profiles/"); !ok || strings.Count(rest, "/") != 1 {
		return nil, countersign.Errorf(countersign.Invalid, "Invalid profileVersionArn: %s", q.ProfileVersion)
	}
	if _, _, ok := named(q.Job, "/signing-jobs/"); !ok {
		return nil, countersign.Errorf(countersign.Invalid, "Invalid jobArn: %s", q.Job)
	}
	// A hash that cannot be one is refused: "not revoked" would be taken for
	// an answer about the certificate that was meant.
	if i := slices.IndexFunc(q.Certificates, func(h string) bool { return !certificateHash.MatchString(h) }); i >= 0 {
		return nil, countersign.Errorf(countersign.Invalid, "Invalid certificateHashes: member %d is not two SHA-384 hashes in hex", i+1)
	}
	revoked := []string{}
	p, ok, err := s.profileNamed(ctx, q.ProfileVersion)
	if err != nil {
		return nil, err
	}
	if ok && p.Revocation.covers(q.SignedAt) {
		revoked = append(revoked, q.ProfileVersion)
	}
	j, ok, err := s.jobNamed(ctx, q.Job)
	if err != nil {
		return nil, err
	}
	if ok && j.Revocation != nil {
		revoked = append(revoked, q.Job)
	}
	return revoked, nil
}
