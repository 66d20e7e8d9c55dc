package runtest

import (
	"slices"
	"testing"
	"time"
)

// benchFiles are the functions that benchmarks invoke: each answers with its
// event.
func benchFiles(b *testing.B) []struct {
	name, runtime, handler string
	files                  Files
} {
	return []struct {
		name, runtime, handler string
		files                  Files
	}{
		{"provided", "provided.al2023", "x", echo(b)},
		{"python", pythonRuntime, "a.h", Files{"a.py": "def h(e, c): return e\n"}},
		{"nodejs", nodeRuntime, "a.h", Files{"a.js": "exports.h = async (e) => e\n"}},
	}
}

// WarmInvoke measures an event to an environment that is there, and reports
// the median.
func WarmInvoke(b *testing.B, k Kind) {
	for _, c := range benchFiles(b) {
		b.Run(c.name, func(b *testing.B) {
			needs(b, c.runtime)
			f := New(b, k).Deploy(c.runtime, c.handler, c.files)
			for range 50 {
				f.Want(`{"key1":"value1"}`, f.answer(c.runtime))
			}
			r := f.Request(`{"key1":"value1"}`)
			r.LogTail = false
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				began := time.Now()
				f.Send(r)
				took = append(took, time.Since(began))
			}
			report(b, took)
		})
	}
}

// answer is how a runtime writes {"key1":"value1"}.
func (f *Fn) answer(runtime string) string {
	if runtime == pythonRuntime {
		return `{"key1": "value1"}`
	}
	return `{"key1":"value1"}`
}

// ColdInvoke measures an event that needs a new environment, with the code
// unpacked already.
func ColdInvoke(b *testing.B, k Kind) {
	for _, c := range benchFiles(b) {
		b.Run(c.name, func(b *testing.B) {
			needs(b, c.runtime)
			f := New(b, k).Deploy(c.runtime, c.handler, c.files)
			f.Want(`{"key1":"value1"}`, f.answer(c.runtime))
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				f.p.Pool.Retire(f.ARN)
				poll(b, "no environments", func() bool { return f.p.Pool.Environments() == 0 })
				b.StartTimer()
				began := time.Now()
				if r := f.Invoke(`{"key1":"value1"}`); !r.Cold {
					b.Fatal("not cold")
				}
				took = append(took, time.Since(began))
			}
			report(b, took)
		})
	}
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds()), "p95-µs")
}
