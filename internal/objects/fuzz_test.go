package objects

import (
	"bufio"
	"context"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"countersign/internal/store/storetest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func bufioReader(s string) *bufio.Reader { return bufio.NewReader(strings.NewReader(s)) }

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// fuzzGateway opens a gateway that lives as long as the process: a fuzz worker
// runs its inputs in one.
func fuzzGateway(t *testing.T) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp("", "objects-fuzz-")
	if err != nil {
		t.Fatal(err)
	}
	g, err := Open(context.Background(), Config{Dir: dir, Store: storetest.Memory(), Keys: keyring{}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g)
	atEnd = append(atEnd, func() { srv.Close(); g.Close(); os.RemoveAll(dir) })
	f := &fixture{Gateway: g, t: t, dir: dir, url: srv.URL}
	f.bucket("open")
	f.put("open", "k", "v")
	if _, err := f.root().PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String("open"), Policy: aws.String(publicPolicy)}); err != nil {
		t.Fatal(err)
	}
	return f
}
