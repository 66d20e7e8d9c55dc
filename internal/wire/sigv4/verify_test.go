package sigv4

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const goodAuth = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + vanilla

// goodRequest is get-vanilla, signed.
func goodRequest(t *testing.T) *http.Request {
	t.Helper()
	r := suiteRequest(t, vector{request: "GET /"})
	r.Header.Set("Authorization", goodAuth)
	return r
}

func mustParse(t *testing.T, r *http.Request) *Claim {
	t.Helper()
	c, err := Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signed signs a GET of target as the SDK does, for the service and with the
// key of the suite.
func signed(t *testing.T, service, region, keyID, token string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", "https://example.amazonaws.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	creds := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: suiteSecret, SessionToken: token}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, EmptySHA256, service, region, suiteTime); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	auth := func(s string) func(*http.Request) { return func(r *http.Request) { r.Header.Set("Authorization", s) } }
	swap := func(old, new string) func(*http.Request) { return auth(strings.Replace(goodAuth, old, new, 1)) }
	for _, tt := range []struct {
		name string
		edit func(*http.Request)
		want Outcome
		says string // all of the detail, when not empty
	}{
		{"as signed", func(*http.Request) {}, 0, ""},
		{"no header", func(r *http.Request) { r.Header.Del("Authorization") }, Missing, ""},
		{"empty header", auth(""), Missing, ""},
		{"blank header", auth("  "), Missing, ""},
		{"basic", auth("Basic dXNlcjpwYXNz"), Missing, ""},
		{"bearer", auth("Bearer abc"), Missing, ""},
		{"version 5", swap("AWS4", "AWS5"), Unsupported, "Unsupported AWS 'algorithm': 'AWS5-HMAC-SHA256'."},
		{"version 4a", swap("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), Unsupported, "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'."},
		{"version 2", auth("AWS AKIDEXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg="), Unsupported, ""},
		{"lower-case algorithm", swap("AWS4-HMAC-SHA256", "AWS4-hmac-sha256"), Unsupported, ""},
		{"algorithm alone", auth("AWS4-HMAC-SHA256"), Incomplete, "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization=AWS4-HMAC-SHA256"},
		{"no signature, no date", func(r *http.Request) {
			r.Header.Del("X-Amz-Date")
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host")
		}, Incomplete, "Authorization header requires 'Signature' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host"},
		{"no credential", swap("Credential=", "Kredential="), Incomplete, "Authorization header requires 'Credential' parameter. Authorization=AWS4-HMAC-SHA256 Kredential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=***"},
		{"empty signature", swap(vanilla, ""), Incomplete, ""},
		{"no equal sign", auth("AWS4-HMAC-SHA256 FooBar"), Incomplete, "Invalid key=value pair (missing equal-sign) in Authorization header (hashed with SHA-256 and encoded with Base64): '/tTIH/RdeprHMqzRXPr3cfLkkLmY1JQhPD/TjcwUuFs='."},
		{"signature twice", auth(goodAuth + ", Signature=" + vanilla), Incomplete, ""},
		{"credential twice", auth(goodAuth + ", Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"), Incomplete, ""},
		{"header twice", func(r *http.Request) { r.Header.Add("Authorization", goodAuth) }, Incomplete, ""},
		{"header twice, one empty", func(r *http.Request) { r.Header["Authorization"] = []string{"", goodAuth} }, Incomplete, ""},
		{"both forms", func(r *http.Request) { r.RequestURI = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256" }, Both, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."},
		{"both forms, empty", func(r *http.Request) { r.RequestURI = "/?X-Amz-Algorithm" }, Both, ""},
		{"bad escape in the query", func(r *http.Request) { r.RequestURI = "/?a=%zz" }, Incomplete, ""},
		{"no date", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, Incomplete, ""},
		{"bad date", func(r *http.Request) { r.Header.Set("X-Amz-Date", "2015/08/30T12/36/00Z") }, BadDate, "Date must be in ISO-8601 'basic format'. Got '2015/08/30T12/36/00Z'. See http://en.wikipedia.org/wiki/ISO_8601"},
		{"date with a fraction", func(r *http.Request) { r.Header.Set("X-Amz-Date", "20150830T123600.0Z") }, BadDate, ""},
		{"two dates", func(r *http.Request) { r.Header.Add("X-Amz-Date", suiteDate) }, BadDate, ""},
		{"RFC 1123 in X-Amz-Date", func(r *http.Request) { r.Header.Set("X-Amz-Date", suiteTime.Format(http.TimeFormat)) }, BadDate, ""},
		{"another second", func(r *http.Request) { r.Header.Set("X-Amz-Date", "20150830T123601Z") }, Mismatch, ""},
		{"four elements", swap("/aws4_request", ""), BadCredential, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'AKIDEXAMPLE/20150830/us-east-1/service'"},
		{"six elements", swap("AKIDEXAMPLE", "AKID/EXAMPLE"), BadCredential, ""},
		{"no key id", swap("AKIDEXAMPLE", ""), BadCredential, ""},
		{"region", swap("us-east-1", "nowhere"), BadScope, "Credential should be scoped to a valid region. "},
		{"service", swap("/service/", "/sts/"), BadScope, "Credential should be scoped to correct service: 'service'. "},
		{"region and service", swap("us-east-1/service", "moon/sts"), BadScope, "Credential should be scoped to a valid region. Credential should be scoped to correct service: 'service'. "},
		{"terminator", swap("aws4_request", "aws5_request"), BadScope, "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'."},
		{"scope date", swap("20150830", "20150829"), BadScope, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20150829' != '20150830', from '20150830T123600Z'."},
		{"host not signed", swap("host;x-amz-date", "x-amz-date"), Unsigned, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
		{"a header of AWS's not signed", func(r *http.Request) { r.Header.Set("X-Amz-Target", "Evil.DeleteAll") }, Unsigned, "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization."},
		{"signed header upper case", swap("host;x-", "Host;x-"), Mismatch, ""},
		{"signed headers unsorted", swap("host;x-amz-date", "x-amz-date;host"), Mismatch, ""},
		{"signed header twice", swap("host;x", "host;host;x"), Mismatch, ""},
		{"signed header empty", swap("host;x", "host;;x"), Mismatch, ""},
		{"signed header absent", swap("x-amz-date", "x-amz-date;x-none"), Mismatch, ""},
		{"unknown key", swap("AKIDEXAMPLE", "AKIDEXAMPLF"), UnknownKey, ""},
		{"token for a long-lived key", func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }, BadToken, ""},
		{"signature upper case", swap(vanilla, strings.ToUpper(vanilla)), Mismatch, ""},
		{"signature short", swap(vanilla, vanilla[:63]), Mismatch, ""},
		{"signature long", swap(vanilla, vanilla+"0"), Mismatch, ""},
		{"signature no hex", swap(vanilla, strings.Repeat("z", 64)), Mismatch, ""},
		{"other method", func(r *http.Request) { r.Method = "POST" }, Mismatch, ""},
		{"other host", func(r *http.Request) { r.Host = "evil.example.com" }, Mismatch, ""},
		{"host with a port", func(r *http.Request) { r.Host += ":443" }, Mismatch, ""},
		{"a Host header in the map changes nothing", func(r *http.Request) { r.Header.Set("Host", "evil.example.com") }, 0, ""},
		{"absolute form", func(r *http.Request) { r.RequestURI = "http://example.amazonaws.com/" }, 0, ""},
		{"absolute form without a path", func(r *http.Request) { r.RequestURI = "http://example.amazonaws.com" }, 0, ""},
		{"absolute form to another path", func(r *http.Request) { r.RequestURI = "http://example.amazonaws.com/x" }, Mismatch, ""},
		{"more path", func(r *http.Request) { r.RequestURI = "/x" }, Mismatch, ""},
		{"more query", func(r *http.Request) { r.RequestURI = "/?x" }, Mismatch, ""},
		{"NUL in the scope", swap("us-east-1", "us-east-1\x00"), BadScope, ""},
		{"NUL in the key id", swap("AKID", "AKID\x00"), UnknownKey, ""},
		{"a megabyte", auth("AWS4-HMAC-SHA256 Credential=" + strings.Repeat("a", 1<<20)), Incomplete, ""},
		{"a million separators", auth("AWS4-HMAC-SHA256" + strings.Repeat(" ,", 1<<19)), Incomplete, ""},
		{"unsigned header may be anything", func(r *http.Request) { r.Header.Set("User-Agent", "x") }, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := goodRequest(t)
			tt.edit(r)
			_, err := Verify(r, EmptySHA256, suiteRules, suiteTime, suiteFind)
			checkOutcome(t, tt.name, err, tt.want)
			if err == nil {
				return
			}
			p := err.(*Problem)
			if tt.says != "" && p.Detail != tt.says {
				t.Errorf("got  %q\nwant %q", p.Detail, tt.says)
			}
			f := suiteRules.Fault(p)
			for _, text := range []string{p.Error(), f.Message} {
				if len(text) > 3*maxEcho || strings.ContainsAny(text, "\x00\r") {
					t.Errorf("%d bytes of the request, or a control character, came back", len(text))
				}
				if strings.Contains(text, vanilla) || strings.Contains(text, suiteSecret) {
					t.Errorf("a secret came back: %q", text)
				}
			}
		})
	}
}

func TestQueryFormRefusals(t *testing.T) {
	t.Parallel()
	r, err := http.NewRequest("GET", "https://example.amazonaws.com/path?Action=GetCallerIdentity", nil)
	if err != nil {
		t.Fatal(err)
	}
	creds := aws.Credentials{AccessKeyID: suiteKey, SecretAccessKey: suiteSecret}
	u, _, err := v4.NewSigner().PresignHTTP(context.Background(), creds, r, EmptySHA256, "service", "us-east-1", suiteTime)
	if err != nil {
		t.Fatal(err)
	}
	good := strings.TrimPrefix(u, "https://example.amazonaws.com")
	for _, tt := range []struct {
		name string
		edit func(string) string
		want Outcome
		says string
	}{
		{"as signed", drop("never"), 0, ""},
		{"algorithm key alone", func(string) string { return "/?X-Amz-Algorithm" }, IncompleteQuery, "AWS query-string parameters must include 'X-Amz-Algorithm'. AWS query-string parameters must include 'X-Amz-Credential'. AWS query-string parameters must include 'X-Amz-Signature'. AWS query-string parameters must include 'X-Amz-SignedHeaders'. AWS query-string parameters must include 'X-Amz-Date'. Re-examine the query-string parameters."},
		{"no algorithm", drop("X-Amz-Algorithm=AWS4-HMAC-SHA256&"), Missing, ""},
		{"other algorithm", replace("AWS4-HMAC", "AWS4-ECDSA"), Unsupported, ""},
		{"no date", drop("X-Amz-Date=20150830T123600Z&"), IncompleteQuery, "AWS query-string parameters must include 'X-Amz-Date'. Re-examine the query-string parameters."},
		{"bad date", replace("20150830T123600Z", "yesterday"), BadDate, ""},
		{"signature twice", func(s string) string { return s + s[strings.Index(s, "&X-Amz-Signature"):] }, IncompleteQuery, ""},
		{"credential twice", replace("?", "?X-Amz-Credential=AKIDEVIL%2F20150830%2Fus-east-1%2Fservice%2Faws4_request&"), IncompleteQuery, ""},
		{"date twice", replace("?", "?X-Amz-Date=20150830T123600Z&"), IncompleteQuery, ""},
		{"token twice", replace("?", "?X-Amz-Security-Token=a&X-Amz-Security-Token=a&"), IncompleteQuery, ""},
		{"token added", replace("?", "?X-Amz-Security-Token=a&"), BadToken, ""},
		{"parameter added", replace("?", "?Version=2011-06-15&"), Mismatch, ""},
		{"parameter changed", replace("GetCaller", "SetCaller"), Mismatch, ""},
		{"signature empty", func(s string) string { i := strings.Index(s, "Signature="); return s[:i+10] }, IncompleteQuery, ""},
		{"signature upper case", func(s string) string { i := strings.Index(s, "Signature=") + 10; return s[:i] + strings.ToUpper(s[i:]) }, Mismatch, ""},
		{"nothing signed", replace("SignedHeaders=host", "SignedHeaders=x"), Unsigned, ""},
		{"bad escape", replace("?", "?%&"), Incomplete, ""},
		{"spelled small", replace("X-Amz-Algorithm", "x-amz-algorithm"), Missing, ""},
	} {
		r := suiteRequest(t, vector{request: "GET " + tt.edit(good)})
		r.Header.Del("X-Amz-Date")
		_, err := Verify(r, EmptySHA256, suiteRules, suiteTime, suiteFind)
		checkOutcome(t, tt.name, err, tt.want)
		if p, ok := err.(*Problem); ok && tt.says != "" && p.Detail != tt.says {
			t.Errorf("%s: got %q, want %q", tt.name, p.Detail, tt.says)
		}
	}
}

func TestSkew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		window time.Duration
		off    time.Duration // of our clock from the signer's
		want   string
	}{
		{15 * time.Minute, 0, ""},
		{15 * time.Minute, 15 * time.Minute, ""},
		{15 * time.Minute, -15 * time.Minute, ""},
		{15 * time.Minute, 15*time.Minute + time.Second, "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T125101Z - 15 min.)"},
		{15 * time.Minute, -15*time.Minute - time.Second, "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T122059Z + 15 min.)"},
		{5 * time.Minute, 5 * time.Minute, ""},
		{5 * time.Minute, 5*time.Minute + time.Second, "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"},
		{5 * time.Minute, -6 * time.Minute, "Signature not yet current: 20150830T123600Z is still later than 20150830T123500Z (20150830T123000Z + 5 min.)"},
	} {
		rules := suiteRules
		rules.Window = tt.window
		// A clock in another zone is the same clock.
		now := suiteTime.Add(tt.off).In(time.FixedZone("", 3600))
		_, err := Verify(goodRequest(t), EmptySHA256, rules, now, suiteFind)
		var got string
		if p, ok := err.(*Problem); ok && p.Outcome == Skew {
			got = p.Detail
		} else if err != nil {
			t.Fatal(err)
		}
		if got != tt.want {
			t.Errorf("off by %v: got %q, want %q", tt.off, got, tt.want)
		}
	}
}

// X-Amz-Expires shortens a presigned request's life and never lengthens it;
// STS does not look at it.
func TestExpiresOutsideS3(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		service, expires string
		after            time.Duration
		want             Outcome
	}{
		{"lambda", "60", time.Minute, 0},
		{"lambda", "60", time.Minute + time.Second, Skew},
		{"lambda", "86400", 5 * time.Minute, 0},
		{"lambda", "86400", 5*time.Minute + time.Second, Skew},
		{"sts", "60", 15 * time.Minute, 0},
		{"sts", "60", 15*time.Minute + time.Second, Skew},
		{"sts", "604801", 0, BadExpires},
	} {
		r, err := http.NewRequest("GET", "https://example.amazonaws.com/?X-Amz-Expires="+tt.expires, nil)
		if err != nil {
			t.Fatal(err)
		}
		creds := aws.Credentials{AccessKeyID: suiteKey, SecretAccessKey: suiteSecret}
		u, _, err := v4.NewSigner().PresignHTTP(context.Background(), creds, r, EmptySHA256, tt.service, "us-east-1", suiteTime)
		if err != nil {
			t.Fatal(err)
		}
		if r, err = http.NewRequest("GET", u, nil); err != nil {
			t.Fatal(err)
		}
		_, err = Verify(r, EmptySHA256, RulesFor(tt.service, Query), suiteTime.Add(tt.after), suiteFind)
		checkOutcome(t, tt.service+" "+tt.expires+" "+tt.after.String(), err, tt.want)
	}
}

// Tokens are compared before the signature, and expiry before both.
func TestSessionTokens(t *testing.T) {
	t.Parallel()
	live := Key{Secret: suiteSecret, Token: "tok", Expires: suiteTime.Add(time.Second)}
	over := Key{Secret: suiteSecret, Token: "tok", Expires: suiteTime}
	wrong := live
	wrong.Secret = "another"
	for _, tt := range []struct {
		name, token string
		key         Key
		edit        func(*http.Request)
		want        Outcome
	}{
		{"right", "tok", live, nil, 0},
		{"missing", "", live, nil, BadToken},
		{"foreign", "toc", live, nil, BadToken},
		{"longer", "tokk", live, nil, BadToken},
		{"expired", "tok", over, nil, ExpiredToken},
		{"expired and wrong secret", "tok", Key{Secret: "x", Token: "tok", Expires: suiteTime.Add(-time.Hour)}, nil, ExpiredToken},
		{"missing and wrong secret", "", wrong, nil, BadToken},
		{"wrong secret", "tok", wrong, nil, Mismatch},
		{"twice in the header", "tok", live, func(r *http.Request) { r.Header.Add("X-Amz-Security-Token", "tok") }, BadToken},
		{"another in the query", "tok", live, func(r *http.Request) { r.URL.RawQuery = "X-Amz-Security-Token=toc" }, BadToken},
		{"the same in the query, added later", "tok", live, func(r *http.Request) { r.URL.RawQuery = "X-Amz-Security-Token=tok" }, Mismatch},
		{"taken out later", "tok", live, func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") }, BadToken},
		{"put in later", "", live, func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "tok") }, 0},
	} {
		r := signed(t, "service", "us-east-1", suiteKey, tt.token)
		if tt.edit != nil {
			tt.edit(r)
		}
		_, err := Verify(r, EmptySHA256, suiteRules, suiteTime, func(_, token string) (Key, error) { return tt.key, nil })
		checkOutcome(t, tt.name, err, tt.want)
	}
	// On S3 a token must be signed, whoever's it is.
	r := signed(t, "s3", "us-east-1", suiteKey, "")
	r.Header.Set("X-Amz-Security-Token", "tok")
	_, err := Verify(r, EmptySHA256, RulesFor("s3", S3), suiteTime, func(string, string) (Key, error) { return live, nil })
	checkOutcome(t, "S3, unsigned token", err, Unsigned)
}

// The earlier question is answered first, whatever else is wrong.
func TestOrderOfChecks(t *testing.T) {
	t.Parallel()
	late := suiteTime.Add(time.Hour)
	for _, tt := range []struct {
		name                   string
		service, region, keyID string
		now                    time.Time
		want                   Outcome
	}{
		{"skew before scope", "sts", "x", "AKIDNOBODY", late, Skew},
		{"scope before key", "sts", "us-east-1", "AKIDNOBODY", suiteTime, BadScope},
		{"key before signature", "service", "us-east-1", "AKIDNOBODY", suiteTime, UnknownKey},
	} {
		r := signed(t, tt.service, tt.region, tt.keyID, "")
		r.Method = "DELETE" // the signature is wrong as well
		_, err := Verify(r, EmptySHA256, suiteRules, tt.now, suiteFind)
		checkOutcome(t, tt.name, err, tt.want)
	}
}

func TestLookupThatCannotDecide(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	_, err := Verify(goodRequest(t), EmptySHA256, suiteRules, suiteTime, func(string, string) (Key, error) { return Key{}, down })
	if !errors.Is(err, down) {
		t.Errorf("got %v, want the lookup's error", err)
	}
	// A key without a secret is a fault of ours, not a key anyone can sign with.
	if _, err := Verify(goodRequest(t), EmptySHA256, suiteRules, suiteTime, func(string, string) (Key, error) { return Key{}, nil }); err == nil {
		t.Error("an empty secret was accepted")
	}
}

// Date stands in where there is no X-Amz-Date, in either form.
func TestDateHeader(t *testing.T) {
	t.Parallel()
	for _, date := range []string{suiteDate, suiteTime.Format(http.TimeFormat)} {
		r := goodRequest(t)
		r.Header.Del("X-Amz-Date")
		r.Header.Set("Date", date)
		r.Header.Set("Authorization", strings.Replace(goodAuth, "host;x-amz-date", "date;host", 1))
		_, toSign := mustParse(t, r).Canonical(r, EmptySHA256, false)
		sig := Sign(SigningKey(suiteSecret, "20150830", "us-east-1", "service"), toSign)
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), vanilla, sig, 1))
		c, err := Verify(r, EmptySHA256, suiteRules, suiteTime, suiteFind)
		if err != nil || !c.Time.Equal(suiteTime) {
			t.Errorf("%s: got %v, %v", date, c, err)
		}
	}
}

