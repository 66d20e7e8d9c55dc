// Package sigv4 checks AWS Signature Version 4 from the server's side: whose
// key a request says it was signed with, and whether it was.
//
// It promises that a request passes only if every byte that takes part in its
// meaning (method, path, query, signed headers, date, scope, body) is the byte
// the holder of the secret signed, that the order of its refusals is the order
// AWS answers in, and that no refusal repeats a secret, a token or a
// signature. It trusts the caller's clock and the caller's key lookup, and no
// byte of the request.
//
// It follows AWS's "Signature Version 4 signing process" for the header and
// the query form, and Amazon S3's "Signature Calculations" for S3's canonical
// form and the aws-chunked arithmetic. Signature Version 4a (ECDSA) and
// Version 2 are refused. It is pure: standard library, no clock, no I/O.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// Fixed words of the specification.
const (
	Algorithm  = "AWS4-HMAC-SHA256"
	Terminator = "aws4_request"
	// UnsignedPayload stands where the body's hash would, where a service
	// allows a body that the signature does not cover.
	UnsignedPayload = "UNSIGNED-PAYLOAD"
	// EmptySHA256 is the hash of no bytes.
	EmptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

	dateForm  = "20060102"
	basicForm = "20060102T150405Z" // ISO 8601, "basic format"
)

// A Scope is a credential scope: what a signing key is good for.
type Scope struct {
	Date       string // YYYYMMDD
	Region     string
	Service    string // the signing name, "lambda"
	Terminator string // "aws4_request"
}

// String joins s as it stands in a string to sign: date/region/service/terminator.
func (s Scope) String() string {
	return s.Date + "/" + s.Region + "/" + s.Service + "/" + s.Terminator
}

// SigningKey derives the key for one day, region and service from a secret
// access key. date is YYYYMMDD. Whoever has the result can sign for that
// scope, and cannot get the secret back.
func SigningKey(secret, date, region, service string) []byte {
	k := mac([]byte("AWS4"+secret), date)
	k = mac(k, region)
	k = mac(k, service)
	return mac(k, Terminator)
}

// StringToSign is what a signature is computed over. date is the request's
// time in ISO 8601 basic format.
func StringToSign(date string, scope Scope, canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	return Algorithm + "\n" + date + "\n" + scope.String() + "\n" + hex.EncodeToString(sum[:])
}

// Sign returns the signature of a string to sign: 64 lower-case hex digits.
func Sign(key []byte, stringToSign string) string {
	return hex.EncodeToString(mac(key, stringToSign))
}

// BodyHash returns the hash of body as it ends a canonical request.
func BodyHash(body []byte) string {
	if len(body) == 0 {
		return EmptySHA256
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// same reports whether a signature as sent is sum. It takes the same time for
// every well-formed signature, and takes upper-case hex for what it is: not
// what a signer writes.
func same(sent string, sum []byte) bool {
	if len(sent) != hex.EncodedLen(len(sum)) || strings.ContainsAny(sent, "ABCDEF") {
		return false
	}
	got, err := hex.DecodeString(sent)
	return err == nil && hmac.Equal(got, sum)
}

func mac(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}

// parseBasic reads ISO 8601 basic format and nothing else. [time.Parse] alone
// would let fractions of a second through.
func parseBasic(s string) (time.Time, bool) {
	if len(s) != len(basicForm) {
		return time.Time{}, false
	}
	t, err := time.Parse(basicForm, s)
	return t, err == nil
}
