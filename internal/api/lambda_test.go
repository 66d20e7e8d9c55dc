package api_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/signer"
	signertypes "github.com/aws/aws-sdk-go-v2/service/signer/types"

	"countersign/internal/platform"
)

// The tests of Lambda drive the whole platform, over HTTP, with AWS's own
// clients, and with requests written out where a status, a header or the
// spelling of a member is the point. There is one platform for all of them,
// because there can be one S3 gateway in a process; what keeps them apart is
// that each test lives in a region of its own. Functions run unisolated:
// containment is the business of internal/run/contained.

const (
	testAccount   = "000000000000"
	testAccessKey = "AKIALAMBDATEST000000"
	testSecret    = "a-key-that-opens-nothing-but-this-test"
)

// shared is the platform of this process, opened by the first test that needs
// it and closed by TestMain.
var shared struct {
	once sync.Once
	dir  string
	p    *platform.Platform
	srv  *httptest.Server
	err  error
}

func TestMain(m *testing.M) {
	status := m.Run()
	if shared.srv != nil {
		shared.srv.Close()
	}
	if shared.p != nil {
		if err := shared.p.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close the platform:", err)
			status = max(status, 1)
		}
	}
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
	os.Exit(status)
}

func openShared() {
	if shared.dir, shared.err = os.MkdirTemp("", "countersign-lambda-"); shared.err != nil {
		return
	}
	shared.p, shared.err = platform.Open(context.Background(), platform.Config{
		Dir: shared.dir, Sandbox: "process", RootAccessKeyID: testAccessKey, RootSecretAccessKey: testSecret,
	})
	if shared.err == nil {
		shared.srv = httptest.NewServer(shared.p)
	}
}

// A world is one region of the platform and clients in it.
type world struct {
	t      *testing.T
	region string
	lambda *lambda.Client
	s3     *s3.Client
	signer *signer.Client
}

var worlds atomic.Int32

// newWorld returns an empty region.
func newWorld(t *testing.T) *world {
	t.Helper()
	shared.once.Do(openShared)
	if shared.err != nil {
		t.Fatal("open the platform:", shared.err)
	}
	n := worlds.Add(1)
	return inRegion(t, fmt.Sprintf("%c%c-world-1", 'a'+n/26, 'a'+n%26))
}

func inRegion(t *testing.T, region string) *world {
	cfg := aws.Config{
		Region: region, BaseEndpoint: &shared.srv.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(testAccessKey, testSecret, ""),
	}
	return &world{
		t: t, region: region,
		lambda: lambda.NewFromConfig(cfg),
		signer: signer.NewFromConfig(cfg),
		s3:     s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
	}
}

// arn is a Lambda resource of the world.
func (w *world) arn(resource string) string {
	return "arn:aws:lambda:" + w.region + ":" + testAccount + ":" + resource
}

func (w *world) fn(name string) string { return w.arn("function:" + name) }

// A reply is one HTTP answer.
type reply struct {
	status int
	header http.Header
	body   []byte
	m      map[string]any // the body, where it is a JSON object
}

// sign makes r a request of the root user. It sends body.
func sign(r *http.Request, body []byte, service, region string) error {
	sum := sha256.Sum256(body)
	return v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: testAccessKey, SecretAccessKey: testSecret},
		r, hex.EncodeToString(sum[:]), service, region, time.Now())
}

// do sends a signed Lambda request. body is sent as it is if it is []byte, and
// as JSON otherwise; nil sends none. headers are name, value pairs.
func (w *world) do(method, path string, body any, headers ...string) *reply {
	w.t.Helper()
	return w.ask("lambda", method, path, body, headers...)
}

// json sends a signed request of a service that is told by X-Amz-Target.
func (w *world) json(service, target string, body []byte) map[string]any {
	w.t.Helper()
	return w.ask(service, "POST", "/", body, "X-Amz-Target", target, "Content-Type", "application/x-amz-json-1.1").accepted(w.t, target, 200)
}

