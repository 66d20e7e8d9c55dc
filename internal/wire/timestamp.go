package wire

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Where a timestamp's format is not in the model, the protocol tests have:
// epoch seconds in a JSON body, RFC 822 in a header, ISO 8601 elsewhere.

const (
	iso8601Out = "2006-01-02T15:04:05Z"
	iso8601Ms  = "2006-01-02T15:04:05.000Z"
)

// maxEpoch bounds what is read as epoch seconds to years of four digits.
const maxEpoch = 253402300800

// parseEpoch reads seconds with an optional fraction, kept to the millisecond.
func parseEpoch(s string) (time.Time, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) >= maxEpoch {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(math.Round(f * 1000))).UTC(), true
}

// parseTime reads s in format f, which is not TimeDefault.
func parseTime(s string, f TimeFormat) (t time.Time, ok bool) {
	var err error
	switch f {
	case TimeEpoch:
		return parseEpoch(s)
	case TimeRFC822:
		t, err = http.ParseTime(s)
	default:
		// RFC 3339 takes Z and +00:00; AWS's clients also write +0000.
		if t, err = time.Parse(time.RFC3339Nano, s); err != nil {
			t, err = time.Parse("2006-01-02T15:04:05Z0700", s)
		}
	}
	return t.UTC(), err == nil
}

// appendTime writes t in format f, which is not TimeDefault, with
// milliseconds where it has any and the format can hold them.
func appendTime(b []byte, t time.Time, f TimeFormat) []byte {
	t = t.UTC()
	ms := t.UnixMilli()
	switch f {
	case TimeEpoch:
		if ms%1000 == 0 {
			return strconv.AppendInt(b, ms/1000, 10)
		}
		s := strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64)
		return append(b, strings.TrimRight(s, "0")...)
	case TimeRFC822:
		return t.AppendFormat(b, http.TimeFormat)
	}
	if ms%1000 == 0 {
		return t.AppendFormat(b, iso8601Out)
	}
	return t.AppendFormat(b, iso8601Ms)
}

// or returns f, or d when the model does not say.
func (f TimeFormat) or(d TimeFormat) TimeFormat {
	if f == TimeDefault {
		return d
	}
	return f
}
