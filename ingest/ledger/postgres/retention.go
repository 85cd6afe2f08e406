package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

// Prune implements ledger.Ledger. The file's parts and orders go, too.
func (l *Ledger) Prune(ctx context.Context, id string) (int, error) {
	o := &prune{file: id}
	if err := l.change(ctx, o); err != nil {
		return 0, fmt.Errorf("prune file %s: %w", id, err)
	}
	if o.refused != nil {
		return 0, fmt.Errorf("prune file %s: %w", id, o.refused)
	}
	l.known.Delete(id)
	return o.rows, nil
}

// change makes sure that there is a session, and returns once o is durable.
func (l *Ledger) change(ctx context.Context, o op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := l.identity(ctx); err != nil {
		return err
	}
	return l.queue.DoNow(ctx, o)
}

type prune struct {
	file    string
	rows    int
	refusal // ErrNotFound or ErrUnfinished
}

func (o *prune) apply(t *tx) error {
	o.rows, o.refused = 0, nil
	if err := t.flush(); err != nil { // what came before o
		return err
	}
	var number int64
	var finished bool
	known, err := t.one("SELECT number, state IN ('done', 'dropped') FROM files WHERE number = (SELECT number FROM file_numbers WHERE id = $1) FOR UPDATE",
		[]any{stored(o.file)}, func(row pgx.Row) error { return row.Scan(&number, &finished) })
	switch {
	case err != nil:
		return err
	case !known:
		o.refused = ledger.ErrNotFound
		return nil
	case !finished:
		o.refused = ledger.ErrUnfinished
		return nil
	}
	if o.rows, err = t.exec("DELETE FROM outcomes WHERE file = $1", number); err != nil {
		return err
	}
	for _, sql := range []string{
		`WITH gone AS (DELETE FROM attempts WHERE file = $1 RETURNING reference, scope),
				n AS (SELECT reference, scope, count(*) AS n FROM gone GROUP BY reference, scope)
			UPDATE bills AS b SET attempts = b.attempts - n.n FROM n WHERE b.reference = n.reference AND b.scope = n.scope`,
		"DELETE FROM parts WHERE file = $1",
		"DELETE FROM orders WHERE file = (SELECT id FROM file_numbers WHERE number = $1)",
		"DELETE FROM files WHERE number = $1",
	} {
		if _, err := t.exec(sql, number); err != nil {
			return err
		}
	}
	return nil
}

// pruned is the result of a prune.
type pruned struct {
	Rows    int    `json:"rows,omitempty"`
	Refused string `json:"refused,omitempty"`
}

func (o *prune) result() any { return pruned{o.rows, o.word()} }

func (o *prune) restore(b json.RawMessage) error {
	var p pruned
	err := json.Unmarshal(b, &p)
	o.rows, o.refused = p.Rows, refusals[p.Refused]
	return err
}

// Forget implements ledger.Ledger. It reads all bills, which are not indexed by customer because
// nothing else asks for that.
func (l *Ledger) Forget(ctx context.Context, s ledger.Scope, customer string) (int, error) {
	o := &forget{customer: ledger.PartyRef{Kind: ledger.Customer, Reference: customer}.Digest(s)}
	err := l.change(ctx, o)
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

func (o *forget) apply(t *tx) (err error) {
	if err := t.flush(); err != nil { // what came before o
		return err
	}
	o.parties, err = t.exec(`WITH customer AS (SELECT scope, id FROM parties WHERE digest = $1 AND id <> '')
		DELETE FROM parties WHERE id <> '' AND scope = (SELECT scope FROM customer) AND (id = (SELECT id FROM customer)
			OR customer_id = (SELECT id FROM customer)
			OR id IN (SELECT b.account_id FROM bills AS b JOIN customer AS c ON b.scope = c.scope AND b.customer_id = c.id))`, o.customer[:])
	return err
}

func (o *forget) result() any { return o.parties }

func (o *forget) restore(b json.RawMessage) error { return json.Unmarshal(b, &o.parties) }

// BaseURL implements ledger.Ledger.
func (l *Ledger) BaseURL(ctx context.Context, s ledger.Scope) (url string, err error) {
	err = l.readTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := tx.QueryRow(ctx, "SELECT base_url FROM scopes WHERE merchant = $1 AND mode = $2", stored(s.Merchant), stored(s.Mode)).Scan(&url)
		if errors.Is(err, pgx.ErrNoRows) {
			url, err = "", nil
		}
		url = read(url)
		return err
	})
	if err != nil {
		return "", readError(ctx, "read the API's address", err)
	}
	return url, nil
}

// SetBaseURL implements ledger.Ledger.
func (l *Ledger) SetBaseURL(ctx context.Context, s ledger.Scope, url string) error {
	scope, err := l.scope(ctx, s)
	if err == nil {
		err = l.change(ctx, &setBaseURL{scope, url})
	}
	if err != nil {
		return fmt.Errorf("record the API's address: %w", err)
	}
	return nil
}

type setBaseURL struct {
	scope int64
	url   string
}

func (o *setBaseURL) apply(t *tx) error {
	if err := t.flush(); err != nil {
		return err
	}
	_, err := t.exec("UPDATE scopes SET base_url = $2 WHERE id = $1", o.scope, stored(o.url))
	return err
}
