package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// outside runs a NATS server as others would, on a port, and returns its URL.
func outside(t *testing.T) string {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return srv.ClientURL()
}

func openInside(t *testing.T, cfg Config) *jetStream {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*jetStream)
}

// TestEmbedded checks the two things about the server in this process that no
// test would miss if they went away, and that must not.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	s := openInside(t, Config{Dir: t.TempDir()})
	if !s.srv.JetStreamConfig().SyncAlways {
		t.Error("the server answers before it syncs")
	}
	if addr := s.srv.Addr(); addr != nil {
		t.Errorf("the server listens on %v", addr)
	}
}

// TestWatchAfterBreaks breaks the connection again and again while documents
// are written and deleted: in the end the view is what the bucket is.
func TestWatchAfterBreaks(t *testing.T) {
	t.Parallel()
	url := outside(t)
	ctx := t.Context()
	reader := openInside(t, Config{Dir: t.TempDir(), URL: url})
	writer := openInside(t, Config{Dir: t.TempDir(), URL: url})
	rb, err := reader.Bucket(ctx, "docs")
	if err != nil {
		t.Fatal(err)
	}
	wb, err := writer.Bucket(ctx, "docs")
	if err != nil {
		t.Fatal(err)
	}
	d, err := OpenDocs[int](ctx, rb)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()

	want := map[string]int{}
	revs := map[string]Revision{}
	for i := range 400 {
		key := fmt.Sprint("k", i%20)
		rev, ok := revs[key]
		switch {
		case !ok:
			rev, err = wb.Create(ctx, key, fmt.Append(nil, i))
		case i%7 == 0:
			if err = wb.Delete(ctx, key, rev); err == nil {
				delete(revs, key)
				delete(want, key)
				continue
			}
		default:
			rev, err = wb.Swap(ctx, key, fmt.Append(nil, i), rev)
		}
		if err != nil {
			t.Fatal(err)
		}
		revs[key], want[key] = rev, i
		if i%50 == 25 {
			if err := reader.nc.ForceReconnect(); err != nil {
				t.Fatal(err)
			}
		}
	}
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		changed := d.Changed()
		got := map[string]int{}
		for it := range d.All("") {
			got[it.Key] = it.Val
		}
		if fmt.Sprint(got) == fmt.Sprint(want) {
			break
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("got %v, want %v (%v)", got, want, d.Err())
		}
	}
}

// breaking is a bucket whose watches end when told to, after which writes that
// happened are not told of.
type breaking struct {
	Bucket
	mu   sync.Mutex
	stop context.CancelFunc
}

func (b *breaking) Watch(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		b.mu.Lock()
		b.stop = cancel
		b.mu.Unlock()
		for ev, err := range b.Bucket.Watch(ctx) {
			if err != nil || ctx.Err() != nil {
				yield(Event{}, errors.New("broken"))
				return
			}
			if !yield(ev, nil) {
				return
			}
		}
	}
}

func (b *breaking) now() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop()
}

// TestWritesAcrossBreaks: a write whose event the broken watch did not bring
// is seen through the next watch, deletions included, and its writer waits for
// that.
func TestWritesAcrossBreaks(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	inner, err := openInside(t, Config{Dir: t.TempDir()}).Bucket(ctx, "docs")
	if err != nil {
		t.Fatal(err)
	}
	b := &breaking{Bucket: inner}
	d, err := OpenDocs[int](ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	told := map[string]bool{}
	defer d.Watch(func(c Change[int]) { told[fmt.Sprintf("%s=%d %v", c.Key, c.Val, c.Deleted)] = true })()
	for i := range 10 {
		key := fmt.Sprint("k", i)
		b.now()
		rev, err := d.Create(ctx, key, i)
		if err != nil {
			t.Fatal(err)
		}
		if got, at, ok := d.Get(key); !ok || got != i || at != rev {
			t.Fatalf("after Create: got %d, %v, %v", got, at, ok)
		}
		b.now()
		if err := d.Delete(ctx, key, rev); err != nil {
			t.Fatal(err)
		}
		if _, _, ok := d.Get(key); ok {
			t.Fatal("after Delete: it is there")
		}
	}
	b.now()
	if _, err := d.Create(ctx, "end", 0); err != nil { // tells of everything before it
		t.Fatal(err)
	}
	for i := range 10 {
		made, gone := fmt.Sprintf("k%d=%d false", i, i), fmt.Sprintf("k%d=0 true", i)
		if !told[made] || !told[gone] {
			t.Errorf("not told of k%d: %v %v", i, told[made], told[gone])
		}
	}
	if err := d.Err(); err != nil {
		t.Errorf("Err: got %v, want nil", err)
	}
}

// TestTombstonesExpire: a deleted key's last trace goes away by itself, and
// the key can be created before and after that.
func TestTombstonesExpire(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	bk, err := openInside(t, Config{Dir: t.TempDir()}).Bucket(ctx, "docs")
	if err != nil {
		t.Fatal(err)
	}
	b := bk.(*bucket)
	rev, err := b.Create(ctx, "k", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(ctx, "k", rev); err != nil {
		t.Fatal(err)
	}
	m, err := b.last(ctx, "k")
	if err != nil || !deleted(m.Header) || m.Header.Get(jetstream.MsgTTLHeader) != tombstoneTTL.String() {
		t.Fatalf("the tombstone: got %v, %v, want one with a TTL of %v", m, err, tombstoneTTL)
	}
	// Its time is up: what the server does then is remove the message.
	if err := b.stream.Purge(ctx, jetstream.WithPurgeSubject(b.prefix+"k")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(ctx, "k"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get: got %v, want ErrNotFound", err)
	}
	if _, err := b.Create(ctx, "k", []byte("again")); err != nil {
		t.Error(err)
	}
}

// TestCorruptObject changes an object as somebody can who can write to the
// cluster, with a digest of the object store's own that fits.
func TestCorruptObject(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	bl, err := openInside(t, Config{Dir: t.TempDir(), URL: outside(t)}).Blobs(ctx, "code")
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := bl.Put(ctx, strings.NewReader("reviewed"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bl.(*objects).store.PutString(ctx, d.String(), "reviewee"); err != nil {
		t.Fatal(err)
	}
	if _, err := bl.OpenFile(ctx, d); !errors.Is(err, ErrCorrupt) {
		t.Errorf("OpenFile: got %v, want ErrCorrupt", err)
	}
	r, _, err := bl.Open(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Open: reading ended with %v, want ErrCorrupt", err)
	}
}
