package run

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"time"

	"countersign/internal/run/frame"
)

// unhandled is the only value AWS has been seen to put in FunctionError.
const unhandled = "Unhandled"

// A failure is an invocation that ended without the function's own answer.
type failure struct {
	payload []byte
	kind    string   // for the REPORT line: "Runtime.ExitError"
	timeout bool     // REPORT says "Status: timeout" instead
	log     []string // lines before END
}

// document is an error document in the order of members that Lambda's own
// failures have.
func document(kind, id, message string) []byte {
	b, err := json.Marshal(struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{kind, "RequestId: " + id + " Error: " + message})
	if err != nil {
		return []byte("{}") // cannot be: two strings
	}
	return b
}

// timedOut is the failure of an invocation over its limit.
func timedOut(id string, limit time.Duration) failure {
	return failure{
		payload: document("Sandbox.Timedout", id, fmt.Sprintf("Task timed out after %.2f seconds", limit.Seconds())),
		timeout: true,
	}
}

// exited is the failure of a runtime that ended, or never started.
func exited(id string, e frame.Exited, provided bool) failure {
	kind, message := "Runtime.ExitError", "Runtime exited without providing a reason"
	switch {
	case e.Start != "":
		kind, message = "Runtime.InvalidEntrypoint", e.Start
		if provided && strings.HasSuffix(e.Start, syscall.ENOENT.Error()) {
			message = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
		}
	case e.Signal != 0:
		message = "Runtime exited with error: signal: " + syscall.Signal(e.Signal).String()
	case e.Code != 0:
		message = fmt.Sprintf("Runtime exited with error: exit status %d", e.Code)
	}
	return failure{
		payload: document(kind, id, message), kind: kind,
		log: []string{"RequestId: " + id + " Error: " + message + "\n", kind + "\n"},
	}
}

// lost is the failure of an environment that was killed from outside the
// runtime's reach.
func lost(id string, outOfMemory bool) failure {
	f := exited(id, frame.Exited{Signal: int(syscall.SIGKILL)}, false)
	if outOfMemory {
		f.kind = "Runtime.OutOfMemory" // what REPORT says; the payload stays an ExitError
	}
	return f
}

// tooLarge is the failure of an answer over the quota.
func tooLarge() failure {
	const kind = "Function.ResponseSizeTooLarge"
	return failure{
		payload: fmt.Appendf(nil, `{"errorMessage":"Response payload size exceeded maximum allowed payload size (%d bytes).","errorType":"%s"}`, frame.MaxPayload, kind),
		kind:    kind,
	}
}

// posted is the failure the runtime itself reported.
func posted(r frame.Reply) failure {
	f := failure{payload: r.Payload, kind: r.Kind}
	if f.kind == "" {
		f.kind = "Runtime.Unknown"
	}
	return f
}
