package run

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign/internal/run/frame"
)

// What a hostile guest may send instead of an answer. Nobody else is
// disturbed, the caller gets an error document, the guest is gone.
func TestHostileGuest(t *testing.T) {
	t.Parallel()
	killed := `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r1 Error: Runtime exited with error: signal: killed"}`
	for _, c := range []struct {
		name   string
		answer func(g *scripted, v *frame.Invocation)
		want   string
	}{
		{"hangs up", func(*scripted, *frame.Invocation) {}, killed},
		{"another's id", func(g *scripted, v *frame.Invocation) { g.respond("r2", "stolen"); g.hang() }, killed},
		{"no id", func(g *scripted, v *frame.Invocation) { g.respond("", "x"); g.hang() }, killed},
		{"init error now", func(g *scripted, v *frame.Invocation) { g.reply(frame.TypeInitFailed, "", "x"); g.hang() }, killed},
		{"unknown frame", func(g *scripted, v *frame.Invocation) { g.send(text(99, "x")); g.hang() }, killed},
		{"platform's frame", func(g *scripted, v *frame.Invocation) { g.send(text(frame.TypeSetup, "{}")); g.hang() }, killed},
		{"four gigabytes", func(g *scripted, v *frame.Invocation) { g.send([]byte("\xff\xff\xff\xff\x11")); g.hang() }, killed},
		{"half a reply", func(g *scripted, v *frame.Invocation) { g.send(text(frame.TypeResponse, "\x09r")); g.hang() }, killed},
		{"half an exit", func(g *scripted, v *frame.Invocation) { g.send(text(frame.TypeExited, "")); g.hang() }, killed},
		{"cut off", func(g *scripted, v *frame.Invocation) { g.send([]byte{0, 0, 1, 0, byte(frame.TypeResponse), 1}) }, killed},
		{"many answers", func(g *scripted, v *frame.Invocation) {
			for range 100 {
				g.respond(v.ID, "first")
			}
			g.hang()
		}, "first"},
		{"many readies", func(g *scripted, v *frame.Invocation) {
			for range 100 {
				g.ready()
			}
			g.respond(v.ID, "x")
			g.hang()
		}, "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, func(g *scripted, n int) {
				if n > 0 {
					g.echo()
					return
				}
				g.ready()
				if v := g.invocation(); v != nil {
					c.answer(g, v)
				}
			})
			r := s.want("1", c.want)
			if (c.want == killed) != (r.FunctionError == "Unhandled") {
				t.Errorf("FunctionError: got %q", r.FunctionError)
			}
			if c.want == "x" || c.want == "first" {
				s.Retire(s.f.ARN) // it is still a usable environment, of a function that misbehaves
			}
			s.want("2", "2")
		})
	}
}

// An answer sent before the question is nobody's.
func TestAnswerInAdvance(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *scripted, n int) {
		if n > 0 {
			g.echo()
			return
		}
		g.ready()
		g.respond("r9", "guessed")
		g.hang()
	})
	r, err := s.invoke("1")
	if err != nil || string(r.Payload) == "guessed" || r.FunctionError == "" {
		t.Errorf("got %+v, %v; want a failure", r, err)
	}
	s.want("2", "2")
}

// An event that the runtime has not seen goes to another environment; one it
// has seen does not.
func TestAtMostOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		exit  frame.Exited
		want  string
		total int
	}{
		{"not delivered", frame.Exited{Code: 1}, "1", 2},
		{"delivered", frame.Exited{Code: 1, Delivered: true}, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r1 Error: Runtime exited with error: exit status 1"}`, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, func(g *scripted, n int) {
				if n > 0 {
					g.echo()
					return
				}
				g.ready()
				g.invocation()
				g.exit(c.exit)
				g.hang()
			})
			s.want("1", c.want)
			if started, _ := s.d.count(); started != c.total {
				t.Errorf("got %d environments, want %d", started, c.total)
			}
			s.Flush()
			if n := strings.Count(s.log.String(), "\nSTART RequestId: r1 "); n != 1 {
				t.Errorf("got %d STARTs, want 1, in %q", n, s.log)
			}
		})
	}
}

// A runtime that is busy with itself gets its event taken back, and is used
// again when it asks.
func TestBusyComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, func(g *scripted, n int) {
			if n > 0 {
				g.echo()
				return
			}
			g.ready()
			g.send(text(frame.TypeBusy, g.invocation().ID))
			time.Sleep(time.Minute)
			g.echo()
		})
		if r := s.want("1", "1"); !r.Cold {
			t.Error("answered by the busy one")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if started, live := s.d.count(); started != 2 || live != 2 {
			t.Errorf("got %d started, %d live; want both", started, live)
		}
		s.want("2", "2") // by the one that came back last
		if started, _ := s.d.count(); started != 2 {
			t.Errorf("got %d environments, want no third", started)
		}
	})
}

func TestTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, func(g *scripted, n int) {
			g.ready()
			g.invocation()
			g.log("working\n")
			g.hang()
		})
		s.f.TimeoutSeconds = 900
		began := time.Now()
		r := s.want("1", `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: r1 Error: Task timed out after 900.00 seconds"}`)
		if took := time.Since(began); took != 900*time.Second {
			t.Errorf("took %v, want the limit", took)
		}
		if want := "START RequestId: r1 Version: 7\nworking\nEND RequestId: r1\nREPORT RequestId: r1\tDuration: 900000.00 ms\tBilled Duration: 900000 ms\tMemory Size: 128 MB\tMax Memory Used: 5 MB\tStatus: timeout\n"; string(r.LogTail) != want {
			t.Errorf("log: got %q, want %q", r.LogTail, want)
		}
		synctest.Wait()
		if _, live := s.d.count(); live != 0 {
			t.Errorf("got %d guests, want it killed", live)
		}
	})
}

