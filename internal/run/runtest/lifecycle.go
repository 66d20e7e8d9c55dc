package runtest

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/run"
)

// Run is the suite.
func Run(t *testing.T, k Kind) {
	// Functions must not find this; see environment.
	if err := os.Setenv("HOST_SECRET", "do not leak"); err != nil {
		t.Fatal(err)
	}
	t.Run("Python", func(t *testing.T) { t.Parallel(); python(t, k) })
	t.Run("Node", func(t *testing.T) { t.Parallel(); node(t, k) })
	t.Run("Provided", func(t *testing.T) { t.Parallel(); provided(t, k) })
	for _, c := range []struct {
		name string
		test func(*testing.T, Kind)
	}{
		{"LogLines", logLines},
		{"StopsAtDeadline", stopsAtDeadline},
		{"InitTakesTooLong", initTakesTooLong},
		{"RecoversFromCrash", recoversFromCrash},
		{"OneAtATime", oneAtATime},
		{"ThrottlesAtTheCap", throttlesAtTheCap},
		{"EvictsIdle", evictsIdle},
		{"RetiresOnUpdate", retiresOnUpdate},
		{"RetireBusy", retireBusy},
		{"IdleIsReaped", idleIsReaped},
		{"NeedsItsAdmission", needsItsAdmission},
		{"CallerHangsUp", callerHangsUp},
		{"CloseDrains", closeDrains},
		{"Substitute", substitute},
		{"BusyAfterAnswer", busyAfterAnswer},
		{"DiesWhileIdle", diesWhileIdle},
	} {
		t.Run(c.name, func(t *testing.T) { t.Parallel(); c.test(t, k) })
	}
}

// counter returns how often its environment was used, and sleeps on request.
var counter = Files{"a.py": `
import time
n = 0
def h(e, c):
    global n
    n += 1
    print("inside", n)
    time.sleep(e)
    return n
`}

func logLines(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	f := New(t, k).Deploy(pythonRuntime, "a.h", Files{"a.py": "print('at start')\ndef h(e, c): print('hi')\n"})
	f.RuntimeVersionARN = "arn:aws:lambda:eu-west-1::runtime:00"
	cold, warm := f.Request(`{}`), f.Request(`{}`)
	c, w := f.Send(cold), f.Send(warm)
	number := `\d+\.\d\d ms`
	want := `^INIT_START Runtime Version: python:3\.\d+\.\d+\tRuntime Version ARN: arn:aws:lambda:eu-west-1::runtime:00\n(NOTICE .*\n)?` +
		`at start\n` +
		`START RequestId: ` + cold.ID + ` Version: \$LATEST\nhi\nEND RequestId: ` + cold.ID + `\n` +
		`REPORT RequestId: ` + cold.ID + `\tDuration: ` + number + `\tBilled Duration: \d+ ms\tMemory Size: 256 MB\tMax Memory Used: \d+ MB\tInit Duration: ` + number + `\t\n` +
		`START RequestId: ` + warm.ID + ` Version: \$LATEST\nhi\nEND RequestId: ` + warm.ID + `\n` +
		`REPORT RequestId: ` + warm.ID + `\tDuration: ` + number + `\tBilled Duration: \d+ ms\tMemory Size: 256 MB\tMax Memory Used: \d+ MB\t\n$`
	if got := f.Log(); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("log: got %q, want %s", got, want)
	}
	if !strings.HasPrefix(string(c.LogTail), "at start\nSTART ") || !strings.HasPrefix(string(w.LogTail), "START ") {
		t.Errorf("tails: got %q and %q, want them without INIT_START", c.LogTail, w.LogTail)
	}
	if !c.Cold || c.InitDuration <= 0 || w.Cold || w.InitDuration != 0 {
		t.Errorf("got cold %v %v, then %v %v; want cold once", c.Cold, c.InitDuration, w.Cold, w.InitDuration)
	}
	if c.BilledMS < c.InitDuration.Milliseconds() || w.BilledMS < 1 || c.PeakMB < 1 || w.ExecutedVersion != "$LATEST" {
		t.Errorf("got %+v and %+v", c, w)
	}
}

func stopsAtDeadline(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	p := New(t, k)
	f := p.Deploy(pythonRuntime, "a.h", counter)
	f.TimeoutSeconds = 1
	f.Want(`0`, `1`)
	r := f.Request(`60`)
	res := f.Send(r)
	want := `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ` + r.ID + ` Error: Task timed out after 1.00 seconds"}`
	if string(res.Payload) != want || res.FunctionError != "Unhandled" {
		t.Errorf("got %s %s, want %s", res.FunctionError, res.Payload, want)
	}
	if !strings.Contains(string(res.LogTail), "\tDuration: 1000.00 ms\tBilled Duration: 1000 ms\t") || !strings.HasSuffix(string(res.LogTail), "\tStatus: timeout\n") {
		t.Errorf("log: got %q", res.LogTail)
	}
	if next := f.Want(`0`, `1`); !next.Cold { // its globals are gone
		t.Error("the next invocation was not cold")
	}
	f.Want(`0`, `2`)
}

