package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

// fileColumns are the columns of a file but its keys and its counters, in the order of
// fileArgs and of scanFile.
var fileColumns = []string{
	"feed", "scope", "origin", "name", "path", "results", "stem", "size", "mod_time", "sha256", "state",
	"outcome", "code", "detail", "line", "approved", "retried", "row_count",
	"lines_total", "lines_header", "lines_blank", "lines_data", "format", "rows_read", "run_id", "version",
	"received", "started", "finished", "sums", "published", "publishing", "machine", "revision",
}

var (
	addFile = "INSERT INTO files (number, id, gets, throttled, link_posts, link_retries, " + strings.Join(fileColumns, ", ") + ") VALUES (" + places(1, 6+len(fileColumns)) +
		") ON CONFLICT DO NOTHING"
	saveFile = "UPDATE files SET (" + strings.Join(fileColumns, ", ") + ") = ROW (" + places(2, len(fileColumns)) + ") WHERE number = $1"
)

// places are n parameters from the given one on.
func places(from, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("$%d", from+i)
	}
	return strings.Join(list, ", ")
}

// putFile is Ledger.AddFile and Ledger.SaveFile. file is a copy.
type putFile struct {
	file     ledger.File // Revision is what is to be replaced
	isNew    bool
	number   int64
	scope    int64
	revision int64
	refusal  // ErrExists, ErrNotFound or ErrChanged
}

func (o *putFile) apply(t *tx) error {
	o.refused = nil
	if err := t.flush(); err != nil { // what came before o
		return err
	}
	args, err := o.args()
	if err != nil {
		return err
	}
	if o.isNew {
		added, err := t.exec(addFile, append([]any{o.number, stored(o.file.ID), o.file.Gets, o.file.Throttled, o.file.LinkPosts, o.file.LinkRetries}, args...)...)
		if err == nil && added == 0 {
			o.refused = ledger.ErrExists
		}
		return err
	}
	var revision int64
	known, err := t.one("SELECT revision FROM files WHERE number = $1 FOR NO KEY UPDATE", []any{o.number}, func(row pgx.Row) error { return row.Scan(&revision) })
	switch {
	case err != nil:
		return err
	case !known:
		o.refused = ledger.ErrNotFound
		return nil
	case revision != o.file.Revision:
		o.refused = ledger.ErrChanged
		return nil
	}
	var taken bool
	_, err = t.one("SELECT EXISTS (SELECT FROM files WHERE results = $1 AND stem = $2 AND stem <> '' AND number <> $3)",
		[]any{stored(o.file.Results), stored(o.file.Stem), o.number}, func(row pgx.Row) error { return row.Scan(&taken) })
	switch {
	case err != nil:
		return err
	case taken:
		o.refused = ledger.ErrExists
		return nil
	}
	_, err = t.exec(saveFile, append([]any{o.number}, args...)...)
	return err
}

func (o *putFile) args() ([]any, error) {
	f := &o.file
	var sums []byte
	if f.Sums != nil {
		var err error
		if sums, err = json.Marshal(f.Sums); err != nil {
			return nil, err
		}
	}
	return []any{
		stored(f.Feed), o.scope, stored(string(f.Origin)), stored(f.Name), stored(f.Path), stored(f.Results), stored(f.Stem), f.Size, micros(f.ModTime),
		stored(f.SHA256), stored(string(f.State)), stored(f.Outcome), stored(f.Code), stored(f.Detail), f.Line, f.Approved, f.Retried, f.Rows,
		f.Lines.Total, f.Lines.Header, f.Lines.Blank, f.Lines.Data, stored(f.Format), f.RowsRead, stored(f.RunID), stored(f.Version),
		micros(f.Received), micros(f.Started), micros(f.Finished), string(sums), f.Published, f.Publishing, stored(f.Machine), o.revision,
	}, nil
}

var selectFiles = "SELECT f.id, s.merchant, s.mode, f.gets, f.throttled, f.link_posts, f.link_retries, f." + strings.Join(fileColumns, ", f.") +
	" FROM files AS f JOIN scopes AS s ON s.id = f.scope"

