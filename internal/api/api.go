// Package api is the thin translation between AWS's operations and the
// stages: one file per group of operations, each handler a few lines that
// turn shapes into the stages' words and back.
//
// AWS's names for errors live here and in internal/wire, nowhere deeper. A
// handler returns what a stage returned; the table of its service gives each
// kind of no its name and status. It trusts wire to have authenticated the
// caller and checked the model's constraints, and adds the rules that AWS
// enforces and its models do not state (fact sheets lambda-core,
// lambda-code-signing and signer).
package api

//go:generate go run ./gencoverage ../../docs/coverage.md

import (
	"errors"
	"net/http"
	"time"

	"countersign"
	"countersign/internal/observe"
	"countersign/internal/release"
	"countersign/internal/sign"
	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
	"countersign/internal/wire/logs"
	"countersign/internal/wire/signer"
	"countersign/internal/wire/sts"
)

// Services are the services with operations here. S3 is not among them: its
// requests go to internal/objects whole.
func Services() []*wire.Service {
	return []*wire.Service{lambda.Service, signer.Service, logs.Service, sts.Service}
}

// Stages are what the operations act on.
type Stages struct {
	Lambda *Lambda
	Signer *sign.Service
	Logs   *observe.Logs
}

// Register gives s every operation that is built.
func Register(s *wire.Server, st Stages) {
	st.Lambda.register(s)
	registerSigner(s, st.Signer)
	registerLogs(s, st.Logs)
	registerSTS(s)
}

// faults are a service's names for our kinds of no.
type faults map[countersign.Kind]wire.Fault

// serviceFaults are the services' tables. Each stands beside the handlers of
// its service; STS has no no of its own.
var serviceFaults = map[*wire.Service]faults{
	lambda.Service: lambdaFaults,
	signer.Service: signerFaults,
	logs.Service:   logsFaults,
}

// operationFaults are the operations that have names of their own.
var operationFaults = map[*wire.Service]map[string]faults{
	signer.Service: {
		"TagResource": signerTagFaults, "UntagResource": signerTagFaults, "ListTagsForResource": signerTagFaults,
		"AddProfilePermission": signerPermissionFaults, "RemoveProfilePermission": signerPermissionFaults,
	},
}

// notImplemented is every service's name for what is not built.
var notImplemented = wire.Fault{Code: "NotImplemented", Status: http.StatusNotImplemented, Receiver: true}

// Translate names a handler's error as the call's service does. What is not a
// no, or of a kind the service has no name for, stays nil: wire answers it as
// a failure of ours and keeps its text.
func Translate(c *wire.Call, err error) *wire.Fault {
	if f, ok := errors.AsType[*wire.Fault](err); ok {
		return f
	}
	no, ok := errors.AsType[*countersign.Error](err)
	if !ok {
		return nil
	}
	table := operationFaults[c.Service][c.Operation.Name]
	if table == nil {
		table = serviceFaults[c.Service]
	}
	f, ok := table[no.Kind]
	if !ok {
		return nil
	}
	if errors.Is(err, release.ErrConfigMissing) {
		f.Code = "CodeSigningConfigNotFoundException" // Lambda's one not-found with a name of its own
	}
	f.Message, f.Cause = no.Message, no.Err
	return &f
}

// notBuilt answers a part of an operation AWS has and we do not.
func notBuilt(what string) error {
	return countersign.Errorf(countersign.NotBuilt, "%s is not built in Countersign.", what)
}

// val is *p, or the zero value where the caller sent nothing.
func val[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// lastModified is how Lambda writes times: milliseconds and a numeric zone.
func lastModified(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000-0700") }
