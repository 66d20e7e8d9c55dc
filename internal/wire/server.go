package wire

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// HealthPath is answered without credentials and without a service.
const HealthPath = "/_countersign/health"

// A Server is one endpoint for every service: it routes a request by its
// credential scope, X-Amz-Target, host, path or Action, and then does in
// order: authenticate, decode, authorize, validate, handle, encode.
type Server struct {
	cfg       Config // read-only after NewServer, as are the next two
	services  []*served
	byService map[*Service]*served
	held      atomic.Int64 // bytes of large bodies in memory now
}

// served is a service with what this server adds to it.
type served struct {
	svc      *Service
	ops      map[string]*Operation
	handlers map[string]*handler // written by Handle only
	router   *router             // nil unless REST
}

// NewServer returns a server of services without any operation built. It
// panics without cfg.Authenticate: nothing here is anonymous.
func NewServer(cfg Config, services ...*Service) *Server {
	if cfg.Authenticate == nil {
		panic("wire: Config.Authenticate is nil")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = defaultMaxBody
	}
	if cfg.MaxHeld == 0 {
		cfg.MaxHeld = defaultMaxHeld
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = newID
	}
	s := &Server{cfg: cfg, byService: map[*Service]*served{}}
	for _, svc := range services {
		svc.prepare()
		sv := &served{svc: svc, ops: map[string]*Operation{}, handlers: map[string]*handler{}}
		for _, op := range svc.Operations {
			sv.ops[op.Name] = op
		}
		if svc.Protocol == RESTJSON || svc.Protocol == RESTXML {
			sv.router = newRouter(svc)
		}
		s.services = append(s.services, sv)
		s.byService[svc] = sv
	}
	return s
}

func (s *Server) handle(svc *Service, op string, h *handler) {
	sv := s.byService[svc]
	if sv == nil {
		panic("wire: Handle for " + svc.Name + ", which this server does not serve")
	}
	if sv.handlers[op] != nil {
		panic("wire: two handlers for " + svc.Name + ":" + op)
	}
	sv.handlers[op] = h
}

// newID returns a random UUID, version 4.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[:8], b[:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:], b[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// A request is what routing found out about one HTTP request.
type request struct {
	sv     *served
	op     *Operation
	labels []label
	form   [2]string // of a query request: query string and body
	action action    // of a query request
	body   []byte    // read already, when have
	have   bool
	held   int64           // what the body counts against Config.MaxHeld
	within func(time.Time) // sets the deadline for reading the body
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == HealthPath && s.cfg.Health != nil {
		s.cfg.Health.ServeHTTP(w, r)
		return
	}
	t := s.pick(r)
	if t == (target{}) && maybeForm(r) && s.pickForm(w, r) {
		return
	}
	switch {
	case t.sv != nil:
		s.route(w, r, &request{sv: t.sv})
	case t.foreign != "":
		s.notServed(w, r, t.foreign)
	case s.cfg.S3 != nil: // asked for, or nobody's: S3 refuses what nobody signed
		s.cfg.S3.ServeHTTP(w, r)
	default:
		unknownOperation(w, r, s.cfg.NewID())
	}
}

// notServed answers for a service of AWS's that is not here at all, in the
// protocol its client most likely speaks.
func (s *Server) notServed(w http.ResponseWriter, r *http.Request, name string) {
	like := &Service{Name: name, Protocol: RESTJSON}
	switch {
	case r.Header.Get("X-Amz-Target") != "":
		like.Protocol = JSON
	case isForm(r):
		like.Protocol = Query
	}
	writeFault(w, r, like, &Fault{
		Code:     "NotImplemented",
		Status:   http.StatusNotImplemented,
		Message:  fmt.Sprintf("The service %s is not built in Countersign.", name),
		Receiver: true,
	}, s.cfg.NewID())
}

