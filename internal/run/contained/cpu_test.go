package contained

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"countersign/internal/run/runtest"
)

var byName map[string]int64

// cpu sums utime+stime of this process and descendants, in ms.
func cpu() (ms int64) {
	byName = map[string]int64{}
	parent := map[int]int{}
	t := map[int]int64{}
	ds, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, d := range ds {
		b, err := os.ReadFile(d)
		if err != nil {
			continue
		}
		s := string(b)
		i := strings.LastIndex(s, ")")
		f := strings.Fields(s[i+2:])
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(d)))
		pp, _ := strconv.Atoi(f[1])
		u, _ := strconv.ParseInt(f[11], 10, 64)
		k, _ := strconv.ParseInt(f[12], 10, 64)
		parent[pid] = pp
		t[pid] = (u + k) * 10
	}
	for p := range t {
		for q := p; q > 1; q = parent[q] {
			if q == os.Getpid() {
				ms += t[p]
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p))
				byName[strings.SplitN(string(b), "\x00", 2)[0]] += t[p]
				break
			}
		}
	}
	return ms
}

func TestCPU(t *testing.T) {
	for _, c := range []struct {
		rt, h string
		f     runtest.Files
	}{
		{"python3.11", "a.h", runtest.Files{"a.py": "def h(e, c): return e\n"}},
		{"nodejs20.x", "a.h", runtest.Files{"a.js": "exports.h = async (e) => e\n"}},
		{"provided.al2", "GOMAXPROCS=1", runtest.Files{"bootstrap": func() string {
			b, _ := os.ReadFile(runtest.Build(t, "countersign/internal/run/runtest/echo"))
			return string(b)
		}()}},
		{"provided.al2", "x", runtest.Files{"bootstrap": func() string {
			b, _ := os.ReadFile(runtest.Build(t, "countersign/internal/run/runtest/echo"))
			return string(b)
		}()}},
	} {
		f := runtest.New(t, kind()).Deploy(c.rt, c.h, c.f)
		if c.h == "GOMAXPROCS=1" {
			f.Env = map[string]string{"GOMAXPROCS": "1"}
		}
		for range 50 {
			f.Invoke(`{}`)
		}
		a := cpu()
		before := byName
		began := time.Now()
		n := 2000
		var all []time.Duration
		best := time.Hour
		for range n {
			x := time.Now()
			f.Invoke(`{}`)
			all = append(all, time.Since(x))
			best = min(best, time.Since(x))
		}
		fmt.Printf("%s: %d µs cpu/op, wall %v best %v p50 %v\n", c.rt+c.h, (cpu()-a)*1000/int64(n), time.Since(began)/time.Duration(n), best, med(all))
		for k, v := range byName {
			if d := v - before[k]; d > 0 {
				fmt.Printf("   cpu %s %d\n", k, d*1000/int64(n))
			}
		}
		a = cpu()
		time.Sleep(3 * time.Second)
		fmt.Printf("idle: %d ms cpu in 3s\n", cpu()-a)
	}
}

func med(a []time.Duration) time.Duration { slices.Sort(a); return a[len(a)/2] }
