package objects

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// sign signs a request as a client would; the fields are what a test bends.
type sign struct {
	key, secret, region, service, hash string
	at                                 time.Time
}

func (s sign) request(t *testing.T, method, url string, body string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&s.key, testKey)
	def(&s.secret, testSecret)
	def(&s.region, "us-east-1")
	def(&s.service, "s3")
	if s.hash == "" {
		sum := sha256.Sum256([]byte(body))
		s.hash = hex.EncodeToString(sum[:])
	}
	if s.at.IsZero() {
		s.at = time.Now()
	}
	r.Header.Set("X-Amz-Content-Sha256", s.hash)
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: s.key, SecretAccessKey: s.secret}, r, s.hash, s.service, s.region, s.at.UTC(),
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantAnswer(t *testing.T, what string, r *http.Request, status int, parts ...string) {
	t.Helper()
	got, body := raw(t, r)
	if got != status {
		t.Errorf("%s: got %d %.300s, want %d", what, got, body, status)
		return
	}
	for _, p := range parts {
		if !strings.Contains(body, p) {
			t.Errorf("%s: %q is not in %s", what, p, body)
		}
	}
}

func TestRefusesWhatIsNotSignedRight(t *testing.T) {
	f := testGateway(t)
	f.bucket("locked")
	f.put("locked", "k", "v")
	obj := f.url + "/locked/k"
	tampered := sign{}.request(t, "PUT", obj, "right")
	tampered.Body = io.NopCloser(strings.NewReader("wrong"))
	moved := sign{}.request(t, "PUT", obj, "right")
	moved.URL.Path = "/locked/other"
	added := sign{}.request(t, "PUT", obj, "right")
	added.Header.Set("X-Amz-Meta-Added", "1")
	foreign := sign{}.request(t, "GET", obj, "")
	foreign.Header.Set("Authorization", "AWS "+testKey+":c2lnbmF0dXJl")
	noHash := sign{}.request(t, "GET", obj, "")
	noHash.Header.Del("X-Amz-Content-Sha256")
	token := sign{}.request(t, "GET", obj, "", "X-Amz-Security-Token", "made-up")
	for _, c := range []struct {
		name   string
		r      *http.Request
		status int
		parts  []string
	}{
		{"wrong secret", sign{secret: "x"}.request(t, "GET", obj, ""), 403, []string{"<Code>SignatureDoesNotMatch</Code>",
			"The request signature we calculated does not match the signature you provided. Check your key and signing method.", "<AWSAccessKeyId>" + testKey, "<StringToSign>AWS4-HMAC-SHA256", "<CanonicalRequest>GET"}},
		{"unknown key", sign{key: "AKIDNOBODY"}.request(t, "GET", obj, ""), 403, []string{"<Code>InvalidAccessKeyId</Code>", "The AWS Access Key Id you provided does not exist in our records.", "<AWSAccessKeyId>AKIDNOBODY"}},
		{"unknown key in an unused region", sign{key: "AKIDNOBODY", region: "ap-south-2"}.request(t, "GET", f.url+"/nobucket", ""), 403, []string{"<Code>InvalidAccessKeyId</Code>"}},
		{"wrong region", sign{region: "eu-west-1"}.request(t, "GET", obj, ""), 400, []string{"<Code>AuthorizationHeaderMalformed</Code>",
			"The authorization header is malformed; the region &#39;eu-west-1&#39; is wrong; expecting &#39;us-east-1&#39;", "<Region>us-east-1</Region>"}},
		{"no region at all", sign{region: "-"}.request(t, "GET", obj, ""), 400, []string{"<Code>AuthorizationHeaderMalformed</Code>"}},
		{"wrong service", sign{service: "sts"}.request(t, "GET", obj, ""), 400, []string{"<Code>AuthorizationHeaderMalformed</Code>", "incorrect service"}},
		{"stale clock", sign{at: time.Now().Add(-16 * time.Minute)}.request(t, "GET", obj, ""), 403, []string{"<Code>RequestTimeTooSkewed</Code>", "<MaxAllowedSkewMilliseconds>900000"}},
		{"future clock", sign{at: time.Now().Add(16 * time.Minute)}.request(t, "GET", obj, ""), 403, []string{"<Code>RequestTimeTooSkewed</Code>"}},
		{"tampered body", tampered, 400, []string{"<Code>XAmzContentSHA256Mismatch</Code>", "<ClientComputedContentSHA256>", "<S3ComputedContentSHA256>"}},
		{"another key", moved, 403, []string{"<Code>SignatureDoesNotMatch</Code>"}},
		{"header added", added, 403, []string{"<Code>AccessDenied</Code>", "There were headers present in the request which were not signed", "x-amz-meta-added"}},
		{"signature version 2", foreign, 400, []string{"The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."}},
		{"no payload hash", noHash, 400, []string{"<Code>InvalidRequest</Code>", "Missing required header for this request: x-amz-content-sha256"}},
		{"token with a permanent key", token, 400, []string{"<Code>InvalidToken</Code>"}},
	} {
		wantAnswer(t, c.name, c.r, c.status, c.parts...)
	}
	f.want("locked", "k", "", "v")
}

