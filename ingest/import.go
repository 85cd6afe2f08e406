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

// Import takes one local file through the same life as a claimed one. If in is not nil, it
// is read instead (standard input). The file stays where it is. Its reports go to the
// directory out, or beside it.
//
// An unfinished import of the same file, with the same content and the same out, is
// resumed. The summary is zero when the file did not come to its end.
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
	if err := checkWritable(f.Results); err != nil {
		return report.Summary{}, notApplicable("name another directory with --out", "its reports cannot be written to %s (%w)", f.Results, err)
	}
	// The copy comes first, so that a file that cannot be read leaves nothing in the
	// ledger.
	if f.SHA256, f.Size, err = w.spool.take(ctx, f.ID, feed.Format.MaxFileSize, fetch); err != nil {
		return report.Summary{}, fmt.Errorf("import %s: %w", path, err)
	}
	j, err := w.findOrAdd(ctx, feed, f)
	if err != nil {
		return report.Summary{}, err
	}
	if err := j.live(ctx); err != nil {
		return report.Summary{}, fmt.Errorf("import %s (%s): %w", j.file.Name, j.file.ID, err)
	}
	return *j.summary, nil
}

// findOrAdd returns the job of the unfinished import that f repeats, or records f as a new
// one.
func (w *Worker) findOrAdd(ctx context.Context, feed *Feed, f *ledger.File) (*job, error) {
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
	return j, j.chooseStem(ctx, ledger.Spooled)
}

// checkWritable creates a directory where missing, and returns an error if no file can be
// created in it.
func checkWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	probe, err := os.CreateTemp(dir, ".billdrop-*")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}
