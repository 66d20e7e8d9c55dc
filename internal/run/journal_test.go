package run

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func TestLastBytes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"", 4, ""},
		{"abc", 4, "abc"},
		{"abcd", 4, "abcd"},
		{"abcde", 4, "bcde"},
		{"aéé", 4, "éé"},          // the cut is between characters
		{"ééa", 4, "\ufffdéa"},    // in the middle of one
		{"x€ab", 4, "\ufffdab"},   // two bytes of three are left
		{"x€abc", 4, "\ufffdabc"}, // one byte of three
		{"🔒abc", 6, "\ufffdabc"},
		{"🔒abc", 4, "\ufffdabc"},
		{"ab\xff\xfe", 3, "b\xff\xfe"}, // not UTF-8: not ours to mend
	} {
		if got := string(lastBytes([]byte(c.in), c.n)); got != c.want {
			t.Errorf("last %d of %q: got %q, want %q", c.n, c.in, got, c.want)
		}
	}
}

func TestReportLine(t *testing.T) {
	t.Parallel()
	r := report{id: "r", duration: 1234567 * time.Nanosecond, billed: 2, memoryMB: 128, peakMB: 40}
	for _, c := range []struct {
		change func(*report)
		want   string
	}{
		{func(*report) {}, "REPORT RequestId: r\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB\t\n"},
		{func(r *report) { r.init = 90 * time.Millisecond }, "REPORT RequestId: r\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB\tInit Duration: 90.00 ms\t\n"},
		{func(r *report) { r.status = "timeout" }, "REPORT RequestId: r\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB\tStatus: timeout\n"},
		{func(r *report) { r.status, r.kind = "error", "Runtime.ExitError" }, "REPORT RequestId: r\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB\tStatus: error\tError Type: Runtime.ExitError\n"},
	} {
		x := r
		c.change(&x)
		if got := x.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func newJournal(t *testing.T, sink Logs) *journal {
	t.Helper()
	w := newLogWriter(sink, slog.New(slog.DiscardHandler))
	return &journal{to: Place{Group: "g", Stream: "s"}, out: w}
}

// However the output is cut into frames, the lines are the same.
func TestJournalLines(t *testing.T) {
	t.Parallel()
	const text = "one\n\ntwo\r\nthree"
	for step := 1; step <= len(text); step++ {
		sink := new(record)
		j := newJournal(t, sink)
		for at := 0; at < len(text); at += step {
			j.write([]byte(text[at:min(at+step, len(text))]))
		}
		j.out.flush()
		if got := sink.String(); got != "one\n\ntwo\r\n" {
			t.Errorf("by %d: got %q, want the whole lines", step, got)
		}
		j.write([]byte("!\n"))
		j.out.close()
		if got := sink.String(); got != text+"!\n" {
			t.Errorf("by %d: got %q, want %q", step, got, text+"!\n")
		}
	}
}

// A line without end becomes events of the size that CloudWatch Logs takes.
func TestJournalLongLine(t *testing.T) {
	t.Parallel()
	sink := &sizes{}
	j := newJournal(t, sink)
	for range 5 {
		j.write([]byte(strings.Repeat("x", 100_000)))
	}
	j.write([]byte("\n"))
	j.out.close()
	if len(sink.lines) != 2 || len(sink.lines[0].Text) != maxLine || len(sink.lines[1].Text) != 500_001-maxLine {
		t.Errorf("got %d events, want one of %d bytes and the rest", len(sink.lines), maxLine)
	}
}

// The tail's buffer stays small and still shows where a character was cut.
func TestJournalTail(t *testing.T) {
	t.Parallel()
	j := newJournal(t, new(record))
	j.collect(true)
	j.invocation("r", "1")
	for range 10_000 {
		j.write([]byte("éééé\n"))
	}
	if cap(j.tail) > 32*tailBytes {
		t.Errorf("the buffer has %d bytes", cap(j.tail))
	}
	tail := j.end(report{id: "r"}, nil)
	if n := len(tail); !utf8.Valid(tail) || n < tailBytes || n > tailBytes+2 {
		t.Errorf("got %d bytes, valid %v; want the last 4 KB", n, utf8.Valid(tail))
	}
	j.out.close()
}

// sizes is a Logs that keeps lines, and fails as often as it is told.
type sizes struct {
	record
	lines []Line
	fail  int
}

func (s *sizes) Append(_ context.Context, _ Place, lines []Line) error {
	if s.fail > 0 {
		s.fail--
		return errors.New("not now")
	}
	s.lines = append(s.lines, lines...)
	return nil
}

// A sink that fails for a moment loses nothing; one that fails for good does
// not stop functions.
func TestLogWriterRetries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fail, want int }{{2, 2}, {3, 1}} {
		synctest.Test(t, func(t *testing.T) {
			sink := &sizes{fail: c.fail}
			j := newJournal(t, sink)
			j.write([]byte("one\n"))
			j.out.flush()
			j.write([]byte("two\n"))
			j.out.close()
			if len(sink.lines) != c.want {
				t.Errorf("after %d failures: got %d lines, want %d", c.fail, len(sink.lines), c.want)
			}
		})
	}
}

// What waits for the sink is bounded: a function that prints more is slowed.
func TestLogWriterHoldsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sink := &record{hold: make(chan struct{})}
		j := newJournal(t, sink)
		wrote := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			line := []byte(strings.Repeat("x", 1<<20-1) + "\n")
			for range 40 {
				j.write(line)
				wrote++
			}
		}()
		synctest.Wait()
		if wrote < 16 || wrote > 20 {
			t.Errorf("got %d MB accepted with a sink that hangs, want about %d", wrote, maxUnwritten>>20)
		}
		close(sink.hold)
		<-done
		j.out.close()
		if got := sink.String(); len(got) != 40<<20 {
			t.Errorf("got %d bytes, want all of them", len(got))
		}
	})
}
