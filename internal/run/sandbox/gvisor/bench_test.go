package gvisor

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"countersign/internal/run/sandbox"
	"countersign/internal/run/sandbox/sandboxtest"
	"countersign/internal/run/sandbox/sandboxtest/ask"
)

// benchDriver makes a driver for a benchmark.
func benchDriver(b *testing.B) sandbox.Driver {
	b.Helper()
	d, err := open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	return d
}

// median reports the middle of the times, which one slow start does not move.
func median(b *testing.B, name string, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, name+"-p50-ms")
}

// BenchmarkStart is a cold start without a function: to a running process 1,
// to its first byte, and from there to nothing left.
func BenchmarkStart(b *testing.B) {
	probe := sandboxtest.Probe(b)
	var mounts []sandbox.Mount
	for _, dir := range []string{"/usr", "/lib", "/lib64", "/bin"} {
		if _, err := os.Stat(dir); err == nil {
			mounts = append(mounts, sandbox.Mount{Host: dir, Guest: dir})
		}
	}
	limits := sandbox.Limits{MemoryBytes: 128 << 20, PIDs: 1024}
	b.Run("go", func(b *testing.B) {
		cold(b, sandbox.Spec{
			Init: []string{"/opt/probe"}, Limits: limits, TmpBytes: 512 << 20,
			Mounts: []sandbox.Mount{{Host: probe, Guest: "/opt/probe"}},
		}, true)
	})
	b.Run("python", func(b *testing.B) {
		py, err := filepath.EvalSymlinks("/usr/bin/python3")
		if err != nil {
			b.Skipf("no system python: %v", err)
		}
		cold(b, sandbox.Spec{
			Init:   []string{py, "-S", "-c", `import os; os.write(4, b"{}\n"); os.read(3, 1)`},
			Limits: limits, TmpBytes: 512 << 20, Mounts: mounts,
		}, false)
	})
}

// cold starts guests of s and listens for their first word, which an asked
// guest says when spoken to.
func cold(b *testing.B, s sandbox.Spec, asked bool) {
	d := benchDriver(b)
	var started, spoke, gone []time.Duration
	s.ID = "bench"
	before := processorTime(b)
	for b.Loop() {
		t := time.Now()
		g, err := d.Start(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		started = append(started, time.Since(t))
		if asked {
			if err := json.NewEncoder(g.Control()).Encode(ask.Ask{Do: ask.Echo}); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := g.Control().Read(make([]byte, 64)); err != nil {
			b.Fatal(err, g.Exit())
		}
		spoke = append(spoke, time.Since(t))
		k := time.Now()
		g.Kill()
		gone = append(gone, time.Since(k))
	}
	b.ReportMetric((processorTime(b)-before).Seconds()*1000/float64(b.N), "cpu-ms/op")
	median(b, "start", started)
	median(b, "first-byte", spoke)
	median(b, "kill", gone)
}

// processorTime is what this process and the guests it has reaped have used.
// It says on a busy machine what the clock does not.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var ru syscall.Rusage
		if err := syscall.Getrusage(who, &ru); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	return sum
}

// BenchmarkControl is one message to process 1 and back: what a warm
// invocation pays for the sandbox.
func BenchmarkControl(b *testing.B) {
	g, err := benchDriver(b).Start(b.Context(), sandbox.Spec{
		ID: "bench", Init: []string{"/opt/probe", "pong"},
		Mounts: []sandbox.Mount{{Host: sandboxtest.Probe(b), Guest: "/opt/probe"}},
	})
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1024)
	for b.Loop() {
		if _, err := g.Control().Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(g.Control(), buf); err != nil {
			b.Fatal(err)
		}
	}
}
