// Package durable writes and renames files so that they survive a crash and power loss: under
// its final name a file is whole or absent.
package durable

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Create makes a new file, readable by its owner alone, for reading and writing. A file of
// that name, or a link, is removed first: nothing is ever written through a link that another
// user has put there.
func Create(path string) (*os.File, error) {
	for try := 0; ; try++ {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if !errors.Is(err, fs.ErrExist) || try == createTries {
			return f, err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// createTries bounds how often a name is cleared that another program takes again.
const createTries = 3

// Write creates or replaces the file at path, readable by its owner alone, with what write
// writes, and syncs it. When it fails it removes the file. The name itself is durable only
// after Rename or SyncDir.
func Write(path string, write func(io.Writer) error) error {
	f, err := Create(path)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// SyncFile makes the content of a file durable that something else has written, and returns
// its size in bytes.
func SyncFile(path string) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), f.Sync()
}

// Rename gives a synced file its final name, which replaces a file of that name, and makes the
// name durable.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// Publish puts a file into a directory, which it creates where missing: written from the
// beginning of content under a temporary name, synced, renamed, read back and compared. The
// file is readable by its owner alone. Repeating it after a crash completes it.
func Publish(dir, name string, content io.ReadSeeker) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	final := filepath.Join(dir, name)
	temporary := filepath.Join(dir, "."+name+".part")
	want := sha256.New()
	err := Write(temporary, func(w io.Writer) error {
		if _, err := content.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err := io.Copy(io.MultiWriter(w, want), content)
		return err
	})
	if err != nil {
		return err
	}
	if err := Rename(temporary, final); err != nil {
		return err
	}
	f, err := OpenRegular(final)
	if err != nil {
		return err
	}
	defer f.Close()
	got := sha256.New()
	if _, err := io.Copy(got, f); err != nil {
		return err
	}
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		return errors.New("what was read back differs from what was written: check the disk")
	}
	return nil
}
