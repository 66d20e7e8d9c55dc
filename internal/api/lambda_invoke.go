package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"countersign"
	"countersign/internal/release"
	"countersign/internal/run"
	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
)

func (l *Lambda) invoke(ctx context.Context, c *wire.Call, in *lambda.InvocationRequest) (*lambda.InvocationResponse, error) {
	r, err := parseRef(c, *in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if val(in.InvocationType) == "Event" {
		return nil, notBuilt("Invoke with InvocationType Event")
	}
	v, err := l.runnable(ctx, r)
	if err != nil {
		return nil, err
	}
	payload := in.Payload
	if len(bytes.TrimSpace(payload)) == 0 {
		payload = []byte("{}") // what a handler sees when nothing was sent
	}
	if err := checkPayload(payload); err != nil {
		return nil, err
	}
	if val(in.InvocationType) == "DryRun" {
		return &lambda.InvocationResponse{StatusCode: new(int64(204))}, nil
	}
	admission, err := l.Gate.Recall(ctx, v.Code.Admission)
	if err != nil {
		return nil, fmt.Errorf("invoke %s: %w", r.arn(), err)
	}
	res, err := l.Pool.Invoke(ctx, admission, runFunction(v), run.Request{
		ID: c.RequestID, InvokedARN: r.arn(), Payload: payload,
		ClientContext: clientContext(val(in.ClientContext)),
		LogTail:       val(in.LogType) == "Tail",
		TraceID:       c.Request.Header.Get("X-Amzn-Trace-Id"),
	})
	if err != nil {
		return nil, throttled(err)
	}
	out := &lambda.InvocationResponse{StatusCode: new(int64(200)), Payload: res.Payload, ExecutedVersion: new(v.Qualifier())}
	if res.FunctionError != "" {
		out.FunctionError = &res.FunctionError
	}
	if val(in.LogType) == "Tail" {
		out.LogResult = new(base64.StdEncoding.EncodeToString(res.LogTail))
	}
	return out, nil
}

// runnable finds the version to run and waits until it has settled: a caller
// who may run it should not have to come back a moment later.
func (l *Lambda) runnable(ctx context.Context, r ref) (release.Version, error) {
	if r.qualifier == "" {
		// Invoke names $LATEST in its refusal where others do not.
		if _, err := l.Functions.Get(r.scope, r.name); err != nil {
			return release.Version{}, release.NotFound(r.scope, r.name, release.Latest)
		}
	}
	v, err := l.chosen(r)
	if err != nil {
		return release.Version{}, err
	}
	if v.State == release.Pending {
		if err := l.Functions.Settled(ctx, r.scope, r.name); err != nil {
			return release.Version{}, err
		}
		if v, err = l.Functions.Version(r.scope, r.name, v.Number); err != nil {
			return release.Version{}, err
		}
	}
	if v.State != release.Active {
		return release.Version{}, countersign.Errorf(countersign.Conflict, "The operation cannot be performed at this time. The function is currently in the following state: %s", v.State)
	}
	return v, nil
}

// runFunction is what running needs to know of a version.
func runFunction(v release.Version) run.Function {
	s := v.Settings
	return run.Function{
		ARN: v.ARN(), Name: v.Name, Version: v.Qualifier(), Region: v.Scope.Region, Account: v.Scope.Account,
		Runtime: s.Runtime, Handler: s.Handler, LogGroup: s.LogGroup, Env: s.Environment,
		MemoryMB: s.Memory, TimeoutSeconds: s.Timeout, EphemeralMB: s.Ephemeral,
		Artifact: v.Code.Artifact, Revision: v.Build,
	}
}

// clientContext decodes the header's base64; what is not base64 is passed as
// it is, for the function to complain about.
func clientContext(s string) string {
	if b, err := base64.StdEncoding.DecodeString(s); err == nil {
		return string(b)
	}
	return s
}

// throttled names a full house as Lambda does.
func throttled(err error) error {
	if countersign.KindOf(err) != countersign.Throttled {
		return err
	}
	return &wire.Fault{Code: "TooManyRequestsException", Message: "Rate Exceeded.", Cause: err,
		Members: map[string]any{"Reason": "ConcurrentInvocationLimitExceeded"}}
}

// checkPayload refuses what is not JSON, in the words of the parser AWS uses,
// as far as they can be known from outside.
func checkPayload(p []byte) error {
	if json.Valid(p) {
		return nil
	}
	var v json.RawMessage
	err := json.Unmarshal(p, &v)
	at := len(p)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		at = min(int(syntax.Offset), len(p))
	}
	line := 1 + bytes.Count(p[:max(at-1, 0)], []byte("\n"))
	column := at - 1 - bytes.LastIndexByte(p[:max(at-1, 0)], '\n')
	return &wire.Fault{Code: "InvalidRequestContentException", Message: fmt.Sprintf(
		"Could not parse request body into json: Could not parse payload into json: %s\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: %d, column: %d]",
		complaint(p, at, fmt.Sprint(err)), line, column)}
}

// complaint is the parser's first sentence about p, which Go's parser left at
// offset at with the words why.
func complaint(p []byte, at int, why string) string {
	from := max(at-1, 0)
	for strings.Contains(why, " in literal ") && from > 0 && letter(p[from-1]) {
		from-- // "nope" began as null: the token is all of it
	}
	bad := bytes.TrimLeft(p[from:], " \t\r\n")
	r, _ := utf8.DecodeRune(bad)
	switch {
	case strings.HasSuffix(why, " in string literal"):
		return fmt.Sprintf("Illegal unquoted character ((CTRL-CHAR, code %d)): has to be escaped using backslash to be included in string value", p[from])
	case why == "unexpected end of JSON input":
		return "Unexpected end-of-input"
	case r < utf8.RuneSelf && letter(byte(r)):
		end := bytes.IndexFunc(bad, func(r rune) bool {
			return r >= utf8.RuneSelf || !letter(byte(r)) && !(r >= '0' && r <= '9') && r != '_'
		})
		if end < 0 {
			end = len(bad)
		}
		word := bad[:min(end, maxToken)]
		return fmt.Sprintf("Unrecognized token '%s': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')", word)
	}
	return fmt.Sprintf("Unexpected character ('%c' (code %d)): expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')", r, r)
}

// maxToken is how much of a token is repeated.
const maxToken = 64

func letter(b byte) bool { return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' }
