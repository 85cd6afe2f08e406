package delivery

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"

	"billdrop/client"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// body encodes the create-bill request of a row in one form. Equal arguments give equal bytes
// in every release, because a body is built again after a crash and sent under its first key.
func body(b *billfile.Bill, form ledger.Form, customerID, accountID string) []byte {
	req := client.BillRequest{
		ExternalReference: b.Reference,
		Currency:          b.Currency,
		AmountDue:         b.Amount,
		BillDate:          b.BillDate,
		DueDate:           b.DueDate,
	}
	if len(b.Metadata) > 0 {
		req.Metadata = make(map[string]string, len(b.Metadata))
		for _, p := range b.Metadata {
			req.Metadata[p.Key] = p.Value
		}
	}
	customer := func() *client.CustomerRef {
		return &client.CustomerRef{New: &client.Customer{
			ExternalReference: b.CustomerReference,
			Name:              b.CustomerName,
			Email:             b.CustomerEmail,
			Phone:             b.CustomerPhone,
		}}
	}
	account := func(owner *client.CustomerRef) *client.AccountRef {
		return &client.AccountRef{New: &client.Account{
			ExternalReference: b.AccountReference, Name: b.AccountName, Customer: owner,
		}}
	}
	switch form {
	case ledger.FormAccount:
		req.Account = &client.AccountRef{ID: accountID}
	case ledger.FormCustomer:
		req.Customer = &client.CustomerRef{ID: customerID}
	case ledger.FormNewAccount:
		req.Account = account(&client.CustomerRef{ID: customerID})
	case ledger.FormNewCustomer:
		req.Customer = customer()
	case ledger.FormNewAccountCustomer:
		req.Account = account(customer())
	}
	return client.EncodeBill(req)
}

// idempotencyKey derives the key of one generation of a row: a UUID (version 8) from SHA-256
// over mode, merchant, reference, content digest and generation. Every machine derives the same
// key, also after a restart. Each part is preceded by its length, so no two rows share an input.
func idempotencyKey(s ledger.Scope, reference string, content [32]byte, generation int) string {
	return keyOf([]byte("billdrop key 1"), []byte(s.Mode), []byte(s.Merchant), []byte(reference), content[:],
		binary.BigEndian.AppendUint64(nil, uint64(generation)))
}

// linkKey derives the only key of the payment request of a bill, as idempotencyKey derives that
// of a generation.
func linkKey(s ledger.Scope, reference, billID string) string {
	return keyOf([]byte("billdrop link 1"), []byte(s.Mode), []byte(s.Merchant), []byte(reference), []byte(billID))
}

func keyOf(parts ...[]byte) string {
	h := sha256.New()
	for _, b := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	id := uuid.UUID(h.Sum(nil)[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8: RFC 9562, section 5.8
	id[8] = id[8]&0x3f | 0x80 // variant
	return id.String()
}
