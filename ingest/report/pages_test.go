package report_test

import (
	"errors"
	"fmt"
	"testing"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// TestAhead: all outcomes come once and in order, with gaps and pages of any size;
// a failure ends them.
func TestAhead(t *testing.T) {
	broken := errors.New("broken")
	for size := 1; size <= 7; size++ {
		for failAt := range 30 {
			ahead := report.Ahead{Fetch: func(from int) ([]ledger.Outcome, error) {
				var page []ledger.Outcome
				for row := from; row <= 20 && len(page) < size; row++ {
					if row == failAt {
						return nil, broken
					}
					if row%5 != 0 {
						page = append(page, ledger.Outcome{Row: row})
					}
				}
				return page, nil
			}}
			got, want := "", ""
			for row := 1; row <= 20; row++ {
				if row%5 != 0 {
					want += fmt.Sprint(row, " ")
				}
			}
			var failed error
			for o, err := range report.Pages(ahead.Page) {
				if failed = err; err == nil {
					got += fmt.Sprint(o.Row, " ")
				}
			}
			ahead.Wait()
			fails := failAt >= 1 && failAt <= 20
			if errors.Is(failed, broken) != fails || (!fails && got != want) || (fails && want[:len(got)] != got) {
				t.Fatalf("pages of %d, failing at %d: %q, %v", size, failAt, got, failed)
			}
		}
	}
}
