package sqlite_test

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/ledger/sqlite"
)

// viewed makes a ledger, and holds it to what RunViews says.
func viewed(t *testing.T) (l *sqlite.Ledger, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ledger.db")
	l = open(t, path)
	t.Cleanup(func() { l.Close() })
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro") // beside the worker
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ledgertest.RunViews(t, l, ledgertest.Views{
		Query:   func(t *testing.T, q string) string { return query(t, db, q) },
		Columns: "SELECT group_concat(name, ',') FROM pragma_table_info('%s')",
		Explain: "EXPLAIN QUERY PLAN",
		Indexes: map[string]string{
			"bill.reference":    "bills_reference",
			"outcome.reference": "outcomes_reference",
			"outcome.file_id":   "PRIMARY KEY (file=?)",
			"attempt.reference": "bills_reference",
			"file.file_id":      "sqlite_autoindex_file_numbers_1",
		},
		Scan: "SCAN",
	})
	return l, path
}

func TestViews(t *testing.T) { viewed(t) }

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
	ask := func(t *testing.T, q string) string {
		out, err := exec.CommandContext(t.Context(), sqlite3, "-readonly", path, q).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v", q, err)
		}
		return strings.TrimSuffix(string(out), "\n")
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
	ledgertest.ReadViews(t, "beside a worker", ask)
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ledgertest.ReadViews(t, "without a worker", ask)
}
