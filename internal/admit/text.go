package admit

import (
	"bytes"
	"io"
	"strings"

	"countersign"
)

// isProfile reports whether s is a signing profile ARN without a version:
// arn:…:signer:…:/signing-profiles/NAME.
func isProfile(s string) bool {
	a, err := countersign.ParseARN(s)
	if err != nil || a.Service != "signer" {
		return false
	}
	name, ok := strings.CutPrefix(a.Resource, "/signing-profiles/")
	return ok && name != "" && !strings.Contains(name, "/")
}

// mentionsSignature looks for the signature file's name in raw bytes, because
// there is no archive to ask. It decides between two refusals, never between
// yes and no.
func mentionsSignature(f Artifact) bool {
	name := []byte(countersign.SignaturePath)
	r := io.NewSectionReader(f, 0, f.Size())
	buf := make([]byte, 256<<10)
	keep := 0
	for {
		n, err := r.Read(buf[keep:])
		if bytes.Contains(buf[:keep+n], name) {
			return true
		}
		if err != nil {
			return false
		}
		k := min(len(name)-1, keep+n)
		copy(buf, buf[keep+n-k:keep+n])
		keep = k
	}
}
