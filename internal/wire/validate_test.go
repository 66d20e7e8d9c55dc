package wire_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
	"countersign/internal/wire/logs"
	"countersign/internal/wire/signer"
	"countersign/internal/wire/sts"
)

const (
	createName = `(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?`
	otherName  = `(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?`
	qualifier  = `\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+`
	role       = `arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`
)

// ok answers nothing.
func ok[I, O any](context.Context, *wire.Call, *I) (*O, error) { return nil, nil }

func newValidating() *wire.Server {
	srv := wire.NewServer(config(), all...)
	wire.Handle(srv, lambda.Service, "CreateFunction", ok[lambda.CreateFunctionRequest, lambda.FunctionConfiguration])
	wire.Handle(srv, lambda.Service, "GetFunction", ok[lambda.GetFunctionRequest, lambda.GetFunctionResponse])
	wire.Handle(srv, lambda.Service, "DeleteFunction", ok[lambda.DeleteFunctionRequest, wire.None])
	wire.Handle(srv, lambda.Service, "CreateAlias", ok[lambda.CreateAliasRequest, lambda.AliasConfiguration])
	wire.Handle(srv, lambda.Service, "TagResource", ok[lambda.TagResourceRequest, wire.None])
	wire.Handle(srv, lambda.Service, "CreateEventSourceMapping", ok[lambda.CreateEventSourceMappingRequest, lambda.EventSourceMappingConfiguration])
	wire.Handle(srv, lambda.Service, "CreateCodeSigningConfig", ok[lambda.CreateCodeSigningConfigRequest, lambda.CreateCodeSigningConfigResponse])
	wire.Handle(srv, signer.Service, "PutSigningProfile", ok[signer.PutSigningProfileRequest, signer.PutSigningProfileResponse])
	wire.Handle(srv, signer.Service, "StartSigningJob", ok[signer.StartSigningJobRequest, signer.StartSigningJobResponse])
	wire.Handle(srv, signer.Service, "SignPayload", ok[signer.SignPayloadRequest, signer.SignPayloadResponse])
	wire.Handle(srv, logs.Service, "PutLogEvents", ok[logs.PutLogEventsRequest, logs.PutLogEventsResponse])
	wire.Handle(srv, sts.Service, "AssumeRole", ok[sts.AssumeRoleRequest, sts.AssumeRoleResponse])
	wire.Handle(srv, sts.Service, "AssumeRoleWithWebIdentity", ok[sts.AssumeRoleWithWebIdentityRequest, sts.AssumeRoleWithWebIdentityResponse])
	return srv
}

const (
	one = "1 validation error detected: "
	two = "2 validation errors detected: "
)

func bad(value, at, constraint string) string {
	return "Value '" + value + "' at '" + at + "' failed to satisfy constraint: " + constraint
}

func form(re string) string { return "Member must satisfy regular expression pattern: " + re }

