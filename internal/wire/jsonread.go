package wire

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// The JSON both JSON protocols share. encoding/json guesses where AWS refuses
// (names in another case, null over a value, a number cut to fit), so this
// reads RFC 8259 itself, straight into the generated structs.

// maxDepth bounds nesting: deeper than any shape, shallower than a stack.
const maxDepth = 256

// maxItems bounds the items of all lists and maps of one document, because
// an item of two bytes can be a struct of hundreds. The largest real request,
// a full batch of log events, has ten thousand.
const maxItems = 1 << 18

// decodeJSON reads body, one JSON object, into dst, a struct of plan p.
func decodeJSON(body []byte, p *plan, dst reflect.Value) error {
	if !utf8.Valid(body) {
		return malformedf("Invalid UTF-8")
	}
	r := &jsonReader{data: body}
	if r.peek() != '{' {
		return malformedf("Unexpected token received from parser")
	}
	if err := r.structure(p, dst); err != nil {
		return err
	}
	if r.peek() != 0 || r.pos < len(r.data) {
		return malformedf("Unexpected data after the document")
	}
	return nil
}

type jsonReader struct {
	data  []byte
	pos   int
	depth int
	items int
	buf   []byte // of the last string that held escapes
}

var errSyntax = &malformed{"Unexpected token received from parser"}

// peek skips white space and returns the next byte, 0 at the end.
func (r *jsonReader) peek() byte {
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

func (r *jsonReader) accept(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.pos++
	return true
}

// str reads a string. The bytes are of the document, or of a buffer the next
// call overwrites.
func (r *jsonReader) str() ([]byte, error) {
	if !r.accept('"') {
		return nil, errSyntax
	}
	start := r.pos
	for ; r.pos < len(r.data); r.pos++ {
		switch c := r.data[r.pos]; {
		case c == '"':
			r.pos++
			return r.data[start : r.pos-1], nil
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			return nil, errSyntax
		}
	}
	return nil, errSyntax
}

func (r *jsonReader) escaped(start int) ([]byte, error) {
	b := append(r.buf[:0], r.data[start:r.pos]...)
	defer func() { r.buf = b }()
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		r.pos++
		switch {
		case c == '"':
			return b, nil
		case c < ' ':
			return nil, errSyntax
		case c != '\\':
			b = append(b, c)
			continue
		}
		if r.pos == len(r.data) {
			return nil, errSyntax
		}
		c = r.data[r.pos]
		r.pos++
		switch c {
		case '"', '\\', '/':
			b = append(b, c)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			x, ok := r.hex4()
			if ok && utf16.IsSurrogate(x) {
				// Half a pair is no character: refused, not replaced.
				if ok = r.pos+2 <= len(r.data) && r.data[r.pos] == '\\' && r.data[r.pos+1] == 'u'; ok {
					r.pos += 2
					var y rune
					if y, ok = r.hex4(); ok {
						x = utf16.DecodeRune(x, y)
						ok = x != utf8.RuneError
					}
				}
			}
			if !ok {
				return nil, errSyntax
			}
			b = utf8.AppendRune(b, x)
		default:
			return nil, errSyntax
		}
	}
	return nil, errSyntax
}

func (r *jsonReader) hex4() (rune, bool) {
	if r.pos+4 > len(r.data) {
		return 0, false
	}
	n := rune(0)
	for _, c := range r.data[r.pos : r.pos+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		n = n<<4 | rune(c)
	}
	r.pos += 4
	return n, true
}

// number reads a number's text: RFC 8259, section 6. whole is false when it
// has a fraction or an exponent.
func (r *jsonReader) number() (text []byte, whole bool, err error) {
	start := r.pos
	digits := func() int {
		n := r.pos
		for r.pos < len(r.data) && r.data[r.pos] >= '0' && r.data[r.pos] <= '9' {
			r.pos++
		}
		return r.pos - n
	}
	at := func(set string) bool {
		if r.pos < len(r.data) && slices.Contains([]byte(set), r.data[r.pos]) {
			r.pos++
			return true
		}
		return false
	}
	at("-")
	if !at("0") && digits() == 0 {
		return nil, false, errSyntax
	}
	whole = true
	if at(".") {
		whole = false
		if digits() == 0 {
			return nil, false, errSyntax
		}
	}
	if at("eE") {
		whole = false
		at("+-")
		if digits() == 0 {
			return nil, false, errSyntax
		}
	}
	return r.data[start:r.pos], whole, nil
}

