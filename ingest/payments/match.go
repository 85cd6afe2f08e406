package payments

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"billdrop/client"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
)

// maxCandidates bounds how many bills of one account are asked for.
const maxCandidates = 20

// indexEvery is the shortest time between two looks for new bills of accounts. A bill that is
// newer is only found later; its payment then waits, or has its amount against it (see choose).
const indexEvery = 5 * time.Second

// foreignFor is how long a bill that is not of this ledger is not asked for again while a file
// is being sent, and maxForeign how many of them are remembered.
const (
	foreignFor = 30 * time.Second
	maxForeign = 10_000
)

// sendingShare is the part of the lane's requests that matching takes while a file is sent.
const sendingShare = 16

// settle matches the payments that a report may have, and records them in it.
func (r *Reporter) settle(ctx context.Context, report *ledger.PaymentReport) error {
	scope := r.Lane.Scope()
	q := r.Lane.Inquire(r.Ledger)
	defer q.Close()
	for after := int64(0); ; {
		// It is asked first, for each page, because a report of many pages outlives a file: what is
		// recorded after that may be of a file that ended meanwhile.
		sending, err := r.sending(ctx)
		if err != nil {
			return err
		}
		width := q.Width()
		if sending {
			width = max(1, width/sendingShare)
		} else {
			r.foreign = nil
		}
		page, err := r.Store.Unsettled(ctx, scope, after, report.UpTo, cmp.Or(r.page, pageSize))
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].Seq
		if slices.ContainsFunc(page, namesNoBill) && time.Since(r.indexed) >= indexEvery {
			if err := r.index(ctx); err != nil {
				return err
			}
			r.indexed = time.Now()
		}
		m := &matcher{Reporter: r, inquiry: q, width: width, sending: sending, bills: make(map[string]*client.Bill), parties: make(map[string]ofParty),
			accounts: make(map[string]*ledger.BillAccount), changed: make(map[string]bool), unclear: make(map[string]bool)}
		if err := m.match(ctx, page); err != nil {
			return err
		}
		settled := page[:0]
		for _, p := range page {
			if p.MatchedBy != ledger.ByNone || !sending {
				settled = append(settled, p)
			}
		}
		if err := r.Store.Settle(ctx, scope, report.Name, settled, m.changes()); err != nil {
			return err
		}
	}
}

// party returns the account or customer that a payment names in place of a bill.
func party(p *ledger.Payment) string { return cmp.Or(p.AccountID, p.CustomerID) }

func namesNoBill(p ledger.Payment) bool { return p.BillID == "" && party(&p) != "" }

// matcher matches one page of payments.
type matcher struct {
	*Reporter
	inquiry *delivery.Inquiry
	width   int
	sending bool // a file of the merchant is being sent
	// bills are what the API said, by reference and by id; nil = it has none such.
	bills   map[string]*client.Bill
	parties map[string]ofParty // by id of the account or customer
	// accounts are of the bills that were looked at, by reference.
	accounts map[string]*ledger.BillAccount
	changed  map[string]bool // of accounts
	// unclear are the bills between which a payment could not decide. What they were paid is
	// accounted for at the end of the page, so that later payments see what is new.
	unclear map[string]bool
}

// match sets what each payment is matched with. Payments that name their bill come first,
// so that what they paid is accounted for when the others are looked at.
func (m *matcher) match(ctx context.Context, page []ledger.Payment) error {
	var ids []string
	for i := range page {
		id := page[i].BillID
		if since, foreign := m.foreign[id]; id != "" && !(foreign && time.Since(since) < foreignFor) {
			ids = append(ids, id)
		}
	}
	if err := m.ask(ctx, ids); err != nil {
		return err
	}
	if err := m.matchNamed(ctx, page); err != nil {
		return err
	}
	if err := m.askCandidates(ctx, page); err != nil {
		return err
	}
	for i := range page {
		if p := &page[i]; namesNoBill(*p) {
			if err := m.matchParty(ctx, p); err != nil {
				return err
			}
		} else if p.MatchedBy == "" {
			p.MatchedBy = ledger.ByNone
		}
	}
	for reference := range m.unclear {
		if b := m.bills[reference]; b.AmountPaid != nil {
			m.accounts[reference].Accounted = max(m.accounts[reference].Accounted, *b.AmountPaid)
			m.close(b)
			m.changed[reference] = true
		}
	}
	return nil
}