// TestValidation compares whole sentences. Those marked (recorded) are the
// live services' own.
func TestValidation(t *testing.T) {
	t.Parallel()
	srv := newValidating()
	long := strings.Repeat("a", 141)
	create := func(name, more string) string {
		return `{"FunctionName":"` + name + `","Role":"arn:aws:iam::000000000000:role/r","Code":{}` + more + `}`
	}
	const (
		functions = "/2015-03-31/functions"
		jobs      = "/signing-jobs"
	)
	source := `"source":{"s3":{"bucketName":"b","key":"k","version":"v"}},"destination":{},`
	for _, tt := range []struct{ name, service, method, path, body, want string }{
		{"good", "lambda", "POST", functions, create("f", ""), ""},
		{"as long as may be", "lambda", "POST", functions, create(long[:140], ""), ""},
		{"name (recorded)", "lambda", "POST", functions, create("a/b", ""), one + bad("a/b", "functionName", form(createName))},
		{"pattern before length (recorded)", "lambda", "POST", functions, create("/"+long, ""),
			two + bad("/"+long, "functionName", form(createName)) + "; " + bad("/"+long, "functionName", "Member must have length less than or equal to 140")},
		{"empty name", "lambda", "POST", functions, create("", ""),
			two + bad("", "functionName", form(createName)) + "; " + bad("", "functionName", "Member must have length greater than or equal to 1")},
		{"nothing given, in the model's order", "lambda", "POST", functions, `{}`,
			"3 validation errors detected: Value null at 'functionName' failed to satisfy constraint: Member must not be null; " +
				"Value null at 'role' failed to satisfy constraint: Member must not be null; " +
				"Value null at 'code' failed to satisfy constraint: Member must not be null"},
		{"null is not given", "lambda", "POST", functions, create("f", `,"Role":null`), one + "Value null at 'role' failed to satisfy constraint: Member must not be null"},
		{"the last of two counts", "lambda", "POST", functions, create("f", `,"Role":"x","Role":"arn:aws:iam::000000000000:role/r"`), ""},
		{"role", "lambda", "POST", functions, create("f", `,"Role":"r"`), one + bad("r", "role", form(role))},
		{"value too small", "lambda", "POST", functions, create("f", `,"MemorySize":127`), one + bad("127", "memorySize", "Member must have value greater than or equal to 128")},
		{"architectures of two (recorded)", "lambda", "POST", functions, create("f", `,"Architectures":["x86_64","arm64"]`),
			one + bad("[x86_64, arm64]", "architectures", "Member must have length less than or equal to 1")},
		{"architecture", "lambda", "POST", functions, create("f", `,"Architectures":["mips"]`),
			one + bad("[mips]", "architectures", "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]")},
		{"nested", "lambda", "POST", functions, create("f", `,"VpcConfig":{"SubnetIds":["subnet-1","bad"]}`),
			one + bad("[subnet-1, bad]", "vpcConfig.subnetIds", "Member must satisfy constraint: ["+form("subnet-[0-9a-z]*")+", Member must not be null]")},
		{"nested in a member", "lambda", "POST", functions, create("f", `,"Code":{"S3Bucket":"a."}`),
			two + bad("a.", "code.s3Bucket", form(`^[0-9A-Za-z\.\-_]*(?<!\.)$`)) + "; " + bad("a.", "code.s3Bucket", "Member must have length greater than or equal to 3")},
		{"runtimes newer than the model", "lambda", "POST", functions, create("f", `,"Runtime":"python3.14"`), ""},
		{"package type", "lambda", "POST", functions, create("f", `,"PackageType":"Tar"`), one + bad("Tar", "packageType", "Member must satisfy enum value set: [Zip, Image]")},
		{"first letter of a path step only", "lambda", "POST", functions, create("f", `,"KMSKeyArn":"x"`), one + bad("x", "kMSKeyArn", form(`(arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()`))},
		{"a secret map's keys", "lambda", "POST", functions, create("f", `,"Environment":{"Variables":{"0":"s3cret"}}`),
			one + "Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [" + form(`[a-zA-Z]([a-zA-Z0-9_])+`) + ", Member must not be null]"},

		{"length in UTF-16", "lambda", "POST", functions, create("f", `,"Description":"`+strings.Repeat("a", 254)+`😀"`), ""},
		{"length in UTF-16, one more", "lambda", "POST", functions, create("f", `,"Description":"`+strings.Repeat("a", 255)+`😀"`),
			one + bad(strings.Repeat("a", 255)+"😀", "description", "Member must have length less than or equal to 256")},

		{"get takes dots", "lambda", "GET", functions + "/a.b", "", ""},
		{"get", "lambda", "GET", functions + "/a%2Fb", "", one + bad("a/b", "functionName", form(otherName))},
		{"get, qualifier", "lambda", "GET", functions + "/f?Qualifier=a%2Fb", "", one + bad("a/b", "qualifier", form(qualifier))},
		{"delete takes dots too", "lambda", "DELETE", functions + "/a.b", "", ""},

		{"alias of digits (look-ahead)", "lambda", "POST", functions + "/f/aliases", `{"Name":"123","FunctionVersion":"1"}`, one + bad("123", "name", form(`(?!^[0-9]+$)([a-zA-Z0-9-_]+)`))},
		{"alias", "lambda", "POST", functions + "/f/aliases", `{"Name":"1a","FunctionVersion":"1"}`, ""},
		{"weights (recorded)", "lambda", "POST", functions + "/f/aliases", `{"Name":"a","FunctionVersion":"1","RoutingConfig":{"AdditionalVersionWeights":{"2":2.0}}}`,
			one + bad("{2=2.0}", "routingConfig.additionalVersionWeights", "Map value must satisfy constraint: [Member must have value less than or equal to 1, Member must have value greater than or equal to 0, Member must not be null]")},
		{"weight keys", "lambda", "POST", functions + "/f/aliases", `{"Name":"a","FunctionVersion":"1","RoutingConfig":{"AdditionalVersionWeights":{"b":0.25,"a":1e-9}}}`,
			one + bad("{a=1e-09, b=0.25}", "routingConfig.additionalVersionWeights", "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, "+form("[0-9]+")+", Member must not be null]")},

		{"publishers", "lambda", "POST", "/2020-04-22/code-signing-configs", `{"AllowedPublishers":{"SigningProfileVersionArns":[]}}`,
			one + bad("[]", "allowedPublishers.signingProfileVersionArns", "Member must have length greater than or equal to 1")},

		{"profile name in the path", "signer", "PUT", "/signing-profiles/a-b", `{"platformId":"p"}`, one + bad("a-b", "profileName", form("^[a-zA-Z0-9_]{2,}"))},
		{"tag key (look-ahead)", "signer", "PUT", "/signing-profiles/p1", `{"platformId":"p","tags":{"aws:x":"y"}}`,
			one + bad("{aws:x=y}", "tags", "Map keys must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1, "+form(`^(?!aws:)[a-zA-Z+-=._:/]+$`)+", Member must not be null]")},
		{"hashes the model does not know", "signer", "PUT", "/signing-profiles/p1", `{"platformId":"p","overrides":{"signingConfiguration":{"hashAlgorithm":"SHA384"}}}`, ""},
		{"required below", "signer", "POST", jobs, `{"source":{"s3":{"bucketName":"b","key":"k"}},"destination":{},"profileName":"p1"}`,
			one + "Value null at 'source.s3.version' failed to satisfy constraint: Member must not be null"},
		{"job", "signer", "POST", jobs, `{` + source + `"profileName":"p1"}`, ""},
		{"blob", "signer", "POST", "/signing-jobs/with-payload", `{"profileName":"p1","payloadFormat":"f","payload":""}`,
			one + bad("java.nio.HeapByteBuffer[pos=0 lim=0 cap=0]", "payload", "Member must have length greater than or equal to 1")},
		{"blob too long", "signer", "POST", "/signing-jobs/with-payload", `{"profileName":"p1","payloadFormat":"f","payload":"` + base64.StdEncoding.EncodeToString(make([]byte, 4097)) + `"}`,
			one + bad("java.nio.HeapByteBuffer[pos=0 lim=4097 cap=4097]", "payload", "Member must have length less than or equal to 4096")},

		{"list of structures", "logs", "PutLogEvents", "", `{"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":1,"message":"a"},{"message":""},null]}`,
			"3 validation errors detected: Value null at 'logEvents.2.member.timestamp' failed to satisfy constraint: Member must not be null; " +
				bad("", "logEvents.2.member.message", "Member must have length greater than or equal to 1") +
				"; Value null at 'logEvents.3.member' failed to satisfy constraint: Member must not be null"},

		{"session name (recorded)", "sts", "AssumeRole", "", "RoleArn=arn:aws:iam::000000000000:role/r&RoleSessionName=bad/name",
			one + bad("bad/name", "roleSessionName", form(`[\w+=,.@-]*`))},
		{"missing role (recorded)", "sts", "AssumeRole", "", "RoleSessionName=name", one + "Value null at 'roleArn' failed to satisfy constraint: Member must not be null"},
		{"duration (recorded)", "sts", "AssumeRole", "", "RoleArn=arn:aws:iam::000000000000:role/r&RoleSessionName=name&DurationSeconds=0899",
			one + bad("899", "durationSeconds", "Member must have value greater than or equal to 900")},
		{"a secret", "sts", "AssumeRoleWithWebIdentity", "", "RoleArn=arn:aws:iam::000000000000:role/r&RoleSessionName=name&WebIdentityToken=abc",
			one + "Value at 'webIdentityToken' failed to satisfy constraint: Member must have length greater than or equal to 4"},
	} {
		var got string
		code := "ValidationException"
		switch tt.service {
		case "sts":
			code = "ValidationError"
			w := send(srv, "sts", "POST", "/", "Action="+tt.method+"&Version=2011-06-15&"+tt.body, "Content-Type", formType)
			got = w.Body.String()
			if w.Code == 200 {
				got = ""
				break
			}
			if !strings.Contains(got, "<Code>"+code+"</Code>") {
				t.Errorf("%s: got %s, want %s", tt.name, got, code)
			}
			_, got, _ = strings.Cut(got, "<Message>")
			got, _, _ = strings.Cut(got, "</Message>")
		default:
			method, path, header := tt.method, tt.path, []string(nil)
			if tt.service == "logs" {
				code = "InvalidParameterException"
				method, path, header = "POST", "/", []string{"X-Amz-Target", "Logs_20140328." + tt.method}
			}
			w := send(srv, tt.service, method, path, tt.body, header...)
			if w.Code/100 == 2 {
				break
			}
			if tt.service != "logs" && w.Header().Get("X-Amzn-Errortype") != code || w.Code != 400 {
				t.Errorf("%s: got %d %s %s, want 400 %s", tt.name, w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body, code)
			}
			var body struct{ Message *string }
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Message == nil {
				t.Errorf("%s: got %s", tt.name, w.Body)
				continue
			}
			got = *body.Message
		}
		if got != tt.want {
			t.Errorf("%s:\ngot  %.900s\nwant %.900s", tt.name, got, tt.want)
		}
	}
}

