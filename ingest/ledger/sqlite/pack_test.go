package sqlite

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"billdrop/ingest/ledger"
)

// TestPackRoundTrip: whatever a record holds comes back, and no record that was cut short or grew is taken for one.
func TestPackRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return rapid.String().Draw(t, name) }
		number := func(name string) int { return rapid.Int().Draw(t, name) }
		at := func(name string) time.Time {
			if us := rapid.Int64Range(0, 1<<50).Draw(t, name); us > 0 {
				return time.UnixMicro(us).UTC()
			}
			return time.Time{}
		}
		b := &ledger.Bill{
			State: ledger.BillState(rapid.Byte().Draw(t, "state")), Doubt: rapid.Bool().Draw(t, "doubt"),
			Seen: ledger.Seen{
				BillID: text("bill"), CustomerID: text("customer"), AccountID: text("account"), Currency: text("currency"),
				Amount: rapid.Int64().Draw(t, "amount"), BillDate: text("bill date"), DueDate: text("due date"), Voided: rapid.Bool().Draw(t, "voided"),
			},
		}
		file := int64(0)
		if rapid.Bool().Draw(t, "sent") {
			file = rapid.Int64().Draw(t, "file")
			key := text("key")
			if rapid.Bool().Draw(t, "uuid") {
				key = "0f0e0d0c-0b0a-8908-8706-050403020100"
			}
			b.Send = ledger.Send{
				Row: number("row"), Generation: number("generation"), Form: ledger.Form(rapid.Byte().Draw(t, "form")),
				CustomerID: text("send customer"), AccountID: text("send account"), Content: ledger.DigestOf([]byte(text("content"))),
				Body: ledger.DigestOf([]byte(text("body"))), Key: key, KeyFirstUsed: at("first"), At: at("at"), Count: number("count"),
				Answer: text("answer"), Unanswered: rapid.Bool().Draw(t, "unanswered"),
			}
			if b.Send == (ledger.Send{}) {
				file = 0
			}
		}
		record := packBill(nil, b, file)
		got, gotFile, err := unpackBill(record)
		if diff := cmp.Diff(b, got); diff != "" || gotFile != file || err != nil {
			t.Fatalf("file %d, want %d; %v\n%s", gotFile, file, err, diff)
		}
		o := &ledger.Outcome{Line: number("line"), Reference: text("reference"), Code: text("code"), Detail: text("detail"),
			BillID: b.Seen.BillID, CustomerID: b.Seen.CustomerID, AccountID: b.Seen.AccountID, Key: b.Send.Key}
		outcome := packOutcome(nil, o)
		var back ledger.Outcome
		if err := unpackOutcome(outcome, &back); err != nil || back != *o {
			t.Fatalf("outcome %+v, %v, want %+v", back, err, *o)
		}
		cut := rapid.IntRange(0, len(record)-1).Draw(t, "cut")
		if _, _, err := unpackBill(record[:cut]); err == nil {
			t.Fatalf("a bill's record of %d bytes, cut to %d, is taken", len(record), cut)
		}
		if _, _, err := unpackBill(append(record, 0)); err == nil {
			t.Fatal("a bill's record with a byte too many is taken")
		}
		if err := unpackOutcome(outcome[:min(cut, len(outcome)-1)], &back); err == nil {
			t.Fatal("an outcome's record that was cut short is taken")
		}
	})
}

func TestStatusCodes(t *testing.T) {
	for i, s := range ledger.Statuses {
		if code := statusCode(s); statusOf(code) != s || s.NeedsAttention() != (code > 2) {
			t.Errorf("status %d (%s): code %d gives back %q", i, s, code, statusOf(code))
		}
	}
}
