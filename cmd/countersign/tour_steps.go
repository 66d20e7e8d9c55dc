package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/signer"
	signertypes "github.com/aws/aws-sdk-go-v2/service/signer/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"countersign"
	"countersign/internal/sign"
)

// A tour is the state the steps hand to one another.
type tour struct {
	out    io.Writer
	paint  func(paint, string) string
	began  time.Time
	server *childServer
	code   sample
	trust  countersign.Trust

	clients
	kept   int
	broken string

	v1, v2              []byte // unsigned zips; v2 answers differently
	signed              []byte // v2 as the signing job wrote it
	v1Object, v2Object  string // their versions in the bucket
	profileVersion, job string // ARN, id
	signedKey, config   string
}

// clients are AWS's own SDK, pointed at the server.
type clients struct {
	lambda *lambda.Client
	signer *signer.Client
	s3     *s3.Client
	sts    *sts.Client
	logs   *cloudwatchlogs.Client
}

const (
	tourRegion  = "us-east-1"
	tourAccount = "000000000000"
	tourRole    = "arn:aws:iam::" + tourAccount + ":role/tour"
)

func connect(url, key, secret string) clients {
	cfg := aws.Config{
		Region:       tourRegion,
		BaseEndpoint: aws.String(url),
		Credentials:  credentials.NewStaticCredentialsProvider(key, secret, ""),
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
	}
	return clients{
		lambda.NewFromConfig(cfg), signer.NewFromConfig(cfg),
		s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
		sts.NewFromConfig(cfg), cloudwatchlogs.NewFromConfig(cfg),
	}
}

// A sample is the tour's function in one language. The handler answers with
// its greeting, or, asked to, tries to look at the host.
type sample struct {
	runtime, handler, file, interpreter, source string
}

var samples = []sample{
	{"python3.12", "app.handler", "app.py", "python3", `import os, socket

def handler(event, context):
    if "look" not in event:
        return "GREETING, " + event["key1"]
    seen = [p for p in event["look"] if os.path.exists(p)]
    try:
        socket.create_connection((event["host"], event["port"]), 2).close()
        seen.append("the platform's port")
    except OSError:
        pass
    print("looked at", event["look"])
    return seen
`},
	{"nodejs20.x", "app.handler", "app.js", "node", `const fs = require("fs"), net = require("net");

exports.handler = async (event) => {
  if (!event.look) return "GREETING, " + event.key1;
  const seen = event.look.filter((p) => fs.existsSync(p));
  await new Promise((done) => {
    const c = net.connect(event.port, event.host);
    c.setTimeout(2000, () => { c.destroy(); done(); });
    c.on("connect", () => { seen.push("the platform's port"); c.destroy(); done(); });
    c.on("error", done);
  });
  console.log("looked at", event.look);
  return seen;
};
`},
}

// bundle zips the sample with one greeting, the same bytes every time.
func (s sample) bundle(greeting string) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: s.file, Method: zip.Deflate}
	h.SetMode(0o644)
	w, err := z.CreateHeader(h)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, strings.ReplaceAll(s.source, "GREETING", greeting)); err != nil {
		return nil, err
	}
	err = z.Close()
	return b.Bytes(), err
}

// prepare chooses the language and makes what the steps use.
func (t *tour) prepare(ctx context.Context, dir string) error {
	for _, s := range samples {
		if _, err := exec.LookPath(s.interpreter); err == nil {
			t.code = s
			break
		}
	}
	if t.code.runtime == "" {
		return hint(errors.New("neither python3 nor node is installed, and a function needs one of them"), "apt-get install python3")
	}
	var err error
	if t.v1, err = t.code.bundle("hello"); err != nil {
		return err
	}
	if t.v2, err = t.code.bundle("hello again"); err != nil {
		return err
	}
	pem, err := sign.ReadRootPEM(sign.CADir(t.server.dir))
	if err != nil {
		return fmt.Errorf("read the platform's root certificate: %w", err)
	}
	if t.trust, err = countersign.LoadTrust(pem); err != nil {
		return fmt.Errorf("read the platform's root certificate: %w", err)
	}
	t.clients = connect(t.server.url, t.server.key, t.server.secret)
	return nil
}

