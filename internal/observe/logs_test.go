package observe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign"
	"countersign/internal/store"
	"countersign/internal/store/storetest"
)

var (
	here  = Scope{"000000000000", "eu-central-1"}
	epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

func openLogs(t *testing.T, st store.Store) *Logs {
	t.Helper()
	l, err := Open(t.Context(), st, Options{Now: func() time.Time { return epoch }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// at makes events at seconds after epoch, their message the second.
func at(seconds ...int) []Event {
	var es []Event
	for _, s := range seconds {
		es = append(es, Event{epoch.Add(time.Duration(s) * time.Second), fmt.Sprint("m", s)})
	}
	return es
}

func appendTo(t *testing.T, l *Logs, group, stream string, events []Event) {
	t.Helper()
	if err := l.Append(t.Context(), here, group, stream, events); err != nil {
		t.Fatal(err)
	}
}

func events(t *testing.T, l *Logs, q Query) ([]Entry, bool) {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 10_000
	}
	es, more, err := l.Events(t.Context(), here, q)
	if err != nil {
		t.Fatal(err)
	}
	return es, more
}

func texts(es []Entry) string {
	var s []string
	for _, e := range es {
		s = append(s, e.Message)
	}
	return strings.Join(s, " ")
}

func checkEvents(t *testing.T, l *Logs, q Query, want string) {
	t.Helper()
	es, _ := events(t, l, q)
	if got := texts(es); got != want {
		t.Errorf("%+v: got %q, want %q", q, got, want)
	}
}

func TestAppendedIsReadAtOnceInOrderOfTime(t *testing.T) {
	t.Parallel()
	l := openLogs(t, storetest.Memory())
	appendTo(t, l, "g", "a", at(1, 3, 5))
	appendTo(t, l, "g", "b", at(2, 4, 6))
	appendTo(t, l, "g", "a", at(0)) // late
	appendTo(t, l, "other", "a", at(9))
	checkEvents(t, l, Query{Group: "g"}, "m0 m1 m2 m3 m4 m5 m6")
	checkEvents(t, l, Query{Group: "g", Streams: []string{"b"}}, "m2 m4 m6")
	checkEvents(t, l, Query{Group: "g", Prefix: "a"}, "m0 m1 m3 m5")
	checkEvents(t, l, Query{Group: "g", Start: epoch.Add(2 * time.Second), End: epoch.Add(5 * time.Second)}, "m2 m3 m4")
	checkEvents(t, l, Query{Group: "g", Match: func(m string) bool { return m > "m4" }}, "m5 m6")
	checkEvents(t, l, Query{Group: "g", Limit: 2}, "m0 m1")
	checkEvents(t, l, Query{Group: "g", Limit: 2, Tail: true}, "m5 m6")
	appendTo(t, l, "g", "a", at(7)) // after the summary was made
	checkEvents(t, l, Query{Group: "g", Start: epoch.Add(6 * time.Second)}, "m6 m7")
}

func TestScopesAreApart(t *testing.T) {
	t.Parallel()
	l := openLogs(t, storetest.Memory())
	appendTo(t, l, "g", "a", at(1))
	for _, sc := range []Scope{{"000000000000", "us-east-1"}, {"111111111111", "eu-central-1"}} {
		if _, _, err := l.Events(t.Context(), sc, Query{Group: "g", Limit: 1}); countersign.KindOf(err) != countersign.NotFound {
			t.Errorf("%v: got %v, want NotFound", sc, err)
		}
	}
}

func TestPagesMeet(t *testing.T) {
	t.Parallel()
	l := openLogs(t, storetest.Memory())
	rng := rand.New(rand.NewPCG(1, 1))
	const n = 1500 // several marks
	for i := range n {
		// Nearly in order, many at the same moment, over three streams.
		e := Event{epoch.Add(time.Duration(i/4+rng.IntN(3)) * time.Millisecond), fmt.Sprint("e", i)}
		appendTo(t, l, "g", fmt.Sprint("s", rng.IntN(3)), []Event{e})
	}
	all, more := events(t, l, Query{Group: "g"})
	if len(all) != n || more {
		t.Fatalf("got %d, more %v, want %d", len(all), more, n)
	}
	if !slices.IsSortedFunc(all, func(a, b Entry) int { return a.Time.Compare(b.Time) }) || !slices.IsSortedFunc(all, func(a, b Entry) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("not in order")
	}
	var forward, backward []Entry
	for after := ""; ; {
		page, more := events(t, l, Query{Group: "g", Limit: 97, After: after})
		forward = append(forward, page...)
		if !more {
			break
		}
		after = page[len(page)-1].ID
	}
	for before := ""; ; {
		page, more := events(t, l, Query{Group: "g", Limit: 97, Before: before, Tail: true})
		backward = append(slices.Clone(page), backward...)
		if !more {
			break
		}
		before = page[0].ID
	}
	if texts(forward) != texts(all) {
		t.Error("pages forward do not add up to all")
	}
	if texts(backward) != texts(all) {
		t.Error("pages backward do not add up to all")
	}
	for _, start := range []int{0, 1, 100, 370, 374, 10_000} {
		from := epoch.Add(time.Duration(start) * time.Millisecond)
		var want []Entry
		for _, e := range all {
			if !e.Time.Before(from) {
				want = append(want, e)
			}
		}
		if got, _ := events(t, l, Query{Group: "g", Start: from}); texts(got) != texts(want) {
			t.Errorf("from %d: got %d entries, want %d", start, len(got), len(want))
		}
	}
}

func TestPageIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	l := openLogs(t, storetest.Memory())
	for i := range 30 {
		appendTo(t, l, "g", "s", []Event{{epoch.Add(time.Duration(i) * time.Second), strings.Repeat("x", 200<<10)}})
	}
	page, more := events(t, l, Query{Group: "g"})
	if len(page) != 5 || !more {
		t.Errorf("got %d entries of 200 KiB, more %v; want 5 in 1 MiB", len(page), more)
	}
}

func TestLongMessageIsCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	l := openLogs(t, storetest.Memory())
	appendTo(t, l, "g", "s", []Event{{epoch, strings.Repeat("é", MaxEvent)}, {epoch, "bad \xff byte"}})
	es, _ := events(t, l, Query{Group: "g"})
	if len(es) != 2 || len(es[0].Message) > MaxEvent || len(es[0].Message) < MaxEvent-1 || strings.Trim(es[0].Message, "é") != "" {
		t.Errorf("got %d entries, the first of %d bytes", len(es), len(es[0].Message))
	}
	if got := es[1].Message; got != "bad \uFFFD byte" {
		t.Errorf("got %q", got)
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	l := openLogs(t, storetest.Memory())
	appendTo(t, l, "g", "b", at(5, 1))
	appendTo(t, l, "g", "a", at(3))
	if err := l.CreateStream(t.Context(), here, "g", "c"); err != nil {
		t.Fatal(err)
	}
	list := func(q StreamQuery) string {
		t.Helper()
		q.Group = "g"
		if q.Limit == 0 {
			q.Limit = 50
		}
		ss, more, err := l.Streams(t.Context(), here, q)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, s := range ss {
			b.WriteString(s.Name)
		}
		if more {
			b.WriteByte('+')
		}
		return b.String()
	}
	for _, tt := range []struct {
		q    StreamQuery
		want string
	}{
		{StreamQuery{}, "abc"},
		{StreamQuery{Down: true}, "cba"},
		{StreamQuery{ByTime: true}, "cab"},
		{StreamQuery{ByTime: true, Down: true}, "bac"},
		{StreamQuery{Limit: 2}, "ab+"},
		{StreamQuery{After: "b"}, "c"},
		{StreamQuery{ByTime: true, Down: true, After: "b", Limit: 1}, "a+"},
		{StreamQuery{Prefix: "b"}, "b"},
	} {
		if got := list(tt.q); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.q, got, tt.want)
		}
	}
	ss, _, err := l.Streams(t.Context(), here, StreamQuery{Group: "g", Limit: 50})
	if err != nil {
		t.Fatal(err)
	}
	if b := ss[1]; !b.First.Equal(epoch.Add(time.Second)) || !b.Last.Equal(epoch.Add(5*time.Second)) || !b.Ingested.Equal(epoch) || !b.Created.Equal(epoch) {
		t.Errorf("got %+v", b)
	}
	if c := ss[2]; !c.Last.IsZero() {
		t.Errorf("an empty stream has a last event: %+v", c)
	}
	g, err := l.Group(t.Context(), here, "g")
	if err != nil || g.StoredBytes != 3*(2+Overhead) {
		t.Errorf("got %+v, %v", g, err)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	l := openLogs(t, storetest.Memory())
	ctx := t.Context()
	for _, n := range []string{"/aws/lambda/b", "/aws/lambda/a", "/aws/lambda-c", "z"} {
		if err := l.CreateGroup(ctx, here, n, "", map[string]string{"n": n}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.CreateGroup(ctx, here, "z", "", nil); countersign.KindOf(err) != countersign.Exists || err.Error() != "The specified log group already exists" {
		t.Errorf("got %v", err)
	}
	for _, tt := range []struct {
		q    GroupQuery
		want string
	}{
		{GroupQuery{Limit: 9}, "/aws/lambda-c /aws/lambda/a /aws/lambda/b z"},
		{GroupQuery{Limit: 9, Prefix: "/aws/lambda/"}, "/aws/lambda/a /aws/lambda/b"},
		{GroupQuery{Limit: 9, Prefix: "/aws/lambda", After: "/aws/lambda/a"}, "/aws/lambda/b"},
		{GroupQuery{Limit: 1, Prefix: "/aws/lambda/"}, "/aws/lambda/a +"},
		{GroupQuery{Limit: 2, Contains: "LAMBDA/"}, "/aws/lambda/a /aws/lambda/b"},
		{GroupQuery{Limit: 9, Prefix: "y"}, ""},
	} {
		gs, more, err := l.Groups(ctx, here, tt.q)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, g := range gs {
			names = append(names, g.Name)
		}
		if more {
			names = append(names, "+")
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.q, got, tt.want)
		}
	}
	if err := l.UpdateGroup(ctx, here, "z", func(g *Group) error { g.RetentionDays, g.Tags = 7, nil; return nil }); err != nil {
		t.Fatal(err)
	}
	if g, err := l.Group(t.Context(), here, "z"); err != nil || g.RetentionDays != 7 || g.Tags != nil {
		t.Errorf("got %+v, %v", g, err)
	}
	if err := l.UpdateGroup(ctx, here, "y", func(*Group) error { return nil }); countersign.KindOf(err) != countersign.NotFound {
		t.Errorf("got %v", err)
	}
	if err := l.CreateStream(ctx, here, "y", "s"); countersign.KindOf(err) != countersign.NotFound {
		t.Errorf("got %v", err)
	}
}

func TestExpiredEventsAreNotShown(t *testing.T) {
	t.Parallel()
	l := openLogs(t, storetest.Memory())
	appendTo(t, l, "g", "s", []Event{{epoch.AddDate(0, 0, -8), "old"}, {epoch.AddDate(0, 0, -6), "new"}})
	checkEvents(t, l, Query{Group: "g"}, "old new")
	if err := l.UpdateGroup(t.Context(), here, "g", func(g *Group) error { g.RetentionDays = 7; return nil }); err != nil {
		t.Fatal(err)
	}
	checkEvents(t, l, Query{Group: "g"}, "new")
}

func TestExpireForgetsSilentStreams(t *testing.T) {
	t.Parallel()
	st := storetest.Memory()
	l := openLogs(t, st)
	ctx := t.Context()
	appendTo(t, l, "g", "silent", []Event{{epoch.AddDate(0, 0, -9), "old"}, {epoch.AddDate(0, 0, -8), "old"}})
	appendTo(t, l, "g", "alive", []Event{{epoch.AddDate(0, 0, -8), "old"}, {epoch, "new"}})
	appendTo(t, l, "kept", "silent", []Event{{epoch.AddDate(0, 0, -8), "old"}})
	if err := l.UpdateGroup(ctx, here, "g", func(g *Group) error { g.RetentionDays = 7; return nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 { // expiring twice is expiring once
		if err := l.Expire(ctx); err != nil {
			t.Fatal(err)
		}
	}
	log, err := st.Log(ctx, "log-events")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[target]int{{here, "g", "silent"}: 0, {here, "g", "alive"}: 2, {here, "kept", "silent"}: 1} {
		s, _ := l.lookup(name)
		got := 0
		for _, err := range log.Read(ctx, s.subject(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if got != want {
			t.Errorf("%s/%s: got %d records on disk, want %d", name.group, name.stream, got, want)
		}
	}
	if g, err := l.Group(ctx, here, "g"); err != nil || g.StoredBytes != 2*(3+Overhead) {
		t.Errorf("got %+v, %v", g, err)
	}
	appendTo(t, l, "g", "silent", at(1))
	checkEvents(t, l, Query{Group: "g"}, "new m1")
}

// What was flushed is there after a stop that nobody announced, and so is its
// place in the summaries.
func TestFlushedSurvivesACrash(t *testing.T) {
	t.Parallel()
	st := storetest.Memory()
	crashed, err := Open(t.Context(), st, Options{Now: func() time.Time { return epoch }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = crashed.Close(context.Background()) }) // its summaries are out of date by then
	appendTo(t, crashed, "g", "s", at(1))
	if _, _, err := crashed.Streams(t.Context(), here, StreamQuery{Group: "g", Limit: 1}); err != nil {
		t.Fatal(err)
	}
	appendTo(t, crashed, "g", "s", at(2, 3))
	if err := crashed.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := openLogs(t, st)
	checkEvents(t, l, Query{Group: "g", Start: epoch.Add(2 * time.Second)}, "m2 m3")
	ss, _, err := l.Streams(t.Context(), here, StreamQuery{Group: "g", Limit: 1})
	if err != nil || len(ss) != 1 || !ss[0].Last.Equal(epoch.Add(3*time.Second)) {
		t.Errorf("got %+v, %v", ss, err)
	}
}

// Many writers and readers at once, some of them deleting: nobody sees an
// event twice, out of order or under another stream's name.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	l := openLogs(t, storetest.Memory())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				if err := l.Append(t.Context(), here, "g", fmt.Sprint(w), []Event{{epoch.Add(time.Duration(i) * time.Millisecond), fmt.Sprint(w, " ", i)}}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 20 {
				es, _, err := l.Events(t.Context(), here, Query{Group: "g", Limit: 1000})
				if err != nil && countersign.KindOf(err) != countersign.NotFound {
					t.Error(err)
				}
				seen := map[string]bool{}
				for i, e := range es {
					if seen[e.ID] || i > 0 && es[i-1].ID >= e.ID || !strings.HasPrefix(e.Message, e.Stream+" ") {
						t.Errorf("entry %d is %+v", i, e)
					}
					seen[e.ID] = true
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			if err := l.DeleteStream(t.Context(), here, "g", "3"); err != nil && countersign.KindOf(err) != countersign.NotFound {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	for w := range 3 {
		if es, _ := events(t, l, Query{Group: "g", Streams: []string{fmt.Sprint(w)}}); len(es) != 100 {
			t.Errorf("stream %d: got %d entries, want 100", w, len(es))
		}
	}
}

// What was deleted stays away when its name comes back.
func TestDeletedAndMadeAgainIsEmpty(t *testing.T) {
	t.Parallel()
	l := openLogs(t, storetest.Memory())
	ctx := t.Context()
	appendTo(t, l, "g", "a", at(1))
	appendTo(t, l, "g", "b", at(2))
	if err := l.DeleteStream(ctx, here, "g", "a"); err != nil {
		t.Fatal(err)
	}
	checkEvents(t, l, Query{Group: "g"}, "m2")
	if err := l.DeleteStream(ctx, here, "g", "a"); countersign.KindOf(err) != countersign.NotFound {
		t.Errorf("got %v", err)
	}
	appendTo(t, l, "g", "a", at(3))
	checkEvents(t, l, Query{Group: "g"}, "m2 m3")
	appendTo(t, l, "g", "a", at(4)) // still in the buffer, perhaps
	if err := l.DeleteGroup(ctx, here, "g"); err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteGroup(ctx, here, "g"); countersign.KindOf(err) != countersign.NotFound {
		t.Errorf("got %v", err)
	}
	appendTo(t, l, "g", "b", at(5))
	checkEvents(t, l, Query{Group: "g"}, "m5")
}

// A graceful stop loses nothing, and a start finds events, order and summary.
func TestRestart(t *testing.T) {
	t.Parallel()
	st := storetest.Memory()
	l, err := Open(t.Context(), st, Options{Now: func() time.Time { return epoch }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		appendTo(t, l, "g", fmt.Sprint(i%7), at(i))
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(t.Context(), here, "g", "s", at(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	again := openLogs(t, st)
	appendTo(t, again, "g", "0", at(100))
	es, _ := events(t, again, Query{Group: "g"})
	if len(es) != 101 || es[100].Message != "m100" {
		t.Errorf("got %d entries", len(es))
	}
	checkEvents(t, again, Query{Group: "g", Start: epoch.Add(99 * time.Second)}, "m99 m100")
}

// The summary kept at a graceful stop is where the next start goes on.
func TestRestartKeepsSummaries(t *testing.T) {
	t.Parallel()
	st := storetest.Memory()
	l, err := Open(t.Context(), st, Options{Now: func() time.Time { return epoch }})
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, l, "g", "s", at(1, 2))
	if _, _, err := l.Events(t.Context(), here, Query{Group: "g", Limit: 9}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := openLogs(t, st)
	if g, err := again.Group(t.Context(), here, "g"); err != nil || g.StoredBytes != 2*(2+Overhead) {
		t.Errorf("got %+v, %v", g, err)
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	p := place{epoch.UnixMilli(), 1<<64 - 1, 1<<64 - 1}
	s := p.String()
	if len(s) != placeDigits {
		t.Errorf("got %d digits", len(s))
	}
	if q, ok := parsePlace(s); !ok || q != p {
		t.Errorf("got %v, want %v", q, p)
	}
	for _, bad := range []string{"", "1", s + "0", strings.Repeat("9", placeDigits), strings.Replace(s, "1", "x", 1)} {
		if _, ok := parsePlace(bad); ok {
			t.Errorf("%q: accepted", bad)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	l, err := Open(b.Context(), storetest.Memory(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	es := []Event{{epoch, "START RequestId: 8f507cfc-example Version: $LATEST"}, {epoch, "hello"}, {epoch, "END RequestId"}, {epoch, "REPORT RequestId"}}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Append(b.Context(), here, "g", "s", es); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
