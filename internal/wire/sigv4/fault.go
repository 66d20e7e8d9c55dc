package sigv4

import (
	"strconv"
	"strings"
	"time"
	"unicode"
)

// An Outcome is one way for a request not to be believed, before any service
// has given it a name.
type Outcome int

// The outcomes, in the order they are found.
const (
	_               Outcome = iota
	Missing                 // no credentials at all
	Both                    // header and query form at once
	Incomplete              // the header form lacks a part or is malformed
	IncompleteQuery         // the same of the query form
	Unsupported             // an algorithm other than AWS4-HMAC-SHA256
	BadDate                 // a date nobody can read
	BadExpires              // X-Amz-Expires is no number from 0 to a week
	Skew                    // signed too long ago or too far ahead
	NotYet                  // S3 presigned URL from the future
	Expired                 // S3 presigned URL whose time is over
	BadCredential           // not keyid/date/region/service/term
	BadScope                // wrong region, service, terminator or date
	Unsigned                // a header that must be signed is not
	UnknownKey              // nobody has this access key id
	BadToken                // session token missing, foreign or not wanted
	ExpiredToken            // the session is over
	Mismatch                // the signature is not this request's
)

var outcomeNames = [...]string{
	"", "missing credentials", "two forms of credentials", "incomplete signature", "incomplete query signature", "unsupported algorithm",
	"bad date", "bad expiry", "clock skew", "not yet valid", "expired URL", "bad credential", "bad scope", "unsigned header",
	"unknown key", "bad token", "expired token", "signature mismatch",
}

func (o Outcome) String() string {
	if o > 0 && int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "outcome " + strconv.Itoa(int(o))
}

// A Problem is the error of a request that was not believed. Its text holds
// no secret, token or signature and may be logged.
type Problem struct {
	Outcome Outcome
	Detail  string // AWS's sentence, where the outcome has more than one

	canonical, toSign string // of a Mismatch, for services that show them; not for logs
}

func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Outcome.String()
	}
	return p.Outcome.String() + ": " + p.Detail
}

func problem(o Outcome, detail string) error { return &Problem{Outcome: o, Detail: detail} }

// A Family is a set of services that spell authentication faults alike.
type Family int

// The families.
const (
	Query    Family = iota // STS, IAM, CloudFormation, SQS in its old form
	EC2                    // the one service with spellings of its own
	JSON                   // awsJson: DynamoDB, KMS, Logs, CloudTrail
	RESTJSON               // Lambda, Signer, API Gateway's control plane
	RESTXML                // Route 53, CloudFront
	S3                     // restXml with rules of its own
)

// Rules are what one service asks of a signature and how it says no.
type Rules struct {
	Service string // signing name, which the scope must carry
	Family  Family
	Window  time.Duration // how far the signer's clock may be off, either way
	dump    bool          // a mismatch shows what was expected to be signed
	faults  map[Outcome]Fault
}

// RulesFor returns the rules of the service with this signing name. A service
// without an entry of its own follows its family.
func RulesFor(service string, f Family) Rules {
	r := Rules{Service: service, Family: f, Window: 5 * time.Minute, faults: families[f]}
	switch service {
	case "sts", "iam", "dynamodb", "s3":
		r.Window = 15 * time.Minute
	case "sqs":
		r.Window = 15 * time.Minute
		r.dump = true
		if f == JSON {
			r.faults = sqsJSON
		}
	case "lambda":
		r.dump = true
	}
	return r
}

func (r *Rules) minutes() string { return strconv.Itoa(int(r.Window / time.Minute)) }

// A Fault is a Problem as one service tells it. An empty Message in the table
// stands for the Problem's own sentence.
type Fault struct {
	Status  int
	Code    string
	Message string
}

// AWS's sentences.
const (
	msgMissing       = "Missing Authentication Token"
	msgMissingOld    = "Request is missing Authentication Token"
	msgToken         = "The security token included in the request is invalid."
	msgExpired       = "The security token included in the request is expired" // no full stop
	msgMismatch      = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	msgMismatchS3    = "The request signature we calculated does not match the signature you provided. Check your key and signing method."
	msgEC2           = "AWS was not able to validate the provided access credentials"
	msgMalformedS3   = "The authorization header is malformed; the authorization header requires three components: Credential, SignedHeaders, and Signature."
	msgCredentialS3  = `The authorization header is malformed; the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".`
	msgQueryS3       = "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
	msgMechanismS3   = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
	msgDateS3        = "AWS authentication requires a valid Date or x-amz-date header"
	msgSkewS3        = "The difference between the request time and the current time is too large."
	msgBothS3        = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified"
	msgUnknownKeyS3  = "The AWS Access Key Id you provided does not exist in our records."
	msgExpiredS3     = "The provided token has expired."
	msgAccessDenied  = "Access Denied"
	codeQueryParamS3 = "AuthorizationQueryParametersError"
)

