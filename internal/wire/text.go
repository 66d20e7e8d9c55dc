package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// A scalar as text: in a path, a query string, a header, a form or XML.

// kindNames are Java's names for kinds, with their article, as the services'
// own messages have them.
var kindNames = [...]string{"a Structure", "a List", "a Map", "a String", "a Blob", "a Boolean", "an Integer", "a Long", "a Float", "a Double", "a Timestamp"}

func (k Kind) java() string { return kindNames[k] }

// setText reads s as a scalar of p into dst.
func setText(p *plan, ref *Ref, s string, dst reflect.Value) error {
	no := func() error {
		if s == "" && p.kind != String { // a query API's own words for a number left out
			return malformedf("missing value for decimal type")
		}
		return malformedf("STRING_VALUE can not be converted to %s", p.kind.java())
	}
	switch p.kind {
	case String:
		if !utf8.ValidString(s) {
			return malformedf("Invalid UTF-8")
		}
		if ref.JSONText {
			if ref.In == Header {
				b, err := base64.StdEncoding.DecodeString(s)
				if err != nil {
					return no()
				}
				s = string(b)
			}
			if !json.Valid([]byte(s)) {
				return no()
			}
		}
		settle(dst).SetString(s)
	case Blob:
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return no()
		}
		dst.SetBytes(b)
	case Boolean:
		if s != "true" && s != "false" {
			return no()
		}
		settle(dst).SetBool(s == "true")
	case Integer, Long:
		bits := 64
		if p.kind == Integer {
			bits = 32
		}
		n, err := strconv.ParseInt(s, 10, bits) // takes 0900 and +900, as STS does
		if err != nil {
			return no()
		}
		settle(dst).SetInt(n)
	case Float, Double:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return no()
		}
		settle(dst).SetFloat(f)
	case Timestamp:
		def := TimeISO8601
		if ref.In == Header {
			def = TimeRFC822
		}
		t, ok := parseTime(s, ref.TimeFormat.or(def))
		if !ok {
			return no()
		}
		settle(dst).Set(reflect.ValueOf(t))
	default:
		return fmt.Errorf("shape %s has no text form", p.shape.Name)
	}
	return nil
}

// appendText writes the scalar v, which is no nil pointer.
func appendText(b []byte, p *plan, ref *Ref, v reflect.Value) []byte {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch p.kind {
	case String:
		if ref.JSONText && ref.In == Header {
			return base64.StdEncoding.AppendEncode(b, []byte(v.String()))
		}
		return append(b, v.String()...)
	case Blob:
		return base64.StdEncoding.AppendEncode(b, v.Bytes())
	case Boolean:
		return strconv.AppendBool(b, v.Bool())
	case Integer, Long:
		return strconv.AppendInt(b, v.Int(), 10)
	case Float, Double:
		return strconv.AppendFloat(b, v.Float(), 'f', -1, 64)
	case Timestamp:
		def := TimeISO8601
		if ref.In == Header {
			def = TimeRFC822
		}
		return appendTime(b, v.Interface().(time.Time), ref.TimeFormat.or(def))
	}
	panic("wire: shape " + p.shape.Name + " has no text form")
}

// absent reports whether v is a member that was not given.
func absent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return v.IsNil()
	}
	return false
}
