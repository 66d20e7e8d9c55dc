package bench

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/guard/seal"
	"countersign/internal/run/code"
	"countersign/internal/sign"
	"countersign/internal/store"
)

// A signery is what signs, keeps and admits packages, on a real store.
type signery struct {
	signer    *sign.Service
	authority *sign.Authority
	artifacts store.Blobs
	gate      *admit.Gate
}

func openSignery(b *testing.B) *signery {
	b.Helper()
	dir := b.TempDir()
	st, err := store.Open(b.Context(), store.Config{Dir: dir})
	check(b, err)
	b.Cleanup(func() { st.Close() })
	master, err := seal.Open(dir, "")
	check(b, err)
	s := &signery{}
	s.authority, err = sign.OpenAuthority(b.Context(), sign.AuthorityConfig{Dir: sign.CADir(dir), Keys: sign.SealedKeys{Sealer: master}, Store: st})
	check(b, err)
	s.signer, err = sign.Open(b.Context(), sign.Config{Store: st, Objects: noBuckets{}, Authority: s.authority, Scratch: dir})
	check(b, err)
	b.Cleanup(s.signer.Close)
	_, err = s.signer.PutProfile(b.Context(), signScope, sign.NewProfile{Name: "release", Platform: sign.LambdaPlatform})
	check(b, err)
	s.artifacts, err = st.Blobs(b.Context(), "artifacts")
	check(b, err)
	s.gate = admit.New(artifacts{s.artifacts}, s.authority.Trust(), nil, time.Now)
	return s
}

var signScope = sign.Scope{Account: account, Region: region}

// sign signs a package and records that it did.
func (s *signery) sign(b *testing.B, z *os.File, to io.Writer) sign.Job {
	i, err := z.Stat()
	check(b, err)
	j, err := s.signer.SignArchive(b.Context(), signScope, sign.Caller{Account: account, ARN: "arn:aws:iam::" + account + ":root"}, "release", z, i.Size(), to)
	check(b, err)
	return j
}

// keep stores a package as deployment does.
func (s *signery) keep(b *testing.B, file string) countersign.Digest {
	f, err := os.Open(file)
	check(b, err)
	defer f.Close()
	d, _, err := s.artifacts.Put(b.Context(), f)
	check(b, err)
	return d
}

type artifacts struct{ store.Blobs }

func (a artifacts) Open(ctx context.Context, d countersign.Digest) (admit.Artifact, error) {
	return a.OpenFile(ctx, d)
}

// noBuckets is for signing that touches none.
type noBuckets struct{}

func (noBuckets) Bucket(context.Context, sign.Caller, string) (sign.BucketInfo, error) {
	return sign.BucketInfo{}, errors.ErrUnsupported
}

func (noBuckets) Open(context.Context, sign.Caller, string, string, string) (io.ReadCloser, sign.ObjectInfo, error) {
	return nil, sign.ObjectInfo{}, errors.ErrUnsupported
}

func (noBuckets) PutIfAbsent(context.Context, sign.Caller, string, string, io.Reader, int64) error {
	return errors.ErrUnsupported
}

// payload writes a package of 50 MB as people have them, and its content in
// one piece: half of the entries libraries that hardly compress, half source
// text, of which little remains.
func payload(b *testing.B) (archive, content string) {
	b.Helper()
	archive, content = filepath.Join(scratch(b), "payload.zip"), filepath.Join(scratch(b), "payload.raw")
	if _, err := os.Stat(archive); err == nil {
		return archive, content
	}
	zf, err := os.Create(archive)
	check(b, err)
	cf, err := os.Create(content)
	check(b, err)
	random := mrand.NewChaCha8([32]byte{1})
	pick := mrand.New(mrand.NewPCG(1, 1))
	words := []string{"func ", "return ", "import os\n", "def handler(event, context):\n", "    ", "if ", "self.", "x = ", "print(", "name", "value"}
	var raw bytes.Buffer
	w := zip.NewWriter(zf)
	out := bufio.NewWriter(cf)
	for i := 0; ; i++ {
		if at, err := zf.Seek(0, io.SeekCurrent); err != nil || at >= 50e6 {
			check(b, err)
			break
		}
		raw.Reset()
		if i%2 == 0 {
			_, err = io.CopyN(&raw, random, 1<<20)
			check(b, err)
		} else {
			for raw.Len() < 1<<20 {
				raw.WriteString(words[pick.IntN(len(words))])
				if pick.IntN(4) == 0 {
					fmt.Fprintf(&raw, "%x", pick.Uint32())
				}
			}
		}
		f, err := w.Create(fmt.Sprintf("lib/f%04d", i))
		check(b, err)
		_, err = io.MultiWriter(f, out).Write(raw.Bytes())
		check(b, err)
	}
	check(b, w.Close())
	check(b, zf.Close())
	check(b, out.Flush())
	check(b, cf.Close())
	return archive, content
}

