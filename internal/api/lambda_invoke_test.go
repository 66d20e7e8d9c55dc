package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// work is a function that does as its event says.
const work = `import json, os, sys, time
def handler(event, context):
    do = event.get("do") if isinstance(event, dict) else None
    if do == "print":
        print(event["text"] * event["times"] + event.get("end", ""))
    elif do == "raise":
        raise ValueError("no " + event["what"])
    elif do == "exit":
        os._exit(event["code"])
    elif do == "sleep":
        time.sleep(event["seconds"])
    elif do == "nothing":
        return None
    elif do == "context":
        c = context.client_context
        return {
            "arn": context.invoked_function_arn, "version": context.function_version, "name": context.function_name,
            "memory": context.memory_limit_in_mb, "id": context.aws_request_id, "group": context.log_group_name,
            "custom": c.custom if c else None, "task": os.environ["LAMBDA_TASK_ROOT"], "v": os.environ["AWS_LAMBDA_FUNCTION_VERSION"],
            "mine": os.environ.get("MINE"), "region": os.environ["AWS_REGION"],
        }
    return {"event": event}
`

func (w *world) invoke(name, query string, body any, headers ...string) *reply {
	w.t.Helper()
	return w.do("POST", functions+"/"+name+"/invocations"+query, body, headers...)
}

// answered asserts a whole successful invocation.
func (r *reply) answered(t *testing.T, what, version, payload string) {
	t.Helper()
	if r.status != 200 || string(r.body) != payload || r.header.Get("X-Amz-Executed-Version") != version || r.header.Get("X-Amz-Function-Error") != "" {
		t.Errorf("%s: got %d %s from version %q, error %q; want %s from %q", what, r.status, cut(r.body), r.header.Get("X-Amz-Executed-Version"), r.header.Get("X-Amz-Function-Error"), payload, version)
	}
}

// Invoking right after creating works: the call waits.
func TestInvoke(t *testing.T) {
	t.Parallel()
	needsPython(t)
	w := newWorld(t)
	w.do("POST", functions, newFunction("fn", zipOf(t, "app.py", work), object{"MemorySize": 256, "Environment": object{"Variables": object{"MINE": "m"}}})).accepted(t, "create", 201)
	w.invoke("fn", "", object{"n": 1}).answered(t, "at once", "$LATEST", `{"event": {"n": 1}}`)
	w.settled("fn")
	for what, c := range map[string][2]string{
		"nothing":   {"", `{"event": {}}`},
		"spaces":    {" \n", `{"event": {}}`},
		"null":      {"null", `{"event": null}`},
		"a number":  {" 1 ", `{"event": 1}`},
		"a string":  {`"é"`, `{"event": "\u00e9"}`},
		"a list":    {`[1, {"a": []}]`, `{"event": [1, {"a": []}]}`},
		"no answer": {`{"do": "nothing"}`, `null`},
	} {
		out := w.invoke("fn", "", []byte(c[0]))
		out.answered(t, what, "$LATEST", c[1])
		if out.header.Get("X-Amz-Log-Result") != "" {
			t.Errorf("%s: got a log nobody asked for", what)
		}
	}

	// The qualifier that was used stays in the ARN; the version is what it means.
	w.do("POST", functions+"/fn/versions", object{}).accepted(t, "publish", 201)
	w.do("POST", functions+"/fn/aliases", object{"Name": "live", "FunctionVersion": "1"}).accepted(t, "alias", 201)
	for _, c := range []struct{ name, query, arn, version string }{
		{"fn", "", w.fn("fn"), "$LATEST"},
		{"fn", "?Qualifier=%24LATEST", w.fn("fn:$LATEST"), "$LATEST"},
		{"fn", "?Qualifier=1", w.fn("fn:1"), "1"},
		{"fn", "?Qualifier=live", w.fn("fn:live"), "1"},
		{"fn:live", "", w.fn("fn:live"), "1"},
		{escaped(w.fn("fn:live")), "?Qualifier=live", w.fn("fn:live"), "1"},
	} {
		out := w.invoke(c.name, c.query, object{"do": "context"}, "X-Amz-Client-Context", base64.StdEncoding.EncodeToString([]byte(`{"custom":{"k":"v"}}`)))
		if out.status != 200 || out.header.Get("X-Amz-Executed-Version") != c.version {
			t.Fatalf("%s: got %d %s from %s", c.arn, out.status, out.body, out.header.Get("X-Amz-Executed-Version"))
		}
		checkValues(t, "context of "+c.arn, out.m, object{"arn": c.arn, "version": c.version, "v": c.version, "name": "fn", "memory": "256", "group": "/aws/lambda/fn",
			"id": out.header.Get("X-Amzn-Requestid"), "custom": object{"k": "v"}, "mine": "m", "region": w.region})
	}
	checkValues(t, "no client context", w.invoke("fn", "", object{"do": "context"}).accepted(t, "context", 200), object{"custom": nil})
}

