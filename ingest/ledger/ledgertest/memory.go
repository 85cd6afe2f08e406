package ledgertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"billdrop/ingest/ledger"
)

// Memory is a ledger without a disk, for simulations. It keeps the promises of
// ledger.Ledger, and Crash makes it lose what a real one may lose. It may be used
// concurrently.
type Memory struct {
	mu       sync.Mutex
	files    map[string]*ledger.File
	bills    map[billKey]*ledger.Bill
	attempts map[billKey][]ledger.Attempt
	parties  map[partyKey]ledger.Party
	outcomes map[string]map[int]ledger.Outcome
	baseURLs map[ledger.Scope]string
	links    map[billKey]ledger.Link
	volatile []func() // what takes back each Record that is not durable yet, oldest first
	broken   error
}

type billKey struct {
	scope     ledger.Scope
	reference string
}

type partyKey struct {
	scope ledger.Scope
	ref   ledger.PartyRef
}

// NewMemory makes an empty ledger.
func NewMemory() *Memory {
	return &Memory{
		files: make(map[string]*ledger.File), bills: make(map[billKey]*ledger.Bill),
		attempts: make(map[billKey][]ledger.Attempt), parties: make(map[partyKey]ledger.Party),
		outcomes: make(map[string]map[int]ledger.Outcome), baseURLs: make(map[ledger.Scope]string),
		links: make(map[billKey]ledger.Link),
	}
}

// Crash loses a tail of what is not durable: of n such writes, the last lose(n) ones. The
// ledger may be used again at once, as if it were opened again.
func (m *Memory) Crash(lose func(n int) int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range lose(len(m.volatile)) {
		last := len(m.volatile) - 1
		m.volatile[last]()
		m.volatile = m.volatile[:last]
	}
	m.volatile = nil
	m.broken = nil
}

// Backup returns what the ledger holds now.
func (m *Memory) Backup() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := &Memory{
		files: maps.Clone(m.files), bills: maps.Clone(m.bills), attempts: maps.Clone(m.attempts),
		parties: maps.Clone(m.parties), outcomes: maps.Clone(m.outcomes), baseURLs: maps.Clone(m.baseURLs),
		links: maps.Clone(m.links),
	}
	for id, f := range b.files {
		b.files[id] = ptr(*f)
	}
	for id, outcomes := range b.outcomes {
		b.outcomes[id] = maps.Clone(outcomes)
	}
	return b
}

// Restore makes the ledger hold what b holds, and nothing else.
func (m *Memory) Restore(b *Memory) {
	b = b.Backup()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files, m.bills, m.attempts, m.parties, m.outcomes, m.baseURLs = b.files, b.bills, b.attempts, b.parties, b.outcomes, b.baseURLs
	m.links = b.links
	m.volatile, m.broken = nil, nil
}

// Break makes every later call fail, as a full disk does.
func (m *Memory) Break() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = fmt.Errorf("%w: no space left on device", ledger.ErrUnusable)
}

// locked calls do with m.mu held, unless m is broken or ctx has ended.
func locked[T any](ctx context.Context, m *Memory, do func() (T, error)) (T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(m.broken, ctx.Err()); err != nil {
		var none T
		return none, err
	}
	return do()
}

// durably calls do as locked does. When it succeeds, everything that was recorded is
// durable.
func (m *Memory) durably(ctx context.Context, do func() error) error {
	_, err := locked(ctx, m, func() (struct{}, error) {
		err := do()
		if err == nil {
			m.volatile = nil
		}
		return struct{}{}, err
	})
	return err
}

func (m *Memory) AddFile(ctx context.Context, f *ledger.File) error {
	return m.durably(ctx, func() error {
		if m.files[f.ID] != nil {
			return fmt.Errorf("file %s: %w", f.ID, ledger.ErrExists)
		}
		return m.putFile(*f)
	})
}

