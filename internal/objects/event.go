package objects

import (
	"strings"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3event"
)

// An Event is one change to an object that has happened. Delivery is the
// receiver's: an event that is lost between the change and the receiver's own
// record is lost, so whoever needs every change must also be able to list.
type Event struct {
	Name      string // AWS's, without "s3:": "ObjectCreated:Put"
	Time      time.Time
	Region    string
	Bucket    string
	Owner     string // account
	Key       string
	Size      int64
	ETag      string // without quotes
	VersionID string // empty when the bucket is not versioned
	RequestID string // empty for a change the platform made itself
	Principal string // ARN of the caller; empty for the platform
}

// sender is versitygw's S3EventSender for one region.
type sender struct {
	g      *Gateway
	region string
}

var _ s3event.S3EventSender = (*sender)(nil)

// SendEvent is called after the operation succeeded and before its reply.
func (s *sender) SendEvent(c fiber.Ctx, m s3event.EventMeta) {
	name, key, _ := strings.Cut(strings.TrimPrefix(c.Path(), "/"), "/")
	e := Event{
		Name: strings.TrimPrefix(string(m.EventName), "s3:"), Time: time.Now().UTC(), Region: s.region,
		Bucket: name, Owner: m.BucketOwner, Key: key, Size: m.ObjectSize,
		RequestID: string(c.Response().Header.Peek("X-Amz-Request-Id")),
	}
	if m.ObjectETag != nil {
		e.ETag = strings.Trim(*m.ObjectETag, `"`)
	}
	// A put says its version in the reply only, a deletion only here.
	if e.VersionID = string(c.Response().Header.Peek("x-amz-version-id")); e.VersionID == "" && m.VersionId != nil {
		e.VersionID = *m.VersionId
	}
	if a, ok := utils.ContextKeyAccount.Get(c).(auth.Account); ok {
		e.Principal = a.Arn
	}
	// fiber's strings are the connection's buffer.
	e.Bucket, e.Key, e.RequestID = strings.Clone(e.Bucket), strings.Clone(e.Key), strings.Clone(e.RequestID)
	s.g.cfg.Events(e)
}

func (*sender) Close() error { return nil }