func (w *world) ask(service, method, path string, body any, headers ...string) *reply {
	w.t.Helper()
	var b []byte
	switch x := body.(type) {
	case nil:
	case []byte:
		b = x
	default:
		var err error
		if b, err = json.Marshal(x); err != nil {
			w.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, shared.srv.URL+path, bytes.NewReader(b))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if err := sign(req, b, service, w.region); err != nil {
		w.t.Fatal(err)
	}
	res, err := shared.srv.Client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	out := &reply{status: res.StatusCode, header: res.Header}
	if out.body, err = io.ReadAll(res.Body); err != nil {
		w.t.Fatal(err)
	}
	if len(out.body) > 0 && out.body[0] == '{' {
		if err := json.Unmarshal(out.body, &out.m); err != nil {
			w.t.Fatalf("%s %s: %v in %s", method, path, err, out.body)
		}
	}
	return out
}

// A fault is an error answer: status, code, and the whole body.
type fault struct {
	status int
	code   string
	body   map[string]any
}

// The three ways Lambda spells an error (lambda-core, section 1).

// lower is an error whose member is "message", with Type.
func lower(status int, code, message string) fault {
	return fault{status, code, map[string]any{"Type": "User", "message": message}}
}

// capital is one whose member is "Message", with Type.
func capital(status int, code, message string) fault {
	return fault{status, code, map[string]any{"Type": "User", "Message": message}}
}

// untyped is one without Type.
func untyped(status int, code, message string) fault {
	return fault{status, code, map[string]any{"message": message}}
}

func invalidParameter(message string) fault {
	return lower(400, "InvalidParameterValueException", message)
}
func notFound(message string) fault { return capital(404, "ResourceNotFoundException", message) }
func conflict(message string) fault { return lower(409, "ResourceConflictException", message) }
func validation(message string) fault {
	return untyped(400, "ValidationException", "1 validation error detected: "+message)
}

// refused asserts that r is exactly want, headers included.
func (r *reply) refused(t *testing.T, what string, want fault) {
	t.Helper()
	got, err := json.Marshal(r.m)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(want.body)
	if err != nil {
		t.Fatal(err)
	}
	if code := r.header.Get("X-Amzn-ErrorType"); r.status != want.status || code != want.code || !bytes.Equal(got, body) {
		t.Errorf("%s:\n got %d %s %s\nwant %d %s %s", what, r.status, code, cut(got), want.status, want.code, cut(body))
	}
	if ct, id := r.header.Get("Content-Type"), r.header.Get("X-Amzn-Requestid"); ct != "application/json" || len(id) != 36 {
		t.Errorf("%s: got content type %q and request id %q", what, ct, id)
	}
}

// cut keeps a failed test readable.
func cut(b []byte) []byte { return b[:min(len(b), 600)] }

// accepted asserts a status and returns the body.
func (r *reply) accepted(t *testing.T, what string, status int) map[string]any {
	t.Helper()
	if r.status != status {
		t.Fatalf("%s: got %d %s, want %d", what, r.status, cut(r.body), status)
	}
	if len(r.header.Get("X-Amzn-Requestid")) != 36 {
		t.Errorf("%s: got no request id", what)
	}
	return r.m
}

// zipOf makes an archive of name, body pairs, the same bytes every time.
func zipOf(t *testing.T, pairs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	var errs []error
	for i := 0; i < len(pairs); i += 2 {
		f, err := z.Create(pairs[i])
		if err == nil {
			_, err = io.WriteString(f, pairs[i+1])
		}
		errs = append(errs, err)
	}
	if err := errors.Join(append(errs, z.Close())...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// hello is code that answers with its event.
const hello = "def handler(event, context):\n    return event\n"

func helloZip(t *testing.T) []byte { return zipOf(t, "app.py", hello) }

func base64Sum(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

const (
	functions = "/2015-03-31/functions"
	testRole  = "arn:aws:iam::" + testAccount + ":role/runs-functions"
)

// An object is a JSON object on its way out.
type object map[string]any

// newFunction is the body of a CreateFunction that works, with changes: a nil
// value takes a member out.
func newFunction(name string, code []byte, changes object) object {
	o := object{"FunctionName": name, "Runtime": "python3.11", "Role": testRole, "Handler": "app.handler", "Code": object{"ZipFile": code}}
	for k, v := range changes {
		if o[k] = v; v == nil {
			delete(o, k)
		}
	}
	return o
}

// create makes a function of hello and waits until it is Active.
func (w *world) create(name string, changes object) map[string]any {
	w.t.Helper()
	w.do("POST", functions, newFunction(name, helloZip(w.t), changes)).accepted(w.t, "create "+name, 201)
	return w.settled(name)
}

// settled waits until nothing is under way for the function or version named,
// and returns its configuration.
func (w *world) settled(name string) map[string]any {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		m := w.do("GET", functions+"/"+name+"/configuration", nil).accepted(w.t, "configuration of "+name, 200)
		if m["State"] != "Pending" && m["LastUpdateStatus"] != "InProgress" {
			if m["State"] != "Active" || m["LastUpdateStatus"] != "Successful" {
				w.t.Fatalf("%s settled as %v", name, m)
			}
			return m
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s does not settle: %v", name, m)
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-w.t.Context().Done():
			w.t.Fatal(w.t.Context().Err())
		}
	}
}

// publish makes a version of other code than the ones before and returns its
// number.
func (w *world) publish(name string) string {
	w.t.Helper()
	code := zipOf(w.t, "app.py", hello+"# "+fmt.Sprint(time.Now().UnixNano()))
	w.do("PUT", functions+"/"+name+"/code", object{"ZipFile": code}).accepted(w.t, "update "+name, 200)
	w.settled(name)
	return w.do("POST", functions+"/"+name+"/versions", object{}).accepted(w.t, "publish "+name, 201)["Version"].(string)
}

// bucket makes a versioned bucket named after the world.
func (w *world) bucket(name string) string {
	w.t.Helper()
	b := w.region + "-" + name
	if _, err := w.s3.CreateBucket(w.t.Context(), &s3.CreateBucketInput{Bucket: &b,
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(w.region)}}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.s3.PutBucketVersioning(w.t.Context(), &s3.PutBucketVersioningInput{Bucket: &b,
		VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled}}); err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) put(bucket, key string, body []byte) (version string) {
	w.t.Helper()
	out, err := w.s3.PutObject(w.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)})
	if err != nil {
		w.t.Fatal(err)
	}
	return aws.ToString(out.VersionId)
}

