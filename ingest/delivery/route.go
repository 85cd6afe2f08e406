package delivery

import "billdrop/ingest/ledger"

// partyFacts is what is known of a row's account and customer when a body is to be chosen.
type partyFacts struct {
	NamesAccount  bool   // by reference or id
	NamesCustomer bool   // by reference or id
	AccountID     string // "" = not known
	Owner         string // id of the account's customer; "" = not known
	AccountAsked  bool   // the API was asked for the account, and has told all it will
	CustomerID    string // "" = not known
	CustomerAsked bool   // the API was asked for the customer
	// CustomerOld: the customer was known before this file. One that came with it is taken to have
	// new accounts only, so that a clean run needs no look-up.
	CustomerOld bool
}

// routeStep is what to do before a row can be sent, or instead.
type routeStep uint8

const (
	routeSend           routeStep = iota + 1 // send a body of the route's form
	routeAskAccount                          // ask the API for the account and its owner
	routeAskCustomer                         // ask the API for the customer's id
	routeMismatch                            // the account belongs to another customer: send nothing
	routeUnknownAccount                      // an account that is not there, and no customer to open it for
)

// route is what chooseRoute decides. Form is set with routeSend.
type route struct {
	Do   routeStep
	Form ledger.Form
}

// chooseRoute decides how a new body names its parties.
//
// A row that names an account and a customer is sent only if the customer owns the account. Where
// one side is known but not that both belong together, the API is asked, with at most two
// requests. Where neither is known, the body nests both, and the answer shows the pair.
func chooseRoute(f partyFacts) route {
	send := func(form ledger.Form) route { return route{Do: routeSend, Form: form} }
	switch {
	case !f.NamesAccount && f.CustomerID != "":
		return send(ledger.FormCustomer)
	case !f.NamesAccount:
		return send(ledger.FormNewCustomer)
	case f.AccountID == "":
		return openAccount(f, send)
	case !f.NamesCustomer:
		return send(ledger.FormAccount)
	case f.Owner == "" && !f.AccountAsked:
		return route{Do: routeAskAccount}
	case f.CustomerID == "" && !f.CustomerAsked:
		return route{Do: routeAskCustomer}
	case f.Owner == "": // the API does not say whose it is, or does not have it: the bill will show
		return send(ledger.FormAccount)
	case f.Owner == f.CustomerID:
		return send(ledger.FormAccount)
	}
	return route{Do: routeMismatch} // a customer that the API does not have owns no account either
}

// openAccount decides for an account that is not known.
func openAccount(f partyFacts, send func(ledger.Form) route) route {
	switch {
	case !f.NamesCustomer && f.AccountAsked:
		return route{Do: routeUnknownAccount}
	case !f.NamesCustomer:
		return route{Do: routeAskAccount}
	case f.CustomerID == "":
		return send(ledger.FormNewAccountCustomer)
	case f.CustomerOld && !f.AccountAsked:
		return route{Do: routeAskAccount}
	}
	return send(ledger.FormNewAccount)
}
