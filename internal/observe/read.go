package observe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"countersign/internal/store"
)

// A summary is what is known of a stream's events up to a position.
type summary struct {
	Through  uint64 `json:"through"` // position behind the last event counted
	Events   int64  `json:"events"`
	Bytes    int64  `json:"bytes"`
	First    int64  `json:"first"` // earliest event, Unix milliseconds
	Last     int64  `json:"last"`  // latest event
	Ingested int64  `json:"ingested"`
}

// state is what this process knows of one stream beyond its document.
type state struct {
	mu    sync.Mutex // held while the stream's new events are read
	sum   summary    // guarded by mu
	marks []mark     // guarded by mu
	dirty bool       // there may be events behind sum.Through; guarded by Logs.mu
	saved uint64     // Through of the document; guarded by mu
}

// A mark lets a reader begin in the middle: every event before position pos is
// from a time before or at latest. Events come nearly in the order of their
// times, so a tail that asks for the last minute reads about a minute.
type mark struct {
	pos    uint64
	latest int64
}

// markEvery is how many events lie between two marks: reading that many is
// about as quick as asking for them.
const markEvery = 512

// touch notes that the stream has events its state has not seen.
func (l *Logs) touch(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if st := l.states[id]; st != nil {
		st.dirty = true
	}
}

// state returns what is known of s, which at first is what its document says.
func (l *Logs) state(s stream) *state {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.states[s.ID]
	if st == nil {
		st = &state{sum: s.Summary, saved: s.Summary.Through, dirty: true}
		if s.Summary.Events > 0 {
			st.marks = []mark{{s.Summary.Through, s.Summary.Last}}
		}
		l.states[s.ID] = st
	}
	return st
}

// known returns the summary without reading.
func (l *Logs) known(s stream) summary {
	l.mu.Lock()
	st := l.states[s.ID]
	l.mu.Unlock()
	if st == nil {
		return s.Summary
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sum
}

// summarise brings the summary of s up to date. A document's summary may be
// behind, by everything since the last graceful stop; what it lacks is read
// here, the first time somebody asks.
func (l *Logs) summarise(ctx context.Context, s stream) (summary, error) {
	st := l.state(s)
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sum, l.catchUp(ctx, s, st)
}

func (l *Logs) catchUp(ctx context.Context, s stream, st *state) error {
	l.mu.Lock()
	dirty := st.dirty
	st.dirty = false // before reading: what is written from now on sets it again
	l.mu.Unlock()
	if !dirty {
		return nil
	}
	for rec, err := range l.log.Read(ctx, s.subject(), st.sum.Through) {
		var at, ingested int64
		var message []byte
		if err == nil {
			at, ingested, message, err = decode(rec.Data)
		}
		if err != nil {
			l.touch(s.ID)
			return fmt.Errorf("read log stream %s in %s: %w", s.Name, s.Group, err)
		}
		sum := &st.sum
		if sum.Events == 0 {
			sum.First, sum.Last = at, at
		}
		if sum.Events%markEvery == 0 && sum.Events > 0 {
			st.marks = append(st.marks, mark{sum.Through, sum.Last})
		}
		sum.First, sum.Last, sum.Ingested = min(sum.First, at), max(sum.Last, at), max(sum.Ingested, ingested)
		sum.Events++
		sum.Bytes += int64(len(message)) + Overhead
		sum.Through = rec.Next
	}
	return nil
}

// from is the position before which every event is earlier than start.
func (st *state) from(start int64) uint64 {
	i, _ := slices.BinarySearchFunc(st.marks, start, func(m mark, start int64) int {
		if m.latest < start {
			return -1
		}
		return 1
	})
	if i == 0 {
		return 0
	}
	return st.marks[i-1].pos
}

// keepStates writes the summaries that changed into the documents, so that
// the next start need not read the events again.
func (l *Logs) keepStates(ctx context.Context) error {
	var errs []error
	for it := range l.streams.All("") {
		l.mu.Lock()
		st := l.states[it.Val.ID]
		l.mu.Unlock()
		if st == nil {
			continue
		}
		st.mu.Lock()
		sum, saved := st.sum, st.saved
		st.mu.Unlock()
		if sum.Through == saved {
			continue
		}
		s := it.Val
		s.Summary = sum
		if _, err := l.streams.Swap(ctx, it.Key, s, it.Rev); err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			errs = append(errs, fmt.Errorf("keep summary of log stream %s in %s: %w", s.Name, s.Group, err))
		}
	}
	return errors.Join(errs...)
}