func (t *tour) steps() []step {
	return []step{
		{"Nobody is anonymous, and we are who we say",
			"aws sts get-caller-identity", "the root of account " + tourAccount, t.whoami},
		{"Code goes into a versioned bucket",
			"aws s3api create-bucket --bucket tour\naws s3api put-bucket-versioning --bucket tour --versioning-configuration Status=Enabled\naws s3api put-object --bucket tour --key app.zip --body app.zip",
			"a version id for each upload", t.upload},
		{"Without a rule, unsigned code runs",
			"aws lambda create-function --function-name hello --code S3Bucket=tour,S3Key=app.zip,S3ObjectVersion=V1 ...\naws lambda invoke --function-name hello --payload '{\"key1\":\"world\"}' out.json",
			`"hello, world"`, t.createAndInvoke},
		{"The function sees nothing of this machine",
			"aws lambda invoke --function-name hello --payload '{\"look\":[...]}' out.json",
			"no file of the host, no network service of the host", t.look},
		{"What it printed is in its log",
			"aws logs tail /aws/lambda/hello", "START, the line it printed, END and REPORT", t.readLog},
		{"A signing profile says who signs",
			"aws signer put-signing-profile --profile-name release --platform-id AWSLambda-SHA384-ECDSA",
			"a profile version ARN", t.putProfile},
		{"A code signing configuration that warns lets unsigned code through",
			"aws lambda create-code-signing-config --allowed-publishers SigningProfileVersionArns=PROFILE_VERSION_ARN\naws lambda put-function-code-signing-config --function-name hello --code-signing-config-arn CONFIG\naws lambda update-function-code --function-name hello --s3-bucket tour --s3-key app.zip --s3-object-version V1",
			"accepted, with no signing job on record", t.warn},
		{"Enforced, the same update is refused",
			"aws lambda update-code-signing-config --code-signing-config-arn CONFIG --code-signing-policies UntrustedArtifactOnDeployment=Enforce\naws lambda update-function-code --function-name hello --s3-bucket tour --s3-key app.zip --s3-object-version V2",
			"CodeVerificationFailedException, and the old code still answers", t.enforce},
		{"A signing job signs the object",
			"aws signer start-signing-job --profile-name release --source 's3={bucketName=tour,key=app.zip,version=V2}' --destination 's3={bucketName=tour,prefix=signed-}'\naws signer wait successful-signing-job --job-id JOB",
			"Succeeded, and a new object beside the old one", t.sign},
		{"Anyone can check the signature without us",
			"countersign ca root --data DIR > root.pem\ncountersign verify signed.zip --trust root.pem",
			"trusted, for this job and this profile version", t.verify},
		{"The signed code is deployed, and runs",
			"aws lambda update-function-code --function-name hello --s3-bucket tour --s3-key signed-JOB.zip\naws lambda invoke --function-name hello --payload '{\"key1\":\"world\"}' out.json",
			`the signing job on record, and "hello again, world"`, t.deploy},
		{"One flipped byte, and even a warning rule refuses",
			"aws lambda update-code-signing-config ... UntrustedArtifactOnDeployment=Warn\naws lambda update-function-code --function-name hello --zip-file fileb://flipped.zip",
			"CodeVerificationFailedException", t.flip},
		{"A version is frozen and an alias points at it",
			"aws lambda publish-version --function-name hello\naws lambda create-alias --function-name hello --name live --function-version 1\naws lambda invoke --function-name hello --qualifier live ...",
			`version 1 answers "hello again, world" under the name live`, t.publish},
		{"A wrong secret key opens nothing",
			"AWS_SECRET_ACCESS_KEY=wrong aws lambda list-functions   # and signer, s3, logs, sts",
			"five services, five refusals", t.wrongSecret},
		{"kill -9 loses nothing",
			"kill -9 $(pgrep -f 'countersign server')\ncountersign server --data DIR",
			"profile, job, configuration, version, alias and answer as they were", t.killAndRestart},
	}
}

// expect turns an AWS error into what happened, if it is the one promised.
func expect(err error, code string) (string, error) {
	var e smithy.APIError
	switch {
	case err == nil:
		return "", errors.New("it was accepted")
	case !errors.As(err, &e):
		return "", err
	case e.ErrorCode() != code:
		return "", fmt.Errorf("refused with %s: %s", e.ErrorCode(), e.ErrorMessage())
	}
	return fmt.Sprintf("%s: %s", e.ErrorCode(), e.ErrorMessage()), nil
}

func (t *tour) whoami(ctx context.Context) (string, error) {
	id, err := t.sts.GetCallerIdentity(ctx, nil)
	if err != nil {
		return "", err
	}
	if want := "arn:aws:iam::" + tourAccount + ":root"; aws.ToString(id.Arn) != want {
		return "", fmt.Errorf("we are %s", aws.ToString(id.Arn))
	}
	return aws.ToString(id.Arn), nil
}

