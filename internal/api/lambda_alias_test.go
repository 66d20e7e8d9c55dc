package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A version never changes, and publishing twice what is the same makes one.
func TestPublishing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := functions + "/fn/versions"
	w.create("fn", object{"Description": "of latest", "Environment": object{"Variables": object{"KEY": "1"}}})
	before := w.settled("fn")
	v1 := w.do("POST", path, object{"Description": "of one"}).accepted(t, "publish", 201)
	checkMembers(t, "version 1", v1, append(slices.Clone(activeMembers), "Environment")...)
	checkValues(t, "version 1", v1, object{"FunctionArn": w.fn("fn:1"), "Version": "1", "Description": "of one", "State": "Active", "CodeSha256": before["CodeSha256"]})
	latest := w.settled("fn")
	if v1["RevisionId"] == before["RevisionId"] || v1["RevisionId"] == latest["RevisionId"] || latest["RevisionId"] == before["RevisionId"] {
		t.Error("publishing gives the version a revision of its own and $LATEST a new one")
	}
	checkValues(t, "$LATEST", latest, object{"Description": "of latest", "FunctionArn": w.fn("fn"), "Version": "$LATEST"})

	again := w.do("POST", path, object{}).accepted(t, "publish the same", 201)
	checkValues(t, "the same", again, object{"Version": "1", "RevisionId": v1["RevisionId"], "Description": "of one"})
	if now := w.settled("fn"); now["RevisionId"] != latest["RevisionId"] {
		t.Error("publishing nothing new changed $LATEST")
	}

	w.do("PUT", functions+"/fn/configuration", object{"Timeout": 9}).accepted(t, "update", 200)
	w.settled("fn")
	v2 := w.do("POST", path, object{}).accepted(t, "publish settings", 201)
	checkValues(t, "version 2", v2, object{"Version": "2", "Timeout": 9, "Description": "of latest"})
	checkValues(t, "version 1 later", w.settled("fn:1"), object{"Timeout": 3, "Description": "of one", "RevisionId": v1["RevisionId"]})

	code := base64Sum(helloZip(t))
	other := base64Sum([]byte("other"))
	w.do("POST", path, object{"CodeSha256": other}).refused(t, "other code",
		invalidParameter("CodeSHA256 ("+other+") is different from current CodeSHA256 in $LATEST ("+code+"). Please try again with the CodeSHA256 in $LATEST."))
	w.do("POST", path, object{"RevisionId": v1["RevisionId"]}).refused(t, "stale", fault{412, "PreconditionFailedException", map[string]any{"Type": "User",
		"message": "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"}})
	w.do("POST", path, object{"CodeSha256": code, "RevisionId": w.settled("fn")["RevisionId"]}).accepted(t, "all as it is", 201)
	w.do("POST", functions+"/nobody/versions", object{}).refused(t, "unknown", notFound("Function not found: "+w.fn("nobody")))

	// Numbers are never used again.
	w.do("DELETE", functions+"/fn?Qualifier=2", nil).accepted(t, "delete version 2", 204)
	w.do("GET", functions+"/fn:2", nil).refused(t, "version 2", notFound("Function not found: "+w.fn("fn:2")))
	checkValues(t, "after a deletion", w.do("POST", path, object{}).accepted(t, "publish", 201), object{"Version": "3"})
}

func TestUpdateCodeAndPublish(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("fn", nil)
	code := zipOf(t, "app.py", hello+"# 1")
	v := w.do("PUT", functions+"/fn/code", object{"ZipFile": code, "Publish": true}).accepted(t, "update and publish", 200)
	checkMembers(t, "published", v, pendingMembers...)
	checkValues(t, "published", v, object{"FunctionArn": w.fn("fn:1"), "Version": "1", "State": "Pending", "StateReasonCode": "Creating", "CodeSha256": base64Sum(code)})
	w.settled("fn")
	checkValues(t, "version 1", w.settled("fn:1"), object{"Version": "1", "CodeSha256": base64Sum(code)})

	before := w.settled("fn")
	for _, publish := range []bool{false, true} {
		dry := w.do("PUT", functions+"/fn/code", object{"ZipFile": helloZip(t), "DryRun": true, "Publish": publish}).accepted(t, "dry run", 200)
		checkValues(t, "dry run", dry, object{"FunctionArn": w.fn("fn"), "CodeSha256": base64Sum(helloZip(t))})
	}
	after := w.settled("fn")
	checkValues(t, "after dry runs", after, object{"CodeSha256": base64Sum(code), "RevisionId": before["RevisionId"], "LastModified": before["LastModified"]})
	w.do("GET", functions+"/fn:2", nil).refused(t, "version 2 of a dry run", notFound("Function not found: "+w.fn("fn:2")))
}

func TestListVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("fn", nil)
	pages := func(size int) (got []string) {
		t.Helper()
		marker := ""
		for range 10 {
			m := w.do("GET", functions+"/fn/versions?MaxItems="+fmt.Sprint(size)+marker, nil).accepted(t, "list", 200)
			items := m["Versions"].([]any)
			if len(items) == 0 || len(items) > size {
				t.Fatalf("got a page of %d, want at most %d and not none", len(items), size)
			}
			for _, x := range items {
				checkMembers(t, "listed", x.(map[string]any), listedMembers...)
				got = append(got, strings.TrimPrefix(x.(map[string]any)["FunctionArn"].(string), w.fn("fn:")))
			}
			next, ok := m["NextMarker"].(string)
			if !ok {
				return got
			}
			marker = "&Marker=" + escaped(next)
		}
		t.Fatal("the list does not end")
		return nil
	}
	if got := pages(1); !slices.Equal(got, []string{"$LATEST"}) {
		t.Errorf("nothing published: got %q", got)
	}
	for range 4 {
		w.publish("fn")
	}
	for _, size := range []int{1, 2, 3, 4, 5, 6, 10000} {
		if got, want := pages(size), []string{"$LATEST", "1", "2", "3", "4"}; !slices.Equal(got, want) {
			t.Errorf("pages of %d: got %q, want %q", size, got, want)
		}
	}
	w.do("GET", functions+"/nobody/versions", nil).refused(t, "unknown", notFound("Function not found: "+w.fn("nobody")))
}

func TestDeletion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := functions + "/fn"
	w.create("fn", nil)
	for range 3 {
		w.publish("fn")
	}
	alias := func(name, version string, more object) {
		t.Helper()
		o := object{"Name": name, "FunctionVersion": version}
		for k, v := range more {
			o[k] = v
		}
		w.do("POST", path+"/aliases", o).accepted(t, "alias "+name, 201)
	}
	alias("live", "1", nil)
	alias("canary", "2", object{"RoutingConfig": object{"AdditionalVersionWeights": object{"1": 0.1}}})
	for qualifier, want := range map[string]fault{
		"$LATEST": invalidParameter("$LATEST version cannot be deleted without deleting the function."),
		"live":    invalidParameter("Deletion of aliases is not currently supported."),
		"nobody":  invalidParameter("Deletion of aliases is not currently supported."),
		"1":       conflict("Unable to delete version because the following aliases reference it: [canary, live]"),
		"2":       conflict("Unable to delete version because the following aliases reference it: [canary]"),
	} {
		w.do("DELETE", path+"?Qualifier="+escaped(qualifier), nil).refused(t, "delete "+qualifier, want)
		w.do("DELETE", functions+"/"+escaped("fn:"+qualifier), nil).refused(t, "delete fn:"+qualifier, want)
	}
	// A version that is not there is deleted, a function is not.
	for _, q := range []string{"3", "3", "4", "99999999999999999999"} {
		w.do("DELETE", path+"?Qualifier="+q, nil).accepted(t, "delete version "+q, 204)
		w.do("DELETE", functions+"/nobody?Qualifier="+q, nil).refused(t, "delete version of nobody", notFound("Function not found: "+w.fn("nobody")))
	}
	w.do("DELETE", path, nil).accepted(t, "delete", 204)
	w.do("DELETE", path, nil).refused(t, "delete twice", notFound("Function not found: "+w.fn("fn")))

	// Of a function with the same name nothing is inherited, but that its numbers
	// stay used: "even for a function that has been deleted and recreated".
	w.create("fn", nil)
	w.do("GET", path+"/aliases/live", nil).refused(t, "an alias of the dead", notFound("Cannot find alias arn: "+w.fn("fn:live")))
	w.do("GET", path+":1", nil).refused(t, "a version of the dead", notFound("Function not found: "+w.fn("fn:1")))
	if got := w.publish("fn"); got != "4" {
		t.Errorf("got version %s, want 4", got)
	}
}

