package sign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"countersign"
)

// patience is how long a job that cannot be decided is tried again before it
// fails. The clients' own waiters give up after 500 seconds.
const patience = time.Hour

// settle is how long after a signature the job's source being gone says nothing
// yet: another attempt may be writing the object from what it read before. It
// gives up after half of that.
const settle = 10 * time.Minute

// succeeded is the reason of a job that did, in AWS's words.
const succeeded = "Signing Succeeded"

// work is one attempt at a job: the queue's worker. It returns nil when the
// job is finished, and an error when it has to be tried again.
func (s *Service) work(ctx context.Context, id string, item []byte) error {
	key := string(item)
	j, err := fresh(ctx, s.jobs, key)
	if err != nil {
		return fmt.Errorf("job %s: %w", id, err)
	}
	if j.Status != InProgress {
		return nil // another attempt finished it
	}
	if err = s.attempt(ctx, &j); err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err() // stopping is no verdict on the job
	}
	reason, final := verdict(err)
	if !final {
		// Once an envelope is stored the object may be out, and only the
		// bucket knows: such a job is tried until it can be asked.
		if j.Envelope != nil || s.now().Sub(j.Created) < patience {
			s.log.Warn("signing job will be tried again", "job", id, "err", err)
			return err
		}
		reason = "Internal failure."
	}
	s.log.Info("signing job failed", "job", id, "reason", reason, "err", err)
	staged := j.Envelope != nil
	return s.end(ctx, key, func(j *Job) error {
		if staged != (j.Envelope != nil) {
			return errTwin // the twin got further than this verdict goes
		}
		j.Status, j.Reason, j.Envelope = Failed, reason, nil
		return nil
	})
}

// attempt takes a job from where it is to its end. It leaves in j how far the
// job got.
func (s *Service) attempt(ctx context.Context, j *Job) error {
	staged := j.Envelope != nil
	if staged {
		// An attempt before this one got as far as the envelope, and perhaps
		// further. The source may be gone by now; the object decides.
		switch done, err := s.delivered(ctx, *j); {
		case err != nil:
			return err
		case done:
			return s.succeed(ctx, *j)
		}
	}
	a, sp, err := s.source(ctx, *j)
	if err != nil {
		if staged && s.now().Sub(j.SignedAt) < settle {
			return fmt.Errorf("too early to tell: %v", err) // no verdict, whatever err is
		}
		return err
	}
	defer sp.Close()
	if !staged {
		if *j, err = s.stage(ctx, *j, a); err != nil {
			return err
		}
		// Staged. A crash from here on resumes with this very envelope.
	}
	if err := s.deliver(ctx, *j, a, sp.size); err != nil {
		return err
	}
	// Delivered. A crash here finds the object again and gets here again.
	return s.succeed(ctx, *j)
}

// source opens the job's source as an archive that can be signed. The archive
// reads from the spool, which the caller closes.
func (s *Service) source(ctx context.Context, j Job) (*countersign.Archive, *spool, error) {
	body, info, err := s.objects.Open(ctx, j.Invoker, j.Source.Bucket, j.Source.Key, j.Source.Version)
	if err != nil {
		if countersign.KindOf(err) == countersign.NotFound {
			return nil, nil, giveUp{"The source object does not exist.", err}
		}
		return nil, nil, fmt.Errorf("read source: %w", err)
	}
	defer body.Close()
	if info.Version != j.Source.Version {
		return nil, nil, fmt.Errorf("read source: asked for version %s, got %s", j.Source.Version, info.Version)
	}
	size := info.Size
	if err := checkSize(size); err != nil {
		return nil, nil, err
	}
	sp := newSpool(s.scratch, size)
	if n, err := io.Copy(sp, io.LimitReader(body, size+1)); err != nil || n != size {
		sp.Close()
		return nil, nil, fmt.Errorf("read source: got %d of %d bytes: %w", n, size, errors.Join(err, io.ErrUnexpectedEOF))
	}
	a, err := signable(sp, size)
	if err != nil {
		sp.Close()
		return nil, nil, err
	}
	return a, sp, nil
}

// stage signs the archive and stores the envelope, unless a twin was faster:
// then the twin's is the job's envelope.
func (s *Service) stage(ctx context.Context, j Job, a *countersign.Archive) (Job, error) {
	p, err := s.Profile(ctx, j.Scope(), j.Profile)
	if err != nil {
		return j, giveUp{"The signing profile does not exist.", err}
	}
	if p.Status == Revoked {
		return j, giveUp{"The signing profile is revoked.", nil}
	}
	e, err := s.seal(ctx, p, j.ARN(), a)
	if err != nil {
		return j, err
	}
	staged, err := s.jobs.Update(ctx, j.key(), func(j *Job) error {
		if j.Envelope != nil || j.Status != InProgress {
			return errUnchanged
		}
		j.record(e)
		return nil
	})
	if errors.Is(err, errUnchanged) {
		staged, err = fresh(ctx, s.jobs, j.key())
		if err == nil && staged.Envelope == nil {
			err = errTwin
		}
	}
	if err != nil {
		return j, fmt.Errorf("stage: %w", err)
	}
	return staged, nil
}

