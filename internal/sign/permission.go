package sign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"countersign"
	"countersign/internal/store"
)

// A Permission lets another account, or one role of it, do one thing with a
// profile.
type Permission struct {
	Statement string `json:"statement"` // its id, unique in the profile
	Action    string `json:"action"`
	Principal string `json:"principal"`         // an account's id or a role's ARN
	Version   string `json:"version,omitempty"` // of the profile; empty for any
}

// Permissions are what a profile's owner lets others do with it.
type Permissions struct {
	// Revision changes with every change. A profile that never had permissions
	// has none; the empty revision also names one that has none any more.
	Revision string       `json:"revision,omitempty"`
	Granted  []Permission `json:"granted,omitempty"` // by statement id
}

// maxPolicy bounds a profile's policy, in bytes. AWS has a limit and does not
// publish it; this is Lambda's for a function's policy.
const maxPolicy = 20 << 10

// Policy is the permissions as the resource policy they stand for.
func (ps Permissions) Policy(p Profile) []byte {
	type statement struct {
		Sid       string
		Effect    string
		Principal map[string]string
		Action    string
		Resource  string
		Condition map[string]map[string]string `json:",omitempty"`
	}
	doc := struct {
		Version   string
		Statement []statement
	}{"2012-10-17", []statement{}}
	for _, g := range ps.Granted {
		st := statement{Sid: g.Statement, Effect: "Allow", Principal: map[string]string{"AWS": g.Principal}, Action: g.Action, Resource: p.ARN()}
		if g.Version != "" {
			st.Condition = map[string]map[string]string{"StringEquals": {"signer:ProfileVersion": g.Version}}
		}
		doc.Statement = append(doc.Statement, st)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // strings always have a JSON form
	}
	return b
}

// actions are what can be permitted on a platform; each has its own way to
// sign. The order is AWS's.
func (pf Platform) actions() []string {
	signs := "signer:StartSigningJob"
	if pf.ID == NotationPlatform {
		signs = "signer:SignPayload"
	}
	return []string{signs, "signer:GetSigningProfile", "signer:RevokeSignature"}
}

// principal is "an IAM role or another AWS account ID". Users, sessions and
// everybody are none.
var principal = regexp.MustCompile(`^(\d{12}|arn:aws:iam::\d{12}:role/[\w+=,.@/-]{1,512})$`)

// check says what keeps g from being a permission on p.
func (g Permission) check(p Profile) error {
	if g.Version != "" {
		if err := p.hasVersion(g.Version); err != nil {
			return err
		}
	}
	pf, err := PlatformByID(p.Platform)
	if err != nil {
		return err
	}
	if can := pf.actions(); !slices.Contains(can, g.Action) {
		return countersign.Errorf(countersign.NotAllowed, "Action %s not supported for platform %s. Action must be one of [%s].", g.Action, pf.ID, strings.Join(can, ", "))
	}
	if !principal.MatchString(g.Principal) {
		return countersign.Errorf(countersign.Invalid, "Invalid principal: %s. Principal must be an AWS account ID or the ARN of an IAM role.", g.Principal)
	}
	if g.Statement == "" {
		return countersign.Errorf(countersign.Invalid, "statementId should not be empty")
	}
	return nil
}

