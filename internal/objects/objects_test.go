package objects

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/internal/store"
	"countersign/internal/store/storetest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// There is one gateway per process, so the tests of this package that open one
// run one after the other: no t.Parallel in them.

const (
	testAccount = "000000000000"
	testKey     = "AKIDTESTROOT00000000"
	testSecret  = "a-secret-of-the-test/with+signs0000000000"
	otherKey    = "AKIDOTHERACCOUNT0000"
	otherSecret = "another-secret-of-the-test00000000000000"
	otherID     = "111111111111"
)

// keyring is a KeyProvider with two accounts.
type keyring struct{}

func (keyring) Lookup(_ context.Context, key string) (string, Caller, bool) {
	switch key {
	case testKey:
		return testSecret, Caller{Account: testAccount, ARN: "arn:aws:iam::" + testAccount + ":root", AccessKey: key, Root: true}, true
	case otherKey:
		return otherSecret, Caller{Account: otherID, ARN: "arn:aws:iam::" + otherID + ":user/other", AccessKey: key}, true
	}
	return "", Caller{}, false
}

// A fixture is an open gateway behind a real listener.
type fixture struct {
	*Gateway
	t    *testing.T
	dir  string
	docs store.Store
	url  string
}

func testGateway(t *testing.T, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), docs: storetest.Memory()}
	f.open(change...)
	return f
}

// open opens the fixture's directory, again if it was closed before.
func (f *fixture) open(change ...func(*Config)) {
	f.t.Helper()
	cfg := Config{Dir: filepath.Join(f.dir, "objects"), Store: f.docs, Keys: keyring{}}
	for _, c := range change {
		c(&cfg)
	}
	g, err := Open(f.t.Context(), cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Gateway = g
	srv := httptest.NewServer(g)
	f.url = srv.URL
	f.t.Cleanup(func() {
		srv.Close()
		if err := g.Close(); err != nil {
			f.t.Error(err)
		}
	})
}

func (f *fixture) client(region, key, secret string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(f.url), UsePathStyle: true, Region: region,
		Credentials:      credentials.NewStaticCredentialsProvider(key, secret, ""),
		RetryMaxAttempts: 1,
	})
}

func (f *fixture) root() *s3.Client { return f.client("us-east-1", testKey, testSecret) }

func (f *fixture) bucket(name string) {
	f.t.Helper()
	if _, err := f.root().CreateBucket(f.t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) versioned(name string) {
	f.t.Helper()
	f.bucket(name)
	f.setVersioning(name, types.BucketVersioningStatusEnabled)
}

func (f *fixture) setVersioning(name string, to types.BucketVersioningStatus) {
	f.t.Helper()
	_, err := f.root().PutBucketVersioning(f.t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &name, VersioningConfiguration: &types.VersioningConfiguration{Status: to}})
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) put(bucket, key, body string) (version string) {
	f.t.Helper()
	out, err := f.root().PutObject(f.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)})
	if err != nil {
		f.t.Fatal(err)
	}
	return aws.ToString(out.VersionId)
}

func (f *fixture) get(bucket, key, version string) (string, error) {
	in := &s3.GetObjectInput{Bucket: &bucket, Key: &key}
	if version != "" {
		in.VersionId = &version
	}
	out, err := f.root().GetObject(f.t.Context(), in)
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	return string(b), err
}

func (f *fixture) want(bucket, key, version, body string) {
	f.t.Helper()
	got, err := f.get(bucket, key, version)
	if err != nil || got != body {
		f.t.Errorf("get %s/%s %q: got %.60q, %v, want %.60q", bucket, key, version, got, err, body)
	}
}

// wantCode checks AWS's name of an SDK error.
func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code {
		t.Errorf("%s: got error %v, want %s", what, err, code)
	}
}

