package countersign

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func stored(name, body string) rawEntry { return rawEntry{name: name, body: body} }

func rawOf(e ...rawEntry) rawZip { return rawZip{entries: e} }

func link(name, target string) rawEntry {
	return rawEntry{name: name, body: target, attr: new(uint32(0o120777 << 16))}
}

func mode(name, body string, m uint32) rawEntry {
	return rawEntry{name: name, body: body, attr: new(m << 16)}
}

// field is one extra field.
func field(id uint16, data ...byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, id)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

func u64s(v ...uint64) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}

// descriptor is a data descriptor for body packed into n bytes.
func descriptor(signature bool, crc uint32, packed, size uint32) (b []byte) {
	if signature {
		b = []byte(sigDescriptor)
	}
	for _, v := range []uint32{crc, packed, size} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// withZip64End puts a zip64 end record and its locator before the end record,
// the way change says.
func withZip64End(z rawZip, sentinels bool, change func(rec, loc []byte)) []byte {
	b := z.bytes()
	at := len(b) - lenEnd - len(z.comment)
	end := bytes.Clone(b[at:])
	n, size, dirAt := uint64(le16(end[10:])), uint64(le32(end[12:])), uint64(le32(end[16:]))
	rec := []byte(sigEnd64)
	rec = append(rec, u64s(44)...)
	rec = append(rec, 45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	rec = append(rec, u64s(n, n, size, dirAt)...)
	loc := []byte(sigLocator)
	loc = append(loc, 0, 0, 0, 0)
	loc = append(loc, u64s(uint64(at))...)
	loc = append(loc, 1, 0, 0, 0)
	if sentinels {
		copy(end[8:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
	}
	if change != nil {
		change(rec, loc)
	}
	return slices.Concat(b[:at], rec, loc, end)
}

// hostile is the corpus of archives that have more than one reading, or none
// that is safe. Each is refused, and for its own reason.
func hostile() map[string]struct {
	zip  []byte
	want []string
} {
	type c = struct {
		zip  []byte
		want []string
	}
	one := func(z rawZip, want ...string) c { return c{z.bytes(), want} }
	good := stored("a.txt", "aaaa")
	goodZip := rawOf(good).bytes()
	streamed := func(d []byte) rawEntry {
		return rawEntry{name: "s", body: "body", flags: flagStreamed, descriptor: d}
	}
	crcBody := nameCRC("body")
	renamed := good
	renamed.localName = "b.txt"
	named := func(n string) rawZip { return rawOf(stored(n, "x")) }
	m := map[string]c{
		"nothing":                     {nil, []string{"empty"}},
		"no entries":                  one(rawZip{}, "empty"),
		"not a zip":                   {[]byte("#!/bin/sh\necho this is no zip file\n"), []string{"not-zip"}},
		"cut off":                     {goodZip[:len(goodZip)-1], []string{"trailing-data"}},
		"only an end record's head":   {[]byte(sigEnd), []string{"trailing-data"}},
		"data in front":               {append([]byte("#!/bin/sh\n"), goodZip...), []string{"directory"}},
		"data in front, adjusted":     one(rawZip{entries: []rawEntry{{name: "a", body: "x", before: []byte("#!/bin/sh\n")}}}, "leading-data"),
		"data behind":                 one(rawZip{entries: []rawEntry{good}, after: []byte("tail")}, "trailing-data"),
		"another zip behind":          {slices.Concat(goodZip, goodZip), []string{"directory"}},
		"data between entries":        one(rawOf(good, rawEntry{name: "b", body: "x", before: []byte("hidden")}), "gap"),
		"an entry nobody lists":       one(rawOf(good, rawEntry{name: "b", body: "x", before: rawOf(stored("c", "y")).bytes()[:32]}), "gap"),
		"data before the directory":   one(rawZip{entries: []rawEntry{good}, afterLast: []byte("hidden")}, "gap"),
		"data behind the directory":   one(rawZip{entries: []rawEntry{good}, afterDir: []byte("hidden")}, "directory"),
		"comment too long":            one(rawZip{entries: []rawEntry{good}, end: func(r []byte) []byte { r[20]++; return r }}, "trailing-data"),
		"end record in the comment":   one(rawZip{entries: []rawEntry{good}, comment: string(rawZip{}.bytes())}, "two-ends"),
		"end signature in comment":    one(rawZip{entries: []rawEntry{good}, comment: "PK\x05\x06 just a joke, but which one is it?"}, "trailing-data"),
		"counts one too few":          one(rawZip{entries: []rawEntry{good, stored("b", "x")}, count: new(uint16(1))}, "directory"),
		"counts one too many":         one(rawZip{entries: []rawEntry{good}, count: new(uint16(2))}, "directory"),
		"several disks":               one(rawZip{entries: []rawEntry{good}, end: func(r []byte) []byte { r[4] = 1; return r }}, "multi-disk"),
		"entry on another disk":       one(rawOf(rawEntry{name: "a", body: "x", disk: 1}), "multi-disk"),
		"bad directory signature":     {bytes.Replace(goodZip, []byte(sigCentral), []byte("PK\x01\x03"), 1), []string{"directory"}},
		"bad local signature":         {bytes.Replace(goodZip, []byte(sigLocal), []byte("PK\x03\x05"), 1), []string{"local-header"}},
		"offset beyond the file":      one(rawOf(rawEntry{name: "a", body: "x", offset: new(uint32(1 << 30))}), "overlap", "local-header"),
		"offset into the directory":   one(rawOf(rawEntry{name: "a", body: "x", offset: new(uint32(40))}), "local-header"),
		"two records, one body":       one(rawOf(good, rawEntry{name: "b.txt", body: "aaaa", noLocal: true, offset: new(uint32(0))}), "local-header", "overlap"),
		"overlapping bodies":          {overlapping(), []string{"overlap"}},
		"local name differs":          one(rawOf(renamed), "local-header"),
		"local method differs":        one(rawOf(rawEntry{name: "a", body: "x", localMethod: new(uint16(8))}), "local-header"),
		"local flags differ":          one(rawOf(rawEntry{name: "a", body: "x", localFlags: new(uint16(flagUTF8))}), "local-header"),
		"local checksum differs":      one(rawOf(rawEntry{name: "a", body: "x", localCRC: new(uint32(1))}), "local-header"),
		"local size differs":          one(rawOf(rawEntry{name: "a", body: "x", localSize: new(uint32(2))}), "local-header"),
		"local packed size differs":   one(rawOf(rawEntry{name: "a", body: "x", localPacked: new(uint32(0))}), "local-header"),
		"local flags hide encryption": one(rawOf(rawEntry{name: "a", body: "x", localFlags: new(uint16(1))}), "local-header"),
		"encrypted":                   one(rawOf(rawEntry{name: "a", body: "x", flags: 1}), "encrypted"),
		"strong encryption":           one(rawOf(rawEntry{name: "a", body: "x", flags: 1 << 6}), "flags"),
		"patched data":                one(rawOf(rawEntry{name: "a", body: "x", flags: 1 << 5}), "flags"),
		"hidden header":               one(rawOf(rawEntry{name: "a", body: "x", flags: 1 << 13}), "flags"),
		"bzip2":                       one(rawOf(rawEntry{name: "a", body: "x", method: 12}), "method"),
		"zstd":                        one(rawOf(rawEntry{name: "a", body: "x", method: 93}), "method"),
		"stored but smaller":          one(rawOf(rawEntry{name: "a", body: "xy", packedBody: []byte("x")}), "size-mismatch"),
		"ratio no deflate reaches":    one(rawOf(rawEntry{name: "a", body: "x", method: 8, size: new(uint32(1 << 20)), localSize: new(uint32(1 << 20))}), "ratio"),

		"no descriptor":              one(rawOf(streamed(nil)), "descriptor"),
		"descriptor too short":       one(rawOf(streamed(make([]byte, 8))), "descriptor"),
		"descriptor lies":            one(rawOf(streamed(descriptor(true, crcBody, 4, 5))), "descriptor"),
		"descriptor, wrong checksum": one(rawOf(streamed(descriptor(true, 1, 4, 4))), "descriptor"),
		"wide descriptor":            one(rawOf(streamed(slices.Concat([]byte(sigDescriptor), descriptor(false, crcBody, 4, 0), u64s(4)))), "descriptor"),
		"descriptor and a gap":       one(rawOf(streamed(slices.Concat(descriptor(true, crcBody, 4, 4), []byte("gap")))), "descriptor"),
		"descriptor unasked for":     one(rawOf(rawEntry{name: "s", body: "body", descriptor: descriptor(true, crcBody, 4, 4)}), "gap"),

		"name twice":             one(rawOf(good, good), "duplicate-name"),
		"file and directory":     one(rawOf(stored("a", "x"), stored("a/", "")), "duplicate-name"),
		"below a file":           one(rawOf(stored("a", "x"), stored("a/b", "y")), "below-file"),
		"below a file, deep":     one(rawOf(stored("a/b/c/d", "y"), stored("a/b", "x")), "below-file"),
		"below a link":           one(rawOf(stored("d/x", "1"), link("a", "d"), stored("a/b", "y")), "below-file"),
		"no name":                one(named(""), "name"),
		"only a slash":           one(rawOf(stored("/", "")), "name-absolute"),
		"absolute":               one(named("/etc/passwd"), "name-absolute"),
		"drive letter":           one(named("C:/Windows/x"), "name-absolute"),
		"drive letter, relative": one(named("c:x"), "name-absolute"),
		"upwards":                one(named("../x"), "name-escapes"),
		"upwards in the middle":  one(named("a/../../x"), "name-escapes"),
		"upwards at the end":     one(named("a/.."), "name-escapes"),
		"upwards, directory":     one(rawOf(stored("../", "")), "name-escapes"),
		"backslash":              one(named(`a\b`), "name-backslash"),
		"backslash upwards":      one(named(`..\x`), "name-backslash"),
		"NUL":                    one(named("a\x00.py"), "name-control"),
		"newline":                one(named("a\n.py"), "name-control"),
		"escape sequence":        one(named("a\x1b[2J"), "name-control"),
		"DEL":                    one(named("a\x7f"), "name-control"),
		"C1 control":             one(rawOf(rawEntry{name: "a\u0085", body: "x", flags: flagUTF8}), "name-control"),
		"right-to-left override": one(rawOf(rawEntry{name: "a\u202eyp.exe", body: "x", flags: flagUTF8}), "name-control"),
		"dot":                    one(named("./a"), "name"),
		"dot alone":              one(named("."), "name"),
		"double slash":           one(named("a//b"), "name"),
		"two slashes at the end": one(rawOf(stored("a//", "")), "name"),
		"name too long":          one(named(strings.Repeat("a/", 520)+"x"), "name-too-long"),
		"part too long":          one(named(strings.Repeat("a", 256)), "name-too-long"),
		"too deep":               one(named(strings.Repeat("a/", 64)+"x"), "name-too-long"),
		"latin-1":                one(named("na\xefve"), "name-encoding"),
		"latin-1 flagged":        one(rawOf(rawEntry{name: "na\xefve", body: "x", flags: flagUTF8}), "name-encoding"),
		"flagged and unflagged":  one(rawOf(stored("naïve", "x"), rawEntry{name: "über", body: "y", flags: flagUTF8}), "name-encoding"),
		"another Unicode name":   one(rawOf(rawEntry{name: "a", body: "x", dirExtra: unicodeName("a", "b")}), "name-encoding"),
		"stale Unicode name":     one(rawOf(rawEntry{name: "a", body: "x", localExtra: unicodeName("c", "b")}), "name-encoding"),
		"two Unicode names":      one(rawOf(rawEntry{name: "a", body: "x", dirExtra: slices.Concat(unicodeName("a", "a"), unicodeName("a", "a"))}), "name-encoding"),

		"setuid":                  one(rawOf(mode("a", "x", 0o104755)), "mode"),
		"setgid":                  one(rawOf(mode("a", "x", 0o102755)), "mode"),
		"sticky directory":        one(rawOf(mode("a/", "", 0o041777)), "mode"),
		"device":                  one(rawOf(mode("a", "", 0o060644)), "mode"),
		"terminal":                one(rawOf(mode("a", "", 0o020644)), "mode"),
		"fifo":                    one(rawOf(mode("a", "", 0o010644)), "mode"),
		"socket":                  one(rawOf(mode("a", "", 0o140644)), "mode"),
		"directory without slash": one(rawOf(mode("a", "", 0o040755)), "mode"),
		"file with slash":         one(rawOf(mode("a/", "", 0o100644)), "mode"),
		"link with slash":         one(rawOf(mode("a/", "b", 0o120777)), "mode", "directory-body"),
		"DOS directory, no slash": one(rawOf(rawEntry{name: "a", body: "x", attr: new(uint32(0x10)), made: new(uint16(20))}), "mode"),
		"link made on DOS":        one(rawOf(rawEntry{name: "a", body: "b", attr: new(uint32(0o120777 << 16)), made: new(uint16(20))}, stored("b", "x")), "mode"),
		"directory with a body":   one(rawOf(stored("a/", "x")), "directory-body"),

		"link out":              one(rawOf(link("a", "../x")), "link"),
		"link absolute":         one(rawOf(link("a", "/etc/passwd")), "link"),
		"link out and in again": one(rawOf(link("d/a", "../../tmp/x")), "link"),
		"link to nothing":       one(rawOf(link("a", "b")), "link"),
		"link through a link":   one(rawOf(stored("d/x", "1"), link("l", "d"), link("a", "l/x")), "link"),
		"link through nothing":  one(rawOf(stored("x", "1"), link("a", "none/../x")), "link"),
		"link through a file":   one(rawOf(stored("x", "1"), link("a", "x/../x")), "link"),
		"link to a file as dir": one(rawOf(stored("x", "1"), link("a", "x/")), "link"),
		"link to itself":        one(rawOf(link("a", "a")), "link"),
		"links in a circle":     one(rawOf(link("a", "b"), link("b", "a")), "link"),
		"link with NUL":         one(rawOf(stored("x", "1"), link("a", "x\x00y")), "link"),
		"link with backslash":   one(rawOf(link("a", `..\x`)), "link"),
		"link empty":            one(rawOf(link("a", "")), "link"),
		"link endless":          one(rawOf(link("a", strings.Repeat("x", 5000))), "link"),
		"link, wrong checksum":  one(rawOf(stored("x", "1"), rawEntry{name: "a", body: "x", crc: new(uint32(7)), localCRC: new(uint32(7)), attr: new(uint32(0o120777 << 16))}), "crc-mismatch"),

		"extra cut off":          one(rawOf(rawEntry{name: "a", body: "x", dirExtra: []byte{1, 0, 9, 0, 1}}), "extra"),
		"extra, odd byte":        one(rawOf(rawEntry{name: "a", body: "x", localExtra: []byte{0}}), "extra"),
		"second Unix attributes": one(rawOf(rawEntry{name: "a", body: "x", localExtra: field(0x756e, make([]byte, 14)...)}), "extra"),
		"PKWARE Unix link":       one(rawOf(rawEntry{name: "a", body: "x", dirExtra: field(0x000d, make([]byte, 16)...)}), "extra"),

		"zip64 sizes unasked for":    one(rawOf(rawEntry{name: "a", body: "x", dirExtra: field(1, u64s(1, 1)...)}), "zip64"),
		"zip64 field empty":          one(rawOf(rawEntry{name: "a", body: "x", dirExtra: field(1)}), "zip64"),
		"zip64 size missing":         one(rawOf(rawEntry{name: "a", body: "x", size: new(uint32(none32))}), "zip64", "size-mismatch", "local-header", "too-large"),
		"zip64 field too long":       one(rawOf(rawEntry{name: "a", body: "x", size: new(uint32(none32)), dirExtra: field(1, u64s(1, 1)...)}), "zip64"),
		"zip64 twice":                one(rawOf(rawEntry{name: "a", body: "x", size: new(uint32(none32)), dirExtra: slices.Concat(field(1, u64s(1)...), field(1, u64s(2)...))}), "zip64", "size-mismatch", "local-header"),
		"zip64 local only half":      one(rawOf(rawEntry{name: "a", body: "x", localSize: new(uint32(none32)), localExtra: field(1, u64s(1)...)}), "zip64"),
		"zip64 local lies":           one(rawOf(rawEntry{name: "a", body: "x", localSize: new(uint32(none32)), localPacked: new(uint32(none32)), localExtra: field(1, u64s(2, 1)...)}), "local-header"),
		"zip64 local unasked for":    one(rawOf(rawEntry{name: "a", body: "x", localExtra: field(1, u64s(1, 1)...)}), "zip64"),
		"zip64 size overflows":       one(rawOf(rawEntry{name: "a", body: "x", method: 8, size: new(uint32(none32)), dirExtra: field(1, u64s(1<<63)...)}), "overlap", "local-header"),
		"zip64 end contradicts":      {withZip64End(rawOf(good), false, func(rec, _ []byte) { rec[40]++ }), []string{"zip64"}},
		"zip64 end, other directory": {withZip64End(rawOf(good), true, func(rec, _ []byte) { rec[48]++ }), []string{"directory"}},
		"zip64 end with more data":   {withZip64End(rawOf(good), true, func(rec, _ []byte) { rec[4]++ }), []string{"zip64"}},
		"zip64 locator astray":       {withZip64End(rawOf(good), true, func(_, loc []byte) { loc[8]-- }), []string{"zip64"}},
		"zip64 locator, two disks":   {withZip64End(rawOf(good), true, func(_, loc []byte) { loc[16] = 2 }), []string{"zip64"}},
		"zip64 count lies":           {withZip64End(rawOf(good), true, func(rec, _ []byte) { rec[24], rec[32] = 2, 2 }), []string{"directory"}},
		"zip64 disks":                {withZip64End(rawOf(good), false, func(rec, _ []byte) { rec[16] = 1 }), []string{"zip64"}},
		"zip64 record replaced":      {withZip64End(rawOf(good), true, func(rec, _ []byte) { rec[3] = 9 }), []string{"zip64"}},
	}
	return m
}

// unicodeName is an Info-ZIP Unicode path field that belongs to one name and
// says another.
func unicodeName(of, says string) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{1}, nameCRC(of))
	return field(0x7075, append(b, says...)...)
}

// overlapping is the kernel of the zip bombs that do not recurse: the second
// entry's header lies within the first one's body.
func overlapping() []byte {
	inner := rawOf(stored("b", "xxxx")).bytes()[:lenLocal+1+4]
	z := rawOf(stored("a", string(inner)), rawEntry{name: "b", body: "xxxx", noLocal: true, offset: new(uint32(lenLocal + 1))})
	return z.bytes()
}

func TestHostileArchives(t *testing.T) {
	t.Parallel()
	for name, c := range hostile() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := OpenArchive(bytes.NewReader(c.zip), int64(len(c.zip)), Limits{})
			wantCodes(t, err, c.want...)
		})
	}
}

