package sqlite_test

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

// views are the columns that the ledger's users were promised, first and in this order.
var views = map[string]string{
	"bill":    "reference,status,bill_id,customer_id,account_id,amount_due,currency",
	"outcome": "file_id,line,reference,status,code,bill_id,amount_due,currency",
	"attempt": "reference,file_id,at,generation,idempotency_key,answer",
	"file":    "file_id,name,sha256,state,outcome,received_at,finished_at",
}

// viewed makes a ledger with something of each kind in it.
func viewed(t *testing.T) (l *sqlite.Ledger, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ledger.db")
	l = open(t, path)
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
	return l, path
}

// readings are what an auditor asks, and what the ledger of viewed answers: columns are
// separated by "|", as sqlite3 does.
var readings = []struct{ query, want string }{
	{"SELECT * FROM bill WHERE reference = 'none'", ""},
	{"SELECT status, bill_id, amount_due FROM bill WHERE reference = 'X'", "exists|bill_1|2000"},
	{"SELECT reference, status, customer_id, account_id, currency, merchant, mode, file_id, row, idempotency_key, sent_at, answer FROM bill ORDER BY reference",
		"X|exists|bcus_1|bacc_1|ZAR|acme|test|f1|1|0a0b0c0d-0001-8002-8003-0123456789ab|2026-11-23T06:30:01.123Z|201\n" +
			"Y|pending||||acme|test|f3|1|odd|2026-11-23T06:30:00.123Z|\n" +
			"Z|gone||||acme|test|||||"},
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

// TestViews: what is promised to those who read the ledger by hand is there, in words,
// and answers from an index.
func TestViews(t *testing.T) {
	_, path := viewed(t)
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro") // beside the worker
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for view, want := range views {
		rows, err := db.QueryContext(t.Context(), "SELECT * FROM "+view)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(columns, ","); err != nil || !strings.HasPrefix(got, want+",") {
			t.Errorf("view %s has columns %s, %v; want first %s", view, got, err, want)
		}
	}
	for _, r := range readings {
		if got := query(t, db, r.query); got != r.want {
			t.Errorf("%s\n got %s\nwant %s", r.query, got, r.want)
		}
	}
	for q, index := range map[string]string{
		"SELECT * FROM bill WHERE reference = 'X'":    "bills_reference",
		"SELECT * FROM outcome WHERE reference = 'X'": "outcomes_reference",
		"SELECT * FROM outcome WHERE file_id = 'f1'":  "PRIMARY KEY (file=?)",
		"SELECT * FROM attempt WHERE reference = 'X'": "bills_reference",
		"SELECT * FROM file WHERE file_id = 'f1'":     "sqlite_autoindex_file_numbers_1",
	} {
		plan := query(t, db, "EXPLAIN QUERY PLAN "+q)
		if !strings.Contains(plan, index) || strings.Contains(plan, "SCAN") {
			t.Errorf("%s:\n%s\nwant %s and no scan of a table", q, plan, index)
		}
	}
}

// query returns the rows as sqlite3 prints them.
func query(t *testing.T, db *sql.DB, q string) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), q)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for rows.Next() {
		cells := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var line []string
		for _, c := range cells {
			line = append(line, c.String)
		}
		lines = append(lines, strings.Join(line, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// TestSQLite3: Debian's sqlite3 reads the ledger, beside a worker that writes to it and
// when there is none.
func TestSQLite3(t *testing.T) {
	sqlite3, err := exec.LookPath("sqlite3")
	if err != nil {
		if os.Getenv("BILLDROP_REQUIRE_REAL") != "" {
			t.Fatalf("sqlite3 is missing: apt-get install sqlite3 (%v)", err)
		}
		t.Skipf("sqlite3 is missing: %v", err)
	}
	l, path := viewed(t)
	ask := func(when string) {
		t.Helper()
		for _, r := range readings {
			out, err := exec.CommandContext(t.Context(), sqlite3, "-readonly", path, r.query).CombinedOutput()
			if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != r.want {
				t.Errorf("%s: %s\n got %s, %v\nwant %s", when, r.query, got, err, r.want)
			}
		}
	}
	stop, stopped := make(chan struct{}), make(chan error)
	go func() { // rows of another merchant, so that the readings stay as they are
		other := ledger.Scope{Merchant: "other", Mode: "test"}
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := l.Record(t.Context(), ledger.Entry{Scope: other, Parties: []ledger.Party{{PartyRef: ledger.PartyRef{Kind: ledger.Customer, Reference: fmt.Sprint(i)}, ID: "bcus"}}}); err != nil {
				stopped <- err
				return
			}
		}
	}()
	ask("beside a worker")
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ask("without a worker")
}
