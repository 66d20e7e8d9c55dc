package countersign

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"
)

// SignaturePath is where AWS Signer keeps a zip's signature. Note META_INF
// with an underscore: it is not the META-INF of a JAR.
const SignaturePath = "META_INF/aws_signer_signature_v1.0.SF"

// signatureDir is the directory entry a signer adds before the signature when
// the archive has none. It counts in both digests; the signature file does not.
const signatureDir = "META_INF/"

// Errors that are answers and not refusals.
var (
	// ErrUnsigned says that an archive holds no signature.
	ErrUnsigned = errors.New("the archive is not signed")
	// ErrSigned says that an archive already holds one. There is no second.
	ErrSigned = errors.New("the archive is already signed")
)

// Limits bound what an archive may cost whoever reads it. A zero field means
// the default beside it.
type Limits struct {
	// MaxBytes is the size of the archive itself: 314,572,800 (300 MiB),
	// room for MaxUnpacked of content nothing could compress.
	MaxBytes int64
	// MaxUnpacked is the sum of all bodies, which must stay below it:
	// 262,144,000, Lambda's limit on a function and its layers.
	MaxUnpacked int64
	// MaxEntries counts what unpacking would make: entries, and directories
	// that only appear in the names of entries: 100,000.
	MaxEntries int
	// MaxRatio is how many bytes one compressed byte may become, entry by
	// entry: 1,032, the most DEFLATE can do, so that by default only a lie
	// about a size goes over it. What an honest bomb may cost is MaxUnpacked.
	MaxRatio int64
}

func (l Limits) withDefaults() Limits {
	l.MaxBytes = orDefault(l.MaxBytes, 300<<20)
	l.MaxUnpacked = orDefault(l.MaxUnpacked, 262_144_000)
	l.MaxEntries = orDefault(l.MaxEntries, 100_000)
	l.MaxRatio = orDefault(l.MaxRatio, 1032)
	return l
}

