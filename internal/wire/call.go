package wire

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"time"
)

// A Caller is who a request's signature proved to be.
type Caller struct {
	Account     string
	ARN         string
	UserID      string
	AccessKeyID string
	Root        bool
}

// A Call is one request on its way through a handler.
type Call struct {
	Service   *Service
	Operation *Operation
	RequestID string // a UUID; also in the answer
	Account   string // the caller's
	Region    string // the signature's scope
	Caller    Caller
	Request   *http.Request
	Received  time.Time

	// ResponseHeader is sent with a success, over what the codec sets.
	ResponseHeader http.Header
}

// A Config says who may do what with a [Server]. Only Authenticate is needed.
type Config struct {
	// Authenticate proves who sent r. body is the whole body, or nil where r
	// carries no credentials at all and the body was not read. It sees a
	// request before anything was decoded. A *Fault goes out as it is.
	Authenticate func(r *http.Request, body []byte, svc *Service) (c Caller, region string, err error)

	// Precheck refuses, before the body of a signed request is read, what no
	// body could make right: an unknown key, another service's scope, a stale
	// date. Without it strangers could have us wait for bodies. nil refuses
	// nothing.
	Precheck func(r *http.Request, svc *Service) error

	// Authorize is asked after decoding and before validation, as AWS does; in
	// is the operation's input struct. nil allows everything.
	Authorize func(ctx context.Context, c *Call, in any) error

	// Translate turns an error of Authenticate, Authorize or a handler into a
	// Fault; nil, or a nil answer, is an internal error. It is not asked about
	// errors that hold a *Fault already.
	Translate func(c *Call, err error) *Fault

	// Done is told how every call of a known operation ended; f is nil for a success
	// and in is nil when there was none.
	Done func(c *Call, in any, f *Fault, took time.Duration)

	S3     http.Handler // requests of S3, and of no service anybody knows; nil refuses them
	Health http.Handler // GET /_countersign/health
	Log    *slog.Logger // nil discards

	// MaxBody is the body limit where the operation has none; 0 is 10 MiB.
	MaxBody int64

	// MaxHeld bounds the bodies above 1 MiB that are in memory at once, of all
	// requests together; beyond it the answer is 503. 0 is 1 GiB.
	MaxHeld int64

	// Now and NewID are the clock and the source of request ids and idempotency
	// tokens (random UUIDs); nil is the real thing.
	Now   func() time.Time
	NewID func() string
}

// handler is one built operation: everything the hot path needs, planned once.
type handler struct {
	in     *message
	out    *message
	newIn  func() any
	invoke func(ctx context.Context, c *Call, in any) (any, error)
}

// Handle makes h the implementation of operation op of svc. I and O are the
// generated structs of its input and output, or [None]. It panics when they
// are not, or when op has a handler already: that is a mistake in the program.
// All calls come before the server serves.
func Handle[I, O any](s *Server, svc *Service, op string, h func(ctx context.Context, c *Call, in *I) (*O, error)) {
	s.handle(svc, op, &handler{
		in:    newMessage(svc, op, reflect.TypeFor[I](), true),
		out:   newMessage(svc, op, reflect.TypeFor[O](), false),
		newIn: func() any { return new(I) },
		invoke: func(ctx context.Context, c *Call, in any) (any, error) {
			out, err := h(ctx, c, in.(*I))
			if err != nil {
				return nil, err
			}
			if out == nil {
				out = new(O)
			}
			return out, nil
		},
	})
}

// Built reports whether operation op of svc has a handler.
func (s *Server) Built(svc *Service, op string) bool {
	sv := s.byService[svc]
	return sv != nil && sv.handlers[op] != nil
}

// Covered is one line of the coverage table.
type Covered struct {
	Service, Operation string
	Deprecated         bool
	Built              bool
}

// Coverage lists every modelled operation of every service of s, in the order
// of NewServer's arguments and the operations' names.
func Coverage(s *Server) []Covered {
	var cs []Covered
	for _, sv := range s.services {
		for _, op := range sv.svc.Operations {
			cs = append(cs, Covered{sv.svc.Name, op.Name, op.Deprecated, sv.handlers[op.Name] != nil})
		}
	}
	return cs
}

// fault turns err into what the caller sees.
func (s *Server) fault(c *Call, err error) *Fault {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	if s.cfg.Translate != nil {
		if f := s.cfg.Translate(c, err); f != nil {
			return f
		}
	}
	return internalFault(c.Service, err)
}
