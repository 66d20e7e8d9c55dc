package countersign

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"
)

// The numbers of PKWARE's APPNOTE.TXT 6.3.10; sections in parentheses.
const (
	sigLocal      = "PK\x03\x04"   // local file header (4.3.7)
	sigDescriptor = "PK\x07\x08"   // data descriptor (4.3.9)
	sigCentral    = "PK\x01\x02"   // central directory header (4.3.12)
	sigEnd64      = "PK\x06\x06"   // zip64 end of central directory record (4.3.14)
	sigLocator    = "PK\x06\x07"   // zip64 end of central directory locator (4.3.15)
	sigEnd        = "PK\x05\x06"   // end of central directory record (4.3.16)
	lenLocal      = 30             // fixed part
	lenCentral    = 46             // fixed part
	lenEnd64      = 56             // without an extensible data sector, which is refused
	lenLocator    = 20             // always
	lenEnd        = 22             // without the comment
	none16        = math.MaxUint16 // "see the zip64 record" (4.4.1.4)
	none32        = math.MaxUint32 // likewise
	methodStore   = 0              // (4.4.5)
	methodDeflate = 8              // (4.4.5)
	flagStreamed  = 1 << 3         // sizes follow the body in a data descriptor (4.4.4)
	flagUTF8      = 1 << 11        // name and comment are UTF-8 (4.4.4)
	flagsAllowed  = 1<<1 | 1<<2 |  // how hard the deflater tried; no reader cares
		flagStreamed | flagUTF8
)

// maxDirectory bounds the central directory, which is read into memory:
// 100,000 entries with names of 200 bytes.
const maxDirectory = 32 << 20

// A parser fills an Archive. Reasons go to no; a method's error means that the
// file could not be read.
type parser struct {
	*Archive
	no *reasons

	count   uint64                 // entries, as the end record says
	broken  bool                   // some entry's extent is unknown, so gaps cannot be judged
	made    map[string]fs.FileMode // what unpacking makes, by path; implied directories included
	hasUTF8 bool                   // some name beyond ASCII says it is UTF-8
	hasRaw  bool                   // some does not
}

func (p *parser) parse() error {
	if p.size <= 0 {
		p.no.add("empty", "the archive is empty")
		return nil
	}
	if p.size > p.lim.MaxBytes {
		p.no.add("archive-too-large", "the archive is %d bytes long; the limit is %d", p.size, p.lim.MaxBytes)
		return nil
	}
	ok, err := p.readEnd()
	if err != nil || !ok {
		return err
	}
	if !p.readCentral() {
		return nil
	}
	if err := p.readLocals(); err != nil {
		return err
	}
	if err := p.checkLayout(); err != nil {
		return err
	}
	p.checkTotals()
	p.checkPaths()
	if !p.no.none() {
		return nil // links are resolved in a sound archive only
	}
	return p.checkLinks()
}

