package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"sync"

	"billdrop/ingest/ledger"
)

const (
	// maxLag is how many parties the index may lack before it is brought up to date: so many that most pages of a large
	// index take several of them at once. They take about 60 bytes of memory each, and twice as many may be there for a while.
	maxLag = 64 << 10
	// restLag is how many the index may lack when the ledger is closed: reading them takes the next start a few milliseconds.
	restLag = 4 << 10
	// indexStep is how many a commit writes into the index at least, while it is being brought up to date.
	indexStep = 512
)

// partyLag holds what the index of the parties lacks: the ids of parties by digest. The writer changes it; anybody reads it.
type partyLag struct {
	mu      sync.RWMutex
	fresh   map[ledger.Digest]int64
	merging map[ledger.Digest]int64 // on its way into the index
}

// find splits digests into those whose parties it knows and the others.
func (p *partyLag) find(digests []ledger.Digest) (ids []int64, others []ledger.Digest) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, d := range digests {
		id, ok := p.fresh[d]
		if !ok {
			id, ok = p.merging[d]
		}
		if ok {
			ids = append(ids, id)
		} else {
			others = append(others, d)
		}
	}
	return ids, others
}

// load reads what the index lacks, in a ledger that was just opened.
func (p *partyLag) load(ctx context.Context, q querier) error {
	p.fresh = make(map[ledger.Digest]int64)
	return eachRow(ctx, q, "SELECT id, digest FROM parties WHERE id > (SELECT upto FROM party_indexed) ORDER BY id", nil, func(rows *sql.Rows) error {
		var id int64
		var digest sql.RawBytes
		if err := rows.Scan(&id, &digest); err != nil {
			return err
		}
		if len(digest) != len(ledger.Digest{}) {
			return fmt.Errorf("party %d: %w", id, errRecord)
		}
		p.fresh[ledger.Digest(digest)] = id
		return nil
	})
}

// indexEntry is a line of the index.
type indexEntry struct {
	digest ledger.Digest
	id     int64
}

// merge is one update of the index under way. It belongs to the writer.
type merge struct {
	entries []indexEntry // still to be written, in the order of the index
	upto    int64        // then the index holds the parties up to this id
}

// addParties brings the index a step nearer, and appends the batch's parties.
func (w *writer) addParties() error {
	if w.merge == nil && len(w.lag.fresh) >= w.maxLag {
		w.beginMerge()
	}
	if err := w.stepMerge(max(indexStep, 4*len(w.parties))); err != nil {
		return err
	}
	return w.s.addParties.each(len(w.parties), func(args []any, i int) []any {
		r := &w.parties[i]
		return append(args, w.lastParty+int64(i)+1, r.digest[:], r.id)
	})
}

// tellParties is called after a commit: the batch's parties can be found now, and those that have reached the index need
// not be kept at hand any more. Not before: a read must not meet what is not there yet.
func (w *writer) tellParties() {
	w.lag.mu.Lock()
	defer w.lag.mu.Unlock()
	for _, r := range w.parties {
		w.lastParty++
		w.lag.fresh[r.digest] = w.lastParty
	}
	clear(w.parties)
	w.parties = w.parties[:0]
	if w.merge != nil && len(w.merge.entries) == 0 {
		w.merge, w.lag.merging = nil, nil
	}
}

func (w *writer) beginMerge() {
	w.lag.mu.Lock()
	defer w.lag.mu.Unlock()
	w.lag.merging, w.lag.fresh = w.lag.fresh, make(map[ledger.Digest]int64)
	w.merge = &merge{entries: make([]indexEntry, 0, len(w.lag.merging)), upto: w.lastParty}
	for digest, id := range maps.All(w.lag.merging) {
		w.merge.entries = append(w.merge.entries, indexEntry{digest, id})
	}
	slices.SortFunc(w.merge.entries, func(a, b indexEntry) int { return bytes.Compare(a.digest[:], b.digest[:]) })
}

// stepMerge writes the next n entries of an update of the index that is under way.
func (w *writer) stepMerge(n int) error {
	if w.merge == nil || len(w.merge.entries) == 0 {
		return nil
	}
	step := w.merge.entries[:min(n, len(w.merge.entries))]
	w.merge.entries = w.merge.entries[len(step):]
	err := w.s.indexParties.each(len(step), func(args []any, i int) []any { return append(args, step[i].digest[:], step[i].id) })
	if err != nil || len(w.merge.entries) > 0 {
		return err
	}
	_, err = w.s.indexedUpto.exec(w.merge.upto)
	return err
}

// finishIndex brings the index up to date before the ledger is closed, unless little is missing.
func (w *writer) finishIndex() error {
	for w.merge != nil || len(w.lag.fresh) > restLag {
		err := w.transact(func() error {
			if w.merge == nil {
				w.beginMerge()
			}
			return w.stepMerge(maxLag)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Parties implements ledger.Ledger.
func (l *Ledger) Parties(ctx context.Context, s ledger.Scope, refs []ledger.PartyRef) (map[ledger.PartyRef]ledger.Party, error) {
	parties := make(map[ledger.PartyRef]ledger.Party)
	asked := make(map[ledger.Digest]ledger.PartyRef, len(refs))
	digests := make([]ledger.Digest, 0, len(refs))
	keys := make([]touch, 0, len(refs))
	for _, ref := range refs {
		d := digestOf(s, ref)
		if _, twice := asked[d]; !twice {
			asked[d] = ref
			digests, keys = append(digests, d), append(keys, partyTouch(d))
		}
	}
	if err := l.settle(ctx, keys...); err != nil {
		return nil, fmt.Errorf("read parties: %w", err)
	}
	scan := func(rows *sql.Rows) error {
		var digest sql.RawBytes
		var p ledger.Party
		if err := rows.Scan(&digest, &p.ID); err != nil {
			return err
		}
		p.PartyRef = asked[ledger.Digest(digest)]
		parties[p.PartyRef] = p
		return nil
	}
	// What is not at hand is in the index by now: it leaves the one after it has entered the other.
	ids, others := l.lag.find(digests)
	err := l.lookUps.recent.each(ctx, l.read, nil, anys(ids), nil, scan)
	if err == nil {
		err = l.lookUps.parties.each(ctx, l.read, nil, digestKeys(others), nil, scan)
	}
	if err != nil {
		return nil, readError(ctx, "read parties", err)
	}
	return parties, nil
}
