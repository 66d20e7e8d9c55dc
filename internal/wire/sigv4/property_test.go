package sigv4

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// A signed request as bytes on a wire, and how to check it.
type sample struct {
	wire  []byte
	rules Rules
	key   Key
	at    time.Time
}

// randomSample signs a random request with AWS's own signer.
func randomSample(t *testing.T, rng *rand.Rand, presign bool) sample {
	t.Helper()
	s := sample{rules: RulesFor("lambda", RESTJSON), at: suiteTime}
	if rng.IntN(3) == 0 {
		s.rules = RulesFor("s3", S3)
	}
	s.key = Key{Secret: randomText(rng, 40, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/+")}
	if rng.IntN(2) == 0 {
		s.key.Token = randomText(rng, 100, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/+=")
	}

	var path strings.Builder
	for range 1 + rng.IntN(4) {
		path.WriteByte('/')
		path.WriteString("s" + randomText(rng, 1+rng.IntN(8), "abc XYZ019-_.~:@!$&'()*+,;=%ü日\"<>"))
	}
	u := &url.URL{Scheme: "http", Host: "localhost:4566", Path: path.String()}
	if s.rules.Family == S3 {
		u.RawPath = escape(u.Path, true) // as the S3 client does
	}
	q := url.Values{}
	for range rng.IntN(5) {
		q.Add(randomText(rng, rng.IntN(4), "abAB+;=& %ü")+"k", randomText(rng, rng.IntN(6), "abAB+;=& %/ü日"))
	}
	u.RawQuery = q.Encode()

	var body []byte
	method := []string{"GET", "PUT", "POST", "DELETE"}[rng.IntN(4)]
	if method[0] == 'P' && !presign {
		body = []byte(randomText(rng, rng.IntN(60), "{}\":,abc\x00\xff\n"))
	}
	r, err := http.NewRequest(method, "http://localhost:4566/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.URL = u
	if !presign {
		for range rng.IntN(4) {
			r.Header.Add([]string{"X-Amz-Meta-One", "My-Header", "Content-Type", "X-Amz-Target"}[rng.IntN(4)], "v"+randomText(rng, rng.IntN(12), "ab  ,;=\"é")+"w")
		}
	}
	hash := BodyHash(body)
	if s.rules.Family == S3 && presign {
		hash = UnsignedPayload
	} else if s.rules.Family == S3 {
		r.Header.Set("X-Amz-Content-Sha256", hash)
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = s.rules.Family == S3 })
	creds := aws.Credentials{AccessKeyID: suiteKey, SecretAccessKey: s.key.Secret, SessionToken: s.key.Token}
	if presign {
		q.Set("X-Amz-Expires", "60")
		u.RawQuery = q.Encode()
		signed, header, err := signer.PresignHTTP(context.Background(), creds, r, hash, s.rules.Service, "eu-central-1", s.at)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL, err = url.Parse(signed); err != nil {
			t.Fatal(err)
		}
		r.Header = header
		r.Header.Del("Host")
	} else if err := signer.SignHTTP(context.Background(), creds, r, hash, s.rules.Service, "eu-central-1", s.at); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	r.Header.Set("User-Agent", "") // none on the wire: nobody signs it
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	s.wire = b.Bytes()
	return s
}

func randomText(rng *rand.Rand, n int, alphabet string) string {
	runes, b := []rune(alphabet), strings.Builder{}
	for range n {
		b.WriteRune(runes[rng.IntN(len(runes))])
	}
	return b.String()
}

// meaning is everything of a request that a signature must fix.
func (s sample) verify(wire []byte) (meaning string, err error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	payload := BodyHash(body)
	if h := r.Header.Get("X-Amz-Content-Sha256"); s.rules.Family == S3 {
		if h == "" {
			payload = UnsignedPayload
			body = nil // not under the signature, by design
		} else if h != payload {
			return "", fmt.Errorf("S3 refuses a body of another hash")
		}
	}
	c, err := Verify(r, payload, s.rules, s.at, func(id, _ string) (Key, error) {
		if id != suiteKey {
			return Key{}, ErrUnknownKey
		}
		return s.key, nil
	})
	if err != nil {
		return "", err
	}
	path, raw := target(r)
	if s.rules.Family == S3 {
		path, _ = url.PathUnescape(path)
	}
	var params []string
	for f := range strings.SplitSeq(raw, "&") {
		if f == "" { // "a&&b" is "a&b"
			continue
		}
		n, v, _ := strings.Cut(f, "=")
		n, err1 := url.PathUnescape(n)
		v, err2 := url.PathUnescape(v)
		if err := cmp.Or(err1, err2); err != nil {
			return "", err
		}
		params = append(params, fmt.Sprintf("%q=%q", n, v))
	}
	slices.Sort(params)
	m := fmt.Sprintf("%s %q %s %q %s %v\n", r.Method, path, params, body, c.KeyID, c.Scope)
	for name, values := range r.Header {
		// Headers that are not signed are nobody's promise, but for the
		// x-amz-* ones, which have to be.
		if c.covers(strings.ToLower(name)) || strings.HasPrefix(strings.ToLower(name), "x-amz-") {
			// How many spaces stand together is not signed.
			m += fmt.Sprintf("%s: %q\n", name, regexp.MustCompile(" +").ReplaceAllString(strings.Join(values, ","), " "))
		}
	}
	lines := strings.Split(m, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n") + r.Host, nil
}

// What AWS's signer signs verifies, and no single changed byte that changes
// what the request means does.
func TestSignedVerifiesMutatedDoesNot(t *testing.T) {
	t.Parallel()
	n, seed := 80, uint64(1)
	if testing.Short() {
		n = 20
	}
	for _, presign := range []bool{false, true} {
		t.Run(map[bool]string{false: "Header", true: "Query"}[presign], func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 2))
			var tried, same int
			for range n {
				s := randomSample(t, rng, presign)
				want, err := s.verify(s.wire)
				if err != nil {
					t.Fatalf("%v\n%q", err, s.wire)
				}
				for i := range s.wire {
					old := s.wire[i]
					s.wire[i] = mutate(rng, old)
					got, err := s.verify(s.wire)
					tried++
					if err == nil {
						same++
						if got != want {
							t.Fatalf("byte %d changed from %q to %q still verifies:\n%q", i, old, s.wire[i], s.wire)
						}
					}
					s.wire[i] = old
				}
			}
			if same*10 > tried {
				t.Errorf("%d of %d changes changed nothing: the test tests too little", same, tried)
			}
			t.Logf("%d changes, %d without a meaning", tried, same)
		})
	}
}

func mutate(rng *rand.Rand, old byte) byte {
	switch rng.IntN(3) {
	case 0:
		if c := old ^ 0x20; c != 0 { // the other case
			return c
		}
	case 1:
		if c := "/.%&=+; ,\t?#\x00"[rng.IntN(13)]; c != old {
			return c
		}
	}
	return old + byte(1+rng.IntN(255))
}
