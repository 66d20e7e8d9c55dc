package sign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"countersign"
)

const (
	maxSource = 250 << 20 // the Lambda platform's maxSizeInMB
	// A signed object is its source and a signature of some kilobytes.
	maxSigned = maxSource + 1<<20
)

// An envelope is a signature that was made and is not yet anywhere.
type envelope struct {
	sf        []byte
	statement countersign.Statement
}

func (j *Job) record(e envelope) {
	j.Envelope = e.sf
	j.SignedAt, j.Expires = e.statement.SignedAt, e.statement.Expires
	j.Content = e.statement.Strict.String()
}

// seal signs what is in a, for profile p as the job named.
func (s *Service) seal(ctx context.Context, p Profile, job string, a *countersign.Archive) (envelope, error) {
	d, err := a.Digests(ctx)
	if err != nil {
		return envelope{}, malformed(err)
	}
	// Signatures carry milliseconds. The time is taken after the digests:
	// it says when the key was used.
	now := s.now().UTC().Truncate(time.Millisecond)
	st := countersign.Statement{
		Job:            job,
		ProfileVersion: p.VersionARN(),
		SignedAt:       now,
		Expires:        p.Validity.From(now),
		Content:        d.Content,
		Strict:         &d.Strict,
	}
	sf, err := s.ca.Sign(ctx, st)
	if err != nil {
		return envelope{}, err
	}
	return envelope{sf, st}, nil
}

// signable opens an archive and finds nothing against signing it.
func signable(r io.ReaderAt, size int64) (*countersign.Archive, error) {
	if err := checkSize(size); err != nil {
		return nil, err
	}
	a, err := countersign.OpenArchive(r, size, countersign.Limits{MaxBytes: maxSource})
	if err != nil {
		return nil, malformed(err)
	}
	switch _, err := a.Signature(); {
	case errors.Is(err, countersign.ErrUnsigned):
		return a, nil
	case err != nil:
		return nil, malformed(err)
	}
	return nil, giveUp{"The source object is already signed.", nil}
}

var errEmpty = giveUp{"The source object is empty.", nil}

func checkSize(size int64) error {
	switch {
	case size == 0:
		return errEmpty
	case size > maxSource:
		return giveUp{fmt.Sprintf("The source object has %d bytes; at most %d can be signed.", size, maxSource), nil}
	}
	return nil
}

// malformed gives a refusal of the archive its place in a reason. AWS's own
// words for it are not public.
func malformed(err error) error {
	var no *countersign.Refusal
	if !errors.As(err, &no) {
		return fmt.Errorf("read archive: %w", err)
	}
	text := "The source object is not a valid zip archive"
	for i, r := range no.Reasons {
		if i == 0 {
			text += ": "
		} else {
			text += "; "
		}
		text += r.Detail
	}
	return giveUp{text + ".", err}
}

// SignArchive signs size bytes of r as a job of its own, without buckets, and
// writes the signed archive to w. The job is recorded as Succeeded before the
// first byte is written: no signature leaves that is not on record. What is
// wrong with the archive is a countersign.Error of kind Invalid.
func (s *Service) SignArchive(ctx context.Context, sc Scope, who Caller, profile string, r io.ReaderAt, size int64, w io.Writer) (Job, error) {
	p, err := s.signer(ctx, sc, profile)
	if err != nil {
		return Job{}, err
	}
	a, err := signable(r, size)
	if err != nil {
		return Job{}, refused(err)
	}
	now := s.now().UTC()
	j := Job{
		ID: newID(now), Account: p.Account, Region: p.Region, Invoker: who,
		Profile: p.Name, Version: p.Version, Created: now,
	}
	e, err := s.seal(ctx, p, j.ARN(), a)
	if err != nil {
		return Job{}, refused(err)
	}
	j.record(e)
	j.Envelope = nil // w has it
	j.Status, j.Reason, j.Completed = Succeeded, succeeded, s.now().UTC()
	if _, err := s.jobs.Create(ctx, j.key(), j); err != nil {
		return Job{}, fmt.Errorf("record job %s: %w", j.ID, err)
	}
	if err := a.WriteSigned(w, e.sf); err != nil {
		return Job{}, fmt.Errorf("write signed archive: %w", err)
	}
	return j, nil
}

// refused makes a reason that would end a job an answer to a caller.
func refused(err error) error {
	var g giveUp
	if errors.As(err, &g) {
		return &countersign.Error{Kind: countersign.Invalid, Message: g.reason, Err: g.err}
	}
	return err
}
