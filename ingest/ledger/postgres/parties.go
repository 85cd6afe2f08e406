package postgres

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"billdrop/ingest/ledger"
)

// party is what a statement puts into the table: what is known of a party (id), that a
// send leads it (leads), or that one does not any more (neither).
type party struct {
	digest         ledger.Digest
	scope          int64
	kind           ledger.PartyKind
	id, customerID string
	since          time.Time
	leads          bool
	file           int64 // of the send that leads
	row            int
	led            bool // this worker leads it, so that there is a row
}

// merge makes p what it is after next, and reports whether that can be said without knowing what is
// stored.
func (p *party) merge(next *party) bool {
	if p.id != next.id || p.id == "" {
		return false
	}
	p.customerID, p.led = cmp.Or(next.customerID, p.customerID), p.led || next.led
	if p.since.IsZero() {
		p.since = next.since
	}
	return true
}

// values are what a statement of the session me puts of a party, in the order of givenParties.
func (p *party) values(me int64) []any {
	lead := func(n int64) pgtype.Int8 { return pgtype.Int8{Int64: n, Valid: p.leads} }
	return []any{p.digest[:], p.scope, int16(p.kind), p.id, p.customerID, micros(p.since), lead(me), lead(p.file), lead(int64(p.row))}
}

// givenParties are given rows of parties, as rows v. The session is the parameter after them.
const givenParties = `unnest($1::bytea[], $2::bigint[], $3::smallint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
	AS v (digest, scope, kind, id, customer_id, since, lead_worker, lead_file, lead_row)`

const (
	// putParties puts parties; see party for what a row means. What is known of an
	// account's customer stays known when a later record of the account does not name it.
	// It returns the digests of the rows that it changed: a lead that is not among them
	// was refused, if possible without locking what others write.
	putParties = `INSERT INTO parties AS p (digest, scope, kind, id, customer_id, since, lead_worker, lead_file, lead_row)
		SELECT v.* FROM ` + givenParties + ` WHERE v.lead_worker IS NULL OR NOT EXISTS (SELECT FROM parties AS q WHERE q.digest = v.digest
			AND (q.id <> '' OR q.lead_worker IS NOT NULL AND led_elsewhere(q.lead_worker, q.lead_file, q.lead_row, $10)))
		ON CONFLICT (digest) DO UPDATE SET
			id = CASE WHEN excluded.id <> '' THEN excluded.id ELSE p.id END,
			customer_id = CASE WHEN excluded.customer_id <> '' OR excluded.id <> '' AND excluded.id <> p.id THEN excluded.customer_id ELSE p.customer_id END,
			since = CASE WHEN excluded.id <> '' AND excluded.id <> p.id THEN excluded.since ELSE coalesce(p.since, excluded.since) END,
			lead_worker = excluded.lead_worker, lead_file = excluded.lead_file, lead_row = excluded.lead_row
		WHERE CASE
			WHEN excluded.id <> '' THEN p.id <> excluded.id OR excluded.customer_id <> '' AND excluded.customer_id <> p.customer_id
				OR p.since IS NULL AND excluded.since IS NOT NULL OR p.lead_worker IS NOT NULL
			WHEN excluded.lead_worker IS NOT NULL THEN p.id = ''
				AND (p.lead_worker IS NULL OR NOT led_elsewhere(p.lead_worker, p.lead_file, p.lead_row, $10))
			ELSE p.lead_worker = $10 END
		RETURNING p.digest`
	// leadParties is putParties of leads of parties that are not in the table, for less work; see
	// tx.careful.
	leadParties = `INSERT INTO parties (digest, scope, kind, id, customer_id, lead_worker, lead_file, lead_row)
		SELECT v.digest, v.scope, v.kind, v.id, v.customer_id, v.lead_worker, v.lead_file, v.lead_row FROM ` + givenParties + ` WHERE $10 > 0`
	// leadPartiesCarefully is leadParties of those that are not in the table, whose digests it
	// returns. It asks for them first, because an insert waits for a transaction that is
	// changing the row there.
	leadPartiesCarefully = leadParties + " AND NOT EXISTS (SELECT FROM parties AS q WHERE q.digest = v.digest) ON CONFLICT DO NOTHING RETURNING digest"
	// bringParties is putParties of what this worker led and brought, for less work. Those
	// that are not in the table stay so.
	bringParties = `UPDATE parties AS p SET id = v.id,
			customer_id = CASE WHEN v.customer_id <> '' OR v.id <> p.id THEN v.customer_id ELSE p.customer_id END,
			since = CASE WHEN v.id <> p.id THEN v.since ELSE coalesce(p.since, v.since) END,
			lead_worker = NULL, lead_file = NULL, lead_row = NULL
		FROM ` + givenParties + ` WHERE p.digest = v.digest AND $10 > 0`
)

// partyPuts are the parties of a segment on their way into the table.
type partyPuts struct {
	me      int64
	leads   []*party
	brought []*party               // that this worker led
	others  []*party               // of which more has to be known than what they become
	found   int                    // of brought
	careful bool                   // leads may be in the table
	changed map[ledger.Digest]bool // leads that are granted, among others
}

// newPartyPuts sorts the segment's parties, so that each statement locks rows in the same order in
// all workers. Leads are careful behind an earlier segment, which may have locked rows: see queue.
func (t *tx) newPartyPuts() *partyPuts {
	p := &partyPuts{me: t.me.session, careful: t.begun || t.careful("parties"), changed: make(map[ledger.Digest]bool, len(t.seg.parties))}
	for _, digest := range slices.SortedFunc(maps.Keys(t.seg.parties), func(a, b ledger.Digest) int { return bytes.Compare(a[:], b[:]) }) {
		switch party := t.seg.parties[digest]; {
		case party.led:
			p.brought = append(p.brought, party)
		case party.leads:
			p.leads = append(p.leads, party)
		default:
			p.others = append(p.others, party)
		}
	}
	return p
}

