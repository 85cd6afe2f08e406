package monitor

import (
	"context"
	"sync"
	"time"

	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/ledger"
)

const (
	// sumsAge is how old the sums of a file under way may be that a page shows. Pages that are
	// loaded meanwhile share them, because to add up a large file for each of them would slow
	// it down.
	sumsAge = 2 * time.Second
	// sumsKept bounds the files whose sums are kept.
	sumsKept = 500
)

// shared follows files that several workers send together. This process sees only its own rows of
// them, so it asks the ledger. It may be used concurrently.
type shared struct {
	ledger.Shared

	mu   sync.Mutex
	sums map[string][]sum // by file, oldest first, over paceWindow
	// tracks are of the files in sums, from when a page first showed them.
	tracks map[string]*track
}

// sum is how far a file was at a moment.
type sum struct {
	at     time.Time
	totals ledger.Totals
	done   int // rows that have an outcome
}

// newShared returns nil for a ledger of one machine.
func newShared(led ledger.Ledger) *shared {
	if l, ok := led.(ledger.Shared); ok {
		return &shared{Shared: l, sums: make(map[string][]sum), tracks: make(map[string]*track)}
	}
	return nil
}

// Totals implements ledger.Ledger with sums that are at most sumsAge old.
func (s *shared) Totals(ctx context.Context, id string) (ledger.Totals, error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock() // also while the ledger adds up: others want the same sums
	kept := s.sums[id]
	if n := len(kept); n > 0 && now.Sub(kept[n-1].at) < sumsAge {
		return kept[n-1].totals, nil
	}
	totals, err := s.Shared.Totals(ctx, id)
	if err != nil {
		return totals, err
	}
	done := 0
	for _, n := range totals.Rows {
		done += n
	}
	for len(kept) > 1 && now.Sub(kept[0].at) > paceWindow*time.Second {
		kept = kept[1:]
	}
	if len(s.sums) >= sumsKept {
		clear(s.sums) // only paces are lost
		clear(s.tracks)
	}
	if s.tracks[id] == nil {
		s.tracks[id] = &track{}
	}
	s.tracks[id].add(now, done)
	s.sums[id] = append(kept, sum{now, totals, done})
	return totals, nil
}

// advanceOf returns how far all workers have come with a file.
func (s *shared) advanceOf(ctx context.Context, f *ledger.File) (advance, error) {
	totals, err := s.Totals(ctx, f.ID)
	if err != nil {
		return advance{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.sums[f.ID]
	if len(kept) == 0 { // cleared meanwhile
		return advance{Rows: f.Rows, ByStatus: totals.Rows}, nil
	}
	first, last := kept[0], kept[len(kept)-1]
	a := advance{Done: min(last.done, f.Rows), Rows: f.Rows, ByStatus: last.totals.Rows}
	if took := last.at.Sub(first.at).Seconds(); took > 0 {
		a.PerSecond = max(0, float64(last.done-first.done)/took)
	}
	a.Left = timeLeft(a)
	return a, nil
}

// paceOf draws the pace of all workers with a file; nil if too few pages have shown it yet.
func (s *shared) paceOf(id string, now time.Time) *pacePicture {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, kept := s.tracks[id], s.sums[id]
	if t == nil || len(kept) == 0 {
		return nil
	}
	return t.picture(now, kept[len(kept)-1].done)
}

// paceOf draws the pace of a file that is being sent.
func (v *view) paceOf(f *ledger.File, now time.Time) *pacePicture {
	if v.shared != nil {
		return v.shared.paceOf(f.ID, now)
	}
	return v.files.paceOf(f.ID, now)
}

// advanceOf returns how far a file is; false if its rows are not being sent, as far as can be seen.
func (v *view) advanceOf(ctx context.Context, f *ledger.File, now time.Time) (advance, bool, error) {
	if v.shared == nil {
		a, ok := v.files.advanceOf(f.ID, now)
		return a, ok && f.State == ledger.Sending, nil
	}
	if f.State != ledger.Sending {
		return advance{}, false, nil
	}
	a, err := v.shared.advanceOf(ctx, f)
	return a, true, err
}

// read counts the rows of a file.
func (v *view) read(ctx context.Context, f *ledger.File) (describe.File, error) {
	if v.shared != nil {
		if f.State == ledger.Sending {
			return describe.ReadFile(ctx, v.shared, f)
		}
		return describe.ReadFile(ctx, v.Ledger, f)
	}
	return describe.ReadFile(ctx, watched{v.Ledger, v.files}, f)
}
