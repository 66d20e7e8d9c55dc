package wire

import (
	"fmt"
	"net/http"
)

// A Fault is an error in AWS's terms: what a caller sees. The zero value of a
// field means "as the model says": the model of the service knows an error's
// status and how its members are spelled.
type Fault struct {
	Code     string         // the error's shape name or its wire code
	Status   int            // 0: the model's, else 400, or 500 for a Receiver
	Message  string         // for the caller; may be empty
	Receiver bool           // our fault, not the caller's
	Members  map[string]any // members beside the message; nil as a value takes a member out ("Type")
	Capital  bool           // spell it "Message" where the model does not say
	Header   http.Header    // sent as given
	Cause    error          // for the log only
}

func (f *Fault) Error() string {
	if f.Message == "" {
		return f.Code
	}
	return f.Code + ": " + f.Message
}

// Unwrap returns the cause, which the caller never sees.
func (f *Fault) Unwrap() error { return f.Cause }

// notBuilt is the answer to an operation AWS has and we do not, yet.
func notBuilt(svc *Service, op *Operation) *Fault {
	return &Fault{
		Code:     "NotImplemented",
		Status:   http.StatusNotImplemented,
		Message:  fmt.Sprintf("The operation %s:%s is not built in Countersign.", svc.Name, op.Name),
		Receiver: true,
	}
}

// internalFault is the answer when we could not decide; its cause is for the log.
func internalFault(svc *Service, cause error) *Fault {
	return &Fault{
		Code:     svc.InternalCode,
		Status:   http.StatusInternalServerError,
		Message:  "An internal error occurred. The server's log has it under this request's id.",
		Receiver: true,
		Cause:    cause,
	}
}

// validationFault carries a sentence of package wire's own constraint checks.
func validationFault(svc *Service, message string) *Fault {
	return &Fault{Code: svc.ValidationCode, Status: http.StatusBadRequest, Message: message}
}

// malformed is what a decoder returns for a body it cannot read, or will not
// guess at. It never holds a value from the request.
type malformed struct{ why string }

func (m *malformed) Error() string { return m.why }

func malformedf(format string, args ...any) error {
	return &malformed{fmt.Sprintf(format, args...)}
}

// malformedFault gives err the protocol's name for it.
func malformedFault(svc *Service, err error) *Fault {
	code := "SerializationException"
	switch svc.Protocol {
	case Query, EC2:
		code = "MalformedInput"
	case RESTXML:
		code = "MalformedXML"
	}
	return &Fault{Code: code, Status: http.StatusBadRequest, Message: err.Error()}
}
