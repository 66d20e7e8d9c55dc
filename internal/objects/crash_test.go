package objects

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"countersign/internal/store"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const crashDir = "COUNTERSIGN_OBJECTS_CRASH_DIR" // makes the test binary the process that is killed

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	for _, clean := range atEnd {
		clean()
	}
	os.Exit(code)
}

var atEnd []func()

// writeUntilKilled changes objects for ever and prints a line for what it is
// about to do, "try …", and one when it was acknowledged, "done …".
func writeUntilKilled(dir string) error {
	ctx := context.Background()
	docs, err := store.Open(ctx, store.Config{Dir: filepath.Join(dir, "store")})
	if err != nil {
		return err
	}
	g, err := Open(ctx, Config{Dir: filepath.Join(dir, "objects"), Store: docs, Keys: keyring{}})
	if err != nil {
		return err
	}
	b := &backend{Posix: g.posix, g: g, region: "us-east-1"}
	fmt.Println("ready")
	for n := 0; ; n++ {
		key := fmt.Sprintf("d%d/k%d", rand.IntN(2), rand.IntN(3))
		for _, bucket := range []string{"plain", "vers"} {
			body := strings.Repeat(fmt.Sprintf("%d-%d ", os.Getpid(), n), 1+rand.IntN(5000))
			fmt.Println("try put", bucket, key, fingerprint(body))
			out, err := g.PutObject(ctx, bucket, key, strings.NewReader(body), int64(len(body)), map[string]string{"print": fingerprint(body)})
			if err != nil {
				return err
			}
			fmt.Println("done put", bucket, key, fingerprint(body), out.VersionID)
			switch rand.IntN(6) {
			case 0:
				fmt.Println("try mark", bucket, key)
				if _, err := b.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
					return err
				}
				fmt.Println("done mark", bucket, key)
			case 1, 2:
				if bucket == "plain" {
					continue
				}
				fmt.Println("try drop", bucket, key, out.VersionID)
				if _, err := b.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key, VersionId: &out.VersionID}); err != nil {
					return err
				}
				fmt.Println("done drop", bucket, key, out.VersionID)
			}
		}
	}
}

func fingerprint(body string) string {
	head, _, _ := strings.Cut(body, " ")
	return fmt.Sprintf("%s*%d", head, len(body))
}

// What was acknowledged before kill -9 is there after it: the latest object of
// a plain bucket, and every version of a versioned one that was not deleted.
func TestSurvivesKill(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	reopen := func(f func(g *fixture)) {
		docs, err := store.Open(t.Context(), store.Config{Dir: filepath.Join(dir, "store")})
		if err != nil {
			t.Fatal(err)
		}
		defer docs.Close()
		g := &fixture{t: t, dir: dir, docs: docs}
		g.open()
		defer g.Close()
		f(g)
	}
	reopen(func(g *fixture) { g.bucket("plain"); g.versioned("vers") })
	plain, versions, gone := map[string]map[string]bool{}, map[string]string{}, map[string]bool{}
	acked := 0
	for round := range rounds {
		var trying []string // what was begun last and not acknowledged
		kill(t, dir, 20+rand.IntN(60), func(line []string) {
			trying = line
			if line[0] == "try" {
				return
			}
			trying = nil
			acked++
			switch key := line[3]; line[1] {
			case "put":
				if line[2] == "plain" {
					plain[key] = map[string]bool{line[4]: true}
				} else {
					versions[line[5]] = key + " " + line[4]
				}
			case "mark":
				if line[2] == "plain" {
					plain[key] = map[string]bool{"": true}
				}
			case "drop":
				delete(versions, line[4])
				gone[line[4]] = true
			}
		})
		maybe := "" // a version that may or may not be there
		if len(trying) > 0 {
			switch {
			case trying[1] == "put" && trying[2] == "plain":
				if plain[trying[3]] == nil {
					plain[trying[3]] = map[string]bool{"": true}
				}
				plain[trying[3]][trying[4]] = true
			case trying[1] == "mark" && trying[2] == "plain":
				plain[trying[3]][""] = true
			case trying[1] == "drop":
				maybe = trying[4]
			}
		}
		reopen(func(g *fixture) {
			for key, allowed := range plain {
				body, err := g.get("plain", key, "")
				got := ""
				if err == nil {
					got = fingerprint(body)
				} else {
					wantCode(t, key, err, "NoSuchKey")
				}
				if !allowed[got] {
					t.Errorf("round %d: plain/%s is %q, want one of %v", round, key, got, allowed)
				}
				plain[key] = map[string]bool{got: true}
			}
			for id, want := range versions {
				key, print, _ := strings.Cut(want, " ")
				out, err := g.root().GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("vers"), Key: &key, VersionId: &id})
				if err != nil {
					if id != maybe {
						t.Errorf("round %d: version %s of %s: %v", round, id, key, err)
					}
					delete(versions, id)
					continue
				}
				if out.Metadata["print"] != print {
					t.Errorf("round %d: version %s of %s has metadata %v, want %s", round, id, key, out.Metadata, print)
				}
				out.Body.Close()
				if body, err := g.get("vers", key, id); err != nil || fingerprint(body) != print {
					t.Errorf("round %d: version %s of %s is %q, %v, want %s", round, id, key, fingerprint(body), err, print)
				}
			}
			for id := range gone {
				if id == maybe {
					continue
				}
				for _, k := range []string{"d0/k0", "d0/k1", "d0/k2", "d1/k0", "d1/k1", "d1/k2"} {
					if _, err := g.get("vers", k, id); err == nil {
						t.Errorf("round %d: deleted version %s of %s is back", round, id, k)
					}
				}
			}
			everyVersionOnce(t, g)
		})
	}
	if acked < rounds {
		t.Fatalf("only %d changes were acknowledged", acked)
	}
	t.Logf("%d acknowledged changes, %d kills", acked, rounds)
}

