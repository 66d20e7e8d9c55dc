package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// vectorsFile holds the shapes of the protocol tests; the tests themselves
// stay in the module and are read when they are run.
const vectorsFile = "vectors_shapes_test.go"

// A suite is one entry of a protocol test file: shapes, and cases that use them.
type suite struct {
	model
	Cases []struct {
		Given operation `json:"given"`
	} `json:"cases"`
}

// vectors writes the shapes of every protocol test: a Go type per structure
// and suite, and a Service per case, whose one operation is the case's.
func vectors(dir, dst string) error {
	w := &writer{}
	w.WriteString(header)
	w.p("package wire\n")
	w.p("import (\n\"reflect\"\n\"time\"\n)\n")
	table := &writer{}
	table.p("var vectorSuites = []vectorSuite{")
	for _, way := range []string{"input", "output"} {
		for _, protocol := range []string{"rest-json", "json", "query", "ec2", "rest-xml"} {
			file := way + "/" + protocol + ".json"
			raw, err := os.ReadFile(filepath.Join(dir, "models/protocol_tests", file))
			if err != nil {
				return err
			}
			var raws []json.RawMessage
			if err := json.Unmarshal(raw, &raws); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			for i, raw := range raws {
				prefix := fmt.Sprintf("v%s%s%d", exported(way[:len(way)-3]), protocols[protocol], i)
				if err := writeSuite(w, table, raw, file, prefix, i); err != nil {
					return fmt.Errorf("%s, suite %d: %w", file, i, err)
				}
			}
		}
	}
	table.p("}")
	w.Write(table.Bytes())
	b, err := w.source()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dst, vectorsFile), b, 0o666)
}

func writeSuite(w, table *writer, raw []byte, file, prefix string, index int) error {
	var types suite
	if err := json.Unmarshal(raw, &types); err != nil {
		return err
	}
	w.prefix = prefix
	w.types(&types.model)
	table.p("{File: %q, Index: %d, Cases: []vectorTypes{", file, index)
	for i := range types.Cases {
		var s suite // afresh: a case settles its own traits on the shapes
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		op := s.Cases[i].Given
		s.Operations.set(op.Name, op)
		s.settle()
		table.p("{Service: &Service{")
		table.service("vectors", &s.model)
		fmt.Fprint(table, "Shapes: ")
		if err := table.shapes(&s.model); err != nil {
			return err
		}
		table.p(",\n}, In: %s, Out: %s},", vectorType(prefix, op.Input), vectorType(prefix, op.Output))
	}
	table.p("}},")
	return nil
}

func vectorType(prefix string, r *ref) string {
	if r == nil {
		return "reflect.TypeFor[None]()"
	}
	return "reflect.TypeFor[" + prefix + exported(strings.TrimSpace(r.Shape)) + "]()"
}
