package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"countersign/internal/api"
	"countersign/internal/wire"
	"countersign/internal/wire/wiretest"
)

// TestEveryOperation holds the promise that what AWS has is built or says that
// it is not, and that nothing is anonymous, on the platform as it is served.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	newWorld(t)
	wiretest.EveryOperation(t, shared.p, shared.p.Server(), api.Services(), func(r *http.Request, svc *wire.Service) {
		r.RequestURI = "" // it is a client's request until the server has it
		if err := sign(r, readAll(t, r), svc.SigningName, "eu-central-1"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestNothingIsAnonymous(t *testing.T) {
	t.Parallel()
	newWorld(t)
	codes := map[string]bool{"MissingAuthenticationToken": true, "MissingAuthenticationTokenException": true}
	asked := 0
	for _, svc := range api.Services() {
		for _, op := range svc.Operations {
			r := wiretest.NewRequest(svc, op)
			out := send(t, r)
			code := out.header.Get("X-Amzn-ErrorType")
			for _, m := range []string{"__type", "code"} {
				if s, ok := out.m[m].(string); ok && code == "" {
					code = s
				}
			}
			if _, rest, ok := strings.Cut(string(out.body), "<Code>"); ok {
				code, _, _ = strings.Cut(rest, "</Code>")
			}
			if out.status != 403 && out.status != 400 || !codes[code] {
				t.Errorf("%s:%s without a signature: got %d %s %s", svc.Name, op.Name, out.status, code, cut(out.body))
			}
			asked++
		}
	}
	if asked < 150 {
		t.Errorf("got %d operations, want all of four services", asked)
	}
	for _, path := range []string{"/", "/bucket", "/bucket/key"} {
		r, err := http.NewRequest("GET", "http://example.com"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if out := send(t, r); out.status != 403 {
			t.Errorf("S3 %s without a signature: got %d %s", path, out.status, out.body)
		}
	}
}

// A name is read in every form AWS reads.
func TestNameForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("fn", nil)
	w.create("function", nil)
	w.do("POST", functions+"/fn/versions", object{}).accepted(t, "publish", 201)
	w.do("POST", functions+"/fn/aliases", object{"Name": "live", "FunctionVersion": "1"}).accepted(t, "alias", 201)
	elsewhere, another := "us-east-1", "111111111111"
	long := strings.Repeat("n", 65)
	for _, c := range []struct {
		name, qualifier string
		arn, version    string // of the answer, or
		want            fault
	}{
		{name: "fn", arn: w.fn("fn"), version: "$LATEST"},
		{name: "fn:$LATEST", arn: w.fn("fn:$LATEST"), version: "$LATEST"},
		{name: "fn:1", arn: w.fn("fn:1"), version: "1"},
		{name: "fn:live", arn: w.fn("fn:live"), version: "1"},
		{name: "fn", qualifier: "live", arn: w.fn("fn:live"), version: "1"},
		{name: "fn:1", qualifier: "1", arn: w.fn("fn:1"), version: "1"},
		{name: w.fn("fn:1"), qualifier: "1", arn: w.fn("fn:1"), version: "1"}, // Terraform asks so
		{name: "function:fn", arn: w.fn("fn"), version: "$LATEST"},
		{name: testAccount + ":function:fn", arn: w.fn("fn"), version: "$LATEST"},
		{name: testAccount + ":fn:live", arn: w.fn("fn:live"), version: "1"},
		{name: w.region + ":" + testAccount + ":function:fn", arn: w.fn("fn"), version: "$LATEST"},
		{name: w.fn("fn"), arn: w.fn("fn"), version: "$LATEST"},
		{name: w.fn("fn:live"), arn: w.fn("fn:live"), version: "1"},
		{name: "function", arn: w.fn("function"), version: "$LATEST"},
		{name: w.arn("function"), arn: w.fn("function"), version: "$LATEST"},
		{name: w.fn("function"), arn: w.fn("function"), version: "$LATEST"},

		{name: "fn:1", qualifier: "live", want: invalidParameter("The derived qualifier from the function name does not match the specified qualifier.")},
		{name: w.fn("fn:$LATEST"), qualifier: "1", want: invalidParameter("The derived qualifier from the function name does not match the specified qualifier.")},
		{name: "nobody", want: notFound("Function not found: " + w.fn("nobody"))},
		{name: "fn:2", want: notFound("Function not found: " + w.fn("fn:2"))},
		{name: "fn", qualifier: "dead", want: notFound("Function not found: " + w.fn("fn:dead"))},
		{name: "fn:99999999999999999999", want: notFound("Function not found: " + w.fn("fn:99999999999999999999"))},
		{name: long, want: notFound("Function not found: " + w.fn(long))},
		{name: strings.Replace(w.fn("fn"), w.region, elsewhere, 1), want: notFound("Functions from '" + elsewhere + "' are not reachable in this region ('" + w.region + "')")},
		{name: strings.Replace(w.fn("fn"), testAccount, another, 1), want: fault{403, "AccessDeniedException", map[string]any{}}},
		{name: another + ":function:fn", want: fault{403, "AccessDeniedException", map[string]any{}}},
	} {
		path := functions + "/" + escaped(c.name)
		query := ""
		if c.qualifier != "" {
			query = "?Qualifier=" + url.QueryEscape(c.qualifier)
		}
		for _, end := range []string{"", "/configuration"} {
			what := "GET " + c.name + query + end
			out := w.do("GET", path+end+query, nil)
			if c.want.status != 0 {
				out.refused(t, what, c.want)
				continue
			}
			m := out.accepted(t, what, 200)
			if end == "" {
				m = m["Configuration"].(map[string]any)
			}
			checkValues(t, what, m, object{"FunctionArn": c.arn, "Version": c.version})
		}
	}
	for _, bad := range []string{"fn!", "a b", "arn:aws:s3:::fn", "fn:a:b", "é"} {
		out := w.do("GET", functions+"/"+escaped(bad), nil)
		if out.status != 400 || out.header.Get("X-Amzn-ErrorType") != "ValidationException" || out.m["Type"] != nil ||
			!strings.HasPrefix(out.m["message"].(string), "1 validation error detected: Value '"+bad+"' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:") {
			t.Errorf("name %q: got %d %s", bad, out.status, out.body)
		}
	}
}

// How long a name may be depends on what is done with it.
func TestNameLengths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n64, n65 := strings.Repeat("n", 64), strings.Repeat("n", 65)
	w.do("POST", functions, newFunction(n64, helloZip(t), nil)).accepted(t, "64 characters", 201)
	w.do("POST", functions, newFunction(n65, helloZip(t), nil)).refused(t, "65 characters",
		invalidParameter("1 validation error detected: Value '"+n65+"' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64"))
	// An ARN may have 140 characters, so that a name in it that has 64 always fits.
	a140 := w.fn(strings.Repeat("n", 140-len(w.fn(""))))
	w.do("POST", functions, newFunction(a140, helloZip(t), nil)).refused(t, "140 characters",
		invalidParameter("1 validation error detected: Value '"+a140+"' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64"))
	a141 := a140 + "n"
	w.do("POST", functions, newFunction(a141, helloZip(t), nil)).refused(t, "141 characters",
		validation("Value '"+a141+"' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 140"))
	for _, verb := range []string{"GET", "DELETE"} {
		w.do(verb, functions+"/"+n65, nil).refused(t, verb, notFound("Function not found: "+w.fn(n65)))
	}
	w.do("POST", functions+"/"+n65+"/invocations", nil).refused(t, "invoke", notFound("Function not found: "+w.fn(n65+":$LATEST")))
	w.do("POST", functions, newFunction("a.b", helloZip(t), nil)).refused(t, "a dot", validation("Value 'a.b' at 'functionName' failed to satisfy constraint: "+
		`Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?`))
}
