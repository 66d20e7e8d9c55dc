package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"countersign/internal/guard"
	"countersign/internal/observe"
	"countersign/internal/store"
	"countersign/internal/store/storetest"
	"countersign/internal/testenv"
	"countersign/internal/wire"
	"countersign/internal/wire/logs"
	"countersign/internal/wire/sts"
)

// A logsServer is CloudWatch Logs and STS behind real signatures.
type logsServer struct {
	logs  *observe.Logs
	url   string
	creds guard.Credentials
}

func newLogsServer(t *testing.T, st store.Store) logsServer {
	t.Helper()
	root, err := guard.OpenRoot(t.TempDir(), guard.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := observe.Open(t.Context(), st, observe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	auth := &guard.Authenticator{Keys: root}
	s := wire.NewServer(wire.Config{Authenticate: auth.Authenticate, Translate: Translate}, logs.Service, sts.Service)
	registerLogs(s, l)
	registerSTS(s)
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return logsServer{l, srv.URL, root.Credentials()}
}

func (s logsServer) config(edit ...func(*aws.Config)) aws.Config {
	cfg := aws.Config{
		Region:           "eu-central-1",
		BaseEndpoint:     &s.url,
		Credentials:      credentials.NewStaticCredentialsProvider(s.creds.AccessKeyID, s.creds.SecretAccessKey, ""),
		RetryMaxAttempts: 1,
	}
	for _, e := range edit {
		e(&cfg)
	}
	return cfg
}

func (s logsServer) client() *cloudwatchlogs.Client {
	return cloudwatchlogs.NewFromConfig(s.config())
}

// checkAWSError checks the code, and the message where it is not empty.
func checkAWSError(t *testing.T, what string, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Errorf("%s: got %v, want %s", what, err, code)
		return
	}
	if api.ErrorCode() != code || message != "" && api.ErrorMessage() != message {
		t.Errorf("%s: got %s %q, want %s %q", what, api.ErrorCode(), api.ErrorMessage(), code, message)
	}
}

func TestGetCallerIdentity(t *testing.T) {
	t.Parallel()
	s := newLogsServer(t, storetest.Memory())
	out, err := awssts.NewFromConfig(s.config()).GetCallerIdentity(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if *out.Arn != "arn:aws:iam::000000000000:root" || *out.UserId != "000000000000" || *out.Account != "000000000000" {
		t.Errorf("got %s %s %s", *out.Arn, *out.UserId, *out.Account)
	}
	// A presigned URL, as EKS and Vault send them.
	p, err := awssts.NewPresignClient(awssts.NewFromConfig(s.config())).PresignGetCallerIdentity(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	body := get(t, p.URL)
	arn, id, account := strings.Index(body, "<Arn>"), strings.Index(body, "<UserId>"), strings.Index(body, "<Account>")
	if arn < 0 || id < arn || account < id {
		t.Errorf("got %s, want Arn, UserId, Account in this order", body)
	}
	if body := get(t, strings.Replace(p.URL, "Version=2011-06-15", "Version=2011-06-14", 1)); !strings.Contains(body, "<Code>SignatureDoesNotMatch</Code>") && !strings.Contains(body, "<Code>InvalidAction</Code>") {
		t.Errorf("a changed URL: got %s", body)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWrongCredentialsPerService(t *testing.T) {
	t.Parallel()
	s := newLogsServer(t, storetest.Memory())
	wrong := s.config(func(c *aws.Config) {
		c.Credentials = credentials.NewStaticCredentialsProvider(s.creds.AccessKeyID, strings.Repeat("w", 40), "")
	})
	nobody := s.config(func(c *aws.Config) {
		c.Credentials = credentials.NewStaticCredentialsProvider("test", "test", "")
	})
	_, err := awssts.NewFromConfig(wrong).GetCallerIdentity(t.Context(), nil)
	checkAWSError(t, "sts", err, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	_, err = cloudwatchlogs.NewFromConfig(wrong).DescribeLogGroups(t.Context(), nil)
	checkAWSError(t, "logs", err, "InvalidSignatureException", "")
	_, err = awssts.NewFromConfig(nobody).GetCallerIdentity(t.Context(), nil)
	checkAWSError(t, "sts", err, "InvalidClientTokenId", "The security token included in the request is invalid.")
	_, err = cloudwatchlogs.NewFromConfig(nobody).DescribeLogGroups(t.Context(), nil)
	checkAWSError(t, "logs", err, "UnrecognizedClientException", "The security token included in the request is invalid.")
}

func TestLogGroupLife(t *testing.T) {
	t.Parallel()
	s := newLogsServer(t, storetest.Memory())
	c, ctx, name := s.client(), t.Context(), aws.String("/aws/lambda/hello")
	const missing, taken = "The specified log group does not exist.", "The specified log group already exists"

	create := &cloudwatchlogs.CreateLogGroupInput{LogGroupName: name, Tags: map[string]string{"team": "a"}}
	if _, err := c.CreateLogGroup(ctx, create); err != nil {
		t.Fatal(err)
	}
	_, err := c.CreateLogGroup(ctx, create)
	checkAWSError(t, "create again", err, "ResourceAlreadyExistsException", taken)
	_, err = c.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("no spaces")})
	checkAWSError(t, "bad name", err, "InvalidParameterException", "")

	describe := func() cwtypes.LogGroup {
		t.Helper()
		out, err := c.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: name})
		if err != nil || len(out.LogGroups) != 1 {
			t.Fatalf("got %v, %v", out, err)
		}
		return out.LogGroups[0]
	}
	g := describe()
	const arn = "arn:aws:logs:eu-central-1:000000000000:log-group:/aws/lambda/hello"
	if *g.Arn != arn+":*" || *g.LogGroupArn != arn || g.RetentionInDays != nil || g.LogGroupClass != "STANDARD" || *g.StoredBytes != 0 || time.Since(time.UnixMilli(*g.CreationTime)).Abs() > time.Minute {
		t.Errorf("got %+v", g)
	}
	if _, err := c.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: name, RetentionInDays: aws.Int32(7)}); err != nil {
		t.Fatal(err)
	}
	if g := describe(); g.RetentionInDays == nil || *g.RetentionInDays != 7 {
		t.Errorf("got retention %v", g.RetentionInDays)
	}
	_, err = c.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: name, RetentionInDays: aws.Int32(8)})
	checkAWSError(t, "eight days", err, "InvalidParameterException", "")
	if _, err := c.DeleteRetentionPolicy(ctx, &cloudwatchlogs.DeleteRetentionPolicyInput{LogGroupName: name}); err != nil {
		t.Fatal(err)
	}
	if g := describe(); g.RetentionInDays != nil {
		t.Errorf("got retention %v", *g.RetentionInDays)
	}

	if _, err := c.TagResource(ctx, &cloudwatchlogs.TagResourceInput{ResourceArn: aws.String(arn), Tags: map[string]string{"env": "b"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UntagResource(ctx, &cloudwatchlogs.UntagResourceInput{ResourceArn: aws.String(arn), TagKeys: []string{"team"}}); err != nil {
		t.Fatal(err)
	}
	tags, err := c.ListTagsForResource(ctx, &cloudwatchlogs.ListTagsForResourceInput{ResourceArn: aws.String(arn)})
	if err != nil || len(tags.Tags) != 1 || tags.Tags["env"] != "b" {
		t.Errorf("got %v, %v", tags, err)
	}
	many := map[string]string{}
	for i := range 50 {
		many[fmt.Sprint(i)] = ""
	}
	_, err = c.TagResource(ctx, &cloudwatchlogs.TagResourceInput{ResourceArn: aws.String(arn), Tags: many})
	checkAWSError(t, "51 tags", err, "TooManyTagsException", "")
	_, err = c.ListTagsForResource(ctx, &cloudwatchlogs.ListTagsForResourceInput{ResourceArn: aws.String(strings.Replace(arn, "eu-central-1", "us-east-1", 1))})
	checkAWSError(t, "another region", err, "ResourceNotFoundException", missing)

	if _, err := c.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: name}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: name})
	checkAWSError(t, "delete again", err, "ResourceNotFoundException", missing)
	_, err = c.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: name, RetentionInDays: aws.Int32(7)})
	checkAWSError(t, "retention of nothing", err, "ResourceNotFoundException", missing)
	_, err = c.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: name})
	checkAWSError(t, "filter nothing", err, "ResourceNotFoundException", missing)
}