func (r *jsonReader) word(w string) error {
	if len(r.data)-r.pos < len(w) || string(r.data[r.pos:r.pos+len(w)]) != w {
		return errSyntax
	}
	r.pos += len(w)
	return nil
}

// null reads a null, if there is one.
func (r *jsonReader) null() (bool, error) {
	if r.peek() != 'n' {
		return false, nil
	}
	return true, r.word("null")
}

// unexpected is the error for a value of the wrong type, in the services' words.
func (r *jsonReader) unexpected(want Kind) error {
	tok := "NUMBER_VALUE"
	switch c := r.peek(); {
	case c == '[':
		return malformedf("Start of list found where not expected")
	case c == '{':
		return malformedf("Start of structure or map found where not expected.")
	case c == '"':
		tok = "STRING_VALUE"
	case c == 't':
		tok = "TRUE_VALUE"
	case c == 'f':
		tok = "FALSE_VALUE"
	case c != '-' && (c < '0' || c > '9'):
		return errSyntax
	}
	switch want {
	case List:
		return malformedf("Expected list or null")
	case Map:
		return malformedf("Expected map or null")
	case Structure:
		return malformedf("Unexpected field type")
	}
	return malformedf("%s can not be converted to %s", tok, want.java())
}

// object reads an object, calling each with every name; each reads the value.
func (r *jsonReader) object(want Kind, each func(name []byte) error) error {
	if r.peek() != '{' {
		return r.unexpected(want)
	}
	if r.depth++; r.depth > maxDepth {
		return malformedf("Nested too deeply")
	}
	defer func() { r.depth-- }()
	r.pos++
	if r.accept('}') {
		return nil
	}
	for {
		name, err := r.str()
		if err != nil {
			return err
		}
		if !r.accept(':') {
			return errSyntax
		}
		if err := each(name); err != nil {
			return err
		}
		if r.accept('}') {
			return nil
		}
		if !r.accept(',') {
			return errSyntax
		}
		r.peek()
	}
}

// structure reads an object into dst, a struct. Unknown members are skipped,
// as AWS does; of a repeated one the last wins; null is absent.
func (r *jsonReader) structure(p *plan, dst reflect.Value) error {
	return r.object(Structure, func(name []byte) error {
		f := p.byName[string(name)]
		if f == nil {
			return r.skip()
		}
		fv := dst.Field(f.index)
		if null, err := r.null(); null || err != nil {
			if err == nil {
				fv.SetZero()
			}
			return err
		}
		return r.value(f.plan, &f.Ref, fv)
	})
}

// value reads anything but null into dst.
func (r *jsonReader) value(p *plan, ref *Ref, dst reflect.Value) error {
	c := r.peek()
	switch p.kind {
	case Structure:
		v := reflect.New(p.typ)
		if err := r.structure(p, v.Elem()); err != nil {
			return err
		}
		dst.Set(v)
		return nil
	case List:
		return r.list(p, dst)
	case Map:
		m := reflect.MakeMap(p.typ)
		v := reflect.New(p.typ.Elem()).Elem()
		if err := r.object(Map, func(name []byte) error {
			k := reflect.ValueOf(string(name))
			if err := r.element(p.elem, &p.shape.Elem, v); err != nil {
				return err
			}
			m.SetMapIndex(k, v)
			v.SetZero()
			return nil
		}); err != nil {
			return err
		}
		dst.Set(m)
		return nil
	case String:
		if c != '"' {
			return r.unexpected(String)
		}
		s, err := r.str()
		if err != nil {
			return err
		}
		if ref.JSONText && !json.Valid(s) {
			return malformedf("STRING_VALUE can not be converted to a JSON document")
		}
		settle(dst).SetString(string(s))
	case Blob:
		if c != '"' {
			return r.unexpected(Blob)
		}
		s, err := r.str()
		if err != nil {
			return err
		}
		b := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
		n, err := base64.StdEncoding.Decode(b, s)
		if err != nil {
			return malformedf("STRING_VALUE can not be converted to a Blob")
		}
		dst.SetBytes(b[:n])
	case Boolean:
		switch c {
		case 't':
			settle(dst).SetBool(true)
			return r.word("true")
		case 'f':
			settle(dst).SetBool(false)
			return r.word("false")
		}
		return r.unexpected(Boolean)
	case Timestamp:
		return r.timestamp(ref, dst)
	default:
		return r.numeric(p, dst)
	}
	return nil
}

