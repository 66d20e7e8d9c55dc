package sigv4

import (
	"bufio"
	"context"
	"crypto/sha256"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// The key, time and place of AWS's signature suite.
const (
	suiteKey    = "AKIDEXAMPLE"
	suiteSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	suiteDate   = "20150830T123600Z"
	suiteToken  = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)

var suiteTime = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

var suiteRules = Rules{Service: "service", Family: Query, Window: 5 * time.Minute, faults: families[Query]}

// suiteFind knows the suite's one key.
func suiteFind(id, _ string) (Key, error) {
	if id != suiteKey {
		return Key{}, ErrUnknownKey
	}
	return Key{Secret: suiteSecret}, nil
}

// A vector is one case of aws-sig-v4-test-suite: the request, and the
// signature AWS publishes for it.
type vector struct {
	name, signed, signature string
	request                 string // method and target, then headers; host and date are added
	body                    string
	token                   string // of the key
	sdkDiffers              string // why aws-sdk-go-v2 signs this one otherwise; "" when it agrees
}

const vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"

const normalises = "the Go SDK does not normalise paths"

var suite = []vector{
	{name: "get-vanilla", request: "GET /", signature: vanilla},
	{name: "get-vanilla-empty-query-key", request: "GET /?Param1=value1", signature: "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
	{name: "get-vanilla-query", request: "GET /", signature: vanilla},
	{name: "get-vanilla-query-order-key", request: "GET /?Param1=value2&Param1=Value1", signature: "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1"},
	{name: "get-vanilla-query-order-key-case", request: "GET /?Param2=value2&Param1=value1", signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
	{name: "get-vanilla-query-order-value", request: "GET /?Param1=value2&Param1=value1", signature: "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"},
	{name: "get-vanilla-query-unreserved", request: "GET /?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", signature: "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
	{name: "get-vanilla-utf8-query", request: "GET /?ሴ=bar", signature: "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
	{name: "get-unreserved", request: "GET /-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", signature: "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
	{name: "get-utf8", request: "GET /ሴ", signature: "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85", sdkDiffers: "the Go SDK escapes before it sends"},
	{name: "get-space", request: "GET /example space/", signature: "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741", sdkDiffers: "the Go SDK escapes before it sends"},
	{name: "get-relative", request: "GET /example/..", signature: vanilla, sdkDiffers: normalises},
	{name: "get-relative-relative", request: "GET /example1/example2/../..", signature: vanilla, sdkDiffers: normalises},
	{name: "get-slash", request: "GET //", signature: vanilla, sdkDiffers: normalises},
	{name: "get-slash-dot-slash", request: "GET /./", signature: vanilla, sdkDiffers: normalises},
	{name: "get-slash-pointless-dot", request: "GET /./example", signature: "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5", sdkDiffers: normalises},
	{name: "get-slashes", request: "GET //example//", signature: "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84", sdkDiffers: normalises},
	{name: "get-header-key-duplicate", signed: "host;my-header1;x-amz-date", request: "GET /\nMy-Header1:value2\nMy-Header1:value2\nMy-Header1:value1", signature: "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
	{name: "get-header-value-order", signed: "host;my-header1;x-amz-date", request: "GET /\nMy-Header1:value4\nMy-Header1:value1\nMy-Header1:value3\nMy-Header1:value2", signature: "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
	{name: "get-header-value-trim", signed: "host;my-header1;my-header2;x-amz-date", request: "GET /\nMy-Header1: value1\nMy-Header2: \"a   b   c\"", signature: "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
	{name: "get-header-value-multiline", signed: "host;my-header1;x-amz-date", request: "GET /\nMy-Header1:value1\n  value2\n     value3", signature: "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd"},
	{name: "post-vanilla", request: "POST /", signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	{name: "post-header-key-case", request: "POST /", signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	{name: "post-header-key-sort", signed: "host;my-header1;x-amz-date", request: "POST /\nMy-Header1:value1", signature: "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
	{name: "post-header-value-case", signed: "host;my-header1;x-amz-date", request: "POST /\nMy-Header1:VALUE1", signature: "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
	{name: "post-vanilla-query", request: "POST /?Param1=value1", signature: "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
	{name: "post-vanilla-empty-query-value", request: "POST /?Param1=value1", signature: "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
	{name: "post-x-www-form-urlencoded", signed: "content-type;host;x-amz-date", request: "POST /\nContent-Type:application/x-www-form-urlencoded", body: "Param1=value1", signature: "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
	{name: "post-x-www-form-urlencoded-parameters", signed: "content-type;host;x-amz-date", request: "POST /\nContent-Type:application/x-www-form-urlencoded; charset=utf8", body: "Param1=value1", signature: "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe"},
	{name: "post-sts-header-before", signed: "host;x-amz-date;x-amz-security-token", request: "POST /\nX-Amz-Security-Token:" + suiteToken, signature: "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead", token: suiteToken},
	{name: "post-sts-header-after", request: "POST /\nX-Amz-Security-Token:" + suiteToken, signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", token: suiteToken, sdkDiffers: "the Go SDK signs the token"},
}

// suiteRequest reads a vector as net/http's server would, except for targets
// that no server accepts (a raw space), which are set by hand.
func suiteRequest(t *testing.T, v vector) *http.Request {
	t.Helper()
	line, headers, _ := strings.Cut(v.request, "\n")
	method, uri, _ := strings.Cut(line, " ")
	text := method + " / HTTP/1.1\r\nHost: example.amazonaws.com\r\nX-Amz-Date: " + suiteDate + "\r\n"
	if headers != "" {
		text += strings.ReplaceAll(headers, "\n", "\r\n") + "\r\n"
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	r.RequestURI = uri
	path, query, _ := strings.Cut(uri, "?")
	r.URL = &url.URL{Path: path, RawQuery: query}
	return r
}

func TestSuite(t *testing.T) {
	t.Parallel()
	for _, v := range suite {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			if v.signed == "" {
				v.signed = "host;x-amz-date"
			}
			find := func(string, string) (Key, error) { return Key{Secret: suiteSecret, Token: v.token}, nil }
			hash := BodyHash([]byte(v.body))
			for _, sep := range []string{", ", ",", " "} {
				r := suiteRequest(t, v)
				r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"+sep+
					"SignedHeaders="+v.signed+sep+"Signature="+v.signature)
				if _, err := Verify(r, hash, suiteRules, suiteTime, find); err != nil {
					c, _ := Parse(r)
					canonical, toSign := c.Canonical(r, hash, false)
					t.Fatalf("separator %q: got %v, want it to verify\n%s\n\n%s\n%s", sep, err, canonical, toSign,
						Sign(SigningKey(suiteSecret, "20150830", "us-east-1", "service"), toSign))
				}
			}
			if v.sdkDiffers != "" {
				return
			}
			// The published signature, reached by AWS's own signer as well.
			r := suiteRequest(t, v)
			r.URL.Scheme, r.URL.Host = "https", "example.amazonaws.com"
			r.ContentLength = 0 // the suite signs no content-length
			creds := aws.Credentials{AccessKeyID: suiteKey, SecretAccessKey: suiteSecret, SessionToken: v.token}
			if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hash, "service", "us-east-1", suiteTime); err != nil {
				t.Fatal(err)
			}
			if _, got, _ := strings.Cut(r.Header.Get("Authorization"), "Signature="); got != v.signature {
				t.Errorf("aws-sdk-go-v2 signs %s, want %s", got, v.signature)
			}
		})
	}
}

// S3's examples: "Signature Calculations for the Authorization Header" and
// "Authenticating Requests: Using Query Parameters", Amazon S3 API Reference.
const (
	s3Key    = "AKIAIOSFODNN7EXAMPLE"
	s3Secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	s3Scope  = s3Key + "/20130524/us-east-1/s3/aws4_request"
	putSum   = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
)

var s3Time = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)

func s3Request(t *testing.T, text string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n") + "\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func s3Find(string, string) (Key, error) { return Key{Secret: s3Secret}, nil }

func TestS3Examples(t *testing.T) {
	t.Parallel()
	for _, v := range []struct{ name, request, signed, signature string }{
		{"GET Object", "GET /test.txt HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nRange: bytes=0-9\nx-amz-content-sha256: " + EmptySHA256 + "\nx-amz-date: 20130524T000000Z",
			"host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"PUT Object", "PUT /test$file.text HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nDate: Fri, 24 May 2013 00:00:00 GMT\nx-amz-storage-class: REDUCED_REDUNDANCY\nx-amz-content-sha256: " + putSum + "\nx-amz-date: 20130524T000000Z",
			"date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
		{"GET Bucket Lifecycle", "GET /?lifecycle HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nx-amz-content-sha256: " + EmptySHA256 + "\nx-amz-date: 20130524T000000Z",
			"host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"GET Bucket", "GET /?max-keys=2&prefix=J HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nx-amz-content-sha256: " + EmptySHA256 + "\nx-amz-date: 20130524T000000Z",
			"host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	} {
		r := s3Request(t, v.request+"\nAuthorization: AWS4-HMAC-SHA256 Credential="+s3Scope+",SignedHeaders="+v.signed+",Signature="+v.signature)
		if _, err := Verify(r, r.Header.Get("x-amz-content-sha256"), RulesFor("s3", S3), s3Time, s3Find); err != nil {
			t.Errorf("%s: got %v, want it to verify", v.name, err)
		}
	}
}

func TestS3Presigned(t *testing.T) {
	t.Parallel()
	const target = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" +
		"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
	for _, tt := range []struct {
		name string
		edit func(string) string
		at   time.Time
		want Outcome
	}{
		{"valid", nil, s3Time, 0},
		{"last second", nil, s3Time.Add(24 * time.Hour), 0},
		{"a second late", nil, s3Time.Add(24*time.Hour + time.Second), Expired},
		{"signer ahead", nil, s3Time.Add(-15 * time.Minute), 0},
		{"from the future", nil, s3Time.Add(-15*time.Minute - time.Second), NotYet},
		{"no expiry", drop("X-Amz-Expires=86400&"), s3Time, IncompleteQuery},
		{"no signature", drop("X-Amz-Signature="), s3Time, IncompleteQuery},
		{"week and a second", replace("=86400", "=604801"), s3Time, BadExpires},
		{"negative", replace("=86400", "=-1"), s3Time, BadExpires},
		{"no number", replace("=86400", "=1e3"), s3Time, BadExpires},
		{"longer than signed", replace("=86400", "=86401"), s3Time, Mismatch},
		{"twice", replace("&X-Amz-Expires", "&X-Amz-Expires=86400&X-Amz-Expires"), s3Time, IncompleteQuery},
	} {
		u := target
		if tt.edit != nil {
			u = tt.edit(u)
		}
		r := s3Request(t, "GET "+u+" HTTP/1.1\nHost: examplebucket.s3.amazonaws.com")
		_, err := Verify(r, UnsignedPayload, RulesFor("s3", S3), tt.at, s3Find)
		checkOutcome(t, tt.name, err, tt.want)
	}
}

func drop(s string) func(string) string { return replace(s, "") }
func replace(old, new string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, new, 1) }
}

// "Signature Calculations … Transferring a Payload in Multiple Chunks" and
// "… with trailing headers": 65 KiB of 'a' in chunks of 64 KiB and 1 KiB.
func TestS3Chunks(t *testing.T) {
	t.Parallel()
	big, small, end := sha256.Sum256([]byte(strings.Repeat("a", 65536))), sha256.Sum256([]byte(strings.Repeat("a", 1024))), sha256.Sum256(nil)
	const head = "PUT /examplebucket/chunkObject.txt HTTP/1.1\nHost: s3.amazonaws.com\nx-amz-date: 20130524T000000Z\nx-amz-storage-class: REDUCED_REDUNDANCY\n" +
		"Content-Encoding: aws-chunked\nx-amz-decoded-content-length: 66560\n"
	key := SigningKey(s3Secret, "20130524", "us-east-1", "s3")

	t.Run("Payload", func(t *testing.T) {
		t.Parallel()
		r := s3Request(t, head+"Content-Length: 66824\nx-amz-content-sha256: "+StreamingPayload+"\nAuthorization: AWS4-HMAC-SHA256 Credential="+s3Scope+
			",SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9")
		c, err := Verify(r, StreamingPayload, RulesFor("s3", S3), s3Time, s3Find)
		if err != nil {
			t.Fatal(err)
		}
		const first = "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"
		chain := NewChunks(key, c)
		if chain.Chunk(small, first) {
			t.Error("a chunk with other data passed")
		}
		if chain.Chunk(big, strings.ToUpper(first)) {
			t.Error("an upper-case signature passed")
		}
		if !chain.Chunk(big, first) {
			t.Error("the first chunk did not pass")
		}
		if chain.Chunk(big, first) {
			t.Error("the first chunk passed twice")
		}
		if !chain.Chunk(small, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497") {
			t.Error("the second chunk did not pass")
		}
		if !chain.Chunk(end, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9") {
			t.Error("the last chunk did not pass")
		}
	})
	t.Run("Trailer", func(t *testing.T) {
		t.Parallel()
		r := s3Request(t, head+"x-amz-trailer: x-amz-checksum-crc32c\nx-amz-content-sha256: "+StreamingPayloadTrailer+"\nAuthorization: AWS4-HMAC-SHA256 Credential="+s3Scope+
			",SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer,Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e")
		c, err := Verify(r, StreamingPayloadTrailer, RulesFor("s3", S3), s3Time, s3Find)
		if err != nil {
			t.Fatal(err)
		}
		chain := NewChunks(key, c)
		for i, s := range []struct {
			sum [32]byte
			sig string
		}{
			{big, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"},
			{small, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"},
			{end, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"},
		} {
			if !chain.Chunk(s.sum, s.sig) {
				t.Errorf("chunk %d did not pass", i)
			}
		}
		trailer := "x-amz-checksum-crc32c:sOO8/Q==\n"
		if chain.Trailer(sha256.Sum256([]byte("x-amz-checksum-crc32c:AAAAAA==\n")), "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435") {
			t.Error("another trailer passed")
		}
		if !chain.Trailer(sha256.Sum256([]byte(trailer)), "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435") {
			t.Error("the trailer did not pass")
		}
	})
}

// The key derivation example of "Create a signed AWS API request".
func TestSigningKey(t *testing.T) {
	t.Parallel()
	const toSign = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\nf536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"
	got := Sign(SigningKey(suiteSecret, "20150830", "us-east-1", "iam"), toSign)
	if want := "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func checkOutcome(t *testing.T, name string, err error, want Outcome) {
	t.Helper()
	if got := outcome(err); got != want {
		t.Errorf("%s: got %v (%v), want %v", name, got, err, want)
	}
}

func outcome(err error) Outcome {
	if p, ok := err.(*Problem); ok {
		return p.Outcome
	}
	if err != nil {
		return -1
	}
	return 0
}
