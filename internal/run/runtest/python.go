package runtest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"countersign/internal/run/frame"
	"countersign/internal/run/runtimes"
)

// pythonRuntime is one that is likely to be exact here; any python3 will do.
const pythonRuntime = "python3.11"

func python(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	for _, c := range []struct {
		name, handler string
		files         Files
		event         string
		want          string   // the payload; a regular expression when it starts with ^
		failed        bool     // FunctionError is set
		log           []string // each is in the log tail
	}{
		{name: "Hello", handler: "hello.lambda_handler", files: Files{"hello.py": `
import json
print('Loading function')
def lambda_handler(event, context):
    print("value1 = " + event['key1'])
    print("value2 = " + event['key2'])
    print("value3 = " + event['key3'])
    return event['key1']  # Echo back the first key value
`}, event: `{"key1":"value1","key2":"value2","key3":"value3"}`, want: `"value1"`,
			log: []string{"Loading function\n", "value1 = value1\nvalue2 = value2\nvalue3 = value3\nEND "}},
		{name: "Nothing", handler: "a.h", files: Files{"a.py": "def h(e, c): pass\n"}, event: `{}`, want: `null`},
		{name: "InFolder", handler: "src/deep/a.h", files: Files{"src/deep/a.py": "def h(e, c): return __name__\n"}, event: `{}`, want: `"src.deep.a"`},
		{name: "InPackage", handler: "pkg.sub.h", files: Files{"pkg/__init__.py": "", "pkg/sub.py": "from . import other\ndef h(e, c): return other.x\n", "pkg/other.py": "x = 7\n"}, event: `{}`, want: `7`},
		{name: "Unicode", handler: "a.h", files: Files{"a.py": "def h(e, c):\n    print(e)\n    return e + '\\U0001f512'\n"}, event: `"Grüße"`, want: `"Gr\u00fc\u00dfe\ud83d\udd12"`, log: []string{"Grüße\n"}},
		{name: "Decimal", handler: "a.h", files: Files{"a.py": "from decimal import Decimal\ndef h(e, c): return [Decimal('3'), Decimal('1.5')]\n"}, event: `{}`, want: `[3, 1.5]`},
		{name: "Raises", handler: "a.h", files: Files{"a.py": "def inner():\n    raise ValueError('no \"good\"')\ndef h(e, c):\n    inner()\n"}, event: `{}`, failed: true,
			want: `^\{"errorMessage": "no \\"good\\"", "errorType": "ValueError", "requestId": "[0-9a-f-]{36}", "stackTrace": \["  File \\".*/a.py\\", line 4, in h\\n    inner\(\)\\n", "  File \\".*/a.py\\", line 2, in inner\\n    raise ValueError\('no \\"good\\"'\)\\n"\]\}$`,
			log:  []string{"[ERROR] ValueError: no \"good\"\nTraceback (most recent call last):\n  File ", "REPORT "}},
		{name: "MissingModule", handler: "nope.h", files: Files{"a.py": ""}, event: `{}`, failed: true,
			want: `{"errorMessage": "Unable to import module 'nope': No module named 'nope'", "errorType": "Runtime.ImportModuleError", "requestId": "", "stackTrace": []}`,
			log:  []string{"[ERROR] Runtime.ImportModuleError: Unable to import module 'nope': No module named 'nope'\nTraceback (most recent call last):\n", "INIT_REPORT Init Duration: ", "Phase: init\tStatus: error\tError Type: Runtime.ImportModuleError\nSTART "}},
		{name: "MissingImport", handler: "a.h", files: Files{"a.py": "import not_installed\n"}, event: `{}`, failed: true,
			want: `{"errorMessage": "Unable to import module 'a': No module named 'not_installed'", "errorType": "Runtime.ImportModuleError", "requestId": "", "stackTrace": []}`},
		{name: "MissingHandler", handler: "a.nope", files: Files{"a.py": ""}, event: `{}`, failed: true,
			want: `{"errorMessage": "Handler 'nope' missing on module 'a'", "errorType": "Runtime.HandlerNotFound", "requestId": "", "stackTrace": []}`},
		{name: "MalformedHandler", handler: "nodot", files: Files{"a.py": ""}, event: `{}`, failed: true,
			want: `{"errorMessage": "Bad handler 'nodot': not enough values to unpack (expected 2, got 1)", "errorType": "Runtime.MalformedHandlerName", "requestId": "", "stackTrace": []}`},
		{name: "BuiltInModule", handler: "sys.exit", files: Files{"a.py": ""}, event: `{}`, failed: true,
			want: `{"errorMessage": "Cannot use built-in module sys as a handler module", "errorType": "Runtime.BuiltInModuleConflict", "requestId": "", "stackTrace": []}`},
		{name: "SyntaxError", handler: "a.h", files: Files{"a.py": "def h(e, c)\n    pass\n"}, event: `{}`, failed: true,
			want: `^\{"errorMessage": "Syntax error in module 'a': .*", "errorType": "Runtime.UserCodeSyntaxError", "requestId": "", "stackTrace": \["  File .*a.py\\" Line 1\\n    def h\(e, c\)\\n"\]\}$`},
		{name: "RaisesAtImport", handler: "a.h", files: Files{"a.py": "x = 1 / 0\n"}, event: `{}`, failed: true,
			want: `^\{"errorMessage": "division by zero", "errorType": "ZeroDivisionError", "requestId": "", "stackTrace": \["  File \\".*a.py\\", line 1, in <module>\\n    x = 1 / 0\\n"\]\}$`},
		{name: "Unserialisable", handler: "a.h", files: Files{"a.py": "def h(e, c): return {1, 2}\n"}, event: `{}`, failed: true,
			want: `^\{"errorMessage": "Unable to marshal response: Object of type set is not JSON serializable", "errorType": "Runtime.MarshalError", "requestId": "[0-9a-f-]{36}", "stackTrace": \[\]\}$`},
		{name: "ExitZero", handler: "a.h", files: Files{"a.py": "import sys\ndef h(e, c):\n    print('bye')\n    sys.exit(0)\n"}, event: `{}`, failed: true,
			want: `^\{"errorType":"Runtime.ExitError","errorMessage":"RequestId: [0-9a-f-]{36} Error: Runtime exited without providing a reason"\}$`,
			log:  []string{"bye\n", "Error: Runtime exited without providing a reason\nRuntime.ExitError\nEND ", "\tStatus: error\tError Type: Runtime.ExitError\n"}},
		{name: "ExitStatus", handler: "a.h", files: Files{"a.py": "import os\ndef h(e, c): os._exit(42)\n"}, event: `{}`, failed: true,
			want: `^\{"errorType":"Runtime.ExitError","errorMessage":"RequestId: [0-9a-f-]{36} Error: Runtime exited with error: exit status 42"\}$`},
		{name: "Killed", handler: "a.h", files: Files{"a.py": "import os\ndef h(e, c): os.kill(os.getpid(), 9)\n"}, event: `{}`, failed: true,
			want: `^\{"errorType":"Runtime.ExitError","errorMessage":"RequestId: [0-9a-f-]{36} Error: Runtime exited with error: signal: killed"\}$`},
		{name: "ExitAtImport", handler: "a.h", files: Files{"a.py": "import os\nos._exit(3)\n"}, event: `{}`, failed: true,
			want: `^\{"errorType":"Runtime.ExitError","errorMessage":"RequestId: [0-9a-f-]{36} Error: Runtime exited with error: exit status 3"\}$`,
			log:  []string{"Phase: init\tStatus: error\tError Type: Runtime.ExitError\n"}},
		{name: "TooLarge", handler: "a.h", files: Files{"a.py": fmt.Sprintf("def h(e, c): return 'x' * (%d - 1)\n", frame.MaxPayload)}, event: `{}`, failed: true,
			want: `{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}`},
		{name: "Logging", handler: "a.h", files: Files{"a.py": `
import logging
log = logging.getLogger()
log.setLevel(logging.INFO)
def h(e, c):
    print("first")
    log.info("hello %s", "you")
    logging.getLogger("other").warning("two\nlines")
    log.debug("silent")
    print("last")
    return c.aws_request_id
`}, event: `{}`, want: `^"[0-9a-f-]{36}"$`, log: []string{"first\n[INFO]\t20", "Z\t", "\thello you\n[WARNING]\t", "\ttwo\nlines\nlast\nEND "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := New(t, k).Deploy(pythonRuntime, c.handler, c.files)
			r := f.Invoke(c.event)
			if got := string(r.Payload); (r.FunctionError != "") != c.failed || !matches(got, c.want) {
				t.Errorf("got %q %s, want %s", r.FunctionError, clip(got), c.want)
			}
			if r.FunctionError != "" && r.FunctionError != "Unhandled" {
				t.Errorf("FunctionError: got %q, want Unhandled", r.FunctionError)
			}
			for _, want := range c.log {
				if !strings.Contains(string(r.LogTail), want) {
					t.Errorf("log: got %q, want it to hold %q", r.LogTail, want)
				}
			}
		})
	}
	for minor := 6; minor <= 14; minor++ {
		t.Run(fmt.Sprint("3.", minor), func(t *testing.T) { t.Parallel(); pythonVersion(t, k, minor) })
	}
	for _, c := range []struct {
		name string
		test func(*testing.T, Kind)
	}{
		{"Context", pythonContext},
		{"Environment", environment},
		{"Payloads", payloads},
		{"PartialLine", partialLine},
		{"TailIsCut", tailIsCut},
		{"LogOrder", logOrder},
	} {
		t.Run(c.name, func(t *testing.T) { t.Parallel(); c.test(t, k) })
	}
}

