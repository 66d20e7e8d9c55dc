package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/store"
)

// A CodeSigning is a code signing configuration: whose signatures the
// functions it is attached to accept.
type CodeSigning struct {
	Scope       Scope     `json:"scope"`
	ID          string    `json:"id"` // csc- and 17 characters of [a-z0-9]
	Description *string   `json:"description,omitempty"`
	Publishers  []string  `json:"publishers"` // signing profile version ARNs, as given
	Enforce     bool      `json:"enforce"`
	Modified    time.Time `json:"modified"`
	// Stamp changes with every update: what was admitted on another is judged
	// again.
	Stamp string `json:"stamp"`
	// Tags belong to the configuration; they do not touch Modified.
	Tags map[string]string `json:"tags,omitempty"`
}

// ARN names the configuration.
func (c CodeSigning) ARN() string { return c.Scope.arn("code-signing-config:" + c.ID) }

// Policy is what the gate needs to know of it.
func (c CodeSigning) Policy() *admit.Policy {
	return &admit.Policy{Publishers: c.Publishers, Enforce: c.Enforce}
}

type configs struct {
	docs *store.Docs[CodeSigning]
}

func configKey(s Scope, id string) string { return store.Key(s.Account, s.Region, id) }

// parseConfigARN returns the scope and id an ARN names. The operations'
// constraints have checked its pattern.
func parseConfigARN(arn string) (Scope, string, bool) {
	a, err := countersign.ParseARN(arn)
	if err != nil || a.Partition != "aws" || a.Service != "lambda" {
		return Scope{}, "", false
	}
	const kind = "code-signing-config:"
	if len(a.Resource) <= len(kind) || a.Resource[:len(kind)] != kind {
		return Scope{}, "", false
	}
	return Scope{a.Account, a.Region}, a.Resource[len(kind):], true
}

func (c configs) get(arn string) (CodeSigning, bool) {
	s, id, ok := parseConfigARN(arn)
	if !ok {
		return CodeSigning{}, false
	}
	v, _, ok := c.docs.Get(configKey(s, id))
	return v, ok
}

// CreateCodeSigning stores c under a new id.
func (fs *Functions) CreateCodeSigning(ctx context.Context, c CodeSigning) (CodeSigning, error) {
	c.ID = newConfigID(fs.newID())
	c.Modified, c.Stamp = fs.now(), fs.newID()
	c.Publishers = slices.Clone(c.Publishers)
	c.Tags = maps.Clone(c.Tags)
	if _, err := fs.configs.docs.Create(ctx, configKey(c.Scope, c.ID), c); err != nil {
		return CodeSigning{}, fmt.Errorf("create code signing configuration: %w", err)
	}
	return c, nil
}

// newConfigID makes an id of AWS's form from a UUID: csc- and 17 of its
// hexadecimal digits, 68 bits.
func newConfigID(uuid string) string {
	id := []byte("csc-")
	for i := 0; i < len(uuid) && len(id) < len("csc-")+17; i++ {
		// The 13th and 17th digits of a UUID hold its version and variant.
		if uuid[i] != '-' && i != 14 && i != 19 {
			id = append(id, uuid[i])
		}
	}
	return string(id)
}

// CodeSigning returns the configuration arn names.
func (fs *Functions) CodeSigning(arn string) (CodeSigning, error) {
	c, ok := fs.configs.get(arn)
	if !ok {
		return CodeSigning{}, configUnknown(arn)
	}
	return c, nil
}

// UpdateCodeSigning changes what change changes.
func (fs *Functions) UpdateCodeSigning(ctx context.Context, arn string, change func(*CodeSigning)) (CodeSigning, error) {
	fs.fence.Lock()
	defer fs.fence.Unlock()
	return fs.changeCodeSigning(context.WithoutCancel(ctx), arn, func(c *CodeSigning) error {
		change(c)
		c.Modified, c.Stamp = fs.now(), fs.newID()
		return nil
	})
}

