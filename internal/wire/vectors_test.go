package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The protocol tests published with the models are written for clients. Run
// in reverse they are a server's: what a client was told to send must decode
// to what it was told to say, and what a client was told to read is what we
// must write.

type vectorSuite struct {
	File  string
	Index int
	Cases []vectorTypes
}

type vectorTypes struct {
	Service *Service
	In, Out reflect.Type
}

// clientOnly lists the vectors that say something about clients that no
// server can be held to, with the reason. Everything else must hold.
var clientOnly = map[string]string{
	"input/rest-xml.json/Header whitespace/0":                "HTTP drops the white space around a header's value; the client is told not to rely on it",
	"output/rest-json.json/Scalar members/0":                 "the client also reads ISO 8601 where the model says epoch seconds; a server writes what the model says",
	"output/json.json/Lists/1":                               "the client keeps nulls in lists; no list of ours holds one",
	"output/json.json/Ignores extra data/0":                  "a server sends no member its model does not have",
	"output/rest-json.json/Ignores extra data/0":             "a server sends no member its model does not have",
	"output/rest-json.json/Ignores undefined output/0":       "a server sends nothing for an operation without output",
	"output/json.json/unmodeled non-json response payload/0": "a server sends JSON",
	"output/json.json/unmodeled non-json response payload/1": "a server sends JSON",
	"output/json.json/unmodeled non-json response payload/2": "a server sends JSON",
}