// pythonVersion: the bootstrap works on every version that is installed.
func pythonVersion(t *testing.T, k Kind, minor int) {
	id := fmt.Sprint("python3.", minor)
	table, err := runtimes.New(runtimes.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := table.Resolve(id); err != nil || !r.Exact() {
		t.Skipf("%s is not installed here", id)
	}
	f := New(t, k).Deploy(id, "a.h", Files{"a.py": `
import logging, sys, json, socket, datetime
def h(e, c):
    print("Grüße")
    logging.warning("careful")
    if e == "exit": exit(3)
    return {"version": "python%d.%d" % sys.version_info[:2], "e": e, "x": 1 / (e != "fail")}
`})
	r := f.Invoke(`"é"`)
	e := `é`
	if minor < 12 { // later ones answer in UTF-8
		e = `\u00e9`
	}
	if want := `{"version": "` + id + `", "e": "` + e + `", "x": 1.0}`; string(r.Payload) != want {
		t.Errorf("got %s, want %s\nlog: %s", r.Payload, want, r.LogTail)
	}
	if log := string(r.LogTail); !strings.Contains(log, "Grüße\n[WARNING]\t") || !strings.Contains(log, "\tcareful\n") {
		t.Errorf("log: got %q", log)
	}
	if r := f.Invoke(`"fail"`); !matches(string(r.Payload), `^\{"errorMessage": "division by zero", "errorType": "ZeroDivisionError", "requestId": "[0-9a-f-]{36}", "stackTrace": \["  File \\".*a.py\\", line 7, in h\\n    return \{`) {
		t.Errorf("got %s", r.Payload)
	}
	if r := f.Invoke(`"exit"`); !strings.Contains(string(r.Payload), "exit status 3") {
		t.Errorf("got %s, want exit() to be there", r.Payload)
	}
}

func matches(got, want string) bool {
	if strings.HasPrefix(want, "^") {
		return regexp.MustCompile(want).MatchString(got)
	}
	return got == want
}

// pythonContext: every field and method of the context object.
func pythonContext(t *testing.T, k Kind) {
	f := New(t, k).Deploy(pythonRuntime, "a.h", Files{"a.py": `
def h(e, c):
    cc = c.client_context
    return dict(
        function_name=c.function_name, function_version=c.function_version, invoked_function_arn=c.invoked_function_arn,
        memory_limit_in_mb=c.memory_limit_in_mb, aws_request_id=c.aws_request_id, log_group_name=c.log_group_name,
        log_stream_name=c.log_stream_name, remaining=c.get_remaining_time_in_millis(),
        identity=[c.identity.cognito_identity_id, c.identity.cognito_identity_pool_id],
        client=cc and [cc.custom, cc.env, cc.client.app_title, cc.client.installation_id], tenant=c.tenant_id,
        rep=repr(c).startswith("LambdaContext([aws_request_id="))
`})
	r := f.Request(`{}`)
	r.InvokedARN += ":live"
	r.ClientContext = "{\n\"custom\":{\"k\":\"v\"},\"env\":{\"locale\":\"de\"},\"client\":{\"app_title\":\"Ä\"}}"
	var got struct {
		Function_name, Function_version, Invoked_function_arn, Memory_limit_in_mb string
		Aws_request_id, Log_group_name, Log_stream_name                           string
		Remaining                                                                 int
		Identity, Client                                                          []any
		Tenant                                                                    any
		Rep                                                                       bool
	}
	res := f.Send(r)
	if err := json.Unmarshal(res.Payload, &got); err != nil {
		t.Fatalf("%v in %s", err, res.Payload)
	}
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"function_name", got.Function_name, f.Name},
		{"function_version", got.Function_version, "$LATEST"},
		{"invoked_function_arn", got.Invoked_function_arn, f.ARN + ":live"},
		{"memory_limit_in_mb", got.Memory_limit_in_mb, "256"},
		{"aws_request_id", got.Aws_request_id, r.ID},
		{"log_group_name", got.Log_group_name, f.LogGroup},
		{"log_stream_name", got.Log_stream_name, f.Streams()[0]},
		{"identity", fmt.Sprint(got.Identity), "[<nil> <nil>]"},
		{"client_context", fmt.Sprint(got.Client), "[map[k:v] map[locale:de] Ä <nil>]"},
		{"tenant_id", got.Tenant, nil},
		{"repr", got.Rep, true},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, c.got, c.want)
		}
	}
	if got.Remaining <= 20000 || got.Remaining > 30000 {
		t.Errorf("remaining time: got %d ms, want just under 30 s", got.Remaining)
	}
	if ok := regexp.MustCompile(`^20\d\d/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}$`).MatchString(got.Log_stream_name); !ok {
		t.Errorf("stream: got %q", got.Log_stream_name)
	}
	if none := f.Invoke(`{}`); !strings.Contains(string(none.Payload), `"client": null`) {
		t.Errorf("without a client context: got %s", none.Payload)
	}
}

