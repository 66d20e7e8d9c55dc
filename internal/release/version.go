package release

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"countersign"
	"countersign/internal/store"
)

// A Publication is what the caller of Publish may ask for. Zero fields ask
// for nothing.
type Publication struct {
	Description *string
	CodeSHA256  string // base64; must be $LATEST's
	Revision    string // must be $LATEST's
}

// Publish freezes $LATEST as the next version. Where neither code nor settings
// changed since the last one, that one is returned and nothing is made.
func (fs *Functions) Publish(ctx context.Context, s Scope, name string, p Publication) (Version, error) {
	f, err := fs.Get(s, name)
	if err != nil {
		return Version{}, err
	}
	if err := idle(f.Latest); err != nil {
		return Version{}, err
	}
	return fs.publish(ctx, s, name, p)
}

// publish freezes $LATEST whether or not it has settled.
func (fs *Functions) publish(ctx context.Context, s Scope, name string, p Publication) (Version, error) {
	ctx = context.WithoutCancel(ctx)
	for {
		f, err := fs.Get(s, name)
		if err != nil {
			return Version{}, err
		}
		l := f.Latest
		if p.Revision != "" && p.Revision != l.Revision {
			return Version{}, staleRevision()
		}
		if have := l.Code.Artifact.Base64(); p.CodeSHA256 != "" && p.CodeSHA256 != have {
			return Version{}, countersign.Errorf(countersign.Invalid, "CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). Please try again with the CodeSHA256 in $LATEST.", p.CodeSHA256, have)
		}
		if f.Published > 0 && !f.Dirty {
			if v, _, ok := fs.versions.Get(f.versionKey(f.Published)); ok && (p.Description == nil || *p.Description == v.Settings.Description) {
				return v, nil
			}
		}
		v := l
		v.Number = f.Next
		v.Revision = fs.newID()
		if p.Description != nil {
			v.Settings.Description = *p.Description
		}
		// A version is born with what $LATEST is; where that is still under
		// way, the version settles with it.
		if !l.settled() {
			v.State, v.Update = Pending, ""
		}

		key := f.versionKey(v.Number)
		_, err = fs.versions.Create(ctx, key, v)
		switch {
		case errors.Is(err, store.ErrExists):
			// A crash, or a rival, between the version and the counter below.
			// The counter only follows; what is stored already stays.
			w, _, ok := fs.versions.Get(key)
			if !ok {
				continue
			}
			v = w
		case err != nil:
			return Version{}, fmt.Errorf("publish version %d of %s: %w", v.Number, name, err)
		}
		id := f.ID
		_, err = fs.docs.Update(ctx, functionKey(s, name), func(f *Function) error {
			if f.Deleting || f.ID != id {
				return NotFound(s, name, "")
			}
			if f.Next <= v.Number {
				f.Next = v.Number + 1
				f.Published = v.Number
				f.Latest.Revision = fs.newID()
			}
			if v.Code.Artifact == f.Latest.Code.Artifact && sameSettings(v.Settings, f.Latest.Settings) {
				f.Dirty = false
			}
			return nil
		})
		if err != nil {
			return Version{}, fs.explain(err, "publish "+name, NotFound(s, name, ""))
		}
		if v.Code.Artifact == l.Code.Artifact && sameSettings(v.Settings, l.Settings) {
			return v, nil
		}
		// What we found was published from an older $LATEST: go on to ours.
	}
}

// sameSettings compares all but the description, which a publication may give
// the version alone.
func sameSettings(a, b Settings) bool {
	a.Description, b.Description = "", ""
	return reflect.DeepEqual(a, b)
}

// Version returns what qualifier means for the function: $LATEST (also for an
// empty qualifier) or a number. Aliases are [Functions.Resolve]'s business.
func (fs *Functions) Version(s Scope, name string, number int) (Version, error) {
	f, err := fs.Get(s, name)
	if err != nil {
		return Version{}, err
	}
	if number == 0 {
		return f.Latest, nil
	}
	v, _, ok := fs.versions.Get(f.versionKey(number))
	if !ok {
		return Version{}, NotFound(s, name, fmt.Sprint(number))
	}
	return v, nil
}

// Versions returns up to limit published versions with numbers above after,
// ascending, and whether there are more.
func (fs *Functions) Versions(s Scope, name string, after, limit int) ([]Version, bool, error) {
	f, err := fs.Get(s, name)
	if err != nil {
		return nil, false, err
	}
	items, more := fs.versions.Page(f.below(), f.versionKey(after), limit)
	return values(items), more, nil
}

// DeleteVersion removes one published version. Deleting one that is not there
// succeeds, as AWS has it.
func (fs *Functions) DeleteVersion(ctx context.Context, s Scope, name string, number int) error {
	f, err := fs.Get(s, name)
	if err != nil {
		return err
	}
	key := f.versionKey(number)
	_, rev, ok := fs.versions.Get(key)
	if !ok {
		return nil
	}
	var users []string
	for it := range fs.aliases.All(f.below()) {
		if it.Val.uses(number) {
			users = append(users, it.Val.Name)
		}
	}
	if len(users) > 0 {
		return countersign.Errorf(countersign.Conflict, "Unable to delete version because the following aliases reference it: [%s]", strings.Join(users, ", "))
	}
	if err := gone(fs.versions.Delete(ctx, key, rev)); err != nil {
		return fmt.Errorf("delete version %d of %s: %w", number, name, err)
	}
	if f.Published == number {
		// The next publication must make a version even if nothing changed.
		_, err := fs.docs.Update(ctx, functionKey(s, name), func(f *Function) error {
			f.Dirty = f.Dirty || f.Published == number
			return nil
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("delete version %d of %s: %w", number, name, err)
		}
	}
	fs.retired(s, name)
	return nil
}

// PublishUnsettled publishes what an update has just stored, before it has
// settled: the version settles with it.
func (fs *Functions) PublishUnsettled(ctx context.Context, s Scope, name string) (Version, error) {
	v, err := fs.publish(ctx, s, name, Publication{})
	if err != nil {
		return Version{}, err
	}
	fs.settle(s, name)
	return v, nil
}
