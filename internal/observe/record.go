package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// A record of the log is one event:
//
//	byte   0      form, 1
//	bytes  1–8    time of the event, Unix milliseconds, big endian
//	bytes  9–16   time it was taken in, the same
//	rest          message, UTF-8
const (
	recordForm   = 1
	recordHeader = 17
)

func encode(e Event, ingested time.Time) []byte {
	m := cut(strings.ToValidUTF8(e.Message, "\uFFFD"), MaxEvent)
	b := make([]byte, recordHeader, recordHeader+len(m))
	b[0] = recordForm
	binary.BigEndian.PutUint64(b[1:], uint64(max(0, e.Time.UnixMilli())))
	binary.BigEndian.PutUint64(b[9:], uint64(ingested.UnixMilli()))
	return append(b, m...)
}

var errRecord = errors.New("not a log event")

// decode is the inverse of encode; times come out in Unix milliseconds.
func decode(b []byte) (at, ingested int64, message []byte, err error) {
	if len(b) < recordHeader || b[0] != recordForm {
		return 0, 0, nil, errRecord
	}
	return int64(binary.BigEndian.Uint64(b[1:])), int64(binary.BigEndian.Uint64(b[9:])), b[recordHeader:], nil
}

// cut shortens s to n bytes at most without breaking a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// A place is where an event stands among all events of a group: by time, then
// by the order of arrival. As a string it is an event id, 56 digits that sort
// as places do.
type place struct {
	time   int64  // Unix milliseconds
	pos    uint64 // position in the log
	stream uint64 // number of the stream
}

const placeDigits = 14 + 20 + 22

func (p place) String() string { return fmt.Sprintf("%014d%020d%022d", p.time, p.pos, p.stream) }

func (p place) compare(q place) int {
	switch {
	case p.time != q.time:
		return sign(p.time < q.time)
	case p.pos != q.pos:
		return sign(p.pos < q.pos)
	case p.stream != q.stream:
		return sign(p.stream < q.stream)
	}
	return 0
}

func sign(less bool) int {
	if less {
		return -1
	}
	return 1
}

// FirstEventID sorts before the id of every event.
var FirstEventID = place{}.String()

// IsEventID reports whether s has the form of an event's id.
func IsEventID(s string) bool {
	_, ok := parsePlace(s)
	return ok
}

// parsePlace reads what String wrote.
func parsePlace(s string) (p place, ok bool) {
	if len(s) != placeDigits || strings.Trim(s, "0123456789") != "" {
		return place{}, false
	}
	var t uint64
	for _, f := range []struct {
		digits string
		to     *uint64
	}{{s[:14], &t}, {s[14:34], &p.pos}, {s[34:], &p.stream}} {
		for _, c := range f.digits {
			next := *f.to*10 + uint64(c-'0')
			if next/10 != *f.to {
				return place{}, false
			}
			*f.to = next
		}
	}
	p.time = int64(t)
	return p, true
}
