package emulator

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// PaymentRules say what payments are accepted, in minor units.
type PaymentRules struct {
	MinAmount           int64 `json:"min_amount"`
	MaxAmount           int64 `json:"max_amount"`
	UnderpaymentAllowed bool  `json:"underpayment_allowed"`
	OverpaymentAllowed  bool  `json:"overpayment_allowed"`
}

// Customer is a customer as the API answers it.
type Customer struct {
	ID                string            `json:"id"`
	ExternalReference string            `json:"external_reference"`
	Name              string            `json:"name,omitempty"`
	Email             string            `json:"email,omitempty"`
	Phone             string            `json:"phone,omitempty"`
	Currency          string            `json:"currency,omitempty"`
	Balance           *int64            `json:"balance,omitempty"` // minor units, negative = credit
	PaymentRules      PaymentRules      `json:"payment_rules"`
	Metadata          map[string]string `json:"metadata,omitempty"`
}

// Account is an account as the API answers it.
type Account struct {
	ID                string            `json:"id"`
	ExternalReference string            `json:"external_reference"`
	CustomerID        string            `json:"customer_id"`
	Name              string            `json:"name,omitempty"`
	Currency          string            `json:"currency,omitempty"`
	Balance           *int64            `json:"balance,omitempty"`
	PaymentRules      PaymentRules      `json:"payment_rules"`
	Metadata          map[string]string `json:"metadata,omitempty"`
}

// Statuses of a bill.
const (
	Unpaid = "unpaid"
	Paid   = "paid"
	Voided = "voided"
)

// Bill is a bill as the API answers it. Amounts are in minor units.
type Bill struct {
	ID                string            `json:"id"`
	ExternalReference string            `json:"external_reference"`
	CustomerID        string            `json:"customer_id"`
	AccountID         string            `json:"account_id,omitempty"`
	Status            string            `json:"status"`
	Currency          string            `json:"currency"`
	AmountDue         int64             `json:"amount_due"`
	AmountPaid        int64             `json:"amount_paid"`
	AmountRemaining   int64             `json:"amount_remaining"`
	BillDate          string            `json:"bill_date"`
	DueDate           string            `json:"due_date,omitempty"`
	PaymentRules      PaymentRules      `json:"payment_rules"`
	Metadata          map[string]string `json:"metadata,omitempty"`
}

// collection holds the objects of one kind. An object in it is never changed, only
// replaced. So pointers to it can be answered, and stored under idempotency keys, without
// a lock.
type collection[T any] struct {
	list  []*T // nil where one was removed
	byID  map[string]int
	byRef map[string][]int // more than one only where duplicates are let in
}

func newCollection[T any]() collection[T] {
	return collection[T]{byID: make(map[string]int), byRef: make(map[string][]int)}
}

func (s *collection[T]) add(id, reference string, v *T) {
	s.byID[id] = len(s.list)
	s.byRef[reference] = append(s.byRef[reference], len(s.list))
	s.list = append(s.list, v)
}

// find returns the object with an id, or else the oldest one with a reference, or nil.
func (s *collection[T]) find(name string) *T {
	if at, ok := s.byID[name]; ok {
		return s.list[at]
	}
	if at := s.byRef[name]; len(at) > 0 {
		return s.list[at[0]]
	}
	return nil
}

func (s *collection[T]) withID(id string) *T {
	if at, ok := s.byID[id]; ok {
		return s.list[at]
	}
	return nil
}

func (s *collection[T]) withReference(reference string) []*T {
	var found []*T
	for _, at := range s.byRef[reference] {
		found = append(found, s.list[at])
	}
	return found
}

func (s *collection[T]) replace(id string, v *T) { s.list[s.byID[id]] = v }

// rename moves the object with an id from one reference to another.
func (s *collection[T]) rename(id, from, to string) {
	at := s.byID[id]
	s.byRef[from] = slices.DeleteFunc(s.byRef[from], func(i int) bool { return i == at })
	s.byRef[to] = append(s.byRef[to], at)
}

// remove removes the object with an id and a reference.
func (s *collection[T]) remove(id, reference string) {
	at := s.byID[id]
	s.byRef[reference] = slices.DeleteFunc(s.byRef[reference], func(i int) bool { return i == at })
	delete(s.byID, id)
	s.list[at] = nil // the others keep their places
}

