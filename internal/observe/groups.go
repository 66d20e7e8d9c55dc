package observe

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign"
	"countersign/internal/store"
)

// group is the document of a log group.
type group struct {
	Name          string            `json:"name"`
	Created       int64             `json:"created"` // Unix milliseconds
	RetentionDays int               `json:"retentionDays,omitempty"`
	Class         string            `json:"class,omitempty"`
	Tags          map[string]string `json:"tags,omitempty"`
}

// stream is the document of a log stream. Its events lie under ID, which is
// never used again, so that a stream made anew after a crash in the middle of
// its deletion begins empty.
type stream struct {
	Name    string  `json:"name"`
	Group   string  `json:"group"`
	Created int64   `json:"created"`
	ID      string  `json:"id"`      // decimal, up to 20 digits
	Summary summary `json:"summary"` // as of Summary.Through; behind by what was appended since
}

func (s stream) subject() string { return store.Key(s.ID) }

// A Group is a log group as callers see it.
type Group struct {
	Name          string
	Created       time.Time
	RetentionDays int // 0 for ever
	Class         string
	StoredBytes   int64             // as CloudWatch's, not always up to the moment
	Tags          map[string]string // nil for none
}

// A Stream is a log stream as callers see it. Times are zero while there is
// no event.
type Stream struct {
	Name                  string
	Created               time.Time
	First, Last, Ingested time.Time // of events: earliest, latest, latest taken in
}

// AWS's sentences for what is missing or taken.
func noGroup() error {
	return countersign.Errorf(countersign.NotFound, "The specified log group does not exist.")
}
func noStream() error {
	return countersign.Errorf(countersign.NotFound, "The specified log stream does not exist.")
}

func groupKey(sc Scope, name string) string { return store.Key(sc.Account, sc.Region, name) }

func streamKey(sc Scope, group, name string) string {
	return store.Key(sc.Account, sc.Region, group, name)
}

// prefix is the prefix of the keys below parts whose last part begins with p.
func prefix(p string, parts ...string) string {
	if p == "" {
		return store.Key(parts...) + "."
	}
	return store.Key(append(parts, p)...)
}

func (l *Logs) lookup(to target) (stream, bool) {
	s, _, ok := l.streams.Get(streamKey(to.Scope, to.group, to.stream))
	return s, ok
}

func newStream(to target, now time.Time) stream {
	var id [8]byte
	rand.Read(id[:])
	return stream{Name: to.stream, Group: to.group, Created: now.UnixMilli(), ID: strconv.FormatUint(binary.BigEndian.Uint64(id[:]), 10)}
}

// ensure makes the group and the stream if they are not there.
func (l *Logs) ensure(ctx context.Context, to target) error {
	l.shape.Lock()
	defer l.shape.Unlock()
	now := l.opt.Now()
	if key := groupKey(to.Scope, to.group); !has(l.groups, key) {
		if _, err := l.groups.Create(ctx, key, group{Name: to.group, Created: now.UnixMilli()}); err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("create log group %s: %w", to.group, err)
		}
	}
	if key := streamKey(to.Scope, to.group, to.stream); !has(l.streams, key) {
		if _, err := l.streams.Create(ctx, key, newStream(to, now)); err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("create log stream %s in %s: %w", to.stream, to.group, err)
		}
	}
	return nil
}

func has[T any](d *store.Docs[T], key string) bool {
	_, _, ok := d.Get(key)
	return ok
}

// CreateGroup makes an empty group. class is CloudWatch's log group class, ""
// for the standard one.
func (l *Logs) CreateGroup(ctx context.Context, sc Scope, name, class string, tags map[string]string) error {
	if err := l.Flush(ctx); err != nil {
		return err
	}
	l.shape.Lock()
	defer l.shape.Unlock()
	_, err := l.groups.Create(ctx, groupKey(sc, name), group{Name: name, Created: l.opt.Now().UnixMilli(), Class: class, Tags: tags})
	if errors.Is(err, store.ErrExists) {
		return countersign.Errorf(countersign.Exists, "The specified log group already exists")
	}
	if err != nil {
		return fmt.Errorf("create log group %s: %w", name, err)
	}
	return nil
}

