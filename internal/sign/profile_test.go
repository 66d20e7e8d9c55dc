package sign_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign"
	"countersign/internal/sign"
)

func TestPutProfile(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	got, err := p.PutProfile(t.Context(), here, sign.NewProfile{
		Name: "Team_A1", Platform: sign.LambdaPlatform, Validity: &sign.Validity{Unit: "MONTHS", Value: 12}, Tags: map[string]string{"Profile_type": "Lambda"},
	})
	must(t, err)
	if want := "arn:aws:signer:eu-central-1:000000000000:/signing-profiles/Team_A1"; got.ARN() != want || got.VersionARN() != want+"/"+got.Version {
		t.Errorf("got %s and %s, want %s and its version", got.ARN(), got.VersionARN(), want)
	}
	if !regexp.MustCompile(`^[a-zA-Z0-9]{10}$`).MatchString(got.Version) {
		t.Errorf("got version %q, want ten letters and digits", got.Version)
	}
	back, err := p.Profile(t.Context(), here, "Team_A1")
	must(t, err)
	if back.Status != sign.Active || back.Validity != (sign.Validity{Unit: "MONTHS", Value: 12}) || back.Tags["Profile_type"] != "Lambda" {
		t.Errorf("got %+v", back)
	}
	// Elsewhere the name is free, and the profile is not there.
	if _, err := p.Profile(t.Context(), sign.Scope{Account: account, Region: "us-east-1"}, "Team_A1"); countersign.KindOf(err) != countersign.NotFound {
		t.Errorf("another region: got %v, want NotFound", err)
	}
	if _, err := p.Profile(t.Context(), sign.Scope{Account: "111111111111", Region: region}, "Team_A1"); countersign.KindOf(err) != countersign.NotFound {
		t.Errorf("another account: got %v, want NotFound", err)
	}
}

func TestPutProfileRefuses(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	must(t, p.CancelProfile(t.Context(), here, p.profile(t, "gone").Name))
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprintf("k%d", i)] = ""
	}
	lambda := sign.NewProfile{Name: "new", Platform: sign.LambdaPlatform}
	with := func(f func(*sign.NewProfile)) sign.NewProfile { n := lambda; f(&n); return n }
	for _, c := range []struct {
		name string
		in   sign.NewProfile
		kind countersign.Kind
		want string
	}{
		{"name taken", with(func(n *sign.NewProfile) { n.Name = "prod" }), countersign.Exists, "Profile with name prod already exists"},
		{"name of a canceled one", with(func(n *sign.NewProfile) { n.Name = "gone" }), countersign.Exists, "Profile with name gone already exists"},
		{"platform nobody knows", with(func(n *sign.NewProfile) { n.Platform = "AWSLambda" }), countersign.Invalid, "Invalid platformId: AWSLambda"},
		{"IoT without material", with(func(n *sign.NewProfile) { n.Platform = "AWSIoTDeviceManagement-SHA256-ECDSA" }), countersign.Invalid, "signing material cannot be null."},
		{"FreeRTOS without material", with(func(n *sign.NewProfile) { n.Platform = "AmazonFreeRTOS-Default" }), countersign.Invalid, "signing material cannot be null."},
		{"IoT with material", with(func(n *sign.NewProfile) {
			n.Platform, n.Material = "AWSIoTDeviceManagement-SHA256-ECDSA", "arn:aws:acm:x"
		}), countersign.NotAllowed, ""},
		{"Lambda with material", with(func(n *sign.NewProfile) { n.Material = "arn:aws:acm:x" }), countersign.Invalid, ""},
		{"no days", with(func(n *sign.NewProfile) { n.Validity = &sign.Validity{Unit: "DAYS"} }), countersign.Invalid, ""},
		{"136 months", with(func(n *sign.NewProfile) { n.Validity = &sign.Validity{Unit: "MONTHS", Value: 136} }), countersign.Invalid, ""},
		{"12 years", with(func(n *sign.NewProfile) { n.Validity = &sign.Validity{Unit: "YEARS", Value: 12} }), countersign.Invalid, ""},
		{"more days than a calendar", with(func(n *sign.NewProfile) { n.Validity = &sign.Validity{Unit: "DAYS", Value: 1 << 62} }), countersign.Invalid, ""},
		{"weeks", with(func(n *sign.NewProfile) { n.Validity = &sign.Validity{Unit: "WEEKS", Value: 1} }), countersign.Invalid, ""},
		{"RSA for Lambda", with(func(n *sign.NewProfile) { n.Overrides.Encryption = "RSA" }), countersign.Invalid, "encryption algorithm RSA is not supported for platform AWSLambda-SHA384-ECDSA"},
		{"SHA256 for Lambda", with(func(n *sign.NewProfile) { n.Overrides.Hash = "SHA256" }), countersign.Invalid, ""},
		{"JSON for Lambda", with(func(n *sign.NewProfile) { n.Overrides.Format = "JSON" }), countersign.Invalid, ""},
		{"51 tags", with(func(n *sign.NewProfile) { n.Tags = many }), countersign.Invalid, ""},
		{"reserved tag", with(func(n *sign.NewProfile) { n.Tags = map[string]string{"AWS:x": ""} }), countersign.Invalid, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := p.PutProfile(t.Context(), here, c.in)
			checkKind(t, err, c.kind, c.want)
		})
	}
	if _, err := p.Profile(t.Context(), here, "new"); countersign.KindOf(err) != countersign.NotFound {
		t.Errorf("a refused profile is there: %v", err)
	}
	n, err := p.PutProfile(t.Context(), here, sign.NewProfile{Name: "oci", Platform: sign.NotationPlatform, Overrides: sign.Overrides{}})
	must(t, err)
	if n.Validity != (sign.Validity{Unit: "MONTHS", Value: 135}) {
		t.Errorf("default validity: got %v, want 135 MONTHS", n.Validity)
	}
}

