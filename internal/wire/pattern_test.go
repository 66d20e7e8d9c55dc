package wire_test

import (
	"strings"
	"testing"

	"countersign/internal/wire"
)

// TestEveryPattern holds that no constraint of a served service is lost on the
// way from Java's regular expressions: each is compiled, and one that is not
// RE2 as it stands says what its look-around refuses.
func TestEveryPattern(t *testing.T) {
	t.Parallel()
	n := 0
	for _, svc := range all {
		for _, s := range svc.Shapes {
			p := s.Pattern
			if p == nil {
				continue
			}
			n++
			if p.Match(strings.Repeat("\x00", 5000)) && !strings.Contains(p.Text, ".*") && !strings.Contains(p.Text, "[^") && !strings.Contains(p.Text, `[\s\S]`) {
				t.Errorf("%s.%s: %s matches anything", svc.Name, s.Name, p.Text)
			}
			if around := strings.Contains(p.Text, "(?!") || strings.Contains(p.Text, "(?<!"); around != (p.Not != "") {
				t.Errorf("%s.%s: %s has look-around: %t, a translation of it: %t", svc.Name, s.Name, p.Text, around, p.Not != "")
			}
		}
	}
	if n < 80 {
		t.Errorf("got %d patterns, want all of them", n)
	}
}

// TestPatterns tries the ones whose translation says something.
func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ service, shape, yes, no string }{
		{"lambda", "Alias", "a 1a a1 live-2 _", "1 123 a.b  a! 12\n"},
		{"lambda", "FunctionUrlQualifier", "$LATEST live 1a", "1 123 $LATESTx"},
		{"lambda", "CollectionName", "a _a 9x systems sys.x", "system. system.x $ a$"},
		{"lambda", "S3Bucket", "abc a-b.c a..b", "a. abc. a/b"},
		{"lambda", "Handler", "index.handler bootstrap é", "a\tb a\vb a\nb"},
		{"lambda", "FunctionName", "f my-func f:1 f:$LATEST function:f 000000000000:function:f arn:aws:lambda:us-east-1:000000000000:function:f:live arn:aws:lambda:eusc-de-east-1:000000000000:function:f", "a.b a/b f:a:b f:$X"},
		{"lambda", "NamespacedFunctionName", "a.b f:$LATEST.PUBLISHED", "f:$LATEST.X a/b"},
		{"lambda", "Qualifier", "$LATEST $LATEST.PUBLISHED live a$b 1", "$LATEST.X a.b a/b"},
		{"lambda", "Queue", "anything a\nb", ""},
		{"lambda", "Pattern", "anything", "a\nb a\rb a\u2028b"},
		{"signer", "TagKey", "Profile_type a+-=._:/ aw:s", "aws:x aws: a#b"},
		{"signer", "ProfileName", "p1 MyProfile_2", "a a-b"},
		{"signer", "ProfileVersion", "xs0tKyVsGC", "xs0tKyVsG xs0tKyVsGCC"},
		{"logs", "TagKey", "a é Ω 1 _.:/=+-@", "a#b a!b"},
		{"logs", "ClientToken", strings.Repeat("x", 36), strings.Repeat("x", 35) + " " + strings.Repeat("x", 129)},
		{"sts", "roleSessionNameType", "a+=,.@-_", "a/b é"},
		{"sts", "arnType", "arn:aws:iam::0:role/é a\tb", "\x01 \x0b \ufffe"},
		{"sts", "sessionPolicyDocumentType", "{} {\"a\":\"ÿ\"}", "Ā \x08"},
	} {
		var p *wire.Pattern
		for _, svc := range all {
			if svc.Name == tt.service {
				p = svc.Shape(tt.shape).Pattern
			}
		}
		for s := range strings.SplitSeq(tt.yes, " ") {
			if !p.Match(s) {
				t.Errorf("%s.%s: %q does not match %s", tt.service, tt.shape, s, p.Text)
			}
		}
		for s := range strings.SplitSeq(tt.no, " ") {
			if s != "" && p.Match(s) {
				t.Errorf("%s.%s: %q matches %s", tt.service, tt.shape, s, p.Text)
			}
		}
	}
}
