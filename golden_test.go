package countersign

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "make testdata anew, under new keys that nobody keeps")

// golden is an archive signed once and for all, and the trust file for it.
func golden(t testing.TB) (signed, trust []byte) {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return read("signed.zip"), read("trust.pem")
}

// What was signed stays valid: no later change of ours may refuse it, or see
// other digests in it.
func TestGolden(t *testing.T) {
	if *update {
		p := newPKI(t)
		b, _ := p.sign(t, zipOf(t, sources()...))
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"signed.zip": b, "trust.pem": p.trust().PEM()} {
			if err := os.WriteFile(filepath.Join("testdata", name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, pem := golden(t)
	trust, err := LoadTrust(pem)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := Verify(t.Context(), open(t, b), trust)
	if err != nil {
		t.Fatal(err)
	}
	s := ev.Statement()
	if s.Job != testJob || s.ProfileVersion != testProfile || !s.SignedAt.Equal(signedAt) || !s.Expires.Equal(time.Date(2037, 12, 28, 9, 19, 26, 806e6, time.UTC)) {
		t.Errorf("got statement %+v", s)
	}
	const content, strict = "b9be78614554d03abe4bd7f559b17056dcc132e710a4f697669e7cf63fbdb664ceb622b254ff48a5d8d48f9d06577e2e",
		"c0de34ecdba4f111a2f604c1242d3824c5394d8d0832d4aa2cd85006f1a1cad65d661df2b25da1a5936148f303de8aea"
	if got := ev.Digests(); got.Content.String() != content || got.Strict.String() != strict {
		t.Errorf("got digests %s and %s, want %s and %s", got.Content, got.Strict, content, strict)
	}
}
