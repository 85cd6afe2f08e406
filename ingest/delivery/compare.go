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

// difference is one field in which the bill that exists and the row disagree. An empty value is
// missing or not known.
type difference struct{ field, theirs, yours string }

// differences returns in what the bill that exists disagrees with the row; none if it is the
// same bill. Only what the row gives is compared: without dates in the file, a bill has the
// API's. Names and metadata do not count, because an existing party is used as it is.
func differences(b *billfile.Bill, s ledger.Observed, p partyFacts) []difference {
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
	case p.NamesAccount && (s.AccountID == "" || s.AccountID != p.AccountID):
		differ(fieldAccount, s.AccountID, p.AccountID)
	case p.NamesAccount && p.NamesCustomer && s.CustomerID != "" && s.CustomerID != p.CustomerID:
		differ(fieldCustomer, s.CustomerID, p.CustomerID)
	case p.NamesAccount:
	case s.AccountID != "":
		differ(fieldAccount, s.AccountID, noParty)
	case s.CustomerID != p.CustomerID:
		differ(fieldCustomer, s.CustomerID, p.CustomerID)
	}
	return diffs
}

// Fields of a difference that are shown in a way of their own.
const (
	fieldStatus = "status"
	fieldAmount = "amount_due" // minor units
)

// The parties that a bill and a row may disagree about.
const (
	fieldAccount  = "account"
	fieldCustomer = "customer"
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

// provesParties reports whether the record of a bill shows that it bills the row's parties,
// whatever is known of them by now: the bill was created by the only send of this very
// content, and every party that the row names was named in that body by the id that the bill
// has, or was nested in it.
func provesParties(rec *ledger.Bill, content ledger.Digest, b *billfile.Bill) bool {
	s, o := &rec.Send, &rec.Observed
	if rec.State != ledger.Exists || s.Answer != createdLabel || s.Content != content || s.Count != 1 {
		return false
	}
	switch s.Form {
	case ledger.FormAccount: // whose account it is, the body did not say
		return !namesCustomer(b) && o.AccountID != "" && o.AccountID == s.AccountID
	case ledger.FormCustomer:
		return o.AccountID == "" && o.CustomerID != "" && o.CustomerID == s.CustomerID
	case ledger.FormNewAccount:
		return o.AccountID != "" && o.CustomerID != "" && o.CustomerID == s.CustomerID
	case ledger.FormNewCustomer:
		return o.AccountID == "" && o.CustomerID != ""
	case ledger.FormNewAccountCustomer:
		return o.AccountID != "" && o.CustomerID != ""
	}
	return false
}

// createdLabel is the label of an answer that created a bill and was not a replay.
var createdLabel = client.Answer{Kind: client.Created, Status: 201}.Label()

func namesAccount(b *billfile.Bill) bool  { return b.AccountID != "" || b.AccountReference != "" }
func namesCustomer(b *billfile.Bill) bool { return b.CustomerID != "" || b.CustomerReference != "" }

// provenFacts are the facts of a row's parties where the record of its bill proves them.
func provenFacts(b *billfile.Bill, o *ledger.Observed) partyFacts {
	return partyFacts{NamesAccount: namesAccount(b), NamesCustomer: namesCustomer(b), AccountID: o.AccountID, CustomerID: o.CustomerID}
}

// fillFromSent completes what a 201 says of a bill with what was sent, where it says nothing.
func fillFromSent(s *ledger.Observed, b *billfile.Bill, sent *ledger.Send) {
	s.Currency = cmp.Or(s.Currency, b.Currency)
	s.Amount = cmp.Or(s.Amount, b.Amount)
	s.BillDate = cmp.Or(s.BillDate, b.BillDate)
	s.DueDate = cmp.Or(s.DueDate, b.DueDate)
	s.AccountID = cmp.Or(s.AccountID, sent.AccountID)
	s.CustomerID = cmp.Or(s.CustomerID, sent.CustomerID)
}

// contradictions returns in what a 201 contradicts the row, given what was sent and what is known
// of the row's parties; none if it confirms the row. What the answer does not say, and a party
// that it may just have created, cannot contradict.
func contradictions(b *billfile.Bill, s ledger.Observed, sent *ledger.Send, p partyFacts) []difference {
	p.CustomerID = cmp.Or(sent.CustomerID, p.CustomerID)
	if p.CustomerID == "" && (sent.Form.NestsCustomer() || !p.CustomerAsked) {
		p.CustomerID = s.CustomerID
	}
	p.AccountID = cmp.Or(sent.AccountID, p.AccountID, s.AccountID)
	if p.NamesAccount {
		s.AccountID = cmp.Or(s.AccountID, p.AccountID, noParty)
		p.AccountID = cmp.Or(p.AccountID, noParty)
	}
	s.CustomerID = cmp.Or(s.CustomerID, p.CustomerID)
	return differences(b, s, p)
}
