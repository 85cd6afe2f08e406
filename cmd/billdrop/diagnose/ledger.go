package diagnose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/ingest/ledger"
)

const ledgerCheck = "ledger"

// ledger checks that the ledger can be used.
func (e *examiner) ledger(ctx context.Context, conf *config.Config) {
	location, err := engine.Configured(conf, nil)
	if err != nil {
		e.wrong(ledgerCheck, err)
		return
	}
	e.file(ctx, location)
}

// file checks that a ledger of SQLite can be read, if there is one, and its directory written.
func (e *examiner) file(ctx context.Context, location engine.Location) {
	path := location.Place.Path
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		// Even Fix does not make it, because a disk may not be mounted.
		e.fail(ledgerCheck, fmt.Sprintf("there is no directory %s for it", dir),
			fmt.Sprintf("make it (mkdir -p -m 700 %s), or mount the disk that it is on", config.ShellWord(dir)))
		return
	}
	if err := tryFile(dir); err != nil {
		e.fail(ledgerCheck, err.Error(), "give billdrop's user the right to write in "+dir)
		return
	}
	led, err := location.Read(ctx)
	if errors.Is(err, ledger.ErrNotFound) {
		e.report(ledgerCheck, OK, "%s does not exist yet; the first run makes it", path)
		return
	}
	if err != nil {
		e.failed(ledgerCheck, err)
		return
	}
	unfinished, err := led.Files(ctx, ledger.Query{Unfinished: true})
	if err = errors.Join(err, led.Close()); err != nil {
		e.failed(ledgerCheck, err)
		return
	}
	e.report(ledgerCheck, OK, "%s, %s not finished%s", path, describe.Count(len(unfinished), "file"), holder(location))
}

// holder says which process uses the ledger, where the system shows it.
func holder(location engine.Location) string {
	switch pid, seen := location.Holder(); {
	case !seen:
		return ""
	case pid == 0:
		return "; no billdrop uses it now"
	default:
		return fmt.Sprintf("; a billdrop uses it now: process %d", pid)
	}
}
