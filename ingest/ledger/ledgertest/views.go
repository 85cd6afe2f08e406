package ledgertest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/ledger"
)

// Views is how the ledger of an engine is read by hand.
type Views struct {
	// Query returns what a query gives: columns are separated by "|", as sqlite3 and psql do.
	Query func(t *testing.T, query string) string
	// Columns is a query for the names of the columns of the view %s, separated by commas.
	Columns string
	// Explain comes before a query whose plan is asked for.
	Explain string
	// Indexes are those by which rows are found, by view and column. They are part of the
	// plan, and Scan is not.
	Indexes map[string]string
	Scan    string
}

// viewColumns are the columns that the ledger's users were promised, first and in this order.
var viewColumns = map[string]string{
	"bill":    "reference,status,bill_id,customer_id,account_id,amount_due,currency",
	"outcome": "file_id,line,reference,status,code,bill_id,amount_due,currency",
	"attempt": "reference,file_id,at,generation,idempotency_key,answer",
	"file":    "file_id,name,sha256,state,outcome,received_at,finished_at",
}

// viewLookUps are the views and columns by which rows are found without reading all.
var viewLookUps = []string{"attempt.reference", "bill.reference", "file.file_id", "outcome.file_id", "outcome.reference"}

// RunViews fills l, a new ledger, and holds its engine to what is promised to those who read
// it by hand: it is there, in words, and answers from an index.
func RunViews(t *testing.T, l ledger.Ledger, v Views) {
	fillViews(t, l)
	for view, want := range viewColumns {
		if got := v.Query(t, fmt.Sprintf(v.Columns, view)); !strings.HasPrefix(got, want+",") {
			t.Errorf("view %s has columns %s; want first %s", view, got, want)
		}
	}
	ReadViews(t, "beside a worker", v.Query)
	for _, at := range viewLookUps {
		view, column, _ := strings.Cut(at, ".")
		plan := v.Query(t, fmt.Sprintf("%s SELECT * FROM %s WHERE %s = 'X'", v.Explain, view, column))
		if index := v.Indexes[at]; index == "" || !strings.Contains(plan, index) || v.Scan != "" && strings.Contains(plan, v.Scan) {
			t.Errorf("%s:\n%s\nwant %s and no scan of a table", at, plan, index)
		}
	}
}

// fillViews records something of each kind.
func fillViews(t *testing.T, l ledger.Ledger) {
	t.Helper()
	add(t, l, &ledger.File{ID: "f1", Name: "november.csv", Scope: scope, SHA256: "0123", State: ledger.Done, Outcome: ledger.CompletedWithErrors,
		Received: epoch, Finished: epoch.Add(time.Minute)})
	add(t, l, &ledger.File{ID: "f2", Name: "december.csv", Scope: scope, State: ledger.Sending, Received: epoch.Add(time.Hour)})
	add(t, l, &ledger.File{ID: "f3", Name: "pruned.csv", Scope: scope, State: ledger.Done})

	// Sent twice, then answered.
	b := &ledger.Bill{Reference: "X", Send: ledger.Send{File: "f1", Row: 1, Generation: 1, Count: 1, At: epoch, KeyFirstUsed: epoch,
		Key: "0a0b0c0d-0001-8002-8003-0123456789ab"}}
	begin(t, l, b)
	b.Doubt, b.Send.Answer = true, "timeout"
	record(t, l, ledger.Entry{Scope: scope, Bill: b})
	b.Send.At, b.Send.Count, b.Send.Answer = epoch.Add(time.Second), 2, ""
	begin(t, l, b)
	b.State, b.Doubt, b.Send.Answer = ledger.Exists, false, "201"
	b.Observed = ledger.Observed{BillID: "bill_1", CustomerID: "bcus_1", AccountID: "bacc_1", Currency: "ZAR", Amount: 2000}
	record(t, l, ledger.Entry{Scope: scope, Bill: b, File: "f1", Outcome: &ledger.Outcome{Row: 1, Line: 2, Reference: "X", Status: ledger.Created,
		BillID: "bill_1", CustomerID: "bcus_1", AccountID: "bacc_1", Currency: "ZAR", Amount: 2000, Attempts: 2, Key: b.Send.Key}})
	// One a state, one a status; a key that is not a UUID; a file that is gone.
	begin(t, l, &ledger.Bill{Reference: "Y", Send: ledger.Send{File: "f3", Row: 1, Generation: 1, Count: 1, Key: "odd", At: epoch}})
	_, err := l.Prune(t.Context(), "f3")
	ok(t, "Prune", err)
	record(t, l, ledger.Entry{Scope: scope, Bill: &ledger.Bill{Reference: "Z", State: ledger.Gone}})
	for i, s := range ledger.Statuses {
		record(t, l, ledger.Entry{File: "f2", Outcome: &ledger.Outcome{Row: i + 1, Line: i + 2, Reference: "S", Status: s, Code: "c"}})
	}
	ok(t, "Flush", l.Flush(t.Context()))
}

