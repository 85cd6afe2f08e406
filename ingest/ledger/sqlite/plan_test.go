package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"billdrop/ingest/ledger"
)

// TestFilesPlan: a short list out of very many files is read off an index that has both
// the filter and the order, whichever way it is asked for: nothing is scanned, nothing
// sorted.
func TestFilesPlan(t *testing.T) {
	l, err := Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		query ledger.Query
		index string
	}{
		{ledger.Query{Limit: 50}, "files_newest"},
		{ledger.Query{ExcludeDropped: true, Limit: 50}, "files_newest"},
		{ledger.Query{Feed: "bills", Limit: 50}, "files_feed"},
		{ledger.Query{Feed: "bills", ExcludeDropped: true, Limit: 50}, "files_feed"},
		{ledger.Query{Unfinished: true, Limit: 50}, "files_unfinished"},
		{ledger.Query{SHA256: "00", Limit: 1}, "files_content"},
		{ledger.Query{Rejects: "00", Limit: 1}, "files_rejects"},
		{ledger.Query{Results: "/results", StemPrefix: "name-0123abcd"}, "files_stem"},
	} {
		query, args := filesQuery(c.query)
		plan := ""
		rows, err := l.read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			plan += step + "; "
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		// The few files of one stem may be sorted; lists that can be long may not.
		sorts := strings.Contains(plan, "TEMP B-TREE") && c.query.StemPrefix == ""
		if !strings.Contains(plan, "INDEX "+c.index) || sorts {
			t.Errorf("Files(%+v): %s\nwant index %s and no sort", c.query, plan, c.index)
		}
	}
}