// element reads an item of a list or map. Null is no item: a scalar has no
// way to hold it, and AWS accepts none either.
func (r *jsonReader) element(p *plan, ref *Ref, dst reflect.Value) error {
	if r.items++; r.items > maxItems {
		return malformedf("Too many items")
	}
	null, err := r.null()
	if err != nil {
		return err
	}
	if null {
		if p.kind == Structure {
			return nil // nil, which validation names with its place
		}
		return malformedf("Null found where not expected")
	}
	return r.value(p, ref, dst)
}

func (r *jsonReader) list(p *plan, dst reflect.Value) error {
	if r.peek() != '[' {
		return r.unexpected(List)
	}
	if r.depth++; r.depth > maxDepth {
		return malformedf("Nested too deeply")
	}
	defer func() { r.depth-- }()
	r.pos++
	dst.Set(reflect.MakeSlice(p.typ, 0, 0))
	if r.accept(']') {
		return nil
	}
	for i := 0; ; i++ {
		if i == dst.Cap() {
			dst.Grow(4)
		}
		dst.SetLen(i + 1)
		if err := r.element(p.elem, &p.shape.Elem, dst.Index(i)); err != nil {
			return err
		}
		if r.accept(']') {
			return nil
		}
		if !r.accept(',') {
			return errSyntax
		}
	}
}

func (r *jsonReader) numeric(p *plan, dst reflect.Value) error {
	if c := r.peek(); c != '-' && (c < '0' || c > '9') {
		return r.unexpected(p.kind)
	}
	text, whole, err := r.number()
	if err != nil {
		return err
	}
	no := malformedf("NUMBER_VALUE can not be converted to %s", p.kind.java())
	if p.kind == Float || p.kind == Double {
		f, err := strconv.ParseFloat(string(text), 64)
		if err != nil {
			return no
		}
		settle(dst).SetFloat(f)
		return nil
	}
	bits := 64
	if p.kind == Integer {
		bits = 32
	}
	n, err := strconv.ParseInt(string(text), 10, bits)
	if !whole || err != nil {
		return no
	}
	settle(dst).SetInt(n)
	return nil
}

func (r *jsonReader) timestamp(ref *Ref, dst reflect.Value) error {
	c := r.peek()
	format := ref.TimeFormat.or(TimeEpoch)
	var s []byte
	var err error
	switch {
	case format == TimeEpoch && (c == '-' || c >= '0' && c <= '9'):
		s, _, err = r.number()
	case format != TimeEpoch && c == '"':
		s, err = r.str()
	default:
		return r.unexpected(Timestamp)
	}
	if err != nil {
		return err
	}
	t, ok := parseTime(string(s), format)
	if !ok {
		return malformedf("Not a timestamp")
	}
	settle(dst).Set(reflect.ValueOf(t))
	return nil
}

// skip reads any value and forgets it.
func (r *jsonReader) skip() error {
	switch c := r.peek(); {
	case c == '{':
		return r.object(Structure, func([]byte) error { return r.skip() })
	case c == '[':
		if r.depth++; r.depth > maxDepth {
			return malformedf("Nested too deeply")
		}
		defer func() { r.depth-- }()
		r.pos++
		if r.accept(']') {
			return nil
		}
		for {
			if err := r.skip(); err != nil {
				return err
			}
			if r.accept(']') {
				return nil
			}
			if !r.accept(',') {
				return errSyntax
			}
		}
	case c == '"':
		_, err := r.str()
		return err
	case c == 't':
		return r.word("true")
	case c == 'f':
		return r.word("false")
	case c == 'n':
		return r.word("null")
	case c == '-' || c >= '0' && c <= '9':
		_, _, err := r.number()
		return err
	}
	return errSyntax
}