func (t *tour) upload(ctx context.Context) (string, error) {
	if _, err := t.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("tour")}); err != nil {
		return "", err
	}
	if _, err := t.s3.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: aws.String("tour"),
		VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled}}); err != nil {
		return "", err
	}
	for _, u := range []struct {
		body    []byte
		version *string
	}{{t.v1, &t.v1Object}, {t.v2, &t.v2Object}} {
		put, err := t.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("tour"), Key: aws.String("app.zip"), Body: bytes.NewReader(u.body)})
		if err != nil {
			return "", err
		}
		*u.version = aws.ToString(put.VersionId)
	}
	if t.v1Object == "" || t.v1Object == t.v2Object {
		return "", fmt.Errorf("the versions are %q and %q", t.v1Object, t.v2Object)
	}
	return fmt.Sprintf("V1 = %s, V2 = %s", t.v1Object, t.v2Object), nil
}

// call invokes hello and returns its answer as JSON text.
func (t *tour) call(ctx context.Context, qualifier, payload string) (string, error) {
	in := &lambda.InvokeInput{FunctionName: aws.String("hello"), Payload: []byte(payload)}
	if qualifier != "" {
		in.Qualifier = aws.String(qualifier)
	}
	out, err := t.lambda.Invoke(ctx, in)
	if err != nil {
		return "", err
	}
	if out.FunctionError != nil {
		return "", fmt.Errorf("the function failed: %s", out.Payload)
	}
	return string(out.Payload), nil
}

// answers calls hello and compares.
func (t *tour) answers(ctx context.Context, qualifier, want string) error {
	got, err := t.call(ctx, qualifier, `{"key1":"world"}`)
	if err == nil && got != want {
		err = fmt.Errorf("it answered %s", got)
	}
	return err
}

func (t *tour) active(ctx context.Context) error {
	return lambda.NewFunctionUpdatedV2Waiter(t.lambda).Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("hello")}, time.Minute)
}

func (t *tour) createAndInvoke(ctx context.Context) (string, error) {
	_, err := t.lambda.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: aws.String("hello"), Role: aws.String(tourRole),
		Runtime: lambdatypes.Runtime(t.code.runtime), Handler: aws.String(t.code.handler), Timeout: aws.Int32(10),
		Code: &lambdatypes.FunctionCode{S3Bucket: aws.String("tour"), S3Key: aws.String("app.zip"), S3ObjectVersion: aws.String(t.v1Object)},
	})
	if err != nil {
		return "", err
	}
	if err := lambda.NewFunctionActiveV2Waiter(t.lambda).Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("hello")}, time.Minute); err != nil {
		return "", err
	}
	return `"hello, world"`, t.answers(ctx, "", `"hello, world"`)
}

func (t *tour) look(ctx context.Context) (string, error) {
	host, port, _ := strings.Cut(strings.TrimPrefix(t.server.url, "http://"), ":")
	got, err := t.call(ctx, "", fmt.Sprintf(`{"look":[%q,"/etc/shadow","/root/.ssh","/var/log"],"host":%q,"port":%s}`, t.server.dir, host, port))
	if err != nil {
		return "", err
	}
	if got != "[]" && t.server.sandbox != "process" {
		return "", fmt.Errorf("it saw %s", got)
	}
	if t.server.sandbox == "process" {
		return "without a sandbox it saw " + got + ", as --sandbox=process says", nil
	}
	return "it saw " + got, nil
}

func (t *tour) readLog(ctx context.Context) (string, error) {
	out, err := t.logs.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("/aws/lambda/hello")})
	if err != nil {
		return "", err
	}
	var all strings.Builder
	for _, e := range out.Events {
		fmt.Fprintln(&all, strings.TrimRight(aws.ToString(e.Message), "\n"))
	}
	for _, want := range []string{"START RequestId: ", "looked at", "END RequestId: ", "REPORT RequestId: "} {
		if !strings.Contains(all.String(), want) {
			return "", fmt.Errorf("no %q in the log:\n%s", want, all.String())
		}
	}
	return fmt.Sprintf("%d events", len(out.Events)), nil
}

func (t *tour) putProfile(ctx context.Context) (string, error) {
	out, err := t.signer.PutSigningProfile(ctx, &signer.PutSigningProfileInput{ProfileName: aws.String("release"), PlatformId: aws.String("AWSLambda-SHA384-ECDSA")})
	if err != nil {
		return "", err
	}
	t.profileVersion = aws.ToString(out.ProfileVersionArn)
	return t.profileVersion, nil
}

