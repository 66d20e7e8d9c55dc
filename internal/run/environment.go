package run

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"countersign/internal/admit"
	"countersign/internal/run/frame"
	"countersign/internal/run/runtimes"
	"countersign/internal/run/sandbox"
)

// An environment is one guest with one runtime in it.
type environment struct {
	pool    *Pool
	key     key
	group   *group
	f       Function
	runtime *runtimes.Runtime
	guest   sandbox.Guest
	release func() // of the code
	journal *journal
	events  chan event // from the reader; closed when the guest is gone

	// Of the one invocation under way, and of no other goroutine.
	used    bool          // it has had its first invocation
	init    time.Duration // how long the runtime took to start
	failed  *broken       // the runtime could not start: it serves one answer
	send    []byte        // frame buffer
	peak    int64         // bytes
	sampled time.Time     // of peak

	// Guarded by pool.mu.
	idleSince time.Time
	dead      bool // the guest takes no more invocations
	aside     bool // waiting for the runtime to come back
	back      bool // it came back before it was put aside
	ended     bool // close is on its way
}

// An event is a frame of the guest that matters to an invocation.
type event struct {
	kind  frame.Type
	reply frame.Reply
	exit  frame.Exited
	id    string
}

// A broken environment answers its one invocation with what went wrong at
// start.
type broken struct {
	at func(id string) failure
}

// newEnvironment starts a guest and its runtime and returns when the runtime
// asks for work or has failed to.
func (p *Pool) newEnvironment(ctx context.Context, k key, g *group, adm admit.Admission, f Function) (*environment, error) {
	r, err := p.cfg.Runtimes.Resolve(f.Runtime)
	if err != nil {
		return nil, err
	}
	dir, release, err := p.cfg.Code.Unpacked(ctx, adm)
	if err != nil {
		return nil, fmt.Errorf("unpack the code of %s: %w", f.Name, err)
	}
	id, err := randomHex(16)
	if err != nil {
		release()
		return nil, err
	}
	stream := time.Now().UTC().Format("2006/01/02") + "/[" + f.Version + "]" + id
	w := &environment{
		pool: p, key: k, group: g, f: f, runtime: r, release: release,
		journal: &journal{to: Place{f.Account, f.Region, f.LogGroup, stream}, out: p.out},
	}
	w.journal.collect(true) // what is printed at start belongs to the first invocation
	w.journal.platform(w.initStart()...)
	err = w.boot(ctx, dir, id, p.cfg.InitLimit, "init")
	if err == nil && w.failed != nil && w.init >= p.cfg.InitLimit {
		// As Lambda does: once more, on the invocation's own time.
		w.kill()
		w = &environment{pool: p, key: k, group: g, f: f, runtime: r, release: release, journal: w.journal}
		if id, err = randomHex(16); err == nil {
			err = w.boot(ctx, dir, id, time.Duration(f.TimeoutSeconds)*time.Second, "invoke")
		}
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("start an environment of %s: %w", f.Name, err)
	}
	return w, nil
}

// initStart are the log's first lines.
func (w *environment) initStart() []string {
	version := w.runtime.ID
	if w.runtime.Version != "" {
		version = string(w.runtime.Family) + ":" + w.runtime.Version
	}
	s := "INIT_START Runtime Version: " + version
	if w.f.RuntimeVersionARN != "" {
		s += "\tRuntime Version ARN: " + w.f.RuntimeVersionARN
	}
	lines := []string{s + "\n"}
	if w.runtime.Notice != "" {
		lines = append(lines, "NOTICE "+w.runtime.Notice+"\n")
	}
	return lines
}

