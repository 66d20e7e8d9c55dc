package countersign

import (
	"errors"
	"fmt"
)

// Bounds on BER: the format nests ten deep where it is longest, in a
// certificate's extensions, and certificates are left alone below that.
const (
	maxBERDepth    = 24
	maxBERElements = 10_000
)

// toDER rewrites one BER element, which must be all of b, with definite
// lengths in their shortest form and strings in one piece (X.690, 10.1, 10.2):
// the parts of DER that do not depend on the schema. It does not sort sets; a
// reader that needs one sorted sorts it. What is DER comes back unchanged, so
// signed certificates keep their bytes.
func toDER(b []byte) ([]byte, error) {
	c := berConverter{left: maxBERElements}
	out, rest, err := c.element(b, 0)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes follow the end", len(rest))
	}
	return out, nil
}

type berConverter struct{ left int }

var errBER = errors.New("malformed BER")

// element converts the first element of b.
func (c *berConverter) element(b []byte, depth int) (out, rest []byte, err error) {
	if c.left--; c.left < 0 || depth > maxBERDepth {
		return nil, nil, errors.New("BER nested too deep, or too many elements")
	}
	// Tag numbers of 31 and more do not occur anywhere in CMS or X.509.
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return nil, nil, errBER
	}
	tag, constructed := b[0], b[0]&0x20 != 0
	if tag == 0 {
		return nil, nil, errBER // end-of-contents where an element belongs
	}
	var body []byte
	indefinite := b[1] == 0x80
	switch {
	case indefinite && !constructed:
		return nil, nil, errBER
	case indefinite:
		body = b[2:]
	default:
		n, head, ok := berLength(b)
		if !ok || len(b)-head < n {
			return nil, nil, errBER
		}
		body, rest = b[head:head+n], b[head+n:]
	}
	if !constructed {
		return der(tag, body), rest, nil
	}

	// A string type in constructed form is its segments joined.
	joined := tag&0xc0 == 0 && isString(tag&0x1f)
	var parts []byte
	for {
		if indefinite {
			if len(body) >= 2 && body[0] == 0 && body[1] == 0 {
				rest = body[2:]
				break
			}
		} else if len(body) == 0 {
			break
		}
		var part []byte
		part, body, err = c.element(body, depth+1)
		if err != nil {
			return nil, nil, err
		}
		if joined {
			seg, _, err := readTLV(part)
			if err != nil || seg.tag != tag&^0x20 {
				return nil, nil, errBER
			}
			part = seg.body
		}
		parts = append(parts, part...)
	}
	if joined {
		tag &^= 0x20
	}
	return der(tag, parts), rest, nil
}

// berLength reads a definite length in any form up to three octets that count;
// nothing here is longer than 16 MiB.
func berLength(b []byte) (n, head int, ok bool) {
	if b[1] < 0x80 {
		return int(b[1]), 2, true
	}
	k := int(b[1] & 0x7f)
	if k > 8 || len(b) < 2+k {
		return 0, 0, false
	}
	for _, c := range b[2 : 2+k] {
		if n >= 1<<16 {
			return 0, 0, false
		}
		n = n<<8 | int(c)
	}
	return n, 2 + k, true
}

// isString reports whether a universal tag number is a string type that BER
// lets come in segments. BIT STRING is left out: joining one is more than
// joining octets, and nobody segments a signature's.
func isString(n byte) bool {
	switch n {
	case 0x04, 0x0c, 0x12, 0x13, 0x14, 0x16, 0x1a, 0x1b, 0x1c, 0x1e:
		return true
	}
	return false
}