// A large event to a guest that does not read ends with the time limit too.
func TestTimesOutUnread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, func(g *scripted, n int) {
			if n > 0 {
				g.echo()
				return
			}
			g.next() // the setup
			g.ready()
			<-g.done
		})
		// The event was not read, so nobody has seen it: another takes it.
		s.want(strings.Repeat("x", 1<<20), strings.Repeat("x", 1<<20))
		if started, _ := s.d.count(); started != 2 {
			t.Errorf("got %d environments, want 2", started)
		}
	})
}

// Ten seconds to start, then once more within the function's own limit.
func TestInitLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		second time.Duration // how long the second start takes
		want   string
		took   time.Duration
	}{
		{2 * time.Second, "1", 12 * time.Second},
		{time.Hour, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: r1 Error: Task timed out after 3.00 seconds"}`, 13 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, func(g *scripted, n int) {
				if n == 0 {
					g.hang()
					return
				}
				g.next()
				select {
				case <-time.After(c.second):
					g.echo()
				case <-g.done:
				}
			})
			began := time.Now()
			s.want("1", c.want)
			if took := time.Since(began); took != c.took {
				t.Errorf("took %v, want %v", took, c.took)
			}
			s.Flush()
			if want := "INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout\n"; !strings.Contains(s.log.String(), want) {
				t.Errorf("log: got %q, want %q", s.log, want)
			}
		})
	}
}

func TestReaper(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, func(g *scripted, n int) { g.echo() }, func(c *Config) { c.IdleAfter = time.Minute })
		s.want("1", "1")
		for range 10 {
			time.Sleep(50 * time.Second)
			if r := s.want("2", "2"); r.Cold {
				t.Error("an environment in use was reaped")
			}
		}
		time.Sleep(76 * time.Second) // idle for a minute, and the reaper looks four times in one
		synctest.Wait()
		if n, _ := s.Environments(), 0; n != 0 {
			t.Errorf("got %d environments, want none", n)
		}
		if r := s.want("3", "3"); !r.Cold {
			t.Error("not cold after the reaper")
		}
	})
}

// With every place taken, an event waits its turn; not for ever.
func TestQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, func(g *scripted, n int) {
			g.ready()
			for v := g.invocation(); v != nil; v = g.invocation() {
				time.Sleep(3 * time.Second)
				g.respond(v.ID, string(v.Payload))
			}
		}, func(c *Config) { c.MaxEnvironments = 1 })
		s.f.TimeoutSeconds = 60
		other := s.f
		other.ARN = "arn:other"
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				f := s.f
				if i == 1 {
					f = other
				}
				began := time.Now()
				_, err := s.Invoke(t.Context(), s.adm, f, Request{ID: fmt.Sprint("q", i), Payload: []byte("1")})
				if full := errors.Is(err, errFull); full != (i >= 4) {
					t.Errorf("event %d: got %v after %v", i, err, time.Since(began))
				}
			})
		}
		wg.Wait()
		if n := s.Environments(); n > 1 {
			t.Errorf("got %d environments, want one", n)
		}
	})
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *scripted, n int) {
		g.ready()
		g.invocation()
		g.oom = true
	})
	r := s.want("1", `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r1 Error: Runtime exited with error: signal: killed"}`)
	if !strings.HasSuffix(string(r.LogTail), "\tStatus: error\tError Type: Runtime.OutOfMemory\n") {
		t.Errorf("log: got %q", r.LogTail)
	}
}

// What fails before there is an environment is the caller's error, and does
// not stay.
func TestStartFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("no sandbox today")
	s := newStage(t, func(g *scripted, n int) { g.echo() })
	s.d.start = broken
	if r, err := s.invoke("1"); !errors.Is(err, broken) {
		t.Errorf("got %v, %v; want %v", r, err, broken)
	}
	s.d.start = nil
	s.want("2", "2")

	u := newStage(t, func(g *scripted, n int) { g.echo() }, func(c *Config) { c.Code = noFiles{broken} })
	if r, err := u.invoke("1"); !errors.Is(err, broken) {
		t.Errorf("got %v, %v; want %v", r, err, broken)
	}
	if n := u.Environments(); n != 0 {
		t.Errorf("got %d environments", n)
	}
}

// Many callers at once do not start as many environments as there are
// callers, where those that exist come free in time.
func TestStampede(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, func(g *scripted, n int) {
			time.Sleep(150 * time.Millisecond)
			g.echo()
		})
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				r, err := s.Invoke(t.Context(), s.adm, s.f, Request{ID: fmt.Sprint("c", i), Payload: []byte("1")})
				if err != nil || string(r.Payload) != "1" {
					t.Errorf("got %v, %v", r, err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if started, _ := s.d.count(); started > 2*cap(s.starts) {
			t.Errorf("got %d environments for 200 short events, want about %d", started, cap(s.starts))
		}
	}) // every start is in a bubble: the 150 ms cost nothing
}

// An invocation does not wait for its log to be kept.
func TestLogIsBehind(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *scripted, n int) { g.echo() })
	s.log.hold = make(chan struct{})
	s.want("1", "1")
	s.want("2", "2")
	if got := s.log.String(); got != "" {
		t.Errorf("got %q before the sink did anything", got)
	}
	close(s.log.hold)
	s.Flush()
	if got := s.log.String(); strings.Count(got, "REPORT ") != 2 {
		t.Errorf("got %q, want two reports", got)
	}
}
