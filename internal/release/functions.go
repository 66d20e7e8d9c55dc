package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"countersign"
	"countersign/internal/store"
)

// Functions holds every function, version, alias and code signing
// configuration of the platform. Safe for concurrent use.
type Functions struct {
	cfg      Config
	docs     *store.Docs[Function]
	versions *store.Docs[Version]
	aliases  *store.Docs[Alias]
	configs  configs
	numbers  *store.Docs[int] // by function key: the next version number of whoever takes the name next

	// fence is held for writing while a code signing configuration changes, and
	// for reading from the last look at one until code admitted on it is in.
	fence sync.RWMutex

	life   context.Context // ends with Close; settling runs under it
	end    context.CancelFunc
	work   sync.WaitGroup
	mu     sync.Mutex               // never held while talking to the store
	moving map[string]chan struct{} // guarded by mu: one per function being settled, closed when it has
}

// Config is what Functions needs from outside.
type Config struct {
	Store store.Store
	// Prepare makes a version ready to run: its code is unpacked and its
	// runtime is looked for. An error fails the version with that text.
	Prepare func(context.Context, Version) error
	// Retired is told that a function changed or went away, so that its
	// environments can be let go. It must not block.
	Retired func(s Scope, name string)
	Now     func() time.Time
	NewID   func() string // a fresh UUID
	Log     *slog.Logger
}

// Open loads what there is and takes up again what a crash interrupted:
// functions being deleted are removed, versions not yet settled are settled.
func Open(ctx context.Context, cfg Config) (*Functions, error) {
	fs := &Functions{cfg: cfg, moving: map[string]chan struct{}{}}
	var err error
	if fs.docs, err = openDocs[Function](ctx, cfg.Store, "functions"); err != nil {
		return nil, err
	}
	if fs.versions, err = openDocs[Version](ctx, cfg.Store, "versions"); err != nil {
		return nil, err
	}
	if fs.aliases, err = openDocs[Alias](ctx, cfg.Store, "aliases"); err != nil {
		return nil, err
	}
	if fs.configs.docs, err = openDocs[CodeSigning](ctx, cfg.Store, "code-signing-configs"); err != nil {
		return nil, err
	}
	if fs.numbers, err = openDocs[int](ctx, cfg.Store, "version-numbers"); err != nil {
		return nil, err
	}
	fs.life, fs.end = context.WithCancel(context.WithoutCancel(ctx))
	unsettled := map[string]Version{}
	for it := range fs.docs.All("") {
		l := it.Val.Latest
		switch {
		case it.Val.Deleting:
			if err := fs.remove(ctx, it.Key, it.Val, it.Rev); err != nil {
				return nil, fmt.Errorf("finish deletion: %w", err)
			}
		case !l.settled():
			unsettled[it.Key] = l
		}
	}
	if err := fs.sweep(ctx); err != nil {
		return nil, err
	}
	for it := range fs.versions.All("") {
		if v := it.Val; !v.settled() {
			unsettled[functionKey(v.Scope, v.Name)] = v
		}
	}
	for _, v := range unsettled {
		fs.settle(v.Scope, v.Name)
	}
	return fs, nil
}

