package report_test

import (
	"strings"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"

	"github.com/google/go-cmp/cmp"
)

const hash = "9F86D081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func TestStem(t *testing.T) {
	for _, c := range []struct {
		name, sha256 string
		n            int
		want         string
	}{
		{"bills.csv", hash, 1, "bills-9f86d081"},
		{"bills.csv", hash, 0, "bills-9f86d081"},
		{"bills.csv", hash, 2, "bills-9f86d081-2"},
		{"bills.csv", hash, 12, "bills-9f86d081-12"},
		{"bills", hash, 1, "bills-9f86d081"},
		{"2026-11.daily.csv", hash, 1, "2026-11.daily-9f86d081"},
		{"bills.", hash, 1, "bills-9f86d081"},
		{"stdin", hash, 1, "stdin-9f86d081"},
		{".csv", hash, 1, "csv-9f86d081"},
		{"...", hash, 1, "file-9f86d081"},
		{"", hash, 1, "file-9f86d081"},
		{"bills.csv", "9f8", 1, "bills-9f8"},
		{strings.Repeat("a", 250) + ".csv", hash, 1, strings.Repeat("a", 191) + "-9f86d081"},
		{strings.Repeat("a", 191) + ".csv", hash, 1, strings.Repeat("a", 191) + "-9f86d081"},
		{strings.Repeat("a", 192) + ".csv", hash, 1, strings.Repeat("a", 191) + "-9f86d081"},
		{strings.Repeat("\x80", 250) + ".csv", hash, 1, "-9f86d081"}, // no character begins in it
		{strings.Repeat("a", 250) + ".csv", hash, 31, strings.Repeat("a", 188) + "-9f86d081-31"},
		{strings.Repeat("é", 120) + ".csv", hash, 1, strings.Repeat("é", 95) + "-9f86d081"}, // cut between characters
	} {
		got := report.Stem(c.name, c.sha256, c.n)
		if got != c.want {
			t.Errorf("Stem(%q, %q, %d) = %q, want %q", c.name, c.sha256, c.n, got, c.want)
		}
		if name := report.NamesOf(got).Summary; len(name) > 255 {
			t.Errorf("name of %d bytes: %q", len(name), name)
		}
	}
}

func TestNames(t *testing.T) {
	want := report.Names{
		Ack:     "bills-9f86d081.ack.json",
		Results: "bills-9f86d081.results.csv",
		Rejects: "bills-9f86d081.rejects.csv",
		Summary: "bills-9f86d081.summary.json", Verify: "bills-9f86d081.verify.csv",
	}
	if got := report.NamesOf("bills-9f86d081"); got != want {
		t.Errorf("names %+v, want %+v", got, want)
	}
}

func TestAckBytes(t *testing.T) {
	johannesburg := time.FixedZone("SAST", 2*60*60)
	ack := report.Ack{
		FileID:     "f-1",
		File:       "rates & taxes.csv",
		Size:       1234,
		SHA256:     "9f86d081",
		ReceivedAt: report.At(time.Date(2026, 11, 23, 6, 0, 0, 123456789, johannesburg)),
	}
	want := `{
  "file_id": "f-1",
  "file": "rates & taxes.csv",
  "size": 1234,
  "sha256": "9f86d081",
  "received_at": "2026-11-23T04:00:00.123Z"
}
`
	if diff := cmp.Diff(want, string(ack.Bytes())); diff != "" {
		t.Error(diff)
	}
}

