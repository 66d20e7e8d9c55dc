package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/admit/admittest"
	"countersign/internal/store"
	"countersign/internal/store/storetest"
)

var here = Scope{Account: "000000000000", Region: "eu-central-1"}

// fixture is Functions on a store that a test can close and open again.
type fixture struct {
	*Functions
	st  store.Store
	cfg Config
}

func open(t *testing.T, st store.Store, prepare func(context.Context, Version) error) *fixture {
	t.Helper()
	var ids atomic.Int64
	cfg := Config{
		Store: st, Prepare: prepare, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		NewID: func() string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", ids.Add(1)) },
	}
	fs, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{fs, st, cfg}
	t.Cleanup(func() { f.Close() })
	return f
}

// admitted makes an admission the honest way: a gate, a real archive.
func admitted(t *testing.T, content string) admit.Admission {
	t.Helper()
	return admittest.Admission(t, content)
}

func (f *fixture) create(t *testing.T, name string) Version {
	t.Helper()
	v, err := f.Create(t.Context(), NewFunction{Scope: here, Name: name, Settings: Settings{Runtime: "python3.12", Role: "r", Timeout: 3}, Code: admitted(t, "one")})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// on is what code for the function is admitted on now.
func (f *fixture) on(t *testing.T, name string) Basis {
	t.Helper()
	b, _, err := f.Basis(here, name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f *fixture) settled(t *testing.T, name string) Version {
	t.Helper()
	if err := f.Settled(t.Context(), here, name); err != nil {
		t.Fatal(err)
	}
	got, err := f.Get(here, name)
	if err != nil {
		t.Fatal(err)
	}
	return got.Latest
}

func wantKind(t *testing.T, err error, want countersign.Kind, text string) {
	t.Helper()
	if err == nil || countersign.KindOf(err) != want || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v (%v), want %v with %q", err, countersign.KindOf(err), want, text)
	}
}

func TestCreateWalksToActive(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	f := open(t, storetest.Memory(), func(ctx context.Context, _ Version) error { <-gate; return nil })
	v := f.create(t, "hello")
	if v.State != Pending || v.Update != "" {
		t.Fatalf("got %s/%s, want Pending and no update", v.State, v.Update)
	}
	_, err := f.UpdateSettings(t.Context(), here, "hello", "", func(*Settings) error { return nil })
	wantKind(t, err, countersign.Conflict, "currently in the following state: Pending")
	_, err = f.Publish(t.Context(), here, "hello", Publication{})
	wantKind(t, err, countersign.Conflict, "Pending")
	close(gate)
	got := f.settled(t, "hello")
	if got.State != Active || got.Update != Successful || got.Revision == v.Revision {
		t.Errorf("got %s/%s revision %s, want Active/Successful and a new revision", got.State, got.Update, got.Revision)
	}
	_, err = f.Create(t.Context(), NewFunction{Scope: here, Name: "hello", Code: admitted(t, "one")})
	wantKind(t, err, countersign.Exists, "Function already exist: hello")
}

func TestPrepareFailureFailsTheVersion(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Memory(), func(context.Context, Version) error { return errors.New("no such runtime") })
	f.create(t, "hello")
	if v := f.settled(t, "hello"); v.State != Failed || v.Fault != "no such runtime" {
		t.Errorf("got %s %q, want Failed and the reason", v.State, v.Fault)
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Memory(), nil)
	f.create(t, "hello")
	before := f.settled(t, "hello")

	v1, err := f.Publish(t.Context(), here, "hello", Publication{})
	if err != nil || v1.Number != 1 || v1.State != Active || v1.Update != Successful {
		t.Fatalf("got %d %s/%s %v, want version 1, Active/Successful", v1.Number, v1.State, v1.Update, err)
	}
	after := f.settled(t, "hello")
	if after.Revision == before.Revision || v1.Revision == after.Revision {
		t.Errorf("publishing must give $LATEST a new revision and the version its own")
	}
	again, err := f.Publish(t.Context(), here, "hello", Publication{})
	if err != nil || again.Number != 1 || again.Revision != v1.Revision {
		t.Errorf("unchanged: got version %d revision %s %v, want the first one again", again.Number, again.Revision, err)
	}
	_, err = f.Publish(t.Context(), here, "hello", Publication{CodeSHA256: "bogus"})
	wantKind(t, err, countersign.Invalid, "CodeSHA256 (bogus) is different from current CodeSHA256 in $LATEST")
	_, err = f.Publish(t.Context(), here, "hello", Publication{Revision: before.Revision})
	wantKind(t, err, countersign.Stale, "Revision Id")

	if _, err := f.UpdateSettings(t.Context(), here, "hello", "", func(s *Settings) error { s.Timeout = 9; return nil }); err != nil {
		t.Fatal(err)
	}
	f.settled(t, "hello")
	v2, err := f.Publish(t.Context(), here, "hello", Publication{Description: new("two")})
	if err != nil || v2.Number != 2 || v2.Settings.Timeout != 9 || v2.Settings.Description != "two" {
		t.Fatalf("got %+v %v", v2, err)
	}
	if old, err := f.Version(here, "hello", 1); err != nil || old.Settings.Timeout != 3 {
		t.Errorf("version 1 changed: timeout %d %v", old.Settings.Timeout, err)
	}

	// A number is never given twice.
	if err := f.DeleteVersion(t.Context(), here, "hello", 2); err != nil {
		t.Fatal(err)
	}
	v3, err := f.Publish(t.Context(), here, "hello", Publication{})
	if err != nil || v3.Number != 3 {
		t.Errorf("after deleting version 2 got %d %v, want 3", v3.Number, err)
	}
}

