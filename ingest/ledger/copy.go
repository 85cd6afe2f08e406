package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrInUse: a worker uses the ledger, so that it can be neither copied nor filled.
var ErrInUse = errors.New("a worker uses this ledger")

// Unfinished is the error of an engine that is asked to open a ledger which was being filled from
// another one when that ended.
func Unfinished() error {
	return &Error{
		Err:  fmt.Errorf("%w: a copy into this ledger did not finish", ErrUnusable),
		Hint: "drop it (the database, or the file with those beside it) and copy again",
	}
}

// Store is what an engine offers beside Ledger to those who copy and verify it. Rows are
// handed out and taken in this order: ScopeRow, FileRow, BillRow, AttemptRow, OutcomeRow,
// PartyRow, LinkRow, TotalRow.
type Store interface {
	// Idle fails with ErrInUse while a worker runs on the ledger, or was heard of so lately
	// that it may still. The text differs once anything was written in between.
	Idle(ctx context.Context) (state string, err error)
	// Export hands out every row, all as they are at one moment. Attempts of a bill are in
	// their order.
	Export(ctx context.Context, put func(Row) error) error
	// Import fills the ledger with the rows that export hands out, and marks it before: until
	// FinishImport, every open fails with Unfinished. ErrExists unless the ledger is empty.
	Import(ctx context.Context, export func(put func(Row) error) error) error
	FinishImport(ctx context.Context) error
	// Missing names bills, outcomes and attempts that are missing, as far as other rows show it.
	Missing(ctx context.Context, found func(Finding)) error
}

// Row is a row of a ledger, whatever engine keeps it.
type Row interface {
	// count is where the row is counted.
	count(*Counts) *int64
	// digested adds its content to a digest.
	digested(summer) (summer, error)
}

// Rows of a ledger. Sum and SendSum are as they are stored: see SumBill.
type (
	ScopeRow struct {
		Scope   Scope
		BaseURL string
	}
	FileRow struct{ File *File }
	BillRow struct {
		Scope        Scope
		Bill         *Bill
		Attempts     int64 // how many AttemptRows there should be
		Sum, SendSum int64
	}
	// AttemptRow is a send that another one has replaced.
	AttemptRow struct {
		Scope     Scope
		Reference string
		Row       int
		Attempt   Attempt
		Sum       int64
	}
	OutcomeRow struct {
		File    string // id
		Outcome *Outcome
		Sum     int64
	}
	PartyRow struct {
		Scope          Scope
		Digest         Digest
		Kind           PartyKind
		ID, CustomerID string
		Since          time.Time
	}
	// TotalRow says how many BillRows there should be.
	TotalRow struct{ Bills int64 }
)

// Counts are how many rows of each kind a ledger holds.
type Counts struct {
	Files    int64 `json:"files"`
	Bills    int64 `json:"bills"`
	Outcomes int64 `json:"outcomes"`
	Attempts int64 `json:"attempts"` // but for the latest of each bill
	Parties  int64 `json:"parties"`
	Links    int64 `json:"links,omitempty"`    // payment requests of bills
	Payments int64 `json:"payments,omitempty"` // of a copy alone
	Scopes   int64 `json:"-"`
	Totals   int64 `json:"-"`

	PaymentReports int64 `json:"-"`
	BillAccounts   int64 `json:"-"`
	PartyBills     int64 `json:"-"`
	PartyReads     int64 `json:"-"`
}

func (ScopeRow) count(c *Counts) *int64   { return &c.Scopes }
func (FileRow) count(c *Counts) *int64    { return &c.Files }
func (BillRow) count(c *Counts) *int64    { return &c.Bills }
func (AttemptRow) count(c *Counts) *int64 { return &c.Attempts }
func (OutcomeRow) count(c *Counts) *int64 { return &c.Outcomes }
func (PartyRow) count(c *Counts) *int64   { return &c.Parties }
func (TotalRow) count(c *Counts) *int64   { return &c.Totals }

func (r ScopeRow) digested(s summer) (summer, error) {
	return s.text(r.Scope.Merchant, r.Scope.Mode, r.BaseURL), nil
}

func (r FileRow) digested(s summer) (summer, error) {
	f := *r.File
	f.Revision = 0 // of an engine
	for _, t := range []*time.Time{&f.ModTime, &f.Received, &f.Started, &f.Finished} {
		s = s.time(*t)
		*t = time.Time{}
	}
	b, err := json.Marshal(f)
	return s.text(string(b)), err
}