// readAt fills b from offset off. A file that is shorter than its size is a
// failure to read, not a reason against the archive.
func (a *Archive) readAt(b []byte, off int64) error {
	n, err := a.r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// readEnd finds the end record, follows it to its zip64 twin if there is one,
// and reads the central directory. False means that there is nothing to go on.
func (p *parser) readEnd() (bool, error) {
	tail := make([]byte, min(p.size, lenEnd+math.MaxUint16))
	tailAt := p.size - int64(len(tail))
	if err := p.readAt(tail, tailAt); err != nil {
		return false, err
	}
	// Readers search backwards, so the last signature is the one they find.
	at := bytes.LastIndex(tail, []byte(sigEnd))
	if at < 0 {
		p.no.add("not-zip", "there is no end-of-directory record: this is not a zip file")
		return false, nil
	}
	end := tail[at:]
	if len(end) < lenEnd || lenEnd+int(le16(end[20:])) != len(end) {
		p.no.add("trailing-data", "the end-of-directory record is not the end of the file")
		return false, nil
	}
	// A record further up whose comment would swallow the one found: a reader
	// that searches forwards, or checks lengths, takes that one.
	for i := 0; ; {
		j := bytes.Index(tail[i:at], []byte(sigEnd))
		if j < 0 {
			break
		}
		i += j
		if i+lenEnd <= len(tail) && i+lenEnd+int(le16(tail[i+20:])) == len(tail) {
			p.no.add("two-ends", "there are two end-of-directory records, one in the other's comment")
			return false, nil
		}
		i++
	}
	p.comment = bytes.Clone(end[lenEnd:])
	endAt := tailAt + int64(at)

	disk, dirDisk := uint64(le16(end[4:])), uint64(le16(end[6:]))
	here, total := uint64(le16(end[8:])), uint64(le16(end[10:]))
	dirSize, dirAt := uint64(le32(end[12:])), uint64(le32(end[16:]))
	dirEnd := endAt

	loc := make([]byte, lenLocator)
	if endAt >= lenLocator {
		if err := p.readAt(loc, endAt-lenLocator); err != nil {
			return false, err
		}
	}
	if string(loc[:4]) == sigLocator {
		// Info-ZIP writes zip64 records it does not need; they are one reading
		// as long as every value that is not "see zip64" says the same.
		rec := make([]byte, lenEnd64)
		recAt := endAt - lenLocator - lenEnd64
		if recAt < 0 || le64(loc[8:]) != uint64(recAt) || le32(loc[4:]) != 0 || le32(loc[16:]) != 1 {
			p.no.add("zip64", "the zip64 locator does not lead to the record before it")
			return false, nil
		}
		if err := p.readAt(rec, recAt); err != nil {
			return false, err
		}
		if string(rec[:4]) != sigEnd64 || le64(rec[4:]) != lenEnd64-12 {
			p.no.add("zip64", "the zip64 end-of-directory record is malformed")
			return false, nil
		}
		agree := true
		follow := func(v *uint64, none, wide uint64) {
			agree = agree && (*v == none || *v == wide)
			*v = wide
		}
		follow(&disk, none16, uint64(le32(rec[16:])))
		follow(&dirDisk, none16, uint64(le32(rec[20:])))
		follow(&here, none16, le64(rec[24:]))
		follow(&total, none16, le64(rec[32:]))
		follow(&dirSize, none32, le64(rec[40:]))
		follow(&dirAt, none32, le64(rec[48:]))
		if !agree {
			p.no.add("zip64", "the zip64 end-of-directory record contradicts the ordinary one")
			return false, nil
		}
		dirEnd = recAt
	}
	switch {
	case disk != 0 || dirDisk != 0 || here != total:
		p.no.add("multi-disk", "the archive is spread over several disks")
	case total == 0:
		p.no.add("empty", "the archive has no entries")
	case total > uint64(p.lim.MaxEntries):
		p.no.add("too-many-entries", "the archive has %d entries; the limit is %d", total, p.lim.MaxEntries)
	case dirSize > maxDirectory:
		p.no.add("too-many-entries", "the central directory is %d bytes long; the limit is %d", dirSize, maxDirectory)
	case dirAt > uint64(dirEnd) || dirSize != uint64(dirEnd)-dirAt:
		p.no.add("directory", "the central directory does not end where the end record begins")
	case total > dirSize/lenCentral:
		p.no.add("directory", "the central directory is too short for %d entries", total)
	}
	if !p.no.none() {
		return false, nil
	}
	p.dirAt, p.count = int64(dirAt), total
	p.dir = make([]byte, dirSize)
	return true, p.readAt(p.dir, p.dirAt)
}

// readCentral takes the central directory apart. False means that it does not
// hold together.
func (p *parser) readCentral() bool {
	p.entries = make([]entry, 0, p.count)
	pos := 0
	for range p.count {
		h := p.dir[pos:]
		if len(h) < lenCentral || string(h[:4]) != sigCentral {
			p.no.add("directory", "record %d of the central directory is malformed", len(p.entries)+1)
			return false
		}
		nameLen, extraLen, commentLen := int(le16(h[28:])), int(le16(h[30:])), int(le16(h[32:]))
		n := lenCentral + nameLen + extraLen + commentLen
		if len(h) < n {
			p.no.add("directory", "record %d of the central directory is cut off", len(p.entries)+1)
			return false
		}
		p.entries = append(p.entries, p.central(h[:n], nameLen, extraLen))
		pos += n
	}
	if pos != len(p.dir) {
		p.no.add("directory", "the central directory holds %d bytes beyond its %d entries", len(p.dir)-pos, p.count)
		return false
	}
	return true
}

// central reads one directory record.
func (p *parser) central(h []byte, nameLen, extraLen int) entry {
	var e entry
	e.Name = string(h[lenCentral : lenCentral+nameLen])
	e.flags, e.method, e.crc = le16(h[8:]), le16(h[10:]), le32(h[16:])
	packed, size, offset := uint64(le32(h[20:])), uint64(le32(h[24:])), uint64(le32(h[42:]))
	x := p.extra(&e, h[lenCentral+nameLen:][:extraLen])

	// "The order of the fields in the zip64 extended information record is
	// fixed, but the fields MUST only appear if the corresponding [...] field
	// is set to 0xFFFF or 0xFFFFFFFF" (4.5.3).
	wide, short := x.zip64, false
	for _, v := range []*uint64{&size, &packed, &offset} {
		if *v == none32 {
			if len(wide) < 8 {
				short = true
				break
			}
			*v, wide = le64(wide), wide[8:]
		}
	}
	if short || len(wide) != 0 || (x.hasZip64 && len(x.zip64) == 0) {
		p.no.add("zip64", "the zip64 field of %s does not hold exactly the sizes that are missing", quoted(e.Name))
	}
	if d := le16(h[34:]); d != 0 {
		p.no.add("multi-disk", "%s is said to lie on another disk", quoted(e.Name))
	}
	if e.flags&^flagsAllowed != 0 {
		if e.flags&1 != 0 {
			p.no.add("encrypted", "%s is encrypted", quoted(e.Name))
		} else {
			p.no.add("flags", "%s uses features nobody agrees on (flags %#04x)", quoted(e.Name), e.flags)
		}
	}
	switch e.method {
	case methodStore:
		if packed != size {
			p.no.add("size-mismatch", "%s is stored, yet %d bytes became %d", quoted(e.Name), size, packed)
		}
	case methodDeflate:
	default:
		p.no.add("method", "%s is compressed by method %d; only store (0) and deflate (8) are known here", quoted(e.Name), e.method)
	}
	// Offsets and sizes beyond the file are judged with the layout; here they
	// only have to fit an int64.
	if packed > uint64(p.size) || offset > uint64(p.size) || size > math.MaxInt64/2 {
		p.no.add("overlap", "%s does not fit into the archive", quoted(e.Name))
		packed, offset, size, p.broken = 0, 0, 0, true
	}
	e.CompressedSize, e.Size, e.header = int64(packed), int64(size), int64(offset)
	if e.method == methodDeflate && size/uint64(p.lim.MaxRatio) > packed {
		p.no.add("ratio", "%s claims to grow from %d bytes to %d; the limit is %d times", quoted(e.Name), packed, size, p.lim.MaxRatio)
	}

	e.Modified = dosTime(le16(h[14:]), le16(h[12:]))
	if x.hasModified {
		e.Modified = time.Unix(int64(x.modified), 0).UTC()
	}
	p.unicodeName(&e, x)
	p.name(&e, x)
	p.mode(&e, h[5], le32(h[38:]))
	return e
}

// readLocals holds every local header against its directory record.
func (p *parser) readLocals() error {
	var buf []byte
	for i := range p.entries {
		e := &p.entries[i]
		const spare = 64 // the extra fields Info-ZIP writes, in the same read
		n := min(int64(lenLocal+len(e.Name)+spare), p.dirAt-e.header)
		if n < lenLocal {
			p.no.add("local-header", "the local header of %s lies beyond the entries", quoted(e.Name))
			p.broken = true
			continue
		}
		buf = slices.Grow(buf[:0], int(n))[:n]
		if err := p.readAt(buf, e.header); err != nil {
			return err
		}
		nameLen, extraLen := int(le16(buf[26:])), int(le16(buf[28:]))
		full := lenLocal + nameLen + extraLen
		if string(buf[:4]) != sigLocal || int64(full) > p.dirAt-e.header {
			p.no.add("local-header", "there is no local header where the directory says %s is", quoted(e.Name))
			p.broken = true
			continue
		}
		if full > len(buf) {
			buf = slices.Grow(buf[:0], full)[:full]
			if err := p.readAt(buf, e.header); err != nil {
				return err
			}
		}
		e.body = e.header + int64(full)
		p.local(e, buf[:full], nameLen)
	}
	return nil
}

// local compares one local header with the directory. Versions and times are
// no part of the reading; nothing acts on them.
func (p *parser) local(e *entry, h []byte, nameLen int) {
	differs := func(what string) {
		p.no.add("local-header", "the local header of %s has another %s than the directory", quoted(e.Name), what)
	}
	if string(h[lenLocal:lenLocal+nameLen]) != e.Name {
		differs("name")
	}
	if le16(h[6:]) != e.flags {
		differs("set of flags")
	}
	if le16(h[8:]) != e.method {
		differs("compression method")
	}
	x := p.extra(e, h[lenLocal+nameLen:])
	p.unicodeName(e, x)
	crc, packed, size := le32(h[14:]), uint64(le32(h[18:])), uint64(le32(h[22:]))
	if x.hasZip64 || packed == none32 || size == none32 {
		// "This field in the LOCAL header MUST include BOTH original and
		// compressed file size fields" (4.5.3).
		if len(x.zip64) != 16 || packed != none32 || size != none32 {
			p.no.add("zip64", "the zip64 field in the local header of %s does not hold exactly the sizes that are missing", quoted(e.Name))
			return
		}
		size, packed = le64(x.zip64), le64(x.zip64[8:])
		e.localZip64 = true
	}
	// What a streaming writer does not know yet is zero, and follows the body,
	// where checkLayout finds it. Info-ZIP knows the size and not the rest.
	unknown := func(v uint64) bool { return e.flags&flagStreamed != 0 && v == 0 }
	if crc != e.crc && !unknown(uint64(crc)) {
		differs("checksum")
	}
	if packed != uint64(e.CompressedSize) && !unknown(packed) || size != uint64(e.Size) && !unknown(size) {
		differs("size")
	}
}

// checkLayout walks the file from its first byte to the directory: every byte
// belongs to exactly one entry.
func (p *parser) checkLayout() error {
	if p.broken {
		return nil
	}
	order := make([]*entry, len(p.entries))
	for i := range p.entries {
		order[i] = &p.entries[i]
	}
	slices.SortStableFunc(order, func(a, b *entry) int { return int(min(max(a.header-b.header, -1), 1)) })
	if at := order[0].header; at != 0 {
		p.no.add("leading-data", "%d bytes lie before the first entry %s", at, quoted(order[0].Name))
	}
	for i, e := range order {
		next, follower := p.dirAt, "the central directory"
		if i+1 < len(order) {
			next, follower = order[i+1].header, quoted(order[i+1].Name)
		}
		room := next - (e.body + e.CompressedSize)
		switch {
		case room < 0:
			p.no.add("overlap", "%s overlaps %s", quoted(e.Name), follower)
		case e.flags&flagStreamed != 0:
			if err := p.checkDescriptor(e, room); err != nil {
				return err
			}
		case room > 0:
			p.no.add("gap", "%d bytes lie between %s and %s", room, quoted(e.Name), follower)
		}
	}
	return nil
}

// checkDescriptor judges the room bytes after e's body, which must be one data
// descriptor: with or without its signature, eight-byte sizes if and only if
// the local header had a zip64 field (4.3.9.2).
func (p *parser) checkDescriptor(e *entry, room int64) error {
	width := 4
	if e.localZip64 {
		width = 8
	}
	bare := int64(4 + 2*width)
	if room != bare && room != bare+4 {
		p.no.add("descriptor", "%d bytes follow the body of %s where a data descriptor of %d or %d belongs", room, quoted(e.Name), bare, bare+4)
		return nil
	}
	d := make([]byte, room)
	if err := p.readAt(d, e.body+e.CompressedSize); err != nil {
		return err
	}
	signed := string(d[:4]) == sigDescriptor
	if signed != (room == bare+4) {
		p.no.add("descriptor", "the data descriptor of %s can be read in two ways", quoted(e.Name))
		return nil
	}
	if signed {
		d = d[4:]
	}
	packed, size := uint64(le32(d[4:])), uint64(le32(d[4+width:]))
	if width == 8 {
		packed, size = le64(d[4:]), le64(d[12:])
	}
	if le32(d) != e.crc || packed != uint64(e.CompressedSize) || size != uint64(e.Size) {
		p.no.add("descriptor", "the data descriptor of %s differs from the directory", quoted(e.Name))
	}
	return nil
}

// checkTotals applies the limit that Lambda states as "Unzipped size must be
// smaller than".
func (p *parser) checkTotals() {
	var sum int64
	for i := range p.entries {
		sum = min(sum+p.entries[i].Size, math.MaxInt64/2)
	}
	if sum >= p.lim.MaxUnpacked {
		p.no.add("too-large", "unpacked, the archive is %d bytes; it must be smaller than %d", sum, p.lim.MaxUnpacked)
	}
}

// extraFields is what matters in an entry's extra data (4.5).
type extraFields struct {
	zip64       []byte
	hasZip64    bool
	unicode     []byte // Info-ZIP Unicode Path, 0x7075
	hasUnicode  bool
	modified    int32 // extended timestamp, 0x5455: seconds since 1970, UTC
	hasModified bool
}

// extra reads extra fields. Those that would give an entry a second mode, link
// target or size are refused; what is left says nothing a reader acts on.
func (p *parser) extra(e *entry, b []byte) (x extraFields) {
	for len(b) > 0 {
		if len(b) < 4 || len(b)-4 < int(le16(b[2:])) {
			p.no.add("extra", "the extra data of %s is malformed", quoted(e.Name))
			return x
		}
		id, data := le16(b), b[4:4+int(le16(b[2:]))]
		b = b[4+len(data):]
		switch id {
		case 0x0001: // zip64
			if x.hasZip64 {
				p.no.add("zip64", "%s has two zip64 fields", quoted(e.Name))
			}
			x.zip64, x.hasZip64 = data, true
		case 0x7075: // Info-ZIP Unicode path: version, checksum of the name, the name in UTF-8
			if x.hasUnicode {
				p.no.add("name-encoding", "%s has two Unicode names", quoted(e.Name))
			}
			x.unicode, x.hasUnicode = data, true
		case 0x5455: // extended timestamp
			if len(data) >= 5 && data[0]&1 != 0 {
				x.modified, x.hasModified = int32(le32(data[1:])), true
			}
		case 0x000d, 0x756e: // PKWARE Unix, ASi Unix: may hold a mode and a link target
			p.no.add("extra", "%s carries a second set of Unix attributes (field %#04x)", quoted(e.Name), id)
		}
	}
	return x
}

// mode reads the external attributes as the system that made the entry meant
// them (4.4.2, 4.4.15).
func (p *parser) mode(e *entry, host byte, attr uint32) {
	isDir := strings.HasSuffix(e.Name, "/")
	unix := attr >> 16
	const (
		sIFMT, sIFREG, sIFDIR, sIFLNK = 0o170000, 0o100000, 0o040000, 0o120000
		dosReadOnly, dosDir           = 0x01, 0x10
	)
	e.Mode = 0o644
	if isDir {
		e.Mode = fs.ModeDir | 0o755
		if e.Size != 0 {
			p.no.add("directory-body", "the directory %s has %d bytes of content", quoted(e.Name), e.Size)
		}
	}
	if t := unix & sIFMT; (t == sIFDIR) != isDir && t != 0 || attr&dosDir != 0 && !isDir {
		p.no.add("mode", "%s says by its name and by its mode that it is two different things", quoted(e.Name))
		return
	}
	switch unix & sIFMT {
	case 0, sIFREG, sIFDIR:
	case sIFLNK:
		e.Mode = fs.ModeSymlink | 0o777
	default:
		p.no.add("mode", "%s is neither a file, a directory nor a symbolic link (mode %#o)", quoted(e.Name), unix)
		return
	}
	if unix&0o7000 != 0 {
		p.no.add("mode", "%s has the setuid, setgid or sticky bit (mode %#o)", quoted(e.Name), unix)
	}
	switch {
	case host == 3 || host == 19: // Unix, macOS
		// Entries that record nothing at all are common (a bare ZipInfo in
		// Python); to take them for mode 0000 would help nobody.
		if unix != 0 && e.Mode&fs.ModeSymlink == 0 {
			e.Mode = e.Mode.Type() | fs.FileMode(unix&0o777)
		}
	case e.Mode&fs.ModeSymlink != 0:
		p.no.add("mode", "%s is a symbolic link to some readers only: it was not made on Unix", quoted(e.Name))
	case attr&dosReadOnly != 0 && !isDir:
		e.Mode = 0o444
	}
}

// dosTime is a date and time of MS-DOS, to two seconds, no zone (4.4.6).
func dosTime(d, t uint16) time.Time {
	return time.Date(int(d>>9)+1980, time.Month(d>>5&15), int(d&31), int(t>>11), int(t>>5&63), int(t&31)*2, 0, time.UTC)
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// nameCRC is the checksum the Unicode path field holds of the plain name.
func nameCRC(name string) uint32 { return crc32.ChecksumIEEE([]byte(name)) }
