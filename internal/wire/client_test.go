package wire_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	cwl "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	cwltypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	lam "github.com/aws/aws-sdk-go-v2/service/lambda"
	lamtypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	sgn "github.com/aws/aws-sdk-go-v2/service/signer"
	sgntypes "github.com/aws/aws-sdk-go-v2/service/signer/types"
	stsv2 "github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"

	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
	"countersign/internal/wire/logs"
	"countersign/internal/wire/signer"
	"countersign/internal/wire/sts"
)

// TestClients has AWS's own SDK, two years younger than the models, talk to a
// server: what it sends arrives and what we answer is what it reads.
func TestClients(t *testing.T) {
	t.Parallel()
	srv := wire.NewServer(config(), all...)
	h := httptest.NewServer(srv)
	t.Cleanup(h.Close)
	cfg := aws.Config{
		Region: "us-east-1", BaseEndpoint: &h.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "SECRET", ""),
	}
	ctx := t.Context()

	t.Run("lambda", func(t *testing.T) {
		const csc = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-06cb9e2567e9ec415"
		wire.Handle(srv, lambda.Service, "CreateFunction", func(_ context.Context, _ *wire.Call, in *lambda.CreateFunctionRequest) (*lambda.FunctionConfiguration, error) {
			if *in.FunctionName == "taken" {
				return nil, &wire.Fault{Code: "ResourceConflictException", Message: "Function already exist: taken"}
			}
			if *in.FunctionName == "bad" {
				return nil, &wire.Fault{Code: "CodeVerificationFailedException", Message: "unsigned"}
			}
			if *in.CodeSigningConfigArn != csc || string(in.Code.ZipFile) != "PK\x00\xff" || in.Environment.Variables["A1"] != "é\n" || *in.MemorySize != 256 || !*in.Publish {
				t.Errorf("got %+v", in)
			}
			return &lambda.FunctionConfiguration{FunctionName: in.FunctionName, MemorySize: in.MemorySize, Environment: &lambda.EnvironmentResponse{Variables: in.Environment.Variables},
				State: new("Pending"), Layers: []*lambda.Layer{{Arn: new("l"), CodeSize: new(int64(7))}}}, nil
		})
		wire.Handle(srv, lambda.Service, "Invoke", func(_ context.Context, c *wire.Call, in *lambda.InvocationRequest) (*lambda.InvocationResponse, error) {
			if *in.FunctionName == "busy" {
				return nil, &wire.Fault{Code: "TooManyRequestsException", Message: "Rate Exceeded.",
					Members: map[string]any{"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "retryAfterSeconds": "3"}}
			}
			return &lambda.InvocationResponse{StatusCode: new(int64(200)), Payload: in.Payload, LogResult: new("bG9n"), ExecutedVersion: new("3")}, nil
		})
		wire.Handle(srv, lambda.Service, "GetCodeSigningConfig", func(_ context.Context, _ *wire.Call, in *lambda.GetCodeSigningConfigRequest) (*lambda.GetCodeSigningConfigResponse, error) {
			return &lambda.GetCodeSigningConfigResponse{CodeSigningConfig: &lambda.CodeSigningConfig{CodeSigningConfigArn: in.CodeSigningConfigArn,
				AllowedPublishers: &lambda.AllowedPublishers{SigningProfileVersionArns: []string{"a", "b"}}}}, nil
		})
		wire.Handle(srv, lambda.Service, "DeleteFunction", ok[lambda.DeleteFunctionRequest, wire.None])
		wire.Handle(srv, lambda.Service, "UntagResource", func(_ context.Context, _ *wire.Call, in *lambda.UntagResourceRequest) (*wire.None, error) {
			if !slices.Equal(in.TagKeys, []string{"a b", "c&d"}) {
				t.Errorf("got %q", in.TagKeys)
			}
			return nil, nil
		})
		client := lam.NewFromConfig(cfg)
		create := &lam.CreateFunctionInput{FunctionName: new("f"), Role: new("arn:aws:iam::000000000000:role/r"), MemorySize: new(int32(256)), Publish: true,
			Code: &lamtypes.FunctionCode{ZipFile: []byte("PK\x00\xff")}, CodeSigningConfigArn: new(csc), Runtime: "python3.14", Environment: &lamtypes.Environment{Variables: map[string]string{"A1": "é\n"}}}
		out, err := client.CreateFunction(ctx, create)
		if err != nil {
			t.Fatal(err)
		}
		if *out.FunctionName != "f" || *out.MemorySize != 256 || out.Environment.Variables["A1"] != "é\n" || out.State != "Pending" || out.Layers[0].CodeSize != 7 {
			t.Errorf("got %+v", out)
		}
		create.FunctionName = new("taken")
		_, err = client.CreateFunction(ctx, create)
		if e, ok := errors.AsType[*lamtypes.ResourceConflictException](err); !ok || *e.Message != "Function already exist: taken" || *e.Type != "User" {
			t.Errorf("got %v", err)
		}
		create.FunctionName = new("bad")
		_, err = client.CreateFunction(ctx, create)
		if e, ok := errors.AsType[*lamtypes.CodeVerificationFailedException](err); !ok || *e.Message != "unsigned" {
			t.Errorf("got %v", err)
		}
		create.FunctionName = new("not/good")
		_, err = client.CreateFunction(ctx, create)
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "ValidationException" {
			t.Errorf("got %v", err)
		}
		inv, err := client.Invoke(ctx, &lam.InvokeInput{FunctionName: new("arn:aws:lambda:us-east-1:000000000000:function:f"), Qualifier: new("live"), Payload: []byte(`{"a":1}`), LogType: "Tail"})
		if err != nil || string(inv.Payload) != `{"a":1}` || inv.StatusCode != 200 || *inv.ExecutedVersion != "3" || *inv.LogResult != "bG9n" {
			t.Errorf("got %+v, %v", inv, err)
		}
		_, err = client.Invoke(ctx, &lam.InvokeInput{FunctionName: new("busy")})
		if e, ok := errors.AsType[*lamtypes.TooManyRequestsException](err); !ok || e.Reason != "ReservedFunctionConcurrentInvocationLimitExceeded" || *e.RetryAfterSeconds != "3" {
			t.Errorf("got %v", err)
		}
		got, err := client.GetCodeSigningConfig(ctx, &lam.GetCodeSigningConfigInput{CodeSigningConfigArn: new(csc)})
		if err != nil || *got.CodeSigningConfig.CodeSigningConfigArn != csc || len(got.CodeSigningConfig.AllowedPublishers.SigningProfileVersionArns) != 2 {
			t.Errorf("got %+v, %v", got, err)
		}
		if _, err := client.DeleteFunction(ctx, &lam.DeleteFunctionInput{FunctionName: new("f")}); err != nil {
			t.Error(err)
		}
		if _, err := client.UntagResource(ctx, &lam.UntagResourceInput{Resource: new("arn:aws:lambda:us-east-1:000000000000:function:f"), TagKeys: []string{"a b", "c&d"}}); err != nil {
			t.Error(err)
		}
		_, err = client.PutFunctionConcurrency(ctx, &lam.PutFunctionConcurrencyInput{FunctionName: new("f"), ReservedConcurrentExecutions: new(int32(0))})
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "NotImplemented" || e.ErrorMessage() != "The operation lambda:PutFunctionConcurrency is not built in Countersign." {
			t.Errorf("got %v", err)
		}
	})

	t.Run("signer", func(t *testing.T) {
		at := time.Date(2026, 9, 28, 9, 19, 26, 806e6, time.UTC)
		arn := "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p1"
		wire.Handle(srv, signer.Service, "ListSigningJobs", func(_ context.Context, _ *wire.Call, in *signer.ListSigningJobsRequest) (*signer.ListSigningJobsResponse, error) {
			if *in.MaxResults != 3 || !*in.IsRevoked || !in.SignatureExpiresAfter.Equal(at.Truncate(time.Second)) || *in.Status != "Succeeded" {
				t.Errorf("got %+v", in)
			}
			return &signer.ListSigningJobsResponse{Jobs: []*signer.SigningJob{{JobId: new("j"), CreatedAt: &at}}, NextToken: new("n")}, nil
		})
		wire.Handle(srv, signer.Service, "ListSigningProfiles", func(_ context.Context, _ *wire.Call, in *signer.ListSigningProfilesRequest) (*signer.ListSigningProfilesResponse, error) {
			if !slices.Equal(in.Statuses, []string{"Active", "Revoked"}) {
				t.Errorf("got %q", in.Statuses)
			}
			return nil, nil
		})
		wire.Handle(srv, signer.Service, "RevokeSigningProfile", func(_ context.Context, _ *wire.Call, in *signer.RevokeSigningProfileRequest) (*wire.None, error) {
			if !in.EffectiveTime.Equal(at) {
				t.Errorf("got %v, want %v", in.EffectiveTime, at)
			}
			return nil, &wire.Fault{Code: "ResourceNotFoundException", Message: "none"}
		})
		wire.Handle(srv, signer.Service, "ListTagsForResource", func(_ context.Context, _ *wire.Call, in *signer.ListTagsForResourceRequest) (*signer.ListTagsForResourceResponse, error) {
			return &signer.ListTagsForResourceResponse{Tags: map[string]string{"arn": *in.ResourceArn}}, nil
		})
		wire.Handle(srv, signer.Service, "SignPayload", func(_ context.Context, _ *wire.Call, in *signer.SignPayloadRequest) (*signer.SignPayloadResponse, error) {
			return &signer.SignPayloadResponse{Signature: in.Payload}, nil
		})
		client := sgn.NewFromConfig(cfg)
		jobs, err := client.ListSigningJobs(ctx, &sgn.ListSigningJobsInput{MaxResults: new(int32(3)), IsRevoked: true, SignatureExpiresAfter: new(at.Truncate(time.Second)), Status: "Succeeded"})
		if err != nil || !jobs.Jobs[0].CreatedAt.Equal(at) || *jobs.NextToken != "n" {
			t.Errorf("got %+v, %v", jobs, err)
		}
		if _, err := client.ListSigningProfiles(ctx, &sgn.ListSigningProfilesInput{Statuses: []sgntypes.SigningProfileStatus{"Active", "Revoked"}}); err != nil {
			t.Error(err)
		}
		_, err = client.RevokeSigningProfile(ctx, &sgn.RevokeSigningProfileInput{ProfileName: new("p1"), ProfileVersion: new("aaaaaaaaaa"), Reason: new("lost"), EffectiveTime: &at})
		if e, ok := errors.AsType[*sgntypes.ResourceNotFoundException](err); !ok || *e.Message != "none" || e.ErrorCode() != "ResourceNotFoundException" {
			t.Errorf("got %v", err)
		}
		tags, err := client.ListTagsForResource(ctx, &sgn.ListTagsForResourceInput{ResourceArn: &arn})
		if err != nil || tags.Tags["arn"] != arn {
			t.Errorf("got %+v, %v", tags, err)
		}
		signed, err := client.SignPayload(ctx, &sgn.SignPayloadInput{ProfileName: new("p1"), Payload: []byte{0, 255}, PayloadFormat: new("f")})
		if err != nil || string(signed.Signature) != "\x00\xff" {
			t.Errorf("got %+v, %v", signed, err)
		}
	})

	t.Run("logs", func(t *testing.T) {
		wire.Handle(srv, logs.Service, "PutLogEvents", func(_ context.Context, _ *wire.Call, in *logs.PutLogEventsRequest) (*logs.PutLogEventsResponse, error) {
			return &logs.PutLogEventsResponse{NextSequenceToken: in.LogEvents[0].Message}, nil
		})
		wire.Handle(srv, logs.Service, "DescribeLogGroups", func(context.Context, *wire.Call, *logs.DescribeLogGroupsRequest) (*logs.DescribeLogGroupsResponse, error) {
			return nil, &wire.Fault{Code: "ResourceNotFoundException", Message: "none"}
		})
		client := cwl.NewFromConfig(cfg)
		put, err := client.PutLogEvents(ctx, &cwl.PutLogEventsInput{LogGroupName: new("/aws/lambda/f"), LogStreamName: new("s"), LogEvents: []cwltypes.InputLogEvent{{Message: new("hi"), Timestamp: new(int64(1700000000123))}}})
		if err != nil || *put.NextSequenceToken != "hi" {
			t.Errorf("got %+v, %v", put, err)
		}
		_, err = client.DescribeLogGroups(ctx, &cwl.DescribeLogGroupsInput{})
		if e, ok := errors.AsType[*cwltypes.ResourceNotFoundException](err); !ok || *e.Message != "none" {
			t.Errorf("got %v", err)
		}
		_, err = client.DescribeLogGroups(ctx, &cwl.DescribeLogGroupsInput{Limit: new(int32(51))})
		if e, ok := errors.AsType[*cwltypes.InvalidParameterException](err); !ok || *e.Message != "1 validation error detected: Value '51' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 50" {
			t.Errorf("got %v", err)
		}
	})

	t.Run("sts", func(t *testing.T) {
		wire.Handle(srv, sts.Service, "GetCallerIdentity", func(_ context.Context, c *wire.Call, _ *sts.GetCallerIdentityRequest) (*sts.GetCallerIdentityResponse, error) {
			return &sts.GetCallerIdentityResponse{Arn: &c.Caller.ARN}, nil
		})
		at := time.Date(2026, 9, 28, 9, 0, 0, 0, time.UTC)
		wire.Handle(srv, sts.Service, "AssumeRole", func(_ context.Context, _ *wire.Call, in *sts.AssumeRoleRequest) (*sts.AssumeRoleResponse, error) {
			if len(in.Tags) != 2 || *in.Tags[1].Value != "b c" || in.TransitiveTagKeys[0] != "k" {
				t.Errorf("got %+v", in)
			}
			return &sts.AssumeRoleResponse{Credentials: &sts.Credentials{AccessKeyId: new("A<K>"), Expiration: &at}, PackedPolicySize: new(int64(0))}, nil
		})
		client := stsv2.NewFromConfig(cfg)
		who, err := client.GetCallerIdentity(ctx, nil)
		if err != nil || *who.Arn != "arn:aws:iam::000000000000:root" {
			t.Errorf("got %+v, %v", who, err)
		}
		_, err = client.GetSessionToken(ctx, nil)
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "NotImplemented" {
			t.Errorf("got %v", err)
		}
		as, err := client.AssumeRole(ctx, assumeRole())
		if err != nil || *as.Credentials.AccessKeyId != "A<K>" || !as.Credentials.Expiration.Equal(at) {
			t.Errorf("got %+v, %v", as, err)
		}
	})
}

func assumeRole() *stsv2.AssumeRoleInput {
	return &stsv2.AssumeRoleInput{RoleArn: new("arn:aws:iam::000000000000:role/r"), RoleSessionName: new("n1"), TransitiveTagKeys: []string{"k"},
		Tags: []ststypes.Tag{{Key: new("k"), Value: new("a")}, {Key: new("l"), Value: new("b c")}}}
}
