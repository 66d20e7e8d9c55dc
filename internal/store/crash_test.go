package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign"
	"countersign/internal/store"
)

// crashDir, set in the environment, makes the test binary the victim of
// TestSurvivesKill instead of running tests.
const crashDir = "COUNTERSIGN_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := victim(context.Background(), dir, os.Getenv(crashDir+"_ROUND")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// kinds opens one of each kind of thing.
type kinds struct {
	docs  *store.Docs[int]
	blobs store.Blobs
	queue store.Queue
	log   store.Log
}

func openKinds(ctx context.Context, s store.Store) (k kinds, err error) {
	b, err := s.Bucket(ctx, "docs")
	if err != nil {
		return k, err
	}
	if k.docs, err = store.OpenDocs[int](ctx, b); err != nil {
		return k, err
	}
	if k.blobs, err = s.Blobs(ctx, "blobs"); err != nil {
		return k, err
	}
	if k.queue, err = s.Queue(ctx, "queue"); err != nil {
		return k, err
	}
	k.log, err = s.Log(ctx, "log")
	return k, err
}

// victim writes as fast as it can until it is killed, and prints what was
// acknowledged, a line each:
//
//	doc KEY N | gone KEY | blob DIGEST | item ID | took ID | line SUBJECT TEXT | purged SUBJECT
func victim(ctx context.Context, dir, round string) error {
	s, err := store.Open(ctx, store.Config{Dir: dir})
	if err != nil {
		return err
	}
	k, err := openKinds(ctx, s)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(format string, args ...any) { // one write a line: a line is whole or not there
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(os.Stdout, format+"\n", args...)
	}
	failed := make(chan error)
	writer := func(write func(i int) error) {
		go func() {
			for i := 0; ; i++ {
				if err := write(i); err != nil {
					failed <- err
				}
			}
		}()
	}
	writer(func(i int) error { // documents that stay
		key := store.Key(round, fmt.Sprint(i))
		_, err := k.docs.Create(ctx, key, i)
		say("doc %s %d", key, i)
		return err
	})
	writer(func(i int) error { // one that keeps changing
		key := store.Key(round, "counter")
		if i == 0 {
			_, err := k.docs.Create(ctx, key, 0)
			return err
		}
		n, err := k.docs.Update(ctx, key, func(n *int) error { *n++; return nil })
		say("doc %s %d", key, n)
		return err
	})
	writer(func(i int) error { // and some that go
		key := store.Key(round, "gone", fmt.Sprint(i))
		rev, err := k.docs.Create(ctx, key, i)
		if err != nil {
			return err
		}
		err = k.docs.Delete(ctx, key, rev)
		say("gone %s", key)
		return err
	})
	writer(func(i int) error {
		d, _, err := k.blobs.Put(ctx, blobContent(round, i))
		say("blob %s", d)
		return err
	})
	writer(func(i int) error {
		id := round + "." + fmt.Sprint(i)
		err := k.queue.Put(ctx, id, []byte(id))
		say("item %s", id)
		return err
	})
	writer(func(i int) error {
		subject := store.Key("s", fmt.Sprint(i%3))
		one, two := fmt.Sprint(round, ".", i, ".a"), fmt.Sprint(round, ".", i, ".b")
		_, err := k.log.Append(ctx, subject, []byte(one), []byte(two))
		say("line %s %s\nline %s %s", subject, one, subject, two)
		return err
	})
	writer(func(i int) error { // records that go
		subject := store.Key("purged", round, fmt.Sprint(i))
		if _, err := k.log.Append(ctx, subject, []byte("x")); err != nil {
			return err
		}
		err := k.log.Purge(ctx, subject)
		say("purged %s", subject)
		return err
	})
	go func() { // a worker that dies holding items
		failed <- k.queue.Work(ctx, 3, func(ctx context.Context, id string, item []byte) error {
			say("took %s", id)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	return <-failed
}

func blobContent(round string, i int) io.Reader {
	return strings.NewReader(strings.Repeat(fmt.Sprint(round, ".", i, " "), 2000))
}

// TestSurvivesKill kills a process at a random moment with SIGKILL, several
// times on one directory, and finds everything it was told is stored.
func TestSurvivesKill(t *testing.T) {
	t.Parallel()
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	acks := &acknowledged{docs: map[string]string{}, items: map[string]bool{}, lines: map[string][]string{}}
	for round := range rounds {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprintf("%s_ROUND=%d", crashDir, round))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killAt := 50 + rand.IntN(1500)
		n, took := 0, 0
		for sc := bufio.NewScanner(out); sc.Scan(); { // on after the kill: what is in the pipe was acknowledged
			if n++; n >= killAt && took > 0 {
				_ = cmd.Process.Kill()
			}
			if strings.HasPrefix(sc.Text(), "took ") {
				took++
			}
			acks.add(t, sc.Text())
		}
		_ = cmd.Wait()
		if n < killAt {
			t.Fatalf("round %d: the process ended after %d lines: %s", round, n, stderr.String())
		}
		t.Logf("round %d: killed after %d acknowledgements", round, n)
		acks.check(t, dir)
	}
}

// acknowledged is what the victims of all rounds said.
type acknowledged struct {
	docs   map[string]string   // value by key, "" for gone
	blobs  []string            // digests
	items  map[string]bool     // ids
	lines  map[string][]string // by subject, in order of acknowledgement
	purged []string            // subjects
}

func (a *acknowledged) add(t *testing.T, line string) {
	kind, rest, _ := strings.Cut(line, " ")
	name, val, _ := strings.Cut(rest, " ")
	switch kind {
	case "doc":
		a.docs[name] = val
	case "gone":
		a.docs[name] = ""
	case "blob":
		a.blobs = append(a.blobs, name)
	case "item":
		a.items[name] = true
	case "took":
	case "purged":
		a.purged = append(a.purged, name)
	case "line":
		a.lines[name] = append(a.lines[name], val)
	default:
		t.Errorf("the victim said %q", line)
	}
}

// check opens dir and finds everything acknowledged in it.
func (a *acknowledged) check(t *testing.T, dir string) {
	ctx := t.Context()
	s := open(t, dir)
	defer s.Close() // before the next round; closing twice is fine
	k, err := openKinds(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	defer k.docs.Close()
	for key, want := range a.docs {
		got, _, ok := k.docs.Get(key)
		switch {
		case want == "" && ok:
			t.Errorf("document %s was deleted and is back", key)
		case want == "":
		case !ok:
			t.Errorf("document %s is lost", key)
		case strings.HasSuffix(key, "counter"):
			// The update in flight may have been stored and not acknowledged.
			if more := fmt.Sprint(got - 1); fmt.Sprint(got) != want && more != want {
				t.Errorf("document %s: got %d, want %s or one more", key, got, want)
			}
		case fmt.Sprint(got) != want:
			t.Errorf("document %s: got %d, want %s", key, got, want)
		}
	}
	for _, name := range a.blobs {
		d, err := countersign.ParseDigest(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := k.blobs.OpenFile(ctx, d)
		if err != nil {
			t.Errorf("blob: %v", err)
			continue
		}
		f.Close()
	}
	for subject, want := range a.lines {
		i := 0
		for r, err := range k.log.Read(ctx, subject, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if i < len(want) && string(r.Data) == want[i] {
				i++
			}
		}
		if i < len(want) {
			t.Errorf("log %s: record %q is lost or out of order", subject, want[i])
		}
	}
	purged := map[string]bool{}
	for _, subject := range a.purged {
		purged[subject] = true
	}
	for r, err := range k.log.Read(ctx, "purged.>", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if purged[r.Subject] {
			t.Errorf("log %s was purged and is back", r.Subject)
		}
	}
	a.checkItems(t, k.queue)
}

// checkItems takes every item, and does not wait for those a dead process held.
func (a *acknowledged) checkItems(t *testing.T, q store.Queue) {
	// Half the time after which a server takes a worker for dead.
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	var mu sync.Mutex
	missing := len(a.items)
	if missing == 0 {
		return
	}
	err := q.Work(ctx, 8, func(_ context.Context, id string, item []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if string(item) != id {
			t.Errorf("item %s has %q in it", id, item)
		}
		if a.items[id] {
			delete(a.items, id)
			if missing--; missing == 0 {
				cancel()
			}
		}
		return nil
	})
	if missing > 0 {
		t.Errorf("%d items are lost or late: %v", missing, err)
	}
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
