package guest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"countersign/internal/run/frame"
)

// An api is the Runtime API's state machine: one runtime, one invocation at a
// time.
type api struct {
	loop      *loop
	phase     phase
	next      *conn             // holds a GET /next that has no answer yet
	pending   *frame.Invocation // came from the platform, not handed out; its payload is a copy
	since     time.Time         // of pending
	busyAfter time.Duration
	told      bool   // the platform was told busy and waits for TypeReady
	current   string // request id handed out last
}

// A phase is where the runtime is between start and end. The names in the
// error texts are AWS's.
type phase int

const (
	starting phase = iota // has not asked for an invocation yet
	idle                  // has asked and waits
	running               // has one
	answered              // has answered and not asked again
	over                  // failed to start, or ended
)

var phaseNames = [...]string{"Started", "Ready", "Running", "InvocationResponse", "InitError"}

const root = "/2018-06-01/runtime/"

// offer takes an invocation from the platform, which sends one at a time and
// none before Ready.
func (a *api) offer(v *frame.Invocation) error {
	if a.pending != nil || a.phase == running {
		return fmt.Errorf("an invocation on top of another: %w", frame.ErrMalformed)
	}
	if a.phase == over {
		return nil // the platform is about to read why
	}
	if c := a.next; c != nil {
		a.hand(v)
		c.serve() // what the runtime may have sent on top of its wait
		return nil
	}
	// Kept past the read buffer it lies in.
	c := *v
	c.Payload = append([]byte(nil), v.Payload...)
	a.pending, a.since = &c, now()
	return nil
}

// patience is how long the loop may sleep, in epoll's milliseconds.
func (a *api) patience() int {
	if a.pending == nil || a.phase == starting {
		return -1
	}
	left := a.busyAfter - now().Sub(a.since)
	return int(max(0, left+time.Millisecond-1) / time.Millisecond)
}

// tick gives back an invocation the runtime did not come for.
func (a *api) tick() {
	if a.pending == nil || a.phase == starting || now().Sub(a.since) < a.busyAfter {
		return
	}
	id := a.pending.ID
	a.loop.send = frame.Append(a.loop.send, frame.TypeBusy, func(b []byte) []byte { return append(b, id...) })
	a.pending, a.told = nil, true
}

// hand gives v to the runtime.
func (a *api) hand(v *frame.Invocation) {
	c := a.next
	a.next, a.phase, a.current = nil, running, v.ID
	b := make([]byte, 0, 512+len(v.ClientContext)+len(v.CognitoIdentity)+len(v.Payload))
	b = append(b, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"...)
	b = header(b, "Lambda-Runtime-Aws-Request-Id", v.ID)
	b = header(b, "Lambda-Runtime-Deadline-Ms", strconv.FormatInt(v.DeadlineMS, 10))
	b = header(b, "Lambda-Runtime-Invoked-Function-Arn", v.FunctionARN)
	b = header(b, "Lambda-Runtime-Trace-Id", v.TraceID)
	b = header(b, "Lambda-Runtime-Client-Context", v.ClientContext)
	b = header(b, "Lambda-Runtime-Cognito-Identity", v.CognitoIdentity)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(v.Payload)), 10)
	b = append(b, "\r\n\r\n"...)
	c.done(append(b, v.Payload...))
}

// header appends one header, if it has a value. A control character, which
// would end the header early, becomes a space: in the JSON values that is what
// a line break between tokens means anyway.
func header(b []byte, name, val string) []byte {
	if val == "" {
		return b
	}
	b = append(b, name...)
	b = append(b, ": "...)
	for i := range len(val) {
		x := val[i]
		if x < ' ' || x == 0x7f {
			x = ' '
		}
		b = append(b, x)
	}
	return append(b, "\r\n"...)
}

// gone forgets a connection that was closed.
func (a *api) gone(c *conn) {
	if a.next == c {
		a.next = nil
	}
}

