package runtest

import (
	"encoding/json"
	"strings"
	"testing"
)

const nodeRuntime = "nodejs20.x"

func node(t *testing.T, k Kind) {
	needs(t, nodeRuntime)
	for _, c := range []struct {
		name, handler string
		files         Files
		want          string
		failed        bool
		log           []string
	}{
		{name: "Async", handler: "index.handler", files: Files{"index.js": "exports.handler = async (event) => event.key1\n"}, want: `"value1"`},
		{name: "Callback", handler: "index.handler", files: Files{"index.js": "exports.handler = (e, c, done) => done(null, {ok: 1})\n"}, want: `{"ok":1}`},
		{name: "CallbackWaitsForTheLoop", handler: "index.handler", files: Files{"index.js": "exports.handler = (e, c, done) => { setTimeout(() => console.log('late'), 50); done(null, 'x') }\n"}, want: `"x"`, log: []string{"\tINFO\tlate\nEND "}},
		{name: "CallbackDoesNotWait", handler: "index.handler", files: Files{"index.js": "exports.handler = (e, c, done) => { c.callbackWaitsForEmptyEventLoop = false; setTimeout(() => {}, 60000); done(null, 'x') }\n"}, want: `"x"`},
		{name: "CallbackError", handler: "index.handler", files: Files{"index.js": "exports.handler = (e, c, done) => done(new TypeError('bad'))\n"}, failed: true, want: `^\{"errorType":"TypeError","errorMessage":"bad","trace":\["TypeError: bad","    at .*index.js:1:`},
		{name: "CallbackText", handler: "index.handler", files: Files{"index.js": "exports.handler = (e, c, done) => done('text')\n"}, failed: true, want: `{"errorType":"string","errorMessage":"text","trace":[]}`},
		{name: "NeverAnswers", handler: "index.handler", files: Files{"index.js": "exports.handler = () => {}\n"}, want: `null`},
		{name: "PendingForever", handler: "index.handler", files: Files{"index.js": "exports.handler = () => new Promise(() => {})\n"}, want: `null`},
		{name: "Undefined", handler: "index.handler", files: Files{"index.js": "exports.handler = async () => {}\n"}, want: `null`},
		{name: "Succeed", handler: "index.handler", files: Files{"index.js": "exports.handler = (e, c) => { setTimeout(() => c.succeed([1]), 5) }\n"}, want: `[1]`},
		{name: "Fail", handler: "index.handler", files: Files{"index.js": "exports.handler = (e, c) => c.fail(new Error('f'))\n"}, failed: true, want: `^\{"errorType":"Error","errorMessage":"f","trace":`},
		{name: "Throws", handler: "index.handler", files: Files{"index.js": "exports.handler = async () => { throw new RangeError('boom') }\n"}, failed: true,
			want: `^\{"errorType":"RangeError","errorMessage":"boom","trace":\["RangeError: boom",`, log: []string{"\tERROR\tInvoke Error \t{\"errorType\":\"RangeError\",\"errorMessage\":\"boom\",\"stack\":[\"RangeError: boom\","}},
		{name: "ThrowsAtOnce", handler: "index.handler", files: Files{"index.js": "exports.handler = () => { throw new Error('now') }\n"}, failed: true, want: `^\{"errorType":"Error","errorMessage":"now",`},
		{name: "ModuleMjs", handler: "index.handler", files: Files{"index.mjs": "const x = await Promise.resolve(3)\nexport const handler = async () => x\n"}, want: `3`},
		{name: "ModulePackage", handler: "src/index.handler", files: Files{"package.json": `{"type":"module"}`, "src/index.js": "import {x} from './x.js'\nexport const handler = async () => x\n", "src/x.js": "export const x = 4\n"}, want: `4`},
		{name: "CommonCjs", handler: "index.handler", files: Files{"package.json": `{"type":"module"}`, "index.cjs": "exports.handler = async () => 5\n"}, want: `5`},
		{name: "Nested", handler: "index.a.b", files: Files{"index.js": "exports.a = {b: async () => 6}\n"}, want: `6`},
		{name: "NodeModules", handler: "index.handler", files: Files{"index.js": "exports.handler = async () => require('dep').v\n", "node_modules/dep/index.js": "exports.v = 7\n"}, want: `7`},
		{name: "Unicode", handler: "index.handler", files: Files{"index.js": "exports.handler = async () => { console.log('Grüße'); return '🔒' }\n"}, want: `"🔒"`, log: []string{"\tINFO\tGrüße\n"}},
		{name: "Console", handler: "index.handler", files: Files{"index.js": "exports.handler = async () => { console.log('a %d', 1, {b: 2}); console.warn('w'); console.error('e'); console.debug('d'); process.stdout.write('raw\\n') }\n"}, want: `null`,
			log: []string{"\tINFO\ta 1 { b: 2 }\n", "\tWARN\tw\n", "\tERROR\te\n", "\tDEBUG\td\nraw\nEND "}},
		{name: "MissingModule", handler: "nope.handler", files: Files{"index.js": ""}, failed: true, want: `^\{"errorType":"Runtime.ImportModuleError","errorMessage":"Error: Cannot find module 'nope'\\nRequire stack:\\n- .*","trace":\[`},
		{name: "MissingImport", handler: "index.handler", files: Files{"index.js": "require('left-pad')\n"}, failed: true, want: `^\{"errorType":"Runtime.ImportModuleError","errorMessage":"Error: Cannot find module 'left-pad'\\nRequire stack:`},
		{name: "MissingHandler", handler: "index.nope", files: Files{"index.js": ""}, failed: true, want: `^\{"errorType":"Runtime.HandlerNotFound","errorMessage":"index.nope is undefined or not exported","trace":\[`},
		{name: "MalformedHandler", handler: "nodot", files: Files{"index.js": ""}, failed: true, want: `^\{"errorType":"Runtime.MalformedHandlerName","errorMessage":"Bad handler","trace":\[`},
		{name: "SyntaxError", handler: "index.handler", files: Files{"index.js": "exports.handler = (\n"}, failed: true, want: `^\{"errorType":"Runtime.UserCodeSyntaxError","errorMessage":"SyntaxError: [^"]*","trace":\[`},
		{name: "ThrowsAtLoad", handler: "index.handler", files: Files{"index.js": "throw new Error('at load')\n"}, failed: true, want: `^\{"errorType":"Error","errorMessage":"at load","trace":\[`, log: []string{"\tundefined\tERROR\tUncaught Exception \t{", "INIT_REPORT "}},
		{name: "UnhandledRejection", handler: "index.handler", files: Files{"index.js": "exports.handler = (e, c, done) => { Promise.reject(new Error('lost')) ; setTimeout(done, 1000) }\n"}, failed: true,
			want: `^\{"errorType":"Runtime.UnhandledPromiseRejection","errorMessage":"Error: lost","trace":\[.*"reason":\{"errorType":"Error","errorMessage":"lost","stack":\[.*"promise":\{\}`, log: []string{"\tERROR\tUnhandled Promise Rejection \t{"}},
		{name: "UncaughtException", handler: "index.handler", files: Files{"index.js": "exports.handler = (e, c, done) => { setTimeout(() => { throw new Error('later') }, 1) ; setTimeout(done, 5000) }\n"}, failed: true,
			want: `^\{"errorType":"Error","errorMessage":"later","trace":`, log: []string{"\tERROR\tUncaught Exception \t{"}},
		{name: "Exit", handler: "index.handler", files: Files{"index.js": "exports.handler = async () => process.exit(7)\n"}, failed: true, want: `^\{"errorType":"Runtime.ExitError","errorMessage":"RequestId: [0-9a-f-]{36} Error: Runtime exited with error: exit status 7"\}$`},
		{name: "Unserialisable", handler: "index.handler", files: Files{"index.js": "exports.handler = async () => { const a = {}; a.a = a; return a }\n"}, failed: true, want: `^\{"errorType":"Error","errorMessage":"Unable to stringify response body","trace":`},
		{name: "Streaming", handler: "index.handler", files: Files{"index.js": "exports.handler = awslambda.streamifyResponse(async (e, out) => { out.write('{\"a\":'); out.write('1}'); out.end() })\n"}, want: `{"a":1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := New(t, k).Deploy(nodeRuntime, c.handler, c.files)
			f.TimeoutSeconds = 20
			r := f.Invoke(`{"key1":"value1"}`)
			if got := string(r.Payload); (r.FunctionError != "") != c.failed || !matches(got, c.want) {
				t.Errorf("got %q %s, want %s\nlog: %s", r.FunctionError, clip(got), c.want, r.LogTail)
			}
			for _, want := range c.log {
				if !strings.Contains(string(r.LogTail), want) {
					t.Errorf("log: got %q, want it to hold %q", r.LogTail, want)
				}
			}
			// The environment, or the next, takes another event.
			if r := f.Invoke(`{"key1":"value1"}`); (r.FunctionError != "") != c.failed || !matches(string(r.Payload), c.want) {
				t.Errorf("again: got %q %s, want the same", r.FunctionError, clip(string(r.Payload)))
			}
		})
	}
	t.Run("Context", func(t *testing.T) {
		t.Parallel()
		f := New(t, k).Deploy(nodeRuntime, "index.handler", Files{"index.js": "exports.handler = async (e, c) => ({...c, left: c.getRemainingTimeInMillis()})\n"})
		r := f.Request(`{}`)
		r.InvokedARN += ":live"
		r.ClientContext = `{"custom":{"k":"v"}}`
		var got map[string]any
		res := f.Send(r)
		if err := json.Unmarshal(res.Payload, &got); err != nil {
			t.Fatalf("%v in %s", err, res.Payload)
		}
		for name, want := range map[string]any{
			"functionName": f.Name, "functionVersion": "$LATEST", "memoryLimitInMB": "256", "logGroupName": f.LogGroup,
			"logStreamName": f.Streams()[0], "invokedFunctionArn": f.ARN + ":live", "awsRequestId": r.ID, "callbackWaitsForEmptyEventLoop": true,
		} {
			if got[name] != want {
				t.Errorf("%s: got %v, want %v", name, got[name], want)
			}
		}
		if left, ok := got["left"].(float64); !ok || left <= 20000 || left > 30000 {
			t.Errorf("remaining time: got %v, want just under 30 s", got["left"])
		}
		if cc, _ := json.Marshal(got["clientContext"]); string(cc) != r.ClientContext {
			t.Errorf("clientContext: got %s, want %s", cc, r.ClientContext)
		}
	})
	t.Run("Payloads", func(t *testing.T) {
		t.Parallel()
		f := New(t, k).Deploy(nodeRuntime, "index.handler", Files{"index.js": "exports.handler = async (e) => e\n"})
		for _, n := range []int{1, 1 << 12, 1 << 16, 1 << 20, 6 << 20} {
			s := `"` + strings.Repeat("q", n-2+2) + `"`
			f.Want(s, s)
		}
	})
}
