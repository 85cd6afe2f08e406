package preview_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/fixtures"
	"billdrop/ingest"
	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/preview"
	"billdrop/ingest/report"
)

// desk is a place at which files are planned and imported: an API and a ledger in memory.
type desk struct {
	api    *emulator.API
	pipes  *emulator.Pipes
	ledger *ledgertest.Memory
	client *client.Client
	feed   *ingest.Feed
	policy delivery.Policy
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{api: emulator.New(emulator.Config{}), ledger: ledgertest.NewMemory()}
	var err error
	d.pipes = d.api.ServePipes()
	t.Cleanup(d.pipes.Close)
	d.client, err = client.New(client.Config{BaseURL: "http://127.0.0.1:1", Key: "sk_test_desk", MaxConns: 8, Dial: d.pipes.Dial})
	if err != nil {
		t.Fatal(err)
	}
	d.policy = delivery.Policy{
		Concurrency: 8, MaxAttempts: 6, BackoffMin: 500 * time.Millisecond, BackoffMax: time.Minute,
		LookupSettle: time.Minute, GiveUpAfter: 15 * time.Minute,
	}
	d.feed = &ingest.Feed{Name: "bills", Format: minorZAR, Hold: ingest.Hold{MaxInvalidPercent: 100}, Lane: d.lane("acme")}
	return d
}

func (d *desk) lane(merchant string) *delivery.Lane {
	return delivery.NewLane(ledger.Scope{Merchant: merchant, Mode: "test"}, d.client, d.policy)
}

// plan plans a file with a ledger that cannot be written to, and checks that the API was
// only asked.
func (d *desk) plan(t *testing.T, path string) (preview.Planned, error) {
	t.Helper()
	before := d.api.State()
	p, err := preview.Plan(t.Context(), preview.PlanOptions{Path: path, Feed: d.feed, Ledger: &sealed{d.ledger, t}})
	after := d.api.State()
	if after.Posts != before.Posts || after.Patches != before.Patches {
		t.Errorf("%s: the plan sent %d POSTs and %d PATCHes", path, after.Posts-before.Posts, after.Patches-before.Patches)
	}
	if err != nil {
		return p, err
	}
	if got := int(after.Gets - before.Gets); got != p.Gets {
		t.Errorf("%s: the plan says it took %d look-ups, the API had %d", path, p.Gets, got)
	}
	n := p.Rows
	if sum := n.Create + n.Existing + n.Conflict + n.Invalid + n.Rejected + n.Unknown + n.NotSent; sum != n.Total {
		t.Errorf("%s: the rows do not balance: %+v", path, n)
	}
	return p, nil
}

