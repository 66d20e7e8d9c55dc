package wire

import (
	"net/url"
	"slices"
	"strings"
)

// A router finds the operation a REST request names. Paths are matched as
// they were sent, still percent-encoded: an ARN's %2F is part of its label,
// a / is not. A literal segment wins over a label and a label over a greedy
// one, so the longest literal path is found first.
type router struct{ root pathNode }

type pathNode struct {
	literal map[string]*pathNode
	label   *pathNode
	greedy  *pathNode // a label that takes everything to the end
	routes  []*route  // ending here, those with the most literal query first
}

type route struct {
	op     *Operation
	labels []string
	query  [][2]string // must be in the query string
}

func newRouter(svc *Service) *router {
	rt := new(router)
	for _, op := range svc.Operations {
		rt.add(op)
	}
	return rt
}

// add panics on a template it does not understand; the generator's test would
// have met it.
func (rt *router) add(op *Operation) {
	path, query, _ := strings.Cut(op.URI, "?")
	r := &route{op: op}
	for k, v := range queryPairs(query) {
		r.query = append(r.query, [2]string{k, v})
	}
	n := &rt.root
	segs := segments(path)
	for i, seg := range segs {
		name, isLabel := strings.CutPrefix(seg, "{")
		next := &n.label
		switch {
		case !isLabel:
			if n.literal == nil {
				n.literal = map[string]*pathNode{}
			}
			c := n.literal[seg]
			if c == nil {
				c = new(pathNode)
				n.literal[seg] = c
			}
			n = c
			continue
		case strings.HasSuffix(name, "+}"):
			if i != len(segs)-1 {
				panic("wire: greedy label before the end of " + op.URI)
			}
			next = &n.greedy
			name = strings.TrimSuffix(name, "+}")
		default:
			name = strings.TrimSuffix(name, "}")
		}
		if *next == nil {
			*next = new(pathNode)
		}
		n = *next
		r.labels = append(r.labels, name)
	}
	n.routes = append(n.routes, r)
	slices.SortStableFunc(n.routes, func(a, b *route) int { return len(b.query) - len(a.query) })
}

// segments cuts a path. One slash at the end changes nothing: the models have
// it and clients leave it out, or the other way round.
func segments(path string) []string {
	path = strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// find returns the operation of a raw path and query, nil when there is none.
func (rt *router) find(method, path, query string) (*Operation, []label) {
	segs := segments(path)
	for _, seg := range segs {
		// A signature is made over a path without dot segments. If they were
		// routed, one signed request could be replayed as another.
		if dotted(seg) {
			return nil, nil
		}
	}
	var buf [8]string
	r, values := rt.root.find(method, segs, query, buf[:0])
	if r == nil {
		return nil, nil
	}
	labels := make([]label, len(r.labels))
	for i, name := range r.labels {
		labels[i] = label{name, values[i]}
	}
	return r.op, labels
}

// dotted reports whether seg is "." or "..", however it is spelled.
func dotted(seg string) bool {
	n := 0
	for seg != "" {
		rest, ok := strings.CutPrefix(seg, ".")
		if !ok && len(seg) >= 3 && strings.EqualFold(seg[:3], "%2e") {
			rest, ok = seg[3:], true
		}
		if !ok {
			return false
		}
		n++
		seg = rest
	}
	return n == 1 || n == 2
}

func (n *pathNode) find(method string, segs []string, query string, got []string) (*route, []string) {
	if len(segs) == 0 {
		return n.route(method, query), got
	}
	seg, rest := segs[0], segs[1:]
	if c := n.child(seg); c != nil {
		if r, got := c.find(method, rest, query, got); r != nil {
			return r, got
		}
	}
	if n.label != nil && seg != "" {
		if r, got := n.label.find(method, rest, query, append(got, seg)); r != nil {
			return r, got
		}
		// People write an ARN into a URL as it is. At the end of a path
		// nothing else can be meant.
		if strings.HasPrefix(seg, "arn:") {
			if r := n.label.route(method, query); r != nil {
				return r, append(got, strings.Join(segs, "/"))
			}
		}
	}
	if n.greedy != nil && seg != "" {
		if r := n.greedy.route(method, query); r != nil {
			return r, append(got, strings.Join(segs, "/"))
		}
	}
	return nil, nil
}

func (n *pathNode) child(seg string) *pathNode {
	if c := n.literal[seg]; c != nil || !strings.Contains(seg, "%") {
		return c
	}
	if s, err := url.PathUnescape(seg); err == nil && !strings.Contains(s, "/") {
		return n.literal[s]
	}
	return nil
}

func (n *pathNode) route(method, query string) *route {
	for _, r := range n.routes {
		if r.op.Method == method && r.wants(query) {
			return r
		}
	}
	return nil
}

func (r *route) wants(query string) bool {
	for _, lit := range r.query {
		found := false
		for k, v := range queryPairs(query) {
			if k == lit[0] && (lit[1] == "" || v == lit[1]) {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}
