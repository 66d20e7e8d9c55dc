package countersign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxCertificates = 10 // AWS's chains have four or five
	maxAttributes   = 32 // AWS's signatures have seven
)

// A Signature is a signature file taken apart. Nothing in it is verified: it
// says what somebody claims. [Verify] turns it into [Evidence].
type Signature struct {
	// Statement's Content is zero: a signature holds only the hash of it,
	// which Covers compares.
	Statement Statement
	// Chain starts with the certificate the signature names as its signer's;
	// the others follow, each after the one it issued as far as that goes.
	Chain []*x509.Certificate

	messageDigest [sha512.Size384]byte
	signed        []byte // the DER the signature is over
	signature     []byte // ASN.1 DER, r and s
}

// Covers reports whether the signature is over that content digest. It says
// nothing about who made it.
func (s *Signature) Covers(content ContentDigest) bool {
	h := sha512.Sum384(content[:])
	return subtle.ConstantTimeCompare(h[:], s.messageDigest[:]) == 1
}

// signedByLeaf reports whether the key in Chain[0] made the signature.
func (s *Signature) signedByLeaf() bool {
	pub, ok := s.Chain[0].PublicKey.(*ecdsa.PublicKey)
	h := sha512.Sum384(s.signed)
	return ok && ecdsa.VerifyASN1(pub, h[:], s.signature)
}

// ParseSignature takes a signature file apart: one PEM block labelled PKCS7
// holding a CMS SignedData in DER or BER. The error says what is not in AWS
// Signer's format; it is no *[Refusal], that is [Verify]'s to make.
//
// It accepts exactly one signer, SHA-384 with ECDSA, no attached content, at
// most ten certificates, and signed attributes that each appear once with one
// value. Attributes it does not know are covered by the signature and ignored;
// what nobody signed (unsigned attributes, revocation lists) is not read.
func ParseSignature(sf []byte) (*Signature, error) {
	s, err := parseSignature(sf)
	if err != nil {
		return nil, fmt.Errorf("parse signature: %w", err)
	}
	return s, nil
}

func parseSignature(sf []byte) (*Signature, error) {
	if len(sf) > maxSignatureBytes {
		return nil, fmt.Errorf("%d bytes are more than the limit of %d", len(sf), maxSignatureBytes)
	}
	// pem.Decode skips whatever comes before a block it can read, broken
	// blocks included; here there is nothing to skip.
	block, rest := pem.Decode(sf)
	if block == nil || block.Type != pemType || len(block.Headers) > 0 ||
		!bytes.HasPrefix(sf, []byte(pemBegin)) || bytes.Count(sf, []byte(pemBegin)) != 1 {
		return nil, errors.New("it is not one PEM block with the label " + pemType)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("something follows the PEM block")
	}
	b, err := toDER(block.Bytes)
	if err != nil {
		return nil, err
	}

	top := &derReader{b: b}
	info := top.inside(tagSequence, "ContentInfo")
	if err := top.done("ContentInfo"); err != nil {
		return nil, err
	}
	if !bytes.Equal(info.next(tagOID, "content type").body, oidSignedData) && info.err == nil {
		return nil, errors.New("it is not CMS SignedData")
	}
	explicit := info.inside(tagContext0, "content")
	if err := info.done("ContentInfo"); err != nil {
		return nil, err
	}
	sd := explicit.inside(tagSequence, "SignedData")
	if err := explicit.done("content"); err != nil {
		return nil, err
	}
	return parseSignedData(sd)
}

