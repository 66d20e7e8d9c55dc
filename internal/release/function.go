// Package release keeps what may be run: functions, numbered versions that
// never change, aliases that point at them, and the code signing
// configurations that say whose code a function takes.
//
// It promises that what it acknowledged survives a crash at any instruction,
// that a version is never rewritten nor its number used again, and that code
// enters a function only with an [admit.Admission]. Its sentences to the
// caller are AWS's (fact sheet lambda-core, sections 2 to 4, and
// lambda-code-signing, sections 1 and 2); giving them AWS's names is
// internal/api's work.
//
// It trusts the store to be written by this package alone.
package release

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"time"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/store"
)

// A Scope is the part of the world a resource lives in: everything is kept by
// account and region.
type Scope struct {
	Account string // 12 digits
	Region  string // "eu-central-1"
}

// arn names a Lambda resource of the scope.
func (s Scope) arn(resource string) string {
	return countersign.ARN{Partition: "aws", Service: "lambda", Region: s.Region, Account: s.Account, Resource: resource}.String()
}

// FunctionARN is the unqualified ARN of the function called name.
func (s Scope) FunctionARN(name string) string { return s.arn("function:" + name) }

// Latest is the qualifier of the one version that can change.
const Latest = "$LATEST"

// Settings is everything about a version that is not its code. A version owns
// its Settings: the maps and slices are never changed after they are stored.
type Settings struct {
	Description  string            `json:"description"`
	Runtime      string            `json:"runtime"`
	Role         string            `json:"role"`
	Handler      string            `json:"handler"`
	Timeout      int               `json:"timeout"`   // seconds
	Memory       int               `json:"memory"`    // MiB
	Ephemeral    int               `json:"ephemeral"` // MiB of /tmp
	Environment  map[string]string `json:"environment,omitempty"`
	Architecture string            `json:"architecture"`
	Tracing      string            `json:"tracing"`   // PassThrough or Active
	LogGroup     string            `json:"log_group"` // never empty
	// LogFormat is Text; the levels belong to the JSON format.
	LogFormat string `json:"log_format"`
}

// Code is an artifact together with the admission that let it in.
type Code struct {
	Artifact  countersign.Digest `json:"artifact"`
	Size      int64              `json:"size"` // bytes of the archive file
	Admission admit.Record       `json:"admission"`
}

// codeFrom is the only way code gets into a function.
func codeFrom(a admit.Admission) Code {
	r := a.Record()
	return Code{Artifact: r.Artifact, Size: r.Size, Admission: r}
}

// A State is where a version stands in its life; the words are AWS's.
type State string

// The states and update outcomes this platform goes through.
const (
	Pending    State = "Pending"
	Active     State = "Active"
	Failed     State = "Failed"
	InProgress State = "InProgress"
	Successful State = "Successful"
)

// A Version is one runnable state of a function: $LATEST, which changes, or a
// number, which does not but for State.
type Version struct {
	Scope    Scope     `json:"scope"`
	Name     string    `json:"name"`
	Number   int       `json:"number"` // 0 is $LATEST
	Revision string    `json:"revision"`
	Modified time.Time `json:"modified"`
	// Build changes with the code or the settings and with nothing else. An
	// environment belongs to one build.
	Build    string   `json:"build"`
	Settings Settings `json:"settings"`
	Code     Code     `json:"code"`
	State    State    `json:"state"`
	// Update is the outcome of the last update; empty before the first
	// settling, as AWS shows it.
	Update State `json:"update,omitempty"`
	// Fault says why State or Update is Failed.
	Fault string `json:"fault,omitempty"`
}

// Qualifier is the version's own name: "$LATEST" or its number.
func (v Version) Qualifier() string {
	if v.Number == 0 {
		return Latest
	}
	return strconv.Itoa(v.Number)
}

// ARN is the function's ARN, unqualified.
func (v Version) ARN() string { return v.Scope.FunctionARN(v.Name) }

// settled reports whether nothing is under way that would change v.
func (v Version) settled() bool { return v.State != Pending && v.Update != InProgress }

