package sign

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"countersign"
	"countersign/internal/store"
)

// A ProfileStatus is where a profile stands. The words are AWS's.
type ProfileStatus string

// The statuses. Canceled and Revoked are for good.
const (
	Active   ProfileStatus = "Active"
	Canceled ProfileStatus = "Canceled"
	Revoked  ProfileStatus = "Revoked"
)

// A Profile is a name to sign under: code is trusted because of it. Its name
// is taken for good, and all but Status and Tags is fixed when it is made.
type Profile struct {
	Account   string            `json:"account"`
	Region    string            `json:"region"`
	Name      string            `json:"name"`
	Version   string            `json:"version"` // ten letters and digits
	Platform  string            `json:"platform"`
	Validity  Validity          `json:"validity"` // of the signatures
	Overrides Overrides         `json:"overrides,omitzero"`
	Params    map[string]string `json:"params,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`

	Status     ProfileStatus      `json:"status"`
	Reason     string             `json:"reason,omitempty"` // of Status
	Created    time.Time          `json:"created"`
	Canceled   time.Time          `json:"canceled,omitzero"`
	Revocation *ProfileRevocation `json:"revocation,omitempty"`
}

// Overrides replace a platform's defaults.
type Overrides struct {
	Encryption string `json:"encryption,omitempty"`
	Hash       string `json:"hash,omitempty"`
	Format     string `json:"format,omitempty"`
}

// A ProfileRevocation takes back what a profile signed from a moment on.
type ProfileRevocation struct {
	From   time.Time `json:"from"` // signatures made at or after it are not trusted
	At     time.Time `json:"at"`
	By     string    `json:"by"` // caller's ARN
	Reason string    `json:"reason"`
}

// Scope is where p lives.
func (p Profile) Scope() Scope { return Scope{p.Account, p.Region} }

// ARN names the profile, whatever its version.
func (p Profile) ARN() string { return arn(p.Scope(), "/signing-profiles/"+p.Name) }

// VersionARN names what signatures carry and functions trust.
func (p Profile) VersionARN() string { return p.ARN() + "/" + p.Version }

func profileKey(sc Scope, name string) string { return store.Key(sc.Account, sc.Region, name) }

// A NewProfile is what its maker chooses.
type NewProfile struct {
	Name      string
	Platform  string
	Validity  *Validity // nil: 135 months
	Material  string    // ARN of a certificate of the owner's own
	Overrides Overrides
	Params    map[string]string
	Tags      map[string]string
}

// PutProfile makes a profile. A name can be used once: Exists afterwards, even
// when the profile was canceled.
func (s *Service) PutProfile(ctx context.Context, sc Scope, n NewProfile) (Profile, error) {
	pf, err := PlatformByID(n.Platform)
	if err != nil {
		return Profile{}, countersign.Errorf(countersign.Invalid, "Invalid platformId: %s", n.Platform)
	}
	if pf.needsMaterial {
		if n.Material == "" {
			return Profile{}, countersign.Errorf(countersign.Invalid, "signing material cannot be null.")
		}
		return Profile{}, countersign.Errorf(countersign.NotAllowed, "platform %s signs with a certificate from AWS Certificate Manager, which this platform does not have; use %s", pf.ID, LambdaPlatform)
	}
	if n.Material != "" {
		return Profile{}, countersign.Errorf(countersign.Invalid, "signing material is not supported for platform %s", pf.ID)
	}
	v := defaultValidity
	if n.Validity != nil {
		v = *n.Validity
	}
	if err := v.check(); err != nil {
		return Profile{}, err
	}
	for _, o := range []struct {
		what, val string
		opt       Options
	}{
		{"encryption algorithm", n.Overrides.Encryption, pf.Encryption},
		{"hash algorithm", n.Overrides.Hash, pf.Hash},
		{"signing image format", n.Overrides.Format, pf.Formats},
	} {
		if o.val != "" && !slices.Contains(o.opt.Allowed, o.val) {
			return Profile{}, countersign.Errorf(countersign.Invalid, "%s %s is not supported for platform %s", o.what, o.val, pf.ID)
		}
	}
	if err := checkTags(n.Tags); err != nil {
		return Profile{}, err
	}
	p := Profile{
		Account: sc.Account, Region: sc.Region, Name: n.Name, Version: newVersion(),
		Platform: pf.ID, Validity: v, Overrides: n.Overrides,
		Params: maps.Clone(n.Params), Tags: maps.Clone(n.Tags),
		Status: Active, Created: s.now().UTC(),
	}
	switch _, err := s.profiles.Create(ctx, profileKey(sc, n.Name), p); {
	case errors.Is(err, store.ErrExists):
		return Profile{}, countersign.Errorf(countersign.Exists, "Profile with name %s already exists", n.Name)
	case err != nil:
		return Profile{}, fmt.Errorf("put profile %s: %w", n.Name, err)
	}
	return p, nil
}

// Profile finds a profile by name, NotFound when there never was one.
func (s *Service) Profile(ctx context.Context, sc Scope, name string) (Profile, error) {
	p, err := find(ctx, s.profiles, profileKey(sc, name))
	if errors.Is(err, store.ErrNotFound) {
		return Profile{}, noProfile(name)
	}
	if err != nil {
		return Profile{}, fmt.Errorf("find profile %s: %w", name, err)
	}
	return p, nil
}

// ProfileOf finds a profile of owner for who; an empty owner is the caller's
// own account. Nothing here grants one account another's profiles.
func (s *Service) ProfileOf(ctx context.Context, sc Scope, who Caller, name, owner string) (Profile, error) {
	if owner != "" && owner != sc.Account {
		return Profile{}, notYours("signer:GetSigningProfile", who, Scope{owner, sc.Region}, name)
	}
	return s.Profile(ctx, sc, name)
}