// CreateStream makes an empty stream in a group that is there.
func (l *Logs) CreateStream(ctx context.Context, sc Scope, group, name string) error {
	if err := l.Flush(ctx); err != nil {
		return err
	}
	l.shape.Lock()
	defer l.shape.Unlock()
	if !has(l.groups, groupKey(sc, group)) {
		return noGroup()
	}
	_, err := l.streams.Create(ctx, streamKey(sc, group, name), newStream(target{sc, group, name}, l.opt.Now()))
	if errors.Is(err, store.ErrExists) {
		return countersign.Errorf(countersign.Exists, "The specified log stream already exists")
	}
	if err != nil {
		return fmt.Errorf("create log stream %s in %s: %w", name, group, err)
	}
	return nil
}

// DeleteGroup removes a group with its streams and events. The group's own
// document goes last: after a crash in between the group is still there, with
// fewer streams, and deleting it again finishes the job.
func (l *Logs) DeleteGroup(ctx context.Context, sc Scope, name string) error {
	if err := l.Flush(ctx); err != nil {
		return err
	}
	l.shape.Lock()
	defer l.shape.Unlock()
	_, rev, ok := l.groups.Get(groupKey(sc, name))
	if !ok {
		return noGroup()
	}
	for it := range l.streams.All(prefix("", sc.Account, sc.Region, name)) {
		if err := l.removeStream(ctx, it); err != nil {
			return err
		}
	}
	if err := l.groups.Delete(ctx, groupKey(sc, name), rev); err != nil {
		return fmt.Errorf("delete log group %s: %w", name, err)
	}
	return nil
}

// DeleteStream removes a stream and its events.
func (l *Logs) DeleteStream(ctx context.Context, sc Scope, group, name string) error {
	if err := l.Flush(ctx); err != nil {
		return err
	}
	l.shape.Lock()
	defer l.shape.Unlock()
	if !has(l.groups, groupKey(sc, group)) {
		return noGroup()
	}
	key := streamKey(sc, group, name)
	s, rev, ok := l.streams.Get(key)
	if !ok {
		return noStream()
	}
	return l.removeStream(ctx, store.Item[stream]{Key: key, Val: s, Rev: rev})
}

// removeStream forgets the events first: a crash between leaves a stream
// without events, whose deletion nobody was told of. l.shape is held.
func (l *Logs) removeStream(ctx context.Context, it store.Item[stream]) error {
	if err := l.log.Purge(ctx, it.Val.subject()); err != nil {
		return fmt.Errorf("delete log stream %s in %s: %w", it.Val.Name, it.Val.Group, err)
	}
	if err := l.streams.Delete(ctx, it.Key, it.Rev); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("delete log stream %s in %s: %w", it.Val.Name, it.Val.Group, err)
	}
	l.mu.Lock()
	delete(l.states, it.Val.ID)
	l.mu.Unlock()
	return nil
}

