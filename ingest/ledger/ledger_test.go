package ledger_test

import (
	"testing"

	"billdrop/ingest/ledger"
)

func TestInDoubt(t *testing.T) {
	for _, c := range []struct {
		name string
		bill ledger.Bill
		want bool
	}{
		{"nothing known, nothing sent", ledger.Bill{}, false},
		{"sent, no answer recorded", ledger.Bill{Send: ledger.Send{Count: 1}}, true},
		{"sent, throttled: nothing was executed", ledger.Bill{Send: ledger.Send{Count: 1, Answer: "429"}}, false},
		{"sent, answer lost", ledger.Bill{Doubt: true, Send: ledger.Send{Count: 1, Answer: "timeout"}}, true},
		{"an earlier send was never settled", ledger.Bill{Doubt: true, Send: ledger.Send{Count: 2, Answer: "429"}}, true},
		{"seen", ledger.Bill{State: ledger.Exists, Send: ledger.Send{Count: 1, Answer: "201"}}, false},
		{"seen after a lost answer", ledger.Bill{State: ledger.Exists, Send: ledger.Send{Count: 1}}, false},
		{"refused", ledger.Bill{State: ledger.Gone, Send: ledger.Send{Count: 1, Answer: "422"}}, false},
		{"absence settled", ledger.Bill{State: ledger.Gone, Send: ledger.Send{Count: 1}}, false},
	} {
		if got := c.bill.InDoubt(); got != c.want {
			t.Errorf("%s: in doubt %v, want %v", c.name, got, c.want)
		}
	}
}

func TestNested(t *testing.T) {
	for form, want := range map[ledger.Form]bool{
		ledger.FormNone:               false,
		ledger.FormAccount:            false,
		ledger.FormCustomer:           false,
		ledger.FormNewAccount:         true,
		ledger.FormNewCustomer:        true,
		ledger.FormNewAccountCustomer: true,
	} {
		if got := form.Nested(); got != want {
			t.Errorf("form %d: nested %v, want %v", form, got, want)
		}
	}
}

func TestNeedsAttention(t *testing.T) {
	want := map[ledger.Status]bool{
		ledger.Created: false, ledger.Existing: false,
		ledger.Conflict: true, ledger.Invalid: true, ledger.Rejected: true, ledger.Failed: true, ledger.Unknown: true, ledger.NotSent: true,
		"": true, // no status is no success
	}
	for s, want := range want {
		if got := s.NeedsAttention(); got != want {
			t.Errorf("status %q: needs attention %v, want %v", s, got, want)
		}
	}
	for _, s := range ledger.Statuses {
		if _, ok := want[s]; !ok {
			t.Errorf("status %q is not in this test", s)
		}
	}
	if len(ledger.Statuses) != len(want)-1 {
		t.Errorf("%d statuses, this test knows %d", len(ledger.Statuses), len(want)-1)
	}
}

func TestFinished(t *testing.T) {
	for state, want := range map[ledger.FileState]bool{
		ledger.Claiming: false, ledger.Claimed: false, ledger.Spooled: false, ledger.Held: false, ledger.Sending: false,
		ledger.Settled: false, ledger.Published: false, ledger.Done: true, ledger.Dropped: true, "": false,
	} {
		if got := state.Finished(); got != want {
			t.Errorf("state %q: finished %v, want %v", state, got, want)
		}
	}
}

func TestDigestOf(t *testing.T) {
	// printf abc | sha256sum | head -c 32
	want := ledger.Digest{0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23}
	if got := ledger.DigestOf([]byte("abc")); got != want {
		t.Errorf("digest %x, want %x", got, want)
	}
}
