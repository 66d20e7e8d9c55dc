package wire

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// maxEcho bounds how much of one value a message repeats. AWS repeats all of
// it, a whole template included; nothing a client reads is longer.
const maxEcho = 1 << 20

// validate checks v, an input of m, against the model. The answer is the
// service's sentence for all that is wrong, in the model's order and a
// pattern before a length, or "".
func validate(m *message, v reflect.Value) string {
	if m.plan == nil {
		return ""
	}
	var c checker
	c.structure(m.plan, v, "")
	switch len(c.found) {
	case 0:
		return ""
	case 1:
		return "1 validation error detected: " + c.found[0]
	}
	return fmt.Sprintf("%d validation errors detected: %s", len(c.found), strings.Join(c.found, "; "))
}

// maxFound ends a list of failures nobody will read, maxMatched a string that
// is too long whatever its pattern says.
const (
	maxFound   = 100
	maxMatched = 1 << 16
)

type checker struct{ found []string }

func (c *checker) add(s string) {
	if len(c.found) < maxFound {
		c.found = append(c.found, s)
	}
}

func (c *checker) fail(p *plan, v reflect.Value, path, constraint string) {
	shown := ""
	if !p.secret() {
		s := show(p, v)
		if len(s) > maxEcho {
			s = s[:maxEcho]
		}
		shown = " '" + s + "'"
	}
	c.add("Value" + shown + " at '" + path + "' failed to satisfy constraint: " + constraint)
}

func (c *checker) null(path string) {
	c.add("Value null at '" + path + "' failed to satisfy constraint: Member must not be null")
}

func (c *checker) structure(p *plan, v reflect.Value, prefix string) {
	for i := range p.fields {
		f := &p.fields[i]
		fv := v.Field(f.index)
		if absent(fv) {
			if f.Required {
				c.null(prefix + f.lower)
			}
			continue
		}
		// The path is only built where something may be said about it.
		if f.plan.kind.Scalar() {
			if f.plan.bounded() && !f.plan.ok(fv) {
				c.scalar(f.plan, fv, prefix+f.lower)
			}
			continue
		}
		c.value(f.plan, fv, prefix+f.lower)
	}
}

func (c *checker) value(p *plan, v reflect.Value, path string) {
	switch p.kind {
	case Structure:
		if v.IsNil() {
			c.null(path)
			return
		}
		c.structure(p, v.Elem(), path+".")
	case List:
		if p.elem.kind.Scalar() {
			for i := range v.Len() {
				if !p.elem.ok(v.Index(i)) {
					c.fail(p, v, path, "Member must satisfy constraint: "+p.elem.all())
					break
				}
			}
		} else {
			for i := range v.Len() {
				c.value(p.elem, v.Index(i), path+"."+strconv.Itoa(i+1)+".member")
			}
		}
		c.size(p, v, path)
	case Map:
		keys, values := true, true
		for _, k := range sortedKeys(v) {
			keys = keys && p.key.ok(k)
			if e := v.MapIndex(k); p.elem.kind.Scalar() {
				values = values && p.elem.ok(e)
			} else {
				c.value(p.elem, e, path+"."+k.String()+".member")
			}
		}
		if !keys {
			c.fail(p, v, path, "Map keys must satisfy constraint: "+p.key.all())
		}
		if !values {
			c.fail(p, v, path, "Map value must satisfy constraint: "+p.elem.all())
		}
		c.size(p, v, path)
	}
}

// size checks the length of a list or map.
func (c *checker) size(p *plan, v reflect.Value, path string) {
	if n := int64(v.Len()); p.shape.HasMax && n > p.shape.Max {
		c.fail(p, v, path, p.most())
	} else if p.shape.HasMin && n < p.shape.Min {
		c.fail(p, v, path, p.least())
	}
}

// scalar says what is wrong with v, which is not ok.
func (c *checker) scalar(p *plan, v reflect.Value, path string) {
	if s := p.shape; s.Pattern != nil && !(s.HasMax && indirect(v).Len() > maxMatched) && !s.Pattern.Match(indirect(v).String()) {
		c.fail(p, v, path, p.form())
	}
	if !p.within(v, p.shape.HasMax, false) {
		c.fail(p, v, path, p.most())
	}
	if !p.within(v, false, p.shape.HasMin) {
		c.fail(p, v, path, p.least())
	}
	if !p.listed(v) {
		c.fail(p, v, path, p.oneOf())
	}
}

// bounded reports whether p constrains its values at all.
func (p *plan) bounded() bool {
	s := p.shape
	return s.HasMin || s.HasMax || s.Pattern != nil || len(s.Enum) > 0
}

