package sign_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"io"
	mrand "math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"countersign/internal/sign"
	"countersign/internal/testenv"
)

// The budget is in ratios against a peer in the same run: SignSmallZip at
// least 60 % of the rate of RawP384, Sign50MB at most twice the time of
// SHA384Of50MB (Go's) and of OpenSSLDgst50MB.

func BenchmarkRawP384(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(b, err)
	digest := sha512.Sum384([]byte("x"))
	for b.Loop() {
		if _, err := key.Sign(rand.Reader, digest[:], crypto.SHA384); err != nil {
			b.Fatal(err)
		}
	}
}

// quiet discards jobs' records, so that signing alone is measured; what a
// durable write costs is internal/store's to measure.
func BenchmarkSignSmallZip(b *testing.B) {
	p := newPlatform(b)
	benchmarkSign(b, p, hello(b))
}

func benchmarkSign(b *testing.B, p *platform, body []byte) {
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := p.SignArchive(b.Context(), here, root, "prod", bytes.NewReader(body), int64(len(body)), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// big is 50 MB of content of which about half compresses away.
func big(b *testing.B) (content, archive []byte) {
	r := mrand.NewChaCha8([32]byte{1})
	content = make([]byte, 50<<20)
	for i := 0; i < len(content); i += 64 {
		r.Read(content[i : i+32]) // and 32 zeros
	}
	return content, zipped(b, "data", string(content))
}

func BenchmarkSign50MB(b *testing.B) {
	p := newPlatform(b)
	content, archive := big(b)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if _, err := p.SignArchive(b.Context(), here, root, "prod", bytes.NewReader(archive), int64(len(archive)), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJob50MB is the whole job: read, checked, signed, written, verified by none.
func BenchmarkJob50MB(b *testing.B) {
	p := newPlatform(b)
	content, archive := big(b)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if j := p.sign(b, p.request(archive, "big.zip")); j.Status != sign.Succeeded {
			b.Fatal(j.Reason)
		}
		p.shelves.remove("src", "big.zip")
	}
}

func BenchmarkSHA384Of50MB(b *testing.B) {
	content, _ := big(b)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		sha512.Sum384(content)
	}
}

func BenchmarkOpenSSLDgst50MB(b *testing.B) {
	openssl := testenv.Tool(b, "openssl")
	content, _ := big(b)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		cmd := exec.Command(openssl, "dgst", "-sha384")
		cmd.Stdin = bytes.NewReader(content)
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJob is a small job on the real store, from the request to its end.
func BenchmarkJob(b *testing.B) {
	st, _ := openStore(b, b.TempDir())
	p := prepare(b, st)
	p.start(b)
	p.profile(b, "prod")
	r := p.request(hello(b), "app.zip")
	for b.Loop() {
		r.Token = rand.Text()
		if j := p.sign(b, r); j.Status != sign.Succeeded {
			b.Fatal(j.Reason)
		}
	}
}

// BenchmarkListJobs is one page out of 10,000 jobs.
func BenchmarkListJobs(b *testing.B) {
	p := newPlatform(b)
	for range 10_000 {
		body := hello(b)
		if _, err := p.SignArchive(context.Background(), here, root, "prod", bytes.NewReader(body), int64(len(body)), io.Discard); err != nil {
			b.Fatal(err)
		}
		p.clock.add(time.Second)
	}
	for b.Loop() {
		if _, next, err := p.Jobs(here, sign.JobFilter{}, sign.PageRequest{}); err != nil || next == "" {
			b.Fatal(next, err)
		}
	}
}
