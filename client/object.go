package client

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

const (
	// maxID is the longest id that is accepted of the API, in bytes. Its own have some 30.
	maxID = 64
	// maxWord bounds the other short texts of a bill that are kept, in bytes: status,
	// currency, dates.
	maxWord = 32
)

// identity is what every object of the API has.
type identity struct{ ID, Reference string }

// readObject reads the body as the object that was asked for. It returns the object's
// identity, and a function that puts the object into an Answer. Ids go into paths of later
// requests, reports and the ledger, so one that is not an id makes the answer unreadable.
func readObject(r *result) (identity, func(*Answer), error) {
	var own identity
	var others []string // ids of other objects; each may be missing
	var lacks error
	var set func(*Answer)
	var err error
	clean := r.clean
	switch r.object {
	case bills:
		v := new(Bill)
		err = json.Unmarshal(r.body, v)
		own, others, set = identity{v.ID, v.ExternalReference}, []string{v.CustomerID, v.AccountID}, func(a *Answer) { a.Bill = v }
		for _, text := range []*string{&v.Status, &v.Currency, &v.BillDate, &v.DueDate} {
			*text = clean(*text, maxWord)
		}
		if r.method == http.MethodGet && v.AmountDue <= 0 {
			lacks = errNoAmount // it could not be compared with what was to be billed
		}
	case customers:
		v := new(Customer)
		err = json.Unmarshal(r.body, v)
		own, set = identity{v.ID, v.ExternalReference}, func(a *Answer) { a.Customer = v }
	case accounts:
		v := new(Account)
		err = json.Unmarshal(r.body, v)
		own, others, set = identity{v.ID, v.ExternalReference}, []string{v.CustomerID}, func(a *Answer) { a.Account = v }
	case paymentRequests:
		v := new(paymentRequest)
		err = json.Unmarshal(r.body, v)
		own, others, set = identity{v.ID, v.ExternalReference}, []string{v.PaymentID}, func(a *Answer) { a.PaymentRequest = v.shown(clean) }
		if own.Reference == "" {
			own.Reference = r.asked // not every version of the API repeats it
		}
		if r.method == http.MethodPost && v.link() == "" {
			lacks = errNoLink
		}
	}
	switch {
	case err != nil:
		return own, nil, errNotObject // a decoder's own error may quote what it read
	case own.ID == "" || own.Reference == "":
		return own, nil, errIncomplete
	case !validID(own.ID), slices.ContainsFunc(others, func(id string) bool { return id != "" && !validID(id) }):
		return own, nil, errBadID
	case lacks != nil:
		return own, nil, lacks
	}
	return own, set, nil
}

// validID reports whether s may be an id of the API.
func validID(s string) bool { return isWord(s, maxID, "-_") }

// isWord reports whether s is 1 to most ASCII letters, digits and characters of more.
func isWord(s string, most int, more string) bool {
	return 0 < len(s) && len(s) <= most && !strings.ContainsFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune(more, c))
	})
}