func TestDescribePages(t *testing.T) {
	t.Parallel()
	s := newLogsServer(t, storetest.Memory())
	c, ctx := s.client(), t.Context()
	var want []string
	for i := range 7 {
		n := fmt.Sprint("/g/", i)
		want = append(want, n)
		if _, err := c.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &n}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String("/g/0"), LogStreamName: aws.String(fmt.Sprint("2026/01/01/[$LATEST]", i))}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for p := cloudwatchlogs.NewDescribeLogGroupsPaginator(c, &cloudwatchlogs.DescribeLogGroupsInput{Limit: aws.Int32(3)}); p.HasMorePages(); {
		out, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range out.LogGroups {
			got = append(got, *g.LogGroupName)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	streams := 0
	for p := cloudwatchlogs.NewDescribeLogStreamsPaginator(c, &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("/g/0"), Limit: aws.Int32(2)}); p.HasMorePages(); {
		out, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		streams += len(out.LogStreams)
	}
	if streams != 7 {
		t.Errorf("got %d streams, want 7", streams)
	}
	_, err := c.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{NextToken: aws.String("%%%")})
	checkAWSError(t, "bad token", err, "InvalidParameterException", "The specified nextToken is invalid.")
	_, err = c.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{Limit: aws.Int32(51)})
	checkAWSError(t, "51 a page", err, "InvalidParameterException", "1 validation error detected: Value '51' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 50")
	_, err = c.DescribeLogStreams(ctx, &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("/g/0"), OrderBy: "LastEventTime", LogStreamNamePrefix: aws.String("a")})
	checkAWSError(t, "order with prefix", err, "InvalidParameterException", "Cannot order by LastEventTime with a logStreamNamePrefix.")
	_, err = c.DescribeLogStreams(ctx, &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("nope")})
	checkAWSError(t, "no group", err, "ResourceNotFoundException", "The specified log group does not exist.")
}