// everyVersionOnce checks that no version is listed twice.
func everyVersionOnce(t *testing.T, g *fixture) {
	t.Helper()
	seen := map[string]bool{}
	p := s3.NewListObjectVersionsPaginator(g.root(), &s3.ListObjectVersionsInput{Bucket: aws.String("vers")})
	for p.HasMorePages() {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Versions {
			if id := *v.Key + " " + *v.VersionId; seen[id] {
				t.Errorf("version %s is listed twice", id)
			} else {
				seen[id] = true
			}
		}
		for _, v := range page.DeleteMarkers {
			if id := *v.Key + " " + *v.VersionId; seen[id] {
				t.Errorf("marker %s is listed twice", id)
			} else {
				seen[id] = true
			}
		}
	}
}

// kill starts the writer, reads n lines of its output and kills it, then reads
// what it had said before it died.
func kill(t *testing.T, dir string, n int, each func(line []string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(out)
	for i := 0; sc.Scan(); i++ {
		if line := strings.Fields(sc.Text()); line[0] != "ready" {
			each(line)
		}
		if i == n {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the writer ended with %v, want killed", err)
	}
}

// The states a crash can leave that a random kill rarely meets, made by hand.
func TestRepairs(t *testing.T) {
	f := testGateway(t)
	f.versioned("vers")
	f.versioned("dup")
	f.versioned("mark")
	one := f.put("vers", "a/k", "one")
	two := f.put("vers", "a/k", "two")
	d1 := f.put("dup", "k", "one")
	m1 := f.put("mark", "k", "one")
	root := filepath.Join(f.dir, "objects")
	at := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// The latest version was removed, the one before not brought back yet.
	must(os.Remove(at("buckets", "vers", "a", "k")))
	// A version was copied away and the new one not put in place.
	d2 := f.put("dup", "k", "two")
	must(os.Link(at("buckets", "dup", "k"), filepath.Join(filepath.Dir(versionFiles(t, at("versions", "dup"))[0]), d2)))
	// A delete marker that has no id of its own yet.
	_, err := f.root().DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("mark"), Key: aws.String("k")})
	must(err)
	must(f.meta.StoreAttribute(nil, "mark", "k", "version-id", []byte(m1)))
	// Names that are no objects.
	must(os.WriteFile(at("buckets", "vers", "a", ".k.sgwtmp.1700000000000000000"), []byte("x"), 0o600))
	must(os.MkdirAll(at("buckets", "vers", ".sgwtmp"), 0o700))
	staged := at("buckets", "vers", ".sgwtmp", strings.Repeat("ab", 32)+".123")
	must(os.WriteFile(staged, []byte("x"), 0o600))
	// A directory nobody knows, and a document without a directory.
	must(os.Mkdir(at("buckets", "stranger"), 0o700))
	_, err = f.buckets.Create(t.Context(), store.Key("ghost"), bucket{Name: "ghost", Region: "us-east-1", Account: testAccount})
	must(err)
	must(f.Close())
	must(os.WriteFile(at(markFile), nil, 0o600))
	f.open()

	f.want("vers", "a/k", "", "one")
	f.want("vers", "a/k", one, "one")
	_, err = f.get("vers", "a/k", two)
	wantCode(t, "version that was being deleted", err, "NoSuchVersion")
	f.want("mark", "k", m1, "one")
	f.want("dup", "k", d1, "one")
	f.want("dup", "k", "", "two")
	if left := versionFiles(t, at("versions", "dup")); len(left) != 1 || filepath.Base(left[0]) != d1 {
		t.Errorf("old versions of dup: %v, want %s", left, d1)
	}
	_, err = f.get("mark", "k", "")
	wantCode(t, "marked key", err, "NoSuchKey")
	list, err := f.root().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("vers")})
	if err != nil || len(list.Contents) != 1 {
		t.Errorf("objects of vers: %+v, %v", list, err)
	}
	if _, err := os.Stat(staged); err == nil {
		t.Error("a staged file is left")
	}
	if lost, err := os.ReadDir(at(dirLost)); err != nil || len(lost) != 1 {
		t.Errorf("lost: %v, %v", lost, err)
	}
	if _, _, err := f.BucketRegion("ghost"); !errors.Is(err, NoSuchBucket) {
		t.Errorf("a document without a directory: %v", err)
	}
}

func versionFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
