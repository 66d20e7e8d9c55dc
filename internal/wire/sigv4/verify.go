package sigv4

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Key is what the server knows about an access key id.
type Key struct {
	Secret  string
	Token   string    // the session token that must come with it; "" for a long-lived key
	Expires time.Time // when a session ends; zero for never
}

// ErrUnknownKey is what a lookup returns for an access key id nobody has.
// Any other error means the lookup could not be made.
var ErrUnknownKey = errors.New("no such access key")

// A check is one step of the procedure between parsing and the key lookup.
type check func(v *verification) error

// checks in the order AWS answers in: a wrong scope wins over an unknown key,
// a bad token and a bad signature.
var checks = []check{
	checkDate,
	checkCredential,
	checkScope,
	checkHeaders,
	checkTokens,
}

type verification struct {
	r     *http.Request
	c     *Claim
	rules *Rules
	now   time.Time
}

// Verify decides whether r was signed, for the service rules are of, by the
// holder of a key that find knows; find is also told the session token that
// came with the key, which is not compared yet. payload is the hash of r's body
// ([BodyHash]), which the caller has computed itself; for S3 it may be one of
// S3's words instead.
//
// A refusal is a [*Problem]. An error of find other than [ErrUnknownKey] is
// returned as it is: nothing was decided.
func Verify(r *http.Request, payload string, rules Rules, now time.Time, find func(keyID, token string) (Key, error)) (*Claim, error) {
	c, err := Parse(r)
	if err != nil {
		return nil, err
	}
	v := &verification{r, c, &rules, now.UTC()}
	for _, check := range checks {
		if err := check(v); err != nil {
			return nil, err
		}
	}
	key, err := find(c.KeyID, c.Token)
	switch {
	case errors.Is(err, ErrUnknownKey):
		return nil, problem(UnknownKey, "")
	case err != nil:
		return nil, err
	case key.Secret == "": // an empty secret is a signature anyone can make
		return nil, errors.New("access key without a secret")
	}
	if err := v.checkKey(key); err != nil {
		return nil, err
	}
	canonical, toSign := c.Canonical(r, payload, rules.Family == S3)
	k := SigningKey(key.Secret, c.Scope.Date, c.Scope.Region, c.Scope.Service)
	if !same(c.signature, mac(k, toSign)) {
		return nil, &Problem{Outcome: Mismatch, canonical: canonical, toSign: toSign}
	}
	return c, nil
}

// checkDate compares the signer's clock with ours. The window is inclusive.
func checkDate(v *verification) error {
	t, window := v.c.Time, v.rules.Window
	if v.c.Presigned && v.rules.Family == S3 {
		switch {
		case v.c.Expires < 0:
			return problem(IncompleteQuery, "")
		case t.Sub(v.now) > window:
			return problem(NotYet, "Request is not yet valid")
		case v.now.After(t.Add(v.c.Expires)):
			return problem(Expired, "Request has expired")
		}
		return nil
	}
	minutes := " " + v.rules.minutes() + " min.)"
	if t.Sub(v.now) > window {
		return problem(Skew, "Signature not yet current: "+v.c.date+" is still later than "+
			v.now.Add(window).Format(basicForm)+" ("+v.now.Format(basicForm)+" +"+minutes)
	}
	// X-Amz-Expires never lengthens a life that the window has ended, and STS
	// does not look at it at all: EKS tokens say 60 seconds and live for 15
	// minutes.
	if v.c.Expires >= 0 && v.c.Expires < window && v.rules.Service != "sts" {
		if limit := t.Add(v.c.Expires); v.now.After(limit) {
			return problem(Skew, "Signature expired: "+v.c.date+" is now earlier than "+
				v.now.Add(-v.c.Expires).Format(basicForm)+" ("+v.now.Format(basicForm)+" - "+strconv.Itoa(int(v.c.Expires/time.Second))+" sec.)")
		}
	}
	if v.now.Sub(t) > window {
		return problem(Skew, "Signature expired: "+v.c.date+" is now earlier than "+
			v.now.Add(-window).Format(basicForm)+" ("+v.now.Format(basicForm)+" -"+minutes)
	}
	return nil
}

