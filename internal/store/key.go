package store

import (
	"fmt"
	"strings"
)

// escape says how a byte that may not stand for itself is written: two
// upper-case hex digits after a mark. There are several marks so that keys
// keep the order of the names in them: each mark sorts, among the bytes that
// stand for themselves, where the bytes it marks do.
//
//	'!' < '-' < '/' < 0..9 < '=' < A..Z < '^' < '_' < '`' < a..z < '~'
//
// All of them are ordinary characters to NATS, whose subjects keys become.
func escape(c byte) (mark byte) {
	switch {
	case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', c == '-', c == '_':
		return 0
	case c < '-':
		return '!'
	case c < '0':
		return '/'
	case c < 'A':
		return '='
	case c < '_':
		return '^'
	case c < 'a':
		return '`'
	default:
		return '~'
	}
}

// empty is how a part without characters is written: a mark that marks nothing.
const empty = "!"

const upperHex = "0123456789ABCDEF"

// Key joins parts into one key, from which [Parts] gets them back. Any string
// is a part, the empty one included. Letters, digits, '-' and '_' stand for
// themselves; every other byte is three.
//
// Keys with the same leading parts sort as the bytes of the first part that
// differs, so that listing names in key order is listing them in AWS's order.
// One exception: parts end in '.', which sorts after '-', so that everything
// below "foo-bar" comes before everything below "foo".
//
// To list what is below a key, use Key(...) + "." as the prefix.
func Key(parts ...string) string {
	n := len(parts)
	for _, p := range parts {
		n += 1 + len(p)
		for i := range len(p) {
			if escape(p[i]) != 0 {
				n += 2
			}
		}
	}
	var b strings.Builder
	b.Grow(n)
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('.')
		}
		if p == "" {
			b.WriteString(empty)
		}
		for i := range len(p) {
			c := p[i]
			if m := escape(c); m != 0 {
				b.Write([]byte{m, upperHex[c>>4], upperHex[c&15]})
			} else {
				b.WriteByte(c)
			}
		}
	}
	return b.String()
}

// Parts takes apart what [Key] joined. It refuses every string Key does not
// make, so that no two strings name the same parts.
func Parts(key string) ([]string, error) {
	if key == "" {
		return nil, nil
	}
	parts := strings.Split(key, ".")
	for i, p := range parts {
		if p == empty {
			parts[i] = ""
			continue
		}
		var b strings.Builder
		for j := 0; j < len(p); j++ {
			c := p[j]
			if escape(c) == 0 {
				b.WriteByte(c)
				continue
			}
			if j+2 >= len(p) {
				return nil, fmt.Errorf("key %q: part %d ends inside an escape", key, i+1)
			}
			hi, lo := strings.IndexByte(upperHex, p[j+1]), strings.IndexByte(upperHex, p[j+2])
			if hi < 0 || lo < 0 || escape(byte(hi<<4|lo)) != c {
				return nil, fmt.Errorf("key %q: part %d has the escape %q, which Key does not make", key, i+1, p[j:j+3])
			}
			b.WriteByte(byte(hi<<4 | lo))
			j += 2
		}
		if b.Len() == 0 {
			return nil, fmt.Errorf("key %q: part %d is missing", key, i+1)
		}
		parts[i] = b.String()
	}
	return parts, nil
}
