package wire

import (
	"fmt"
	"net/textproto"
	"reflect"
	"strings"
	"sync"
	"time"
)

// A plan binds one shape to the Go type generated for it, so that a request
// needs no look-up by name in the type. Plans are made when a handler is
// registered, never while serving, and are read-only then.
type plan struct {
	shape  *Shape
	kind   Kind
	typ    reflect.Type
	fields []field           // of a structure, in the model's order
	byName map[string]*field // body members by wire name
	elem   *plan
	key    *plan
}

// A field is one member of a bound structure.
type field struct {
	*Member
	plan  *plan
	index int    // in the Go struct
	wire  string // name on the wire: the model's locationName, else the member's
	form  string // name in a form
	json  string // `"wire":`
	canon string // the wire name as net/http spells it
	lower string // name in a validation message
}

var plans = struct {
	sync.Mutex
	m map[planKey]*plan
}{m: map[planKey]*plan{}}

type planKey struct {
	shape *Shape
	typ   reflect.Type
}

// planOf returns the plan for shape name of svc and Go type t. It panics when
// t is not what the generator made of the shape.
func planOf(svc *Service, name string, t reflect.Type) *plan {
	plans.Lock()
	defer plans.Unlock()
	return planLocked(svc, name, t)
}

var goKinds = map[Kind]reflect.Type{
	String: reflect.TypeFor[string](), Blob: reflect.TypeFor[[]byte](), Boolean: reflect.TypeFor[bool](),
	Integer: reflect.TypeFor[int64](), Long: reflect.TypeFor[int64](), Float: reflect.TypeFor[float64](),
	Double: reflect.TypeFor[float64](), Timestamp: reflect.TypeFor[time.Time](),
}

func planLocked(svc *Service, name string, t reflect.Type) *plan {
	sh := svc.Shape(name)
	if sh == nil {
		panic(fmt.Sprintf("wire: %s has no shape %s", svc.Name, name))
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if p := plans.m[planKey{sh, t}]; p != nil {
		return p
	}
	p := &plan{shape: sh, kind: sh.Kind, typ: t}
	plans.m[planKey{sh, t}] = p // before its members: shapes recur
	switch sh.Kind {
	case Structure:
		p.bind(svc, t)
	case List:
		p.elem = planLocked(svc, sh.Elem.Shape, t.Elem())
	case Map:
		p.key = planLocked(svc, sh.Key.Shape, t.Key())
		p.elem = planLocked(svc, sh.Elem.Shape, t.Elem())
	default:
		if t != goKinds[sh.Kind] {
			panic(fmt.Sprintf("wire: shape %s of %s is no %s", name, svc.Name, t))
		}
	}
	return p
}

func (p *plan) bind(svc *Service, t reflect.Type) {
	if t.Kind() != reflect.Struct || t.NumField() != len(p.shape.Members) {
		panic(fmt.Sprintf("wire: %s was not made from shape %s of %s", t, p.shape.Name, svc.Name))
	}
	p.fields = make([]field, len(p.shape.Members))
	p.byName = make(map[string]*field, len(p.shape.Members))
	for i := range p.shape.Members {
		m := &p.shape.Members[i]
		if t.Field(i).Name != strings.ToUpper(m.Name[:1])+m.Name[1:] {
			panic(fmt.Sprintf("wire: field %d of %s is not member %s", i, t, m.Name))
		}
		f := &p.fields[i]
		*f = field{Member: m, plan: planLocked(svc, m.Shape, t.Field(i).Type), index: i, wire: m.WireName}
		if f.wire == "" {
			f.wire = m.Name
		}
		f.form = f.wire
		if svc.Protocol == EC2 { // queryName as it is, else locationName upper-cased
			if m.QueryName != "" {
				f.form = m.QueryName
			} else {
				f.form = strings.ToUpper(f.wire[:1]) + f.wire[1:]
			}
		}
		f.canon = textproto.CanonicalMIMEHeaderKey(f.wire)
		f.json = `"` + f.wire + `":`
		f.lower = strings.ToLower(m.Name[:1]) + m.Name[1:]
		if m.In == Body {
			p.byName[f.wire] = f
		}
	}
}

// A message is a plan for the input or output of one operation: which member
// travels where.
type message struct {
	svc     *Service
	op      *Operation
	plan    *plan // nil when the operation has no such message
	located []*field
	labels  map[string]*field
	payload *field
	body    bool // some member travels in the body
	tokens  []*field
}

// newMessage binds t to the input or output of op.
func newMessage(svc *Service, opName string, t reflect.Type, input bool) *message {
	op := svc.Operation(opName)
	if op == nil {
		panic(fmt.Sprintf("wire: %s has no operation %s", svc.Name, opName))
	}
	if op.Streams {
		panic(fmt.Sprintf("wire: %s:%s is an event stream, which this package does not speak", svc.Name, opName))
	}
	m := &message{svc: svc, op: op, labels: map[string]*field{}}
	name := op.Output
	if input {
		name = op.Input
	}
	if name == "" {
		if t != reflect.TypeFor[None]() {
			panic(fmt.Sprintf("wire: %s:%s wants None, not %s", svc.Name, opName, t))
		}
		return m
	}
	m.plan = planOf(svc, name, t)
	rest := svc.Protocol == RESTJSON || svc.Protocol == RESTXML
	for i := range m.plan.fields {
		f := &m.plan.fields[i]
		if f.Token {
			m.tokens = append(m.tokens, f)
		}
		switch {
		case f.Name == m.plan.shape.Payload && rest:
			m.payload = f
		case f.In == URI && rest:
			m.labels[f.wire] = f
		case f.In != Body && rest:
			m.located = append(m.located, f)
		default:
			m.body = true
		}
	}
	return m
}

// settle returns where to put a scalar: dst itself, or what dst, a nil pointer, now points to.
func settle(dst reflect.Value) reflect.Value {
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		return dst.Elem()
	}
	return dst
}
