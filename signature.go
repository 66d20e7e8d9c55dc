package countersign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"
)

// The object identifiers of the signature, as content octets.
var (
	oidData           = oid(1, 2, 840, 113549, 1, 7, 1)     // id-data (RFC 5652, 4)
	oidSignedData     = oid(1, 2, 840, 113549, 1, 7, 2)     // id-signedData (RFC 5652, 5.1)
	oidContentType    = oid(1, 2, 840, 113549, 1, 9, 3)     // (RFC 5652, 11.1)
	oidMessageDigest  = oid(1, 2, 840, 113549, 1, 9, 4)     // (RFC 5652, 11.2)
	oidSigningTime    = oid(1, 2, 840, 113549, 1, 9, 5)     // (RFC 5652, 11.3)
	oidAlgProtection  = oid(1, 2, 840, 113549, 1, 9, 52)    // (RFC 6211, 2)
	oidSHA384         = oid(2, 16, 840, 1, 101, 3, 4, 2, 2) // (RFC 5754, 2.3)
	oidECDSASHA384    = oid(1, 2, 840, 10045, 4, 3, 3)      // (RFC 5758, 3.2)
	oidSigningJob     = oid(1, 3, 187, 137, 1, 2)           // AWS Signer
	oidExpiry         = oid(1, 3, 187, 137, 1, 3)           // AWS Signer
	oidProfileVersion = oid(1, 3, 187, 137, 1, 4)           // AWS Signer

	// oidStrict is ours: an OCTET STRING holding [Digests.Strict]. It is the
	// UUID 5d1c8a3e-94f7-4b62-8d0e-c2a76f31b954 under the arc Microsoft gives
	// away for UUIDs cut into small numbers. The plainer 2.25.UUID has a
	// 128-bit number in it, on which many parsers (Go's encoding/asn1 and
	// what is built on it) give up, and with it on the whole signature.
	oidStrict = oid(1, 2, 840, 113556, 1, 8000, 2554, 0x5d1c, 0x8a3e, 0x94f7, 0x4b62, 0x8d0e, 0xc2a76f, 0x31b954)
)

// A Statement is what a signer says of an archive.
type Statement struct {
	Job            string    // ARN of the signing job
	ProfileVersion string    // ARN of the signing profile, version included
	SignedAt       time.Time // to the millisecond; the chain is judged at this time
	Expires        time.Time // to the millisecond
	// Content is the digest the signature covers. A signature holds only its
	// hash, so in a parsed one that nobody verified it is zero.
	Content ContentDigest
	// Strict is nil in a foreign signature: only Countersign makes it.
	Strict *ContentDigest
}

// check says what keeps s from being a statement.
func (s Statement) check() error {
	if err := checkSignerARN(s.Job, "/signing-jobs/", 1); err != nil {
		return fmt.Errorf("signing job: %w", err)
	}
	if err := checkSignerARN(s.ProfileVersion, "/signing-profiles/", 2); err != nil {
		return fmt.Errorf("signing profile version: %w", err)
	}
	if s.SignedAt.IsZero() {
		return errors.New("the signing time is missing") // to crypto/x509 it would mean now
	}
	if !s.Expires.After(s.SignedAt) {
		return fmt.Errorf("the signature expires at %s, not after it was made at %s", stamp(s.Expires), stamp(s.SignedAt))
	}
	return nil
}

// checkSignerARN holds s against arn:P:signer:R:A:prefix plus a number of
// parts.
func checkSignerARN(s, prefix string, parts int) error {
	a, err := ParseARN(s)
	if err != nil {
		return err
	}
	rest, ok := strings.CutPrefix(a.Resource, prefix)
	if !ok || a.Service != "signer" || a.Region == "" || a.Account == "" {
		return fmt.Errorf("%q does not name one", s)
	}
	p := strings.Split(rest, "/")
	if len(p) != parts || p[0] == "" || p[len(p)-1] == "" {
		return fmt.Errorf("%q does not name one", s)
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Sign makes the signature file of s: PEM, label PKCS7, around a DER CMS
// SignedData, detached, with ECDSA on P-384 and SHA-384. The chain goes from
// the signer's certificate to the self-signed root, which is put in as well.
// Everything but the signature's own randomness is decided by the arguments.
//
// Sign refuses what Verify would: a key that is not the leaf's, a leaf that
// may not sign code or was not valid at SignedAt, a broken chain. It looks at
// names and keys; whether each certificate's signature is good is left to
// Verify, which would cost more than the signing.
func (s Statement) Sign(rand io.Reader, key crypto.Signer, chain []*x509.Certificate) (sf []byte, err error) {
	s.SignedAt, s.Expires = s.SignedAt.UTC().Truncate(time.Millisecond), s.Expires.UTC().Truncate(time.Millisecond)
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if err := checkSigningChain(key, chain, s.SignedAt); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	attrs := derSetOf(s.attributes()...)
	hash := sha512.Sum384(attrs)
	sig, err := key.Sign(rand, hash[:], crypto.SHA384)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	leaf := chain[0]
	raw := make([][]byte, len(chain))
	for i, c := range chain {
		raw[i] = c.Raw
	}
	// "The signedAttrs [...] IMPLICIT [0] tag [...] is not used for the DER
	// encoding, rather an EXPLICIT SET OF tag is used" (RFC 5652, 5.4).
	tagged := bytes.Clone(attrs)
	tagged[0] = tagContext0
	certs := derSetOf(raw...)
	certs[0] = tagContext0
	signer := der(tagSequence,
		der(tagInteger, []byte{1}),
		der(tagSequence, leaf.RawIssuer, derInteger(leaf.SerialNumber)),
		algSHA384, tagged, algECDSASHA384, der(tagOctets, sig))
	signed := der(tagSequence,
		der(tagInteger, []byte{1}),
		der(tagSet, algSHA384),
		der(tagSequence, der(tagOID, oidData)),
		certs,
		der(tagSet, signer))
	cms := der(tagSequence, der(tagOID, oidSignedData), der(tagContext0, signed))
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: cms}), nil
}

