package countersign

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxName      = 1024 // bytes of a whole path
	maxComponent = 255  // bytes of one part: NAME_MAX everywhere
	maxDepth     = 64   // parts; ordinary trees stay below 30
	maxTarget    = 1024 // bytes of a link's target
	maxLinks     = 8    // links that may lead to links: libz.so → libz.so.1 → libz.so.1.3
)

// quoted makes a name from an archive safe to print and to log.
func quoted(name string) string {
	if len(name) > 200 {
		return strconv.QuoteToASCII(name[:200]) + "…"
	}
	return strconv.QuoteToASCII(name)
}

// name judges e.Name by itself.
func (p *parser) name(e *entry, x extraFields) {
	n := e.Name
	bad := func(code, why string) { p.no.add(code, "the name %s %s", quoted(n), why) }
	if n == "" {
		bad("name", "is empty")
		return
	}
	if len(n) > maxName {
		bad("name-too-long", "is "+strconv.Itoa(len(n))+" bytes long; the limit is "+strconv.Itoa(maxName))
		return
	}
	if !utf8.ValidString(n) {
		bad("name-encoding", "is not UTF-8")
		return
	}
	p.nameEncoding(e, x)
	for _, r := range n {
		switch {
		case r == 0:
			bad("name-control", "holds a NUL")
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			bad("name-control", "holds a control character")
		case unicode.Is(unicode.Bidi_Control, r):
			bad("name-control", "holds a character that turns the direction of writing")
		case r == '\\':
			bad("name-backslash", "holds a backslash, which some systems take for a slash")
		}
	}
	if len(n) >= 2 && n[1] == ':' && (n[0]|0x20 >= 'a' && n[0]|0x20 <= 'z') {
		bad("name-absolute", "begins with a drive letter")
	}
	if n[0] == '/' {
		bad("name-absolute", "is absolute")
		return
	}
	parts := strings.Split(strings.TrimSuffix(n, "/"), "/")
	if len(parts) > maxDepth {
		bad("name-too-long", "is more than "+strconv.Itoa(maxDepth)+" directories deep")
	}
	for _, c := range parts {
		switch {
		case c == "..":
			bad("name-escapes", "leads upwards")
		case c == "." || c == "":
			bad("name", "has an empty part")
		case len(c) > maxComponent:
			bad("name-too-long", "has a part of more than "+strconv.Itoa(maxComponent)+" bytes")
		}
	}
}

// nameEncoding sees to it that a name beyond ASCII has one spelling. The
// format's own default is code page 437, and the flag says UTF-8; Info-ZIP on
// Unix writes UTF-8 and says nothing. Such names are taken at their bytes if
// no other name in the archive is flagged, so that whichever of the two ways a
// reader takes, different names stay different.
func (p *parser) nameEncoding(e *entry, x extraFields) {
	for i := range len(e.Name) {
		if e.Name[i] >= utf8.RuneSelf {
			if e.flags&flagUTF8 != 0 || x.hasUnicode {
				p.hasUTF8 = true
			} else {
				p.hasRaw = true
			}
			return
		}
	}
}

// unicodeName holds the name an extra field gives, in the directory or in the
// local header, against the entry's own. One whose checksum does not match is
// to be ignored (4.6.9), and not every reader does.
func (p *parser) unicodeName(e *entry, x extraFields) {
	u := x.unicode
	if x.hasUnicode && (len(u) < 5 || u[0] != 1 || le32(u[1:]) != nameCRC(e.Name) || string(u[5:]) != e.Name) {
		p.no.add("name-encoding", "the Unicode name beside %s is not the same name", quoted(e.Name))
	}
}

