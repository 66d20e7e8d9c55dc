// Package admittest helps tests to admissions, by the only door there is.
package admittest

import (
	"archive/zip"
	"bytes"
	"context"
	"testing"
	"time"

	"countersign"
	"countersign/internal/admit"
)

// Artifacts are archives in memory.
type Artifacts map[countersign.Digest][]byte

// Add puts b there and returns its digest.
func (a Artifacts) Add(b []byte) countersign.Digest {
	d := countersign.DigestOf(b)
	a[d] = b
	return d
}

// Open implements [admit.Artifacts].
func (a Artifacts) Open(_ context.Context, d countersign.Digest) (admit.Artifact, error) {
	return artifact{bytes.NewReader(a[d])}, nil
}

type artifact struct{ *bytes.Reader }

func (artifact) Close() error  { return nil }
func (a artifact) Size() int64 { return a.Reader.Size() }

// Zip makes an archive of name, body pairs.
func Zip(t testing.TB, pairs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		w, err := z.Create(pairs[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Admission admits an unsigned archive that holds body, where no policy asks
// for a signature.
func Admission(t testing.TB, body string) admit.Admission {
	t.Helper()
	as := Artifacts{}
	d := as.Add(Zip(t, "app.py", body))
	a, err := admit.New(as, countersign.Trust{}, nil, time.Now).Admit(t.Context(), admit.Request{Artifact: d})
	if err != nil {
		t.Fatal(err)
	}
	return a
}
