package gvisor

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"countersign/internal/run/sandbox"
	"countersign/internal/run/sandbox/sandboxtest"
)

// TestGuestsInheritNothing: a descriptor that somebody in this process opened
// without closing it on exec, and another guest's memory, are not a guest's.
func TestGuestsInheritNothing(t *testing.T) {
	t.Parallel()
	var careless [2]int
	if err := unix.Pipe2(careless[:], 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(careless[0])
	defer unix.Close(careless[1])
	ours, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", careless[0]))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Config{Dir: t.TempDir(), Exe: exe})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for i := range 3 {
		s := sandbox.Spec{
			ID: fmt.Sprint("inherit-", i), Init: []string{"/opt/probe"}, Limits: sandbox.Limits{MemoryBytes: 64 << 20},
			Mounts: []sandbox.Mount{{Host: sandboxtest.Probe(t), Guest: "/opt/probe"}},
		}
		if _, err := d.Start(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		d.mu.Lock()
		g := d.guests[s.ID]
		d.mu.Unlock()
		if _, memory := descriptors(t, g.gofer.Process, ours); memory != 0 {
			t.Errorf("guest %d: its gofer holds %d guests' memory", i, memory)
		}
		for _, p := range []*os.Process{g.sentry.Process, g.gofer.Process} {
			if found, _ := descriptors(t, p, ours); found {
				t.Errorf("guest %d: process %d inherited a descriptor it was not given", i, p.Pid)
			}
		}
		if _, memory := descriptors(t, g.sentry.Process, ours); memory > 1 {
			t.Errorf("guest %d: its sentry holds %d guests' memory, want its own alone", i, memory)
		}
	}
}

// descriptors looks for a link among a process's descriptors, and counts how
// many are guests' memory.
func descriptors(t *testing.T, p *os.Process, link string) (found bool, memory int) {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.Pid))
	if err != nil || len(names) == 0 {
		t.Fatalf("look at process %d: %d descriptors, %v", p.Pid, len(names), err)
	}
	for _, n := range names {
		to, err := os.Readlink(n)
		if err != nil {
			continue // closed meanwhile
		}
		found = found || to == link
		if to == "/memfd:runsc-memory (deleted)" {
			memory++
		}
	}
	return found, memory
}
