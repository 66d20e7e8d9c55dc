package wire

import (
	"iter"
	"net/http"
	"net/textproto"
	"net/url"
	"reflect"
	"strings"
)

// The parts of a message outside the body, which both REST protocols share:
// path labels, query string, headers and the status code.

// A label is one variable part of a path, still percent-encoded.
type label struct{ name, raw string }

// decodeLocated reads what travels outside the body of r into dst.
func decodeLocated(m *message, r *http.Request, labels []label, dst reflect.Value) error {
	for _, l := range labels {
		f := m.labels[l.name]
		if f == nil {
			continue
		}
		s, err := url.PathUnescape(l.raw)
		if err != nil {
			return malformedf("Bad percent escape in the path")
		}
		if err := setText(f.plan, &f.Ref, s, dst.Field(f.index)); err != nil {
			return err
		}
	}
	for _, f := range m.located {
		var err error
		switch f.In {
		case Header:
			// Present and empty is absent, as for the services.
			if v := r.Header[f.canon]; len(v) > 0 && v[0] != "" {
				err = setHeader(f, v, dst.Field(f.index))
			}
		case HeaderPrefix:
			decodePrefix(f, r.Header, dst.Field(f.index))
		case QueryString:
			if r.URL.RawQuery != "" {
				err = decodeQueryString(m, f, r.URL.RawQuery, dst.Field(f.index))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func setHeader(f *field, v []string, dst reflect.Value) error {
	if f.plan.kind != List {
		return setText(f.plan, &f.Ref, v[0], dst)
	}
	for _, line := range v {
		for s := range strings.SplitSeq(line, ",") {
			if err := appendElem(f.plan, strings.TrimSpace(s), dst); err != nil {
				return err
			}
		}
	}
	return nil
}

// appendElem reads s as one more item of the list dst.
func appendElem(p *plan, s string, dst reflect.Value) error {
	e := reflect.New(p.typ.Elem()).Elem()
	if err := setText(p.elem, &p.shape.Elem, s, e); err != nil {
		return err
	}
	dst.Set(reflect.Append(dst, e))
	return nil
}

// decodePrefix reads every header whose name starts with the wire name,
// which the models always spell with care and clients do not.
func decodePrefix(f *field, h http.Header, dst reflect.Value) {
	prefix := ""
	if f.WireName != "" {
		prefix = textproto.CanonicalMIMEHeaderKey(f.WireName)
	}
	for k, v := range h {
		if len(v) == 0 || len(k) <= len(prefix) || !strings.EqualFold(k[:len(prefix)], prefix) {
			continue
		}
		if dst.IsNil() {
			dst.Set(reflect.MakeMap(dst.Type()))
		}
		name := k
		if prefix != "" {
			name = strings.ToLower(k[len(prefix):]) // the case did not survive HTTP
		}
		dst.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(v[0]))
	}
}

// queryPairs yields the pairs of a raw query string, names decoded, values
// raw. A semicolon is data and a plus is a plus, as where it is signed.
func queryPairs(raw string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for pair := range strings.SplitSeq(raw, "&") {
			if pair == "" {
				continue
			}
			k, v, _ := strings.Cut(pair, "=")
			if strings.Contains(k, "%") {
				d, err := url.PathUnescape(k)
				if err != nil {
					continue
				}
				k = d
			}
			if !yield(k, v) {
				return
			}
		}
	}
}

func decodeQueryString(m *message, f *field, raw string, dst reflect.Value) error {
	for k, v := range queryPairs(raw) {
		if f.plan.kind != Map && k != f.wire {
			continue
		}
		v, err := url.PathUnescape(v)
		if err != nil {
			return malformedf("Bad percent escape in the query string")
		}
		switch f.plan.kind {
		case List:
			err = appendElem(f.plan, v, dst)
		case Map: // whatever no other member and no literal of the path has taken
			if !m.takes(k) {
				err = appendEntry(f.plan, k, v, dst)
			}
		default: // the first of several counts
			return setText(f.plan, &f.Ref, v, dst)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takes reports whether query parameter k belongs to a member of its own, or to SigV4.
func (m *message) takes(k string) bool {
	for _, f := range m.located {
		if f.In == QueryString && f.plan.kind != Map && f.wire == k {
			return true
		}
	}
	return strings.HasPrefix(k, "X-Amz-")
}

func appendEntry(p *plan, k, v string, dst reflect.Value) error {
	if dst.IsNil() {
		dst.Set(reflect.MakeMap(p.typ))
	}
	key, e := reflect.ValueOf(k), reflect.New(p.typ.Elem()).Elem()
	old := dst.MapIndex(key)
	if p.elem.kind == List {
		if old.IsValid() {
			e.Set(old)
		}
		if err := appendElem(p.elem, v, e); err != nil {
			return err
		}
	} else if old.IsValid() {
		return nil
	} else if err := setText(p.elem, &p.shape.Elem, v, e); err != nil {
		return err
	}
	dst.SetMapIndex(key, e)
	return nil
}

// encodeLocated writes what of v travels outside the body, and returns the
// status.
func encodeLocated(m *message, v reflect.Value, h http.Header) int {
	status := m.op.Status
	for _, f := range m.located {
		fv := v.Field(f.index)
		if absent(fv) {
			continue
		}
		switch f.In {
		case StatusCode:
			status = int(fv.Elem().Int())
		case Header:
			h[f.canon] = []string{headerText(f, fv)}
		case HeaderPrefix:
			for _, k := range sortedKeys(fv) {
				h.Set(f.WireName+k.String(), fv.MapIndex(k).String())
			}
		}
	}
	return status
}

func headerText(f *field, v reflect.Value) string {
	if f.plan.kind != List {
		return string(appendText(nil, f.plan, &f.Ref, v))
	}
	var b []byte
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, f.plan.elem, &f.plan.shape.Elem, v.Index(i))
	}
	return string(b)
}
