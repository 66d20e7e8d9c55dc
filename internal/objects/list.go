package objects

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3api/controllers"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3response"
)

// listBuckets answers ListBuckets, for every region at once as AWS does.
// versitygw would give every bucket the region it serves, and the time its
// directory last changed as its creation.
func (g *Gateway) listBuckets(root middlewares.RootUserConfig, region string) fiber.Handler {
	answer := controllers.ProcessHandlers(g.bucketList, "ListBuckets", &controllers.Services{},
		middlewares.VerifyPresignedV4Signature(root, g.keys, region, false),
		middlewares.VerifyV4Signature(root, g.keys, region, false, true, true))
	return func(c fiber.Ctx) error {
		if c.Path() != "/" || c.Method() != http.MethodGet {
			return c.Next()
		}
		return answer(c)
	}
}

func (g *Gateway) bucketList(c fiber.Ctx) (*controllers.Response, error) {
	who, _ := utils.ContextKeyAccount.Get(c).(auth.Account)
	if err := auth.VerifyListAllMyBucketsAccess(c, g.keys, false, who); err != nil {
		return &controllers.Response{}, err
	}
	most, err := utils.ParseMaxLimiter(c.Query("max-buckets"), utils.LimiterTypeMaxBuckets)
	if err != nil {
		return &controllers.Response{}, err
	}
	prefix, after, region := c.Query("prefix"), c.Query("continuation-token"), c.Query("bucket-region")
	out := s3response.ListAllMyBucketsResult{Owner: s3response.CanonicalUser{ID: who.Access}, Prefix: prefix}
	var list []s3response.ListAllMyBucketsEntry
	for it := range g.buckets.All("") {
		d := it.Val
		if d.Account == who.Access && strings.HasPrefix(d.Name, prefix) && d.Name > after && (region == "" || d.Region == region) {
			list = append(list, s3response.ListAllMyBucketsEntry{Name: d.Name, CreationDate: d.Created, BucketRegion: d.Region})
		}
	}
	slices.SortFunc(list, func(x, y s3response.ListAllMyBucketsEntry) int { return cmp.Compare(x.Name, y.Name) })
	if len(list) > int(most) {
		list = list[:most]
		out.ContinuationToken = list[most-1].Name
	}
	out.Buckets.Bucket = list
	return &controllers.Response{Data: out}, nil
}