func TestAliases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := functions + "/fn/aliases"
	w.create("fn", nil)
	w.publish("fn")
	w.publish("fn")
	members := []string{"AliasArn", "Name", "FunctionVersion", "Description", "RevisionId"}

	// As Terraform sends it: an empty RoutingConfig is none.
	made := w.do("POST", path, object{"Name": "live", "FunctionVersion": "1", "Description": "", "RoutingConfig": object{}}).accepted(t, "create", 201)
	checkMembers(t, "created", made, members...)
	checkValues(t, "created", made, object{"AliasArn": w.fn("fn:live"), "Name": "live", "FunctionVersion": "1", "Description": ""})
	checkForm(t, "created", made["RevisionId"], uuidForm)
	w.do("POST", path, object{"Name": "latest", "FunctionVersion": "$LATEST"}).accepted(t, "to $LATEST", 201)

	weighted := w.do("PUT", path+"/live", object{"Description": "d", "RoutingConfig": object{"AdditionalVersionWeights": object{"2": 0.25}}}).accepted(t, "weigh", 200)
	checkMembers(t, "weighted", weighted, append(slices.Clone(members), "RoutingConfig")...)
	checkValues(t, "weighted", weighted, object{"FunctionVersion": "1", "Description": "d", "RoutingConfig": object{"AdditionalVersionWeights": object{"2": 0.25}}})
	if weighted["RevisionId"] == made["RevisionId"] {
		t.Error("an update leaves the RevisionId")
	}
	checkValues(t, "read", w.do("GET", path+"/live", nil).accepted(t, "read", 200), object{"RevisionId": weighted["RevisionId"], "RoutingConfig": weighted["RoutingConfig"]})
	// Whoever reads the function through it sees the version that has the rest.
	w.do("PUT", path+"/live", object{"RoutingConfig": object{"AdditionalVersionWeights": object{"2": 1}}}).accepted(t, "weigh all", 200)
	for range 20 {
		checkValues(t, "function by a weighted alias", w.do("GET", functions+"/fn:live/configuration", nil).accepted(t, "read", 200),
			object{"FunctionArn": w.fn("fn:live"), "Version": "1"})
	}
	kept := w.do("PUT", path+"/live", object{"FunctionVersion": "1"}).accepted(t, "say nothing of weights", 200)
	checkValues(t, "weights kept", kept, object{"RoutingConfig": object{"AdditionalVersionWeights": object{"2": 1}}})
	cleared := w.do("PUT", path+"/live", object{"FunctionVersion": "2", "Description": "", "RoutingConfig": object{}}).accepted(t, "clear", 200)
	checkMembers(t, "cleared", cleared, members...)
	checkValues(t, "cleared", cleared, object{"FunctionVersion": "2", "Description": ""})

	w.do("PUT", path+"/live", object{"RevisionId": made["RevisionId"]}).refused(t, "stale", fault{412, "PreconditionFailedException", map[string]any{"Type": "User",
		"message": "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"}})
	w.do("PUT", path+"/live", object{"RevisionId": cleared["RevisionId"]}).accepted(t, "the latest revision", 200)

	weights := func(version string, ws object) object {
		return object{"FunctionVersion": version, "RoutingConfig": object{"AdditionalVersionWeights": ws}}
	}
	for what, c := range map[string]struct {
		in   object
		want fault
	}{
		"two weights":     {weights("1", object{"1": 0.1, "2": 0.1}), invalidParameter("Number of items in AdditionalVersionWeights cannot be greater than 1")},
		"twice the same":  {weights("1", object{"1": 0.1}), invalidParameter("Invalid function version 1. Function version 1 is already included in routing configuration.")},
		"$LATEST":         {weights("$LATEST", object{"1": 0.1}), untyped(400, "InvalidParameterValueException", "$LATEST is not supported for an alias pointing to more than 1 version")},
		"unknown version": {object{"FunctionVersion": "7"}, notFound("Function not found: " + w.fn("fn:7"))},
		"unknown weight":  {weights("1", object{"7": 0.1}), notFound("Function not found: " + w.fn("fn:7"))},
		"far too large":   {object{"FunctionVersion": "99999999999999999999"}, notFound("Function not found: " + w.fn("fn:99999999999999999999"))},
		"weight of 2": {weights("1", object{"2": 2}), validation("Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: " +
			"Map value must satisfy constraint: [Member must have value less than or equal to 1, Member must have value greater than or equal to 0, Member must not be null]")},
	} {
		w.do("PUT", path+"/live", c.in).refused(t, "update: "+what, c.want)
		c.in["Name"] = "new"
		w.do("POST", path, c.in).refused(t, "create: "+what, c.want)
	}
	checkValues(t, "after refusals", w.do("GET", path+"/live", nil).accepted(t, "read", 200), object{"FunctionVersion": "2"})
	named := w.do("POST", path, object{"Name": "123", "FunctionVersion": "1"})
	if named.status != 400 || named.header.Get("X-Amzn-ErrorType") != "ValidationException" || !strings.Contains(named.m["message"].(string), "(?!^[0-9]+$)([a-zA-Z0-9-_]+)") {
		t.Errorf("a number as a name: got %d %s", named.status, named.body)
	}
	w.do("POST", path, object{"Name": "live", "FunctionVersion": "1"}).refused(t, "duplicate", conflict("Alias already exists: "+w.fn("fn:live")))
	w.do("GET", path+"/dead", nil).refused(t, "get unknown", notFound("Cannot find alias arn: "+w.fn("fn:dead")))
	w.do("PUT", path+"/dead", object{}).refused(t, "update unknown", notFound("Alias not found: "+w.fn("fn:dead")))
	w.do("POST", functions+"/nobody/aliases", object{"Name": "live", "FunctionVersion": "1"}).refused(t, "unknown function", notFound("Function not found: "+w.fn("nobody")))

	// Lists, by page and by version.
	w.do("POST", path, object{"Name": "also", "FunctionVersion": "1", "RoutingConfig": object{"AdditionalVersionWeights": object{"2": 0.5}}}).accepted(t, "create", 201)
	for query, want := range map[string]string{
		"?": "also latest live", "?FunctionVersion=2": "also live", "?FunctionVersion=1": "also", "?FunctionVersion=%24LATEST": "latest", "?FunctionVersion=9": "",
	} {
		for _, size := range []int{1, 2, 10} {
			var got []string
			marker := ""
			for more := true; more; {
				m := w.do("GET", path+query+"&MaxItems="+fmt.Sprint(size)+marker, nil).accepted(t, "list", 200)
				for _, x := range m["Aliases"].([]any) {
					got = append(got, x.(map[string]any)["Name"].(string))
				}
				var next string
				if next, more = m["NextMarker"].(string); more {
					marker = "&Marker=" + escaped(next)
				}
				if len(got) > 3 {
					t.Fatalf("%s, pages of %d: got %q and no end", query, size, got)
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s, pages of %d: got %q, want %q", query, size, got, want)
			}
		}
	}
	for range 2 { // the second time it is not there
		if out := w.do("DELETE", path+"/live", nil); out.status != 204 || len(out.body) != 0 {
			t.Errorf("delete: got %d %s", out.status, out.body)
		}
	}
}