// Bodies are judged as they are read, by everything that reads them.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	deflate := func(body string, packed []byte) rawEntry {
		return rawEntry{name: "a", body: body, method: methodDeflate, packedBody: packed}
	}
	for name, c := range map[string]struct {
		e    rawEntry
		want string
	}{
		"stored, wrong checksum":     {rawEntry{name: "a", body: "x", crc: new(uint32(9)), localCRC: new(uint32(9))}, "crc-mismatch"},
		"deflated, wrong checksum":   {rawEntry{name: "a", body: "x", method: 8, crc: new(uint32(9)), localCRC: new(uint32(9))}, "crc-mismatch"},
		"longer than declared":       {deflate("aaaa", deflated("aaaaa")), "size-mismatch"},
		"much longer than declared":  {deflate(strings.Repeat("a", 2000), deflated(strings.Repeat("a", 1<<20))), "size-mismatch"},
		"shorter than declared":      {deflate("aaaa", deflated("aaa")), "size-mismatch"},
		"data behind the stream":     {deflate("aaaa", append(deflated("aaaa"), 0)), "trailing-data"},
		"a stream behind the stream": {deflate("aaaa", append(deflated("aaaa"), deflated("bbbb")...)), "trailing-data"},
		"cut off":                    {deflate("aaaa", deflated("aaaa")[:3]), "bad-body"},
		"no deflate at all":          {deflate("aaaa", []byte{0xff, 0xff, 0xff}), "bad-body"},
		"nothing where a stream is":  {deflate("", []byte{}), "bad-body"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.e.packedBody != nil && len(c.e.packedBody) == 0 {
				c.e.size, c.e.localSize = new(uint32(0)), new(uint32(0))
			}
			a := open(t, rawOf(c.e, stored("b", "fine")).bytes())
			_, err := a.Digests(t.Context())
			wantCodes(t, err, c.want)
			wantCodes(t, a.Unpack(t.Context(), t.TempDir()), c.want)
			r, err := a.Open(0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			_, err = io.Copy(io.Discard, r)
			wantCodes(t, err, c.want)
			if _, again := r.Read(make([]byte, 1)); again != err {
				t.Errorf("got %v from a second read, want the same refusal", again)
			}
		})
	}
}

