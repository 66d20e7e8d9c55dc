package countersign

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"time"
)

// Evidence is a signature that holds: it is whole, was made under a pinned
// root, and covers every byte of one archive. Only [Verify] makes one.
//
// It does not say that the signature is in force now ([Evidence.Expired]),
// that its publisher is allowed here, or that nothing was revoked.
type Evidence struct {
	statement Statement
	chain     []*x509.Certificate
	root      Root
	digests   Digests
}

// Statement is what was signed: job, profile version, times and digests.
func (e *Evidence) Statement() Statement {
	s := e.statement
	if s.Strict != nil {
		s.Strict = new(*s.Strict)
	}
	return s
}

// Chain goes from the signer's certificate to the pinned root. The caller
// must not change the certificates.
func (e *Evidence) Chain() []*x509.Certificate { return append([]*x509.Certificate(nil), e.chain...) }

// Root is the pinned root the chain ends in.
func (e *Evidence) Root() Root { return e.root }

// Digests are the archive's, computed by Verify.
func (e *Evidence) Digests() Digests { return e.digests }

// clockSkew is how far ahead of ours a signer's clock may be.
const clockSkew = 5 * time.Minute

// Expired reports whether the signature is not in force at a time: at or
// after its expiry (code "expired"), or more than five minutes before it was
// made (code "not-yet-valid"). The Reason is under [CheckExpiry].
func (e *Evidence) Expired(at time.Time) (Reason, bool) {
	no := refusing(CheckExpiry)
	switch s := e.statement; {
	case !at.Before(s.Expires):
		no.add("expired", "the signature expired at %s; the time is %s", stamp(s.Expires), stamp(at))
	case at.Add(clockSkew).Before(s.SignedAt):
		no.add("not-yet-valid", "the signature was made at %s; the time is %s", stamp(s.SignedAt), stamp(at))
	default:
		return Reason{}, false
	}
	return no.list[0], true
}

// Verify checks the integrity of a signed archive against t and nothing else:
// no clock, no network, nothing the archive says about whom to trust. An
// archive without a signature gives ErrUnsigned.
//
// A *[Refusal] holds every reason found. Under [CheckIntegrity] the codes are
//
//	signature-file    the signature file is not a small regular file
//	signature-twin    another entry could be taken for it
//	signature-format  it is not AWS Signer's format; nothing more can be said
//	signature         the signer's key did not make it
//	chain             no chain to a pinned root was valid when it was made
//	leaf-key          the signer's key is not ECDSA on P-384
//	leaf-usage        the signer's certificate is not for signing code
//	leaf-time         it was not valid when the signature was made
//	content           the archive is not the one that was signed
//	strict            modes, sizes or boundaries are not what was signed
//	strict-missing    the root demands a strict digest and there is none
//
// and bodies that belie the directory have the codes of [Archive.Digests],
// under [CheckArchive]. Any other error means that r could not be read.
//
// The chain is judged at the time of signing, as the signature tells it: the
// signer's certificate lives for days, the signature for years. So whoever
// steals a signer's key can date a signature back to when its certificate was
// valid. Revocation and the record of signatures answer that, not Verify.
func Verify(ctx context.Context, a *Archive, t Trust) (*Evidence, error) {
	sf, err := a.Signature()
	no := refusing(CheckIntegrity)
	if err := no.take(err); err != nil {
		return nil, err
	}
	if !no.none() {
		return nil, no.err()
	}
	sig, err := ParseSignature(sf)
	if err != nil {
		no.add("signature-format", "%v", err)
		return nil, no.err()
	}

	ev := &Evidence{statement: sig.Statement}
	if !sig.signedByLeaf() {
		no.add("signature", "the signature was not made by the key of %s", quoted(sig.Chain[0].Subject.String()))
	}
	for _, p := range leafProblems(sig.Chain[0], sig.Statement.SignedAt) {
		no.add(p.code, "%s", p.detail)
	}
	ev.chain, ev.root, err = followChain(sig, t)
	if err != nil {
		no.add("chain", "%v", err)
	}

	ev.digests, err = a.Digests(ctx)
	if err != nil {
		if err := no.take(err); err != nil {
			return nil, err
		}
		return nil, no.err() // without digests there is nothing to compare
	}
	if !sig.Covers(ev.digests.Content) {
		no.add("content", "the archive's names or contents are not what was signed")
	}
	switch want := sig.Statement.Strict; {
	case want == nil && ev.root.RequireStrict:
		no.add("strict-missing", "%s demands a strict digest and the signature has none", quoted(ev.root.Cert.Subject.String()))
	case want != nil && subtle.ConstantTimeCompare(want[:], ev.digests.Strict[:]) != 1:
		no.add("strict", "the archive's entries (names, modes, sizes or contents) are not what was signed")
	}
	if err := no.err(); err != nil {
		return nil, err
	}
	ev.statement.Content = ev.digests.Content
	return ev, nil
}

// followChain builds the chain from the signer's certificate to a pinned root,
// valid when the signature was made. The package's own certificates are links
// only; a root among them proves nothing. Where several roots are reached, one
// that demands a strict digest wins, so that no choice of links avoids it.
func followChain(sig *Signature, t Trust) ([]*x509.Certificate, Root, error) {
	roots, links := x509.NewCertPool(), x509.NewCertPool() // never nil: nil would mean the system's roots
	for _, r := range t.Roots {
		roots.AddCert(r.Cert)
	}
	for _, c := range sig.Chain[1:] {
		links.AddCert(c)
	}
	chains, err := sig.Chain[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: links,
		CurrentTime:   sig.Statement.SignedAt,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	})
	if err != nil {
		return nil, Root{}, fmt.Errorf("no chain to a trusted root held when the signature was made at %s: %w", stamp(sig.Statement.SignedAt), err)
	}
	var chain []*x509.Certificate
	var root Root
	for _, c := range chains {
		for _, r := range t.Roots {
			if r.Cert.Equal(c[len(c)-1]) && (chain == nil || r.RequireStrict && !root.RequireStrict) {
				chain, root = c, r
			}
		}
	}
	if chain == nil {
		return nil, Root{}, fmt.Errorf("the chain ends in no pinned root")
	}
	return chain, root, nil
}
