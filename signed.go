package countersign

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"sync"
)

// WriteSigned writes the archive with the signature file sf in it: every entry
// byte for byte where it was, then META_INF/ (stored) if the archive has no
// such directory, then the signature (deflated), then the old directory
// records byte for byte with the new ones after them. The archive's comment
// stays. The same archive and sf give the same bytes.
//
// An archive that holds a signature, or something that could be taken for
// one, gives ErrSigned or a *[Refusal]: signatures are never stacked.
func (a *Archive) WriteSigned(w io.Writer, sf []byte) error {
	if a.Signed() {
		return ErrSigned
	}
	if err := a.signatureTwins(); err != nil {
		return err
	}
	if i, ok := a.paths[signatureDir[:len(signatureDir)-1]]; ok && !a.entries[i].Mode.IsDir() {
		no := refusing(CheckArchive)
		no.add("below-file", "%s is not a directory, so no signature can lie in it", quoted(a.entries[i].Name))
		return no.err()
	}
	if a.dirAt+int64(len(sf)) >= none32-1024 {
		return errors.New("an archive of 4 GiB and more cannot be signed")
	}
	var tail, dir bytes.Buffer
	count := uint64(len(a.entries))
	if a.lacksSignatureDir() {
		a.appendEntry(&tail, &dir, signatureDir, 0o040755, nil)
		count++
	}
	a.appendEntry(&tail, &dir, SignaturePath, 0o100644, sf)
	count++

	dirAt := uint64(a.dirAt) + uint64(tail.Len())
	dirSize := uint64(len(a.dir)) + uint64(dir.Len())
	dir.Write(endRecords(count, dirSize, dirAt, a.comment))

	if _, err := io.Copy(w, io.NewSectionReader(a.r, 0, a.dirAt)); err != nil {
		return fmt.Errorf("copy entries: %w", err)
	}
	for _, b := range [][]byte{tail.Bytes(), a.dir, dir.Bytes()} {
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("write signed archive: %w", err)
		}
	}
	return nil
}

// deflaters compress signature files. Those are base64 of certificates and
// random numbers, in which there is little to find but the alphabet: looking
// for repetitions would cost more than the signature itself.
var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.HuffmanOnly)
	if err != nil {
		panic(err) // the level is one of flate's own
	}
	return w
}}

// appendEntry adds an entry to tail, which will stand at a.dirAt, and its
// directory record to dir. Directories are stored, files deflated.
func (a *Archive) appendEntry(tail, dir *bytes.Buffer, name string, mode uint32, body []byte) {
	packed, method, dos := body, uint16(methodStore), uint32(0x10)
	if mode&0o040000 == 0 {
		var z bytes.Buffer
		fw := deflaters.Get().(*flate.Writer)
		fw.Reset(&z)
		fw.Write(body) // a Buffer takes everything
		fw.Close()
		deflaters.Put(fw)
		packed, method, dos = z.Bytes(), methodDeflate, 0
	}
	const version = 20 // "File is a folder", "File is compressed using Deflate compression" (4.4.3.2)
	le := binary.LittleEndian
	// The fields local header and directory record share, from "version
	// needed" to the length of the extra data. The time is the earliest
	// there is, 1980-01-01, so that a signature decides all of its bytes.
	shared := le.AppendUint16(nil, version)
	shared = le.AppendUint16(shared, 0)
	shared = le.AppendUint16(shared, method)
	shared = le.AppendUint16(shared, 0)
	shared = le.AppendUint16(shared, 1<<5|1)
	shared = le.AppendUint32(shared, crc32.ChecksumIEEE(body))
	shared = le.AppendUint32(shared, uint32(len(packed)))
	shared = le.AppendUint32(shared, uint32(len(body)))
	shared = le.AppendUint16(shared, uint16(len(name)))
	shared = le.AppendUint16(shared, 0)

	offset := uint64(a.dirAt) + uint64(tail.Len())
	tail.WriteString(sigLocal)
	tail.Write(shared)
	tail.WriteString(name)
	tail.Write(packed)

	rec := []byte(sigCentral)
	rec = le.AppendUint16(rec, 3<<8|version) // made by Unix
	rec = append(rec, shared...)
	rec = append(rec, make([]byte, 6)...) // no comment, disk 0, internal attributes 0
	rec = le.AppendUint32(rec, mode<<16|dos)
	rec = le.AppendUint32(rec, uint32(offset)) // WriteSigned has seen that it fits
	dir.Write(append(rec, name...))
}

// endRecords is the end of a zip file, in zip64 form too where the numbers ask
// for it.
func endRecords(count, dirSize, dirAt uint64, comment []byte) (b []byte) {
	le := binary.LittleEndian
	if count >= none16 || dirSize >= none32 || dirAt >= none32 {
		at := dirAt + dirSize
		b = append(b, sigEnd64...)
		b = le.AppendUint64(b, lenEnd64-12)
		b = le.AppendUint16(b, 3<<8|45)
		b = le.AppendUint16(b, 45)
		b = append(b, make([]byte, 8)...) // both disks
		b = le.AppendUint64(b, count)
		b = le.AppendUint64(b, count)
		b = le.AppendUint64(b, dirSize)
		b = le.AppendUint64(b, dirAt)
		b = append(b, sigLocator...)
		b = le.AppendUint32(b, 0)
		b = le.AppendUint64(b, at)
		b = le.AppendUint32(b, 1)
	}
	b = append(b, sigEnd...)
	b = le.AppendUint32(b, 0) // both disks
	b = le.AppendUint16(b, uint16(min(count, math.MaxUint16)))
	b = le.AppendUint16(b, uint16(min(count, math.MaxUint16)))
	b = le.AppendUint32(b, uint32(min(dirSize, math.MaxUint32)))
	b = le.AppendUint32(b, uint32(min(dirAt, math.MaxUint32)))
	b = le.AppendUint16(b, uint16(len(comment)))
	return append(b, comment...)
}
