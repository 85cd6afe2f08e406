package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"billdrop/ingest/durable"
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
	if err := durable.Publish(p.file.Results, name, content); err != nil {
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
