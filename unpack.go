package countersign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// Unpack writes the archive's files, directories and links into dir, which
// must exist and be empty. Permission bits and times are kept; what is only a
// directory in the names of entries gets 0755. Nothing is written outside dir
// even if somebody else changes it meanwhile: all goes through an [os.Root].
//
// Sizes and checksums are proved as the bytes pass; whether the archive is the
// one that was admitted is the caller's to know, by its [Digest]. Unpack does
// not wait for the disk. After an error dir holds a part, which the caller
// removes; a *[Refusal] is an archive whose bodies belie its directory.
func (a *Archive) Unpack(ctx context.Context, dir string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer root.Close()
	if err := emptyDir(root); err != nil {
		return fmt.Errorf("unpack into %s: %w", dir, err)
	}
	buf := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(buf)
	made := map[string]bool{"": true}
	for i := range a.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := &a.entries[i]
		name := strings.TrimSuffix(e.Name, "/")
		if err := makeDirs(root, made, parent(name)); err != nil {
			return fmt.Errorf("unpack %s: %w", quoted(e.Name), err)
		}
		switch e.Mode.Type() {
		case fs.ModeDir:
			err = makeDirs(root, made, name)
			if err == nil {
				err = a.unpackFile(ctx, io.Discard, i, buf[:]) // an empty body is proved too
			}
		case fs.ModeSymlink:
			err = root.Symlink(e.Target, name)
		default:
			err = a.unpackRegular(ctx, root, i, buf[:])
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", quoted(e.Name), err)
		}
	}
	return a.finishDirs(root)
}

func emptyDir(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(1)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("the directory is not empty: it holds %s", quoted(names[0]))
}

// makeDirs makes a directory and its parents, all 0700 | 0755 until
// finishDirs gives them their own modes.
func makeDirs(root *os.Root, made map[string]bool, dir string) error {
	if made[dir] {
		return nil
	}
	if err := makeDirs(root, made, parent(dir)); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	made[dir] = true
	// Mkdir's mode passes through the process's umask; this one does not.
	return root.Chmod(dir, 0o755)
}

func (a *Archive) unpackRegular(ctx context.Context, root *os.Root, i int, buf []byte) error {
	e := &a.entries[i]
	f, err := root.OpenFile(e.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = a.unpackFile(ctx, f, i, buf)
	if err == nil {
		err = f.Chmod(e.Mode.Perm())
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = root.Chtimes(e.Name, time.Time{}, e.Modified)
	}
	return err
}

func (a *Archive) unpackFile(ctx context.Context, w io.Writer, i int, buf []byte) error {
	r := a.open(i)
	defer r.Close()
	for {
		n, err := fill(r, buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// finishDirs gives directories their modes, the deepest first, because one
// without write permission could not be filled.
func (a *Archive) finishDirs(root *os.Root) error {
	var dirs []*entry
	for i := range a.entries {
		if a.entries[i].Mode.IsDir() {
			dirs = append(dirs, &a.entries[i])
		}
	}
	slices.SortStableFunc(dirs, func(x, y *entry) int {
		return strings.Count(y.Name, "/") - strings.Count(x.Name, "/")
	})
	for _, e := range dirs {
		name := path.Clean(e.Name)
		if err := root.Chmod(name, e.Mode.Perm()); err != nil {
			return fmt.Errorf("set the mode of %s: %w", quoted(e.Name), err)
		}
	}
	return nil
}
