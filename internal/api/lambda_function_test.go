package api_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What every configuration has, and what only an unabridged one has.
var (
	listedMembers = []string{"FunctionName", "FunctionArn", "Runtime", "Role", "Handler", "CodeSize", "Description", "Timeout", "MemorySize", "LastModified", "CodeSha256",
		"Version", "TracingConfig", "RevisionId", "PackageType", "Architectures", "EphemeralStorage", "SnapStart", "LoggingConfig"}
	fullMembers    = append(slices.Clone(listedMembers), "RuntimeVersionConfig", "State")
	pendingMembers = append(slices.Clone(fullMembers), "StateReason", "StateReasonCode")
	activeMembers  = append(slices.Clone(fullMembers), "LastUpdateStatus")
	updateMembers  = append(slices.Clone(activeMembers), "LastUpdateStatusReason", "LastUpdateStatusReasonCode")
)

var (
	uuidForm     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	createdForm  = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$`)
	modifiedForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000\+0000$`)
	runtimeForm  = regexp.MustCompile(`^arn:aws:lambda:[a-z0-9-]+::runtime:[0-9a-f]{64}$`)
)

func checkForm(t *testing.T, what string, v any, form *regexp.Regexp) {
	t.Helper()
	if s, ok := v.(string); !ok || !form.MatchString(s) {
		t.Errorf("%s: got %v, want %s", what, v, form)
	}
}

// TestFunctionShapes walks a function through its states and compares whole
// answers (lambda-core, sections 2 and 3).
func TestFunctionShapes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := helloZip(t)
	revisions := map[any]bool{}
	fresh := func(what string, m map[string]any) {
		t.Helper()
		checkForm(t, what+": RevisionId", m["RevisionId"], uuidForm)
		if revisions[m["RevisionId"]] {
			t.Errorf("%s: the RevisionId is an old one", what)
		}
		revisions[m["RevisionId"]] = true
	}

	made := w.do("POST", functions, newFunction("hello", code, nil)).accepted(t, "create", 201)
	checkMembers(t, "created", made, pendingMembers...)
	common := object{
		"FunctionName": "hello", "FunctionArn": w.fn("hello"), "Runtime": "python3.11", "Role": testRole, "Handler": "app.handler", "CodeSize": len(code), "Description": "",
		"Timeout": 3, "MemorySize": 128, "CodeSha256": base64Sum(code), "Version": "$LATEST", "TracingConfig": object{"Mode": "PassThrough"}, "PackageType": "Zip",
		"Architectures": []string{"x86_64"}, "EphemeralStorage": object{"Size": 512}, "SnapStart": object{"ApplyOn": "None", "OptimizationStatus": "Off"},
		"LoggingConfig": object{"LogFormat": "Text", "LogGroup": "/aws/lambda/hello"},
	}
	checkValues(t, "created", made, common)
	checkValues(t, "created", made, object{"State": "Pending", "StateReason": "The function is being created.", "StateReasonCode": "Creating"})
	checkForm(t, "created", made["LastModified"], createdForm)
	checkForm(t, "runtime version", made["RuntimeVersionConfig"].(map[string]any)["RuntimeVersionArn"], runtimeForm)
	fresh("created", made)

	active := w.settled("hello")
	checkMembers(t, "active", active, activeMembers...)
	checkValues(t, "active", active, common)
	checkValues(t, "active", active, object{"State": "Active", "LastUpdateStatus": "Successful", "LastModified": made["LastModified"]})
	fresh("active", active)

	// An update that changes nothing is an update.
	updated := w.do("PUT", functions+"/hello/configuration", object{}).accepted(t, "update nothing", 200)
	checkMembers(t, "updating", updated, updateMembers...)
	checkValues(t, "updating", updated, common)
	checkValues(t, "updating", updated, object{"State": "Active", "LastUpdateStatus": "InProgress",
		"LastUpdateStatusReason": "The function is being created.", "LastUpdateStatusReasonCode": "Creating"})
	checkForm(t, "updating", updated["LastModified"], modifiedForm)
	fresh("updating", updated)
	done := w.settled("hello")
	checkMembers(t, "updated", done, activeMembers...)
	fresh("updated", done)

	changes := object{"Description": "d", "Timeout": 900, "MemorySize": 10240, "Handler": "b.c", "Runtime": "python3.12", "Role": testRole + "2",
		"Environment": object{"Variables": object{"AA": "1"}}, "EphemeralStorage": object{"Size": 10240}, "TracingConfig": object{"Mode": "Active"},
		"LoggingConfig": object{"LogFormat": "Text", "LogGroup": "/mine"}}
	w.do("PUT", functions+"/hello/configuration", changes).accepted(t, "update all", 200)
	done = w.settled("hello")
	checkValues(t, "all updated", done, changes)
	fresh("all updated", done)
	w.do("PUT", functions+"/hello/configuration", object{"Environment": object{"Variables": object{}}}).accepted(t, "clear", 200)
	done = w.settled("hello")
	checkMembers(t, "environment cleared", done, activeMembers...)
	checkValues(t, "environment cleared", done, object{"Description": "d", "Timeout": 900, "LoggingConfig": object{"LogFormat": "Text", "LogGroup": "/mine"}})

	other := zipOf(t, "app.py", hello+"#")
	updated = w.do("PUT", functions+"/hello/code", object{"ZipFile": other, "Architectures": []string{"arm64"}}).accepted(t, "update code", 200)
	checkMembers(t, "code updating", updated, updateMembers...)
	checkValues(t, "code updating", updated, object{"CodeSha256": base64Sum(other), "CodeSize": len(other), "Architectures": []string{"arm64"}, "FunctionArn": w.fn("hello")})
	w.settled("hello")

	// GetFunction, with and without tags.
	got := w.do("GET", functions+"/hello", nil).accepted(t, "get", 200)
	checkMembers(t, "get", got, "Configuration", "Code")
	checkMembers(t, "code", got["Code"].(map[string]any), "RepositoryType", "Location")
	checkValues(t, "code", got["Code"].(map[string]any), object{"RepositoryType": "S3"})
	w.do("POST", "/2017-03-31/tags/"+escaped(w.fn("hello")), object{"Tags": object{"a": "b"}}).accepted(t, "tag", 204)
	got = w.do("GET", functions+"/hello", nil).accepted(t, "get", 200)
	checkMembers(t, "get", got, "Configuration", "Code", "Tags")

	out := w.do("DELETE", functions+"/hello", nil)
	if out.accepted(t, "delete", 204); len(out.body) != 0 {
		t.Errorf("deleted: got %s, want nothing", out.body)
	}
}

