package gvisor

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/sentry/control"
	"gvisor.dev/gvisor/runsc/boot"

	"countersign/internal/run/sandbox"
)

// Memory is looked at as often as it could grow from where it is to the limit,
// at a rate above what processes here reach, within bounds: an idle guest must
// not cost a processor and a busy one must not take one.
const (
	growth   = 4 << 30 // bytes a second
	soonest  = 2 * time.Millisecond
	slackest = 200 * time.Millisecond
)

// watch ends the guest when it uses more memory than it may. A cgroup alone
// cannot: it counts the guest and its kernel as one.
func (g *Guest) watch() {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-g.done:
			return
		case <-t.C:
		}
		room := g.limits.MemoryBytes - g.Usage().MemoryBytes
		if room < 0 {
			g.exceeded.Store(true)
			g.end()
			return
		}
		t.Reset(min(max(time.Duration(float64(room)/growth*float64(time.Second)), soonest), slackest))
	}
}

// openMemory gets hold of the file that is the guest's memory. The sentry
// keeps all of it in one: what processes have, and what they left in caches.
func (g *Guest) openMemory() error {
	var out control.MemoryUsageFile
	if err := g.rpc.Call(boot.UsageUsageFD, &control.MemoryUsageFileOpts{Version: 1}, &out); err != nil {
		return fmt.Errorf("memory file: %w", err)
	}
	if len(out.Files) != 2 {
		return fmt.Errorf("memory file: got %d files, want 2", len(out.Files))
	}
	unix.CloseOnExec(int(out.Files[1].Fd()))
	out.Files[0].Close() // gVisor's own counters, which the file's size makes unnecessary
	g.mu.Lock()
	defer g.mu.Unlock()
	g.memory = out.Files[1]
	return nil
}

// closeMemory takes a last look and lets go: the memory lasts as long as its file.
func (g *Guest) closeMemory() {
	g.Usage()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.memory != nil {
		g.memory.Close()
		g.memory = nil
	}
}

// Usage is the memory that the guest's processes use, without the sentry's
// own and without /tmp. After the end, nothing is used and the peak remains.
func (g *Guest) Usage() sandbox.Usage {
	g.mu.Lock()
	defer g.mu.Unlock()
	var now int64
	if g.memory != nil {
		var st unix.Stat_t
		if err := unix.Fstat(int(g.memory.Fd()), &st); err == nil {
			now = st.Blocks * 512 // stat(2): of 512 bytes, whatever the file system's are
		}
	}
	g.peak = max(g.peak, now)
	return sandbox.Usage{MemoryBytes: now, PeakMemoryBytes: g.peak}
}
