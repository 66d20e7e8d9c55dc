package wire

import (
	"iter"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// A form is the parameters of a query request as the tree their dots make:
// "Tags.member.1.Key" is four steps down.
type form struct {
	value string
	set   bool
	below map[string]*form
}

// maxSteps bounds the depth of a name, maxNodes the size of the tree: far
// beyond what any shape needs, so that a body of dots and ampersands costs
// little more than its own size.
const (
	maxSteps = 64
	maxNodes = 100_000
)

// formPairs yields decoded pairs of a URL's query and of a form. A plus is a
// space in a form only: in a query the signature takes it for itself, and so
// must the reader, or %2B could be made a space on the way.
func formPairs(query, form string) iter.Seq2[[2]string, error] {
	return func(yield func([2]string, error) bool) {
		for i, raw := range []string{query, form} {
			unescape := url.PathUnescape
			if i == 1 {
				unescape = url.QueryUnescape
			}
			for pair := range strings.SplitSeq(raw, "&") {
				if pair == "" {
					continue
				}
				k, v, _ := strings.Cut(pair, "=")
				name, err := unescape(k)
				if err != nil {
					yield([2]string{}, malformedf("Bad percent escape in a parameter name"))
					return
				}
				value, err := unescape(v)
				if err != nil {
					yield([2]string{}, malformedf("Bad percent escape in a parameter"))
					return
				}
				if !yield([2]string{name, value}, nil) {
					return
				}
			}
		}
	}
}

// An action is which operation a form asks for.
type action struct {
	name, version     string
	named, hasVersion bool
}

// findAction reads no more of a form than it has to. The first of repeated
// parameters wins.
func findAction(query, body string) (a action, err error) {
	for p, err := range formPairs(query, body) {
		switch {
		case err != nil:
			return a, err
		case p[0] == "Action" && !a.named:
			a.name, a.named = p[1], true
		case p[0] == "Version" && !a.hasVersion:
			a.version, a.hasVersion = p[1], true
		}
		if a.named && a.hasVersion {
			break
		}
	}
	return a, nil
}

// parseForm reads all of a form. The first of repeated parameters wins;
// unknown ones are for nobody and harmless.
func parseForm(query, body string) (*form, error) {
	root, nodes := new(form), 0
	for p, err := range formPairs(query, body) {
		if err != nil {
			return nil, err
		}
		steps := strings.Count(p[0], ".") + 1
		if nodes += steps; steps > maxSteps || nodes > maxNodes {
			return nil, malformedf("Too many parameters")
		}
		root.put(p[0], p[1])
	}
	return root, nil
}

func (f *form) put(name, value string) {
	for step := range strings.SplitSeq(name, ".") {
		next := f.below[step]
		if next == nil {
			next = new(form)
			if f.below == nil {
				f.below = map[string]*form{}
			}
			f.below[step] = next
		}
		f = next
	}
	if !f.set {
		f.value, f.set = value, true
	}
}

// at returns what is below name; a locationName may hold dots of its own.
func (f *form) at(name string) *form {
	for step := range strings.SplitSeq(name, ".") {
		if f = f.below[step]; f == nil {
			return nil
		}
	}
	return f
}

// items are the numbered children of f in order; gaps do not matter.
func (f *form) items() []*form {
	type item struct {
		n int
		f *form
	}
	var is []item
	for k, v := range f.below {
		if n, err := strconv.Atoi(k); err == nil && n > 0 && k[0] != '+' {
			is = append(is, item{n, v})
		}
	}
	slices.SortFunc(is, func(a, b item) int { return a.n - b.n })
	fs := make([]*form, len(is))
	for i := range is {
		fs[i] = is[i].f
	}
	return fs
}

// decodeQuery reads a query or ec2 request's parameters, in the query string
// or the body, into dst.
func decodeQuery(m *message, form [2]string, dst reflect.Value) error {
	if m.plan == nil {
		return nil
	}
	f, err := parseForm(form[0], form[1])
	if err != nil {
		return err
	}
	return decodeFormStruct(m.svc.Protocol == EC2, f, m.plan, dst)
}

func decodeFormStruct(ec2 bool, f *form, p *plan, dst reflect.Value) error {
	for i := range p.fields {
		m := &p.fields[i]
		name := m.form
		// A flattened list's items carry the item's own name, if it has one.
		if !ec2 && m.Flat && m.plan.kind == List && m.plan.shape.Elem.WireName != "" {
			if j := strings.LastIndexByte(name, '.'); j >= 0 {
				name = name[:j+1] + m.plan.shape.Elem.WireName
			} else {
				name = m.plan.shape.Elem.WireName
			}
		}
		at := f.at(name)
		if at == nil {
			continue
		}
		if err := decodeForm(ec2, at, m.plan, &m.Ref, dst.Field(m.index)); err != nil {
			return err
		}
	}
	return nil
}

func decodeForm(ec2 bool, f *form, p *plan, ref *Ref, dst reflect.Value) error {
	switch p.kind {
	case Structure:
		v := reflect.New(p.typ)
		if err := decodeFormStruct(ec2, f, p, v.Elem()); err != nil {
			return err
		}
		dst.Set(v)
		return nil
	case List:
		if !ec2 && !ref.Flat {
			name := p.shape.Elem.WireName
			if name == "" {
				name = "member"
			}
			f = orEmpty(f.below[name], f)
		}
		items := f.items()
		if len(items) == 0 && !f.set { // an empty list is sent as the bare name
			return nil
		}
		v := reflect.MakeSlice(p.typ, len(items), len(items))
		for i, item := range items {
			if err := decodeForm(ec2, item, p.elem, &p.shape.Elem, v.Index(i)); err != nil {
				return err
			}
		}
		dst.Set(v)
		return nil
	case Map:
		if !ref.Flat {
			f = orEmpty(f.below["entry"], f)
		}
		items := f.items()
		if len(items) == 0 && !f.set {
			return nil
		}
		v := reflect.MakeMap(p.typ)
		for _, item := range items {
			key, val := item.below[or(p.shape.Key.WireName, "key")], item.below[or(p.shape.Elem.WireName, "value")]
			if key == nil || !key.set || val == nil {
				return malformedf("A map entry needs a key and a value")
			}
			e := reflect.New(p.typ.Elem()).Elem()
			if err := decodeForm(ec2, val, p.elem, &p.shape.Elem, e); err != nil {
				return err
			}
			v.SetMapIndex(reflect.ValueOf(key.value), e)
		}
		dst.Set(v)
		return nil
	}
	if !f.set {
		return nil
	}
	return setText(p, ref, f.value, dst)
}

func orEmpty(f, parent *form) *form {
	if f == nil {
		return &form{value: parent.value, set: parent.set}
	}
	return f
}

func or(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// encodeQuery writes v as the XML document of a query or ec2 answer.
func encodeQuery(m *message, v reflect.Value, requestID string, h http.Header, b []byte) (int, []byte) {
	h["Content-Type"] = []string{"text/xml"}
	name := m.op.Name + "Response"
	w := xmlWriter{b: b}
	if m.svc.Protocol == EC2 {
		w.b = append(w.b, xmlHeader...)
		w.openNS(name, m.svc.Namespace)
		w.text("requestId", requestID)
		if m.plan != nil {
			w.members(m.plan, v)
		}
		w.close(name)
		return http.StatusOK, w.b
	}
	w.openNS(name, m.svc.Namespace)
	if m.plan != nil {
		if m.op.ResultWrapper != "" {
			w.open(m.op.ResultWrapper)
		}
		w.members(m.plan, v)
		if m.op.ResultWrapper != "" {
			w.close(m.op.ResultWrapper)
		}
	}
	w.open("ResponseMetadata")
	w.text("RequestId", requestID)
	w.close("ResponseMetadata")
	w.close(name)
	return http.StatusOK, append(w.b, '\n')
}