// objects are a merchant's customers, accounts and bills, with the rules between them.
// The API's lock guards them.
type objects struct {
	cfg        Config
	customers  collection[Customer]
	accounts   collection[Account]
	bills      collection[Bill]
	requests   collection[PaymentRequest]
	nthPayment map[string]int // by bill id: payments so far
	payments   map[string]*Payment
}

func newObjects(cfg Config) objects {
	return objects{
		cfg: cfg, customers: newCollection[Customer](), accounts: newCollection[Account](), bills: newCollection[Bill](),
		requests: newCollection[PaymentRequest](), nthPayment: make(map[string]int), payments: make(map[string]*Payment),
	}
}

// id returns the id of the nth object (from 0) with a reference. It depends on these and
// the seed alone, so that the same bills get the same ids in whatever order they arrive.
func (o *objects) id(prefix, reference string, nth int) string {
	head := binary.BigEndian.AppendUint64(nil, o.cfg.Seed)
	head = binary.BigEndian.AppendUint64(head, uint64(nth))
	sum := sha256.Sum256(append(head, prefix+reference...))
	return prefix + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10])) // 16 letters and digits
}

// outcome is the result of a request. The object is a *Bill, *Customer, *Account,
// *PaymentRequest or *Payment, and never changes.
type outcome struct {
	status  int
	object  any
	problem *Problem
	raw     *rawBody
}

func ok(status int, object any) *outcome { return &outcome{status: status, object: object} }

func refusal(status int, format string, args ...any) *outcome {
	p := problemFor(status)
	p.Detail = fmt.Sprintf(format, args...)
	return &outcome{status: status, problem: &p}
}

// alreadyTaken does not echo the reference, because it may be a person's identity number.
func (o *objects) alreadyTaken(noun string) *outcome {
	return refusal(o.cfg.TakenStatus, "A %s with this external_reference already exists.", noun)
}

// createCustomer creates a customer, or returns one that exists if the API reuses nested
// ones.
func (o *objects) createCustomer(r *customerRequest, nested bool) (*Customer, *outcome) {
	if held := o.customers.withReference(r.reference); len(held) > 0 {
		if nested && o.cfg.ExistingParty == Reuse {
			return held[0], nil
		}
		return nil, o.alreadyTaken("customer")
	}
	c := &Customer{
		ID:                o.id("bcus_", r.reference, 0),
		ExternalReference: r.reference, Name: r.name, Email: r.email, Phone: r.phone,
		Currency: r.currency, Balance: r.balance, PaymentRules: defaultRules, Metadata: r.metadata,
	}
	o.customers.add(c.ID, c.ExternalReference, c)
	return c, nil
}

// resolveCustomer returns the customer that a request names, and creates one that is sent
// as an object.
func (o *objects) resolveCustomer(r party[customerRequest], byReference bool, stop string) (*Customer, *outcome) {
	if r.object != nil {
		c, refused := o.createCustomer(r.object, true)
		if refused == nil && stop == StopCustomer {
			return nil, stopped
		}
		return c, refused
	}
	c := o.customers.withID(r.name)
	if c == nil && byReference {
		c = o.customers.find(r.name)
	}
	if c == nil {
		return nil, refusal(422, "There is no customer with this id.")
	}
	return c, nil
}

// createAccount creates an account, after its customer if that is sent as an object.
func (o *objects) createAccount(r *accountRequest, nested bool, stop string) (*Account, *outcome) {
	c, refused := o.resolveCustomer(r.customer, !nested, stop)
	if refused != nil {
		return nil, refused
	}
	if held := o.accounts.withReference(r.reference); len(held) > 0 {
		if nested && o.cfg.ExistingParty == Reuse {
			return held[0], nil
		}
		return nil, o.alreadyTaken("account")
	}
	acc := &Account{
		ID:                o.id("bacc_", r.reference, 0),
		ExternalReference: r.reference, CustomerID: c.ID, Name: r.name,
		Currency: r.currency, Balance: r.balance, PaymentRules: defaultRules, Metadata: r.metadata,
	}
	o.accounts.add(acc.ID, acc.ExternalReference, acc)
	return acc, nil
}

