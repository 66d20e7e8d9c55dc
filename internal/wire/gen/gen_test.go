package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestGenerated holds that what is checked in is what the generator makes of
// the models and the overrides, byte for byte.
func TestGenerated(t *testing.T) {
	t.Parallel()
	dst := t.TempDir()
	if err := run(dst); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := filepath.WalkDir(dst, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		name, err := filepath.Rel(dst, path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what go generate makes", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := 2*len(served) + 1; n != want {
		t.Errorf("got %d files, want %d", n, want)
	}
}

// TestToRE2 tries the translation's corners, and what it must refuse rather
// than let through.
func TestToRE2(t *testing.T) {
	t.Parallel()
	for java, want := range map[string]string{
		`[a-z]+`:                   `[a-z]+`,
		`a.b`:                      `a[^\n\r\x{85}\x{2028}\x{2029}]b`,
		`[.]`:                      `[.]`,
		`\.\/\:\$`:                 `\.\/\:\$`,
		`[^\s]+\S`:                 `[^\s\v]+[^\s\v]`,
		`\s`:                       `[\s\v]`,
		`\u0009[\u10000-\u10FFFF]`: `\x{0009}[\x{1000}0-\x{10FF}FF]`,
		`[\s\S]*`:                  `(?s:.)*`,
		`\p{L}[\p{N}_]`:            `\p{L}[\p{N}_]`,
		`\x2e\d\w`:                 `\x2e\d\w`,
		`[^$]$`:                    `[^$]$`,
	} {
		if got, not, err := toRE2(java); got != want || not != "" || err != nil {
			t.Errorf("%s: got %s, %s, %v, want %s", java, got, not, err, want)
		}
	}
	for _, java := range []string{`(?=a)b`, `(?<!a)b`, `(?i)a`, `a++`, `a*+`, `[a-z]{2}+`, `[a&&[b]]`, `[a[b]]`, `[a\S]`, `\k<a>`, `\1`, `\p`, `\u00`, `a\`, `(`, `a{1001}`} {
		if got, _, err := toRE2(java); err == nil {
			t.Errorf("%s: got %s, want an error", java, got)
		}
	}
	for java := range lookaround {
		if _, not, err := toRE2(java); err != nil || not == "" {
			t.Errorf("%s: got %q, %v", java, not, err)
		}
	}
}

// TestOverridesApply holds that an override that changes nothing is noticed.
func TestOverridesApply(t *testing.T) {
	t.Parallel()
	m := new(model)
	m.Shapes.set("Runtime", &shape{Type: "string"})
	overridesOf := overrides["lambda"]
	for _, o := range overridesOf {
		if o.what == "enum of Runtime" && o.do(m) {
			t.Error("an enum that is not there was dropped")
		}
	}
	if err := apply("lambda", m); err == nil {
		t.Error("overrides applied to an empty model")
	}
}
