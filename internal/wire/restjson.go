package wire

import (
	"net/http"
	"reflect"
)

// decodeRESTJSON reads a rest-json request into dst. A blob payload is body
// itself, not a copy.
func decodeRESTJSON(m *message, r *http.Request, labels []label, body []byte, dst reflect.Value) error {
	if m.plan == nil {
		return nil
	}
	if err := decodeLocated(m, r, labels, dst); err != nil {
		return err
	}
	switch {
	case m.payload != nil:
		return decodePayload(m, body, dst, func(p *plan, v reflect.Value) error { return decodeJSON(body, p, v) })
	case m.body && len(body) > 0:
		return decodeJSON(body, m.plan, dst)
	}
	return nil
}

// decodePayload reads the body as the one member it is.
func decodePayload(m *message, body []byte, dst reflect.Value, document func(*plan, reflect.Value) error) error {
	f := m.payload
	fv := dst.Field(f.index)
	if len(body) == 0 {
		return nil
	}
	switch f.plan.kind {
	case Blob:
		fv.SetBytes(body)
	case String:
		settle(fv).SetString(string(body))
	default:
		v := reflect.New(f.plan.typ)
		if err := document(f.plan, v.Elem()); err != nil {
			return err
		}
		fv.Set(v)
	}
	return nil
}

// encodeRESTJSON writes v into h and, from b on, the body.
func encodeRESTJSON(m *message, v reflect.Value, h http.Header, b []byte) (int, []byte) {
	if m.plan == nil {
		return m.op.Status, b
	}
	status := encodeLocated(m, v, h)
	if status == http.StatusNoContent {
		return status, b
	}
	if f := m.payload; f != nil {
		fv := v.Field(f.index)
		switch {
		case f.plan.kind == Blob || f.plan.kind == String:
			setDefault(h, "Content-Type", m.contentType())
			if !absent(fv) {
				b = appendRaw(b, fv)
			}
		case !absent(fv):
			setDefault(h, "Content-Type", "application/json")
			b = appendJSON(b, f.plan, &f.Ref, fv)
		}
		return status, b
	}
	setDefault(h, "Content-Type", "application/json")
	return status, appendJSON(b, m.plan, &Ref{}, v)
}

func (m *message) contentType() string {
	switch {
	case m.op.ContentType != "":
		return m.op.ContentType
	case m.payload.plan.kind == String:
		return "text/plain"
	}
	return "application/octet-stream"
}

func appendRaw(b []byte, v reflect.Value) []byte {
	if v.Kind() == reflect.Pointer {
		return append(b, v.Elem().String()...)
	}
	if len(b) == 0 {
		return v.Bytes() // the handler's own bytes: no copy
	}
	return append(b, v.Bytes()...)
}

func setDefault(h http.Header, k, v string) {
	if _, ok := h[k]; !ok {
		h[k] = []string{v}
	}
}
