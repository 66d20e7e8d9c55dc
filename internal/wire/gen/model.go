package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// A model is an api-2.json file, or one suite of the protocol tests, which
// has the same form. Only what a server needs is read; documentation is not.
type model struct {
	Metadata struct {
		APIVersion          string `json:"apiVersion"`
		EndpointPrefix      string `json:"endpointPrefix"`
		JSONVersion         string `json:"jsonVersion"`
		Protocol            string `json:"protocol"`
		ServiceFullName     string `json:"serviceFullName"`
		ServiceAbbreviation string `json:"serviceAbbreviation"`
		SigningName         string `json:"signingName"`
		TargetPrefix        string `json:"targetPrefix"`
		XMLNamespace        string `json:"xmlNamespace"`
	} `json:"metadata"`
	Operations ordered[operation] `json:"operations"`
	Shapes     ordered[*shape]    `json:"shapes"`
}

type operation struct {
	Name string `json:"name"`
	HTTP struct {
		Method       string `json:"method"`
		RequestURI   string `json:"requestUri"`
		ResponseCode int    `json:"responseCode"`
	} `json:"http"`
	Input      *ref  `json:"input"`
	Output     *ref  `json:"output"`
	Errors     []ref `json:"errors"`
	Deprecated bool  `json:"deprecated"`
	Endpoint   struct {
		HostPrefix string `json:"hostPrefix"`
	} `json:"endpoint"`

	// set by overrides only
	maxBody                           int64
	tooLarge, calledName, contentType string
}

// traits are what a shape and a use of a shape both may say.
type traits struct {
	Location     string     `json:"location"`
	LocationName string     `json:"locationName"`
	QueryName    string     `json:"queryName"`
	Flattened    bool       `json:"flattened"`
	XMLAttribute bool       `json:"xmlAttribute"`
	JSONValue    bool       `json:"jsonvalue"`
	Format       string     `json:"timestampFormat"`
	Namespace    *namespace `json:"xmlNamespace"`
	Payload      string     `json:"payload"`
	Wrapper      string     `json:"resultWrapper"`
	Sensitive    bool       `json:"sensitive"`
}

// A namespace is written as an object, or as its URI alone.
type namespace struct{ URI, Prefix string }

func (n *namespace) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &n.URI)
	}
	type plain namespace
	return json.Unmarshal(b, (*plain)(n))
}

type ref struct {
	Shape string `json:"shape"`
	Token bool   `json:"idempotencyToken"`
	traits
}

type shape struct {
	Type        string       `json:"type"`
	Members     ordered[ref] `json:"members"`
	Required    []string     `json:"required"`
	Member      *ref         `json:"member"`
	Key         *ref         `json:"key"`
	Value       *ref         `json:"value"`
	Min         *json.Number `json:"min"`
	Max         *json.Number `json:"max"`
	Pattern     string       `json:"pattern"`
	Enum        []string     `json:"enum"`
	Union       bool         `json:"union"`
	EventStream bool         `json:"eventstream"`
	Exception   bool         `json:"exception"`
	Fault       bool         `json:"fault"`
	Error       *struct {
		Code       string `json:"code"`
		Status     int    `json:"httpStatusCode"`
		Sender     bool   `json:"senderFault"`
		ServerSide bool   `json:"fault"`
	} `json:"error"`
	traits

	root string // document element, from the operation that uses the shape
}

// merged is what a use of a shape amounts to: the use's traits over the shape's own.
func (m *model) merged(r ref) ref {
	s := m.Shapes.get(r.Shape)
	if s == nil {
		panic("no shape " + r.Shape)
	}
	if r.Location == "" {
		r.Location = s.Location
	}
	if r.LocationName == "" {
		r.LocationName = s.LocationName
	}
	if r.QueryName == "" {
		r.QueryName = s.QueryName
	}
	if r.Format == "" {
		r.Format = s.Format
	}
	r.Flattened = r.Flattened || s.Flattened
	r.XMLAttribute = r.XMLAttribute || s.XMLAttribute
	r.JSONValue = r.JSONValue || s.JSONValue
	return r
}

// settle moves what operations say about their input and output onto the
// shapes, which is where the codecs look.
func (m *model) settle() {
	for _, name := range m.Operations.keys {
		op := m.Operations.m[name]
		for _, r := range []*ref{op.Input, op.Output} {
			if r == nil {
				continue
			}
			s := m.Shapes.get(r.Shape)
			if r.Payload != "" {
				s.Payload = r.Payload
			}
			if r.Namespace != nil {
				s.Namespace = r.Namespace
			}
			if r.LocationName != "" {
				s.root = r.LocationName
			}
		}
		if op.Output != nil && op.Output.Wrapper == "" {
			op.Output.Wrapper = m.Shapes.get(op.Output.Shape).Wrapper
		}
		m.Operations.m[name] = op
	}
}

// ordered is a JSON object that remembers the order of its keys: AWS reports
// failures in the model's order.
type ordered[T any] struct {
	keys []string
	m    map[string]T
}

func (o ordered[T]) get(k string) T { return o.m[k] }

func (o *ordered[T]) set(k string, v T) {
	if o.m == nil {
		o.m = map[string]T{}
	}
	if _, ok := o.m[k]; !ok {
		o.keys = append(o.keys, k)
	}
	o.m[k] = v
}

func (o *ordered[T]) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return err
		}
		var v T
		if err := d.Decode(&v); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		o.set(k.(string), v)
	}
	return nil
}

// readModel reads the newest version of a service's model.
func readModel(dir, service string) (*model, error) {
	files, err := filepath.Glob(filepath.Join(dir, "models/apis", service, "*/api-2.json"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no model of %s: %v", service, err)
	}
	b, err := os.ReadFile(files[len(files)-1]) // Glob sorts; versions are dates
	if err != nil {
		return nil, err
	}
	m := new(model)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("model of %s: %w", service, err)
	}
	return m, nil
}