// checkPaths judges the names together: what unpacking would make.
func (p *parser) checkPaths() {
	if p.hasUTF8 && p.hasRaw {
		p.no.add("name-encoding", "some names say that they are UTF-8 and some do not")
	}
	p.paths = make(map[string]int, len(p.entries))
	for i := range p.entries {
		e := &p.entries[i]
		full := strings.TrimSuffix(e.Name, "/")
		if j, ok := p.paths[full]; ok {
			if p.entries[j].Name == e.Name {
				p.no.add("duplicate-name", "%s appears twice", quoted(e.Name))
			} else {
				p.no.add("duplicate-name", "%s is both a file and a directory", quoted(full))
			}
			continue
		}
		p.paths[full] = i
	}
	// Every directory on the way to an entry. What is in made has had its own
	// parents looked at, so each is visited once.
	p.made = make(map[string]fs.FileMode, len(p.entries))
	for i := range p.entries {
		full := strings.TrimSuffix(p.entries[i].Name, "/")
		p.made[full] = p.entries[i].Mode.Type()
		for dir := parent(full); dir != ""; dir = parent(dir) {
			if j, ok := p.paths[dir]; ok {
				if !p.entries[j].Mode.IsDir() {
					p.no.add("below-file", "%s lies below %s, which is not a directory", quoted(p.entries[i].Name), quoted(dir))
				}
				break // an entry of its own; its parents are its turn's business
			}
			if _, ok := p.made[dir]; ok {
				break
			}
			p.made[dir] = fs.ModeDir
			if len(p.made) > p.lim.MaxEntries {
				p.no.add("too-many-entries", "unpacking would make more than %d files and directories", p.lim.MaxEntries)
				return
			}
		}
	}
}

// parent is the directory of a clean relative path, empty at the top.
func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return ""
}

// checkLinks reads the target of every symbolic link and follows it.
func (p *parser) checkLinks() error {
	for i := range p.entries {
		e := &p.entries[i]
		if e.Mode&fs.ModeSymlink == 0 {
			continue
		}
		if e.Size == 0 || e.Size > maxTarget {
			p.no.add("link", "the symbolic link %s has a target of %d bytes; 1 to %d are allowed", quoted(e.Name), e.Size, maxTarget)
			continue
		}
		b, err := p.readAll(i)
		if err != nil {
			if err := p.no.take(err); err != nil {
				return err
			}
			continue
		}
		e.Target = string(b)
	}
	if !p.no.none() {
		return nil
	}
	for i := range p.entries {
		if e := &p.entries[i]; e.Mode&fs.ModeSymlink != 0 {
			p.checkLink(e)
		}
	}
	return nil
}

// checkLink follows one link to something the archive holds. A directory on
// the way must be a directory and not another link; the end of the way may be
// one, as shared libraries are linked.
func (p *parser) checkLink(e *entry) {
	bad := func(why string) {
		p.no.add("link", "the symbolic link %s → %s %s", quoted(e.Name), quoted(e.Target), why)
	}
	at := e
	for range maxLinks {
		t := at.Target
		if !utf8.ValidString(t) || strings.ContainsFunc(t, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }) {
			bad("has a target that is no name")
			return
		}
		if path.IsAbs(t) {
			bad("is absolute")
			return
		}
		here := parent(at.Name)
		for part := range strings.SplitSeq(strings.TrimSuffix(t, "/"), "/") {
			if typ, ok := p.made[here]; here != "" && (!ok || typ != fs.ModeDir) {
				bad("passes through something that is no directory of the archive")
				return
			}
			switch part {
			case "", ".":
			case "..":
				if here == "" {
					bad("leads out of the archive")
					return
				}
				here = parent(here)
			default:
				here = strings.TrimPrefix(here+"/"+part, "/")
			}
		}
		if here == "" {
			return // the archive's own top
		}
		typ, ok := p.made[here]
		switch {
		case !ok:
			bad("leads to nothing in the archive")
			return
		case typ == fs.ModeDir:
			return
		case strings.HasSuffix(t, "/"):
			bad("takes a file for a directory")
			return
		case typ == 0:
			return
		}
		at = &p.entries[p.paths[here]]
	}
	bad("leads from link to link")
}

// looksLikeSignature reports whether a reader that ignores case or versions
// could take name for a signature file.
func looksLikeSignature(name string) bool {
	dir, base := path.Split(name)
	if !strings.EqualFold(dir, signatureDir) {
		return false
	}
	const stem, ext = "aws_signer_signature", ".SF"
	n := len(base)
	return n >= len(stem)+len(ext) && strings.EqualFold(base[:len(stem)], stem) && strings.EqualFold(base[n-len(ext):], ext) ||
		strings.EqualFold(name, SignaturePath)
}
