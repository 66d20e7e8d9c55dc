package wire_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
)

// sink is a ResponseWriter that keeps nothing.
type sink struct {
	h http.Header
	n int
}

func (s *sink) Header() http.Header { return s.h }
func (s *sink) WriteHeader(int)     {}
func (s *sink) Write(b []byte) (int, error) {
	s.n += len(b)
	return len(b), nil
}

// BenchmarkInvoke is the warm path's share of this package: route, read,
// decode, validate, encode, with a handler that gives the payload back.
func BenchmarkInvoke(b *testing.B) {
	cfg := config()
	cfg.NewID = nil // a real one: it is part of the path
	srv := wire.NewServer(cfg, all...)
	wire.Handle(srv, lambda.Service, "Invoke", func(_ context.Context, _ *wire.Call, in *lambda.InvocationRequest) (*lambda.InvocationResponse, error) {
		return &lambda.InvocationResponse{StatusCode: new(int64(200)), ExecutedVersion: new("$LATEST"), Payload: in.Payload}, nil
	})
	body := []byte(`{"key1":"value1","key2":"value2","key3":"value3"}`)
	rd := bytes.NewReader(body)
	r := httptest.NewRequest("POST", "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Ahello/invocations?Qualifier=live", nil)
	r.Header.Set("Authorization", authorization("lambda"))
	r.Header.Set("X-Amz-Invocation-Type", "RequestResponse")
	r.ContentLength = int64(len(body))
	r.Body = io.NopCloser(rd)
	w := &sink{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		rd.Reset(body)
		clear(w.h)
		srv.ServeHTTP(w, r)
	}
	if w.n < b.N*len(body) {
		b.Fatalf("got %d bytes of %d answers", w.n, b.N)
	}
}

// BenchmarkCreateFunction decodes and validates 10 MB of zip.
func BenchmarkCreateFunction(b *testing.B) {
	srv := newValidating()
	zip := base64.StdEncoding.EncodeToString(make([]byte, 10<<20))
	body := []byte(`{"FunctionName":"f","Runtime":"python3.13","Role":"arn:aws:iam::000000000000:role/r","Handler":"app.handler","Code":{"ZipFile":"` + zip +
		`"},"Environment":{"Variables":{"A1":"b","C1":"d"}},"Tags":{"team":"core"},"VpcConfig":{"SubnetIds":["subnet-1"],"SecurityGroupIds":["sg-1"]}}`)
	rd := bytes.NewReader(body)
	r := httptest.NewRequest("POST", "/2015-03-31/functions", nil)
	r.Header.Set("Authorization", authorization("lambda"))
	r.ContentLength = int64(len(body))
	r.Body = io.NopCloser(rd)
	w := &sink{h: http.Header{}}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		rd.Reset(body)
		clear(w.h)
		srv.ServeHTTP(w, r)
	}
}

// BenchmarkListFunctions encodes a page of fifty.
func BenchmarkListFunctions(b *testing.B) {
	srv := wire.NewServer(config(), all...)
	out := &lambda.ListFunctionsResponse{}
	for range 50 {
		out.Functions = append(out.Functions, &lambda.FunctionConfiguration{
			FunctionName: new("hello"), FunctionArn: new("arn:aws:lambda:us-east-1:000000000000:function:hello"), Runtime: new("python3.13"),
			Role: new("arn:aws:iam::000000000000:role/r"), Handler: new("app.handler"), CodeSize: new(int64(1234)), Timeout: new(int64(3)), MemorySize: new(int64(128)),
			LastModified: new("2026-09-28T09:25:49.569+0000"), CodeSha256: new(strings.Repeat("x", 44)), Version: new("$LATEST"),
			Environment: &lambda.EnvironmentResponse{Variables: map[string]string{"A": "b", "C": "d"}}, Architectures: []string{"x86_64"},
		})
	}
	wire.Handle(srv, lambda.Service, "ListFunctions", func(context.Context, *wire.Call, *lambda.ListFunctionsRequest) (*lambda.ListFunctionsResponse, error) {
		return out, nil
	})
	r := httptest.NewRequest("GET", "/2015-03-31/functions/", nil)
	r.Header.Set("Authorization", authorization("lambda"))
	w := &sink{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		srv.ServeHTTP(w, r)
	}
}
