package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
)

// remotePlace is the place of a file that was claimed from an SFTP inbox.
type remotePlace struct {
	remote Remote
	dirs   Dirs
	marker string
	file   *ledger.File
}

// claim renames the file from the inbox into processing/: the rename decides between workers. The intent is in the
// ledger already, so a crash on either side of the rename is found by looking where the file is.
// It returns false when the file is not ours.
func (p *remotePlace) claim(ctx context.Context) (bool, error) {
	from := path.Join(p.dirs.Inbox, p.file.Name)
	err := p.remote.Rename(ctx, from, p.file.Path)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, inbox.ErrNotExist), errors.Is(err, inbox.ErrExists):
		return false, nil
	}
	return false, fmt.Errorf("claim file %q: %w", p.file.Name, err)
}

// claimed tells, after a crash during the claim, whether the rename took place.
func (p *remotePlace) claimed(ctx context.Context) (bool, error) {
	e, err := p.remote.Lstat(ctx, p.file.Path)
	if errors.Is(err, inbox.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for claimed file %q: %w", p.file.Name, err)
	}
	return e.Size == p.file.Size && e.ModTime.Equal(p.file.ModTime), nil
}

// followCompanions takes the sidecars along into processing/ and removes the marker: left in the inbox, they
// would speak of the next file of this name.
func (p *remotePlace) followCompanions(ctx context.Context) error {
	from := path.Join(p.dirs.Inbox, p.file.Name)
	for _, suffix := range []string{checksumSuffix, controlSuffix} {
		err := p.remote.Rename(ctx, from+suffix, p.file.Path+suffix)
		if err != nil && !errors.Is(err, inbox.ErrNotExist) && !errors.Is(err, inbox.ErrExists) {
			return fmt.Errorf("claim sidecar %q: %w", p.file.Name+suffix, err)
		}
	}
	if p.marker != "" {
		if err := p.remote.Remove(ctx, from+p.marker); err != nil {
			return fmt.Errorf("remove marker %q: %w", p.file.Name+p.marker, err)
		}
	}
	return nil
}

func (p *remotePlace) fetch(ctx context.Context, w io.Writer) (int64, error) {
	if p.file.State == ledger.Claimed {
		if err := p.followCompanions(ctx); err != nil {
			return 0, err
		}
	}
	before, err := p.remote.Lstat(ctx, p.file.Path)
	if err != nil {
		return 0, fmt.Errorf("fetch file %q: %w", p.file.Path, err)
	}
	n, err := p.remote.Fetch(ctx, p.file.Path, w)
	if err != nil {
		return 0, fmt.Errorf("fetch file %q: %w", p.file.Path, err)
	}
	after, err := p.remote.Lstat(ctx, p.file.Path)
	if err != nil {
		return 0, fmt.Errorf("fetch file %q: %w", p.file.Path, err)
	}
	if n != after.Size || after.Size != before.Size || !after.ModTime.Equal(before.ModTime) {
		return 0, fmt.Errorf("fetch file %q: it changed while it was read: somebody is still writing to it; the next run tries again", p.file.Path)
	}
	return n, nil
}

func (p *remotePlace) sidecar(ctx context.Context, suffix string) ([]byte, error) {
	name := p.file.Path + suffix
	e, err := p.remote.Lstat(ctx, name)
	if errors.Is(err, inbox.ErrNotExist) || (err == nil && !e.Regular) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read sidecar %q: %w", name, err)
	}
	if e.Size > sidecarLimit {
		return nil, fmt.Errorf("read sidecar %q: it has %d bytes, more than %d: it is no sidecar of ours; remove it", name, e.Size, sidecarLimit)
	}
	var b bytes.Buffer
	if _, err := p.remote.Fetch(ctx, name, &b); err != nil {
		return nil, fmt.Errorf("read sidecar %q: %w", name, err)
	}
	return b.Bytes(), nil
}