func TestRoundTripsEveryKindOfKey(t *testing.T) {
	f := testGateway(t)
	f.bucket("keys")
	keys := []string{
		"plain", "with space", "plus+plus", "per%20cent", "%2F", "ünïcode/日本語", "a/b/c.txt", "semi;colon", "amp&ersand=eq",
		"quote'\"", "tilde~", "star*", "colon:at@", "~dot.", "(paren)", "comma,", "back\\slash", "tail$", "[x]{y}|z^`<>#?", "..a", "new\nline",
	}
	for _, key := range keys {
		f.put("keys", key, "body of "+key)
	}
	for _, key := range keys {
		f.want("keys", key, "", "body of "+key)
	}
	out, err := f.root().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("keys")})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Contents) != len(keys) {
		t.Errorf("list: got %d keys, want %d", len(out.Contents), len(keys))
	}
}

func TestKeysCannotLeaveTheirBucket(t *testing.T) {
	f := testGateway(t)
	f.bucket("prison")
	f.bucket("other")
	f.put("other", "secret", "of another bucket")
	for _, key := range []string{"../other/secret", "a/../../other/secret", "..", "../../open", "a/./b", "../../../../../etc/passwd"} {
		if body, err := f.get("prison", key, ""); err == nil {
			t.Errorf("get %q: got %.40q, want an error", key, body)
		}
		_, err := f.root().PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("prison"), Key: &key, Body: strings.NewReader("x")})
		if err == nil {
			t.Errorf("put %q: got no error", key)
		}
		_, err = f.root().CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String("prison"), Key: aws.String("copy"), CopySource: aws.String("prison/" + key)})
		if err == nil {
			t.Errorf("copy from %q: got no error", key)
		}
	}
	f.want("other", "secret", "", "of another bucket")
}

func TestVersions(t *testing.T) {
	t.Run("Attributes", func(t *testing.T) { versions(t, testGateway(t)) })
	t.Run("Sidecar", func(t *testing.T) { versions(t, testGateway(t, func(c *Config) { c.sidecar = true })) })
}

func versions(t *testing.T, f *fixture) {
	f.versioned("vers")
	one, two := f.put("vers", "k", "one"), f.put("vers", "k", "two")
	if one == "" || two == "" || one == two {
		t.Fatalf("versions %q and %q", one, two)
	}
	f.want("vers", "k", one, "one")
	f.want("vers", "k", two, "two")
	c := f.root()
	del, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("vers"), Key: aws.String("k")})
	if err != nil || !aws.ToBool(del.DeleteMarker) {
		t.Fatalf("delete: %+v, %v", del, err)
	}
	_, err = f.get("vers", "k", "")
	wantCode(t, "get after delete", err, "NoSuchKey")
	f.want("vers", "k", two, "two")
	if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("vers"), Key: aws.String("k"), VersionId: del.VersionId}); err != nil {
		t.Fatal(err)
	}
	f.want("vers", "k", "", "two")
	if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("vers"), Key: aws.String("k"), VersionId: &two}); err != nil {
		t.Fatal(err)
	}
	f.want("vers", "k", "", "one")
	list, err := c.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: aws.String("vers")})
	if err != nil || len(list.Versions) != 1 || aws.ToString(list.Versions[0].VersionId) != one {
		t.Fatalf("versions left: %+v, %v", list, err)
	}
	_, err = f.get("vers", "k", two)
	wantCode(t, "get a deleted version", err, "NoSuchVersion")
	f.setVersioning("vers", types.BucketVersioningStatusSuspended)
	if v := f.put("vers", "k", "null"); v != "" && v != "null" {
		t.Errorf("version on a suspended bucket: got %q", v)
	}
	f.want("vers", "k", "null", "null")
	f.want("vers", "k", one, "one")
}

func TestMultipartAndCopy(t *testing.T) {
	t.Run("Attributes", func(t *testing.T) { inParts(t, testGateway(t)) })
	t.Run("Sidecar", func(t *testing.T) { inParts(t, testGateway(t, func(c *Config) { c.sidecar = true })) })
}