// parseSignedData reads the fields of SignedData (RFC 5652, 5.1).
func parseSignedData(sd *derReader) (*Signature, error) {
	version := sd.next(tagInteger, "version")
	algs := sd.inside(tagSet, "digest algorithms")
	alg := algs.next(tagSequence, "digest algorithm")
	content := sd.inside(tagSequence, "content")
	contentType := content.next(tagOID, "content type")
	certs := sd.inside(tagContext0, "certificates")
	sd.maybe(tagContext1, "revocation lists")
	signers := sd.inside(tagSet, "signers")
	signer := signers.inside(tagSequence, "signer")
	for _, r := range []struct {
		r    *derReader
		what string
	}{{sd, "SignedData"}, {algs, "digest algorithms"}, {content, "detached content"}, {signers, "signers"}} {
		if err := r.r.done(r.what); err != nil {
			return nil, err
		}
	}
	switch {
	case !isOne(version):
		return nil, errors.New("SignedData is not version 1")
	case !isAlgorithm(alg.body, oidSHA384):
		return nil, errors.New("the digest algorithm is not SHA-384")
	case !bytes.Equal(contentType.body, oidData):
		return nil, errors.New("the content is not id-data")
	}
	s := &Signature{}
	all, err := parseCertificates(certs)
	if err != nil {
		return nil, err
	}
	if err := s.parseSigner(signer, all); err != nil {
		return nil, err
	}
	return s, nil
}

func isOne(e tlv) bool { return len(e.body) == 1 && e.body[0] == 1 }

// isAlgorithm reports whether the content of an AlgorithmIdentifier is id with
// parameters absent or NULL; readers "MUST accept" both (RFC 5754, 2).
func isAlgorithm(b, id []byte) bool {
	rest, ok := bytes.CutPrefix(b, der(tagOID, id))
	return ok && (len(rest) == 0 || bytes.Equal(rest, []byte{tagNull, 0}))
}

func parseCertificates(r *derReader) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for r.err == nil && len(r.b) > 0 {
		e := r.next(tagSequence, "certificate")
		if r.err != nil {
			break
		}
		if len(all) == maxCertificates {
			return nil, fmt.Errorf("there are more than %d certificates", maxCertificates)
		}
		c, err := x509.ParseCertificate(e.full)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
		}
		for _, d := range all {
			if c.Equal(d) {
				return nil, fmt.Errorf("certificate %d is there twice", len(all)+1)
			}
		}
		all = append(all, c)
	}
	return all, r.done("certificates")
}

// parseSigner reads SignerInfo (RFC 5652, 5.3).
func (s *Signature) parseSigner(r *derReader, all []*x509.Certificate) error {
	version := r.next(tagInteger, "signer version")
	sid := r.inside(tagSequence, "signer identifier")
	issuer := sid.next(tagSequence, "issuer")
	serial := sid.next(tagInteger, "serial number")
	digestAlg := r.next(tagSequence, "signer's digest algorithm")
	attrs := r.inside(tagContext0, "signed attributes")
	sigAlg := r.next(tagSequence, "signature algorithm")
	sig := r.next(tagOctets, "signature")
	r.maybe(tagContext1, "unsigned attributes")
	if err := r.done("signer"); err != nil {
		return err
	}
	if err := sid.done("signer identifier"); err != nil {
		return err
	}
	switch {
	case !isOne(version):
		return errors.New("the signer is not version 1")
	case !isAlgorithm(digestAlg.body, oidSHA384):
		return errors.New("the signer's digest algorithm is not SHA-384")
	case !isAlgorithm(sigAlg.body, oidECDSASHA384):
		return errors.New("the signature algorithm is not ECDSA with SHA-384")
	}
	s.signature = sig.body

	leaf := -1
	for i, c := range all {
		if bytes.Equal(c.RawIssuer, issuer.full) && bytes.Equal(derInteger(c.SerialNumber), serial.full) {
			if leaf >= 0 {
				return errors.New("two certificates could be the signer's")
			}
			leaf = i
		}
	}
	if leaf < 0 {
		return errors.New("the signer's certificate is missing")
	}
	s.Chain = inOrder(all, leaf)
	return s.parseAttributes(attrs)
}

// inOrder puts the leaf first and after each certificate its issuer, if it is
// there; the others come last.
func inOrder(all []*x509.Certificate, leaf int) []*x509.Certificate {
	out := make([]*x509.Certificate, 0, len(all))
	used := make([]bool, len(all))
	for i := leaf; i >= 0; {
		out, used[i] = append(out, all[i]), true
		next := -1
		for j, c := range all {
			if !used[j] && next < 0 && bytes.Equal(c.RawSubject, all[i].RawIssuer) {
				next = j
			}
		}
		i = next
	}
	for i, c := range all {
		if !used[i] {
			out = append(out, c)
		}
	}
	return out
}

