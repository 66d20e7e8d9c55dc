package observe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"countersign/internal/store"
	"countersign/internal/store/storetest"
)

// A brokenLog fails to append while down is set.
type brokenLog struct {
	store.Log
	down  *atomic.Bool
	tries *atomic.Int64
}

func (b brokenLog) Append(ctx context.Context, subject string, records ...[]byte) (uint64, error) {
	b.tries.Add(1)
	if b.down.Load() {
		return 0, errors.New("disk on fire")
	}
	return b.Log.Append(ctx, subject, records...)
}

type brokenStore struct {
	store.Store
	down  atomic.Bool
	tries atomic.Int64
}

func (s *brokenStore) Log(ctx context.Context, name string) (store.Log, error) {
	l, err := s.Store.Log(ctx, name)
	return brokenLog{l, &s.down, &s.tries}, err
}

// While the store is away Append takes what fits into memory, then waits;
// when it is back, everything is there, in order.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := &brokenStore{Store: storetest.Memory()}
		l, err := Open(t.Context(), st, Options{})
		if err != nil {
			t.Fatal(err)
		}
		st.down.Store(true)
		big := strings.Repeat("x", 200<<10)
		now := time.Now()
		var n atomic.Int64
		go func() {
			for i := range 60 { // 12 MB into 8
				if err := l.Append(context.Background(), here, "g", "s", []Event{{now.Add(time.Duration(i) * time.Millisecond), fmt.Sprint(i, " ", big)}}); err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
				n.Add(1)
			}
		}()
		synctest.Wait()
		if got := n.Load(); got < 30 || got > 42 {
			t.Errorf("got %d events into a full buffer", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Append(ctx, here, "g", "s", []Event{{now, big}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Flush(ctx); err == nil || !strings.Contains(err.Error(), "disk on fire") {
			t.Errorf("got %v, want what is wrong", err)
		}
		if tries := st.tries.Load(); tries > 60 {
			t.Errorf("%d tries in two minutes: that is hammering", tries)
		}
		st.down.Store(false)
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		l, err = Open(t.Context(), st, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got int
		for after := ""; ; {
			es, more, err := l.Events(t.Context(), here, Query{Group: "g", Limit: 1000, After: after})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range es {
				if want := fmt.Sprint(got, " "); !strings.HasPrefix(e.Message, want) {
					t.Errorf("entry %d begins %q", got, e.Message[:10])
				}
				got++
			}
			if !more {
				break
			}
			after = es[len(es)-1].ID
		}
		// Who waited for room when Close was called was told no.
		if int64(got) != n.Load() || got < 30 {
			t.Errorf("got %d entries of %d taken", got, n.Load())
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseSaysWhatIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := &brokenStore{Store: storetest.Memory()}
		l, err := Open(t.Context(), st, Options{})
		if err != nil {
			t.Fatal(err)
		}
		st.down.Store(true)
		appendTo(t, l, "g", "s", at(1, 2, 3))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Close(ctx); err == nil || !strings.Contains(err.Error(), "3 log events were not written") {
			t.Errorf("got %v", err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
}
