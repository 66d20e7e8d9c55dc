package wire

import (
	"regexp"
	"sync"
)

// A Pattern is a constraint AWS states as a Java regular expression. AWS
// prints Text, word for word; what is matched is its translation to RE2,
// which the generator made. Java's look-around has no translation: for the
// few patterns that use it, Not holds what the look-around refuses.
type Pattern struct {
	Text string // AWS's
	RE   string // matches exactly what Text matches, but for Not
	Not  string // strings to refuse all the same; "" for none

	once    sync.Once
	re, not *regexp.Regexp
}

// Match reports whether all of s is within p.
func (p *Pattern) Match(s string) bool {
	p.once.Do(p.compile)
	return p.re.MatchString(s) && (p.not == nil || !p.not.MatchString(s))
}

// compile panics on a pattern that is not RE2. The generator has compiled
// every pattern before it wrote it, and a test does again.
func (p *Pattern) compile() {
	p.re = regexp.MustCompile(`\A(?:` + p.RE + `)\z`)
	if p.Not != "" {
		p.not = regexp.MustCompile(`\A(?:` + p.Not + `)\z`)
	}
}
