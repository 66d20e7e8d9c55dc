package sigv4

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Names of the query form's parameters and of the headers this package reads.
const (
	paramAlgorithm     = "X-Amz-Algorithm"
	paramCredential    = "X-Amz-Credential"
	paramSignature     = "X-Amz-Signature"
	paramSignedHeaders = "X-Amz-SignedHeaders"
	paramDate          = "X-Amz-Date"
	paramExpires       = "X-Amz-Expires"
	paramToken         = "X-Amz-Security-Token"

	headerDate  = "X-Amz-Date"
	headerToken = "X-Amz-Security-Token"
)

// maxExpires is the longest life of a presigned URL: a week.
const maxExpires = 7 * 24 * time.Hour

// A Claim is what a request says about its signer, taken apart and not
// believed: only a Claim that [Verify] returned without an error is true.
type Claim struct {
	Presigned     bool   // the query form
	KeyID         string // access key id
	Scope         Scope
	SignedHeaders []string      // lower case, sorted
	Time          time.Time     // when it was signed, by the signer's clock
	Token         string        // session token, "" when there is none
	Expires       time.Duration // of a presigned URL; negative when it does not say

	credential string // as sent
	signed     string // SignedHeaders as sent
	signature  string // as sent
	date       string // Time in ISO 8601 basic format
	path       string // as sent
	query      []pair
	tokens     [2]string // from the header and from the query
}