// environment: what a function finds in its environment, and what not.
func environment(t *testing.T, k Kind) {
	p := New(t, k)
	f := p.Deploy(pythonRuntime, "a.h", Files{"a.py": "import os\ndef h(e, c): return dict(os.environ)\n"})
	f.Env = map[string]string{"MINE": "a=b\nc", "TZ": "Europe/Berlin", "AWS_REGION": "xx"}
	var got map[string]string
	r := f.Invoke(`{}`)
	if err := json.Unmarshal(r.Payload, &got); err != nil {
		t.Fatalf("%v in %s", err, r.Payload)
	}
	for name, want := range map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME": f.Name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"AWS_LAMBDA_LOG_GROUP_NAME": f.LogGroup, "AWS_LAMBDA_LOG_STREAM_NAME": f.Streams()[0],
		"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1", "_HANDLER": "a.h",
		"AWS_EXECUTION_ENV": "AWS_Lambda_" + pythonRuntime, "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
		"LANG": "en_US.UTF-8", "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		"MINE": "a=b\nc", "TZ": "Europe/Berlin", // the user may; but not AWS_REGION
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	if !strings.HasPrefix(got["AWS_LAMBDA_RUNTIME_API"], "127.0.0.1:") {
		t.Errorf("AWS_LAMBDA_RUNTIME_API: got %q", got["AWS_LAMBDA_RUNTIME_API"])
	}
	for _, name := range []string{"HOST_SECRET", "HOME", "USER", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		if v, ok := got[name]; ok {
			t.Errorf("%s: got %q, want it absent", name, v)
		}
	}
}

