package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// views are the columns that the ledger's users were promised, first and in this order.
var views = map[string]string{
	"bill":    "reference,status,bill_id,customer_id,account_id,amount_due,currency",
	"outcome": "file_id,line,reference,status,code,bill_id,amount_due,currency",
	"attempt": "reference,file_id,at,generation,idempotency_key,answer",
	"file":    "file_id,name,sha256,state,outcome,received_at,finished_at",
}

// readings are what an auditor asks, and what the ledger of TestViews answers. SQLite answers the same.
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

// TestViews: what is promised to those who read the ledger by hand is there, in words, for psql beside
// a worker.
func TestViews(t *testing.T) {
	server := pgtest.Start(t)
	l := join(t, open(t, server.Database(t)))
	t.Cleanup(func() { l.Close() })
	at := time.Date(2026, 11, 23, 6, 30, 0, 123456000, time.UTC)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(l.AddFile(t.Context(), &ledger.File{ID: "f1", Name: "november.csv", Scope: scope, SHA256: "0123", State: ledger.Done, Outcome: ledger.CompletedWithErrors,
		Received: at, Finished: at.Add(time.Minute)}))
	check(l.AddFile(t.Context(), &ledger.File{ID: "f2", Name: "december.csv", Scope: scope, State: ledger.Sending, Received: at.Add(time.Hour)}))
	check(l.AddFile(t.Context(), &ledger.File{ID: "f3", Name: "pruned.csv", Scope: scope, State: ledger.Done}))

	// Sent twice, then answered.
	b := &ledger.Bill{Reference: "X", Send: ledger.Send{File: "f1", Row: 1, Generation: 1, Count: 1, At: at, KeyFirstUsed: at,
		Key: "0a0b0c0d-0001-8002-8003-0123456789ab"}}
	check(l.Begin(t.Context(), scope, b))
	b.Doubt, b.Send.Answer = true, "timeout"
	check(l.Record(t.Context(), ledger.Entry{Scope: scope, Bill: b}))
	b.Send.At, b.Send.Count, b.Send.Answer = at.Add(time.Second), 2, ""
	check(l.Begin(t.Context(), scope, b))
	b.State, b.Doubt, b.Send.Answer = ledger.Exists, false, "201"
	b.Observed = ledger.Observed{BillID: "bill_1", CustomerID: "bcus_1", AccountID: "bacc_1", Currency: "ZAR", Amount: 2000}
	check(l.Record(t.Context(), ledger.Entry{Scope: scope, Bill: b, File: "f1", Outcome: &ledger.Outcome{Row: 1, Line: 2, Reference: "X", Status: ledger.Created,
		BillID: "bill_1", CustomerID: "bcus_1", AccountID: "bacc_1", Currency: "ZAR", Amount: 2000, Attempts: 2, Key: b.Send.Key}}))
	// One a state, one a status; a key that is not a UUID; a file that is gone.
	check(l.Begin(t.Context(), scope, &ledger.Bill{Reference: "Y", Send: ledger.Send{File: "f3", Row: 1, Generation: 1, Count: 1, Key: "odd", At: at}}))
	_, err := l.Prune(t.Context(), "f3")
	check(err)
	check(l.Record(t.Context(), ledger.Entry{Scope: scope, Bill: &ledger.Bill{Reference: "Z", State: ledger.Gone}}))
	for i, s := range ledger.Statuses {
		check(l.Record(t.Context(), ledger.Entry{File: "f2", Outcome: &ledger.Outcome{Row: i + 1, Line: i + 2, Reference: "S", Status: s, Code: "c"}}))
	}
	check(l.Flush(t.Context()))

	for view, want := range views {
		got := server.Query(t, "ledger_1", fmt.Sprintf("SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '%s'::regclass AND attnum > 0", view))
		if !strings.HasPrefix(got, want+",") {
			t.Errorf("view %s has columns %s; want first %s", view, got, want)
		}
	}
	for _, r := range readings {
		if got := server.Query(t, "ledger_1", r.query); got != r.want {
			t.Errorf("%s\n got %s\nwant %s", r.query, got, r.want)
		}
	}
	// With many rows each of these is read off an index.
	for q, index := range map[string]string{
		"SELECT * FROM bill WHERE reference = 'X'":    "bills_pkey",
		"SELECT * FROM outcome WHERE reference = 'X'": "outcomes_reference",
		"SELECT * FROM outcome WHERE file_id = 'f1'":  "outcomes_pkey",
		"SELECT * FROM attempt WHERE reference = 'X'": "attempts_reference",
		"SELECT * FROM file WHERE file_id = 'f1'":     "file_numbers_id_key",
	} {
		if plan := server.Query(t, "ledger_1", "SET enable_seqscan = off; EXPLAIN "+q); !strings.Contains(plan, index) {
			t.Errorf("%s:\n%s\nwant %s", q, plan, index)
		}
	}
}