// createBill creates nested objects, one after the other, and then the bill. It is not a
// transaction: when a later step is refused, the objects of the earlier steps stay.
func (o *objects) createBill(r *billRequest, stop string, now time.Time) *outcome {
	var customerID, accountID string
	switch {
	case r.account != nil && r.account.object != nil:
		acc, refused := o.createAccount(r.account.object, true, stop)
		if refused != nil {
			return refused
		}
		if stop == StopAccount {
			return stopped
		}
		customerID, accountID = acc.CustomerID, acc.ID
	case r.account != nil:
		acc := o.accounts.withID(r.account.name)
		if acc == nil {
			return refusal(422, "There is no account with this id.")
		}
		customerID, accountID = acc.CustomerID, acc.ID
	default:
		c, refused := o.resolveCustomer(*r.customer, false, stop)
		if refused != nil {
			return refused
		}
		customerID = c.ID
	}
	held := o.bills.withReference(r.reference)
	if len(held) > 0 && !o.cfg.Weak {
		return o.alreadyTaken("bill")
	}
	b := &Bill{
		ID:                o.id("bill_", r.reference, len(held)),
		ExternalReference: r.reference, CustomerID: customerID, AccountID: accountID,
		Status: Unpaid, Currency: r.currency, AmountDue: r.amount, AmountRemaining: r.amount,
		BillDate: r.billDate, DueDate: r.dueDate, PaymentRules: defaultRules, Metadata: r.metadata,
	}
	if b.BillDate == "" {
		b.BillDate = now.UTC().Format(time.DateOnly)
	}
	o.bills.add(b.ID, b.ExternalReference, b)
	return ok(201, b)
}

// merged returns metadata with the pairs of a change.
func merged(old, change map[string]string) map[string]string {
	if len(change) == 0 {
		return old
	}
	all := maps.Clone(old)
	if all == nil {
		all = make(map[string]string)
	}
	maps.Copy(all, change)
	return all
}

// patchBill records a payment, or changes metadata.
func (o *objects) patchBill(name string, r *patchRequest) *outcome {
	b := o.bills.find(name)
	switch {
	case b == nil:
		return refusal(404, "There is no such bill.")
	case b.Status == Voided:
		return refusal(422, "A voided bill cannot be changed.")
	}
	changed := *b
	if r.paid != nil {
		changed.AmountPaid = *r.paid
		changed.AmountRemaining = max(0, b.AmountDue-*r.paid)
		changed.Status = Unpaid
		if changed.AmountRemaining == 0 {
			changed.Status = Paid
		}
	}
	changed.Metadata = merged(b.Metadata, r.metadata)
	o.bills.replace(b.ID, &changed)
	return ok(200, &changed)
}

// voidBill voids a bill for good. Its reference stays taken.
func (o *objects) voidBill(name string) *outcome {
	b := o.bills.find(name)
	switch {
	case b == nil:
		return refusal(404, "There is no such bill.")
	case b.Status == Paid:
		return refusal(422, "A paid bill cannot be voided.")
	case b.Status == Voided:
		return refusal(422, "The bill is void.")
	}
	changed := *b
	changed.Status = Voided
	changed.AmountRemaining = 0
	o.bills.replace(b.ID, &changed)
	return ok(200, &changed)
}

// get answers with the object that has an id or reference.
func (o *objects) get(kind, name string, now time.Time) *outcome {
	switch kind {
	case kindBill:
		if b := o.bills.find(name); b != nil {
			return ok(200, b)
		}
	case kindCustomer:
		if c := o.customers.find(name); c != nil {
			return ok(200, c)
		}
	case kindAccount:
		if acc := o.accounts.find(name); acc != nil {
			return ok(200, acc)
		}
	case kindPaymentRequest:
		if p := o.requests.withID(name); p != nil {
			return ok(200, p.asOf(now))
		}
	case kindPayment:
		if p := o.payments[name]; p != nil {
			return ok(200, p)
		}
	}
	return refusal(404, "There is no such %s.", strings.TrimSuffix(kind, "s"))
}
