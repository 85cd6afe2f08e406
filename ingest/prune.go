package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Pruned is what Prune removed, or would remove.
type Pruned struct {
	Files   int `json:"files"`   // records of finished files
	Rows    int `json:"rows"`    // their outcomes
	Reports int `json:"reports"` // files of local reports
}

// Prune removes the files that ended before a time: their records and outcomes in the
// ledger, and the reports of imported files on this machine. What keeps bills unique stays,
// and so do unfinished and held files, and everything on an SFTP server. It stops at the
// first error, and returns what it removed until then. dry: nothing is removed.
func Prune(ctx context.Context, led ledger.Ledger, before time.Time, dry bool) (Pruned, error) {
	var p Pruned
	files, err := led.Files(ctx, ledger.Query{})
	if err != nil {
		return p, err
	}
	for _, f := range files {
		if !f.State.Finished() || !ended(f).Before(before) {
			continue
		}
		// The reports go first, because only the record says where they are.
		n, err := pruneReports(f, dry)
		p.Reports += n
		if err != nil {
			return p, fmt.Errorf("prune file %s: %w", f.ID, err)
		}
		rows := f.Rows
		if !dry {
			if rows, err = led.Prune(ctx, f.ID); err != nil {
				return p, err
			}
		}
		p.Files++
		p.Rows += rows
	}
	return p, nil
}

// ended is when a finished file ended.
func ended(f *ledger.File) time.Time {
	if f.Finished.IsZero() {
		return f.Received
	}
	return f.Finished
}

// pruneReports removes the reports of an imported file that still exist, and counts them.
func pruneReports(f *ledger.File, dry bool) (n int, err error) {
	if f.Origin != ledger.FromLocal || f.Stem == "" {
		return 0, nil
	}
	names := report.NamesOf(f.Stem)
	for _, name := range []string{names.Ack, names.Results, names.Rejects, names.Summary, names.Verify} {
		path := filepath.Join(f.Results, name)
		if dry {
			_, err = os.Lstat(path)
		} else {
			err = os.Remove(path)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return n, err
		default:
			n++
		}
	}
	return n, nil
}
