// Command gencoverage writes docs/coverage.md: every operation of every
// service that is served, and whether it is built, as the code has it.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"countersign/internal/api"
	"countersign/internal/wire"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gencoverage FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], table(), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func table() []byte {
	// Nothing is called, so nothing stands behind the operations.
	nobody := func(*http.Request, []byte, *wire.Service) (wire.Caller, string, error) {
		return wire.Caller{}, "", errors.New("nobody is let in")
	}
	s := wire.NewServer(wire.Config{Authenticate: nobody, Log: slog.New(slog.DiscardHandler)}, api.Services()...)
	api.Register(s, api.Stages{})

	var b bytes.Buffer
	fmt.Fprint(&b, `# Operations

Made by `+"`go generate ./...`"+` from the code. An operation that is not built answers 501 with its name. S3 is not in
this table: its requests go to the embedded gateway whole (see `+"`internal/objects`"+`).
`)
	built, all := map[string]int{}, map[string]int{}
	for _, c := range wire.Coverage(s) {
		all[c.Service]++
		if c.Built {
			built[c.Service]++
		}
	}
	of := ""
	for _, c := range wire.Coverage(s) {
		if c.Service != of {
			of = c.Service
			fmt.Fprintf(&b, "\n## %s (%d of %d)\n\n| operation | |\n| --- | --- |\n", of, built[of], all[of])
		}
		mark := "501"
		if c.Built {
			mark = "built"
		}
		fmt.Fprintf(&b, "| %s | %s |\n", c.Operation, mark)
	}
	return b.Bytes()
}
