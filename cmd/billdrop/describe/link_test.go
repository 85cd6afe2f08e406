package describe

import (
	"strings"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

// A bill's payment request is described as the ledger has it, with the reason why it is missing.
func TestLink(t *testing.T) {
	at := time.Date(2026, 11, 23, 6, 30, 0, 0, time.UTC)
	const key = "cc93ab11-5f5e-8063-af2e-8af8c33ed45f"
	link := func(state ledger.LinkState, answer string) *ledger.Link {
		l := &ledger.Link{Reference: "A", BillID: "bill_1", State: state, Key: key, KeyFirstUsed: at, ExpiresAt: at.Add(24 * time.Hour), Answer: answer}
		if state == ledger.LinkMade {
			l.RequestID, l.URL = "pr_1", "https://pay.example.com/1"
		}
		return l
	}
	for _, c := range []struct {
		name     string
		link     *ledger.Link
		code     string // of the bill's row
		state    string // "" = the bill has no payment request, and was to have none
		says     []string
		conceals string
	}{
		{"not presented", nil, "", "", nil, "Payment request"},
		{"made", link(ledger.LinkMade, "201"), "", "made", []string{"Payment request: pr_1\n", "https://pay.example.com/1", key, "answer 201", "expires "}, "none"},
		{"killed", link(ledger.LinkAsked, ""), "", "asked", []string{"not known", "no answer recorded"}, "https"},
		{"too old", link(ledger.LinkAsked, "timeout"), ledger.CodeLinkUnknown, "asked", []string{"not known", "link_unknown: why", "answer timeout"}, "https"},
		{"turned away", link(ledger.LinkNone, "404"), ledger.CodeLinkFailed, "none", []string{"none yet", "link_failed: why", "answer 404"}, "https"},
		{"refused", link(ledger.LinkFailed, "422"), ledger.CodeLinkFailed, "failed", []string{"cannot be asked for again", "link_failed: why", "answer 422"}, "https"},
		{"never asked for", nil, ledger.CodeLinkFailed, "none", []string{"none yet", "link_failed: why"}, "key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := ledgertest.NewMemory()
			s := ledger.Scope{Merchant: "acme", Mode: "test"}
			if err := l.AddFile(t.Context(), &ledger.File{ID: "f", Name: "a.csv", Scope: s}); err != nil {
				t.Fatal(err)
			}
			o := &ledger.Outcome{Row: 1, Line: 2, Reference: "A", Status: ledger.Created, Code: c.code, BillID: "bill_1"}
			if c.code != "" {
				o.Detail = "why"
			}
			b := &ledger.Bill{Reference: "A", State: ledger.Exists, Observed: ledger.Observed{BillID: "bill_1"}}
			if err := l.Record(t.Context(), ledger.Entry{Scope: s, File: "f", Bill: b, Outcome: o}); err != nil {
				t.Fatal(err)
			}
			if c.link != nil {
				if err := l.SaveLinks(t.Context(), s, []ledger.Link{*c.link}); err != nil {
					t.Fatal(err)
				}
			}
			bills, err := ReadBills(t.Context(), l, []ledger.Scope{s}, "A")
			if err != nil || len(bills) != 1 {
				t.Fatalf("%d bills, %v", len(bills), err)
			}
			d := bills[0].Request
			if (d == nil) != (c.state == "") || d != nil && d.State != c.state {
				t.Fatalf("payment request %+v, want state %q", d, c.state)
			}
			if d != nil && (d.Code != c.code || c.link != nil && (d.IdempotencyKey != key || !d.KeyFirstUsedAt.Equal(at))) {
				t.Errorf("payment request %+v", d)
			}
			_, text, _ := strings.Cut(bills[0].Text(), "Named by") // what is said of the row follows
			_, text, _ = strings.Cut(text, "\n\n")
			for _, says := range c.says {
				if !strings.Contains(text, says) {
					t.Errorf("the text does not say %q:\n%s", says, text)
				}
			}
			if strings.Contains(text, c.conceals) {
				t.Errorf("the text says %q:\n%s", c.conceals, text)
			}
		})
	}
}
