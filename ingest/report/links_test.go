package report_test

import (
	"strings"
	"testing"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Results have the columns of links only where they are asked for.
func TestResultsWithLinks(t *testing.T) {
	outcomes := func(yield func(ledger.Outcome, error) bool) {
		_ = yield(ledger.Outcome{Row: 1, Line: 2, Reference: "A", Status: ledger.Created, Currency: "ZAR", Amount: 5, Attempts: 1, Key: "k",
			PaymentLink: "https://pay.example/a", PaymentRequestID: "pr_1"}, nil) &&
			yield(ledger.Outcome{Row: 2, Line: 3, Reference: "B", Status: ledger.Created, Code: ledger.CodeLinkFailed, Currency: "ZAR", Amount: 5}, nil)
	}
	const head = "line,bill_reference,status,code,detail,bill_id,customer_id,account_id,currency,amount_due,attempts,idempotency_key"
	for links, want := range map[bool]string{
		true:  head + ",payment_link,payment_request_id\n2,A,created,,,,,,ZAR,5,1,k,https://pay.example/a,pr_1\n3,B,created,link_failed,,,,,ZAR,5,0,,,\n",
		false: head + "\n2,A,created,,,,,,ZAR,5,1,k\n3,B,created,link_failed,,,,,ZAR,5,0,\n",
	} {
		var b strings.Builder
		if _, err := report.ComposeOutcomes(report.Output{Results: &b, Links: links}, outcomes); err != nil || b.String() != want {
			t.Errorf("links %t: %v\n%s\nwant\n%s", links, err, b.String(), want)
		}
	}
}
