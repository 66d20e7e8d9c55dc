package wire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
	"countersign/internal/wire/logs"
	"countersign/internal/wire/signer"
	"countersign/internal/wire/sts"
	"countersign/internal/wire/wiretest"
)

var all = []*wire.Service{lambda.Service, signer.Service, logs.Service, sts.Service}

const testID = "11111111-2222-4333-8444-555555555555"

// config lets every request with some signature in, and no other.
func config() wire.Config {
	return wire.Config{
		Authenticate: func(r *http.Request, _ []byte, svc *wire.Service) (wire.Caller, string, error) {
			if r.Header.Get("Authorization") == "" && !r.URL.Query().Has("X-Amz-Signature") {
				return wire.Caller{}, "", &wire.Fault{Code: "MissingAuthenticationToken", Status: 403, Message: "Missing Authentication Token"}
			}
			return wire.Caller{Account: "000000000000", ARN: "arn:aws:iam::000000000000:root", Root: true}, "us-east-1", nil
		},
		NewID: func() string { return testID },
	}
}

func authorization(service string) string {
	return "AWS4-HMAC-SHA256 Credential=AKID/20260928/us-east-1/" + service + "/aws4_request, SignedHeaders=host, Signature=00"
}

// send asks srv as a client of service would.
func send(srv http.Handler, service, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if service != "" {
		r.Header.Set("Authorization", authorization(service))
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	srv.ServeHTTP(w, r)
	return w
}

const formType = "application/x-www-form-urlencoded"

// TestEveryOperation holds the face's promise: an operation AWS has is built,
// or says that it is not, by name and with 501; never an empty success.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	srv := wire.NewServer(config(), all...)
	wire.Handle(srv, lambda.Service, "ListFunctions", ok[lambda.ListFunctionsRequest, lambda.ListFunctionsResponse])
	wiretest.EveryOperation(t, srv, srv, all, func(r *http.Request, svc *wire.Service) {
		r.Header.Set("Authorization", authorization(svc.SigningName))
	})
	built := 0
	for _, c := range wire.Coverage(srv) {
		if c.Built {
			built++
		}
	}
	if built != 1 {
		t.Errorf("got %d operations built, want 1", built)
	}
}

func TestHandleBuilds(t *testing.T) {
	t.Parallel()
	srv := wire.NewServer(config(), all...)
	wire.Handle(srv, sts.Service, "GetCallerIdentity", func(context.Context, *wire.Call, *sts.GetCallerIdentityRequest) (*sts.GetCallerIdentityResponse, error) {
		return nil, nil
	})
	if !srv.Built(sts.Service, "GetCallerIdentity") || srv.Built(sts.Service, "AssumeRole") {
		t.Error("Built does not follow Handle")
	}
	panics := func(name string, f func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", name)
			}
		}()
		f()
	}
	panics("twice", func() {
		wire.Handle(srv, sts.Service, "GetCallerIdentity", func(context.Context, *wire.Call, *sts.GetCallerIdentityRequest) (*sts.GetCallerIdentityResponse, error) {
			return nil, nil
		})
	})
	panics("no such operation", func() {
		wire.Handle(srv, sts.Service, "Nonsense", func(context.Context, *wire.Call, *wire.None) (*wire.None, error) { return nil, nil })
	})
	panics("another operation's input", func() {
		wire.Handle(srv, sts.Service, "AssumeRole", func(context.Context, *wire.Call, *sts.GetCallerIdentityResponse) (*sts.AssumeRoleResponse, error) {
			return nil, nil
		})
	})
	panics("event stream", func() {
		wire.Handle(srv, lambda.Service, "InvokeWithResponseStream", func(context.Context, *wire.Call, *lambda.InvokeWithResponseStreamRequest) (*lambda.InvokeWithResponseStreamResponse, error) {
			return nil, nil
		})
	})
}

