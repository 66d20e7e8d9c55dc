// Gen writes the packages of the served AWS services, and the shapes of the
// protocol tests, from the API models in the aws-sdk-go module. Run it with go
// generate in internal/wire.
//
// It promises that the same models give the same files, that no constraint is
// dropped for want of a translation, and that nothing of the models' prose is
// copied. Where the live services differ from the models, overrides.go says so.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	// Keeps the module that holds the models among the requirements.
	_ "github.com/aws/aws-sdk-go/models/endpoints"
)

// served are the generated services, in the order of the coverage table.
var served = []string{"lambda", "signer", "logs", "sts"}

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run writes everything below dst, which stands for internal/wire.
func run(dst string) error {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go").Output()
	if err != nil {
		return fmt.Errorf("find the models: %w", err)
	}
	dir := strings.TrimSpace(string(out))
	for _, name := range served {
		if err := generate(dir, dst, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return vectors(dir, dst)
}

// generate writes the package of one service.
func generate(dir, dst, name string) error {
	m, err := readModel(dir, name)
	if err != nil {
		return err
	}
	if err := apply(name, m); err != nil {
		return err
	}
	m.settle()

	types := &writer{qual: "wire."}
	types.WriteString(header)
	types.p("package %s\n", name)
	body := &writer{qual: "wire."}
	body.types(m)
	if strings.Contains(body.String(), "time.Time") {
		types.p("import \"time\"\n")
	}
	types.Write(body.Bytes())

	table := &writer{qual: "wire."}
	table.WriteString(header)
	table.p("// Package %s is the API of %s, version %s, as its model describes it.", name, m.Metadata.ServiceFullName, m.Metadata.APIVersion)
	table.p("package %s\n", name)
	table.p("import \"countersign/internal/wire\"\n")
	table.p("// Service is the API's operations, shapes and constraints.")
	table.p("var Service = &wire.Service{")
	table.service(name, m)
	table.p("Shapes: shapes,\n}\n")
	fmt.Fprint(table, "var shapes = ")
	if err := table.shapes(m); err != nil {
		return err
	}

	if err := os.MkdirAll(filepath.Join(dst, name), 0o777); err != nil {
		return err
	}
	for file, w := range map[string]*writer{"types.go": types, "model.go": table} {
		b, err := w.source()
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(dst, name, file), b, 0o666); err != nil {
			return err
		}
	}
	return nil
}
