// Package wiretest asks a server for every operation its models know.
package wiretest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"countersign/internal/wire"
)

// NewRequest asks for op of svc with some text in every path label and no
// other input. It is not signed.
func NewRequest(svc *wire.Service, op *wire.Operation) *http.Request {
	switch svc.Protocol {
	case wire.JSON:
		r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
		r.Header.Set("X-Amz-Target", svc.TargetPrefix+"."+op.Name)
		return r
	case wire.Query, wire.EC2:
		r := httptest.NewRequest("POST", "/", strings.NewReader("Action="+op.Name+"&Version="+svc.Version))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return r
	}
	target := op.URI
	for {
		before, rest, ok := strings.Cut(target, "{")
		if !ok {
			return httptest.NewRequest(op.Method, target, nil)
		}
		_, after, _ := strings.Cut(rest, "}")
		target = before + url.PathEscape("arn:aws:x:us-east-1:000000000000:/a/b c:é") + after
	}
}

// EveryOperation holds the promise that an operation AWS has is built, or says
// that it is not, by name and with 501; never an empty success. h is what
// clients talk to, srv the server in it; sign makes h let a request in.
func EveryOperation(t *testing.T, h http.Handler, srv *wire.Server, svcs []*wire.Service, sign func(*http.Request, *wire.Service)) {
	t.Helper()
	lines := wire.Coverage(srv)
	for _, svc := range svcs {
		for _, op := range svc.Operations {
			if !slices.ContainsFunc(lines, func(c wire.Covered) bool { return c.Service == svc.Name && c.Operation == op.Name }) {
				t.Errorf("%s:%s is not in the coverage table", svc.Name, op.Name)
			}
			if srv.Built(svc, op.Name) {
				continue
			}
			r := NewRequest(svc, op)
			sign(r, svc)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			want := fmt.Sprintf("The operation %s:%s is not built in Countersign.", svc.Name, op.Name)
			if w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s:%s: got %d %s, want 501 and %q", svc.Name, op.Name, w.Code, w.Body, want)
			}
		}
	}
}
