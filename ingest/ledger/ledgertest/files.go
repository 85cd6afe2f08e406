package ledgertest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"billdrop/ingest/ledger"
)

// fullFile has a value of its own in every field.
func fullFile(id string) *ledger.File {
	return &ledger.File{
		ID: id, Feed: "bills", Scope: ledger.Scope{Merchant: "acme", Mode: "live"}, Origin: ledger.FromLocal,
		Name: "november bills.csv", Path: "/home/ä/november bills.csv", Results: "/home/ä", Stem: "november bills-0123abcd",
		Size: 1 << 40, ModTime: time.Unix(0, 0).UTC(), SHA256: "0123abcd", State: ledger.Settled, Outcome: ledger.FileRejected,
		Code: "unknown_column", Detail: "column \"x\": map it or list it", Line: 1, Approved: true, Retried: 2, Rows: 3,
		Lines: ledger.Lines{Total: 7, Header: 1, Blank: 2, Data: 4}, Format: "f0", RowsRead: true, RunID: "run-1", Version: "v1",
		Received: epoch, Started: epoch.Add(time.Second), Finished: epoch.Add(time.Minute), Gets: 5, Throttled: 6,
		LinkPosts: 7, LinkRetries: 8,
		Sums: &ledger.Totals{Rows: map[ledger.Status]int{ledger.Created: 3}, Amounts: map[string]map[ledger.Status]int64{"ZAR": {ledger.Created: 1 << 60}, "": {}},
			Attempts: 1, Resends: 2, Customers: 3, Accounts: 4},
		Published: ledger.Reports{Ack: "a", Results: "b", Rejects: "c", Summary: "d"}, Publishing: ledger.Reports{Ack: "e", Results: "f", Rejects: "g", Summary: "h"},
	}
}

func testFiles(t *testing.T, e Engine) {
	l := e.open(t)
	refused(t, "File of an unknown id", errOf(l.File(t.Context(), "a")), ledger.ErrNotFound)
	refused(t, "SaveFile of an unknown id", save(t.Context(), l, fullFile("a")), ledger.ErrNotFound)

	add(t, l, fullFile("a"))
	same(t, "file as added", fullFile("a"), readFile(t, l, "a"))
	add(t, l, &ledger.File{ID: "zero"})
	same(t, "file with nothing but an id", &ledger.File{ID: "zero"}, readFile(t, l, "zero"))
	readFile(t, l, "a").Name = "changed by a caller"
	same(t, "file after a caller changed its copy", fullFile("a"), readFile(t, l, "a"))

	// Times come back in UTC.
	local := newFile("local")
	local.Received = epoch.In(time.FixedZone("SAST", 7200))
	add(t, l, local)
	same(t, "time of another zone", epoch, readFile(t, l, "local").Received)

	taken := newFile("a")
	taken.Stem = "other"
	refused(t, "AddFile with a taken id", l.AddFile(t.Context(), taken), ledger.ErrExists)
	same(t, "file after a refused AddFile", fullFile("a"), readFile(t, l, "a"))

	// A save replaces everything but the counters.
	saved := newFile("a")
	saved.Gets, saved.Throttled, saved.LinkPosts, saved.LinkRetries = 99, 99, 99, 99
	ok(t, "SaveFile", save(t.Context(), l, saved))
	saved.Gets, saved.Throttled, saved.LinkPosts, saved.LinkRetries = 5, 6, 7, 8
	same(t, "file as saved", saved, readFile(t, l, "a"))
	testStems(t, l)
	testBaseURL(t, l)
}

// testBaseURL: the address of the API is a merchant's in one mode.
func testBaseURL(t *testing.T, l ledger.Ledger) {
	live := ledger.Scope{Merchant: "acme", Mode: "live"}
	for _, c := range []struct {
		set  string
		want [2]string // in test mode, in live mode
	}{
		{"", [2]string{"", ""}},
		{"https://api.example.com", [2]string{"https://api.example.com", ""}},
		{"https://api2.example.com", [2]string{"https://api2.example.com", ""}},
	} {
		if c.set != "" {
			ok(t, "SetBaseURL", l.SetBaseURL(t.Context(), scope, c.set))
		}
		for i, s := range []ledger.Scope{scope, live} {
			if got, err := l.BaseURL(t.Context(), s); err != nil || got != c.want[i] {
				t.Errorf("BaseURL(%v) after %q: %q, %v; want %q", s, c.set, got, err, c.want[i])
			}
		}
	}
}

// testStems: a report name belongs to one file in one place.
func testStems(t *testing.T, l ledger.Ledger) {
	stemmed := func(id, results, stem string) *ledger.File {
		f := newFile(id)
		f.Results, f.Stem = results, stem
		return f
	}
	add(t, l, stemmed("s1", "/results", "bills-1"))
	add(t, l, stemmed("s2", "/results", ""))
	add(t, l, stemmed("s3", "/elsewhere", "bills-1"))

	refused(t, "AddFile with a taken stem", l.AddFile(t.Context(), stemmed("s4", "/results", "bills-1")), ledger.ErrExists)
	refused(t, "File after a refused AddFile", errOf(l.File(t.Context(), "s4")), ledger.ErrNotFound)
	refused(t, "SaveFile with a taken stem", save(t.Context(), l, stemmed("s2", "/results", "bills-1")), ledger.ErrExists)
	if f := readFile(t, l, "s2"); f.Stem != "" {
		t.Errorf("file after a refused SaveFile: %+v", f)
	}
	for _, f := range []*ledger.File{
		stemmed("s1", "/results", "bills-1"), // its own
		stemmed("s3", "/elsewhere", "bills-1"),
		stemmed("s2", "/results", "bills-1-2"),
	} {
		if err := save(t.Context(), l, f); err != nil {
			t.Errorf("SaveFile(%s) with the free stem %s: %v", f.ID, f.Stem, err)
		}
	}
}