// Tags belong to functions and code signing configurations, not to versions.
func TestTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("fn", nil)
	w.publish("fn")
	csc := w.config("Warn", w.arn("x"))
	other := csc[:len(csc)-1] + map[bool]string{true: "0", false: "1"}[csc[len(csc)-1] == '1']
	at := func(arn string) string { return "/2017-03-31/tags/" + escaped(arn) }
	for _, arn := range []string{w.fn("fn"), csc} {
		checkValues(t, "no tags", w.do("GET", at(arn), nil).accepted(t, "list", 200), object{"Tags": object{}})
		w.do("POST", at(arn), object{"Tags": object{"a": "1", "b/c:d e": "é"}}).accepted(t, "tag", 204)
		w.do("POST", at(arn), object{"Tags": object{"a": "2"}}).accepted(t, "tag again", 204)
		checkValues(t, "tags", w.do("GET", at(arn), nil).accepted(t, "list", 200), object{"Tags": object{"a": "2", "b/c:d e": "é"}})
		w.do("POST", at(arn), object{"Tags": tags(50)}).refused(t, "52 tags", invalidParameter("Number of tags exceeds resource tag limit."))
		w.do("POST", at(arn), object{"Tags": tags(48)}).accepted(t, "50 tags", 204)
		w.do("POST", at(arn), object{"Tags": object{"a": "3"}}).accepted(t, "one of 50 again", 204)
		w.do("POST", at(arn), object{"Tags": object{"one more": ""}}).refused(t, "51 tags", invalidParameter("Number of tags exceeds resource tag limit."))
		w.do("DELETE", at(arn)+"?tagKeys=b%2Fc%3Ad%20e&tagKeys=never&tagKeys=k0", nil).accepted(t, "untag", 204)
		want := tags(48)
		delete(want, "k0")
		want["a"] = "3"
		checkValues(t, "untagged", w.do("GET", at(arn), nil).accepted(t, "list", 200), object{"Tags": want})
		w.do("POST", at(arn), object{"Tags": object{}}).refused(t, "no tags", invalidParameter("An error occurred and the request cannot be processed."))
	}
	qualified := invalidParameter("Tags on function aliases and versions are not supported. Please specify a function ARN.")
	for arn, want := range map[string]fault{
		w.fn("fn:1"):       qualified,
		w.fn("fn:live"):    qualified,
		w.fn("fn:$LATEST"): qualified,
		w.fn("nobody"):     notFound("Function not found: " + w.fn("nobody")),
		other:              untyped404("The Lambda code signing configuration " + other + " can not be found."),
	} {
		w.do("GET", at(arn), nil).refused(t, "list of "+arn, want)
		w.do("POST", at(arn), object{"Tags": object{"a": "b"}}).refused(t, "tag "+arn, want)
		w.do("DELETE", at(arn)+"?tagKeys=a", nil).refused(t, "untag "+arn, want)
	}
	for _, arn := range []string{w.arn("layer:l"), w.arn("event-source-mapping:91eaeb7e-c976-1234-9451-8709db01f137"), "fn", "arn:aws:s3:::b"} {
		if out := w.do("GET", at(arn), nil); out.status < 400 || out.status >= 500 {
			t.Errorf("tags of %s: got %d %s", arn, out.status, out.body)
		}
	}
}