// A Function is the document of one function: its $LATEST and what belongs to
// the function as a whole.
type Function struct {
	// ID tells this function from an earlier one of the same name: versions
	// and aliases are kept under it, and none of another's is ever seen.
	ID     string  `json:"id"`
	Latest Version `json:"latest"`
	// Next is the number the next published version gets. It only grows.
	Next int `json:"next"`
	// Published is the number of the last version published, 0 before any,
	// and Dirty whether code or settings changed since.
	Published int  `json:"published"`
	Dirty     bool `json:"dirty"`
	// Config is the ARN of the code signing configuration, or empty.
	Config  string            `json:"config,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Created time.Time         `json:"created"`
	// Deleting is set by a deletion that has begun. Such a function is gone
	// for every caller; what is left of it is removed here or at the next
	// start.
	Deleting bool `json:"deleting,omitempty"`
}

// A NewFunction is what Create needs.
type NewFunction struct {
	Scope    Scope
	Name     string
	Settings Settings
	Code     admit.Admission
	Basis    Basis  // what Code was admitted on
	Config   string // ARN of a code signing configuration; empty for none
	Tags     map[string]string
	Publish  bool
}

// Create makes a function. The Version returned is as AWS answers: Pending,
// and number 1 when publishing was asked for. It settles at once; see
// [Functions.Settled].
func (fs *Functions) Create(ctx context.Context, n NewFunction) (Version, error) {
	ctx = context.WithoutCancel(ctx) // a caller who hangs up leaves nothing half done
	if _, err := fs.PolicyOf(n.Scope, n.Config); err != nil {
		return Version{}, err
	}
	now := fs.now()
	f := Function{
		ID: fs.newID(),
		Latest: Version{
			Scope: n.Scope, Name: n.Name, Revision: fs.newID(), Modified: now, Build: fs.newID(),
			Settings: n.Settings, Code: codeFrom(n.Code), State: Pending,
		},
		Next: 1, Dirty: true, Config: n.Config, Tags: maps.Clone(n.Tags), Created: now,
	}
	key := functionKey(n.Scope, n.Name)
	if old, rev, ok := fs.docs.Get(key); ok && old.Deleting {
		// The name is free again once the old function's remains are gone.
		if err := fs.remove(ctx, key, old, rev); err != nil {
			return Version{}, fmt.Errorf("create %s: finish deletion: %w", n.Name, err)
		}
	}
	if last, _, ok := fs.numbers.Get(key); ok {
		f.Next = last
	}
	if err := fs.deploy(n.Basis, Function{Config: n.Config}, func() error {
		_, err := fs.docs.Create(ctx, key, f)
		return err
	}); err != nil {
		return Version{}, fs.explain(err, "create "+n.Name, existsAlready(n.Name))
	}
	defer fs.settle(n.Scope, n.Name)
	if n.Publish {
		return fs.publish(ctx, n.Scope, n.Name, Publication{})
	}
	return f.Latest, nil
}

// Get returns the function called name. Its Latest may be unsettled.
func (fs *Functions) Get(s Scope, name string) (Function, error) {
	f, _, ok := fs.docs.Get(functionKey(s, name))
	if !ok || f.Deleting {
		return Function{}, NotFound(s, name, "")
	}
	return f, nil
}

// List returns up to limit functions of the scope in the order of their
// names, after the one called after, and whether there are more.
func (fs *Functions) List(s Scope, after string, limit int) ([]Function, bool) {
	prefix := functionKey(s, "")
	from := ""
	if after != "" {
		from = functionKey(s, after)
	}
	var out []Function
	for {
		items, more := fs.docs.Page(prefix, from, limit-len(out))
		for _, it := range items {
			from = it.Key
			if !it.Val.Deleting {
				out = append(out, it.Val)
			}
		}
		if !more || len(out) >= limit {
			return out, more
		}
	}
}

// Count returns how many functions the scope has and the bytes of all their
// versions' archives, for AWS's account settings.
func (fs *Functions) Count(s Scope) (functions int, bytes int64) {
	for it := range fs.docs.All(functionKey(s, "")) {
		if !it.Val.Deleting {
			functions++
			bytes += it.Val.Latest.Code.Size
		}
	}
	for it := range fs.versions.All(scopeKey(s)) {
		bytes += it.Val.Code.Size
	}
	return functions, bytes
}

// UpdateSettings changes $LATEST's settings. change gets a copy it may alter;
// an error from it is returned as it is and nothing changes. revision, when
// not empty, must be $LATEST's.
func (fs *Functions) UpdateSettings(ctx context.Context, s Scope, name, revision string, change func(*Settings) error) (Version, error) {
	return fs.update(ctx, s, name, revision, func(f *Function) error {
		before := f.Latest.Settings
		f.Latest.Settings.Environment = maps.Clone(before.Environment)
		if err := change(&f.Latest.Settings); err != nil {
			return err
		}
		f.Dirty = f.Dirty || !reflect.DeepEqual(before, f.Latest.Settings)
		return nil
	})
}

// UpdateCode gives $LATEST other code, if what it was admitted on still holds;
// otherwise the error is [ErrMoved].
func (fs *Functions) UpdateCode(ctx context.Context, s Scope, name, revision string, a admit.Admission, on Basis, architecture string) (Version, error) {
	fs.fence.RLock()
	defer fs.fence.RUnlock()
	return fs.update(ctx, s, name, revision, func(f *Function) error {
		if !fs.holds(on, *f) {
			return ErrMoved
		}
		c := codeFrom(a)
		f.Dirty = f.Dirty || f.Latest.Code.Artifact != c.Artifact
		f.Latest.Code = c
		if architecture != "" {
			f.Latest.Settings.Architecture = architecture
		}
		return nil
	})
}

// update is the one way $LATEST changes: the new state is stored as being in
// progress, answered so, and settled.
func (fs *Functions) update(ctx context.Context, s Scope, name, revision string, change func(*Function) error) (Version, error) {
	ctx = context.WithoutCancel(ctx)
	f, err := fs.docs.Update(ctx, functionKey(s, name), func(f *Function) error {
		if f.Deleting {
			return NotFound(s, name, "")
		}
		if revision != "" && revision != f.Latest.Revision {
			return staleRevision()
		}
		if err := idle(f.Latest); err != nil {
			return err
		}
		if err := change(f); err != nil {
			return err
		}
		f.Latest.Modified = fs.now().Truncate(time.Second)
		f.Latest.Revision, f.Latest.Build = fs.newID(), fs.newID()
		f.Latest.Update = InProgress
		f.Latest.Fault = ""
		return nil
	})
	// Settled even after an error: the store may have the write all the same.
	fs.settle(s, name)
	if err != nil {
		return Version{}, fs.explain(err, "update "+name, NotFound(s, name, ""))
	}
	return f.Latest, nil
}

// SetTags replaces the function's tags by what change makes of them.
func (fs *Functions) SetTags(ctx context.Context, s Scope, name string, change func(map[string]string) error) error {
	_, err := fs.docs.Update(ctx, functionKey(s, name), func(f *Function) error {
		if f.Deleting {
			return NotFound(s, name, "")
		}
		if f.Tags == nil {
			f.Tags = map[string]string{}
		}
		return change(f.Tags)
	})
	return fs.explain(err, "tag "+name, NotFound(s, name, ""))
}

// Attach sets the function's code signing configuration; an empty config
// detaches it. It never judges code that is deployed already.
func (fs *Functions) Attach(ctx context.Context, s Scope, name, config string) error {
	if _, err := fs.PolicyOf(s, config); err != nil {
		return err
	}
	_, err := fs.docs.Update(ctx, functionKey(s, name), func(f *Function) error {
		if f.Deleting {
			return NotFound(s, name, "")
		}
		f.Config = config
		return nil
	})
	return fs.explain(err, "attach code signing configuration to "+name, NotFound(s, name, ""))
}

// Delete removes the function, its versions and its aliases.
func (fs *Functions) Delete(ctx context.Context, s Scope, name string) error {
	ctx = context.WithoutCancel(ctx)
	key := functionKey(s, name)
	// Stage: from here on the function is gone, whatever happens next.
	_, err := fs.docs.Update(ctx, key, func(f *Function) error {
		if f.Deleting {
			return NotFound(s, name, "")
		}
		f.Deleting = true
		return nil
	})
	if err != nil {
		return fs.explain(err, "delete "+name, NotFound(s, name, ""))
	}
	f, rev, ok := fs.docs.Get(key)
	if !ok {
		return nil // somebody who wanted the name finished the deletion
	}
	return fs.remove(ctx, key, f, rev)
}

// remove takes away what a deleted function left. It is what Delete runs and
// what the next start runs after a crash: doing it twice is harmless.
func (fs *Functions) remove(ctx context.Context, key string, f Function, rev store.Revision) error {
	s, name := f.Latest.Scope, f.Latest.Name
	// AWS: a number is not given again "even for a function that has been
	// deleted and recreated".
	if err := fs.remember(ctx, key, f.Next); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	for it := range fs.aliases.All(f.below()) {
		if err := gone(fs.aliases.Delete(ctx, it.Key, it.Rev)); err != nil {
			return fmt.Errorf("delete alias %s of %s: %w", it.Val.Name, name, err)
		}
	}
	for it := range fs.versions.All(f.below()) {
		if err := gone(fs.versions.Delete(ctx, it.Key, it.Rev)); err != nil {
			return fmt.Errorf("delete version %d of %s: %w", it.Val.Number, name, err)
		}
	}
	if err := gone(fs.docs.Delete(ctx, key, rev)); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	fs.retired(s, name)
	return nil
}
