package countersign

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
)

// A Digest is the SHA-256 of an artifact's bytes, the whole file, signature
// included: its content address, and what AWS shows in base64 as CodeSha256.
type Digest [sha256.Size]byte

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// String is lower-case hex, 64 characters.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Base64 is AWS's spelling, as in CodeSha256.
func (d Digest) Base64() string { return base64.StdEncoding.EncodeToString(d[:]) }

// IsZero reports whether d was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

// ParseDigest reads what [Digest.String] wrote.
func ParseDigest(s string) (d Digest, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) {
		return Digest{}, fmt.Errorf("digest %q is not %d hex characters", s, 2*len(d))
	}
	copy(d[:], b)
	return d, nil
}

// MarshalText makes a Digest a JSON string and a JSON key.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is the inverse of [Digest.MarshalText].
func (d *Digest) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDigest(string(b))
	return err
}

// A ContentDigest is a SHA-384 over what is inside an archive: AWS's form
// (names and bodies joined without framing) or our strict one. See
// [Archive.Digests].
type ContentDigest [sha512.Size384]byte

// String is lower-case hex, 96 characters.
func (d ContentDigest) String() string { return hex.EncodeToString(d[:]) }

// DigestReader returns the digest and the length of everything r holds.
func DigestReader(r io.Reader) (d Digest, n int64, err error) {
	h := sha256.New()
	n, err = io.Copy(h, r)
	h.Sum(d[:0])
	return d, n, err
}