func initTakesTooLong(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	p := New(t, k, func(c *run.Config) { c.InitLimit = time.Second })
	f := p.Deploy(pythonRuntime, "a.h", Files{"a.py": "import time\ntime.sleep(60)\n"})
	f.TimeoutSeconds = 1
	r := f.Request(`0`)
	res := f.Send(r)
	if want := `Task timed out after 1.00 seconds`; !strings.Contains(string(res.Payload), want) {
		t.Errorf("got %s, want %s", res.Payload, want)
	}
	log := f.Log()
	if !strings.Contains(log, "INIT_REPORT Init Duration: 1000.00 ms\tPhase: init\tStatus: timeout\n") ||
		!strings.Contains(log, "INIT_REPORT Init Duration: 1000.00 ms\tPhase: invoke\tStatus: timeout\n") {
		t.Errorf("log: got %q, want both tries", log)
	}
	// A slow start that fits the invocation's own time works.
	slow := p.Deploy(pythonRuntime, "a.h", Files{"a.py": "import time\ntime.sleep(1.5)\ndef h(e, c): return e\n"})
	slow.Want(`5`, `5`)
}

func recoversFromCrash(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	f := New(t, k).Deploy(pythonRuntime, "a.h", Files{"a.py": "import os\nn = 0\ndef h(e, c):\n    global n\n    n += 1\n    if e: os._exit(e)\n    return n\n"})
	f.Want(`0`, `1`)
	f.Want(`0`, `2`)
	if r := f.Invoke(`1`); !strings.Contains(string(r.Payload), "exit status 1") {
		t.Errorf("got %s, want an exit error", r.Payload)
	}
	f.Want(`0`, `1`)
	if n := len(f.Streams()); n != 2 {
		t.Errorf("got %d log streams, want one for each environment: 2", n)
	}
}