// Expire forgets the events of every stream whose last event is older than its
// group's retention. Readers do not see expired events in any case; a stream
// that is still written to keeps its old ones on disk until it falls silent,
// as a function's streams do when their environment ends.
func (l *Logs) Expire(ctx context.Context) error {
	var errs []error
	for it := range l.streams.All("") {
		parts, err := store.Parts(it.Key)
		if err != nil {
			errs = append(errs, fmt.Errorf("expire log stream %s: %w", it.Val.Name, err))
			continue
		}
		g, _, ok := l.groups.Get(store.Key(parts[:3]...))
		if !ok || g.RetentionDays == 0 {
			continue
		}
		if err := l.expireStream(ctx, it.Key, l.opt.Now().AddDate(0, 0, -g.RetentionDays).UnixMilli()); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (l *Logs) expireStream(ctx context.Context, key string, before int64) error {
	l.shape.Lock() // nothing is appended between looking and purging
	defer l.shape.Unlock()
	s, rev, ok := l.streams.Get(key)
	if !ok {
		return nil
	}
	st := l.state(s)
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := l.catchUp(ctx, s, st); err != nil {
		return err
	}
	if st.sum.Events == 0 || st.sum.Last >= before {
		return nil
	}
	if err := l.log.Purge(ctx, s.subject()); err != nil {
		return fmt.Errorf("expire log stream %s in %s: %w", s.Name, s.Group, err)
	}
	// A crash here leaves a summary of events that are gone; the next Expire
	// comes by again.
	st.sum, st.marks = summary{Through: st.sum.Through}, nil
	s.Summary, st.saved = st.sum, st.sum.Through
	if _, err := l.streams.Swap(ctx, key, s, rev); err != nil {
		return fmt.Errorf("expire log stream %s in %s: %w", s.Name, s.Group, err)
	}
	return nil
}

// An Entry is an event as it comes back.
type Entry struct {
	ID             string // 56 digits, unique, sorting as the entries do
	Stream         string
	Time, Ingested time.Time
	Message        string

	place place
}

// A Query says which events of a group to return. A zero time is no bound.
type Query struct {
	Group   string
	Streams []string // by name; nil for those with the prefix
	Prefix  string
	Start   time.Time                 // at or after
	End     time.Time                 // before
	Match   func(message string) bool // nil for all
	Limit   int                       // at most this many
	After   string                    // id of an entry: only those behind it
	Before  string                    // id of an entry: only those in front of it
	Tail    bool                      // the last Limit entries instead of the first
}

// maxPage is how many bytes of messages one page holds: CloudWatch's 1 MB.
const maxPage = 1 << 20

// Events returns the entries q asks for, oldest first, and whether there are
// more than fitted. A named stream that is missing is an error.
func (l *Logs) Events(ctx context.Context, sc Scope, q Query) (entries []Entry, more bool, err error) {
	if err := l.Flush(ctx); err != nil {
		return nil, false, err
	}
	g, _, ok := l.groups.Get(groupKey(sc, q.Group))
	if !ok {
		return nil, false, noGroup()
	}
	var streams []stream
	for _, name := range q.Streams {
		s, ok := l.lookup(target{sc, q.Group, name})
		if !ok {
			return nil, false, noStream()
		}
		streams = append(streams, s)
	}
	if q.Streams == nil {
		for it := range l.streams.All(prefix(q.Prefix, sc.Account, sc.Region, q.Group)) {
			streams = append(streams, it.Val)
		}
	}
	p, err := newPage(q, g.RetentionDays, l.opt.Now())
	if err != nil {
		return nil, false, err
	}
	for _, s := range streams {
		if err := l.collect(ctx, s, p); err != nil {
			return nil, false, err
		}
	}
	p.settle()
	return p.entries, p.dropped, nil
}

// collect adds the entries of one stream to p.
func (l *Logs) collect(ctx context.Context, s stream, p *page) error {
	st := l.state(s)
	st.mu.Lock()
	err := l.catchUp(ctx, s, st)
	sum, from := st.sum, st.from(p.start)
	st.mu.Unlock()
	if err != nil {
		return err
	}
	if sum.Events == 0 || sum.Last < p.start || sum.First >= p.end {
		return nil
	}
	number, err := strconv.ParseUint(s.ID, 10, 64)
	if err != nil {
		return fmt.Errorf("log stream %s in %s: %w", s.Name, s.Group, err)
	}
	for rec, err := range l.log.Read(ctx, s.subject(), from) {
		var at, ingested int64
		var message []byte
		if err == nil {
			at, ingested, message, err = decode(rec.Data)
		}
		if err != nil {
			return fmt.Errorf("read log stream %s in %s: %w", s.Name, s.Group, err)
		}
		where := place{at, rec.Next, number}
		if !p.wants(where) {
			continue
		}
		text := string(message)
		if p.match != nil && !p.match(text) {
			continue
		}
		p.add(Entry{Stream: s.Name, Time: time.UnixMilli(at), Ingested: time.UnixMilli(ingested), Message: text, place: where})
	}
	return nil
}

// A page gathers the first, or last, entries of what it is shown in any
// order, and never holds much more than one page.
type page struct {
	start, end    int64  // Unix milliseconds: start ≤ time < end
	after, before *place // exclusive
	match         func(string) bool
	limit         int
	tail          bool

	entries []Entry
	bytes   int
	dropped bool
}

func newPage(q Query, retention int, now time.Time) (*page, error) {
	p := &page{start: math.MinInt64, end: math.MaxInt64, match: q.Match, limit: q.Limit, tail: q.Tail}
	if !q.Start.IsZero() {
		p.start = q.Start.UnixMilli()
	}
	if !q.End.IsZero() {
		p.end = q.End.UnixMilli()
	}
	if retention > 0 { // what has expired is not shown, wherever it still lies
		p.start = max(p.start, now.AddDate(0, 0, -retention).UnixMilli())
	}
	for _, b := range []struct {
		id string
		to **place
	}{{q.After, &p.after}, {q.Before, &p.before}} {
		if b.id == "" {
			continue
		}
		at, ok := parsePlace(b.id)
		if !ok {
			return nil, fmt.Errorf("%q is not an event id", b.id)
		}
		*b.to = &at
	}
	if p.after != nil {
		p.start = max(p.start, p.after.time)
	}
	return p, nil
}

func (p *page) wants(at place) bool {
	return at.time >= p.start && at.time < p.end &&
		(p.after == nil || at.compare(*p.after) > 0) && (p.before == nil || at.compare(*p.before) < 0)
}

func (p *page) add(e Entry) {
	p.entries = append(p.entries, e)
	p.bytes += len(e.Message) + Overhead
	if len(p.entries) >= 2*p.limit+64 || p.bytes >= 4*maxPage {
		p.settle()
	}
}

// settle sorts what is there and lets go of what cannot be on the page.
// Whatever comes later, it can only push out more.
func (p *page) settle() {
	slices.SortFunc(p.entries, func(a, b Entry) int {
		if p.tail {
			return b.place.compare(a.place)
		}
		return a.place.compare(b.place)
	})
	n := 0
	p.bytes = 0
	for n < len(p.entries) && n < p.limit {
		size := len(p.entries[n].Message) + Overhead
		if n > 0 && p.bytes+size > maxPage {
			break
		}
		p.bytes += size
		p.entries[n].ID = p.entries[n].place.String()
		n++
	}
	if n < len(p.entries) {
		p.dropped = true
		clear(p.entries[n:])
		p.entries = p.entries[:n]
	}
	if p.tail {
		slices.Reverse(p.entries)
	}
}
