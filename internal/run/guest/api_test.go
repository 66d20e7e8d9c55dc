package guest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"countersign/internal/run/frame"
)

// A rig is an init without a runtime: the test is the runtime on one side and
// the platform on the other.
type rig struct {
	t       *testing.T
	to      *os.File // frames for the init
	from    *frame.Reader
	logs    *os.File // what a runtime would print to
	address string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	var in, out, logs [2]int
	for _, p := range []*[2]int{&in, &out, &logs} {
		if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
	}
	l, err := newLoop(in[0], out[1])
	if err != nil {
		t.Fatal(err)
	}
	port, err := l.listen(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetNonblock(logs[0], true); err != nil {
		t.Fatal(err)
	}
	l.logs = logs[0]
	if err := l.watch(l.logs, syscall.EPOLLIN); err != nil {
		t.Fatal(err)
	}
	l.api.busyAfter = 20 * time.Millisecond
	r := &rig{
		t: t, to: os.NewFile(uintptr(in[1]), "to"), logs: os.NewFile(uintptr(logs[1]), "logs"),
		address: fmt.Sprintf("127.0.0.1:%d", port),
	}
	fromFile := os.NewFile(uintptr(out[0]), "from")
	r.from = frame.NewReader(fromFile)
	done := make(chan error, 1)
	go func() { done <- l.run() }()
	t.Cleanup(func() {
		r.to.Close()
		go io.Copy(io.Discard, fromFile)
		if err := <-done; err != nil {
			t.Errorf("the loop ended: %v", err)
		}
		for _, f := range []*os.File{fromFile, r.logs} {
			f.Close()
		}
		for _, fd := range []int{in[0], out[1], l.poll, l.full, l.child, l.listener} {
			if fd == 0 {
				continue
			}
			syscall.Close(fd)
		}
		for fd := range l.conns {
			syscall.Close(fd)
		}
	})
	return r
}

// A client is one connection of a runtime.
type client struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func (r *rig) dial() *client {
	r.t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	return &client{r.t, c, bufio.NewReader(c)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.c, s); err != nil {
		c.t.Fatal(err)
	}
}

// reply reads one reply.
func (c *client) reply() (status int, header http.Header, body string) {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return r.StatusCode, r.Header, string(b)
}

func (c *client) want(status int, body string) http.Header {
	c.t.Helper()
	s, h, b := c.reply()
	if s != status || b != body {
		c.t.Fatalf("got %d %s, want %d %s", s, b, status, body)
	}
	return h
}

const (
	next = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
	ok   = "{\"status\":\"OK\"}\n"
)

func post(path, body string, headers ...string) string {
	return fmt.Sprintf("POST /2018-06-01/runtime/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s",
		path, len(body), strings.Join(append(headers, ""), "\r\n"), body)
}

func (r *rig) offer(v frame.Invocation) {
	r.t.Helper()
	if _, err := r.to.Write(v.Append(nil)); err != nil {
		r.t.Fatal(err)
	}
}

// frame expects the next frame.
func (r *rig) frame(want frame.Type) []byte {
	r.t.Helper()
	t, body, err := r.from.Next()
	if err != nil || t != want {
		r.t.Fatalf("got frame %d %q, %v; want %d", t, body, err, want)
	}
	return body
}

func (r *rig) wantReply(t frame.Type, id, kind, payload string) {
	r.t.Helper()
	got, err := frame.ParseReply(r.frame(t))
	if err != nil || got.ID != id || got.Kind != kind || string(got.Payload) != payload {
		r.t.Fatalf("got %q %q %q, %v; want %q %q %q", got.ID, got.Kind, got.Payload, err, id, kind, payload)
	}
}

func TestInvocations(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.dial()
	c.send(next)
	r.frame(frame.TypeReady)
	r.offer(frame.Invocation{
		ID: "r-1", DeadlineMS: 1234567890123, FunctionARN: "arn:f:live", TraceID: "Root=1",
		ClientContext: "{\r\n\"a\": 1}", CognitoIdentity: "{}", Payload: []byte("{\"k\":\"\x00ü\"}"),
	})
	h := c.want(200, "{\"k\":\"\x00ü\"}")
	for name, want := range map[string]string{
		"Lambda-Runtime-Aws-Request-Id": "r-1", "Lambda-Runtime-Deadline-Ms": "1234567890123",
		"Lambda-Runtime-Invoked-Function-Arn": "arn:f:live", "Lambda-Runtime-Trace-Id": "Root=1",
		"Lambda-Runtime-Client-Context": `{  "a": 1}`, "Lambda-Runtime-Cognito-Identity": "{}", "Content-Type": "application/json",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	c.send(post("invocation/r-1/response", `"answer"`))
	r.wantReply(frame.TypeResponse, "r-1", "", `"answer"`)
	c.want(202, ok)

	// The second waits for the runtime, not the other way round.
	r.offer(frame.Invocation{ID: "r-2", Payload: []byte("2")})
	c.send(next)
	if h := c.want(200, "2"); h.Get("Lambda-Runtime-Trace-Id") != "" || h["Lambda-Runtime-Client-Context"] != nil {
		t.Errorf("got headers %v, want none for what is empty", h)
	}
	c.send(post("invocation/r-2/error", `{"errorMessage":"m"}`, "Lambda-Runtime-Function-Error-Type: My.Error"))
	r.wantReply(frame.TypeFailure, "r-2", "My.Error", `{"errorMessage":"m"}`)
	c.want(202, ok)

	if _, err := r.to.Write(frame.Append(nil, frame.TypePing, func(b []byte) []byte { return append(b, "hello"...) })); err != nil {
		t.Fatal(err)
	}
	if got := r.frame(frame.TypePong); string(got) != "hello" {
		t.Errorf("pong: got %q, want hello", got)
	}
}

// What the bootstraps do: the answer and the next question in one write.
func TestPipelined(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.dial()
	c.send(next)
	r.frame(frame.TypeReady)
	for i := range 5 {
		id := fmt.Sprint("r-", i)
		r.offer(frame.Invocation{ID: id, Payload: []byte(id)})
		if i > 0 {
			c.want(202, ok)
		}
		c.want(200, id)
		c.send(post("invocation/"+id+"/response", "x") + next)
		r.wantReply(frame.TypeResponse, id, "", "x")
	}
}

func TestLogComesBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.dial()
	c.send(next)
	r.frame(frame.TypeReady)
	for i := range 50 {
		id := fmt.Sprint("r-", i)
		r.offer(frame.Invocation{ID: id, Payload: []byte("0")})
		c.want(200, "0")
		want := strings.Repeat(id+"\n", 1000)
		if _, err := io.WriteString(r.logs, want); err != nil {
			t.Fatal(err)
		}
		c.send(post("invocation/"+id+"/response", "1"))
		var got bytes.Buffer
		for got.Len() < len(want) {
			got.Write(r.frame(frame.TypeLog)) // fails if the answer comes first
		}
		if got.String() != want {
			t.Fatalf("log of %s: got %d bytes, want %d", id, got.Len(), len(want))
		}
		r.wantReply(frame.TypeResponse, id, "", "1")
		c.want(202, ok)
		c.send(next)
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.dial()
	c.send(next)
	r.frame(frame.TypeReady)
	r.offer(frame.Invocation{ID: "r-1", Payload: []byte("1")})
	c.want(200, "1")
	c.send(post("invocation/r-1/response", "x"))
	r.frame(frame.TypeResponse)
	c.want(202, ok)
	r.offer(frame.Invocation{ID: "r-2", Payload: []byte("2")})
	if got := r.frame(frame.TypeBusy); string(got) != "r-2" {
		t.Fatalf("got busy %q, want r-2", got)
	}
	c.send(next)
	r.frame(frame.TypeReady) // and the runtime never sees r-2
	r.offer(frame.Invocation{ID: "r-3", Payload: []byte("3")})
	c.want(200, "3")
}

func refusal(kind, message string) string {
	return fmt.Sprintf("{\"errorMessage\":%q,\"errorType\":%q}\n", message, kind)
}

func transition(from, to string) string {
	return refusal("InvalidStateTransition", "State transition from "+from+" to "+to+" failed for runtime. Error: State transition is not allowed")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.dial()
	notFound := refusal("NotFound", "404 page not found")
	for _, x := range []struct {
		send   string
		status int
		body   string
	}{
		{post("invocation/r-1/response", "x"), 400, refusal("InvalidRequestID", "Invalid request ID")},
		{post("invocation//response", "x"), 400, refusal("InvalidRequestID", "Invalid request ID")},
		{"GET /2018-06-01/runtime/restore/next HTTP/1.1\r\n\r\n", 403, transition("Started", "Restoring")},
		{post("restore/error", "x"), 403, transition("Started", "Restoring")},
		{"GET /2018-06-01/runtime/nothing HTTP/1.1\r\n\r\n", 404, notFound},
		{"GET / HTTP/1.1\r\n\r\n", 404, notFound},
		{"POST /2020-01-01/extension/register HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 404, notFound},
		{post("invocation/next", ""), 405, refusal("MethodNotAllowed", "POST is not allowed here")},
		{"GET /2018-06-01/runtime/init/error HTTP/1.1\r\n\r\n", 405, refusal("MethodNotAllowed", "GET is not allowed here")},
	} {
		c.send(x.send)
		c.want(x.status, x.body)
	}

	c.send(next)
	r.frame(frame.TypeReady)
	other := r.dial()
	other.send(next)
	other.want(403, transition("Ready", "Ready"))
	other.send(post("init/error", "{}"))
	other.want(403, transition("Ready", "InitError"))
	r.offer(frame.Invocation{ID: "r-1", Payload: []byte("1")})
	c.want(200, "1")
	other.send(next)
	other.want(403, transition("Running", "Ready"))
	other.send(post("invocation/r-2/response", "x"))
	other.want(400, refusal("InvalidRequestID", "Invalid request ID"))
	other.send(post("invocation/r-1/response", "x")) // from another connection: fine
	r.frame(frame.TypeResponse)
	other.want(202, ok)
	other.send(post("invocation/r-1/response", "x"))
	other.want(403, transition("InvocationResponse", "InvocationResponse"))
	other.send(post("invocation/r-1/error", "x"))
	other.want(403, transition("InvocationResponse", "InvocationErrorResponse"))
}

func TestInitError(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.dial()
	c.send(post("init/error", `{"e":1}`, "lambda-runtime-function-error-TYPE:  Runtime.NoSuch  "))
	r.wantReply(frame.TypeInitFailed, "", "Runtime.NoSuch", `{"e":1}`)
	c.want(202, ok)
	c.send(next)
	c.want(403, transition("InitError", "Ready"))
}

func TestBodies(t *testing.T) {
	t.Parallel()
	largest := strings.Repeat("x", frame.MaxPayload)
	chunked := func(chunks ...string) string {
		var b strings.Builder
		for _, c := range chunks {
			fmt.Fprintf(&b, "%X;ext=1\r\n%s\r\n", len(c), c)
		}
		return b.String() + "0\r\n"
	}
	const head = "POST /2018-06-01/runtime/invocation/r/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
	sizeError := refusal("RequestEntityTooLarge", "Exceeded maximum allowed payload size (6291556 bytes).")
	lambdaError := base64.StdEncoding.EncodeToString([]byte(`{"errorType":"T"}`))
	for _, x := range []struct {
		name, send    string
		frame         frame.Type
		kind, payload string
		status        int
		body          string
	}{
		{"empty", post("invocation/r/response", ""), frame.TypeResponse, "", "", 202, ok},
		{"largest", post("invocation/r/response", largest), frame.TypeResponse, "", largest, 202, ok},
		{"too large", post("invocation/r/response", largest+"x"), frame.TypeTooLarge, "", "", 413, sizeError},
		{"chunked", head + chunked("ab", "c", strings.Repeat("d", 99999)) + "\r\n", frame.TypeResponse, "", "abc" + strings.Repeat("d", 99999), 202, ok},
		{"chunked and empty", head + chunked() + "\r\n", frame.TypeResponse, "", "", 202, ok},
		{"chunked too large", head + chunked(largest, "x") + "\r\n", frame.TypeTooLarge, "", "", 413, sizeError},
		{"broke off", head + chunked("half") + "Lambda-Runtime-Function-Error-Type: T\r\nLambda-Runtime-Function-Error-Body: " + lambdaError + "\r\n\r\n",
			frame.TypeFailure, "T", `{"errorType":"T"}`, 202, ok},
		{"empty trailers", head + chunked("whole") + "Lambda-Runtime-Function-Error-Type: \r\nLambda-Runtime-Function-Error-Body: \r\n\r\n",
			frame.TypeResponse, "", "whole", 202, ok},
		{"long header", post("invocation/r/error", "{}", "Lambda-Runtime-Function-Xray-Error-Cause: "+strings.Repeat("y", 1<<20)), frame.TypeFailure, "", "{}", 202, ok},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := r.dial()
			c.send(next)
			r.frame(frame.TypeReady)
			r.offer(frame.Invocation{ID: "r", Payload: []byte("1")})
			c.want(200, "1")
			go io.WriteString(c.c, x.send+next) // the next request must be found behind it
			r.wantReply(x.frame, "r", x.kind, x.payload)
			r.offer(frame.Invocation{ID: "r2", Payload: []byte("2")})
			c.want(x.status, x.body)
			c.want(200, "2")
		})
	}
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.dial()
	c.send("POST /2018-06-01/runtime/init/error HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	line, err := c.r.ReadString('\n')
	if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v; want to be told to go on", line, err)
	}
	c.send("{}")
	r.frame(frame.TypeInitFailed)
}

// A request that makes no sense closes its connection and disturbs nobody.
func TestGarbage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, in := range []string{
		"\r\n\r\n", "GET\r\n\r\n", "GET / SPDY/3\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
		"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "POST /x HTTP/1.1\r\nContent-Length: 9x\r\n\r\n",
		"POST /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n",
		"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
	} {
		c := r.dial()
		c.send(in)
		if s, _, _ := c.reply(); s != 400 {
			t.Errorf("%q: got %d, want 400", in, s)
		}
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Errorf("%q: got %v, want the connection closed", in, err)
		}
	}
	half := r.dial()
	half.send("POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
	half.c.Close()
	c := r.dial()
	c.send(next)
	r.frame(frame.TypeReady)
}

