package wire

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// How each protocol words a refusal.

// unknownAction's answers have a namespace of their own, whoever gives them.
const actionNamespace = "http://webservices.amazon.com/AWSFault/2005-15-09"

// writeFault answers with f in svc's protocol.
func writeFault(w http.ResponseWriter, r *http.Request, svc *Service, f *Fault, requestID string) {
	svc.prepare()
	sh := svc.errs[f.Code]
	code, status := f.Code, f.Status
	receiver := f.Receiver
	if sh != nil {
		code = or(sh.Error.Code, sh.Name)
		receiver = receiver || sh.Error.Receiver
		if status == 0 {
			status = sh.Error.Status
		}
	}
	if status == 0 {
		status = http.StatusBadRequest
		if receiver {
			status = http.StatusInternalServerError
		}
	}
	receiver = receiver || status >= 500
	h := w.Header()
	maps.Copy(h, f.Header)
	h["X-Amzn-Requestid"] = []string{requestID}
	var b []byte
	switch svc.Protocol {
	case RESTJSON:
		h["X-Amzn-Errortype"] = []string{code}
		h["Content-Type"] = []string{"application/json"}
		b = appendJSONMap(nil, faultMembers(sh, f, code, receiver, h))
	case JSON:
		h["Content-Type"] = []string{jsonType(svc)}
		m := faultMembers(sh, f, code, receiver, h)
		m["__type"] = code
		b = appendJSONMap(nil, m)
	case EC2:
		h["Content-Type"] = []string{"text/xml;charset=UTF-8"}
		x := xmlWriter{b: []byte(xmlHeader)}
		x.open("Response")
		x.open("Errors")
		x.open("Error")
		x.text("Code", code)
		x.text("Message", f.Message)
		x.close("Error")
		x.close("Errors")
		x.text("RequestID", requestID)
		x.close("Response")
		b = x.b
	default:
		h["Content-Type"] = []string{"text/xml"}
		ns := svc.Namespace
		if code == "InvalidAction" {
			ns = actionNamespace
		}
		b = queryFault(ns, code, f.Message, receiver, requestID)
	}
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b) // the client has gone, or has it
	}
}

func queryFault(ns, code, message string, receiver bool, requestID string) []byte {
	who := "Sender"
	if receiver {
		who = "Receiver"
	}
	x := xmlWriter{}
	x.openNS("ErrorResponse", ns)
	x.b = append(x.b, "\n  "...)
	x.open("Error")
	for _, e := range [][2]string{{"Type", who}, {"Code", code}, {"Message", message}} {
		x.b = append(x.b, "\n    "...)
		x.text(e[0], e[1])
	}
	x.b = append(x.b, "\n  "...)
	x.close("Error")
	x.b = append(x.b, "\n  "...)
	x.text("RequestId", requestID)
	x.b = append(x.b, '\n')
	x.close("ErrorResponse")
	return append(x.b, '\n')
}

// faultMembers are the JSON members of f, spelled as the model spells them. A
// member the model puts into a header goes into h.
func faultMembers(sh *Shape, f *Fault, code string, receiver bool, h http.Header) map[string]any {
	m := make(map[string]any, 4)
	message := "message"
	if f.Capital {
		message = "Message"
	}
	if sh != nil {
		for i := range sh.Members {
			mb := &sh.Members[i]
			switch {
			case strings.EqualFold(mb.Name, "message"):
				message = or(mb.WireName, mb.Name)
			case mb.Name == "Type": // Lambda's: whose fault it is
				m["Type"] = "User"
				if receiver {
					m["Type"] = "Service"
				}
			case mb.Name == "code": // Signer's: the name again
				m["code"] = code
			}
		}
	}
	if f.Message != "" {
		m[message] = f.Message
	}
	for k, v := range f.Members {
		switch mb := sh.member(k); {
		case v == nil:
			delete(m, k)
		case mb != nil && mb.In == Header:
			if s, ok := v.(string); ok {
				h.Set(or(mb.WireName, mb.Name), s)
			}
		default:
			m[k] = v
		}
	}
	return m
}

func (s *Shape) member(name string) *Member {
	if s == nil {
		return nil
	}
	for i := range s.Members {
		if s.Members[i].Name == name {
			return &s.Members[i]
		}
	}
	return nil
}

// unknownOperation answers a request whose service is known and whose
// operation is not. It comes before authentication, as at AWS.
func unknownOperation(w http.ResponseWriter, r *http.Request, requestID string) {
	h := w.Header()
	h["X-Amzn-Requestid"] = []string{requestID}
	const body = "<UnknownOperationException/>\n"
	h["Content-Type"] = []string{"application/xml"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(http.StatusNotFound)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(body))
	}
}
