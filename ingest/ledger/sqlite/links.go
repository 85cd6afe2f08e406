package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"billdrop/ingest/ledger"
)

// linkColumns are in the order of putLink and of readLink.
var linkColumns = []string{"scope", "reference", "bill_id", "state", "key", "key_first_used", "expires_at", "body", "answer", "request_id", "url", "sum"}

const selectLinks = `SELECT s.merchant, s.mode, l.reference, l.bill_id, l.state, l.key, l.key_first_used, l.expires_at, l.body, l.answer, l.request_id, l.url, l.sum
	FROM links AS l JOIN scopes AS s ON s.id = l.scope`

// readLink reads what selectLinks selects.
func readLink(r *row) ledger.LinkRow {
	l := ledger.LinkRow{Scope: r.scope()}
	l.Link = ledger.Link{Reference: r.text(), BillID: r.text(), State: ledger.LinkState(r.number()), Key: r.key(), KeyFirstUsed: r.time(),
		ExpiresAt: r.time(), Body: r.digest(), Answer: r.text(), RequestID: r.text(), URL: r.text()}
	l.Sum = r.number()
	return l
}

// Links implements ledger.Ledger.
func (l *Ledger) Links(ctx context.Context, s ledger.Scope, references []string) (map[string]ledger.Link, error) {
	links := make(map[string]ledger.Link)
	if len(references) == 0 {
		return links, nil
	}
	list, err := json.Marshal(references)
	if err == nil {
		err = l.readTx(ctx, func(tx *sql.Tx) error {
			query := selectLinks + " WHERE s.merchant = ? AND s.mode = ? AND l.reference IN (SELECT value FROM json_each(?))"
			return eachRow(ctx, tx, query, []any{s.Merchant, s.Mode, string(list)}, func(r *row) error {
				found := readLink(r)
				links[found.Link.Reference] = found.Link
				return nil
			})
		})
	}
	if err != nil {
		return nil, readError(ctx, "read payment requests", err)
	}
	return links, nil
}

// SaveLinks implements ledger.Ledger.
func (l *Ledger) SaveLinks(ctx context.Context, s ledger.Scope, links []ledger.Link) error {
	o := saveLinks{scope: s}
	for _, link := range links {
		o.links = append(o.links, ledger.LinkRow{Scope: s, Link: link, Sum: ledger.SumLink(s, &link)})
	}
	if err := l.doNow(ctx, &o); err != nil {
		return fmt.Errorf("record payment requests: %w", err)
	}
	return nil
}

type saveLinks struct {
	scope ledger.Scope
	links []ledger.LinkRow
}

func (o *saveLinks) apply(w *writer) error {
	for i := range o.links {
		if err := w.putLink(&o.links[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) putLink(r *ledger.LinkRow) error {
	scope, err := w.scope(r.Scope)
	if err != nil {
		return err
	}
	l := &r.Link
	return w.s.putLink.exec(scope, l.Reference, l.BillID, int64(l.State), keyValue(l.Key), micros(l.KeyFirstUsed), micros(l.ExpiresAt), l.Body[:],
		l.Answer, l.RequestID, l.URL, r.Sum)
}
