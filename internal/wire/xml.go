package wire

import (
	"bytes"
	"encoding/xml"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

const xmlHeader = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

// An xmlWriter appends elements to b. Names are the model's and need no escaping.
type xmlWriter struct{ b []byte }

func (w *xmlWriter) open(name string) { w.b = append(append(append(w.b, '<'), name...), '>') }

func (w *xmlWriter) openNS(name, ns string) {
	w.b = append(append(w.b, '<'), name...)
	if ns != "" {
		w.attr("xmlns", ns)
	}
	w.b = append(w.b, '>')
}

func (w *xmlWriter) attr(name, value string) {
	w.b = append(append(append(w.b, ' '), name...), `="`...)
	w.b = append(appendXMLText(w.b, value), '"')
}

func (w *xmlWriter) close(name string) {
	w.b = append(append(append(w.b, '<', '/'), name...), '>')
}

func (w *xmlWriter) text(name, s string) {
	w.open(name)
	w.b = appendXMLText(w.b, s)
	w.close(name)
}

// members writes the body members of the structure v.
func (w *xmlWriter) members(p *plan, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	for i := range p.fields {
		f := &p.fields[i]
		if fv := v.Field(f.index); f.In == Body && !f.Attribute && !absent(fv) {
			w.member(f.wire, f.plan, &f.Ref, fv)
		}
	}
}

// member writes v as the element, or for a flattened list or map the
// elements, called name.
func (w *xmlWriter) member(name string, p *plan, ref *Ref, v reflect.Value) {
	switch p.kind {
	case Structure:
		if v.IsNil() {
			return
		}
		w.b = append(append(w.b, '<'), name...)
		w.attributes(p, v.Elem())
		w.b = append(w.b, '>')
		w.members(p, v)
		w.close(name)
	case List:
		item := p.shape.Elem.WireName
		if ref.Flat {
			item = or(item, name)
		} else {
			item = or(item, "member")
			w.open(name)
		}
		for i := range v.Len() {
			w.member(item, p.elem, &p.shape.Elem, v.Index(i))
		}
		if !ref.Flat {
			w.close(name)
		}
	case Map:
		entry := name
		if !ref.Flat {
			entry = "entry"
			w.open(name)
		}
		for _, k := range sortedKeys(v) {
			w.open(entry)
			w.text(or(p.shape.Key.WireName, "key"), k.String())
			w.member(or(p.shape.Elem.WireName, "value"), p.elem, &p.shape.Elem, v.MapIndex(k))
			w.close(entry)
		}
		if !ref.Flat {
			w.close(name)
		}
	default:
		w.open(name)
		if p.kind == String {
			if v.Kind() == reflect.Pointer {
				v = v.Elem()
			}
			w.b = appendXMLText(w.b, v.String())
		} else {
			w.b = appendText(w.b, p, ref, v) // letters, digits and base64
		}
		w.close(name)
	}
}

// attributes writes the namespace and the attribute members of v.
func (w *xmlWriter) attributes(p *plan, v reflect.Value) {
	if p.shape.Namespace != "" {
		name := "xmlns"
		if p.shape.Prefix != "" {
			name += ":" + p.shape.Prefix
		}
		w.attr(name, p.shape.Namespace)
	}
	for i := range p.fields {
		f := &p.fields[i]
		if fv := v.Field(f.index); f.Attribute && !absent(fv) {
			w.attr(f.wire, string(appendText(nil, f.plan, &f.Ref, fv)))
		}
	}
}

// appendXMLText escapes s. A character XML 1.0 cannot hold at all becomes
// U+FFFD; the alternative is an answer no client can read.
func appendXMLText(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case c == '&':
			b = append(b, "&amp;"...)
		case c == '<':
			b = append(b, "&lt;"...)
		case c == '>':
			b = append(b, "&gt;"...)
		case c == '"':
			b = append(b, "&quot;"...)
		case c == '\r':
			b = append(b, "&#xD;"...)
		case c < ' ' && c != '\n' && c != '\t', c == 0xFFFE, c == 0xFFFF, c == utf8.RuneError && n == 1:
			b = append(b, "\ufffd"...)
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return b
}

// An xmlNode is one element of a request.
type xmlNode struct {
	name  string
	attrs []xml.Attr
	text  string
	below []*xmlNode
}

// parseXML reads a document into a tree. Go's decoder expands no entities but
// XML's own five, so a document cannot grow.
func parseXML(body []byte) (*xmlNode, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	root := new(xmlNode)
	path := []*xmlNode{root}
	var text []*strings.Builder
	for {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, errXML
		}
		top := path[len(path)-1]
		switch t := tok.(type) {
		case xml.StartElement:
			if len(path) > maxDepth || len(path) == 1 && len(root.below) == 1 {
				return nil, errXML
			}
			n := &xmlNode{name: t.Name.Local, attrs: t.Attr}
			top.below = append(top.below, n)
			path, text = append(path, n), append(text, new(strings.Builder))
		case xml.EndElement:
			top.text = text[len(text)-1].String()
			path, text = path[:len(path)-1], text[:len(text)-1]
		case xml.CharData:
			if len(text) > 0 {
				text[len(text)-1].Write(t)
			}
		case xml.Directive:
			return nil, errXML // a DTD has no business in a request
		}
	}
	if len(root.below) != 1 || len(path) != 1 {
		return nil, errXML
	}
	return root.below[0], nil
}

