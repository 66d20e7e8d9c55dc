// Package frame is the language the platform and the init inside a guest speak
// over the sandbox's control connection.
//
// A frame is a length (four bytes, big endian, of what follows), a [Type] byte
// and a body. Every body has one reading: a field that is cut short, a frame
// above [MaxFrame] or bytes left over are errors. The platform trusts nothing
// a guest sends, so a [Reader] bounds what it allocates by the frame's type
// before it has seen the body; a guest trusts its platform.
//
// The conversation, for one life of one environment:
//
//	platform        guest
//	Setup     →             once: what to run
//	          ←     Log*    what it prints while it starts
//	          ←     Ready   the runtime asked for its first invocation
//	Invocation →            one at a time
//	          ←     Log*
//	          ←     Response or Failure, or Busy, or Exited
//
// A guest that has said InitFailed or Exited takes no more invocations.
package frame

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A Type says what a frame's body is.
type Type byte

// The types, with their bodies.
const (
	TypeSetup      Type = 1 // platform to guest: a [Setup]
	TypeInvocation Type = 2 // platform to guest: an [Invocation]
	TypePing       Type = 3 // platform to guest: anything, sent back as TypePong

	TypeReady      Type = 16 // guest: empty; the runtime asks for an invocation and there is none
	TypeLog        Type = 17 // guest: bytes the runtime wrote to its standard output or error
	TypeResponse   Type = 18 // guest: a [Reply] with the function's answer
	TypeFailure    Type = 19 // guest: a [Reply] with the function's error
	TypeInitFailed Type = 20 // guest: a [Reply] without id; the runtime could not start the function
	TypeBusy       Type = 21 // guest: a request id; the runtime did not come for it in time and will never see it
	TypeExited     Type = 22 // guest: an [Exited]
	TypePong       Type = 23 // guest: a ping's body
	TypeTooLarge   Type = 24 // guest: a [Reply] without payload; the function's answer was over MaxPayload
)

// Limits of what crosses the connection.
const (
	// MaxPayload is the largest answer of a function, the 6 MB quota as
	// Lambda's own error message counts it.
	MaxPayload = 6291556
	// MaxLog is the most log bytes one frame carries.
	MaxLog = 64 << 10
	// MaxFrame bounds every frame: a payload and its head.
	MaxFrame = MaxPayload + 64<<10
	// maxSmall bounds the frames that carry no payload and no log.
	maxSmall = 4 << 10
)

// ErrMalformed is wrapped by every error about a frame's content.
var ErrMalformed = errors.New("malformed frame")

// limit is the longest body a guest may send for each type; a type that is
// missing is not a guest's to send.
var limit = map[Type]uint32{
	TypeReady:      0,
	TypeLog:        MaxLog,
	TypeResponse:   MaxFrame,
	TypeFailure:    MaxFrame,
	TypeInitFailed: MaxFrame,
	TypeBusy:       maxSmall,
	TypeExited:     maxSmall,
	TypePong:       maxSmall,
	TypeTooLarge:   maxSmall,
}

const headLen = 5

// Append appends a whole frame of type t to b. body appends the frame's body.
func Append(b []byte, t Type, body func([]byte) []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, byte(t))
	if body != nil {
		b = body(b)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// A Reader takes frames a guest sent off a stream. Not safe for concurrent use.
type Reader struct {
	r *bufio.Reader
}

// NewReader reads from r, several frames at a time where they come together.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReaderSize(r, 32<<10)} }

// Next returns the next frame. The body is the caller's to keep. The error is
// io.EOF at the end of the stream between frames, io.ErrUnexpectedEOF within
// one, and wraps [ErrMalformed] for what a guest must not send.
func (r *Reader) Next() (Type, []byte, error) {
	var h [headLen]byte
	if _, err := io.ReadFull(r.r, h[:]); err != nil {
		return 0, nil, err
	}
	n, t := binary.BigEndian.Uint32(h[:]), Type(h[4])
	most, ok := limit[t]
	if !ok {
		return 0, nil, fmt.Errorf("type %d from a guest: %w", t, ErrMalformed)
	}
	if n == 0 || n-1 > most {
		return 0, nil, fmt.Errorf("type %d with %d bytes: %w", t, n, ErrMalformed)
	}
	body := make([]byte, n-1)
	if _, err := io.ReadFull(r.r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return t, body, nil
}

// Split takes one frame off the front of b, as far as b holds it: it returns
// the frame and what follows, or ok false when the frame is not whole yet.
// need is then the length b must reach for the next try to be worth it.
// It is the guest's side of reading, which must not block.
func Split(b []byte) (t Type, body, rest []byte, need int, ok bool) {
	if len(b) < headLen {
		return 0, nil, b, headLen, false
	}
	n := int(binary.BigEndian.Uint32(b)) + 4
	if n < headLen || len(b) < n {
		return 0, nil, b, max(n, headLen), false
	}
	return Type(b[4]), b[headLen:n], b[n:], 0, true
}

// fields reads length-prefixed strings and numbers off a body.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) uint() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.bad, f.b = true, nil
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) bytes() []byte {
	n := f.uint()
	if n > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return nil
	}
	v := f.b[:n:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) string() string { return string(f.bytes()) }

// rest is everything that is left.
func (f *fields) rest() []byte {
	v := f.b
	f.b = nil
	return v
}

func (f *fields) end(what string) error {
	if f.bad || len(f.b) > 0 {
		return fmt.Errorf("%s: %w", what, ErrMalformed)
	}
	return nil
}

func putString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