// A refusal says everything that is wrong, up to a bound.
func TestEveryReason(t *testing.T) {
	t.Parallel()
	z := rawOf(stored("../a", "x"), rawEntry{name: "b", body: "x", flags: 1}, mode("c", "x", 0o104755), stored("d", "x"), stored("d", "x"))
	_, err := OpenArchive(bytes.NewReader(z.bytes()), int64(len(z.bytes())), Limits{})
	wantCodes(t, err, "name-escapes", "encrypted", "mode", "duplicate-name")

	z = rawZip{}
	for i := range 500 {
		z.entries = append(z.entries, stored(fmt.Sprintf("../%d\n", i), "x"))
	}
	_, err = OpenArchive(bytes.NewReader(z.bytes()), int64(len(z.bytes())), Limits{})
	var no *Refusal
	if !errors.As(err, &no) || len(no.Reasons) != maxReasons+1 {
		t.Fatalf("got %v, want %d reasons and one that says there are more", err, maxReasons)
	}
	if got := no.Reasons[maxReasons]; got.Code != "more" || !strings.Contains(got.Detail, "980") {
		t.Errorf("got last reason %v, want 980 more", got)
	}
	if strings.ContainsAny(no.Error(), "\n\x00") {
		t.Error("a name's control characters reached the text")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	b := zipOf(t, file{name: "a", body: strings.Repeat("a", 1000)}, file{name: "b", body: strings.Repeat("b", 1000)}, file{name: "d/e/f", body: ""})
	for name, c := range map[string]struct {
		lim  Limits
		want string // "" opens
	}{
		"defaults":            {Limits{}, ""},
		"bytes":               {Limits{MaxBytes: int64(len(b)) - 1}, "archive-too-large"},
		"bytes, just":         {Limits{MaxBytes: int64(len(b))}, ""},
		"unpacked":            {Limits{MaxUnpacked: 2000}, "too-large"}, // "must be smaller than"
		"unpacked, just":      {Limits{MaxUnpacked: 2001}, ""},
		"entries":             {Limits{MaxEntries: 2}, "too-many-entries"},
		"implied directories": {Limits{MaxEntries: 4}, "too-many-entries"}, // three entries, and d, d/e
		"implied, just":       {Limits{MaxEntries: 5}, ""},
		"ratio":               {Limits{MaxRatio: 10}, "ratio"},
		"ratio, just":         {Limits{MaxRatio: 200}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := OpenArchive(bytes.NewReader(b), int64(len(b)), c.lim)
			if c.want != "" {
				wantCodes(t, err, c.want)
			} else if err != nil {
				t.Errorf("got %v, want it to open", err)
			}
		})
	}
}

