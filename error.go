package countersign

import (
	"errors"
	"fmt"
	"strings"
)

// A Kind says which sort of no an [Error] is. Stages speak in kinds;
// internal/api gives each kind the name and status AWS uses for it.
type Kind int

// The kinds. The zero Kind is Internal: an error nobody classified means
// "we could not decide", and not deciding is refusing.
const (
	Internal   Kind = iota // we could not decide; nothing is known about the caller's request
	Invalid                // the request breaks a rule of the operation
	NotFound               // the thing named does not exist
	Exists                 // the name is taken
	Conflict               // the thing exists and its state does not allow this now
	Stale                  // the caller's revision is not the latest
	Refused                // admission said no; the cause is a *Refusal
	Denied                 // policy said no
	TooLarge               // over a size limit that has a status of its own
	Throttled              // no capacity now; trying again later may work
	NotBuilt               // AWS has it and we do not, yet
	NotAllowed             // the request is well-formed and the thing does not support it
)

var kindNames = [...]string{"internal", "invalid", "not found", "exists", "conflict", "stale", "refused", "denied", "too large", "throttled", "not built", "not allowed"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", int(k))
}

// An Error is a no with a kind and a sentence for the caller. Where AWS has a
// sentence for the case, Message is that sentence, word for word.
type Error struct {
	Kind    Kind
	Message string
	Err     error // the cause, for the log only; nil when there is none
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an [Error] of kind k. The arguments are those of
// [fmt.Errorf], %w included; the whole text goes to the caller.
func Errorf(k Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Message: err.Error(), Err: unwrapOnly(err)}
}

// unwrapOnly keeps what %w wrapped reachable without repeating its text.
func unwrapOnly(err error) error {
	if c := errors.Unwrap(err); c != nil {
		return silent{c}
	}
	return nil
}

type silent struct{ error }

func (s silent) Unwrap() error { return s.error }

// KindOf returns the kind of the first [Error] in err's chain, and Internal
// for every other error. KindOf(nil) is Internal: ask err != nil first.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var r *Refusal
	if errors.As(err, &r) {
		return Refused
	}
	return Internal
}

// A Check names one of the questions an artifact has to answer before it may
// run. The names are AWS's words for them, but for the archive check, which is ours.
type Check string

// The checks, in the order they are asked. No policy softens the first two;
// the other three follow it.
const (
	CheckArchive    Check = "archive"    // the file has exactly one reading
	CheckIntegrity  Check = "integrity"  // a signature is whole, chains to a pinned root, and covers these bytes
	CheckExpiry     Check = "expiry"     // the signature is in force at the time asked about
	CheckMismatch   Check = "mismatch"   // there is a signature and its publisher is allowed
	CheckRevocation Check = "revocation" // neither the job nor the profile version was taken back
)

// A Reason is one thing that is wrong with an artifact.
type Reason struct {
	Check  Check  `json:"check"`
	Code   string `json:"code"`   // short and stable, for programs: "duplicate-name"
	Detail string `json:"detail"` // one sentence, for people
}

func (r Reason) String() string { return string(r.Check) + ": " + r.Detail }

// A Refusal is a decision against an artifact, with every reason found. It is
// not a failure to decide: those are other errors.
type Refusal struct {
	Reasons []Reason
}

func (r *Refusal) Error() string {
	s := make([]string, len(r.Reasons))
	for i, x := range r.Reasons {
		s[i] = x.String()
	}
	return "refused: " + strings.Join(s, "; ")
}

// Has reports whether any reason comes from check c.
func (r *Refusal) Has(c Check) bool {
	for _, x := range r.Reasons {
		if x.Check == c {
			return true
		}
	}
	return false
}
