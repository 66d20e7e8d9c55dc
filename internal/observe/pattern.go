package observe

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"countersign"
)

// A Pattern is a filter pattern for plain text, as CloudWatch Logs reads it:
//
//	ERROR timeout          both occur
//	"not found"            the phrase occurs
//	-DEBUG                 it does not occur
//	?ERROR ?"took long"    one of them occurs
//
// Case counts. Beside terms that must or must not occur, "?" terms have no
// effect. The zero Pattern matches everything.
type Pattern struct {
	all, none, any []string
}

// ParsePattern reads a filter pattern. Patterns over JSON ({…}), over columns
// ([…]) and regular expressions (%…%) are refused by name: countersign.NotBuilt.
func ParsePattern(s string) (Pattern, error) {
	var p Pattern
	rest := strings.TrimSpace(s)
	switch {
	case strings.HasPrefix(rest, "{"):
		return p, notBuilt("JSON ({ … })")
	case strings.HasPrefix(rest, "["):
		return p, notBuilt("space-delimited ([ … ])")
	}
	for rest != "" {
		to := &p.all
		switch rest[0] {
		case '-':
			to, rest = &p.none, rest[1:]
		case '?':
			to, rest = &p.any, rest[1:]
		}
		var term string
		var err error
		if term, rest, err = nextTerm(rest); err != nil {
			return Pattern{}, err
		}
		*to = append(*to, term)
		rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
	}
	if len(p.all)+len(p.none) > 0 {
		p.any = nil
	}
	return p, nil
}

func nextTerm(s string) (term, rest string, err error) {
	if s == "" {
		return "", "", badPattern("Invalid filter pattern")
	}
	switch s[0] {
	case '%':
		return "", "", notBuilt("regular expression (% … %)")
	case '"':
		var b strings.Builder
		for i := 1; i < len(s); i++ {
			switch c := s[i]; c {
			case '"':
				if b.Len() == 0 {
					return "", "", badPattern("Invalid filter pattern")
				}
				return b.String(), s[i+1:], nil
			case '\\':
				if i++; i < len(s) {
					b.WriteByte(s[i])
				}
			default:
				b.WriteByte(c)
			}
		}
		return "", "", badPattern("Invalid filter pattern")
	}
	i := strings.IndexFunc(s, unicode.IsSpace)
	if i < 0 {
		i = len(s)
	}
	term = s[:i]
	// Whatever is more than letters, digits and '_' has to be quoted.
	bad := strings.IndexFunc(term, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if bad >= 0 {
		r, _ := utf8.DecodeRuneInString(term[bad:])
		return "", "", badPattern("Invalid character(s) in term '" + string(r) + "'")
	}
	return term, s[i:], nil
}

func badPattern(message string) error { return countersign.Errorf(countersign.Invalid, "%s", message) }

func notBuilt(what string) error {
	return countersign.Errorf(countersign.NotBuilt, "Filter patterns of the form %s are not built in Countersign; terms, quoted phrases, ? and - are.", what)
}

// Match reports whether p matches message.
func (p Pattern) Match(message string) bool {
	for _, t := range p.none {
		if strings.Contains(message, t) {
			return false
		}
	}
	for _, t := range p.all {
		if !strings.Contains(message, t) {
			return false
		}
	}
	for _, t := range p.any {
		if strings.Contains(message, t) {
			return true
		}
	}
	return len(p.any) == 0
}

// IsZero reports whether p matches everything.
func (p Pattern) IsZero() bool { return len(p.all)+len(p.none)+len(p.any) == 0 }
