package run

import (
	"context"
	"fmt"
	"slices"
	"time"

	"countersign"
	"countersign/internal/admit"
)

// take returns an environment for f that nobody else uses: an idle one, or
// whichever comes first of one given back and one started for it.
func (p *Pool) take(ctx context.Context, adm admit.Admission, f *Function) (*environment, error) {
	k := key{f.ARN, f.Version, f.Revision, f.Artifact}
	id := f.ARN + ":" + f.Version
	p.mu.Lock()
	if old, ok := p.latest[id]; !ok || old != k {
		p.latest[id] = k
		if g := p.groups[old]; ok && g != nil {
			p.retire(old, g)
		}
	}
	g := p.groups[k]
	if g == nil {
		g = new(group)
		p.groups[k] = g
	}
	g.retired = false
	if n := len(g.idle); n > 0 {
		w := g.idle[n-1]
		g.idle = g.idle[:n-1]
		p.mu.Unlock()
		return w, nil
	}
	w := &waiter{ready: make(chan turn, 1)}
	g.waiting = append(g.waiting, w)
	p.hungry = append(p.hungry, order{k, g, adm, f, time.Now()})
	p.feed()
	p.mu.Unlock()

	return p.await(ctx, k, g, w)
}

// await waits until w is served. QueueLimit is for those who have no start
// under way: a start takes the time it takes.
func (p *Pool) await(ctx context.Context, k key, g *group, w *waiter) (*environment, error) {
	timer := time.NewTimer(p.cfg.QueueLimit)
	defer timer.Stop()
	for {
		var err error
		select {
		case t := <-w.ready:
			return t.env, t.err
		case <-timer.C:
			err = errFull
		case <-ctx.Done():
			err = fmt.Errorf("wait for an environment: %w", context.Cause(ctx))
		}
		p.mu.Lock()
		i := slices.Index(g.waiting, w)
		if err == errFull && i >= 0 && i < g.starting {
			p.mu.Unlock()
			timer.Reset(p.cfg.QueueLimit)
			continue
		}
		if i >= 0 {
			g.waiting = slices.Delete(g.waiting, i, i+1)
			p.tidy(k, g)
		}
		p.mu.Unlock()
		if i >= 0 {
			return nil, err
		}
		t := <-w.ready // it was being served just then
		if err == errFull {
			return t.env, t.err
		}
		if t.env != nil {
			p.giveBack(t.env, keep)
		}
		return nil, err
	}
}

var errFull = countersign.Errorf(countersign.Throttled, "Rate Exceeded.")

// An order is for one environment more.
type order struct {
	k   key
	g   *group
	adm admit.Admission
	f   *Function

	since time.Time
}

// feed starts what was ordered, first come first served, as far as there is
// place. An order whose waiter was served meanwhile is dropped. The caller
// holds p.mu.
func (p *Pool) feed() {
	for len(p.hungry) > 0 {
		o := p.hungry[0]
		if len(o.g.waiting) > o.g.starting {
			if !p.place(o.g) {
				return
			}
			o.g.starting++
			p.count++
			p.work.Go(func() { p.start(o) })
		}
		p.hungry = p.hungry[1:]
	}
}

// place makes sure one more environment may be started, if need be by ending
// the one of another function that has been idle longest. The caller holds
// p.mu.
func (p *Pool) place(mine *group) bool {
	if p.count < p.cfg.MaxEnvironments {
		return true
	}
	var of *group
	for _, g := range p.groups {
		if g != mine && len(g.idle) > 0 && (of == nil || g.idle[0].idleSince.Before(of.idle[0].idleSince)) {
			of = g
		}
	}
	if of == nil {
		return false
	}
	w := of.idle[0]
	of.idle = of.idle[1:]
	p.end(of, w)
	return true // it is counted until it is gone: for that long there is one too many
}

// start starts one environment and gives it to whoever has waited longest.
func (p *Pool) start(o order) {
	g := o.g
	var w *environment
	var err error
	select {
	case p.starts <- struct{}{}:
		p.mu.Lock()
		needed := len(g.waiting) > 0 // else those who waited were served meanwhile
		p.mu.Unlock()
		if needed {
			w, err = p.newEnvironment(p.live, o.k, g, o.adm, *o.f)
		}
		<-p.starts
	case <-p.live.Done():
		err = errClosed
	}
	p.mu.Lock()
	g.starting--
	defer p.mu.Unlock()
	if w != nil {
		g.live++
		p.offer(g, w) // one that failed or died meanwhile as well: somebody has to hear of it
		return
	}
	p.gone()
	if err != nil && len(g.waiting) > 0 {
		g.waiting[0].ready <- turn{err: err}
		g.waiting = g.waiting[1:]
	}
	p.tidy(o.k, g)
}