// TestPaths sends what clients send, and what people type.
func TestPaths(t *testing.T) {
	t.Parallel()
	srv := wire.NewServer(config(), all...)
	const arn = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p1"
	var got string
	wire.Handle(srv, signer.Service, "ListTagsForResource", func(_ context.Context, _ *wire.Call, in *signer.ListTagsForResourceRequest) (*signer.ListTagsForResourceResponse, error) {
		got = *in.ResourceArn
		return nil, nil
	})
	for _, tt := range []struct{ service, method, path, want string }{
		{"signer", "POST", "/signing-jobs/with-payload", "signer:SignPayload"},
		{"signer", "GET", "/signing-jobs/with-payload", "signer:DescribeSigningJob"},
		{"signer", "GET", "/signing-jobs/0b8d", "signer:DescribeSigningJob"},
		{"signer", "POST", "/signing-jobs", "signer:StartSigningJob"},
		{"signer", "POST", "/signing-jobs/", "signer:StartSigningJob"},
		{"signer", "PUT", "/signing-profiles/p/revoke", "signer:RevokeSigningProfile"},
		{"signer", "GET", "/revocations?jobArn=x", "signer:GetRevocationStatus"},
		{"lambda", "GET", "/2015-03-31/functions", "lambda:ListFunctions"},
		{"lambda", "GET", "/2015-03-31/functions/", "lambda:ListFunctions"},
		{"lambda", "GET", "/2015-03-31/functions/f", "lambda:GetFunction"},
		{"lambda", "GET", "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/versions", "lambda:ListVersionsByFunction"},
		{"lambda", "GET", "/2015-03-31/functions/arn:aws:lambda:us-east-1:000000000000:function:f/versions", "lambda:ListVersionsByFunction"},
		{"lambda", "GET", "/2018-10-31/layers?find=LayerVersion&Arn=x", "lambda:GetLayerVersionByArn"},
		{"lambda", "GET", "/2018-10-31/layers?Marker=x", "lambda:ListLayers"},
		{"lambda", "GET", "/2020-04-22/code-signing-configs/arn%3Aaws%3Alambda/functions", "lambda:ListFunctionsByCodeSigningConfig"},
	} {
		w := send(srv, tt.service, tt.method, tt.path, "")
		if want := "The operation " + tt.want + " is not built"; !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s %s: got %d %s, want %s", tt.method, tt.path, w.Code, w.Body, tt.want)
		}
	}
	for _, path := range []string{"/tags/" + url.QueryEscape(arn), "/tags/" + url.PathEscape(arn), "/tags/" + arn} {
		got = ""
		if send(srv, "signer", "GET", path, ""); got != arn {
			t.Errorf("%s: got %q, want %q", path, got, arn)
		}
	}
	for _, tt := range []struct{ service, method, path string }{
		{"lambda", "GET", "/"},
		{"lambda", "GET", "/2015-03-31/functions//configuration"},
		{"lambda", "PATCH", "/2015-03-31/functions/f"},
		{"lambda", "GET", "/2015-03-31/functions/f/nothing"},
		{"lambda", "GET", "/2015-03-31%2Ffunctions"},
		{"lambda", "GET", "/signing-jobs"},
		{"signer", "GET", "/signing-jobs/a/b"},
		// What a signature's normal form would make another path of.
		{"lambda", "DELETE", "/2015-03-31/functions/f/aliases/.."},
		{"lambda", "DELETE", "/2015-03-31/functions/f/aliases/%2e%2E"},
		{"lambda", "GET", "/2015-03-31/functions/."},
		{"signer", "GET", "/signing-jobs//"},
		{"signer", "GET", "//signing-jobs"},
	} {
		w := send(srv, tt.service, tt.method, tt.path, "")
		if w.Code != http.StatusNotFound || w.Body.String() != "<UnknownOperationException/>\n" {
			t.Errorf("%s %s: got %d %s, want 404 <UnknownOperationException/>", tt.method, tt.path, w.Code, w.Body)
		}
	}
}

