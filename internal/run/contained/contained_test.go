// Package contained tests functions inside gVisor. It is a package of its own
// so that the others do not have to link gVisor to be tested.
package contained

import (
	"fmt"
	"os"
	"testing"

	"countersign/internal/run/guest"
	"countersign/internal/run/runtest"
	"countersign/internal/run/sandbox"
	"countersign/internal/run/sandbox/gvisor"
	"countersign/internal/run/sandbox/sandboxtest"
)

// exe is what guests' processes are, and what process 1 inside is.
var exe string

func TestMain(m *testing.M) {
	gvisor.Reexec()
	guest.Reexec()
	var err error
	if exe, err = sandboxtest.Static("countersign/internal/run/runtest/initmain"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	runtest.Cleanup()
	os.Exit(code)
}

func kind() runtest.Kind {
	return runtest.Kind{
		Open: func(t testing.TB) sandbox.Driver {
			d, err := gvisor.New(gvisor.Config{Dir: t.TempDir(), Exe: exe})
			if err != nil {
				t.Fatalf("open gVisor: %v", err)
			}
			return d
		},
		Init: exe,
	}
}

func TestPool(t *testing.T) { runtest.Run(t, kind()) }

func BenchmarkWarmInvoke(b *testing.B) { runtest.WarmInvoke(b, kind()) }
func BenchmarkColdInvoke(b *testing.B) { runtest.ColdInvoke(b, kind()) }

func TestContained(t *testing.T) { t.Parallel(); runtest.Contained(t, kind()) }