func openDocs[T any](ctx context.Context, s store.Store, name string) (*store.Docs[T], error) {
	b, err := s.Bucket(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	d, err := store.OpenDocs[T](ctx, b)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return d, nil
}

// Close waits for what is being settled; what it interrupts the next Open
// takes up.
func (fs *Functions) Close() {
	fs.end()
	fs.work.Wait()
	fs.docs.Close()
	fs.versions.Close()
	fs.aliases.Close()
	fs.configs.docs.Close()
	fs.numbers.Close()
}

// sweep removes versions and aliases of functions that are gone. They are
// invisible: who made them lost a race with the function's deletion.
func (fs *Functions) sweep(ctx context.Context) error {
	live := map[string]bool{}
	for it := range fs.docs.All("") {
		live[it.Val.below()] = true
	}
	orphan := func(key string) bool { return !live[key[:strings.LastIndex(key, sep)+1]] }
	for it := range fs.versions.All("") {
		if orphan(it.Key) {
			if err := gone(fs.versions.Delete(ctx, it.Key, it.Rev)); err != nil {
				return fmt.Errorf("sweep version %s: %w", it.Key, err)
			}
		}
	}
	for it := range fs.aliases.All("") {
		if orphan(it.Key) {
			if err := gone(fs.aliases.Delete(ctx, it.Key, it.Rev)); err != nil {
				return fmt.Errorf("sweep alias %s: %w", it.Key, err)
			}
		}
	}
	return nil
}

// remember keeps the number a function of this name would publish next.
func (fs *Functions) remember(ctx context.Context, key string, next int) error {
	_, err := fs.numbers.Update(ctx, key, func(n *int) error { *n = max(*n, next); return nil })
	if errors.Is(err, store.ErrNotFound) {
		_, err = fs.numbers.Create(ctx, key, next)
	}
	return err
}

func (fs *Functions) now() time.Time { return fs.cfg.Now().UTC() }
func (fs *Functions) newID() string  { return fs.cfg.NewID() }

func (fs *Functions) retired(s Scope, name string) {
	if fs.cfg.Retired != nil {
		fs.cfg.Retired(s, name)
	}
}

// settle starts moving the function's unsettled versions on. The documents
// are the work items: what a crash interrupts, Open finds and settles.
func (fs *Functions) settle(s Scope, name string) {
	key := functionKey(s, name)
	fs.mu.Lock()
	before := fs.moving[key]
	done := make(chan struct{})
	fs.moving[key] = done
	fs.mu.Unlock()
	fs.work.Go(func() {
		defer func() {
			fs.mu.Lock()
			if fs.moving[key] == done {
				delete(fs.moving, key)
			}
			fs.mu.Unlock()
			close(done)
		}()
		if before != nil {
			<-before
		}
		if err := fs.settleNow(fs.life, s, name); err != nil && fs.life.Err() == nil {
			fs.cfg.Log.Error("settle function", "function", name, "account", s.Account, "region", s.Region, "error", err)
		}
	})
}

func (fs *Functions) settleNow(ctx context.Context, s Scope, name string) error {
	f, err := fs.Get(s, name)
	if err != nil {
		return nil // deleted meanwhile
	}
	if l := f.Latest; !l.settled() {
		fault := fs.prepare(ctx, l)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		_, err := fs.docs.Update(ctx, functionKey(s, name), func(f *Function) error {
			// $LATEST may have been published meanwhile, which gives it a
			// revision of its own, but it takes no update while it settles.
			f.Latest.settleAs(fault)
			f.Latest.Revision = fs.newID()
			return nil
		})
		if err = gone(err); err != nil {
			return fmt.Errorf("settle %s: %w", name, err)
		}
	}
	for it := range fs.versions.All(f.below()) {
		if it.Val.settled() {
			continue
		}
		fault := fs.prepare(ctx, it.Val)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		_, err := fs.versions.Update(ctx, it.Key, func(v *Version) error {
			v.settleAs(fault)
			return nil
		})
		if err = gone(err); err != nil {
			return fmt.Errorf("settle %s:%d: %w", name, it.Val.Number, err)
		}
	}
	fs.retired(s, name)
	return nil
}

func (fs *Functions) prepare(ctx context.Context, v Version) error {
	if fs.cfg.Prepare == nil {
		return nil
	}
	return fs.cfg.Prepare(ctx, v)
}

// settleAs ends what is under way in v, by fault or in success.
func (v *Version) settleAs(fault error) {
	first := v.State == Pending
	switch {
	case fault == nil:
		v.State, v.Update, v.Fault = Active, Successful, ""
	case first:
		v.State, v.Update, v.Fault = Failed, Failed, fault.Error()
	default:
		v.Update, v.Fault = Failed, fault.Error()
	}
}

// Settled waits until nothing is under way for the function, so that a caller
// who may run it does not have to come back.
func (fs *Functions) Settled(ctx context.Context, s Scope, name string) error {
	for {
		fs.mu.Lock()
		done := fs.moving[functionKey(s, name)]
		fs.mu.Unlock()
		if done == nil {
			return nil
		}
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Keys. A function's versions and aliases live below its own key and its id,
// so that a prefix finds them and no namesake's.
const sep = "."

func scopeKey(s Scope) string { return store.Key(s.Account, s.Region) + sep }

// functionKey of an empty name is the prefix of all functions of the scope.
func functionKey(s Scope, name string) string {
	if name == "" {
		return scopeKey(s)
	}
	return store.Key(s.Account, s.Region, name)
}

// below is the prefix of the keys of f's versions and of its aliases.
func (f Function) below() string {
	return store.Key(f.Latest.Scope.Account, f.Latest.Scope.Region, f.Latest.Name, f.ID) + sep
}

// versionKey pads the number so that the order of keys is that of numbers.
func (f Function) versionKey(number int) string { return f.below() + fmt.Sprintf("%010d", number) }

func (f Function) aliasKey(name string) string { return f.below() + store.Key(name) }

func values[T any](items []store.Item[T]) []T {
	out := make([]T, len(items))
	for i, it := range items {
		out[i] = it.Val
	}
	return out
}

// gone turns "somebody was faster to remove or change it" into success, for
// steps whose purpose is that a thing be gone or moved on.
func gone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// explain turns the store's two foreseeable answers into otherwise, keeps
// what is a no already, and wraps the rest.
func (fs *Functions) explain(err error, step string, otherwise error) error {
	var no *countersign.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrExists):
		return otherwise
	case errors.As(err, &no):
		return no
	default:
		return fmt.Errorf("%s: %w", step, err)
	}
}

// NotFound is AWS's sentence for a function, or a qualifier of it, that is
// not there.
func NotFound(s Scope, name, qualifier string) error {
	arn := s.FunctionARN(name)
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return countersign.Errorf(countersign.NotFound, "Function not found: %s", arn)
}

func existsAlready(name string) error {
	return countersign.Errorf(countersign.Exists, "Function already exist: %s", name)
}

func staleRevision() error {
	return countersign.Errorf(countersign.Stale, "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
}

// idle refuses what AWS refuses while something is under way.
func idle(v Version) error {
	switch {
	case v.State == Pending:
		return countersign.Errorf(countersign.Conflict, "The operation cannot be performed at this time. The function is currently in the following state: Pending")
	case v.Update == InProgress:
		return countersign.Errorf(countersign.Conflict, "The operation cannot be performed at this time. An update is in progress for resource: %s", v.ARN())
	}
	return nil
}