// TestPublishWithUpdate: the version is Pending until what it froze has settled.
func TestPublishWithUpdate(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{}, 4)
	gate <- struct{}{}
	f := open(t, storetest.Memory(), func(context.Context, Version) error { <-gate; return nil })
	f.create(t, "hello")
	f.settled(t, "hello")
	if _, err := f.UpdateCode(t.Context(), here, "hello", "", admitted(t, "two"), f.on(t, "hello"), ""); err != nil {
		t.Fatal(err)
	}
	v, err := f.PublishUnsettled(t.Context(), here, "hello")
	if err != nil || v.Number != 1 || v.State != Pending || v.Update != "" {
		t.Fatalf("got %d %s/%s %v, want version 1, Pending", v.Number, v.State, v.Update, err)
	}
	close(gate)
	if l := f.settled(t, "hello"); l.State != Active || l.Update != Successful {
		t.Errorf("$LATEST is %s/%s", l.State, l.Update)
	}
	if v, err := f.Version(here, "hello", 1); err != nil || v.State != Active || v.Update != Successful {
		t.Errorf("version 1 is %s/%s %v", v.State, v.Update, err)
	}
}

func TestPublishOnceAmongMany(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Memory(), nil)
	f.create(t, "hello")
	f.settled(t, "hello")
	var wg sync.WaitGroup
	var got [8]int
	for i := range got {
		wg.Go(func() {
			v, err := f.Publish(t.Context(), here, "hello", Publication{})
			if err != nil {
				t.Error(err)
			}
			got[i] = v.Number
		})
	}
	wg.Wait()
	for _, n := range got {
		if n != 1 {
			t.Errorf("unchanged code published by many got versions %v, want 1 for all", got)
			break
		}
	}
}

