package run_test

import (
	"os"
	"testing"

	"countersign/internal/run/guest"
	"countersign/internal/run/runtest"
	"countersign/internal/run/sandbox"
	"countersign/internal/run/sandbox/process"
)

func TestMain(m *testing.M) {
	guest.Reexec()
	code := m.Run()
	runtest.Cleanup()
	os.Exit(code)
}

// kind runs functions as processes: everything but the sandbox.
var kind = runtest.Kind{Open: func(testing.TB) sandbox.Driver { return process.New() }}

func TestPool(t *testing.T) { t.Parallel(); runtest.Run(t, kind) }

func BenchmarkWarmInvoke(b *testing.B) { runtest.WarmInvoke(b, kind) }
func BenchmarkColdInvoke(b *testing.B) { runtest.ColdInvoke(b, kind) }
