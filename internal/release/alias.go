package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"countersign"
	"countersign/internal/store"
)

// An Alias is a name for one version, or for two with weights.
type Alias struct {
	Scope       Scope  `json:"scope"`
	Function    string `json:"function"`
	Name        string `json:"name"`
	Version     int    `json:"version"` // 0 is $LATEST
	Description string `json:"description"`
	Revision    string `json:"revision"`
	// Weights maps at most one other version to its share of the calls, 0 to
	// 1; Version gets the rest.
	Weights map[int]float64 `json:"weights,omitempty"`
}

// ARN is the alias's ARN: the function's, with the alias as qualifier.
func (a Alias) ARN() string { return a.Scope.FunctionARN(a.Function) + ":" + a.Name }

// VersionName is "$LATEST" or the number.
func (a Alias) VersionName() string { return Version{Number: a.Version}.Qualifier() }

func (a Alias) uses(number int) bool {
	_, weighted := a.Weights[number]
	return number != 0 && (a.Version == number || weighted)
}

// pick chooses the version by roll; see Resolve.
func (a Alias) pick(roll float64) int {
	for v, w := range a.Weights {
		if roll < w {
			return v
		}
	}
	return a.Version
}

// CreateAlias makes a. Its Revision is given here.
func (fs *Functions) CreateAlias(ctx context.Context, a Alias) (Alias, error) {
	f, err := fs.Get(a.Scope, a.Function)
	if err != nil {
		return Alias{}, err
	}
	if err := fs.checkAlias(a); err != nil {
		return Alias{}, err
	}
	a.Revision = fs.newID()
	a.Weights = maps.Clone(a.Weights)
	if _, err := fs.aliases.Create(ctx, f.aliasKey(a.Name), a); err != nil {
		return Alias{}, fs.explain(err, "create alias "+a.Name, countersign.Errorf(countersign.Exists, "Alias already exists: %s", a.ARN()))
	}
	return a, nil
}

// Alias returns the alias called name.
func (fs *Functions) Alias(s Scope, function, name string) (Alias, error) {
	f, err := fs.Get(s, function)
	if err != nil {
		return Alias{}, aliasMissing("Cannot find alias arn: %s", s, function, name)
	}
	a, _, ok := fs.aliases.Get(f.aliasKey(name))
	if !ok {
		return Alias{}, aliasMissing("Cannot find alias arn: %s", s, function, name)
	}
	return a, nil
}

// Aliases returns up to limit aliases of the function after the one called
// after, by name, and whether there are more. version, when not negative,
// keeps those that use it.
func (fs *Functions) Aliases(s Scope, function, after string, limit, version int) ([]Alias, bool, error) {
	f, err := fs.Get(s, function)
	if err != nil {
		return nil, false, err
	}
	var out []Alias
	from := ""
	if after != "" {
		from = f.aliasKey(after)
	}
	for {
		items, more := fs.aliases.Page(f.below(), from, limit-len(out))
		for _, it := range items {
			from = it.Key
			if version < 0 || it.Val.Version == version || it.Val.uses(version) {
				out = append(out, it.Val)
			}
		}
		if !more || len(out) >= limit {
			return out, more, nil
		}
	}
}

// UpdateAlias changes what change changes. revision, when not empty, must be
// the alias's.
func (fs *Functions) UpdateAlias(ctx context.Context, s Scope, function, name, revision string, change func(*Alias)) (Alias, error) {
	f, err := fs.Get(s, function)
	if err != nil {
		return Alias{}, aliasMissing("Alias not found: %s", s, function, name)
	}
	a, err := fs.aliases.Update(ctx, f.aliasKey(name), func(a *Alias) error {
		if revision != "" && revision != a.Revision {
			return staleRevision()
		}
		change(a)
		if err := fs.checkAlias(*a); err != nil {
			return err
		}
		a.Revision = fs.newID()
		return nil
	})
	if err != nil {
		return Alias{}, fs.explain(err, "update alias "+name, aliasMissing("Alias not found: %s", s, function, name))
	}
	return a, nil
}

// DeleteAlias removes the alias. Deleting one that is not there succeeds.
func (fs *Functions) DeleteAlias(ctx context.Context, s Scope, function, name string) error {
	f, err := fs.Get(s, function)
	if err != nil {
		return err
	}
	for {
		_, rev, ok := fs.aliases.Get(f.aliasKey(name))
		if !ok {
			return nil
		}
		err := fs.aliases.Delete(ctx, f.aliasKey(name), rev)
		if errors.Is(err, store.ErrConflict) {
			continue // it was moved meanwhile; delete what it is now
		}
		return gone(err)
	}
}

// checkAlias applies AWS's rules for what an alias may point at.
func (fs *Functions) checkAlias(a Alias) error {
	if _, err := fs.Version(a.Scope, a.Function, a.Version); err != nil {
		return err
	}
	if len(a.Weights) > 1 {
		return countersign.Errorf(countersign.Invalid, "Number of items in AdditionalVersionWeights cannot be greater than 1")
	}
	for v := range a.Weights {
		switch {
		case a.Version == 0 || v == 0:
			return countersign.Errorf(countersign.NotAllowed, "$LATEST is not supported for an alias pointing to more than 1 version")
		case v == a.Version:
			return countersign.Errorf(countersign.Invalid, "Invalid function version %d. Function version %d is already included in routing configuration.", v, v)
		}
		other, err := fs.Version(a.Scope, a.Function, v)
		if err != nil {
			return err
		}
		if mine, err := fs.Version(a.Scope, a.Function, a.Version); err != nil {
			return err
		} else if mine.Settings.Role != other.Settings.Role {
			return countersign.Errorf(countersign.Invalid, "Both versions of a weighted alias need the same execution role")
		}
	}
	return nil
}

// Primary, as a roll, never falls to an alias's weighted version.
const Primary = 1

// Resolve finds the version a caller means by qualifier: empty and $LATEST,
// a number, or an alias, whose weights decide by roll: uniform in [0, 1) for a
// call, [Primary] for who only reads.
func (fs *Functions) Resolve(s Scope, name, qualifier string, roll float64) (Version, error) {
	if qualifier == "" || qualifier == Latest {
		return fs.Version(s, name, 0)
	}
	// Digits alone are a number; "-1" is a name.
	if n, err := strconv.ParseUint(qualifier, 10, 31); err == nil {
		if n < 1 {
			return Version{}, NotFound(s, name, qualifier)
		}
		return fs.Version(s, name, int(n))
	}
	f, err := fs.Get(s, name)
	if err != nil {
		return Version{}, err
	}
	a, _, ok := fs.aliases.Get(f.aliasKey(qualifier))
	if !ok {
		return Version{}, NotFound(s, name, qualifier)
	}
	return fs.Version(s, name, a.pick(roll))
}

func aliasMissing(format string, s Scope, function, name string) error {
	return countersign.Errorf(countersign.NotFound, format, fmt.Sprintf("%s:%s", s.FunctionARN(function), name))
}
