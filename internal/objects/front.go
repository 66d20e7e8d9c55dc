package objects

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	"countersign/internal/store"

	"github.com/google/uuid"
	"github.com/versity/versitygw/s3err"
)

// serve decides which region's server a request belongs to and passes it on. An
// error has not been answered yet.
//
// What is decided here is only what must not reach versitygw, or cannot: the
// signature is always verified there.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) error {
	if !g.atHome() {
		g.cfg.Log.Error("the working directory of the process was changed: object requests are refused until it is back")
		return s3err.GetAPIError(s3err.ErrInternalError)
	}
	target, query, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(target, "/") { // absolute form, as sent to a proxy
		target = r.URL.EscapedPath()
	}
	// A path that starts with two slashes names no bucket.
	if target == "" || strings.HasPrefix(target, "//") {
		return fault(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
	}
	if host := virtualBucket(r.Host); host != "" {
		return fault(http.StatusBadRequest, "InvalidRequest", "Virtual-hosted-style requests are not supported here. Use path-style addressing.")
	}
	args, err := url.ParseQuery(strings.ReplaceAll(query, ";", "%3B"))
	if err != nil {
		return fault(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
	}
	name, key := splitPath(target)
	if !signed(r, args, key) {
		return s3err.GetAPIError(s3err.ErrAccessDenied)
	}
	if !isPlain(key) {
		return errKey
	}
	if err := aclHeaders(r); err != nil {
		return err
	}
	region, err := g.region(r, args, name)
	if err != nil {
		return err
	}
	if !carriesObject(r, args, key) {
		r.Body = http.MaxBytesReader(w, r.Body, maxDocument)
	}
	return g.forward(w, r, region, target, query)
}

// maxDocument bounds a body that is not an object's: versitygw reads those
// into memory. The largest S3 has is the list of ten thousand parts.
const maxDocument = 8 << 20

// carriesObject reports whether a body is streamed to a file.
func carriesObject(r *http.Request, args url.Values, key string) bool {
	switch {
	case r.Method == http.MethodPost && key == "":
		return strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data")
	case r.Method != http.MethodPut || key == "":
		return false
	}
	for _, sub := range []string{"acl", "tagging", "legal-hold", "retention"} {
		if args.Has(sub) {
			return false
		}
	}
	return true
}

// signed reports whether a request claims to be signed. versitygw verifies the
// claim; a request without one it might take for a visitor of a public bucket.
func signed(r *http.Request, args url.Values, key string) bool {
	if r.Header.Get("Authorization") != "" {
		return true
	}
	for _, k := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Expires", "AWSAccessKeyId"} {
		if args.Has(k) {
			return true
		}
	}
	// A browser's form carries its signature in the body.
	return r.Method == http.MethodPost && key == "" && strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data")
}

// aclHeaders refuses a grant: ACLs are off, and versitygw would drop it
// silently. What says the same as no ACL passes.
func aclHeaders(r *http.Request) error {
	if r.Method != http.MethodPut && r.Method != http.MethodPost {
		return nil
	}
	grants := false
	for h := range r.Header {
		grants = grants || strings.HasPrefix(h, "X-Amz-Grant-")
	}
	switch r.Header.Get("X-Amz-Acl") {
	case "", "private", "bucket-owner-full-control":
	default:
		grants = true
	}
	switch r.Header.Get("X-Amz-Object-Ownership") {
	case "", "BucketOwnerEnforced":
	default:
		grants = true
	}
	if grants {
		return fault(http.StatusBadRequest, "AccessControlListNotSupported", "The bucket does not allow ACLs")
	}
	return nil
}

// region returns the server that answers a request: that of the bucket's
// region where there is a bucket, else that of the region the request is
// signed for. So a wrong scope meets the server that expects another.
func (g *Gateway) region(r *http.Request, args url.Values, name string) (*regional, error) {
	access, scope := credential(r, args)
	if b, _, ok := g.buckets.Get(store.Key(name)); ok && name != "" {
		if regionName.MatchString(scope) && scope != b.Region {
			return nil, wrongRegion(r, scope, b.Region)
		}
		return g.regions.get(g, b.Region)
	}
	if !regionName.MatchString(scope) {
		return g.regions.get(g, g.cfg.Region) // says what is wrong with the scope
	}
	if reg := g.regions.find(scope); reg != nil {
		return reg, nil
	}
	// Only a key's holder makes us start another server.
	if _, _, ok := g.cfg.Keys.Lookup(r.Context(), access); !ok {
		return nil, s3err.GetInvalidAccessKeyIdErr(access)
	}
	reg, err := g.regions.get(g, scope)
	if errors.Is(err, errTooManyRegions) {
		return nil, s3err.GetAPIError(s3err.ErrSlowDown)
	}
	return reg, err
}

// credential takes the access key and the region out of a request's scope,
// without judging either.
func credential(r *http.Request, args url.Values) (access, region string) {
	cred := args.Get("X-Amz-Credential")
	if h := r.Header.Get("Authorization"); h != "" {
		_, cred, _ = strings.Cut(h, "Credential=")
		cred, _, _ = strings.Cut(cred, ",")
	}
	parts := strings.Split(strings.TrimSpace(cred), "/")
	if len(parts) != 5 {
		return "", ""
	}
	return parts[0], parts[2]
}

