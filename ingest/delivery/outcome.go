package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"billdrop/client"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// unknownAccount is what is wrong with a row whose account is not known, and what to do.
const unknownAccount = "no such account, and the row names no customer to open it for: add customer_reference, or correct the reference"

// partyMismatch returns what is wrong with a row whose account belongs to another customer, and
// what to do. The customer is shown by id alone, because its reference may be an identity number.
func partyMismatch(b *billfile.Bill, owner, customerID string) string {
	account, customer := "account_reference", "customer_reference"
	if b.AccountID != "" {
		account = "account_id"
	}
	if b.CustomerID != "" {
		customer = "customer_id"
	}
	return fmt.Sprintf("account %s belongs to another customer than the row names: its customer is %s, the row's is %s; correct %s or %s, or bill a new customer on a new account",
		cmp.Or(b.AccountID, b.AccountReference), owner, cmp.Or(customerID, "not known to the API"), account, customer)
}

// finish records the row's status, and all that was learnt on the way, in one entry.
func (d *delivery) finish(status ledger.Status) error {
	o := d.outcome(status)
	retry := "run: billdrop retry " + d.file.ID
	if d.settling && status == ledger.Failed {
		retry = "the file was rejected: deliver the row again, if it is still wanted"
	}
	switch status {
	case ledger.Conflict:
		o.Detail = d.diff
	case ledger.Failed:
		o.Code = ledger.CodeAttemptsExhausted
		o.Detail = fmt.Sprintf("not created: %d sends, the last answer was %s, and the API holds no such bill; %s", o.Attempts, d.lastAnswer(), retry)
		if o.Attempts == 0 {
			o.Detail = "not sent: the API gave no answer about the row's account or customer; " + retry
		}
	case ledger.Unknown:
		o.Code = ledger.CodeNoAnswer
		o.Detail = fmt.Sprintf("sent %d times, the last answer was %s, and a look-up gave none: the bill may or may not exist; %s", o.Attempts, d.lastAnswer(), retry)
		if d.lateLooks > 0 {
			o.Detail = fmt.Sprintf("sent %d times, the last answer was %s, and %d look-ups show no such bill: it may or may not exist; %s", o.Attempts, d.lastAnswer(), d.lateLooks+1, retry)
		}
	}
	return d.close(o)
}

// unknownAccount rejects a row whose account is not there, and that names no customer.
func (d *delivery) unknownAccount() error {
	o := d.outcome(ledger.Rejected)
	o.Code, o.Detail = ledger.CodeUnknownAccount, "account_reference: "+unknownAccount
	return d.close(o)
}

// mismatch ends a row whose account belongs to another customer. If that came out before any send,
// the row is invalid; otherwise the API has refused it.
func (d *delivery) mismatch() error {
	o := d.outcome(ledger.Invalid)
	if o.Attempts > 0 {
		o.Status = ledger.Rejected
	}
	known := d.lane.parties.known(d.lease)
	o.Code, o.Detail = ledger.CodePartyMismatch, partyMismatch(&d.bill, known.Owner, known.CustomerID)
	return d.close(o)
}

// refuse records the API's final refusal.
func (d *delivery) refuse() error {
	d.rec.State = ledger.Gone
	o := d.outcome(ledger.Rejected)
	o.Code = ledger.CodeHTTP(d.last.Status)
	o.Detail = d.last.Problem.Title
	if detail := d.last.Problem.Detail; detail != "" {
		o.Detail += ": " + detail
	}
	if d.last.Kind == client.Blocked {
		o.Detail = d.last.Reason()
	}
	o.Detail = redact(o.Detail, &d.bill)
	switch d.last.Kind {
	case client.KeyRefused: // of this row alone; see gate.awaitProof
		o.Detail = "403: " + o.Detail
		fallthrough
	case client.Blocked:
		o.Detail = "a gateway refuses it (" + o.Detail + "); ask those who run it to let this row through, then deliver it again"
	}
	return d.close(o)
}

func (d *delivery) lastAnswer() string {
	if d.rec == nil || d.rec.Send.Answer == "" {
		return "none"
	}
	return d.rec.Send.Answer
}

