package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

const selectLinks = `SELECT s.merchant, s.mode, l.reference, l.bill_id, l.state, l.key, l.key_first_used, l.expires_at, l.body, l.answer, l.request_id, l.url, l.sum
	FROM links AS l JOIN scopes AS s ON s.id = l.scope`

// scanLink reads what selectLinks selects.
func scanLink(row tableRow) (ledger.LinkRow, error) {
	var r ledger.LinkRow
	l := &r.Link
	err := row.Scan(&r.Scope.Merchant, &r.Scope.Mode, &l.Reference, &l.BillID, &l.State, &l.Key, &l.KeyFirstUsed, &l.ExpiresAt, &l.Body, &l.Answer, &l.RequestID, &l.URL, &r.Sum)
	return r, err
}

// Links implements ledger.Ledger.
func (l *Ledger) Links(ctx context.Context, s ledger.Scope, references []string) (map[string]ledger.Link, error) {
	var links map[string]ledger.Link
	asked := make([]string, len(references))
	for i, ref := range references {
		asked[i] = stored(ref)
	}
	err := l.readTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		links = make(map[string]ledger.Link)
		query := selectLinks + " WHERE s.merchant = $1 AND s.mode = $2 AND l.reference = ANY ($3)"
		return eachRow(ctx, tx, query, []any{stored(s.Merchant), stored(s.Mode), asked}, func(row tableRow) error {
			found, err := scanLink(row)
			links[found.Link.Reference] = found.Link
			return err
		})
	})
	if err != nil {
		return nil, readError(ctx, "read payment requests", err)
	}
	return links, nil
}

// SaveLinks implements ledger.Ledger.
func (l *Ledger) SaveLinks(ctx context.Context, s ledger.Scope, links []ledger.Link) error {
	scope, err := l.scope(ctx, s)
	if err == nil {
		o := &saveLinks{}
		for i := range links {
			o.rows.add(linkValues(scope, &links[i], ledger.SumLink(s, &links[i])))
		}
		err = l.change(ctx, o)
	}
	if err != nil {
		return fmt.Errorf("record payment requests: %w", err)
	}
	return nil
}

type saveLinks struct{ rows given }

func (o *saveLinks) apply(t *tx) error {
	if err := t.flush(); err != nil {
		return err
	}
	if len(o.rows) == 0 {
		return nil
	}
	_, err := t.exec(putLinks, o.rows.args()...)
	return err
}

const putLinks = `INSERT INTO links (scope, reference, bill_id, state, key, key_first_used, expires_at, body, answer, request_id, url, sum)
	SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::bigint[], $7::bigint[], $8::bytea[], $9::text[], $10::text[],
		$11::text[], $12::bigint[])
	ON CONFLICT (reference, scope) DO UPDATE SET bill_id = excluded.bill_id, state = excluded.state, key = excluded.key, key_first_used = excluded.key_first_used,
		expires_at = excluded.expires_at, body = excluded.body, answer = excluded.answer, request_id = excluded.request_id, url = excluded.url, sum = excluded.sum`

// linkValues are what putLinks puts of a payment request with this sum.
func linkValues(scope int64, l *ledger.Link, sum int64) []any {
	return []any{scope, l.Reference, l.BillID, int16(l.State), l.Key, micros(l.KeyFirstUsed), micros(l.ExpiresAt), l.Body[:], l.Answer, l.RequestID, l.URL, sum}
}