// settledFile returns a file whose rows are all settled, with its totals.
func settledFile() (*ledger.File, ledger.Totals) {
	f := &ledger.File{
		ID: "f-7", Feed: "bills", Name: "bills.csv", Stem: "bills-9f86d081", SHA256: "9f86d081",
		Scope: ledger.Scope{Merchant: "acme", Mode: "test"}, RunID: "r-3", Version: "v1.2.3",
		Outcome: ledger.CompletedWithErrors, Rows: 6, RowsRead: true,
		Lines:   ledger.Lines{Total: 9, Header: 1, Blank: 1, Data: 7},
		Started: time.Date(2026, 11, 23, 4, 0, 1, 0, time.UTC), Finished: time.Date(2026, 11, 23, 4, 0, 2, 500_000_000, time.UTC),
		Gets: 2, Throttled: 1, LinkPosts: 3, LinkRetries: 1,
	}
	totals := ledger.Totals{
		Rows: map[ledger.Status]int{ledger.Created: 3, ledger.Conflict: 1, ledger.Invalid: 2},
		Amounts: map[string]map[ledger.Status]int64{
			"ZAR": {ledger.Created: 30000, ledger.Conflict: 500, ledger.Invalid: 0},
			"USD": {ledger.Created: 1999},
			"":    {ledger.Invalid: 77},
		},
		Attempts: 5, Resends: 1, Customers: 2, Accounts: 3,
	}
	return f, totals
}

func TestSummaryBytes(t *testing.T) {
	f, totals := settledFile()
	want := `{
  "file": "bills.csv",
  "sha256": "9f86d081",
  "file_id": "f-7",
  "run_id": "r-3",
  "feed": "bills",
  "stem": "bills-9f86d081",
  "mode": "test",
  "outcome": "completed_with_errors",
  "code": "",
  "detail": "",
  "line": 0,
  "lines": {
    "total": 9,
    "header": 1,
    "blank": 1,
    "data": 7
  },
  "rows": {
    "total": 6,
    "created": 3,
    "existing": 0,
    "conflict": 1,
    "invalid": 2,
    "rejected": 0,
    "failed": 0,
    "unknown": 0,
    "not_sent": 0
  },
  "amounts": {
    "USD": {
      "created": 1999
    },
    "ZAR": {
      "conflict": 500,
      "created": 30000,
      "invalid": 0
    }
  },
  "requests": {
    "posts": 8,
    "gets": 2,
    "retries": 2,
    "throttled": 1
  },
  "parties": {
    "customers": 2,
    "accounts": 3
  },
  "warnings": [],
  "started_at": "2026-11-23T04:00:01.000Z",
  "finished_at": "2026-11-23T04:00:02.500Z",
  "version": "v1.2.3"
}
`
	s := report.Summarize(f, totals)
	if diff := cmp.Diff(want, string(s.Bytes())); diff != "" {
		t.Error(diff)
	}
	if !s.Attention() || s.Rows.Attention() != 3 {
		t.Errorf("Attention() = %v, Rows.Attention() = %d, want true, 3", s.Attention(), s.Rows.Attention())
	}
}

func TestSummaryRoundTrip(t *testing.T) {
	f, totals := settledFile()
	for _, s := range []report.Summary{
		report.Summarize(f, totals),
		report.Summarize(&ledger.File{Name: "bad.csv", Outcome: ledger.FileRejected, Code: "not_csv", Detail: "a zip archive", Line: 1}, ledger.Totals{}),
	} {
		back, err := report.Parse(s.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(s.Bytes()), string(back.Bytes())); diff != "" {
			t.Errorf("summary changes on its way through JSON:\n%s", diff)
		}
		if back.Rows.Total != s.Rows.Total || back.Rows.By[ledger.Created] != s.Rows.By[ledger.Created] {
			t.Errorf("rows read back: %+v, want %+v", back.Rows, s.Rows)
		}
	}
}

func TestSummaryKeepsToTheCut(t *testing.T) {
	// A time without nanoseconds, from a ledger, gives the same bytes as the time in memory.
	f, totals := settledFile()
	f.Finished = f.Finished.Add(123456789)
	inMemory := report.Summarize(f, totals).Bytes()
	f.Finished = f.Finished.Truncate(time.Microsecond).In(time.FixedZone("SAST", 2*60*60))
	if diff := cmp.Diff(string(inMemory), string(report.Summarize(f, totals).Bytes())); diff != "" {
		t.Error(diff)
	}
}