// Weights decide which version runs, and the header says which did.
func TestInvokeWeighted(t *testing.T) {
	t.Parallel()
	needsPython(t)
	w := newWorld(t)
	w.create("fn", nil)
	w.publish("fn")
	w.publish("fn")
	w.do("POST", functions+"/fn/aliases", object{"Name": "live", "FunctionVersion": "1", "RoutingConfig": object{"AdditionalVersionWeights": object{"2": 0.5}}}).accepted(t, "alias", 201)
	ran := map[string]int{}
	for range 64 { // one side is missed once in 2^63
		out := w.invoke("fn:live", "", object{})
		if out.status != 200 {
			t.Fatalf("got %d %s", out.status, out.body)
		}
		ran[out.header.Get("X-Amz-Executed-Version")]++
	}
	if ran["1"] == 0 || ran["2"] == 0 || len(ran) != 2 {
		t.Errorf("got calls by version %v, want both", ran)
	}
	w.do("PUT", functions+"/fn/aliases/live", object{"RoutingConfig": object{"AdditionalVersionWeights": object{"2": 1}}}).accepted(t, "all to 2", 200)
	for range 16 {
		w.invoke("fn:live", "", object{}).answered(t, "weight 1", "2", "{}")
	}
}

func TestInvokeTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("fn", nil)
	dry := w.invoke("fn", "", object{}, "X-Amz-Invocation-Type", "DryRun")
	if dry.status != 204 || len(dry.body) != 0 || dry.header.Get("X-Amz-Executed-Version") != "" {
		t.Errorf("DryRun: got %d %s %v", dry.status, dry.body, dry.header)
	}
	w.invoke("fn", "", object{}, "X-Amz-Invocation-Type", "Event").refused(t, "Event", notBuilt("Invoke with InvocationType Event"))
	w.invoke("fn", "", object{}, "X-Amz-Invocation-Type", "Later").refused(t, "Later",
		validation("Value 'Later' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]"))
	for _, kind := range []string{"RequestResponse", "DryRun"} {
		for name, missing := range map[string]string{"nobody": "nobody:$LATEST", "nobody:1": "nobody:1", "nobody:live": "nobody:live", "fn:7": "fn:7", "fn:dead": "fn:dead"} {
			out := w.invoke(name, "", object{}, "X-Amz-Invocation-Type", kind)
			if name == "nobody:live" || name == "nobody:1" { // a function that is not there, with a qualifier: only the code is known
				if out.status != 404 || out.header.Get("X-Amzn-ErrorType") != "ResourceNotFoundException" {
					t.Errorf("%s %s: got %d %s", kind, name, out.status, out.body)
				}
				continue
			}
			out.refused(t, kind+" "+name, notFound("Function not found: "+w.fn(missing)))
		}
	}
	for payload, at := range map[string]string{
		"{":                     "Unexpected end-of-input\n at [Source: ",
		"{\"a\": nope}":         "Unrecognized token 'nope': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')\n at [Source: ",
		"hello":                 "Unrecognized token 'hello': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')\n at [Source: ",
		"[1,\n]":                "Unexpected character (']' (code 93)): expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')\n at [Source: ",
		"\x00\x01":              "Unexpected character (",
		"{} {}":                 "Unexpected character ('{' (code 123))",
		"nul}":                  "Unrecognized token 'nul': ",
		"\"a\nb\"":              "Illegal unquoted character ((CTRL-CHAR, code 10)): has to be escaped using backslash to be included in string value\n at [Source: ",
		strings.Repeat("x", 99): "Unrecognized token '" + strings.Repeat("x", 64) + "': ",
	} {
		out := w.invoke("fn", "", []byte(payload))
		message, _ := out.m["message"].(string)
		if out.status != 400 || out.header.Get("X-Amzn-ErrorType") != "InvalidRequestContentException" || out.m["Type"] != "User" || out.header.Get("X-Amz-Executed-Version") != "" ||
			!strings.HasPrefix(message, "Could not parse request body into json: Could not parse payload into json: "+at) || !regexp.MustCompile(`; line: \d+, column: \d+\]$`).MatchString(message) {
			t.Errorf("payload %q: got %d %s", payload, out.status, out.body)
		}
	}
	if out := w.invoke("fn", "", bytes.Repeat([]byte("1"), 6291456+1)); out.status != 413 || out.header.Get("X-Amzn-ErrorType") != "RequestTooLargeException" {
		t.Errorf("a payload over 6 MB: got %d %s %s", out.status, out.header.Get("X-Amzn-ErrorType"), cut(out.body))
	}
}

