package countersign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

func someStatement() Statement {
	return Statement{
		Job: testJob, ProfileVersion: testProfile,
		SignedAt: signedAt, Expires: signedAt.AddDate(0, 135, 0),
		Content: ContentDigest{1, 2, 3}, Strict: &ContentDigest{4, 5, 6},
	}
}

func (p *pki) mustSign(t testing.TB, s Statement) []byte {
	t.Helper()
	sf, err := s.Sign(rand.Reader, p.leafKey, p.chain())
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	return sf
}

func cmsOf(t testing.TB, sf []byte) []byte {
	t.Helper()
	b, _ := pem.Decode(sf)
	if b == nil {
		t.Fatal("no PEM")
	}
	return b.Bytes
}

func sfOf(cms []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: cms}) }

func TestSignatureRoundTrip(t *testing.T) {
	t.Parallel()
	// A serial number of 20 bytes with the top bit set needs one more in DER.
	p := newPKI(t, func(c *x509.Certificate) {
		c.SerialNumber = new(big.Int).SetBytes(append([]byte{0x80}, make([]byte, 18)...))
	})
	want := someStatement()
	s, err := ParseSignature(p.mustSign(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if !s.Covers(want.Content) || s.Covers(ContentDigest{1, 2}) {
		t.Error("Covers is wrong about the content")
	}
	want.Content = ContentDigest{}
	if !reflect.DeepEqual(s.Statement, want) {
		t.Errorf("got statement %+v, want %+v", s.Statement, want)
	}
	if got := s.Chain; len(got) != 3 || !got[0].Equal(p.leaf) || !got[1].Equal(p.regional) || !got[2].Equal(p.root) {
		t.Errorf("got a chain of %d that is not leaf, regional, root", len(got))
	}
	if !s.signedByLeaf() {
		t.Error("the leaf's signature does not verify")
	}
}

// Everything but ECDSA's own choice is decided by the statement: with RFC 6979
// (a nil source of randomness) the whole file is.
func TestSignIsDeterministic(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	var first []byte
	for range 3 {
		sf, err := someStatement().Sign(nil, p.leafKey, p.chain())
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, sf) {
			t.Fatal("two signatures of one statement differ")
		}
		first = sf
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	with := func(f func(*Statement)) Statement {
		s := someStatement()
		f(&s)
		return s
	}
	change := func(f func(c *x509.Certificate)) *pki { return newPKI(t, f) }
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak := issue(t, signerTemplate(), p.regional, p256.Public(), p.regionalKey)
	for name, c := range map[string]struct {
		s     Statement
		key   *ecdsa.PrivateKey
		chain []*x509.Certificate
		want  string
	}{
		"expires before signed": {with(func(s *Statement) { s.Expires = s.SignedAt }), p.leafKey, p.chain(), "expires"},
		"no time":               {with(func(s *Statement) { s.SignedAt = time.Time{} }), p.leafKey, p.chain(), "signing time"},
		"no job":                {with(func(s *Statement) { s.Job = "" }), p.leafKey, p.chain(), "signing job"},
		"job of Lambda":         {with(func(s *Statement) { s.Job = "arn:aws:lambda:us-east-1:000000000000:function:f" }), p.leafKey, p.chain(), "signing job"},
		"profile, no version":   {with(func(s *Statement) { s.ProfileVersion = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p" }), p.leafKey, p.chain(), "profile version"},
		"another's key":         {someStatement(), p.rootKey, p.chain(), "key"},
		"P-256":                 {someStatement(), p256, []*x509.Certificate{weak, p.regional, p.root}, "P-384"},
		"no chain":              {someStatement(), p.leafKey, nil, "2 to 10"},
		"leaf alone":            {someStatement(), p.leafKey, p.chain()[:1], "2 to 10"},
		"chain without root":    {someStatement(), p.leafKey, p.chain()[:2], "not issued"},
		"chain out of order":    {someStatement(), p.leafKey, []*x509.Certificate{p.leaf, p.root, p.regional}, "not issued"},
		"leaf expired":          {with(func(s *Statement) { s.SignedAt = s.SignedAt.AddDate(0, 0, 9) }), p.leafKey, p.chain(), "validity"},
	} {
		if _, err := c.s.Sign(rand.Reader, c.key, c.chain); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one about %q", name, err, c.want)
		}
	}
	for name, q := range map[string]*pki{
		"server certificate": change(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"any usage":          change(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }),
		"no usage":           change(func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
		"no key usage":       change(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }),
		"authority":          change(func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage |= x509.KeyUsageCertSign }),
	} {
		if _, err := someStatement().Sign(rand.Reader, q.leafKey, q.chain()); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// OpenSSL, which knows nothing of us, accepts the signature over the 48 bytes
// of the content digest, and refuses it over others or under another root.
func TestOpenSSLAgrees(t *testing.T) {
	t.Parallel()
	needTool(t, "openssl")
	p, other := newPKI(t), newPKI(t)
	s := someStatement()
	sf := p.mustSign(t, s)
	dir := t.TempDir()
	put := func(name string, b []byte) string {
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	inner, wrong := put("inner", s.Content[:]), put("wrong", make([]byte, 48))
	root, otherRoot := put("root.pem", p.trust().PEM()), put("other.pem", other.trust().PEM())
	for _, form := range []struct{ name, file string }{
		{"PEM", put("sig.pem", sf)},
		{"DER", put("sig.der", cmsOf(t, sf))},
		{"DER", put("sig.ber", indefinite(t, cmsOf(t, sf), false))},
	} {
		verify := func(content, ca string) error {
			out, err := exec.CommandContext(t.Context(), "openssl", "cms", "-verify", "-inform", form.name, "-in", form.file,
				"-binary", "-content", content, "-CAfile", ca, "-purpose", "any",
				"-attime", strconv.FormatInt(signedAt.Unix(), 10), "-out", os.DevNull).CombinedOutput()
			if err != nil {
				t.Logf("openssl: %s", bytes.TrimSpace(out))
			}
			return err
		}
		if err := verify(inner, root); err != nil {
			t.Errorf("%s: openssl refuses: %v", form.file, err)
		}
		if verify(wrong, root) == nil {
			t.Errorf("%s: openssl accepts other content", form.file)
		}
		if verify(inner, otherRoot) == nil {
			t.Errorf("%s: openssl accepts another root", form.file)
		}
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "cms", "-cmsout", "-print", "-inform", "PEM", "-in", filepath.Join(dir, "sig.pem")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{testJob, testProfile, "20260928091926.806Z", "ecdsa-with-SHA384", "1.3.187.137.1.2", "eContent: <ABSENT>", "signingTime"} {
		if !strings.Contains(string(out), want) && !strings.Contains(string(out), strings.ReplaceAll(want, "20260928091926.806Z", "Sep 28 09:19:26.806 2026 GMT")) {
			t.Errorf("openssl prints no %q", want)
		}
	}
}

func TestSmallstepAgrees(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	s := someStatement()
	p7, err := pkcs7.Parse(cmsOf(t, p.mustSign(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	p7.Content = s.Content[:]
	roots := x509.NewCertPool()
	roots.AddCert(p.root)
	if err := p7.VerifyWithChain(roots); err != nil {
		t.Errorf("smallstep/pkcs7 refuses: %v", err)
	}
	var job string
	if err := p7.UnmarshalSignedAttribute(asn1.ObjectIdentifier{1, 3, 187, 137, 1, 2}, &job); err != nil || job != testJob {
		t.Errorf("got job %q (%v), want %q", job, err, testJob)
	}
	var strict []byte
	if err := p7.UnmarshalSignedAttribute(asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 0x5d1c, 0x8a3e, 0x94f7, 0x4b62, 0x8d0e, 0xc2a76f, 0x31b954}, &strict); err != nil || !bytes.Equal(strict, s.Strict[:]) {
		t.Errorf("got strict digest %x (%v), want %s", strict, err, s.Strict)
	}
	p7.Content = make([]byte, 48)
	if err := p7.Verify(); err == nil {
		t.Error("smallstep/pkcs7 accepts other content")
	}
}

// indefinite re-encodes DER as BER: every constructed element that no
// signature covers gets an indefinite length, and octet strings come in pieces.
//
// attributes says whether the signed attributes are re-encoded as well. They
// "MUST be DER encoded" (RFC 5652, 5.3); OpenSSL insists, we put them right.
func indefinite(t testing.TB, der []byte, attributes bool) []byte {
	t.Helper()
	out, rest := indefiniteOne(t, der, 0, attributes)
	if len(rest) > 0 {
		t.Fatal("trailing data")
	}
	return out
}

func indefiniteOne(t testing.TB, b []byte, depth int, attributes bool) (out, rest []byte) {
	t.Helper()
	e, rest, err := readTLV(b)
	if err != nil {
		t.Fatal(err)
	}
	// Certificates, five levels down, are signed as they are.
	if _, err := x509.ParseCertificate(e.full); err == nil {
		return e.full, rest
	}
	const signedAttrs = 5 // ContentInfo, [0], SignedData, SET, SignerInfo, and there it is
	if depth == signedAttrs && e.tag == tagContext0 && !attributes {
		return e.full, rest
	}
	if e.tag == tagOctets && len(e.body) > 40 {
		return slices.Concat([]byte{tagOctets | 0x20, 0x80}, der(tagOctets, e.body[:7]), der(tagOctets), der(tagOctets, e.body[7:]), []byte{0, 0}), rest
	}
	if e.tag&0x20 == 0 {
		return e.full, rest
	}
	out = []byte{e.tag, 0x80}
	for in := e.body; len(in) > 0; {
		var part []byte
		part, in = indefiniteOne(t, in, depth+1, attributes)
		out = append(out, part...)
	}
	return append(out, 0, 0), rest
}

func TestBER(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	sf := p.mustSign(t, someStatement())
	want, err := ParseSignature(sf)
	if err != nil {
		t.Fatal(err)
	}
	ber := indefinite(t, cmsOf(t, sf), true)
	if ber[1] != 0x80 || bytes.Equal(ber, cmsOf(t, sf)) {
		t.Fatal("the test's BER is DER")
	}
	got, err := ParseSignature(sfOf(ber))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Statement, want.Statement) || !bytes.Equal(got.signed, want.signed) || !got.signedByLeaf() {
		t.Error("BER and DER of one signature read differently")
	}
	der, err := toDER(ber)
	if err != nil || !bytes.Equal(der, cmsOf(t, sf)) {
		t.Errorf("BER did not come back as the DER it was made of (%v)", err)
	}
}

func TestToDER(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("3080", maxBERDepth+2) + strings.Repeat("0000", maxBERDepth+2)
	for in, want := range map[string]string{
		"0500":                         "0500",
		"3080 0500 0000":               "3002 0500",
		"3003 02 8101 05":              "",
		"3004 02 8101 05":              "3003 020105",
		"30820004 02 8101 05":          "3003 020105",
		"3088 00000000 00000002 0500":  "3002 0500",
		"2480 0401 61 0401 62 0000":    "0402 6162",
		"2406 0401 61 0401 62":         "0402 6162",
		"2480 2480 0401 61 0000 0000":  "0401 61",
		"2480 0000":                    "0400",
		"2480 0c01 61 0000":            "", // a segment of another type
		"0480 61 0000":                 "", // indefinite and primitive
		"3080 0500":                    "", // never ends
		"3080 0500 00":                 "",
		"3081":                         "",
		"3003 0500":                    "", // cut off
		"3002 0500 00":                 "", // something follows
		"0000":                         "",
		"3002 0000":                    "", // end of contents in a definite length
		"1f2301 00":                    "", // high tag number
		"30ff":                         "",
		"3089 000000000000000002 0500": "",
		"3084 ffffffff 0500":           "",
		"":                             "",
		deep:                           "",
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(in, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got, err := toDER(b)
		if want = strings.ReplaceAll(want, " ", ""); hex.EncodeToString(got) != want || (err == nil) != (want != "") {
			t.Errorf("%.60s: got %x, %v, want %s", in, got, err, want)
		}
	}
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"20260928091926.806Z":        "2026-09-28T09:19:26.806Z",
		"20260928091926.800Z":        "2026-09-28T09:19:26.8Z",
		"20260928091926Z":            "2026-09-28T09:19:26Z",
		"20371228000000.1Z":          "2037-12-28T00:00:00.1Z",
		"20260928091926.123456789Z":  "2026-09-28T09:19:26.123456789Z",
		"20260928091926.1234567890Z": "",
		"20260928091926.Z":           "",
		"20260928091926":             "",
		"20260928091926+0000":        "",
		"20261328091926Z":            "",
		"20260928096026Z":            "",
		"260928091926Z":              "",
		"202609280919Z":              "",
		"20260928091926.8a6Z":        "",
		"2026092809192６Z":            "",
		"":                           "",
	} {
		got, err := parseTime([]byte(in))
		if (err == nil) != (want != "") || err == nil && got.Format(time.RFC3339Nano) != want {
			t.Errorf("%s: got %v, %v, want %s", in, got, err, want)
		}
	}
	for _, ms := range []int{0, 1, 10, 100, 806, 999} {
		at := time.Date(2026, 1, 2, 3, 4, 5, ms*1e6, time.UTC)
		e, _, err := readTLV(derTime(at))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseTime(e.body); err != nil || !got.Equal(at) {
			t.Errorf("%v went through DER as %v, %v", at, got, err)
		}
	}
}

// A cmsParts is a signature in pieces, so that a test can replace one and put
// it together again with everything around it right.
type cmsParts struct {
	version, digestAlgs, content, certs []byte
	signer                              signerParts
	more                                []byte // after the signers
	signers                             [][]byte
}

type signerParts struct {
	version, sid, digestAlg []byte
	attrs                   [][]byte
	sigAlg, sig, unsigned   []byte
}

func (c cmsParts) sf() []byte {
	if c.signers == nil {
		c.signers = [][]byte{c.signer.encode()}
	}
	sd := der(tagSequence, c.version, c.digestAlgs, c.content, c.certs, der(tagSet, c.signers...), c.more)
	return sfOf(der(tagSequence, der(tagOID, oidSignedData), der(tagContext0, sd)))
}

func (s signerParts) encode() []byte {
	return der(tagSequence, s.version, s.sid, s.digestAlg, der(tagContext0, s.attrs...), s.sigAlg, s.sig, s.unsigned)
}

// parts takes the test's own signature apart and signs it again with changed
// attributes.
func parts(t testing.TB, p *pki, s Statement) cmsParts {
	t.Helper()
	set := func(id byte, certs ...*x509.Certificate) []byte {
		var raw [][]byte
		for _, c := range certs {
			raw = append(raw, c.Raw)
		}
		return der(id, raw...)
	}
	one := der(tagInteger, []byte{1})
	return cmsParts{
		version: one, digestAlgs: der(tagSet, algSHA384), content: der(tagSequence, der(tagOID, oidData)),
		certs: set(tagContext0, p.chain()...),
		signer: p.signAttrs(t, signerParts{
			version: one, sid: der(tagSequence, p.leaf.RawIssuer, derInteger(p.leaf.SerialNumber)),
			digestAlg: algSHA384, attrs: s.attributes(), sigAlg: algECDSASHA384,
		}),
	}
}

// signAttrs makes the signature over whatever the attributes are now.
func (p *pki) signAttrs(t testing.TB, s signerParts) signerParts {
	t.Helper()
	h := sha512.Sum384(derSetOf(s.attrs...))
	sig, err := ecdsa.SignASN1(rand.Reader, p.leafKey, h[:])
	if err != nil {
		t.Fatal(err)
	}
	s.sig = der(tagOctets, sig)
	return s
}

func TestParseSignatureRefuses(t *testing.T) {
	t.Parallel()
	p, q := newPKI(t), newPKI(t)
	st := someStatement()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseSignature(parts(t, p, st).sf()); err != nil {
		t.Fatalf("the unchanged signature: %v", err)
	}
	null := []byte{tagNull, 0}
	attr := func(id []byte, values ...[]byte) []byte {
		return der(tagSequence, der(tagOID, id), der(tagSet, values...))
	}
	// replace swaps the attribute with the id for others and signs again.
	replace := func(id []byte, with ...[]byte) []byte {
		c := parts(t, p, st)
		c.signer.attrs = slices.DeleteFunc(c.signer.attrs, func(a []byte) bool { return id != nil && bytes.Contains(a[:min(len(a), 4+len(id))], id) })
		c.signer.attrs = append(c.signer.attrs, with...)
		c.signer = p.signAttrs(t, c.signer)
		return c.sf()
	}
	with := func(f func(c *cmsParts)) []byte {
		c := parts(t, p, st)
		f(&c)
		return c.sf()
	}
	good := parts(t, p, st).sf()
	sha256 := der(tagSequence, der(tagOID, oid(2, 16, 840, 1, 101, 3, 4, 2, 1)))
	var manyCerts [][]byte
	for i := range maxCertificates + 1 {
		tmpl := signerTemplate()
		tmpl.SerialNumber = big.NewInt(int64(1000 + i))
		manyCerts = append(manyCerts, issue(t, tmpl, p.regional, p.leafKey.Public(), p.regionalKey).Raw)
	}
	twin := issue(t, signerTemplate(), p.regional, q.leafKey.Public(), p.regionalKey)
	for name, sf := range map[string][]byte{
		"nothing":                nil,
		"not PEM":                cmsOf(t, good),
		"another label":          pem.EncodeToMemory(&pem.Block{Type: "CMS", Bytes: cmsOf(t, good)}),
		"PEM headers":            pem.EncodeToMemory(&pem.Block{Type: pemType, Headers: map[string]string{"A": "b"}, Bytes: cmsOf(t, good)}),
		"text before":            append([]byte("x\n"), good...),
		"text behind":            append(bytes.Clone(good), "x"...),
		"two blocks":             append(bytes.Clone(good), good...),
		"bad block, then a good": append([]byte("-----BEGIN PKCS7-----\n!\n"), good...),
		"too large":              append(bytes.Clone(good), bytes.Repeat([]byte("\n"), maxSignatureBytes)...),
		"data behind the CMS":    sfOf(append(cmsOf(t, good), 0)),
		"not SignedData":         sfOf(der(tagSequence, der(tagOID, oidData), der(tagContext0, der(tagOctets)))),
		"version 3":              with(func(c *cmsParts) { c.version = der(tagInteger, []byte{3}) }),
		"two digest algorithms":  with(func(c *cmsParts) { c.digestAlgs = der(tagSet, algSHA384, sha256) }),
		"SHA-256":                with(func(c *cmsParts) { c.digestAlgs = der(tagSet, sha256) }),
		"content attached": with(func(c *cmsParts) {
			c.content = der(tagSequence, der(tagOID, oidData), der(tagContext0, der(tagOctets, st.Content[:])))
		}),
		"content of another type":  with(func(c *cmsParts) { c.content = der(tagSequence, der(tagOID, oidSignedData)) }),
		"no certificates":          with(func(c *cmsParts) { c.certs = nil }),
		"certificates empty":       with(func(c *cmsParts) { c.certs = der(tagContext0) }),
		"certificate twice":        with(func(c *cmsParts) { c.certs = der(tagContext0, p.leaf.Raw, p.leaf.Raw, p.regional.Raw) }),
		"two leaves of one serial": with(func(c *cmsParts) { c.certs = der(tagContext0, p.leaf.Raw, twin.Raw, p.regional.Raw) }),
		"many certificates":        with(func(c *cmsParts) { c.certs = der(tagContext0, manyCerts...) }),
		"certificate malformed":    with(func(c *cmsParts) { c.certs = der(tagContext0, p.leaf.Raw, der(tagSequence, null)) }),
		"attribute certificate":    with(func(c *cmsParts) { c.certs = der(tagContext0, p.leaf.Raw, der(0xa2, null)) }),
		"no signer":                with(func(c *cmsParts) { c.signers = [][]byte{} }),
		"two signers":              with(func(c *cmsParts) { c.signers = [][]byte{c.signer.encode(), c.signer.encode()} }),
		"more behind the signers":  with(func(c *cmsParts) { c.more = null }),
		"signer version 3":         with(func(c *cmsParts) { c.signer.version = der(tagInteger, []byte{3}) }),
		"signer by key id":         with(func(c *cmsParts) { c.signer.sid = der(0x80, []byte{1, 2, 3}) }),
		"signer's serial differs":  with(func(c *cmsParts) { c.signer.sid = der(tagSequence, p.leaf.RawIssuer, derInteger(big.NewInt(1))) }),
		"signer's digest SHA-256":  with(func(c *cmsParts) { c.signer.digestAlg = sha256 }),
		"RSA named": with(func(c *cmsParts) {
			c.signer.sigAlg = der(tagSequence, der(tagOID, oid(1, 2, 840, 113549, 1, 1, 12)), null)
		}),
		"ECDSA with SHA-256 named": with(func(c *cmsParts) { c.signer.sigAlg = der(tagSequence, der(tagOID, oid(1, 2, 840, 10045, 4, 3, 2))) }),
		"parameters":               with(func(c *cmsParts) { c.signer.digestAlg = der(tagSequence, der(tagOID, oidSHA384), der(tagOctets)) }),
		"no attributes":            with(func(c *cmsParts) { c.signer.attrs = nil }),
		"attribute twice":          replace(nil, attr(oidSigningJob, der(tagUTF8, []byte(testJob)))),
		"attribute, two values":    replace(oidSigningJob, attr(oidSigningJob, der(tagUTF8, []byte(testJob)), der(tagUTF8, []byte(testJob)))),
		"attribute, no value":      replace(oidSigningJob, attr(oidSigningJob)),
		"unknown one, two values":  replace(oidStrict, attr(oid(1, 3, 187, 137, 1, 9), null, null)),
		"no content type":          replace(oidContentType),
		"content type differs":     replace(oidContentType, attr(oidContentType, der(tagOID, oidSignedData))),
		"no message digest":        replace(oidMessageDigest),
		"message digest SHA-256":   replace(oidMessageDigest, attr(oidMessageDigest, der(tagOctets, make([]byte, 32)))),
		"no signing time":          replace(oidSigningTime),
		"signing time UTCTime":     replace(oidSigningTime, attr(oidSigningTime, der(0x17, []byte("260928091926Z")))),
		"signing time year one":    replace(oidSigningTime, attr(oidSigningTime, der(tagGeneralized, []byte("00010101000000Z")))),
		"no job":                   replace(oidSigningJob),
		"job no ARN":               replace(oidSigningJob, attr(oidSigningJob, der(tagUTF8, []byte("job")))),
		"job with a newline":       replace(oidSigningJob, attr(oidSigningJob, der(tagUTF8, []byte(testJob+"\n")))),
		"job not UTF-8":            replace(oidSigningJob, attr(oidSigningJob, der(tagUTF8, []byte(testJob+"\xff")))),
		"job a PrintableString":    replace(oidSigningJob, attr(oidSigningJob, der(0x13, []byte(testJob)))),
		"no profile":               replace(oidProfileVersion),
		"no expiry":                replace(oidExpiry),
		"expiry before signing":    replace(oidExpiry, attr(oidExpiry, derTime(signedAt.Add(-time.Hour)))),
		"protection, other digest": replace(oidAlgProtection, attr(oidAlgProtection, der(tagSequence, sha256, der(tagContext1, der(tagOID, oidECDSASHA384))))),
		"protection, no algorithm": replace(oidAlgProtection, attr(oidAlgProtection, der(tagSequence, algSHA384))),
		"protection of a MAC":      replace(oidAlgProtection, attr(oidAlgProtection, der(tagSequence, algSHA384, der(0xa2, der(tagOID, oidECDSASHA384))))),
		"strict digest short":      replace(oidStrict, attr(oidStrict, der(tagOctets, make([]byte, 32)))),
		"many attributes":          replace(nil, manyAttributes()...),
	} {
		if s, err := ParseSignature(sf); err == nil {
			t.Errorf("%s: got %+v, want an error", name, s.Statement)
		}
	}

	// And what must not be refused: variants other signers may write.
	for name, sf := range map[string][]byte{
		"parameters NULL":        with(func(c *cmsParts) { c.signer.digestAlg = der(tagSequence, der(tagOID, oidSHA384), null) }),
		"attributes unsorted":    with(func(c *cmsParts) { slices.Reverse(c.signer.attrs) }),
		"unsigned attribute":     with(func(c *cmsParts) { c.signer.unsigned = der(tagContext1, attr(oidData, null)) }),
		"no protection":          replace(oidAlgProtection),
		"no strict digest":       replace(oidStrict),
		"an attribute of others": replace(nil, attr(oid(1, 3, 187, 137, 1, 9), null)),
		"an RSA root beside": with(func(c *cmsParts) {
			c.certs = der(tagContext0, issue(t, authority("RSA", 9), authority("RSA", 9), rsaKey.Public(), rsaKey).Raw, p.leaf.Raw, p.regional.Raw)
		}),
		"trailing newlines": append(bytes.Clone(good), "\n\n"...),
		"CRLF":              bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")),
	} {
		if s, err := ParseSignature(sf); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !s.signedByLeaf() {
			t.Errorf("%s: the signature does not verify", name)
		}
	}
}

func manyAttributes() (out [][]byte) {
	for i := range maxAttributes {
		out = append(out, der(tagSequence, der(tagOID, oid(1, 3, 6, 1, 4, 1, uint64(i))), der(tagSet, der(tagOctets))))
	}
	return out
}