type vectorCase struct {
	Params     any `json:"params"`
	Serialized struct {
		Method  string            `json:"method"`
		URI     string            `json:"uri"`
		Body    string            `json:"body"`
		Headers map[string]string `json:"headers"`
		Host    string            `json:"host"`
	} `json:"serialized"`
	Result   any `json:"result"`
	Response struct {
		Status  int               `json:"status_code"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	} `json:"response"`
}

// modelDir finds the module that holds the models and the protocol tests.
var modelDir = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go").Output()
	return strings.TrimSpace(string(out)), err
})

// eachVector calls f with the name of every case of every suite of one
// direction.
func eachVector(t *testing.T, way string, f func(name string, types vectorTypes, c vectorCase)) {
	t.Helper()
	dir, err := modelDir()
	if err != nil {
		t.Fatalf("find the protocol tests: %v", err)
	}
	type suite struct {
		Description string       `json:"description"`
		Cases       []vectorCase `json:"cases"`
	}
	files := map[string][]suite{}
	ran := 0
	for _, s := range vectorSuites {
		if !strings.HasPrefix(s.File, way) {
			continue
		}
		if files[s.File] == nil {
			b, err := os.ReadFile(filepath.Join(dir, "models/protocol_tests", s.File))
			if err != nil {
				t.Fatal(err)
			}
			var suites []suite
			if err := json.Unmarshal(b, &suites); err != nil {
				t.Fatal(err)
			}
			files[s.File] = suites
		}
		suite := files[s.File][s.Index]
		if len(suite.Cases) != len(s.Cases) {
			t.Fatalf("%s, suite %d: got %d cases, want %d: run go generate", s.File, s.Index, len(s.Cases), len(suite.Cases))
		}
		for i, c := range suite.Cases {
			ran++
			f(fmt.Sprintf("%s/%s/%d", s.File, suite.Description, i), s.Cases[i], c)
		}
	}
	for file, suites := range files { // none left out
		n := 0
		for _, s := range vectorSuites {
			if s.File == file {
				n++
			}
		}
		if n != len(suites) {
			t.Errorf("%s: got %d suites, want %d: run go generate", file, n, len(suites))
		}
	}
	t.Logf("%d vectors", ran)
}

// run runs f as a subtest, unless the vector is for clients only.
func run(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		if why := clientOnly[name]; why != "" {
			t.Skip(why)
		}
		f(t)
	})
}

const zeroToken = "00000000-0000-4000-8000-000000000000"

// TestInputVectors decodes every client request, by way of a real server.
func TestInputVectors(t *testing.T) {
	t.Parallel()
	eachVector(t, "input", func(name string, types vectorTypes, c vectorCase) {
		run(t, name, func(t *testing.T) {
			got, asked := decodeVector(t, types, c)
			if !asked {
				t.Fatal("the request did not reach the operation")
			}
			op := types.Service.Operations[0]
			m := newMessage(types.Service, op.Name, types.In, true)
			want := reflect.New(types.In)
			if m.plan != nil {
				fill(t, m.plan, &Ref{}, c.Params, want.Elem())
				for _, tok := range m.tokens { // filled in by the client, else by us
					if f := want.Elem().Field(tok.index); f.IsNil() {
						f.Set(reflect.ValueOf(new(zeroToken)))
					}
				}
				if p := m.payload; p != nil && p.plan.kind == Structure {
					// A client writes {} for a payload it was given and for one it
					// was not: on the wire they are one thing.
					for _, v := range []reflect.Value{want.Elem(), reflect.ValueOf(got).Elem()} {
						if f := v.Field(p.index); !f.IsNil() && f.Elem().IsZero() {
							f.SetZero()
						}
					}
				}
			}
			if !reflect.DeepEqual(got, want.Interface()) {
				t.Errorf("%s %s\n%s\ngot  %s\nwant %s", c.Serialized.Method, c.Serialized.URI, c.Serialized.Body, dump(got), dump(want.Interface()))
			}
		})
	})
}

func decodeVector(t *testing.T, types vectorTypes, c vectorCase) (in any, asked bool) {
	t.Helper()
	svc := types.Service
	op := svc.Operations[0]
	s := NewServer(Config{
		Authenticate: func(*http.Request, []byte, *Service) (Caller, string, error) { return Caller{}, "", nil },
		NewID:        func() string { return zeroToken },
	}, svc)
	m := newMessage(svc, op.Name, types.In, true)
	s.handle(svc, op.Name, &handler{
		in: m, out: newMessage(svc, op.Name, types.Out, false),
		newIn: func() any { return reflect.New(types.In).Interface() },
	})
	// Authorize sees what was decoded, before constraints are looked at: some
	// vectors break their own model's.
	s.cfg.Authorize = func(_ context.Context, _ *Call, v any) error {
		in, asked = v, true
		return &Fault{Code: "Seen"}
	}
	method := c.Serialized.Method
	if method == "" {
		method = op.Method
	}
	r := httptest.NewRequest(method, c.Serialized.URI, strings.NewReader(c.Serialized.Body))
	r.Host = "vector.test"
	for k, v := range c.Serialized.Headers {
		r.Header.Set(k, v)
	}
	q := &request{sv: s.byService[svc]}
	switch svc.Protocol {
	case Query, EC2:
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	case JSON:
		r.Header.Set("X-Amz-Target", svc.TargetPrefix+"."+op.Name)
	}
	w := httptest.NewRecorder()
	s.route(w, r, q)
	if !asked {
		t.Logf("answer %d: %s", w.Code, w.Body)
	}
	return in, asked
}

// TestOutputVectors encodes every server answer and compares it with the one
// the client is given, as the client understands it: whitespace, the order of
// members, the document element's name and the request id mean nothing.
func TestOutputVectors(t *testing.T) {
	t.Parallel()
	eachVector(t, "output", func(name string, types vectorTypes, c vectorCase) {
		run(t, name, func(t *testing.T) {
			svc := types.Service
			m := newMessage(svc, svc.Operations[0].Name, types.Out, false)
			v := reflect.New(types.Out)
			if m.plan != nil {
				fill(t, m.plan, &Ref{}, c.Result, v.Elem())
			}
			h := http.Header{}
			status, b := encode(m, &Call{RequestID: "requestid"}, v.Elem(), h, nil)
			if status != c.Response.Status {
				t.Errorf("status: got %d, want %d", status, c.Response.Status)
			}
			for k, want := range c.Response.Headers {
				if got := h.Get(k); got != want {
					t.Errorf("header %s: got %q, want %q", k, got, want)
				}
			}
			want := c.Response.Body
			switch {
			case m.plan == nil || m.payload != nil && m.payload.plan.kind == Blob:
				if string(b) != want {
					t.Errorf("got %q, want %q", b, want)
				}
			case svc.Protocol == RESTJSON || svc.Protocol == JSON:
				compareJSON(t, b, []byte(want))
			default:
				if want == "" { // an answer without a body and one with an empty document read the same
					want = "<Empty/>"
				}
				if len(b) == 0 {
					b = []byte("<Empty/>")
				}
				compareXML(t, b, []byte(want))
			}
		})
	})
}

// TestClientOnlyListsVectors keeps the list of exceptions from outliving them.
func TestClientOnlyListsVectors(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, way := range []string{"input", "output"} {
		eachVector(t, way, func(name string, _ vectorTypes, _ vectorCase) { names[name] = true })
	}
	for name := range clientOnly {
		if !names[name] {
			t.Errorf("no vector is called %s", name)
		}
	}
}

func compareJSON(t *testing.T, got, want []byte) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func compareXML(t *testing.T, got, want []byte) {
	t.Helper()
	g, err := parseXML(bytes.TrimSpace(got))
	if err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	w, err := parseXML(want)
	if err != nil {
		t.Fatal(err)
	}
	g.name, w.name = "", ""
	if gs, ws := canonical(g), canonical(w); gs != ws {
		t.Errorf("got  %s\nwant %s\nas %s\nand %s", got, want, gs, ws)
	}
}

// canonical writes n with what means nothing left out, and siblings sorted by
// name where the order of members is all that differs.
func canonical(n *xmlNode) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<%s", n.name)
	for _, a := range n.attrs {
		if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
			fmt.Fprintf(&b, " %s=%q", a.Name.Local, a.Value)
		}
	}
	b.WriteString(">")
	if len(n.below) == 0 {
		b.WriteString(n.text)
	}
	byName := map[string][]string{}
	for _, c := range n.below {
		if s := canonical(c); !strings.EqualFold(c.name, "RequestId") && c.name != "ResponseMetadata" {
			byName[c.name] = append(byName[c.name], s)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		ss := byName[name]
		if name == "entry" || name == "Map" { // maps have no order
			ss = append([]string(nil), ss...)
			slices.Sort(ss)
		}
		b.WriteString(strings.Join(ss, ""))
	}
	return b.String()
}

// fill builds the Go value of params by the model's names alone, so that it
// knows nothing of any wire name.
func fill(t *testing.T, p *plan, ref *Ref, params any, dst reflect.Value) {
	t.Helper()
	if params == nil {
		return
	}
	switch p.kind {
	case Structure:
		if dst.Kind() == reflect.Pointer {
			dst.Set(reflect.New(p.typ))
			dst = dst.Elem()
		}
		for k, v := range params.(map[string]any) {
			found := false
			for i := range p.fields {
				if f := &p.fields[i]; f.Name == k {
					fill(t, f.plan, &f.Ref, v, dst.Field(f.index))
					found = true
				}
			}
			if !found {
				t.Fatalf("shape %s has no member %s", p.shape.Name, k)
			}
		}
	case List:
		vs := params.([]any)
		dst.Set(reflect.MakeSlice(p.typ, len(vs), len(vs)))
		for i, v := range vs {
			fill(t, p.elem, &p.shape.Elem, v, dst.Index(i))
		}
	case Map:
		dst.Set(reflect.MakeMap(p.typ))
		for k, v := range params.(map[string]any) {
			e := reflect.New(p.typ.Elem()).Elem()
			fill(t, p.elem, &p.shape.Elem, v, e)
			dst.SetMapIndex(reflect.ValueOf(k), e)
		}
	case String:
		s, ok := params.(string)
		if ref.JSONText {
			b, err := json.Marshal(params)
			if err != nil {
				t.Fatal(err)
			}
			s, ok = string(b), true
		}
		if !ok {
			t.Fatalf("%v is no string", params)
		}
		settle(dst).SetString(s)
	case Blob:
		dst.SetBytes([]byte(params.(string)))
	case Boolean:
		settle(dst).SetBool(params.(bool))
	case Integer, Long:
		settle(dst).SetInt(int64(params.(float64)))
	case Float, Double:
		settle(dst).SetFloat(params.(float64))
	case Timestamp:
		sec, frac := math.Modf(params.(float64))
		settle(dst).Set(reflect.ValueOf(time.Unix(int64(sec), int64(frac*1e9)).UTC()))
	}
}

func dump(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
