package wire

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
)

// Which service a request is for. The answer decides who refuses it, never
// whether it is refused: authentication comes after.

const s3 = "s3"

// scopeService returns the service in the credential scope of r, "" when r
// has no readable scope: AKID/date/region/service/aws4_request.
func scopeService(r *http.Request) string {
	cred := ""
	if auth := r.Header.Get("Authorization"); auth != "" {
		_, after, ok := strings.Cut(auth, "Credential=")
		if !ok {
			return ""
		}
		if i := strings.IndexAny(after, ", "); i >= 0 {
			after = after[:i]
		}
		cred = after
	} else {
		for k, v := range queryPairs(r.URL.RawQuery) {
			if k == "X-Amz-Credential" {
				cred = strings.NewReplacer("%2F", "/", "%2f", "/").Replace(v)
				break
			}
		}
	}
	// From the right: an access key may hold anything.
	cred, _, ok := cutLast(cred)
	if !ok {
		return ""
	}
	_, service, ok := cutLast(cred)
	if !ok {
		return ""
	}
	return service
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// signed reports whether r carries credentials of any sort.
func signed(r *http.Request) bool {
	if r.Header.Get("Authorization") != "" {
		return true
	}
	for k := range queryPairs(r.URL.RawQuery) {
		switch k {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "AWSAccessKeyId", "Signature":
			return true
		}
	}
	return false
}

// A target is where a request goes: exactly one of the fields is set, or none
// when r says nothing about its service.
type target struct {
	sv      *served
	foreign string // a service of AWS's that is not served here
	s3      bool
}

// pick reads what a request says about its service, credentials first.
func (s *Server) pick(r *http.Request) target {
	if scope := scopeService(r); scope != "" {
		for _, sv := range s.services {
			if sv.svc.SigningName == scope {
				return target{sv: sv}
			}
		}
		if strings.HasPrefix(scope, s3) { // s3-object-lambda and its like are S3's to refuse
			return target{s3: true}
		}
		return target{foreign: scope}
	}
	if prefix, _, ok := strings.Cut(r.Header.Get("X-Amz-Target"), "."); ok {
		for _, sv := range s.services {
			if sv.svc.TargetPrefix != "" && sv.svc.TargetPrefix == prefix {
				return target{sv: sv}
			}
		}
		return target{foreign: prefix}
	}
	if t := s.byHost(r.Host); t != (target{}) {
		return t
	}
	for _, sv := range s.services {
		if sv.router == nil {
			continue
		}
		if op, _ := sv.router.find(r.Method, rawPath(r), r.URL.RawQuery); op != nil {
			return target{sv: sv}
		}
	}
	return target{}
}

// rawPath is r's path as it was sent.
func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if path == "" || path[0] != '/' { // absolute form, as to a proxy
		return r.URL.EscapedPath()
	}
	return path
}

// byHost reads names such as lambda.us-east-1.amazonaws.com, with what a
// client puts before it for some operations (data-signer...).
func (s *Server) byHost(host string) target {
	name, rest, ok := strings.Cut(host, ".")
	if !ok {
		return target{}
	}
	if name == s3 || strings.HasPrefix(rest, s3+".") {
		return target{s3: true}
	}
	for _, sv := range s.services {
		p := sv.svc.EndpointPrefix
		if name == p || strings.HasSuffix(name, "-"+p) || strings.HasPrefix(rest, p+".") {
			return target{sv: sv}
		}
	}
	return target{}
}

// isForm reports whether r's body is a form.
func isForm(r *http.Request) bool {
	t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(t), "application/x-www-form-urlencoded")
}

// maybeForm reports whether r may be a query request that nobody signed.
func maybeForm(r *http.Request) bool {
	if r.URL.Path != "/" {
		return false
	}
	return r.Method == http.MethodPost && isForm(r) || strings.Contains(r.URL.RawQuery, "Action=")
}

// pickForm serves an unsigned query request by its Action and Version, and
// reports whether it was one. If not, r can be read again.
func (s *Server) pickForm(w http.ResponseWriter, r *http.Request) bool {
	body, err := readBody(r, maxAnonymous)
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return true
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	q := &request{body: body, have: true}
	q.form = [2]string{r.URL.RawQuery, formBody(r, body)}
	if q.action, err = findAction(q.form[0], q.form[1]); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return true
	}
	for _, sv := range s.services {
		if p := sv.svc.Protocol; (p == Query || p == EC2) && sv.ops[q.action.name] != nil && sv.svc.Version == q.action.version {
			q.sv = sv
			s.route(w, r, q)
			return true
		}
	}
	return false
}

func formBody(r *http.Request, body []byte) string {
	if !isForm(r) {
		return ""
	}
	return string(body)
}

// routeForm finds the operation of a query request, and answers itself when
// there is none.
func (s *Server) routeForm(w http.ResponseWriter, r *http.Request, q *request) bool {
	svc := q.sv.svc
	if r.URL.Path != "/" && r.URL.Path != "" {
		unknownOperation(w, r, s.cfg.NewID())
		return false
	}
	if r.Method != http.MethodPost && r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.WriteHeader(http.StatusBadRequest)
		return false
	}
	if !q.have {
		limit := int64(maxAnonymous)
		if signed(r) {
			limit = defaultMaxBody
		}
		var err error
		if q.body, err = readBody(r, limit); errors.Is(err, errTooLarge) {
			w.WriteHeader(http.StatusRequestEntityTooLarge) // STS says no more than this
			return false
		} else if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return false
		}
		q.have = true
	}
	if q.form[0] == "" && q.form[1] == "" {
		q.form = [2]string{r.URL.RawQuery, formBody(r, q.body)}
		var err error
		if q.action, err = findAction(q.form[0], q.form[1]); err != nil {
			writeFault(w, r, svc, malformedFault(svc, err), s.cfg.NewID())
			return false
		}
	}
	if q.action.name == "" {
		w.Header().Set("Location", "https://aws.amazon.com/iam")
		w.WriteHeader(http.StatusFound)
		return false
	}
	version := q.action.version
	if q.op = q.sv.ops[q.action.name]; q.op != nil && version == svc.Version {
		if q.op.MaxBody > 0 && int64(len(q.body)) > q.op.MaxBody {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return false
		}
		return true
	}
	if !q.action.hasVersion {
		version = "NO_VERSION_SPECIFIED"
	}
	writeFault(w, r, svc, &Fault{
		Code:    "InvalidAction",
		Status:  http.StatusBadRequest,
		Message: "Could not find operation " + q.action.name + " for version " + version,
	}, s.cfg.NewID())
	return false
}