func inParts(t *testing.T, f *fixture) {
	f.bucket("parts")
	c := f.root()
	body := make([]byte, 11<<20)
	_, _ = rand.Read(body)
	up, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String("parts"), Key: aws.String("big"), ContentType: aws.String("x/y")})
	if err != nil {
		t.Fatal(err)
	}
	var done []types.CompletedPart
	for i, b := range [][]byte{body[:5<<20], body[5<<20 : 10<<20], body[10<<20:]} {
		n := int32(i + 1)
		p, err := c.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: aws.String("parts"), Key: aws.String("big"), UploadId: up.UploadId, PartNumber: &n, Body: bytes.NewReader(b)})
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, types.CompletedPart{ETag: p.ETag, PartNumber: &n, ChecksumCRC32: p.ChecksumCRC32})
	}
	if _, err := c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: aws.String("parts"), Key: aws.String("big"), UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: done}}); err != nil {
		t.Fatal(err)
	}
	f.want("parts", "big", "", string(body))
	if _, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String("parts"), Key: aws.String("copy"), CopySource: aws.String("parts/big")}); err != nil {
		t.Fatal(err)
	}
	f.want("parts", "copy", "", string(body))
}

// A body is passed on as it arrives: neither our listener nor versitygw holds
// it. The client sends the second half only after a file of the first half's
// size is being written, so whoever waited for the whole would wait for ever.
func TestBodiesStream(t *testing.T) {
	f := testGateway(t)
	f.bucket("streams")
	link, err := s3.NewPresignClient(f.root()).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("streams"), Key: aws.String("zeros")})
	if err != nil {
		t.Fatal(err)
	}
	const half = 8 << 20
	before := written(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, w := io.Pipe()
	go func() {
		_, _ = io.Copy(w, io.NewSectionReader(zeros{}, 0, half))
		for written(t) < before+half/2 {
			runtime.Gosched()
			if ctx.Err() != nil {
				break
			}
		}
		_, _ = io.Copy(w, io.NewSectionReader(zeros{}, 0, half))
		w.Close()
	}()
	req, _ := http.NewRequestWithContext(ctx, "PUT", link.URL, r)
	req.ContentLength = 2 * half
	wantAnswer(t, "half after half", req, 200)
	out, err := f.root().GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("streams"), Key: aws.String("zeros")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	if n, err := io.Copy(io.Discard, out.Body); n != 2*half || err != nil {
		t.Errorf("got %d bytes, %v, want %d", n, err, 2*half)
	}
}

// written returns how many bytes this process has given to write calls, the
// sockets' included: three times those of a body when it has reached its file.
func written(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Error(err)
		return 1 << 62
	}
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "wchar: "); ok {
			v, _ := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
			return v / 3
		}
	}
	return 1 << 62
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

func TestBucketsLiveInTheirRegion(t *testing.T) {
	f := testGateway(t)
	eu := f.client("eu-central-1", testKey, testSecret)
	_, err := eu.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("frankfurt"), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-central-1"}})
	if err != nil {
		t.Fatal(err)
	}
	f.bucket("virginia")
	if _, err := eu.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("frankfurt"), Key: aws.String("k"), Body: strings.NewReader("v")}); err != nil {
		t.Fatal(err)
	}
	loc, err := eu.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: aws.String("frankfurt")})
	if err != nil || loc.LocationConstraint != "eu-central-1" {
		t.Errorf("location: got %v, %v", loc, err)
	}
	_, err = f.root().GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("frankfurt"), Key: aws.String("k")})
	wantCode(t, "scope of another region", err, "AuthorizationHeaderMalformed")
	if err == nil || !strings.Contains(err.Error(), "the region 'us-east-1' is wrong; expecting 'eu-central-1'") {
		t.Errorf("scope of another region: got %v", err)
	}
	list, err := eu.ListBuckets(t.Context(), &s3.ListBucketsInput{})
	if err != nil || len(list.Buckets) != 2 {
		t.Fatalf("list: %+v, %v", list, err)
	}
	for i, want := range []string{"frankfurt eu-central-1", "virginia us-east-1"} {
		if got := *list.Buckets[i].Name + " " + aws.ToString(list.Buckets[i].BucketRegion); got != want {
			t.Errorf("list: got %q, want %q", got, want)
		}
	}
	if region, account, err := f.BucketRegion("frankfurt"); region != "eu-central-1" || account != testAccount || err != nil {
		t.Errorf("BucketRegion: %q %q %v", region, account, err)
	}
}