// Create takes what is asked and answers it.
func TestCreateWithEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := object{
		"Description": "d", "Timeout": 1, "MemorySize": 129, "Environment": object{"Variables": object{"AA": "1", "BB": ""}}, "Architectures": []string{"arm64"},
		"EphemeralStorage": object{"Size": 513}, "TracingConfig": object{"Mode": "Active"}, "LoggingConfig": object{"LogFormat": "Text", "LogGroup": "/mine"},
	}
	made := w.do("POST", functions, newFunction("all", helloZip(t), asked)).accepted(t, "create", 201)
	checkMembers(t, "created", made, append(slices.Clone(pendingMembers), "Environment")...)
	checkValues(t, "created", made, asked)

	// A name may be an ARN; what is made is the function.
	made = w.do("POST", functions, newFunction(w.fn("by-arn"), helloZip(t), object{"Publish": true, "Tags": object{"k": "v"}})).accepted(t, "create by ARN", 201)
	checkValues(t, "published at birth", made, object{"FunctionName": "by-arn", "FunctionArn": w.fn("by-arn"), "Version": "1", "State": "Pending"})
	w.settled("by-arn")
	checkValues(t, "version 1", w.settled("by-arn:1"), object{"Version": "1", "FunctionArn": w.fn("by-arn:1")})
}