// remember notes that a bill is not of this ledger.
func (m *matcher) remember(id string) {
	if !m.sending {
		return
	}
	if len(m.foreign) >= maxForeign {
		m.foreign = nil
	}
	if m.foreign == nil {
		m.Reporter.foreign = make(map[string]time.Time)
	}
	m.foreign[id] = time.Now()
}

// close closes the account of a bill that was paid, or voided, and of which nothing is left to
// be accounted for.
func (m *matcher) close(b *client.Bill) {
	a := m.accounts[b.ExternalReference]
	if a.Closed || b.Status != statusVoided && (b.Status != statusPaid || m.grew(b) > 0) {
		return
	}
	a.Closed = true
	m.changed[b.ExternalReference] = true
}

// grew returns how much more a bill was paid than is accounted for.
func (m *matcher) grew(b *client.Bill) int64 {
	if b.AmountPaid == nil {
		return 0
	}
	return *b.AmountPaid - m.accounts[b.ExternalReference].Accounted
}

// matchNamed matches the payments that name a bill of this ledger.
func (m *matcher) matchNamed(ctx context.Context, page []ledger.Payment) error {
	var references []string
	for i := range page {
		if b := m.bills[page[i].BillID]; page[i].BillID != "" && b != nil {
			references = append(references, b.ExternalReference)
		}
	}
	known, err := m.Ledger.Bills(ctx, m.Lane.Scope(), references)
	if err != nil {
		return err
	}
	if err := m.load(ctx, references); err != nil {
		return err
	}
	for i := range page {
		p := &page[i]
		b := m.bills[p.BillID]
		if p.BillID == "" || b == nil {
			continue
		}
		if held := known[b.ExternalReference]; held == nil || held.Observed.BillID != "" && held.Observed.BillID != b.ID {
			m.remember(p.BillID) // a bill that was not raised from here
			continue
		}
		by := ledger.ByBill
		if p.Type == client.PaymentRequestPaid {
			by = ledger.ByPaymentRequest
		}
		m.take(p, b, by)
	}
	return nil
}

// ofParty are the bills of an account or customer that are open, a few more than are asked for at
// most, and the one that was paid last.
type ofParty struct {
	open []string
	last string
}

// billsOf reads them once a page.
func (m *matcher) billsOf(ctx context.Context, party string) (ofParty, error) {
	if b, read := m.parties[party]; read {
		return b, nil
	}
	open, last, err := m.Store.PartyBills(ctx, m.Lane.Scope(), party, maxCandidates+1)
	if err == nil {
		m.parties[party] = ofParty{open, last}
	}
	return ofParty{open, last}, err
}

// askCandidates asks for the bills that the payments of a page may be for, all at once. One
// payment after the other would wait for the API's latency each time.
func (m *matcher) askCandidates(ctx context.Context, page []ledger.Payment) error {
	var names []string
	for i := range page {
		if !namesNoBill(page[i]) {
			continue
		}
		b, err := m.billsOf(ctx, party(&page[i]))
		if err != nil {
			return err
		}
		names = append(names, b.open[:min(len(b.open), maxCandidates)]...)
		if len(b.open) == 0 && b.last != "" {
			names = append(names, b.last)
		}
	}
	return m.ask(ctx, names)
}

// matchParty matches a payment that names an account, or a customer.
func (m *matcher) matchParty(ctx context.Context, p *ledger.Payment) error {
	by := ledger.ByAccount
	if p.AccountID == "" {
		by = ledger.ByCustomer
	}
	b, err := m.billsOf(ctx, party(p))
	if err != nil {
		return err
	}
	open, last := slices.Clone(b.open), b.last
	// Those that this page has closed are not recorded yet.
	if err := m.load(ctx, open); err != nil {
		return err
	}
	open = slices.DeleteFunc(open, func(reference string) bool {
		a := m.accounts[reference]
		if a.Closed && !a.PaidAt.IsZero() {
			last = reference
		}
		return a.Closed
	})
	tooMany := len(open) > maxCandidates
	open = open[:min(len(open), maxCandidates)] // once these are accounted for, others are looked at
	if len(open) == 0 && last != "" {
		open = []string{last}
		if err := m.load(ctx, open); err != nil {
			return err
		}
	}
	if err := m.ask(ctx, open); err != nil {
		return err
	}
	var candidates, paid []*client.Bill
	for _, reference := range open {
		b := m.bills[reference]
		if b == nil {
			continue
		}
		m.close(b)
		switch {
		case !m.accounts[reference].Closed:
			candidates = append(candidates, b)
		case b.Status != statusVoided:
			paid = append(paid, b)
		}
	}
	if len(candidates) == 0 {
		candidates = paid
	}
	chosen := m.choose(candidates, p)
	switch {
	case tooMany, chosen == nil && len(candidates) > 1:
		p.MatchedBy = ledger.BySeveral
		for _, b := range candidates {
			m.unclear[b.ExternalReference] = true
		}
	case chosen != nil:
		m.take(p, chosen, by)
	default:
		p.MatchedBy = ledger.ByNone
	}
	return nil
}