func (r BillRow) digested(s summer) (summer, error) {
	return s.number(SumBill(r.Scope, r.Bill), SumSend(r.Scope, r.Bill.Reference, &r.Bill.Send), r.Attempts, r.Sum, r.SendSum), nil
}

func (r AttemptRow) digested(s summer) (summer, error) {
	return s.number(SumSend(r.Scope, r.Reference, r.Send()), r.Sum), nil
}

// Send is what of the replaced Send is kept.
func (r AttemptRow) Send() *Send {
	a := &r.Attempt
	return &Send{File: a.File, Row: r.Row, Generation: a.Generation, Key: a.Key, At: a.At, Answer: a.Answer}
}

func (r OutcomeRow) digested(s summer) (summer, error) {
	return s.number(SumOutcome(r.File, r.Outcome), r.Sum), nil
}

func (r PartyRow) digested(s summer) (summer, error) {
	return s.text(r.Scope.Merchant, r.Scope.Mode, string(r.Digest[:]), r.ID, r.CustomerID).number(int64(r.Kind)).time(r.Since), nil
}

func (r TotalRow) digested(s summer) (summer, error) { return s.number(r.Bills), nil }

// tally counts rows, and keeps a digest of those of each kind that does not depend on their
// order: the sum of their SHA-256, in four parts. (The order of a bill's attempts is kept
// apart.)
type tally struct {
	counts  Counts
	digests map[*int64]*[4]uint64
	// The order of the attempts: that of the latest bill, and how many it had so far.
	last string
	no   int64
}

func (t *tally) add(r Row) error {
	if t.digests == nil {
		t.digests = map[*int64]*[4]uint64{}
	}
	counter := r.count(&t.counts)
	*counter++
	s, err := r.digested(newSummer('r'))
	if err != nil {
		return err
	}
	if a, ok := r.(AttemptRow); ok {
		if bill := string(newSummer('k').text(a.Scope.Merchant, a.Scope.Mode, a.Reference)); bill != t.last {
			t.last, t.no = bill, 0
		}
		t.no++
		s = s.number(t.no)
	}
	d := t.digests[counter]
	if d == nil {
		d = new([4]uint64)
		t.digests[counter] = d
	}
	sum := sha256.Sum256(s)
	for i := range d {
		d[i] += binary.BigEndian.Uint64(sum[8*i:])
	}
	return nil
}

// differences names the kinds of rows in which two tallies differ.
func (t *tally) differences(other *tally) []string {
	var kinds []string
	for _, k := range []struct {
		name         string
		mine, theirs *int64
	}{
		{"merchants", &t.counts.Scopes, &other.counts.Scopes},
		{"files", &t.counts.Files, &other.counts.Files},
		{"bills", &t.counts.Bills, &other.counts.Bills},
		{"attempts", &t.counts.Attempts, &other.counts.Attempts},
		{"outcomes", &t.counts.Outcomes, &other.counts.Outcomes},
		{"parties", &t.counts.Parties, &other.counts.Parties},
		{"links", &t.counts.Links, &other.counts.Links},
		{"totals", &t.counts.Totals, &other.counts.Totals},
		{"payments", &t.counts.Payments, &other.counts.Payments},
		{"payment reports", &t.counts.PaymentReports, &other.counts.PaymentReports},
		{"accounts of bills", &t.counts.BillAccounts, &other.counts.BillAccounts},
		{"bills of parties", &t.counts.PartyBills, &other.counts.PartyBills},
		{"marks of bills of parties", &t.counts.PartyReads, &other.counts.PartyReads},
	} {
		a, b := t.digests[k.mine], other.digests[k.theirs]
		if *k.mine != *k.theirs || a != nil && *a != *b {
			kinds = append(kinds, k.name)
		}
	}
	return kinds
}

