package sign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"time"

	"countersign"
)

const (
	// A leaf key signs for a day and its certificate is valid for a week. The
	// signature outlives both: a verifier judges the chain at signing time.
	leafUse  = 24 * time.Hour
	leafLife = 7 * 24 * time.Hour
	// maxLeaves bounds the memory of leaves that nobody uses any more.
	maxLeaves = 4096
)

// A leaf signs in the name of one profile version. Its key is born in memory
// and dies there, with the process or after leafUse; nothing needs it again,
// because what it signed carries its certificate.
//
// One leaf per profile version and day, not one per signature: a fresh key and
// certificate each time would be two P-384 scalar multiplications and one more
// signature for every one that counts, a third of the rate, and would buy
// nothing, since both keys would lie in the same memory at the same time.
type leaf struct {
	key      crypto.Signer
	chain    []*x509.Certificate // leaf, intermediate, root
	from, to time.Time           // when it may sign: inside every certificate of the chain
}

func (l *leaf) signsAt(t time.Time) bool { return !t.Before(l.from) && t.Before(l.to) }

// Sign makes the signature file for st with the leaf of st.ProfileVersion.
// st.SignedAt must be the present: the leaf is chosen by it.
func (a *Authority) Sign(ctx context.Context, st countersign.Statement) ([]byte, error) {
	l, err := a.leafFor(ctx, st.ProfileVersion, st.SignedAt)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", st.ProfileVersion, err)
	}
	sf, err := st.Sign(rand.Reader, l.key, l.chain)
	if err != nil {
		return nil, fmt.Errorf("sign for %s: %w", st.ProfileVersion, err)
	}
	return sf, nil
}

func (a *Authority) leafFor(ctx context.Context, version string, at time.Time) (*leaf, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.leaves[version]; l != nil && l.signsAt(at) {
		return l, nil
	}
	if err := a.renewIssuer(ctx); err != nil {
		return nil, err
	}
	l, err := a.issueLeaf(version, at)
	if err != nil {
		return nil, err
	}
	if len(a.leaves) >= maxLeaves {
		a.forget(at)
	}
	a.leaves[version] = l
	return l, nil
}

// forget makes room: leaves past their use, and if there are none, any one.
// Called with mu held.
func (a *Authority) forget(at time.Time) {
	for v, l := range a.leaves {
		if !l.signsAt(at) {
			delete(a.leaves, v)
		}
	}
	for v := range a.leaves {
		if len(a.leaves) < maxLeaves {
			return
		}
		delete(a.leaves, v)
	}
}

// issueLeaf is called with mu held.
func (a *Authority) issueLeaf(version string, at time.Time) (*leaf, error) {
	name, err := countersign.ParseARN(version)
	if err != nil {
		return nil, err
	}
	san, err := url.Parse(version)
	if err != nil {
		return nil, fmt.Errorf("profile version as URI: %w", err)
	}
	ca := a.issuer.cert
	from := at.UTC().Truncate(time.Second) // certificates know whole seconds
	to := earlier(from.Add(leafLife), ca.NotAfter)
	for _, c := range []*x509.Certificate{ca, a.root} {
		if from.Before(c.NotBefore) || !from.Before(c.NotAfter) {
			return nil, fmt.Errorf("the clock says %s, but %s is valid from %s to %s: set the clock", from.Format(time.RFC3339),
				c.Subject.CommonName, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	// The profile version stands in the certificate, too: this key speaks for
	// no other, whatever a statement signed with it may say.
	t := &x509.Certificate{
		Subject:               subject(a.root.Subject.OrganizationalUnit[0], "Countersign signer "+lastPart(name.Resource)),
		URIs:                  []*url.URL{san},
		NotBefore:             from,
		NotAfter:              to,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
	}
	cert, err := issue(t, ca, key.Public(), a.issuer.key)
	if err != nil {
		return nil, err
	}
	return &leaf{
		key:   key,
		chain: []*x509.Certificate{cert, ca, a.root},
		from:  from,
		to:    earlier(from.Add(leafUse), to),
	}, nil
}

// lastPart is the profile version's own ten characters.
func lastPart(resource string) string {
	for i := len(resource) - 1; i >= 0; i-- {
		if resource[i] == '/' {
			return resource[i+1:]
		}
	}
	return resource
}

// subjectPublicKey returns the BIT STRING of a SubjectPublicKeyInfo.
func subjectPublicKey(spki []byte) ([]byte, error) {
	var s struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &s); err != nil || len(rest) != 0 {
		return nil, errors.New("public key has no SubjectPublicKeyInfo form")
	}
	return s.Key.Bytes, nil
}