func TestSummaryWithoutRows(t *testing.T) {
	f := &ledger.File{Name: "bills.zip.csv", Outcome: ledger.FileRejected, Code: "not_csv", Scope: ledger.Scope{Mode: "live"}}
	b := string(report.Summarize(f, ledger.Totals{}).Bytes())
	for _, want := range []string{`"amounts": {}`, `"total": 0`, `"not_sent": 0`, `"started_at": null`, `"finished_at": null`, `"code": "not_csv"`} {
		if !strings.Contains(b, want) {
			t.Errorf("no %s in:\n%s", want, b)
		}
	}
}

func TestUnsent(t *testing.T) {
	totals := report.Unsent(10, 3, map[string]int64{"ZAR": 700}, nil)
	s := report.Summarize(&ledger.File{Outcome: ledger.FileHeld, Code: "over_limit"}, totals)
	if s.Rows.Total != 10 || s.Rows.By[ledger.NotSent] != 7 || s.Rows.By[ledger.Invalid] != 3 || s.Amounts["ZAR"][ledger.NotSent] != 700 {
		t.Errorf("held file: %+v, %+v", s.Rows, s.Amounts)
	}
	if !s.Attention() {
		t.Error("a held file needs no attention")
	}
	for _, c := range []struct {
		rows, invalid int
		want          map[ledger.Status]int
	}{
		{0, 0, map[ledger.Status]int{}},
		{2, 2, map[ledger.Status]int{ledger.Invalid: 2}},
		{2, 0, map[ledger.Status]int{ledger.NotSent: 2}},
	} {
		if diff := cmp.Diff(c.want, report.Unsent(c.rows, c.invalid, nil, nil).Rows); diff != "" {
			t.Errorf("%d rows, %d invalid (-want +got):\n%s", c.rows, c.invalid, diff)
		}
	}
}

// TestAttention: a file needs attention for its outcome, for its code or for one row, and not
// otherwise.
func TestAttention(t *testing.T) {
	rows := func(s ledger.Status, n int) report.Rows {
		return report.Rows{Total: n, By: map[ledger.Status]int{s: n, ledger.Created: 1}}
	}
	for _, c := range []struct {
		name    string
		summary report.Summary
		want    bool
	}{
		{"completed", report.Summary{Outcome: ledger.Completed, Rows: rows(ledger.Existing, 3)}, false},
		{"no such rows", report.Summary{Outcome: ledger.Completed, Rows: rows(ledger.Failed, 0)}, false},
		{"one row", report.Summary{Outcome: ledger.Completed, Rows: rows(ledger.Failed, 1)}, true},
		{"another outcome", report.Summary{Outcome: ledger.CompletedWithErrors, Rows: rows(ledger.Existing, 3)}, true},
		{"no outcome", report.Summary{Rows: rows(ledger.Existing, 3)}, true},
		{"a code", report.Summary{Outcome: ledger.Completed, Code: "over_limit", Rows: rows(ledger.Existing, 3)}, true},
	} {
		if got := c.summary.Attention(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestOutcomeOf(t *testing.T) {
	for status, want := range map[ledger.Status]string{
		ledger.Created: ledger.Completed, ledger.Existing: ledger.Completed, report.Valid: ledger.Completed,
		ledger.Conflict: ledger.CompletedWithErrors, ledger.Invalid: ledger.CompletedWithErrors,
		ledger.Rejected: ledger.CompletedWithErrors, ledger.Failed: ledger.CompletedWithErrors,
		ledger.Unknown: ledger.CompletedWithErrors, ledger.NotSent: ledger.CompletedWithErrors,
	} {
		if got := report.OutcomeOf(map[ledger.Status]int{ledger.Created: 5, status: 1}); got != want {
			t.Errorf("one row %s: %s, want %s", status, got, want)
		}
	}
	if got := report.OutcomeOf(map[ledger.Status]int{ledger.Unknown: 0}); got != ledger.Completed {
		t.Errorf("a header without rows: %s", got)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "[]", `{"rows": 3}`, `{"started_at": "yesterday"}`} {
		if s, err := report.Parse([]byte(text)); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", text, s)
		}
	}
}
