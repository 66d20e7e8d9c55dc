package api

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	awssigner "github.com/aws/aws-sdk-go-v2/service/signer"
	"github.com/aws/aws-sdk-go-v2/service/signer/types"
	"github.com/aws/smithy-go"

	"countersign"
	"countersign/internal/guard"
	"countersign/internal/guard/seal"
	"countersign/internal/objects"
	"countersign/internal/sign"
	"countersign/internal/store"
	"countersign/internal/wire"
	"countersign/internal/wire/signer"
)

// The tests here speak to Signer as its clients do: real signatures, a real
// store, a real S3. The gateway is one per process and takes over the working
// directory, so each platform is a process of its own: this test binary again.

// signerChildDir is how a child knows that it is one, and its data directory.
const signerChildDir = "COUNTERSIGN_TEST_SIGNER_DIR"

var signerCreds = guard.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}

// TestSignerChild is not a test: it is the platform other tests start.
func TestSignerChild(t *testing.T) {
	dir := os.Getenv(signerChildDir)
	if dir == "" {
		t.Skip("the platform that TestSigner… start, not a test")
	}
	check := func(err error) {
		if err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	st, err := store.Open(ctx, store.Config{Dir: dir, Log: log})
	check(err)
	root, err := guard.OpenRoot(dir, signerCreds)
	check(err)
	master, err := seal.Open(dir, "")
	check(err)
	g, err := objects.Open(ctx, objects.Config{Dir: filepath.Join(dir, "objects"), Store: st, Keys: signerKeys{root}, Log: log})
	check(err)
	ca, err := sign.OpenAuthority(ctx, sign.AuthorityConfig{Dir: sign.CADir(dir), Keys: sign.SealedKeys{Sealer: master}, Store: st})
	check(err)
	svc, err := sign.Open(ctx, sign.Config{Store: st, Objects: signerObjects{g}, Authority: ca, Scratch: dir, Log: log})
	check(err)
	auth := &guard.Authenticator{Keys: root}
	srv := wire.NewServer(wire.Config{Authenticate: auth.Authenticate, Translate: Translate, S3: g, Log: log}, signer.Service)
	registerSigner(srv, svc)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Printf("listening http://%s\n", l.Addr())
	check(http.Serve(l, srv)) // until it is killed: a child never stops in order
}

// signerKeys shows the root's keys to the gateway.
type signerKeys struct{ *guard.Root }

func (k signerKeys) Lookup(ctx context.Context, id string) (string, objects.Caller, bool) {
	key, err := k.Key(ctx, id, "")
	if err != nil {
		return "", objects.Caller{}, false
	}
	return key.Secret, objects.Caller{Account: key.Caller.Account, ARN: key.Caller.ARN, AccessKey: id, Root: true}, true
}

// signerObjects shows the gateway to signing jobs.
type signerObjects struct{ g *objects.Gateway }

func (o signerObjects) Bucket(ctx context.Context, as sign.Caller, name string) (sign.BucketInfo, error) {
	region, account, err := o.g.BucketRegion(name)
	if err != nil {
		return sign.BucketInfo{}, err
	}
	if account != as.Account {
		return sign.BucketInfo{}, countersign.Errorf(countersign.Denied, "Access Denied")
	}
	_, v, err := o.g.Versioning(ctx, name)
	return sign.BucketInfo{Region: region, Versioned: v}, err
}

func (o signerObjects) Open(ctx context.Context, as sign.Caller, bucket, key, version string) (io.ReadCloser, sign.ObjectInfo, error) {
	if _, err := o.Bucket(ctx, as, bucket); err != nil {
		return nil, sign.ObjectInfo{}, err
	}
	body, info, err := o.g.GetObject(ctx, "", bucket, key, version)
	return body, sign.ObjectInfo{Size: info.Size, Version: info.VersionID}, err
}

func (o signerObjects) PutIfAbsent(ctx context.Context, as sign.Caller, bucket, key string, body io.Reader, size int64) error {
	if _, err := o.Bucket(ctx, as, bucket); err != nil {
		return err
	}
	_, created, err := o.g.PutIfAbsent(ctx, bucket, key, body, size, nil)
	if err == nil && !created {
		err = countersign.Errorf(countersign.Exists, "the key has an object")
	}
	return err
}

const signerRegion = "eu-central-1"

// A signerChild is a running platform and clients of it.
type signerChild struct {
	dir, url string
	cmd      *exec.Cmd
	signer   *awssigner.Client
	s3       *s3.Client
}

func startSigner(t *testing.T, dir string) *signerChild {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestSignerChild$", "-test.v")
	cmd.Env = append(os.Environ(), signerChildDir+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &signerChild{dir: dir, cmd: cmd}
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("the platform said:\n%s", stderr.String())
		}
	})
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
			c.url = url
			break
		}
		said.WriteString(lines.Text() + "\n")
	}
	if c.url == "" {
		t.Fatalf("the platform did not start: %s", said.String())
	}
	go io.Copy(io.Discard, out)
	creds := credentials.NewStaticCredentialsProvider(signerCreds.AccessKeyID, signerCreds.SecretAccessKey, "")
	c.signer = awssigner.New(awssigner.Options{Region: signerRegion, BaseEndpoint: &c.url, Credentials: creds, RetryMaxAttempts: 1})
	c.s3 = s3.New(s3.Options{Region: signerRegion, BaseEndpoint: &c.url, Credentials: creds, RetryMaxAttempts: 1, UsePathStyle: true})
	return c
}

// kill is kill -9. Killing twice is once.
func (c *signerChild) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

