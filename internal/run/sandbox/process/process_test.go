package process_test

import (
	"os"
	"testing"

	"countersign/internal/run/sandbox"
	"countersign/internal/run/sandbox/process"
	"countersign/internal/run/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	os.Exit(sandboxtest.Main(m, func(string) (sandbox.Driver, error) { return process.New(), nil }))
}

func TestDriver(t *testing.T) { sandboxtest.Run(t) }

// What the driver gives up is said, for the operator to read at every start.
func TestSaysWhatItGivesUp(t *testing.T) {
	t.Parallel()
	d := process.New()
	if d.Isolates() || d.Name() != "process" || len(d.Missing()) == 0 {
		t.Errorf("got %v %q %v", d.Isolates(), d.Name(), d.Missing())
	}
}
