package sigv4

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A pair is one parameter of a query string, decoded.
type pair struct{ name, value string }

// target splits a request's target as it came over the wire into path and
// query. net/http's parsed URL will not do: it has forgotten which bytes of
// the path were escaped.
func target(r *http.Request) (path, query string) {
	t := r.RequestURI
	if t == "" { // a request that was never on a wire
		return r.URL.EscapedPath(), r.URL.RawQuery
	}
	path, query, _ = strings.Cut(t, "?")
	if !strings.HasPrefix(path, "/") { // absolute form, RFC 9112 §3.2.2
		if _, rest, ok := strings.Cut(path, "://"); ok {
			_, p, _ := strings.Cut(rest, "/")
			path = "/" + p
		}
	}
	return path, query
}

// parseQuery takes a raw query apart as AWS does, which is not as net/url
// does: ";" is data, "+" is a plus, a key without "=" has an empty value, and
// duplicates and their order are kept. It reports false where a percent sign
// does not begin an escape.
func parseQuery(raw string) ([]pair, bool) {
	if raw == "" {
		return nil, true
	}
	pairs := make([]pair, 0, strings.Count(raw, "&")+1)
	for raw != "" {
		var field string
		field, raw, _ = strings.Cut(raw, "&")
		if field == "" {
			continue
		}
		name, value, _ := strings.Cut(field, "=")
		n, ok1 := unescape(name)
		v, ok2 := unescape(value)
		if !ok1 || !ok2 {
			return nil, false
		}
		pairs = append(pairs, pair{n, v})
	}
	return pairs, true
}

// canonicalQuery writes pairs in the order of their encoded names, then of
// their encoded values, leaving out every parameter named skip.
func canonicalQuery(pairs []pair, skip string) string {
	if len(pairs) == 0 {
		return ""
	}
	enc := make([]pair, 0, len(pairs))
	size := 0
	for _, p := range pairs {
		if skip != "" && p.name == skip {
			continue
		}
		e := pair{escape(p.name, false), escape(p.value, false)}
		size += len(e.name) + len(e.value) + 2
		enc = append(enc, e)
	}
	slices.SortStableFunc(enc, func(a, b pair) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.value, b.value))
	})
	var b strings.Builder
	b.Grow(size)
	for i, p := range enc {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name)
		b.WriteByte('=')
		b.WriteString(p.value)
	}
	return b.String()
}

// canonicalPath writes the path as it enters a canonical request. S3 takes the
// path as it is and encodes it once. Every other service first normalises it
// and then encodes the path as sent, escapes and all, so that a "%20" on the
// wire is "%2520" here.
func canonicalPath(path string, s3 bool) string {
	if path == "" {
		return "/"
	}
	if !s3 {
		return escape(normalise(path), true)
	}
	raw, ok := unescape(path)
	if !ok {
		raw = path
	}
	return escape(raw, true)
}

// normalise removes empty, "." and ".." segments.
func normalise(path string) string {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path // the usual case costs nothing
	}
	var out []string
	for s := range strings.SplitSeq(path, "/") {
		switch s {
		case "", ".":
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, s)
		}
	}
	p := "/" + strings.Join(out, "/")
	if strings.HasSuffix(path, "/") && len(out) > 0 {
		p += "/"
	}
	return p
}

// headerValue is the value of a signed header as it enters a canonical
// request: the values joined with "," in the order they came, each trimmed and
// with runs of spaces made one. A header that is absent is empty.
//
// net/http takes three headers out of the map; they are put together again
// from where it keeps them.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host", ":authority":
		return squeeze(r.Host) // byte for byte, port included
	case "transfer-encoding":
		return strings.Join(r.TransferEncoding, ",")
	}
	values := r.Header[http.CanonicalHeaderKey(name)]
	switch len(values) {
	case 0:
		if name == "content-length" && r.ContentLength > 0 {
			return strconv.FormatInt(r.ContentLength, 10)
		}
		return ""
	case 1:
		return squeeze(values[0])
	}
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(squeeze(v))
	}
	return b.String()
}

// squeeze trims s and makes each inner run of spaces one space.
func squeeze(s string) string {
	s = strings.Trim(s, " \t")
	if !strings.Contains(s, "  ") {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := range len(s) {
		if s[i] != ' ' || s[i-1] != ' ' { // s[0] is no space: s is trimmed
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// canonicalRequest joins the six parts. signed is the SignedHeaders list as
// sent, which [Claim] has made sure is in canonical form.
func canonicalRequest(method, path, query string, r *http.Request, signed string, payload string) string {
	var b strings.Builder
	b.Grow(len(method) + len(path) + len(query) + 2*len(signed) + len(payload) + 512)
	b.WriteString(method)
	b.WriteByte('\n')
	b.WriteString(path)
	b.WriteByte('\n')
	b.WriteString(query)
	b.WriteByte('\n')
	for name := range strings.SplitSeq(signed, ";") {
		b.WriteString(name)
		b.WriteByte(':')
		b.WriteString(headerValue(r, name))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.WriteString(signed)
	b.WriteByte('\n')
	b.WriteString(payload)
	return b.String()
}

const upperhex = "0123456789ABCDEF"

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '_' || c == '.' || c == '~'
}

// escape percent-encodes every byte outside the unreserved set, and "/" too
// unless slash is set.
func escape(s string, slash bool) string {
	n := 0
	for i := range len(s) {
		if c := s[i]; !unreserved(c) && (!slash || c != '/') {
			n++
		}
	}
	if n == 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 2*n)
	for i := range len(s) {
		c := s[i]
		if unreserved(c) || slash && c == '/' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperhex[c>>4])
		b.WriteByte(upperhex[c&15])
	}
	return b.String()
}

// unescape undoes percent-encoding and nothing else: "+" stays a plus. It
// reports false at a percent sign without two hex digits after it.
func unescape(s string) (string, bool) {
	if !strings.Contains(s, "%") {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	return string(b), true
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