// serve answers one request of the runtime.
func (a *api) serve(c *conn, r *request) {
	path, ok := strings.CutPrefix(r.path, root)
	if !ok {
		c.reply(404, apiError("NotFound", "404 page not found"))
		return
	}
	want := "POST"
	if path == "invocation/next" || path == "restore/next" {
		want = "GET"
	}
	id, verb, isInvocation := strings.Cut(strings.TrimPrefix(path, "invocation/"), "/")
	isInvocation = isInvocation && strings.HasPrefix(path, "invocation/")
	switch {
	case path != "invocation/next" && path != "init/error" && path != "restore/next" && path != "restore/error" &&
		!(isInvocation && (verb == "response" || verb == "error")):
		c.reply(404, apiError("NotFound", "404 page not found"))
	case r.method != want:
		c.reply(405, apiError("MethodNotAllowed", r.method+" is not allowed here"))
	case path == "invocation/next":
		a.serveNext(c)
	case path == "init/error":
		a.serveInitError(c, r)
	case path == "restore/next", path == "restore/error":
		// Only a function with SnapStart gets to be restored.
		a.refuse(c, "Restoring")
	case verb == "response":
		a.serveReply(c, r, id, frame.TypeResponse)
	default:
		a.serveReply(c, r, id, frame.TypeFailure)
	}
}

func (a *api) serveNext(c *conn) {
	if a.phase == running || a.phase == over || a.next != nil {
		a.refuse(c, "Ready")
		return
	}
	first := a.phase == starting
	a.phase, a.next = idle, c
	if v := a.pending; v != nil {
		a.pending = nil
		a.hand(v)
		return
	}
	if first || a.told {
		a.told = false
		a.loop.send = frame.Append(a.loop.send, frame.TypeReady, nil)
	}
}

func (a *api) serveInitError(c *conn, r *request) {
	if a.phase != starting {
		a.refuse(c, "InitError")
		return
	}
	a.phase = over
	a.post(c, r, frame.TypeInitFailed, "")
}

func (a *api) serveReply(c *conn, r *request, id string, t frame.Type) {
	if id != a.current || id == "" {
		c.reply(400, apiError("InvalidRequestID", "Invalid request ID"))
		return
	}
	if a.phase != running {
		a.refuse(c, map[frame.Type]string{frame.TypeResponse: "InvocationResponse", frame.TypeFailure: "InvocationErrorResponse"}[t])
		return
	}
	a.phase = answered
	a.post(c, r, t, id)
}

// post sends the platform what the runtime posted, its log first, and then
// answers the runtime.
func (a *api) post(c *conn, r *request, t frame.Type, id string) {
	reply := frame.Reply{ID: id, Kind: r.errorType, Payload: r.body}
	// A response that broke off says so in its trailers; it is an error then.
	if t == frame.TypeResponse && r.errorType != "" {
		t = frame.TypeFailure
		if body, err := base64.StdEncoding.DecodeString(r.errorBody); err == nil && len(body) > 0 {
			reply.Payload = body
		}
	}
	if r.tooLarge {
		t, reply.Payload = frame.TypeTooLarge, nil
	}
	reply.Kind = clip(reply.Kind)
	// An error here means the platform is gone, which the next flush of the
	// loop reports.
	_ = a.loop.readLogs(drainReads)
	a.loop.send = reply.Append(a.loop.send, t)
	_ = a.loop.flush()
	if r.tooLarge {
		c.reply(413, apiError("RequestEntityTooLarge", fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", frame.MaxPayload)))
		return
	}
	c.accepted()
}

// clip bounds the runtime's word for an error; no real one is near this long.
func clip(s string) string { return s[:min(len(s), 256)] }

// refuse answers a request that does not fit the phase, in AWS's words.
func (a *api) refuse(c *conn, to string) {
	c.reply(403, apiError("InvalidStateTransition",
		fmt.Sprintf("State transition from %s to %s failed for runtime. Error: State transition is not allowed", phaseNames[a.phase], to)))
}

// apiError is the body of every refusal.
func apiError(kind, message string) []byte {
	b, err := json.Marshal(struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{message, kind})
	if err != nil {
		return []byte("{}") // cannot be: two strings
	}
	return append(b, '\n')
}
