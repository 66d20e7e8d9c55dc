package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"countersign/internal/store"
)

// resource is about the size of a function's document.
type resource struct {
	Name, ARN, Role, Handler, Runtime string
	Env                               map[string]string
	Layers                            []string
	Memory, Timeout                   int
	Text                              string
}

func someResource(i int) resource {
	return resource{
		Name: fmt.Sprintf("function-%06d", i), ARN: fmt.Sprintf("arn:aws:lambda:eu-west-1:000000000000:function:function-%06d", i),
		Role: "arn:aws:iam::000000000000:role/service-role/lambda", Handler: "app.handler", Runtime: "python3.13",
		Env:    map[string]string{"STAGE": "prod", "TABLE": "orders"},
		Memory: 256, Timeout: 30, Text: strings.Repeat("x", 300),
	}
}

func resourceKey(i int) string {
	return store.Key("000000000000", "eu-west-1", fmt.Sprintf("function-%06d", i))
}

func benchBucket(b *testing.B, dir string) (store.Store, store.Bucket) {
	s := open(b, dir)
	bk, err := s.Bucket(b.Context(), "functions")
	if err != nil {
		b.Fatal(err)
	}
	return s, bk
}

func openResources(b *testing.B, bk store.Bucket) *store.Docs[resource] {
	d, err := store.OpenDocs[resource](b.Context(), bk)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(d.Close)
	return d
}

// fill creates n documents, many at a time.
func fill(b *testing.B, bk store.Bucket, n int) {
	b.Helper()
	var wg sync.WaitGroup
	data := func(i int) []byte { return fmt.Appendf(nil, `{"Name":"function-%06d","Text":"%0500d"}`, i, i) }
	const workers = 16
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				if _, err := bk.Create(context.Background(), resourceKey(i), data(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkSync is the peer of every write below: a write of one KiB to a file
// and an fsync, which is what durable costs on this disk now.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	val := make([]byte, 1024)
	for b.Loop() {
		if _, err := f.Write(val); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSwap(b *testing.B) {
	_, bk := benchBucket(b, b.TempDir())
	rev, err := bk.Create(b.Context(), "k", nil)
	if err != nil {
		b.Fatal(err)
	}
	val := make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if rev, err = bk.Swap(b.Context(), "k", val, rev); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDocsUpdate(b *testing.B) {
	_, bk := benchBucket(b, b.TempDir())
	d := openResources(b, bk)
	if _, err := d.Create(b.Context(), "k", someResource(0)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Update(b.Context(), "k", func(r *resource) error { r.Timeout++; return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDocs reads one document and one page, of few and of many, and
// opens them anew.
func BenchmarkDocs(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			s, bk := benchBucket(b, dir)
			fill(b, bk, n)
			d := openResources(b, bk)
			b.Run("Get", func(b *testing.B) {
				key := resourceKey(n / 2)
				b.ReportAllocs()
				for b.Loop() {
					if _, _, ok := d.Get(key); !ok {
						b.Fatal("missing")
					}
				}
			})
			b.Run("Page", func(b *testing.B) {
				prefix := store.Key("000000000000", "eu-west-1") + "."
				after := resourceKey(n/2 - 5)
				b.ReportAllocs()
				for b.Loop() {
					if items, _ := d.Page(prefix, after, 4); len(items) != 4 {
						b.Fatalf("got %d items", len(items))
					}
				}
			})
			b.Run("Update", func(b *testing.B) {
				key := resourceKey(n / 2)
				for b.Loop() {
					if _, err := d.Update(b.Context(), key, func(r *resource) error { r.Timeout++; return nil }); err != nil {
						b.Fatal(err)
					}
				}
			})
			d.Close()
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			b.Run("Open", func(b *testing.B) {
				for b.Loop() {
					s, bk := benchBucket(b, dir)
					d := openResources(b, bk)
					if d.Len("") != n {
						b.Fatalf("got %d documents", d.Len(""))
					}
					b.StopTimer()
					d.Close()
					s.Close()
					b.StartTimer()
				}
			})
		})
	}
}

func BenchmarkOpenEmpty(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		b.StartTimer()
		s := open(b, dir)
		var wg sync.WaitGroup
		for _, name := range []string{"functions", "versions", "aliases", "profiles", "jobs"} {
			wg.Go(func() {
				if _, err := s.Bucket(b.Context(), name); err != nil {
					b.Error(err)
				}
			})
		}
		for _, name := range []string{"jobs", "events"} {
			wg.Go(func() {
				if _, err := s.Queue(b.Context(), name); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Go(func() {
			if _, err := s.Log(b.Context(), "logs"); err != nil {
				b.Error(err)
			}
		})
		wg.Wait()
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l, err := open(b, b.TempDir()).Log(b.Context(), "lines")
			if err != nil {
				b.Fatal(err)
			}
			batch := make([][]byte, n)
			for i := range batch {
				batch[i] = make([]byte, 120)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Append(b.Context(), "s", batch...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRead reads 20 records of one subject among a thousand others.
func BenchmarkRead(b *testing.B) {
	l, err := open(b, b.TempDir()).Log(b.Context(), "lines")
	if err != nil {
		b.Fatal(err)
	}
	for i := range 4000 {
		if _, err := l.Append(b.Context(), store.Key("s", fmt.Sprint(i%200)), make([]byte, 120)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range l.Read(b.Context(), "s.77", 0) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 20 {
			b.Fatalf("got %d records", n)
		}
	}
}

// BenchmarkQueue puts an item and has it done.
func BenchmarkQueue(b *testing.B) {
	q, err := open(b, b.TempDir()).Queue(b.Context(), "work")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done, ended := make(chan bool), make(chan bool)
	go func() {
		_ = q.Work(ctx, 4, func(context.Context, string, []byte) error { done <- true; return nil })
		close(ended)
	}()
	i := 0
	for b.Loop() {
		i++
		if err := q.Put(b.Context(), fmt.Sprint(i), nil); err != nil {
			b.Fatal(err)
		}
		<-done
	}
	cancel()
	<-ended
}

func BenchmarkBlob(b *testing.B) {
	bl, err := open(b, b.TempDir()).Blobs(b.Context(), "code")
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 50<<20)
	b.Run("Put50MB", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			data[0]++
			if _, _, err := bl.Put(b.Context(), bytes.NewReader(data)); err != nil {
				b.Fatal(err)
			}
		}
	})
	d, _, err := bl.Put(b.Context(), bytes.NewReader(data))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Read50MB", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			r, _, err := bl.Open(b.Context(), d)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				b.Fatal(err)
			}
			r.Close()
		}
	})
	b.Run("OpenFileAgain", func(b *testing.B) {
		for b.Loop() {
			f, err := bl.OpenFile(b.Context(), d)
			if err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
}

// BenchmarkIdle reports the memory of the process while a store is open with
// little in it. Run it alone: it counts what others left.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		s := open(b, b.TempDir())
		for i := range 10 {
			bk, err := s.Bucket(b.Context(), fmt.Sprint("bucket-", i))
			if err != nil {
				b.Fatal(err)
			}
			d := openResources(b, bk)
			if _, err := d.Create(b.Context(), "k", someResource(0)); err != nil {
				b.Fatal(err)
			}
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapInuse)/1e6, "MB-heap")
		b.ReportMetric(float64(m.Sys)/1e6, "MB-sys")
		s.Close()
	}
}
