package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"countersign"
	"countersign/internal/observe"
	"countersign/internal/wire"
	"countersign/internal/wire/logs"
)

// logGroups are the operations of CloudWatch Logs on groups and streams, and,
// in logs_events.go, on events.
type logGroups struct{ logs *observe.Logs }

// registerLogs gives s the operations of CloudWatch Logs that are built.
func registerLogs(s *wire.Server, l *observe.Logs) {
	h := logGroups{l}
	wire.Handle(s, logs.Service, "CreateLogGroup", h.createGroup)
	wire.Handle(s, logs.Service, "DeleteLogGroup", h.deleteGroup)
	wire.Handle(s, logs.Service, "DescribeLogGroups", h.describeGroups)
	wire.Handle(s, logs.Service, "CreateLogStream", h.createStream)
	wire.Handle(s, logs.Service, "DeleteLogStream", h.deleteStream)
	wire.Handle(s, logs.Service, "DescribeLogStreams", h.describeStreams)
	wire.Handle(s, logs.Service, "PutRetentionPolicy", h.putRetention)
	wire.Handle(s, logs.Service, "DeleteRetentionPolicy", h.deleteRetention)
	wire.Handle(s, logs.Service, "TagResource", h.tag)
	wire.Handle(s, logs.Service, "UntagResource", h.untag)
	wire.Handle(s, logs.Service, "ListTagsForResource", h.listTags)
	wire.Handle(s, logs.Service, "TagLogGroup", h.tagGroup)
	wire.Handle(s, logs.Service, "UntagLogGroup", h.untagGroup)
	wire.Handle(s, logs.Service, "ListTagsLogGroup", h.listGroupTags)
	wire.Handle(s, logs.Service, "PutLogEvents", h.putEvents)
	wire.Handle(s, logs.Service, "GetLogEvents", h.getEvents)
	wire.Handle(s, logs.Service, "FilterLogEvents", h.filterEvents)
}

// logsFaults gives each kind of no the name CloudWatch Logs has for it.
var logsFaults = faults{
	countersign.Invalid:  {Code: "InvalidParameterException"},
	countersign.NotFound: {Code: "ResourceNotFoundException"},
	countersign.Exists:   {Code: "ResourceAlreadyExistsException"},
	countersign.Conflict: {Code: "OperationAbortedException"},
	countersign.TooLarge: {Code: "TooManyTagsException"},
	countersign.NotBuilt: notImplemented,
}

func invalid(format string, args ...any) error {
	return countersign.Errorf(countersign.Invalid, format, args...)
}

func logScope(c *wire.Call) observe.Scope { return observe.Scope{Account: c.Account, Region: c.Region} }

// groupARN is the name of a log group without the ":*" that most of the API
// puts behind it.
func groupARN(c *wire.Call, group string) string {
	return countersign.ARN{Partition: "aws", Service: "logs", Region: c.Region, Account: c.Account, Resource: "log-group:" + group}.String()
}

// groupOf takes the group's name out of an ARN, with or without ":*".
func groupOf(c *wire.Call, arn string) (string, error) {
	a, err := countersign.ParseARN(arn)
	name, ok := strings.CutPrefix(a.Resource, "log-group:")
	name = strings.TrimSuffix(name, ":*")
	if err != nil || !ok || name == "" || a.Service != "logs" || strings.Contains(name, ":") {
		return "", invalid("Invalid resource arn: %s", arn)
	}
	if a.Region != c.Region || a.Account != c.Account {
		// What lies elsewhere is nothing this endpoint knows of.
		return "", countersign.Errorf(countersign.NotFound, "The specified log group does not exist.")
	}
	return name, nil
}

// groupNamed settles which of the two ways a request names its group.
func groupNamed(c *wire.Call, name, identifier *string) (string, error) {
	switch {
	case name != nil && identifier != nil:
		return "", invalid("LogGroup name and LogGroup ARN are mutually exclusive parameters.")
	case name != nil:
		return *name, nil
	case identifier == nil:
		return "", invalid("Either LogGroup name or LogGroup ARN must be specified.")
	case strings.HasPrefix(*identifier, "arn:"):
		return groupOf(c, *identifier)
	}
	return *identifier, nil
}

// Tokens of lists are the last name of the page before.
func pageToken(last string) *string {
	return new(base64.RawURLEncoding.EncodeToString([]byte(last)))
}

