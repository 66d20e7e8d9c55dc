package wire

import (
	"net/http"
	"reflect"
)

// decodeAWSJSON reads an awsJson 1.0 or 1.1 request: the body is the input.
// No body is taken for {}, which is what an operation without input is sent as.
func decodeAWSJSON(m *message, body []byte, dst reflect.Value) error {
	if m.plan == nil || len(body) == 0 {
		return nil
	}
	return decodeJSON(body, m.plan, dst)
}

// encodeAWSJSON writes v as the body. An operation without output answers nothing.
func encodeAWSJSON(m *message, v reflect.Value, h http.Header, b []byte) (int, []byte) {
	h["Content-Type"] = []string{jsonType(m.svc)}
	if m.plan == nil {
		return http.StatusOK, b
	}
	return http.StatusOK, appendJSON(b, m.plan, &Ref{}, v)
}

func jsonType(svc *Service) string {
	if svc.JSONVersion == "1.0" {
		return "application/x-amz-json-1.0"
	}
	return "application/x-amz-json-1.1"
}