// A runtime that hangs up and asks again gets the event on its new connection.
func TestReconnect(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.dial()
	c.send(next)
	r.frame(frame.TypeReady)
	c.c.Close()
	again := r.dial()
	again.send("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nConnection: close\r\n\r\n")
	r.offer(frame.Invocation{ID: "r", Payload: []byte("1")})
	if h := again.want(200, "1"); h.Get("Content-Length") != "1" {
		t.Errorf("got %v", h)
	}
	if _, err := again.r.ReadByte(); err != io.EOF {
		t.Errorf("got %v, want the connection closed as asked", err)
	}
}

// FuzzRequests feeds a connection what a hostile runtime could send. However
// the bytes arrive, they are read the same, and nothing panics.
func FuzzRequests(f *testing.F) {
	for _, s := range []string{
		next, post("invocation/r/response", "x") + next, "GET / HTTP/1.0\r\n\r\n",
		"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nab\r\n0\r\nT: v\r\n\r\n" + next,
		"POST /x HTTP/1.1\r\nContent-Length: 7000000\r\n\r\nabc",
	} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		read := func(step int) (got []string) {
			c := &conn{fd: -1, l: &loop{}}
			for at := 0; at < len(in); at += step {
				c.in = append(c.in, in[at:min(at+step, len(in))]...)
				for {
					ok, err := c.parse()
					if err != nil {
						return append(got, "error")
					}
					if !ok {
						break
					}
					got = append(got, fmt.Sprintf("%q %q %q %q %q %v %v", c.req.method, c.req.path, c.req.errorType, c.req.errorBody, c.req.body, c.req.tooLarge, c.req.close))
					c.forget()
				}
			}
			return got
		}
		whole, parts := read(max(len(in), 1)), read(int(step)+1)
		if strings.Join(whole, "\n") != strings.Join(parts, "\n") {
			t.Errorf("at once: %q; by %d: %q", whole, int(step)+1, parts)
		}
	})
}
