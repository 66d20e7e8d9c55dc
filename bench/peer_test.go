package bench

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/internal/testenv"
)

// A loop is the least that can run a Lambda bootstrap: a queue between an
// address that takes events and the Runtime API. It checks no signature, has
// one function, no limits, no log, and isolates nothing. AWS's runtime
// interface emulator is this with more around it.
type loop struct {
	events chan *turn
	mu     sync.Mutex
	open   map[string]*turn // by request id; guarded by mu
}

// A turn is an event on its way.
type turn struct {
	id     string
	event  []byte
	answer chan []byte
}

// bareLoop runs n processes of the bootstrap program and returns where events
// go.
func bareLoop(b *testing.B, program string, n int) string {
	b.Helper()
	l := &loop{events: make(chan *turn), open: map[string]*turn{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /invoke", l.invoke)
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", l.next)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", l.response)
	base := listen(b, mux)
	for range n {
		start(b, exec.Command(program), "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(base, "http://"))
	}
	return base + "/invoke"
}

func (l *loop) invoke(w http.ResponseWriter, r *http.Request) {
	event, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	t := &turn{id: rand.Text(), event: event, answer: make(chan []byte, 1)}
	select {
	case l.events <- t:
	case <-r.Context().Done():
		return
	}
	select {
	case a := <-t.answer:
		w.Write(a)
	case <-r.Context().Done():
	}
}

func (l *loop) next(w http.ResponseWriter, r *http.Request) {
	select {
	case t := <-l.events:
		l.mu.Lock()
		l.open[t.id] = t
		l.mu.Unlock()
		h := w.Header()
		h.Set("Lambda-Runtime-Aws-Request-Id", t.id)
		h.Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(30*time.Second).UnixMilli()))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:000000000000:function:echo")
		w.Write(t.event)
	case <-r.Context().Done():
	}
}

func (l *loop) response(w http.ResponseWriter, r *http.Request) {
	a, err := io.ReadAll(r.Body)
	l.mu.Lock()
	t := l.open[r.PathValue("id")]
	delete(l.open, r.PathValue("id"))
	l.mu.Unlock()
	if err != nil || t == nil {
		http.Error(w, "no such invocation", http.StatusBadRequest)
		return
	}
	t.answer <- a
	w.WriteHeader(http.StatusAccepted)
}

// start runs a program until the benchmark is over.
func start(b *testing.B, c *exec.Cmd, env ...string) {
	b.Helper()
	c.Env = append(os.Environ(), env...)
	check(b, c.Start())
	b.Cleanup(func() {
		c.Process.Kill() // an error means that it is gone already
		c.Wait()
	})
}

// echoVariable makes this program the bare process behind a proxy.
const echoVariable = "COUNTERSIGN_BENCH_ECHO"

// reexecEcho serves HTTP that answers with what it is sent, and does not
// return, where this process was started to.
func reexecEcho() {
	if os.Getenv(echoVariable) == "" {
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	err = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// proxied is a reverse proxy before one process that answers over HTTP, many
// events at once: how OpenFaaS's of-watchdog runs a function, without its
// timeouts, metrics and logs.
func proxied(b *testing.B) string {
	b.Helper()
	self, err := os.Executable()
	check(b, err)
	c := exec.Command(self)
	out, err := c.StdoutPipe()
	check(b, err)
	start(b, c, echoVariable+"=1")
	addr, err := bufio.NewReader(out).ReadString('\n')
	check(b, err)
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: strings.TrimSpace(addr)})
	p.Transport = keepAlive(b).Transport
	return listen(b, p)
}

// openssl returns what runs `openssl dgst -sha384` over a file.
func openssl(b *testing.B, file string) func() {
	b.Helper()
	tool := testenv.Tool(b, "openssl")
	return func() {
		if out, err := exec.Command(tool, "dgst", "-sha384", file).CombinedOutput(); err != nil {
			b.Fatalf("openssl: %v: %s", err, out)
		}
	}
}