// notYours refuses the use of another account's profile.
func notYours(action string, who Caller, sc Scope, name string) error {
	return denied(action, who, Profile{Account: sc.Account, Region: sc.Region, Name: name}.ARN())
}

func denied(action string, who Caller, resource string) error {
	return countersign.Errorf(countersign.Denied, "User: %s is not authorized to perform: %s on resource: %s", who.ARN, action, resource)
}

func noProfile(name string) error {
	return countersign.Errorf(countersign.NotFound, "profile with name %s does not exist", name)
}

// CancelProfile ends a profile's signing. What it signed stays trusted.
// Canceling twice is canceling; a revoked profile is past canceling.
func (s *Service) CancelProfile(ctx context.Context, sc Scope, name string) error {
	return s.updateProfile(ctx, sc, name, func(p *Profile) error {
		switch p.Status {
		case Canceled:
			return errUnchanged
		case Revoked:
			return countersign.Errorf(countersign.Conflict, "Signing Profile %s cannot be canceled because it has been revoked. A revoked profile cannot be canceled.", name)
		}
		p.Status, p.Canceled = Canceled, s.now().UTC()
		return nil
	})
}

func (s *Service) updateProfile(ctx context.Context, sc Scope, name string, f func(*Profile) error) error {
	_, err := s.profiles.Update(ctx, profileKey(sc, name), f)
	var no *countersign.Error
	switch {
	case err == nil, errors.Is(err, errUnchanged):
		return nil
	case errors.Is(err, store.ErrNotFound):
		return noProfile(name)
	case errors.As(err, &no):
		return no
	}
	return fmt.Errorf("update profile %s: %w", name, err)
}

// A ProfileFilter keeps the profiles a list asks for.
type ProfileFilter struct {
	IncludeCanceled bool
	Statuses        []ProfileStatus // empty: Active, and Canceled with IncludeCanceled
	Platform        string
}

// Profiles lists profiles by name.
func (s *Service) Profiles(sc Scope, f ProfileFilter, page PageRequest) ([]Profile, string, error) {
	want := f.Statuses
	if len(want) == 0 {
		want = []ProfileStatus{Active}
		if f.IncludeCanceled {
			want = append(want, Canceled)
		}
	}
	return list(s.profiles, "profiles", sc, f, page, func(p Profile) bool {
		return slices.Contains(want, p.Status) && (f.Platform == "" || f.Platform == p.Platform)
	})
}

// newVersion makes ten mixed-case letters and digits, each as likely as any
// other: about 59 bits.
func newVersion() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	v := make([]byte, 0, 10)
	var b [32]byte
	for len(v) < cap(v) {
		rand.Read(b[:])
		for _, x := range b {
			if x &= 63; int(x) < len(alphabet) && len(v) < cap(v) {
				v = append(v, alphabet[x])
			}
		}
	}
	return string(v)
}

// maxTags is the console's limit; the model's 200 bounds one request.
const maxTags = 50

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return countersign.Errorf(countersign.Invalid, "a signing profile can have at most %d tags", maxTags)
	}
	for k := range tags {
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return countersign.Errorf(countersign.Invalid, "tag key %s: keys that begin with aws: are reserved", k)
		}
	}
	return nil
}

// Tags returns the tags of the profile resource names.
func (s *Service) Tags(ctx context.Context, sc Scope, resource string) (map[string]string, error) {
	name, err := taggable(sc, resource)
	if err != nil {
		return nil, err
	}
	p, err := s.Profile(ctx, sc, name)
	if err != nil {
		return nil, err
	}
	return maps.Clone(p.Tags), nil
}

// Tag adds tags to a profile, or gives them new values.
func (s *Service) Tag(ctx context.Context, sc Scope, resource string, tags map[string]string) error {
	return s.retag(ctx, sc, resource, func(old map[string]string) { maps.Copy(old, tags) })
}

// Untag removes tags; removing what is not there succeeds.
func (s *Service) Untag(ctx context.Context, sc Scope, resource string, keys []string) error {
	return s.retag(ctx, sc, resource, func(old map[string]string) {
		for _, k := range keys {
			delete(old, k)
		}
	})
}

func (s *Service) retag(ctx context.Context, sc Scope, resource string, f func(map[string]string)) error {
	name, err := taggable(sc, resource)
	if err != nil {
		return err
	}
	return s.updateProfile(ctx, sc, name, func(p *Profile) error {
		if p.Status == Canceled {
			return countersign.Errorf(countersign.Conflict, "Signing profile %s is canceled; its tags cannot be changed.", name)
		}
		next := maps.Clone(p.Tags)
		if next == nil {
			next = map[string]string{}
		}
		f(next)
		if err := checkTags(next); err != nil {
			return err
		}
		if maps.Equal(next, p.Tags) {
			return errUnchanged
		}
		p.Tags = next
		return nil
	})
}

// taggable takes a profile's name out of its ARN. A profile of another account
// or region is not one that is here.
func taggable(sc Scope, resource string) (name string, err error) {
	a, err := countersign.ParseARN(resource)
	name, ok := strings.CutPrefix(a.Resource, "/signing-profiles/")
	if err != nil || a.Partition != "aws" || a.Service != "signer" || !ok || name == "" || strings.Contains(name, "/") {
		return "", countersign.Errorf(countersign.Invalid, "Invalid resource ARN: %s", resource)
	}
	if (Scope{a.Account, a.Region}) != sc {
		return "", noProfile(name)
	}
	return name, nil
}
