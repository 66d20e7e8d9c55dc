package wire_test

import (
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
)

// endless is a body that never ends and counts what was taken of it.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.read += int64(len(p))
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestBodyLimits sends more than an operation takes.
func TestBodyLimits(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.MaxBody = 1000
	srv := wire.NewServer(cfg, all...)
	called := false
	wire.Handle(srv, lambda.Service, "Invoke", func(_ context.Context, _ *wire.Call, in *lambda.InvocationRequest) (*lambda.InvocationResponse, error) {
		called = true
		return &lambda.InvocationResponse{StatusCode: new(int64(200)), Payload: in.Payload}, nil
	})
	for _, tt := range []struct {
		name, path string
		size       int64 // -1: chunked, endless
		status     int
		want       string
	}{
		{"invoke at the limit", "/2015-03-31/functions/f/invocations", 6291456, 200, ""},
		{"invoke", "/2015-03-31/functions/f/invocations", 6291457, 413, `{"Type":"User","message":"Request must be smaller than 6291456 bytes for the InvokeFunction operation"}`},
		{"invoke, chunked", "/2015-03-31/functions/f/invocations", -1, 413, `{"Type":"User","message":"Request must be smaller than 6291456 bytes for the InvokeFunction operation"}`},
		{"create", "/2015-03-31/functions", 70167212, 413, `{"message":"Request must be smaller than 70167211 bytes for the CreateFunction operation"}`},
		{"the server's own", "/2015-03-31/functions/f/versions", 1001, 413, `{"message":"Request must be smaller than 1000 bytes for the PublishVersion operation"}`},
	} {
		called = false
		e := &endless{}
		var body io.Reader = e
		if tt.size >= 0 {
			body = io.LimitReader(e, tt.size)
		}
		r := httptest.NewRequest("POST", tt.path, body)
		r.ContentLength = tt.size
		r.Header.Set("Authorization", authorization("lambda"))
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		if w.Code != tt.status || tt.status != 200 && w.Body.String() != tt.want {
			t.Errorf("%s: got %d %.200s, want %d %s", tt.name, w.Code, w.Body, tt.status, tt.want)
		}
		if called != (tt.status == 200) {
			t.Errorf("%s: handler called: %t", tt.name, called)
		}
		if tt.size < 0 && e.read > 256<<20 {
			t.Errorf("%s: %d bytes were read", tt.name, e.read)
		}
	}
}

// TestHeld fills the memory all large bodies share.
func TestHeld(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.MaxHeld = 5 << 20
	srv := wire.NewServer(cfg, all...)
	const path, size = "/2015-03-31/functions/f/invocations", 3 << 20
	inside := 0
	wire.Handle(srv, lambda.Service, "Invoke", func(context.Context, *wire.Call, *lambda.InvocationRequest) (*lambda.InvocationResponse, error) {
		if inside++; inside > 1 {
			return nil, nil
		}
		// While the first is held, a second does not fit and a small one does.
		if w := send(srv, "lambda", "POST", path, strings.Repeat("x", size)); w.Code != 503 || w.Header().Get("x-amzn-ErrorType") != "ServiceUnavailable" {
			t.Errorf("second: got %d %s, want 503", w.Code, w.Body)
		}
		if w := send(srv, "lambda", "POST", path, "small"); w.Code != 200 {
			t.Errorf("small: got %d %s", w.Code, w.Body)
		}
		return nil, nil
	})
	for i := range 3 { // given back each time
		if w := send(srv, "lambda", "POST", path, strings.Repeat("x", size)); w.Code != 200 {
			t.Errorf("call %d: got %d %s", i, w.Code, w.Body)
		}
	}
}

// TestAnonymousBody holds that nobody without credentials makes us hold a body.
func TestAnonymousBody(t *testing.T) {
	t.Parallel()
	srv := wire.NewServer(config(), all...)
	for _, target := range []string{"/2015-03-31/functions", "/?Action=AssumeRole&Version=2011-06-15"} {
		e := &endless{}
		r := httptest.NewRequest("POST", target, e)
		r.ContentLength = -1
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		if target == "/2015-03-31/functions" && (w.Code != 403 || e.read != 0) {
			t.Errorf("%s: got %d after %d bytes, want 403 after none", target, w.Code, e.read)
		}
		if w.Code/100 != 4 || e.read > 256<<20 {
			t.Errorf("%s: got %d after %d bytes", target, w.Code, e.read)
		}
	}
}
