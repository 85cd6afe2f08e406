package ledgertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"billdrop/ingest/ledger"
)

// Store is a database without a disk, which any number of workers share: each by a Handle of its
// own, which keeps the promises of ledger.Shared. It may be used concurrently.
//
// The store never loses what it committed. What a Handle recorded and has not handed over yet is
// lost when the handle is killed.
type Store struct {
	offset time.Duration

	mu      sync.Mutex
	content *Memory
	// revision is the latest that a bill or file got.
	revision int64
	members  map[string]*member // live ones, by name
	leases   map[string]*member
	parts    map[string][]*part // by file
	leads    map[partyKey]lead
	orders   []ledger.LeftOrder // oldest first
	places   map[ledger.Scope]time.Time
	pauses   map[ledger.Scope]time.Time
	trace    func(handle, op string, err error)
}

// member is a worker from its Join until it leaves, or is lost.
type member struct {
	ledger.Member
	since, heard time.Time
	inFlight     int
}

// part is a part with the worker that has it in hand.
type part struct {
	ledger.Part
	holder *member // nil = none
}

// lead is a send that may be creating a party.
type lead struct {
	member *member
	file   string
	row    int
}

// NewStore makes an empty store, whose clock is ahead of its users' by offset.
func NewStore(offset time.Duration) *Store {
	return &Store{
		offset: offset, content: NewMemory(), members: make(map[string]*member), leases: make(map[string]*member),
		parts: make(map[string][]*part), leads: make(map[partyKey]lead),
		places: make(map[ledger.Scope]time.Time), pauses: make(map[ledger.Scope]time.Time),
	}
}

// Open returns a new handle, whose calls wait for patience while the store is out of reach;
// 0 = for as long as it takes.
func (s *Store) Open(patience time.Duration) *Handle {
	return &Handle{store: s, patience: patience, done: make(chan struct{})}
}