func (p *remotePlace) reported(ctx context.Context, name string) (bool, error) {
	_, err := p.remote.Lstat(ctx, path.Join(p.dirs.Results, name))
	if errors.Is(err, inbox.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for report %q: %w", name, err)
	}
	return true, nil
}

func (p *remotePlace) publish(ctx context.Context, name string, content io.ReadSeeker) error {
	if err := p.remote.Publish(ctx, p.dirs.Results, name, content); err != nil {
		return fmt.Errorf("publish report %q: %w", name, err)
	}
	return nil
}

func (p *remotePlace) withdraw(ctx context.Context, name string) error {
	if err := p.remote.Remove(ctx, path.Join(p.dirs.Results, name)); err != nil {
		return fmt.Errorf("withdraw report %q: %w", name, err)
	}
	return nil
}

// shelve keeps the file's name where it can, and gives it its stem's where that name is taken.
func (p *remotePlace) shelve(ctx context.Context, spooled func() (io.ReadSeekCloser, error)) (string, error) {
	shelf := shelfFor(p.file, p.dirs)
	if shelved(p.file, p.dirs) { // a retry reads the file where it rests
		return p.file.Path, nil
	}
	named := path.Join(shelf, p.file.Name)
	stemmed := path.Join(shelf, p.file.Stem+path.Ext(p.file.Name))
	for _, to := range []string{named, stemmed} {
		switch err := p.remote.Rename(ctx, p.file.Path, to); {
		case err == nil:
			return to, p.shelveSidecars(ctx, to)
		case errors.Is(err, inbox.ErrExists):
			continue
		case errors.Is(err, inbox.ErrNotExist):
			return p.missing(ctx, named, stemmed, spooled)
		default:
			return "", fmt.Errorf("shelve file %q: %w", p.file.Path, err)
		}
	}
	if _, err := p.remote.Lstat(ctx, p.file.Path); errors.Is(err, inbox.ErrNotExist) {
		return p.missing(ctx, named, stemmed, spooled)
	}
	return "", fmt.Errorf("shelve file %q: %q and %q are both taken: move one of them away", p.file.Path, named, stemmed)
}

// missing deals with a file that is not in processing/ any more: a crash after the rename left it on the shelf, or
// somebody took it. Then the copy that was processed takes its place.
func (p *remotePlace) missing(ctx context.Context, named, stemmed string, spooled func() (io.ReadSeekCloser, error)) (string, error) {
	for _, to := range []string{stemmed, named} {
		e, err := p.remote.Lstat(ctx, to)
		if err == nil && e.Size == p.file.Size && e.ModTime.Equal(p.file.ModTime) {
			return to, p.shelveSidecars(ctx, to)
		}
		if err != nil && !errors.Is(err, inbox.ErrNotExist) {
			return "", fmt.Errorf("shelve file %q: %w", p.file.Path, err)
		}
	}
	content, err := spooled()
	if err != nil {
		return "", nil // refused unread: there never was a copy, and there is nothing left to shelve
	}
	defer content.Close()
	if err := p.remote.Publish(ctx, path.Dir(stemmed), path.Base(stemmed), content); err != nil {
		return "", fmt.Errorf("shelve copy of vanished file %q: %w", p.file.Path, err)
	}
	return stemmed, p.shelveSidecars(ctx, stemmed)
}

func (p *remotePlace) shelveSidecars(ctx context.Context, shelved string) error {
	for _, suffix := range []string{checksumSuffix, controlSuffix} {
		err := p.remote.Rename(ctx, p.file.Path+suffix, shelved+suffix)
		if errors.Is(err, inbox.ErrExists) {
			err = p.remote.Remove(ctx, p.file.Path+suffix)
		}
		if err != nil && !errors.Is(err, inbox.ErrNotExist) {
			return fmt.Errorf("shelve sidecar %q: %w", p.file.Path+suffix, err)
		}
	}
	return nil
}
