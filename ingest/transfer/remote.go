package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"billdrop/ingest/inbox"
)

// Remote is one logged-in SFTP account. *inbox.Account is one; its documentation is the
// contract.
type Remote interface {
	List(ctx context.Context, dir string) ([]inbox.Entry, error)
	Lstat(ctx context.Context, path string) (inbox.Entry, error)
	Rename(ctx context.Context, from, to string) error
	Fetch(ctx context.Context, path string, w io.Writer) (int64, error)
	Publish(ctx context.Context, dir, name string, content io.ReadSeeker) error
	Remove(ctx context.Context, path string) error
	Close() error
}

// Dirs are a feed's remote directories.
type Dirs struct{ Inbox, Processing, Archive, Rejected, Results string }

// All are the directories, the inbox first.
func (d Dirs) All() []string {
	return []string{d.Inbox, d.Processing, d.Archive, d.Rejected, d.Results}
}

// final is the directory in which a finished file rests.
func (d Dirs) final(f File) string {
	if f.Rejected {
		return d.Rejected
	}
	return d.Archive
}

// Server is the place of the files of one feed that are claimed from an SFTP inbox.
type Server struct {
	Remote Remote
	Dirs   Dirs
	Marker string // suffix of the marker files; "" = none
}

var _ Place = (*Server)(nil)

// Claim moves the file from the inbox to its path in processing/. The rename decides
// between workers: false means that another one was faster. The intent must be in the
// ledger before, so that Claimed can be asked after a crash on either side of the rename.
func (s *Server) Claim(ctx context.Context, f File) (bool, error) {
	err := s.Remote.Rename(ctx, path.Join(s.Dirs.Inbox, f.Name), f.Path)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, inbox.ErrNotExist), errors.Is(err, inbox.ErrExists):
		return false, nil
	}
	return false, err
}

// ClaimUnchanged is Claim of a file that is still as it was when it was found to be complete. It
// leaves any other file where it is.
func (s *Server) ClaimUnchanged(ctx context.Context, f File) (bool, error) {
	e, err := s.Remote.Lstat(ctx, path.Join(s.Dirs.Inbox, f.Name))
	switch {
	case errors.Is(err, inbox.ErrNotExist), err == nil && !same(f, e):
		return false, nil
	case err != nil:
		return false, err
	}
	return s.Claim(ctx, f)
}