func (d *desk) mustPlan(t *testing.T, content string) preview.Planned {
	t.Helper()
	p, err := d.plan(t, drop(t, "bills.csv", []byte(content)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// carryOut does what was planned.
func (d *desk) carryOut(t *testing.T, path string) report.Summary {
	t.Helper()
	w, err := ingest.New(ingest.Options{
		Ledger: d.ledger, Spool: t.TempDir(), Feeds: []*ingest.Feed{d.feed}, Log: slog.New(slog.DiscardHandler), Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	done, err := w.Import(t.Context(), d.feed, []ingest.LocalFile{{Path: path, Out: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	return done[0].Summary
}

func (d *desk) carryOutText(t *testing.T, content string) report.Summary {
	t.Helper()
	return d.carryOut(t, drop(t, "bills.csv", []byte(content)))
}

// sealed is a ledger whose every write fails the test.
type sealed struct {
	ledger.Ledger
	t *testing.T
}

var errSealed = errors.New("this ledger is only to be read")

func (s *sealed) refuse(what string) error {
	s.t.Errorf("%s of a ledger that is only to be read", what)
	return errSealed
}

func (s *sealed) AddFile(context.Context, *ledger.File) error { return s.refuse("AddFile") }

func (s *sealed) SaveFile(context.Context, *ledger.File) error { return s.refuse("SaveFile") }

func (s *sealed) Begin(context.Context, ledger.Scope, *ledger.Bill, ...ledger.PartyRef) error {
	return s.refuse("Begin")
}

func (s *sealed) Record(context.Context, ledger.Entry) error { return s.refuse("Record") }

// agree fails t unless a plan foretold what an import came to.
func agree(t *testing.T, p preview.Planned, s report.Summary) {
	t.Helper()
	by := s.Rows.By
	want := preview.PlannedRows{
		Total: s.Rows.Total, Create: by[ledger.Created], Existing: by[ledger.Existing], Conflict: by[ledger.Conflict],
		Invalid: by[ledger.Invalid], Rejected: by[ledger.Rejected], NotSent: by[ledger.NotSent],
	}
	if diff := cmp.Diff(want, p.Rows); diff != "" {
		t.Errorf("rows (- came out, + planned):\n%s", diff)
	}
	if diff := cmp.Diff(s.Parties, p.New); diff != "" {
		t.Errorf("new parties (- came out, + planned):\n%s", diff)
	}
	if p.Attention() != s.Attention() {
		t.Errorf("the plan says that attention is needed: %v; it is: %v", p.Attention(), s.Attention())
	}
	words := map[string]ledger.Status{"create": ledger.Created, "existing": ledger.Existing, "conflict": ledger.Conflict, "rejected": ledger.Rejected,
		"invalid": ledger.Invalid}
	for currency, sums := range p.Totals {
		for word, sum := range sums {
			if got := s.Amounts[currency][words[word]]; got != sum {
				t.Errorf("%s %s: %d came out, %d planned", currency, word, got, sum)
			}
		}
	}
}

// TestPlanIsWhatComesOut: for every sample file, an import then does what the plan foretold,
// but for a report of billdrop's, which is passed over. So it does when all of it is in the
// ledger, and when the ledger is empty and the API has to be asked.
func TestPlanIsWhatComesOut(t *testing.T) {
	for _, f := range fixtures.All() {
		if f.Name == "bad-amounts-major.csv" {
			continue // its yens and dinars are refused by the API alone, which no look-up can tell
		}
		if f.Code == billfile.CodeOwnReport {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			d := newDesk(t)
			d.feed.Format = fixtureFormat(f.Format)
			path := drop(t, f.Name, f.Bytes())
			for _, when := range []string{"nobody knows it", "the ledger knows it", "the API knows it"} {
				if when == "the API knows it" { // from somebody whose idempotency keys are others
					d.ledger, d.feed.Lane = ledgertest.NewMemory(), d.lane("somebody else")
				}
				p, err := d.plan(t, path)
				if err != nil {
					t.Fatalf("%s: %v", when, err)
				}
				if when == "the ledger knows it" && p.Rows.Rejected == 0 && p.Gets != 0 {
					t.Errorf("%s: %d look-ups", when, p.Gets)
				}
				agree(t, p, d.carryOut(t, path))
			}
		})
	}
}

// What is bounded: one look-up a bill, a customer and an account, however many rows name
// them.
func TestPlanAsksOnce(t *testing.T) {
	d := newDesk(t)
	var b strings.Builder
	b.WriteString("bill_reference,amount_due,account_reference,customer_reference\n")
	for i := range 700 { // several chunks
		fmt.Fprintf(&b, "INV-%d,%d,ACC-%d,CUS-%d\n", i, 100+i, i%10, i%5)
	}
	p := d.mustPlan(t, b.String())
	if p.Gets != 700+10+5 || p.Rows.Create != 700 || p.New != (report.Parties{Customers: 5, Accounts: 10}) {
		t.Errorf("%d look-ups, %+v, new %+v", p.Gets, p.Rows, p.New)
	}
	agree(t, p, d.carryOutText(t, b.String()))
	if p := d.mustPlan(t, b.String()); p.Gets != 0 || p.Rows.Existing != 700 || p.New != (report.Parties{}) {
		t.Errorf("once the ledger knows it: %d look-ups, %+v, new %+v", p.Gets, p.Rows, p.New)
	}
}

func TestPlanConflicts(t *testing.T) {
	d := newDesk(t)
	const header = "bill_reference,amount_due,currency,due_date,account_reference,customer_reference\n"
	d.carryOutText(t, header+"A,1000,ZAR,2026-12-01,ACC-1,C-1\nB,2000,ZAR,,,C-1\nC,3000,ZAR,,,C-1\nD,4000,ZAR,,ACC-1,\nE,5000,ZAR,,,C-1\n")
	state := d.api.State()
	customer, account := state.Customers[0].ID, state.Accounts[0].ID
	edited := header + "A,1001,USD,2026-12-02,ACC-1,C-1\nB,2000,ZAR,,ACC-1,\nC,3000,ZAR,,,C-2\nD,4000,ZAR,,,C-1\nE,5000,ZAR,,,C-1\nF,1,ZAR,,ACC-9,\n"

	want := []preview.FoundConflict{
		{Line: 2, BillReference: "A", Fields: map[string][2]any{
			"amount_due": {int64(1000), int64(1001)}, "currency": {"ZAR", "USD"}, "due_date": {"2026-12-01", "2026-12-02"}},
			Detail: "amount_due: the bill has 1000, this row 1001; currency: the bill has ZAR, this row USD; due_date: the bill has 2026-12-01, this row 2026-12-02"},
		{Line: 3, BillReference: "B", Fields: map[string][2]any{"account": {nil, account}}, Detail: "account: the bill has none, this row " + account},
		{Line: 4, BillReference: "C", Fields: map[string][2]any{"customer": {customer, "unknown"}},
			Detail: "customer: the bill has " + customer + ", this row another that the API does not know"},
		{Line: 5, BillReference: "D", Fields: map[string][2]any{"account": {account, nil}}, Detail: "account: the bill has " + account + ", this row none"},
	}
	for _, knows := range []string{"ledger", "API"} {
		if knows == "API" {
			d.ledger = ledgertest.NewMemory()
		}
		p := d.mustPlan(t, edited)
		if diff := cmp.Diff(want, p.Conflicts); diff != "" {
			t.Errorf("conflicts that the %s knows of (- want, + got):\n%s", knows, diff)
		}
		if p.Rows != (preview.PlannedRows{Total: 6, Existing: 1, Conflict: 4, Rejected: 1}) || p.New != (report.Parties{}) {
			t.Errorf("rows %+v, new %+v", p.Rows, p.New)
		}
		if len(p.Problems) != 1 || p.Problems[0].Line != 7 || p.Problems[0].Code != "unknown_account" || p.ProblemsTotal != 1 {
			t.Errorf("problems %+v", p.Problems)
		}
	}

	cut, err := preview.Plan(t.Context(), preview.PlanOptions{In: strings.NewReader(edited), Feed: d.feed, MaxProblems: 2})
	if err != nil {
		t.Fatal(err)
	}
	if len(cut.Conflicts) != 2 || cut.Rows.Conflict != 4 || cut.File != "stdin" {
		t.Errorf("%d conflicts listed of %d in %s, want 2 of 4 in stdin", len(cut.Conflicts), cut.Rows.Conflict, cut.File)
	}
}

// A row whose account belongs to another customer is foretold, whoever knows the owner.
func TestPlanOfAccountsOfOthers(t *testing.T) {
	const header = "bill_reference,amount_due,account_reference,customer_reference\n"
	d := newDesk(t)
	d.carryOutText(t, header+"A,100,ERF,Ann\nB,100,ERF-2,Bob\n")
	d.feed.Lane = d.lane("another name for it") // whose keys are others
	lost := d.ledger
	for _, c := range []struct {
		name    string
		ledger  *ledgertest.Memory
		rows    string
		invalid int
		column  string
	}{
		{"the ledger knows both", lost, "C,200,ERF,Bob\n", 1, "customer_reference"},
		{"the ledger knows the account", lost, "D,200,ERF,Eve\n", 1, "customer_reference"},
		{"the API knows both", ledgertest.NewMemory(), "C,200,ERF,Bob\n", 0, "customer_reference"},
		{"the row names the account by id", ledgertest.NewMemory(), "C,200,@ERF,Bob\n", 1, "customer_reference"},
		{"the row names the customer by id", ledgertest.NewMemory(), "C,200,ERF,@Bob\n", 1, "customer_id"},
		{"the row names both by id", ledgertest.NewMemory(), "C,200,@ERF,@Bob\n", 1, "customer_id"},
		{"the pair is right", ledgertest.NewMemory(), "C,200,@ERF,Ann\n", -1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &desk{api: d.api, pipes: d.pipes, ledger: c.ledger, client: d.client, policy: d.policy, feed: d.feed}
			if c.ledger == lost {
				d.feed = &ingest.Feed{Name: "bills", Format: minorZAR, Hold: ingest.Hold{MaxInvalidPercent: 100}, Lane: d.lane("acme")}
			}
			content := header + c.rows
			for _, a := range d.api.State().Accounts {
				if strings.Contains(content, "@"+a.ExternalReference) {
					content = strings.NewReplacer("account_reference", "account_id", "@"+a.ExternalReference, a.ID).Replace(content)
				}
			}
			for _, a := range d.api.State().Customers {
				if strings.Contains(content, "@"+a.ExternalReference) {
					content = strings.NewReplacer("customer_reference", "customer_id", "@"+a.ExternalReference, a.ID).Replace(content)
				}
			}
			p := d.mustPlan(t, content)
			switch {
			case c.invalid < 0:
				if p.Rows.Create != 1 || len(p.Problems) != 0 {
					t.Errorf("rows %+v, problems %+v", p.Rows, p.Problems)
				}
			case p.Rows.Invalid != c.invalid || p.Rows.Invalid+p.Rows.Rejected != 1 || len(p.Problems) != 1:
				t.Errorf("rows %+v, problems %+v", p.Rows, p.Problems)
			default:
				if f := p.Problems[0]; f.Code != "party_mismatch" || f.Column != c.column || f.Line != 2 || f.BillReference == "" {
					t.Errorf("problem %+v", f)
				}
			}
			agree(t, p, d.carryOutText(t, content))
		})
	}
}

// A bill that the API holds is planned as existing, even if the ledger is in doubt or has
// it as gone.
func TestPlanOfBillsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		const bills = "bill_reference,amount_due,customer_reference\nSURE,100,C-1\nLOST,200,C-1\nNEVER,300,C-1\n"
		d.api.Script(func(c emulator.Call) emulator.Fault {
			switch {
			case c.Reference == "LOST":
				return emulator.Fault{Apply: true, Status: 500, Store: true}
			case c.Reference == "NEVER":
				return emulator.Fault{Status: 500}
			}
			return emulator.Fault{}
		})
		s := d.carryOutText(t, bills)
		if s.Rows.By[ledger.Unknown] != 2 {
			t.Fatalf("rows %v, want 2 unknown", s.Rows.By)
		}
		d.api.Script(nil)
		p := d.mustPlan(t, bills)
		if p.Rows != (preview.PlannedRows{Total: 3, Existing: 2, Create: 1}) || p.Gets != 2 {
			t.Errorf("rows %+v after %d look-ups", p.Rows, p.Gets)
		}
	})
}

func TestPlanFaults(t *testing.T) {
	const bills = "bill_reference,amount_due,customer_reference\nA,100,C-1\nB,200,C-2\nC,300,C-3\n"
	for _, c := range []struct {
		name  string
		fault func(emulator.Call) emulator.Fault
		want  preview.PlannedRows
		err   error
	}{
		{"passing ones", func(c emulator.Call) emulator.Fault {
			return []emulator.Fault{{}, {Status: 503}, {Status: 429, RetryAfter: "7"}, {Drop: true}, {Garbage: true}}[min(c.NthRef, 5)%5]
		}, preview.PlannedRows{Total: 3, Create: 3}, nil},
		{"a bill that cannot be looked up", func(c emulator.Call) emulator.Fault {
			if c.Reference == "B" {
				return emulator.Fault{Status: 500}
			}
			return emulator.Fault{}
		}, preview.PlannedRows{Total: 3, Create: 2, Unknown: 1}, nil},
		{"a customer that cannot be looked up", func(c emulator.Call) emulator.Fault {
			if c.Reference == "C-2" {
				return emulator.Fault{Drop: true}
			}
			return emulator.Fault{}
		}, preview.PlannedRows{Total: 3, Create: 2, Unknown: 1}, nil},
		{"a key refused", func(emulator.Call) emulator.Fault { return emulator.Fault{Status: 401} }, preview.PlannedRows{}, delivery.ErrSetup},
		{"a redirect", func(emulator.Call) emulator.Fault { return emulator.Fault{Redirect: "http://127.0.0.1:2/"} }, preview.PlannedRows{}, delivery.ErrSetup},
		{"an API that is down", nil, preview.PlannedRows{}, delivery.ErrStopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t)
				d.api.Script(c.fault)
				d.pipes.Refuse(c.fault == nil)
				p, err := d.plan(t, drop(t, "bills.csv", []byte(bills)))
				if !errors.Is(err, c.err) || p.Rows != c.want {
					t.Fatalf("rows %+v, error %v; want %+v, %v", p.Rows, err, c.want, c.err)
				}
				if err == nil && p.Rows.Unknown > 0 && (len(p.Problems) != 1 || p.Problems[0].Code != "no_answer" || p.Problems[0].Line != 3 || !p.Attention()) {
					t.Errorf("problems %+v", p.Problems)
				}
			})
		})
	}
}

