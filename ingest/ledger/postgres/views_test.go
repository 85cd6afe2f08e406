package postgres_test

import (
	"testing"

	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// TestViews: psql reads the ledger beside a worker.
func TestViews(t *testing.T) {
	server := pgtest.Start(t)
	l := join(t, open(t, server.Database(t)))
	t.Cleanup(func() { l.Close() })
	ledgertest.RunViews(t, l, ledgertest.Views{
		Query:   func(t *testing.T, q string) string { return server.Query(t, "ledger_1", q) },
		Columns: "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '%s'::regclass AND attnum > 0",
		Explain: "SET enable_seqscan = off; EXPLAIN", // as with many rows
		Indexes: map[string]string{
			"bill.reference":    "bills_pkey",
			"outcome.reference": "outcomes_reference",
			"outcome.file_id":   "outcomes_pkey",
			"attempt.reference": "attempts_reference",
			"file.file_id":      "file_numbers_id_key",
		},
	})
}
