package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"billdrop/ingest/ledger"
)

// writer applies batches. It is used by the queue's goroutine alone.
//
// It talks to the driver's connection below database/sql, always from within
// sql.Conn.Raw: a clean row is some eighty values, and what database/sql adds to each of
// them would be a tenth of the whole.
type writer struct {
	conn     *sql.Conn
	raw      driver.ConnPrepareContext // what conn is of, to be used within its Raw
	s        statements
	prepared []driver.Stmt // all of s, to be closed

	// What the database holds, kept at hand. A failed batch may leave it wrong, but
	// nothing is written after a failure.
	scopes  map[ledger.Scope]int64
	numbers map[string]int64 // file id → number
}

type statements struct {
	begin, commit              *statement
	addScope, findScope        *statement
	setBaseURL                 *statement
	putLink                    *statement
	addNumber, findNumber      *statement
	addFile, saveFile, hasFile *statement
	countFile                  *statement
	putBill                    bulk
	putOutcome                 bulk
	putParty                   bulk

	// Of retention.go.
	dropFile, dropOutcomes, countAttempts, dropAttempts *statement
	forget                                              *statement
}

// newWriter prepares every statement on the one connection of db and keeps that.
func newWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn, scopes: map[ledger.Scope]int64{}, numbers: map[string]int64{}}
	if err := conn.Raw(w.prepare); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare statements: %w", err), w.close())
	}
	return w, nil
}

func (w *writer) prepare(c any) (err error) {
	w.raw = c.(driver.ConnPrepareContext)
	prepare := func(query string) *statement {
		s, e := w.raw.PrepareContext(context.Background(), query)
		if e != nil {
			err = errors.Join(err, e)
			return nil
		}
		w.prepared = append(w.prepared, s)
		return &statement{execer: s.(driver.StmtExecContext), queryer: s.(driver.StmtQueryContext)}
	}
	insert := func(table string, columns ...string) string {
		return "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(columns)-1) + ")"
	}
	prepareBulk := func(head string, columns []string, tail string) bulk {
		row := "(?" + strings.Repeat(", ?", len(columns)-1) + ")"
		head += " (" + strings.Join(columns, ", ") + ") VALUES " + row
		return bulk{
			one:  prepare(head + tail),
			many: prepare(head + strings.Repeat(", "+row, bulkRows-1) + tail),
		}
	}
	var replaced []string
	for _, c := range billColumns[2:] {
		replaced = append(replaced, c+" = excluded."+c)
	}
	w.s = statements{
		begin:      prepare("BEGIN IMMEDIATE"),
		commit:     prepare("COMMIT"),
		addScope:   prepare(insert("scopes", "merchant", "mode") + " ON CONFLICT DO NOTHING"),
		findScope:  prepare("SELECT id FROM scopes WHERE merchant = ? AND mode = ?"),
		setBaseURL: prepare("UPDATE scopes SET base_url = ? WHERE id = ?"),
		putLink:    prepare("REPLACE INTO links (" + strings.Join(linkColumns, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(linkColumns)-1) + ")"),
		addNumber:  prepare(insert("file_numbers", "id") + " ON CONFLICT DO NOTHING"),
		findNumber: prepare("SELECT number FROM file_numbers WHERE id = ?"),
		addFile:    prepare(insert("files", append([]string{"number", "id", "gets", "throttled", "link_posts", "link_retries"}, fileColumns...)...) + " ON CONFLICT DO NOTHING"),
		saveFile:   prepare("UPDATE OR IGNORE files SET " + strings.Join(fileColumns, " = ?, ") + " = ? WHERE number = ?"),
		hasFile:    prepare("SELECT number FROM files WHERE number = (SELECT number FROM file_numbers WHERE id = ?)"),
		countFile:  prepare("UPDATE files SET gets = gets + ?, throttled = throttled + ?, link_posts = link_posts + ?, link_retries = link_retries + ? WHERE number = ?"),
		putBill: prepareBulk("INSERT INTO bills", billColumns,
			" ON CONFLICT (reference, scope) DO UPDATE SET "+strings.Join(replaced, ", ")),
		putOutcome: prepareBulk("REPLACE INTO outcomes", outcomeColumns, ""),
		// What is known of an account's customer stays known when a later record of the
		// account does not name it.
		putParty: prepareBulk("INSERT INTO parties", partyColumns, ` ON CONFLICT DO UPDATE SET id = excluded.id,
			customer_id = iif(excluded.customer_id <> '' OR excluded.id <> id, excluded.customer_id, customer_id),
			since = iif(excluded.id <> id, excluded.since, coalesce(since, excluded.since))`),
		dropFile:     prepare("DELETE FROM files WHERE number = ? AND state IN ('done', 'dropped')"),
		dropOutcomes: prepare("DELETE FROM outcomes WHERE file = ?"),
		countAttempts: prepare(`UPDATE bills SET attempts = attempts - n FROM (SELECT bill, count(*) AS n FROM attempts WHERE file = ? GROUP BY bill) AS a
			WHERE a.bill = bills.id`),
		dropAttempts: prepare("DELETE FROM attempts WHERE file = ?"),
		forget: prepare(`WITH customer AS (SELECT scope, id FROM parties WHERE digest = ?)
			DELETE FROM parties WHERE scope = (SELECT scope FROM customer) AND (id = (SELECT id FROM customer)
				OR customer_id = (SELECT id FROM customer)
				OR id IN (SELECT b.account_id FROM bills AS b JOIN customer AS c ON b.scope = c.scope AND b.customer_id = c.id))`),
	}
	return err
}

