package bench

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/uuid"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/guard"
	"countersign/internal/release"
	"countersign/internal/store"
)

const readyLine = "countersign: ready on "

// A process is a server as a user starts it.
type process struct {
	*exec.Cmd
	url   string
	ready time.Duration // from its start to the line that says it answers
	ended chan struct{}
}

// launch starts the program on dir and waits until it is ready.
func launch(b *testing.B, program, dir string, args ...string) *process {
	b.Helper()
	p := &process{Cmd: exec.Command(program, append([]string{"server", "--data", dir, "--listen", "127.0.0.1:0"}, args...)...), ended: make(chan struct{})}
	out, err := p.StderrPipe()
	check(b, err)
	began := time.Now()
	check(b, p.Start())
	said := make(chan string, 1)
	go func() {
		defer close(p.ended)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			if url, ok := strings.CutPrefix(sc.Text(), readyLine); ok {
				p.ready = time.Since(began)
				said <- url
			}
		}
		p.Wait() // it was told to end
	}()
	b.Cleanup(p.stop)
	select {
	case p.url = <-said:
	case <-p.ended:
		b.Fatalf("%s server %s: ended before it was ready", program, strings.Join(args, " "))
	}
	return p
}

// stop ends the server as an operator does; stopping it twice is harmless.
func (p *process) stop() {
	p.Process.Signal(os.Interrupt) // an error means that it is gone already
	<-p.ended
}

// client makes a client with the credentials the server made for itself.
func (p *process) client(b *testing.B, dir string) *server {
	b.Helper()
	root, err := guard.ReadRoot(dir)
	check(b, err)
	return connect(b, p.url, root)
}

// residentMB is what the kernel says the process holds in memory.
func (p *process) residentMB(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.Process.Pid), "status"))
	check(b, err)
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(kb)[0])
			check(b, err)
			return float64(n) / 1024
		}
	}
	b.Fatal("the kernel does not say VmRSS")
	return 0
}

// populated makes a data directory with n functions, through release and the
// store: the documents and the artifact that creating them by API leaves.
func populated(b *testing.B, n int) (dir string) {
	b.Helper()
	dir = filepath.Join(b.TempDir(), "data")
	check(b, os.Mkdir(dir, 0o700))
	st, err := store.Open(b.Context(), store.Config{Dir: dir})
	check(b, err)
	defer func() { check(b, st.Close()) }()
	blobs, err := st.Blobs(b.Context(), "artifacts")
	check(b, err)
	d, _, err := blobs.Put(b.Context(), bytes.NewReader(bundle(b, "app.py", []byte("def handler(e, c): return e\n"))))
	check(b, err)
	adm, err := admit.New(artifacts{blobs}, countersign.Trust{}, nil, time.Now).Admit(b.Context(), admit.Request{Artifact: d})
	check(b, err)
	fs, err := release.Open(b.Context(), release.Config{Store: st, Now: time.Now, NewID: uuid.NewString})
	check(b, err)
	defer fs.Close()
	scope := release.Scope{Account: account, Region: region}
	name := func(i int) string { return fmt.Sprintf("function-%06d", i) }
	next := make(chan int)
	var workers sync.WaitGroup
	for range 64 {
		workers.Go(func() {
			for i := range next {
				_, err := fs.Create(b.Context(), release.NewFunction{Scope: scope, Name: name(i), Code: adm, Settings: release.Settings{
					Runtime: "python3.12", Role: role, Handler: "app.handler", Timeout: 3, Memory: 128, Ephemeral: 512,
					Environment: map[string]string{"STAGE": "prod", "TABLE": "orders"}, Architecture: "x86_64", Tracing: "PassThrough",
					LogGroup: "/aws/lambda/" + name(i), LogFormat: "Text",
				}})
				if err == nil {
					err = fs.Settled(b.Context(), scope, name(i))
				}
				if err != nil {
					b.Errorf("create %s: %v", name(i), err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
	return dir
}

// BenchmarkServerReady is a server from its start to the line that says it
// answers, and what it then holds in memory. Its peer is the same program
// started to print its version: what the system and the Go runtime take.
func BenchmarkServerReady(b *testing.B) {
	heavy(b)
	program := build(b, "countersign/cmd/countersign")
	b.Run("empty", func(b *testing.B) {
		base := b.TempDir()
		n := 0
		ready(b, program, func() string { n++; return filepath.Join(base, strconv.Itoa(n)) })
	})
	b.Run("functions", func(b *testing.B) {
		dir := populated(b, *functions)
		b.ReportMetric(float64(*functions), "functions")
		ready(b, program, func() string { return dir })
	})
}

func ready(b *testing.B, program string, dir func() string) {
	var took []time.Duration
	var resident float64
	t := turns(b, 7, func() {
		p := launch(b, program, dir())
		took = append(took, p.ready)
		resident = max(resident, p.residentMB(b))
		p.stop()
	}, func() {
		check(b, exec.Command(program, "version").Run())
	})
	slices.Sort(took)
	b.ReportMetric(millis(median(took)), "ready-ms")
	b.ReportMetric(resident, "MB-RSS")
	b.ReportMetric(ratio(took, t[1]), "x-version")
}

// BenchmarkList is one page of ten functions, asked of a server that has ten
// and of one that has many. The page starts in the middle.
func BenchmarkList(b *testing.B) {
	heavy(b)
	program := build(b, "countersign/cmd/countersign")
	ask := func(n, after int) func() {
		dir := populated(b, n)
		s := launch(b, program, dir).client(b, dir)
		url := s.url + "/2015-03-31/functions/?MaxItems=10"
		if after > 0 {
			url += fmt.Sprintf("&Marker=function-%06d", after-1)
		}
		r, err := http.NewRequest(http.MethodGet, url, nil)
		check(b, err)
		sum := sha256.Sum256(nil)
		check(b, v4.NewSigner().SignHTTP(b.Context(), s.creds, r, hex.EncodeToString(sum[:]), "lambda", region, time.Now()))
		return func() {
			_, page, err := send(b.Context(), s.http, http.MethodGet, url, r.Header, nil)
			check(b, err)
			if got := bytes.Count(page, []byte(`"FunctionName"`)); got != 10 {
				b.Fatalf("got %d functions, want 10: %s", got, page)
			}
		}
	}
	few, many := ask(10, 0), ask(*functions, *functions/2)
	for range 100 {
		few()
		many()
	}
	t := turns(b, 200, many, few)
	b.ReportMetric(float64(*functions), "functions")
	b.ReportMetric(micros(median(t[0])), "p50-µs")
	b.ReportMetric(micros(median(t[1])), "ten-p50-µs")
	b.ReportMetric(ratio(t[0], t[1]), "x-ten")
}
