package client

import (
	"bytes"
	"encoding/json"
)

// Customer is a Billing API customer: as it nests in a request (ID empty) and as it comes back.
type Customer struct {
	ID                string `json:"id,omitempty"`
	ExternalReference string `json:"external_reference"`
	Name              string `json:"name,omitempty"`
	Email             string `json:"email,omitempty"`
	Phone             string `json:"phone,omitempty"` // E.164
}

// Account is a Billing API account: as it nests in a request (ID empty) and as it comes back.
type Account struct {
	ID                string       `json:"id,omitempty"`
	ExternalReference string       `json:"external_reference"`
	Name              string       `json:"name,omitempty"`
	Customer          *CustomerRef `json:"customer,omitempty"`    // requests only
	CustomerID        string       `json:"customer_id,omitempty"` // answers only
}

// CustomerRef names a customer in a request: an existing one by its id or a new one as an object.
// Exactly one of the two is set; on the wire it is a string or an object.
type CustomerRef struct {
	ID  string
	New *Customer
}

// MarshalJSON writes the id as a string, or the new customer as an object.
func (c CustomerRef) MarshalJSON() ([]byte, error) {
	if c.New != nil {
		return encode(c.New)
	}
	return encode(c.ID)
}

// AccountRef names an account in a request: an existing one by its id or a new one as an object.
type AccountRef struct {
	ID  string
	New *Account
}

// MarshalJSON writes the id as a string, or the new account as an object.
func (a AccountRef) MarshalJSON() ([]byte, error) {
	if a.New != nil {
		return encode(a.New)
	}
	return encode(a.ID)
}

// BillRequest is the body of POST /billing/bills. Exactly one of Account and Customer is set.
// Encoding is deterministic: the same request gives the same bytes on every machine.
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

// encode is json.Marshal without HTML escaping: "R&D" stays "R&D" in what the API stores.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Bill is a bill as the API tells it.
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
}

// Problem is an RFC 9457 problem document, or what could be made of an error body that is none:
// then Title is the HTTP status text and Detail is empty, for an unstructured body may hold anything.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}
