package wire

import (
	"slices"
	"testing"
)

func TestFormItems(t *testing.T) {
	t.Parallel()
	f, err := parseForm("L.member.10=c&L.member.2=b&L.member.1=a&L.member.0=x&L.member.-1=x&L.member.+3=x&L.member.1=second&L.member.x=x&L.member.99999999999999999999=x", "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, item := range f.at("L.member").items() {
		got = append(got, item.value)
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q: by number, the first of two, nothing that is no index", got, want)
	}
}

func TestFindAction(t *testing.T) {
	t.Parallel()
	for form, want := range map[string]action{
		"":                        {},
		"Action=A&Version=1":      {"A", "1", true, true},
		"Version=&%41ction=A+b":   {"A b", "", true, true},
		"Action=A&Action=B":       {"A", "", true, false},
		"Action&Version":          {"", "", true, true},
		"action=A;Version=1&x==&": {},
	} {
		if got, err := findAction("", form); got != want || err != nil {
			t.Errorf("%s: got %+v, %v, want %+v", form, got, err, want)
		}
	}
	if _, err := findAction("Action=%zz", ""); err == nil {
		t.Error("a bad escape was read")
	}
}

func TestXMLText(t *testing.T) {
	t.Parallel()
	const in = "a<b>&\"c\"\r\n\té😀\x00\x1f\xff\ufffe"
	const want = "a&lt;b&gt;&amp;&quot;c&quot;&#xD;\n\té😀\ufffd\ufffd\ufffd\ufffd"
	if got := string(appendXMLText(nil, in)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseXMLRefuses(t *testing.T) {
	t.Parallel()
	deep := ""
	for range maxDepth + 10 {
		deep += "<a>"
	}
	for _, doc := range []string{
		"", "text", "<a>", "<a></b>", "<a/><b/>", deep, `<!DOCTYPE a [<!ENTITY b "cc">]><a>&b;</a>`, "<a>&b;</a>", "<a>\x00</a>",
	} {
		if n, err := parseXML([]byte(doc)); err == nil {
			t.Errorf("%.60s: got %+v, want an error", doc, n)
		}
	}
}

func TestJSONString(t *testing.T) {
	t.Parallel()
	const in = "a\"b\\c\n\r\t\x01é😀\xff</script>"
	const want = `"a\"b\\c\n\r\t\u0001é😀` + "\ufffd" + `</script>"`
	if got := string(appendJSONString(nil, in)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A query string is signed with its plus signs as they are: reading one as a
// space would let somebody on the way turn %2B into it.
func TestPlusIsASpaceInFormsOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ query, body, want string }{
		{"Action=a+b", "", "a+b"},
		{"Action=a%2Bb", "", "a+b"},
		{"", "Action=a+b", "a b"},
		{"", "Action=a%2Bb", "a+b"},
	} {
		if got, err := findAction(c.query, c.body); err != nil || got.name != c.want {
			t.Errorf("%q %q: got %q %v, want %q", c.query, c.body, got.name, err, c.want)
		}
	}
}