const (
	statusVoided = "voided"
	statusPaid   = "paid"
)

// choose returns the bill that a payment was applied to, of those that it may be: the only one;
// else the only one that was paid just as much more than is accounted for; else the only one
// that was paid at least as much more; else the only one that was paid more. It returns nil if
// that does not decide. While a file is being sent, there may be a newer bill, so then the only
// one has to have been paid more, too.
func (m *matcher) choose(candidates []*client.Bill, p *ledger.Payment) *client.Bill {
	if len(candidates) == 1 && (!m.sending || candidates[0].AmountPaid == nil) {
		return candidates[0]
	}
	for _, grew := range []func(int64) bool{
		func(n int64) bool { return n == p.Amount },
		func(n int64) bool { return n >= p.Amount },
		func(n int64) bool { return n > 0 },
	} {
		var fit []*client.Bill
		for _, b := range candidates {
			if b.Currency == p.Currency && grew(m.grew(b)) {
				fit = append(fit, b)
			}
		}
		if len(fit) == 1 {
			return fit[0]
		}
		if len(fit) > 1 {
			return nil
		}
	}
	return nil
}

// take matches a payment with a bill.
func (m *matcher) take(p *ledger.Payment, b *client.Bill, by ledger.MatchedBy) {
	p.MatchedBy, p.Reference = by, b.ExternalReference
	p.BillID, p.AccountID, p.CustomerID = b.ID, b.AccountID, b.CustomerID
	due := b.AmountDue
	p.State = ledger.BillMoney{Status: b.Status, Due: &due, Paid: b.AmountPaid, Remaining: b.AmountRemaining}
	a := m.accounts[b.ExternalReference]
	if by != ledger.ByPaymentRequest { // nothing says that a link that is paid settles the bill
		a.Accounted += p.Amount
	}
	switch {
	case b.Status == statusVoided:
		a.Closed = true
	case b.Status == statusPaid && (b.AmountPaid == nil || a.Accounted >= *b.AmountPaid):
		a.Closed, a.PaidAt = true, p.ReceivedAt
	}
	m.changed[b.ExternalReference] = true
}

// changes returns the accounts that changed.
func (m *matcher) changes() []ledger.BillAccount {
	var list []ledger.BillAccount
	for reference := range m.changed {
		list = append(list, *m.accounts[reference])
	}
	return list
}

// load reads the accounts of bills that were not read yet.
func (m *matcher) load(ctx context.Context, references []string) error {
	references = slices.DeleteFunc(slices.Clone(references), func(reference string) bool { return m.accounts[reference] != nil })
	known, err := m.Store.Accounts(ctx, m.Lane.Scope(), references)
	if err != nil {
		return err
	}
	for _, reference := range references {
		a := known[reference]
		a.Reference = reference
		m.accounts[reference] = &a
	}
	return nil
}

// ask asks the API for bills, by id or reference, each once a page.
func (m *matcher) ask(ctx context.Context, names []string) error {
	var asked []string
	for _, name := range names {
		if _, known := m.bills[name]; !known {
			m.bills[name] = nil
			asked = append(asked, name)
		}
	}
	found := make([]*client.Bill, len(asked))
	asking, ctx := errgroup.WithContext(ctx)
	asking.SetLimit(m.width)
	for i, name := range asked {
		asking.Go(func() error {
			a, err := m.inquiry.Bill(ctx, name)
			switch {
			case err != nil:
				return err
			case a.Kind == client.Found:
				found[i] = a.Bill
			case a.Kind != client.Absent || !delivery.Documented(a):
				return &Error{fmt.Errorf("the API gave no usable answer about the bill %s (%s)", name, a.Label()), "the next run asks again; nothing is lost"}
			}
			return nil
		})
	}
	if err := asking.Wait(); err != nil {
		return err
	}
	for i, name := range asked {
		m.bills[name] = found[i]
		if b := found[i]; b != nil {
			m.bills[b.ID], m.bills[b.ExternalReference] = b, b
		}
	}
	return nil
}