// Claimed implements Place. A file that is in processing/ and not in the inbox any more was
// claimed, even if it has changed since. If both directories hold one, it was claimed if
// the one in processing/ is still the same.
func (s *Server) Claimed(ctx context.Context, f File) (bool, error) {
	e, err := s.Remote.Lstat(ctx, f.Path)
	if errors.Is(err, inbox.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if same(f, e) {
		return true, nil
	}
	_, err = s.Remote.Lstat(ctx, path.Join(s.Dirs.Inbox, f.Name))
	if errors.Is(err, inbox.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// TakeCompanions implements Place. Left in the inbox, they would be taken for those of the
// next file of this name.
func (s *Server) TakeCompanions(ctx context.Context, f File) error {
	from := path.Join(s.Dirs.Inbox, f.Name)
	for _, suffix := range CompanionSuffixes {
		err := s.Remote.Rename(ctx, from+suffix, f.Path+suffix)
		if err != nil && !errors.Is(err, inbox.ErrNotExist) && !errors.Is(err, inbox.ErrExists) {
			return err
		}
	}
	if s.Marker != "" {
		return s.Remote.Remove(ctx, from+s.Marker)
	}
	return nil
}

// Fetch implements Place. A file that changes while it is read is an error.
// inbox.ErrNotExist when the file is gone.
func (s *Server) Fetch(ctx context.Context, f File, w io.Writer) (time.Time, error) {
	before, err := s.Remote.Lstat(ctx, f.Path)
	if err != nil {
		return time.Time{}, err
	}
	n, err := s.Remote.Fetch(ctx, f.Path, w)
	if err != nil {
		return time.Time{}, err
	}
	after, err := s.Remote.Lstat(ctx, f.Path)
	if err != nil {
		return time.Time{}, err
	}
	if n != after.Size || after.Size != before.Size || !after.ModTime.Equal(before.ModTime) {
		return time.Time{}, &Error{
			Err:  fmt.Errorf("fetch file %q: it changed while it was read", f.Path),
			Hint: "a program is still writing to it; the next run tries again",
		}
	}
	return after.ModTime, nil
}

// Changed implements Place. It reads the file only if its time alone tells that it was written to.
func (s *Server) Changed(ctx context.Context, f File, sum string) bool {
	e, err := s.Remote.Lstat(ctx, f.Path)
	if err != nil || same(f, e) {
		return false
	}
	if !e.Regular || e.Size != f.Size {
		return true
	}
	var writing *Error
	hash := sha256.New()
	_, err = s.Fetch(ctx, f, hash)
	return err == nil && hex.EncodeToString(hash.Sum(nil)) != sum || errors.Is(err, inbox.ErrChanged) || errors.As(err, &writing)
}

// Rests implements Place.
func (s *Server) Rests(f File) []string {
	var paths []string
	for _, dir := range []string{s.Dirs.Archive, s.Dirs.Rejected} {
		named, stemmed := s.final(dir, f)
		paths = append(paths, named, stemmed)
	}
	return paths
}

// final returns the names that a finished file may take in a directory.
func (s *Server) final(dir string, f File) (named, stemmed string) {
	return path.Join(dir, f.Name), path.Join(dir, f.Stem+path.Ext(f.Name))
}

// Companion implements Place.
func (s *Server) Companion(ctx context.Context, f File, suffix string) ([]byte, error) {
	name := f.Path + suffix
	e, err := s.Remote.Lstat(ctx, name)
	if errors.Is(err, inbox.ErrNotExist) || (err == nil && !e.Regular) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if e.Size > CompanionLimit {
		return nil, tooLarge(e.Size)
	}
	var b bytes.Buffer
	if _, err := s.Remote.Fetch(ctx, name, &b); err != nil {
		return nil, err
	}
	return append([]byte{}, b.Bytes()...), nil // not nil, even if it is empty
}

// Reported implements Place.
func (s *Server) Reported(ctx context.Context, name string) (bool, error) {
	_, err := s.Remote.Lstat(ctx, path.Join(s.Dirs.Results, name))
	if errors.Is(err, inbox.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Digest implements Place.
func (s *Server) Digest(ctx context.Context, name string) (string, error) {
	name = path.Join(s.Dirs.Results, name)
	sum := sha256.New()
	_, err := s.Remote.Fetch(ctx, name, sum)
	switch {
	case errors.Is(err, inbox.ErrNotExist):
		return "", nil
	case errors.Is(err, inbox.ErrNotRegular):
		return notRegular, nil
	case err != nil:
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Publish implements Place.
func (s *Server) Publish(ctx context.Context, name string, content io.ReadSeeker) error {
	return s.Remote.Publish(ctx, s.Dirs.Results, name, content)
}

// Withdraw implements Place.
func (s *Server) Withdraw(ctx context.Context, name string) error {
	return s.Remote.Remove(ctx, path.Join(s.Dirs.Results, name))
}

// Archive implements Place. The file keeps its name where that is free, and else takes that
// of its stem. What rests there is what was processed: the spooled copy replaces a file
// that vanished or changed after the claim.
func (s *Server) Archive(ctx context.Context, f File, spooled func() (io.ReadSeekCloser, error)) (string, error) {
	dir := s.Dirs.final(f)
	if path.Dir(f.Path) == dir { // a retry reads the file where it rests
		return f.Path, nil
	}
	named, stemmed := s.final(dir, f)
	e, err := s.Remote.Lstat(ctx, f.Path)
	switch {
	case errors.Is(err, inbox.ErrNotExist):
		return s.archiveMissing(ctx, f, named, stemmed, spooled)
	case err != nil:
		return "", err
	case !same(f, e):
		if err := s.archiveCopy(ctx, f, stemmed, spooled); err != nil {
			return "", err
		}
		// The changed file is kept as well, because its sender may miss it.
		other := path.Join(dir, f.Stem+".changed"+path.Ext(f.Name))
		if err := s.Remote.Rename(ctx, f.Path, other); err != nil {
			return "", err
		}
		return stemmed, s.archiveCompanions(ctx, f, stemmed)
	}
	for _, to := range []string{named, stemmed} {
		err := s.Remote.Rename(ctx, f.Path, to)
		if err == nil {
			return to, s.archiveCompanions(ctx, f, to)
		}
		if !errors.Is(err, inbox.ErrExists) {
			return "", err
		}
	}
	return "", &Error{
		Err:  fmt.Errorf("archive file %q: %q and %q are both taken", f.Path, named, stemmed),
		Hint: "move one of the two away, then run again",
	}
}

// archiveMissing archives a file that is not in processing/ any more: a crash after the
// rename left it in its final directory, or another program removed it.
func (s *Server) archiveMissing(ctx context.Context, f File, named, stemmed string, spooled func() (io.ReadSeekCloser, error)) (string, error) {
	for _, to := range []string{stemmed, named} {
		e, err := s.Remote.Lstat(ctx, to)
		if err == nil && same(f, e) {
			return to, s.archiveCompanions(ctx, f, to)
		}
		if err != nil && !errors.Is(err, inbox.ErrNotExist) {
			return "", err
		}
	}
	if err := s.archiveCopy(ctx, f, stemmed, spooled); err != nil {
		return "", err
	}
	return stemmed, s.archiveCompanions(ctx, f, stemmed)
}

// archiveCopy publishes the spooled copy under a path. A file that was refused unread has
// none.
func (s *Server) archiveCopy(ctx context.Context, f File, to string, spooled func() (io.ReadSeekCloser, error)) error {
	content, err := spooled()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("archive copy of %q: %w", f.Path, err)
	}
	defer content.Close()
	return s.Remote.Publish(ctx, path.Dir(to), path.Base(to), content)
}

// archiveCompanions moves the companions beside their archived file.
func (s *Server) archiveCompanions(ctx context.Context, f File, archived string) error {
	for _, suffix := range CompanionSuffixes {
		err := s.Remote.Rename(ctx, f.Path+suffix, archived+suffix)
		if errors.Is(err, inbox.ErrExists) {
			err = s.Remote.Remove(ctx, f.Path+suffix)
		}
		if err != nil && !errors.Is(err, inbox.ErrNotExist) {
			return err
		}
	}
	return nil
}

// same reports whether a remote file still is the one that was copied, by size and time.
func same(f File, e inbox.Entry) bool {
	return e.Regular && e.Size == f.Size && e.ModTime.Equal(f.ModTime)
}
