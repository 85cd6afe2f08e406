package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"billdrop/ingest/ledger"
)

// fileColumns are the columns of a file but its keys and its counters, in the order of
// fileArgs and of readFile.
var fileColumns = []string{
	"feed", "scope", "origin", "name", "path", "results", "stem", "size", "mod_time", "sha256", "state",
	"outcome", "code", "detail", "line", "approved", "retried", "row_count",
	"lines_total", "lines_header", "lines_blank", "lines_data", "format", "rows_read", "run_id", "version",
	"received", "started", "finished", "sums", "published", "publishing", "machine",
}

// putFile is Ledger.AddFile and Ledger.SaveFile. file is a copy.
type putFile struct {
	file    ledger.File
	isNew   bool
	refused error // ErrExists or ErrNotFound: nothing was written, the batch goes on
}

func (o *putFile) apply(w *writer) error {
	scope, err := w.scope(o.file.Scope)
	if err != nil {
		return err
	}
	args, err := fileArgs(&o.file, scope)
	if err != nil {
		return err
	}
	if o.isNew {
		number, err := w.number(o.file.ID)
		if err != nil {
			return err
		}
		added, err := w.s.addFile.changed(append([]any{number, o.file.ID, o.file.Gets, o.file.Throttled, o.file.LinkPosts, o.file.LinkRetries}, args...)...)
		if err == nil && added == 0 {
			o.refused = ledger.ErrExists
		}
		return err
	}
	number, known, err := w.s.hasFile.one(o.file.ID)
	if err != nil {
		return err
	}
	if !known {
		o.refused = ledger.ErrNotFound
		return nil
	}
	saved, err := w.s.saveFile.changed(append(args, number)...)
	if err == nil && saved == 0 {
		o.refused = ledger.ErrExists // the stem: nothing else of a known file can be taken
	}
	return err
}

func fileArgs(f *ledger.File, scope int64) ([]any, error) {
	var sums []byte
	if f.Sums != nil {
		var err error
		if sums, err = json.Marshal(f.Sums); err != nil {
			return nil, err
		}
	}
	published, err := json.Marshal(f.Published)
	if err != nil {
		return nil, err
	}
	publishing, err := json.Marshal(f.Publishing)
	if err != nil {
		return nil, err
	}
	return []any{
		f.Feed, scope, string(f.Origin), f.Name, f.Path, f.Results, f.Stem, f.Size, micros(f.ModTime), f.SHA256, string(f.State),
		f.Outcome, f.Code, f.Detail, f.Line, f.Approved, f.Retried, f.Rows,
		f.Lines.Total, f.Lines.Header, f.Lines.Blank, f.Lines.Data, f.Format, f.RowsRead, f.RunID, f.Version,
		micros(f.Received), micros(f.Started), micros(f.Finished), string(sums), string(published), string(publishing), f.Machine,
	}, nil
}

var selectFiles = "SELECT f.id, s.merchant, s.mode, f.gets, f.throttled, f.link_posts, f.link_retries, f." + strings.Join(fileColumns, ", f.") +
	" FROM files AS f JOIN scopes AS s ON s.id = f.scope"

