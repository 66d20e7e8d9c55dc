package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
	"countersign/internal/wire/logs"
	"countersign/internal/wire/sigv4"
	"countersign/internal/wire/sts"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func openRoot(t *testing.T, dir string) *Root {
	t.Helper()
	r, err := OpenRoot(dir, Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sign signs as a client with creds would.
func sign(t *testing.T, creds aws.Credentials, service, region, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("POST", "http://127.0.0.1:4566/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, sigv4.BodyHash([]byte(body)), service, region, now); err != nil {
		t.Fatal(err)
	}
	return r
}

func sdkCredentials(c Credentials) aws.Credentials {
	return aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}
}

func TestRootIsKnownByItsSignature(t *testing.T) {
	t.Parallel()
	root := openRoot(t, t.TempDir())
	a := &Authenticator{Keys: root, Now: func() time.Time { return now }}
	for _, svc := range []*wire.Service{sts.Service, lambda.Service, logs.Service} {
		c, region, err := a.Authenticate(sign(t, sdkCredentials(root.Credentials()), svc.SigningName, "ap-south-1", "body"), []byte("body"), svc)
		if err != nil {
			t.Fatalf("%s: %v", svc.Name, err)
		}
		want := wire.Caller{Account: "000000000000", ARN: "arn:aws:iam::000000000000:root", UserID: "000000000000", AccessKeyID: root.Credentials().AccessKeyID, Root: true}
		if c != want || region != "ap-south-1" {
			t.Errorf("%s: got %+v in %s, want %+v", svc.Name, c, region, want)
		}
	}
}

func TestEverybodyElseIsRefused(t *testing.T) {
	t.Parallel()
	root := openRoot(t, t.TempDir())
	good := sdkCredentials(root.Credentials())
	wrong := good
	wrong.SecretAccessKey = strings.Repeat("x", 40)
	foreign := good
	foreign.SessionToken = "token"
	nobody := aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: good.SecretAccessKey}
	test := aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}
	for _, tt := range []struct {
		name   string
		svc    *wire.Service
		creds  aws.Credentials
		edit   func(*http.Request)
		body   string
		offset time.Duration
		code   string
		status int
	}{
		{"nothing", sts.Service, good, func(r *http.Request) { r.Header.Del("Authorization") }, "body", 0, "MissingAuthenticationToken", 403},
		{"nothing, lambda", lambda.Service, good, func(r *http.Request) { r.Header.Del("Authorization") }, "body", 0, "MissingAuthenticationTokenException", 403},
		{"nothing, logs", logs.Service, good, func(r *http.Request) { r.Header.Del("Authorization") }, "body", 0, "MissingAuthenticationTokenException", 400},
		{"wrong secret", sts.Service, wrong, nil, "body", 0, "SignatureDoesNotMatch", 403},
		{"wrong secret, lambda", lambda.Service, wrong, nil, "body", 0, "InvalidSignatureException", 403},
		{"wrong secret, logs", logs.Service, wrong, nil, "body", 0, "InvalidSignatureException", 400},
		{"another body", lambda.Service, good, nil, "bodz", 0, "InvalidSignatureException", 403},
		{"no body", lambda.Service, good, nil, "", 0, "InvalidSignatureException", 403},
		{"unknown key", sts.Service, nobody, nil, "body", 0, "InvalidClientTokenId", 403},
		{"test/test", lambda.Service, test, nil, "body", 0, "UnrecognizedClientException", 403},
		{"root with a token", logs.Service, foreign, nil, "body", 0, "UnrecognizedClientException", 400},
		{"five minutes late, lambda", lambda.Service, good, nil, "body", 5*time.Minute + time.Second, "InvalidSignatureException", 403},
		{"fifteen minutes late, sts", sts.Service, good, nil, "body", 15*time.Minute + time.Second, "SignatureDoesNotMatch", 403},
		{"an hour early", sts.Service, good, nil, "body", -time.Hour, "SignatureDoesNotMatch", 403},
	} {
		a := &Authenticator{Keys: root, Now: func() time.Time { return now.Add(tt.offset) }}
		r := sign(t, tt.creds, tt.svc.SigningName, "us-east-1", "body")
		if tt.edit != nil {
			tt.edit(r)
		}
		c, region, err := a.Authenticate(r, []byte(tt.body), tt.svc)
		f, ok := err.(*wire.Fault)
		if !ok || f.Code != tt.code || f.Status != tt.status {
			t.Errorf("%s: got %v, want %s %d", tt.name, err, tt.code, tt.status)
			continue
		}
		if c != (wire.Caller{}) || region != "" {
			t.Errorf("%s: a refusal came with %+v in %q", tt.name, c, region)
		}
		if strings.Contains(fmt.Sprint(f.Message, f.Cause), good.SecretAccessKey) {
			t.Errorf("%s: the secret came back", tt.name)
		}
	}
}

