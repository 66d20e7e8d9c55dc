package bench

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"countersign/internal/run/runtimes"
)

var event = []byte(`{"key1":"value1","key2":"value2","key3":"value3"}`)

// invocation signs an Invoke once. AWS's signatures live for minutes, and the
// platform verifies each request afresh: repeating one measures the platform
// and not the signer of the client.
func (s *server) invocation(b *testing.B, name string, extra http.Header) (url string, h http.Header) {
	b.Helper()
	url = s.url + "/2015-03-31/functions/" + name + "/invocations"
	r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(event))
	check(b, err)
	for k, v := range extra {
		r.Header[k] = v
	}
	sum := sha256.Sum256(event)
	check(b, v4.NewSigner().SignHTTP(b.Context(), s.creds, r, hex.EncodeToString(sum[:]), "lambda", region, time.Now()))
	return url, r.Header
}

// BenchmarkInvokeWarm is a signed request, through gVisor, to its answer, and
// beside it the same handler behind a bare loop.
func BenchmarkInvokeWarm(b *testing.B) {
	heavy(b)
	z, program := echoBundle(b)
	s := serve(b, b.TempDir(), "gvisor")
	s.deploy(b, "echo", types.RuntimeProvidedal2023, "bootstrap", z)
	bare := bareLoop(b, program, 1)
	b.Run("1", func(b *testing.B) { alone(b, s, bare) })
	b.Run("32", func(b *testing.B) { crowd(b, s, bareLoop(b, program, 32), proxied(b), 32) })
}

// caller returns what sends one event and checks the answer.
func caller(b *testing.B, c *http.Client, url string, h http.Header) func() {
	return func() {
		_, got, err := send(b.Context(), c, http.MethodPost, url, h, event)
		if err != nil || !bytes.Equal(got, event) {
			b.Errorf("got %s %v, want the event back", got, err)
		}
	}
}

// alone is one client. It stays with a peer for some calls at a time, so that
// each is measured as somebody who calls only that one finds it.
func alone(b *testing.B, s *server, bare string) {
	const stay = 50
	url, h := s.invocation(b, "echo", nil)
	ours, peer := caller(b, s.http, url, h), caller(b, keepAlive(b), bare, nil)
	for range 200 {
		ours()
		peer()
	}
	var o, p []time.Duration
	of := func(call func(), times *[]time.Duration) func() {
		return func() {
			for range stay {
				began := time.Now()
				call()
				*times = append(*times, time.Since(began))
			}
		}
	}
	turns(b, 10, of(ours, &o), of(peer, &p))
	slices.Sort(o)
	slices.Sort(p)
	b.ReportMetric(micros(median(o)), "p50-µs")
	b.ReportMetric(micros(o[len(o)*99/100]), "p99-µs")
	b.ReportMetric(1/mean(o).Seconds(), "calls/s")
	b.ReportMetric(micros(median(p)), "bare-p50-µs")
	b.ReportMetric(ratio(o, p), "x-bare")
}

func mean(ds []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range ds {
		sum += d
	}
	return sum / time.Duration(len(ds))
}

// crowd is so many clients at once.
func crowd(b *testing.B, s *server, bare, proxy string, clients int) {
	const each = 25
	url, h := s.invocation(b, "echo", nil)
	of := func(call func()) func() {
		return func() {
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					for range each {
						call()
					}
				})
			}
			all.Wait()
		}
	}
	fs := []func(){
		of(caller(b, s.http, url, h)),
		of(caller(b, keepAlive(b), bare, nil)),
		of(caller(b, keepAlive(b), proxy, nil)),
	}
	for _, f := range fs {
		f() // every environment and connection is there after this
	}
	t := turns(b, 7, fs...)
	rate := func(d []time.Duration) float64 { return float64(clients*each) / median(d).Seconds() }
	b.ReportMetric(rate(t[0]), "calls/s")
	b.ReportMetric(rate(t[1]), "bare-calls/s")
	b.ReportMetric(rate(t[2]), "proxy-calls/s")
	b.ReportMetric(rate(t[0])/rate(t[1]), "of-bare-rate")
	b.ReportMetric(rate(t[0])/rate(t[2]), "of-proxy-rate")
}

// BenchmarkInvokeCold is the first request after an update: a new sandbox and
// a new runtime, from the request to the answer. Its peers are the same
// platform where it isolates nothing, and the interpreter's bare start.
func BenchmarkInvokeCold(b *testing.B) {
	heavy(b)
	program := build(b, "countersign/cmd/countersign")
	serve := func(sandbox string) *server {
		dir := b.TempDir()
		return launch(b, program, dir, "--sandbox", sandbox).client(b, dir)
	}
	isolated, open := serve("gvisor"), serve("process")
	b.Run("go", func(b *testing.B) {
		z, _ := echoBundle(b)
		cold(b, isolated, open, types.RuntimeProvidedal2023, "bootstrap", z, nil)
	})
	b.Run("python", func(b *testing.B) {
		table, err := runtimes.New(runtimes.Config{Dir: filepath.Join(b.TempDir(), "runtime")})
		check(b, err)
		py, err := table.Resolve(string(types.RuntimePython312))
		if err != nil {
			b.Skipf("no python: %v", err)
		}
		z := bundle(b, "app.py", []byte("def handler(event, context):\n    return event\n"))
		cold(b, isolated, open, types.RuntimePython312, "app.handler", z, func() {
			check(b, exec.Command(py.Interpreter, "-S", "-c", "import json").Run())
		})
	})
}

func cold(b *testing.B, isolated, open *server, runtime types.Runtime, handler string, z []byte, bare func()) {
	name := "cold-" + strings.SplitN(handler, ".", 2)[0]
	var n int
	// once makes the environments there are useless and calls.
	once := func(s *server) time.Duration {
		n++
		_, err := s.lambda.UpdateFunctionConfiguration(b.Context(), &lambda.UpdateFunctionConfigurationInput{
			FunctionName: &name, Environment: &types.Environment{Variables: map[string]string{"TURN": strconv.Itoa(n)}},
		})
		check(b, err)
		s.settled(b, name)
		url, h := s.invocation(b, name, http.Header{"X-Amz-Log-Type": {"Tail"}})
		began := time.Now()
		answer, _, err := send(b.Context(), s.http, http.MethodPost, url, h, event)
		took := time.Since(began)
		check(b, err)
		log, err := base64.StdEncoding.DecodeString(answer.Get("X-Amz-Log-Result"))
		if err != nil || !bytes.Contains(log, []byte("Init Duration: ")) {
			b.Fatalf("not a cold start: %s %v", log, err)
		}
		return took
	}
	for _, s := range []*server{isolated, open} {
		s.deploy(b, name, runtime, handler, z)
		once(s)
	}
	var o, p, r []time.Duration
	turns(b, 9, func() {
		o, p = append(o, once(isolated)), append(p, once(open))
		if bare != nil {
			began := time.Now()
			bare()
			r = append(r, time.Since(began))
		}
	})
	for _, d := range [][]time.Duration{o, p, r} {
		slices.Sort(d)
	}
	b.ReportMetric(millis(median(o)), "p50-ms")
	b.ReportMetric(millis(o[len(o)*95/100]), "p95-ms")
	b.ReportMetric(millis(median(p)), "process-p50-ms")
	b.ReportMetric(ratio(o, p), "x-process")
	if bare != nil {
		b.ReportMetric(ratio(o, r), "x-interpreter")
	}
}
