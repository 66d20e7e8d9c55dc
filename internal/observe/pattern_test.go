package observe

import (
	"strings"
	"testing"

	"countersign"
)

func TestPattern(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, message string
		want             bool
	}{
		{"", "anything", true},
		{"  ", "anything", true},
		{"ERROR", "an ERROR 400", true},
		{"ERROR", "an error", false},
		{"ERROR 400", "400 ERROR", true},
		{"ERROR 400", "ERROR 500", false},
		{`"ERROR 400"`, "ERROR 400", true},
		{`"ERROR 400"`, "400 ERROR", false},
		{`"say \"x\""`, `I say "x" now`, true},
		{"ERROR -400", "ERROR 500", true},
		{"ERROR -400", "ERROR 400", false},
		{`-"not found"`, "not found", false},
		{"?ERROR ?WARN", "WARN", true},
		{"?ERROR ?WARN", "INFO", false},
		{"?ERROR ?WARN REQUEST", "REQUEST", true},
		{"?ERROR ?WARN REQUEST", "ERROR", false},
		{`?"a b" ?c`, "a b", true},
	} {
		p, err := ParsePattern(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
		} else if got := p.Match(tt.message); got != tt.want {
			t.Errorf("%q on %q: got %v, want %v", tt.pattern, tt.message, got, tt.want)
		}
	}
	for pattern, want := range map[string]countersign.Kind{
		`{ $.level = "ERROR" }`: countersign.NotBuilt,
		"[ip, user]":            countersign.NotBuilt,
		"%[0-9]+%":              countersign.NotBuilt,
		"a:b":                   countersign.Invalid,
		`"open`:                 countersign.Invalid,
		`""`:                    countersign.Invalid,
		"-":                     countersign.Invalid,
		"?":                     countersign.Invalid,
	} {
		if _, err := ParsePattern(pattern); countersign.KindOf(err) != want {
			t.Errorf("%q: got %v, want kind %v", pattern, err, want)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"", "a b", `"a \" b"`, "?a -b", "{", "%", `"`, "?\"\\"} {
		f.Add(s, "message")
	}
	f.Fuzz(func(t *testing.T, pattern, message string) {
		p, err := ParsePattern(pattern)
		if err != nil {
			return
		}
		for _, term := range p.none {
			if strings.Contains(message, term) && p.Match(message) {
				t.Errorf("%q matches %q, which holds %q", pattern, message, term)
			}
		}
		for _, term := range p.all {
			if !strings.Contains(message, term) && p.Match(message) {
				t.Errorf("%q matches %q, which lacks %q", pattern, message, term)
			}
		}
	})
}
