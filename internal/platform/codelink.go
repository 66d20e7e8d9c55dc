package platform

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"countersign"
	"countersign/internal/store"
	"countersign/internal/wire"
)

// codePath is where function code is downloaded from.
const codePath = "/_countersign/code/"

// linkLife is how long AWS's own links to function code last.
const linkLife = 10 * time.Minute

// codeLinks serves the address GetFunction gives for a function's code. The
// address is the permission: it names one artifact and a time, under a MAC
// whose key lives in this process only, so a restart ends every link.
type codeLinks struct {
	key       [32]byte
	artifacts store.Blobs
	now       func() time.Time
}

func newCodeLinks(artifacts store.Blobs) *codeLinks {
	l := &codeLinks{artifacts: artifacts, now: time.Now}
	rand.Read(l.key[:])
	return l
}

func (l *codeLinks) mac(digest string, expires int64) []byte {
	h := hmac.New(sha256.New, l.key[:])
	fmt.Fprintf(h, "%s\n%d", digest, expires)
	return h.Sum(nil)
}

// address makes a link for the host the caller used.
func (l *codeLinks) address(c *wire.Call, d countersign.Digest) string {
	expires := l.now().Add(linkLife).Unix()
	scheme := "http"
	if c.Request.TLS != nil {
		scheme = "https"
	}
	u := url.URL{Scheme: scheme, Host: c.Request.Host, Path: codePath + d.String(),
		RawQuery: url.Values{"expires": {strconv.FormatInt(expires, 10)}, "signature": {hex.EncodeToString(l.mac(d.String(), expires))}}.Encode()}
	return u.String()
}

// ServeHTTP answers GET codePath and a digest.
func (l *codeLinks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this link is for downloading", http.StatusMethodNotAllowed)
		return
	}
	name, q := strings.TrimPrefix(r.URL.Path, codePath), r.URL.Query()
	expires, err := strconv.ParseInt(q.Get("expires"), 10, 64)
	given, err2 := hex.DecodeString(q.Get("signature"))
	if err != nil || err2 != nil || !hmac.Equal(given, l.mac(name, expires)) {
		http.Error(w, "this link was not made here, or by an earlier start of this server", http.StatusForbidden)
		return
	}
	if l.now().Unix() > expires {
		http.Error(w, "this link has expired; GetFunction gives a new one", http.StatusForbidden)
		return
	}
	d, err := countersign.ParseDigest(name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, size, err := l.artifacts.Open(r.Context(), d)
	if errors.Is(err, store.ErrNotFound) {
		http.Error(w, "this code is no longer kept", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, "the code could not be read", http.StatusInternalServerError)
		return
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	io.Copy(w, body) // a client that went away is nobody to tell
}
