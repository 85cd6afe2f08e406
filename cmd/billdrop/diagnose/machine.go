package diagnose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

// minSpace is the free space, in bytes, below which a run is likely to stop.
const minSpace = 64 << 20

// ledger checks that the ledger can be read, if there is one, and its directory written.
func (e *examiner) ledger(ctx context.Context, conf *config.Config) {
	const check = "ledger"
	path := conf.LedgerPath()
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		// Even Fix does not make it, because a disk may not be mounted.
		e.fail(check, fmt.Sprintf("there is no directory %s for it", dir),
			fmt.Sprintf("make it (mkdir -p -m 700 %s), or mount the disk that it is on", config.ShellWord(dir)))
		return
	}
	if err := tryFile(dir); err != nil {
		e.fail(check, err.Error(), "give billdrop's user the right to write in "+dir)
		return
	}
	led, err := sqlite.OpenReadOnly(ctx, path)
	if errors.Is(err, ledger.ErrNotFound) {
		e.report(check, OK, "%s does not exist yet; the first run makes it", path)
		return
	}
	if err != nil {
		e.failed(check, err)
		return
	}
	unfinished, err := led.Files(ctx, ledger.Query{Unfinished: true})
	if err = errors.Join(err, led.Close()); err != nil {
		e.failed(check, err)
		return
	}
	e.report(check, OK, "%s, %s not finished%s", path, describe.Count(len(unfinished), "file"), holder(path))
}

// holder says which process uses the ledger, where the system shows it.
func holder(path string) string {
	switch pid, seen, err := sqlite.Holder(path); {
	case err != nil || !seen:
		return ""
	case pid == 0:
		return "; no billdrop uses it now"
	default:
		return fmt.Sprintf("; a billdrop uses it now: process %d", pid)
	}
}

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
