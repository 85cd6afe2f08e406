package client

import (
	"bytes"
	"encoding/json"
)

// Customer is a customer of the API: as a request nests it (ID empty), and as it comes
// back.
type Customer struct {
	ID                string `json:"id,omitempty"`
	ExternalReference string `json:"external_reference"`
	Name              string `json:"name,omitempty"`
	Email             string `json:"email,omitempty"`
	Phone             string `json:"phone,omitempty"` // E.164
}

// Account is an account of the API: as a request nests it (ID empty), and as it comes
// back.
type Account struct {
	ID                string       `json:"id,omitempty"`
	ExternalReference string       `json:"external_reference"`
	Name              string       `json:"name,omitempty"`
	Customer          *CustomerRef `json:"customer,omitempty"`    // requests only
	CustomerID        string       `json:"customer_id,omitempty"` // answers only
}

// Ref names an object in a request: an existing one by its id, or a new one as an object.
// Exactly one of the two is set.
type Ref[T any] struct {
	ID  string
	New *T
}

// CustomerRef names a customer, AccountRef an account.
type (
	CustomerRef = Ref[Customer]
	AccountRef  = Ref[Account]
)

// MarshalJSON writes the id as a string, or the new object as an object.
func (r Ref[T]) MarshalJSON() ([]byte, error) {
	if r.New != nil {
		return encode(r.New)
	}
	return encode(r.ID)
}

// BillRequest is the body of POST /billing/bills; see EncodeBill. Exactly one of Account
// and Customer is set.
type BillRequest struct {
	ExternalReference string            `json:"external_reference"`
	Currency          string            `json:"currency"`
	AmountDue         int64             `json:"amount_due"` // minor units, 1…99 999 999
	BillDate          string            `json:"bill_date,omitempty"`
	DueDate           string            `json:"due_date,omitempty"`
	Account           *AccountRef       `json:"account,omitempty"`
	Customer          *CustomerRef      `json:"customer,omitempty"`
	Metadata          map[string]string `json:"metadata,omitempty"`
}

// encode is json.Marshal without HTML escaping, so that the API stores "R&D" as "R&D".
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Bill is a bill as it comes back.
type Bill struct {
	ID                string `json:"id"`
	ExternalReference string `json:"external_reference"`
	CustomerID        string `json:"customer_id"`
	AccountID         string `json:"account_id,omitempty"` // empty: raised directly against the customer
	Status            string `json:"status"`               // unpaid, paid or voided
	Currency          string `json:"currency"`
	AmountDue         int64  `json:"amount_due"` // minor units
	BillDate          string `json:"bill_date,omitempty"`
	DueDate           string `json:"due_date,omitempty"`
	AmountPaid        *int64 `json:"amount_paid,omitempty"`      // minor units; nil = not told
	AmountRemaining   *int64 `json:"amount_remaining,omitempty"` // likewise
}

// Problem is a problem document (RFC 9457). Of an error body that is not one, Title is
// the HTTP status text and Detail is empty, because an unstructured body may contain
// anything.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}
