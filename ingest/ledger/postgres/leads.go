package postgres

import (
	"slices"
	"sync"

	"billdrop/ingest/ledger"
)

// rowKey is a row of a file.
type rowKey struct {
	file int64 // number
	row  int
}

// leads are the parties that this worker's sends may be creating, by the row that was sent. A row that
// ends without its parties gives them back.
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