// oneAtATime: concurrent events go to different environments, later ones to
// warm ones.
func oneAtATime(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	f := New(t, k).Deploy(pythonRuntime, "a.h", Files{"a.py": `
import time, os
inside = 0
def h(e, c):
    global inside
    inside += 1
    time.sleep(e)
    seen = inside
    inside -= 1
    return [seen, c.log_stream_name]
`})
	streams := make(map[string]int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			r := f.Invoke(`1`)
			if !strings.HasPrefix(string(r.Payload), "[1, ") {
				t.Errorf("got %s, want one invocation in an environment", r.Payload)
			}
			mu.Lock()
			streams[string(r.Payload)]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(streams) < 2 {
		t.Errorf("four events of a second each: got %d environments, want more than one", len(streams))
	}
	for range 10 {
		if r := f.Invoke(`0`); r.Cold || streams[string(r.Payload)] == 0 {
			t.Errorf("afterwards: got cold %v in %s, want a warm environment", r.Cold, r.Payload)
		}
	}
}

func throttlesAtTheCap(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	f := New(t, k, func(c *run.Config) { c.MaxEnvironments, c.QueueLimit = 1, 50*time.Millisecond }).Deploy(pythonRuntime, "a.h", counter)
	f.Want(`0`, `1`)
	busy := make(chan *run.Result)
	go func() { busy <- f.Invoke(`2`) }()
	poll(t, "the second to be inside", func() bool { return strings.Contains(f.Log(), "inside 2\n") })
	if _, err := f.p.Pool.Invoke(t.Context(), f.Adm, f.Function, f.Request(`0`)); countersign.KindOf(err) != countersign.Throttled || err.Error() != "Rate Exceeded." {
		t.Errorf("got %v, want a throttle", err)
	}
	if r := <-busy; r.FunctionError != "" {
		t.Errorf("the busy one: got %s", r.Payload)
	}
}

func evictsIdle(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	p := New(t, k, func(c *run.Config) { c.MaxEnvironments = 1 })
	a, b := p.Deploy(pythonRuntime, "a.h", counter), p.Deploy(pythonRuntime, "a.h", counter)
	a.Want(`0`, `1`)
	b.Want(`0`, `1`)
	a.Want(`0`, `1`)
}

func retiresOnUpdate(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	f := New(t, k).Deploy(pythonRuntime, "a.h", Files{"a.py": "def h(e, c): return 'old'\n"})
	f.Want(`0`, `"old"`)
	f.Update(Files{"a.py": "def h(e, c): return 'new'\n"})
	if r := f.Want(`0`, `"new"`); !r.Cold {
		t.Error("new code in an old environment")
	}
	f.Revision = "another configuration, same code"
	if r := f.Want(`0`, `"new"`); !r.Cold {
		t.Error("a new configuration in an old environment")
	}
	f.p.Pool.Retire(f.ARN)
	if r := f.Want(`0`, `"new"`); !r.Cold {
		t.Error("a retired environment was used")
	}
}

// retireBusy: an invocation under way outlives the update, its environment
// does not.
func retireBusy(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	f := New(t, k).Deploy(pythonRuntime, "a.h", counter)
	f.Want(`0`, `1`)
	old := *f
	busy := make(chan *run.Result)
	go func() { busy <- old.Invoke(`1`) }()
	poll(t, "the second to be inside", func() bool { return strings.Contains(f.Log(), "inside 2\n") })
	f.Update(counter)
	f.Revision = "next"
	f.Want(`0`, `1`)
	if r := <-busy; string(r.Payload) != "2" {
		t.Errorf("the busy one: got %s, want 2", r.Payload)
	}
	if r := old.Invoke(`0`); !r.Cold {
		t.Error("an environment of the old revision was kept")
	}
}

func idleIsReaped(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	f := New(t, k, func(c *run.Config) { c.IdleAfter = 50 * time.Millisecond }).Deploy(pythonRuntime, "a.h", counter)
	f.Want(`0`, `1`)
	poll(t, "no environments", func() bool { return f.p.Pool.Environments() == 0 })
	if r := f.Want(`0`, `1`); !r.Cold {
		t.Error("got a warm environment after all were reaped")
	}
}

func needsItsAdmission(t *testing.T, k Kind) {
	p := New(t, k)
	f, other := p.Deploy(pythonRuntime, "a.h", counter), p.Deploy(pythonRuntime, "a.h", Files{"b.py": ""})
	for name, adm := range map[string]admit.Admission{"none": {}, "another artifact's": other.Adm} {
		if r, err := p.Pool.Invoke(t.Context(), adm, f.Function, f.Request(`0`)); err == nil {
			t.Errorf("admission %s: got %s, want an error", name, r.Payload)
		}
	}
	if n := p.Pool.Environments(); n != 0 {
		t.Errorf("got %d environments without an admission", n)
	}
}

// callerHangsUp: nobody waits any more, and the environment is there for the
// next caller.
func callerHangsUp(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	f := New(t, k).Deploy(pythonRuntime, "a.h", counter)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.p.Pool.Invoke(ctx, f.Adm, f.Function, f.Request(`0`)); err == nil {
		t.Error("got an answer, want the context's error")
	}
	f.Want(`0`, `1`)
}

func closeDrains(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	f := New(t, k).Deploy(pythonRuntime, "a.h", counter)
	f.Want(`0`, `1`)
	busy := make(chan *run.Result)
	go func() { busy <- f.Invoke(`1`) }()
	poll(t, "the second to be inside", func() bool { return strings.Contains(f.Log(), "inside 2\n") })
	go f.p.Pool.Close(context.Background())
	if r := <-busy; string(r.Payload) != "2" {
		t.Errorf("got %s, want the answer of an invocation that was under way", r.Payload)
	}
	poll(t, "no environments", func() bool { return f.p.Pool.Environments() == 0 })
	if _, err := f.p.Pool.Invoke(t.Context(), f.Adm, f.Function, f.Request(`0`)); countersign.KindOf(err) != countersign.Throttled {
		t.Errorf("after Close: got %v, want a refusal", err)
	}
}

func substitute(t *testing.T, k Kind) {
	needs(t, "nodejs12.x")
	p := New(t, k)
	f := p.Deploy("nodejs12.x", "a.h", Files{"a.js": "exports.h = async () => process.env.AWS_EXECUTION_ENV\n"})
	f.Want(`0`, `"AWS_Lambda_nodejs12.x"`)
	if log := f.Log(); !regexp.MustCompile(`\nNOTICE runtime nodejs12\.x is not installed on this machine: running on Node\.js \d+\.\d+\.\d+\n`).MatchString(log) {
		t.Errorf("log: got %q, want a notice", log)
	}
	g := p.Deploy("java21", "a.h", Files{"a": ""})
	if _, err := p.Pool.Invoke(t.Context(), g.Adm, g.Function, g.Request(`0`)); countersign.KindOf(err) != countersign.NotBuilt {
		t.Errorf("java21: got %v, want NotBuilt", err)
	}
}

// busyAfterAnswer: a runtime that answers and is then busy with itself does
// not hold up the next event.
func busyAfterAnswer(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	f := New(t, k).Deploy("provided.al2023", "x", Files{"bootstrap": slowRuntime})
	f.Want(`1`, `1`)
	began := time.Now()
	if r := f.Want(`2`, `2`); !r.Cold {
		t.Error("the busy environment was used")
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the next event took %v, want it not to wait 10 s", took)
	}
	if log := f.Log(); strings.Count(log, "\nSTART ") != 2 || strings.Count(log, "REPORT ") != 2 {
		t.Errorf("log: got %q, want two invocations", log)
	}
}

// slowRuntime takes ten seconds after each answer.
const slowRuntime = `#!/bin/sh
exec ` + "`ls /usr/bin/python3* /usr/local/bin/python3* 2>/dev/null | head -1`" + ` -c '
import http.client, os, time
c = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    c.request("GET", "/2018-06-01/runtime/invocation/next")
    r = c.getresponse()
    body = r.read()
    c.request("POST", "/2018-06-01/runtime/invocation/" + r.headers["Lambda-Runtime-Aws-Request-Id"] + "/response", body)
    c.getresponse().read()
    time.sleep(10)
'
`

// diesWhileIdle: an environment that ends between events is not noticed by
// anyone.
func diesWhileIdle(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	f := New(t, k).Deploy(pythonRuntime, "a.h", Files{"a.py": `
import os, threading
def h(e, c):
    threading.Timer(e, lambda: os._exit(1)).start()
    return e
`})
	f.Want(`0.05`, `0.05`)
	poll(t, "its end", func() bool { return f.p.Pool.Environments() == 0 })
	if r := f.Want(`5`, `5`); !r.Cold {
		t.Error("got a warm environment from a dead one")
	}
}

// poll waits until ok, for a generous while.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatal("waited in vain for " + what)
}