func (m *Memory) SaveFile(ctx context.Context, f *ledger.File) error {
	return m.durably(ctx, func() error {
		old := m.files[f.ID]
		if old == nil {
			return fmt.Errorf("file %s: %w", f.ID, ledger.ErrNotFound)
		}
		saved := *f
		saved.Gets, saved.Throttled, saved.LinkPosts, saved.LinkRetries = old.Gets, old.Throttled, old.LinkPosts, old.LinkRetries
		return m.putFile(saved)
	})
}

func (m *Memory) putFile(f ledger.File) error {
	for _, o := range m.files {
		if f.Stem != "" && o.ID != f.ID && o.Results == f.Results && o.Stem == f.Stem {
			return fmt.Errorf("stem %s: %w", f.Stem, ledger.ErrExists)
		}
	}
	m.files[f.ID] = &f
	return nil
}

func (m *Memory) File(ctx context.Context, id string) (*ledger.File, error) {
	return locked(ctx, m, func() (*ledger.File, error) {
		f := m.files[id]
		if f == nil {
			return nil, fmt.Errorf("file %s: %w", id, ledger.ErrNotFound)
		}
		return ptr(*f), nil
	})
}

func (m *Memory) Files(ctx context.Context, q ledger.Query) ([]*ledger.File, error) {
	return locked(ctx, m, func() ([]*ledger.File, error) {
		var found []*ledger.File
		for _, f := range m.files {
			if selects(q, f) {
				found = append(found, ptr(*f))
			}
		}
		slices.SortFunc(found, func(a, b *ledger.File) int {
			return cmp.Or(b.Received.Compare(a.Received), cmp.Compare(b.ID, a.ID))
		})
		if q.Limit > 0 && len(found) > q.Limit {
			found = found[:q.Limit]
		}
		return found, nil
	})
}

func selects(q ledger.Query, f *ledger.File) bool {
	return (q.Feed == "" || f.Feed == q.Feed) &&
		(!q.Unfinished || !f.State.Finished()) &&
		(!q.ExcludeDropped || f.State != ledger.Dropped) &&
		(q.SHA256 == "" || f.SHA256 == q.SHA256) &&
		(q.Rejects == "" || f.Published.Rejects == q.Rejects) &&
		(q.StemPrefix == "" || f.Results == q.Results && hasStem(f.Stem, q.StemPrefix))
}

