package store_test

import (
	"slices"
	"strings"
	"testing"

	"countersign/internal/store"
)

func TestKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		parts []string
		want  string
	}{
		{nil, ""},
		{[]string{""}, "!"},
		{[]string{"", ""}, "!.!"},
		{[]string{"!"}, "!21"},
		{[]string{"000000000000", "eu-west-1", "my_func"}, "000000000000.eu-west-1.my_func"},
		{[]string{"a.b", "a/b:c"}, "a/2Eb.a/2Fb=3Ac"},
		{[]string{"$LATEST"}, "!24LATEST"},
		{[]string{"*", ">", " "}, "!2A.=3E.!20"},
		{[]string{"ü"}, "~C3~BC"},
	} {
		got := store.Key(c.parts...)
		if got != c.want {
			t.Errorf("Key(%q): got %q, want %q", c.parts, got, c.want)
		}
		if back, err := store.Parts(got); err != nil || !slices.Equal(back, c.parts) {
			t.Errorf("Parts(%q): got %q, %v, want %q", got, back, err, c.parts)
		}
	}
	for _, bad := range []string{".", "a.", ".a", "a..b", "a b", "a*", ">", "!2", "!zz", "!2a", "!41", "=2F", "~", "/2E/", "!21!"} {
		if got, err := store.Parts(bad); err == nil {
			t.Errorf("Parts(%q): got %q, want an error", bad, got)
		}
	}
}

// FuzzKey: keys come back as the parts they were made of, sort as those do,
// and are NATS subjects without a wildcard; a string that is taken apart is a key.
func FuzzKey(f *testing.F) {
	f.Add("", "a", "a-b.c/d:e")
	f.Add("a.b", "a!b", "~")
	f.Add("!", "\xff\x00", "=2F")
	f.Fuzz(func(t *testing.T, a, b, raw string) {
		key := store.Key(a, b)
		back, err := store.Parts(key)
		if err != nil || len(back) != 2 || back[0] != a || back[1] != b {
			t.Fatalf("Parts(%q): got %q, %v, want %q and %q", key, back, err, a, b)
		}
		for part := range strings.SplitSeq(key, ".") {
			if part == "" || strings.ContainsAny(part, "*> \t\r\n\x00") {
				t.Errorf("Key(%q, %q) = %q is not a subject", a, b, key)
			}
		}
		if got, want := strings.Compare(store.Key(a), store.Key(b)), strings.Compare(a, b); got != want {
			t.Errorf("Key(%q) and Key(%q) compare as %d, their parts as %d", a, b, got, want)
		}
		if parts, err := store.Parts(raw); err == nil && store.Key(parts...) != raw {
			t.Errorf("Parts(%q) = %q, of which Key makes %q", raw, parts, store.Key(parts...))
		}
	})
}