// splitPath takes the bucket and the key out of an escaped path.
func splitPath(path string) (bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return unescaped(bucket), unescaped(key)
}

func unescaped(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}

// isPlain reports whether a key is also the path it is stored under. Of two
// keys with one path, a put to either would overwrite the other.
func isPlain(key string) bool {
	return key == "" || path.Clean("/"+key) == "/"+strings.TrimSuffix(key, "/") && !strings.HasSuffix(key, "//")
}

var errKey = fault(http.StatusBadRequest, "InvalidArgument", "Object keys with empty, '.' or '..' path segments are not supported here.")

// wrongRegion is AWS's answer to a scope with another region than the
// bucket's. It comes before the key and the signature are looked at.
func wrongRegion(r *http.Request, got, want string) error {
	code, prefix := "AuthorizationHeaderMalformed", "The authorization header is malformed"
	if r.Header.Get("Authorization") == "" {
		code, prefix = "AuthorizationQueryParametersError", "Error parsing the X-Amz-Credential parameter"
	}
	e := fault(http.StatusBadRequest, code, fmt.Sprintf("%s; the region '%s' is wrong; expecting '%s'", prefix, got, want))
	return regionFault{e, want}
}

// A regionFault is an error with the Region element.
type regionFault struct {
	s3err.APIError
	region string
}

func (e regionFault) XMLBody(request, host string) []byte {
	b, err := xml.Marshal(struct {
		XMLName                                  xml.Name `xml:"Error"`
		Code, Message, Region, RequestId, HostId string
	}{Code: e.Code, Message: e.Description, Region: e.region, RequestId: request, HostId: host})
	if err != nil {
		return nil // strings always marshal
	}
	return append([]byte(xml.Header), b...)
}

// virtualBucket returns the bucket of a virtual-hosted-style host name on the
// local machine. versitygw would read the key as a bucket.
func virtualBucket(host string) string {
	host, _, _ = strings.Cut(host, ":")
	b, ok := strings.CutSuffix(host, ".localhost")
	if !ok || b == "s3" || strings.HasPrefix(b, "s3.") && !strings.Contains(b[3:], ".") {
		return ""
	}
	return b
}

// forward passes a request to a region's server and its answer back, both as
// they are: what a client may have signed is the method, the request target as
// sent, the host, any header and the body, and none of them is touched. The
// body is streamed.
func (g *Gateway) forward(w http.ResponseWriter, r *http.Request, to *regional, target, query string) error {
	out := r.WithContext(r.Context())
	out.URL = &url.URL{Scheme: "http", Host: "s3", Opaque: target, RawQuery: query, ForceQuery: strings.HasSuffix(r.RequestURI, "?")}
	out.RequestURI = ""
	out.Close = false
	if out.ContentLength == 0 {
		out.Body = http.NoBody
	}
	out.Header = r.Header.Clone()
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // or net/http sends its own
	}
	out.Header.Del("Connection")
	res, err := to.conns.RoundTrip(out)
	if err != nil {
		var big *http.MaxBytesError
		switch {
		case errors.As(err, &big):
			return fault(http.StatusBadRequest, "MaxMessageLengthExceeded", "Your request was too big.")
		case errors.Is(r.Context().Err(), context.Canceled):
			panic(http.ErrAbortHandler) // nobody is listening
		}
		g.cfg.Log.Warn("object request was not answered", "region", to.name, "err", err)
		return s3err.GetAPIError(s3err.ErrInternalError)
	}
	defer res.Body.Close()
	h := w.Header()
	for k, v := range res.Header {
		if strings.HasPrefix(k, "X-Amz-Meta-") {
			k = strings.ToLower(k) // names of metadata are, and clients show them as they come
		}
		h[k] = v
	}
	h.Del("Connection")
	h.Set("Server", "AmazonS3")
	if name, _ := splitPath(target); name != "" && h.Get("X-Amz-Bucket-Region") == "" {
		if b, _, ok := g.buckets.Get(store.Key(name)); ok {
			h.Set("X-Amz-Bucket-Region", b.Region)
		}
	}
	w.WriteHeader(res.StatusCode)
	if _, err := io.Copy(w, res.Body); err != nil {
		panic(http.ErrAbortHandler) // the client must not take a part for the whole
	}
	return nil
}

// fault makes an S3 error.
func fault(status int, code, message string) s3err.APIError {
	return s3err.APIError{Code: code, Description: message, HTTPStatusCode: status}
}

// refuse answers with an error that did not come from versitygw.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e s3err.S3Error
	if !errors.As(err, &e) {
		g.cfg.Log.Error("object request failed", "err", err)
		e = s3err.GetAPIError(s3err.ErrInternalError)
	}
	id, host := strings.ToUpper(strings.ReplaceAll(uuid.NewString(), "-", ""))[:16], uuid.NewString()
	h := w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("Server", "AmazonS3")
	h.Set("X-Amz-Request-Id", id)
	h.Set("X-Amz-Id-2", host)
	var reg regionFault
	if errors.As(err, &reg) {
		h.Set("X-Amz-Bucket-Region", reg.region)
	}
	w.WriteHeader(e.StatusCode())
	if r.Method != http.MethodHead {
		_, _ = w.Write(e.XMLBody(id, host))
	}
}