const (
	pemType  = "PKCS7"
	pemBegin = "-----BEGIN " + pemType + "-----"
)

// AlgorithmIdentifiers with parameters absent, as RFC 5754 and RFC 5758 ask.
var (
	algSHA384      = der(tagSequence, der(tagOID, oidSHA384))
	algECDSASHA384 = der(tagSequence, der(tagOID, oidECDSASHA384))
)

// attributes encodes the signed attributes.
func (s Statement) attributes() [][]byte {
	inner := sha512.Sum384(s.Content[:]) // the detached content is the digest itself
	attr := func(id, value []byte) []byte {
		return der(tagSequence, der(tagOID, id), der(tagSet, value))
	}
	list := [][]byte{
		attr(oidContentType, der(tagOID, oidData)),
		attr(oidMessageDigest, der(tagOctets, inner[:])),
		attr(oidSigningTime, derTime(s.SignedAt)),
		// The signature algorithm is IMPLICIT [1] (RFC 6211, 2).
		attr(oidAlgProtection, der(tagSequence, algSHA384, der(tagContext1, der(tagOID, oidECDSASHA384)))),
		attr(oidSigningJob, der(tagUTF8, []byte(s.Job))),
		attr(oidExpiry, derTime(s.Expires)),
		attr(oidProfileVersion, der(tagUTF8, []byte(s.ProfileVersion))),
	}
	if s.Strict != nil {
		list = append(list, attr(oidStrict, der(tagOctets, s.Strict[:])))
	}
	return list
}

// derInteger encodes a serial number.
func derInteger(n *big.Int) []byte {
	b := n.Bytes()
	if len(b) == 0 || b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return der(tagInteger, b)
}

func checkSigningChain(key crypto.Signer, chain []*x509.Certificate, at time.Time) error {
	if len(chain) < 2 || len(chain) > maxCertificates {
		return fmt.Errorf("a chain has 2 to %d certificates, not %d", maxCertificates, len(chain))
	}
	leaf := chain[0]
	if problems := leafProblems(leaf, at); len(problems) > 0 {
		return errors.New(problems[0].detail)
	}
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || !pub.Equal(leaf.PublicKey) {
		return errors.New("the key is not the one in the signer's certificate")
	}
	for i, c := range chain {
		issuer := chain[min(i+1, len(chain)-1)]
		if !bytes.Equal(c.RawIssuer, issuer.RawSubject) {
			return fmt.Errorf("certificate %d of the chain was not issued by the next", i+1)
		}
		if c.SerialNumber.Sign() <= 0 {
			return fmt.Errorf("certificate %d of the chain has no positive serial number", i+1)
		}
	}
	return nil
}

// A problem is a reason in the making.
type problem struct{ code, detail string }

// leafProblems says why a certificate may not sign code archives at a time.
func leafProblems(leaf *x509.Certificate, at time.Time) (out []problem) {
	add := func(code, format string, args ...any) {
		out = append(out, problem{code, fmt.Sprintf(format, args...)})
	}
	if pub, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P384() {
		add("leaf-key", "the signer's key is not ECDSA on P-384")
	}
	if leaf.IsCA {
		add("leaf-usage", "the signer's certificate is a certificate authority's")
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		add("leaf-usage", "the signer's certificate is not for digital signatures")
	}
	code := false
	for _, u := range leaf.ExtKeyUsage {
		code = code || u == x509.ExtKeyUsageCodeSigning // "any" is not enough
	}
	if !code {
		add("leaf-usage", "the signer's certificate is not for code signing")
	}
	if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
		add("leaf-time", "signed at %s, outside the certificate's validity from %s to %s", stamp(at), stamp(leaf.NotBefore), stamp(leaf.NotAfter))
	}
	return out
}
