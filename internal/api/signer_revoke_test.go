package api

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssigner "github.com/aws/aws-sdk-go-v2/service/signer"
	"github.com/aws/aws-sdk-go-v2/service/signer/types"

	"countersign/internal/sign"
)

func TestSignerRevocationWithTheSDK(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startSigner(t, t.TempDir())
	c.bucket(t, "src", true)
	c.bucket(t, "dst", true)
	put := c.profile(t, "prod")
	v := c.put(t, "src", "app.zip", signerZip(t, "one"))
	var ids []*string
	for _, token := range []string{"a", "b"} {
		j, err := c.signer.StartSigningJob(ctx, c.request("src", "app.zip", v, "dst", token))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.await(t, j.JobId); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.JobId)
	}

	_, err := c.signer.RevokeSignature(ctx, &awssigner.RevokeSignatureInput{JobId: ids[0], JobOwner: aws.String("111111111111"), Reason: aws.String("x")})
	checkCode(t, "another account's job", err, "AccessDeniedException", "")
	_, err = c.signer.RevokeSignature(ctx, &awssigner.RevokeSignatureInput{JobId: aws.String("7e3d6b1a-0000-4000-8000-000000000000"), Reason: aws.String("x")})
	checkCode(t, "unknown job", err, "ResourceNotFoundException", "")
	_, err = c.signer.RevokeSignature(ctx, &awssigner.RevokeSignatureInput{JobId: ids[0], Reason: aws.String(strings.Repeat("x", 501))})
	checkCode(t, "long reason", err, "ValidationException", "")
	for range 2 {
		if _, err := c.signer.RevokeSignature(ctx, &awssigner.RevokeSignatureInput{JobId: ids[0], JobOwner: aws.String("000000000000"), Reason: aws.String("a secret was in it")}); err != nil {
			t.Fatal(err)
		}
	}
	job, err := c.signer.DescribeSigningJob(ctx, &awssigner.DescribeSigningJobInput{JobId: ids[0]})
	if err != nil {
		t.Fatal(err)
	}
	if r := job.RevocationRecord; job.Status != types.SigningStatusSucceeded || r == nil || aws.ToString(r.Reason) != "a secret was in it" ||
		aws.ToString(r.RevokedBy) != "arn:aws:iam::000000000000:root" || time.Since(aws.ToTime(r.RevokedAt)).Abs() > time.Hour {
		t.Errorf("got %s, %+v", job.Status, r)
	}
	for i, id := range ids {
		out, err := c.signer.ListSigningJobs(ctx, &awssigner.ListSigningJobsInput{IsRevoked: i == 0})
		if i == 1 {
			// The SDK does not send false; the list has both then.
			out.Jobs = slices.DeleteFunc(out.Jobs, func(j types.SigningJob) bool { return j.IsRevoked })
		}
		if err != nil || len(out.Jobs) != 1 || *out.Jobs[0].JobId != *id || out.Jobs[0].IsRevoked != (i == 0) {
			t.Errorf("list %d: got %+v, %v", i, out, err)
		}
	}

	// The profile.
	moment := time.Now().Add(-time.Hour).Truncate(time.Second)
	revoke := func(version *string, at time.Time) error {
		_, err := c.signer.RevokeSigningProfile(ctx, &awssigner.RevokeSigningProfileInput{
			ProfileName: aws.String("prod"), ProfileVersion: version, Reason: aws.String("key lost"), EffectiveTime: &at})
		return err
	}
	checkCode(t, "the future", revoke(put.ProfileVersion, time.Now().Add(time.Hour)), "ValidationException", "")
	checkCode(t, "another version", revoke(aws.String("abcdef1234"), moment), "ResourceNotFoundException", "")
	checkCode(t, "no version", revoke(aws.String("abc"), moment), "ValidationException", "")
	if err := revoke(put.ProfileVersion, moment); err != nil {
		t.Fatal(err)
	}
	checkCode(t, "to later", revoke(put.ProfileVersion, moment.Add(time.Minute)), "ValidationException", "")
	moment = moment.Add(-time.Hour)
	if err := revoke(put.ProfileVersion, moment); err != nil {
		t.Errorf("to earlier: %v", err)
	}
	p, err := c.signer.GetSigningProfile(ctx, &awssigner.GetSigningProfileInput{ProfileName: aws.String("prod")})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.RevocationRecord; p.Status != types.SigningProfileStatusRevoked || r == nil || !aws.ToTime(r.RevocationEffectiveFrom).Equal(moment) ||
		aws.ToString(r.RevokedBy) != "arn:aws:iam::000000000000:root" || r.RevokedAt == nil || aws.ToString(p.StatusReason) != "key lost" {
		t.Errorf("got %s, %+v", p.Status, r)
	}
	_, err = c.signer.CancelSigningProfile(ctx, &awssigner.CancelSigningProfileInput{ProfileName: aws.String("prod")})
	checkCode(t, "cancel", err, "ValidationException", "Signing Profile prod cannot be canceled because it has been revoked. A revoked profile cannot be canceled.")
	_, err = c.signer.StartSigningJob(ctx, c.request("src", "app.zip", v, "dst", "c"))
	checkCode(t, "start", err, "ValidationException", "Profile with name prod is revoked and cannot start signing jobs")

	// What was acknowledged survives a kill.
	c.kill()
	c = startSigner(t, c.dir)
	if p, err := c.signer.GetSigningProfile(ctx, &awssigner.GetSigningProfileInput{ProfileName: aws.String("prod")}); err != nil || p.Status != types.SigningProfileStatusRevoked {
		t.Errorf("after a kill: got %+v, %v", p, err)
	}
	if job, err := c.signer.DescribeSigningJob(ctx, &awssigner.DescribeSigningJobInput{JobId: ids[0]}); err != nil || job.RevocationRecord == nil {
		t.Errorf("after a kill: got %+v, %v", job, err)
	}
}

