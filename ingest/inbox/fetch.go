package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pkg/sftp"
)

// Fetch copies a whole remote file to w and returns its size in bytes. Links are not followed:
// anything but a regular file is ErrNotRegular. A file that changes meanwhile, or has fewer
// bytes than the server announced, is ErrChanged. After an error the bytes in w are of no use.
// An error of w is returned as it is and leaves the account usable.
func (a *Account) Fetch(ctx context.Context, name string, w io.Writer) (int64, error) {
	var n int64
	err := a.call(ctx, func(op string) (err error) {
		n, err = a.fetch(op, name, w)
		return err
	}, "fetch %q", name)
	return n, err
}

// fetch is Fetch within a call.
func (a *Account) fetch(op, name string, w io.Writer) (n int64, err error) {
	before, err := a.lstat(op, name)
	if err != nil {
		return 0, err
	}
	if !before.Regular {
		return 0, a.failure(op, ErrNotRegular, nil)
	}
	f, err := a.sftp.Open(name)
	if err != nil {
		return 0, a.failure(op, kind(err), err)
	}
	defer func() {
		// Closing a file that was read can fail for the connection alone. The next call
		// reports that.
		_ = f.Close()
	}()
	if err := a.unchanged(op, f, before); err != nil {
		return 0, err // replaced since lstat, perhaps by a link
	}
	sink := &sink{w: w, stall: &a.stall, left: before.Size}
	if err := a.copyFrom(f, sink); err != nil {
		if sink.over {
			return sink.n, a.failure(op, ErrChanged, fmt.Errorf("it grew beyond %d bytes", before.Size))
		}
		return sink.n, a.failure(op, kind(err), err)
	}
	if sink.n != before.Size {
		return sink.n, a.failure(op, ErrChanged, fmt.Errorf("%d of %d bytes arrived", sink.n, before.Size))
	}
	return sink.n, a.unchanged(op, f, before)
}

// unchanged compares an open file with its entry from before it was opened.
func (a *Account) unchanged(op string, f *sftp.File, before Entry) error {
	now, byHandle, err := a.stat(op, f)
	if errors.Is(err, ErrNotExist) && !byHandle {
		return a.failure(op, ErrChanged, errors.New("it was removed"))
	}
	if err != nil {
		return err
	}
	if !now.Regular || now.Size != before.Size || !now.ModTime.Equal(before.ModTime) {
		return a.failure(op, ErrChanged, fmt.Errorf("from %d to %d bytes", before.Size, now.Size))
	}
	return nil
}

// errLonger stops a transfer of more bytes than the server announced.
var errLonger = errors.New("more bytes than announced")

// sink passes bytes on to w, up to the announced number, and marks the errors of w as the
// caller's own.
type sink struct {
	w     io.Writer
	stall *stall
	left  int64 // bytes still to come
	n     int64 // bytes passed on
	over  bool
}

func (s *sink) Write(p []byte) (int, error) {
	if int64(len(p)) > s.left {
		s.over = true
		return 0, errLonger
	}
	s.stall.busy.Add(1)
	n, err := s.w.Write(p)
	s.stall.busy.Add(-1)
	s.n += int64(n)
	s.left -= int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return n, &local{err}
	}
	return n, nil
}
