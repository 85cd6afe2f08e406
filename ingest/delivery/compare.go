package delivery

import (
	"cmp"
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

// difference is one thing that the bill that exists says otherwise than the row. "" = it says nothing of it, or
// nobody knows.
type difference struct{ field, theirs, yours string }

// differences is what the bill that exists says otherwise than the row: nothing when it is the same bill.
// Only what the row gives is compared: a bill without dates in the file takes the API's. Names and metadata
// are no part of a bill's identity, for an existing party is used as it is.
func differences(b *billfile.Bill, s ledger.Seen, p payer) []difference {
	var diffs []difference
	differ := func(field, theirs, yours string) {
		diffs = append(diffs, difference{field, theirs, yours})
	}
	if s.Voided {
		differ(fieldStatus, "voided", "unpaid")
	}
	if s.Amount != b.Amount {
		differ(fieldAmount, strconv.FormatInt(s.Amount, 10), strconv.FormatInt(b.Amount, 10))
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
			differ(fieldAccount, s.AccountID, p.AccountID)
		}
	case s.AccountID != "":
		differ(fieldAccount, s.AccountID, noParty)
	case s.CustomerID != p.CustomerID:
		differ("customer", s.CustomerID, p.CustomerID)
	}
	return diffs
}

// Fields of a difference that are not told like the others.
const (
	fieldStatus  = "status"
	fieldAmount  = "amount_due" // minor units
	fieldAccount = "account"
)

// noParty is what a row says that names none.
const noParty = "none"

// describe tells differences to a person; "" when there are none.
func describe(diffs []difference) string {
	texts := make([]string, len(diffs))
	for i, d := range diffs {
		if d.field == fieldStatus {
			texts[i] = "status: the bill is voided"
			continue
		}
		texts[i] = fmt.Sprintf("%s: the bill has %s, this row %s", d.field,
			cmp.Or(d.theirs, noParty), cmp.Or(d.yours, "another that the API does not know"))
	}
	return strings.Join(texts, "; ")
}

// values are theirs and yours as JSON tells them.
func (d difference) values(b *billfile.Bill, s *ledger.Seen) [2]any {
	if d.field == fieldAmount {
		return [2]any{s.Amount, b.Amount}
	}
	pair := [2]any{d.theirs, d.yours}
	if d.theirs == "" {
		pair[0] = nil
	}
	switch d.yours {
	case "":
		pair[1] = "unknown"
	case noParty:
		pair[1] = nil
	}
	return pair
}

// contradictions completes what a 201 said of a bill with what was sent, where it said nothing, and tells where it said otherwise: then a bill
// exists, but another than the row's.
func contradictions(b *billfile.Bill, s *ledger.Seen) string {
	s.Currency = cmp.Or(s.Currency, b.Currency)
	s.Amount = cmp.Or(s.Amount, b.Amount)
	s.BillDate = cmp.Or(s.BillDate, b.BillDate)
	s.DueDate = cmp.Or(s.DueDate, b.DueDate)
	var diffs []difference
	if s.Amount != b.Amount {
		diffs = append(diffs, difference{fieldAmount, strconv.FormatInt(s.Amount, 10), strconv.FormatInt(b.Amount, 10)})
	}
	if s.Currency != b.Currency {
		diffs = append(diffs, difference{"currency", s.Currency, b.Currency})
	}
	if s.Voided {
		diffs = append(diffs, difference{fieldStatus, "voided", "unpaid"})
	}
	return describe(diffs)
}
