package delivery

import (
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