// TestPick routes by everything a request can say about its service.
func TestPick(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.S3 = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "S3 %s %v", body, err)
	})
	cfg.Health = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") })
	srv := wire.NewServer(cfg, all...)
	presigned := func(service string) string {
		return "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + url.QueryEscape("AKID/20260928/us-east-1/"+service+"/aws4_request") + "&X-Amz-Signature=0"
	}
	const missing = "Missing Authentication Token"
	for _, tt := range []struct {
		name, service, method, target, host string
		header                              []string
		body, want                          string
	}{
		{name: "health needs no credentials", method: "GET", target: wire.HealthPath, want: "well"},
		{name: "scope s3", service: "s3", method: "GET", target: "/2015-03-31/functions", want: "S3"},
		{name: "scope s3 of a kind", service: "s3-object-lambda", method: "GET", target: "/x", want: "S3"},
		{name: "presigned s3", method: "GET", target: "/signing-jobs" + presigned("s3"), want: "S3"},
		{name: "presigned sts", method: "GET", target: "/" + presigned("sts") + "&Action=GetCallerIdentity&Version=2011-06-15", want: "The operation sts:GetCallerIdentity is not built"},
		{name: "signed s3 form", service: "s3", method: "POST", target: "/?delete", header: []string{"Content-Type", formType}, body: "Action=GetCallerIdentity&Version=2011-06-15", want: "S3 Action=Get"},
		{name: "no service at all", method: "GET", target: "/bucket/key", want: "S3"},
		{name: "unreadable credential", method: "GET", target: "/bucket/key", header: []string{"Authorization", "AWS4-HMAC-SHA256 Credential=AKID"}, want: "S3"},
		{name: "an old signature", method: "GET", target: "/bucket/key", header: []string{"Authorization", "AWS AKID:c2ln"}, want: "S3"},
		{name: "unsigned path of lambda", method: "GET", target: "/2015-03-31/functions/f", want: missing},
		{name: "unsigned path of signer", method: "POST", target: "/signing-jobs/with-payload", want: missing},
		{name: "unsigned host", method: "GET", target: "/", host: "lambda.us-east-1.amazonaws.com", want: "<UnknownOperationException/>"},
		{name: "host with a prefix", method: "GET", target: "/revocations", host: "data-signer.us-east-1.amazonaws.com", want: missing},
		{name: "bucket host", method: "GET", target: "/2015-03-31/functions", host: "bucket.s3.localhost:4566", want: "S3"},
		{name: "unsigned target", method: "POST", target: "/", header: []string{"X-Amz-Target", "Logs_20140328.DescribeLogGroups"}, body: "{}", want: missing},
		{name: "unsigned form", method: "POST", target: "/", header: []string{"Content-Type", formType}, body: "Action=GetCallerIdentity&Version=2011-06-15", want: missing},
		{name: "unsigned query", method: "GET", target: "/?Action=GetCallerIdentity&Version=2011-06-15", want: missing},
		{name: "a form of nobody, whole", method: "POST", target: "/", header: []string{"Content-Type", formType}, body: "Action=Nothing", want: "S3 Action=Nothing"},
		{name: "a service AWS has", service: "dynamodb", method: "POST", target: "/", header: []string{"X-Amz-Target", "DynamoDB_20120810.ListTables"}, want: `"__type":"NotImplemented","message":"The service dynamodb is not built in Countersign."`},
		{name: "a query service AWS has", service: "rds", method: "POST", target: "/", header: []string{"Content-Type", formType}, want: "<Message>The service rds is not built in Countersign.</Message>"},
	} {
		r := httptest.NewRequest(tt.method, tt.target, strings.NewReader(tt.body))
		if tt.service != "" {
			r.Header.Set("Authorization", authorization(tt.service))
		}
		if tt.host != "" {
			r.Host = tt.host
		}
		for i := 0; i+1 < len(tt.header); i += 2 {
			r.Header.Set(tt.header[i], tt.header[i+1])
		}
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		if !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s: got %d %s, want %s", tt.name, w.Code, w.Body, tt.want)
		}
	}
}