// ok reports whether the scalar v meets every constraint of p.
func (p *plan) ok(v reflect.Value) bool {
	return p.within(v, p.shape.HasMax, p.shape.HasMin) && p.listed(v) &&
		(p.shape.Pattern == nil || p.shape.Pattern.Match(indirect(v).String()))
}

func (p *plan) within(v reflect.Value, max, min bool) bool {
	if !max && !min {
		return true
	}
	v = indirect(v)
	var n int64
	switch p.kind {
	case String:
		n = utf16Len(v.String())
	case Blob:
		n = int64(v.Len())
	case Integer, Long:
		n = v.Int()
	case Float, Double:
		f := v.Float()
		return !(max && f > float64(p.shape.Max)) && !(min && f < float64(p.shape.Min))
	default:
		return true
	}
	return !(max && n > p.shape.Max) && !(min && n < p.shape.Min)
}

func (p *plan) listed(v reflect.Value) bool {
	if len(p.shape.Enum) == 0 {
		return true
	}
	s := indirect(v).String()
	for _, e := range p.shape.Enum {
		if e == s {
			return true
		}
	}
	return false
}

// utf16Len is the length of s as the services count it: Java's.
func utf16Len(s string) (n int64) {
	for _, c := range s {
		if n++; c > 0xFFFF {
			n++
		}
	}
	return n
}

func indirect(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		return v.Elem()
	}
	return v
}

// The constraints in the services' words.

func (p *plan) form() string {
	return "Member must satisfy regular expression pattern: " + p.shape.Pattern.Text
}

func (p *plan) oneOf() string {
	return "Member must satisfy enum value set: [" + strings.Join(p.shape.Enum, ", ") + "]"
}

func (p *plan) measure() string {
	switch p.kind {
	case Integer, Long, Float, Double:
		return "value"
	}
	return "length"
}

func (p *plan) most() string {
	return fmt.Sprintf("Member must have %s less than or equal to %d", p.measure(), p.shape.Max)
}

func (p *plan) least() string {
	return fmt.Sprintf("Member must have %s greater than or equal to %d", p.measure(), p.shape.Min)
}

// all lists every constraint on an item, met or not, as AWS does.
func (p *plan) all() string {
	var cs []string
	if p.shape.HasMax {
		cs = append(cs, p.most())
	}
	if p.shape.HasMin {
		cs = append(cs, p.least())
	}
	if p.shape.Pattern != nil {
		cs = append(cs, p.form())
	}
	if len(p.shape.Enum) > 0 {
		cs = append(cs, p.oneOf())
	}
	cs = append(cs, "Member must not be null")
	return "[" + strings.Join(cs, ", ") + "]"
}

// secret reports whether a value of p may not be repeated.
func (p *plan) secret() bool {
	return p.shape.Sensitive || p.kind == List && p.elem.secret() || p.kind == Map && (p.elem.secret() || p.key.secret())
}

// show prints v as Java would.
func show(p *plan, v reflect.Value) string {
	if p.secret() {
		return "***"
	}
	if absent(v) {
		return "null"
	}
	v = indirect(v)
	switch p.kind {
	case Structure:
		var b strings.Builder
		b.WriteString(p.shape.Name + "(")
		for i := range p.fields {
			if i > 0 {
				b.WriteString(", ")
			}
			f := &p.fields[i]
			b.WriteString(f.lower + "=" + show(f.plan, v.Field(f.index)))
		}
		return b.String() + ")"
	case List:
		ss := make([]string, v.Len())
		for i := range ss {
			ss[i] = show(p.elem, v.Index(i))
		}
		return "[" + strings.Join(ss, ", ") + "]"
	case Map:
		ss := make([]string, 0, v.Len())
		for _, k := range sortedKeys(v) {
			ss = append(ss, k.String()+"="+show(p.elem, v.MapIndex(k)))
		}
		return "{" + strings.Join(ss, ", ") + "}"
	case Blob:
		return fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]", v.Len(), v.Len())
	case Float, Double:
		f := v.Float()
		if f == math.Trunc(f) && math.Abs(f) < 1e7 {
			return strconv.FormatFloat(f, 'f', 1, 64)
		}
		return strconv.FormatFloat(f, 'g', -1, 64)
	case Timestamp:
		return v.Interface().(time.Time).UTC().Format("Mon Jan 02 15:04:05 UTC 2006")
	case Boolean:
		return strconv.FormatBool(v.Bool())
	case Integer, Long:
		return strconv.FormatInt(v.Int(), 10)
	}
	return v.String()
}