// TestSignerRevocationStatus asks as the SDK does by itself: with "data-" put
// before the host's name, and the request signed for that name.
func TestSignerRevocationStatus(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startSigner(t, t.TempDir())
	c.bucket(t, "src", true)
	c.bucket(t, "dst", true)
	put := c.profile(t, "prod")
	j, err := c.signer.StartSigningJob(ctx, c.request("src", "app.zip", c.put(t, "src", "app.zip", signerZip(t, "one")), "dst", "a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.await(t, j.JobId); err != nil {
		t.Fatal(err)
	}

	address := strings.TrimPrefix(c.url, "http://")
	var dialed []string // by one client, one call at a time
	data := awssigner.New(awssigner.Options{Region: signerRegion, BaseEndpoint: aws.String("http://signer.example.com:8080"), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(signerCreds.AccessKeyID, signerCreds.SecretAccessKey, ""),
		HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialed = append(dialed, addr)
			return new(net.Dialer).DialContext(ctx, network, address)
		}}},
	})
	in := awssigner.GetRevocationStatusInput{
		PlatformId: aws.String(sign.NotationPlatform), ProfileVersionArn: put.ProfileVersionArn, SignatureTimestamp: aws.Time(time.Now()),
		JobArn: aws.String("arn:aws:signer:eu-central-1:000000000000:/signing-jobs/" + *j.JobId), CertificateHashes: []string{strings.Repeat("0", 192)},
	}
	status := func() []string {
		t.Helper()
		out, err := data.GetRevocationStatus(ctx, &in)
		if err != nil {
			t.Fatal(err)
		}
		return out.RevokedEntities
	}
	if got := status(); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
	if _, err := c.signer.RevokeSignature(ctx, &awssigner.RevokeSignatureInput{JobId: j.JobId, Reason: aws.String("x")}); err != nil {
		t.Fatal(err)
	}
	if got := status(); !slices.Equal(got, []string{*in.JobArn}) {
		t.Errorf("got %v, want the job", got)
	}
	if _, err := c.signer.RevokeSigningProfile(ctx, &awssigner.RevokeSigningProfileInput{ProfileName: aws.String("prod"), ProfileVersion: put.ProfileVersion,
		Reason: aws.String("x"), EffectiveTime: aws.Time(time.Now().Add(-time.Minute))}); err != nil {
		t.Fatal(err)
	}
	if got := status(); !slices.Equal(got, []string{*put.ProfileVersionArn, *in.JobArn}) {
		t.Errorf("got %v, want both", got)
	}
	in.SignatureTimestamp = aws.Time(time.Now().Add(-time.Hour))
	if got := status(); !slices.Equal(got, []string{*in.JobArn}) {
		t.Errorf("before the profile's moment: got %v, want the job", got)
	}
	in.PlatformId = aws.String(sign.LambdaPlatform)
	_, err = data.GetRevocationStatus(ctx, &in)
	checkCode(t, "Lambda", err, "ValidationException", "Invalid platformId: AWSLambda-SHA384-ECDSA")
	if want := "data-signer.example.com:8080"; len(dialed) == 0 || slices.ContainsFunc(dialed, func(a string) bool { return a != want }) {
		t.Errorf("the SDK called %v, want %s", dialed, want)
	}
}