func testFilesQuery(t *testing.T, e Engine) {
	l := e.open(t)
	for _, f := range []struct {
		id, feed, sha, results, stem string
		state                        ledger.FileState
		age                          int // hours
	}{
		{"a", "bills", "11", "/r", "n-11", ledger.Done, 9},
		{"b", "bills", "11", "/r", "n-11-2", ledger.Sending, 8},
		{"c", "bills", "22", "/r", "n-11-10", ledger.Held, 7},
		{"d", "other", "11", "/q", "n-11", ledger.Dropped, 6},
		{"e", "other", "", "/r", "", ledger.Claiming, 5},
		{"g", "other", "33", "/r", "n-11-2x", ledger.Published, 4}, // as old as f: the greater id goes first
		{"f", "other", "33", "/r", "n-11-", ledger.Settled, 4},
		{"h", "other", "44", "/r", "N-11", ledger.Claimed, 3},
		{"i", "other", "44", "/r", "n-1", ledger.Spooled, 2},
		{"j", "other", "55", "/r", "[a]*?%_-1", ledger.Done, 1},
		{"k", "other", "55", "/r", "[a]*?%_-1-2", ledger.Done, 0},
		{"l", "other", "55", "/r", "x*?%_-1", ledger.Done, 10},
	} {
		add(t, l, &ledger.File{ID: f.id, Feed: f.feed, SHA256: f.sha, Results: f.results, Stem: f.stem, State: f.state, Scope: scope,
			Published: ledger.Reports{Rejects: "r" + f.sha},
			Received:  epoch.Add(-time.Duration(f.age) * time.Hour)})
	}
	for _, c := range []struct {
		query ledger.Query
		want  string
	}{
		{ledger.Query{}, "kjihgfedcbal"},
		{ledger.Query{Limit: 3}, "kji"},
		{ledger.Query{Limit: 100}, "kjihgfedcbal"},
		{ledger.Query{Feed: "bills"}, "cba"},
		{ledger.Query{Feed: "bills", Limit: 1}, "c"},
		{ledger.Query{Feed: "none"}, ""},
		{ledger.Query{Unfinished: true}, "ihgfecb"},
		{ledger.Query{Unfinished: true, Feed: "bills"}, "cb"},
		{ledger.Query{ExcludeDropped: true}, "kjihgfecbal"},
		{ledger.Query{ExcludeDropped: true, Limit: 8}, "kjihgfec"},
		{ledger.Query{ExcludeDropped: true, Feed: "other"}, "kjihgfel"},
		{ledger.Query{SHA256: "11"}, "dba"},
		{ledger.Query{SHA256: "11", Unfinished: true}, "b"},
		{ledger.Query{SHA256: "11", Feed: "bills", Limit: 1}, "b"},
		{ledger.Query{Rejects: "r22"}, "c"},
		{ledger.Query{Rejects: "r11", Limit: 2}, "db"},
		{ledger.Query{Rejects: "22"}, ""},
		{ledger.Query{Results: "/r", StemPrefix: "n-11"}, "cba"},
		{ledger.Query{Results: "/r", StemPrefix: "n-11", Limit: 2}, "cb"},
		{ledger.Query{Results: "/r", StemPrefix: "n-11", SHA256: "22"}, "c"},
		{ledger.Query{Results: "/q", StemPrefix: "n-11"}, "d"},
		{ledger.Query{Results: "/r", StemPrefix: "n"}, "ia"}, // to this prefix, n-1 and n-11 are numbered
		{ledger.Query{Results: "/r", StemPrefix: "[a]*?%_-1"}, "kj"},
	} {
		files, err := l.Files(t.Context(), c.query)
		if err != nil {
			t.Fatalf("Files(%+v): %v", c.query, err)
		}
		got := ""
		for _, f := range files {
			got += f.ID
		}
		if got != c.want {
			t.Errorf("Files(%+v) = %q, want %q", c.query, got, c.want)
		}
	}
	testFilesOrder(t, l)
}

// testFilesOrder: by time of receipt whatever the order of recording, and only the kept
// precision counts.
func testFilesOrder(t *testing.T, l ledger.Ledger) {
	const n = 50
	for i := range n {
		f := newFile(fmt.Sprintf("order-%02d", i))
		f.Feed = "order"
		f.Received = epoch.Add(time.Duration(i*7%n) * time.Microsecond)
		add(t, l, f)
	}
	files, err := l.Files(t.Context(), ledger.Query{Feed: "order"})
	ok(t, "Files", err)
	if len(files) != n {
		t.Fatalf("%d files of %d", len(files), n)
	}
	if !slices.IsSortedFunc(files, func(a, b *ledger.File) int { return b.Received.Compare(a.Received) }) {
		t.Error("files are not in order, newest first")
	}
}
