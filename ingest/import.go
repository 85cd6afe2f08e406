package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
)

// Import sees one local file through the same life as a claimed one; in, if not nil, is read instead (standard
// input). The file stays where it is; its reports go to out, or beside it. An import that an earlier run did not
// finish, of the same content with the same destination, is gone on with. The summary of a file that came to no end is zero.
func (w *Worker) Import(ctx context.Context, feed *Feed, path string, in io.Reader, out string) (report.Summary, error) {
	if err := w.spool.sweep(ctx, w.Ledger); err != nil {
		return report.Summary{}, err
	}
	f := &ledger.File{
		ID: newID(time.Now()), Feed: feed.Name, Scope: feed.Lane.Scope(), Origin: ledger.FromLocal,
		Name: "stdin", State: ledger.Spooled, Received: time.Now(), Started: time.Now(),
	}
	fetch := func(_ context.Context, dst io.Writer) error {
		_, err := io.Copy(dst, in)
		return err
	}
	if in == nil {
		abs, err := filepath.Abs(path)
		if err != nil {
			return report.Summary{}, fmt.Errorf("import %s: %w", path, err)
		}
		info, err := os.Stat(abs)
		if err != nil {
			return report.Summary{}, fmt.Errorf("import: %w", err)
		}
		f.Name, f.Path, f.ModTime = filepath.Base(abs), abs, info.ModTime()
		fetch = fetching(transfer.Local{}, f)
		if out == "" {
			out = filepath.Dir(abs)
		}
	}
	var err error
	if f.Results, err = filepath.Abs(out); err != nil {
		return report.Summary{}, fmt.Errorf("import %s: %w", path, err)
	}
	if err := writable(f.Results); err != nil {
		return report.Summary{}, fmt.Errorf("%w: its reports cannot be written to %s (%w): name another directory with --out", ErrNotApplicable, f.Results, err)
	}
	// A file that cannot be read leaves nothing behind: it enters the ledger with its copy in the spool.
	if f.SHA256, f.Size, err = w.spool.take(ctx, f.ID, feed.Format.MaxFileSize, fetch); err != nil {
		return report.Summary{}, fmt.Errorf("import %s: %w", path, err)
	}
	j, err := w.begun(ctx, feed, f)
	if err != nil {
		return report.Summary{}, err
	}
	if err := j.live(ctx); err != nil {
		return report.Summary{}, fmt.Errorf("import %s (%s): %w", j.file.Name, j.file.ID, err)
	}
	return *j.summary, nil
}

// begun enters an import into the ledger, or finds the unfinished one that it repeats.
func (w *Worker) begun(ctx context.Context, feed *Feed, f *ledger.File) (*job, error) {
	earlier, err := w.Ledger.Files(ctx, ledger.Query{Feed: feed.Name, SHA256: f.SHA256, Unfinished: true})
	if err != nil {
		return nil, err
	}
	for _, e := range earlier {
		if e.Origin == ledger.FromLocal && e.Name == f.Name && e.Path == f.Path && e.Results == f.Results {
			if err := w.spool.remove(f.ID); err != nil {
				return nil, err
			}
			return w.newJob(feed, e, localPlace(e)), nil
		}
	}
	j := w.newJob(feed, f, localPlace(f))
	f.State = ledger.Claimed
	if err := w.Ledger.AddFile(ctx, f); err != nil {
		return nil, errors.Join(fmt.Errorf("record import of %s: %w", f.Name, err), w.spool.remove(f.ID))
	}
	return j, j.name(ctx, ledger.Spooled)
}

// writable makes sure that files can be made in a directory, which is created where missing.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	probe, err := os.CreateTemp(dir, ".billdrop-*")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}
