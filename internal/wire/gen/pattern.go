package main

import (
	"fmt"
	"regexp"
	"strings"
)

// lookaround translates by hand the patterns RE2 has no syntax for. Each is
// what the pattern matches without its look-around, and what the look-around
// refuses of it. Java's matches() takes the whole string, so ^ and $ at the
// ends say nothing.
var lookaround = map[string]struct{ re, not string }{
	`(?!^[0-9]+$)([a-zA-Z0-9-_]+)`:                {`[a-zA-Z0-9\-_]+`, `[0-9]+`},
	`(^\$LATEST$)|((?!^[0-9]+$)([a-zA-Z0-9-_]+))`: {`\$LATEST|[a-zA-Z0-9\-_]+`, `[0-9]+`},
	`((?!^\d+$)^[0-9a-zA-Z-_]+$)`:                 {`[0-9a-zA-Z\-_]+`, `[0-9]+`},
	`(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)`:   {`[_a-zA-Z0-9][^$]*`, `(?s:system\..*)`},
	`^[0-9A-Za-z\.\-_]*(?<!\.)$`:                  {`[0-9A-Za-z.\-_]*`, `.*\.`},
	`^(?!aws:)[a-zA-Z+-=._:/]+$`:                  {`[a-zA-Z+-=._:/]+`, `aws:.*`},
}

// toRE2 translates a Java regular expression that is matched against a whole
// string. It knows the syntax the models use and refuses what it does not
// know: no pattern is dropped or guessed at.
func toRE2(java string) (re, not string, err error) {
	if l, ok := lookaround[java]; ok {
		re, not = l.re, l.not
	} else if re, err = translate(java); err != nil {
		return "", "", fmt.Errorf("pattern %s: %w", java, err)
	}
	for _, s := range []string{re, not} {
		if _, err := regexp.Compile(`\A(?:` + s + `)\z`); err != nil {
			return "", "", fmt.Errorf("pattern %s: %w", java, err)
		}
	}
	return re, not, nil
}

func translate(java string) (string, error) {
	var b strings.Builder
	class := false // inside [...]
	for i := 0; i < len(java); i++ {
		rest := java[i:]
		switch c := java[i]; {
		case strings.HasPrefix(rest, `[\s\S]`): // everything
			b.WriteString(`(?s:.)`)
			i += len(`[\s\S]`) - 1
		case c == '\\':
			if len(rest) < 2 {
				return "", fmt.Errorf("ends in a backslash")
			}
			i++
			switch e := rest[1]; e {
			case 'u': // four digits, always: \u10000 is U+1000 and a zero
				if len(rest) < 6 {
					return "", fmt.Errorf("short \\u")
				}
				fmt.Fprintf(&b, `\x{%s}`, rest[2:6])
				i += 4
			case 's': // Java's has the vertical tab, RE2's has not
				if class {
					b.WriteString(`\s\v`)
				} else {
					b.WriteString(`[\s\v]`)
				}
			case 'S':
				if class {
					return "", fmt.Errorf(`\S in a class`)
				}
				b.WriteString(`[^\s\v]`)
			case 'p': // \p{L}
				end := strings.IndexByte(rest, '}')
				if end < 0 {
					return "", fmt.Errorf(`\p without braces`)
				}
				b.WriteString(rest[:end+1])
				i += end - 1
			case 'x':
				if len(rest) < 4 {
					return "", fmt.Errorf(`short \x`)
				}
				b.WriteString(rest[:4])
				i += 2
			case 'd', 'w', 'D', 'W', 't', 'n', 'r':
				b.WriteString(rest[:2])
			default:
				if e >= 'a' && e <= 'z' || e >= 'A' && e <= 'Z' || e >= '0' && e <= '9' {
					return "", fmt.Errorf(`\%c is not known`, e)
				}
				b.WriteString(rest[:2])
			}
		case class && c == '[', class && strings.HasPrefix(rest, "&&"):
			return "", fmt.Errorf("nested class")
		case class:
			if c == ']' {
				class = false
			}
			b.WriteByte(c)
		case c == '[':
			class = true
			b.WriteByte(c)
			if strings.HasPrefix(rest, "[^") {
				b.WriteByte('^')
				i++
			}
		case c == '.': // Java's dot stops at every line terminator
			b.WriteString(`[^\n\r\x{85}\x{2028}\x{2029}]`)
		case strings.HasPrefix(rest, "(?"):
			return "", fmt.Errorf("look-around, which wants a line in the table")
		case (c == '*' || c == '+' || c == '?' || c == '}') && len(rest) > 1 && rest[1] == '+':
			return "", fmt.Errorf("possessive quantifier")
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}
