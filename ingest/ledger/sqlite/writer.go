package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	"billdrop/ingest/ledger"
)

// maxRecent bounds how many begun bills are remembered: many times what is in flight at once.
const maxRecent = 8192

// bulkRows is how many rows a bulk statement takes at once. What is left over goes one by one.
const bulkRows = 16

// writer applies batches. It is used by the queue's goroutine alone.
//
// It talks to the driver's connection below database/sql, always from within sql.Conn.Raw: with six small statements
// a row, half a microsecond an argument is a tenth of the whole.
type writer struct {
	conn     *sql.Conn
	s        statements
	prepared []driver.Stmt // all of s, to be closed

	// What the database holds anyway, kept at hand. A failed batch may leave it wrong, but nothing is
	// written after a failure.
	scopes  map[ledger.Scope]int64
	numbers map[string]int64 // file id → number
	recent  map[billKey]*begun

	lastBill int64 // the greatest id of bills

	// Of the current batch: what is written at its end.
	newBills        []newBill
	saves, newSaves []savedBill // newSaves: of newBills
	outcomes        []outcomeRow
	parties         []partyRow
	counts          map[int64]count // by file number

	lag       *partyLag
	maxLag    int
	lastParty int64 // the greatest id of parties, those that were forgotten included
	merged    int   // how many of lag.merging are in the index
	mergeUpto int64 // once all are, the index holds the parties up to this id

	room []byte // for what is packed in this batch
}

// billKey is what bills are unique by.
type billKey struct {
	scope     int64
	reference string
}

// begun is a bill whose latest write was a Begin: its answer, when it comes, is a small update by id.
type begun struct {
	id    int64
	send  ledger.Send
	isNew bool // it stands in writer.newBills
	saved int  // where it stands in writer.newSaves if it is new, else in writer.saves; from 1, 0 = nowhere
}

// count is what a batch adds to a file's counters.
type count struct{ gets, throttled int }

type statements struct {
	begin, commit              *statement
	addScope, findScope        *statement
	addNumber, findNumber      *statement
	addFile, saveFile, hasFile *statement
	countFile                  *statement
	findBill                   *statement
	addAttempt                 *statement
	indexedUpto, keepFilter    *statement
	addBills, saveBills        bulk
	addOutcomes, addParties    bulk
	indexParties               bulk

	// Of retention.go.
	dropFile, dropOutcomes, dropAttempts *statement
	dropParty, dropIndexed               *statement
	eachBill, eachParty                  *statement
}

