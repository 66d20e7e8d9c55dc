package bench

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	scratchMu  sync.Mutex
	scratchDir atomic.Pointer[string]
	built      sync.Mutex // one build at a time
)

// scratch is a folder for what benchmarks share; it goes with the process.
func scratch(b *testing.B) string {
	b.Helper()
	scratchMu.Lock()
	defer scratchMu.Unlock()
	if d := scratchDir.Load(); d != nil {
		return *d
	}
	d, err := os.MkdirTemp("", "countersign-bench-")
	check(b, err)
	scratchDir.Store(&d)
	return d
}
