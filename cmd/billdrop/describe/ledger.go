package describe

import (
	"fmt"

	"billdrop/ingest/ledger"
)

// LedgerCounts lists how many rows of each kind a ledger holds.
func LedgerCounts(c ledger.Counts) string {
	text := fmt.Sprintf("%s, %s, %s, %s and %s", Count(int(c.Files), "file"), Count(int(c.Bills), "bill"),
		Count(int(c.Outcomes), "outcome"), Count(int(c.Attempts), "earlier attempt"), Count(int(c.Parties), "known party"))
	if c.Payments > 0 {
		text += ", and " + Count(int(c.Payments), "payment")
	}
	return text
}