func checkCredential(v *verification) error {
	if _, _, ok := splitCredential(v.c.credential); !ok {
		return problem(BadCredential, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '"+echo(v.c.credential)+"'")
	}
	return nil
}

// checkScope adds up what is wrong with the credential scope. Region and
// service sentences end in a space, as AWS's do.
func checkScope(v *verification) error {
	s, date := v.c.Scope, v.c.date[:len(dateForm)]
	if v.rules.Family == S3 {
		return checkScopeS3(v, date)
	}
	var b strings.Builder
	if !LooksLikeRegion(s.Region) {
		b.WriteString("Credential should be scoped to a valid region. ")
	}
	if s.Service != v.rules.Service {
		b.WriteString("Credential should be scoped to correct service: '" + v.rules.Service + "'. ")
	}
	if s.Terminator != Terminator {
		b.WriteString("Credential should be scoped with a valid terminator: '" + Terminator + "', not '" + echo(s.Terminator) + "'.")
	}
	if s.Date != date {
		b.WriteString("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" +
			echo(s.Date) + "' != '" + date + "', from '" + v.c.date + "'.")
	}
	if b.Len() > 0 {
		return problem(BadScope, b.String())
	}
	return nil
}

// checkScopeS3 stops at the first thing wrong, region first.
func checkScopeS3(v *verification, date string) error {
	s, prefix := v.c.Scope, "The authorization header is malformed; "
	if v.c.Presigned {
		prefix = "Error parsing the X-Amz-Credential parameter; "
	}
	switch {
	case !LooksLikeRegion(s.Region):
		return problem(BadScope, prefix+"the region '"+echo(s.Region)+"' is wrong; expecting 'us-east-1'")
	case s.Service != v.rules.Service:
		return problem(BadScope, prefix+`incorrect service "`+echo(s.Service)+`". This endpoint belongs to "`+v.rules.Service+`".`)
	case s.Terminator != Terminator:
		return problem(BadScope, prefix+`incorrect terminal "`+echo(s.Terminator)+`". This endpoint uses "`+Terminator+`".`)
	case s.Date != date:
		return problem(BadScope, prefix+"Invalid credential date. Date is not the same as X-Amz-Date.")
	}
	return nil
}

// checkHeaders demands that the signature covers what AWS's documentation says
// it must: the host, and every x-amz-* header of the request. One exception:
// a session token may be added after signing, except on S3; the token is bound
// to its key, so that nobody gains by adding one.
func checkHeaders(v *verification) error {
	if !v.c.canonicalList() {
		return problem(Mismatch, "")
	}
	if !v.c.covers("host") && !v.c.covers(":authority") {
		return problem(Unsigned, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range v.r.Header {
		if len(name) < 6 || !strings.EqualFold(name[:6], "X-Amz-") || name == headerToken && v.rules.Family != S3 {
			continue
		}
		if !v.c.covers(strings.ToLower(name)) {
			if v.rules.Family == S3 {
				return problem(Unsigned, "There were headers present in the request which were not signed")
			}
			return problem(Unsigned, "'"+echo(name)+"' must be a 'SignedHeader' in the AWS Authorization.")
		}
	}
	return nil
}

// checkTokens settles which session token the request brings, from the header
// or from the query. S3 lets a signed header win; elsewhere two tokens that
// differ are no token.
func checkTokens(v *verification) error {
	token, second := v.c.tokens[0], v.c.tokens[1]
	if token == "" {
		token = second
	} else if second != "" && second != token && (v.rules.Family != S3 || !v.c.covers("x-amz-security-token")) {
		return problem(BadToken, "")
	}
	v.c.Token = token
	return nil
}

// checkKey compares the session token with the key's. Expiry is asked after
// the token and before the signature.
func (v *verification) checkKey(key Key) error {
	if subtle.ConstantTimeCompare([]byte(v.c.Token), []byte(key.Token)) != 1 {
		return problem(BadToken, "")
	}
	if !key.Expires.IsZero() && !v.now.Before(key.Expires) {
		return problem(ExpiredToken, "")
	}
	return nil
}

// LooksLikeRegion reports whether s has the form of a region's name:
// us-east-1, us-gov-west-1, ap-southeast-12. State is kept by region, and any
// region may be used; what has another form is a mistake or an attack.
func LooksLikeRegion(s string) bool {
	if len(s) > 32 {
		return false
	}
	words := strings.Split(s, "-")
	n := len(words)
	if n < 3 || n > 4 {
		return false
	}
	number := words[n-1]
	if len(number) < 1 || len(number) > 2 || strings.Trim(number, "0123456789") != "" || number[0] == '0' {
		return false
	}
	for _, w := range words[:n-1] {
		if len(w) < 2 || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz") != "" {
			return false
		}
	}
	return true
}
