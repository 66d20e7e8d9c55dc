// Package guard knows whose credentials a request carries.
//
// It promises that nobody is anonymous and nobody is root by accident: a
// caller comes out of [Authenticator.Authenticate] only when the request was
// signed, now, for this service, with the secret of a key that [Keys] knows.
// It trusts the data directory's owner, who can read the root credentials.
//
// Signatures follow AWS Signature Version 4 (internal/wire/sigv4). What a
// caller may do is not decided here.
package guard

import (
	"context"
	"errors"
	"net/http"
	"time"

	"countersign/internal/wire"
	"countersign/internal/wire/sigv4"
)

// DefaultAccount is the account of the root credentials.
const DefaultAccount = "000000000000"

// A Key is what the platform knows about an access key.
type Key struct {
	Secret  string
	Token   string    // session token that must come with it, "" for a long-lived key
	Expires time.Time // end of a session, zero for never
	Caller  wire.Caller
}

// Keys looks up access keys.
type Keys interface {
	// Key returns the key with this id, or [ErrUnknownKey]. token is the
	// session token that came with it, unverified, for keys whose facts travel
	// sealed in their token; the caller compares it with the Key's. Key is
	// called for every request, by many goroutines, and must not do I/O.
	Key(ctx context.Context, id, token string) (Key, error)
}

// ErrUnknownKey is the answer for an access key id nobody has.
var ErrUnknownKey = sigv4.ErrUnknownKey

// An Authenticator proves who sent a request.
type Authenticator struct {
	Keys Keys
	Now  func() time.Time // nil is the system's clock
}

// Authenticate verifies r's signature over the whole body and returns who made
// it and the region of its scope. It has the form of wire.Config.Authenticate.
// A refusal is a [*wire.Fault] in svc's own words; any other error means the
// key could not be looked up, and nothing was decided.
func (a *Authenticator) Authenticate(r *http.Request, body []byte, svc *wire.Service) (wire.Caller, string, error) {
	now := time.Now
	if a.Now != nil {
		now = a.Now
	}
	rules := sigv4.RulesFor(svc.SigningName, families[svc.Protocol])
	var key Key
	claim, err := sigv4.Verify(r, sigv4.BodyHash(body), rules, now(), func(id, token string) (sigv4.Key, error) {
		var err error
		key, err = a.Keys.Key(r.Context(), id, token)
		return sigv4.Key{Secret: key.Secret, Token: key.Token, Expires: key.Expires}, err
	})
	if p, ok := errors.AsType[*sigv4.Problem](err); ok {
		f := rules.Fault(p)
		return wire.Caller{}, "", &wire.Fault{Code: f.Code, Status: f.Status, Message: f.Message, Cause: p}
	}
	if err != nil {
		return wire.Caller{}, "", err
	}
	c := key.Caller
	c.AccessKeyID = claim.KeyID
	return c, claim.Scope.Region, nil
}

// Precheck refuses what no body could make right, by everything Authenticate
// asks but the signature itself. It has the form of wire.Config.Precheck.
func (a *Authenticator) Precheck(r *http.Request, svc *wire.Service) error {
	_, _, err := a.Authenticate(r, nil, svc)
	if p, ok := errors.AsType[*sigv4.Problem](err); ok && p.Outcome == sigv4.Mismatch {
		return nil // of course: it was taken over another body
	}
	return err
}

// families says which of sigv4's spellings a protocol's services use. S3 is
// not here: the embedded gateway verifies its own requests.
var families = map[wire.Protocol]sigv4.Family{
	wire.Query:    sigv4.Query,
	wire.EC2:      sigv4.EC2,
	wire.JSON:     sigv4.JSON,
	wire.RESTJSON: sigv4.RESTJSON,
	wire.RESTXML:  sigv4.RESTXML,
}