func TestListFunctions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list := func(query string) (items []map[string]any, next string) {
		t.Helper()
		m := w.do("GET", functions+query, nil).accepted(t, "list "+query, 200)
		for _, x := range m["Functions"].([]any) {
			items = append(items, x.(map[string]any))
		}
		next, _ = m["NextMarker"].(string)
		return items, next
	}
	if items, next := list(""); len(items) != 0 || next != "" {
		t.Errorf("an empty region: got %v %q", items, next)
	}
	for _, n := range []string{"c", "a", "e", "b", "d"} {
		w.create(n, object{"Tags": object{"n": n}})
	}
	w.publish("b")
	w.publish("b")
	// pages follows the markers and returns the ARNs behind the region's prefix.
	pages := func(query string, size int) (arns []string) {
		t.Helper()
		marker := ""
		for {
			items, next := list(query + "MaxItems=" + fmt.Sprint(size) + marker)
			if len(items) > size || len(items) == 0 {
				t.Fatalf("%s: got a page of %d, want at most %d and not none", query, len(items), size)
			}
			for _, x := range items {
				checkMembers(t, "listed", x, listedMembers...)
				arns = append(arns, strings.TrimPrefix(x["FunctionArn"].(string), w.fn("")))
			}
			if next == "" {
				return arns
			}
			marker = "&Marker=" + escaped(next)
		}
	}
	for size := 1; size <= 9; size++ {
		if got, want := pages("?", size), []string{"a", "b", "c", "d", "e"}; !slices.Equal(got, want) {
			t.Errorf("pages of %d: got %q, want %q", size, got, want)
		}
		if got, want := pages("?FunctionVersion=ALL&", size), []string{"a:$LATEST", "b:$LATEST", "b:1", "b:2", "c:$LATEST", "d:$LATEST", "e:$LATEST"}; !slices.Equal(got, want) {
			t.Errorf("ALL, pages of %d: got %q, want %q", size, got, want)
		}
	}
	if items, _ := list("?MasterRegion=us-east-1"); len(items) != 0 {
		t.Errorf("another master region: got %d, want none", len(items))
	}
	w.do("GET", functions+"?FunctionVersion=SOME", nil).refused(t, "FunctionVersion",
		validation("Value 'SOME' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]"))
	usage := w.do("GET", "/2016-08-19/account-settings", nil).accepted(t, "account settings", 200)
	checkValues(t, "limits", usage["AccountLimit"].(map[string]any), object{"TotalCodeSize": 322122547200, "CodeSizeUnzipped": 262144000, "CodeSizeZipped": 52428800})
	checkValues(t, "usage", usage["AccountUsage"].(map[string]any), object{"FunctionCount": 5})
}