// TestRefusals is the byte-for-byte form of every protocol's no.
func TestRefusals(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	cfg := config()
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	cfg.Translate = func(_ *wire.Call, err error) *wire.Fault {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return &wire.Fault{Code: "ResourceNotFoundException", Message: "translated"}
		}
		return nil
	}
	srv := wire.NewServer(cfg, all...)
	var fail error
	wire.Handle(srv, lambda.Service, "GetFunction", func(context.Context, *wire.Call, *lambda.GetFunctionRequest) (*lambda.GetFunctionResponse, error) {
		if fail == nil {
			panic("secret")
		}
		return nil, fail
	})
	wire.Handle(srv, signer.Service, "GetSigningProfile", func(context.Context, *wire.Call, *signer.GetSigningProfileRequest) (*signer.GetSigningProfileResponse, error) {
		return nil, fail
	})
	wire.Handle(srv, logs.Service, "CreateLogGroup", func(context.Context, *wire.Call, *logs.CreateLogGroupRequest) (*wire.None, error) { return nil, fail })
	wire.Handle(srv, sts.Service, "AssumeRole", func(context.Context, *wire.Call, *sts.AssumeRoleRequest) (*sts.AssumeRoleResponse, error) {
		return nil, fail
	})
	const (
		fn      = "/2015-03-31/functions/f"
		profile = "/signing-profiles/p1"
	)
	target := []string{"X-Amz-Target", "Logs_20140328.CreateLogGroup"}
	form := []string{"Content-Type", formType}
	const assume = "Action=AssumeRole&Version=2011-06-15&RoleSessionName=s1&RoleArn=arn:aws:iam::000000000000:role/r1"
	const internal = "An internal error occurred. The server's log has it under this request's id."
	for _, tt := range []struct {
		name                    string
		fail                    error
		service, method, target string
		header                  []string
		body                    string
		status                  int
		errorType               string
		want                    string
	}{
		{"lambda, model spells Message and Type", &wire.Fault{Code: "ResourceNotFoundException", Message: "Function not found: f"},
			"lambda", "GET", fn, nil, "", 404, "ResourceNotFoundException", `{"Message":"Function not found: f","Type":"User"}`},
		{"lambda, model spells message", &wire.Fault{Code: "InvalidParameterValueException", Message: "no"},
			"lambda", "GET", fn, nil, "", 400, "InvalidParameterValueException", `{"Type":"User","message":"no"}`},
		{"lambda, without Type", &wire.Fault{Code: "InvalidParameterValueException", Message: "no", Members: map[string]any{"Type": nil}},
			"lambda", "GET", fn, nil, "", 400, "InvalidParameterValueException", `{"message":"no"}`},
		{"lambda, the service's fault", &wire.Fault{Code: "ServiceException", Message: "no"},
			"lambda", "GET", fn, nil, "", 500, "ServiceException", `{"Message":"no","Type":"Service"}`},
		{"lambda, not in the model", &wire.Fault{Code: "AccessDeniedException", Status: 403, Message: "no", Capital: true},
			"lambda", "GET", fn, nil, "", 403, "AccessDeniedException", `{"Message":"no"}`},
		{"lambda, null message", &wire.Fault{Code: "AccessDeniedException", Status: 403, Members: map[string]any{"Message": json.RawMessage("null")}},
			"lambda", "GET", fn, nil, "", 403, "AccessDeniedException", `{"Message":null}`},
		{"translated", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), "lambda", "GET", fn, nil, "", 404, "ResourceNotFoundException", `{"Message":"translated","Type":"User"}`},
		{"unclassified", errors.New("secret"), "lambda", "GET", fn, nil, "", 500, "ServiceException", `{"Message":"` + internal + `","Type":"Service"}`},
		{"panic", nil, "lambda", "GET", fn, nil, "", 500, "ServiceException", `{"Message":"` + internal + `","Type":"Service"}`},
		{"signer has code", &wire.Fault{Code: "ResourceNotFoundException", Message: "no"},
			"signer", "GET", profile, nil, "", 404, "ResourceNotFoundException", `{"code":"ResourceNotFoundException","message":"no"}`},
		{"signer, 402", &wire.Fault{Code: "ServiceLimitExceededException", Message: "no"},
			"signer", "GET", profile, nil, "", 402, "ServiceLimitExceededException", `{"code":"ServiceLimitExceededException","message":"no"}`},
		{"signer, unclassified", errors.New("secret"), "signer", "GET", profile, nil, "", 500, "InternalServiceErrorException",
			`{"code":"InternalServiceErrorException","message":"` + internal + `"}`},
		{"json", &wire.Fault{Code: "ResourceAlreadyExistsException", Message: "no"}, "logs", "POST", "/", target, `{"logGroupName":"g"}`, 400, "",
			`{"__type":"ResourceAlreadyExistsException","message":"no"}`},
		{"json validation", nil, "logs", "POST", "/", target, `{}`, 400, "",
			`{"__type":"InvalidParameterException","message":"1 validation error detected: Value null at 'logGroupName' failed to satisfy constraint: Member must not be null"}`},
		{"json, wrong type", nil, "logs", "POST", "/", target, `{"logGroupName":1}`, 400, "",
			`{"__type":"SerializationException","message":"NUMBER_VALUE can not be converted to a String"}`},
		{"json, unknown target", nil, "logs", "POST", "/", []string{"X-Amz-Target", "Logs_20140328.Nothing"}, `{}`, 400, "", `{"__type":"UnknownOperationException"}`},
		{"json, no target", nil, "logs", "POST", "/", nil, `{}`, 400, "", `{"__type":"UnknownOperationException"}`},
		{"query, the model's code for the shape", &wire.Fault{Code: "MalformedPolicyDocumentException", Message: "a<b"}, "sts", "POST", "/", form, assume, 400, "",
			"<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    <Code>MalformedPolicyDocument</Code>\n    <Message>a&lt;b</Message>\n  </Error>\n  <RequestId>" + testID + "</RequestId>\n</ErrorResponse>\n"},
		{"query, unclassified", errors.New("secret"), "sts", "POST", "/", form, assume, 500, "",
			"<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Receiver</Type>\n    <Code>InternalFailure</Code>\n    <Message>" + internal + "</Message>\n  </Error>\n  <RequestId>" + testID + "</RequestId>\n</ErrorResponse>\n"},
		{"query, unknown action", nil, "sts", "POST", "/", form, "Action=NoSuchAction&Version=2011-06-15", 400, "",
			"<ErrorResponse xmlns=\"http://webservices.amazon.com/AWSFault/2005-15-09\">\n  <Error>\n    <Type>Sender</Type>\n    <Code>InvalidAction</Code>\n    <Message>Could not find operation NoSuchAction for version 2011-06-15</Message>\n  </Error>\n  <RequestId>" + testID + "</RequestId>\n</ErrorResponse>\n"},
		{"query, no action", nil, "sts", "POST", "/", form, "", 302, "", ""},
		{"query, no form", nil, "sts", "POST", "/", nil, "Action=GetCallerIdentity&Version=2011-06-15", 302, "", ""},
		{"query, other path", nil, "sts", "GET", "/x", nil, "", 404, "", "<UnknownOperationException/>\n"},
	} {
		fail = tt.fail
		log.Reset()
		w := send(srv, tt.service, tt.method, tt.target, tt.body, tt.header...)
		if w.Code != tt.status || w.Body.String() != tt.want || w.Header().Get("x-amzn-ErrorType") != tt.errorType {
			t.Errorf("%s: got %d %q %s\nwant %d %q %s", tt.name, w.Code, w.Header().Get("x-amzn-ErrorType"), w.Body, tt.status, tt.errorType, tt.want)
		}
		if id := w.Header().Get("x-amzn-RequestId"); id != testID && tt.status != 302 {
			t.Errorf("%s: request id: got %q, want %q", tt.name, id, testID)
		}
		if tt.status == 500 && tt.fail != nil && tt.want != `{"Message":"no","Type":"Service"}` && !strings.Contains(log.String(), "secret") {
			t.Errorf("%s: the cause is not in the log: %s", tt.name, log.String())
		}
		if tt.name == "panic" && (!strings.Contains(log.String(), "stack") || !strings.Contains(log.String(), "secret")) {
			t.Errorf("panic: got %s in the log, want the value and the stack", log.String())
		}
	}
}