// gone counts one environment less. The caller holds p.mu.
func (p *Pool) gone() {
	p.count--
	p.quiet.Broadcast()
	p.feed()
}

// A fate is what becomes of an environment after an invocation.
type fate int

const (
	keep    fate = iota // it takes the next invocation
	aside               // it is busy with itself; its reader brings it back
	discard             // it is dead, or must not be used again
)

// giveBack returns w after use.
func (p *Pool) giveBack(w *environment, next fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := w.group
	switch {
	case next == discard || w.dead || p.starving(g):
		p.end(g, w)
	case next == aside:
		if w.back { // it came back before we got here
			w.back = false
			p.offer(g, w)
			return
		}
		w.aside = true
	default:
		p.offer(g, w)
	}
}

// offer gives a usable environment to a waiter, or puts it among the idle.
// The caller holds p.mu.
func (p *Pool) offer(g *group, w *environment) {
	if len(g.waiting) > 0 {
		g.waiting[0].ready <- turn{env: w}
		g.waiting = g.waiting[1:]
		return
	}
	if w.dead || w.failed != nil || g.retired || p.closed {
		p.end(g, w)
		return
	}
	w.idleSince = time.Now()
	g.idle = append(g.idle, w)
	p.feed() // somebody may need its place more
}

// starveAfter is how long another function waits for its first place before
// one is taken from a function that has events for it: long, as the exchange
// costs a cold start.
const starveAfter = time.Second

// starving reports whether somebody other than g has waited too long for a
// place. The caller holds p.mu.
func (p *Pool) starving(g *group) bool {
	if len(p.hungry) == 0 {
		return false
	}
	o := p.hungry[0]
	return o.g != g && o.g.live+o.g.starting == 0 && len(o.g.waiting) > 0 && time.Since(o.since) > starveAfter
}

// cameBack is told by w's reader that the runtime asks for work again.
func (p *Pool) cameBack(w *environment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.aside {
		w.back = true
		return
	}
	w.aside = false
	p.offer(w.group, w)
}

// died is told by w's reader that the guest takes no more invocations.
func (p *Pool) died(w *environment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.dead = true
	g := w.group
	if i := slices.Index(g.idle, w); i >= 0 {
		g.idle = slices.Delete(g.idle, i, i+1)
		p.end(g, w)
	} else if w.aside {
		w.aside = false
		p.end(g, w)
	}
}

// retire ends what is idle in g; what is busy or starting ends when nobody
// waits for it any more. The caller holds p.mu.
func (p *Pool) retire(k key, g *group) {
	g.retired = true
	for _, w := range g.idle {
		p.end(g, w)
	}
	g.idle = nil
	p.tidy(k, g)
}

// end kills w behind everybody's back. The caller holds p.mu and has taken w
// out of idle.
func (p *Pool) end(g *group, w *environment) {
	if w.ended {
		return
	}
	w.ended = true
	g.live--
	p.tidy(w.key, g)
	p.work.Go(func() {
		w.close()
		p.mu.Lock()
		p.gone()
		p.mu.Unlock()
	})
}

// tidy forgets a group that holds nothing. The caller holds p.mu.
func (p *Pool) tidy(k key, g *group) {
	if g.live == 0 && g.starting == 0 && len(g.waiting) == 0 && p.groups[k] == g {
		delete(p.groups, k)
		if id := k.arn + ":" + k.version; p.latest[id] == k {
			delete(p.latest, id)
		}
	}
}

// reap ends environments nobody has used for a while.
func (p *Pool) reap() {
	t := time.NewTicker(max(p.cfg.IdleAfter/4, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-p.live.Done():
			return
		case now := <-t.C:
			p.mu.Lock()
			for _, g := range p.groups {
				// Oldest first: the newest are used first and stay.
				for len(g.idle) > 0 && now.Sub(g.idle[0].idleSince) >= p.cfg.IdleAfter {
					w := g.idle[0]
					g.idle = g.idle[1:]
					p.end(g, w)
				}
			}
			p.mu.Unlock()
		}
	}
}
