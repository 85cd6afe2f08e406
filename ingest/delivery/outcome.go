package delivery

import (
	"context"
	"fmt"
	"strconv"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// codeUnknownAccount is the code of a row whose account is not known, and the text says what to
// do about it.
const (
	codeUnknownAccount = "unknown_account"
	unknownAccount     = "no such account, and the row names no customer for whom to open it; add customer_reference, or correct the reference"
)

// finish records the row's status, and all that was learnt on the way, in one entry.
func (d *delivery) finish(ctx context.Context, status ledger.Status) error {
	o := d.outcome(status)
	switch status {
	case ledger.Conflict:
		o.Detail = d.diff
	case ledger.Rejected:
		o.Code, o.Detail = codeUnknownAccount, "account_reference: "+unknownAccount
	case ledger.Failed:
		o.Code = "attempts_exhausted"
		o.Detail = fmt.Sprintf("not created: %d sends, the last answer was %s, and the API holds no such bill; run: billdrop retry %s", o.Attempts, d.lastAnswer(), d.file.ID)
	case ledger.Unknown:
		o.Code = "no_answer"
		o.Detail = fmt.Sprintf("sent %d times, the last answer was %s, and a look-up gave none: the bill may or may not exist; run: billdrop retry %s", o.Attempts, d.lastAnswer(), d.file.ID)
	}
	return d.close(ctx, o)
}

// refuse records the API's final refusal.
func (d *delivery) refuse(ctx context.Context) error {
	d.rec.State = ledger.Gone
	o := d.outcome(ledger.Rejected)
	o.Code = "http_" + strconv.Itoa(d.last.Status)
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
	return d.close(ctx, o)
}

func (d *delivery) lastAnswer() string {
	if d.rec == nil || d.rec.Send.Answer == "" {
		return "none"
	}
	return d.rec.Send.Answer
}

func (d *delivery) outcome(status ledger.Status) ledger.Outcome {
	o := ledger.Outcome{
		Row: d.row, Line: d.line, Reference: d.bill.Reference, Status: status,
		Currency: d.bill.Currency, Amount: d.bill.Amount,
	}
	if d.rec == nil {
		return o
	}
	if s := &d.rec.Send; s.File == d.file.ID && s.Count > 0 {
		o.Attempts, o.Key = s.Count, s.Key
	}
	if d.rec.State == ledger.Exists {
		o.BillID, o.CustomerID, o.AccountID = d.rec.Seen.BillID, d.rec.Seen.CustomerID, d.rec.Seen.AccountID
	}
	return o
}

// close records the outcome, and only then gives what was learnt to the other rows of the party.
func (d *delivery) close(ctx context.Context, o ledger.Outcome) error {
	e := ledger.Entry{Scope: d.lane.scope, Bill: d.rec, File: d.file.ID, Outcome: &o}
	var p payer
	if o.Status == ledger.Created {
		p, e.Parties = d.created()
	}
	o.Customers, o.Accounts = d.customers, d.accounts
	if err := d.record(ctx, e); err != nil {
		return err
	}
	d.lane.parties.learn(d.lease, p.AccountID, p.CustomerID)
	d.gate.forget(d.bill.Reference)
	d.rowDone(o.Status)
	return nil
}

// created is what a bill that one of our sends created tells of the row's parties, as far as it is news.
func (d *delivery) created() (payer, []ledger.Party) {
	var p payer
	var news []ledger.Party
	s, b := &d.rec.Send, &d.rec.Seen
	known := d.lane.parties.known(d.lease)
	if c := d.lease.account; c != nil && s.Form.NestsAccount() && known.AccountID == "" && b.AccountID != "" {
		p.AccountID = b.AccountID
		news = append(news, ledger.Party{PartyRef: c.ref, ID: b.AccountID})
		d.accounts++
	}
	if c := d.lease.customer; c != nil && s.Form.NestsCustomer() && known.CustomerID == "" && b.CustomerID != "" {
		p.CustomerID = b.CustomerID
		news = append(news, ledger.Party{PartyRef: c.ref, ID: b.CustomerID})
		d.customers++
	}
	return p, news
}