// families is the matrix: one row a family, one fault an outcome.
var families = map[Family]map[Outcome]Fault{
	Query: row(Fault{403, "MissingAuthenticationToken", msgMissingOld}, Fault{400, "IncompleteSignature", ""},
		Fault{403, "SignatureDoesNotMatch", ""}, Fault{403, "InvalidClientTokenId", msgToken}, Fault{403, "ExpiredToken", msgExpired}),
	RESTXML: row(Fault{403, "MissingAuthenticationToken", msgMissing}, Fault{400, "IncompleteSignature", ""},
		Fault{403, "SignatureDoesNotMatch", ""}, Fault{403, "InvalidClientTokenId", msgToken}, Fault{403, "ExpiredToken", msgExpired}),
	JSON: row(Fault{400, "MissingAuthenticationTokenException", msgMissingOld}, Fault{400, "IncompleteSignatureException", ""},
		Fault{400, "InvalidSignatureException", ""}, Fault{400, "UnrecognizedClientException", msgToken}, Fault{400, "ExpiredTokenException", msgExpired}),
	RESTJSON: row(Fault{403, "MissingAuthenticationTokenException", msgMissing}, Fault{403, "IncompleteSignatureException", ""},
		Fault{403, "InvalidSignatureException", ""}, Fault{403, "UnrecognizedClientException", msgToken}, Fault{403, "ExpiredTokenException", msgExpired}),
	EC2: func() map[Outcome]Fault {
		f := Fault{401, "AuthFailure", msgEC2}
		m := row(f, f, f, f, f)
		m[Skew] = Fault{400, "RequestExpired", "Request has expired."}
		return m
	}(),
	S3: {
		Missing:         {403, "AccessDenied", msgAccessDenied},
		Both:            {400, "InvalidArgument", msgBothS3},
		Incomplete:      {400, "AuthorizationHeaderMalformed", msgMalformedS3},
		IncompleteQuery: {400, codeQueryParamS3, msgQueryS3},
		Unsupported:     {400, "InvalidRequest", msgMechanismS3},
		BadDate:         {403, "AccessDenied", msgDateS3},
		BadExpires:      {400, codeQueryParamS3, ""},
		Skew:            {403, "RequestTimeTooSkewed", msgSkewS3},
		NotYet:          {403, "AccessDenied", ""},
		Expired:         {403, "AccessDenied", ""},
		BadCredential:   {400, "AuthorizationHeaderMalformed", msgCredentialS3},
		BadScope:        {400, "AuthorizationHeaderMalformed", ""},
		Unsigned:        {403, "AccessDenied", ""},
		UnknownKey:      {403, "InvalidAccessKeyId", msgUnknownKeyS3},
		BadToken:        {403, "InvalidAccessKeyId", msgUnknownKeyS3},
		ExpiredToken:    {400, "ExpiredToken", msgExpiredS3},
		Mismatch:        {403, "SignatureDoesNotMatch", msgMismatchS3},
	},
}

// sqsJSON keeps the query protocol's codes and statuses, but for the first.
var sqsJSON = row(Fault{403, "MissingAuthenticationTokenException", msgMissingOld}, Fault{400, "IncompleteSignature", ""},
	Fault{403, "SignatureDoesNotMatch", ""}, Fault{403, "InvalidClientTokenId", msgToken}, Fault{403, "ExpiredToken", msgExpired})

// row spreads the five faults a family has over the outcomes.
func row(missing, incomplete, mismatch, key, expired Fault) map[Outcome]Fault {
	plain := mismatch
	if plain.Message == "" {
		plain.Message = msgMismatch
	}
	return map[Outcome]Fault{
		Missing:    missing,
		Incomplete: incomplete, IncompleteQuery: incomplete, Unsupported: incomplete,
		BadDate: incomplete, BadExpires: incomplete, BadCredential: incomplete,
		Both: mismatch, Skew: mismatch, NotYet: mismatch, Expired: mismatch, BadScope: mismatch, Unsigned: mismatch,
		UnknownKey: key, BadToken: key,
		ExpiredToken: expired,
		Mismatch:     plain,
	}
}

// Fault tells p as the service r is of tells it.
func (r Rules) Fault(p *Problem) Fault {
	f, ok := r.faults[p.Outcome]
	if !ok { // an outcome nobody gave a name is still a no
		f = r.faults[Mismatch]
	}
	if f.Message == "" {
		f.Message = p.Detail
	}
	if r.dump && p.Outcome == Mismatch && p.canonical != "" && len(p.canonical) <= maxDump {
		f.Message += "\n\nThe Canonical String for this request should have been\n'" + withoutToken(p.canonical) +
			"'\n\nThe String-to-Sign should have been\n'" + p.toSign + "'\n"
	}
	return f
}

// maxDump bounds the canonical request a refusal shows.
const maxDump = 16 << 10

// withoutToken blanks the session token in a canonical request. AWS leaves it
// in; replies are logged by proxies and clients, and a token is a secret.
func withoutToken(canonical string) string {
	lines := strings.Split(canonical, "\n")
	for i, l := range lines {
		if i == 2 { // the query
			fields := strings.Split(l, "&")
			for j, f := range fields {
				if strings.HasPrefix(f, paramToken+"=") {
					fields[j] = paramToken + "=***"
				}
			}
			lines[i] = strings.Join(fields, "&")
		}
		if name, _, ok := strings.Cut(l, ":"); ok && name == "x-amz-security-token" {
			lines[i] = name + ":***"
		}
	}
	return echoLines(strings.Join(lines, "\n"))
}

// echoLines is echo for several lines, unbounded.
func echoLines(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
