package countersign

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Tags and object identifiers of the signature format. Identifiers are kept
// as the content octets of their DER, the form they are compared in.
const (
	tagInteger     = 0x02
	tagOctets      = 0x04
	tagNull        = 0x05
	tagOID         = 0x06
	tagUTF8        = 0x0c
	tagGeneralized = 0x18
	tagSequence    = 0x30
	tagSet         = 0x31
	tagContext0    = 0xa0 // [0], constructed
	tagContext1    = 0xa1 // [1], constructed
)

// A tlv is one DER element.
type tlv struct {
	tag  byte   // identifier octet: class, constructed bit, number below 31
	body []byte // content octets
	full []byte // the element, header included
}

// errDER says that bytes are no DER this package reads.
var errDER = errors.New("malformed encoding")

// readTLV takes the first element off b. It accepts definite lengths in their
// shortest form and single-octet tags: what [toDER] produces.
func readTLV(b []byte) (e tlv, rest []byte, err error) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return e, nil, errDER
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		k := n & 0x7f
		if k == 0 || k > 3 || len(b) < 2+k {
			return e, nil, errDER
		}
		n = 0
		for _, c := range b[2 : 2+k] {
			n = n<<8 | int(c)
		}
		head += k
		if n < 0x80 || k > 1 && n < 1<<(8*(k-1)) {
			return e, nil, errDER
		}
	}
	if len(b)-head < n {
		return e, nil, errDER
	}
	return tlv{b[0], b[head : head+n], b[:head+n]}, b[head+n:], nil
}

// A reader walks the elements of one constructed value. The first thing that
// is not as asked sticks in err, and everything after it reads as nothing.
type derReader struct {
	b   []byte
	err error
}

// next takes the next element, which must have the tag; what names it in err.
func (r *derReader) next(tag byte, what string) tlv {
	if r.err != nil {
		return tlv{}
	}
	e, rest, err := readTLV(r.b)
	if err == nil && e.tag != tag {
		err = fmt.Errorf("unexpected tag %#02x", e.tag)
	}
	if err != nil {
		r.err = fmt.Errorf("%s: %w", what, err)
		return tlv{}
	}
	r.b = rest
	return e
}

// maybe takes the next element if it has the tag.
func (r *derReader) maybe(tag byte, what string) (tlv, bool) {
	if r.err != nil || len(r.b) == 0 || r.b[0] != tag {
		return tlv{}, false
	}
	e := r.next(tag, what)
	return e, r.err == nil
}

// inside reads the content of the next element.
func (r *derReader) inside(tag byte, what string) *derReader {
	e := r.next(tag, what)
	return &derReader{b: e.body, err: r.err}
}

// done says what is wrong, leftovers included.
func (r *derReader) done(what string) error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%s: %d bytes too many", what, len(r.b))
	}
	return r.err
}

// der encodes one element from its parts.
func der(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 0, n+5)
	b = append(b, tag)
	switch {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 1<<8:
		b = append(b, 0x81, byte(n))
	case n < 1<<16:
		b = append(b, 0x82, byte(n>>8), byte(n))
	default:
		b = append(b, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// derSetOf encodes a SET OF, "the encodings of the component values of a
// set-of value shall appear in ascending order" (X.690, 11.6).
func derSetOf(parts ...[]byte) []byte {
	parts = slices.Clone(parts)
	slices.SortFunc(parts, bytes.Compare)
	return der(tagSet, parts...)
}

// oid gives the content octets of an object identifier.
func oid(arcs ...uint64) []byte {
	arcs = append([]uint64{arcs[0]*40 + arcs[1]}, arcs[2:]...)
	var b []byte
	for _, v := range arcs {
		k := 1
		for v>>(7*k) != 0 {
			k++
		}
		for k--; k > 0; k-- {
			b = append(b, byte(v>>(7*k))|0x80)
		}
		b = append(b, byte(v&0x7f))
	}
	return b
}

// derTime encodes a GeneralizedTime to the millisecond. "The fractional-
// seconds elements, if present, shall omit all trailing zeros" (X.690, 11.7.3).
func derTime(t time.Time) []byte {
	return der(tagGeneralized, []byte(t.UTC().Format("20060102150405.999")+"Z"))
}

// parseTime reads a GeneralizedTime in UTC with seconds and up to nine digits
// of fraction. Trailing zeros are allowed, because signers write them.
func parseTime(b []byte) (time.Time, error) {
	digits := func(b []byte) bool {
		for _, c := range b {
			if c < '0' || c > '9' {
				return false
			}
		}
		return len(b) > 0
	}
	bad := fmt.Errorf("%q is not a time", string(b[:min(len(b), 40)]))
	if len(b) < 15 || b[len(b)-1] != 'Z' || !digits(b[:14]) {
		return time.Time{}, bad
	}
	t, err := time.Parse("20060102150405", string(b[:14]))
	if err != nil {
		return time.Time{}, bad
	}
	if frac := b[14 : len(b)-1]; len(frac) > 0 {
		if frac[0] != '.' || len(frac) > 10 || !digits(frac[1:]) {
			return time.Time{}, bad
		}
		ns := append(bytes.Clone(frac[1:]), "000000000"...)[:9]
		v, err := strconv.Atoi(string(ns))
		if err != nil {
			return time.Time{}, bad
		}
		t = t.Add(time.Duration(v))
	}
	return t, nil
}