// stream makes a group and a stream and puts messages into it, a second apart,
// the first age ago.
func (s logsServer) stream(t *testing.T, group, stream string, age time.Duration, messages ...string) time.Time {
	t.Helper()
	c, ctx := s.client(), t.Context()
	_, err := c.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &group})
	if exists := new(cwtypes.ResourceAlreadyExistsException); err != nil && !errors.As(err, &exists) {
		t.Fatal(err)
	}
	if _, err := c.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &stream}); err != nil {
		t.Fatal(err)
	}
	first := time.Now().Add(-age).Truncate(time.Second)
	var events []cwtypes.InputLogEvent
	for i, m := range messages {
		events = append(events, cwtypes.InputLogEvent{Message: aws.String(m), Timestamp: aws.Int64(first.Add(time.Duration(i) * time.Second).UnixMilli())})
	}
	if _, err := c.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream, LogEvents: events}); err != nil {
		t.Fatal(err)
	}
	return first
}

func TestGetLogEventsTokens(t *testing.T) {
	t.Parallel()
	s := newLogsServer(t, storetest.Memory())
	s.stream(t, "g", "s", time.Hour, "1", "2", "3", "4", "5")
	c, ctx := s.client(), t.Context()
	page := func(head bool, token *string, limit int32) (string, *cloudwatchlogs.GetLogEventsOutput) {
		t.Helper()
		out, err := c.GetLogEvents(ctx, &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), StartFromHead: &head, NextToken: token, Limit: &limit})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, e := range out.Events {
			b.WriteString(*e.Message)
		}
		return b.String(), out
	}
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	got, out := page(false, nil, 2)
	check("tail", got, "45")
	got, before := page(false, out.NextBackwardToken, 2)
	check("before the tail", got, "23")
	got, again := page(false, before.NextForwardToken, 9)
	check("forward again", got, "45")
	got, end := page(true, again.NextForwardToken, 9)
	check("at the end", got, "")
	check("token at the end", *end.NextForwardToken, *again.NextForwardToken)
	got, first := page(false, before.NextBackwardToken, 9)
	check("the first", got, "1")
	got, begin := page(false, first.NextBackwardToken, 9)
	check("at the beginning", got, "")
	check("token at the beginning", *begin.NextBackwardToken, *first.NextBackwardToken)
	got, _ = page(true, nil, 2)
	check("head", got, "12")

	_, err := c.GetLogEvents(ctx, &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("none")})
	checkAWSError(t, "no stream", err, "ResourceNotFoundException", "The specified log stream does not exist.")
	for _, bad := range []string{"x", "f/1", "f/" + strings.Repeat("9", 56), "z/" + strings.Repeat("0", 56)} {
		_, err = c.GetLogEvents(ctx, &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), NextToken: &bad})
		checkAWSError(t, "token "+bad, err, "InvalidParameterException", "The specified nextToken is invalid.")
	}

	// A poller that began on an empty stream sees what comes.
	if _, err := c.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("empty")}); err != nil {
		t.Fatal(err)
	}
	in := &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("empty")}
	none, err := c.GetLogEvents(ctx, in)
	if err != nil || len(none.Events) != 0 || none.NextForwardToken == nil {
		t.Fatalf("got %+v, %v", none, err)
	}
	if _, err := c.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{LogGroupName: in.LogGroupName, LogStreamName: in.LogStreamName, LogEvents: []cwtypes.InputLogEvent{{Message: aws.String("first"), Timestamp: aws.Int64(time.Now().UnixMilli())}}}); err != nil {
		t.Fatal(err)
	}
	in.NextToken = none.NextForwardToken
	if some, err := c.GetLogEvents(ctx, in); err != nil || len(some.Events) != 1 {
		t.Errorf("got %+v, %v", some, err)
	}
}

