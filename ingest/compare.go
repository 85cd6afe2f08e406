package ingest

import (
	"fmt"
	"strconv"
	"strings"

	"billdrop/client"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// seen is a bill of the API in the ledger's terms.
func seen(b *client.Bill) ledger.Seen {
	return ledger.Seen{
		BillID: b.ID, CustomerID: b.CustomerID, AccountID: b.AccountID,
		Currency: b.Currency, Amount: b.AmountDue, BillDate: b.BillDate, DueDate: b.DueDate,
		Voided: b.Status == "voided",
	}
}

// payer is who a row bills, as far as it could be resolved: ids where they are known, "" where nobody
// knows the row's reference. By the API's rule a bill is raised against the account when there is one.
type payer struct {
	AccountID  string
	CustomerID string
}

// differences names what the bill that exists says otherwise than the row: nothing when it is the same bill.
// Only what the row gives is compared: a bill without dates in the file takes the API's. Names and metadata
// are no part of a bill's identity, for an existing party is used as it is.
func differences(b *billfile.Bill, s ledger.Seen, p payer) string {
	var diffs []string
	differ := func(field, theirs, yours string) {
		if theirs == "" {
			theirs = "none"
		}
		diffs = append(diffs, fmt.Sprintf("%s: the bill has %s, this row %s", field, theirs, yours))
	}
	if s.Voided {
		diffs = append(diffs, "status: the bill is voided")
	}
	if s.Amount != b.Amount {
		differ("amount_due", strconv.FormatInt(s.Amount, 10), strconv.FormatInt(b.Amount, 10))
	}
	if s.Currency != b.Currency {
		differ("currency", s.Currency, b.Currency)
	}
	if b.BillDate != "" && s.BillDate != b.BillDate {
		differ("bill_date", s.BillDate, b.BillDate)
	}
	if b.DueDate != "" && s.DueDate != b.DueDate {
		differ("due_date", s.DueDate, b.DueDate)
	}
	switch {
	case b.AccountID != "" || b.AccountReference != "":
		if s.AccountID == "" || s.AccountID != p.AccountID {
			differ("account", s.AccountID, orUnknown(p.AccountID))
		}
	case s.AccountID != "":
		differ("account", s.AccountID, "none")
	case s.CustomerID != p.CustomerID:
		differ("customer", s.CustomerID, orUnknown(p.CustomerID))
	}
	return strings.Join(diffs, "; ")
}

func orUnknown(id string) string {
	if id == "" {
		return "another that the API does not know"
	}
	return id
}
