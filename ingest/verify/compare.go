package verify

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// statusVoided is the API's status of a bill that was voided.
const statusVoided = "voided"

// differences returns in what a bill differs from what the file's results say, and its dates
// from what the ledger observed; "" if in nothing. What one side does not tell is not a
// difference. A payment is none, because it changes neither.
func differences(o *ledger.Outcome, known *ledger.Bill, b *client.Bill) string {
	var texts []string
	differ := func(field, was, is string) {
		if was != "" && is != "" && was != is {
			texts = append(texts, fmt.Sprintf("%s: it was %s and is %s", field, was, is))
		}
	}
	amount := ""
	if o.Amount != 0 {
		amount = strconv.FormatInt(o.Amount, 10)
	}
	differ("amount_due", amount, strconv.FormatInt(b.AmountDue, 10))
	differ("currency", o.Currency, b.Currency)
	differ("bill_id", o.BillID, b.ID)
	differ("customer_id", o.CustomerID, b.CustomerID)
	differ("account_id", cmp.Or(o.AccountID, none(o.CustomerID)), cmp.Or(b.AccountID, none(b.CustomerID)))
	if known != nil && known.State == ledger.Exists && known.Observed.BillID == b.ID {
		differ("bill_date", known.Observed.BillDate, b.BillDate)
		differ("due_date", known.Observed.DueDate, b.DueDate)
	}
	return strings.Join(texts, "; ")
}

// none stands for the account of a bill that was raised directly against a customer.
func none(customerID string) string {
	if customerID == "" {
		return "" // nothing is known
	}
	return "none"
}