// parseAttributes reads the signed attributes and puts them back together as
// the bytes that were signed: "a separate encoding of the signedAttrs field is
// performed [...] DER" (RFC 5652, 5.4), whatever order they came in.
func (s *Signature) parseAttributes(r *derReader) error {
	values := map[string]tlv{}
	var encoded [][]byte
	for r.err == nil && len(r.b) > 0 {
		e := r.next(tagSequence, "signed attribute")
		a := &derReader{b: e.body, err: r.err}
		id := string(a.next(tagOID, "attribute type").body)
		set := a.inside(tagSet, "attribute values")
		value, rest, err := readTLV(set.b)
		switch {
		case a.done("attribute") != nil:
			return a.err
		case err != nil || len(rest) > 0:
			return errors.New("a signed attribute does not have exactly one value")
		case len(encoded) == maxAttributes:
			return fmt.Errorf("there are more than %d signed attributes", maxAttributes)
		}
		if _, ok := values[id]; ok {
			return errors.New("a signed attribute is there twice")
		}
		values[id] = value
		encoded = append(encoded, e.full)
	}
	if r.err != nil {
		return r.err
	}
	s.signed = derSetOf(encoded...)

	var first error
	need := func(id []byte, tag byte, what string, read func(b []byte) error) {
		v, ok := values[string(id)]
		var err error
		switch {
		case !ok:
			err = errors.New("missing")
		case v.tag != tag:
			err = fmt.Errorf("unexpected tag %#02x", v.tag)
		default:
			err = read(v.body)
		}
		if err != nil && first == nil {
			first = fmt.Errorf("signed attribute %s: %w", what, err)
		}
	}
	need(oidContentType, tagOID, "contentType", func(b []byte) error {
		if !bytes.Equal(b, oidData) {
			return errors.New("not id-data")
		}
		return nil
	})
	need(oidMessageDigest, tagOctets, "messageDigest", digestInto(&s.messageDigest))
	need(oidSigningTime, tagGeneralized, "signingTime", timeInto(&s.Statement.SignedAt))
	need(oidExpiry, tagGeneralized, "expiry", timeInto(&s.Statement.Expires))
	need(oidSigningJob, tagUTF8, "signing job", textInto(&s.Statement.Job))
	need(oidProfileVersion, tagUTF8, "signing profile version", textInto(&s.Statement.ProfileVersion))
	if _, ok := values[string(oidAlgProtection)]; ok {
		need(oidAlgProtection, tagSequence, "algorithm protection", checkProtection)
	}
	if _, ok := values[string(oidStrict)]; ok {
		s.Statement.Strict = new(ContentDigest)
		need(oidStrict, tagOctets, "strict digest", digestInto((*[sha512.Size384]byte)(s.Statement.Strict)))
	}
	if first != nil {
		return first
	}
	return s.Statement.check()
}

func digestInto(d *[sha512.Size384]byte) func([]byte) error {
	return func(b []byte) error {
		if len(b) != len(d) {
			return fmt.Errorf("%d bytes where a SHA-384 has %d", len(b), len(d))
		}
		copy(d[:], b)
		return nil
	}
}

func timeInto(t *time.Time) func([]byte) error {
	return func(b []byte) (err error) {
		*t, err = parseTime(b)
		return err
	}
}

func textInto(s *string) func([]byte) error {
	return func(b []byte) error {
		if len(b) > 1024 || !utf8.Valid(b) || bytes.ContainsFunc(b, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return errors.New("not a line of text")
		}
		*s = string(b)
		return nil
	}
}

// checkProtection holds the algorithms that were signed against those that
// were used, which parseSigner has pinned (RFC 6211, 2).
func checkProtection(b []byte) error {
	r := &derReader{b: b}
	digest := r.next(tagSequence, "digest algorithm")
	sig := r.next(tagContext1, "signature algorithm")
	if err := r.done("algorithm protection"); err != nil {
		return err
	}
	if !isAlgorithm(digest.body, oidSHA384) || !isAlgorithm(sig.body, oidECDSASHA384) {
		return errors.New("the algorithms signed are not the ones used")
	}
	return nil
}
