package api

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/objects"
	"countersign/internal/release"
	"countersign/internal/run"
	"countersign/internal/store"
	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
)

// Lambda answers AWS Lambda's operations.
type Lambda struct {
	Functions *release.Functions
	Gate      *admit.Gate
	Pool      *run.Pool
	Artifacts store.Blobs
	Objects   CodeSource
	// Runtimes tells whether a runtime identifier can run here.
	Runtimes RuntimeCheck
	// CodeLink makes the address GetFunction gives for downloading code.
	CodeLink func(c *wire.Call, d countersign.Digest) string
	// MaxConcurrency is the account's limit as GetAccountSettings shows it.
	MaxConcurrency int
}

// A CodeSource reads function code from buckets.
type CodeSource interface {
	GetObject(ctx context.Context, region, bucket, key, version string) (io.ReadCloser, objects.Info, error)
}

// A RuntimeCheck says no to a runtime identifier, or nothing.
type RuntimeCheck func(id string) error

func (l *Lambda) register(s *wire.Server) {
	wire.Handle(s, lambda.Service, "CreateFunction", l.createFunction)
	wire.Handle(s, lambda.Service, "GetFunction", l.getFunction)
	wire.Handle(s, lambda.Service, "GetFunctionConfiguration", l.getFunctionConfiguration)
	wire.Handle(s, lambda.Service, "ListFunctions", l.listFunctions)
	wire.Handle(s, lambda.Service, "UpdateFunctionCode", l.updateFunctionCode)
	wire.Handle(s, lambda.Service, "UpdateFunctionConfiguration", l.updateFunctionConfiguration)
	wire.Handle(s, lambda.Service, "DeleteFunction", l.deleteFunction)
	wire.Handle(s, lambda.Service, "GetAccountSettings", l.getAccountSettings)

	wire.Handle(s, lambda.Service, "Invoke", l.invoke)

	wire.Handle(s, lambda.Service, "PublishVersion", l.publishVersion)
	wire.Handle(s, lambda.Service, "ListVersionsByFunction", l.listVersionsByFunction)
	wire.Handle(s, lambda.Service, "CreateAlias", l.createAlias)
	wire.Handle(s, lambda.Service, "GetAlias", l.getAlias)
	wire.Handle(s, lambda.Service, "UpdateAlias", l.updateAlias)
	wire.Handle(s, lambda.Service, "DeleteAlias", l.deleteAlias)
	wire.Handle(s, lambda.Service, "ListAliases", l.listAliases)

	wire.Handle(s, lambda.Service, "CreateCodeSigningConfig", l.createCodeSigningConfig)
	wire.Handle(s, lambda.Service, "GetCodeSigningConfig", l.getCodeSigningConfig)
	wire.Handle(s, lambda.Service, "UpdateCodeSigningConfig", l.updateCodeSigningConfig)
	wire.Handle(s, lambda.Service, "DeleteCodeSigningConfig", l.deleteCodeSigningConfig)
	wire.Handle(s, lambda.Service, "ListCodeSigningConfigs", l.listCodeSigningConfigs)
	wire.Handle(s, lambda.Service, "ListFunctionsByCodeSigningConfig", l.listFunctionsByCodeSigningConfig)
	wire.Handle(s, lambda.Service, "PutFunctionCodeSigningConfig", l.putFunctionCodeSigningConfig)
	wire.Handle(s, lambda.Service, "GetFunctionCodeSigningConfig", l.getFunctionCodeSigningConfig)
	wire.Handle(s, lambda.Service, "DeleteFunctionCodeSigningConfig", l.deleteFunctionCodeSigningConfig)

	wire.Handle(s, lambda.Service, "TagResource", l.tagResource)
	wire.Handle(s, lambda.Service, "UntagResource", l.untagResource)
	wire.Handle(s, lambda.Service, "ListTags", l.listTags)
}