// TestOddTexts: what PostgreSQL cannot store as a text comes back all the same.
func TestOddTexts(t *testing.T) {
	server := pgtest.Start(t)
	l := join(t, open(t, server.Database(t)))
	t.Cleanup(func() { l.Close() })
	odd := "latin-\xe4 nul-\x00 \xff escape-\ue0e4\ue000 \xee\x83 ä €"
	f := &ledger.File{ID: "id " + odd, Name: odd, Path: "/in/" + odd, Results: odd, Stem: odd, Scope: ledger.Scope{Merchant: odd, Mode: "test"}, State: ledger.Sending}
	if err := l.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	got, err := l.File(t.Context(), f.ID)
	if err != nil {
		t.Fatal(err)
	}
	if *got != *f {
		t.Errorf("file %+v, want %+v", got, f)
	}
	if files, err := l.Files(t.Context(), ledger.Query{Results: odd, StemPrefix: odd}); err != nil || len(files) != 1 {
		t.Errorf("files of an odd stem: %v, %v", files, err)
	}
	b := newBill(odd, f.ID, 1)
	b.Send.Key = odd
	if err := l.Begin(t.Context(), f.Scope, b); err != nil {
		t.Fatal(err)
	}
	bills, err := l.Bills(t.Context(), f.Scope, []string{odd})
	if err != nil || bills[odd] == nil || bills[odd].Send.Key != odd || bills[odd].Send.File != f.ID {
		t.Errorf("bill %+v, %v", bills, err)
	}
	o := ledger.Outcome{Row: 1, Reference: odd, Status: ledger.Invalid, Detail: odd, Currency: odd}
	if err := l.Record(t.Context(), ledger.Entry{File: f.ID, Outcome: &o}); err != nil {
		t.Fatal(err)
	}
	if list, err := l.Outcomes(t.Context(), f.ID, 0, 9); err != nil || len(list) != 1 || list[0] != o {
		t.Errorf("outcomes %+v, %v", list, err)
	}
	if err := l.LeaveOrder(t.Context(), f.ID, "retry"); err != nil {
		t.Fatal(err)
	}
	if list, err := l.Orders(t.Context(), f.ID); err != nil || len(list) != 1 || list[0].File != f.ID {
		t.Errorf("orders %+v, %v", list, err)
	}
}

// TestNoReferenceInDump: the reference of a customer or account is in no byte of the database, known or
// led. What must be there is: the test would see it.
func TestNoReferenceInDump(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	l := join(t, open(t, url))
	t.Cleanup(func() { l.Close() })
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f", Scope: scope}); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		ref := ledger.PartyRef{Kind: ledger.Customer + ledger.PartyKind(i%2), Reference: fmt.Sprintf("canary-%04d", i)}
		b := newBill(fmt.Sprint("B", i), "f", i)
		if err := l.Begin(t.Context(), scope, b, ref); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			continue // led
		}
		err := l.Record(t.Context(), ledger.Entry{Scope: scope, Bill: b, Parties: []ledger.Party{{PartyRef: ref, ID: "bcus_visible"}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	dump := server.Dump(t, url)
	if strings.Contains(dump, "canary") || strings.Contains(dump, fmt.Sprintf("%x", "canary")) {
		t.Error("a party's reference is in the database")
	}
	if !strings.Contains(dump, "bcus_visible") {
		t.Error("not even the party's id was found")
	}
	if strings.Contains(dump, server.Password) {
		t.Error("the password is in the database")
	}
}
