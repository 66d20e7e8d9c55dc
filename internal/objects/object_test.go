package objects

import (
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"countersign"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func TestPlatformReadsAndWrites(t *testing.T) {
	var mu sync.Mutex
	var events []Event
	f := testGateway(t, func(c *Config) {
		c.Events = func(e Event) { mu.Lock(); events = append(events, e); mu.Unlock() }
	})
	f.versioned("work")
	f.bucket("plain")
	ctx := t.Context()
	v1 := f.put("work", "in.zip", "source one")
	f.put("work", "in.zip", "source two")
	body, info, err := f.GetObject(ctx, "us-east-1", "work", "in.zip", v1)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(body)
	body.Close()
	if string(b) != "source one" || info.Size != 10 || info.VersionID != v1 || info.ETag == "" || info.Modified.IsZero() {
		t.Errorf("got %q %+v", b, info)
	}
	for _, c := range []struct {
		region, bucket, key, version string
		code                         Code
		kind                         countersign.Kind
		message                      string
	}{
		{"", "nobucket", "k", "", NoSuchBucket, countersign.NotFound, "The specified bucket does not exist"},
		{"", "work", "nokey", "", NoSuchKey, countersign.NotFound, "The specified key does not exist."},
		{"", "work", "in.zip", "01ARZ3NDEKTSV4RRFFQ69G5FAV", NoSuchVersion, countersign.NotFound, "The specified version does not exist."},
		{"eu-west-1", "work", "in.zip", "", PermanentRedirect, countersign.NotAllowed, ""},
		{"", "work", "in.zip", "no-version", "InvalidArgument", countersign.Invalid, ""},
	} {
		_, _, err := f.GetObject(ctx, c.region, c.bucket, c.key, c.version)
		code, message := CodeOf(err)
		if !errors.Is(err, c.code) || code != c.code || countersign.KindOf(err) != c.kind || !strings.HasPrefix(message, c.message) {
			t.Errorf("get %+v: got %v (%s %v %q)", c, err, code, countersign.KindOf(err), message)
		}
	}
	for _, bucket := range []string{"work", "plain"} {
		out, created, err := f.PutIfAbsent(ctx, bucket, "signed/job", strings.NewReader("signed"), 6, map[string]string{"job": "1"})
		if err != nil || !created {
			t.Fatalf("first PutIfAbsent in %s: %v %v", bucket, created, err)
		}
		again, created, err := f.PutIfAbsent(ctx, bucket, "signed/job", strings.NewReader("other!"), 6, map[string]string{"job": "2"})
		if err != nil || created {
			t.Fatalf("second PutIfAbsent in %s: %v %v", bucket, created, err)
		}
		if again.VersionID != out.VersionID || again.Metadata["job"] != "1" || again.ETag != out.ETag {
			t.Errorf("second PutIfAbsent in %s: got %+v, want %+v", bucket, again, out)
		}
		f.want(bucket, "signed/job", "", "signed")
	}
	list, err := f.root().ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: aws.String("work"), Prefix: aws.String("signed/")})
	if err != nil || len(list.Versions) != 1 {
		t.Errorf("versions of a job done twice: got %d, %v", len(list.Versions), err)
	}
	for bucket, want := range map[string]bool{"work": true, "plain": false} {
		if on, _, err := f.Versioning(ctx, bucket); on != want || err != nil {
			t.Errorf("Versioning(%s): got %v, %v", bucket, on, err)
		}
	}
	for _, n := range []int64{5, 7} {
		if _, err := f.PutObject(ctx, "plain", "length", strings.NewReader("sixsix"), n, nil); err == nil {
			t.Errorf("put of 6 bytes as %d: got no error", n)
		}
	}
	if _, err := f.get("plain", "length", ""); err == nil {
		t.Error("an object of the wrong length was stored")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(events) != 4 {
		t.Fatalf("got %d events, want 4: %+v", len(events), events)
	}
	e := events[0]
	if e.Name != "ObjectCreated:Put" || e.Bucket != "work" || e.Key != "in.zip" || e.Size != 10 || e.VersionID != v1 || e.Owner != testAccount || e.ETag != info.ETag || e.RequestID == "" || e.Principal == "" || e.Region != "us-east-1" {
		t.Errorf("event: %+v", e)
	}
}

// Many at once make one object, and all but one are told that it is there.
func TestPutIfAbsentHasOneWinner(t *testing.T) {
	f := testGateway(t)
	f.versioned("once")
	var wg sync.WaitGroup
	won := make(chan string, 16)
	for i := range 16 {
		wg.Go(func() {
			body := string(rune('a' + i))
			_, created, err := f.PutIfAbsent(t.Context(), "once", "k", strings.NewReader(body), 1, nil)
			if err != nil {
				t.Error(err)
			}
			if created {
				won <- body
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("got %d winners", len(won))
	}
	f.want("once", "k", "", <-won)
}

// Half an upload is no upload, whatever says so: the object that was there stays.
func TestBrokenUploadChangesNothing(t *testing.T) {
	f := testGateway(t)
	f.bucket("half")
	f.put("half", "k", "whole")
	link, err := s3.NewPresignClient(f.root()).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("half"), Key: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(link.URL)
	for _, head := range []string{
		"PUT " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 500_000),
		"PUT " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nContent-Length: 10\r\n\r\nxxxxx",
	} {
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, head); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c) // until the server is done with it
		c.Close()
	}
	f.want("half", "k", "", "whole")
	if _, err := f.PutObject(t.Context(), "half", "k", strings.NewReader("short"), 9, nil); err == nil {
		t.Error("short put: got no error")
	}
	f.want("half", "k", "", "whole")
}