// route finds the operation of a request whose service is known.
func (s *Server) route(w http.ResponseWriter, r *http.Request, q *request) {
	svc := q.sv.svc
	switch svc.Protocol {
	case RESTJSON, RESTXML:
		if q.op, q.labels = q.sv.router.find(r.Method, rawPath(r), r.URL.RawQuery); q.op == nil {
			unknownOperation(w, r, s.cfg.NewID())
			return
		}
	case JSON:
		target := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), svc.TargetPrefix+".")
		if q.op = q.sv.ops[target]; q.op == nil || r.Method != http.MethodPost {
			writeFault(w, r, svc, &Fault{Code: "UnknownOperationException", Status: http.StatusBadRequest}, s.cfg.NewID())
			return
		}
	default:
		if !s.routeForm(w, r, q) {
			return
		}
	}
	s.serve(w, r, q)
}

// serve takes a request with a known operation to its answer.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, q *request) {
	c := &Call{
		Service:        q.sv.svc,
		Operation:      q.op,
		RequestID:      s.cfg.NewID(),
		Request:        r,
		Received:       s.cfg.Now(),
		ResponseHeader: http.Header{},
	}
	defer func() { s.held.Add(-q.held) }()
	conn := http.NewResponseController(w)
	q.within = func(t time.Time) { _ = conn.SetReadDeadline(t) } // not every writer has one
	h := q.sv.handlers[q.op.Name]
	in, out, f := s.call(c, h, q)
	if f == nil {
		s.answer(w, c, h, out)
	} else {
		s.report(c, f)
		writeFault(w, r, c.Service, f, c.RequestID)
	}
	if s.cfg.Done != nil {
		s.cfg.Done(c, in, f, s.cfg.Now().Sub(c.Received))
	}
}

// call runs every step up to the handler's answer.
func (s *Server) call(c *Call, h *handler, q *request) (in, out any, f *Fault) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			s.cfg.Log.Error("handler panicked", "operation", c.Service.Name+":"+c.Operation.Name,
				"request", c.RequestID, "panic", p, "stack", string(debug.Stack()))
			out, f = nil, internalFault(c.Service, fmt.Errorf("panic: %v", p))
		}
	}()
	if f := s.authenticate(c, q); f != nil {
		return nil, nil, f
	}
	if h == nil {
		return nil, nil, notBuilt(c.Service, c.Operation)
	}
	in = h.newIn()
	v := reflect.ValueOf(in).Elem()
	if err := decode(h.in, c.Request, q, v); err != nil {
		if m, ok := errors.AsType[*malformed](err); ok {
			return nil, nil, malformedFault(c.Service, m)
		}
		return nil, nil, internalFault(c.Service, err)
	}
	for _, t := range h.in.tokens {
		if fv := v.Field(t.index); fv.IsNil() {
			fv.Set(reflect.ValueOf(new(s.cfg.NewID())))
		}
	}
	ctx := c.Request.Context()
	if s.cfg.Authorize != nil {
		if err := s.cfg.Authorize(ctx, c, in); err != nil {
			return in, nil, s.fault(c, err)
		}
	}
	if msg := validate(h.in, v); msg != "" {
		return in, nil, validationFault(c.Service, msg)
	}
	out, err := h.invoke(ctx, c, in)
	if err != nil {
		return in, nil, s.fault(c, err)
	}
	return in, out, nil
}

// authenticate reads the body and has the signature checked. A request without
// any credentials is refused before its body is read.
func (s *Server) authenticate(c *Call, q *request) *Fault {
	r := c.Request
	asked := false
	var err error
	if !q.have {
		if !signed(r) {
			if c.Caller, c.Region, err = s.cfg.Authenticate(r, nil, c.Service); err != nil {
				return s.fault(c, err)
			}
			asked = true
		} else if s.cfg.Precheck != nil {
			if err := s.cfg.Precheck(r, c.Service); err != nil {
				return s.fault(c, err)
			}
		}
		limit := q.op.MaxBody
		if limit == 0 {
			limit = s.cfg.MaxBody
		}
		if f := s.hold(q, r, limit); f != nil {
			return f
		}
		q.within(c.Received.Add(bodyTime))
		q.body, err = readBody(r, limit)
		q.within(time.Time{})
		if errors.Is(err, errTooLarge) {
			return tooLarge(c.Service, q.op, limit)
		} else if err != nil {
			return &Fault{Code: "RequestTimeout", Status: http.StatusBadRequest, Message: "The body did not arrive.", Cause: err}
		}
	}
	if !asked {
		if c.Caller, c.Region, err = s.cfg.Authenticate(r, q.body, c.Service); err != nil {
			return s.fault(c, err)
		}
	}
	c.Account = c.Caller.Account
	return nil
}