// hasStem reports whether stem is prefix, or prefix, "-" and a number.
func hasStem(stem, prefix string) bool {
	rest, ok := strings.CutPrefix(stem, prefix)
	if !ok || rest == "" {
		return ok
	}
	number, ok := strings.CutPrefix(rest, "-")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

func (m *Memory) Bills(ctx context.Context, s ledger.Scope, refs []string) (map[string]*ledger.Bill, error) {
	return locked(ctx, m, func() (map[string]*ledger.Bill, error) {
		known := make(map[string]*ledger.Bill)
		for _, ref := range refs {
			if b := m.bills[billKey{s, ref}]; b != nil {
				known[ref] = ptr(*b)
			}
		}
		return known, nil
	})
}

func (m *Memory) Parties(ctx context.Context, s ledger.Scope, refs []ledger.PartyRef) (map[ledger.PartyRef]ledger.Party, error) {
	return locked(ctx, m, func() (map[ledger.PartyRef]ledger.Party, error) {
		known := make(map[ledger.PartyRef]ledger.Party)
		for _, ref := range refs {
			if p, ok := m.parties[partyKey{s, ref}]; ok {
				known[ref] = p
			}
		}
		return known, nil
	})
}

func (m *Memory) Outcomes(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	return m.page(ctx, file, from, limit, func(ledger.Outcome) bool { return true })
}

func (m *Memory) Attention(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	return m.page(ctx, file, from, limit, func(o ledger.Outcome) bool { return o.Status.NeedsAttention() })
}

func (m *Memory) page(ctx context.Context, file string, from, limit int, want func(ledger.Outcome) bool) ([]ledger.Outcome, error) {
	return locked(ctx, m, func() ([]ledger.Outcome, error) {
		var page []ledger.Outcome
		for _, row := range slices.Sorted(maps.Keys(m.outcomes[file])) {
			if o := m.outcomes[file][row]; row >= from && len(page) < limit && want(o) {
				page = append(page, o)
			}
		}
		return page, nil
	})
}

func (m *Memory) Totals(ctx context.Context, file string) (ledger.Totals, error) {
	return locked(ctx, m, func() (ledger.Totals, error) {
		t := ledger.NewTotals()
		for _, o := range m.outcomes[file] {
			t.Add(o.Status, o.Currency, 1, o.Amount)
			t.Attempts += o.Attempts
			t.Resends += max(0, o.Attempts-1)
			t.Customers += o.Customers
			t.Accounts += o.Accounts
		}
		return t, nil
	})
}

func (m *Memory) History(ctx context.Context, s ledger.Scope, reference string) (*ledger.History, error) {
	return locked(ctx, m, func() (*ledger.History, error) {
		key := billKey{s, reference}
		h := &ledger.History{Attempts: slices.Clone(m.attempts[key])}
		if b := m.bills[key]; b != nil {
			h.Bill = ptr(*b)
			if b.Send.Count > 0 {
				h.Attempts = append(h.Attempts, b.Send.Attempt())
			}
		}
		files := slices.SortedFunc(maps.Values(m.files), func(a, b *ledger.File) int {
			return cmp.Or(a.Received.Compare(b.Received), cmp.Compare(a.ID, b.ID))
		})
		for _, f := range files {
			for _, row := range slices.Sorted(maps.Keys(m.outcomes[f.ID])) {
				if o := m.outcomes[f.ID][row]; f.Scope == s && o.Reference == reference {
					h.Sightings = append(h.Sightings, ledger.Sighting{File: f.ID, Name: f.Name, Line: o.Line, Status: o.Status, Code: o.Code, Detail: o.Detail})
				}
			}
		}
		if h.Bill == nil && h.Sightings == nil {
			return nil, fmt.Errorf("bill %s: %w", reference, ledger.ErrNotFound)
		}
		return h, nil
	})
}

func (m *Memory) Begin(ctx context.Context, s ledger.Scope, b *ledger.Bill, _ ...ledger.PartyRef) error {
	return m.durably(ctx, func() error {
		m.putBill(billKey{s, b.Reference}, *b)
		return nil
	})
}

// putBill records b and returns what takes it back. The send that b replaces, if any,
// joins the attempts.
func (m *Memory) putBill(key billKey, b ledger.Bill) (undo func()) {
	undoAttempts := func() {}
	if old := m.bills[key]; old != nil && old.Send.Count > 0 && replaces(&b.Send, &old.Send) {
		undoAttempts = put(m.attempts, key, append(slices.Clone(m.attempts[key]), old.Send.Attempt()))
	}
	undoBill := put(m.bills, key, &b)
	return func() {
		undoBill()
		undoAttempts()
	}
}

// replaces reports whether s is another send than old, and not old with what became of
// it.
func replaces(s, old *ledger.Send) bool {
	return s.File != old.File || s.Row != old.Row || s.Generation != old.Generation || s.Key != old.Key || !s.At.Equal(old.At) || s.Count > old.Count
}

// count adds the counters of e to those of f, n times.
func count(f *ledger.File, e *ledger.Entry, n int) {
	f.Gets += n * e.Gets
	f.Throttled += n * e.Throttled
	f.LinkPosts += n * e.LinkPosts
	f.LinkRetries += n * e.LinkRetries
}

func (m *Memory) Record(ctx context.Context, e ledger.Entry) error {
	_, err := locked(ctx, m, func() (struct{}, error) {
		f := m.files[e.File]
		if f == nil && (e.Outcome != nil || e.Counts()) {
			return struct{}{}, fmt.Errorf("file %s: %w", e.File, ledger.ErrNotFound)
		}
		var undo []func()
		if e.Bill != nil {
			undo = append(undo, m.putBill(billKey{e.Scope, e.Bill.Reference}, *e.Bill))
		}
		for _, p := range e.Parties {
			key := partyKey{e.Scope, p.PartyRef}
			if old := m.parties[key]; p.ID == old.ID {
				p.CustomerID = cmp.Or(p.CustomerID, old.CustomerID)
				if !old.Since.IsZero() {
					p.Since = old.Since
				}
			}
			undo = append(undo, put(m.parties, key, p))
		}
		if e.Outcome != nil {
			if m.outcomes[e.File] == nil {
				m.outcomes[e.File] = make(map[int]ledger.Outcome)
			}
			undo = append(undo, put(m.outcomes[e.File], e.Outcome.Row, *e.Outcome))
		}
		if f != nil {
			count(f, &e, 1)
			undo = append(undo, func() { count(m.files[e.File], &e, -1) })
		}
		m.volatile = append(m.volatile, func() {
			for _, u := range slices.Backward(undo) {
				u()
			}
		})
		return struct{}{}, nil
	})
	return err
}

func ptr[T any](v T) *T { return &v }

// put sets a value and returns what takes it back.
func put[K comparable, V any](in map[K]V, k K, v V) func() {
	old, had := in[k]
	in[k] = v
	return func() {
		if had {
			in[k] = old
		} else {
			delete(in, k)
		}
	}
}

func (m *Memory) Flush(ctx context.Context) error {
	return m.durably(ctx, func() error { return nil })
}

func (m *Memory) BaseURL(ctx context.Context, s ledger.Scope) (string, error) {
	return locked(ctx, m, func() (string, error) { return m.baseURLs[s], nil })
}

func (m *Memory) SetBaseURL(ctx context.Context, s ledger.Scope, url string) error {
	return m.durably(ctx, func() error {
		m.baseURLs[s] = url
		return nil
	})
}

func (m *Memory) Links(ctx context.Context, s ledger.Scope, references []string) (map[string]ledger.Link, error) {
	return locked(ctx, m, func() (map[string]ledger.Link, error) {
		found := make(map[string]ledger.Link)
		for _, ref := range references {
			if l, ok := m.links[billKey{s, ref}]; ok {
				found[ref] = l
			}
		}
		return found, nil
	})
}

func (m *Memory) SaveLinks(ctx context.Context, s ledger.Scope, links []ledger.Link) error {
	return m.durably(ctx, func() error {
		for _, l := range links {
			m.links[billKey{s, l.Reference}] = l
		}
		return nil
	})
}

func (m *Memory) Prune(ctx context.Context, id string) (rows int, err error) {
	err = m.durably(ctx, func() error {
		f := m.files[id]
		switch {
		case f == nil:
			return fmt.Errorf("file %s: %w", id, ledger.ErrNotFound)
		case !f.State.Finished():
			return fmt.Errorf("file %s: %w", id, ledger.ErrUnfinished)
		}
		rows = len(m.outcomes[id])
		delete(m.files, id)
		delete(m.outcomes, id)
		for key, attempts := range m.attempts {
			m.attempts[key] = slices.DeleteFunc(slices.Clone(attempts), func(a ledger.Attempt) bool { return a.File == id })
		}
		return nil
	})
	return rows, err
}

func (m *Memory) Forget(ctx context.Context, s ledger.Scope, customer string) (parties int, err error) {
	err = m.durably(ctx, func() error {
		known, ok := m.parties[partyKey{s, ledger.PartyRef{Kind: ledger.Customer, Reference: customer}}]
		if !ok {
			return fmt.Errorf("customer: %w", ledger.ErrNotFound)
		}
		ids := map[string]bool{known.ID: true}
		for key, b := range m.bills {
			if key.scope == s && b.Observed.CustomerID == known.ID {
				ids[b.Observed.AccountID] = true
			}
		}
		for key, p := range m.parties {
			if key.scope == s && (ids[p.ID] || p.CustomerID == known.ID) {
				delete(m.parties, key)
				parties++
			}
		}
		return nil
	})
	return parties, err
}

// Close ends the use of the ledger until a Crash "opens" it again. Closing twice is fine.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(m.broken, errClosed) {
		return nil
	}
	err := m.broken
	m.volatile = nil
	m.broken = errClosed
	return err
}

var errClosed = fmt.Errorf("%w: closed", ledger.ErrUnusable)