var errXML = &malformed{"The XML you provided was not well-formed or did not validate against our published schema"}

// all yields the elements called name directly below n.
func (n *xmlNode) all(name string) []*xmlNode {
	var ns []*xmlNode
	for _, c := range n.below {
		if c.name == name {
			ns = append(ns, c)
		}
	}
	return ns
}

// decodeXMLStruct reads element n into dst, a struct. Unknown elements are skipped.
func decodeXMLStruct(n *xmlNode, p *plan, dst reflect.Value) error {
	for i := range p.fields {
		f := &p.fields[i]
		if f.In != Body {
			continue
		}
		fv := dst.Field(f.index)
		if f.Attribute {
			for _, a := range n.attrs {
				if a.Name.Local == f.wire[strings.IndexByte(f.wire, ':')+1:] {
					if err := setText(f.plan, &f.Ref, a.Value, fv); err != nil {
						return err
					}
				}
			}
			continue
		}
		name := f.wire
		if f.Flat && f.plan.kind == List {
			name = or(f.plan.shape.Elem.WireName, name)
		}
		ns := n.all(name)
		if len(ns) == 0 {
			continue
		}
		if err := decodeXML(ns, f.plan, &f.Ref, fv); err != nil {
			return err
		}
	}
	return nil
}

// decodeXML reads the elements ns, more than one only when flattened, as one member.
func decodeXML(ns []*xmlNode, p *plan, ref *Ref, dst reflect.Value) error {
	switch p.kind {
	case Structure:
		v := reflect.New(p.typ)
		if err := decodeXMLStruct(ns[0], p, v.Elem()); err != nil {
			return err
		}
		dst.Set(v)
	case List:
		if !ref.Flat {
			ns = ns[0].all(or(p.shape.Elem.WireName, "member"))
		}
		v := reflect.MakeSlice(p.typ, len(ns), len(ns))
		for i := range ns {
			if err := decodeXML(ns[i:i+1], p.elem, &p.shape.Elem, v.Index(i)); err != nil {
				return err
			}
		}
		dst.Set(v)
	case Map:
		if !ref.Flat {
			ns = ns[0].all("entry")
		}
		v := reflect.MakeMap(p.typ)
		for _, n := range ns {
			k, val := n.all(or(p.shape.Key.WireName, "key")), n.all(or(p.shape.Elem.WireName, "value"))
			if len(k) != 1 || len(val) != 1 {
				return errXML
			}
			e := reflect.New(p.typ.Elem()).Elem()
			if err := decodeXML(val, p.elem, &p.shape.Elem, e); err != nil {
				return err
			}
			v.SetMapIndex(reflect.ValueOf(k[0].text), e)
		}
		dst.Set(v)
	case String:
		return setText(p, ref, ns[0].text, dst)
	default:
		return setText(p, ref, strings.TrimSpace(ns[0].text), dst)
	}
	return nil
}