// queue puts parties in the ways of a clean run, where leads are new parties. Leads come
// first: they may wait for another worker that brings the same party, and that one would lead
// what is brought here. So no row that is there already is locked before.
func (p *partyPuts) queue(b *pgx.Batch) {
	if p.careful {
		p.put(b, leadPartiesCarefully, p.leads, nil)
	} else {
		p.put(b, leadParties, p.leads, func(pgconn.CommandTag) {
			for _, l := range p.leads {
				p.changed[l.digest] = true
			}
		})
	}
	p.put(b, bringParties, p.brought, func(tag pgconn.CommandTag) { p.found = int(tag.RowsAffected()) })
	p.put(b, putParties, p.others, nil)
}

// finish puts what queue left out.
func (p *partyPuts) finish(t *tx) error {
	left := slices.DeleteFunc(p.leads, func(l *party) bool { return p.changed[l.digest] })
	if p.found < len(p.brought) {
		left = append(left, p.brought...)
	}
	if len(left) == 0 {
		return nil
	}
	slices.SortFunc(left, func(a, b *party) int { return bytes.Compare(a.digest[:], b.digest[:]) })
	return t.send(func(b *pgx.Batch) { p.put(b, putParties, left, nil) })
}

// put runs one of the statements that put parties. done, if not nil, is told what it did.
func (p *partyPuts) put(b *pgx.Batch, sql string, list []*party, done func(pgconn.CommandTag)) {
	if len(list) == 0 {
		return
	}
	var puts given
	for _, party := range list {
		puts.add(party.values(p.me))
	}
	b.Queue(sql, puts.args(p.me)...).Query(func(rows pgx.Rows) error {
		var digest []byte
		tag, err := pgx.ForEachRow(rows, []any{&digest}, func() error {
			p.changed[ledger.Digest(digest)] = true
			return nil
		})
		if err == nil && done != nil {
			done(tag)
		}
		return err
	})
}

// partiesByDigest finds each party by the index. With digest = ANY ($1), the server would rather
// read the whole table, while that is small.
const partiesByDigest = `SELECT p.digest, p.id, p.customer_id, p.since FROM unnest($1::bytea[]) AS v (digest)
	CROSS JOIN LATERAL (SELECT * FROM parties WHERE digest = v.digest AND id <> '' OFFSET 0) AS p`

// Parties implements ledger.Ledger.
func (l *Ledger) Parties(ctx context.Context, s ledger.Scope, refs []ledger.PartyRef) (map[ledger.PartyRef]ledger.Party, error) {
	asked := make(map[ledger.Digest]ledger.PartyRef, len(refs))
	digests := make([][]byte, 0, len(refs))
	for _, ref := range refs {
		d := ref.Digest(s)
		asked[d] = ref
		digests = append(digests, d[:])
	}
	err := l.queue.Barrier(ctx, func(o op) bool {
		r, ok := o.(*record)
		if !ok {
			return false
		}
		for i := range r.parties {
			if _, ok := asked[r.parties[i].digest]; ok {
				return true
			}
		}
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("read parties: %w", err)
	}
	parties := make(map[ledger.PartyRef]ledger.Party)
	if len(refs) == 0 {
		return parties, nil
	}
	err = l.query(ctx, partiesByDigest, []any{digests}, func() { clear(parties) },
		func(row tableRow) error {
			var digest ledger.Digest
			var p ledger.Party
			err := row.Scan(&digest, &p.ID, &p.CustomerID, &p.Since)
			p.PartyRef = asked[digest]
			parties[p.PartyRef] = p
			return err
		})
	if err != nil {
		return nil, readError(ctx, "read parties", err)
	}
	return parties, nil
}

// rowKey is a row of a file.
type rowKey struct {
	file int64 // number
	row  int
}

// leads are the parties that this worker's sends may be creating, by the row that was
// sent. A row that ends without its parties gives them back.
type leads struct {
	mu    sync.Mutex
	byRow map[rowKey][]ledger.Digest
	held  map[ledger.Digest]int // by how many rows
}

func (l *leads) note(row rowKey, list []lead) {
	if len(list) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byRow == nil {
		l.byRow, l.held = map[rowKey][]ledger.Digest{}, map[ledger.Digest]int{}
	}
	for _, d := range list {
		if !slices.Contains(l.byRow[row], d.digest) {
			l.byRow[row] = append(l.byRow[row], d.digest)
			l.held[d.digest]++
		}
	}
}

// end forgets the leads of a row and returns those that no other row has.
func (l *leads) end(row rowKey) []ledger.Digest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forget(row)
}

// endAll is end, of the rows for which of is true.
func (l *leads) endAll(of func(rowKey) bool) []ledger.Digest {
	l.mu.Lock()
	defer l.mu.Unlock()
	var free []ledger.Digest
	for row := range l.byRow {
		if of(row) {
			free = append(free, l.forget(row)...)
		}
	}
	return free
}

// forget is end. l.mu is held.
func (l *leads) forget(row rowKey) []ledger.Digest {
	var free []ledger.Digest
	for _, d := range l.byRow[row] {
		if l.held[d]--; l.held[d] == 0 {
			delete(l.held, d)
			free = append(free, d)
		}
	}
	delete(l.byRow, row)
	return free
}

func (l *leads) has(d ledger.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[d] > 0
}
