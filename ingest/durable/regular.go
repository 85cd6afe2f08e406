package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrNotRegular: what was to be opened is a device, a named pipe, a socket or a directory.
var ErrNotRegular = errors.New("not a regular file")

// OpenRegular opens a regular file for reading. Anything else is ErrNotRegular, also a named
// pipe, which os.Open would wait for.
func OpenRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "open", Path: path, Err: fmt.Errorf("it is %s, %w", kindOf(info.Mode()), ErrNotRegular)}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ErrTooLarge: what was to be read is larger than its reader allows.
var ErrTooLarge = errors.New("file too large")

// ReadRegular reads a regular file of at most so many bytes, and returns what Stat says of the
// file that it read. Its errors wrap ErrTooLarge, with what Stat says, and those of OpenRegular.
func ReadRegular(path string, most int64) ([]byte, os.FileInfo, error) {
	f, err := OpenRegular(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(b)) > most {
		return nil, info, &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("it is larger than %d bytes: %w", most, ErrTooLarge)}
	}
	return b, info, nil
}

// kindOf names what a file that is not regular is.
func kindOf(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&os.ModeNamedPipe != 0:
		return "a named pipe"
	case m&os.ModeSocket != 0:
		return "a socket"
	case m&os.ModeDevice != 0:
		return "a device"
	}
	return "something special"
}
