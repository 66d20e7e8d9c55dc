// Command countersign is AWS Lambda and AWS Signer on your own machine: a
// function runs only if its code was reviewed and signed.
//
// One subcommand a file. Data goes to standard output, talk to standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"countersign/internal/run/guest"
	"countersign/internal/run/sandbox/gvisor"
)

func main() {
	// This binary is also the sandbox's kernel and the first process inside
	// a guest. Both must start before anything else costs time.
	guest.Reexec()
	gvisor.Reexec()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// cli is the whole command line.
type cli struct {
	Server  serverCmd  `cmd:"" help:"Run the platform: Lambda, Signer, S3, STS and CloudWatch Logs on one endpoint."`
	Tour    tourCmd    `cmd:"" help:"Play the main job end to end on a platform of its own and say what it proved."`
	Env     envCmd     `cmd:"" help:"Print the export lines that point the aws CLI and SDKs at a server."`
	Verify  verifyCmd  `cmd:"" help:"Check a signed zip against a trusted root; needs no server."`
	CA      caCmd      `cmd:"" name:"ca" help:"The platform's certificate authority."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// streams are where a subcommand reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// A hintedError carries the next thing to type.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

// hint attaches advice to err. hint(nil, …) is nil.
func hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hintedError{err, fmt.Sprintf(format, args...)}
}

// errRefused ends the program with status 1 after everything was said.
var errRefused = errors.New("refused")

// run is main without the process: it returns the exit status, 0 for yes, 1
// for no and for failures, 2 for a command line that makes no sense.
func run(args []string, in io.Reader, out, errw io.Writer) int {
	var c cli
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exited := -1
	p, err := kong.New(&c,
		kong.Name("countersign"),
		kong.Description("A function runs only if its code was reviewed and signed.\n\nStart with: countersign tour"),
		kong.Writers(out, errw),
		kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(&streams{in, out, errw}),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(errw, "countersign: error:", err)
		return 2
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := p.Parse(args)
	if exited >= 0 {
		return exited // --help has been shown
	}
	if err != nil {
		fmt.Fprintln(errw, "countersign: error:", err)
		fmt.Fprintln(errw, "countersign: hint: countersign --help lists the commands; countersign COMMAND --help explains one")
		return 2
	}
	err = k.Run()
	if err == nil {
		return 0
	}
	if !errors.Is(err, errRefused) {
		fmt.Fprintln(errw, "countersign: error:", err)
	}
	var h *hintedError
	if errors.As(err, &h) {
		fmt.Fprintln(errw, "countersign: hint:", h.hint)
	}
	return 1
}