// A request signed for one service is no good for another.
func TestScopeIsTheService(t *testing.T) {
	t.Parallel()
	root := openRoot(t, t.TempDir())
	a := &Authenticator{Keys: root, Now: func() time.Time { return now }}
	_, _, err := a.Authenticate(sign(t, sdkCredentials(root.Credentials()), "sts", "us-east-1", ""), nil, lambda.Service)
	f, ok := err.(*wire.Fault)
	if want := "Credential should be scoped to correct service: 'lambda'. "; !ok || f.Message != want || f.Code != "InvalidSignatureException" {
		t.Errorf("got %v, want %q", err, want)
	}
}

type downKeys struct{}

func (downKeys) Key(context.Context, string, string) (Key, error) {
	return Key{}, errors.New("store is down")
}

// When keys cannot be looked up nobody is anybody, and it is not called the
// caller's fault.
func TestLookupFails(t *testing.T) {
	t.Parallel()
	a := &Authenticator{Keys: downKeys{}, Now: func() time.Time { return now }}
	c, _, err := a.Authenticate(sign(t, aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "x"}, "sts", "us-east-1", ""), nil, sts.Service)
	if _, ok := err.(*wire.Fault); ok || err == nil || c != (wire.Caller{}) {
		t.Errorf("got %+v, %v", c, err)
	}
}

// sessionKeys knows one session, as IAM will.
type sessionKeys struct{ key Key }

func (s sessionKeys) Key(_ context.Context, id, token string) (Key, error) {
	if id != "ASIAEXAMPLE" {
		return Key{}, ErrUnknownKey
	}
	return s.key, nil
}

func TestSessions(t *testing.T) {
	t.Parallel()
	key := Key{Secret: "session secret", Token: "tok", Expires: now.Add(time.Minute), Caller: wire.Caller{Account: "000000000000", ARN: "arn:aws:sts::000000000000:assumed-role/r/s", UserID: "AROA:s"}}
	creds := aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "session secret", SessionToken: "tok"}
	at := now
	a := &Authenticator{Keys: sessionKeys{key}, Now: func() time.Time { return at }}
	c, _, err := a.Authenticate(sign(t, creds, "sts", "us-east-1", ""), nil, sts.Service)
	if err != nil || c.ARN != key.Caller.ARN || c.AccessKeyID != "ASIAEXAMPLE" || c.Root {
		t.Errorf("got %+v, %v", c, err)
	}
	at = now.Add(time.Minute)
	_, _, err = a.Authenticate(sign(t, creds, "sts", "us-east-1", ""), nil, sts.Service)
	if f, ok := err.(*wire.Fault); !ok || f.Code != "ExpiredToken" || f.Message != "The security token included in the request is expired" {
		t.Errorf("got %v, want ExpiredToken", err)
	}
}

func TestRootCredentialsAreMadeOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	c := openRoot(t, dir).Credentials()
	if !regexp.MustCompile(`^AKIA[A-Z2-7]{16}$`).MatchString(c.AccessKeyID) || !regexp.MustCompile(`^[A-Za-z0-9+/]{40}$`).MatchString(c.SecretAccessKey) {
		t.Errorf("got id %q and a secret of %d characters", c.AccessKeyID, len(c.SecretAccessKey))
	}
	fi, err := os.Stat(filepath.Join(dir, RootFile))
	if err != nil || fi.Mode() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", fi.Mode(), err)
	}
	if again := openRoot(t, dir).Credentials(); again != c {
		t.Error("the second start made other credentials")
	}
	if read, err := ReadRoot(dir); err != nil || read != c {
		t.Errorf("ReadRoot: %v", err)
	}
	if other := openRoot(t, t.TempDir()).Credentials(); other == c {
		t.Error("two directories have the same credentials")
	}
	if _, err := ReadRoot(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
}

