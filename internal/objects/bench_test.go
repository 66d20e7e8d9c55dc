package objects

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"countersign/internal/store/storetest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"net/http/httptest"
)

func benchGateway(b *testing.B) (*Gateway, *s3.Client) {
	b.Helper()
	g, err := Open(b.Context(), Config{Dir: b.TempDir(), Store: storetest.Memory(), Keys: keyring{}})
	if err != nil {
		b.Fatal(err)
	}
	srv := httptest.NewServer(g)
	b.Cleanup(func() { srv.Close(); g.Close() })
	c := s3.New(s3.Options{BaseEndpoint: aws.String(srv.URL), UsePathStyle: true, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, "")})
	if _, err := c.CreateBucket(b.Context(), &s3.CreateBucketInput{Bucket: aws.String("bench")}); err != nil {
		b.Fatal(err)
	}
	return g, c
}

// What one durable object costs, without and with HTTP and its signature.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		body := bytes.Repeat([]byte("x"), size)
		b.Run("platform/"+strconv.Itoa(size), func(b *testing.B) {
			g, _ := benchGateway(b)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				if _, err := g.PutObject(b.Context(), "bench", "d/"+strconv.Itoa(i), bytes.NewReader(body), int64(size), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("http/"+strconv.Itoa(size), func(b *testing.B) {
			_, c := benchGateway(b)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				if _, err := c.PutObject(b.Context(), &s3.PutObjectInput{Bucket: aws.String("bench"), Key: aws.String("d/" + strconv.Itoa(i)), Body: bytes.NewReader(body)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, size := range []int{4 << 10, 16 << 20} {
		b.Run("http/"+strconv.Itoa(size), func(b *testing.B) {
			g, c := benchGateway(b)
			if _, err := g.PutObject(b.Context(), "bench", "k", bytes.NewReader(make([]byte, size)), int64(size), nil); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			for b.Loop() {
				out, err := c.GetObject(b.Context(), &s3.GetObjectInput{Bucket: aws.String("bench"), Key: aws.String("k")})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, out.Body); err != nil {
					b.Fatal(err)
				}
				out.Body.Close()
			}
		})
	}
}

// What an open gateway keeps in memory while nobody asks anything.
func BenchmarkIdle(b *testing.B) {
	heap := func() float64 {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / 1e6
	}
	heap0, rss0 := heap(), resident(b)
	g, _ := benchGateway(b)
	heap1, rss1 := heap(), resident(b)
	if _, err := g.regions.get(g, "eu-west-1"); err != nil {
		b.Fatal(err)
	}
	heap2 := heap()
	for b.Loop() {
	}
	b.ReportMetric(heap1-heap0, "heap-MB")
	b.ReportMetric(rss1-rss0, "rss-MB")
	b.ReportMetric(heap2-heap1, "heap-MB/region")
}

func resident(b *testing.B) float64 {
	b.Helper()
	f, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("needs /proc")
	}
	n, _ := strconv.Atoi(strings.Fields(string(f))[1])
	return float64(n*os.Getpagesize()) / 1e6
}