func TestActionVersions(t *testing.T) {
	t.Parallel()
	srv := wire.NewServer(config(), all...)
	for body, want := range map[string]string{
		"Action=A":                  "Could not find operation A for version NO_VERSION_SPECIFIED<",
		"Action=A&Version=":         "Could not find operation A for version <",
		"Action=A&Version=2011-1-1": "Could not find operation A for version 2011-1-1<",
		"Action=A&Action=GetCallerIdentity&Version=2011-06-15":                        "Could not find operation A for version 2011-06-15<",
		"Action=GetCallerIdentity&Version=2011-06-15&Action=A&Unknown.member.1=x&%41": "The operation sts:GetCallerIdentity is not built",
	} {
		if w := send(srv, "sts", "POST", "/", body, "Content-Type", formType); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: got %s, want %s", body, w.Body, want)
		}
	}
}

// TestOrder holds the order of checks: who asks, what it says, whether it may,
// whether it makes sense. A later check never speaks before an earlier one.
func TestOrder(t *testing.T) {
	t.Parallel()
	var steps []string
	cfg := config()
	ok := cfg.Authenticate
	cfg.Authenticate = func(r *http.Request, body []byte, svc *wire.Service) (wire.Caller, string, error) {
		steps = append(steps, "authenticate")
		return ok(r, body, svc)
	}
	var deny bool
	cfg.Authorize = func(_ context.Context, c *wire.Call, in any) error {
		steps = append(steps, "authorize")
		if c.Account != "000000000000" || c.Region != "us-east-1" || c.Operation.Name != "CreateAlias" {
			t.Errorf("authorize: got %+v", c)
		}
		if deny {
			return &wire.Fault{Code: "AccessDeniedException", Status: 403, Message: "denied"}
		}
		return nil
	}
	cfg.Done = func(_ *wire.Call, in any, f *wire.Fault, took time.Duration) {
		code := "ok"
		if f != nil {
			code = f.Code
		}
		steps = append(steps, "done "+code)
	}
	srv := wire.NewServer(cfg, all...)
	wire.Handle(srv, lambda.Service, "CreateAlias", func(_ context.Context, c *wire.Call, in *lambda.CreateAliasRequest) (*lambda.AliasConfiguration, error) {
		steps = append(steps, "handle")
		c.ResponseHeader.Set("X-Extra", "1")
		return &lambda.AliasConfiguration{Name: in.Name}, nil
	})
	const path = "/2015-03-31/functions/f/aliases"
	for _, tt := range []struct {
		name, service, body string
		deny                bool
		want                string
	}{
		{"no credentials, bad body", "", `{`, false, "authenticate,done MissingAuthenticationToken"},
		{"bad body, denied", "lambda", `{`, true, "authenticate,done SerializationException"},
		{"denied, invalid", "lambda", `{"Name":"1"}`, true, "authenticate,authorize,done AccessDeniedException"},
		{"invalid", "lambda", `{"Name":"1"}`, false, "authenticate,authorize,done ValidationException"},
		{"good", "lambda", `{"Name":"live","FunctionVersion":"1"}`, false, "authenticate,authorize,handle,done ok"},
	} {
		steps, deny = nil, tt.deny
		w := send(srv, tt.service, "POST", path, tt.body)
		if got := strings.Join(steps, ","); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
		if tt.name == "good" && (w.Code != 201 || w.Body.String() != `{"Name":"live"}` || w.Header().Get("X-Extra") != "1") {
			t.Errorf("got %d %s %v", w.Code, w.Body, w.Header())
		}
	}
}

