package diagnose

import (
	"errors"
	"fmt"
	"os"

	"github.com/dustin/go-humanize"
)

// minSpace is the free space, in bytes, below which a run is likely to stop.
const minSpace = 64 << 20

// spool checks the directory of local copies.
func (e *examiner) spool(dir string) {
	const check = "spool"
	status := OK
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist) && e.Fix:
		if err := os.MkdirAll(dir, 0o700); err != nil {
			e.fail(check, "make the directory: "+err.Error(), "make it by hand, writable for billdrop's user, or name another in spool_dir")
			return
		}
		status = Fixed
	case errors.Is(err, os.ErrNotExist):
		e.fail(check, "there is no directory "+dir, "make it: billdrop check --fix")
		return
	case err != nil:
		e.fail(check, err.Error(), "let billdrop's user read it")
		return
	case !info.IsDir():
		e.fail(check, dir+" is not a directory", "name another in spool_dir")
		return
	}
	if err := tryFile(dir); err != nil {
		e.fail(check, err.Error(), "give billdrop's user the right to write in "+dir)
		return
	}
	free, known := freeSpace(dir)
	switch {
	case known && free < minSpace:
		e.fail(check, fmt.Sprintf("%s has only %s free", dir, humanize.IBytes(free)), "make room on its disk")
	case known:
		e.report(check, status, "%s, writable, %s free", dir, humanize.IBytes(free))
	default:
		e.report(check, status, "%s, writable", dir)
	}
}

// tryFile makes a file in a directory and removes it.
func tryFile(dir string) error {
	f, err := os.CreateTemp(dir, ".billdrop-check-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(probeText)
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}