// Trace has report called after each transaction of each handle, while the store is locked.
func (s *Store) Trace(report func(handle, op string, err error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = report
}

func (s *Store) now() time.Time { return time.Now().Add(s.offset) }

// reap takes those for lost who were unheard of for too long. What they had is anyone's from then
// on. s.mu is held.
func (s *Store) reap(now time.Time) {
	for _, m := range s.members {
		if now.Sub(m.heard) >= m.LostAfter {
			s.expel(m)
		}
	}
}

// expel ends a membership and gives back all that the member has in hand. s.mu is held.
func (s *Store) expel(m *member) {
	delete(s.members, m.Name)
	maps.DeleteFunc(s.leases, func(_ string, holder *member) bool { return holder == m })
	maps.DeleteFunc(s.leads, func(_ partyKey, l lead) bool { return l.member == m })
	for _, parts := range s.parts {
		for _, p := range parts {
			if p.holder == m {
				p.holder = nil
			}
		}
	}
}

// live reports whether m is a member still. s.mu is held.
func (s *Store) live(m *member) bool { return m != nil && s.members[m.Name] == m }

// partOf returns the part that a row belongs to, or nil. s.mu is held.
func (s *Store) partOf(file string, row int) *part {
	for _, p := range s.parts[file] {
		if p.From <= row && row < p.To {
			return p
		}
	}
	return nil
}

// elsewhere reports whether the part of a row is in the hand of another than m. s.mu is held.
func (s *Store) elsewhere(m *member, file string, row int) bool {
	p := s.partOf(file, row)
	return p != nil && p.holder != nil && p.holder != m
}

// begin is Begin of a member.
func (s *Store) begin(m *member, scope ledger.Scope, b *ledger.Bill, leads []ledger.PartyRef) error {
	key := billKey{scope, b.Reference}
	var revision int64
	if old := s.content.bills[key]; old != nil {
		if revision = old.Revision; old.State == ledger.Pending && s.elsewhere(m, old.Send.File, old.Send.Row) {
			return fmt.Errorf("bill %s: %w", b.Reference, ledger.ErrTaken)
		}
	}
	if b.Revision != revision || s.elsewhere(m, b.Send.File, b.Send.Row) {
		return fmt.Errorf("bill %s: %w", b.Reference, ledger.ErrTaken)
	}
	for _, ref := range leads {
		_, known := s.content.parties[partyKey{scope, ref}]
		if l, led := s.leads[partyKey{scope, ref}]; known || led && l.member != m {
			return fmt.Errorf("a party of bill %s: %w", b.Reference, ledger.ErrTaken)
		}
	}
	for _, ref := range leads {
		s.leads[partyKey{scope, ref}] = lead{m, b.Send.File, b.Send.Row}
	}
	s.revision++
	b.Revision = s.revision
	return s.content.Begin(context.Background(), scope, b)
}

// write is an entry that its handle has not handed over yet.
type write struct {
	entry    ledger.Entry
	expected int64 // the revision that the entry's bill was read as
}

// record is Record of a member. A bill that is not as the member left it stays as it is.
func (s *Store) record(w write) error {
	e := w.entry
	if e.Bill != nil {
		old := s.content.bills[billKey{e.Scope, e.Bill.Reference}]
		if old == nil && w.expected != 0 || old != nil && old.Revision != w.expected {
			e.Bill = nil
		}
	}
	if err := s.content.Record(context.Background(), e); err != nil {
		return err
	}
	for _, p := range e.Parties {
		delete(s.leads, partyKey{e.Scope, p.PartyRef})
	}
	if e.Outcome != nil {
		s.endLeads(func(l lead) bool { return l.file == e.File && l.row == e.Outcome.Row })
	}
	return s.content.Flush(context.Background())
}

// endLeads ends the leads for which ended returns true. s.mu is held.
func (s *Store) endLeads(ended func(lead) bool) {
	maps.DeleteFunc(s.leads, func(_ partyKey, l lead) bool { return ended(l) })
}

// saveFile is SaveFile; add, if true, AddFile.
func (s *Store) saveFile(f *ledger.File, add bool) error {
	saved := *f
	saved.Revision = s.revision + 1
	save := s.content.AddFile
	if !add {
		save = s.content.SaveFile
		if old := s.content.files[f.ID]; old != nil && old.Revision != f.Revision {
			return fmt.Errorf("file %s: %w", f.ID, ledger.ErrChanged)
		}
	}
	if err := save(context.Background(), &saved); err != nil {
		return err
	}
	s.revision++
	f.Revision = s.revision
	return nil
}

// join is Join, in place of the handle's earlier membership, if any.
func (s *Store) join(old *member, m ledger.Member, now time.Time) (*member, error) {
	if s.live(old) {
		s.expel(old)
	}
	if s.members[m.Name] != nil {
		return nil, fmt.Errorf("worker %s: %w", m.Name, ledger.ErrNameTaken)
	}
	for _, name := range slices.Sorted(maps.Keys(s.members)) {
		if err := m.DiffersFrom(name, s.members[name].Formats); err != nil {
			return nil, err
		}
	}
	joined := &member{Member: m, since: now, heard: now}
	s.members[m.Name] = joined
	return joined, nil
}

// colleagues lists the live members by name.
func (s *Store) colleagues() []ledger.Colleague {
	var list []ledger.Colleague
	for _, name := range slices.Sorted(maps.Keys(s.members)) {
		m := s.members[name]
		list = append(list, ledger.Colleague{
			Name: m.Name, Machine: m.Machine, Role: m.Role, Since: m.since, HeardAt: m.heard, InFlight: m.inFlight,
			Feeds: slices.Sorted(maps.Keys(m.Formats)),
		})
	}
	return list
}

// reserve is Reserve.
func (s *Store) reserve(scope ledger.Scope, perSecond float64, n int, now time.Time) time.Duration {
	first := s.places[scope]
	if first.Before(now) {
		first = now
	}
	s.places[scope] = first.Add(time.Duration(float64(n) / perSecond * float64(time.Second)))
	return first.Sub(now)
}
