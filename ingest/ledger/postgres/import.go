package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

// importRows is how many rows of a table a statement of an import puts.
const importRows = 2000

// Import implements ledger.Store.
func (l *Ledger) Import(ctx context.Context, export func(put func(ledger.Row) error) error) error {
	err := l.beginImport(ctx)
	if err == nil {
		var me *identity
		if me, err = l.identity(ctx); err == nil {
			i := &importer{l: l, ctx: ctx, me: me}
			if err = export(i.put); err == nil {
				err = i.flush()
			}
		}
	}
	if err != nil {
		return fmt.Errorf("fill ledger %s: %w", l.name, err)
	}
	return nil
}

// beginImport marks an empty ledger that no worker uses.
func (l *Ledger) beginImport(ctx context.Context) error {
	return pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(joinLock)); err != nil {
			return unusable(err)
		}
		if _, err := idle(ctx, tx); err != nil {
			return err
		}
		var used bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM files) OR EXISTS (SELECT FROM bills) OR EXISTS (SELECT FROM outcomes)
			OR EXISTS (SELECT FROM attempts) OR EXISTS (SELECT FROM parties WHERE id <> '')`).Scan(&used)
		if err != nil {
			return unusable(err)
		}
		if used {
			return &ledger.Error{Err: fmt.Errorf("it holds something: %w", ledger.ErrExists), Hint: "a ledger is copied into an empty one; make a new database"}
		}
		// What an empty ledger may hold all the same.
		for _, sql := range []string{"DELETE FROM parties", "DELETE FROM paces", "DELETE FROM scopes", "UPDATE sessions SET bills = 0",
			"INSERT INTO marks (name, value) VALUES ('copying', clock_timestamp()::text)"} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return unusable(err)
			}
		}
		l.scopes.Clear()
		return nil
	})
}

// FinishImport implements ledger.Store.
func (l *Ledger) FinishImport(ctx context.Context) error {
	if _, err := l.pool.Exec(ctx, "DELETE FROM marks WHERE name = 'copying'"); err != nil {
		return readError(ctx, "finish the copy into ledger "+l.name, err)
	}
	// The tables are as large as they will be for long, so that plans can be good from now on.
	_, _ = l.pool.Exec(ctx, "ANALYZE") // if not, the server does it by itself, later
	return nil
}

// checkWhole fails with Unfinished where an import did not finish.
func checkWhole(ctx context.Context, q querier) error {
	var copying bool
	err := q.QueryRow(ctx, "SELECT EXISTS (SELECT FROM marks WHERE name = 'copying')").Scan(&copying)
	if err == nil && copying {
		return ledger.Unfinished()
	}
	return err
}

// importer gathers rows, and puts many with one statement.
type importer struct {
	l   *Ledger
	ctx context.Context
	me  *identity

	bills, resent, attempts, outcomes, parties, links given
}

func (i *importer) put(row ledger.Row) (err error) {
	var scope, file int64
	switch r := row.(type) {
	case ledger.ScopeRow:
		if scope, err = i.l.scope(i.ctx, r.Scope); err == nil {
			err = i.exec("UPDATE scopes SET base_url = $2 WHERE id = $1", scope, stored(r.BaseURL))
		}
	case ledger.FileRow:
		err = i.putFile(r.File)
	case ledger.BillRow:
		p := put{bill: *r.Bill, ref: r.Scope, revision: i.me.stamp()}
		if err := i.l.numbered(i.ctx, &p); err != nil {
			return err
		}
		i.bills.add(p.values(r.Sum, r.SendSum))
		if r.Attempts != 0 {
			i.resent.add([]any{r.Bill.Reference, p.scope, r.Attempts})
		}
	case ledger.AttemptRow:
		if scope, err = i.l.scope(i.ctx, r.Scope); err != nil {
			return err
		}
		if file, err = i.l.number(i.ctx, r.Attempt.File); err != nil {
			return err
		}
		a := &r.Attempt
		i.attempts.add([]any{r.Reference, scope, file, r.Row, a.Generation, a.Key, micros(a.At), a.Answer, r.Sum})
	case ledger.OutcomeRow:
		if file, err = i.l.number(i.ctx, r.File); err != nil {
			return err
		}
		i.outcomes.add(outcomeValues(file, r.Outcome, r.Sum))
	case ledger.PartyRow:
		if scope, err = i.l.scope(i.ctx, r.Scope); err != nil {
			return err
		}
		p := party{digest: r.Digest, scope: scope, kind: r.Kind, id: r.ID, customerID: r.CustomerID, since: r.Since}
		i.parties.add(p.values(i.me.session))
	case ledger.LinkRow:
		if scope, err = i.l.scope(i.ctx, r.Scope); err != nil {
			return err
		}
		i.links.add(linkValues(scope, &r.Link, r.Sum))
	case ledger.TotalRow:
		err = i.exec("UPDATE sessions SET bills = $2 WHERE id = $1", i.me.session, r.Bills)
	default:
		err = ledger.ErrUnknownRow
	}
	if err == nil && max(len(i.bills), len(i.attempts), len(i.outcomes), len(i.parties), len(i.links)) >= importRows {
		err = i.flush()
	}
	return err
}

func (i *importer) putFile(f *ledger.File) error {
	scope, err := i.l.scope(i.ctx, f.Scope)
	if err != nil {
		return err
	}
	number, err := i.l.number(i.ctx, f.ID)
	if err != nil {
		return err
	}
	o := &putFile{file: *f, scope: scope, revision: i.me.stamp()}
	args, err := o.args()
	if err != nil {
		return err
	}
	return i.exec(addFile, append([]any{number, stored(f.ID), f.Gets, f.Throttled, f.LinkPosts, f.LinkRetries}, args...)...)
}

const (
	// resendBills puts how many attempts bills had.
	resendBills = `UPDATE bills AS b SET attempts = v.n FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS v (reference, scope, n)
		WHERE b.reference = v.reference AND b.scope = v.scope`
	// addAttempts adds attempts in the order of the rows, which is that of their ids then.
	addAttempts = `INSERT INTO attempts (reference, scope, file, row_no, generation, key, sent_at, answer, sum)
		SELECT reference, scope, file, row_no, generation, key, sent_at, answer, sum FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[],
			$5::bigint[], $6::text[], $7::bigint[], $8::text[], $9::bigint[]) WITH ORDINALITY
			AS v (reference, scope, file, row_no, generation, key, sent_at, answer, sum, no) ORDER BY v.no`
)

// flush puts what was gathered.
func (i *importer) flush() error {
	for _, table := range []struct {
		rows *given
		put  string
		more []any
	}{
		{&i.bills, addBills, []any{i.me.session}},
		{&i.resent, resendBills, nil},
		{&i.attempts, addAttempts, nil},
		{&i.outcomes, putOutcomes, nil},
		{&i.parties, putParties, []any{i.me.session}},
		{&i.links, putLinks, nil},
	} {
		if len(*table.rows) == 0 {
			continue
		}
		if err := i.exec(table.put, table.rows.args(table.more...)...); err != nil {
			return err
		}
		*table.rows = nil
	}
	return nil
}

// exec runs a statement once: an import that fails is begun anew, in another database.
func (i *importer) exec(sql string, args ...any) error {
	if _, err := i.l.pool.Exec(i.ctx, sql, args...); err != nil {
		return readError(i.ctx, "write", err)
	}
	return nil
}
