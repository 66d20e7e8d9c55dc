package api

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssigner "github.com/aws/aws-sdk-go-v2/service/signer"
	"github.com/aws/aws-sdk-go-v2/service/signer/types"

	"countersign/internal/sign"
)

func TestSignerWithTheSDK(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startSigner(t, t.TempDir())
	c.bucket(t, "src", true)
	c.bucket(t, "dst", true)
	put := c.profile(t, "prod")
	if got, want := aws.ToString(put.ProfileVersionArn), aws.ToString(put.Arn)+"/"+aws.ToString(put.ProfileVersion); got != want || aws.ToString(put.Arn) != "arn:aws:signer:eu-central-1:000000000000:/signing-profiles/prod" {
		t.Errorf("got %s, want %s", got, want)
	}

	v := c.put(t, "src", "in/app.zip", signerZip(t, "one"))
	c.put(t, "src", "in/app.zip", signerZip(t, "two, which is not to be signed"))
	start, err := c.signer.StartSigningJob(ctx, c.request("src", "in/app.zip", v, "dst", "token"))
	if err != nil {
		t.Fatal(err)
	}
	job, err := c.await(t, start.JobId)
	if err != nil {
		t.Fatal(err)
	}
	key := "signed/" + *start.JobId + ".zip"
	if aws.ToString(job.SignedObject.S3.BucketName) != "dst" || aws.ToString(job.SignedObject.S3.Key) != key {
		t.Errorf("got signed object %+v, want dst/%s", job.SignedObject.S3, key)
	}
	for what, got := range map[string]string{
		"account":             aws.ToString(start.JobOwner) + aws.ToString(job.JobOwner) + aws.ToString(job.JobInvoker),
		"arn:":                aws.ToString(job.RequestedBy)[:4],
		"prod":                aws.ToString(job.ProfileName),
		"version":             aws.ToString(job.ProfileVersion),
		"Signing Succeeded":   aws.ToString(job.StatusReason),
		"AWS Lambda":          aws.ToString(job.PlatformDisplayName),
		sign.LambdaPlatform:   aws.ToString(job.PlatformId),
		"src/in/app.zip@" + v: aws.ToString(job.Source.S3.BucketName) + "/" + aws.ToString(job.Source.S3.Key) + "@" + aws.ToString(job.Source.S3.Version),
	} {
		want := map[string]string{"account": strings.Repeat("000000000000", 3), "version": aws.ToString(put.ProfileVersion)}[what]
		if want == "" {
			want = what
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	object := c.get(t, "dst", key)
	st := c.verify(t, object).Statement()
	if want := "arn:aws:signer:eu-central-1:000000000000:/signing-jobs/" + *start.JobId; st.Job != want || st.ProfileVersion != *put.ProfileVersionArn {
		t.Errorf("got statement %s by %s, want %s by %s", st.Job, st.ProfileVersion, want, *put.ProfileVersionArn)
	}
	if d := job.SignatureExpiresAt.Sub(st.Expires).Abs(); d > time.Millisecond || job.CompletedAt.Before(*job.CreatedAt) {
		t.Errorf("got expiry %s, created %s, completed %s; signature expires %s", job.SignatureExpiresAt, job.CreatedAt, job.CompletedAt, st.Expires)
	}
	if z, err := zip.NewReader(bytes.NewReader(object), int64(len(object))); err != nil || z.File[0].Name != "app.py" || z.File[0].UncompressedSize64 != 3 {
		t.Errorf("the signed zip is not of the version asked for: %v", err)
	}

	// Idempotency.
	again, err := c.signer.StartSigningJob(ctx, c.request("src", "in/app.zip", v, "dst", "token"))
	if err != nil || *again.JobId != *start.JobId {
		t.Errorf("same token: got %v, %v, want job %s", again, err, *start.JobId)
	}
	_, err = c.signer.StartSigningJob(ctx, c.request("src", "other.zip", v, "dst", "token"))
	checkCode(t, "same token, other request", err, "ValidationException", "The clientRequestToken was used before with different parameters.")

	// Refusals at the start.
	_, err = c.signer.StartSigningJob(ctx, c.request("src", "in/app.zip", "", "dst", "a"))
	checkCode(t, "empty version", err, "ValidationException", "StartSigningJobRequest:source:version should not be empty")
	if e := new(types.ValidationException); !errors.As(err, &e) || aws.ToString(e.Code) != "InvalidJobParameters" {
		t.Errorf("empty version: got detail code %q", aws.ToString(e.Code))
	}
	_, err = c.signer.StartSigningJob(ctx, c.request("nowhere", "in/app.zip", v, "dst", "b"))
	checkCode(t, "no source bucket", err, "ValidationException", "StartSigningJobRequest:source:bucketName nowhere does not exist")
	_, err = c.signer.StartSigningJob(ctx, c.request("src", "in/app.zip", v, "nowhere", "c"))
	checkCode(t, "no destination bucket", err, "ValidationException", "StartSigningJobRequest:destination:bucketName nowhere does not exist")
	unknown := c.request("src", "in/app.zip", v, "dst", "d")
	unknown.ProfileName = aws.String("never")
	_, err = c.signer.StartSigningJob(ctx, unknown)
	checkCode(t, "unknown profile", err, "ResourceNotFoundException", "profile with name never does not exist")
	unknown.ProfileName, unknown.ProfileOwner = aws.String("prod"), aws.String("111111111111")
	_, err = c.signer.StartSigningJob(ctx, unknown)
	checkCode(t, "another's profile", err, "AccessDeniedException", "")
	_, err = c.signer.DescribeSigningJob(ctx, &awssigner.DescribeSigningJobInput{JobId: aws.String("7e3d6b1a-0000-4000-8000-000000000000")})
	checkCode(t, "unknown job", err, "ResourceNotFoundException", "")

	c.bucket(t, "plain", false)
	c.put(t, "plain", "app.zip", signerZip(t, "plain"))
	_, err = c.signer.StartSigningJob(ctx, c.request("plain", "app.zip", "null", "dst", "e"))
	checkCode(t, "unversioned source", err, "ValidationException", "StartSigningJobRequest:source:bucketName plain is not versioning-enabled")

	// Failures of the job.
	for what, c2 := range map[string]struct {
		key, version, reason string
		body                 []byte
	}{
		"empty":           {"empty.zip", "", "The source object is empty.", []byte{}},
		"malformed":       {"bad.zip", "", "The source object is not a valid zip archive", []byte("no zip")},
		"signed already":  {"signed.zip", "", "The source object is already signed.", object},
		"no such key":     {"missing.zip", v, "The source object does not exist.", nil},
		"no such version": {"in/app.zip", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "The source object does not exist.", nil},
	} {
		ver := c2.version
		if c2.body != nil {
			ver = c.put(t, "src", c2.key, c2.body)
		}
		j, err := c.signer.StartSigningJob(ctx, c.request("src", c2.key, ver, "dst", what))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if _, err := c.await(t, j.JobId); err == nil {
			t.Errorf("%s: the waiter is content", what)
		}
		d, err := c.signer.DescribeSigningJob(ctx, &awssigner.DescribeSigningJobInput{JobId: j.JobId})
		if err != nil || d.Status != types.SigningStatusFailed || !strings.HasPrefix(aws.ToString(d.StatusReason), c2.reason) || d.SignedObject != nil || d.SignatureExpiresAt != nil {
			t.Errorf("%s: got %v %s, %v; want Failed: %s", what, d.Status, aws.ToString(d.StatusReason), err, c2.reason)
		}
	}
	if got := c.versions(t, "dst"); len(got) != 1 {
		t.Errorf("got signed objects %v, want one", got)
	}

	// Lists.
	jobs := awssigner.NewListSigningJobsPaginator(c.signer, &awssigner.ListSigningJobsInput{MaxResults: aws.Int32(3)})
	var ids []string
	for jobs.HasMorePages() {
		page, err := jobs.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Jobs {
			ids = append(ids, *j.JobId)
			if j.IsRevoked || (j.SignedObject != nil) != (j.Status == types.SigningStatusSucceeded) {
				t.Errorf("got %+v", j)
			}
		}
	}
	if len(ids) != 6 || ids[5] != *start.JobId {
		t.Errorf("got jobs %v, want six, the first one last", ids)
	}
	failed, err := c.signer.ListSigningJobs(ctx, &awssigner.ListSigningJobsInput{Status: types.SigningStatusFailed, PlatformId: aws.String(sign.LambdaPlatform),
		RequestedBy: job.RequestedBy, JobInvoker: aws.String("000000000000")})
	if err != nil || len(failed.Jobs) != 5 {
		t.Errorf("failed jobs: got %v, %v, want five", failed, err)
	}
	expiring, err := c.signer.ListSigningJobs(ctx, &awssigner.ListSigningJobsInput{SignatureExpiresBefore: aws.Time(time.Now().AddDate(20, 0, 0)), SignatureExpiresAfter: aws.Time(time.Now())})
	if err != nil || len(expiring.Jobs) != 1 {
		t.Errorf("expiring jobs: got %v, %v, want one", expiring, err)
	}
	_, err = c.signer.ListSigningJobs(ctx, &awssigner.ListSigningJobsInput{NextToken: aws.String("forged")})
	checkCode(t, "forged token", err, "ValidationException", "")
	_, err = c.signer.ListSigningJobs(ctx, &awssigner.ListSigningJobsInput{MaxResults: aws.Int32(26)})
	checkCode(t, "26 results", err, "ValidationException", "1 validation error detected: Value '26' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 25")
}

func TestSignerProfilesWithTheSDK(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startSigner(t, t.TempDir())
	put, err := c.signer.PutSigningProfile(ctx, &awssigner.PutSigningProfileInput{
		ProfileName: aws.String("prod"), PlatformId: aws.String(sign.LambdaPlatform),
		SignatureValidityPeriod: &types.SignatureValidityPeriod{Type: types.ValidityTypeMonths, Value: 12},
		Tags:                    map[string]string{}, // as Terraform sends it, below the model's least size
	})
	if err != nil {
		t.Fatal(err)
	}
	get := func() *awssigner.GetSigningProfileOutput {
		t.Helper()
		out, err := c.signer.GetSigningProfile(ctx, &awssigner.GetSigningProfileInput{ProfileName: aws.String("prod")})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	got := get()
	if *got.ProfileVersionArn != *put.ProfileVersionArn || got.Status != types.SigningProfileStatusActive || got.SignatureValidityPeriod.Value != 12 ||
		got.SignatureValidityPeriod.Type != types.ValidityTypeMonths || aws.ToString(got.PlatformDisplayName) != "AWS Lambda" || got.RevocationRecord != nil || got.SigningMaterial != nil || got.Tags == nil {
		t.Errorf("got %+v", got)
	}
	_, err = c.signer.PutSigningProfile(ctx, &awssigner.PutSigningProfileInput{ProfileName: aws.String("prod"), PlatformId: aws.String(sign.LambdaPlatform)})
	checkCode(t, "second put", err, "ValidationException", "Profile with name prod already exists")
	_, err = c.signer.PutSigningProfile(ctx, &awssigner.PutSigningProfileInput{ProfileName: aws.String("iot"), PlatformId: aws.String("AWSIoTDeviceManagement-SHA256-ECDSA")})
	checkCode(t, "IoT", err, "ValidationException", "signing material cannot be null.")
	_, err = c.signer.PutSigningProfile(ctx, &awssigner.PutSigningProfileInput{ProfileName: aws.String("a-b"), PlatformId: aws.String(sign.LambdaPlatform)})
	checkCode(t, "hyphen", err, "ValidationException", "")
	_, err = c.signer.PutSigningProfile(ctx, &awssigner.PutSigningProfileInput{ProfileName: aws.String("long"), PlatformId: aws.String(sign.LambdaPlatform),
		SignatureValidityPeriod: &types.SignatureValidityPeriod{Type: types.ValidityTypeMonths, Value: 136}})
	checkCode(t, "136 months", err, "ValidationException", "")
	_, err = c.signer.GetSigningProfile(ctx, &awssigner.GetSigningProfileInput{ProfileName: aws.String("never")})
	checkCode(t, "unknown", err, "ResourceNotFoundException", "")
	_, err = c.signer.GetSigningProfile(ctx, &awssigner.GetSigningProfileInput{ProfileName: aws.String("prod"), ProfileOwner: aws.String("111111111111")})
	checkCode(t, "another's", err, "AccessDeniedException", "")

	// Tags: the ARN travels in the path, its slashes encoded.
	if _, err := c.signer.TagResource(ctx, &awssigner.TagResourceInput{ResourceArn: put.Arn, Tags: map[string]string{"team": "a", "env/x:y": "b c"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.signer.UntagResource(ctx, &awssigner.UntagResourceInput{ResourceArn: put.Arn, TagKeys: []string{"team", "never"}}); err != nil {
		t.Fatal(err)
	}
	tags, err := c.signer.ListTagsForResource(ctx, &awssigner.ListTagsForResourceInput{ResourceArn: put.Arn})
	if err != nil || len(tags.Tags) != 1 || tags.Tags["env/x:y"] != "b c" || get().Tags["env/x:y"] != "b c" {
		t.Errorf("got tags %v, %v", tags, err)
	}
	_, err = c.signer.ListTagsForResource(ctx, &awssigner.ListTagsForResourceInput{ResourceArn: aws.String(*put.Arn + "x")})
	checkCode(t, "tags of nothing", err, "NotFoundException", "")
	_, err = c.signer.ListTagsForResource(ctx, &awssigner.ListTagsForResourceInput{ResourceArn: aws.String("nonsense")})
	checkCode(t, "tags of nonsense", err, "BadRequestException", "")

	// Cancel, and what is left.
	if _, err := c.signer.CancelSigningProfile(ctx, &awssigner.CancelSigningProfileInput{ProfileName: aws.String("prod")}); err != nil {
		t.Fatal(err)
	}
	if got := get(); got.Status != types.SigningProfileStatusCanceled {
		t.Errorf("got %s, want Canceled", got.Status)
	}
	_, err = c.signer.TagResource(ctx, &awssigner.TagResourceInput{ResourceArn: put.Arn, Tags: map[string]string{"a": "b"}})
	checkCode(t, "tagging a canceled one", err, "BadRequestException", "")
	_, err = c.signer.CancelSigningProfile(ctx, &awssigner.CancelSigningProfileInput{ProfileName: aws.String("never")})
	checkCode(t, "cancel unknown", err, "ResourceNotFoundException", "")
	for want, in := range map[int]*awssigner.ListSigningProfilesInput{
		0: {},
		1: {IncludeCanceled: true, PlatformId: aws.String(sign.LambdaPlatform), Statuses: []types.SigningProfileStatus{types.SigningProfileStatusCanceled, types.SigningProfileStatusRevoked}},
	} {
		if out, err := c.signer.ListSigningProfiles(ctx, in); err != nil || len(out.Profiles) != want {
			t.Errorf("%+v: got %v, %v, want %d", in, out, err, want)
		}
	}

	ps, err := c.signer.ListSigningPlatforms(ctx, &awssigner.ListSigningPlatformsInput{})
	if err != nil || len(ps.Platforms) != 5 {
		t.Errorf("platforms: got %v, %v", ps, err)
	}
	p, err := c.signer.GetSigningPlatform(ctx, &awssigner.GetSigningPlatformInput{PlatformId: aws.String(sign.LambdaPlatform)})
	if err != nil || p.MaxSizeInMB != 250 || !p.RevocationSupported || p.SigningConfiguration.HashAlgorithmOptions.DefaultValue != "SHA384" || p.Category != "AWS" {
		t.Errorf("got %+v, %v", p, err)
	}
	_, err = c.signer.GetSigningPlatform(ctx, &awssigner.GetSigningPlatformInput{PlatformId: aws.String("never")})
	checkCode(t, "unknown platform", err, "ResourceNotFoundException", "")
}

func TestSignerWithTheCLI(t *testing.T) {
	t.Parallel()
	cli, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("needs the aws CLI on the PATH")
	}
	c := startSigner(t, t.TempDir())
	c.bucket(t, "code", true)
	home := t.TempDir()
	run := func(args ...string) (map[string]any, error) {
		cmd := exec.CommandContext(t.Context(), cli, args...)
		cmd.Dir = home
		cmd.Env = append(os.Environ(), "HOME="+home, "AWS_ENDPOINT_URL="+c.url, "AWS_REGION="+signerRegion, "AWS_DEFAULT_REGION="+signerRegion,
			"AWS_ACCESS_KEY_ID="+signerCreds.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+signerCreds.SecretAccessKey, "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("aws %s: %w: %s", strings.Join(args, " "), err, stderr.String())
		}
		var v map[string]any
		if len(bytes.TrimSpace(out)) > 0 {
			if err := json.Unmarshal(out, &v); err != nil {
				return nil, fmt.Errorf("aws %s: %w", strings.Join(args, " "), err)
			}
		}
		return v, nil
	}
	must := func(args ...string) map[string]any {
		t.Helper()
		v, err := run(args...)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if err := os.WriteFile(filepath.Join(home, "app.zip"), signerZip(t, "cli"), 0o600); err != nil {
		t.Fatal(err)
	}
	v := must("s3api", "put-object", "--bucket", "code", "--key", "app.zip", "--body", "app.zip")["VersionId"].(string)
	must("signer", "put-signing-profile", "--profile-name", "prod", "--platform-id", sign.LambdaPlatform, "--tags", "team=a")
	id := must("signer", "start-signing-job", "--source", "s3={bucketName=code,key=app.zip,version="+v+"}",
		"--destination", "s3={bucketName=code,prefix=signed-}", "--profile-name", "prod")["jobId"].(string)
	must("signer", "wait", "successful-signing-job", "--job-id", id)
	job := must("signer", "describe-signing-job", "--job-id", id)
	if job["status"] != "Succeeded" || job["statusReason"] != "Signing Succeeded" {
		t.Errorf("got %v", job)
	}
	must("s3api", "get-object", "--bucket", "code", "--key", "signed-"+id+".zip", "signed.zip")
	signed, err := os.ReadFile(filepath.Join(home, "signed.zip"))
	if err != nil {
		t.Fatal(err)
	}
	c.verify(t, signed)
	profile := must("signer", "get-signing-profile", "--profile-name", "prod")
	if profile["tags"].(map[string]any)["team"] != "a" || profile["signatureValidityPeriod"].(map[string]any)["value"] != 135.0 {
		t.Errorf("got %v", profile)
	}
	arn := profile["arn"].(string)
	must("signer", "tag-resource", "--resource-arn", arn, "--tags", "a=b")
	if tags := must("signer", "list-tags-for-resource", "--resource-arn", arn)["tags"]; len(tags.(map[string]any)) != 2 {
		t.Errorf("got tags %v, want two", tags)
	}
	must("signer", "cancel-signing-profile", "--profile-name", "prod")
	if ps := must("signer", "list-signing-profiles", "--include-canceled")["profiles"].([]any); len(ps) != 1 {
		t.Errorf("got profiles %v", ps)
	}
	if _, err := run("signer", "put-signing-profile", "--profile-name", "prod", "--platform-id", sign.LambdaPlatform); err == nil ||
		!strings.Contains(err.Error(), "An error occurred (ValidationException) when calling the PutSigningProfile operation: Profile with name prod already exists") {
		t.Errorf("got %v", err)
	}
}
