package frame

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// A Setup tells the init what to run. It is sent once and is JSON: nothing
// about it is hot.
type Setup struct {
	// Command is the runtime process: paths inside the guest.
	Command []string `json:"command"`
	// Dir is the working directory of the runtime.
	Dir string `json:"dir"`
	// Env is the whole environment of the runtime as "K=V", but for
	// AWS_LAMBDA_RUNTIME_API, which the init adds.
	Env []string `json:"env"`
	// Port is where the Runtime API listens on the guest's loopback; 0 takes
	// any free one.
	Port int `json:"port"`
	// BusyAfterMS is how long an invocation waits for the runtime to ask for
	// it before it is given back as busy.
	BusyAfterMS int `json:"busy_after_ms"`
}

// Append appends the frame.
func (s *Setup) Append(b []byte) ([]byte, error) {
	j, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode setup: %w", err)
	}
	return Append(b, TypeSetup, func(b []byte) []byte { return append(b, j...) }), nil
}

// ParseSetup reads the body of a TypeSetup frame.
func ParseSetup(body []byte) (*Setup, error) {
	s := new(Setup)
	if err := json.Unmarshal(body, s); err != nil {
		return nil, fmt.Errorf("setup: %w: %w", ErrMalformed, err)
	}
	return s, nil
}

// An Invocation is one event for the function and what goes with it. Fields
// that are empty are not shown to the runtime.
type Invocation struct {
	ID              string
	DeadlineMS      int64 // Unix milliseconds
	FunctionARN     string
	TraceID         string
	ClientContext   string // JSON
	CognitoIdentity string // JSON
	Payload         []byte // passed through untouched; aliases the frame when parsed
}

// Append appends the frame.
func (v *Invocation) Append(b []byte) []byte {
	return Append(b, TypeInvocation, func(b []byte) []byte {
		b = putString(b, v.ID)
		b = binary.AppendUvarint(b, uint64(v.DeadlineMS))
		b = putString(b, v.FunctionARN)
		b = putString(b, v.TraceID)
		b = putString(b, v.ClientContext)
		b = putString(b, v.CognitoIdentity)
		return append(b, v.Payload...)
	})
}

// ParseInvocation reads the body of a TypeInvocation frame.
func ParseInvocation(body []byte) (*Invocation, error) {
	f := fields{b: body}
	v := &Invocation{
		ID: f.string(), DeadlineMS: int64(f.uint()), FunctionARN: f.string(),
		TraceID: f.string(), ClientContext: f.string(), CognitoIdentity: f.string(),
		Payload: f.rest(),
	}
	return v, f.end("invocation")
}

// A Reply is what the runtime posted: an answer or an error.
type Reply struct {
	ID string
	// Kind is the runtime's word for an error, the header
	// Lambda-Runtime-Function-Error-Type: "Runtime.ImportModuleError".
	Kind    string
	Payload []byte // untouched
}

// Append appends the frame, of one of the types that carry a Reply.
func (r *Reply) Append(b []byte, t Type) []byte {
	return Append(b, t, func(b []byte) []byte {
		b = putString(b, r.ID)
		b = putString(b, r.Kind)
		return append(b, r.Payload...)
	})
}

// ParseReply reads the body of a frame that carries a Reply.
func ParseReply(body []byte) (Reply, error) {
	f := fields{b: body}
	r := Reply{ID: f.string(), Kind: f.string(), Payload: f.rest()}
	return r, f.end("reply")
}

// An Exited says that the runtime process is gone, or never came to be.
type Exited struct {
	Code   int // exit status when Signal is 0
	Signal int
	// Delivered reports whether the invocation under way, if any, had been
	// handed to the runtime. One that had not may run elsewhere.
	Delivered bool
	// Start is why the process could not be started, empty when it was:
	// "fork/exec /var/task/bootstrap: permission denied".
	Start string
}

// Append appends the frame.
func (e *Exited) Append(b []byte) []byte {
	return Append(b, TypeExited, func(b []byte) []byte {
		b = binary.AppendUvarint(b, uint64(e.Code))
		b = binary.AppendUvarint(b, uint64(e.Signal))
		d := byte(0)
		if e.Delivered {
			d = 1
		}
		b = append(b, d)
		return putString(b, e.Start)
	})
}

// ParseExited reads the body of a TypeExited frame.
func ParseExited(body []byte) (Exited, error) {
	f := fields{b: body}
	code, sig, delivered := f.uint(), f.uint(), f.uint()
	e := Exited{Code: int(code & 0xff), Signal: int(sig & 0x7f), Delivered: delivered == 1, Start: f.string()}
	if code > 0xff || sig > 0x7f || delivered > 1 {
		f.bad = true
	}
	return e, f.end("exit")
}