// payloads: bytes pass through untouched, whatever their size.
func payloads(t *testing.T, k Kind) {
	f := New(t, k).Deploy(pythonRuntime, "a.h", Files{"a.py": "def h(e, c): return e if isinstance(e, str) and len(e) < 99 else len(e)\n"})
	f.Want(`"x"`, `"x"`)
	f.Want(` "spaced" `, `"spaced"`)
	for _, n := range []int{1 << 10, 4 << 10, 64 << 10, 65 << 10, 1 << 20, 6 << 20} {
		f.Want(`"`+strings.Repeat("ü", n/2-1)+`"`, fmt.Sprint(n/2-1))
	}
	big := New(t, k).Deploy(pythonRuntime, "a.h", Files{"a.py": "def h(e, c): return 'y' * e\n"})
	for _, n := range []int{100, 5000, 70000, 1 << 20, frame.MaxPayload - 2} {
		big.Want(fmt.Sprint(n), `"`+strings.Repeat("y", n)+`"`)
	}
}

// partialLine: output without its line break goes with the next invocation's.
func partialLine(t *testing.T, k Kind) {
	f := New(t, k).Deploy(pythonRuntime, "a.h", Files{"a.py": "def h(e, c): print('part', e, end='')\n"})
	first, second := f.Invoke(`1`), f.Invoke(`2`)
	if strings.Contains(string(first.LogTail), "part") {
		t.Errorf("first log: got %q, want no partial line", first.LogTail)
	}
	third := f.Invoke(`"\n"`)
	if strings.Contains(string(second.LogTail), "part") || !strings.Contains(string(third.LogTail), "part 1part 2part \n") {
		t.Errorf("third log: got %q, want what the first two left", third.LogTail)
	}
}

