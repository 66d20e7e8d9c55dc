package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	v := &Invocation{
		ID: "r-1", DeadlineMS: 1893456000123, FunctionARN: "arn:aws:lambda:eu-west-1:000000000000:function:f:live",
		TraceID: "Root=1-2-3", ClientContext: `{"custom":{}}`, CognitoIdentity: `{}`, Payload: []byte("{\"a\":\"\x00\xff\"}"),
	}
	_, body, rest, _, ok := Split(v.Append(nil))
	if !ok || len(rest) != 0 {
		t.Fatalf("Split: got ok %v, %d bytes left; want a whole frame", ok, len(rest))
	}
	got, err := ParseInvocation(body)
	if err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("invocation: got %+v, %v; want %+v", got, err, v)
	}

	s := &Setup{Command: []string{"/bin/x", "y"}, Env: []string{"A=b=c"}, Port: 9001}
	b, err := s.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _, _, _ = Split(b)
	if got, err := ParseSetup(body); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("setup: got %+v, %v; want %+v", got, err, s)
	}

	var stream []byte
	r := Reply{ID: "r-1", Kind: "Runtime.X", Payload: []byte("null")}
	e := Exited{Code: 255, Delivered: true}
	k := Exited{Signal: 9}
	x := Exited{Code: 127, Start: "fork/exec /x: no such file or directory"}
	stream = r.Append(stream, TypeResponse)
	stream = e.Append(stream)
	stream = k.Append(stream)
	stream = x.Append(stream)
	rd := NewReader(bytes.NewReader(stream))
	if typ, body, err := rd.Next(); err != nil || typ != TypeResponse {
		t.Fatalf("got type %d, %v; want a response", typ, err)
	} else if got, err := ParseReply(body); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("reply: got %+v, %v; want %+v", got, err, r)
	}
	for _, want := range []Exited{e, k, x} {
		_, body, err := rd.Next()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseExited(body); err != nil || got != want {
			t.Errorf("exit: got %+v, %v; want %+v", got, err, want)
		}
	}
	if _, _, err := rd.Next(); err != io.EOF {
		t.Errorf("at the end: got %v, want io.EOF", err)
	}
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	head := func(n uint32, t Type) string {
		return string(append(binary.BigEndian.AppendUint32(nil, n), byte(t)))
	}
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"empty frame", "\x00\x00\x00\x00\x00", ErrMalformed},
		{"unknown type", head(1, 99), ErrMalformed},
		{"a platform's type", head(1, TypeSetup), ErrMalformed},
		{"ready with a body", head(2, TypeReady) + "x", ErrMalformed},
		{"a log of four gigabytes", head(1<<32-1, TypeLog), ErrMalformed},
		{"a response over the limit", head(MaxFrame+2, TypeResponse), ErrMalformed},
		{"a small frame that is large", head(maxSmall+2, TypeBusy), ErrMalformed},
		{"cut in the head", "\x00\x00", io.ErrUnexpectedEOF},
		{"cut before the body", head(5, TypeLog), io.ErrUnexpectedEOF},
		{"cut in the body", head(5, TypeLog) + "ab", io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := NewReader(strings.NewReader(c.in)).Next()
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	if _, err := ParseInvocation([]byte("\x05abc")); !errors.Is(err, ErrMalformed) {
		t.Errorf("a string longer than its frame: got %v, want ErrMalformed", err)
	}
	if _, err := ParseReply(nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("an empty reply: got %v, want ErrMalformed", err)
	}
	for _, in := range []string{"", "\x00", "\x80\x02\x00\x00\x00", "\x00\x00\x02\x00", "\x00\x00\x00\x00x"} {
		if _, err := ParseExited([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("exit %q: got %v, want ErrMalformed", in, err)
		}
	}
}

// FuzzGuest feeds the platform's side what a hostile guest could send: it may
// refuse, it may not panic, and what it accepts must read back the same.
func FuzzGuest(f *testing.F) {
	r := Reply{ID: "r", Kind: "k", Payload: []byte("null")}
	f.Add(r.Append(nil, TypeResponse))
	f.Add((&Exited{Code: 1, Start: "x"}).Append(nil))
	f.Add(Append(nil, TypeReady, nil))
	f.Add([]byte("\xff\xff\xff\xff\x12"))
	f.Fuzz(func(t *testing.T, in []byte) {
		rd := NewReader(bytes.NewReader(in))
		for {
			typ, body, err := rd.Next()
			if err != nil {
				return
			}
			switch typ {
			case TypeResponse, TypeFailure, TypeInitFailed, TypeTooLarge:
				r, err := ParseReply(body)
				if err != nil {
					continue
				}
				_, again, _, _, ok := Split(r.Append(nil, typ))
				if r2, err := ParseReply(again); !ok || err != nil || !reflect.DeepEqual(r, r2) {
					t.Errorf("got %+v, %v; want %+v", r2, err, r)
				}
			case TypeExited:
				e, err := ParseExited(body)
				if err != nil {
					continue
				}
				_, again, _, _, ok := Split(e.Append(nil))
				if e2, err := ParseExited(again); !ok || err != nil || e2 != e {
					t.Errorf("got %+v, %v; want %+v", e2, err, e)
				}
			}
		}
	})
}