func TestOneOfManyPutsWins(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	var wg sync.WaitGroup
	versions := make([]string, 16)
	for i := range versions {
		wg.Go(func() {
			if n, err := p.PutProfile(t.Context(), here, sign.NewProfile{Name: "race", Platform: sign.LambdaPlatform}); err == nil {
				versions[i] = n.Version
			} else if countersign.KindOf(err) != countersign.Exists {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	won := slices.DeleteFunc(versions, func(v string) bool { return v == "" })
	got, err := p.Profile(t.Context(), here, "race")
	must(t, err)
	if len(won) != 1 || got.Version != won[0] {
		t.Errorf("winners %v, stored %s", won, got.Version)
	}
}

func TestCancelProfile(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	must(t, p.CancelProfile(t.Context(), here, "prod"))
	must(t, p.CancelProfile(t.Context(), here, "prod")) // twice is once
	got, err := p.Profile(t.Context(), here, "prod")
	must(t, err)
	if got.Status != sign.Canceled {
		t.Errorf("got %s, want Canceled, and still to be seen", got.Status)
	}
	checkKind(t, p.CancelProfile(t.Context(), here, "never"), countersign.NotFound, "profile with name never does not exist")
	_, err = p.StartJob(t.Context(), here, root, p.request(hello(t), "app.zip"))
	checkKind(t, err, countersign.Conflict, "Profile with name prod is canceled and cannot start signing jobs")
	_, err = p.ProfileOf(t.Context(), here, root, "prod", "111111111111")
	checkKind(t, err, countersign.Denied, "")
	_, err = p.ProfileOf(t.Context(), here, root, "prod", account)
	must(t, err)
}

func TestValidityIsInCalendarUnits(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02T15:04:05.000Z", s)
		must(t, err)
		return v
	}
	for _, c := range []struct {
		unit       string
		n          int64
		from, want string
	}{
		{"MONTHS", 135, "2026-09-28T09:19:26.806Z", "2037-12-28T09:19:26.806Z"}, // recorded of AWS
		{"MONTHS", 1, "2026-01-31T00:00:00.000Z", "2026-02-28T00:00:00.000Z"},
		{"MONTHS", 1, "2028-01-31T00:00:00.000Z", "2028-02-29T00:00:00.000Z"},
		{"MONTHS", 6, "2026-08-31T23:59:59.999Z", "2027-02-28T23:59:59.999Z"},
		{"YEARS", 1, "2028-02-29T12:00:00.000Z", "2029-02-28T12:00:00.000Z"},
		{"YEARS", 11, "2026-12-31T12:00:00.000Z", "2037-12-31T12:00:00.000Z"},
		{"DAYS", 1, "2026-12-31T12:00:00.000Z", "2027-01-01T12:00:00.000Z"},
		{"DAYS", 365, "2027-09-28T00:00:00.000Z", "2028-09-27T00:00:00.000Z"},
	} {
		if got := (sign.Validity{Unit: c.unit, Value: c.n}).From(at(c.from)); !got.Equal(at(c.want)) {
			t.Errorf("%d %s from %s: got %s, want %s", c.n, c.unit, c.from, got, c.want)
		}
	}
}

func TestListProfiles(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	names := []string{"prod"}
	for i := range 60 {
		n := fmt.Sprintf("p%02d", i)
		p.profile(t, n)
		if i%20 == 0 {
			must(t, p.CancelProfile(t.Context(), here, n))
		} else {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	_, err := p.PutProfile(t.Context(), here, sign.NewProfile{Name: "oci", Platform: sign.NotationPlatform})
	must(t, err)
	_, err = p.PutProfile(t.Context(), sign.Scope{Account: account, Region: "us-east-1"}, sign.NewProfile{Name: "p99", Platform: sign.LambdaPlatform})
	must(t, err)

	all := func(f sign.ProfileFilter, max int) (got []string, pages int) {
		for page := (sign.PageRequest{Max: max}); ; pages++ {
			ps, next, err := p.Profiles(here, f, page)
			must(t, err)
			for _, x := range ps {
				got = append(got, x.Name)
			}
			if next == "" {
				return got, pages + 1
			}
			page.Token = next
		}
	}
	lambda := sign.ProfileFilter{Platform: sign.LambdaPlatform}
	for _, c := range []struct {
		max, pages int
	}{{0, 3}, {25, 3}, {1, 58}, {29, 3}, {-1, 3}} { // 58 profiles
		if got, pages := all(lambda, c.max); !slices.Equal(got, names) || pages != c.pages {
			t.Errorf("max %d: got %d profiles in %d pages, want %d in %d", c.max, len(got), pages, len(names), c.pages)
		}
	}
	if got, _ := all(sign.ProfileFilter{}, 25); len(got) != 59 {
		t.Errorf("active: got %d, want 59", len(got))
	}
	if got, _ := all(sign.ProfileFilter{IncludeCanceled: true}, 25); len(got) != 62 {
		t.Errorf("with canceled: got %d, want 62", len(got))
	}
	if got, pages := all(sign.ProfileFilter{Statuses: []sign.ProfileStatus{sign.Canceled}}, 2); !slices.Equal(got, []string{"p00", "p20", "p40"}) || pages != 2 {
		t.Errorf("canceled: got %v in %d pages", got, pages)
	}
	if got, _ := all(sign.ProfileFilter{Statuses: []sign.ProfileStatus{sign.Revoked}}, 2); len(got) != 0 {
		t.Errorf("revoked: got %v, want none", got)
	}
}

func TestTokensBelongToTheirList(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.profile(t, "second")
	_, next, err := p.Profiles(here, sign.ProfileFilter{}, sign.PageRequest{Max: 1})
	must(t, err)
	if next == "" {
		t.Fatal("got no token")
	}
	refused := func(what string, err error) {
		t.Helper()
		if countersign.KindOf(err) != countersign.Invalid {
			t.Errorf("%s: got %v, want Invalid", what, err)
		}
	}
	for _, token := range []string{"x", "bm90IGpzb24", next + "A", next[:len(next)-2], strings.ToUpper(next)} {
		_, _, err = p.Profiles(here, sign.ProfileFilter{}, sign.PageRequest{Token: token})
		refused(token, err)
	}
	_, _, err = p.Profiles(here, sign.ProfileFilter{IncludeCanceled: true}, sign.PageRequest{Token: next})
	refused("another filter", err)
	_, _, err = p.Jobs(here, sign.JobFilter{}, sign.PageRequest{Token: next})
	refused("another list", err)
	_, _, err = sign.Platforms(sign.PlatformFilter{}, sign.PageRequest{Token: next})
	refused("platforms", err)
	// A token of one account shows another account its own things at most.
	ps, _, err := p.Profiles(sign.Scope{Account: "111111111111", Region: region}, sign.ProfileFilter{}, sign.PageRequest{Token: next})
	if err != nil || len(ps) != 0 {
		t.Errorf("another account: got %v, %v", ps, err)
	}
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	ps, next, err := sign.Platforms(sign.PlatformFilter{}, sign.PageRequest{})
	must(t, err)
	if len(ps) != 5 || next != "" {
		t.Errorf("got %d platforms and token %q, want 5 and none", len(ps), next)
	}
	var ids []string
	for page := (sign.PageRequest{Max: 2}); ; {
		ps, next, err := sign.Platforms(sign.PlatformFilter{}, page)
		must(t, err)
		for _, p := range ps {
			ids = append(ids, p.ID)
		}
		if page.Token = next; next == "" {
			break
		}
	}
	if len(ids) != 5 || len(slices.Compact(slices.Sorted(slices.Values(ids)))) != 5 {
		t.Errorf("by pages: got %v", ids)
	}
	ps, _, err = sign.Platforms(sign.PlatformFilter{Partner: "AmazonFreeRTOS"}, sign.PageRequest{})
	must(t, err)
	if len(ps) != 2 {
		t.Errorf("AmazonFreeRTOS: got %d, want 2", len(ps))
	}
	l, err := sign.PlatformByID(sign.LambdaPlatform)
	must(t, err)
	if l.DisplayName != "AWS Lambda" || l.MaxSizeMB != 250 || !l.Revocable || l.Hash.Default != "SHA384" {
		t.Errorf("got %+v", l)
	}
	_, err = sign.PlatformByID("nope")
	checkKind(t, err, countersign.NotFound, "")
}

func TestTags(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	pr, err := p.Profile(t.Context(), here, "prod")
	must(t, err)
	tags := func() map[string]string {
		got, err := p.Tags(t.Context(), here, pr.ARN())
		must(t, err)
		return got
	}
	must(t, p.Tag(t.Context(), here, pr.ARN(), map[string]string{"a": "1", "b": "2"}))
	must(t, p.Tag(t.Context(), here, pr.ARN(), map[string]string{"b": "3", "c": ""}))
	must(t, p.Untag(t.Context(), here, pr.ARN(), []string{"a", "never"}))
	if got, want := tags(), map[string]string{"b": "3", "c": ""}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	tags()["b"] = "changed by a reader"
	if got := tags()["b"]; got != "3" {
		t.Errorf("a reader changed the document: %s", got)
	}

	// Fifty is the limit, over calls; a call that would pass it changes nothing.
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			if err := p.Tag(t.Context(), here, pr.ARN(), map[string]string{fmt.Sprintf("k%d", i): ""}); err != nil && countersign.KindOf(err) != countersign.Invalid {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(tags()); got != 50 {
		t.Errorf("got %d tags, want 50", got)
	}

	for _, c := range []struct {
		arn  string
		kind countersign.Kind
	}{
		{"not an arn", countersign.Invalid},
		{"arn:aws:lambda:eu-central-1:000000000000:function:f", countersign.Invalid},
		{"arn:aws:signer:eu-central-1:000000000000:/signing-jobs/x", countersign.Invalid},
		{pr.VersionARN(), countersign.Invalid},
		{"arn:aws:signer:eu-central-1:000000000000:/signing-profiles/", countersign.Invalid},
		{"arn:aws:signer:eu-central-1:000000000000:/signing-profiles/never", countersign.NotFound},
		{"arn:aws:signer:us-east-1:000000000000:/signing-profiles/prod", countersign.NotFound},
		{"arn:aws:signer:eu-central-1:111111111111:/signing-profiles/prod", countersign.NotFound},
	} {
		_, err := p.Tags(t.Context(), here, c.arn)
		checkKind(t, err, c.kind, "")
		checkKind(t, p.Tag(t.Context(), here, c.arn, map[string]string{"x": ""}), c.kind, "")
	}
	must(t, p.CancelProfile(t.Context(), here, "prod"))
	checkKind(t, p.Tag(t.Context(), here, pr.ARN(), map[string]string{"x": ""}), countersign.Conflict, "")
	checkKind(t, p.Untag(t.Context(), here, pr.ARN(), []string{"b"}), countersign.Conflict, "")
	if got := len(tags()); got != 50 {
		t.Errorf("tags of a canceled profile: got %d, want to see all 50", got)
	}
}
