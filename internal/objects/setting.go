package objects

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"countersign/internal/store"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3api/controllers"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"
)

// A setting is one document of a bucket that versitygw does not have, or would
// keep without acting on it.
type setting struct {
	query  string                            // the query parameter that addresses it
	name   string                            // AWS's operation without its verb: "BucketLogging"
	action string                            // "s3:{Get,Put}…" of the IAM actions
	get    string                            // body of GET while nothing is configured
	none   s3err.APIError                    // or the error, when get is empty
	same   func(body []byte) bool            // whether a PUT asks for what is already so; nil: never
	erase  bool                              // whether DELETE of what is not there succeeds
	keep   func(body []byte) (string, error) // validates a document that is kept
	pass   []string                          // methods versitygw answers itself
}

func missing(code, message string) s3err.APIError {
	return s3err.APIError{Code: code, Description: message, HTTPStatusCode: http.StatusNotFound}
}

const xmlns = ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`

// settings is the table. AWS's answers for a bucket on which nothing was
// configured, but for encryption, where AWS would report the AES256 it applies
// and we apply none.
var settings = []setting{
	{query: "lifecycle", name: "BucketLifecycleConfiguration", action: "LifecycleConfiguration", erase: true,
		none: missing("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")},
	{query: "replication", name: "BucketReplication", action: "ReplicationConfiguration", erase: true,
		none: missing("ReplicationConfigurationNotFoundError", "The replication configuration was not found")},
	{query: "encryption", name: "BucketEncryption", action: "EncryptionConfiguration", erase: true,
		none: missing("ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found")},
	{query: "website", name: "BucketWebsite", action: "BucketWebsite", erase: true,
		none: missing("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration")},
	{query: "cors", name: "BucketCors", action: "BucketCORS", erase: true, // a preflight is anonymous
		none: missing("NoSuchCORSConfiguration", "The CORS configuration does not exist")},
	{query: "notification", name: "BucketNotificationConfiguration", action: "BucketNotification",
		get: `<NotificationConfiguration` + xmlns + `/>`, same: emptyElement("NotificationConfiguration")},
	{query: "accelerate", name: "BucketAccelerateConfiguration", action: "AccelerateConfiguration",
		get: `<AccelerateConfiguration` + xmlns + `/>`},
	{query: "requestPayment", name: "BucketRequestPayment", action: "BucketRequestPayment",
		get: `<RequestPaymentConfiguration` + xmlns + `><Payer>BucketOwner</Payer></RequestPaymentConfiguration>`, same: ownerPays},
	{query: "logging", name: "BucketLogging", action: "BucketLogging",
		get: `<BucketLoggingStatus` + xmlns + `/>`, same: emptyElement("BucketLoggingStatus")},
	{query: "publicAccessBlock", name: "PublicAccessBlock", action: "BucketPublicAccessBlock", keep: publicAccessBlock,
		get:  blockXML(true, true, true, true),
		none: missing("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found")},
	{query: "ownershipControls", name: "BucketOwnershipControls", action: "BucketOwnershipControls", keep: ownerEnforced,
		pass: []string{http.MethodGet, http.MethodDelete}},

	// Lists of configurations by id, of which there are none to run.
	{query: "analytics", name: "BucketAnalyticsConfiguration", action: "AnalyticsConfiguration"},
	{query: "intelligent-tiering", name: "BucketIntelligentTieringConfiguration", action: "IntelligentTieringConfiguration"},
	{query: "inventory", name: "BucketInventoryConfiguration", action: "InventoryConfiguration"},
	{query: "metrics", name: "BucketMetricsConfiguration", action: "MetricsConfiguration"},
	// Newer than versitygw, which would answer with a list of objects.
	{query: "metadataTable", name: "BucketMetadataTableConfiguration", action: "BucketMetadataTableConfiguration"},
	{query: "metadataConfiguration", name: "BucketMetadataConfiguration", action: "BucketMetadataTableConfiguration"},
	{query: "abac", name: "BucketAbac", action: "BucketAbac"},
	{query: "session", name: "Session", action: "Session"},
}

// settings returns the handler that answers them. It runs versitygw's own
// verification, bucket lookup and authorization before it answers, and leaves
// every other request to versitygw.
func (g *Gateway) settings(be *backend, root middlewares.RootUserConfig, region string) fiber.Handler {
	services := &controllers.Services{}
	check := []fiber.Handler{
		middlewares.BucketObjectNameValidator(),
		middlewares.VerifyPresignedV4Signature(root, g.keys, region, false),
		middlewares.VerifyV4Signature(root, g.keys, region, false, true, false),
		middlewares.ParseAcl(be),
	}
	return func(c fiber.Ctx) error {
		s := addressed(c)
		if s == nil {
			return c.Next()
		}
		// The route is matched before versitygw decodes the path; a bucket's
		// name has nothing to decode, and a name that has is no bucket's.
		return controllers.ProcessHandlers(func(c fiber.Ctx) (*controllers.Response, error) {
			return g.setting(c, be, s)
		}, s.name, services, check...)(c)
	}
}

// addressed returns the setting that a request for a bucket is about, or nil.
func addressed(c fiber.Ctx) *setting {
	if _, key, _ := strings.Cut(strings.TrimPrefix(c.Path(), "/"), "/"); key != "" {
		return nil
	}
	args := c.Request().URI().QueryArgs()
	for i := range settings {
		if s := &settings[i]; args.Has(s.query) && !slices.Contains(s.pass, c.Method()) {
			return s
		}
	}
	return nil
}

func (g *Gateway) setting(c fiber.Ctx, be *backend, s *setting) (*controllers.Response, error) {
	name := strings.Clone(c.Params("bucket"))
	verb, action, permission := "Get", "s3:Get"+s.action, auth.PermissionRead
	switch c.Method() {
	case http.MethodPut, http.MethodPost, http.MethodPatch:
		verb, action, permission = "Put", "s3:Put"+s.action, auth.PermissionWrite
	case http.MethodDelete: // IAM has no delete action for these
		verb, action, permission = "Delete", "s3:Put"+s.action, auth.PermissionWrite
	}
	acl, _ := utils.ContextKeyParsedAcl.Get(c).(auth.ACL)
	account, _ := utils.ContextKeyAccount.Get(c).(auth.Account)
	if err := auth.VerifyAccess(c, be, auth.AccessOptions{
		Acl: acl, AclPermission: permission, Acc: account, Bucket: name,
		Actions: []auth.Action{auth.Action(action)}, Iam: g.keys, DisableACL: true,
	}); err != nil {
		return &controllers.Response{}, err
	}
	notBuilt := s3err.APIError{Code: "NotImplemented", HTTPStatusCode: http.StatusNotImplemented,
		Description: fmt.Sprintf("%s%s is not implemented: nothing here would act on it.", verb, s.name)}
	key := store.Key(name)
	switch verb {
	case "Put":
		body := c.BodyRaw()
		if s.same != nil && s.same(body) {
			return &controllers.Response{}, nil
		}
		if s.keep == nil {
			return &controllers.Response{}, notBuilt
		}
		doc, err := s.keep(body)
		if errors.Is(err, errNotOurs) {
			return &controllers.Response{}, notBuilt
		}
		if err != nil {
			return &controllers.Response{}, err
		}
		if s.query == "ownershipControls" {
			return &controllers.Response{}, be.PutBucketOwnershipControls(c.RequestCtx(), name, types.ObjectOwnershipBucketOwnerEnforced)
		}
		return &controllers.Response{}, g.keep(c, key, s.query, doc)
	case "Delete":
		if s.keep == nil && !s.erase {
			return &controllers.Response{}, notBuilt
		}
		if s.keep != nil {
			if err := g.keep(c, key, s.query, ""); err != nil {
				return &controllers.Response{}, err
			}
		}
		return &controllers.Response{MetaOpts: &controllers.MetaOptions{Status: http.StatusNoContent}}, nil
	}
	b, _, _ := g.buckets.Get(key)
	doc, kept := b.Settings[s.query]
	switch {
	case !kept && s.get != "":
		doc = s.get
	case doc != "":
	case s.none.Code != "":
		return &controllers.Response{}, s.none
	default:
		return &controllers.Response{}, notBuilt
	}
	c.Response().Header.SetContentType(fiber.MIMEApplicationXML)
	return &controllers.Response{Data: []byte(xml.Header + doc)}, nil
}

// keep stores a setting's document with the bucket's own, so it goes when the
// bucket goes.
func (g *Gateway) keep(c fiber.Ctx, key, query, doc string) error {
	_, err := g.buckets.Update(c.RequestCtx(), key, func(b *bucket) error {
		set := make(map[string]string, len(b.Settings)+1)
		for k, v := range b.Settings {
			set[k] = v
		}
		set[query] = doc
		b.Settings = set
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return s3err.GetAPIError(s3err.ErrNoSuchBucket)
	}
	return err
}

var (
	errNotOurs   = errors.New("asks for what nobody enforces")
	errMalformed = s3err.GetAPIError(s3err.ErrMalformedXML)
)

// emptyElement accepts a document that is the element and nothing in it: the
// feature is off, and it is.
func emptyElement(name string) func([]byte) bool {
	return func(body []byte) bool {
		var doc struct {
			XMLName xml.Name
			Any     []struct{ XMLName xml.Name } `xml:",any"`
		}
		return xml.Unmarshal(body, &doc) == nil && doc.XMLName.Local == name && len(doc.Any) == 0
	}
}

func ownerPays(body []byte) bool {
	var doc struct {
		XMLName xml.Name `xml:"RequestPaymentConfiguration"`
		Payer   string
	}
	return xml.Unmarshal(body, &doc) == nil && doc.Payer == "BucketOwner"
}

func publicAccessBlock(body []byte) (string, error) {
	var doc struct {
		XMLName               xml.Name `xml:"PublicAccessBlockConfiguration"`
		BlockPublicAcls       bool
		IgnorePublicAcls      bool
		BlockPublicPolicy     bool
		RestrictPublicBuckets bool
	}
	if xml.Unmarshal(body, &doc) != nil {
		return "", errMalformed
	}
	return blockXML(doc.BlockPublicAcls, doc.IgnorePublicAcls, doc.BlockPublicPolicy, doc.RestrictPublicBuckets), nil
}

func blockXML(acls, ignore, policy, restrict bool) string {
	return fmt.Sprintf(`<PublicAccessBlockConfiguration%s><BlockPublicAcls>%t</BlockPublicAcls><IgnorePublicAcls>%t</IgnorePublicAcls>`+
		`<BlockPublicPolicy>%t</BlockPublicPolicy><RestrictPublicBuckets>%t</RestrictPublicBuckets></PublicAccessBlockConfiguration>`,
		xmlns, acls, ignore, policy, restrict)
}

// ownerEnforced accepts the one ownership there is: ACLs are off.
func ownerEnforced(body []byte) (string, error) {
	var doc struct {
		XMLName xml.Name `xml:"OwnershipControls"`
		Rule    []struct{ ObjectOwnership string }
	}
	if xml.Unmarshal(body, &doc) != nil || len(doc.Rule) != 1 {
		return "", errMalformed
	}
	switch doc.Rule[0].ObjectOwnership {
	case "BucketOwnerEnforced":
		return "", nil
	case "BucketOwnerPreferred", "ObjectWriter":
		return "", errNotOurs
	}
	return "", errMalformed
}
