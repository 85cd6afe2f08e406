package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"billdrop/ingest/ledger"
)

// Import implements ledger.Store.
func (l *Ledger) Import(ctx context.Context, export func(put func(ledger.Row) error) error) error {
	begin := &beginImport{}
	err := errors.Join(l.doNow(ctx, begin), begin.refused)
	if err == nil {
		err = export(func(r ledger.Row) error {
			return l.add(ctx, &importRow{r})
		})
	}
	if err == nil {
		err = l.settle(ctx, nil)
	}
	if err != nil {
		return fmt.Errorf("fill ledger %q: %w", l.path, err)
	}
	return nil
}

// FinishImport implements ledger.Store.
func (l *Ledger) FinishImport(ctx context.Context) error {
	if err := l.doNow(ctx, &endImport{}); err != nil {
		return fmt.Errorf("finish the copy into ledger %q: %w", l.path, err)
	}
	return nil
}

// checkWhole fails with Unfinished where an import did not finish.
func checkWhole(ctx context.Context, db *sql.DB) error {
	var copying bool
	err := db.QueryRowContext(ctx, "SELECT count(*) > 0 FROM marks WHERE name = 'copying'").Scan(&copying)
	if err == nil && copying {
		return ledger.Unfinished()
	}
	return err
}

// beginImport marks an empty ledger.
type beginImport struct {
	refused error // ErrExists
}

func (o *beginImport) apply(w *writer) error {
	used, _, err := w.once(`SELECT EXISTS (SELECT 1 FROM files) OR EXISTS (SELECT 1 FROM bills) OR EXISTS (SELECT 1 FROM outcomes)
		OR EXISTS (SELECT 1 FROM parties)`)
	switch {
	case err != nil:
		return err
	case used != 0:
		o.refused = &ledger.Error{Err: fmt.Errorf("it holds something: %w", ledger.ErrExists), Hint: "a ledger is copied into an empty one; name a new file"}
		return nil
	}
	clear(w.scopes)
	for _, query := range []string{"DELETE FROM scopes", "INSERT INTO marks (name, value) VALUES ('copying', '')"} {
		if _, _, err := w.once(query); err != nil {
			return err
		}
	}
	return nil
}

type endImport struct{}

func (*endImport) apply(w *writer) error {
	_, _, err := w.once("DELETE FROM marks WHERE name = 'copying'")
	return err
}

// importRow is one row of an import.
type importRow struct{ row ledger.Row }

func (o *importRow) apply(w *writer) error {
	switch r := o.row.(type) {
	case ledger.ScopeRow:
		return (&setBaseURL{r.Scope, r.BaseURL}).apply(w)
	case ledger.FileRow:
		put := &putFile{file: *r.File, isNew: true}
		return errors.Join(put.apply(w), put.refused)
	case ledger.BillRow:
		return w.importBill(&r)
	case ledger.AttemptRow:
		return w.importAttempt(&r)
	case ledger.OutcomeRow:
		file, err := w.number(r.File)
		if err == nil {
			w.putOutcome(file, r.Outcome, r.Sum)
		}
		return err
	case ledger.PartyRow:
		return w.putParties(r.Scope, []party{{r.Digest, ledger.Party{PartyRef: ledger.PartyRef{Kind: r.Kind}, ID: r.ID, CustomerID: r.CustomerID, Since: r.Since}}})
	case ledger.LinkRow:
		return w.putLink(&r)
	case ledger.TotalRow:
		return w.importTotal(r.Bills)
	}
	return errors.New("a kind of row that is not known")
}

func (w *writer) importBill(r *ledger.BillRow) error {
	if err := w.putBill(r.Scope, r.Bill); err != nil {
		return err
	}
	values := w.s.putBill.rows[len(w.s.putBill.rows)-1]
	values[sumsAt], values[sumsAt+1] = r.Sum, r.SendSum
	if r.Attempts == 0 {
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	scope, err := w.scope(r.Scope)
	if err == nil {
		_, _, err = w.once("UPDATE bills SET attempts = ? WHERE reference = ? AND scope = ?", r.Attempts, r.Bill.Reference, scope)
	}
	return err
}

func (w *writer) importAttempt(r *ledger.AttemptRow) error {
	if err := w.flush(); err != nil { // the bill
		return err
	}
	scope, err := w.scope(r.Scope)
	if err != nil {
		return err
	}
	file, err := w.number(r.Attempt.File)
	if err != nil {
		return err
	}
	a := &r.Attempt
	_, _, err = w.once(`INSERT INTO attempts (bill, file, row, generation, key, sent_at, answer, sum)
		SELECT id, ?, ?, ?, ?, ?, ?, ? FROM bills WHERE reference = ? AND scope = ?`,
		file, r.Row, a.Generation, keyValue(a.Key), micros(a.At), a.Answer, r.Sum, r.Reference, scope)
	return err
}

// importTotal gives the last bill the number of bills that there were.
func (w *writer) importTotal(bills int64) error {
	if err := w.flush(); err != nil {
		return err
	}
	last, found, err := w.once("SELECT max(id) FROM bills HAVING count(*) > 0")
	if err != nil || !found || last >= bills {
		return err
	}
	if _, _, err := w.once("UPDATE attempts SET bill = ? WHERE bill = ?", bills, last); err != nil {
		return err
	}
	_, _, err = w.once("UPDATE bills SET id = ? WHERE id = ?", bills, last)
	return err
}
