package countersign

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	mrand "math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// payload is a package of about 50 MB as people have them: half of it source
// text that deflates to a third, half of it libraries that hardly do. It
// returns the zip and its content in one piece.
func payload(b *testing.B, method uint16) (z, content []byte) {
	b.Helper()
	r := mrand.New(mrand.NewSource(1))
	words := []string{"func ", "return ", "import os\n", "def handler(event, context):\n", "    ", "if ", "self.", "x = ", "print(", "foo", "bar"}
	var files []file
	size := 0
	for i := 0; size < 75<<20; i++ {
		body := make([]byte, 0, 1<<20)
		if i%2 == 0 {
			body = body[:1<<19]
			r.Read(body)
		} else {
			for len(body) < 1<<20-64 {
				body = append(body, words[r.Intn(len(words))]...)
				if r.Intn(4) == 0 {
					body = fmt.Appendf(body, "%x", r.Int31())
				}
			}
		}
		files = append(files, file{name: fmt.Sprintf("lib/f%04d", i), body: string(body)})
		content = append(content, body...)
		size += len(body)
	}
	z = zipWith(b, method, time.Unix(1e9, 0), files...)
	return z, content
}

// beside runs ours and theirs in turns until the benchmark is over, and
// returns the median time of each: on a busy machine the median moves least.
func beside(b *testing.B, ours, theirs func()) (o, t time.Duration) {
	b.Helper()
	var os, ts []time.Duration
	for b.Loop() {
		t0 := time.Now()
		ours()
		t1 := time.Now()
		theirs()
		os, ts = append(os, t1.Sub(t0)), append(ts, time.Since(t1))
	}
	slices.Sort(os)
	slices.Sort(ts)
	return os[len(os)/2], ts[len(ts)/2]
}

// besideSHA384 reports how many times as long as raw SHA-384 over its content
// f takes.
func besideSHA384(b *testing.B, content []byte, f func()) {
	b.Helper()
	ours, raw := beside(b, f, func() { sha512.Sum384(content) })
	b.ReportMetric(float64(ours)/float64(raw), "x-sha384")
	b.ReportMetric(ours.Seconds()*1e3, "ours-ms")
}

func BenchmarkDigests(b *testing.B) {
	for name, m := range map[string]uint16{"stored": zip.Store, "deflated": zip.Deflate} {
		z, content := payload(b, m)
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(float64(len(z))/1e6, "MB-zip")
			a := open(b, z)
			besideSHA384(b, content, func() {
				if _, err := a.Digests(b.Context()); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkSign is the whole of signing but for storing the result: open,
// digest, sign, write.
func BenchmarkSign(b *testing.B) {
	p := newPKI(b)
	z, content := payload(b, zip.Deflate)
	b.Run("50MB", func(b *testing.B) {
		besideSHA384(b, content, func() {
			a := open(b, z)
			sf, err := statement(b, a).Sign(rand.Reader, p.leafKey, p.chain())
			if err != nil {
				b.Fatal(err)
			}
			writeSigned(b, a, sf)
		})
	})
	b.Run("small", func(b *testing.B) {
		z := zipOf(b, sources()...)
		hash := make([]byte, sha512.Size384)
		ours, raw := beside(b, func() {
			a := open(b, z)
			sf, err := statement(b, a).Sign(rand.Reader, p.leafKey, p.chain())
			if err != nil {
				b.Fatal(err)
			}
			writeSigned(b, a, sf)
		}, func() {
			if _, err := ecdsa.SignASN1(rand.Reader, p.leafKey, hash); err != nil {
				b.Fatal(err)
			}
		})
		b.ReportMetric(100*raw.Seconds()/ours.Seconds(), "%-of-raw-P384")
	})
}

func BenchmarkVerify(b *testing.B) {
	p := newPKI(b)
	z, content := payload(b, zip.Deflate)
	for name, z := range map[string][]byte{"50MB": z, "small": zipOf(b, sources()...)} {
		signed, _ := p.sign(b, z)
		b.Run(name, func(b *testing.B) {
			f := func() {
				if _, err := Verify(b.Context(), open(b, signed), p.trust()); err != nil {
					b.Fatal(err)
				}
			}
			if name == "small" {
				for b.Loop() {
					f()
				}
				return
			}
			besideSHA384(b, content, f)
		})
	}
}

func BenchmarkOpenArchive(b *testing.B) {
	z := rawZip{entries: make([]rawEntry, 10_000)}
	for i := range z.entries {
		z.entries[i] = stored(fmt.Sprintf("node_modules/p%d/lib/f%d.js", i/20, i), "x")
	}
	raw := z.bytes()
	for b.Loop() {
		if _, err := OpenArchive(bytes.NewReader(raw), int64(len(raw)), Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	z, content := payload(b, zip.Deflate)
	a := open(b, z)
	base := b.TempDir()
	b.SetBytes(int64(len(content)))
	for n := 0; b.Loop(); n++ {
		dir := filepath.Join(base, fmt.Sprint(n))
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := a.Unpack(b.Context(), dir); err != nil {
			b.Fatal(err)
		}
		os.RemoveAll(dir)
	}
}
