package sigv4

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Whatever stands in the header, Parse does not panic, what it returns is
// bounded and printable, and nothing verifies that nobody signed.
func FuzzAuthorization(f *testing.F) {
	f.Add(goodAuth, suiteDate, "host;x-amz-date")
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=,Signature=", "", "")
	f.Add("AWS4-HMAC-SHA256 Signature=Signature=", suiteDate, "\x00")
	f.Add("AWS4-HMAC-SHA256\x00,,,==", "20150830T123600ZZ", "host")
	for _, v := range suite {
		f.Add("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request SignedHeaders="+v.signed+" Signature="+v.signature, suiteDate, v.token)
	}
	f.Fuzz(func(t *testing.T, auth, date, token string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/fuzz"}, Host: "example.amazonaws.com", Header: http.Header{
			"Authorization": {auth}, "X-Amz-Date": {date}, "X-Amz-Security-Token": {token},
		}}
		refused(t, r)
	})
}

// The same for the query form.
func FuzzQueryForm(f *testing.F) {
	f.Add("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=" + vanilla)
	f.Add("X-Amz-Algorithm")
	f.Add("X-Amz-Algorithm=%zz&&;=+")
	f.Fuzz(func(t *testing.T, query string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/", RawQuery: query}, Host: "example.amazonaws.com", Header: http.Header{}}
		refused(t, r)
	})
}

func refused(t *testing.T, r *http.Request) {
	t.Helper()
	for _, rules := range []Rules{suiteRules, RulesFor("s3", S3)} {
		_, err := Verify(r, EmptySHA256, rules, suiteTime, suiteFind)
		p, ok := err.(*Problem)
		if !ok {
			t.Fatalf("got %v, want a problem", err)
		}
		fault := rules.Fault(p)
		if fault.Status < 400 || fault.Code == "" || len(fault.Message) > 4*maxEcho || strings.ContainsAny(fault.Message, "\x00\x1b\n\r") {
			t.Fatalf("got %+v", fault)
		}
	}
}

// Canonical forms hold unreserved characters and escapes alone, and what two
// different paths have in common is only what normalisation says.
func FuzzCanonical(f *testing.F) {
	for _, v := range suite {
		line, _, _ := strings.Cut(v.request, "\n")
		_, uri, _ := strings.Cut(line, " ")
		path, query, _ := strings.Cut(uri, "?")
		f.Add(path, query, v.signature)
	}
	f.Add("/%", "%", "  a  b ")
	f.Add("/..//./", "a=b;c&&=", "\t")
	f.Fuzz(func(t *testing.T, path, query, header string) {
		path = "/" + path
		plain, s3 := canonicalPath(path, false), canonicalPath(path, true)
		for _, p := range []string{plain, s3} {
			if p[0] != '/' || !canonicalText(p, "/%") {
				t.Fatalf("path %q became %q", path, p)
			}
		}
		if back, ok := unescape(plain); !ok || back != normalise(path) || normalise(back) != back {
			t.Fatalf("path %q became %q, and back %q", path, plain, back)
		}
		if pairs, ok := parseQuery(query); ok {
			q := canonicalQuery(pairs, "")
			if !canonicalText(q, "%=&") {
				t.Fatalf("query %q became %q", query, q)
			}
			again, ok := parseQuery(q)
			if got := canonicalQuery(again, ""); !ok || strings.Trim(got, "&=") != strings.Trim(q, "&=") {
				t.Fatalf("query %q became %q and then %q", query, q, got)
			}
		}
		if h := squeeze(header); strings.Contains(h, "  ") || squeeze(h) != h {
			t.Fatalf("header %q became %q", header, h)
		}
	})
}

func canonicalText(s, also string) bool {
	for i := range len(s) {
		if !unreserved(s[i]) && strings.IndexByte(also, s[i]) < 0 {
			return false
		}
	}
	return true
}

func BenchmarkVerify(b *testing.B) {
	r := &http.Request{Method: "POST", RequestURI: "/2015-03-31/functions/hello/invocations?Qualifier=live", Host: "localhost:4566", Header: http.Header{
		"X-Amz-Date":     {suiteDate},
		"Content-Type":   {"application/octet-stream"},
		"Content-Length": {"11"},
		"User-Agent":     {"aws-cli/2"},
	}}
	body := []byte(`{"key1":1}x`)
	rules := RulesFor("lambda", RESTJSON)
	auth := "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/lambda/aws4_request, SignedHeaders=content-length;content-type;host;x-amz-date, Signature="
	r.Header.Set("Authorization", auth+vanilla)
	c, err := Parse(r)
	if err != nil {
		b.Fatal(err)
	}
	_, toSign := c.Canonical(r, BodyHash(body), false)
	r.Header.Set("Authorization", auth+Sign(SigningKey(suiteSecret, "20150830", "us-east-1", "lambda"), toSign))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(r, BodyHash(body), rules, suiteTime, suiteFind); err != nil {
			b.Fatal(err)
		}
	}
}

// The peer: AWS's own signer over the same request, which caches its keys.
func BenchmarkPeerSDKSigner(b *testing.B) {
	body := []byte(`{"key1":1}x`)
	r, err := http.NewRequest("POST", "http://localhost:4566/2015-03-31/functions/hello/invocations?Qualifier=live", strings.NewReader(string(body)))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	signer, creds := v4.NewSigner(), aws.Credentials{AccessKeyID: suiteKey, SecretAccessKey: suiteSecret}
	b.ReportAllocs()
	for b.Loop() {
		if err := signer.SignHTTP(b.Context(), creds, r, BodyHash(body), "lambda", "us-east-1", suiteTime); err != nil {
			b.Fatal(err)
		}
	}
}