// TestPlanInterrupted: a plan can be interrupted while it waits for an API that does not
// come back.
func TestPlanInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.pipes.Refuse(true)
		enough := errors.New("somebody has had enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, enough)
		defer cancel()
		_, err := preview.Plan(ctx, preview.PlanOptions{In: strings.NewReader(goodBills), Feed: d.feed})
		if !errors.Is(err, enough) {
			t.Errorf("error %v", err)
		}
	})
}

// A plan says that a run would refuse or hold a file. For one that it would refuse, nothing
// is asked.
func TestPlanRefusedAndHeld(t *testing.T) {
	d := newDesk(t)
	for name, content := range map[string]string{"truncated": strings.TrimSuffix(goodBills, "\n"), "empty_file": ""} {
		if p := d.mustPlan(t, content); p.Code != name || p.Outcome != preview.OutcomeRejected || p.Rows.Total != 0 || p.Gets != 0 || !p.Attention() {
			t.Errorf("%s: %+v", name, p)
		}
	}
	d.feed.RejectInvalid = true
	if p := d.mustPlan(t, badBills); p.Rows != (preview.PlannedRows{Total: 3, Invalid: 2, NotSent: 1}) || p.Code != "invalid_rows" || p.Gets != 0 || !p.Attention() {
		t.Errorf("all or nothing: %+v", p)
	}
	if p := d.mustPlan(t, goodBills); p.Rows.Create != 2 || p.Attention() {
		t.Errorf("a good file: %+v", p)
	}
	d.feed.Hold.MaxRows, d.feed.Hold.MaxTotal = 1, map[string]int64{"ZAR": 349}
	if p := d.mustPlan(t, goodBills); len(p.OverLimits) != 2 || p.Rows.Create != 2 || !p.Attention() {
		t.Errorf("over the limits: %+v", p)
	}
}

// What answers 404 to everything may be another server, and the plan marks that.
func TestPlanOfAnotherServer(t *testing.T) {
	d := newDesk(t)
	d.api.Script(func(emulator.Call) emulator.Fault {
		return emulator.Fault{Status: 404, Body: "404 page not found", ContentType: "text/plain"}
	})
	if p := d.mustPlan(t, goodBills); p.Rows.Create != 2 || !p.ForeignAnswers {
		t.Errorf("rows %+v, foreign answers %v", p.Rows, p.ForeignAnswers)
	}
	d.api.Script(nil)
	if p := d.mustPlan(t, goodBills); p.ForeignAnswers {
		t.Error("the API's own answers are taken for foreign ones")
	}
}

func TestPlanNoFile(t *testing.T) {
	d := newDesk(t)
	if _, err := d.plan(t, filepath.Join(t.TempDir(), "none.csv")); err == nil {
		t.Error("a file that is not there was planned")
	}
}