// lambdaFaults gives each kind of no the name Lambda has for it.
var lambdaFaults = faults{
	countersign.Invalid: {Code: "InvalidParameterValueException"},
	// Some sentences of the same name come without the member Type.
	countersign.NotAllowed: {Code: "InvalidParameterValueException", Members: map[string]any{"Type": nil}},
	countersign.NotFound:   {Code: "ResourceNotFoundException"},
	countersign.Exists:     {Code: "ResourceConflictException"},
	countersign.Conflict:   {Code: "ResourceConflictException"},
	countersign.Stale:      {Code: "PreconditionFailedException"},
	countersign.TooLarge:   {Code: "RequestEntityTooLargeException", Status: http.StatusRequestEntityTooLarge},
	countersign.Throttled:  {Code: "TooManyRequestsException"},
	countersign.Denied:     {Code: "AccessDeniedException", Status: http.StatusForbidden},
	countersign.NotBuilt:   notImplemented,
}

// scope is where the call's resources are.
func scope(c *wire.Call) release.Scope { return release.Scope{Account: c.Account, Region: c.Region} }

// A ref is a function as a caller names it.
type ref struct {
	scope     release.Scope
	name      string
	qualifier string // as given: "", "$LATEST", a number or an alias
}

// functionName is the pattern AWS prints for FunctionName (lambda-core,
// section 1), with groups for region, account, name and qualifier. The
// operations' constraints have refused what does not match.
var functionName = regexp.MustCompile(`^(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?(?:((?:eusc-)?[a-z]{2}(?:(?:-gov)|(?:-iso(?:[a-z]?)))?-[a-z]+-\d{1}):)?(?:(\d{12}):)?(?:function:)?([a-zA-Z0-9-_.]+)(?::(\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?$`)

// parseRef reads a function name in any of the forms AWS accepts, together
// with the Qualifier that came beside it.
func parseRef(c *wire.Call, name string, qualifier *string) (ref, error) {
	m := functionName.FindStringSubmatch(name)
	if m == nil {
		return ref{}, fmt.Errorf("function name %q passed its constraint and cannot be read", name)
	}
	r := ref{scope: scope(c), name: m[3], qualifier: m[4]}
	if m[1] != "" && m[1] != c.Region {
		return ref{}, countersign.Errorf(countersign.NotFound, "Functions from '%s' are not reachable in this region ('%s')", m[1], c.Region)
	}
	if m[2] != "" && m[2] != c.Account {
		return ref{}, &countersign.Error{Kind: countersign.Denied}
	}
	if q := val(qualifier); q != "" {
		if r.qualifier != "" && r.qualifier != q {
			return ref{}, countersign.Errorf(countersign.Invalid, "The derived qualifier from the function name does not match the specified qualifier.")
		}
		r.qualifier = q
	}
	return r, nil
}

// arn is the function's ARN with the qualifier the caller used.
func (r ref) arn() string {
	if r.qualifier == "" {
		return r.scope.FunctionARN(r.name)
	}
	return r.scope.FunctionARN(r.name) + ":" + r.qualifier
}

// unqualified is for operations on the function as a whole.
func (r ref) unqualified() error {
	if r.qualifier != "" {
		return countersign.Errorf(countersign.Invalid, "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.")
	}
	return nil
}

// primary finds the version r means to who only reads: of an alias with weights, the
// one that has the rest.
func (l *Lambda) primary(r ref) (release.Version, error) {
	return l.Functions.Resolve(r.scope, r.name, r.qualifier, release.Primary)
}

// chosen finds the version r means for one call: an alias's weights decide.
func (l *Lambda) chosen(r ref) (release.Version, error) {
	return l.Functions.Resolve(r.scope, r.name, r.qualifier, rand.Float64())
}

// page is a list's limit: what the caller asked, at most top.
func page(asked *int64, top int) int {
	if asked == nil || *asked <= 0 || *asked > int64(top) {
		return top
	}
	return int(*asked)
}

// marker is a list's continuation: the last name of the page before, where
// there is more.
func marker(more bool, last string) *string {
	if !more {
		return nil
	}
	return &last
}

// isAlias reports whether a qualifier names an alias: not $LATEST and not a
// number.
func isAlias(q string) bool {
	return q != "" && q != release.Latest && strings.Trim(q, "0123456789") != ""
}