func afterToken(token *string) (string, error) {
	if token == nil {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(*token)
	if err != nil || len(b) == 0 {
		return "", badToken()
	}
	return string(b), nil
}

func badToken() error { return invalid("The specified nextToken is invalid.") }

func limitOr(limit *int64, otherwise int) int {
	if limit == nil {
		return otherwise
	}
	return int(*limit)
}

func (h logGroups) createGroup(ctx context.Context, c *wire.Call, in *logs.CreateLogGroupRequest) (*wire.None, error) {
	if in.KmsKeyId != nil {
		return nil, notBuilt("A log group under a KMS key")
	}
	if len(in.Tags) > maxLogTags {
		return nil, tooManyTags()
	}
	class := val(in.LogGroupClass)
	if class == "STANDARD" {
		class = ""
	}
	return nil, h.logs.CreateGroup(ctx, logScope(c), *in.LogGroupName, class, in.Tags)
}

func (h logGroups) deleteGroup(ctx context.Context, c *wire.Call, in *logs.DeleteLogGroupRequest) (*wire.None, error) {
	return nil, h.logs.DeleteGroup(ctx, logScope(c), *in.LogGroupName)
}

func (h logGroups) describeGroups(ctx context.Context, c *wire.Call, in *logs.DescribeLogGroupsRequest) (*logs.DescribeLogGroupsResponse, error) {
	if in.LogGroupNamePrefix != nil && in.LogGroupNamePattern != nil {
		return nil, invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	}
	if val(in.IncludeLinkedAccounts) {
		return nil, notBuilt("Listing log groups of linked accounts")
	}
	after, err := afterToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	q := observe.GroupQuery{Prefix: val(in.LogGroupNamePrefix), Contains: val(in.LogGroupNamePattern), After: after, Limit: limitOr(in.Limit, 50)}
	groups, more, err := h.logs.Groups(ctx, logScope(c), q)
	if err != nil {
		return nil, err
	}
	out := &logs.DescribeLogGroupsResponse{LogGroups: []*logs.LogGroup{}}
	if more {
		out.NextToken = pageToken(groups[len(groups)-1].Name)
	}
	for _, g := range groups {
		class := g.Class
		if class == "" {
			class = "STANDARD"
		}
		if in.LogGroupClass != nil && *in.LogGroupClass != class {
			continue // a page may be short; the token leads on
		}
		lg := &logs.LogGroup{
			LogGroupName:      new(g.Name),
			CreationTime:      new(g.Created.UnixMilli()),
			MetricFilterCount: new(int64(0)),
			Arn:               new(groupARN(c, g.Name) + ":*"),
			LogGroupArn:       new(groupARN(c, g.Name)),
			StoredBytes:       new(g.StoredBytes),
			LogGroupClass:     new(class),
		}
		if g.RetentionDays > 0 {
			lg.RetentionInDays = new(int64(g.RetentionDays))
		}
		out.LogGroups = append(out.LogGroups, lg)
	}
	return out, nil
}

func (h logGroups) createStream(ctx context.Context, c *wire.Call, in *logs.CreateLogStreamRequest) (*wire.None, error) {
	return nil, h.logs.CreateStream(ctx, logScope(c), *in.LogGroupName, *in.LogStreamName)
}

func (h logGroups) deleteStream(ctx context.Context, c *wire.Call, in *logs.DeleteLogStreamRequest) (*wire.None, error) {
	return nil, h.logs.DeleteStream(ctx, logScope(c), *in.LogGroupName, *in.LogStreamName)
}

func (h logGroups) describeStreams(ctx context.Context, c *wire.Call, in *logs.DescribeLogStreamsRequest) (*logs.DescribeLogStreamsResponse, error) {
	group, err := groupNamed(c, in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	byTime := val(in.OrderBy) == "LastEventTime"
	if byTime && in.LogStreamNamePrefix != nil {
		return nil, invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
	}
	after, err := afterToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	streams, more, err := h.logs.Streams(ctx, logScope(c), observe.StreamQuery{
		Group: group, Prefix: val(in.LogStreamNamePrefix), ByTime: byTime, Down: val(in.Descending), After: after, Limit: limitOr(in.Limit, 50),
	})
	if err != nil {
		return nil, err
	}
	out := &logs.DescribeLogStreamsResponse{LogStreams: []*logs.LogStream{}}
	if more {
		out.NextToken = pageToken(streams[len(streams)-1].Name)
	}
	for _, s := range streams {
		out.LogStreams = append(out.LogStreams, &logs.LogStream{
			LogStreamName:       new(s.Name),
			CreationTime:        new(s.Created.UnixMilli()),
			FirstEventTimestamp: milli(s.First),
			LastEventTimestamp:  milli(s.Last),
			LastIngestionTime:   milli(s.Ingested),
			UploadSequenceToken: new(sequenceToken),
			Arn:                 new(groupARN(c, group) + ":log-stream:" + s.Name),
			StoredBytes:         new(int64(0)), // CloudWatch reports none by stream since 2019
		})
	}
	return out, nil
}

// milli is t in Unix milliseconds, and absent for no time.
func milli(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return new(t.UnixMilli())
}

// retentions are the numbers of days CloudWatch offers.
var retentions = []int64{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

func (h logGroups) putRetention(ctx context.Context, c *wire.Call, in *logs.PutRetentionPolicyRequest) (*wire.None, error) {
	days := *in.RetentionInDays
	if !slices.Contains(retentions, days) {
		return nil, invalid("1 validation error detected: Value '%d' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: %s", days, strings.ReplaceAll(fmt.Sprint(retentions), " ", ", "))
	}
	return nil, h.logs.UpdateGroup(ctx, logScope(c), *in.LogGroupName, func(g *observe.Group) error {
		g.RetentionDays = int(days)
		return nil
	})
}

func (h logGroups) deleteRetention(ctx context.Context, c *wire.Call, in *logs.DeleteRetentionPolicyRequest) (*wire.None, error) {
	return nil, h.logs.UpdateGroup(ctx, logScope(c), *in.LogGroupName, func(g *observe.Group) error {
		g.RetentionDays = 0
		return nil
	})
}

// maxLogTags is the most tags of a log group.
const maxLogTags = 50

func tooManyTags() error {
	return countersign.Errorf(countersign.TooLarge, "A resource can have a maximum of %d tags.", maxLogTags)
}

func (h logGroups) addTags(ctx context.Context, c *wire.Call, group string, tags map[string]string) error {
	return h.logs.UpdateGroup(ctx, logScope(c), group, func(g *observe.Group) error {
		if g.Tags == nil {
			g.Tags = map[string]string{}
		}
		maps.Copy(g.Tags, tags)
		if len(g.Tags) > maxLogTags {
			return tooManyTags()
		}
		return nil
	})
}

func (h logGroups) removeTags(ctx context.Context, c *wire.Call, group string, keys []string) error {
	return h.logs.UpdateGroup(ctx, logScope(c), group, func(g *observe.Group) error {
		for _, k := range keys {
			delete(g.Tags, k)
		}
		return nil
	})
}

func (h logGroups) tags(ctx context.Context, c *wire.Call, group string) (map[string]string, error) {
	g, err := h.logs.Group(ctx, logScope(c), group)
	if err != nil {
		return nil, err
	}
	if g.Tags == nil {
		return map[string]string{}, nil
	}
	return g.Tags, nil
}

func (h logGroups) tag(ctx context.Context, c *wire.Call, in *logs.TagResourceRequest) (*wire.None, error) {
	group, err := groupOf(c, *in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return nil, h.addTags(ctx, c, group, in.Tags)
}

func (h logGroups) untag(ctx context.Context, c *wire.Call, in *logs.UntagResourceRequest) (*wire.None, error) {
	group, err := groupOf(c, *in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return nil, h.removeTags(ctx, c, group, in.TagKeys)
}

func (h logGroups) listTags(ctx context.Context, c *wire.Call, in *logs.ListTagsForResourceRequest) (*logs.ListTagsForResourceResponse, error) {
	group, err := groupOf(c, *in.ResourceArn)
	if err != nil {
		return nil, err
	}
	tags, err := h.tags(ctx, c, group)
	return &logs.ListTagsForResourceResponse{Tags: tags}, err
}

func (h logGroups) tagGroup(ctx context.Context, c *wire.Call, in *logs.TagLogGroupRequest) (*wire.None, error) {
	return nil, h.addTags(ctx, c, *in.LogGroupName, in.Tags)
}

func (h logGroups) untagGroup(ctx context.Context, c *wire.Call, in *logs.UntagLogGroupRequest) (*wire.None, error) {
	return nil, h.removeTags(ctx, c, *in.LogGroupName, in.Tags)
}

func (h logGroups) listGroupTags(ctx context.Context, c *wire.Call, in *logs.ListTagsLogGroupRequest) (*logs.ListTagsLogGroupResponse, error) {
	tags, err := h.tags(ctx, c, *in.LogGroupName)
	return &logs.ListTagsLogGroupResponse{Tags: tags}, err
}
