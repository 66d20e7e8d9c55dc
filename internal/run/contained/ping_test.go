package contained

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"countersign/internal/run/frame"
	"countersign/internal/run/sandbox"
	"countersign/internal/run/sandbox/gvisor"
)

func BenchmarkPing(b *testing.B) {
	d, err := gvisor.New(gvisor.Config{Dir: b.TempDir(), Exe: exe})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	g, err := d.Start(b.Context(), sandbox.Spec{ID: "p", Init: []string{"/init", "init"}, Env: nil, Mounts: []sandbox.Mount{{Host: exe, Guest: "/init"}}, TmpBytes: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	ping := binary.BigEndian.AppendUint32(nil, 2)
	ping = append(ping, byte(frame.TypePing), 'x')
	r := frame.NewReader(g.Control())
	var took []time.Duration
	for b.Loop() {
		t := time.Now()
		g.Control().Write(ping)
		if _, _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(t))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
}
