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
	"time"

	"countersign"
	"countersign/internal/observe"
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

// faultTables gives each service its names for our kinds.
var faultTables = map[*wire.Service]func(*wire.Call, error) *wire.Fault{
	lambda.Service: lambdaFault,
}

// Translate names a handler's error as the call's service does. What no table
// knows stays nil: wire answers it as a failure of ours.
func Translate(c *wire.Call, err error) *wire.Fault {
	var f *wire.Fault
	if errors.As(err, &f) {
		return f
	}
	if t := faultTables[c.Service]; t != nil {
		return t(c, err)
	}
	return nil
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
