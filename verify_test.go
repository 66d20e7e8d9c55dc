package countersign

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"
)

func sources() []file {
	return []file{
		{name: "app.py", body: "def handler(e, c): return 1\n"},
		{name: "lib/"},
		{name: "lib/x.py", body: strings.Repeat("x = 1\n", 100), mode: 0o755},
		{name: "lib/y.py", mode: fs.ModeSymlink | 0o777, body: "x.py"},
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	plain := zipOf(t, sources()...)
	b, _ := p.sign(t, plain)
	a := open(t, b)
	ev, err := Verify(t.Context(), a, p.trust())
	if err != nil {
		t.Fatal(err)
	}
	want := statement(t, open(t, plain))
	got := ev.Statement()
	if got.Job != want.Job || got.ProfileVersion != want.ProfileVersion || !got.SignedAt.Equal(want.SignedAt) ||
		!got.Expires.Equal(want.Expires) || got.Content != want.Content || *got.Strict != *want.Strict {
		t.Errorf("got statement %+v, want %+v", got, want)
	}
	if c := ev.Chain(); len(c) != 3 || !c[0].Equal(p.leaf) || !c[2].Equal(p.root) || !ev.Root().Cert.Equal(p.root) {
		t.Errorf("got chain %v", c)
	}
	got.Strict[0]++
	if *ev.Statement().Strict != *want.Strict {
		t.Error("a caller changed the evidence")
	}
	names := []string{"app.py", "lib/", "lib/x.py", "lib/y.py", "META_INF/", SignaturePath}
	for i, e := range a.Entries() {
		if e.Name != names[i] {
			t.Errorf("entry %d: got %q, want %q", i, e.Name, names[i])
		}
	}
	if _, err := Verify(t.Context(), open(t, plain), p.trust()); !errors.Is(err, ErrUnsigned) {
		t.Errorf("got %v for an unsigned archive, want ErrUnsigned", err)
	}
	if err := a.WriteSigned(new(bytes.Buffer), nil); !errors.Is(err, ErrSigned) {
		t.Errorf("got %v for a second signature, want ErrSigned", err)
	}
}

// The digests, byte for byte as the doc comments define them.
func TestDigestsAreAsDocumented(t *testing.T) {
	t.Parallel()
	files := sources()
	inner, strict := sha512.New384(), sha512.New384()
	strict.Write([]byte("countersign strict digest v1\x00"))
	strict.Write(binary.BigEndian.AppendUint64(nil, uint64(len(files)+1)))
	modes := []uint32{0o100644, 0o040755, 0o100755, 0o120777, 0o040755}
	for i, f := range append(slices.Clone(files), file{name: "META_INF/"}) {
		inner.Write([]byte(f.name + f.body))
		strict.Write(binary.BigEndian.AppendUint32(nil, uint32(len(f.name))))
		strict.Write([]byte(f.name))
		strict.Write(binary.BigEndian.AppendUint32(nil, modes[i]))
		strict.Write(binary.BigEndian.AppendUint64(nil, uint64(len(f.body))))
	}
	strict.Write(inner.Sum(nil))
	d, err := open(t, zipOf(t, files...)).Digests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := ContentDigest(inner.Sum(nil)); d.Content != want {
		t.Errorf("got content digest %s, want %s", d.Content, want)
	}
	if want := ContentDigest(strict.Sum(nil)); d.Strict != want {
		t.Errorf("got strict digest %s, want %s", d.Strict, want)
	}
	// And once as constants, so that no change to both sides goes unseen.
	d, err = open(t, rawOf(stored("a", "1"), mode("b/", "", 0o040700)).bytes()).Digests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Content, sha512.Sum384([]byte("a1b/META_INF/")); got != want {
		t.Errorf("got content digest %s, want %x", got, want)
	}
	const wantStrict = "79fe1d0993d79d011ffc028739afcdb2b5c13e758d4b6c49804e38a47126e9f184719798697122241c2cdb56ac5acd75" // by Python's hashlib
	if got := hex.EncodeToString(d.Strict[:]); got != wantStrict {
		t.Errorf("got strict digest %s, want %s", got, wantStrict)
	}
}

// One goroutine or several, whatever the sizes: the same digests.
func TestDigestsInParallel(t *testing.T) {
	t.Parallel()
	var files []file
	for i := range 300 {
		body := strings.Repeat(string(rune('a'+i%26)), (i*i*37)%200_000)
		files = append(files, file{name: "d" + strings.Repeat("x", i%100) + "/" + strings.Repeat("y", i%7) + string(rune('A'+i%26)) + strings.Repeat("z", i/26), body: body})
	}
	a := open(t, zipOf(t, files...))
	if a.Unpacked() < serialBelow {
		t.Fatal("too small to go parallel")
	}
	sums := map[ContentDigest]bool{}
	for workers := range 5 {
		d := digester{a: a, content: sha512.New384(), strict: sha512.New384(), no: refusing(CheckArchive)}
		var err error
		if workers == 0 {
			err = d.serial(t.Context())
		} else {
			err = d.parallel(t.Context(), workers)
		}
		if err != nil {
			t.Fatal(err)
		}
		sums[ContentDigest(d.content.Sum(nil))] = true
		sums[ContentDigest(d.strict.Sum(nil))] = true
	}
	if len(sums) != 2 {
		t.Errorf("got %d different digests, want one of each kind", len(sums))
	}
}

func TestDigestsStop(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("a", 2<<20)
	a := open(t, zipOf(t, file{name: "a", body: big}, file{name: "b", body: big}, file{name: "c", body: big}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Digests(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if err := a.Unpack(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	// Every bad body is named, also when several goroutines find them.
	z := rawOf()
	for i := range 5 {
		e := rawEntry{name: string(rune('a' + i)), body: big, method: 8}
		if i%2 == 0 {
			e.crc, e.localCRC = new(uint32(1)), new(uint32(1))
		}
		z.entries = append(z.entries, e)
	}
	_, err := open(t, z.bytes()).Digests(t.Context())
	var no *Refusal
	if !errors.As(err, &no) || len(no.Reasons) != 3 {
		t.Errorf("got %v, want three reasons", err)
	}
}

// What may change about a signed archive without breaking the signature:
// compression and dates. AWS's own service accepts this; so do we, strictly.
func TestRepacked(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	signed, sf := p.sign(t, zipOf(t, sources()...))
	files := append(sources(), file{name: "META_INF/"}, file{name: SignaturePath, body: string(sf)})
	for name, b := range map[string][]byte{
		"as it was":    signed,
		"repacked":     zipOf(t, files...),
		"stored":       zipWith(t, zip.Store, signedAt, files...),
		"dated anew":   zipWith(t, zip.Deflate, time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), files...),
		"sf elsewhere": zipOf(t, slices.Concat(files[:2], files[5:], files[2:5])...),
	} {
		if _, err := Verify(t.Context(), open(t, b), p.trust()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What may not. The strict digest is there for the rows whose only code it is:
// AWS's digest cannot see them.
func TestAltered(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	signed := func(t *testing.T, files []file, change func(f []file) []file) *Archive {
		_, sf := p.sign(t, zipOf(t, files...))
		all := append(slices.Clone(files), file{name: "META_INF/"}, file{name: SignaturePath, body: string(sf)})
		return open(t, zipOf(t, change(all)...))
	}
	// edit changes the file at i.
	edit := func(i int, f func(*file)) func([]file) []file {
		return func(fs []file) []file { f(&fs[i]); return fs }
	}
	boundary := []file{{name: "ab", body: "c"}, {name: "d", body: ""}}
	for name, c := range map[string]struct {
		files  []file
		change func([]file) []file
		want   []string
	}{
		"body":             {sources(), edit(0, func(f *file) { f.body = strings.ToUpper(f.body) }), []string{"content", "strict"}},
		"body grows":       {sources(), edit(0, func(f *file) { f.body += " " }), []string{"content", "strict"}},
		"name":             {sources(), edit(0, func(f *file) { f.name = "App.py" }), []string{"content", "strict"}},
		"link retargeted":  {sources(), edit(3, func(f *file) { f.body = "../app.py" }), []string{"content", "strict"}},
		"order":            {sources(), func(f []file) []file { f[0], f[2] = f[2], f[0]; return f }, []string{"content", "strict"}},
		"entry added":      {sources(), func(f []file) []file { return append(f, file{name: "z", body: "z"}) }, []string{"content", "strict"}},
		"empty one added":  {sources(), func(f []file) []file { return append(f, file{name: "z/"}) }, []string{"content", "strict"}},
		"entry removed":    {sources(), func(f []file) []file { return f[1:] }, []string{"content", "strict"}},
		"META_INF removed": {sources(), func(f []file) []file { return slices.Delete(f, 4, 5) }, []string{"content", "strict"}},
		"made executable":  {sources(), edit(0, func(f *file) { f.mode = 0o755 }), []string{"strict"}},
		"made unreadable":  {sources(), edit(2, func(f *file) { f.mode = 0o311 }), []string{"strict"}},
		"link to file":     {sources(), edit(3, func(f *file) { f.mode = 0o644 }), []string{"strict"}},
		"boundary moved":   {boundary, func(f []file) []file { f[0] = file{name: "a", body: "bc"}; return f }, []string{"strict"}},
		"body into a name": {boundary, func(f []file) []file { f[0], f[1] = file{name: "a", body: "b"}, file{name: "cd"}; return f }, []string{"strict"}},
		"entry swallowed":  {boundary, func(f []file) []file { return append([]file{{name: "ab", body: "cd"}}, f[2:]...) }, []string{"strict"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := signed(t, c.files, c.change)
			_, err := Verify(t.Context(), a, p.trust())
			wantCodes(t, err, c.want...)
		})
	}
}

// One flipped bit anywhere in a signed archive is refused or changes nothing
// that is covered: never another reading under good evidence.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	b, _ := p.sign(t, zipWith(t, zip.Store, signedAt, sources()...))
	want := open(t, b).Entries()
	last := open(t, b).entries[len(want)-1]
	accepted := 0
	for i := 0; i < len(b); i++ {
		if int64(i) >= last.body && int64(i) < last.body+last.CompressedSize {
			i += 31 // the signature file is most of it
		}
		c := bytes.Clone(b)
		c[i] ^= 1 << (i % 8)
		a, err := OpenArchive(bytes.NewReader(c), int64(len(c)), Limits{})
		if err != nil {
			continue
		}
		if _, err := Verify(t.Context(), a, p.trust()); err != nil {
			continue
		}
		accepted++
		for j, e := range a.Entries() {
			w := want[j]
			if e.Name == SignaturePath {
				w.Mode = e.Mode // a signature does not cover its own file
			}
			if e.Name != w.Name || e.Mode != w.Mode || e.Size != w.Size || e.Target != w.Target {
				t.Fatalf("byte %d flipped: verified with %+v in place of %+v", i, e, w)
			}
		}
	}
	// Dates and versions are no part of the reading.
	if accepted == 0 || accepted > len(b)/4 {
		t.Errorf("%d of %d flips went through; the test does not test what it means to", accepted, len(b))
	}
}

func TestUntrusted(t *testing.T) {
	t.Parallel()
	p, q := newPKI(t), newPKI(t)
	plain := zipOf(t, sources()...)
	good, sf := p.sign(t, plain)
	s := statement(t, open(t, plain))
	pack := func(sf []byte) []byte { return writeSigned(t, open(t, plain), sf) }
	with := func(f func(c *cmsParts)) []byte {
		c := parts(t, p, s)
		f(&c)
		return pack(c.sf())
	}
	// attrs signs other attributes, so that only what they say is wrong.
	stated := func(f func(s *Statement)) []byte {
		s := s
		f(&s)
		return pack(parts(t, p, s).sf())
	}
	leaf := func(f func(c *x509.Certificate)) (b []byte, t2 Trust) {
		q := newPKI(t, f)
		return writeSigned(t, open(t, plain), parts(t, q, s).sf()), q.trust()
	}
	p256 := newPKI(t)
	weakKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256.leafKey = weakKey
	p256.leaf = issue(t, signerTemplate(), p256.regional, weakKey.Public(), p256.regionalKey)

	type c struct {
		zip   []byte
		trust Trust
		want  []string
	}
	cases := map[string]c{
		"nobody trusted":            {good, Trust{}, []string{"chain"}},
		"another root of that name": {good, q.trust(), []string{"chain"}},
		"own root in the package":   {writeSigned(t, open(t, plain), q.mustSign(t, s)), p.trust(), []string{"chain"}},
		"another's chain, our key":  {with(func(c *cmsParts) { c.certs = der(tagContext0, q.leaf.Raw, q.regional.Raw, q.root.Raw) }), p.trust(), []string{"chain", "signature"}},
		"our chain, another's key":  {pack(swapSignature(t, p, q, s)), p.trust(), []string{"signature"}},
		"regional missing":          {with(func(c *cmsParts) { c.certs = der(tagContext0, p.leaf.Raw, p.root.Raw) }), p.trust(), []string{"chain"}},
		"attributes changed":        {with(func(c *cmsParts) { s2 := s; s2.Job += "0"; c.signer.attrs = s2.attributes() }), p.trust(), []string{"signature"}},
		"expiry pushed out":         {with(func(c *cmsParts) { s2 := s; s2.Expires = s2.Expires.AddDate(1, 0, 0); c.signer.attrs = s2.attributes() }), p.trust(), []string{"signature"}},
		"strict digest cut out":     {with(func(c *cmsParts) { s2 := s; s2.Strict = nil; c.signer.attrs = s2.attributes() }), p.trust(), []string{"signature", "strict-missing"}},
		"no strict digest":          {stated(func(s *Statement) { s.Strict = nil }), p.trust(), []string{"strict-missing"}},
		"another strict digest":     {stated(func(s *Statement) { s.Strict = &ContentDigest{1} }), p.trust(), []string{"strict"}},
		"another content":           {stated(func(s *Statement) { s.Content = ContentDigest{1} }), p.trust(), []string{"content"}},
		"signed after the leaf":     {stated(func(s *Statement) { s.SignedAt = s.SignedAt.AddDate(0, 0, 9) }), p.trust(), []string{"chain", "leaf-time"}},
		"signed before the leaf":    {stated(func(s *Statement) { s.SignedAt = s.SignedAt.AddDate(0, 0, -9) }), p.trust(), []string{"chain", "leaf-time"}},
		"signed before the root":    {stated(func(s *Statement) { s.SignedAt = s.SignedAt.AddDate(-20, 0, 0) }), p.trust(), []string{"chain", "leaf-time"}},
		"signature of another zip":  {replayed(t, sf), p.trust(), []string{"content", "strict"}},
		"not a signature":           {pack([]byte("trust me")), p.trust(), []string{"signature-format"}},
		"empty signature":           {pack(nil), p.trust(), []string{"signature-format"}},
		"huge signature":            {pack(bytes.Repeat([]byte("a"), maxSignatureBytes+1)), p.trust(), []string{"signature-file"}},
		"signature is a link":       {zipOf(t, append(sources(), file{name: "META_INF/"}, file{name: SignaturePath, mode: fs.ModeSymlink | 0o777, body: "../app.py"})...), p.trust(), []string{"signature-file"}},
		"P-256":                     {writeSigned(t, open(t, plain), parts(t, p256, s).sf()), p256.trust(), []string{"leaf-key"}},
	}
	for name, f := range map[string]func(*x509.Certificate){
		"server certificate": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"usage any":          func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"usage unsaid":       func(c *x509.Certificate) { c.ExtKeyUsage = nil },
		"not for signatures": func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement },
		"an authority":       func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign },
	} {
		b, tr := leaf(f)
		want := []string{"leaf-usage"}
		if name == "server certificate" {
			want = append(want, "chain")
		}
		cases[name] = c{b, tr, want}
	}
	for _, twin := range []string{"META_INF/AWS_SIGNER_SIGNATURE_V1.0.SF", "meta_inf/aws_signer_signature_v1.0.SF", "META_INF/aws_signer_signature_v1.0.sf", "META_INF/aws_signer_signature_v2.0.SF", "META_INF/aws_\u017figner_signature_v1.0.SF"} {
		all := append(sources(), file{name: "META_INF/"}, file{name: SignaturePath, body: string(sf)}, file{name: twin, body: string(sf)})
		cases["twin "+twin] = c{zipOf(t, all...), p.trust(), []string{"signature-twin"}}
		cases["alone "+twin] = c{zipOf(t, append(sources(), file{name: twin, body: string(sf)})...), p.trust(), []string{"signature-twin"}}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ev, err := Verify(t.Context(), open(t, c.zip), c.trust)
			if ev != nil {
				t.Error("got evidence together with a refusal")
			}
			wantCodes(t, err, c.want...)
			var no *Refusal
			errors.As(err, &no)
			if !no.Has(CheckIntegrity) || no.Has(CheckExpiry) {
				t.Errorf("got reasons %v, want them under %s", no.Reasons, CheckIntegrity)
			}
		})
	}
}

// swapSignature states s under p's certificates with q's key.
func swapSignature(t testing.TB, p, q *pki, s Statement) []byte {
	t.Helper()
	c := parts(t, p, s)
	c.signer.sig = q.signAttrs(t, c.signer).sig
	return c.sf()
}

// replayed is another archive carrying the signature sf.
func replayed(t testing.TB, sf []byte) []byte {
	t.Helper()
	return writeSigned(t, open(t, zipOf(t, file{name: "app.py", body: "import os\n"})), sf)
}

// A refusal tells everything that is wrong with a signature at once.
func TestVerifyEveryReason(t *testing.T) {
	t.Parallel()
	p, q := newPKI(t), newPKI(t)
	s := someStatement()
	s.SignedAt = s.SignedAt.AddDate(0, 0, 9)
	b := writeSigned(t, open(t, zipOf(t, sources()...)), swapSignature(t, p, q, s))
	_, err := Verify(t.Context(), open(t, b), q.trust())
	wantCodes(t, err, "signature", "leaf-time", "chain", "content", "strict")

	// A broken body is a reason beside the others, under its own check.
	raw := rawOf(rawEntry{name: "a", body: "x", crc: new(uint32(1)), localCRC: new(uint32(1))}).bytes()
	b = writeSigned(t, open(t, raw), swapSignature(t, p, q, someStatement()))
	_, err = Verify(t.Context(), open(t, b), p.trust())
	wantCodes(t, err, "signature", "crc-mismatch")
	var no *Refusal
	if errors.As(err, &no); !no.Has(CheckArchive) || !no.Has(CheckIntegrity) {
		t.Errorf("got %v, want reasons under both checks", no.Reasons)
	}
}

// A root may be told not to demand the strict digest, as AWS's must.
func TestStrictOptional(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	plain := zipOf(t, sources()...)
	s := statement(t, open(t, plain))
	s.Strict = nil
	b := writeSigned(t, open(t, plain), p.mustSign(t, s))
	lax := Trust{Roots: []Root{{Cert: p.root}}}
	ev, err := Verify(t.Context(), open(t, b), lax)
	if err != nil {
		t.Fatal(err)
	}
	if ev.Statement().Strict != nil {
		t.Error("a strict digest out of nowhere")
	}
	// Trusted twice, the stricter word counts, in either order.
	both := append(slices.Clone(lax.Roots), p.trust().Roots...)
	for range 2 {
		_, err = Verify(t.Context(), open(t, b), Trust{Roots: both})
		wantCodes(t, err, "strict-missing")
		slices.Reverse(both)
	}
	// A strict digest that is there is checked under any root.
	s.Strict = &ContentDigest{1}
	b = writeSigned(t, open(t, plain), p.mustSign(t, s))
	_, err = Verify(t.Context(), open(t, b), lax)
	wantCodes(t, err, "strict")
}

// The same authority certified by two pinned roots: the package chooses which
// of the two chains it shows, and must not choose the laxer rules with it.
func TestCrossSigned(t *testing.T) {
	t.Parallel()
	p, q := newPKI(t), newPKI(t)
	cross := issue(t, authority("Regional", 7), q.root, p.regionalKey.Public(), q.rootKey)
	plain := zipOf(t, sources()...)
	s := statement(t, open(t, plain))
	s.Strict = nil
	c := parts(t, p, s)
	c.certs = der(tagContext0, p.leaf.Raw, cross.Raw, p.regional.Raw)
	b := writeSigned(t, open(t, plain), c.sf())
	for _, roots := range [][]Root{{{p.root, true}, {q.root, false}}, {{q.root, true}, {p.root, false}}} {
		_, err := Verify(t.Context(), open(t, b), Trust{Roots: roots})
		wantCodes(t, err, "strict-missing")
	}
	if _, err := Verify(t.Context(), open(t, b), Trust{Roots: []Root{{p.root, false}, {q.root, false}}}); err != nil {
		t.Error(err)
	}
}

func TestExpired(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	b, _ := p.sign(t, zipOf(t, sources()...))
	ev, err := Verify(t.Context(), open(t, b), p.trust())
	if err != nil {
		t.Fatal(err)
	}
	expires := ev.Statement().Expires
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{signedAt, ""},
		{signedAt.AddDate(0, 0, 30), ""}, // long after the leaf expired
		{expires.Add(-time.Millisecond), ""},
		{expires, "expired"},
		{expires.AddDate(9, 0, 0), "expired"},
		{signedAt.Add(-clockSkew), ""},
		{signedAt.Add(-clockSkew - time.Millisecond), "not-yet-valid"},
	} {
		r, expired := ev.Expired(c.at)
		if r.Code != c.want || expired != (c.want != "") || expired && r.Check != CheckExpiry {
			t.Errorf("at %v: got %v, %v, want %q", c.at, r, expired, c.want)
		}
	}
}

// A signature's file, archive and archive's comment are where AWS has them.
func TestWriteSigned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		zip  []byte
		want []string
	}{
		"plain":        {zipOf(t, file{name: "a", body: "1"}), []string{"a", "META_INF/", SignaturePath}},
		"has META_INF": {zipOf(t, file{name: "META_INF/"}, file{name: "a", body: "1"}), []string{"META_INF/", "a", SignaturePath}},
		"implies it":   {zipOf(t, file{name: "META_INF/x", body: "1"}), []string{"META_INF/x", "META_INF/", SignaturePath}},
		"has META-INF": {zipOf(t, file{name: "META-INF/"}, file{name: "META-INF/X.SF", body: "1"}), []string{"META-INF/", "META-INF/X.SF", "META_INF/", SignaturePath}},
		"comment":      {rawZip{entries: []rawEntry{stored("a", "1")}, comment: "kept"}.bytes(), []string{"a", "META_INF/", SignaturePath}},
		"zip64 end":    {withZip64End(rawOf(stored("a", "1")), true, nil), []string{"a", "META_INF/", SignaturePath}},
	} {
		a := open(t, c.zip)
		before, err := a.Digests(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		signed := open(t, writeSigned(t, a, []byte("signature")))
		agree(t, writeSigned(t, a, []byte("signature")))
		var names []string
		for _, e := range signed.Entries() {
			names = append(names, e.Name)
		}
		if !slices.Equal(names, c.want) {
			t.Errorf("%s: got entries %q, want %q", name, names, c.want)
		}
		after, err := signed.Digests(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if before.Content != after.Content || before.Strict != after.Strict {
			t.Errorf("%s: signing changed the digests", name)
		}
		if sf, err := signed.Signature(); err != nil || string(sf) != "signature" {
			t.Errorf("%s: got signature %q, %v", name, sf, err)
		}
		if !bytes.Equal(signed.comment, a.comment) {
			t.Errorf("%s: got comment %q, want %q", name, signed.comment, a.comment)
		}
	}
	_, err := OpenArchive(bytes.NewReader(zipOf(t, file{name: "META_INF", body: "a file"})), 0, Limits{})
	wantCodes(t, err, "empty")
	wantCodes(t, open(t, zipOf(t, file{name: "META_INF", body: "a file"})).WriteSigned(new(bytes.Buffer), nil), "below-file")
	wantCodes(t, open(t, zipOf(t, file{name: "meta_inf/aws_signer_signature_v1.0.sf", body: "x"})).WriteSigned(new(bytes.Buffer), nil), "signature-twin")
}

// Sixty-five thousand entries is where the old format's counters end.
func TestSignIntoZip64(t *testing.T) {
	t.Parallel()
	z := rawZip{entries: make([]rawEntry, 65_534)}
	for i := range z.entries {
		z.entries[i] = stored("f"+hex.EncodeToString(binary.BigEndian.AppendUint16(nil, uint16(i))), "")
	}
	a := open(t, z.bytes())
	b := writeSigned(t, a, []byte("signature"))
	if got := len(open(t, b).Entries()); got != 65_536 {
		t.Errorf("got %d entries, want 65536", got)
	}
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(r.File) != 65_536 {
		t.Errorf("archive/zip disagrees: %v", err)
	}
}