// close frees the statements and gives the connection back. The queue's goroutine has
// ended.
func (w *writer) close() error {
	var errs []error
	for _, s := range w.prepared {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// commit applies ops in one transaction and makes that durable. After an error none of
// them is applied, unless the disk did more than it reported, and no other batch may
// follow.
func (w *writer) commit(ops []op) error {
	err := w.conn.Raw(func(any) error {
		if err := w.s.begin.exec(); err != nil {
			return err
		}
		for _, o := range ops {
			if err := o.apply(w); err != nil {
				return err
			}
		}
		if err := w.flush(); err != nil {
			return err
		}
		return w.s.commit.exec()
	})
	if err != nil {
		// SQLite may have rolled back by itself (it does on a full disk). Then this
		// fails, and adds nothing.
		_, _ = w.conn.ExecContext(context.Background(), "ROLLBACK")
		return fmt.Errorf("write ledger: %w", unusable(err))
	}
	return nil
}

// flush writes the rows that the batch has gathered so far. Outcomes are sorted by file
// and row, because rows that are appended to a table fill its pages.
func (w *writer) flush() error {
	slices.SortStableFunc(w.s.putOutcome.rows, func(a, b []any) int {
		return cmp.Or(cmp.Compare(a[0].(int64), b[0].(int64)), cmp.Compare(a[1].(int), b[1].(int)))
	})
	for _, b := range []*bulk{&w.s.putBill, &w.s.putOutcome, &w.s.putParty} {
		if err := b.flush(); err != nil {
			return err
		}
	}
	return nil
}

// scope returns the number of s, which is added where it is new.
func (w *writer) scope(s ledger.Scope) (int64, error) {
	return numberOf(w.scopes, s, w.s.addScope, w.s.findScope, s.Merchant, s.Mode)
}

// number returns the number of a file id, which is added where it is new. The file need
// not be recorded.
func (w *writer) number(file string) (int64, error) {
	return numberOf(w.numbers, file, w.s.addNumber, w.s.findNumber, file)
}

// numberOf returns the number of key: from known, or else from the database, after adding
// it where it is new.
func numberOf[K comparable](known map[K]int64, key K, add, find *statement, columns ...any) (int64, error) {
	if n, ok := known[key]; ok {
		return n, nil
	}
	if err := add.exec(columns...); err != nil {
		return 0, err
	}
	n, _, err := find.one(columns...)
	if err == nil {
		known[key] = n
	}
	return n, err
}

// bulkRows is how many rows a bulk statement takes at once, which saves a seventh of what
// single ones cost. 64 save no more.
const bulkRows = 16

// bulk gathers the rows of a batch for one table. They are written in order, many with
// one statement.
type bulk struct {
	one, many *statement
	rows      [][]any
}

func (b *bulk) add(values ...any) { b.rows = append(b.rows, values) }

func (b *bulk) flush() error {
	defer func() {
		clear(b.rows)
		b.rows = b.rows[:0]
	}()
	for rows := range slices.Chunk(b.rows, bulkRows) {
		if len(rows) == bulkRows {
			if err := b.many.execRows(rows...); err != nil {
				return err
			}
			continue
		}
		for _, row := range rows {
			if err := b.one.exec(row...); err != nil {
				return err
			}
		}
	}
	return nil
}

// once prepares a statement that is seldom run, and runs it within the batch's transaction. It
// returns the integer of a statement that returns one, and whether there was one.
func (w *writer) once(query string, args ...any) (n int64, found bool, err error) {
	s, err := w.raw.PrepareContext(context.Background(), query)
	if err != nil {
		return 0, false, err
	}
	prepared := &statement{execer: s.(driver.StmtExecContext), queryer: s.(driver.StmtQueryContext)}
	n, found, err = prepared.one(args...)
	return n, found, errors.Join(err, s.Close())
}

// statement is a prepared statement of the writing connection. Its arguments may be what
// a driver takes, and ints.
type statement struct {
	execer  driver.StmtExecContext
	queryer driver.StmtQueryContext
	args    []driver.NamedValue // kept between calls
}

func (s *statement) bind(rows ...[]any) []driver.NamedValue {
	s.args = s.args[:0]
	for _, row := range rows {
		for _, a := range row {
			if n, ok := a.(int); ok {
				a = int64(n)
			}
			s.args = append(s.args, driver.NamedValue{Ordinal: len(s.args) + 1, Value: a})
		}
	}
	return s.args
}

// exec runs a statement that returns no rows.
func (s *statement) exec(args ...any) error { return s.execRows(args) }

// execRows is exec with the arguments of several rows, one after the other.
func (s *statement) execRows(rows ...[]any) error {
	_, err := s.execer.ExecContext(context.Background(), s.bind(rows...))
	return err
}

// changed is exec, and returns how many rows were changed.
func (s *statement) changed(args ...any) (int, error) {
	r, err := s.execer.ExecContext(context.Background(), s.bind(args))
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}

// one returns the integer of a statement that returns one at most, and whether there was
// one.
func (s *statement) one(args ...any) (n int64, found bool, err error) {
	rows, err := s.queryer.QueryContext(context.Background(), s.bind(args))
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	row := make([]driver.Value, 1)
	switch err := rows.Next(row); {
	case errors.Is(err, io.EOF):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	return row[0].(int64), true, nil
}

// record is Ledger.Record. It holds copies, because the caller goes on with its own.
type record struct {
	entry   ledger.Entry // Bill and Outcome are those below; Parties is empty
	bill    ledger.Bill
	outcome ledger.Outcome
	parties []party
}

func newRecord(e ledger.Entry) *record {
	r := &record{entry: e, parties: make([]party, len(e.Parties))}
	if e.Bill != nil {
		r.bill = *e.Bill
		r.entry.Bill = &r.bill
	}
	if e.Outcome != nil {
		r.outcome = *e.Outcome
		r.entry.Outcome = &r.outcome
	}
	for i, p := range e.Parties {
		r.parties[i] = party{p.PartyRef.Digest(e.Scope), p}
	}
	r.entry.Parties = nil
	return r
}

func (r *record) apply(w *writer) error {
	e := &r.entry
	if e.Bill != nil {
		if err := w.putBill(e.Scope, e.Bill); err != nil {
			return err
		}
	}
	if err := w.putParties(e.Scope, r.parties); err != nil {
		return err
	}
	if e.Outcome == nil && !e.Counts() {
		return nil
	}
	file, err := w.number(e.File)
	if err != nil {
		return err
	}
	if e.Outcome != nil {
		w.putOutcome(file, e.Outcome, ledger.SumOutcome(e.File, e.Outcome))
	}
	if !e.Counts() {
		return nil
	}
	return w.s.countFile.exec(e.Gets, e.Throttled, e.LinkPosts, e.LinkRetries, file)
}