// readings are what an auditor asks, and what the ledger of fillViews answers.
var readings = []struct{ query, want string }{
	{"SELECT * FROM bill WHERE reference = 'none'", ""},
	{"SELECT status, bill_id, amount_due FROM bill WHERE reference = 'X'", "exists|bill_1|2000"},
	{"SELECT reference, status, customer_id, account_id, currency, merchant, mode, file_id, row, idempotency_key, sent_at, answer FROM bill ORDER BY reference",
		"X|exists|bcus_1|bacc_1|ZAR|acme|test|f1|1|0a0b0c0d-0001-8002-8003-0123456789ab|2026-11-23T06:30:01.123Z|201\n" +
			"Y|pending||||acme|test|f3|1|odd|2026-11-23T06:30:00.123Z|\n" +
			"Z|gone||||acme|test|||||"},
	{"SELECT voided, in_doubt FROM bill WHERE reference = 'X'", "0|0"},
	{"SELECT status FROM outcome WHERE file_id = 'f2' ORDER BY row", "created\nexisting\nconflict\ninvalid\nrejected\nfailed\nunknown\nnot_sent"},
	{"SELECT file_id, line, status, bill_id, amount_due, currency, attempts, idempotency_key, name FROM outcome WHERE reference = 'X'",
		"f1|2|created|bill_1|2000|ZAR|2|0a0b0c0d-0001-8002-8003-0123456789ab|november.csv"},
	{"SELECT file_id, at, generation, idempotency_key, answer, latest FROM attempt WHERE reference = 'X' ORDER BY at",
		"f1|2026-11-23T06:30:00.123Z|1|0a0b0c0d-0001-8002-8003-0123456789ab|timeout|0\n" +
			"f1|2026-11-23T06:30:01.123Z|1|0a0b0c0d-0001-8002-8003-0123456789ab|201|1"},
	{"SELECT file_id, idempotency_key, answer FROM attempt WHERE reference IN ('Y', 'Z')", "f3|odd|"},
	{"SELECT * FROM attempt WHERE reference = 'Z'", ""},
	{"SELECT file_id, name, sha256, state, outcome, received_at, finished_at FROM file ORDER BY received_at",
		"f1|november.csv|0123|done|completed_with_errors|2026-11-23T06:30:00.123Z|2026-11-23T06:31:00.123Z\n" +
			"f2|december.csv||sending||2026-11-23T07:30:00.123Z|"},
}

// ReadViews reads a ledger that RunViews has filled.
func ReadViews(t *testing.T, when string, query func(t *testing.T, query string) string) {
	t.Helper()
	for _, r := range readings {
		if got := query(t, r.query); got != r.want {
			t.Errorf("%s: %s\n got %s\nwant %s", when, r.query, got, r.want)
		}
	}
}