// newWriter prepares every statement on the one connection of db and keeps that.
func newWriter(ctx context.Context, db *sql.DB, lag *partyLag) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{
		conn:    conn,
		scopes:  map[ledger.Scope]int64{},
		numbers: map[string]int64{},
		recent:  map[billKey]*begun{},
		counts:  map[int64]count{},
		lag:     lag,
		maxLag:  maxLag,
	}
	insert := func(table string, columns ...string) string {
		return "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(columns)-1) + ")"
	}
	assign := func(columns []string) string { return strings.Join(columns, " = ?, ") + " = ?" }
	err = conn.Raw(func(c any) error {
		p := preparer{c: c.(driver.ConnPrepareContext)}
		w.s = statements{
			begin:      p.prepare("BEGIN IMMEDIATE"),
			commit:     p.prepare("COMMIT"),
			addScope:   p.prepare(insert("scopes", "merchant", "mode") + " ON CONFLICT DO NOTHING"),
			findScope:  p.prepare("SELECT id FROM scopes WHERE merchant = ? AND mode = ?"),
			addNumber:  p.prepare(insert("file_numbers", "id") + " ON CONFLICT DO NOTHING"),
			findNumber: p.prepare("SELECT number FROM file_numbers WHERE id = ?"),
			addFile:    p.prepare(insert("files", append([]string{"number", "id", "gets", "throttled"}, fileColumns...)...) + " ON CONFLICT DO NOTHING"),
			saveFile:   p.prepare("UPDATE OR IGNORE files SET " + assign(fileColumns) + " WHERE id = ?"),
			hasFile:    p.prepare("SELECT number FROM files WHERE id = ?"),
			countFile:  p.prepare("UPDATE files SET gets = gets + ?, throttled = throttled + ? WHERE number = ?"),
			addBills: p.prepareBulk(4, func(rows string) string {
				return "INSERT INTO bills (id, scope, reference, record) VALUES " + rows + " ON CONFLICT DO NOTHING"
			}),
			saveBills: p.prepareBulk(2, func(rows string) string {
				return "UPDATE bills SET record = v.column2 FROM (VALUES " + rows + ") AS v WHERE bills.id = v.column1"
			}),
			findBill:     p.prepare("SELECT id, record FROM bills WHERE scope = ? AND reference = ?"),
			addAttempt:   p.prepare(insert("attempts", "bill", "file", "row", "generation", "key", "sent_at", "answer")),
			indexedUpto:  p.prepare("UPDATE party_indexed SET upto = ?, filtered = filtered + ?"),
			keepFilter:   p.prepare("REPLACE INTO party_filters (level, held, bits) VALUES (?, ?, ?)"),
			dropFile:     p.prepare("DELETE FROM files WHERE number = ? AND state IN ('done', 'dropped')"),
			dropOutcomes: p.prepare("DELETE FROM outcomes WHERE id >= ?1 << 32 AND id < (?1 + 1) << 32"),
			dropAttempts: p.prepare("DELETE FROM attempts WHERE file = ?"),
			eachBill:     p.prepare("SELECT record FROM bills WHERE scope = ?"),
			eachParty:    p.prepare("SELECT id, digest, party_id FROM parties"),
			dropParty:    p.prepare("DELETE FROM parties WHERE id = ?"),
			dropIndexed:  p.prepare("DELETE FROM party_index WHERE hash = ?"),
			addOutcomes: p.prepareBulk(9, func(rows string) string {
				return "REPLACE INTO outcomes (id, status, currency, amount, attempts, customers, accounts, reference, record) VALUES " + rows
			}),
			addParties: p.prepareBulk(3, func(rows string) string { return "INSERT INTO parties (id, digest, party_id) VALUES " + rows }),
			indexParties: p.prepareBulk(2, func(rows string) string {
				return "REPLACE INTO party_index (hash, party) VALUES " + rows
			}),
		}
		w.prepared = p.prepared
		return p.err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare statements: %w", err), w.close())
	}
	if err := conn.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM bills").Scan(&w.lastBill); err != nil {
		return nil, errors.Join(err, w.close())
	}
	if err := conn.QueryRowContext(ctx, "SELECT max(coalesce((SELECT max(id) FROM parties), 0), (SELECT upto FROM party_indexed))").Scan(&w.lastParty); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// close frees the statements and gives the connection back. The queue's goroutine has ended.
