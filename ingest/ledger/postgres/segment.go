package postgres

import (
	"bytes"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

// segment is a run of Begins and Records of a batch that no two of change the same row, so
// that each table takes all of its rows by one statement, in any order.
type segment struct {
	begins   []*begin
	records  []*record
	bills    map[billKey]bool
	parties  map[ledger.Digest]*party
	outcomes map[rowKey]*record // the latest one of each row
	counts   map[int64]*counts  // by number of the file
}

type billKey struct {
	scope     int64
	reference string
}

type counts struct{ gets, throttled, linkPosts, linkRetries int64 }

func (s *segment) empty() bool { return len(s.begins) == 0 && len(s.records) == 0 }

func (s *segment) reset() {
	*s = segment{bills: map[billKey]bool{}, parties: map[ledger.Digest]*party{}, outcomes: map[rowKey]*record{}, counts: map[int64]*counts{}}
}

// takes reports whether the segment has room for a change of a bill, if any, and of parties.
func (s *segment) takes(bill *put, parties []party) bool {
	if bill != nil && s.bills[billKey{bill.scope, bill.bill.Reference}] {
		return false
	}
	for i := range parties {
		if known := s.parties[parties[i].digest]; known != nil {
			if merged := *known; !merged.merge(&parties[i]) {
				return false
			}
		}
	}
	return true
}

func (s *segment) add(bill *put, parties []party) {
	if bill != nil {
		s.bills[billKey{bill.scope, bill.bill.Reference}] = true
	}
	for i := range parties {
		p := &parties[i]
		if known := s.parties[p.digest]; known != nil {
			known.merge(p)
			continue
		}
		added := *p
		s.parties[p.digest] = &added
	}
}

// makeRoom makes room for a change: what came before is written where both would change the
// same row.
func (t *tx) makeRoom(bill *put, parties []party) error {
	if t.seg.bills == nil {
		t.seg.reset()
	}
	if t.seg.takes(bill, parties) {
		return nil
	}
	return t.flush()
}

func (t *tx) addBegin(o *begin) error {
	leads := make([]party, 0, len(o.leads))
	for _, l := range o.leads {
		leads = append(leads, party{digest: l.digest, scope: o.scope, kind: l.kind, leads: true, file: o.file, row: o.bill.Send.Row})
	}
	if err := t.makeRoom(&o.put, leads); err != nil {
		return err
	}
	t.seg.add(&o.put, leads)
	t.seg.begins = append(t.seg.begins, o)
	return nil
}

func (t *tx) addRecord(r *record) error {
	var bill *put
	if r.entry.Bill != nil {
		bill = &r.put
	}
	if err := t.makeRoom(bill, r.parties); err != nil {
		return err
	}
	t.seg.add(bill, r.parties)
	t.seg.records = append(t.seg.records, r)
	if r.entry.Outcome != nil {
		t.seg.outcomes[rowKey{r.number, r.outcome.Row}] = r
	}
	if r.entry.Counts() {
		c := t.seg.counts[r.number]
		if c == nil {
			c = &counts{}
			t.seg.counts[r.number] = c
		}
		c.gets += int64(r.entry.Gets)
		c.throttled += int64(r.entry.Throttled)
		c.linkPosts += int64(r.entry.LinkPosts)
		c.linkRetries += int64(r.entry.LinkRetries)
	}
	return nil
}

// flush writes what the batch has gathered so far. Leads are granted first, because a bill is
// begun only with all of its own.
func (t *tx) flush() error {
	if t.seg.empty() {
		return nil
	}
	defer t.seg.reset()
	parties := t.newPartyPuts()
	var held []handful
	err := t.send(func(b *pgx.Batch) {
		t.queueHeld(b, &held)
		parties.queue(b)
		if len(t.seg.begins) == 0 {
			t.queueRows(b)
		}
	})
	if err == nil {
		err = parties.finish(t)
	}
	if err != nil || len(t.seg.begins) == 0 {
		return err
	}
	if err := t.judge(held, parties.changed); err != nil {
		return err
	}
	if err := t.send(t.queueRows); err != nil {
		return err
	}
	return t.takeBack()
}

// handful is a range of a file's rows that another live worker has in hand.
type handful struct{ file, from, to int64 }

// queueHeld asks which rows of the files that are sent for others have in hand.
func (t *tx) queueHeld(b *pgx.Batch, held *[]handful) {
	if len(t.seg.begins) == 0 {
		return
	}
	var files []int64
	for _, o := range t.seg.begins {
		if !slices.Contains(files, o.file) {
			files = append(files, o.file)
		}
	}
	b.Queue(`SELECT p.file, p.from_row, p.to_row FROM parts AS p JOIN workers AS w ON w.id = p.worker
			WHERE p.file = ANY ($1) AND p.worker <> $2 AND w.lost_at IS NULL AND w.heard_at + w.lost_after > clock_timestamp()
		UNION ALL
		SELECT n.number, 0, 9223372036854775807 FROM file_numbers AS n JOIN leases AS l ON l.name = 'file/' || n.id
			JOIN workers AS w ON w.id = l.worker
			WHERE n.number = ANY ($1) AND l.worker <> $2 AND w.lost_at IS NULL AND w.heard_at + w.lost_after > clock_timestamp()
				AND NOT EXISTS (SELECT FROM parts AS p WHERE p.file = n.number)`,
		files, t.me.session).Query(func(rows pgx.Rows) error {
		*held = nil
		var h handful
		_, err := pgx.ForEachRow(rows, []any{&h.file, &h.from, &h.to}, func() error {
			*held = append(*held, h)
			return nil
		})
		return err
	})
}

// judge refuses the Begins of rows that others have in hand, and those without all of their leads.
func (t *tx) judge(held []handful, changed map[ledger.Digest]bool) error {
	var open []*begin // whose leads are refused, unless they send again
	for _, o := range t.seg.begins {
		for _, h := range held {
			if row := int64(o.bill.Send.Row); h.file == o.file && h.from <= row && row < h.to {
				o.refused = ledger.ErrTaken
			}
		}
		if o.refused == nil && slices.ContainsFunc(o.leads, func(l lead) bool { return !changed[l.digest] }) {
			open = append(open, o)
		}
	}
	for _, o := range open {
		again, err := t.sendsAgain(o, changed)
		if err != nil {
			return err
		}
		if !again {
			o.refused = ledger.ErrTaken
		}
	}
	return nil
}

// sendsAgain reports whether o sends again what was sent under the same key, and all of its
// leads that were refused are known by now: then the API answers that send, whatever it has
// created.
func (t *tx) sendsAgain(o *begin, changed map[ledger.Digest]bool) (bool, error) {
	var unknown [][]byte
	for _, l := range o.leads {
		if !changed[l.digest] {
			unknown = append(unknown, l.digest[:])
		}
	}
	var again bool
	_, err := t.one(`SELECT EXISTS (SELECT FROM bills WHERE reference = $1 AND scope = $2 AND key = $3)
		AND NOT EXISTS (SELECT FROM parties WHERE digest = ANY ($4) AND id = '')`,
		[]any{stored(o.bill.Reference), o.scope, stored(o.bill.Send.Key), unknown}, func(row pgx.Row) error { return row.Scan(&again) })
	return again, err
}

// queueRows puts bills, outcomes and counts.
func (t *tx) queueRows(b *pgx.Batch) {
	t.queueBills(b)
	if len(t.seg.outcomes) > 0 {
		var rows given
		for _, r := range t.seg.outcomes {
			rows.add(outcomeValues(r.number, &r.outcome, ledger.SumOutcome(r.entry.File, &r.outcome)))
		}
		put := newOutcomes
		if t.careful("outcomes") {
			put = putOutcomes
		}
		b.Queue(put, rows.args()...)
	}
	if len(t.seg.counts) > 0 {
		var rows given
		for file, c := range t.seg.counts {
			rows.add([]any{file, c.gets, c.throttled, c.linkPosts, c.linkRetries})
		}
		// The rows are locked in one order first; an update alone would lock them in any.
		b.Queue(`WITH v AS (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS v (file, gets, throttled, posts, retries)),
			f AS MATERIALIZED (SELECT number FROM files WHERE number IN (SELECT file FROM v) ORDER BY number FOR NO KEY UPDATE)
			UPDATE files SET gets = files.gets + v.gets, throttled = files.throttled + v.throttled,
				link_posts = files.link_posts + v.posts, link_retries = files.link_retries + v.retries FROM v JOIN f ON f.number = v.file
			WHERE files.number = v.file`, rows.args()...)
	}
}

func (t *tx) queueBills(b *pgx.Batch) {
	// In a clean run Begins add bills, and Records replace them.
	var added, replaced given
	add := func(p *put) {
		if p.replaced == 0 {
			added.add(p.summed())
		} else {
			replaced.add(p.summed())
		}
	}
	begun := map[int64]*begin{}
	for _, o := range t.seg.begins {
		if o.refused == nil {
			add(&o.put)
			o.refused = ledger.ErrTaken // until it is returned
			begun[o.revision] = o
		}
	}
	for _, r := range t.seg.records {
		if r.entry.Bill != nil {
			add(&r.put)
		}
	}
	done := func(rows pgx.Rows) error {
		var revision int64
		var isNew bool
		_, err := pgx.ForEachRow(rows, []any{&revision, &isNew}, func() error {
			if o := begun[revision]; o != nil {
				o.refused = nil
			}
			if isNew {
				t.added++
			}
			return nil
		})
		return err
	}
	if len(added) > 0 {
		add := newBills
		if t.careful("bills") {
			add = addBills
		}
		b.Queue(add, added.args(t.me.session)...).Query(done)
	}
	if len(replaced) > 0 {
		b.Queue(replaceBills, replaced.args(t.me.session)...).Query(done)
	}
}

// takeBack gives back the leads of Begins that were refused.
func (t *tx) takeBack() error {
	var back [][]byte
	for _, o := range t.seg.begins {
		if o.refused == nil {
			continue
		}
		for _, l := range o.leads {
			if !t.w.l.leads.has(l.digest) { // an earlier send's, too
				back = append(back, l.digest[:])
			}
		}
	}
	if len(back) == 0 {
		return nil
	}
	slices.SortFunc(back, bytes.Compare)
	_, err := t.exec(`UPDATE parties SET lead_worker = NULL, lead_file = NULL, lead_row = NULL
		WHERE digest = ANY ($1) AND id = '' AND lead_worker = $2`, back, t.me.session)
	return err
}

// record is Ledger.Record. It holds copies, because the caller goes on with its own.
type record struct {
	put                  // of entry.Bill
	entry   ledger.Entry // Bill and Outcome are those below; Parties is empty
	outcome ledger.Outcome
	parties []party
	number  int64 // of entry.File
}

func (l *Ledger) newRecord(ctx context.Context, me *identity, e ledger.Entry) (*record, error) {
	r := &record{entry: e, parties: make([]party, 0, len(e.Parties))}
	r.entry.Parties = nil
	var err error
	if e.Bill != nil {
		r.put = put{bill: *e.Bill, ref: e.Scope, replaced: e.Bill.Revision, revision: me.stamp()}
		r.entry.Bill = &r.bill
		if err := l.numbered(ctx, &r.put); err != nil {
			return nil, err
		}
	}
	if e.File != "" {
		if r.number, err = l.number(ctx, e.File); err != nil {
			return nil, err
		}
	}
	if len(e.Parties) > 0 {
		if r.scope, err = l.scope(ctx, e.Scope); err != nil {
			return nil, err
		}
	}
	for _, p := range e.Parties {
		digest := p.PartyRef.Digest(e.Scope)
		r.addParty(party{digest: digest, scope: r.scope, kind: p.Kind, id: p.ID, customerID: p.CustomerID, since: p.Since, led: l.leads.has(digest)})
	}
	if e.Outcome != nil {
		r.outcome = *e.Outcome
		r.entry.Outcome = &r.outcome
		// Parties that the row led and did not bring are anyone's again.
		for _, d := range l.leads.end(rowKey{r.number, e.Outcome.Row}) {
			r.addParty(party{digest: d, scope: r.scope})
		}
	}
	return r, nil
}

// addParty adds p, unless the entry says more of that party.
func (r *record) addParty(p party) {
	for i := range r.parties {
		if known := &r.parties[i]; known.digest == p.digest {
			if p.id != "" && !known.merge(&p) {
				*known = p
			}
			return
		}
	}
	r.parties = append(r.parties, p)
}

func (r *record) apply(t *tx) error { return t.addRecord(r) }