func orDefault[T int | int64](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// An Entry is one file, directory or symbolic link of an archive.
type Entry struct {
	// Name is the path with slashes, as the archive spells it; a directory's
	// ends in one. It is clean, relative, valid UTF-8 and unique.
	Name string
	// Mode is a type (regular, directory, symlink) and permission bits.
	// Archives made on systems without Unix modes, and entries that record
	// no mode at all, read as 0644, directories as 0755.
	Mode           fs.FileMode
	Size           int64 // of the body, unpacked
	CompressedSize int64
	// Modified is not covered by any digest: anyone may re-date an archive.
	// A time written without a zone is read as UTC.
	Modified time.Time
	// Target is where a symbolic link leads, relative to its own directory;
	// it stays inside the archive. Empty for everything else.
	Target string
}

// An entry is an Entry and where its parts lie in the file.
type entry struct {
	Entry
	flags, method uint16
	crc           uint32
	header        int64 // offset of the local header
	body          int64 // offset of the body's first byte
	localZip64    bool  // the local header has a zip64 field, so the descriptor is wide
}

// An Archive is a zip file that has exactly one reading: every program that
// goes by the central directory, however leniently, finds the same names with
// the same contents in it, and so does one that reads from front to back. (One
// thing such a program cannot do in any archive: tell where a body ends that
// is stored and whose size comes after it.) Only [OpenArchive] makes an
// Archive. It is safe for concurrent use if its ReaderAt is.
//
// OpenArchive judges structure. Bodies are judged as they are read, by
// Digests, Open and Unpack: sizes, checksums, and that a compressed stream
// ends exactly where the directory says. [Verify] reads every body.
type Archive struct {
	r       io.ReaderAt
	size    int64
	lim     Limits
	entries []entry
	paths   map[string]int // explicit entries by Name without the final slash
	dir     []byte         // the central directory, raw
	dirAt   int64          // its offset, and where the last entry ends
	comment []byte
}

// OpenArchive reads the structure of the zip file r, size bytes long. What r
// holds must not change while the Archive is in use.
//
// An archive that is broken, ambiguous, dangerous to unpack or over a limit
// gives a *[Refusal] whose reasons all have [CheckArchive]; the code
// "too-large" is Lambda's unzipped size limit. Any other error means that r
// could not be read.
//
// Accepted are the files ordinary tools write: stored and deflated entries,
// data descriptors, zip64 records where they agree with the rest, comments.
// Refused is whatever lets two readers differ: data before, between or after
// the entries; local headers unlike the directory; names that repeat, escape,
// or lie below a file; encryption; several disks; links out of the archive.
func OpenArchive(r io.ReaderAt, size int64, lim Limits) (*Archive, error) {
	a := &Archive{r: r, size: size, lim: lim.withDefaults()}
	p := parser{Archive: a, no: refusing(CheckArchive)}
	if err := p.parse(); err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	if err := p.no.err(); err != nil {
		return nil, err
	}
	return a, nil
}

// Entries lists the archive in central-directory order, the order digests
// follow. The caller owns the slice.
func (a *Archive) Entries() []Entry {
	out := make([]Entry, len(a.entries))
	for i := range a.entries {
		out[i] = a.entries[i].Entry
	}
	return out
}

// Unpacked is the sum of all bodies' sizes as the directory declares them;
// reading proves it.
func (a *Archive) Unpacked() (n int64) {
	for i := range a.entries {
		n += a.entries[i].Size
	}
	return n
}

// Signed reports whether the archive holds a signature file, good or bad.
func (a *Archive) Signed() bool {
	_, ok := a.paths[SignaturePath]
	return ok
}

// maxSignatureBytes bounds a signature file: ten certificates of 4 KiB in
// PEM, twice over. AWS's own are about 8 KiB.
const maxSignatureBytes = 128 << 10

// Signature returns the bytes of the signature file, or ErrUnsigned. It gives
// a *[Refusal] (CheckIntegrity) when the file is no regular file or too
// large, or when another entry could be taken for it.
func (a *Archive) Signature() ([]byte, error) {
	if err := a.signatureTwins(); err != nil {
		return nil, err
	}
	i, ok := a.paths[SignaturePath]
	if !ok {
		return nil, ErrUnsigned
	}
	no := refusing(CheckIntegrity)
	e := &a.entries[i]
	if !e.Mode.IsRegular() {
		no.add("signature-file", "%s is not a regular file", quoted(e.Name))
	}
	if e.Size > maxSignatureBytes {
		no.add("signature-file", "%s is %d bytes long; a signature has at most %d", quoted(e.Name), e.Size, maxSignatureBytes)
	}
	if err := no.err(); err != nil {
		return nil, err
	}
	return a.readAll(i)
}

// signatureTwins refuses entries some other reader could take for the
// signature: one that ignores case, or looks for another version of the name.
func (a *Archive) signatureTwins() error {
	no := refusing(CheckIntegrity)
	for i := range a.entries {
		if n := a.entries[i].Name; n != SignaturePath && looksLikeSignature(n) {
			no.add("signature-twin", "%s could be taken for the signature file %s", quoted(n), SignaturePath)
		}
	}
	return no.err()
}

// readAll reads the body of a small entry; the caller has checked its size.
func (a *Archive) readAll(i int) ([]byte, error) {
	rc, err := a.Open(i)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b := make([]byte, 0, a.entries[i].Size+1)
	for {
		n, err := rc.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// maxReasons bounds a Refusal: an archive can be wrong in a hundred thousand
// ways, and nobody reads past the first few.
const maxReasons = 20

// reasons collects what is wrong, all under one check.
type reasons struct {
	check   Check
	list    []Reason
	dropped int
}

func refusing(c Check) *reasons { return &reasons{check: c} }

// add notes one reason. The same reason twice counts once.
func (r *reasons) add(code, format string, args ...any) {
	x := Reason{Check: r.check, Code: code, Detail: fmt.Sprintf(format, args...)}
	switch {
	case slices.Contains(r.list, x):
	case len(r.list) < maxReasons:
		r.list = append(r.list, x)
	default:
		r.dropped++
	}
}

// take moves the reasons of err here if it is a Refusal, and returns nil; any
// other error comes back.
func (r *reasons) take(err error) error {
	var no *Refusal
	if !errors.As(err, &no) {
		return err
	}
	for _, x := range no.Reasons {
		if len(r.list) < maxReasons {
			r.list = append(r.list, x)
		} else {
			r.dropped++
		}
	}
	return nil
}

func (r *reasons) none() bool { return len(r.list) == 0 }

// err is nil or a *Refusal.
func (r *reasons) err() error {
	if r.none() {
		return nil
	}
	list := r.list
	if r.dropped > 0 {
		list = append(slices.Clone(list), Reason{r.check, "more", fmt.Sprintf("and %d reasons more", r.dropped)})
	}
	return &Refusal{Reasons: list}
}