// AddPermission adds a permission to a profile and returns the new revision.
// revision is the caller's idea of the present one, empty for "there are no
// permissions"; nil does not ask. Stale when it is another, Exists when the
// statement's id is taken, TooLarge when the policy would be.
func (s *Service) AddPermission(ctx context.Context, sc Scope, name string, g Permission, revision *string) (string, error) {
	p, err := s.Profile(ctx, sc, name)
	if err != nil {
		return "", err
	}
	if err := g.check(p); err != nil {
		return "", err
	}
	add := func(ps *Permissions) error {
		if revision != nil && !ps.at(*revision) {
			return stale(name)
		}
		i, taken := ps.find(g.Statement)
		if taken {
			return countersign.Errorf(countersign.Exists, "Statement with id %s already exists", g.Statement)
		}
		ps.Granted = slices.Insert(ps.Granted, i, g)
		if n := len(ps.Policy(p)); n > maxPolicy {
			return countersign.Errorf(countersign.TooLarge, "The policy of profile %s would have %d bytes; at most %d are allowed.", name, n, maxPolicy)
		}
		ps.Revision = uuid.NewString()
		return nil
	}
	key := profileKey(sc, name)
	for {
		ps, err := s.permissions.Update(ctx, key, add)
		if errors.Is(err, store.ErrNotFound) {
			ps = Permissions{}
			if err = add(&ps); err == nil {
				_, err = s.permissions.Create(ctx, key, ps)
			}
			if errors.Is(err, store.ErrExists) && ctx.Err() == nil {
				continue // somebody's first permission came in between
			}
		}
		return ps.Revision, permissionError("add", name, err)
	}
}

// RemovePermission removes a permission and returns the new revision. revision
// has to be the present one: Stale otherwise. NotFound when there is no such
// statement.
func (s *Service) RemovePermission(ctx context.Context, sc Scope, name, statement, revision string) (string, error) {
	if _, err := s.Profile(ctx, sc, name); err != nil {
		return "", err
	}
	ps, err := s.permissions.Update(ctx, profileKey(sc, name), func(ps *Permissions) error {
		i, found := ps.find(statement)
		switch {
		case !found:
			return noStatement(statement)
		case !ps.at(revision):
			return stale(name)
		}
		ps.Granted = slices.Delete(ps.Granted, i, i+1)
		ps.Revision = uuid.NewString()
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		err = noStatement(statement)
	}
	return ps.Revision, permissionError("remove", name, err)
}

// at reports whether a caller's revision is the present one. Terraform says ""
// where it found no permissions.
func (ps Permissions) at(revision string) bool {
	return revision == ps.Revision || revision == "" && len(ps.Granted) == 0
}

// find returns where a statement is, or where it would be.
func (ps Permissions) find(statement string) (int, bool) {
	return slices.BinarySearchFunc(ps.Granted, statement, func(g Permission, id string) int { return strings.Compare(g.Statement, id) })
}

func stale(name string) error {
	return countersign.Errorf(countersign.Stale, "The revisionId is not the latest of the permissions of profile %s", name)
}

func noStatement(id string) error {
	return countersign.Errorf(countersign.NotFound, "Statement with id %s does not exist", id)
}

func permissionError(step, name string, err error) error {
	var no *countersign.Error
	if err == nil || errors.As(err, &no) {
		return err
	}
	return fmt.Errorf("%s permission of profile %s: %w", step, name, err)
}

// Permissions lists what a profile's owner permits, by statement id: a page of
// it, under the revision of all. size is the policy's, in bytes. NotFound when
// nothing is permitted.
//
// A page goes on behind the last statement of the one before, whatever was
// added or removed meanwhile: a statement that stays is listed once.
func (s *Service) Permissions(ctx context.Context, sc Scope, name string, page PageRequest) (ps Permissions, size int, next string, err error) {
	p, err := s.Profile(ctx, sc, name)
	if err != nil {
		return Permissions{}, 0, "", err
	}
	ps, err = find(ctx, s.permissions, profileKey(sc, name))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return Permissions{}, 0, "", fmt.Errorf("list permissions of profile %s: %w", name, err)
	}
	if len(ps.Granted) == 0 {
		return Permissions{}, 0, "", countersign.Errorf(countersign.NotFound, "Profile with name %s has no permissions", name)
	}
	const list = "permissions"
	after, err := page.after(list, name)
	if err != nil {
		return Permissions{}, 0, "", err
	}
	size = len(ps.Policy(p))
	from, found := ps.find(after)
	if found {
		from++
	}
	ps.Granted = ps.Granted[from:] // the view's own, cut and not changed
	if n := page.limit(); len(ps.Granted) > n {
		ps.Granted = ps.Granted[:n]
		next = nextToken(list, name, ps.Granted[n-1].Statement)
	}
	return ps, size, next, nil
}
