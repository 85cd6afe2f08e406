package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"billdrop/ingest/ledger"
)

const (
	// maxLag is how many parties the index may lack before it is brought up to date: so many that most pages of a large
	// index take several of them at once. They take about 50 bytes of memory each, and those
	// that are on their way into the index half as much beside them.
	maxLag = 64 << 10
	// restLag is how many the index may lack when the ledger is closed: reading them takes the next start a few milliseconds.
	restLag = 4 << 10
	// indexStep is how many a commit writes into the index at least, while it is being brought up to date.
	indexStep = 512
	// tidyStep is how many are written into it at once while nothing else is to be done: some milliseconds.
	tidyStep = 4096
)

// partyLag holds what the index of the parties lacks: the ids of parties by digest. The writer changes it; anybody reads it.
type partyLag struct {
	loading sync.Mutex // of loadOnce
	mu      sync.RWMutex
	fresh   map[ledger.Digest]int64
	merging []indexEntry // on their way into the index, in its order
	filter  *partyFilter // of what is in the index; nil in a ledger that is only read
}

// indexEntry is a line of the index. One without an id was forgotten on the way.
type indexEntry struct {
	digest ledger.Digest
	id     int64
}

// hashOf is by what the index finds a digest.
func hashOf(d ledger.Digest) int64 { return int64(binary.LittleEndian.Uint64(d[:8])) }

// compareHashes is the order of the index.
func compareHashes(a, b ledger.Digest) int { return cmp.Compare(hashOf(a), hashOf(b)) }

// find splits digests into those whose parties it knows, told by their ids, and those that the index may hold.
func (p *partyLag) find(digests []ledger.Digest) (ids []int64, indexed []ledger.Digest) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, d := range digests {
		id := p.fresh[d]
		if id == 0 {
			if i, ok := p.merges(d); ok {
				id = p.merging[i].id
			}
		}
		if id != 0 {
			ids = append(ids, id)
		} else if p.filter.mayHold(d) {
			indexed = append(indexed, d)
		}
	}
	return ids, indexed
}

// merges tells where a digest stands in merging. p.mu is held.
func (p *partyLag) merges(d ledger.Digest) (int, bool) {
	return slices.BinarySearchFunc(p.merging, d, func(e indexEntry, d ledger.Digest) int {
		return cmp.Or(compareHashes(e.digest, d), bytes.Compare(e.digest[:], d[:]))
	})
}

// forget drops a party.
func (p *partyLag) forget(d ledger.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.fresh, d)
	if i, ok := p.merges(d); ok {
		p.merging[i].id = 0
	}
}

// loadOnce is load for a ledger that is only read, where few ask for parties: with the first who does.
func (p *partyLag) loadOnce(ctx context.Context, q querier) error {
	p.loading.Lock()
	defer p.loading.Unlock()
	if p.fresh != nil {
		return nil
	}
	return p.load(ctx, q)
}

// load reads what the index lacks.
func (p *partyLag) load(ctx context.Context, q querier) error {
	fresh := make(map[ledger.Digest]int64)
	err := eachRow(ctx, q, "SELECT id, digest FROM parties WHERE id > (SELECT upto FROM party_indexed) ORDER BY id", nil, func(rows *sql.Rows) error {
		var id int64
		var digest sql.RawBytes
		if err := rows.Scan(&id, &digest); err != nil {
			return err
		}
		if len(digest) != len(ledger.Digest{}) {
			return fmt.Errorf("party %d: %w", id, errRecord)
		}
		fresh[ledger.Digest(digest)] = id
		return nil
	})
	if err == nil {
		p.fresh = fresh
	}
	return err
}

// addParties brings the index a step nearer, and appends the batch's parties.
func (w *writer) addParties() error {
	if w.lag.merging == nil && len(w.lag.fresh) >= w.maxLag {
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
	if w.merged == len(w.lag.merging) {
		w.lag.merging, w.merged = nil, 0
	}
}

// beginMerge puts what the index lacks in the order of the index.
func (w *writer) beginMerge() {
	entries := make([]indexEntry, 0, len(w.lag.fresh))
	for digest, id := range w.lag.fresh {
		entries = append(entries, indexEntry{digest, id})
	}
	slices.SortFunc(entries, func(a, b indexEntry) int {
		return cmp.Or(compareHashes(a.digest, b.digest), bytes.Compare(a.digest[:], b.digest[:]))
	})
	w.lag.mu.Lock()
	defer w.lag.mu.Unlock()
	w.lag.merging, w.lag.fresh = entries, make(map[ledger.Digest]int64)
	w.mergeUpto = w.lastParty
}

// stepMerge writes the next n entries into the index, if it is being brought up to date.
func (w *writer) stepMerge(n int) error {
	step := w.lag.merging[w.merged:]
	if len(step) == 0 {
		return nil
	}
	step = step[:min(n, len(step))]
	w.merged += len(step)
	step = slices.DeleteFunc(slices.Clone(step), func(e indexEntry) bool { return e.id == 0 })
	err := w.s.indexParties.each(len(step), func(args []any, i int) []any { return append(args, hashOf(step[i].digest), step[i].id) })
	if err != nil || w.merged < len(w.lag.merging) {
		return err
	}
	return w.saveFilter()
}

// saveFilter puts what has entered the index into its filter, and both are up to date.
func (w *writer) saveFilter() error {
	f := w.lag.filter
	w.lag.mu.Lock()
	for _, e := range w.lag.merging {
		f.add(e.digest)
	}
	w.lag.mu.Unlock()
	for i := range f.levels {
		b := &f.levels[i]
		if !b.unkept {
			continue
		}
		bits := make([]byte, 0, 8*len(b.bits))
		for _, word := range b.bits {
			bits = binary.LittleEndian.AppendUint64(bits, word)
		}
		if _, err := w.s.keepFilter.exec(i, b.held, bits); err != nil {
			return err
		}
		b.unkept = false
	}
	_, err := w.s.indexedUpto.exec(w.mergeUpto, len(w.lag.merging))
	return err
}

// tidy brings the index nearer to being up to date, if more than a little is missing, and tells whether there is more to do.
func (w *writer) tidy() (more bool, err error) {
	if w.lag.merging == nil {
		if len(w.lag.fresh) <= restLag {
			return false, nil
		}
		w.beginMerge()
	}
	err = w.transact(func() error { return w.stepMerge(tidyStep) })
	return err == nil, err
}

// finish does all the tidying before the ledger is closed.
func (w *writer) finish() error {
	for {
		if more, err := w.tidy(); !more {
			return err
		}
	}
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
	if l.queue == nil {
		if err := l.lag.loadOnce(ctx, l.read); err != nil {
			return nil, readError(ctx, "read parties", err)
		}
	}
	scan := func(rows *sql.Rows) error {
		var digest sql.RawBytes
		var p ledger.Party
		if err := rows.Scan(&digest, &p.ID); err != nil {
			return err
		}
		if ref, ok := asked[ledger.Digest(digest)]; ok {
			p.PartyRef = ref
			parties[ref] = p
		}
		return nil
	}
	// What is not at hand is in the index by now: it leaves the one after it has entered the other.
	ids, indexed := l.lag.find(digests)
	err := l.lookUps.recent.each(ctx, l.read, nil, anys(ids), nil, scan)
	if err == nil {
		err = l.lookUps.parties.each(ctx, l.read, nil, hashKeys(indexed), nil, scan)
	}
	if err != nil {
		return nil, readError(ctx, "read parties", err)
	}
	return parties, nil
}
