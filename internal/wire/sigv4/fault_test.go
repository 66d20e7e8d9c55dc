package sigv4

import (
	"fmt"
	"strings"
	"testing"
)

// The matrix, cell by cell, as the real services answer.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	columns := []Outcome{Missing, Incomplete, UnknownKey, Mismatch, BadToken, ExpiredToken, Skew}
	for _, tt := range []struct {
		service string
		family  Family
		window  string
		want    [7]string // "CODE status" a column
	}{
		{"sts", Query, "15", [7]string{"MissingAuthenticationToken 403", "IncompleteSignature 400", "InvalidClientTokenId 403", "SignatureDoesNotMatch 403", "InvalidClientTokenId 403", "ExpiredToken 403", "SignatureDoesNotMatch 403"}},
		{"iam", Query, "15", [7]string{"MissingAuthenticationToken 403", "IncompleteSignature 400", "InvalidClientTokenId 403", "SignatureDoesNotMatch 403", "InvalidClientTokenId 403", "ExpiredToken 403", "SignatureDoesNotMatch 403"}},
		{"cloudformation", Query, "5", [7]string{"MissingAuthenticationToken 403", "IncompleteSignature 400", "InvalidClientTokenId 403", "SignatureDoesNotMatch 403", "InvalidClientTokenId 403", "ExpiredToken 403", "SignatureDoesNotMatch 403"}},
		{"sqs", Query, "15", [7]string{"MissingAuthenticationToken 403", "IncompleteSignature 400", "InvalidClientTokenId 403", "SignatureDoesNotMatch 403", "InvalidClientTokenId 403", "ExpiredToken 403", "SignatureDoesNotMatch 403"}},
		{"sqs", JSON, "15", [7]string{"MissingAuthenticationTokenException 403", "IncompleteSignature 400", "InvalidClientTokenId 403", "SignatureDoesNotMatch 403", "InvalidClientTokenId 403", "ExpiredToken 403", "SignatureDoesNotMatch 403"}},
		{"ec2", EC2, "5", [7]string{"AuthFailure 401", "AuthFailure 401", "AuthFailure 401", "AuthFailure 401", "AuthFailure 401", "AuthFailure 401", "RequestExpired 400"}},
		{"dynamodb", JSON, "15", [7]string{"MissingAuthenticationTokenException 400", "IncompleteSignatureException 400", "UnrecognizedClientException 400", "InvalidSignatureException 400", "UnrecognizedClientException 400", "ExpiredTokenException 400", "InvalidSignatureException 400"}},
		{"kms", JSON, "5", [7]string{"MissingAuthenticationTokenException 400", "IncompleteSignatureException 400", "UnrecognizedClientException 400", "InvalidSignatureException 400", "UnrecognizedClientException 400", "ExpiredTokenException 400", "InvalidSignatureException 400"}},
		{"logs", JSON, "5", [7]string{"MissingAuthenticationTokenException 400", "IncompleteSignatureException 400", "UnrecognizedClientException 400", "InvalidSignatureException 400", "UnrecognizedClientException 400", "ExpiredTokenException 400", "InvalidSignatureException 400"}},
		{"lambda", RESTJSON, "5", [7]string{"MissingAuthenticationTokenException 403", "IncompleteSignatureException 403", "UnrecognizedClientException 403", "InvalidSignatureException 403", "UnrecognizedClientException 403", "ExpiredTokenException 403", "InvalidSignatureException 403"}},
		{"signer", RESTJSON, "5", [7]string{"MissingAuthenticationTokenException 403", "IncompleteSignatureException 403", "UnrecognizedClientException 403", "InvalidSignatureException 403", "UnrecognizedClientException 403", "ExpiredTokenException 403", "InvalidSignatureException 403"}},
		{"s3", S3, "15", [7]string{"AccessDenied 403", "AuthorizationHeaderMalformed 400", "InvalidAccessKeyId 403", "SignatureDoesNotMatch 403", "InvalidAccessKeyId 403", "ExpiredToken 400", "RequestTimeTooSkewed 403"}},
	} {
		r := RulesFor(tt.service, tt.family)
		if got := r.minutes(); got != tt.window {
			t.Errorf("%s: window: got %s min, want %s", tt.service, got, tt.window)
		}
		for i, o := range columns {
			f := r.Fault(&Problem{Outcome: o, Detail: "detail"})
			if got := fmt.Sprint(f.Code, " ", f.Status); got != tt.want[i] {
				t.Errorf("%s, family %d, %v: got %s, want %s", tt.service, tt.family, o, got, tt.want[i])
			}
		}
	}
}