// What real bombs look like: zeros, which deflate as well as anything can.
func TestBomb(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	e, err := w.Create("zeros")
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 250 {
		if _, err := e.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = OpenArchive(bytes.NewReader(b.Bytes()), int64(b.Len()), Limits{})
	wantCodes(t, err, "too-large")
	// An honest size within the limits opens, at whatever ratio deflate does.
	if _, err := OpenArchive(bytes.NewReader(b.Bytes()), int64(b.Len()), Limits{MaxUnpacked: 300 << 20}); err != nil {
		t.Errorf("got %v for 250 MiB of zeros under a limit of 300 MiB", err)
	}
}

func TestZip64AndComment(t *testing.T) {
	t.Parallel()
	good := stored("a.txt", "aaaa")
	wide := rawEntry{name: "a", body: "x", size: new(uint32(none32)), packed: new(uint32(none32)), dirExtra: field(1, u64s(1, 1)...),
		localSize: new(uint32(none32)), localPacked: new(uint32(none32)), localExtra: field(1, u64s(1, 1)...)}
	wideStream := wide
	wideStream.flags, wideStream.localExtra = flagStreamed, field(1, u64s(0, 0)...)
	wideStream.descriptor = slices.Concat([]byte(sigDescriptor), binary.LittleEndian.AppendUint32(nil, nameCRC("x")), u64s(1, 1))
	for name, b := range map[string][]byte{
		"zip64 end where needed":     withZip64End(rawOf(good), true, nil),
		"zip64 end, values agreeing": withZip64End(rawOf(good), false, nil),
		"zip64 sizes":                rawOf(wide).bytes(),
		"zip64 sizes, streamed":      rawOf(wideStream).bytes(),
		"comment":                    rawZip{entries: []rawEntry{good}, comment: "built by hand"}.bytes(),
		"longest comment":            rawZip{entries: []rawEntry{good}, comment: strings.Repeat("c", 65535)}.bytes(),
		"zip within a zip":           rawOf(stored("in.zip", string(rawOf(good).bytes()))).bytes(),
		"descriptor, no signature":   rawOf(rawEntry{name: "s", body: "body", flags: flagStreamed, descriptor: descriptor(false, nameCRC("body"), 4, 4)}).bytes(),
		"names with UTF-8 flag":      rawOf(rawEntry{name: "naïve", body: "x", flags: flagUTF8}).bytes(),
		"names with Unicode field":   rawOf(rawEntry{name: "naïve", body: "x", dirExtra: unicodeName("naïve", "naïve")}).bytes(),
		"entry comment":              rawOf(rawEntry{name: "a", body: "x", comment: "c"}).bytes(),
		"directory order of its own": reordered(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := open(t, b)
			if _, err := a.Digests(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// reordered lists its two entries in the other order than they lie in.
func reordered() []byte {
	a, b := stored("a", "1"), stored("b", "2")
	raw := rawOf(a, b).bytes()
	n := lenCentral + 1
	dir := bytes.Clone(raw[len(raw)-lenEnd-2*n : len(raw)-lenEnd])
	copy(raw[len(raw)-lenEnd-2*n:], slices.Concat(dir[n:], dir[:n]))
	return raw
}

func TestModes(t *testing.T) {
	t.Parallel()
	dos := new(uint16(20))
	a := open(t, rawOf(
		mode("x", "1", 0o100755),
		mode("unset", "1", 0),
		mode("dir/", "", 0o040711),
		rawEntry{name: "dos", body: "1", made: dos, attr: new(uint32(0x20))},
		rawEntry{name: "ro", body: "1", made: dos, attr: new(uint32(0x01))},
		rawEntry{name: "dosdir/", made: dos, attr: new(uint32(0x10))},
		rawEntry{name: "bare/", made: dos, attr: new(uint32(0))},
		link("l", "dir"),
		link("lib.so", "lib.so.1"), link("lib.so.1", "./lib.so.1.2"), stored("lib.so.1.2", "ELF"),
		link("dir/up", "../x"),
	).bytes())
	want := map[string]fs.FileMode{
		"x": 0o755, "unset": 0o644, "dir/": fs.ModeDir | 0o711, "dos": 0o644, "ro": 0o444,
		"dosdir/": fs.ModeDir | 0o755, "bare/": fs.ModeDir | 0o755, "l": fs.ModeSymlink | 0o777,
		"lib.so": fs.ModeSymlink | 0o777, "lib.so.1": fs.ModeSymlink | 0o777, "lib.so.1.2": 0o644, "dir/up": fs.ModeSymlink | 0o777,
	}
	for _, e := range a.Entries() {
		if e.Mode != want[e.Name] {
			t.Errorf("%s: got mode %v, want %v", e.Name, e.Mode, want[e.Name])
		}
		if (e.Mode&fs.ModeSymlink != 0) != (e.Target != "") {
			t.Errorf("%s: got target %q", e.Name, e.Target)
		}
	}
}

// A reader that fails is not an archive that lies.
func TestReadErrors(t *testing.T) {
	t.Parallel()
	b := zipOf(t, file{name: "a", body: strings.Repeat("abc", 5000)}, file{name: "b", body: "x"})
	broken := errors.New("disk on fire")
	for limit := range int64(len(b)) {
		r := failingAt{bytes.NewReader(b), limit, broken}
		a, err := OpenArchive(r, int64(len(b)), Limits{})
		if err == nil {
			_, err = a.Digests(t.Context())
		}
		if !errors.Is(err, broken) {
			t.Fatalf("byte %d unreadable: got %v, want the reader's own error", limit, err)
		}
	}
	// The same where only a leftover byte behind a stream cannot be read.
	packed := append(deflated("aaaa"), 0)
	b = rawOf(rawEntry{name: "a", body: "aaaa", method: methodDeflate, packedBody: packed}).bytes()
	a := open(t, b)
	a.r = failingAt{a.r, a.entries[0].body + int64(len(packed)) - 1, broken}
	if _, err := a.Digests(t.Context()); !errors.Is(err, broken) {
		t.Errorf("leftover unreadable: got %v, want the reader's own error", err)
	}
	if _, err := OpenArchive(bytes.NewReader(b[:10]), int64(len(b)), Limits{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v for a file shorter than its size, want io.ErrUnexpectedEOF", err)
	}
}

// failingAt cannot read the byte at bad.
type failingAt struct {
	io.ReaderAt
	bad int64
	err error
}

func (f failingAt) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.bad && f.bad < off+int64(len(p)) {
		n, _ := f.ReaderAt.ReadAt(p[:f.bad-off], off)
		return n, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestOpenReadsLikeAFile(t *testing.T) {
	t.Parallel()
	body := make([]byte, 200_000)
	rand.New(rand.NewSource(1)).Read(body)
	for _, m := range []uint16{zip.Store, zip.Deflate} {
		a := open(t, zipWith(t, m, time.Now(), file{name: "a", body: string(body)}))
		r, err := a.Open(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, body); err != nil {
			t.Error(err)
		}
		r.Close()
		if _, err := r.Read(make([]byte, 1)); err != io.EOF && err != io.ErrClosedPipe {
			t.Errorf("got %v after Close", err)
		}
		for _, i := range []int{-1, 1} {
			if _, err := a.Open(i); err == nil {
				t.Errorf("got no error for entry %d", i)
			}
		}
	}
}
