package sign_test

import (
	"bytes"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"countersign"
	"countersign/internal/sign"
	"countersign/internal/testenv"
)

// TestOpenSSLAcceptsASignedObject checks a signed object from outside: with
// nothing of ours but the exported root.
func TestOpenSSLAcceptsASignedObject(t *testing.T) {
	t.Parallel()
	openssl := testenv.Tool(t, "openssl")
	p := newPlatform(t)
	j := p.sign(t, p.request(hello(t), "app.zip"))
	if j.Status != sign.Succeeded {
		t.Fatalf("got %s: %s", j.Status, j.Reason)
	}
	object := p.shelves.versions("dst", j.Target.Key)[0]
	e := checkSigned(t, p, j, object)
	a, err := countersign.OpenArchive(bytes.NewReader(object), int64(len(object)), countersign.Limits{})
	must(t, err)
	sf, err := a.Signature()
	must(t, err)

	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, data, 0o600))
		return path
	}
	content := e.Digests().Content
	verify := func(content []byte, root []byte) (string, error) {
		cmd := exec.Command(openssl, "cms", "-verify", "-inform", "PEM", "-in", file("sf", sf),
			"-binary", "-content", file("content", content), "-CAfile", file("root.pem", root),
			// The chain is judged as of the signing; code signing is a
			// purpose openssl has had a name for since 3.2 only.
			"-attime", strconv.FormatInt(j.SignedAt.Unix(), 10), "-purpose", "any", "-out", os.DevNull)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := verify(content[:], p.Authority().RootPEM()); err != nil || !strings.Contains(out, "Verification successful") {
		t.Errorf("got %v: %s", err, out)
	}
	wrong := content
	wrong[0] ^= 1
	if out, err := verify(wrong[:], p.Authority().RootPEM()); err == nil {
		t.Errorf("another content verifies: %s", out)
	}
	other := newPlatform(t)
	if out, err := verify(content[:], other.Authority().RootPEM()); err == nil {
		t.Errorf("another root verifies: %s", out)
	}

	// The chain by itself, under RFC 5280's rules as openssl reads them.
	pems := make([]string, 2)
	for i, name := range []string{"leaf.pem", "intermediate.pem"} {
		pems[i] = file(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Chain()[i].Raw}))
	}
	out, err := exec.Command(openssl, "verify", "-x509_strict", "-check_ss_sig", "-attime", strconv.FormatInt(j.SignedAt.Unix(), 10),
		"-CAfile", file("root.pem", p.Authority().RootPEM()), "-untrusted", pems[1], pems[0]).CombinedOutput()
	if err != nil {
		t.Errorf("strict chain: %v: %s", err, out)
	}
}