// scanFile reads what selectFiles selects.
func scanFile(row tableRow) (*ledger.File, error) {
	f := &ledger.File{}
	var scope int64
	var sums string
	err := row.Scan(&f.ID, &f.Scope.Merchant, &f.Scope.Mode, &f.Gets, &f.Throttled, &f.LinkPosts, &f.LinkRetries,
		&f.Feed, &scope, (*string)(&f.Origin), &f.Name, &f.Path, &f.Results, &f.Stem, &f.Size, &f.ModTime, &f.SHA256, (*string)(&f.State),
		&f.Outcome, &f.Code, &f.Detail, &f.Line, &f.Approved, &f.Retried, &f.Rows,
		&f.Lines.Total, &f.Lines.Header, &f.Lines.Blank, &f.Lines.Data, &f.Format, &f.RowsRead, &f.RunID, &f.Version,
		&f.Received, &f.Started, &f.Finished, &sums, &f.Published, &f.Publishing, &f.Machine, &f.Revision)
	if err == nil && sums != "" {
		err = json.Unmarshal([]byte(sums), &f.Sums)
	}
	return f, err
}

// File implements ledger.Ledger.
func (l *Ledger) File(ctx context.Context, id string) (*ledger.File, error) {
	files, err := l.queryFiles(ctx, selectFiles+" WHERE f.number = (SELECT number FROM file_numbers WHERE id = $1)", []any{stored(id)})
	if err != nil {
		return nil, readError(ctx, "read file "+id, err)
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
		return nil, readError(ctx, "list files", err)
	}
	return files, nil
}

// filesQuery is written so that each filter has an index that is in the wanted order too.
func filesQuery(q ledger.Query) (string, []any) {
	var where []string
	var args []any
	// The condition has one verb %s a value.
	add := func(condition string, values ...any) {
		places := make([]any, len(values))
		for i, v := range values {
			args = append(args, v)
			places[i] = fmt.Sprintf("$%d", len(args))
		}
		where = append(where, fmt.Sprintf(condition, places...))
	}
	if q.Feed != "" {
		add("f.feed = %s", stored(q.Feed))
	}
	if q.Unfinished {
		add("f.state NOT IN ('done', 'dropped')") // as in files_unfinished
	}
	if q.ExcludeDropped {
		add("f.state <> 'dropped'") // few are dropped: the index with the order is read past them
	}
	if q.SHA256 != "" {
		add("f.sha256 = %s AND f.sha256 <> ''", stored(q.SHA256)) // as in files_content
	}
	if q.Rejects != "" {
		add("f.published ->> 'rejects' = %s", q.Rejects) // as in files_rejects
	}
	if q.StemPrefix != "" {
		// Stems from prefix up to prefix and "." ("-" and one); of these, the prefix
		// itself and those with nothing but digits behind "-".
		prefix, dash := stored(q.StemPrefix), stored(q.StemPrefix+"-")
		add("f.results = %s AND f.stem <> '' AND f.stem >= %s AND f.stem < %s", stored(q.Results), prefix, stored(q.StemPrefix+"."))
		add("(f.stem = %s OR starts_with(f.stem, %s) AND substr(f.stem, length(%s) + 1) ~ '^[0-9]+$')", prefix, dash, dash)
	}
	var b strings.Builder
	b.WriteString(selectFiles)
	if len(where) > 0 {
		b.WriteString(" WHERE " + strings.Join(where, " AND "))
	}
	b.WriteString(" ORDER BY f.received DESC NULLS LAST, f.id DESC")
	if q.Limit > 0 {
		args = append(args, q.Limit)
		fmt.Fprintf(&b, " LIMIT $%d", len(args))
	}
	return b.String(), args
}

func (l *Ledger) queryFiles(ctx context.Context, query string, args []any) (files []*ledger.File, err error) {
	if err := l.queue.Barrier(ctx, nil); err != nil {
		return nil, err
	}
	err = l.query(ctx, query, args, func() { files = nil }, func(row tableRow) error {
		f, err := scanFile(row)
		files = append(files, f)
		return err
	})
	return files, err
}