func TestSignerPermissionsWithTheSDK(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startSigner(t, t.TempDir())
	put := c.profile(t, "prod")
	list := func() (*awssigner.ListProfilePermissionsOutput, error) {
		return c.signer.ListProfilePermissions(ctx, &awssigner.ListProfilePermissionsInput{ProfileName: aws.String("prod")})
	}
	add := func(id, action, principal string, revision *string) (*string, error) {
		out, err := c.signer.AddProfilePermission(ctx, &awssigner.AddProfilePermissionInput{ProfileName: aws.String("prod"), ProfileVersion: put.ProfileVersion,
			StatementId: &id, Action: &action, Principal: &principal, RevisionId: revision})
		if err != nil {
			return nil, err
		}
		return out.RevisionId, nil
	}
	const start, other = "signer:StartSigningJob", "111111111111"
	_, err := list()
	checkCode(t, "no policy", err, "ResourceNotFoundException", "")
	r1, err := add("one", start, other, aws.String(""))
	if err != nil {
		t.Fatal(err)
	}
	_, err = add("two", start, other, aws.String(""))
	checkCode(t, "no revision where there is one", err, "ConflictException", "")
	_, err = add("one", start, other, r1)
	checkCode(t, "the id again", err, "ConflictException", "")
	_, err = add("two", "signer:SignPayload", other, r1)
	checkCode(t, "another platform's action", err, "ValidationException",
		"Action signer:SignPayload not supported for platform AWSLambda-SHA384-ECDSA. Action must be one of [signer:StartSigningJob, signer:GetSigningProfile, signer:RevokeSignature].")
	_, err = add("two", start, "*", r1)
	checkCode(t, "everybody", err, "ValidationException", "")
	r2, err := add("two", "signer:GetSigningProfile", "arn:aws:iam::111111111111:role/ci", nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := list()
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Permissions) != 2 || aws.ToString(out.RevisionId) != *r2 || out.PolicySizeBytes == 0 || out.NextToken != nil {
		t.Errorf("got %+v", out)
	}
	if g := out.Permissions[1]; aws.ToString(g.StatementId) != "two" || aws.ToString(g.Action) != "signer:GetSigningProfile" ||
		aws.ToString(g.Principal) != "arn:aws:iam::111111111111:role/ci" || aws.ToString(g.ProfileVersion) != *put.ProfileVersion {
		t.Errorf("got %+v", g)
	}
	remove := func(id string, revision *string) (*string, error) {
		out, err := c.signer.RemoveProfilePermission(ctx, &awssigner.RemoveProfilePermissionInput{ProfileName: aws.String("prod"), StatementId: &id, RevisionId: revision})
		if err != nil {
			return nil, err
		}
		return out.RevisionId, nil
	}
	_, err = remove("one", r1)
	checkCode(t, "an old revision", err, "ConflictException", "")
	_, err = remove("never", r2)
	checkCode(t, "no such statement", err, "ResourceNotFoundException", "")

	// As many as fit, over several pages.
	last := r2
	n := 2
	for ; ; n++ {
		r, err := add("more-"+strings.Repeat("x", n), start, other, last)
		if err != nil {
			checkCode(t, "a policy too large", err, "ServiceLimitExceededException", "")
			break
		}
		last = r
	}
	seen := map[string]bool{}
	for token := (*string)(nil); ; {
		page, err := c.signer.ListProfilePermissions(ctx, &awssigner.ListProfilePermissionsInput{ProfileName: aws.String("prod"), NextToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range page.Permissions {
			seen[*g.StatementId] = true
		}
		if token = page.NextToken; token == nil {
			break
		}
	}
	if len(seen) != n {
		t.Errorf("got %d statements, want %d", len(seen), n)
	}
	for id := range seen {
		if last, err = remove(id, last); err != nil {
			t.Fatal(err)
		}
	}
	_, err = list()
	checkCode(t, "no policy any more", err, "ResourceNotFoundException", "")
}