// File implements ledger.Ledger.
func (l *Ledger) File(ctx context.Context, id string) (*ledger.File, error) {
	files, err := l.queryFiles(ctx, selectFiles+" WHERE f.number = (SELECT number FROM file_numbers WHERE id = ?)", []any{id})
	if err != nil {
		return nil, fmt.Errorf("read file %s: %w", id, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("read file %s: %w", id, ledger.ErrNotFound)
	}
	return files[0], nil
}

// Files implements ledger.Ledger.
func (l *Ledger) Files(ctx context.Context, q ledger.Query) ([]*ledger.File, error) {
	query, args := filesQuery(q)
	files, err := l.queryFiles(ctx, query, args)
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	return files, nil
}

// filesQuery is written so that each filter has an index that is in the wanted order too.
func filesQuery(q ledger.Query) (string, []any) {
	var where []string
	var args []any
	add := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if q.Feed != "" {
		add("f.feed = ?", q.Feed)
	}
	if q.Unfinished {
		add("f.state NOT IN ('done', 'dropped')") // as in files_unfinished
	}
	if q.ExcludeDropped {
		add("f.state <> 'dropped'") // few are dropped: the index with the order is read past them
	}
	if q.SHA256 != "" {
		add("f.sha256 = ? AND f.sha256 <> ''", q.SHA256) // as in files_content
	}
	if q.Rejects != "" {
		add("json_extract(f.published, '$.rejects') = ?", q.Rejects) // as in files_rejects
	}
	if q.StemPrefix != "" {
		// Stems from prefix up to prefix and "." ("-" and one); of these, the prefix
		// itself and those with nothing but digits behind "-".
		prefix, dash := q.StemPrefix, q.StemPrefix+"-"
		add(`f.results = ? AND f.stem <> '' AND f.stem >= ? AND f.stem < ? AND (f.stem = ? OR
			(substr(f.stem, 1, length(?)) = ? AND length(f.stem) > length(?) AND substr(f.stem, length(?) + 1) NOT GLOB '*[^0-9]*'))`,
			q.Results, prefix, prefix+".", prefix, dash, dash, dash, dash)
	}
	var b strings.Builder
	b.WriteString(selectFiles)
	if len(where) > 0 {
		b.WriteString(" WHERE " + strings.Join(where, " AND "))
	}
	b.WriteString(" ORDER BY f.received DESC, f.id DESC")
	if q.Limit > 0 {
		b.WriteString(" LIMIT ?")
		args = append(args, q.Limit)
	}
	return b.String(), args
}

func (l *Ledger) queryFiles(ctx context.Context, query string, args []any) ([]*ledger.File, error) {
	if err := l.settle(ctx, nil); err != nil {
		return nil, err
	}
	var files []*ledger.File
	err := eachRow(ctx, l.read, query, args, func(r *row) error {
		f, err := readFile(r)
		files = append(files, f)
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, unusable(err)
	}
	return files, nil
}

// readFile reads what selectFiles selects.
func readFile(r *row) (*ledger.File, error) {
	f := &ledger.File{ID: r.text(), Scope: r.scope(), Gets: r.int(), Throttled: r.int(),
		LinkPosts: r.int(), LinkRetries: r.int(), Feed: r.text()}
	r.next() // scope
	f.Origin, f.Name, f.Path, f.Results, f.Stem = ledger.Origin(r.text()), r.text(), r.text(), r.text(), r.text()
	f.Size, f.ModTime, f.SHA256, f.State = r.number(), r.time(), r.text(), ledger.FileState(r.text())
	f.Outcome, f.Code, f.Detail, f.Line = r.text(), r.text(), r.text(), r.int()
	f.Approved, f.Retried, f.Rows = r.flag(), r.int(), r.int()
	f.Lines = ledger.Lines{Total: r.int(), Header: r.int(), Blank: r.int(), Data: r.int()}
	f.Format, f.RowsRead, f.RunID, f.Version = r.text(), r.flag(), r.text(), r.text()
	f.Received, f.Started, f.Finished = r.time(), r.time(), r.time()
	sums, published, publishing := r.text(), r.text(), r.text()
	f.Machine = r.text()
	if sums != "" {
		if err := json.Unmarshal([]byte(sums), &f.Sums); err != nil {
			return f, err
		}
	}
	return f, errors.Join(json.Unmarshal([]byte(published), &f.Published), json.Unmarshal([]byte(publishing), &f.Publishing))
}

// Prune implements ledger.Ledger.
func (l *Ledger) Prune(ctx context.Context, id string) (int, error) {
	o := &prune{file: id}
	if err := errors.Join(l.doNow(ctx, o), o.refused); err != nil {
		return 0, fmt.Errorf("prune file %s: %w", id, err)
	}
	l.known.Delete(id)
	return o.rows, nil
}

type prune struct {
	file    string
	rows    int
	refused error // ErrNotFound or ErrUnfinished
}

func (o *prune) apply(w *writer) error {
	number, known, err := w.s.hasFile.one(o.file)
	if err != nil {
		return err
	}
	if !known {
		o.refused = ledger.ErrNotFound
		return nil
	}
	if n, err := w.s.dropFile.changed(number); err != nil {
		return err
	} else if n == 0 {
		o.refused = ledger.ErrUnfinished
		return nil
	}
	if err := w.flush(); err != nil { // what came before o
		return err
	}
	if o.rows, err = w.s.dropOutcomes.changed(number); err != nil {
		return err
	}
	if err := w.s.countAttempts.exec(number); err != nil {
		return err
	}
	return w.s.dropAttempts.exec(number)
}

// Forget implements ledger.Ledger. It reads all bills, which are not indexed by customer
// because nothing else asks for that.
func (l *Ledger) Forget(ctx context.Context, s ledger.Scope, customer string) (int, error) {
	o := &forget{customer: ledger.PartyRef{Kind: ledger.Customer, Reference: customer}.Digest(s)}
	err := l.doNow(ctx, o)
	if err == nil && o.parties == 0 {
		err = ledger.ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("forget a customer: %w", err)
	}
	return o.parties, nil
}

type forget struct {
	customer ledger.Digest
	parties  int
}

func (o *forget) apply(w *writer) (err error) {
	if err := w.flush(); err != nil { // what came before o
		return err
	}
	o.parties, err = w.s.forget.changed(o.customer[:])
	return err
}
