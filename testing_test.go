package countersign

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"math/big"
	"slices"
	"testing"
	"time"
)

// open opens b as an archive under default limits.
func open(t testing.TB, b []byte) *Archive {
	t.Helper()
	a, err := OpenArchive(bytes.NewReader(b), int64(len(b)), Limits{})
	if err != nil {
		t.Fatalf("OpenArchive: %v", err)
	}
	return a
}

// codes lists the codes of a refusal, sorted and each once; any other error
// fails the test.
func codes(t testing.TB, err error) []string {
	t.Helper()
	var no *Refusal
	if !errors.As(err, &no) {
		t.Fatalf("got error %v, want a *Refusal", err)
	}
	var out []string
	for _, r := range no.Reasons {
		out = append(out, r.Code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// wantCodes checks that err is a refusal with exactly these codes.
func wantCodes(t testing.TB, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want refusal %v", want)
	}
	slices.Sort(want)
	if got := codes(t, err); !slices.Equal(got, want) {
		t.Errorf("got codes %v, want %v (%v)", got, want, err)
	}
}

// A file is one entry of a plain test archive.
type file struct {
	name string
	body string
	mode fs.FileMode // 0 means 0644, directories 0755
}

// zipOf writes an archive with archive/zip, deflated.
func zipOf(t testing.TB, files ...file) []byte {
	t.Helper()
	return zipWith(t, zip.Deflate, time.Date(2026, 9, 28, 9, 19, 26, 0, time.UTC), files...)
}

func zipWith(t testing.TB, method uint16, at time.Time, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: method, Modified: at}
		switch isDir := f.name[len(f.name)-1] == '/'; {
		case f.mode != 0:
			h.SetMode(f.mode)
		case isDir:
			h.SetMode(fs.ModeDir | 0o755)
		default:
			h.SetMode(0o644)
		}
		e, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(e, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A rawEntry is an entry whose every field can lie. What is nil or zero is
// what an honest Unix writer would put there.
type rawEntry struct {
	name, localName      string // localName "" is name
	body                 string
	method               uint16
	flags                uint16
	localFlags           *uint16
	localMethod          *uint16
	crc, localCRC        *uint32
	packed, size         *uint32 // in the directory
	localPacked          *uint32
	localSize            *uint32
	packedBody           []byte // in place of the compressed body
	descriptor           []byte // after the body
	localExtra, dirExtra []byte
	made                 *uint16
	attr                 *uint32
	disk                 uint16
	offset               *uint32
	before               []byte // bytes in front of the local header
	noLocal              bool   // the directory record alone
	comment              string
}

// A rawZip is an archive whose every field can lie.
type rawZip struct {
	entries   []rawEntry
	afterLast []byte // between the entries and the directory
	afterDir  []byte // between the directory and the end record
	after     []byte // after the end record
	comment   string
	end       func(rec []byte) []byte // changes the end record
	count     *uint16
}

func or[T any](p *T, v T) T {
	if p != nil {
		return *p
	}
	return v
}

func deflated(s string) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6)
	io.WriteString(w, s)
	w.Close()
	return b.Bytes()
}

func (z rawZip) bytes() []byte {
	le := binary.LittleEndian
	var out, dir []byte
	for _, e := range z.entries {
		out = append(out, e.before...)
		offset := uint32(len(out))
		data := []byte(e.body)
		if e.method == methodDeflate {
			data = deflated(e.body)
		}
		if e.packedBody != nil {
			data = e.packedBody
		}
		crc := crc32.ChecksumIEEE([]byte(e.body))
		fields := func(sig string, flags, method uint16, crc, packed, size uint32, nameLen, extraLen int) []byte {
			b := []byte(sig)
			if sig == sigCentral {
				b = le.AppendUint16(b, or(e.made, 3<<8|20))
			}
			b = le.AppendUint16(b, 20)
			b = le.AppendUint16(b, flags)
			b = le.AppendUint16(b, method)
			b = le.AppendUint32(b, 0x5d77b30d) // a date
			b = le.AppendUint32(b, crc)
			b = le.AppendUint32(b, packed)
			b = le.AppendUint32(b, size)
			b = le.AppendUint16(b, uint16(nameLen))
			return le.AppendUint16(b, uint16(extraLen))
		}
		if !e.noLocal {
			name := e.localName
			if name == "" {
				name = e.name
			}
			lcrc, lpacked, lsize := crc, uint32(len(data)), uint32(len(e.body))
			if e.flags&flagStreamed != 0 {
				lcrc, lpacked, lsize = 0, 0, 0
			}
			out = append(out, fields(sigLocal, or(e.localFlags, e.flags), or(e.localMethod, e.method),
				or(e.localCRC, lcrc), or(e.localPacked, lpacked), or(e.localSize, lsize), len(name), len(e.localExtra))...)
			out = append(out, name...)
			out = append(out, e.localExtra...)
			out = append(out, data...)
			out = append(out, e.descriptor...)
		}
		mode := uint32(0o100644)
		if len(e.name) > 0 && e.name[len(e.name)-1] == '/' {
			mode = 0o040755
		}
		dir = append(dir, fields(sigCentral, e.flags, e.method, or(e.crc, crc),
			or(e.packed, uint32(len(data))), or(e.size, uint32(len(e.body))), len(e.name), len(e.dirExtra))...)
		dir = le.AppendUint16(dir, uint16(len(e.comment)))
		dir = le.AppendUint16(dir, e.disk)
		dir = le.AppendUint16(dir, 0)
		dir = le.AppendUint32(dir, or(e.attr, mode<<16))
		dir = le.AppendUint32(dir, or(e.offset, offset))
		dir = append(dir, e.name...)
		dir = append(dir, e.dirExtra...)
		dir = append(dir, e.comment...)
	}
	out = append(out, z.afterLast...)
	dirAt := len(out)
	out = append(append(out, dir...), z.afterDir...)
	n := or(z.count, uint16(len(z.entries)))
	rec := append([]byte(sigEnd), 0, 0, 0, 0)
	rec = le.AppendUint16(rec, n)
	rec = le.AppendUint16(rec, n)
	rec = le.AppendUint32(rec, uint32(len(dir)))
	rec = le.AppendUint32(rec, uint32(dirAt))
	rec = le.AppendUint16(rec, uint16(len(z.comment)))
	rec = append(rec, z.comment...)
	if z.end != nil {
		rec = z.end(rec)
	}
	return append(append(out, rec...), z.after...)
}

// A pki is a chain made by the test: root, regional authority, signer.
type pki struct {
	root, regional, leaf          *x509.Certificate
	rootKey, regionalKey, leafKey *ecdsa.PrivateKey
}

// signedAt is when test signatures are made, and leaves live five days around it.
var signedAt = time.Date(2026, 9, 28, 9, 19, 26, 806e6, time.UTC)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func authority(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(serial),
		Subject:               pkix.Name{Country: []string{"XX"}, Organization: []string{"Test"}, CommonName: name},
		NotBefore:             signedAt.AddDate(-6, 0, 0),
		NotAfter:              signedAt.AddDate(30, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// signer is a leaf template; 128 asks for a serial number with the top bit set.
func signerTemplate() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(0xfeed),
		Subject:               pkix.Name{Organization: []string{"Test"}, CommonName: "Signer"},
		NotBefore:             signedAt.AddDate(0, 0, -2),
		NotAfter:              signedAt.AddDate(0, 0, 3),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
}

func issue(t testing.TB, tmpl, parent *x509.Certificate, pub any, key any) *x509.Certificate {
	t.Helper()
	b, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newPKI makes a chain; change alters the leaf's template.
func newPKI(t testing.TB, change ...func(leaf *x509.Certificate)) *pki {
	t.Helper()
	p := &pki{rootKey: newKey(t), regionalKey: newKey(t), leafKey: newKey(t)}
	rt := authority("Root", 1)
	p.root = issue(t, rt, rt, p.rootKey.Public(), p.rootKey)
	p.regional = issue(t, authority("Regional", 2), p.root, p.regionalKey.Public(), p.rootKey)
	lt := signerTemplate()
	for _, f := range change {
		f(lt)
	}
	p.leaf = issue(t, lt, p.regional, p.leafKey.Public(), p.regionalKey)
	return p
}

func (p *pki) chain() []*x509.Certificate { return []*x509.Certificate{p.leaf, p.regional, p.root} }

func (p *pki) trust() Trust { return Trust{Roots: []Root{{Cert: p.root, RequireStrict: true}}} }

const (
	testJob     = "arn:aws:signer:us-east-1:000000000000:/signing-jobs/5b1c5b1e-36b8-4c4e-9c39-1f0a1b2c3d4e"
	testProfile = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/prod/a1b2c3d4e5"
)

func statement(t testing.TB, a *Archive) Statement {
	t.Helper()
	d, err := a.Digests(t.Context())
	if err != nil {
		t.Fatalf("Digests: %v", err)
	}
	return Statement{
		Job: testJob, ProfileVersion: testProfile,
		SignedAt: signedAt, Expires: signedAt.AddDate(0, 135, 0),
		Content: d.Content, Strict: new(d.Strict),
	}
}

// sign signs the archive b and returns the signed archive and the signature file.
func (p *pki) sign(t testing.TB, b []byte) (signed, sf []byte) {
	t.Helper()
	a := open(t, b)
	sf, err := statement(t, a).Sign(rand.Reader, p.leafKey, p.chain())
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	return writeSigned(t, a, sf), sf
}

func writeSigned(t testing.TB, a *Archive, sf []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := a.WriteSigned(&out, sf); err != nil {
		t.Fatalf("WriteSigned: %v", err)
	}
	return out.Bytes()
}
