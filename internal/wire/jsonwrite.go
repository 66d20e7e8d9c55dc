package wire

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// appendJSON writes v, a value of p that is not absent.
func appendJSON(b []byte, p *plan, ref *Ref, v reflect.Value) []byte {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return append(b, "null"...)
		}
		v = v.Elem()
	}
	switch p.kind {
	case Structure:
		b = append(b, '{')
		for i := range p.fields {
			f := &p.fields[i]
			fv := v.Field(f.index)
			if f.In != Body || absent(fv) {
				continue
			}
			b = append(b, f.json...)
			b = append(appendJSON(b, f.plan, &f.Ref, fv), ',')
		}
		return closed(b, '}')
	case List:
		b = append(b, '[')
		for i := range v.Len() {
			b = append(appendJSON(b, p.elem, &p.shape.Elem, v.Index(i)), ',')
		}
		return closed(b, ']')
	case Map:
		b = append(b, '{')
		for _, k := range sortedKeys(v) {
			b = append(appendJSONString(b, k.String()), ':')
			b = append(appendJSON(b, p.elem, &p.shape.Elem, v.MapIndex(k)), ',')
		}
		return closed(b, '}')
	case String:
		return appendJSONString(b, v.String())
	case Blob:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v.Bytes())
		return append(b, '"')
	case Boolean:
		return strconv.AppendBool(b, v.Bool())
	case Integer, Long:
		return strconv.AppendInt(b, v.Int(), 10)
	case Float, Double:
		return appendFloat(b, v.Float())
	}
	format := ref.TimeFormat.or(TimeEpoch)
	if format == TimeEpoch {
		return appendTime(b, v.Interface().(time.Time), format)
	}
	return append(appendTime(append(b, '"'), v.Interface().(time.Time), format), '"')
}

// closed puts end in the place of the last comma.
func closed(b []byte, end byte) []byte {
	if b[len(b)-1] == ',' {
		b[len(b)-1] = end
		return b
	}
	return append(b, end)
}

// sortedKeys makes one answer of one map.
func sortedKeys(v reflect.Value) []reflect.Value {
	ks := v.MapKeys()
	slices.SortFunc(ks, func(a, b reflect.Value) int {
		return strings.Compare(a.String(), b.String())
	})
	return ks
}

// appendFloat writes f as JavaScript does. JSON has no infinities; no handler
// of ours makes one, and null is the only honest reading of it.
func appendFloat(b []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, 64)
}

const hexDigits = "0123456789abcdef"

func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += n
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}

// appendJSONMap writes an error's members, which are of any type.
func appendJSONMap(b []byte, m map[string]any) []byte {
	b = append(b, '{')
	for _, k := range slices.Sorted(maps.Keys(m)) {
		v, err := json.Marshal(m[k])
		if err != nil {
			continue // a member no JSON can say says nothing
		}
		b = append(appendJSONString(b, k), ':')
		b = append(append(b, v...), ',')
	}
	return closed(b, '}')
}
