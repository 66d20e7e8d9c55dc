package countersign

import (
	"fmt"
	"strings"
)

// An ARN is an Amazon Resource Name taken apart:
//
//	arn:Partition:Service:Region:Account:Resource
//
// Resource may hold colons and slashes of its own. The zero ARN is no name.
type ARN struct {
	Partition, Service, Region, Account, Resource string
}

// ParseARN takes s apart. It checks the six-part form and nothing of the
// parts; an operation's own constraints do that.
func ParseARN(s string) (ARN, error) {
	p := strings.SplitN(s, ":", 6)
	if len(p) != 6 || p[0] != "arn" || p[1] == "" || p[2] == "" || p[5] == "" {
		return ARN{}, fmt.Errorf("%q is not an ARN", s)
	}
	return ARN{p[1], p[2], p[3], p[4], p[5]}, nil
}

func (a ARN) String() string {
	return strings.Join([]string{"arn", a.Partition, a.Service, a.Region, a.Account, a.Resource}, ":")
}

// IsZero reports whether a names nothing.
func (a ARN) IsZero() bool { return a == ARN{} }
