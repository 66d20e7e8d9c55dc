package wire

import (
	"net/http"
	"reflect"
)

// decodeRESTXML reads a rest-xml request into dst. The document element's
// name is not checked: the services do not either.
func decodeRESTXML(m *message, r *http.Request, labels []label, body []byte, dst reflect.Value) error {
	if m.plan == nil {
		return nil
	}
	if err := decodeLocated(m, r, labels, dst); err != nil {
		return err
	}
	document := func(p *plan, v reflect.Value) error {
		n, err := parseXML(body)
		if err != nil {
			return err
		}
		return decodeXMLStruct(n, p, v)
	}
	switch {
	case m.payload != nil:
		return decodePayload(m, body, dst, document)
	case m.body && len(body) > 0:
		return document(m.plan, dst)
	}
	return nil
}

// encodeRESTXML writes v into h and, from b on, the body.
func encodeRESTXML(m *message, v reflect.Value, h http.Header, b []byte) (int, []byte) {
	if m.plan == nil {
		return m.op.Status, b
	}
	status := encodeLocated(m, v, h)
	p, name := m.plan, or(m.plan.shape.Root, m.plan.shape.Name)
	if f := m.payload; f != nil {
		fv := v.Field(f.index)
		if f.plan.kind == Blob || f.plan.kind == String {
			setDefault(h, "Content-Type", m.contentType())
			if !absent(fv) {
				b = appendRaw(b, fv)
			}
			return status, b
		}
		if absent(fv) {
			return status, b
		}
		p, v, name = f.plan, fv.Elem(), or(f.WireName, f.Name)
	} else if !m.body || status == http.StatusNoContent {
		return status, b
	}
	setDefault(h, "Content-Type", "application/xml")
	w := xmlWriter{b: append(b, xmlHeader...)}
	w.b = append(append(w.b, '<'), name...)
	if m.svc.Namespace != "" && p.shape.Namespace == "" {
		w.attr("xmlns", m.svc.Namespace)
	}
	w.attributes(p, v)
	w.b = append(w.b, '>')
	w.members(p, v)
	w.close(name)
	return status, w.b
}
