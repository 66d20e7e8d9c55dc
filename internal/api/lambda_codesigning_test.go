package api_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const configsPath = "/2020-04-22/code-signing-configs"

func configPath(arn string) string { return configsPath + "/" + escaped(arn) }

func attachPath(name string) string {
	return "/2020-06-30/functions/" + escaped(name) + "/code-signing-config"
}

// config makes a code signing configuration and returns its ARN.
func (w *world) config(policy string, publishers ...string) string {
	w.t.Helper()
	m := w.do("POST", configsPath, object{"AllowedPublishers": object{"SigningProfileVersionArns": publishers},
		"CodeSigningPolicies": object{"UntrustedArtifactOnDeployment": policy}}).accepted(w.t, "create configuration", 201)
	return m["CodeSigningConfig"].(map[string]any)["CodeSigningConfigArn"].(string)
}

// untyped404 is the one ResourceNotFoundException without Type.
func untyped404(message string) fault {
	return fault{404, "ResourceNotFoundException", map[string]any{"Message": message}}
}

var (
	configIDForm  = regexp.MustCompile(`^csc-[a-f0-9]{17}$`)
	configModForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$`)
)

func TestCodeSigningConfigs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	publisher := "arn:aws:signer:" + w.region + ":" + testAccount + ":/signing-profiles/prod/abcdefghij"
	members := []string{"CodeSigningConfigId", "CodeSigningConfigArn", "AllowedPublishers", "CodeSigningPolicies", "LastModified"}
	described := append(slices.Clone(members), "Description")
	config := func(m map[string]any) map[string]any {
		t.Helper()
		checkMembers(t, "answer", m, "CodeSigningConfig")
		return m["CodeSigningConfig"].(map[string]any)
	}

	made := config(w.do("POST", configsPath, object{"AllowedPublishers": object{"SigningProfileVersionArns": []string{publisher}}}).accepted(t, "create", 201))
	checkMembers(t, "created", made, members...)
	checkForm(t, "id", made["CodeSigningConfigId"], configIDForm)
	checkForm(t, "modified", made["LastModified"], configModForm)
	arn := w.arn("code-signing-config:" + made["CodeSigningConfigId"].(string))
	checkValues(t, "created", made, object{"CodeSigningConfigArn": arn, "AllowedPublishers": object{"SigningProfileVersionArns": []string{publisher}},
		"CodeSigningPolicies": object{"UntrustedArtifactOnDeployment": "Warn"}})
	got := config(w.do("GET", configPath(arn), nil).accepted(t, "get", 200))
	checkMembers(t, "got", got, members...)
	checkValues(t, "got", got, object{"LastModified": made["LastModified"]})

	// Updates: what is not said stays, and a description appears.
	updated := config(w.do("PUT", configPath(arn), object{}).accepted(t, "update nothing", 200))
	checkMembers(t, "nothing updated", updated, described...)
	checkValues(t, "nothing updated", updated, object{"Description": "", "AllowedPublishers": made["AllowedPublishers"], "CodeSigningPolicies": made["CodeSigningPolicies"]})
	steps := []struct {
		what     string
		in, want object
	}{
		{"policy", object{"CodeSigningPolicies": object{"UntrustedArtifactOnDeployment": "Enforce"}}, object{"Description": ""}},
		{"no policy", object{"CodeSigningPolicies": object{}}, object{"CodeSigningPolicies": object{"UntrustedArtifactOnDeployment": "Enforce"}}},
		{"description", object{"Description": "d"}, object{"Description": "d", "CodeSigningPolicies": object{"UntrustedArtifactOnDeployment": "Enforce"}}},
		{"publishers", object{"AllowedPublishers": object{"SigningProfileVersionArns": []string{publisher + "2", publisher}}},
			object{"Description": "d", "AllowedPublishers": object{"SigningProfileVersionArns": []string{publisher + "2", publisher}}}},
		{"empty description", object{"Description": ""}, object{"Description": ""}},
	}
	for _, s := range steps {
		m := config(w.do("PUT", configPath(arn), s.in).accepted(t, "update "+s.what, 200))
		checkMembers(t, s.what, m, described...)
		checkValues(t, s.what, m, s.want)
		checkForm(t, s.what, m["LastModified"], configModForm)
		checkValues(t, s.what+", read", config(w.do("GET", configPath(arn), nil).accepted(t, "get", 200)), s.want)
	}
	withText := config(w.do("POST", configsPath, object{"AllowedPublishers": object{"SigningProfileVersionArns": []string{publisher}}, "Description": "", "Tags": object{"a": "b"}}).accepted(t, "create", 201))
	checkMembers(t, "an empty description is one", withText, described...)
	checkValues(t, "tags from creation", w.do("GET", "/2017-03-31/tags/"+escaped(withText["CodeSigningConfigArn"].(string)), nil).accepted(t, "tags", 200), object{"Tags": object{"a": "b"}})

	// What is checked of a publisher is its form alone.
	for _, p := range []string{publisher, "arn:aws:signer:us-east-1:111111111111:/signing-profiles/test", "arn:aws:signer:::", "arn:aws:s3:::b"} {
		w.config("Warn", p)
	}
	arns := func(n int) (ps []string) {
		for i := range n {
			ps = append(ps, publisher+fmt.Sprint(i))
		}
		return ps
	}
	w.config("Warn", arns(20)...)
	for what, c := range map[string]struct {
		in   object
		says []string
	}{
		"21 publishers": {object{"AllowedPublishers": object{"SigningProfileVersionArns": arns(21)}}, []string{"at 'allowedPublishers.signingProfileVersionArns'", "Member must have length less than or equal to 20"}},
		"no publisher":  {object{"AllowedPublishers": object{"SigningProfileVersionArns": []string{}}}, []string{"at 'allowedPublishers.signingProfileVersionArns'", "Member must have length greater than or equal to 1"}},
		"none at all":   {object{}, []string{"Value null at 'allowedPublishers'", "Member must not be null"}},
		"no ARN":        {object{"AllowedPublishers": object{"SigningProfileVersionArns": []string{"prod"}}}, []string{"at 'allowedPublishers.signingProfileVersionArns'", "Member must satisfy regular expression pattern: arn:(aws"}},
		"no such policy": {object{"AllowedPublishers": object{"SigningProfileVersionArns": arns(1)}, "CodeSigningPolicies": object{"UntrustedArtifactOnDeployment": "Ask"}},
			[]string{"Value 'Ask' at 'codeSigningPolicies.untrustedArtifactOnDeployment'", "Member must satisfy enum value set: [Warn, Enforce]"}},
		"long description": {object{"AllowedPublishers": object{"SigningProfileVersionArns": arns(1)}, "Description": strings.Repeat("d", 257)}, []string{"at 'description'", "Member must have length less than or equal to 256"}},
	} {
		out := w.do("POST", configsPath, c.in)
		message, _ := out.m["message"].(string)
		if out.status != 400 || out.header.Get("X-Amzn-ErrorType") != "ValidationException" || out.m["Type"] != nil || !strings.HasPrefix(message, "1 validation error detected: ") {
			t.Errorf("%s: got %d %s", what, out.status, cut(out.body))
		}
		for _, s := range c.says {
			if !strings.Contains(message, s) {
				t.Errorf("%s: got %q, want %q in it", what, cut([]byte(message)), s)
			}
		}
	}

	// Unknown ones, and those of other regions and accounts.
	elsewhere := strings.Replace(arn, w.region, "us-east-1", 1)
	anothers := strings.Replace(arn, testAccount, "111111111111", 1)
	unknown := w.arn("code-signing-config:csc-" + strings.Repeat("0", 17))
	for _, a := range []string{unknown, elsewhere, anothers} {
		want := untyped404("The Lambda code signing configuration " + a + " can not be found.")
		w.do("GET", configPath(a), nil).refused(t, "get", want)
		w.do("PUT", configPath(a), object{}).refused(t, "update", want)
		w.do("DELETE", configPath(a), nil).refused(t, "delete", want)
		w.do("GET", configPath(a)+"/functions", nil).refused(t, "functions", want)
	}
	there := inRegion(t, "us-east-1")
	there.do("GET", configPath(arn), nil).refused(t, "from another region", untyped404("The Lambda code signing configuration "+arn+" can not be found."))
	there.do("DELETE", configPath(arn), nil).refused(t, "from another region", untyped404("The Lambda code signing configuration "+arn+" can not be found."))
	for _, bad := range []string{"csc-1", w.arn("code-signing-config:csc-1"), w.fn("fn"), w.arn("code-signing-config:csc-" + strings.Repeat("A", 17))} {
		if out := w.do("GET", configPath(bad), nil); out.status != 400 || out.header.Get("X-Amzn-ErrorType") != "ValidationException" || !strings.Contains(out.m["message"].(string), "at 'codeSigningConfigArn' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:") {
			t.Errorf("ARN %s: got %d %s", bad, out.status, out.body)
		}
	}

	if out := w.do("DELETE", configPath(arn), nil); out.status != 204 || len(out.body) != 0 {
		t.Errorf("delete: got %d %s", out.status, out.body)
	}
	w.do("GET", configPath(arn), nil).refused(t, "deleted", untyped404("The Lambda code signing configuration "+arn+" can not be found."))
}

func TestListCodeSigningConfigs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if out := w.do("GET", configsPath, nil); out.status != 200 || string(out.body) != `{"CodeSigningConfigs":[]}` {
		t.Errorf("none: got %d %s", out.status, out.body)
	}
	want := map[string]bool{}
	for range 5 {
		want[w.config("Warn", w.arn("p"))] = true
	}
	for size := 1; size <= 6; size++ {
		got := map[string]bool{}
		marker := ""
		for page := 0; ; page++ {
			m := w.do("GET", configsPath+"?MaxItems="+fmt.Sprint(size)+marker, nil).accepted(t, "list", 200)
			items := m["CodeSigningConfigs"].([]any)
			if len(items) == 0 || len(items) > size || page > 5 {
				t.Fatalf("pages of %d: got %d on page %d", size, len(items), page)
			}
			for _, x := range items {
				arn := x.(map[string]any)["CodeSigningConfigArn"].(string)
				if got[arn] || !want[arn] {
					t.Errorf("pages of %d: got %s twice, or it is nobody's", size, arn)
				}
				got[arn] = true
			}
			next, ok := m["NextMarker"].(string)
			if !ok {
				break
			}
			marker = "&Marker=" + escaped(next)
		}
		if len(got) != len(want) {
			t.Errorf("pages of %d: got %d, want %d", size, len(got), len(want))
		}
	}
}

func TestAttachingCodeSigning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	warn, enforce := w.config("Warn", w.arn("p")), w.config("Enforce", w.arn("p"))
	for _, n := range []string{"a", "b", "c"} {
		w.create(n, nil)
	}
	w.publish("a")
	w.do("POST", functions+"/a/aliases", object{"Name": "live", "FunctionVersion": "1"}).accepted(t, "alias", 201)

	if out := w.do("GET", attachPath("a"), nil); out.status != 200 || string(out.body) != "{}" {
		t.Errorf("none attached: got %d %s, want an empty object", out.status, out.body)
	}
	if out := w.do("DELETE", attachPath("a"), nil); out.status != 204 || len(out.body) != 0 {
		t.Errorf("detach none: got %d %s", out.status, out.body)
	}
	before := w.settled("a")
	for _, arn := range []string{warn, enforce} { // code that is deployed is never judged again
		put := w.do("PUT", attachPath("a"), object{"CodeSigningConfigArn": arn}).accepted(t, "attach", 200)
		checkMembers(t, "attached", put, "CodeSigningConfigArn", "FunctionName")
		checkValues(t, "attached", put, object{"CodeSigningConfigArn": arn, "FunctionName": "a"})
		got := w.do("GET", attachPath(w.fn("a")), nil).accepted(t, "get", 200)
		checkMembers(t, "read", got, "CodeSigningConfigArn", "FunctionName")
		checkValues(t, "read", got, object{"CodeSigningConfigArn": arn, "FunctionName": "a"})
	}
	if after := w.settled("a"); after["RevisionId"] != before["RevisionId"] {
		t.Error("attaching gave the function another revision")
	}
	w.do("PUT", functions+"/a/configuration", object{"Timeout": 9}).accepted(t, "settings of unsigned code under Enforce", 200)
	w.settled("a")
	w.do("POST", functions+"/a/versions", object{}).accepted(t, "publish unsigned code under Enforce", 201)

	missing := w.arn("code-signing-config:csc-" + strings.Repeat("0", 17))
	elsewhere := inRegion(t, "us-east-1").config("Warn", w.arn("p"))
	cannot := func(arn string) fault {
		return capital(404, "CodeSigningConfigNotFoundException", "The code signing configuration cannot be found. Check that the provided configuration is not deleted: "+arn+".")
	}
	w.do("PUT", attachPath("a"), object{"CodeSigningConfigArn": missing}).refused(t, "unknown configuration", cannot(missing))
	w.do("PUT", attachPath("nobody"), object{"CodeSigningConfigArn": missing}).refused(t, "both unknown", cannot(missing))
	w.do("PUT", attachPath("a"), object{"CodeSigningConfigArn": elsewhere}).refused(t, "another region's", cannot(elsewhere))
	w.do("POST", functions, newFunction("new", helloZip(t), object{"CodeSigningConfigArn": missing})).refused(t, "create under an unknown one", cannot(missing))
	w.do("POST", functions, newFunction("new", helloZip(t), object{"CodeSigningConfigArn": elsewhere})).refused(t, "create under another region's", cannot(elsewhere))
	nobody := notFound("Function not found: " + w.fn("nobody"))
	w.do("PUT", attachPath("nobody"), object{"CodeSigningConfigArn": warn}).refused(t, "unknown function", nobody)
	w.do("GET", attachPath("nobody"), nil).refused(t, "unknown function", nobody)
	w.do("DELETE", attachPath("nobody"), nil).refused(t, "unknown function", nobody)
	wrong := strings.Replace(w.fn("a"), w.region, "us-east-1", 1)
	unreachable := notFound("Functions from 'us-east-1' are not reachable in this region ('" + w.region + "')")
	for _, verb := range []string{"GET", "PUT", "DELETE"} {
		body := map[string]any{"PUT": object{"CodeSigningConfigArn": warn}}[verb]
		w.do(verb, attachPath(wrong), body).refused(t, verb+" another region's function", unreachable)
		for _, q := range []string{"$LATEST", "1", "live"} {
			out := w.do(verb, attachPath("a:"+q), body)
			if out.status != 400 || out.header.Get("X-Amzn-ErrorType") != "InvalidParameterValueException" || out.m["Type"] != "User" {
				t.Errorf("%s a:%s: got %d %s", verb, q, out.status, out.body)
			}
		}
	}
	checkValues(t, "after refusals", w.do("GET", attachPath("a"), nil).accepted(t, "get", 200), object{"CodeSigningConfigArn": enforce})

	// Who carries it, by page; and it stays as long as somebody does.
	for _, n := range []string{"b", "c"} {
		w.do("PUT", attachPath(n), object{"CodeSigningConfigArn": enforce}).accepted(t, "attach", 200)
	}
	for size := 1; size <= 4; size++ {
		var got []string
		marker := ""
		for more := true; more; {
			m := w.do("GET", configPath(enforce)+"/functions?MaxItems="+fmt.Sprint(size)+marker, nil).accepted(t, "carriers", 200)
			for _, x := range m["FunctionArns"].([]any) {
				got = append(got, x.(string))
			}
			var next string
			if next, more = m["NextMarker"].(string); more {
				marker = "&Marker=" + escaped(next)
			}
		}
		if want := []string{w.fn("a"), w.fn("b"), w.fn("c")}; !slices.Equal(got, want) {
			t.Errorf("pages of %d: got %q, want %q", size, got, want)
		}
	}
	if out := w.do("GET", configPath(warn)+"/functions", nil); string(out.body) != `{"FunctionArns":[]}` {
		t.Errorf("nobody's: got %s", out.body)
	}
	attached := conflict("Lambda cannot delete the code signing configuration at this time — another operation is in progress. Try again later.")
	w.do("DELETE", configPath(enforce), nil).refused(t, "delete while attached", attached)
	w.do("DELETE", attachPath("a"), nil).accepted(t, "detach", 204)
	w.do("DELETE", attachPath("b"), nil).accepted(t, "detach", 204)
	w.do("DELETE", configPath(enforce), nil).refused(t, "delete while c carries it", attached)
	w.do("DELETE", functions+"/c", nil).accepted(t, "delete the last function", 204)
	w.do("DELETE", configPath(enforce), nil).accepted(t, "delete", 204)
	w.do("DELETE", configPath(warn), nil).accepted(t, "delete", 204)
	if out := w.do("GET", attachPath("a"), nil); string(out.body) != "{}" {
		t.Errorf("detached: got %s", out.body)
	}
}