func TestLooksLikeRegion(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"us-east-1", "eu-central-1", "ap-southeast-7", "us-gov-west-1", "us-iso-east-1", "eusc-de-east-1", "il-central-1", "cn-north-1"} {
		if !LooksLikeRegion(s) {
			t.Errorf("%q: got no, want yes", s)
		}
	}
	for _, s := range []string{"", "us", "us-east", "us-east-", "us-east-0", "us-east-123", "US-EAST-1", "us-east-1a", "aws-global", "us--1", "-east-1", "us-east-1 ", "us-e/st-1", "a-b-c-d-1", "us.east.1", "*", strings.Repeat("us-", 100) + "1"} {
		if LooksLikeRegion(s) {
			t.Errorf("%q: got yes, want no", s)
		}
	}
}

func TestCanonicalPathAndQuery(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ path, plain, s3 string }{
		{"", "/", "/"},
		{"/", "/", "/"},
		{"/a%20b", "/a%2520b", "/a%20b"},
		{"/a:b", "/a%3Ab", "/a%3Ab"},
		{"/a%3Ab", "/a%253Ab", "/a%3Ab"},
		{"/a%3ab", "/a%253ab", "/a%3Ab"},
		{"/a+b", "/a%2Bb", "/a%2Bb"},
		{"/a/../b//c/./d/", "/b/c/d/", "/a/../b//c/./d/"},
		{"/../..", "/", "/../.."},
		{"/a%2Fb", "/a%252Fb", "/a/b"},
		{"/a%2", "/a%252", "/a%252"},
	} {
		if got := canonicalPath(tt.path, false); got != tt.plain {
			t.Errorf("%q: got %q, want %q", tt.path, got, tt.plain)
		}
		if got := canonicalPath(tt.path, true); got != tt.s3 {
			t.Errorf("%q for S3: got %q, want %q", tt.path, got, tt.s3)
		}
	}
	for _, tt := range []struct{ raw, want string }{
		{"", ""},
		{"b&a", "a=&b="},
		{"a=2&a=1&a=1", "a=1&a=1&a=2"},
		{"a=b=c", "a=b%3Dc"},
		{"a=1;b=2", "a=1%3Bb%3D2"},
		{"a=x+y", "a=x%2By"},
		{"a=x%20y", "a=x%20y"},
		{"a=%e1%88%b4", "a=%E1%88%B4"},
		{"&&a=1&&", "a=1"},
		{"a-=1&a=2", "a=2&a-=1"}, // by name, not by "name=value"
		{"=x", "=x"},
		{"A=1&a=1&_=1", "A=1&_=1&a=1"},
	} {
		pairs, ok := parseQuery(tt.raw)
		if got := canonicalQuery(pairs, ""); !ok || got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.raw, got, tt.want)
		}
	}
}

// net/http takes Host, Content-Length and Transfer-Encoding out of the map.
func TestRebuiltHeaders(t *testing.T) {
	t.Parallel()
	r, err := http.NewRequest("PUT", "http://localhost:4566/", strings.NewReader("12345"))
	if err != nil {
		t.Fatal(err)
	}
	r.TransferEncoding = []string{"chunked"}
	for name, want := range map[string]string{"host": "localhost:4566", ":authority": "localhost:4566", "content-length": "5", "transfer-encoding": "chunked", "x-none": ""} {
		if got := headerValue(r, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
