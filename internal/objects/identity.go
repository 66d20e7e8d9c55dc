package objects

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"

	"countersign"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3err"
)

// A Caller is who signed a request.
type Caller struct {
	Account   string // 12 digits
	ARN       string
	AccessKey string
	Root      bool
	// SessionToken is what X-Amz-Security-Token must say. Empty for a key
	// that needs none; a token sent with such a key is an error.
	SessionToken string
}

// A KeyProvider knows the platform's access keys.
type KeyProvider interface {
	// Lookup returns the secret behind accessKey and whose it is; ok is false
	// for a key that does not exist or may not be used. It is called for every
	// request, before its signature is checked, from many goroutines.
	Lookup(ctx context.Context, accessKey string) (secret string, caller Caller, ok bool)
}

// A Decision is one question to Config.Authorize: may Caller do Action to
// Resource? A batch (DeleteObjects, a copy) asks once for each pair.
type Decision struct {
	Action    string // "s3:GetObject"
	Resource  string // "arn:aws:s3:::bucket/key", "arn:aws:s3:::*" for all buckets
	Owner     string // account the bucket belongs to; empty when there is no bucket yet
	Caller    Caller
	Condition map[string][]string // condition keys of the request, "aws:SecureTransport" and so on
}

// identity is versitygw's view of our callers. It is its IAMService, its
// SigningKeyProvider, its PolicyEvaluator and its PrincipalResolver.
//
// The account handed to versitygw is named by the AWS account, because
// versitygw writes that name into buckets as their owner and compares it with
// x-amz-expected-bucket-owner: a rotated key must not lose its buckets. The
// access key rides along in the account's SessionToken, which versitygw keeps
// for the request and hands back to EvaluatePolicy. Nobody is versitygw's
// admin or root, so every decision comes here.
type identity struct {
	keys      KeyProvider
	authorize func(context.Context, Decision) error
	owner     func(bucket string) string // account, or empty
}

var (
	_ auth.IAMService         = (*identity)(nil)
	_ auth.SigningKeyProvider = (*identity)(nil)
	_ auth.PolicyEvaluator    = (*identity)(nil)
	_ auth.PrincipalResolver  = (*identity)(nil)
)

// DeriveSigningKey looks access up and derives the SigV4 signing key of the
// scope. See "Signature Version 4 signing process", step 3.
func (id *identity) DeriveSigningKey(access, sessionToken, date, region, service string) ([]byte, auth.Account, error) {
	secret, c, ok := id.keys.Lookup(context.Background(), access)
	if !ok || secret == "" {
		return nil, auth.Account{}, auth.ErrNoSuchUser
	}
	if subtle.ConstantTimeCompare([]byte(c.SessionToken), []byte(sessionToken)) != 1 {
		return nil, auth.Account{}, auth.ErrInvalidSessionToken
	}
	key := []byte("AWS4" + secret)
	for _, part := range []string{date, region, service, "aws4_request"} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	return key, account(c, access), nil
}

func account(c Caller, access string) auth.Account {
	return auth.Account{Access: c.Account, Role: auth.RoleUser, Arn: c.ARN, SessionToken: access}
}

// EvaluatePolicy answers for every resource and action. versitygw adds the
// bucket's own policy: a Deny there wins, an Allow there is enough. For a
// caller of another account both sides must allow, so our "allowed" is silence
// there and the bucket's policy decides alone.
func (id *identity) EvaluatePolicy(_, access string, actions []auth.Action, resources []string, condition map[string][]string) (auth.PolicyEvaluation, error) {
	_, c, ok := id.keys.Lookup(context.Background(), access)
	if !ok {
		return auth.PolicyEvaluation{}, s3err.GetInvalidAccessKeyIdErr(access)
	}
	c.AccessKey = access
	e := auth.PolicyEvaluation{PrincipalArn: c.ARN}
	answers := make([][]verdict, len(resources))
	for i, res := range resources {
		answers[i] = make([]verdict, len(actions))
		for j, act := range actions {
			d := Decision{Action: string(act), Resource: res, Caller: c, Condition: condition}
			if act != auth.CreateBucketAction { // the name may be another account's
				d.Owner = id.owner(bucketOf(res))
			}
			v, err := id.decide(d)
			if err != nil {
				return auth.PolicyEvaluation{}, err
			}
			answers[i][j] = v
		}
	}
	fill(&e.Decisions, answers)
	return e, nil
}

type verdict int

// The values of versitygw's unexported policyDecision, in its order.
const (
	silent verdict = iota
	allow
	deny
)

func (id *identity) decide(d Decision) (verdict, error) {
	if id.authorize != nil {
		if err := id.authorize(context.Background(), d); err != nil {
			var e *countersign.Error
			if errors.As(err, &e) && e.Kind == countersign.Denied {
				return deny, nil
			}
			return deny, err // could not decide: refuse, and say so in the log
		}
	}
	if d.Owner != "" && d.Owner != d.Caller.Account {
		return silent, nil
	}
	return allow, nil
}

// fill turns our verdicts into versitygw's, whose type has no name outside.
func fill[T ~int](to *[][]T, from [][]verdict) {
	for _, row := range from {
		out := make([]T, len(row))
		for i, v := range row {
			out[i] = T(v)
		}
		*to = append(*to, out)
	}
}

// bucketOf takes the bucket out of "arn:aws:s3:::bucket/key".
func bucketOf(arn string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(arn, auth.ResourceArnPrefix), "/")
	return name
}

// ResolvePrincipals returns the principals of a bucket policy that name
// nothing: whatever is not an account or something in one.
func (id *identity) ResolvePrincipals(principals []string) (missing []string, err error) {
	for _, p := range principals {
		if isAccount(p) {
			continue
		}
		a, err := countersign.ParseARN(p)
		if err != nil || (a.Service != "iam" && a.Service != "sts") || !isAccount(a.Account) {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

func isAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

// The rest of IAMService is versitygw's own user administration, which is not
// mounted.

func (*identity) CreateAccount(auth.Account) error { return errNoAdmin }

func (*identity) GetUserAccount(string) (auth.Account, error) {
	return auth.Account{}, auth.ErrNoSuchUser
}
func (*identity) ResolveAccounts(keys []string) ([]string, error)   { return keys, nil }
func (*identity) UpdateUserAccount(string, auth.MutableProps) error { return errNoAdmin }
func (*identity) DeleteUserAccount(string) error                    { return errNoAdmin }
func (*identity) ListUserAccounts() ([]auth.Account, error)         { return nil, errNoAdmin }
func (*identity) Shutdown() error                                   { return nil }

var errNoAdmin = s3err.GetAPIError(s3err.ErrAdminMethodNotSupported)