func (w *writer) close() error {
	var errs []error
	for _, s := range w.prepared {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// commit applies ops in one transaction and makes that durable. On error nothing of it is applied, as far as
// the engine can tell, and no other batch must follow.
func (w *writer) commit(ops []op) error {
	return w.transact(func() error {
		w.room = w.room[:0]
		if len(w.recent) >= maxRecent {
			clear(w.recent)
		}
		for _, o := range ops {
			if err := o.apply(w); err != nil {
				return err
			}
		}
		if err := w.flushBills(); err != nil {
			return err
		}
		if err := w.applyRows(); err != nil {
			return err
		}
		return w.applyCounts()
	})
}

// transact makes what do writes durable, or nothing of it.
func (w *writer) transact(do func() error) error {
	err := w.conn.Raw(func(any) error {
		if _, err := w.s.begin.exec(); err != nil {
			return err
		}
		if err := do(); err != nil {
			return err
		}
		_, err := w.s.commit.exec()
		return err
	})
	if err != nil {
		// SQLite may have rolled back by itself (it does on a full disk); then this fails, and says nothing new.
		_, _ = w.conn.ExecContext(context.Background(), "ROLLBACK")
		return fmt.Errorf("write ledger: %w", unusable(err))
	}
	w.tellParties()
	return nil
}

func (w *writer) applyCounts() error {
	for number, c := range w.counts {
		if _, err := w.s.countFile.exec(c.gets, c.throttled, number); err != nil {
			return err
		}
	}
	clear(w.counts)
	return nil
}

// scope returns the number of s, which it gives it where it is new.
func (w *writer) scope(s ledger.Scope) (int64, error) {
	if id, ok := w.scopes[s]; ok {
		return id, nil
	}
	if _, err := w.s.addScope.exec(s.Merchant, s.Mode); err != nil {
		return 0, err
	}
	id, _, err := w.s.findScope.one(s.Merchant, s.Mode)
	if err != nil {
		return 0, err
	}
	w.scopes[s] = id
	return id, nil
}

// number returns the number of a file id, which it gives it where it is new. The file need not be recorded.
func (w *writer) number(file string) (int64, error) {
	if n, ok := w.numbers[file]; ok {
		return n, nil
	}
	if _, err := w.s.addNumber.exec(file); err != nil {
		return 0, err
	}
	n, _, err := w.s.findNumber.one(file)
	if err != nil {
		return 0, err
	}
	w.numbers[file] = n
	return n, nil
}

// preparer prepares statements on one connection; the first error stays.
type preparer struct {
	c        driver.ConnPrepareContext
	prepared []driver.Stmt
	err      error
}

func (p *preparer) prepare(query string) *statement {
	if p.err != nil {
		return nil
	}
	s, err := p.c.PrepareContext(context.Background(), query)
	if err != nil {
		p.err = err
		return nil
	}
	p.prepared = append(p.prepared, s)
	return &statement{
		execer:  s.(driver.StmtExecContext),
		queryer: s.(driver.StmtQueryContext),
	}
}

// prepareBulk prepares a statement for one and for bulkRows rows, each of so many columns.
func (p *preparer) prepareBulk(columns int, query func(rows string) string) bulk {
	row := "(?" + strings.Repeat(", ?", columns-1) + ")"
	return bulk{
		one:  p.prepare(query(row)),
		many: p.prepare(query(strings.Repeat(row+", ", bulkRows-1) + row)),
	}
}

// bulk is a statement that can take many rows at once, which saves much of what a small one costs.
type bulk struct {
	one, many *statement
	args      []any // kept between calls
}

// each runs over n rows, of which row appends the i-th to args.
func (b *bulk) each(n int, row func(args []any, i int) []any) error {
	_, err := b.count(n, row)
	return err
}

// count is each, and tells how many rows were changed.
func (b *bulk) count(n int, row func(args []any, i int) []any) (changed int, err error) {
	for i := 0; i < n; {
		s, rows := b.one, 1
		if n-i >= bulkRows {
			s, rows = b.many, bulkRows
		}
		b.args = b.args[:0]
		for range rows {
			b.args = row(b.args, i)
			i++
		}
		r, err := s.exec(b.args...)
		if err != nil {
			return changed, err
		}
		c, err := r.RowsAffected()
		if err != nil {
			return changed, err
		}
		changed += int(c)
	}
	return changed, nil
}

// statement is a prepared statement of the writing connection. Its arguments may be what a driver takes, and ints.
type statement struct {
	execer  driver.StmtExecContext
	queryer driver.StmtQueryContext
	args    []driver.NamedValue // kept between calls
}

func (s *statement) bind(args []any) []driver.NamedValue {
	s.args = s.args[:0]
	for i, a := range args {
		if n, ok := a.(int); ok {
			a = int64(n)
		}
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return s.args
}

// exec runs a statement that returns no rows.
func (s *statement) exec(args ...any) (driver.Result, error) {
	return s.execer.ExecContext(context.Background(), s.bind(args))
}

// changed runs a statement and reports whether it changed a row.
func (s *statement) changed(args ...any) (bool, error) {
	r, err := s.exec(args...)
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n > 0, err
}

// each runs a statement that returns rows, and hands every one of them to do.
func (s *statement) each(args []any, do func([]driver.Value) error) (err error) {
	rows, err := s.queryer.QueryContext(context.Background(), s.bind(args))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(row); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := do(row); err != nil {
			return err
		}
	}
}

// one returns the integer of a statement that returns one at most, and whether there was one.
func (s *statement) one(args ...any) (n int64, found bool, err error) {
	err = s.each(args, func(row []driver.Value) error {
		n, found = row[0].(int64), true
		return nil
	})
	return n, found, err
}
