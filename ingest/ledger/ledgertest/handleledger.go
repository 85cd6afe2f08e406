package ledgertest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"billdrop/ingest/ledger"
)

var _ ledger.Shared = (*Handle)(nil)

// read returns what ask finds, once what the handle recorded is handed over.
func read[T any](ctx context.Context, h *Handle, op string, ask func() (T, error)) (found T, err error) {
	err = h.exchange(ctx, op, func(time.Time) error {
		found, err = ask()
		return err
	})
	return found, err
}

// change does what only a worker may do.
func (h *Handle) change(ctx context.Context, op string, do func() error) error {
	return h.exchange(ctx, op, func(time.Time) error {
		if err := h.mayWrite(); err != nil {
			return err
		}
		return do()
	})
}

// arrange does what a worker and an operator may do: a worker only unless it was lost.
func (h *Handle) arrange(ctx context.Context, op string, do func() error) error {
	return h.exchange(ctx, op, func(time.Time) error {
		if h.member != nil {
			if err := h.mayWrite(); err != nil {
				return err
			}
		}
		return do()
	})
}

func (h *Handle) AddFile(ctx context.Context, f *ledger.File) error {
	return h.change(ctx, "add file", func() error { return h.store.saveFile(f, true) })
}

func (h *Handle) SaveFile(ctx context.Context, f *ledger.File) error {
	return h.arrange(ctx, "save file", func() error { return h.store.saveFile(f, false) })
}

func (h *Handle) File(ctx context.Context, id string) (*ledger.File, error) {
	return read(ctx, h, "file", func() (*ledger.File, error) { return h.store.content.File(ctx, id) })
}

func (h *Handle) Files(ctx context.Context, q ledger.Query) ([]*ledger.File, error) {
	return read(ctx, h, "files", func() ([]*ledger.File, error) { return h.store.content.Files(ctx, q) })
}

// Bills returns bills, and marks those that other workers have in hand.
func (h *Handle) Bills(ctx context.Context, s ledger.Scope, refs []string) (map[string]*ledger.Bill, error) {
	return read(ctx, h, "bills", func() (map[string]*ledger.Bill, error) {
		known, err := h.store.content.Bills(ctx, s, refs)
		for _, b := range known {
			b.Held = b.State == ledger.Pending && h.store.elsewhere(h.member, b.Send.File, b.Send.Row)
		}
		return known, err
	})
}

func (h *Handle) Parties(ctx context.Context, s ledger.Scope, refs []ledger.PartyRef) (map[ledger.PartyRef]ledger.Party, error) {
	return read(ctx, h, "parties", func() (map[ledger.PartyRef]ledger.Party, error) { return h.store.content.Parties(ctx, s, refs) })
}

func (h *Handle) Outcomes(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	return read(ctx, h, "outcomes", func() ([]ledger.Outcome, error) { return h.store.content.Outcomes(ctx, file, from, limit) })
}

func (h *Handle) Attention(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	return read(ctx, h, "attention", func() ([]ledger.Outcome, error) { return h.store.content.Attention(ctx, file, from, limit) })
}

func (h *Handle) Totals(ctx context.Context, file string) (ledger.Totals, error) {
	return read(ctx, h, "totals", func() (ledger.Totals, error) { return h.store.content.Totals(ctx, file) })
}

func (h *Handle) History(ctx context.Context, s ledger.Scope, reference string) (*ledger.History, error) {
	return read(ctx, h, "history", func() (*ledger.History, error) { return h.store.content.History(ctx, s, reference) })
}

func (h *Handle) Begin(ctx context.Context, s ledger.Scope, b *ledger.Bill, leads ...ledger.PartyRef) error {
	begun := *b
	begun.Held = false
	err := h.change(ctx, "begin "+b.Reference, func() error { return h.store.begin(h.member, s, &begun, leads) })
	if err == nil {
		b.Revision = begun.Revision
	}
	return err
}

// Record queues e. Unless something else of the handle does before, a timer hands it over.
func (h *Handle) Record(ctx context.Context, e ledger.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := h.thawed(); err != nil {
		return err
	}
	if full, err := h.enqueue(e); !full {
		return err
	}
	return h.Flush(ctx)
}

func (h *Handle) enqueue(e ledger.Entry) (full bool, err error) {
	s := h.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reap(s.now())
	if err := h.mayWrite(); err != nil {
		return false, err
	}
	if s.content.files[e.File] == nil && (e.Outcome != nil || e.Counts()) {
		return false, fmt.Errorf("file %s: %w", e.File, ledger.ErrNotFound)
	}
	w := write{entry: e}
	w.entry.Parties = slices.Clone(e.Parties)
	if e.Outcome != nil {
		w.entry.Outcome = ptr(*e.Outcome)
	}
	if e.Bill != nil {
		w.expected = e.Bill.Revision
		s.revision++
		e.Bill.Revision = s.revision
		w.entry.Bill = ptr(*e.Bill)
		w.entry.Bill.Held = false
	}
	h.queue = append(h.queue, w)
	h.wake()
	return len(h.queue) >= maxQueued, nil
}

// wake has the queue handed over soon. store.mu is held.
func (h *Handle) wake() {
	if h.waking {
		return
	}
	h.waking = true
	h.running.Go(func() {
		if h.rest(context.Background(), commitDelay) != nil {
			return
		}
		_ = h.exchange(context.Background(), "commit", func(time.Time) error { return nil })
		h.store.mu.Lock()
		defer h.store.mu.Unlock()
		if h.waking = false; len(h.queue) > 0 && !h.closed {
			h.wake()
		}
	})
}

func (h *Handle) Flush(ctx context.Context) error {
	return h.change(ctx, "flush", func() error { return nil })
}

func (h *Handle) BaseURL(ctx context.Context, s ledger.Scope) (string, error) {
	return read(ctx, h, "base url", func() (string, error) { return h.store.content.BaseURL(ctx, s) })
}

func (h *Handle) SetBaseURL(ctx context.Context, s ledger.Scope, url string) error {
	return h.arrange(ctx, "set base url", func() error { return h.store.content.SetBaseURL(ctx, s, url) })
}

func (h *Handle) Links(ctx context.Context, s ledger.Scope, references []string) (map[string]ledger.Link, error) {
	return read(ctx, h, "links", func() (map[string]ledger.Link, error) { return h.store.content.Links(ctx, s, references) })
}

func (h *Handle) SaveLinks(ctx context.Context, s ledger.Scope, links []ledger.Link) error {
	return h.change(ctx, "save links", func() error { return h.store.content.SaveLinks(ctx, s, links) })
}

func (h *Handle) Prune(ctx context.Context, id string) (rows int, err error) {
	err = h.arrange(ctx, "prune", func() error {
		rows, err = h.store.content.Prune(ctx, id)
		if err == nil {
			h.store.dropParts(id)
			h.store.withdraw(id)
		}
		return err
	})
	return rows, err
}

func (h *Handle) Forget(ctx context.Context, s ledger.Scope, customer string) (parties int, err error) {
	err = h.arrange(ctx, "forget", func() error {
		parties, err = h.store.content.Forget(ctx, s, customer)
		return err
	})
	return parties, err
}