// profile makes a signing profile and returns its version's ARN.
func (w *world) profile(name string) string {
	w.t.Helper()
	out, err := w.signer.PutSigningProfile(w.t.Context(), &signer.PutSigningProfileInput{ProfileName: &name, PlatformId: aws.String("AWSLambda-SHA384-ECDSA")})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.ProfileVersionArn
}

// signed has code signed by the profile, in the bucket, and returns the signed
// archive, its key and the job's ARN.
func (w *world) signed(bucket, profile string, code []byte) (archive []byte, key, job string) {
	w.t.Helper()
	ctx := w.t.Context()
	version := w.put(bucket, "unsigned-"+profile+".zip", code)
	started, err := w.signer.StartSigningJob(ctx, &signer.StartSigningJobInput{
		ProfileName: &profile, ClientRequestToken: aws.String(profile + base64Sum(code)[:8]),
		Source:      &signertypes.Source{S3: &signertypes.S3Source{BucketName: &bucket, Key: aws.String("unsigned-" + profile + ".zip"), Version: &version}},
		Destination: &signertypes.Destination{S3: &signertypes.S3Destination{BucketName: &bucket, Prefix: aws.String("signed/")}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	done, err := signer.NewSuccessfulSigningJobWaiter(w.signer, func(o *signer.SuccessfulSigningJobWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 50*time.Millisecond
	}).WaitForOutput(ctx, &signer.DescribeSigningJobInput{JobId: started.JobId}, time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	key = *done.SignedObject.S3.Key
	got, err := w.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		w.t.Fatal(err)
	}
	defer got.Body.Close()
	if archive, err = io.ReadAll(got.Body); err != nil {
		w.t.Fatal(err)
	}
	return archive, key, "arn:aws:signer:" + w.region + ":" + testAccount + ":/signing-jobs/" + *started.JobId
}

// escaped is an ARN, or any name, as one path segment.
func escaped(s string) string {
	return strings.ReplaceAll(url.PathEscape(s), ":", "%3A")
}

// needsPython skips what runs Python functions where there is no interpreter.
// With CI set a missing tool is a failure.
func needsPython(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3 is missing, and CI may not skip:", err)
		}
		t.Skip("it runs a Python function, and there is no python3:", err)
	}
}

// checkMembers compares the names of an answer's members.
func checkMembers(t *testing.T, what string, m map[string]any, want ...string) {
	t.Helper()
	var got []string
	for k := range m {
		got = append(got, k)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: got members\n%q, want\n%q", what, got, want)
	}
}

// checkValues compares some members of an answer.
func checkValues(t *testing.T, what string, got map[string]any, want object) {
	t.Helper()
	for k, v := range want {
		a, err := json.Marshal(got[k])
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s: %s: got %s, want %s", what, k, cut(a), cut(b))
		}
	}
}

