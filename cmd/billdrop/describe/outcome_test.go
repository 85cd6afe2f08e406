package describe

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

func TestFinished(t *testing.T) {
	start := time.Date(2026, 11, 5, 6, 0, 0, 0, time.UTC)
	done := Finished{Dir: "/results", Summary: report.Summary{
		File: "november.csv", Stem: "november-01234567", Outcome: ledger.CompletedWithErrors,
		Lines: ledger.Lines{Total: 1251, Header: 1, Data: 1250},
		Rows:  report.Rows{Total: 1250, By: map[ledger.Status]int{ledger.Created: 1200, ledger.Existing: 48, ledger.Invalid: 2}},
		Amounts: report.Amounts{
			"ZAR": {ledger.Created: 12345600, ledger.Existing: 4800, ledger.Invalid: 0}, "USD": {ledger.Created: 99},
		},
		Requests: report.Requests{Posts: 1201, Gets: 1}, Parties: report.Parties{Customers: 3},
		StartedAt: report.At(start), FinishedAt: report.At(start.Add(1500 * time.Millisecond)),
	}}
	held := Finished{Dir: "/results", Summary: report.Summary{
		File: "big.csv", FileID: "20261105-1", Stem: "big-89abcdef", Outcome: ledger.FileHeld, Code: "over_limit", Detail: "too many rows",
	}}
	refused := Finished{Dir: "out", Summary: report.Summary{
		File: "x.csv", Stem: "x-00000000", Outcome: ledger.FileRejected, Code: "truncated", Detail: "no final line end", Line: 7,
	}}
	got := done.Text() + held.Text() + refused.Text()
	want := `november.csv: completed with errors, in 1.5s
  STATUS     ROWS   USD         ZAR
  created   1,200  0.99  123,456.00
  existing     48  0.00       48.00
  invalid       2  0.00        0.00
  total     1,250  0.99  123,504.00
  1,201 requests sent, 1 look-up; new: 3 customers, 0 accounts
  reports: /results/november-01234567.rejects.csv /results/november-01234567.results.csv /results/november-01234567.summary.json
big.csv: held (over_limit)
  too many rows
  nothing is sent until file 20261105-1 is approved
x.csv: rejected (truncated)
  line 7: no final line end
  reports: out/x-00000000.summary.json
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(- want, + got)\n%s", diff)
	}
}
