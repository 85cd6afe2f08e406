package ingest

import (
	"context"
	"fmt"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// ownRejects returns the refusal of a file that is the rejects of an earlier file, unchanged;
// nil if it is not. The headers of the other reports are known to billfile.
func (j *job) ownRejects(ctx context.Context) (*billfile.FileError, error) {
	of, err := j.Ledger.Files(ctx, ledger.Query{Rejects: j.file.SHA256, Limit: 1})
	if err != nil || len(of) == 0 {
		return nil, err
	}
	return &billfile.FileError{Code: billfile.CodeOwnReport, Detail: fmt.Sprintf(
		"the file is the rejects file of %s (%s), and nothing in it was changed: correct its rows first; if they only failed, run: billdrop retry %s",
		of[0].Name, of[0].ID, of[0].ID)}, nil
}

// ownReport returns the refusal of a file that is a report of billdrop's; nil if it is not.
func (j *job) ownReport(ctx context.Context) (*billfile.FileError, error) {
	if own, err := j.ownRejects(ctx); own != nil || err != nil {
		return own, err
	}
	f, err := j.spool.open(j.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return billfile.OwnReport(f)
}