// tailIsCut: 4 KB, and no half characters.
func tailIsCut(t *testing.T, k Kind) {
	f := New(t, k).Deploy(pythonRuntime, "a.h", Files{"a.py": "def h(e, c):\n    for i in range(400): print('ééééé' * 9)\n    print('x' * e)\n"})
	for pad := range 4 {
		tail := string(f.Invoke(fmt.Sprint(pad)).LogTail)
		if !utf8.ValidString(tail) || len(tail) < 4093 || len(tail) > 4096+2 {
			t.Errorf("pad %d: got %d bytes, valid %v; want 4 KB of text", pad, len(tail), utf8.ValidString(tail))
		}
		if !strings.HasSuffix(tail, "\n") || !strings.Contains(tail, "REPORT ") {
			t.Errorf("pad %d: the tail does not end with the report: %q", pad, tail[len(tail)-100:])
		}
	}
	r := f.Request(`0`)
	r.LogTail = false
	if tail := f.Send(r).LogTail; tail != nil {
		t.Errorf("not asked for: got %q", tail)
	}
}

// logOrder: everything printed before the answer is in that invocation's log,
// through either stream, in order.
func logOrder(t *testing.T, k Kind) {
	f := New(t, k).Deploy(pythonRuntime, "a.h", Files{"a.py": `
import os, sys
def h(e, c):
    for i in range(300):
        print(e, i)
        sys.stderr.write("%s err %s\n" % (e, i))
    os.system("echo %s from a child" % e)
    return e
`})
	for i := range 5 {
		f.Want(fmt.Sprint(i), fmt.Sprint(i))
	}
	log := f.Log()
	at := 0
	next := func(want string) {
		t.Helper()
		n := strings.Index(log[at:], want)
		if n != 0 {
			t.Fatalf("log at %d: got %q, want %q", at, clip(log[at:]), want)
		}
		at += len(want)
	}
	at = strings.Index(log, "\nSTART ") + 1
	for i := range 5 {
		n := strings.Index(log[at:], "\n") + 1
		if !strings.HasPrefix(log[at:], "START RequestId: ") {
			t.Fatalf("invocation %d: got %q, want START", i, clip(log[at:]))
		}
		at += n
		for j := range 300 {
			next(fmt.Sprintf("%d %d\n%d err %d\n", i, j, i, j))
		}
		next(fmt.Sprintf("%d from a child\nEND RequestId: ", i))
		at += strings.Index(log[at:], "REPORT ")
		at += strings.Index(log[at:], "\n") + 1
	}
	if log[at:] != "" {
		t.Errorf("after the last report: got %q", log[at:])
	}
}
