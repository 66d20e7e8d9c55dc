package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// A wait is a writer who wants the view to have its write.
type wait struct {
	seq   uint64 // of the write, or of what a deletion deleted
	gone  bool   // the write is a deletion, whose own number Delete does not tell
	round int    // the watch that was running when the write was acknowledged
	seen  chan struct{}
}

// watch follows the bucket once, from the beginning, until its watch ends. It
// puts a whole new view in place of the present one when it has it, and says
// so; from there on every event makes a view.
func (d *Docs[T]) watch(ctx context.Context, ready func(error)) error {
	d.mu.Lock()
	d.round++
	round := d.round
	d.mu.Unlock()

	next, last := new(view[T]), uint64(0)
	corrupt := map[string]error{}
	loaded := false
	for ev, err := range d.b.Watch(ctx) {
		if err != nil {
			return err
		}
		switch {
		case ev.Ready:
			loaded = true
			if round == 1 && len(corrupt) > 0 {
				return errors.Join(sorted(corrupt)...)
			}
			d.replace(next, last, round, corrupt)
			ready(nil)
		case loaded:
			d.apply(ev)
		default:
			last = ev.Rev.seq
			delete(corrupt, ev.Key)
			if ev.Deleted {
				next.Delete(ev.Key)
				continue
			}
			it, err := decode[T](ev)
			if err != nil {
				corrupt[ev.Key] = err
				// The last that could be read is better than none: see CorruptError.
				if old, ok := d.view.Load().Get(ev.Key); ok {
					next.Set(ev.Key, old)
				}
				continue
			}
			next.Set(ev.Key, it)
		}
	}
	return ctx.Err()
}

func decode[T any](ev Event) (*Item[T], error) {
	it := &Item[T]{Key: ev.Key, Rev: ev.Rev}
	if err := json.Unmarshal(ev.Value, &it.Val); err != nil {
		return nil, &CorruptError{ev.Key, err}
	}
	return it, nil
}

func sorted(errs map[string]error) []error {
	keys := make([]string, 0, len(errs))
	for k := range errs {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := make([]error, len(keys))
	for i, k := range keys {
		out[i] = errs[k]
	}
	return out
}

// replace makes next the view, tells what changed between the two, and lets go
// of everybody whose write was acknowledged before the watch that made it began.
func (d *Docs[T]) replace(next *view[T], last uint64, round int, corrupt map[string]error) {
	old := d.view.Load()
	d.view.Store(next)
	var changes []Change[T]
	if old.Len() > 0 || round > 1 {
		old.Scan(func(key string, it *Item[T]) bool {
			if _, ok := next.Get(key); !ok {
				changes = append(changes, Change[T]{Item[T]{Key: key, Rev: it.Rev}, true})
			}
			return true
		})
		next.Scan(func(key string, it *Item[T]) bool {
			if was, ok := old.Get(key); !ok || was.Rev != it.Rev {
				changes = append(changes, Change[T]{Item: *it})
			}
			return true
		})
	}
	d.tell(changes...)

	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = nil
	d.corrupt = corrupt
	d.applied = max(d.applied, last)
	for key := range d.waits {
		d.release(key, func(w *wait) bool { return w.round < round || d.has(key, w) })
	}
}

// apply makes a view with one event more.
func (d *Docs[T]) apply(ev Event) {
	next := d.view.Load().Copy()
	change := Change[T]{Item[T]{Key: ev.Key, Rev: ev.Rev}, ev.Deleted}
	var corrupt error
	if ev.Deleted {
		next.Delete(ev.Key)
	} else if it, err := decode[T](ev); err != nil {
		corrupt = err // and the view keeps what it has
	} else {
		change.Item = *it
		next.Set(ev.Key, it)
	}
	if corrupt == nil {
		d.view.Store(next)
		d.tell(change)
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if corrupt != nil {
		d.corrupt[ev.Key] = corrupt
	} else {
		delete(d.corrupt, ev.Key)
	}
	d.applied = ev.Rev.seq
	d.release(ev.Key, func(w *wait) bool { return d.has(ev.Key, w) })
}

// tell wakes those who wait for a change and calls the hooks.
func (d *Docs[T]) tell(changes ...Change[T]) {
	if len(changes) == 0 {
		return
	}
	d.mu.Lock()
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
	var hooks []func(Change[T])
	if len(d.hooks) > 0 {
		ids := make([]int, 0, len(d.hooks))
		for id := range d.hooks {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		for _, id := range ids {
			hooks = append(hooks, d.hooks[id])
		}
	}
	d.mu.Unlock()
	for _, c := range changes {
		for _, f := range hooks {
			f(c)
		}
	}
}

// release lets go of the waits for key that are over. d.mu is held.
func (d *Docs[T]) release(key string, over func(*wait) bool) {
	ws, ok := d.waits[key]
	if !ok {
		return
	}
	ws = slices.DeleteFunc(ws, func(w *wait) bool {
		if !over(w) {
			return false
		}
		close(w.seen)
		return true
	})
	if len(ws) == 0 {
		delete(d.waits, key)
	} else {
		d.waits[key] = ws
	}
}

// has reports whether the view has the write to key that w waits for, or a
// later one. d.mu is held.
func (d *Docs[T]) has(key string, w *wait) bool {
	if d.applied < w.seq {
		return false
	}
	if !w.gone {
		return true
	}
	if it, ok := d.view.Load().Get(key); ok {
		return it.Rev.seq > w.seq
	}
	return d.corrupt[key] == nil
}

// await returns when the view has the write to key that w describes, or a
// later one.
func (d *Docs[T]) await(ctx context.Context, key string, w wait) error {
	d.mu.Lock()
	if d.has(key, &w) {
		d.mu.Unlock()
		return nil
	}
	w.round, w.seen = d.round, make(chan struct{})
	d.waits[key] = append(d.waits[key], &w)
	d.mu.Unlock()

	var err error
	select {
	case <-w.seen:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-d.done:
		err = ErrClosed
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release(key, func(o *wait) bool { return o == &w })
	return fmt.Errorf("%s is written, and not seen yet: %w", key, err)
}