func TestEveryOutcomeHasAFault(t *testing.T) {
	t.Parallel()
	for family := Query; family <= S3; family++ {
		for o := Missing; o <= Mismatch; o++ {
			f, ok := RulesFor("x", family).faults[o]
			if !ok || f.Code == "" || f.Status < 400 || f.Status > 403 {
				t.Errorf("family %d, %v: got %+v, %v", family, o, f, ok)
			}
			if strings.HasPrefix(o.String(), "outcome") {
				t.Errorf("outcome %d has no name", o)
			}
		}
		// An outcome from the future is still a refusal.
		if f := RulesFor("x", family).Fault(&Problem{Outcome: 99}); f.Status < 400 {
			t.Errorf("family %d: unnamed outcome: got %+v", family, f)
		}
	}
}

func TestFaultMessages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		service string
		family  Family
		outcome Outcome
		want    string
	}{
		{"sts", Query, Missing, "Request is missing Authentication Token"},
		{"logs", JSON, Missing, "Request is missing Authentication Token"},
		{"lambda", RESTJSON, Missing, "Missing Authentication Token"},
		{"sts", Query, UnknownKey, "The security token included in the request is invalid."},
		{"sts", Query, ExpiredToken, "The security token included in the request is expired"},
		{"sts", Query, Mismatch, msgMismatch},
		{"ec2", EC2, Mismatch, "AWS was not able to validate the provided access credentials"},
		{"s3", S3, Mismatch, "The request signature we calculated does not match the signature you provided. Check your key and signing method."},
		{"sts", Query, BadScope, "detail"},
	} {
		if got := RulesFor(tt.service, tt.family).Fault(&Problem{Outcome: tt.outcome, Detail: "detail"}).Message; got != tt.want {
			t.Errorf("%s, %v: got %q, want %q", tt.service, tt.outcome, got, tt.want)
		}
	}
}

// Lambda and SQS show what they expected to be signed; STS does not. The
// session token is blanked, and the right signature is nowhere in it.
func TestMismatchDump(t *testing.T) {
	t.Parallel()
	r := suiteRequest(t, vector{request: "GET /a?Param1=value1"})
	r.Header.Set("X-Amz-Security-Token", "top-secret")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/lambda/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, Signature="+strings.Repeat("0", 64))
	rules := RulesFor("lambda", RESTJSON)
	_, err := Verify(r, EmptySHA256, rules, suiteTime, func(string, string) (Key, error) {
		return Key{Secret: suiteSecret, Token: "top-secret"}, nil
	})
	p, ok := err.(*Problem)
	if !ok || p.Outcome != Mismatch {
		t.Fatalf("got %v, want a mismatch", err)
	}
	got := rules.Fault(p).Message
	want := msgMismatch + "\n\nThe Canonical String for this request should have been\n'GET\n/a\nParam1=value1\nhost:example.amazonaws.com\nx-amz-date:" + suiteDate +
		"\nx-amz-security-token:***\n\nhost;x-amz-date;x-amz-security-token\n" + EmptySHA256 + "'\n\nThe String-to-Sign should have been\n'AWS4-HMAC-SHA256\n" + suiteDate +
		"\n20150830/us-east-1/lambda/aws4_request\n"
	if !strings.HasPrefix(got, want) {
		t.Errorf("got %q\nwant prefix %q", got, want)
	}
	_, toSign := mustParse(t, r).Canonical(r, EmptySHA256, false)
	right := Sign(SigningKey(suiteSecret, "20150830", "us-east-1", "lambda"), toSign)
	if strings.Contains(got, right) || strings.Contains(got, "top-secret") || strings.Contains(p.Error(), "Canonical") {
		t.Errorf("a secret shows in %q or %q", got, p.Error())
	}
	if got := RulesFor("sts", Query).Fault(p).Message; got != msgMismatch {
		t.Errorf("STS: got %q", got)
	}
}