// TestLambdaWithTheSDK is the life of a function as a Go program lives it,
// waiters included.
func TestLambdaWithTheSDK(t *testing.T) {
	t.Parallel()
	needsPython(t)
	w := newWorld(t)
	ctx := t.Context()
	made, err := w.lambda.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: aws.String("hello"), Role: aws.String(testRole), Runtime: types.RuntimePython311, Handler: aws.String("app.handler"),
		Code: &types.FunctionCode{ZipFile: helloZip(t)}, Tags: map[string]string{"team": "a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.State != types.StatePending || aws.ToString(made.FunctionArn) != w.fn("hello") {
		t.Errorf("got %s %s", made.State, aws.ToString(made.FunctionArn))
	}
	get := &lambda.GetFunctionInput{FunctionName: aws.String("hello")}
	quick := func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	}
	if err := lambda.NewFunctionActiveV2Waiter(w.lambda, quick).Wait(ctx, get, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := w.lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: get.FunctionName, MemorySize: aws.Int32(256)}); err != nil {
		t.Fatal(err)
	}
	if err := lambda.NewFunctionUpdatedV2Waiter(w.lambda, func(o *lambda.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	}).Wait(ctx, get, time.Minute); err != nil {
		t.Fatal(err)
	}
	v, err := w.lambda.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: get.FunctionName})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.lambda.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: get.FunctionName, Name: aws.String("live"), FunctionVersion: v.Version}); err != nil {
		t.Fatal(err)
	}
	out, err := w.lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: get.FunctionName, Qualifier: aws.String("live"), Payload: []byte(`{"n":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	if string(out.Payload) != `{"n": 1}` || out.StatusCode != 200 || aws.ToString(out.ExecutedVersion) != "1" || out.FunctionError != nil {
		t.Errorf("got %d %s from %s, error %v", out.StatusCode, out.Payload, aws.ToString(out.ExecutedVersion), out.FunctionError)
	}
	if _, err := w.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: get.FunctionName}); err != nil {
		t.Fatal(err)
	}
	var gone *types.ResourceNotFoundException
	if _, err := w.lambda.GetFunction(ctx, get); !errors.As(err, &gone) || aws.ToString(gone.Message) != "Function not found: "+w.fn("hello") || aws.ToString(gone.Type) != "User" {
		t.Errorf("got %v, want that it is gone", err)
	}
}

// send hands a request that nobody signed to the platform.
func send(t *testing.T, r *http.Request) *reply {
	t.Helper()
	rec := httptest.NewRecorder()
	shared.p.ServeHTTP(rec, r)
	out := &reply{status: rec.Code, header: rec.Header(), body: rec.Body.Bytes()}
	if len(out.body) > 0 && out.body[0] == '{' {
		if err := json.Unmarshal(out.body, &out.m); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// readAll reads a request's body and leaves it as it was.
func readAll(t *testing.T, r *http.Request) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return b
}