// TestFunctionRefusals goes through lambda-core's table for what can be wrong
// with a function's name and settings.
func TestFunctionRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("here", nil)
	big := strings.Repeat("v", 4096)
	kept := "Lambda was unable to configure your environment variables because the environment variables you have provided "
	runtimes := w.do("POST", functions, newFunction("x", helloZip(t), object{"Runtime": "cobol85"}))
	if got, ok := runtimes.m["message"].(string); runtimes.status != 400 || runtimes.header.Get("X-Amzn-ErrorType") != "InvalidParameterValueException" || !ok || runtimes.m["Type"] != "User" ||
		!strings.HasPrefix(got, "Value cobol85 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [nodejs, ") || !strings.HasSuffix(got, "] or be a valid ARN") {
		t.Errorf("unknown runtime: got %d %s", runtimes.status, cut(runtimes.body))
	}
	for what, c := range map[string]struct {
		changes object
		want    fault
	}{
		"taken":             {object{"FunctionName": "here"}, conflict("Function already exist: here")},
		"taken, by ARN":     {object{"FunctionName": w.fn("here")}, conflict("Function already exist: here")},
		"two architectures": {object{"Architectures": []string{"x86_64", "arm64"}}, validation("Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1")},
		"little memory":     {object{"MemorySize": 127}, validation("Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128")},
		"no time":           {object{"Timeout": 0}, validation("Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1")},
		"much time":         {object{"Timeout": 901}, validation("Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900")},
		"little /tmp":       {object{"EphemeralStorage": object{"Size": 511}}, validation("Value '511' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value greater than or equal to 512")},
		"bad role":          {object{"Role": "me"}, validation(`Value 'me' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`)},
		"no role":           {object{"Role": nil}, validation("Value null at 'role' failed to satisfy constraint: Member must not be null")},
		"no code":           {object{"Code": nil}, validation("Value null at 'code' failed to satisfy constraint: Member must not be null")},
		"empty code":        {object{"Code": object{}}, invalidParameter("Please provide a source for function code.")},
		"two codes":         {object{"Code": object{"ZipFile": helloZip(t), "S3Bucket": "bucket", "S3Key": "k"}}, invalidParameter("Please do not provide other FunctionCode parameters when providing a ZipFile.")},
		"no runtime":        {object{"Runtime": nil}, invalidParameter("Runtime and Handler are mandatory parameters for functions created with deployment packages.")},
		"big environment": {object{"Environment": object{"Variables": object{"KEY": big}}},
			invalidParameter(kept + `exceeded the 4KB limit. String measured: {"KEY":"` + big + `"}`)},
		"reserved keys": {object{"Environment": object{"Variables": object{"AWS_REGION": "r", "FREE": "f", "LAMBDA_TASK_ROOT": "l"}}},
			invalidParameter(kept + "contains reserved keys that are currently not supported for modification. Reserved keys used in this request: AWS_REGION, LAMBDA_TASK_ROOT")},
		"many tags":    {object{"Tags": tags(51)}, invalidParameter("Number of tags exceeds resource tag limit.")},
		"not a zip":    {object{"Code": object{"ZipFile": []byte("PK, but no")}}, invalidParameter("Could not unzip uploaded file. Please check your file, then try to upload again.")},
		"empty zip":    {object{"Code": object{"ZipFile": []byte{}}}, invalidParameter("Could not unzip uploaded file. Please check your file, then try to upload again.")},
		"doubled name": {object{"Code": object{"ZipFile": zipOf(t, "app.py", "1", "app.py", "2")}}, invalidParameter("Could not unzip uploaded file. Please check your file, then try to upload again.")},
		"escaping":     {object{"Code": object{"ZipFile": zipOf(t, "../app.py", "1")}}, invalidParameter("Could not unzip uploaded file. Please check your file, then try to upload again.")},
		"VPC":          {object{"VpcConfig": object{"SubnetIds": []string{"subnet-1"}, "SecurityGroupIds": []string{"sg-1"}}}, notBuilt("VpcConfig")},
		"layers":       {object{"Layers": []string{w.arn("layer:l:1")}}, notBuilt("Layers")},
		"image":        {object{"PackageType": "Image", "Code": object{"ImageUri": "x"}}, notBuilt("PackageType Image")},
		"dead letters": {object{"DeadLetterConfig": object{"TargetArn": "arn:aws:sqs:" + w.region + ":" + testAccount + ":q"}}, notBuilt("DeadLetterConfig")},
		"SnapStart":    {object{"SnapStart": object{"ApplyOn": "PublishedVersions"}}, notBuilt("SnapStart")},
		"key":          {object{"KMSKeyArn": "arn:aws:kms:" + w.region + ":" + testAccount + ":key/k"}, notBuilt("KMSKeyArn")},
		"JSON logs":    {object{"LoggingConfig": object{"LogFormat": "JSON"}}, notBuilt("LogFormat JSON")},
	} {
		w.do("POST", functions, newFunction("new", helloZip(t), c.changes)).refused(t, "create: "+what, c.want)
	}
	w.do("GET", functions+"/new", nil).refused(t, "what was refused", notFound("Function not found: "+w.fn("new")))
	// 4096 characters of JSON are not over the limit, whatever they are.
	fits := object{"Variables": object{"KEY": strings.Repeat("<", 4096-len(`{"KEY":""}`))}}
	w.do("POST", functions, newFunction("fits", helloZip(t), object{"Environment": fits, "Tags": tags(50)})).accepted(t, "as much as fits", 201)

	stale := fault{412, "PreconditionFailedException", map[string]any{"Type": "User",
		"message": "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"}}
	for what, c := range map[string]struct {
		path string
		body object
		want fault
	}{
		"stale configuration": {"/here/configuration", object{"RevisionId": "r"}, stale},
		"stale code":          {"/here/code", object{"ZipFile": helloZip(t), "RevisionId": "r"}, stale},
		"image":               {"/here/code", object{"ImageUri": "x"}, invalidParameter("Please don't provide ImageUri when updating a function with packageType Zip.")},
		"bad zip":             {"/here/code", object{"ZipFile": []byte("no zip")}, invalidParameter("Could not unzip uploaded file. Please check your file, then try to upload again.")},
		"unknown, settings":   {"/nobody/configuration", object{}, notFound("Function not found: " + w.fn("nobody"))},
		"unknown, code":       {"/nobody/code", object{"ZipFile": helloZip(t)}, notFound("Function not found: " + w.fn("nobody"))},
		"reserved key":        {"/here/configuration", object{"Environment": object{"Variables": object{"AWS_REGION": "r"}}}, invalidParameter(kept + "contains reserved keys that are currently not supported for modification. Reserved keys used in this request: AWS_REGION")},
		"big environment":     {"/here/configuration", object{"Environment": object{"Variables": object{"KEY": big}}}, invalidParameter(kept + `exceeded the 4KB limit. String measured: {"KEY":"` + big + `"}`)},
		"layers":              {"/here/configuration", object{"Layers": []string{w.arn("layer:l:1")}}, notBuilt("Layers")},
	} {
		before := w.settled("here")
		w.do("PUT", functions+c.path, c.body).refused(t, "update: "+what, c.want)
		if after := w.settled("here"); after["RevisionId"] != before["RevisionId"] {
			t.Errorf("update: %s: it was refused and changed the function", what)
		}
	}
	rev := w.settled("here")["RevisionId"]
	w.do("PUT", functions+"/here/configuration", object{"RevisionId": rev, "Timeout": 5}).accepted(t, "the latest revision", 200)
}

