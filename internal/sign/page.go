package sign

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"countersign"
	"countersign/internal/store"
)

// maxPage is the most one list call returns, and what it returns when not
// told (the model's MaxResults: 1..25).
const maxPage = 25

// maxScan bounds the documents one list call looks at. A filter that lets
// little through gets short pages, each with a token, instead of a long wait.
const maxScan = 5000

// A PageRequest says where in a list to go on, and for how long.
type PageRequest struct {
	Max   int    // 1 to 25; 0 is 25
	Token string // what the page before returned; empty for the first
}

var errToken = countersign.Errorf(countersign.Invalid, "Invalid next token.")

func (p PageRequest) limit() int {
	if p.Max < 1 || p.Max > maxPage {
		return maxPage
	}
	return p.Max
}

// place is what a token holds. It is no secret and no permission: the list's
// own prefix decides what can be seen, whatever After says.
type place struct {
	List   string `json:"l"`
	Filter []byte `json:"f"` // digest of the filter the token belongs to
	After  string `json:"a"`
}

// after opens the token for a list under a filter.
func (p PageRequest) after(list string, filter any) (string, error) {
	if p.Token == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(p.Token)
	if err != nil {
		return "", errToken
	}
	var at place
	if json.Unmarshal(b, &at) != nil || at.List != list || string(at.Filter) != string(filterDigest(filter)) || at.After == "" {
		return "", errToken
	}
	return at.After, nil
}

func nextToken(list string, filter any, after string) string {
	b, err := json.Marshal(place{list, filterDigest(filter), after})
	if err != nil {
		panic(err) // strings and bytes always have a JSON form
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func filterDigest(filter any) []byte {
	b, err := json.Marshal(filter)
	if err != nil {
		panic(err) // filters are plain structs of this package
	}
	d := sha256.Sum256(b)
	return d[:8]
}

// list walks the documents of one scope in key order and keeps what keep says
// yes to, until the page is full and one more is known to follow.
func list[T any](d *store.Docs[T], name string, sc Scope, filter any, page PageRequest, keep func(T) bool) ([]T, string, error) {
	prefix := store.Key(sc.Account, sc.Region) + "."
	after, err := page.after(name, filter)
	if err != nil {
		return nil, "", err
	}
	limit := page.limit()
	out := make([]T, 0, limit)
	last := ""         // key of the last document returned
	chunk := limit + 1 // enough where the filter keeps everything
	for scanned := 0; ; chunk = 256 {
		items, more := d.Page(prefix, after, chunk)
		for _, it := range items {
			scanned++
			after = it.Key
			if !keep(it.Val) {
				continue
			}
			if len(out) == limit {
				return out, nextToken(name, filter, last), nil
			}
			out, last = append(out, it.Val), it.Key
		}
		if !more || len(items) == 0 {
			return out, "", nil
		}
		if scanned >= maxScan {
			return out, nextToken(name, filter, after), nil
		}
	}
}