// errTwin ends an attempt whose job another attempt has ended; trying again
// finds that out.
var errTwin = errors.New("another attempt was faster")

// deliver writes the signed object, or finds it written. size is the source's.
func (s *Service) deliver(ctx context.Context, j Job, a *countersign.Archive, size int64) error {
	out := newSpool(s.scratch, size+int64(len(j.Envelope))+1<<10)
	defer out.Close()
	if err := a.WriteSigned(out, j.Envelope); err != nil {
		return fmt.Errorf("write signed archive: %w", err)
	}
	short, cancel := context.WithTimeout(ctx, settle/2)
	defer cancel()
	err := s.objects.PutIfAbsent(short, j.Invoker, j.Target.Bucket, j.Target.Key, out.Reader(), out.size)
	switch {
	case err == nil:
		return nil
	case countersign.KindOf(err) == countersign.Exists:
		done, err := s.delivered(ctx, j)
		if err == nil && !done {
			err = errors.New("the object that was in the way is gone")
		}
		return err
	case countersign.KindOf(err) == countersign.NotFound:
		// The bucket went away, or the object was there and was deleted.
		reason, _ := verdict(err)
		return giveUp{"The signed object cannot be written: " + reason, err}
	}
	return fmt.Errorf("write signed object: %w", err)
}

// delivered reports whether the job's object is in place. An object that is
// there and is not this job's fails the job: it is somebody else's, and stays.
func (s *Service) delivered(ctx context.Context, j Job) (bool, error) {
	body, info, err := s.objects.Open(ctx, j.Invoker, j.Target.Bucket, j.Target.Key, "")
	if err != nil {
		if countersign.KindOf(err) == countersign.NotFound {
			return false, nil // or the bucket is not there, which the put will say
		}
		return false, fmt.Errorf("look for signed object: %w", err)
	}
	defer body.Close()
	foreign := giveUp{"The destination already has an object with the signed object's key.", nil}
	if info.Size > maxSigned {
		return false, foreign
	}
	sp := newSpool(s.scratch, info.Size)
	defer sp.Close()
	if _, err := io.Copy(sp, io.LimitReader(body, maxSigned)); err != nil {
		return false, fmt.Errorf("read signed object: %w", err)
	}
	a, err := countersign.OpenArchive(sp, sp.size, countersign.Limits{MaxBytes: maxSigned})
	if err != nil {
		return false, final(err, foreign)
	}
	if sf, err := a.Signature(); err != nil || !bytes.Equal(sf, j.Envelope) {
		return false, foreign
	}
	if _, err := countersign.Verify(ctx, a, s.ca.Trust()); err != nil {
		return false, final(err, foreign)
	}
	return true, nil
}

// final is verdict v when err is a refusal, and err when it decides nothing.
func final(err error, v giveUp) error {
	var no *countersign.Refusal
	if errors.As(err, &no) {
		v.err = err
		return v
	}
	return err
}

func (s *Service) succeed(ctx context.Context, j Job) error {
	return s.end(ctx, j.key(), func(j *Job) error {
		j.Status, j.Reason, j.Envelope = Succeeded, succeeded, nil
		return nil
	})
}

// end moves a job out of InProgress, once.
func (s *Service) end(ctx context.Context, key string, f func(*Job) error) error {
	_, err := s.jobs.Update(ctx, key, func(j *Job) error {
		if j.Status != InProgress {
			return errUnchanged
		}
		j.Completed = s.now().UTC()
		return f(j)
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return fmt.Errorf("end job: %w", err)
	}
	return nil
}

// giveUp is an error that ends a job, with the reason its owner reads.
type giveUp struct {
	reason string
	err    error // for the log
}

func (g giveUp) Error() string {
	if g.err == nil {
		return g.reason
	}
	return g.reason + " " + g.err.Error()
}

func (g giveUp) Unwrap() error { return g.err }

// verdict says whether err ends a job, and in which words.
func verdict(err error) (reason string, final bool) {
	var g giveUp
	if errors.As(err, &g) {
		return g.reason, true
	}
	switch countersign.KindOf(err) {
	case countersign.Internal, countersign.Throttled, countersign.Stale:
		return "", false
	}
	var no *countersign.Error
	if errors.As(err, &no) {
		return no.Message, true
	}
	return err.Error(), true // a refusal: its text is its reasons
}