// Parse takes the signature of r apart, in header or query form, and judges
// its syntax and nothing more: presence of credentials, then algorithm, then
// the parameters, then the date's form. A [*Problem] is the only error.
func Parse(r *http.Request) (*Claim, error) {
	auth := r.Header["Authorization"]
	path, raw := target(r)
	query, ok := parseQuery(raw)
	if !ok {
		return nil, problem(Incomplete, "The query string has a percent sign that does not begin an escape. Re-examine the query-string parameters.")
	}
	inQuery := slices.ContainsFunc(query, func(p pair) bool { return p.name == paramAlgorithm })
	inHeader := slices.ContainsFunc(auth, func(s string) bool { return strings.TrimSpace(s) != "" })
	switch {
	case inHeader && inQuery:
		return nil, problem(Both, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
	case !inHeader && !inQuery:
		return nil, problem(Missing, "")
	case inHeader && len(auth) > 1:
		return nil, problem(Incomplete, "A request must have one Authorization header.")
	}

	c := &Claim{Presigned: inQuery, Expires: -1, path: path, query: query}
	c.tokens[0] = headerValue(r, "x-amz-security-token")
	var err error
	if inQuery {
		err = c.parseQueryForm()
	} else {
		err = c.parseHeader(r, strings.TrimSpace(auth[0]))
	}
	if err != nil {
		return nil, err
	}
	c.KeyID, c.Scope, _ = splitCredential(c.credential) // judged by checkScope, after the date
	c.SignedHeaders = strings.Split(c.signed, ";")
	return c, nil
}

// A param is a parameter of either form, and where its value goes.
type param struct {
	name  string
	value *string
}

func separator(r rune) bool { return r == ',' || r == ' ' }

// parseHeader reads an Authorization header:
//
//	AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…
func (c *Claim) parseHeader(r *http.Request, auth string) error {
	algorithm, rest, _ := strings.Cut(auth, " ")
	if algorithm != Algorithm {
		if !strings.HasPrefix(algorithm, "AWS") {
			return problem(Missing, "") // Basic, Bearer: no credentials of ours
		}
		return problem(Unsupported, "Unsupported AWS 'algorithm': '"+echo(algorithm)+"'.")
	}
	params := [...]param{{"Credential", &c.credential}, {"Signature", &c.signature}, {"SignedHeaders", &c.signed}}
	for f := range strings.FieldsFuncSeq(rest, separator) {
		k, v, ok := strings.Cut(f, "=")
		if !ok {
			// The header goes back as a hash: what stands in it may be a secret.
			sum := sha256.Sum256([]byte(auth))
			return problem(Incomplete, "Invalid key=value pair (missing equal-sign) in Authorization header (hashed with SHA-256 and encoded with Base64): '"+
				base64.StdEncoding.EncodeToString(sum[:])+"'.")
		}
		for _, p := range params {
			if p.name != k {
				continue
			}
			if *p.value != "" {
				return problem(Incomplete, "Authorization header must have one '"+k+"' parameter.")
			}
			*p.value = v
		}
	}
	var missing []string
	for _, p := range params {
		if *p.value == "" {
			missing = append(missing, "Authorization header requires '"+p.name+"' parameter.")
		}
	}
	// X-Amz-Date wins over Date.
	date := headerValue(r, "x-amz-date")
	if date == "" {
		date = headerValue(r, "date")
	}
	if date == "" {
		missing = append(missing, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	if missing != nil {
		return problem(Incomplete, strings.Join(missing, " ")+" Authorization="+echo(masked(auth)))
	}
	for _, p := range c.query {
		if p.name == paramToken {
			c.tokens[1] = p.value
		}
	}
	t, ok := parseBasic(date)
	if !ok && r.Header[headerDate] == nil {
		var err error
		t, err = http.ParseTime(date)
		ok = err == nil
	}
	if !ok {
		return badDate(date)
	}
	c.Time, c.date = t, t.UTC().Format(basicForm)
	return nil
}

// parseQueryForm reads the X-Amz-* parameters of a presigned URL.
func (c *Claim) parseQueryForm() error {
	var algorithm, date, expires string
	params := [...]param{
		{paramAlgorithm, &algorithm}, {paramCredential, &c.credential}, {paramSignature, &c.signature},
		{paramSignedHeaders, &c.signed}, {paramDate, &date}, {paramExpires, &expires}, {paramToken, &c.tokens[1]},
	}
	const required = 5 // the first ones
	var seen [len(params)]bool
	for _, q := range c.query {
		for i, p := range params {
			if p.name != q.name {
				continue
			}
			if seen[i] {
				// Two readers of one URL could each believe another one.
				return problem(IncompleteQuery, "AWS query-string parameters must include '"+p.name+"' once. Re-examine the query-string parameters.")
			}
			seen[i] = true
			*p.value = q.value
		}
	}
	var missing []string
	for _, p := range params[:required] {
		if *p.value == "" {
			missing = append(missing, "AWS query-string parameters must include '"+p.name+"'.")
		}
	}
	if missing != nil {
		return problem(IncompleteQuery, strings.Join(missing, " ")+" Re-examine the query-string parameters.")
	}
	if algorithm != Algorithm {
		return problem(Unsupported, "Unsupported AWS 'algorithm': '"+echo(algorithm)+"'.")
	}
	t, ok := parseBasic(date)
	if !ok {
		return badDate(date)
	}
	c.Time, c.date = t, date
	if seen[5] { // X-Amz-Expires
		n, err := strconv.Atoi(expires)
		switch {
		case err != nil:
			return problem(BadExpires, "X-Amz-Expires should be a number")
		case n < 0:
			return problem(BadExpires, "X-Amz-Expires must be non-negative")
		case n > int(maxExpires/time.Second):
			return problem(BadExpires, "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
		}
		c.Expires = time.Duration(n) * time.Second
	}
	return nil
}

func badDate(got string) error {
	return problem(BadDate, "Date must be in ISO-8601 'basic format'. Got '"+echo(got)+"'. See http://en.wikipedia.org/wiki/ISO_8601")
}

// splitCredential takes keyid/date/region/service/term apart.
func splitCredential(s string) (keyID string, scope Scope, ok bool) {
	p := strings.Split(s, "/")
	if len(p) != 5 || p[0] == "" {
		return "", Scope{}, false
	}
	return p[0], Scope{p[1], p[2], p[3], p[4]}, true
}

// covers reports whether header name is under the signature.
func (c *Claim) covers(name string) bool {
	_, ok := slices.BinarySearch(c.SignedHeaders, name)
	return ok
}

// canonicalList reports whether SignedHeaders is as a signer must write it:
// lower case, sorted, no name twice, no name empty. Anything else would leave
// two spellings of one signature.
func (c *Claim) canonicalList() bool {
	for i, n := range c.SignedHeaders {
		if n == "" || i > 0 && c.SignedHeaders[i-1] >= n {
			return false
		}
		for j := range len(n) {
			if b := n[j]; b <= ' ' || b >= 0x7f || 'A' <= b && b <= 'Z' {
				return false
			}
		}
	}
	return true
}

// Canonical returns the canonical request and the string to sign of c, as the
// server sees them. r must be the request c was parsed from; payload is the
// hash of its body, in hex, or one of S3's words for it.
func (c *Claim) Canonical(r *http.Request, payload string, s3 bool) (canonical, toSign string) {
	skip := ""
	if c.Presigned {
		skip = paramSignature
	}
	canonical = canonicalRequest(r.Method, canonicalPath(c.path, s3), canonicalQuery(c.query, skip), r, c.signed, payload)
	return canonical, StringToSign(c.date, c.Scope, canonical)
}

// maxEcho bounds what a refusal repeats of a request.
const maxEcho = 1024

// echo makes a piece of a request fit to stand in a reply: bounded, and
// without bytes that XML cannot carry or a terminal would act on.
func echo(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s[:min(len(s), maxEcho)])
}

// masked is an Authorization header without its signature.
func masked(auth string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(auth, "Signature=")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		b.WriteString("Signature=***")
		i := strings.IndexFunc(after, separator)
		if i < 0 {
			return b.String()
		}
		auth = after[i:]
	}
}