// TestInvoke looks at the answers one call can have.
func TestInvoke(t *testing.T) {
	t.Parallel()
	srv := wire.NewServer(config(), all...)
	var out *lambda.InvocationResponse
	var in *lambda.InvocationRequest
	wire.Handle(srv, lambda.Service, "Invoke", func(_ context.Context, _ *wire.Call, i *lambda.InvocationRequest) (*lambda.InvocationResponse, error) {
		in = i
		return out, nil
	})
	const path = "/2015-03-31/functions/f/invocations"

	out = &lambda.InvocationResponse{StatusCode: new(int64(200)), ExecutedVersion: new("$LATEST"), FunctionError: new("Unhandled"), Payload: []byte(`{"a":1}`)}
	w := send(srv, "lambda", "POST", path+"?Qualifier=live", "\x00raw", "X-Amz-Invocation-Type", "RequestResponse", "X-Amz-Log-Type", "Tail")
	if *in.FunctionName != "f" || *in.Qualifier != "live" || *in.InvocationType != "RequestResponse" || *in.LogType != "Tail" || string(in.Payload) != "\x00raw" {
		t.Errorf("got %+v", in)
	}
	if w.Code != 200 || w.Body.String() != `{"a":1}` || w.Header().Get("X-Amz-Executed-Version") != "$LATEST" ||
		w.Header().Get("X-Amz-Function-Error") != "Unhandled" || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Content-Length") != "7" {
		t.Errorf("got %d %s %v", w.Code, w.Body, w.Header())
	}

	out = &lambda.InvocationResponse{StatusCode: new(int64(204))}
	w = send(srv, "lambda", "POST", path, "", "X-Amz-Invocation-Type", "DryRun")
	if w.Code != 204 || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "" || in.Payload != nil {
		t.Errorf("got %d %q %v, payload %q", w.Code, w.Body, w.Header(), in.Payload)
	}

	w = send(srv, "lambda", "POST", path, "", "X-Amz-Invocation-Type", "Sometimes")
	if want := `{"message":"1 validation error detected: Value 'Sometimes' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]"}`; w.Code != 400 || w.Body.String() != want {
		t.Errorf("got %d %s, want %s", w.Code, w.Body, want)
	}
}

