package ledger

import (
	"testing"
	"time"
)

// TestSums: what is summed never changes, because every ledger that there is has the sums of
// its rows.
func TestSums(t *testing.T) {
	s := Scope{Merchant: "acme", Mode: "test"}
	at := time.Date(2026, 11, 23, 6, 30, 0, 123456789, time.UTC) // a ledger keeps microseconds
	bill := &Bill{Reference: "INV-1", State: Exists, Doubt: true,
		Observed: Observed{BillID: "bill_1", CustomerID: "bcus_1", AccountID: "bacc_1", Currency: "ZAR", Amount: 12345, BillDate: "2026-11-01", DueDate: "2026-11-30", Voided: true},
		Send: Send{File: "f", Row: 123, Generation: 2, Form: FormNewAccountCustomer, CustomerID: "bcus_2", AccountID: "bacc_2", Content: DigestOf([]byte("c")), Body: DigestOf([]byte("b")),
			Key: "0a0b0c0d-0001-8002-8003-0123456789ab", KeyFirstUsed: at, At: at.Add(time.Second), Count: 3, Answer: "201", Unanswered: true}}
	outcome := &Outcome{Row: 123, Line: 124, Reference: "INV-1", Status: Created, Code: "code", Detail: "detail", BillID: "bill_1", CustomerID: "bcus_1", AccountID: "bacc_1",
		Currency: "ZAR", Amount: 12345, Attempts: 3, Key: "key", Customers: 1, Accounts: 2}
	unsent := &Bill{Reference: "INV-1", State: Gone}
	for what, c := range map[string]struct{ got, want int64 }{
		"bill":        {SumBill(s, bill), -3093852223579411544},
		"unsent bill": {SumBill(s, unsent), -1944941822676778077},
		"send":        {SumSend(s, bill.Reference, &bill.Send), 6014100358453045729},
		"no send":     {SumSend(s, unsent.Reference, &unsent.Send), 0},
		"outcome":     {SumOutcome("f", outcome), -3673460360161382545},
	} {
		if c.got != c.want {
			t.Errorf("sum of a %s: %d, want %d", what, c.got, c.want)
		}
	}
	stored := *bill
	stored.Send.KeyFirstUsed, stored.Send.At = at.Truncate(time.Microsecond), stored.Send.At.Truncate(time.Microsecond).In(time.FixedZone("SAST", 7200))
	stored.Revision, stored.Held = 7, true
	if SumBill(s, bill) != SumBill(s, &stored) {
		t.Error("a bill has another sum when it is read back")
	}
}