func TestFilterLogEvents(t *testing.T) {
	t.Parallel()
	s := newLogsServer(t, storetest.Memory())
	first := s.stream(t, "g", "a", time.Hour, "START one", "ERROR bad key", "END one")
	s.stream(t, "g", "b", 30*time.Minute, "START two", "WARN slow", "END two")
	c, ctx := s.client(), t.Context()
	for _, tt := range []struct {
		name string
		in   cloudwatchlogs.FilterLogEventsInput
		want string
	}{
		{"all", cloudwatchlogs.FilterLogEventsInput{}, "START one|ERROR bad key|END one|START two|WARN slow|END two"},
		{"term", cloudwatchlogs.FilterLogEventsInput{FilterPattern: aws.String("START")}, "START one|START two"},
		{"phrase", cloudwatchlogs.FilterLogEventsInput{FilterPattern: aws.String(`"bad key"`)}, "ERROR bad key"},
		{"either", cloudwatchlogs.FilterLogEventsInput{FilterPattern: aws.String("?ERROR ?WARN")}, "ERROR bad key|WARN slow"},
		{"without", cloudwatchlogs.FilterLogEventsInput{FilterPattern: aws.String("one -END")}, "START one"},
		{"stream", cloudwatchlogs.FilterLogEventsInput{LogStreamNames: []string{"b"}}, "START two|WARN slow|END two"},
		{"prefix", cloudwatchlogs.FilterLogEventsInput{LogStreamNamePrefix: aws.String("a")}, "START one|ERROR bad key|END one"},
		{"end is included", cloudwatchlogs.FilterLogEventsInput{StartTime: aws.Int64(first.UnixMilli()), EndTime: aws.Int64(first.Add(time.Second).UnixMilli())}, "START one|ERROR bad key"},
		{"start", cloudwatchlogs.FilterLogEventsInput{StartTime: aws.Int64(first.Add(2 * time.Second).UnixMilli())}, "END one|START two|WARN slow|END two"},
	} {
		tt.in.LogGroupName = aws.String("g")
		tt.in.Limit = aws.Int32(2)
		var got []string
		ids := map[string]bool{}
		for p := cloudwatchlogs.NewFilterLogEventsPaginator(c, &tt.in); p.HasMorePages(); {
			out, err := p.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range out.Events {
				got = append(got, *e.Message)
				ids[*e.EventId] = true
			}
		}
		if g := strings.Join(got, "|"); g != tt.want || len(ids) != len(got) {
			t.Errorf("%s: got %q with %d ids, want %q", tt.name, g, len(ids), tt.want)
		}
	}
	_, err := c.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("g"), FilterPattern: aws.String("a:b")})
	checkAWSError(t, "bad pattern", err, "InvalidParameterException", "Invalid character(s) in term ':'")
	_, err = c.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("g"), FilterPattern: aws.String(`{ $.level = "ERROR" }`)})
	checkAWSError(t, "JSON pattern", err, "NotImplemented", "")
	_, err = c.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("g"), LogStreamNames: []string{"none"}})
	checkAWSError(t, "no stream", err, "ResourceNotFoundException", "The specified log stream does not exist.")
	_, err = c.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupIdentifier: aws.String("arn:aws:logs:eu-central-1:000000000000:log-group:g"), NextToken: aws.String("x")})
	checkAWSError(t, "bad token", err, "InvalidParameterException", "The specified nextToken is invalid.")
}