// publicPolicy allows everybody everything, as far as versitygw is concerned.
const publicPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::open","arn:aws:s3:::open/*"]}]}`

func TestNothingIsAnonymous(t *testing.T) {
	f := testGateway(t)
	f.bucket("open")
	f.put("open", "k", "v")
	if _, err := f.root().PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String("open"), Policy: aws.String(publicPolicy)}); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"} {
		for _, target := range []string{"/", "/open", "/open/", "/open/k", "/open/new", "/open?acl", "/open?policy", "/open?policyStatus", "/open?lifecycle", "/open?publicAccessBlock",
			"/open?versions", "/open?uploads", "/open/k?tagging", "/open/k?acl", "/open/k?uploads", "/open?delete", "/nobucket", "/create-user", "/list-buckets", "/open/create", "/health", "/metrics", "/_admin"} {
			r, _ := http.NewRequestWithContext(t.Context(), method, f.url+target, nil)
			r.Header.Set("Origin", "https://example.com")
			r.Header.Set("Access-Control-Request-Method", "GET")
			if got, body := raw(t, r); got != http.StatusForbidden || method != "HEAD" && !strings.Contains(body, "<Code>AccessDenied</Code>") {
				t.Errorf("anonymous %s %s: got %d %s, want 403 AccessDenied", method, target, got, body)
			}
		}
	}
	// Requests that look signed to one reader and unsigned to another.
	for _, q := range []string{"X-Amz-Expires=60", "X-Amz-Expires=", "X-Amz-Algorithm", "X-Amz-Signature=00", "X-Amz-Credential=a%2Fb", "AWSAccessKeyId=" + testKey + "&Signature=x&Expires=9999999999",
		"x-amz-algorithm=AWS4-HMAC-SHA256", "X%2DAmz-Credential=x", "AWSAccessKeyId="} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", f.url+"/open/k?"+q, nil)
		if got, body := raw(t, r); got < 400 || strings.Contains(body, "InternalError") {
			t.Errorf("%s: got %d %s", q, got, body)
		}
	}
	for _, a := range []string{" ", "x", "AWS4-HMAC-SHA256", "Bearer x", "AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature="} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", f.url+"/open/k", nil)
		r.Header.Set("Authorization", a)
		r.Header.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
		if got, body := raw(t, r); got < 400 || strings.Contains(body, "InternalError") {
			t.Errorf("Authorization %q: got %d %s", a, got, body)
		}
	}
	// A browser's form without a signature in it.
	var form bytes.Buffer
	m := multipart.NewWriter(&form)
	_ = m.WriteField("key", "formed")
	w, _ := m.CreateFormFile("file", "x")
	fmt.Fprint(w, "x")
	m.Close()
	r, _ := http.NewRequestWithContext(t.Context(), "POST", f.url+"/open", &form)
	r.Header.Set("Content-Type", m.FormDataContentType())
	wantAnswer(t, "anonymous form", r, 403, "AccessDenied")
	if _, err := f.get("open", "formed", ""); err == nil {
		t.Error("an anonymous form was stored")
	}
}

// The administration that versitygw has is not there, even for root.
func TestNoAdministration(t *testing.T) {
	f := testGateway(t)
	f.bucket("bucket")
	for _, target := range []string{"/create-user", "/delete-user?access=x", "/update-user?access=x", "/list-users", "/change-bucket-owner?bucket=bucket&owner=x", "/list-buckets", "/bucket/create"} {
		got, body := raw(t, sign{}.request(t, "PATCH", f.url+target, ""))
		if got < 400 || got >= 500 {
			t.Errorf("PATCH %s: got %d %s, want a 4xx", target, got, body)
		}
	}
}

func TestGrantsAreRefused(t *testing.T) {
	f := testGateway(t)
	f.bucket("grants")
	for _, h := range [][2]string{{"x-amz-acl", "public-read"}, {"x-amz-grant-read", "uri=http://acs.amazonaws.com/groups/global/AllUsers"}, {"x-amz-object-ownership", "ObjectWriter"}} {
		for _, target := range []string{"/grants/k", "/grants?acl", "/another"} {
			wantAnswer(t, h[0]+" "+target, sign{}.request(t, "PUT", f.url+target, "", h[0], h[1]), 400, "<Code>AccessControlListNotSupported</Code>")
		}
	}
	wantAnswer(t, "private", sign{}.request(t, "PUT", f.url+"/grants/k", "", "x-amz-acl", "private"), 200)
}

func TestPresigned(t *testing.T) {
	f := testGateway(t)
	f.bucket("links")
	f.put("links", "k", "v")
	p := s3.NewPresignClient(f.root())
	link := func(secs int64) string {
		r, err := p.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("links"), Key: aws.String("k")}, s3.WithPresignExpires(time.Duration(secs)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return r.URL
	}
	get := func(url string) *http.Request {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		return r
	}
	wantAnswer(t, "good link", get(link(60)), 200, "v")
	wantAnswer(t, "bent link", get(strings.Replace(link(60), "/links/k", "/links/j", 1)), 403, "SignatureDoesNotMatch")
	wantAnswer(t, "more added", get(link(60)+"&versionId=null"), 403, "SignatureDoesNotMatch")
	wantAnswer(t, "over a week", get(link(604801)), 400, "AuthorizationQueryParametersError", "X-Amz-Expires must be less than a week (in seconds)")
	wantAnswer(t, "no signature", get(strings.Split(link(60), "&X-Amz-Signature")[0]), 400, "AuthorizationQueryParametersError")
	old := mustPresign(t, f.url+"/links/k?X-Amz-Expires=60", "us-east-1", time.Now().Add(-2*time.Minute))
	wantAnswer(t, "expired", get(old), 403, "<Code>AccessDenied</Code>", "Request has expired", "<X-Amz-Expires>60", "<ServerTime>")
	wantAnswer(t, "other region", get(mustPresign(t, f.url+"/links/k?X-Amz-Expires=60", "eu-west-3", time.Now())), 400,
		"Error parsing the X-Amz-Credential parameter; the region &#39;eu-west-3&#39; is wrong; expecting &#39;us-east-1&#39;")
	up, err := p.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("links"), Key: aws.String("up")})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequestWithContext(t.Context(), "PUT", up.URL, strings.NewReader("uploaded"))
	wantAnswer(t, "upload link", r, 200)
	f.want("links", "up", "", "uploaded")
}

func mustPresign(t *testing.T, url, region string, at time.Time) string {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	out, _, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r, "UNSIGNED-PAYLOAD", "s3", region, at.UTC(),
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// chunked signs body as aws-chunked. It follows "Transferring payload in
// multiple chunks" of the S3 API reference.
func chunked(t *testing.T, url string, chunks ...string) *http.Request {
	t.Helper()
	now := time.Now().UTC()
	size := 0
	for _, c := range chunks {
		size += len(c)
	}
	s := sign{hash: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", at: now}
	r := s.request(t, "PUT", url, "", "X-Amz-Decoded-Content-Length", fmt.Sprint(size), "Content-Encoding", "aws-chunked")
	_, prev, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
	key, _, err := (&identity{keys: keyring{}}).DeriveSigningKey(testKey, "", now.Format("20060102"), "us-east-1", "s3")
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	for _, c := range append(chunks, "") {
		sum := sha256.Sum256([]byte(c))
		h := hmac.New(sha256.New, key)
		fmt.Fprintf(h, "AWS4-HMAC-SHA256-PAYLOAD\n%s\n%s/us-east-1/s3/aws4_request\n%s\n%s\n%x", now.Format("20060102T150405Z"), now.Format("20060102"), prev, emptyHash, sum)
		prev = hex.EncodeToString(h.Sum(nil))
		fmt.Fprintf(&body, "%x;chunk-signature=%s\r\n%s\r\n", len(c), prev, c)
	}
	r.Body = io.NopCloser(&body)
	r.ContentLength = int64(body.Len())
	return r
}

func TestSignedChunks(t *testing.T) {
	f := testGateway(t)
	f.bucket("chunks")
	a, b := strings.Repeat("a", 64<<10), strings.Repeat("b", 1000)
	url := f.url + "/chunks/k"
	wantAnswer(t, "signed chunks", chunked(t, url, a, b), 200)
	f.want("chunks", "k", "", a+b)

	bent := chunked(t, url, a, b)
	body, _ := io.ReadAll(bent.Body)
	bent.Body = io.NopCloser(bytes.NewReader(bytes.Replace(body, []byte("bbbb"), []byte("bbbc"), 1)))
	wantAnswer(t, "tampered chunk", bent, 403, "<Code>SignatureDoesNotMatch</Code>")

	short := chunked(t, url, a, b)
	body, _ = io.ReadAll(short.Body)
	body = body[:len(body)-len("0;chunk-signature=\r\n\r\n")-64]
	short.Body, short.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if got, answer := raw(t, short); got < 400 {
		t.Errorf("chunks without an end: got %d %s", got, answer)
	}
	f.want("chunks", "k", "", a+b)
}

// What Authorize is asked, and that its no is a no.
func TestAuthorizeDecides(t *testing.T) {
	var asked []Decision
	f := testGateway(t, func(c *Config) {
		c.Authorize = func(_ context.Context, d Decision) error {
			asked = append(asked, d)
			if d.Action == "s3:GetObject" && strings.HasSuffix(d.Resource, "/secret") {
				return &countersign.Error{Kind: countersign.Denied, Message: "no"}
			}
			if strings.HasSuffix(d.Resource, "/undecided") {
				return io.ErrUnexpectedEOF
			}
			return nil
		}
	})
	f.bucket("asks")
	f.put("asks", "secret", "v")
	f.put("asks", "open", "v")
	f.want("asks", "open", "", "v")
	_, err := f.get("asks", "secret", "")
	wantCode(t, "denied", err, "AccessDenied")
	_, err = f.get("asks", "undecided", "")
	wantCode(t, "undecided", err, "InternalError")
	_, err = f.root().CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String("asks"), Key: aws.String("copy"), CopySource: aws.String("asks/secret")})
	wantCode(t, "copy from what may not be read", err, "AccessDenied")
	_, err = f.root().GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: aws.String("asks")})
	wantCode(t, "setting", err, "NoSuchLifecycleConfiguration")
	want := map[string]bool{"s3:CreateBucket arn:aws:s3:::asks": true, "s3:PutObject arn:aws:s3:::asks/secret": true, "s3:GetObject arn:aws:s3:::asks/open": true, "s3:GetLifecycleConfiguration arn:aws:s3:::asks": true}
	for _, d := range asked {
		delete(want, d.Action+" "+d.Resource)
		if d.Caller.AccessKey != testKey || !d.Caller.Root || d.Caller.Account != testAccount || (d.Owner != testAccount) == (d.Action != "s3:CreateBucket") {
			t.Errorf("asked about %+v", d)
		}
	}
	if len(want) != 0 {
		t.Errorf("was not asked %v in %d questions", want, len(asked))
	}
}

func TestAccountsAreApart(t *testing.T) {
	f := testGateway(t)
	f.bucket("mine")
	f.put("mine", "k", "v")
	other := f.client("us-east-1", otherKey, otherSecret)
	_, err := other.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("mine"), Key: aws.String("k")})
	wantCode(t, "get", err, "AccessDenied")
	_, err = other.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: aws.String("mine")})
	wantCode(t, "delete bucket", err, "AccessDenied")
	_, err = other.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("mine")})
	wantCode(t, "create", err, "BucketAlreadyExists")
	_, err = f.root().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("mine")})
	wantCode(t, "create again", err, "BucketAlreadyOwnedByYou")
	if l, err := other.ListBuckets(t.Context(), &s3.ListBucketsInput{}); err != nil || len(l.Buckets) != 0 {
		t.Errorf("list: %+v, %v", l, err)
	}
	// The bucket's owner lets the other account in, by its ARN.
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + otherID + `:user/other"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::mine/*"}]}`
	if _, err := f.root().PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String("mine"), Policy: &policy}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("mine"), Key: aws.String("k")}); err != nil {
		t.Error(err)
	}
	_, err = other.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("mine"), Key: aws.String("k"), Body: strings.NewReader("x")})
	wantCode(t, "put", err, "AccessDenied")
	_, err = f.root().GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("mine"), Key: aws.String("k"), ExpectedBucketOwner: aws.String(otherID)})
	wantCode(t, "other owner expected", err, "AccessDenied")
	if _, err = f.root().GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("mine"), Key: aws.String("k"), ExpectedBucketOwner: aws.String(testAccount)}); err != nil {
		t.Error(err)
	}
}

func TestRootCanDeleteAPolicyThatDeniesRoot(t *testing.T) {
	f := testGateway(t)
	f.bucket("lockout")
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::lockout","arn:aws:s3:::lockout/*"]}]}`
	if _, err := f.root().PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String("lockout"), Policy: &policy}); err != nil {
		t.Fatal(err)
	}
	_, err := f.root().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("lockout")})
	wantCode(t, "list", err, "AccessDenied")
	if _, err := f.root().DeleteBucketPolicy(t.Context(), &s3.DeleteBucketPolicyInput{Bucket: aws.String("lockout")}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.root().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("lockout")}); err != nil {
		t.Error(err)
	}
}

// Whatever a stranger writes in the request line and the header, nothing but
// an error comes back.
func FuzzUnsigned(f *testing.F) {
	f.Add("GET", "/open/k", "")
	f.Add("GET", "/open/k?X-Amz-Expires=60", "")
	f.Add("PUT", "/open/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="+testKey+"%2F20260101%2Fus-east-1%2Fs3%2Faws4_request", "")
	f.Add("GET", "/open?lifecycle", "AWS4-HMAC-SHA256 Credential="+testKey+"/20260101/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=00")
	f.Add("DELETE", "//open/%2e%2e/k?;", "AWS x:y")
	f.Add("POST", "/open?delete&X-Amz-Signature", "\x00")
	var g *fixture
	f.Fuzz(func(t *testing.T, method, target, authorization string) {
		if g == nil {
			g = fuzzGateway(t)
		}
		r, err := http.ReadRequest(bufioReader(method + " " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: " + authorization + "\r\nX-Amz-Date: " + time.Now().UTC().Format("20060102T150405Z") + "\r\n\r\n"))
		if err != nil {
			return // net/http refuses it before us
		}
		w := newRecorder()
		g.ServeHTTP(w, r.WithContext(t.Context()))
		if w.Code < 400 {
			t.Errorf("%s %q with %q: got %d %s", method, target, authorization, w.Code, w.Body)
		}
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			t.Errorf("%s %q with %q: got %d %s", method, target, authorization, w.Code, w.Body)
		}
	})
}