func randomHex(n int) (string, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("draw a random name: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// boot starts the guest and waits for its runtime. An error means the sandbox
// failed; a runtime that fails is w.failed.
func (w *environment) boot(ctx context.Context, dir, id string, limit time.Duration, phase string) error {
	pl, err := w.pool.plan(ctx, &w.f, w.runtime, dir, id, w.journal.to.Stream)
	if err != nil {
		return err
	}
	setup, err := pl.setup.Append(nil)
	if err != nil {
		return err
	}
	w.failed = nil
	if w.guest, err = w.pool.cfg.Driver.Start(ctx, pl.spec); err != nil {
		return err
	}
	events := make(chan event, 4)
	w.events = events
	w.pool.work.Go(func() { w.read(w.guest, events) })
	began := time.Now()
	if _, err := w.guest.Control().Write(setup); err != nil {
		w.kill()
		return fmt.Errorf("hand over the setup: %w", err)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case e, ok := <-events:
		w.init = time.Since(began)
		switch {
		case !ok:
			x := w.guest.Exit()
			w.failed = &broken{func(id string) failure { return lost(id, x.OutOfMemory) }}
		case e.kind == frame.TypeReady:
			return nil
		case e.kind == frame.TypeInitFailed:
			w.failed = &broken{func(string) failure { return posted(e.reply) }}
		case e.kind == frame.TypeExited:
			provided := w.runtime.Family == runtimes.Provided
			w.failed = &broken{func(id string) failure { return exited(id, e.exit, provided) }}
		default:
			w.kill()
			return fmt.Errorf("frame type %d while starting: %w", e.kind, frame.ErrMalformed)
		}
		w.initReport(phase, "error", w.failed.at("").kind)
	case <-timer.C:
		w.init = limit
		w.failed = &broken{func(id string) failure { return timedOut(id, time.Duration(w.f.TimeoutSeconds)*time.Second) }}
		w.initReport(phase, "timeout", "")
	case <-ctx.Done():
		w.kill()
		return context.Cause(ctx)
	}
	return nil
}

// initReport is what the log has of an init that did not go well.
func (w *environment) initReport(phase, status, kind string) {
	s := fmt.Sprintf("INIT_REPORT Init Duration: %s ms\tPhase: %s\tStatus: %s", millis(w.init), phase, status)
	if kind != "" {
		s += "\tError Type: " + kind
	}
	w.journal.write([]byte(s + "\n"))
}

// read takes what the guest sends until it is gone. It belongs to one guest,
// and never waits for an invocation: a frame nobody asked for ends the guest.
func (w *environment) read(g sandbox.Guest, events chan<- event) {
	defer close(events)
	r := frame.NewReader(g.Control())
	first := true
	for {
		t, body, err := r.Next()
		if err != nil {
			break
		}
		e := event{kind: t}
		switch t {
		case frame.TypeLog:
			w.journal.write(body)
			continue
		case frame.TypePong:
			continue
		case frame.TypeReady:
			if !first {
				w.pool.cameBack(w)
				continue
			}
			first = false
		case frame.TypeBusy:
			e.id = string(body)
		case frame.TypeExited:
			e.exit, err = frame.ParseExited(body)
			w.pool.died(w)
		case frame.TypeInitFailed:
			e.reply, err = frame.ParseReply(body)
			w.pool.died(w)
		default:
			e.reply, err = frame.ParseReply(body)
			e.id = e.reply.ID
		}
		if err != nil {
			break
		}
		select {
		case events <- e:
			continue
		default:
		}
		break
	}
	// Whatever ended the conversation ends the guest.
	_ = g.Kill()
	w.pool.died(w)
}

// invoke hands one event over and waits for its answer. A nil Result means
// the function has not seen the event.
func (w *environment) invoke(req Request) (*Result, fate) {
	limit := time.Duration(w.f.TimeoutSeconds) * time.Second
	cold := !w.used
	w.used = true
	if !cold || !req.LogTail {
		w.journal.collect(req.LogTail)
	}
	w.journal.invocation(req.ID, w.f.Version)
	if w.failed != nil {
		f := w.failed.at(req.ID)
		d := time.Duration(0)
		if f.timeout {
			d = limit
		}
		return w.finish(req, nil, &f, d, cold), discard
	}

	began := time.Now()
	v := frame.Invocation{
		ID: req.ID, DeadlineMS: began.Add(limit).UnixMilli(), FunctionARN: req.InvokedARN,
		TraceID: req.TraceID, ClientContext: req.ClientContext, Payload: req.Payload,
	}
	w.send = v.Append(w.send[:0])
	timer := time.NewTimer(limit)
	defer timer.Stop()
	if !w.write(limit) {
		w.journal.takenBack()
		return nil, discard
	}
	for {
		select {
		case e, ok := <-w.events:
			d := time.Since(began)
			if !ok {
				f := lost(req.ID, w.guest.Exit().OutOfMemory)
				return w.finish(req, nil, &f, d, cold), discard
			}
			if e.kind != frame.TypeExited && e.id != req.ID {
				// A guest cannot answer what it was not asked.
				f := lost(req.ID, false)
				return w.finish(req, nil, &f, d, cold), discard
			}
			switch e.kind {
			case frame.TypeResponse:
				return w.finish(req, e.reply.Payload, nil, d, cold), keep
			case frame.TypeFailure:
				f := posted(e.reply)
				return w.finish(req, nil, &f, d, cold), keep
			case frame.TypeTooLarge:
				f := tooLarge()
				return w.finish(req, nil, &f, d, cold), keep
			case frame.TypeBusy:
				w.journal.takenBack()
				return nil, aside
			case frame.TypeExited:
				if !e.exit.Delivered {
					w.journal.takenBack()
					return nil, discard
				}
				f := exited(req.ID, e.exit, false)
				return w.finish(req, nil, &f, d, cold), discard
			default:
				f := lost(req.ID, false)
				return w.finish(req, nil, &f, d, cold), discard
			}
		case <-timer.C:
			f := timedOut(req.ID, limit)
			return w.finish(req, nil, &f, limit, cold), discard
		}
	}
}

// write sends w.send. A frame that fits a pipe is gone in one call; a larger
// one depends on the guest to read, and is not waited for beyond limit.
func (w *environment) write(limit time.Duration) bool {
	const pipe = 32 << 10
	if len(w.send) > pipe {
		stop := time.AfterFunc(limit, w.kill)
		defer stop.Stop()
	}
	_, err := w.guest.Control().Write(w.send)
	if cap(w.send) > 1<<20 {
		w.send = nil // one large event does not make every environment large
	}
	return err == nil
}

// finish writes the end of the log and makes the Result, of a payload or of a
// failure.
func (w *environment) finish(req Request, payload []byte, f *failure, d time.Duration, cold bool) *Result {
	res := &Result{Payload: payload, ExecutedVersion: w.f.Version, Cold: cold, Duration: d}
	r := report{id: req.ID, duration: d, memoryMB: w.f.MemoryMB}
	if cold {
		res.InitDuration = w.init
		if w.failed == nil {
			r.init = w.init // a failed one has its own INIT_REPORT
		}
	}
	var extra []string
	if f != nil {
		res.Payload, res.FunctionError = f.payload, unhandled
		extra = f.log
		if f.timeout {
			r.status = "timeout"
		} else if len(f.log) > 0 || w.failed != nil {
			// An exception the runtime survived leaves REPORT as it is.
			r.status, r.kind = "error", f.kind
		}
	}
	res.BilledMS = int64((d + res.InitDuration + time.Millisecond - 1) / time.Millisecond)
	res.PeakMB = w.peakMB()
	r.billed, r.peakMB = res.BilledMS, res.PeakMB
	res.LogTail = w.journal.end(r, extra)
	return res
}

// peakMB is the environment's highest memory use. It is sampled at most once a
// second: asking the machine costs more than a warm invocation may.
func (w *environment) peakMB() int64 {
	if now := time.Now(); now.Sub(w.sampled) >= time.Second {
		w.sampled = now
		w.peak = max(w.peak, w.guest.Usage().PeakMemoryBytes)
	}
	return (w.peak + 1<<20 - 1) >> 20
}

// kill ends the guest; its reader ends with it.
func (w *environment) kill() {
	if err := w.guest.Kill(); err != nil {
		w.pool.cfg.Log.Error("kill guest", "function", w.f.Name, "err", err)
	}
}

// close ends the guest and lets go of the code.
func (w *environment) close() {
	w.kill()
	for range w.events { // until the reader is gone
	}
	w.release()
}
