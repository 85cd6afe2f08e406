package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"billdrop/ingest/ledger"
)

// localPlace is the place of an imported file: the file stays where it is, the reports go to file.Results.
type localPlace struct{ file *ledger.File }

var errNoSource = errors.New("the imported file is not kept anywhere but in the spool")

func (p *localPlace) fetch(_ context.Context, w io.Writer) (int64, error) {
	if p.file.Path == "" {
		return 0, errNoSource
	}
	f, err := os.Open(p.file.Path)
	if err != nil {
		return 0, fmt.Errorf("read file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("read file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("read file %s: it is no regular file", p.file.Path)
	}
	return io.Copy(w, f)
}

func (p *localPlace) sidecar(_ context.Context, suffix string) ([]byte, error) {
	if p.file.Path == "" {
		return nil, nil
	}
	f, err := os.Open(p.file.Path + suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read sidecar: %w", err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, sidecarLimit))
}

func (p *localPlace) reported(_ context.Context, name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(p.file.Results, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for report: %w", err)
	}
	return true, nil
}

func (p *localPlace) publish(_ context.Context, name string, content io.ReadSeeker) error {
	if err := PublishLocal(p.file.Results, name, content); err != nil {
		return fmt.Errorf("publish report %s: %w", filepath.Join(p.file.Results, name), err)
	}
	return nil
}

func (p *localPlace) withdraw(_ context.Context, name string) error {
	err := os.Remove(filepath.Join(p.file.Results, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("withdraw report: %w", err)
	}
	return nil
}

func (p *localPlace) shelve(context.Context, func() (io.ReadSeekCloser, error)) (string, error) {
	return p.file.Path, nil
}

// PublishLocal puts a report into a directory of this machine, which is created where missing: written under a temporary
// name, synced, renamed, read back and compared. The file is readable by its owner alone. Repeating it
// after a crash completes it.
func PublishLocal(dir, name string, content io.ReadSeeker) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	final := filepath.Join(dir, name)
	temporary := filepath.Join(dir, "."+name+".part")
	want, err := writeSynced(temporary, content)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, final); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	f, err := os.Open(final)
	if err != nil {
		return err
	}
	defer f.Close()
	got := sha256.New()
	if _, err := io.Copy(got, f); err != nil {
		return err
	}
	if !bytes.Equal(got.Sum(nil), want) {
		return errors.New("what was read back differs from what was written: check the disk")
	}
	return nil
}

// writeSynced writes content from its beginning to path, durably, and returns its SHA-256.
func writeSynced(path string, content io.ReadSeeker) ([]byte, error) {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, sum), content)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(path)
		return nil, err
	}
	return sum.Sum(nil), nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