// TestSerialization sends what is no value of the member's type. Nothing of it
// is guessed at, and nothing of it comes back.
func TestSerialization(t *testing.T) {
	t.Parallel()
	srv := newValidating()
	deep := strings.Repeat(`{"x":`, 300) + "1" + strings.Repeat("}", 300)
	for body, want := range map[string]string{
		`{"FunctionName":1}`:                "NUMBER_VALUE can not be converted to a String",
		`{"FunctionName":true}`:             "TRUE_VALUE can not be converted to a String",
		`{"FunctionName":["f"]}`:            "Start of list found where not expected",
		`{"FunctionName":{"a":"f"}}`:        "Start of structure or map found where not expected.",
		`{"MemorySize":"128"}`:              "STRING_VALUE can not be converted to an Integer",
		`{"MemorySize":128.0}`:              "NUMBER_VALUE can not be converted to an Integer",
		`{"MemorySize":2147483648}`:         "NUMBER_VALUE can not be converted to an Integer",
		`{"MemorySize":01}`:                 "Unexpected token received from parser",
		`{"Publish":"true"}`:                "STRING_VALUE can not be converted to a Boolean",
		`{"Publish":1}`:                     "NUMBER_VALUE can not be converted to a Boolean",
		`{"Code":[]}`:                       "Start of list found where not expected",
		`{"Code":"x"}`:                      "Unexpected field type",
		`{"Code":{"ZipFile":"***"}}`:        "STRING_VALUE can not be converted to a Blob",
		`{"Layers":"x"}`:                    "Expected list or null",
		`{"Layers":[null]}`:                 "Null found where not expected",
		`{"Tags":"x"}`:                      "Expected map or null",
		`{"Tags":{"a":1}}`:                  "NUMBER_VALUE can not be converted to a String",
		`{"Tags":{"a":null}}`:               "Null found where not expected",
		`{`:                                 "Unexpected token received from parser",
		`[]`:                                "Unexpected token received from parser",
		`{} {}`:                             "Unexpected data after the document",
		"{}\x00":                            "Unexpected data after the document",
		`{"a":1,}`:                          "Unexpected token received from parser",
		`{"FunctionName":"` + "\xff" + `"}`: "Invalid UTF-8",
		`{"FunctionName":"\ud800"}`:         "Unexpected token received from parser",
		`{"FunctionName":"` + "\n" + `"}`:   "Unexpected token received from parser",
		deep:                                "Nested too deeply",
		`{"Layers":[` + strings.Repeat(`"",`, 1<<18) + `""]}`: "Too many items",
	} {
		w := send(srv, "lambda", "POST", "/2015-03-31/functions", body)
		if got := `{"message":"` + want + `"}`; w.Code != 400 || w.Body.String() != got || w.Header().Get("x-amzn-ErrorType") != "SerializationException" {
			t.Errorf("%.80s: got %d %s, want %s", body, w.Code, w.Body, got)
		}
	}
	for value, want := range map[string]string{
		" 900 ": "STRING_VALUE can not be converted to an Integer", "900.0": "STRING_VALUE can not be converted to an Integer",
		"9e2": "STRING_VALUE can not be converted to an Integer", "2147483648": "STRING_VALUE can not be converted to an Integer",
		"": "missing value for decimal type",
	} {
		w := send(srv, "sts", "POST", "/", "Action=AssumeRole&Version=2011-06-15&DurationSeconds="+url.QueryEscape(value), "Content-Type", formType)
		if w.Code != 400 || !strings.Contains(w.Body.String(), "<Code>MalformedInput</Code>\n    <Message>"+want+"</Message>") {
			t.Errorf("%q: got %d %s", value, w.Code, w.Body)
		}
	}
	w := send(srv, "sts", "POST", "/", "Action=AssumeRole&Version=2011-06-15&DurationSeconds=%2B900&RoleArn=arn:aws:iam::000000000000:role/r&RoleSessionName=n1", "Content-Type", formType)
	if w.Code != 200 {
		t.Errorf("+900: got %d %s", w.Code, w.Body)
	}
	w = send(srv, "sts", "POST", "/", "Action=AssumeRole&Version=2011-06-15&"+strings.Repeat("a.b.c.d=1&", 30_000), "Content-Type", formType)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "Too many parameters") {
		t.Errorf("many parameters: got %d %s", w.Code, w.Body)
	}
}
