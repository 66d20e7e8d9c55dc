package api

import (
	"context"
	"strings"
	"time"

	"countersign/internal/observe"
	"countersign/internal/wire"
	"countersign/internal/wire/logs"
)

// Limits of PutLogEvents and of a page of events.
const (
	maxLogBatch   = 1 << 20 // bytes, 26 a message included
	maxLogSpan    = 24 * time.Hour
	maxLogAge     = 14 * 24 * time.Hour
	maxLogAhead   = 2 * time.Hour
	maxLogEvents  = 10_000
	sequenceToken = "49590302700665300000000000000000000000000000000000000000" // always accepted, no longer used
)

// putEvents answers when the events are durable.
func (h logGroups) putEvents(ctx context.Context, c *wire.Call, in *logs.PutLogEventsRequest) (*logs.PutLogEventsResponse, error) {
	sc, group, stream := logScope(c), *in.LogGroupName, *in.LogStreamName
	g, err := h.logs.Group(ctx, sc, group)
	if err != nil {
		return nil, err
	}
	if err := h.logs.HasStream(sc, group, stream); err != nil {
		return nil, err
	}
	total, last := 0, int64(0)
	for i, e := range in.LogEvents {
		size := len(*e.Message) + observe.Overhead
		if size > observe.MaxEvent+observe.Overhead {
			return nil, invalid("Log event too large: %d bytes exceeds limit of %d", size, observe.MaxEvent+observe.Overhead)
		}
		if total += size; total > maxLogBatch {
			return nil, invalid("Upload too large: %d bytes exceeds limit of %d", total, maxLogBatch)
		}
		if i > 0 && *e.Timestamp < last {
			return nil, invalid("Log events in a single PutLogEvents request must be in chronological order.")
		}
		last = *e.Timestamp
	}
	if time.Duration(last-*in.LogEvents[0].Timestamp)*time.Millisecond > maxLogSpan {
		return nil, invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
	}

	// What is too old, expired or too far ahead is left out and named; the
	// rest is taken. The events are in order, so that each is one end.
	now := c.Received
	out := &logs.PutLogEventsResponse{NextSequenceToken: new(sequenceToken)}
	var rejected logs.RejectedLogEventsInfo
	var events []observe.Event
	for i, e := range in.LogEvents {
		at := time.UnixMilli(*e.Timestamp)
		switch {
		case at.After(now.Add(maxLogAhead)):
			if rejected.TooNewLogEventStartIndex == nil {
				rejected.TooNewLogEventStartIndex = new(int64(i))
			}
		case g.RetentionDays > 0 && at.Before(now.AddDate(0, 0, -g.RetentionDays)):
			rejected.ExpiredLogEventEndIndex = new(int64(i + 1))
		case at.Before(now.Add(-maxLogAge)):
			rejected.TooOldLogEventEndIndex = new(int64(i + 1))
		default:
			events = append(events, observe.Event{Time: at, Message: *e.Message})
		}
	}
	if len(events) < len(in.LogEvents) {
		out.RejectedLogEventsInfo = &rejected
	}
	if err := h.logs.Append(ctx, sc, group, stream, events); err != nil {
		return nil, err
	}
	return out, h.logs.Flush(ctx)
}

// Tokens of GetLogEvents say which way and from which event: "f/<id>/s" goes on
// behind it, "b/<id>/s" in front of it.
func eventToken(way, id string) *string { return new(way + "/" + id + "/s") }

func parseEventToken(token *string) (way, id string, err error) {
	if token == nil {
		return "", "", nil
	}
	way, id, _ = strings.Cut(*token, "/")
	id = strings.TrimSuffix(id, "/s")
	if way != "f" && way != "b" || !observe.IsEventID(id) {
		return "", "", badToken()
	}
	return way, id, nil
}

// getEvents pages through one stream in both directions. At either end it
// gives back the token it was called with, which is how clients know.
func (h logGroups) getEvents(ctx context.Context, c *wire.Call, in *logs.GetLogEventsRequest) (*logs.GetLogEventsResponse, error) {
	group, err := groupNamed(c, in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	way, id, err := parseEventToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	q := observe.Query{
		Group: group, Streams: []string{*in.LogStreamName}, Start: fromMilli(in.StartTime), End: fromMilli(in.EndTime),
		Limit: limitOr(in.Limit, maxLogEvents),
	}
	switch way {
	case "f":
		q.After = id
	case "b":
		q.Before, q.Tail = id, true
	default:
		q.Tail = !val(in.StartFromHead)
		id = observe.FirstEventID // for a stream without events: everything is behind it
	}
	entries, _, err := h.logs.Events(ctx, logScope(c), q)
	if err != nil {
		return nil, err
	}
	out := &logs.GetLogEventsResponse{Events: []*logs.OutputLogEvent{}, NextForwardToken: eventToken("f", id), NextBackwardToken: eventToken("b", id)}
	if n := len(entries); n > 0 {
		out.NextForwardToken, out.NextBackwardToken = eventToken("f", entries[n-1].ID), eventToken("b", entries[0].ID)
	}
	for _, e := range entries {
		out.Events = append(out.Events, &logs.OutputLogEvent{
			Timestamp: new(e.Time.UnixMilli()), Message: new(e.Message), IngestionTime: new(e.Ingested.UnixMilli()),
		})
	}
	return out, nil
}

// filterEvents searches a group's streams, always interleaved.
func (h logGroups) filterEvents(ctx context.Context, c *wire.Call, in *logs.FilterLogEventsRequest) (*logs.FilterLogEventsResponse, error) {
	group, err := groupNamed(c, in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	if in.LogStreamNames != nil && in.LogStreamNamePrefix != nil {
		return nil, invalid("LogStream names and LogStream name prefix are mutually exclusive parameters.")
	}
	pattern, err := observe.ParsePattern(val(in.FilterPattern))
	if err != nil {
		return nil, err
	}
	if in.NextToken != nil && !observe.IsEventID(*in.NextToken) {
		return nil, badToken()
	}
	q := observe.Query{
		Group: group, Streams: in.LogStreamNames, Prefix: val(in.LogStreamNamePrefix),
		Start: fromMilli(in.StartTime), End: fromMilli(in.EndTime), Limit: limitOr(in.Limit, maxLogEvents), After: val(in.NextToken),
	}
	if !q.End.IsZero() {
		q.End = q.End.Add(time.Millisecond) // here, unlike in GetLogEvents, the end is included
	}
	if !pattern.IsZero() {
		q.Match = pattern.Match
	}
	entries, more, err := h.logs.Events(ctx, logScope(c), q)
	if err != nil {
		return nil, err
	}
	out := &logs.FilterLogEventsResponse{Events: []*logs.FilteredLogEvent{}, SearchedLogStreams: []*logs.SearchedLogStream{}}
	if more {
		out.NextToken = new(entries[len(entries)-1].ID)
	}
	for _, e := range entries {
		out.Events = append(out.Events, &logs.FilteredLogEvent{
			LogStreamName: new(e.Stream), Timestamp: new(e.Time.UnixMilli()), Message: new(e.Message),
			IngestionTime: new(e.Ingested.UnixMilli()), EventId: new(e.ID),
		})
	}
	return out, nil
}

// fromMilli reads a bound. Zero is the beginning of time as the API counts it,
// and no bound.
func fromMilli(ms *int64) time.Time {
	if ms == nil || *ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(*ms)
}