func (t *tour) update(ctx context.Context, version string) (*lambda.UpdateFunctionCodeOutput, error) {
	return t.lambda.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("hello"),
		S3Bucket: aws.String("tour"), S3Key: aws.String("app.zip"), S3ObjectVersion: aws.String(version)})
}

func (t *tour) warn(ctx context.Context) (string, error) {
	c, err := t.lambda.CreateCodeSigningConfig(ctx, &lambda.CreateCodeSigningConfigInput{
		AllowedPublishers: &lambdatypes.AllowedPublishers{SigningProfileVersionArns: []string{t.profileVersion}}})
	if err != nil {
		return "", err
	}
	t.config = aws.ToString(c.CodeSigningConfig.CodeSigningConfigArn)
	if _, err := t.lambda.PutFunctionCodeSigningConfig(ctx, &lambda.PutFunctionCodeSigningConfigInput{
		FunctionName: aws.String("hello"), CodeSigningConfigArn: aws.String(t.config)}); err != nil {
		return "", err
	}
	out, err := t.update(ctx, t.v1Object)
	if err != nil {
		return "", err
	}
	if out.SigningJobArn != nil {
		return "", fmt.Errorf("unsigned code has the signing job %s", *out.SigningJobArn)
	}
	return "accepted under Warn, no signing job", t.active(ctx)
}

func (t *tour) policy(ctx context.Context, p lambdatypes.CodeSigningPolicy) error {
	_, err := t.lambda.UpdateCodeSigningConfig(ctx, &lambda.UpdateCodeSigningConfigInput{CodeSigningConfigArn: aws.String(t.config),
		CodeSigningPolicies: &lambdatypes.CodeSigningPolicies{UntrustedArtifactOnDeployment: p}})
	return err
}

func (t *tour) enforce(ctx context.Context) (string, error) {
	if err := t.policy(ctx, lambdatypes.CodeSigningPolicyEnforce); err != nil {
		return "", err
	}
	_, err := t.update(ctx, t.v2Object)
	said, err := expect(err, "CodeVerificationFailedException")
	if err != nil {
		return "", err
	}
	return said, t.answers(ctx, "", `"hello, world"`)
}

func (t *tour) sign(ctx context.Context) (string, error) {
	job, err := t.signer.StartSigningJob(ctx, &signer.StartSigningJobInput{ProfileName: aws.String("release"),
		Source:      &signertypes.Source{S3: &signertypes.S3Source{BucketName: aws.String("tour"), Key: aws.String("app.zip"), Version: aws.String(t.v2Object)}},
		Destination: &signertypes.Destination{S3: &signertypes.S3Destination{BucketName: aws.String("tour"), Prefix: aws.String("signed-")}}})
	if err != nil {
		return "", err
	}
	t.job = aws.ToString(job.JobId)
	w := signer.NewSuccessfulSigningJobWaiter(t.signer, func(o *signer.SuccessfulSigningJobWaiterOptions) { o.MinDelay = 100 * time.Millisecond })
	d, err := w.WaitForOutput(ctx, &signer.DescribeSigningJobInput{JobId: job.JobId}, time.Minute)
	if err != nil {
		return "", err
	}
	t.signedKey = aws.ToString(d.SignedObject.S3.Key)
	o, err := t.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("tour"), Key: d.SignedObject.S3.Key})
	if err != nil {
		return "", err
	}
	defer o.Body.Close()
	if t.signed, err = io.ReadAll(o.Body); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %s", d.Status, t.signedKey), nil
}

func (t *tour) verify(ctx context.Context) (string, error) {
	a, err := countersign.OpenArchive(bytes.NewReader(t.signed), int64(len(t.signed)), countersign.Limits{})
	if err != nil {
		return "", err
	}
	e, err := countersign.Verify(ctx, a, t.trust)
	if err != nil {
		return "", err
	}
	s := e.Statement()
	if !strings.HasSuffix(s.Job, t.job) || s.ProfileVersion != t.profileVersion {
		return "", fmt.Errorf("it is for job %s and profile version %s", s.Job, s.ProfileVersion)
	}
	return "trusted until " + s.Expires.Format(time.DateOnly), nil
}

func (t *tour) deploy(ctx context.Context) (string, error) {
	out, err := t.lambda.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("hello"),
		S3Bucket: aws.String("tour"), S3Key: aws.String(t.signedKey)})
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(aws.ToString(out.SigningJobArn), t.job) {
		return "", fmt.Errorf("the signing job on record is %q", aws.ToString(out.SigningJobArn))
	}
	if err := t.active(ctx); err != nil {
		return "", err
	}
	return `job on record; "hello again, world"`, t.answers(ctx, "", `"hello again, world"`)
}

