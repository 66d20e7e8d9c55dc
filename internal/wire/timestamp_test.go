package wire

import (
	"testing"
	"time"
)

func TestTimestamps(t *testing.T) {
	t.Parallel()
	whole := time.Date(2026, 9, 28, 9, 19, 26, 0, time.UTC)
	milli := whole.Add(806 * time.Millisecond)
	for _, tt := range []struct {
		format TimeFormat
		text   string
		want   time.Time
	}{
		{TimeEpoch, "1790587166", whole},
		{TimeEpoch, "1790587166.806", milli},
		{TimeEpoch, "1.790587166806e9", milli},
		{TimeEpoch, "-1.5", time.UnixMilli(-1500).UTC()},
		{TimeISO8601, "2026-09-28T09:19:26Z", whole},
		{TimeISO8601, "2026-09-28T11:19:26.806+02:00", milli},
		{TimeISO8601, "2026-09-28T09:19:26.806+0000", milli},
		{TimeRFC822, "Mon, 28 Sep 2026 09:19:26 GMT", whole},
	} {
		if got, ok := parseTime(tt.text, tt.format); !ok || !got.Equal(tt.want) {
			t.Errorf("%s: got %v, %t, want %v", tt.text, got, ok, tt.want)
		}
	}
	for _, tt := range []struct {
		format TimeFormat
		t      time.Time
		want   string
	}{
		{TimeEpoch, whole, "1790587166"},
		{TimeEpoch, milli, "1790587166.806"},
		{TimeEpoch, whole.Add(500*time.Millisecond + 999), "1790587166.5"},
		{TimeISO8601, whole, "2026-09-28T09:19:26Z"},
		{TimeISO8601, milli.In(time.FixedZone("x", 3600)), "2026-09-28T09:19:26.806Z"},
		{TimeRFC822, milli, "Mon, 28 Sep 2026 09:19:26 GMT"},
	} {
		if got := string(appendTime(nil, tt.t, tt.format)); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.t, got, tt.want)
		}
	}
	for _, tt := range []struct {
		format TimeFormat
		text   string
	}{{TimeEpoch, ""}, {TimeEpoch, "NaN"}, {TimeEpoch, "1e300"}, {TimeEpoch, "now"}, {TimeISO8601, "1790587166"}, {TimeISO8601, "2026-13-01T00:00:00Z"}, {TimeRFC822, "yesterday"}} {
		if got, ok := parseTime(tt.text, tt.format); ok {
			t.Errorf("%q: got %v, want none", tt.text, got)
		}
	}
}
