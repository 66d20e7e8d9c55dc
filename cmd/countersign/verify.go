package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"countersign"
)

// verifyCmd judges a file with nothing but a trust file: no server, no
// network.
type verifyCmd struct {
	File   string    `arg:"" help:"The signed zip." type:"existingfile"`
	Trust  string    `required:"" help:"PEM file with the root certificates to believe; countersign ca root prints the platform's." type:"existingfile" placeholder:"ROOT"`
	At     time.Time `help:"Judge expiry at this moment instead of now (RFC 3339)." placeholder:"TIME"`
	Output string    `help:"text or json." enum:"text,json" default:"text"`
}

func (verifyCmd) Help() string {
	return `Prints who signed the zip, for which signing job and profile version, until
when, and through which chain. Exits 0 only if the signature is whole, covers
these bytes, is in force and ends at a root of the trust file; otherwise every
reason is printed and the exit status is 1.

  countersign ca root --data DIR > root.pem
  countersign verify app.signed.zip --trust root.pem`
}

// A verdict is what verify found, as --output json prints it.
type verdict struct {
	File           string               `json:"file"`
	Digest         string               `json:"sha256"`
	Trusted        bool                 `json:"trusted"`
	Job            string               `json:"signing_job,omitempty"`
	ProfileVersion string               `json:"profile_version,omitempty"`
	SignedAt       *time.Time           `json:"signed_at,omitempty"`
	Expires        *time.Time           `json:"expires,omitempty"`
	Strict         bool                 `json:"strict"`
	Chain          []string             `json:"chain,omitempty"`
	Reasons        []countersign.Reason `json:"reasons,omitempty"`
}

func (c verifyCmd) Run(ctx context.Context, s *streams) error {
	pem, err := os.ReadFile(c.Trust)
	if err != nil {
		return fmt.Errorf("read trust file: %w", err)
	}
	trust, err := countersign.LoadTrust(pem)
	if err != nil {
		return hint(fmt.Errorf("trust file %s: %w", c.Trust, err), "countersign ca root --data DIR > root.pem writes one")
	}
	at := c.At
	if at.IsZero() {
		at = time.Now()
	}
	v, err := judge(ctx, c.File, trust, at)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		err = e.Encode(v)
	} else {
		err = v.print(s.out)
	}
	if err != nil {
		return err
	}
	if !v.Trusted {
		return errRefused
	}
	return nil
}

// judge makes a verdict; an error means the file could not be read at all.
func judge(ctx context.Context, name string, trust countersign.Trust, at time.Time) (*verdict, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	v := &verdict{File: name}
	size, err := v.measure(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	a, err := countersign.OpenArchive(f, size, countersign.Limits{})
	if err != nil {
		return v, v.refuse(err)
	}
	e, err := countersign.Verify(ctx, a, trust)
	if err != nil {
		// Say whose signature it claims to be all the same.
		if sf, serr := a.Signature(); serr == nil {
			if sig, perr := countersign.ParseSignature(sf); perr == nil {
				v.claim(sig.Statement)
			}
		}
		return v, v.refuse(err)
	}
	v.claim(e.Statement())
	for _, c := range e.Chain() {
		v.Chain = append(v.Chain, c.Subject.String())
	}
	if r, expired := e.Expired(at); expired {
		v.Reasons = append(v.Reasons, r)
	}
	v.Trusted = len(v.Reasons) == 0
	return v, nil
}

func (v *verdict) measure(f *os.File) (int64, error) {
	d, n, err := countersign.DigestReader(f)
	v.Digest = d.String()
	return n, err
}

func (v *verdict) claim(s countersign.Statement) {
	v.Job, v.ProfileVersion = s.Job, s.ProfileVersion
	v.SignedAt, v.Expires = &s.SignedAt, &s.Expires
	v.Strict = s.Strict != nil
}

// refuse turns a refusal into reasons and passes on everything else.
func (v *verdict) refuse(err error) error {
	var r *countersign.Refusal
	switch {
	case errors.As(err, &r):
		v.Reasons = r.Reasons
		return nil
	case errors.Is(err, countersign.ErrUnsigned):
		v.Reasons = []countersign.Reason{{Check: countersign.CheckMismatch, Code: "unsigned", Detail: "the file carries no signature"}}
		return nil
	}
	return err
}

func (v *verdict) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	word := "REFUSED"
	if v.Trusted {
		word = "trusted"
	}
	fmt.Fprintf(t, "%s\t%s\n", word, v.File)
	fmt.Fprintf(t, "sha256\t%s\n", v.Digest)
	if v.Job != "" {
		says := "" // what a refused signature says is a claim and no more
		if !v.Trusted {
			says = " (claimed)"
		}
		fmt.Fprintf(t, "signing job\t%s%s\n", v.Job, says)
		fmt.Fprintf(t, "profile version\t%s%s\n", v.ProfileVersion, says)
		fmt.Fprintf(t, "signed\t%s%s\n", v.SignedAt.UTC().Format(time.RFC3339), says)
		fmt.Fprintf(t, "expires\t%s%s\n", v.Expires.UTC().Format(time.RFC3339), says)
	}
	for i, c := range v.Chain {
		fmt.Fprintf(t, "%s\t%s\n", [...]string{"chain", ""}[min(i, 1)], c)
	}
	if v.Trusted && !v.Strict {
		fmt.Fprintf(t, "note\tthe signature has no strict digest: entry modes and boundaries are not covered\n")
	}
	for _, r := range v.Reasons {
		fmt.Fprintf(t, "%s\t%s (%s)\n", r.Check, r.Detail, r.Code)
	}
	return t.Flush()
}