func TestPutLogEventsRules(t *testing.T) {
	t.Parallel()
	s := newLogsServer(t, storetest.Memory())
	s.stream(t, "g", "s", time.Hour, "x")
	c, ctx, now := s.client(), t.Context(), time.Now()
	put := func(stream string, events ...cwtypes.InputLogEvent) (*cloudwatchlogs.PutLogEventsOutput, error) {
		return c.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: &stream, LogEvents: events})
	}
	event := func(age time.Duration, m string) cwtypes.InputLogEvent {
		return cwtypes.InputLogEvent{Message: &m, Timestamp: aws.Int64(now.Add(-age).UnixMilli())}
	}
	_, err := put("none", event(0, "x"))
	checkAWSError(t, "no stream", err, "ResourceNotFoundException", "The specified log stream does not exist.")
	_, err = put("s", event(0, "x"), event(time.Second, "y"))
	checkAWSError(t, "order", err, "InvalidParameterException", "Log events in a single PutLogEvents request must be in chronological order.")
	_, err = put("s", event(25*time.Hour, "x"), event(0, "y"))
	checkAWSError(t, "span", err, "InvalidParameterException", "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
	_, err = put("s", event(0, strings.Repeat("x", 262144-25)))
	checkAWSError(t, "event size", err, "InvalidParameterException", "Log event too large: 262145 bytes exceeds limit of 262144")
	_, err = put("s", event(0, strings.Repeat("x", 262144-26)), event(0, strings.Repeat("x", 262144-26)), event(0, strings.Repeat("x", 262144-26)), event(0, strings.Repeat("x", 262144-26)), event(0, "x"))
	checkAWSError(t, "batch size", err, "InvalidParameterException", "Upload too large: 1048603 bytes exceeds limit of 1048576")

	out, err := put("s", event(14*24*time.Hour+time.Hour, "too old"), event(14*24*time.Hour+time.Minute, "too old"), event(14*24*time.Hour-time.Hour, "old"))
	if err != nil || out.RejectedLogEventsInfo == nil || *out.RejectedLogEventsInfo.TooOldLogEventEndIndex != 2 {
		t.Errorf("got %+v, %v", out, err)
	}
	out, err = put("s", event(0, "now"), event(-3*time.Hour, "too new"))
	if err != nil || out.RejectedLogEventsInfo == nil || *out.RejectedLogEventsInfo.TooNewLogEventStartIndex != 1 {
		t.Errorf("got %+v, %v", out, err)
	}
	all, err := c.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("g")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range all.Events {
		got = append(got, *e.Message)
	}
	if g := strings.Join(got, "|"); g != "old|x|now" {
		t.Errorf("got %q", g)
	}
}

