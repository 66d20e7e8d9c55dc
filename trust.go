package countersign

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// A Root is a certificate somebody decided to trust.
type Root struct {
	Cert *x509.Certificate
	// RequireStrict demands our strict digest of every signature under this
	// root. Countersign's own roots have it; AWS's cannot.
	RequireStrict bool
}

// Trust is whom a verifier believes. The zero Trust believes nobody.
type Trust struct {
	Roots []Root
}

// strictOptional stands on a line of its own before a certificate whose
// signatures carry no strict digest.
const strictOptional = "# countersign: strict optional"

const directive = "# countersign:"

// LoadTrust reads a trust file: the PEM of one or more root certificates, as
// any TLS tool writes it. Text between the certificates is ignored, but for
// one line, which applies to the certificate after it:
//
//	# countersign: strict optional
//	-----BEGIN CERTIFICATE-----
//
// Without it a root's signatures must carry Countersign's strict digest, so a
// line that is lost makes verification stricter. Any other line that begins
// with "# countersign:" is an error, and so is a certificate that is no
// self-signed authority, a certificate twice, a block of another kind (a
// private key has no place here), and a file without certificates.
func LoadTrust(file []byte) (Trust, error) {
	var t Trust
	for len(file) > 0 {
		text := file
		if i := bytes.Index(file, []byte("-----BEGIN ")); i >= 0 {
			text = file[:i]
		}
		optional := false
		for line := range strings.Lines(string(text)) {
			switch line = strings.TrimSpace(line); {
			case line == strictOptional:
				optional = true
			case strings.HasPrefix(line, directive):
				return Trust{}, fmt.Errorf("trust file: %q is not understood; known is %q", line, strictOptional)
			}
		}
		file = file[len(text):]
		if len(file) == 0 {
			if optional {
				return Trust{}, fmt.Errorf("trust file: no certificate follows %q", strictOptional)
			}
			break
		}
		block, rest := pem.Decode(file)
		// Decode skips what it cannot read; here nothing may be skipped.
		if block == nil || !bytes.HasPrefix(file, []byte("-----BEGIN "+block.Type+"-----")) ||
			bytes.Count(file[:len(file)-len(rest)], []byte("-----BEGIN ")) != 1 {
			return Trust{}, fmt.Errorf("trust file: PEM block %d is malformed", len(t.Roots)+1)
		}
		if block.Type != "CERTIFICATE" {
			return Trust{}, fmt.Errorf("trust file: PEM block %d is a %s and not a CERTIFICATE", len(t.Roots)+1, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err == nil {
			err = t.add(Root{Cert: c, RequireStrict: !optional})
		}
		if err != nil {
			return Trust{}, fmt.Errorf("trust file: certificate %d: %w", len(t.Roots)+1, err)
		}
		file = rest
	}
	if len(t.Roots) == 0 {
		return Trust{}, errors.New("trust file: it holds no certificate")
	}
	return t, nil
}

func (t *Trust) add(r Root) error {
	c := r.Cert
	if !c.BasicConstraintsValid || !c.IsCA || !bytes.Equal(c.RawIssuer, c.RawSubject) {
		return fmt.Errorf("%s is not a root authority", c.Subject)
	}
	if err := c.CheckSignatureFrom(c); err != nil {
		return fmt.Errorf("%s did not sign itself: %w", c.Subject, err)
	}
	for _, o := range t.Roots {
		if o.Cert.Equal(c) {
			return fmt.Errorf("%s is there twice", c.Subject)
		}
	}
	t.Roots = append(t.Roots, r)
	return nil
}

// PEM is t as a trust file, with each root's subject above it.
func (t Trust) PEM() []byte {
	var b bytes.Buffer
	for _, r := range t.Roots {
		fmt.Fprintf(&b, "# %s\n", quoted(r.Cert.Subject.String()))
		if !r.RequireStrict {
			fmt.Fprintln(&b, strictOptional)
		}
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: r.Cert.Raw}) // a Buffer takes everything
	}
	return b.Bytes()
}
