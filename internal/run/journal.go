package run

import (
	"bytes"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"
)

// tailBytes is how much of an invocation's log travels with its answer.
const tailBytes = 4 << 10

// maxLine is the longest event CloudWatch Logs takes, 256 KB less 26 bytes; a
// longer line becomes several.
const maxLine = 256<<10 - 26

// A journal is the log of one environment: it cuts output into lines, and
// keeps the end of the invocation under way for its caller.
type journal struct {
	to  Place
	out *logWriter

	mu      sync.Mutex
	partial []byte // output without its line break yet: it goes with the next invocation's
	start   string // the START line of an invocation that has not shown any sign of life
	keep    bool   // collect tail
	tail    []byte
}

// write takes output of the runtime.
func (j *journal) write(b []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	lines := j.begun(now, nil)
	for len(b) > 0 {
		n := bytes.IndexByte(b, '\n') + 1
		if n == 0 {
			n = len(b)
		}
		n = min(n, maxLine-len(j.partial))
		j.partial = append(j.partial, b[:n]...)
		b = b[n:]
		if j.partial[len(j.partial)-1] != '\n' && len(j.partial) < maxLine {
			break
		}
		lines = append(lines, Line{now, string(j.partial)})
		j.remember(string(j.partial))
		j.partial = j.partial[:0]
	}
	j.out.add(j, lines)
}

// begun prepends the START line if it is due. The caller holds j.mu.
func (j *journal) begun(now time.Time, lines []Line) []Line {
	if j.start == "" {
		return lines
	}
	s := j.start
	j.start = ""
	j.remember(s)
	return append(lines, Line{now, s})
}

func (j *journal) remember(s string) {
	if !j.keep {
		return
	}
	j.tail = append(j.tail, s...)
	if len(j.tail) > 4*tailBytes {
		// utf8.UTFMax more than the tail, so that the cut can still be seen.
		j.tail = append(j.tail[:0], j.tail[len(j.tail)-tailBytes-utf8.UTFMax:]...)
	}
}

// platform writes lines of the platform's own, but to the log only.
func (j *journal) platform(texts ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	lines := make([]Line, len(texts))
	for i, t := range texts {
		lines[i] = Line{now, t}
	}
	j.out.add(j, lines)
}

// collect sets whether the tail is kept, from here on.
func (j *journal) collect(keep bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keep, j.tail = keep, j.tail[:0]
}

// invocation begins an invocation's log. START is written with the first line
// that follows: an invocation that is handed back leaves no trace.
func (j *journal) invocation(id, version string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.start = "START RequestId: " + id + " Version: " + version + "\n"
}

// takenBack forgets an invocation that did not happen here.
func (j *journal) takenBack() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.start = ""
}

// end writes the end of an invocation's log and returns its tail if it was
// kept.
func (j *journal) end(r report, extra []string) []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	lines := j.begun(now, make([]Line, 0, 3+len(extra)))
	for _, s := range append(extra, "END RequestId: "+r.id+"\n", r.String()) {
		lines = append(lines, Line{now, s})
		j.remember(s)
	}
	j.out.add(j, lines)
	if !j.keep {
		return nil
	}
	t := lastBytes(j.tail, tailBytes)
	j.keep, j.tail = false, nil
	return t
}

// lastBytes copies the last n bytes of b. Where the cut falls inside a
// character, the copy starts with U+FFFD in place of what is left of it.
func lastBytes(b []byte, n int) []byte {
	cut := len(b) - n
	if cut <= 0 {
		return bytes.Clone(b)
	}
	at := cut
	for at < len(b) && at < cut+utf8.UTFMax-1 && !utf8.RuneStart(b[at]) {
		at++
	}
	if at == cut {
		return bytes.Clone(b[cut:])
	}
	return append([]byte(string(utf8.RuneError)), b[at:]...)
}

// A report is the last line of an invocation's log.
type report struct {
	id       string
	duration time.Duration
	init     time.Duration // 0 when the environment was warm
	billed   int64         // ms
	memoryMB int
	peakMB   int64
	status   string // "timeout", "error", or empty
	kind     string // with error
}

func (r report) String() string {
	b := fmt.Appendf(nil, "REPORT RequestId: %s\tDuration: %s ms\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t",
		r.id, millis(r.duration), r.billed, r.memoryMB, r.peakMB)
	if r.init > 0 {
		b = fmt.Appendf(b, "Init Duration: %s ms\t", millis(r.init))
	}
	if r.status != "" {
		b = fmt.Appendf(b, "Status: %s", r.status)
		if r.kind != "" {
			b = fmt.Appendf(b, "\tError Type: %s", r.kind)
		}
	}
	return string(append(b, '\n'))
}

// millis is a duration as the log has it: milliseconds with two decimals.
func millis(d time.Duration) string {
	return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond))
}