// The real CLI, on the real store: tail and friends.
func TestLogsCLI(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "aws")
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	s := newLogsServer(t, st)
	// As the platform writes a function's lines.
	err = s.logs.Append(t.Context(), observe.Scope{Account: guard.DefaultAccount, Region: "eu-central-1"}, "/aws/lambda/hello", "2026/01/01/[$LATEST]0123456789abcdef",
		[]observe.Event{{Time: time.Now().Add(-2 * time.Second), Message: "START RequestId: 1 Version: $LATEST\n"}, {Time: time.Now().Add(-time.Second), Message: "hällo\n"}})
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "aws", args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_ENDPOINT_URL=" + s.url, "AWS_REGION=eu-central-1", "AWS_DEFAULT_REGION=eu-central-1",
			"AWS_ACCESS_KEY_ID=" + s.creds.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + s.creds.SecretAccessKey, "AWS_MAX_ATTEMPTS=1", "PYTHONIOENCODING=utf-8", "LC_ALL=C.UTF-8",
			"PYENV_VERSION=" + os.Getenv("PYENV_VERSION")}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if err != nil && stderr.Len() == 0 {
			t.Fatal(err)
		}
		return stdout.String(), stderr.String()
	}
	contains := func(what, got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q in it", what, got, want)
		}
	}
	var out, errs string
	if version, _ := run("--version"); strings.HasPrefix(version, "aws-cli/2") {
		out, errs = run("logs", "tail", "/aws/lambda/hello")
		contains("tail "+errs, out, "hällo")
		contains("tail", out, "START RequestId: 1")
		out, errs = run("logs", "tail", "/aws/lambda/hello", "--filter-pattern", "START", "--format", "short")
		contains("tail with a pattern "+errs, out, "START")
		if strings.Contains(out, "hällo") {
			t.Errorf("tail with a pattern: got %q", out)
		}
	} else {
		t.Log("this aws CLI has no `logs tail` (version 2 has): filter-log-events, which it calls, stands in")
	}
	out, errs = run("logs", "filter-log-events", "--log-group-name", "/aws/lambda/hello", "--filter-pattern", "RequestId", "--interleaved", "--query", "events[].message", "--output", "text")
	contains("filter "+errs, out, "START RequestId: 1")
	out, errs = run("logs", "describe-log-streams", "--log-group-name", "/aws/lambda/hello", "--order-by", "LastEventTime", "--descending", "--output", "json")
	contains("describe-log-streams "+errs, out, "2026/01/01/[$LATEST]0123456789abcdef")
	_, errs = run("logs", "create-log-group", "--log-group-name", "/aws/lambda/hello")
	contains("create again", errs, "(ResourceAlreadyExistsException) when calling the CreateLogGroup operation: The specified log group already exists")
	out, errs = run("sts", "get-caller-identity", "--output", "json")
	contains("whoami "+errs, out, `"Arn": "arn:aws:iam::000000000000:root"`)
	s.creds.SecretAccessKey = strings.Repeat("x", 40)
	_, errs = run("sts", "get-caller-identity")
	contains("wrong secret", errs, "(SignatureDoesNotMatch)")
}
