package sign_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"countersign"
	"countersign/internal/sign"
	"countersign/internal/store"
	"countersign/internal/store/storetest"
)

// TestARareFilterGivesShortPages looks for one profile among many: no call may
// look at all of them, and the caller still finds it.
func TestARareFilterGivesShortPages(t *testing.T) {
	t.Parallel()
	const many = 12_000
	st := storetest.Memory()
	b, err := st.Bucket(t.Context(), "signprofiles")
	must(t, err)
	for i := range many {
		pr := sign.Profile{Account: account, Region: region, Name: fmt.Sprintf("p%05d", i), Version: "AAAAAAAAAA",
			Platform: sign.LambdaPlatform, Status: sign.Active, Created: time.Unix(0, 0)}
		if i == many-1 {
			pr.Platform = sign.NotationPlatform
		}
		doc, err := json.Marshal(pr)
		must(t, err)
		_, err = b.Create(t.Context(), store.Key(account, region, pr.Name), doc)
		must(t, err)
	}
	p := prepare(t, st)
	p.start(t)
	var found []string
	pages := 0
	for page := (sign.PageRequest{}); ; {
		ps, next, err := p.Profiles(here, sign.ProfileFilter{Platform: sign.NotationPlatform}, page)
		must(t, err)
		for _, x := range ps {
			found = append(found, x.Name)
		}
		pages++
		if page.Token = next; next == "" {
			break
		}
	}
	if len(found) != 1 || found[0] != "p11999" || pages != 3 {
		t.Errorf("got %v in %d pages, want p11999 in 3", found, pages)
	}
}

// FuzzPageToken sends tokens nobody was given. None may show what is not in
// the caller's own list, and none may be anything but a place or a refusal.
func FuzzPageToken(f *testing.F) {
	p := newPlatform(f)
	p.profile(f, "second")
	other := sign.Scope{Account: "111111111111", Region: region}
	if _, err := p.PutProfile(f.Context(), other, sign.NewProfile{Name: "theirs", Platform: sign.LambdaPlatform}); err != nil {
		f.Fatal(err)
	}
	_, next, err := p.Profiles(here, sign.ProfileFilter{}, sign.PageRequest{Max: 1})
	must(f, err)
	for _, seed := range []string{next, "", "x", "e30", "eyJsIjoicHJvZmlsZXMifQ", next + next, "bnVsbA"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		for _, sc := range []sign.Scope{here, other} {
			ps, _, err := p.Profiles(sc, sign.ProfileFilter{}, sign.PageRequest{Token: token})
			if err != nil && countersign.KindOf(err) != countersign.Invalid {
				t.Errorf("got %v, want Invalid", err)
			}
			for _, x := range ps {
				if x.Scope() != sc {
					t.Errorf("%v sees %s", sc, x.ARN())
				}
			}
		}
		if _, _, err := sign.Platforms(sign.PlatformFilter{}, sign.PageRequest{Token: token}); err != nil && countersign.KindOf(err) != countersign.Invalid {
			t.Errorf("platforms: got %v, want Invalid", err)
		}
	})
}

// FuzzTaggable sends ARNs of a stranger's making to the tag operations.
func FuzzTaggable(f *testing.F) {
	p := newPlatform(f)
	pr, err := p.Profile(f.Context(), here, "prod")
	must(f, err)
	for _, seed := range []string{pr.ARN(), pr.VersionARN(), "arn:aws:signer:::/signing-profiles/prod", "arn::::::", pr.ARN() + "/", "arn:aws:signer:eu-central-1:111111111111:/signing-profiles/prod"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arn string) {
		_, err := p.Tags(t.Context(), here, arn)
		switch {
		case (err == nil) != (arn == pr.ARN()):
			t.Errorf("%q: got %v; the profile is %s", arn, err, pr.ARN())
		case err == nil:
		case countersign.KindOf(err) != countersign.Invalid && countersign.KindOf(err) != countersign.NotFound:
			t.Errorf("%q: got %v", arn, err)
		}
	})
}
