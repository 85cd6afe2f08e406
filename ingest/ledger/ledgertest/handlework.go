package ledgertest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"billdrop/ingest/ledger"
)

// Workers returns the live ones, by name.
func (h *Handle) Workers(ctx context.Context) ([]ledger.Colleague, error) {
	return read(ctx, h, "workers", func() ([]ledger.Colleague, error) { return h.store.colleagues(), nil })
}

func (h *Handle) Acquire(ctx context.Context, lease string) (held bool, err error) {
	err = h.change(ctx, "acquire "+lease, func() error {
		holder := h.store.leases[lease]
		if held = holder == nil || holder == h.member; held {
			h.store.leases[lease] = h.member
		}
		return nil
	})
	return held && err == nil, err
}

func (h *Handle) Release(ctx context.Context, lease string) error {
	return h.change(ctx, "release "+lease, func() error {
		if h.store.leases[lease] == h.member {
			delete(h.store.leases, lease)
		}
		return nil
	})
}

func (h *Handle) AddParts(ctx context.Context, file string, parts []ledger.Part) error {
	return h.change(ctx, "add parts", func() error {
		if len(h.store.parts[file]) > 0 {
			return nil
		}
		for _, p := range parts {
			h.store.parts[file] = append(h.store.parts[file], &part{Part: ledger.Part{No: p.No, From: p.From, To: p.To}})
		}
		return nil
	})
}

func (h *Handle) Parts(ctx context.Context, file string) ([]ledger.Part, error) {
	return read(ctx, h, "parts", func() ([]ledger.Part, error) {
		var list []ledger.Part
		for _, p := range h.store.parts[file] {
			shown := p.Part
			if p.holder != nil {
				shown.Worker = p.holder.Name
			}
			list = append(list, shown)
		}
		slices.SortFunc(list, func(a, b ledger.Part) int { return a.No - b.No })
		return list, nil
	})
}

// part returns one part of a file. store.mu is held.
func (s *Store) part(file string, no int) (*part, error) {
	for _, p := range s.parts[file] {
		if p.No == no {
			return p, nil
		}
	}
	return nil, fmt.Errorf("part %d of file %s: %w", no, file, ledger.ErrNotFound)
}

func (h *Handle) AcquirePart(ctx context.Context, file string, no int) (held bool, err error) {
	err = h.change(ctx, fmt.Sprint("acquire part ", no), func() error {
		p, err := h.store.part(file, no)
		if err != nil {
			return err
		}
		if held = !p.Done && (p.holder == nil || p.holder == h.member); held {
			p.holder = h.member
		}
		return nil
	})
	return held && err == nil, err
}

// ReleasePart gives a part back. One that is not in the worker's hand stays as it is.
func (h *Handle) ReleasePart(ctx context.Context, file string, no int, done bool, failure *ledger.PartFailure) error {
	return h.change(ctx, fmt.Sprint("release part ", no), func() error {
		p, err := h.store.part(file, no)
		if err != nil || p.holder != h.member {
			return err
		}
		p.holder, p.Done, p.Failure = nil, done, failure
		h.store.endLeads(func(l lead) bool { return l.file == file && p.From <= l.row && l.row < p.To })
		return nil
	})
}

func (h *Handle) DropParts(ctx context.Context, file string) error {
	return h.change(ctx, "drop parts", func() error {
		h.store.dropParts(file)
		return nil
	})
}

// dropParts is DropParts. s.mu is held.
func (s *Store) dropParts(file string) {
	delete(s.parts, file)
	s.endLeads(func(l lead) bool { return l.file == file })
}

func (h *Handle) LeaveOrder(ctx context.Context, file, order string) error {
	return h.exchange(ctx, "leave order", func(now time.Time) error {
		h.store.withdraw(file)
		h.store.orders = append(h.store.orders, ledger.LeftOrder{Order: order, File: file, At: now})
		return nil
	})
}

func (h *Handle) Orders(ctx context.Context, file string) ([]ledger.LeftOrder, error) {
	return read(ctx, h, "orders", func() ([]ledger.LeftOrder, error) {
		var list []ledger.LeftOrder
		for _, o := range h.store.orders {
			if file == "" || o.File == file {
				list = append(list, o)
			}
		}
		return list, nil
	})
}

func (h *Handle) WithdrawOrders(ctx context.Context, file string) error {
	return h.arrange(ctx, "withdraw orders", func() error {
		h.store.withdraw(file)
		return nil
	})
}

func (h *Handle) RemoveOrder(ctx context.Context, o ledger.LeftOrder) (there bool, err error) {
	err = h.arrange(ctx, "remove order", func() error {
		if there = slices.Contains(h.store.orders, o); there {
			h.store.withdraw(o.File)
		}
		return nil
	})
	return there, err
}

// withdraw removes the orders on a file. s.mu is held.
func (s *Store) withdraw(file string) {
	s.orders = slices.DeleteFunc(slices.Clone(s.orders), func(o ledger.LeftOrder) bool { return o.File == file })
}

func (h *Handle) Reserve(ctx context.Context, s ledger.Scope, perSecond float64, n int) (in time.Duration, err error) {
	err = h.exchange(ctx, "reserve", func(now time.Time) error {
		in = h.store.reserve(s, perSecond, n, now)
		return nil
	})
	return in, err
}

func (h *Handle) Pause(ctx context.Context, s ledger.Scope, d time.Duration) error {
	return h.exchange(ctx, "pause", func(now time.Time) error {
		if until := now.Add(d); until.After(h.store.pauses[s]) {
			h.store.pauses[s] = until
		}
		return nil
	})
}

// Paused returns how long a pause of the scope still lasts.
func (h *Handle) Paused(s ledger.Scope) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(0, time.Until(h.paused[s]))
}