// TagCodeSigning changes the configuration's tags.
func (fs *Functions) TagCodeSigning(ctx context.Context, arn string, change func(map[string]string) error) error {
	_, err := fs.changeCodeSigning(ctx, arn, func(c *CodeSigning) error {
		if c.Tags == nil {
			c.Tags = map[string]string{}
		}
		return change(c.Tags)
	})
	return err
}

func (fs *Functions) changeCodeSigning(ctx context.Context, arn string, change func(*CodeSigning) error) (CodeSigning, error) {
	s, id, ok := parseConfigARN(arn)
	if !ok {
		return CodeSigning{}, configUnknown(arn)
	}
	c, err := fs.configs.docs.Update(ctx, configKey(s, id), change)
	if err != nil {
		return CodeSigning{}, fs.explain(err, "update code signing configuration "+id, configUnknown(arn))
	}
	return c, nil
}

// DeleteCodeSigning removes a configuration no function carries.
func (fs *Functions) DeleteCodeSigning(ctx context.Context, arn string) error {
	s, id, ok := parseConfigARN(arn)
	if !ok {
		return configUnknown(arn)
	}
	fs.fence.Lock()
	defer fs.fence.Unlock()
	key := configKey(s, id)
	_, rev, ok := fs.configs.docs.Get(key)
	if !ok {
		return configUnknown(arn)
	}
	for it := range fs.docs.All(functionKey(s, "")) {
		if it.Val.Config == arn && !it.Val.Deleting {
			return countersign.Errorf(countersign.Conflict, "Lambda cannot delete the code signing configuration at this time — another operation is in progress. Try again later.")
		}
	}
	err := fs.configs.docs.Delete(ctx, key, rev)
	if errors.Is(err, store.ErrConflict) {
		return countersign.Errorf(countersign.Conflict, "Lambda cannot delete the code signing configuration at this time — another operation is in progress. Try again later.")
	}
	return fs.explain(err, "delete code signing configuration "+id, configUnknown(arn))
}

// CodeSignings returns up to limit configurations of the scope after the one
// with id after, and whether there are more.
func (fs *Functions) CodeSignings(s Scope, after string, limit int) ([]CodeSigning, bool) {
	from := ""
	if after != "" {
		from = configKey(s, after)
	}
	items, more := fs.configs.docs.Page(scopeKey(s), from, limit)
	return values(items), more
}

// Carriers returns up to limit names of functions that carry the
// configuration, after the name after, and whether there are more.
func (fs *Functions) Carriers(arn, after string, limit int) ([]string, bool, error) {
	c, err := fs.CodeSigning(arn)
	if err != nil {
		return nil, false, err
	}
	var names []string
	for it := range fs.docs.All(functionKey(c.Scope, "")) {
		f := it.Val
		if f.Config != arn || f.Deleting || f.Latest.Name <= after {
			continue
		}
		if len(names) == limit {
			return names, true, nil
		}
		names = append(names, f.Latest.Name)
	}
	return names, false, nil
}

// PolicyOf is what the gate must ask of code for a function of s that carries
// config, nil where it carries none. A configuration that is carried and
// missing is an error: nobody may deploy past it. One of another scope is
// missing, too: there it could be deleted without anybody here knowing.
func (fs *Functions) PolicyOf(s Scope, config string) (*admit.Policy, error) {
	if config == "" {
		return nil, nil
	}
	c, ok := fs.configs.get(config)
	if !ok || c.Scope != s {
		return nil, configMissing(config)
	}
	return c.Policy(), nil
}

func configUnknown(arn string) error {
	return countersign.Errorf(countersign.NotFound, "The Lambda code signing configuration %s can not be found.", arn)
}

// ErrConfigMissing is in the chain of the refusal for a configuration that a
// function names and that does not exist: AWS has a name of its own for it.
var ErrConfigMissing = errors.New("code signing configuration not found")

func configMissing(arn string) error {
	return &countersign.Error{Kind: countersign.NotFound,
		Message: fmt.Sprintf("The code signing configuration cannot be found. Check that the provided configuration is not deleted: %s.", arn),
		Err:     ErrConfigMissing}
}
