package countersign

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTrustFile(t *testing.T) {
	t.Parallel()
	p, q := newPKI(t), newPKI(t)
	for name, want := range map[string]Trust{
		"strict":   {Roots: []Root{{p.root, true}}},
		"optional": {Roots: []Root{{p.root, false}}},
		"two":      {Roots: []Root{{p.root, false}, {q.root, true}}},
		"two, too": {Roots: []Root{{p.root, true}, {q.root, false}}},
	} {
		got, err := LoadTrust(want.PEM())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, r := range want.Roots {
			if len(got.Roots) != len(want.Roots) || !got.Roots[i].Cert.Equal(r.Cert) || got.Roots[i].RequireStrict != r.RequireStrict {
				t.Errorf("%s: got %v, want %v", name, got.Roots, want.Roots)
			}
		}
	}
	// As tools write them: plain, with a text rendering above, CRLF.
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.root.Raw})
	for name, b := range map[string][]byte{
		"plain":       block,
		"text":        append([]byte("Certificate:\n    Data:\n        Version: 3 (0x2)\n"), block...),
		"CRLF":        bytes.ReplaceAll(block, []byte("\n"), []byte("\r\n")),
		"text behind": append(bytes.Clone(block), "that is all\n"...),
	} {
		if got, err := LoadTrust(b); err != nil || len(got.Roots) != 1 || !got.Roots[0].RequireStrict {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestTrustFileRefuses(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	root := block("CERTIFICATE", p.root.Raw)
	key, err := x509.MarshalECPrivateKey(p.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	selfLeaf := issue(t, signerTemplate(), signerTemplate(), p.leafKey.Public(), p.leafKey)
	forged := issue(t, authority("Root", 1), authority("Root", 1), p.leafKey.Public(), p.rootKey)
	for name, c := range map[string]struct{ file, want string }{
		"nothing":              {"", "no certificate"},
		"text":                 {"hello\n", "no certificate"},
		"private key":          {block("EC PRIVATE KEY", key), "not a CERTIFICATE"},
		"root, then key":       {root + block("EC PRIVATE KEY", key), "not a CERTIFICATE"},
		"intermediate":         {block("CERTIFICATE", p.regional.Raw), "not a root"},
		"self-signed leaf":     {block("CERTIFICATE", selfLeaf.Raw), "not a root"},
		"not signed by itself": {block("CERTIFICATE", forged.Raw), "did not sign itself"},
		"twice":                {root + root, "twice"},
		"malformed":            {block("CERTIFICATE", []byte("x")), "certificate 1"},
		"broken block":         {"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n" + root, "malformed"},
		"unfinished block":     {root[:len(root)-30], "malformed"},
		"block swallowed":      {"-----BEGIN CERTIFICATE-----\n" + root, "malformed"},
		"unknown directive":    {"# countersign: strict maybe\n" + root, "not understood"},
		"directive for none":   {root + strictOptional + "\n", "no certificate follows"},
	} {
		if got, err := LoadTrust([]byte(c.file)); err == nil || !strings.Contains(err.Error(), c.want) || len(got.Roots) != 0 {
			t.Errorf("%s: got %v, %v, want an error about %q", name, got, err, c.want)
		}
	}
}

// The word for one certificate does not spill over to the next.
func TestTrustDirectiveScope(t *testing.T) {
	t.Parallel()
	p, q := newPKI(t), newPKI(t)
	a := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.root.Raw})
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: q.root.Raw})
	got, err := LoadTrust([]byte(strictOptional + "\n" + string(a) + string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if got.Roots[0].RequireStrict || !got.Roots[1].RequireStrict {
		t.Errorf("got %v %v, want optional for the first alone", got.Roots[0].RequireStrict, got.Roots[1].RequireStrict)
	}
}

// The trust file is what other tools call a CA bundle.
func TestOpenSSLReadsTrustFile(t *testing.T) {
	t.Parallel()
	needTool(t, "openssl")
	p := newPKI(t)
	f := filepath.Join(t.TempDir(), "trust.pem")
	if err := os.WriteFile(f, Trust{Roots: []Root{{p.root, false}}}.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "x509", "-in", f, "-noout", "-subject").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CN = Root") {
		t.Errorf("openssl: %s (%v)", out, err)
	}
}