// outcome returns what the outcome of the row has by its bill and by the record of it.
func (d *delivery) outcome(status ledger.Status) ledger.Outcome {
	o := ledger.Outcome{
		Row: d.row, Line: d.line, Reference: d.bill.Reference, Status: status,
		Currency: d.bill.Currency, Amount: d.bill.Amount,
	}
	if d.rec == nil || status == ledger.NotSent { // a record may be of another file's row
		return o
	}
	if s := &d.rec.Send; s.File == d.file.ID && s.Count > 0 {
		o.Attempts, o.Key = s.Count, s.Key
	}
	if d.rec.State == ledger.Exists {
		o.BillID, o.CustomerID, o.AccountID = d.rec.Observed.BillID, d.rec.Observed.CustomerID, d.rec.Observed.AccountID
	}
	return o
}

// close records the outcome, and only then shows what was learnt to the other rows of the party.
func (d *delivery) close(o ledger.Outcome) error {
	e := ledger.Entry{Scope: d.lane.scope, File: d.file.ID, Outcome: &o}
	if d.rec != nil && *d.rec != d.stored { // most rows of a file that comes again change nothing
		e.Bill = d.rec
	}
	e.Parties = d.news()
	o.Customers, o.Accounts = d.customers, d.accounts
	if err := d.record(e); err != nil {
		return err
	}
	for _, p := range e.Parties {
		d.lane.parties.learn(p)
	}
	d.gate.forget(d.bill.Reference)
	d.rowDone(o.Status)
	return nil
}

// news returns what the bill shows of the row's account and customer that was not known. A party
// that the body nested, and that was not known, counts as created.
func (d *delivery) news() (news []ledger.Party) {
	if d.rec == nil || d.rec.State != ledger.Exists {
		return nil
	}
	b, form, now := &d.rec.Observed, d.rec.Send.Form, d.since()
	known := d.lane.parties.known(d.lease)
	nested := d.last.Kind == client.Created
	switch e := d.lease.account; {
	case e == nil || b.AccountID == "":
	case known.AccountID == "" && nested && form.NestsAccount():
		news = append(news, ledger.Party{PartyRef: e.ref, ID: b.AccountID, CustomerID: b.CustomerID, Since: now})
		if d.diff == "" {
			d.accounts++
		}
	case known.AccountID == b.AccountID && b.CustomerID != "" && known.Owner != b.CustomerID && (d.fresh || known.Owner == ""):
		news = append(news, ledger.Party{PartyRef: e.ref, ID: b.AccountID, CustomerID: b.CustomerID, Since: now})
	}
	if e := d.lease.customer; e != nil && known.CustomerID == "" && nested && form.NestsCustomer() && b.CustomerID != "" {
		news = append(news, ledger.Party{PartyRef: e.ref, ID: b.CustomerID, Since: now})
		d.customers++
	}
	return news
}

// sentBefore reports whether the row was sent for this file, by any run. Another file may have
// sent its reference since, so the ledger's attempts count as well.
func (d *delivery) sentBefore(ctx context.Context) (bool, error) {
	if d.rec == nil || d.rec.Send.Key == "" {
		return false, nil
	}
	if d.rec.Send.File == d.file.ID {
		return d.rec.Send.Count > 0, nil
	}
	h, err := d.ledger.History(ctx, d.lane.scope, d.bill.Reference)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(h.Attempts, func(a ledger.Attempt) bool { return a.File == d.file.ID }), nil
}

// settleStep decides how a row that was sent ends without another send. A look-up for this cause
// never leads to one.
func settleStep(rec *ledger.Bill) decision {
	if rec.State == ledger.Exists {
		return decision{Do: stepCompare}
	}
	return decision{Do: stepLookUp, Cause: causeExhausted}
}

// leaveUnsent records that the row was not sent.
func (d *delivery) leaveUnsent() error {
	o := d.outcome(ledger.NotSent)
	if err := d.record(ledger.Entry{File: d.file.ID, Outcome: &o}); err != nil {
		return err
	}
	d.rowDone(o.Status)
	return nil
}
