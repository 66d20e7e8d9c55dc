package wire_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
	"countersign/internal/wire/signer"
	"countersign/internal/wire/sts"
)

// answered checks what must hold of every answer: a client in this protocol
// can read it, and it is no failure of ours.
func answered(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code >= 500 && w.Code != http.StatusNotImplemented {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// FuzzRESTJSON feeds bodies to an operation with members of every kind. What
// is read must be JSON to encoding/json too, which had no part in reading it.
func FuzzRESTJSON(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"FunctionName":"f","Role":"arn:aws:iam::000000000000:role/r","Code":{"ZipFile":"UEs="},"Publish":true,"MemorySize":128}`,
		`{"Tags":{"a":"b"},"Layers":["x"],"VpcConfig":{"SubnetIds":[]}}`, `{"FunctionName":"\u00e9\ud83d\ude00\n"}`, `{"Timeout":1e3}`,
		`{"a":[{"b":null},1.5e-3,true,false,"\\"]}`, "{\"a\":\"\xff\"}", `{"Code":{"Code":{"Code":{}}}}`, `[`, `{"FunctionName":"x","FunctionName":null}`,
	} {
		f.Add([]byte(s))
	}
	var in *lambda.CreateFunctionRequest
	cfg := config()
	cfg.Authorize = func(_ context.Context, _ *wire.Call, v any) error {
		in = v.(*lambda.CreateFunctionRequest)
		return &wire.Fault{Code: "AccessDeniedException", Status: 403}
	}
	srv := wire.NewServer(cfg, all...)
	wire.Handle(srv, lambda.Service, "CreateFunction", ok[lambda.CreateFunctionRequest, lambda.FunctionConfiguration])
	f.Fuzz(func(t *testing.T, body []byte) {
		in = nil
		w := send(srv, "lambda", "POST", "/2015-03-31/functions", string(body))
		answered(t, w)
		if (w.Code == 403) != (in != nil) {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		if in != nil && len(body) > 0 && !json.Valid(body) {
			t.Errorf("accepted %q", body)
		}
		// Nothing of an answer to an unreadable body comes from the body.
		if w.Code == 400 && len(w.Body.String()) > 200 {
			t.Errorf("got %s", w.Body)
		}
	})
}

// FuzzQuery feeds forms.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::000000000000:role/r&RoleSessionName=n1",
		"Action=AssumeRole&Version=2011-06-15&Tags.member.1.Key=a&Tags.member.1.Value=b&PolicyArns=&TransitiveTagKeys.member.2=x",
		"Action=AssumeRole&Version=2011-06-15&Tags.member.0=a&Tags.member.-1=a&Tags.member.99999999999999999999=a&Tags.member.1=2",
		"Action=%zz", "Action", "&&&=&==", "Action=AssumeRole&Version=2011-06-15&" + strings.Repeat("a.", 70) + "b=1", "Version=2011-06-15&Action=AssumeRole&DurationSeconds=+1;a=b",
	} {
		f.Add(s)
	}
	srv := newValidating()
	f.Fuzz(func(t *testing.T, body string) {
		answered(t, send(srv, "sts", "POST", "/", body, "Content-Type", formType))
	})
}

// FuzzPath feeds paths and credentials to the router. Whatever it finds, a
// request without credentials gets no further than its refusal.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/2015-03-31/functions/f/invocations", "/2015-03-31/functions//", "/tags/arn%3Aaws%3Asigner%3A%2Fa", "/tags/arn:aws:signer:/a/b", "/tags/%", "/%2e%2e/",
		"/?Action=GetCallerIdentity&Version=2011-06-15", "/signing-jobs/with-payload", "//", "/_countersign/health", "/a?X-Amz-Credential=a/b/c/lambda/d", "*", "/a;b?c;d",
	} {
		f.Add("GET", s, "AWS4-HMAC-SHA256 Credential=AKID/20260928/us-east-1/lambda/aws4_request")
		f.Add("POST", s, "")
	}
	cfg := config()
	cfg.S3 = http.NotFoundHandler()
	srv := wire.NewServer(cfg, all...)
	wire.Handle(srv, signer.Service, "ListTagsForResource", func(_ context.Context, c *wire.Call, in *signer.ListTagsForResourceRequest) (*signer.ListTagsForResourceResponse, error) {
		if c.Request.Header.Get("Authorization") == "" && !c.Request.URL.Query().Has("X-Amz-Signature") {
			panic("reached without credentials")
		}
		if in.ResourceArn == nil || *in.ResourceArn == "" {
			panic("no label")
		}
		return nil, nil
	})
	wire.Handle(srv, sts.Service, "GetCallerIdentity", ok[sts.GetCallerIdentityRequest, sts.GetCallerIdentityResponse])
	f.Fuzz(func(t *testing.T, method, target, auth string) {
		r, err := http.NewRequest("GET", "http://localhost/", strings.NewReader("Action=a"))
		if err != nil {
			t.Fatal(err)
		}
		u, err := r.URL.Parse(target)
		if err != nil {
			return
		}
		r.Method, r.URL, r.RequestURI = method, u, target
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		answered(t, w)
	})
}