// provided: a Go function with aws-lambda-go, and bootstraps that are not
// right.
func provided(t *testing.T, k Kind) {
	for _, id := range []string{"provided", "provided.al2", "provided.al2023"} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			f := New(t, k).Deploy(id, "anything", echo(t))
			f.Want(`{"a":[1,2,"ü"]}`, `{"a":[1,2,"ü"]}`)
			f.Want(`"`+strings.Repeat("z", 1<<20)+`"`, `"`+strings.Repeat("z", 1<<20)+`"`)
			if r := f.Invoke(`{"fail":"no luck"}`); string(r.Payload) != `{"errorMessage":"no luck","errorType":"errorString"}` || r.FunctionError != "Unhandled" {
				t.Errorf("got %s %s, want the error", r.FunctionError, r.Payload)
			}
			if r := f.Invoke(`{"panic":"help"}`); !strings.HasPrefix(string(r.Payload), `{"errorMessage":"help","errorType":"string","stackTrace":[`) {
				t.Errorf("got %s, want the panic", r.Payload)
			}
			if r := f.Want(`1`, `1`); !r.Cold {
				t.Error("a runtime that panicked was used again")
			}
		})
	}
	t.Run("go1.x", func(t *testing.T) {
		t.Parallel()
		files := Files{"dir/bootstrap": echo(t)["bootstrap"]}
		New(t, k).Deploy("go1.x", "dir/bootstrap", files).Want(`1`, `1`)
	})
	for _, c := range []struct{ name, want string }{
		{"NoBootstrap", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"},
		{"NotExecutable", "fork/exec %s: permission denied"},
		{"NotAProgram", "fork/exec %s: exec format error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := map[string]Files{
				"NoBootstrap":   {"boot": "x"},
				"NotExecutable": {"bootstrap/x": "x"}, // a folder
				"NotAProgram":   {"bootstrap": "\x00\x01"},
			}[c.name]
			r := New(t, k).Deploy("provided.al2023", "x", files).Invoke(`1`)
			want := c.want
			if strings.Contains(want, "%s") {
				want = regexp.QuoteMeta(fmt.Sprintf(want, "PATH"))
				want = strings.Replace(want, "PATH", "[^ ]*/bootstrap", 1)
			} else {
				want = regexp.QuoteMeta(want)
			}
			want = `^\{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: [0-9a-f-]{36} Error: ` + want + `"\}$`
			if !matches(string(r.Payload), want) || r.FunctionError != "Unhandled" {
				t.Errorf("got %s %s, want %s", r.FunctionError, r.Payload, want)
			}
			if !strings.Contains(string(r.LogTail), "\nRuntime.InvalidEntrypoint\nEND ") {
				t.Errorf("log: got %q", r.LogTail)
			}
		})
	}
}