// notBuilt is the answer to what AWS has and this platform has not.
func notBuilt(what string) fault {
	return fault{501, "NotImplemented", map[string]any{"message": what + " is not built in Countersign."}}
}

func tags(n int) object {
	o := object{}
	for i := range n {
		o[fmt.Sprint("k", i)] = "v"
	}
	return o
}

// Two things at once are refused, and a caller may still run what is on its
// way. The archive is large, and unlike any unpacked before, so that its way is
// long enough to be seen.
func TestUnderWay(t *testing.T) {
	t.Parallel()
	needsPython(t)
	w := newWorld(t)
	bulk := func(fill string) []byte {
		return zipOf(t, "app.py", hello+"# "+w.region, "bulk", strings.Repeat(fill+strings.Repeat("\x00", 1023), 120<<10))
	}
	w.do("POST", functions, newFunction("slow", bulk("1"), object{"Timeout": 30})).accepted(t, "create", 201)
	pending := conflict("The operation cannot be performed at this time. The function is currently in the following state: Pending")
	w.do("PUT", functions+"/slow/configuration", object{}).refused(t, "update while pending", pending)
	w.do("POST", functions+"/slow/versions", object{}).refused(t, "publish while pending", pending)
	if out := w.do("POST", functions+"/slow/invocations", object{"n": 1}); string(out.body) != `{"n": 1}` {
		t.Errorf("invoked while pending: got %d %s", out.status, out.body)
	}
	w.settled("slow")

	w.do("PUT", functions+"/slow/code", object{"ZipFile": bulk("2")}).accepted(t, "update code", 200)
	busy := conflict("The operation cannot be performed at this time. An update is in progress for resource: " + w.fn("slow"))
	began := time.Now()
	w.do("PUT", functions+"/slow/configuration", object{"Timeout": 5}).refused(t, "update while updating", busy)
	w.do("POST", functions+"/slow/versions", object{}).refused(t, "publish while updating", busy)
	t.Logf("both refused within %s", time.Since(began))
	checkValues(t, "in between", w.settled("slow"), object{"Timeout": 30})
}
