package bench

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeNamesAll: a benchmark nobody can find is not run.
func TestReadmeNamesAll(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func Benchmark(\w+)\(`).FindAllStringSubmatch(string(src), -1) {
			named++
			if !strings.Contains(string(readme), "`"+m[1]+"`") {
				t.Errorf("README.md does not name `%s` of %s", m[1], f)
			}
		}
	}
	if named == 0 {
		t.Error("found no benchmarks: got 0, want some")
	}
}