// BenchmarkSign50MB signs a package of 50 MB: read from disk, checked,
// digested, signed, recorded, written. Its peer digests the content.
func BenchmarkSign50MB(b *testing.B) {
	heavy(b)
	archive, content := payload(b)
	s := openSignery(b)
	z, err := os.Open(archive)
	check(b, err)
	defer z.Close()
	to := filepath.Join(b.TempDir(), "signed.zip")
	t := turns(b, 7, func() {
		f, err := os.Create(to)
		check(b, err)
		s.sign(b, z, f)
		check(b, f.Close())
	}, openssl(b, content))
	b.ReportMetric(millis(median(t[0])), "sign-ms")
	b.ReportMetric(ratio(t[0], t[1]), "x-openssl")
}

// BenchmarkVerify50MB verifies the signed package alone.
func BenchmarkVerify50MB(b *testing.B) {
	heavy(b)
	_, content := payload(b)
	s := openSignery(b)
	name := s.signed(b)
	trust := s.authority.Trust()
	t := turns(b, 7, func() {
		f, err := os.Open(name)
		check(b, err)
		defer f.Close()
		i, err := f.Stat()
		check(b, err)
		a, err := countersign.OpenArchive(f, i.Size(), countersign.Limits{})
		check(b, err)
		_, err = countersign.Verify(b.Context(), a, trust)
		check(b, err)
	}, openssl(b, content))
	b.ReportMetric(millis(median(t[0])), "verify-ms")
	b.ReportMetric(ratio(t[0], t[1]), "x-openssl")
}

// signed signs the payload into a file.
func (s *signery) signed(b *testing.B) string {
	b.Helper()
	archive, _ := payload(b)
	z, err := os.Open(archive)
	check(b, err)
	defer z.Close()
	name := filepath.Join(b.TempDir(), "signed.zip")
	f, err := os.Create(name)
	check(b, err)
	s.sign(b, z, f)
	check(b, f.Close())
	return name
}

// BenchmarkAdmit50MB is the gate at deployment: the stored package's bytes are
// checked against its digest, its signature against the trusted roots, and
// the policy against both. It is measured beside digesting the package's
// content, which no gate can do without, and beside openssl's digest of it.
func BenchmarkAdmit50MB(b *testing.B) {
	heavy(b)
	_, content := payload(b)
	s := openSignery(b)
	d := s.keep(b, s.signed(b))
	p, err := s.signer.Profile(b.Context(), signScope, "release")
	check(b, err)
	policy := &admit.Policy{Publishers: []string{p.VersionARN()}, Enforce: true}
	t := turns(b, 7, func() {
		a, err := s.gate.Admit(b.Context(), admit.Request{Artifact: d, Policy: policy})
		check(b, err)
		if a.Record().Status() != "VALID" {
			b.Fatal(a.Record().Warnings)
		}
	}, func() {
		f, err := s.artifacts.OpenFile(b.Context(), d)
		check(b, err)
		f.Close()
	}, func() {
		f, err := os.Open(filepath.Join(filepath.Dir(content), "payload.zip"))
		check(b, err)
		defer f.Close()
		i, err := f.Stat()
		check(b, err)
		a, err := countersign.OpenArchive(f, i.Size(), countersign.Limits{})
		check(b, err)
		_, err = a.Digests(b.Context())
		check(b, err)
	}, openssl(b, content))
	b.ReportMetric(millis(median(t[0])), "admit-ms")
	b.ReportMetric(millis(median(t[1])), "of-it-stored-bytes-ms")
	b.ReportMetric(millis(median(t[2])), "of-it-digests-ms")
	b.ReportMetric(millis(median(t[0])-median(t[1])-median(t[2])), "rest-ms")
	b.ReportMetric(ratio(t[0], t[3]), "x-openssl")
}

// BenchmarkAdmitAtStart is what an environment's start pays for the gate: the
// admission is made again from its record, and the unpacked code found.
func BenchmarkAdmitAtStart(b *testing.B) {
	s := openSignery(b)
	z := filepath.Join(b.TempDir(), "app.zip")
	check(b, os.WriteFile(z, bundle(b, "app.py", []byte("def handler(e, c): return e\n")), 0o644))
	adm, err := s.gate.Admit(b.Context(), admit.Request{Artifact: s.keep(b, z)})
	check(b, err)
	cache, err := code.New(s.artifacts, filepath.Join(b.TempDir(), "code"), 0)
	check(b, err)
	rec := adm.Record()
	for b.Loop() {
		a, err := s.gate.Recall(b.Context(), rec)
		check(b, err)
		_, release, err := cache.Unpacked(b.Context(), a)
		check(b, err)
		release()
	}
}

// BenchmarkSignSmall signs a package of a few hundred bytes, its record made
// durable before the package is written, beside a raw signature of the same
// curve. The root package's BenchmarkSign/small is this without the disk.
func BenchmarkSignSmall(b *testing.B) {
	s := openSignery(b)
	name := filepath.Join(b.TempDir(), "app.zip")
	check(b, os.WriteFile(name, bundle(b, "app.py", []byte("def handler(e, c): return e\n")), 0o644))
	z, err := os.Open(name)
	check(b, err)
	defer z.Close()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(b, err)
	sum := sha512.Sum384([]byte("x"))
	t := turns(b, 50, func() { s.sign(b, z, io.Discard) }, func() {
		_, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		check(b, err)
	})
	b.ReportMetric(micros(median(t[0])), "sign-µs")
	b.ReportMetric(100/ratio(t[0], t[1]), "%-of-raw-P384")
}
