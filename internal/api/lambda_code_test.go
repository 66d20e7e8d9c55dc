package api_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Code comes from a bucket: the version asked for, of a bucket that is here.
func TestCodeFromS3(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bucket := w.bucket("code")
	there := inRegion(t, "us-west-2")
	far := there.bucket(w.region)
	there.put(far, "app.zip", helloZip(t))
	one, two := zipOf(t, "app.py", hello+"# 1"), zipOf(t, "app.py", hello+"# 2")
	v1 := w.put(bucket, "dir/app é.zip", one)
	w.put(bucket, "dir/app é.zip", two)
	w.put(bucket, "text", []byte("not a zip"))
	w.put(bucket, "gone.zip", one)
	if _, err := w.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: new("gone.zip")}); err != nil {
		t.Fatal(err)
	}

	made := w.do("POST", functions, newFunction("fn", nil, object{"Code": object{"S3Bucket": bucket, "S3Key": "dir/app é.zip"}})).accepted(t, "latest", 201)
	checkValues(t, "latest", made, object{"CodeSha256": base64Sum(two), "CodeSize": len(two)})
	w.settled("fn")
	updated := w.do("PUT", functions+"/fn/code", object{"S3Bucket": bucket, "S3Key": "dir/app é.zip", "S3ObjectVersion": v1}).accepted(t, "version", 200)
	checkValues(t, "version", updated, object{"CodeSha256": base64Sum(one)})
	w.settled("fn")

	source := func(code, message string) fault {
		return invalidParameter("Error occurred while GetObject. S3 Error Code: " + code + ". S3 Error Message: " + message)
	}
	for what, c := range map[string]struct {
		code object
		want fault
	}{
		"no bucket":      {object{"S3Bucket": w.region + "-nowhere", "S3Key": "k"}, source("NoSuchBucket", "The specified bucket does not exist")},
		"no key":         {object{"S3Bucket": bucket, "S3Key": "k"}, source("NoSuchKey", "The specified key does not exist.")},
		"deleted":        {object{"S3Bucket": bucket, "S3Key": "gone.zip"}, source("NoSuchKey", "The specified key does not exist.")},
		"no version":     {object{"S3Bucket": bucket, "S3Key": "text", "S3ObjectVersion": v1}, source("NoSuchVersion", "The specified version does not exist.")},
		"another region": {object{"S3Bucket": far, "S3Key": "app.zip"}, source("PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.")},
		"no zip":         {object{"S3Bucket": bucket, "S3Key": "text"}, invalidParameter("Could not unzip uploaded file. Please check your file, then try to upload again.")},
		"bucket alone":   {object{"S3Bucket": bucket}, invalidParameter("Please provide a source for function code.")},
	} {
		w.do("POST", functions, newFunction("new", nil, object{"Code": c.code})).refused(t, "create: "+what, c.want)
		w.do("PUT", functions+"/fn/code", c.code).refused(t, "update: "+what, c.want)
	}
	checkValues(t, "after refusals", w.settled("fn"), object{"CodeSha256": base64Sum(one)})
}

// Sizes are what they are at AWS, to the byte.
func TestCodeSizes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bucket := w.bucket("code")
	const zipped, unzipped = 52428800, 262144000
	zeros := make([]byte, zipped+1)
	body := func(n int) []byte {
		b := append([]byte(`{"FunctionName":"new","Runtime":"python3.11","Role":"`+testRole+`","Handler":"app.handler","Code":{"ZipFile":"`), make([]byte, base64.StdEncoding.EncodedLen(n))...)
		base64.StdEncoding.Encode(b[len(b)-base64.StdEncoding.EncodedLen(n):], zeros[:n])
		return append(b, `"}}`...)
	}
	w.do("POST", functions, body(zipped+1)).refused(t, "a byte over 50 MB", untyped(413, "RequestEntityTooLargeException", "Zipped size must be smaller than 52428800 bytes"))
	w.do("POST", functions, append(body(1), bytes.Repeat([]byte{' '}, 70167211)...)).refused(t, "a body over the limit",
		untyped(413, "RequestEntityTooLargeException", "Request must be smaller than 70167211 bytes for the CreateFunction operation"))

	// The archive is small; what it holds is not.
	bomb := func(size int) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		f, err := z.Create("app.py")
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < size; n += len(zeros) {
			if _, err := f.Write(zeros[:min(len(zeros), size-n)]); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	w.put(bucket, "bomb.zip", bomb(unzipped))
	for what, code := range map[string]object{"from S3": {"S3Bucket": bucket, "S3Key": "bomb.zip"}, "sent": {"ZipFile": bomb(unzipped)}} {
		w.do("POST", functions, newFunction("new", nil, object{"Code": code})).refused(t, what, invalidParameter("Unzipped size must be smaller than 262144000 bytes"))
	}
	w.do("GET", functions+"/new", nil).refused(t, "what was refused", notFound("Function not found: "+w.fn("new")))
}

// GetFunction's link gives the bytes that were sent to whoever has it, for as
// long as it says, and nothing else.
func TestCodeLocation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bucket := w.bucket("code")
	w.profile("prod")
	code, _, _ := w.signed(bucket, "prod", helloZip(t))
	w.do("POST", functions, newFunction("fn", code, object{"Publish": true})).accepted(t, "create", 201)
	w.settled("fn")
	w.create("other", nil)
	location := func(name string) *url.URL {
		t.Helper()
		s := w.do("GET", functions+"/"+name, nil).accepted(t, "get", 200)["Code"].(map[string]any)["Location"].(string)
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	fetch := func(method string, u *url.URL) (int, []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, u.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := shared.srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, b
	}
	for _, name := range []string{"fn", "fn:1"} {
		if status, b := fetch("GET", location(name)); status != 200 || !bytes.Equal(b, code) {
			t.Errorf("%s: got %d and %d bytes, want the %d that were sent", name, status, len(b), len(code))
		}
	}
	w.do("DELETE", functions+"/other", nil).accepted(t, "delete", 204)
	link := location("fn")
	forge := func(change func(u *url.URL, q url.Values)) *url.URL {
		u := *link
		q := u.Query()
		change(&u, q)
		u.RawQuery = q.Encode()
		return &u
	}
	digest := link.Path[strings.LastIndexByte(link.Path, '/')+1:]
	for what, u := range map[string]*url.URL{
		"no signature":      forge(func(_ *url.URL, q url.Values) { q.Del("signature") }),
		"no time":           forge(func(_ *url.URL, q url.Values) { q.Del("expires") }),
		"a later time":      forge(func(_ *url.URL, q url.Values) { q.Set("expires", "9999999999") }),
		"a time gone by":    forge(func(_ *url.URL, q url.Values) { q.Set("expires", "1") }),
		"another signature": forge(func(_ *url.URL, q url.Values) { q.Set("signature", strings.Repeat("0", 64)) }),
		"another digest": forge(func(u *url.URL, _ url.Values) {
			u.Path = strings.Replace(u.Path, digest, strings.Repeat("0", len(digest)), 1)
		}),
		"out of the folder": forge(func(u *url.URL, _ url.Values) { u.Path = strings.Replace(u.Path, digest, "../"+digest, 1) }),
	} {
		if status, b := fetch("GET", u); status != 403 || bytes.Contains(b, []byte("PK")) {
			t.Errorf("%s: got %d %q, want 403", what, status, cut(b))
		}
	}
	if status, _ := fetch("POST", link); status != 405 {
		t.Errorf("POST: got %d, want 405", status)
	}
}