// hold counts a large body against what all requests together may hold. Who
// sends it is not known yet, so that a crowd of strangers could otherwise hold
// any amount; clients come back after a 503.
func (s *Server) hold(q *request, r *http.Request, limit int64) *Fault {
	size := r.ContentLength
	if size < 0 {
		size = limit
	}
	if size <= firstRead || size > limit {
		return nil
	}
	q.held = size
	if s.held.Add(size) > s.cfg.MaxHeld {
		return &Fault{Code: "ServiceUnavailable", Status: http.StatusServiceUnavailable, Message: "Too many large requests at once. Try again later."}
	}
	return nil
}

func decode(m *message, r *http.Request, q *request, dst reflect.Value) error {
	switch m.svc.Protocol {
	case RESTJSON:
		return decodeRESTJSON(m, r, q.labels, q.body, dst)
	case JSON:
		return decodeAWSJSON(m, q.body, dst)
	case RESTXML:
		return decodeRESTXML(m, r, q.labels, q.body, dst)
	}
	return decodeQuery(m, q.form, dst)
}

// report logs what the caller is not told.
func (s *Server) report(c *Call, f *Fault) {
	level := slog.LevelDebug // a caller's mistake is the caller's
	if f.Receiver {
		level = slog.LevelError
	}
	if f.Cause != nil || f.Receiver && f.Status != http.StatusNotImplemented {
		s.cfg.Log.LogAttrs(context.WithoutCancel(c.Request.Context()), level, "call refused",
			slog.String("operation", c.Service.Name+":"+c.Operation.Name), slog.String("request", c.RequestID),
			slog.String("code", f.Code), slog.Any("cause", f.Cause))
	}
}

// buffers hold answers while they are written; large ones are not kept.
var buffers = sync.Pool{New: func() any { return new(make([]byte, 0, 4096)) }}

const maxKept = 64 << 10

// answer encodes and sends a success.
func (s *Server) answer(w http.ResponseWriter, c *Call, h *handler, out any) {
	m, v := h.out, reflect.ValueOf(out).Elem()
	head := w.Header()
	for k, vs := range c.ResponseHeader {
		head[k] = vs
	}
	head["X-Amzn-Requestid"] = []string{c.RequestID}
	buf := buffers.Get().(*[]byte)
	status, b := encode(m, c, v, head, (*buf)[:0])
	if status == http.StatusNoContent {
		b = nil
	} else {
		head["Content-Length"] = []string{strconv.Itoa(len(b))}
	}
	w.WriteHeader(status)
	if len(b) > 0 && c.Request.Method != http.MethodHead {
		_, _ = w.Write(b) // the client has gone, or has it
	}
	if m.payload != nil && m.payload.plan.kind == Blob {
		b = *buf // b was the handler's own
	}
	if cap(b) <= maxKept && cap(b) > 0 {
		*buf = b
	}
	buffers.Put(buf)
}

func encode(m *message, c *Call, v reflect.Value, h http.Header, b []byte) (int, []byte) {
	switch m.svc.Protocol {
	case RESTJSON:
		return encodeRESTJSON(m, v, h, b)
	case JSON:
		return encodeAWSJSON(m, v, h, b)
	case RESTXML:
		return encodeRESTXML(m, v, h, b)
	}
	return encodeQuery(m, v, c.RequestID, h, b)
}
