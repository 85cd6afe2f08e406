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

// observed returns a bill of the API in the ledger's terms.
func observed(b *client.Bill) ledger.Observed {
	return ledger.Observed{
		BillID: b.ID, CustomerID: b.CustomerID, AccountID: b.AccountID,
		Currency: b.Currency, Amount: b.AmountDue, BillDate: b.BillDate, DueDate: b.DueDate,
		Voided: b.Status == "voided",
	}
}

// payer is whom a row bills, as ids where they are known; "" = not known. The API raises a bill
// against the account if there is one.
type payer struct {
	AccountID  string
	CustomerID string
}

// difference is one field in which the bill that exists and the row disagree. An empty value is
// missing or not known.
type difference struct{ field, theirs, yours string }

// differences returns in what the bill that exists disagrees with the row; none if it is the
// same bill. Only what the row gives is compared: without dates in the file, a bill has the
// API's. Names and metadata do not count, because an existing party is used as it is.
func differences(b *billfile.Bill, s ledger.Observed, p payer) []difference {
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

// Fields of a difference that are shown in a way of their own.
const (
	fieldStatus  = "status"
	fieldAmount  = "amount_due" // minor units
	fieldAccount = "account"
)

// noParty stands for a party that is not named.
const noParty = "none"

// describe returns differences in words; "" if there are none.
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

// values returns theirs and yours as they stand in JSON.
func (d difference) values(b *billfile.Bill, s *ledger.Observed) [2]any {
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

// fillFromSent completes what a 201 says of a bill with what was sent, where it says nothing.
func fillFromSent(s *ledger.Observed, b *billfile.Bill) {
	s.Currency = cmp.Or(s.Currency, b.Currency)
	s.Amount = cmp.Or(s.Amount, b.Amount)
	s.BillDate = cmp.Or(s.BillDate, b.BillDate)
	s.DueDate = cmp.Or(s.DueDate, b.DueDate)
}

// contradictions returns in what a 201 contradicts the row: then a bill exists, but not the
// row's.
func contradictions(b *billfile.Bill, s ledger.Observed) []difference {
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
	return diffs
}