func (c *signerChild) bucket(t *testing.T, name string, versioned bool) {
	t.Helper()
	if _, err := c.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name,
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: signerRegion}}); err != nil {
		t.Fatal(err)
	}
	if !versioned {
		return
	}
	if _, err := c.s3.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: &name,
		VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled}}); err != nil {
		t.Fatal(err)
	}
}

func (c *signerChild) put(t *testing.T, bucket, key string, body []byte) (version string) {
	t.Helper()
	out, err := c.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)})
	if err != nil {
		t.Fatal(err)
	}
	return aws.ToString(out.VersionId)
}

func (c *signerChild) get(t *testing.T, bucket, key string) []byte {
	t.Helper()
	out, err := c.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// versions lists what a bucket holds, all versions of it.
func (c *signerChild) versions(t *testing.T, bucket string) (keys []string) {
	t.Helper()
	out, err := c.s3.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range out.Versions {
		keys = append(keys, *v.Key)
	}
	return keys
}

func (c *signerChild) profile(t *testing.T, name string) *awssigner.PutSigningProfileOutput {
	t.Helper()
	out, err := c.signer.PutSigningProfile(t.Context(), &awssigner.PutSigningProfileInput{ProfileName: &name, PlatformId: aws.String(sign.LambdaPlatform)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *signerChild) request(bucket, key, version, dst, token string) *awssigner.StartSigningJobInput {
	return &awssigner.StartSigningJobInput{
		ProfileName: aws.String("prod"), ClientRequestToken: &token,
		Source:      &types.Source{S3: &types.S3Source{BucketName: &bucket, Key: &key, Version: &version}},
		Destination: &types.Destination{S3: &types.S3Destination{BucketName: &dst, Prefix: aws.String("signed/")}},
	}
}

// await uses the SDK's own waiter, with a shorter pause.
func (c *signerChild) await(t *testing.T, id *string) (*awssigner.DescribeSigningJobOutput, error) {
	t.Helper()
	w := awssigner.NewSuccessfulSigningJobWaiter(c.signer, func(o *awssigner.SuccessfulSigningJobWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 50*time.Millisecond
	})
	return w.WaitForOutput(t.Context(), &awssigner.DescribeSigningJobInput{JobId: id}, time.Minute)
}

// verify checks a signed object as an outsider with the root's PEM would.
func (c *signerChild) verify(t *testing.T, object []byte) *countersign.Evidence {
	t.Helper()
	pem, err := sign.ReadRootPEM(sign.CADir(c.dir))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := countersign.LoadTrust(pem)
	if err != nil {
		t.Fatal(err)
	}
	a, err := countersign.OpenArchive(bytes.NewReader(object), int64(len(object)), countersign.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := countersign.Verify(t.Context(), a, trust)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func signerZip(t *testing.T, body string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	f, err := w.Create("app.py")
	if err == nil {
		_, err = io.WriteString(f, body)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// checkCode asserts an API error by its code, its fault and, if given, message.
func checkCode(t *testing.T, what string, err error, code, message string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code || message != "" && e.ErrorMessage() != message {
		t.Errorf("%s: got %v, want %s: %s", what, err, code, message)
	}
}

// TestSignerSurvivesKill kills the process again and again while clients start
// jobs, and then wants each job that was acknowledged to be one signed object.
func TestSignerSurvivesKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := startSigner(t, dir)
	c.bucket(t, "src", true)
	c.bucket(t, "dst", true)
	c.profile(t, "prod")
	v := c.put(t, "src", "app.zip", signerZip(t, "kill me"))

	acknowledged := map[string]string{} // token to job
	for life := range 6 {
		var mu sync.Mutex
		var wg sync.WaitGroup
		enough := make(chan struct{})
		for client := range 4 {
			wg.Go(func() {
				for n := 0; ; n++ {
					token := fmt.Sprintf("%d-%d-%d", life, client, n)
					out, err := c.signer.StartSigningJob(t.Context(), c.request("src", "app.zip", v, "dst", token))
					if err != nil {
						return // it is dead
					}
					mu.Lock()
					acknowledged[token] = *out.JobId
					if len(acknowledged) == 5*(life+1)+life {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		c.kill()
		wg.Wait()
		c = startSigner(t, dir)
	}

	want := map[string]bool{}
	for token, id := range acknowledged {
		job, err := c.await(t, &id)
		if err != nil {
			t.Fatalf("job %s: %v", id, err)
		}
		key := *job.SignedObject.S3.Key
		if st := c.verify(t, c.get(t, "dst", key)).Statement(); !strings.HasSuffix(st.Job, "/"+id) {
			t.Errorf("%s was signed for %s", key, st.Job)
		}
		again, err := c.signer.StartSigningJob(t.Context(), c.request("src", "app.zip", v, "dst", token))
		if err != nil || *again.JobId != id {
			t.Errorf("token %s: got %v, %v, want job %s", token, again, err, id)
		}
		want[key] = true
	}
	// Jobs whose answer was lost are signed, too, or were never made.
	pages := awssigner.NewListSigningJobsPaginator(c.signer, &awssigner.ListSigningJobsInput{})
	all := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Jobs {
			all++
			job, err := c.await(t, j.JobId)
			if err != nil {
				t.Fatal(err)
			}
			want[*job.SignedObject.S3.Key] = true
		}
	}
	got := c.versions(t, "dst")
	slices.Sort(got)
	if n := len(slices.Compact(slices.Clone(got))); n != len(got) {
		t.Errorf("got %d versions of %d signed objects", len(got), n)
	}
	if len(got) != len(want) || len(got) != all {
		t.Errorf("got %d signed objects for %d jobs", len(got), all)
	}
	t.Logf("%d lives, %d jobs acknowledged, %d jobs, %d objects", 7, len(acknowledged), all, len(got))
}