func TestSurvivesReopening(t *testing.T) {
	f := testGateway(t)
	f.versioned("kept")
	v := f.put("kept", "k", "one")
	if _, err := Open(t.Context(), f.cfg); !errors.Is(err, ErrOpen) {
		t.Fatalf("second Open: got %v, want ErrOpen", err)
	}
	was, _ := os.Getwd()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if now, _ := os.Getwd(); now == was {
		t.Error("Close did not go back to the old working directory")
	}
	f.open()
	f.want("kept", "k", v, "one")
	if on, _, err := f.Versioning(t.Context(), "kept"); !on || err != nil {
		t.Errorf("versioning after reopening: %v, %v", on, err)
	}
}

func TestRefusesWhenTheWorkingDirectoryMoved(t *testing.T) {
	f := testGateway(t)
	f.bucket("home")
	here, _ := os.Getwd()
	if err := os.Chdir(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	_, err := f.root().PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("home"), Key: aws.String("k"), Body: strings.NewReader("x")})
	wantCode(t, "put elsewhere", err, "InternalError")
	if _, err := f.PutObject(t.Context(), "home", "k", strings.NewReader("x"), 1, nil); err == nil {
		t.Error("PutObject elsewhere: got no error")
	}
	if err := os.Chdir(here); err != nil {
		t.Fatal(err)
	}
	f.put("home", "k", "x")
}

// A delete that meets puts to the same key may hide what it met, but no put
// that was acknowledged with a version may lose it.
func TestDeleteMeetsPut(t *testing.T) {
	f := testGateway(t)
	f.versioned("race")
	c := f.root()
	var mu sync.Mutex
	put := map[string]string{}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 25 {
				if i%2 == 0 {
					_, _ = c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("race"), Key: aws.String("k")})
					continue
				}
				body := strings.Repeat(string(rune('a'+i)), j+1)
				info, err := f.PutObject(t.Context(), "race", "k", strings.NewReader(body), int64(len(body)), nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				put[info.VersionID] = body
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for v, body := range put {
		f.want("race", "k", v, body)
	}
}

func raw(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// A request that is refused before its body is wanted never sends it.
func TestExpectContinue(t *testing.T) {
	f := testGateway(t)
	f.bucket("expects")
	send := func(secret string) (status string, asked bool) {
		r := sign{secret: secret}.request(t, "PUT", f.url+"/expects/k", "body")
		c, err := net.Dial("tcp", r.URL.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "PUT /expects/k HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n", r.URL.Host)
		for k, v := range r.Header {
			fmt.Fprintf(c, "%s: %s\r\n", k, v[0])
		}
		fmt.Fprint(c, "\r\n")
		in := bufio.NewReader(c)
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "100 Continue") {
			asked = true
			fmt.Fprint(c, "body")
			_, _ = in.ReadString('\n')
			line, _ = in.ReadString('\n')
		}
		return strings.TrimSpace(line), asked
	}
	if status, asked := send(testSecret); status != "HTTP/1.1 200 OK" || !asked {
		t.Errorf("got %q, asked for the body: %v", status, asked)
	}
	f.want("expects", "k", "", "body")
	if status, _ := send("wrong"); status != "HTTP/1.1 403 Forbidden" {
		t.Errorf("wrong secret: got %q", status)
	}
}

// Nobody makes us start servers without end.
func TestRegionsAreBounded(t *testing.T) {
	f := testGateway(t)
	for i := range maxRegions - 1 {
		if _, err := f.regions.get(f.Gateway, fmt.Sprintf("xx-test-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	wantAnswer(t, "one more", sign{region: "eu-north-1"}.request(t, "GET", f.url+"/", ""), http.StatusServiceUnavailable, "<Code>SlowDown</Code>")
	wantAnswer(t, "one of them", sign{region: "xx-test-1"}.request(t, "GET", f.url+"/", ""), 200)
	for _, name := range []string{"../../x", "US-EAST-1", "us-east-1/..", ""} {
		if regionName.MatchString(name) {
			t.Errorf("%q passes for a region", name)
		}
	}
}
