package countersign

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"io"
	"io/fs"
	"runtime"
	"sync"
)

// Digests is what signatures cover of an archive.
type Digests struct {
	// Content is AWS Signer's digest, the "inner" one, which is the detached
	// content of the signature:
	//
	//	SHA384( for each entry: name || body )
	//
	// over the raw bytes of names and the unpacked bodies, in directory
	// order. It frames nothing and covers no mode: (ab, c) and (a, bc) agree.
	Content ContentDigest
	// Strict is ours. With every number big-endian and unsigned,
	//
	//	SHA384( "countersign strict digest v1" || 0x00 || uint64(entries) ||
	//	        for each entry:
	//	            uint32(len(name)) || name || uint32(mode) || uint64(size) ||
	//	        Content )
	//
	// where mode is Unix's st_mode: 0100000 for a file, 0040000 for a
	// directory, 0120000 for a symbolic link, plus the nine permission bits
	// as [Entry.Mode] reads them, and a link's body is its target.
	//
	// The records fix where each name and body begins and ends in what
	// Content hashes, so under them Content binds every body as a digest of
	// its own would, without hashing everything twice.
	Strict ContentDigest
	// Unpacked is the sum of all bodies, the signature file's included.
	Unpacked int64
}

const strictLabel = "countersign strict digest v1\x00"

// Digests reads every body once, proves its size and checksum, and computes
// both digests. Bodies are streamed: memory does not grow with the archive.
//
// Both leave out the signature file, and nothing else. An archive that holds
// no signature is digested as [Archive.WriteSigned] would leave it: if it has
// no META_INF/ directory entry, one (mode 0755, empty) counts at its end. So
// the digests before and after signing agree, and a signed archive is taken
// as it is.
//
// A body that is not what the directory says gives a *[Refusal] (CheckArchive)
// with every such body; another error means that the archive could not be read.
func (a *Archive) Digests(ctx context.Context) (Digests, error) {
	d := digester{a: a, content: sha512.New384(), strict: sha512.New384(), no: refusing(CheckArchive)}
	if err := d.run(ctx); err != nil {
		return Digests{}, err
	}
	if err := d.no.err(); err != nil {
		return Digests{}, err
	}
	out := Digests{Unpacked: a.Unpacked()}
	d.content.Sum(out.Content[:0])
	d.strict.Write(out.Content[:])
	d.strict.Sum(out.Strict[:0])
	return out, nil
}

// A digester runs the one pass behind Digests. Bodies are inflated by several
// goroutines; the digests, which follow the directory's order, are fed by the
// caller's own.
type digester struct {
	a               *Archive
	content, strict hash.Hash
	no              *reasons
}

// chunk is how much of a body moves at once; small archives are not worth a
// second goroutine.
const (
	chunkSize     = 64 << 10
	serialBelow   = 256 << 10
	chunksPerBody = 4
)

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

func (d *digester) run(ctx context.Context) error {
	n := uint64(0)
	for i := range d.a.entries {
		if d.counts(i) {
			n++
		}
	}
	virtual := d.a.lacksSignatureDir()
	if virtual {
		n++
	}
	io.WriteString(d.strict, strictLabel)
	d.strict.Write(binary.BigEndian.AppendUint64(nil, n))

	var err error
	if workers := runtime.GOMAXPROCS(0); workers > 1 && d.a.Unpacked() >= serialBelow {
		err = d.parallel(ctx, workers)
	} else {
		err = d.serial(ctx)
	}
	if err == nil && virtual {
		d.head(signatureDir, fs.ModeDir|0o755, 0)
	}
	return err
}

// counts reports whether entry i is digested. The signature file is not, but
// its body is read all the same: no body goes unproved.
func (d *digester) counts(i int) bool { return d.a.entries[i].Name != SignaturePath }

// lacksSignatureDir reports whether signing is still to come and will add a
// META_INF/ entry.
func (a *Archive) lacksSignatureDir() bool {
	if a.Signed() {
		return false
	}
	_, ok := a.paths[signatureDir[:len(signatureDir)-1]]
	return !ok
}

// head begins one entry: its name in the content digest, its record in the
// strict one.
func (d *digester) head(name string, mode fs.FileMode, size int64) {
	io.WriteString(d.content, name)
	b := make([]byte, 0, 16+len(name))
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint32(b, unixMode(mode))
	d.strict.Write(binary.BigEndian.AppendUint64(b, uint64(size)))
}

func unixMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	switch m.Type() {
	case fs.ModeDir:
		return u | 0o040000
	case fs.ModeSymlink:
		return u | 0o120000
	}
	return u | 0o100000
}

func (d *digester) serial(ctx context.Context) error {
	buf := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(buf)
	for i := range d.a.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := &d.a.entries[i]
		counts := d.counts(i)
		if counts {
			d.head(e.Name, e.Mode, e.Size)
		}
		r := d.a.open(i)
		for {
			n, err := r.Read(buf[:])
			if counts {
				d.content.Write(buf[:n])
			}
			if err == io.EOF {
				break
			}
			if err == nil {
				err = ctx.Err()
			} else {
				err = d.no.take(err)
				if err == nil {
					break // noted; the other bodies may have reasons too
				}
			}
			if err != nil {
				r.Close()
				return err
			}
		}
		r.Close()
	}
	return nil
}

// A piece is part of a body on its way to the content digest.
type piece struct {
	buf *[chunkSize]byte
	n   int
}

// A job is one body being read by a worker. err is the worker's until it
// closes pieces.
type job struct {
	pieces chan piece
	err    error
}

// parallel feeds bodies to workers in directory order and takes their pieces
// in the same order. A worker can only be ahead of the caller, and the body
// the caller waits for always has a worker, so they cannot wait in a circle.
func (d *digester) parallel(ctx context.Context, workers int) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	jobs := make([]job, len(d.a.entries))
	ready := make(chan int, workers) // started by the feeder, in order
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	started := make(chan int, 2*workers) // bounds how far workers run ahead
	wg.Go(func() {
		defer close(ready)
		for i := range jobs {
			jobs[i].pieces = make(chan piece, chunksPerBody)
			select {
			case ready <- i:
			case <-ctx.Done():
				return
			}
			select {
			case started <- i:
			case <-ctx.Done():
				return
			}
		}
		close(started)
	})
	for range workers {
		wg.Go(func() {
			for i := range ready {
				d.read(ctx, i, &jobs[i])
			}
		})
	}
	for range jobs {
		var i int
		select {
		case i = <-started:
		case <-ctx.Done():
			return ctx.Err()
		}
		e, j := &d.a.entries[i], &jobs[i]
		counts := d.counts(i)
		if counts {
			d.head(e.Name, e.Mode, e.Size)
		}
		for p := range j.pieces {
			if counts {
				d.content.Write(p.buf[:p.n])
			}
			chunks.Put(p.buf)
		}
		if j.err != nil {
			if err := d.no.take(j.err); err != nil {
				return err
			}
		}
	}
	return nil
}

// read is a worker's part: one body, whole, piece by piece.
func (d *digester) read(ctx context.Context, i int, j *job) {
	defer close(j.pieces)
	r := d.a.open(i)
	defer r.Close()
	for {
		buf := chunks.Get().(*[chunkSize]byte)
		n, err := fill(r, buf[:])
		if n > 0 {
			select {
			case j.pieces <- piece{buf, n}:
			case <-ctx.Done():
				j.err = ctx.Err()
				return
			}
		} else {
			chunks.Put(buf)
		}
		if err != nil {
			if err != io.EOF {
				j.err = err
			}
			return
		}
	}
}

// fill reads until b is full or r ends, and gives r's own error.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}