// A function that fails is a success of the call: 200, with the header that
// says so and an error document.
func TestFunctionErrors(t *testing.T) {
	t.Parallel()
	needsPython(t)
	w := newWorld(t)
	w.do("POST", functions, newFunction("fn", zipOf(t, "app.py", work), object{"Timeout": 1})).accepted(t, "create", 201)
	w.do("POST", functions, newFunction("lost", zipOf(t, "other.py", work), nil)).accepted(t, "create", 201)
	for what, c := range map[string]struct {
		name  string
		event object
		want  object // of the document; ID is the request's
	}{
		"raised":     {"fn", object{"do": "raise", "what": "way"}, object{"errorType": "ValueError", "errorMessage": "no way", "requestId": "ID"}},
		"exit 0":     {"fn", object{"do": "exit", "code": 0}, object{"errorType": "Runtime.ExitError", "errorMessage": "RequestId: ID Error: Runtime exited without providing a reason"}},
		"exit 127":   {"fn", object{"do": "exit", "code": 127}, object{"errorType": "Runtime.ExitError", "errorMessage": "RequestId: ID Error: Runtime exited with error: exit status 127"}},
		"timeout":    {"fn", object{"do": "sleep", "seconds": 9}, object{"errorType": "Sandbox.Timedout", "errorMessage": "RequestId: ID Error: Task timed out after 1.00 seconds"}},
		"not a file": {"lost", object{}, object{"errorType": "Runtime.ImportModuleError", "errorMessage": "Unable to import module 'app': No module named 'app'", "requestId": ""}},
	} {
		out := w.invoke(c.name, "", c.event)
		if out.status != 200 || out.header.Get("X-Amz-Function-Error") != "Unhandled" || out.header.Get("X-Amz-Executed-Version") != "$LATEST" {
			t.Errorf("%s: got %d %s, error %q of version %q", what, out.status, out.body, out.header.Get("X-Amz-Function-Error"), out.header.Get("X-Amz-Executed-Version"))
		}
		for k, v := range c.want {
			c.want[k] = strings.ReplaceAll(v.(string), "ID", out.header.Get("X-Amzn-Requestid"))
		}
		checkValues(t, what, out.m, c.want)
		if what == "raised" {
			checkMembers(t, what, out.m, "errorMessage", "errorType", "requestId", "stackTrace")
		}
		// It is over for the environment only.
		if c.name == "fn" {
			w.invoke("fn", "", object{"n": 1}).answered(t, "after "+what, "$LATEST", `{"event": {"n": 1}}`)
		}
	}
}

// The last 4 KB of the log come back with the answer, to who asks.
func TestLogTail(t *testing.T) {
	t.Parallel()
	needsPython(t)
	w := newWorld(t)
	w.do("POST", functions, newFunction("fn", zipOf(t, "app.py", work), nil)).accepted(t, "create", 201)
	tail := func(event object) (string, string) {
		t.Helper()
		out := w.invoke("fn", "", event, "X-Amz-Log-Type", "Tail")
		b, err := base64.StdEncoding.DecodeString(out.header.Get("X-Amz-Log-Result"))
		if err != nil || out.status != 200 || len(b) == 0 {
			t.Fatalf("got %d, log %q, %v", out.status, out.header.Get("X-Amz-Log-Result"), err)
		}
		return string(b), out.header.Get("X-Amzn-Requestid")
	}
	for _, cold := range []bool{true, false} {
		log, id := tail(object{"do": "print", "text": "héllo", "times": 1})
		form := `^START RequestId: ` + id + ` Version: \$LATEST\nhéllo\nEND RequestId: ` + id + `\nREPORT RequestId: ` + id +
			`\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\t`
		if cold {
			form += `Init Duration: \d+\.\d\d ms\t`
		}
		if !regexp.MustCompile(form + `\n$`).MatchString(log) {
			t.Errorf("cold %v: got log\n%q, want\n%s", cold, log, form)
		}
	}
	// "é" has two bytes: with one byte more behind it, the cut falls elsewhere.
	var whole, split int
	for n := 0; n < 64 && (whole == 0 || split == 0); n++ {
		log, _ := tail(object{"do": "print", "text": "é", "times": 5000, "end": strings.Repeat("x", n%2)})
		text, _, ok := strings.Cut(log, "\nEND RequestId: ")
		if !ok || !utf8.ValidString(log) || strings.Contains(text, "START") {
			t.Errorf("got log %q", cut([]byte(log)))
		}
		rest, broken := strings.CutPrefix(text, "\uFFFD")
		if strings.Trim(rest, "éx") != "" {
			t.Errorf("got %q before the end", cut([]byte(text)))
		}
		want := 4096
		if broken {
			want += len("\uFFFD") - 1 // it stands for the one byte that is left
			split++
		} else {
			whole++
		}
		if len(log) != want {
			t.Errorf("got %d bytes of log, want %d (cut in a character: %v)", len(log), want, broken)
		}
	}
	if whole == 0 || split == 0 {
		t.Errorf("got %d cuts between characters and %d in one, want both", whole, split)
	}

	// What a function printed is in its log group, too.
	if err := shared.p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(object{"logGroupName": "/aws/lambda/fn"})
	if err != nil {
		t.Fatal(err)
	}
	events := w.json("logs", "Logs_20140328.FilterLogEvents", b)
	var messages []string
	for _, e := range events["events"].([]any) {
		messages = append(messages, e.(map[string]any)["message"].(string))
	}
	if !slices.Contains(messages, "héllo\n") && !slices.Contains(messages, "héllo") {
		t.Errorf("got log events %.300q", fmt.Sprint(messages))
	}
}