func TestGivenCredentialsWin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	given := Credentials{"operator", "a secret of theirs"}
	if _, err := OpenRoot(dir, given); err == nil {
		t.Error("a secret with spaces was accepted")
	}
	given.SecretAccessKey = "theirs-and-long"
	r, err := OpenRoot(dir, given)
	if err != nil || r.Credentials() != given {
		t.Fatalf("got %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Error("given credentials were written down")
	}
	for _, bad := range []Credentials{{"operator", ""}, {"", "theirs-and-long"}, {"test", "test"}, {"a/b", "theirs-and-long"}, {"a,b=c", "theirs-and-long"}, {"id", "theirs-and-long"}, {"oper ator", "theirs-and-long"}} {
		if _, err := OpenRoot(dir, bad); err == nil {
			t.Errorf("%v: accepted", bad)
		} else if strings.Contains(err.Error(), "theirs-and-long") {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

func TestRootFileOthersCanReadIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := openRoot(t, dir).Credentials().SecretAccessKey
	path := filepath.Join(dir, RootFile)
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRoot(dir, Credentials{}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("mode %o: got %v, want a refusal without the secret", mode, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"", "{}", "{", `{"accessKeyId":"AKIAEXAMPLE","secretAccessKey":"` + secret} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRoot(dir, Credentials{}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%d bytes: got %v, want an error without the secret", len(content), err)
		}
	}
}

func TestCredentialsDoNotPrint(t *testing.T) {
	t.Parallel()
	r := openRoot(t, t.TempDir())
	c := r.Credentials()
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "creds", c, "p", &c, "in", []Credentials{c})
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "creds", c)
	fmt.Fprintf(&b, "%v %+v %#v %s %q %x", c, c, c, c, c, c)
	fmt.Fprintf(&b, "%v %+v", &c, []*Credentials{&c})
	if strings.Contains(b.String(), c.SecretAccessKey) {
		t.Errorf("the secret shows: %s", b.String())
	}
	if !strings.Contains(b.String(), c.AccessKeyID) {
		t.Error("the id does not show")
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	root, err := OpenRoot(b.TempDir(), Credentials{})
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(strings.Repeat("x", 1024))
	r, err := http.NewRequest("POST", "http://127.0.0.1:4566/2015-03-31/functions/hello/invocations", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	if err := v4.NewSigner().SignHTTP(b.Context(), sdkCredentials(root.Credentials()), r, sigv4.BodyHash(body), "lambda", "us-east-1", now); err != nil {
		b.Fatal(err)
	}
	a := &Authenticator{Keys: root, Now: func() time.Time { return now }}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := a.Authenticate(r, body, lambda.Service); err != nil {
			b.Fatal(err)
		}
	}
}

// TestPrecheck: before a body is read, a stranger is refused and a signature
// is not judged.
func TestPrecheck(t *testing.T) {
	t.Parallel()
	root, err := OpenRoot(t.TempDir(), Credentials{"AKIAPRECHECK00000000", "a-secret-for-a-test"})
	if err != nil {
		t.Fatal(err)
	}
	a := &Authenticator{Keys: root}
	for _, c := range []struct {
		key, service string
		refused      bool
	}{
		{"AKIAPRECHECK00000000", "lambda", false},
		{"AKIANOBODY0000000000", "lambda", true},
		{"AKIAPRECHECK00000000", "signer", true},
	} {
		r := httptest.NewRequest("PUT", "http://127.0.0.1/2015-03-31/functions/f/code", strings.NewReader("body"))
		now := time.Now().UTC()
		r.Header.Set("X-Amz-Date", now.Format("20060102T150405Z"))
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+c.key+"/"+now.Format("20060102")+"/eu-central-1/"+c.service+"/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64))
		if err := a.Precheck(r, lambda.Service); (err != nil) != c.refused {
			t.Errorf("%s for %s: got %v, want refused %v", c.key, c.service, err, c.refused)
		}
	}
}