func (t *tour) flip(ctx context.Context) (string, error) {
	if err := t.policy(ctx, lambdatypes.CodeSigningPolicyWarn); err != nil {
		return "", err
	}
	flipped := bytes.Clone(t.signed)
	flipped[len(t.code.file)+40] ^= 1 // inside the first entry's body
	_, err := t.lambda.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("hello"), ZipFile: flipped})
	said, err := expect(err, "CodeVerificationFailedException")
	if err != nil {
		return "", err
	}
	if err := t.policy(ctx, lambdatypes.CodeSigningPolicyEnforce); err != nil {
		return "", err
	}
	return said, t.answers(ctx, "", `"hello again, world"`)
}

func (t *tour) publish(ctx context.Context) (string, error) {
	v, err := t.lambda.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: aws.String("hello")})
	if err != nil {
		return "", err
	}
	a, err := t.lambda.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: aws.String("hello"), Name: aws.String("live"), FunctionVersion: v.Version})
	if err != nil {
		return "", err
	}
	return aws.ToString(a.AliasArn), t.answers(ctx, "live", `"hello again, world"`)
}

func (t *tour) wrongSecret(ctx context.Context) (string, error) {
	c := connect(t.server.url, t.server.key, base64.StdEncoding.EncodeToString([]byte("thirty bytes that are no secret")))
	var codes []string
	for _, try := range []struct {
		code string
		call func() error
	}{
		{"InvalidSignatureException", func() error { _, err := c.lambda.ListFunctions(ctx, nil); return err }},
		{"InvalidSignatureException", func() error { _, err := c.signer.ListSigningProfiles(ctx, nil); return err }},
		{"SignatureDoesNotMatch", func() error { _, err := c.s3.ListBuckets(ctx, nil); return err }},
		{"InvalidSignatureException", func() error { _, err := c.logs.DescribeLogGroups(ctx, nil); return err }},
		{"SignatureDoesNotMatch", func() error { _, err := c.sts.GetCallerIdentity(ctx, nil); return err }},
	} {
		if _, err := expect(try.call(), try.code); err != nil {
			return "", err
		}
		codes = append(codes, try.code)
	}
	return strings.Join(codes, ", "), nil
}

// snapshot is everything a restart must bring back, as text.
func (t *tour) snapshot(ctx context.Context) (string, error) {
	var b strings.Builder
	p, err := t.signer.GetSigningProfile(ctx, &signer.GetSigningProfileInput{ProfileName: aws.String("release")})
	if err != nil {
		return "", err
	}
	j, err := t.signer.DescribeSigningJob(ctx, &signer.DescribeSigningJobInput{JobId: aws.String(t.job)})
	if err != nil {
		return "", err
	}
	c, err := t.lambda.GetFunctionCodeSigningConfig(ctx, &lambda.GetFunctionCodeSigningConfigInput{FunctionName: aws.String("hello")})
	if err != nil {
		return "", err
	}
	a, err := t.lambda.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: aws.String("hello"), Name: aws.String("live")})
	if err != nil {
		return "", err
	}
	v, err := t.lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("hello"), Qualifier: aws.String("live")})
	if err != nil {
		return "", err
	}
	fmt.Fprintln(&b, aws.ToString(p.ProfileVersionArn), p.Status)
	fmt.Fprintln(&b, j.Status, aws.ToString(j.SignedObject.S3.Key))
	fmt.Fprintln(&b, aws.ToString(c.CodeSigningConfigArn))
	fmt.Fprintln(&b, aws.ToString(a.FunctionVersion), aws.ToString(a.RevisionId))
	fmt.Fprintln(&b, aws.ToString(v.CodeSha256), aws.ToString(v.RevisionId), aws.ToString(v.SigningJobArn))
	return b.String(), nil
}

func (t *tour) killAndRestart(ctx context.Context) (string, error) {
	before, err := t.snapshot(ctx)
	if err != nil {
		return "", err
	}
	t.server.kill()
	if err := t.server.restart(ctx); err != nil {
		return "", err
	}
	after, err := t.snapshot(ctx)
	if err != nil {
		return "", err
	}
	if before != after {
		return "", fmt.Errorf("before:\n%safter:\n%s", before, after)
	}
	if err := t.answers(ctx, "live", `"hello again, world"`); err != nil {
		return "", err
	}
	_, err = t.update(ctx, t.v1Object)
	if _, err := expect(err, "CodeVerificationFailedException"); err != nil {
		return "", fmt.Errorf("unsigned code after the restart: %w", err)
	}
	return "all as it was; unsigned code is still refused", nil
}
