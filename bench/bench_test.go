// Package bench measures what spans the whole platform: a signed request that
// goes through the protocol, the gate and a sandbox and comes back, a package
// signed and deployed, a server started on a directory. What one package can
// measure alone is measured beside that package's code.
//
// Every figure that has a peer is taken in turns with it, in one run, and
// reported as the ratio of the two medians: on a busy machine both are slow.
// Nothing here asserts a time. README.md says how to run each, and what came
// out.
package bench

import (
	"archive/zip"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"countersign/internal/guard"
	"countersign/internal/platform"
	"countersign/internal/run/guest"
	"countersign/internal/run/sandbox/gvisor"
)

const (
	account = guard.DefaultAccount
	region  = "eu-central-1"
	role    = "arn:aws:iam::" + account + ":role/bench"
)

// functions is how many the larger platform has.
var functions = flag.Int("functions", 2000, "functions on the platform that has many")

func TestMain(m *testing.M) {
	// Where it is statically linked, this program is also the guests'.
	guest.Reexec()
	gvisor.Reexec()
	reexecEcho()
	code := m.Run()
	if made := scratchDir.Load(); made != nil {
		os.RemoveAll(*made)
	}
	os.Exit(code)
}

// turns calls every f once a turn until the benchmark's time is over, and for
// at least so many turns. It returns each one's times, sorted.
func turns(b *testing.B, least int, fs ...func()) [][]time.Duration {
	b.Helper()
	times := make([][]time.Duration, len(fs))
	turn := func() {
		for i, f := range fs {
			began := time.Now()
			f()
			times[i] = append(times[i], time.Since(began))
		}
	}
	for b.Loop() {
		turn()
	}
	for len(times[0]) < least {
		turn()
	}
	b.ReportMetric(0, "ns/op") // a turn is not an operation
	for _, t := range times {
		slices.Sort(t)
	}
	return times
}

func median(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// ratio is how many times as long as the peer.
func ratio(ours, peer []time.Duration) float64 {
	return float64(median(ours)) / float64(median(peer))
}

func heavy(b *testing.B) {
	b.Helper()
	if testing.Short() {
		b.Skip("takes seconds to set up; run without -short")
	}
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// build compiles a package of this module as a release is compiled: static.
func build(b *testing.B, pkg string) string {
	b.Helper()
	to := filepath.Join(scratch(b), filepath.Base(pkg))
	built.Lock()
	defer built.Unlock()
	if _, err := os.Stat(to); err == nil {
		return to
	}
	c := exec.Command("go", "build", "-o", to, pkg)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return to
}

// bundle makes a package of one file.
func bundle(b *testing.B, name string, body []byte) []byte {
	b.Helper()
	var z bytes.Buffer
	w := zip.NewWriter(&z)
	h := &zip.FileHeader{Name: name, Method: zip.Deflate}
	h.SetMode(0o755)
	f, err := w.CreateHeader(h)
	check(b, err)
	_, err = f.Write(body)
	check(b, err)
	check(b, w.Close())
	return z.Bytes()
}

// echoBundle is a function in Go that answers with its event, and the program
// in it.
func echoBundle(b *testing.B) (z []byte, program string) {
	b.Helper()
	program = build(b, "countersign/internal/run/runtest/echo")
	body, err := os.ReadFile(program)
	check(b, err)
	return bundle(b, "bootstrap", body), program
}

// A server is a platform in this process, behind HTTP on the loopback as
// cmd/countersign serves it.
type server struct {
	url    string
	http   *http.Client
	creds  aws.Credentials
	lambda *lambda.Client
}

// serve starts a platform on dir that stops with the benchmark.
func serve(b *testing.B, dir, sandbox string) *server {
	b.Helper()
	p, err := platform.Open(b.Context(), platform.Config{
		Dir: dir, Sandbox: sandbox, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	check(b, err)
	b.Cleanup(func() {
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	})
	root, err := guard.ReadRoot(dir)
	check(b, err)
	return connect(b, listen(b, p), root)
}

// connect makes a client of the platform at url.
func connect(b *testing.B, url string, root guard.Credentials) *server {
	b.Helper()
	s := &server{url: url, http: keepAlive(b), creds: aws.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: root.SecretAccessKey}}
	s.lambda = lambda.New(lambda.Options{
		Region: region, BaseEndpoint: &url, HTTPClient: s.http, RetryMaxAttempts: 1,
		Credentials: credentials.StaticCredentialsProvider{Value: s.creds},
	})
	return s
}

// listen serves h on a free port.
func listen(b *testing.B, h http.Handler) (url string) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(b, err)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second}
	var done sync.WaitGroup
	done.Go(func() { srv.Serve(l) }) // it ends with Close
	b.Cleanup(func() {
		srv.Close()
		done.Wait()
	})
	return "http://" + l.Addr().String()
}

// keepAlive is a client that opens a connection per caller and no more.
func keepAlive(b *testing.B) *http.Client {
	t := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	b.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// deploy creates a function and waits until it can run.
func (s *server) deploy(b *testing.B, name string, runtime types.Runtime, handler string, z []byte) {
	b.Helper()
	_, err := s.lambda.CreateFunction(b.Context(), &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: runtime, Handler: &handler, Role: aws.String(role), MemorySize: aws.Int32(256), Timeout: aws.Int32(30),
		Code: &types.FunctionCode{ZipFile: z},
	})
	check(b, err)
	s.settled(b, name)
}

// settled waits until nothing is under way for the function.
func (s *server) settled(b *testing.B, name string) {
	b.Helper()
	for {
		f, err := s.lambda.GetFunctionConfiguration(b.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		check(b, err)
		switch {
		case f.State == types.StateFailed || f.LastUpdateStatus == types.LastUpdateStatusFailed:
			b.Fatalf("%s: %s %s", name, aws.ToString(f.StateReason), aws.ToString(f.LastUpdateStatusReason))
		case f.State == types.StateActive && f.LastUpdateStatus == types.LastUpdateStatusSuccessful:
			return
		}
	}
}

// send makes one request and returns the answer's body.
func send(ctx context.Context, c *http.Client, method, url string, h http.Header, body []byte) (http.Header, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if h != nil {
		r.Header = h
	}
	res, err := c.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, url, res.Status, out)
	}
	return res.Header, out, err
}