// UpdateGroup changes what a group's document says: retention and tags. change
// may be called more than once; its error ends UpdateGroup and is returned.
func (l *Logs) UpdateGroup(ctx context.Context, sc Scope, name string, change func(*Group) error) error {
	if err := l.Flush(ctx); err != nil {
		return err
	}
	_, err := l.groups.Update(ctx, groupKey(sc, name), func(g *group) error {
		view := Group{Name: g.Name, RetentionDays: g.RetentionDays, Tags: g.Tags}
		if err := change(&view); err != nil {
			return refused{err}
		}
		g.RetentionDays, g.Tags = view.RetentionDays, view.Tags
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return noGroup()
	}
	if r, ok := errors.AsType[refused](err); ok {
		return r.error
	}
	if err != nil {
		return fmt.Errorf("change log group %s: %w", name, err)
	}
	return nil
}

// refused carries an error of UpdateGroup's caller past our own.
type refused struct{ error }

// HasStream says no when a group or a stream is missing.
func (l *Logs) HasStream(sc Scope, group, name string) error {
	switch {
	case !has(l.groups, groupKey(sc, group)):
		return noGroup()
	case !has(l.streams, streamKey(sc, group, name)):
		return noStream()
	}
	return nil
}

// Group returns one group.
func (l *Logs) Group(ctx context.Context, sc Scope, name string) (Group, error) {
	if err := l.Flush(ctx); err != nil {
		return Group{}, err
	}
	g, _, ok := l.groups.Get(groupKey(sc, name))
	if !ok {
		return Group{}, noGroup()
	}
	return l.group(sc, g), nil
}

func (l *Logs) group(sc Scope, g group) Group {
	out := Group{Name: g.Name, Created: time.UnixMilli(g.Created), RetentionDays: g.RetentionDays, Class: g.Class, Tags: maps.Clone(g.Tags)}
	for it := range l.streams.All(prefix("", sc.Account, sc.Region, g.Name)) {
		out.StoredBytes += l.known(it.Val).Bytes
	}
	return out
}

// GroupQuery says which groups to list. Lists are by name.
type GroupQuery struct {
	Prefix   string
	Contains string // somewhere in the name, whatever its case
	After    string // name of the group before the page, "" for the first page
	Limit    int
}

// Groups returns one page of the groups of a scope, and whether there are more.
func (l *Logs) Groups(ctx context.Context, sc Scope, q GroupQuery) (out []Group, more bool, err error) {
	if err := l.Flush(ctx); err != nil {
		return nil, false, err
	}
	from := ""
	if q.After != "" {
		from = groupKey(sc, q.After)
	}
	pre, contains := prefix(q.Prefix, sc.Account, sc.Region), strings.ToLower(q.Contains)
	for next := true; next; {
		var items []store.Item[group]
		items, next = l.groups.Page(pre, from, 64)
		for _, it := range items {
			from = it.Key
			if !strings.Contains(strings.ToLower(it.Val.Name), contains) {
				continue
			}
			if len(out) == q.Limit {
				return out, true, nil
			}
			out = append(out, l.group(sc, it.Val))
		}
	}
	return out, false, nil
}

// StreamQuery says which streams to list, and in what order.
type StreamQuery struct {
	Group  string
	Prefix string
	ByTime bool   // by the time of the last event, not by name
	Down   bool   // from the last to the first
	After  string // name of the stream before the page, "" for the first page
	Limit  int
}

// Streams returns one page of the streams of a group, and whether there are
// more.
func (l *Logs) Streams(ctx context.Context, sc Scope, q StreamQuery) ([]Stream, bool, error) {
	if err := l.Flush(ctx); err != nil {
		return nil, false, err
	}
	if !has(l.groups, groupKey(sc, q.Group)) {
		return nil, false, noGroup()
	}
	var all []Stream
	for it := range l.streams.All(prefix(q.Prefix, sc.Account, sc.Region, q.Group)) {
		s := Stream{Name: it.Val.Name, Created: time.UnixMilli(it.Val.Created)}
		// Only ordering by time needs every stream's summary.
		if q.ByTime {
			sum, err := l.summarise(ctx, it.Val)
			if err != nil {
				return nil, false, err
			}
			s.apply(sum)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Stream) int {
		c := 0
		if q.ByTime {
			c = a.Last.Compare(b.Last)
		}
		c = cmp.Or(c, cmp.Compare(a.Name, b.Name))
		if q.Down {
			return -c
		}
		return c
	})
	if q.After != "" {
		// A stream deleted since the last page has no place among the times any
		// more; the listing ends there. By name it has one.
		i := slices.IndexFunc(all, func(s Stream) bool {
			if q.ByTime {
				return s.Name == q.After
			}
			c := cmp.Compare(s.Name, q.After)
			return c >= 0 && !q.Down || c <= 0 && q.Down
		})
		switch {
		case i < 0:
			all = nil
		case all[i].Name == q.After:
			all = all[i+1:]
		default:
			all = all[i:]
		}
	}
	more := len(all) > q.Limit
	all = all[:min(len(all), q.Limit)]
	if !q.ByTime {
		for i := range all {
			if s, ok := l.lookup(target{sc, q.Group, all[i].Name}); ok {
				sum, err := l.summarise(ctx, s)
				if err != nil {
					return nil, false, err
				}
				all[i].apply(sum)
			}
		}
	}
	return all, more, nil
}

func (s *Stream) apply(sum summary) {
	if sum.Events > 0 {
		s.First, s.Last, s.Ingested = time.UnixMilli(sum.First), time.UnixMilli(sum.Last), time.UnixMilli(sum.Ingested)
	}
}
