package run

import (
	"context"
	"time"

	"countersign"
)

// A Function is one version of a function, as far as running it goes. It is
// never changed once it has been passed to [Pool.Invoke].
type Function struct {
	ARN     string // unqualified
	Name    string
	Version string // "$LATEST" or a number
	Account string
	Region  string

	Runtime string // "python3.12"
	// RuntimeVersionARN is shown in the log when an environment starts.
	RuntimeVersionARN string
	Handler           string
	LogGroup          string
	Env               map[string]string // the user's variables

	MemoryMB       int
	TimeoutSeconds int
	EphemeralMB    int // size of /tmp

	// Artifact is the code; Invoke wants an Admission of the same digest.
	Artifact countersign.Digest
	// Revision changes whenever anything above does. Environments of an
	// earlier revision are not used again.
	Revision string

	// Credentials, if set, is asked once for each environment for what the
	// function acts as. Functions without it get no credentials.
	Credentials func(context.Context) (Credentials, error)
}

// Credentials are an AWS access key for a function's use.
type Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }

// A Request is one event for a function.
type Request struct {
	ID            string // a UUID, unique
	InvokedARN    string // with the qualifier the caller used, if any
	Payload       []byte // JSON; passed through untouched
	ClientContext string // JSON, decoded from the header's base64
	LogTail       bool   // collect Result.LogTail
	TraceID       string // X-Ray header
}

// A Result is how an invocation went. A function that fails still has a
// Result: the failure is the payload.
type Result struct {
	Payload []byte
	// FunctionError is "Unhandled" when Payload describes an error, else empty.
	FunctionError string
	// LogTail is the last 4 KB of the invocation's log, when it was asked for.
	LogTail         []byte
	ExecutedVersion string

	Cold         bool          // a new environment was started for it
	Duration     time.Duration // from handing over the event to the answer
	InitDuration time.Duration // of a cold start, from starting the runtime until it asked for work
	BilledMS     int64
	PeakMB       int64 // highest memory use of the environment so far
}

// A Line is one event of a function's log. Text ends in a line break, as what
// Lambda puts there does.
type Line struct {
	Time time.Time
	Text string
}

// A Place is where an environment's log goes.
type Place struct{ Account, Region, Group, Stream string }

// Logs keeps what functions print. Append is called by one goroutine, in the
// order of the lines, and an invocation never waits for it.
type Logs interface {
	Append(ctx context.Context, to Place, lines []Line) error
}
