package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	return false, err
}

// claimed tells, after a crash during the claim, whether the rename took place: a file that is in processing/ and not in the
// inbox any more is ours, also if somebody wrote to it since. One that is in both is ours if it is the same.
func (p *remotePlace) claimed(ctx context.Context) (bool, error) {
	e, err := p.remote.Lstat(ctx, p.file.Path)
	if errors.Is(err, inbox.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if p.same(e) {
		return true, nil
	}
	_, err = p.remote.Lstat(ctx, path.Join(p.dirs.Inbox, p.file.Name))
	if errors.Is(err, inbox.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// followCompanions takes the sidecars along into processing/ and removes the marker: left in the inbox, they
// would speak of the next file of this name.
func (p *remotePlace) followCompanions(ctx context.Context) error {
	from := path.Join(p.dirs.Inbox, p.file.Name)
	for _, suffix := range []string{checksumSuffix, controlSuffix} {
		err := p.remote.Rename(ctx, from+suffix, p.file.Path+suffix)
		if err != nil && !errors.Is(err, inbox.ErrNotExist) && !errors.Is(err, inbox.ErrExists) {
			return err
		}
	}
	if p.marker != "" {
		return p.remote.Remove(ctx, from+p.marker)
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
		return 0, err
	}
	n, err := p.remote.Fetch(ctx, p.file.Path, w)
	if err != nil {
		return 0, err
	}
	after, err := p.remote.Lstat(ctx, p.file.Path)
	if err != nil {
		return 0, err
	}
	if n != after.Size || after.Size != before.Size || !after.ModTime.Equal(before.ModTime) {
		return 0, fmt.Errorf("fetch file %q: it changed while it was read: somebody is still writing to it; the next run tries again", p.file.Path)
	}
	p.file.ModTime = after.ModTime
	return n, nil
}

func (p *remotePlace) sidecar(ctx context.Context, suffix string) ([]byte, error) {
	name := p.file.Path + suffix
	e, err := p.remote.Lstat(ctx, name)
	if errors.Is(err, inbox.ErrNotExist) || (err == nil && !e.Regular) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if e.Size > sidecarLimit {
		return nil, fmt.Errorf("read sidecar %q: it has %d bytes, more than %d: it is no sidecar of ours; remove it", name, e.Size, sidecarLimit)
	}
	var b bytes.Buffer
	if _, err := p.remote.Fetch(ctx, name, &b); err != nil {
		return nil, err
	}
	return append([]byte{}, b.Bytes()...), nil // an empty one is there all the same
}

func (p *remotePlace) reported(ctx context.Context, name string) (bool, error) {
	_, err := p.remote.Lstat(ctx, path.Join(p.dirs.Results, name))
	if errors.Is(err, inbox.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (p *remotePlace) publish(ctx context.Context, name string, content io.ReadSeeker) error {
	return p.remote.Publish(ctx, p.dirs.Results, name, content)
}

func (p *remotePlace) withdraw(ctx context.Context, name string) error {
	return p.remote.Remove(ctx, path.Join(p.dirs.Results, name))
}

// shelve keeps the file's name where it can, and gives it its stem's where that name is taken. What rests on the shelf
// is what was processed: a file that vanished or changed since the claim is replaced by the spooled copy.
func (p *remotePlace) shelve(ctx context.Context, spooled func() (io.ReadSeekCloser, error)) (string, error) {
	if shelved(p.file, p.dirs) { // a retry reads the file where it rests
		return p.file.Path, nil
	}
	shelf := shelfFor(p.file, p.dirs)
	named := path.Join(shelf, p.file.Name)
	stemmed := path.Join(shelf, p.file.Stem+path.Ext(p.file.Name))
	e, err := p.remote.Lstat(ctx, p.file.Path)
	switch {
	case errors.Is(err, inbox.ErrNotExist):
		return p.missing(ctx, named, stemmed, spooled)
	case err != nil:
		return "", err
	case !p.same(e):
		if err := p.shelveCopy(ctx, stemmed, spooled); err != nil {
			return "", err
		}
		// The other one is kept, too: somebody may miss it.
		other := path.Join(shelf, p.file.Stem+".changed"+path.Ext(p.file.Name))
		if err := p.remote.Rename(ctx, p.file.Path, other); err != nil {
			return "", err
		}
		return stemmed, p.shelveSidecars(ctx, stemmed)
	}
	for _, to := range []string{named, stemmed} {
		err := p.remote.Rename(ctx, p.file.Path, to)
		if err == nil {
			return to, p.shelveSidecars(ctx, to)
		}
		if !errors.Is(err, inbox.ErrExists) {
			return "", err
		}
	}
	return "", fmt.Errorf("shelve file %q: %q and %q are both taken: move one of them away, then run again", p.file.Path, named, stemmed)
}

// same reports whether a remote file is still the one that was claimed, as far as can be told without reading it.
func (p *remotePlace) same(e inbox.Entry) bool {
	return e.Regular && e.Size == p.file.Size && e.ModTime.Equal(p.file.ModTime)
}

// missing deals with a file that is not in processing/ any more: a crash after the rename left it on the shelf, or
// somebody took it.
func (p *remotePlace) missing(ctx context.Context, named, stemmed string, spooled func() (io.ReadSeekCloser, error)) (string, error) {
	for _, to := range []string{stemmed, named} {
		e, err := p.remote.Lstat(ctx, to)
		if err == nil && p.same(e) {
			return to, p.shelveSidecars(ctx, to)
		}
		if err != nil && !errors.Is(err, inbox.ErrNotExist) {
			return "", err
		}
	}
	if err := p.shelveCopy(ctx, stemmed, spooled); err != nil {
		return "", err
	}
	return stemmed, p.shelveSidecars(ctx, stemmed)
}

// shelveCopy puts the spooled copy on the shelf. Of a file that was refused unread there is none, and nothing to do.
func (p *remotePlace) shelveCopy(ctx context.Context, to string, spooled func() (io.ReadSeekCloser, error)) error {
	content, err := spooled()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("shelve copy of %q: %w", p.file.Path, err)
	}
	defer content.Close()
	return p.remote.Publish(ctx, path.Dir(to), path.Base(to), content)
}

func (p *remotePlace) shelveSidecars(ctx context.Context, shelved string) error {
	for _, suffix := range []string{checksumSuffix, controlSuffix} {
		err := p.remote.Rename(ctx, p.file.Path+suffix, shelved+suffix)
		if errors.Is(err, inbox.ErrExists) {
			err = p.remote.Remove(ctx, p.file.Path+suffix)
		}
		if err != nil && !errors.Is(err, inbox.ErrNotExist) {
			return err
		}
	}
	return nil
}