// Copy fills an empty ledger with all that another one holds, reads it back, and compares
// counts and digests. Until it returns nil, the target cannot be opened. It fails with
// ErrInUse when a worker runs on either, or anything was written to the source meanwhile.
func Copy(ctx context.Context, from, to Store) (Counts, error) {
	state, err := from.Idle(ctx)
	if err != nil {
		return Counts{}, fmt.Errorf("copy from it: %w", err)
	}
	if _, err := to.Idle(ctx); err != nil {
		return Counts{}, fmt.Errorf("copy into it: %w", err)
	}
	var read, written tally
	err = to.Import(ctx, func(put func(Row) error) error {
		return from.Export(ctx, func(r Row) error { return errors.Join(read.add(r), put(r)) })
	})
	if err != nil {
		return Counts{}, err
	}
	if err := to.Export(ctx, written.add); err != nil {
		return Counts{}, fmt.Errorf("read the copy back: %w", err)
	}
	if kinds := read.differences(&written); len(kinds) > 0 {
		return Counts{}, fmt.Errorf("%w: the copy has other %v than the ledger (%+v, %+v)", ErrUnusable, kinds, written.counts, read.counts)
	}
	switch now, err := from.Idle(ctx); {
	case err != nil:
		return Counts{}, fmt.Errorf("copy from it: %w", err)
	case now != state:
		return Counts{}, fmt.Errorf("copy from it: %w: it was written to meanwhile", ErrInUse)
	}
	return read.counts, to.FinishImport(ctx)
}

// Finding is a row that is not as it was recorded.
type Finding struct {
	Table string `json:"table"` // bill, outcome, attempt or link
	Row   string `json:"row"`   // which one
	What  string `json:"what"`  // changed, added or missing
}

// BillName is how a Finding names a bill.
func BillName(s Scope, reference string) string {
	return fmt.Sprintf("%s (merchant %s, %s)", reference, s.Merchant, s.Mode)
}

// AttemptsOff is the Finding of a bill of which so many attempts are missing; fewer than 0 are
// too many.
func AttemptsOff(s Scope, reference string, missing int) Finding {
	if missing < 0 {
		return Finding{"attempt", fmt.Sprintf("%d of bill %s", -missing, BillName(s, reference)), "added"}
	}
	return Finding{"attempt", fmt.Sprintf("%d of bill %s", missing, BillName(s, reference)), "missing"}
}

// MissingOutcome is the Finding of a row of a settled file; reference is "" where it is not known.
func MissingOutcome(f *File, row int, reference string) Finding {
	name := fmt.Sprintf("row %d of file %s (%s)", row, f.ID, f.Name)
	if reference != "" {
		name += ", bill " + reference
	}
	return Finding{"outcome", name, "missing"}
}

// MissingOutcomes is that of rows of which not even the number is known.
func MissingOutcomes(f *File, n int) Finding {
	return Finding{"outcome", fmt.Sprintf("%d of file %s (%s)", n, f.ID, f.Name), "missing"}
}

// OutcomesOf is how many outcomes a file had when its sums were fixed.
func OutcomesOf(t *Totals) int {
	n := 0
	for _, rows := range t.Rows {
		n += rows
	}
	return n
}

// Verify compares every bill, outcome, attempt and link with the sum that is stored beside it,
// and looks for missing ones. It returns how many there are, and what is not as it was
// recorded.
func Verify(ctx context.Context, s Store) (Counts, []Finding, error) {
	counts, found := Counts{}, []Finding{}
	changed := func(table, row string) { found = append(found, Finding{table, row, "changed"}) }
	err := s.Export(ctx, func(r Row) error {
		*r.count(&counts)++
		switch r := r.(type) {
		case BillRow:
			if r.Sum != SumBill(r.Scope, r.Bill) || r.SendSum != SumSend(r.Scope, r.Bill.Reference, &r.Bill.Send) {
				changed("bill", BillName(r.Scope, r.Bill.Reference))
			}
		case AttemptRow:
			if r.Sum != SumSend(r.Scope, r.Reference, r.Send()) {
				changed("attempt", fmt.Sprintf("of bill %s at %s", BillName(r.Scope, r.Reference), r.Attempt.At.UTC().Format(time.RFC3339)))
			}
		case OutcomeRow:
			if r.Sum != SumOutcome(r.File, r.Outcome) {
				changed("outcome", fmt.Sprintf("line %d of file %s, bill %s", r.Outcome.Line, r.File, r.Outcome.Reference))
			}
		case LinkRow:
			if r.Sum != SumLink(r.Scope, &r.Link) {
				changed("link", "of bill "+BillName(r.Scope, r.Link.Reference))
			}
		}
		return nil
	})
	if err != nil {
		return counts, found, err
	}
	err = s.Missing(ctx, func(f Finding) {
		if !slices.Contains(found, f) {
			found = append(found, f)
		}
	})
	return counts, found, err
}
