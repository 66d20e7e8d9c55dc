package sign_test

import (
	"fmt"
	"testing"

	"countersign/internal/sign"
	"countersign/internal/store"
)

// openStore opens the real thing in dir until the test is over or close is called.
func openStore(tb testing.TB, dir string) (st store.Store, close func()) {
	tb.Helper()
	st, err := store.Open(tb.Context(), store.Config{Dir: dir})
	if err != nil {
		tb.Fatal(err)
	}
	open := true
	close = func() {
		if open {
			open = false
			if err := st.Close(); err != nil {
				tb.Errorf("close store: %v", err)
			}
		}
	}
	tb.Cleanup(close)
	return st, close
}

// TestEverythingIsFoundAgain stops a platform on a real store with jobs in
// every state, and starts it again.
func TestEverythingIsFoundAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, closeStore := openStore(t, dir)
	p := prepare(t, st)
	// The first life cannot deliver: its jobs get as far as their envelopes.
	stuck := make(chan struct{}, 100)
	p.objects = &broken{shelves: p.shelves, put: func(string, string) error {
		stuck <- struct{}{}
		return errDead
	}}
	must(t, p.open(t.Context(), t))
	pr := p.profile(t, "prod")
	must(t, p.Tag(t.Context(), here, pr.ARN(), map[string]string{"team": "a"}))
	root1 := p.Authority().Fingerprint()
	var ids []string
	var first sign.JobRequest
	for i := range 8 {
		r := p.request(zipped(t, "n", fmt.Sprint(i)), fmt.Sprintf("%d.zip", i))
		if i == 0 {
			first = r
		}
		j, err := p.StartJob(t.Context(), here, root, r)
		must(t, err)
		ids = append(ids, j.ID)
	}
	for range 3 {
		<-stuck
	}
	p.Close()
	closeStore()
	if n := p.shelves.keys("dst"); n != 0 {
		t.Fatalf("got %d objects before the restart, want none", n)
	}

	p.store, _ = openStore(t, dir)
	p.objects = p.shelves
	p.start(t)
	if got := p.Authority().Fingerprint(); got != root1 {
		t.Error("another root after the restart")
	}
	back, err := p.Profile(t.Context(), here, "prod")
	must(t, err)
	if back.Version != pr.Version || back.Tags["team"] != "a" {
		t.Errorf("got profile %+v, want %+v", back, pr)
	}
	for _, id := range ids {
		j := p.await(t, id)
		vs := p.shelves.versions("dst", j.Target.Key)
		if j.Status != sign.Succeeded || len(vs) != 1 {
			t.Fatalf("job %s: %s: %s, %d objects", id, j.Status, j.Reason, len(vs))
		}
		checkSigned(t, p, j, vs[0])
	}
	again, err := p.StartJob(t.Context(), here, root, first)
	must(t, err)
	if again.ID != ids[0] {
		t.Error("the token was forgotten")
	}
}