func TestAliasRules(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Memory(), nil)
	f.create(t, "hello")
	f.settled(t, "hello")
	for n := 1; n <= 3; n++ {
		if _, err := f.Publish(t.Context(), here, "hello", Publication{Description: new(fmt.Sprint(n))}); err != nil {
			t.Fatal(err)
		}
	}
	alias := func(v int, w map[int]float64) Alias {
		return Alias{Scope: here, Function: "hello", Name: "live", Version: v, Weights: w}
	}
	for _, c := range []struct {
		name string
		a    Alias
		kind countersign.Kind
		text string
	}{
		{"missing version", alias(9, nil), countersign.NotFound, "Function not found: arn:aws:lambda:eu-central-1:000000000000:function:hello:9"},
		{"three versions", alias(1, map[int]float64{2: .1, 3: .1}), countersign.Invalid, "cannot be greater than 1"},
		{"itself", alias(1, map[int]float64{1: .5}), countersign.Invalid, "Function version 1 is already included"},
		{"$LATEST with weights", alias(0, map[int]float64{1: .5}), countersign.NotAllowed, "$LATEST is not supported for an alias pointing to more than 1 version"},
	} {
		_, err := f.CreateAlias(t.Context(), c.a)
		t.Run(c.name, func(t *testing.T) { wantKind(t, err, c.kind, c.text) })
	}
	a, err := f.CreateAlias(t.Context(), alias(1, map[int]float64{2: 0.25}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.CreateAlias(t.Context(), alias(1, nil))
	wantKind(t, err, countersign.Exists, "Alias already exists: arn:aws:lambda:eu-central-1:000000000000:function:hello:live")

	for roll, want := range map[float64]int{0: 2, 0.2499: 2, 0.25: 1, 0.99: 1} {
		if v, err := f.Resolve(here, "hello", "live", roll); err != nil || v.Number != want {
			t.Errorf("roll %v: got version %d %v, want %d", roll, v.Number, err, want)
		}
	}
	err = f.DeleteVersion(t.Context(), here, "hello", 2)
	wantKind(t, err, countersign.Conflict, "following aliases reference it: [live]")

	_, err = f.UpdateAlias(t.Context(), here, "hello", "live", "stale", func(*Alias) {})
	wantKind(t, err, countersign.Stale, "Revision Id")
	if _, err := f.UpdateAlias(t.Context(), here, "hello", "live", a.Revision, func(a *Alias) { a.Version, a.Weights = 3, nil }); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteVersion(t.Context(), here, "hello", 2); err != nil {
		t.Error(err)
	}
	for range 2 { // the second deletes nothing, and succeeds
		if err := f.DeleteAlias(t.Context(), here, "hello", "live"); err != nil {
			t.Error(err)
		}
	}
	_, err = f.Alias(here, "hello", "live")
	wantKind(t, err, countersign.NotFound, "Cannot find alias arn: arn:aws:lambda:eu-central-1:000000000000:function:hello:live")
}

func TestDeleteReleasesEverything(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Memory(), nil)
	cs, err := f.CreateCodeSigning(t.Context(), CodeSigning{Scope: here, Publishers: []string{"p"}})
	if err != nil {
		t.Fatal(err)
	}
	f.create(t, "hello")
	f.create(t, "hello2") // whose name begins like the other's
	f.settled(t, "hello")
	f.settled(t, "hello2")
	for _, n := range []string{"hello", "hello2"} {
		if _, err := f.Publish(t.Context(), here, n, Publication{}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.CreateAlias(t.Context(), Alias{Scope: here, Function: n, Name: "live", Version: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Attach(t.Context(), here, "hello", cs.ARN()); err != nil {
		t.Fatal(err)
	}
	err = f.DeleteCodeSigning(t.Context(), cs.ARN())
	wantKind(t, err, countersign.Conflict, "another operation is in progress")
	if err := f.Delete(t.Context(), here, "hello"); err != nil {
		t.Fatal(err)
	}
	_, err = f.Get(here, "hello")
	wantKind(t, err, countersign.NotFound, "Function not found")
	if err := f.DeleteCodeSigning(t.Context(), cs.ARN()); err != nil {
		t.Errorf("the deleted function still holds its configuration: %v", err)
	}
	if v, err := f.Resolve(here, "hello2", "live", 0); err != nil || v.Number != 1 {
		t.Errorf("the neighbour lost something: %v", err)
	}
	f.create(t, "hello")
	f.settled(t, "hello")
	if vs, _, err := f.Versions(here, "hello", 0, 10); err != nil || len(vs) != 0 {
		t.Errorf("the new function has the old one's versions: %v %v", vs, err)
	}
}

// TestCodeGoesInOnlyOnItsBasis: whatever the admission was decided on and is
// not so any more, the code is judged again.
func TestCodeGoesInOnlyOnItsBasis(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Memory(), nil)
	cs, err := f.CreateCodeSigning(t.Context(), CodeSigning{Scope: here, Publishers: []string{"p"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, move := range map[string]func() error{
		"attached":  func() error { return f.Attach(t.Context(), here, "hello", cs.ARN()) },
		"detached":  func() error { return f.Attach(t.Context(), here, "hello", "") },
		"attached2": func() error { return f.Attach(t.Context(), here, "hello", cs.ARN()) },
		"tightened": func() error {
			if err := f.Attach(t.Context(), here, "hello", cs.ARN()); err != nil {
				return err
			}
			_, err := f.UpdateCodeSigning(t.Context(), cs.ARN(), func(c *CodeSigning) { c.Enforce = true })
			return err
		},
		"recreated": func() error {
			if err := f.Delete(t.Context(), here, "hello"); err != nil {
				return err
			}
			f.create(t, "hello")
			return nil
		},
	} {
		if _, err := f.Get(here, "hello"); err != nil {
			f.create(t, "hello")
		}
		before := "" // every case starts without a configuration, but "detached"
		if name == "detached" {
			before = cs.ARN()
		}
		if err := f.Attach(t.Context(), here, "hello", before); err != nil {
			t.Fatal(err)
		}
		was := f.settled(t, "hello")
		on := f.on(t, "hello")
		if err := move(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f.settled(t, "hello")
		if _, err := f.UpdateCode(t.Context(), here, "hello", "", admitted(t, "late"), on, ""); !errors.Is(err, ErrMoved) {
			t.Errorf("%s: got %v, want ErrMoved", name, err)
		}
		if now := f.settled(t, "hello"); now.Code.Artifact != was.Code.Artifact {
			t.Errorf("%s: the code went in", name)
		}
	}
	stale, _, err := f.NewBasis(here, cs.ARN())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.UpdateCodeSigning(t.Context(), cs.ARN(), func(*CodeSigning) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Create(t.Context(), NewFunction{Scope: here, Name: "fresh", Code: admitted(t, "x"), Basis: stale, Config: cs.ARN()}); !errors.Is(err, ErrMoved) {
		t.Errorf("created on a stale basis: %v", err)
	}
}

// TestNamesakesShareNothing: versions and aliases of a deleted function are
// never seen again, and its numbers are not given again.
func TestNamesakesShareNothing(t *testing.T) {
	t.Parallel()
	st := storetest.Memory()
	f := open(t, st, nil)
	f.create(t, "hello")
	f.settled(t, "hello")
	old, err := f.Get(here, "hello")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Publish(t.Context(), here, "hello", Publication{}); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(t.Context(), here, "hello"); err != nil {
		t.Fatal(err)
	}
	// Somebody who began before the deletion writes after it.
	if _, err := f.versions.Create(t.Context(), old.versionKey(2), Version{Scope: here, Name: "hello", Number: 2, State: Active}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.aliases.Create(t.Context(), old.aliasKey("live"), Alias{Scope: here, Function: "hello", Name: "live", Version: 2}); err != nil {
		t.Fatal(err)
	}
	f.create(t, "hello")
	f.settled(t, "hello")
	for _, q := range []string{"1", "2", "live"} {
		if _, err := f.Resolve(here, "hello", q, 0); err == nil {
			t.Errorf("the new function answers for the old one's %s", q)
		}
	}
	if v, err := f.Publish(t.Context(), here, "hello", Publication{}); err != nil || v.Number != 2 {
		t.Errorf("got version %d %v, want 2: 1 was given", v.Number, err)
	}
	f.Close()
	again := open(t, st, nil)
	if n, m := again.versions.Len(""), again.aliases.Len(""); n != 1 || m != 0 {
		t.Errorf("after a restart there are %d versions and %d aliases, want 1 and 0", n, m)
	}
}

func TestConfigComesBeforeFunction(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Memory(), nil)
	missing := CodeSigning{Scope: here, ID: "csc-00000000000000000"}.ARN()
	err := f.Attach(t.Context(), here, "nobody", missing)
	wantKind(t, err, countersign.NotFound, "The code signing configuration cannot be found")
	if !errors.Is(err, ErrConfigMissing) {
		t.Errorf("%v is not ErrConfigMissing", err)
	}
	if _, err := f.PolicyOf(here, missing); !errors.Is(err, ErrConfigMissing) {
		t.Errorf("a missing configuration asked for nothing: %v", err)
	}
}

// TestCrash breaks the store before and after each write of each operation,
// opens it again, and finds either all of the operation or none of it.
func TestCrash(t *testing.T) {
	t.Parallel()
	type world struct {
		f *fixture
		t *testing.T
	}
	ops := map[string]func(world) error{
		"create": func(w world) error {
			_, err := w.f.Create(w.t.Context(), NewFunction{Scope: here, Name: "new", Code: admitted(w.t, "one"), Publish: true})
			return err
		},
		"update": func(w world) error {
			_, err := w.f.UpdateCode(w.t.Context(), here, "hello", "", admitted(w.t, "two"), w.f.on(w.t, "hello"), "")
			return err
		},
		"publish": func(w world) error {
			_, err := w.f.Publish(w.t.Context(), here, "hello", Publication{})
			return err
		},
		"delete": func(w world) error { return w.f.Delete(w.t.Context(), here, "hello") },
	}
	for name, op := range ops {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.EachCrash(t, "", func(t *testing.T, fault *storetest.Fault) {
				st := storetest.Memory()
				calm := open(t, st, nil)
				calm.create(t, "hello")
				calm.settled(t, "hello")
				calm.Close()

				broken := open(t, fault.Wrap(st), nil)
				err := op(world{broken, t})
				broken.Settled(t.Context(), here, "hello")
				broken.Settled(t.Context(), here, "new")
				broken.Close()

				f := open(t, st, nil)
				checkWhole(t, f)
				if err != nil {
					return
				}
				switch _, lost := f.Get(here, "new"); {
				case name == "create" && lost != nil:
					t.Errorf("acknowledged and lost: %v", lost)
				case name == "delete":
					if _, gone := f.Get(here, "hello"); gone == nil {
						t.Error("deletion acknowledged and undone")
					}
				}
			})
		})
	}
}

// checkWhole finds every function settled and ready for the next version.
func checkWhole(t *testing.T, f *fixture) {
	t.Helper()
	for _, n := range []string{"hello", "new"} {
		if _, err := f.Get(here, n); err != nil {
			if vs := f.versions.Len(functionKey(here, n) + sep); vs != 0 { // of whatever id
				t.Errorf("%s is gone and left %d versions", n, vs)
			}
			continue
		}
		if v := f.settled(t, n); v.State != Active || v.Update == InProgress {
			t.Errorf("%s is %s/%s after the restart", n, v.State, v.Update)
		}
		vs, _, err := f.Versions(here, n, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range vs {
			if !v.settled() {
				t.Errorf("%s:%d is %s after the restart", n, v.Number, v.State)
			}
		}
		next, err := f.Publish(t.Context(), here, n, Publication{Description: new("after")})
		if err != nil {
			t.Errorf("publish after the restart: %v", err)
		}
		for _, v := range vs {
			if next.Number < v.Number {
				t.Errorf("after version %d came number %d", v.Number, next.Number)
			}
		}
	}
}

func TestNewConfigID(t *testing.T) {
	t.Parallel()
	got := newConfigID("0f1e2d3c-4b5a-4968-8776-a5b4c3d2e1f0")
	if want := "csc-0f1e2d3c4b5a96877"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
