package inbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

const (
	extPosixRename = "posix-rename@openssh.com" // a rename that overwrites
	extFsync       = "fsync@openssh.com"

	packet    = 32 << 10 // bytes of one write request
	maxFlight = 64       // write requests under way at once
)

// digest identifies the bytes of a file.
type digest struct {
	size int64
	sum  [sha256.Size]byte
}

// Publish writes content to a file of this name in a directory and replaces an older file. A
// reader sees the old file or the whole new one. (If the server cannot rename over a file,
// there is a moment without either.) When Publish returns nil, the file was read back and is
// the same, byte for byte, and it is on the server's disk if the server can sync. If the file
// has these bytes already, nothing is written.
//
// The file is read back under its temporary name, before the rename. A file that is gone after
// a rename that succeeded was collected, and that is success: some servers hand every new file
// on at once and remove it.
//
// After an error, or a crash at any point, call it again: it removes what was left behind
// under the temporary name. Two accounts must not publish the same name at the same time.
// content is read twice from its start. Errors wrap ErrFull, ErrPermission, ErrNoDirectory,
// ErrExists (the name is not a regular file), ErrMismatch and ErrUnreachable among others.
func (a *Account) Publish(ctx context.Context, dir, name string, content io.ReadSeeker) error {
	return a.call(ctx, func(op string) error {
		if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
			return a.failure(op, ErrRefused, errors.New("it is not a file name"))
		}
		return a.publish(op, dir, name, content)
	}, "publish %q in %q", name, dir)
}

// publish is Publish within a call. Its steps stand in the order in which they become durable.
func (a *Account) publish(op, dir, name string, content io.ReadSeeker) error {
	final, part := path.Join(dir, name), path.Join(dir, a.cfg.TemporaryName(name))

	want, err := digestOf(content)
	if err != nil {
		return &local{fmt.Errorf("read content: %w", err)}
	}

	// A publication that crashed after its rename is found complete here.
	there, err := a.holds(op, final, want)
	if err != nil || there {
		return err
	}

	// A crash before the rename leaves the part file, which the next call removes.
	if err := a.remove(op, part); err != nil {
		return err
	}
	if err := a.upload(op, part, want.size, content); err != nil {
		a.abandon(op, part)
		return err
	}
	if err := a.arrived(op, part, want); err != nil {
		a.abandon(op, part)
		return err
	}

	if err := a.replace(op, part, final); err != nil {
		return err
	}

	// From here on, the next call finds the file in place, or writes it again if it was collected.
	there, err = a.holds(op, final, want)
	switch {
	case errors.Is(err, ErrNotExist), errors.Is(err, ErrChanged): // perhaps collected while it was read
	case err != nil:
		return err
	case there:
		return nil
	}
	if _, err := a.lstat(op, final); errors.Is(err, ErrNotExist) {
		return nil
	}
	return a.failure(op, ErrMismatch, nil)
}

// arrived reads back a file that was just written. Its errors wrap ErrFull if bytes are
// missing, and ErrMismatch if they differ.
func (a *Account) arrived(op, part string, want digest) error {
	e, err := a.lstat(op, part)
	if err != nil {
		return err
	}
	if e.Size != want.size {
		return a.failure(op, ErrFull, fmt.Errorf("%d of %d bytes arrived", e.Size, want.size))
	}
	same, err := a.holds(op, part, want)
	if err == nil && !same {
		err = a.failure(op, ErrMismatch, nil)
	}
	return err
}

// holds reports whether the remote file exists with the wanted bytes. A thing that is not a
// regular file is ErrExists.
func (a *Account) holds(op, name string, want digest) (bool, error) {
	e, err := a.lstat(op, name)
	switch {
	case errors.Is(err, ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !e.Regular:
		return false, a.failure(op, ErrExists, fmt.Errorf("%q is not a regular file", name))
	case e.Size != want.size:
		return false, nil
	}
	hash := sha256.New()
	if _, err := a.fetch(op, name, hash); err != nil {
		return false, err
	}
	return [sha256.Size]byte(hash.Sum(nil)) == want.sum, nil
}

// upload writes a new file and syncs it to the server's disk.
func (a *Account) upload(op, part string, size int64, content io.ReadSeeker) (err error) {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return &local{fmt.Errorf("read content: %w", err)}
	}
	f, err := a.create(op, part)
	if err != nil {
		return a.failure(op, missingDir(kind(err)), err)
	}
	flight := int(min(size/packet+1, maxFlight))
	if _, err := f.ReadFromWithConcurrency(&source{content}, flight); err != nil {
		_ = f.Close()
		return a.failure(op, stored(err), err)
	}
	if _, ok := a.sftp.HasExtension(extFsync); ok {
		if err := f.Sync(); err != nil && !unsupported(err) {
			_ = f.Close()
			return a.failure(op, stored(err), err)
		}
	}
	if err := f.Close(); err != nil {
		return a.failure(op, stored(err), err)
	}
	return nil
}

// replace moves the part file to its name, over an older file.
func (a *Account) replace(op, part, final string) error {
	if _, ok := a.sftp.HasExtension(extPosixRename); ok {
		err := a.sftp.PosixRename(part, final)
		if err == nil {
			return nil
		}
		if !unsupported(err) {
			return a.failure(op, kind(err), err)
		}
	}
	// A crash between the two leaves only the part file. The next call writes it again.
	if err := a.remove(op, final); err != nil {
		return err
	}
	if err := a.sftp.Rename(part, final); err != nil {
		return a.failure(op, kind(err), err)
	}
	return nil
}

// abandon removes a part file if the connection still lives. Its own failure is not reported:
// the error that led here is, and the next call removes what is left.
func (a *Account) abandon(op, part string) {
	if a.ended() == nil {
		_ = a.remove(op, part)
	}
}

// source marks the errors of a content reader as the caller's own.
type source struct{ r io.Reader }

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		err = &local{fmt.Errorf("read content: %w", err)}
	}
	return n, err
}

// digestOf returns the digest of all of content.
func digestOf(content io.ReadSeeker) (digest, error) {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return digest{}, err
	}
	hash := sha256.New()
	n, err := io.Copy(hash, content)
	return digest{n, [sha256.Size]byte(hash.Sum(nil))}, err
}
