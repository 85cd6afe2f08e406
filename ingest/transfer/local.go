package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"billdrop/ingest/durable"
)

// Local is the place of an imported file: the file stays where it is.
type Local struct {
	Results string // directory of the reports, created where missing
}

var _ Place = Local{}

// Claimed returns false: an imported file is recorded once its copy is in the spool, so no
// claim of one can be cut short.
func (Local) Claimed(context.Context, File) (bool, error) { return false, nil }

// TakeCompanions does nothing: companions stay beside their file.
func (Local) TakeCompanions(context.Context, File) error { return nil }

// Fetch implements Place. It returns ErrNoSource for standard input, and an error that
// wraps fs.ErrNotExist when the file is gone.
func (Local) Fetch(_ context.Context, file File, w io.Writer) (time.Time, error) {
	if file.Path == "" {
		return time.Time{}, ErrNoSource
	}
	f, err := durable.OpenRegular(file.Path)
	if err != nil {
		return time.Time{}, fmt.Errorf("read file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, fmt.Errorf("read file: %w", err)
	}
	_, err = io.Copy(w, f)
	return info.ModTime(), err
}

// Rests returns nothing: an imported file stays where it is.
func (Local) Rests(File) []string { return nil }

// Companion implements Place.
func (Local) Companion(_ context.Context, file File, suffix string) ([]byte, error) {
	if file.Path == "" {
		return nil, nil
	}
	b, info, err := durable.ReadRegular(file.Path+suffix, CompanionLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENAMETOOLONG): // where no such name can be, no such file is
		return nil, nil
	case errors.Is(err, durable.ErrNotRegular):
		return nil, fmt.Errorf("%w: %w", err, ErrUnusableCompanion)
	case errors.Is(err, durable.ErrTooLarge):
		return nil, tooLarge(info.Size())
	case err != nil:
		return nil, fmt.Errorf("read companion: %w", err)
	}
	return b, nil
}

// Reported implements Place.
func (l Local) Reported(_ context.Context, name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(l.Results, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for report: %w", err)
	}
	return true, nil
}

// Digest implements Place.
func (l Local) Digest(_ context.Context, name string) (string, error) {
	name = filepath.Join(l.Results, name)
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look for report: %w", err)
	case !info.Mode().IsRegular():
		return notRegular, nil
	}
	f, err := durable.OpenRegular(name)
	if err != nil {
		return "", fmt.Errorf("read report: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read report: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Publish implements Place.
func (l Local) Publish(_ context.Context, name string, content io.ReadSeeker) error {
	if err := durable.Publish(l.Results, name, content); err != nil {
		return fmt.Errorf("publish report %s: %w", filepath.Join(l.Results, name), err)
	}
	return nil
}

// Withdraw implements Place.
func (l Local) Withdraw(_ context.Context, name string) error {
	err := os.Remove(filepath.Join(l.Results, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("withdraw report: %w", err)
	}
	return nil
}

// Changed returns false: an imported file is its user's, who may go on with it.
func (Local) Changed(context.Context, File, string) bool { return false }

// Archive returns the file's path: an imported file stays where it is.
func (Local) Archive(_ context.Context, f File, _ func() (io.ReadSeekCloser, error)) (string, error) {
	return f.Path, nil
}