// TestTokens fills in an idempotency token nobody sent.
func TestTokens(t *testing.T) {
	t.Parallel()
	srv := wire.NewServer(config(), all...)
	var got []string
	wire.Handle(srv, signer.Service, "StartSigningJob", func(_ context.Context, _ *wire.Call, in *signer.StartSigningJobRequest) (*signer.StartSigningJobResponse, error) {
		got = append(got, *in.ClientRequestToken)
		return nil, nil
	})
	const rest = `"source":{"s3":{"bucketName":"b","key":"k","version":"v"}},"destination":{"s3":{"bucketName":"b"}},"profileName":"p1"}`
	send(srv, "signer", "POST", "/signing-jobs", `{`+rest)
	send(srv, "signer", "POST", "/signing-jobs", `{"clientRequestToken":"mine",`+rest)
	if len(got) != 2 || got[0] != testID || got[1] != "mine" {
		t.Errorf("got %q, want %q and mine", got, testID)
	}
}

// TestAnswers looks at the other protocols' successes.
func TestAnswers(t *testing.T) {
	t.Parallel()
	srv := wire.NewServer(config(), all...)
	wire.Handle(srv, sts.Service, "GetCallerIdentity", func(_ context.Context, c *wire.Call, _ *sts.GetCallerIdentityRequest) (*sts.GetCallerIdentityResponse, error) {
		return &sts.GetCallerIdentityResponse{UserId: &c.Account, Account: &c.Account, Arn: &c.Caller.ARN}, nil
	})
	at := time.UnixMilli(1700000000123)
	wire.Handle(srv, signer.Service, "DescribeSigningJob", func(context.Context, *wire.Call, *signer.DescribeSigningJobRequest) (*signer.DescribeSigningJobResponse, error) {
		return &signer.DescribeSigningJobResponse{CreatedAt: &at, Status: new("Succeeded"), SigningParameters: map[string]string{}}, nil
	})
	wire.Handle(srv, signer.Service, "CancelSigningProfile", func(context.Context, *wire.Call, *signer.CancelSigningProfileRequest) (*wire.None, error) {
		return nil, nil
	})
	wire.Handle(srv, logs.Service, "CreateLogGroup", func(context.Context, *wire.Call, *logs.CreateLogGroupRequest) (*wire.None, error) {
		return nil, nil
	})
	w := send(srv, "sts", "POST", "/", "Action=GetCallerIdentity&Version=2011-06-15", "Content-Type", formType)
	if want := `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::000000000000:root</Arn><UserId>000000000000</UserId><Account>000000000000</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>` + testID + "</RequestId></ResponseMetadata></GetCallerIdentityResponse>\n"; w.Body.String() != want || w.Header().Get("Content-Type") != "text/xml" {
		t.Errorf("got %s %v, want %s", w.Body, w.Header(), want)
	}
	w = send(srv, "signer", "GET", "/signing-jobs/x", "")
	if want := `{"signingParameters":{},"createdAt":1700000000.123,"status":"Succeeded"}`; w.Body.String() != want {
		t.Errorf("got %s, want %s", w.Body, want)
	}
	if w = send(srv, "signer", "DELETE", "/signing-profiles/p1", ""); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("no output: got %d %q", w.Code, w.Body)
	}
	w = send(srv, "logs", "POST", "/", `{"logGroupName":"g"}`, "X-Amz-Target", "Logs_20140328.CreateLogGroup")
	if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "application/x-amz-json-1.1" {
		t.Errorf("no output: got %d %q %v", w.Code, w.Body, w.Header())
	}
}
