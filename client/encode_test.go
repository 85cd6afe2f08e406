package client

import "testing"

// TestEncodeBill pins the bytes: bodies are built again after a restart, perhaps by another version, and have to be the
// ones that were sent first.
func TestEncodeBill(t *testing.T) {
	customer := Customer{ExternalReference: "C-1", Name: `R&D <Süd> "x"`, Email: "a@b.example", Phone: "+27821234567"}
	for _, tc := range []struct {
		name string
		in   BillRequest
		want string
	}{
		{"account id", BillRequest{ExternalReference: "B-1", Currency: "ZAR", AmountDue: 2000, Account: &AccountRef{ID: "bacc_1"}},
			`{"external_reference":"B-1","currency":"ZAR","amount_due":2000,"account":"bacc_1"}`},
		{"customer id, dates, metadata", BillRequest{ExternalReference: "B-1", Currency: "ZAR", AmountDue: 99999999, BillDate: "2026-11-01",
			DueDate: "2026-11-30", Customer: &CustomerRef{ID: "bcus_1"}, Metadata: map[string]string{"z": "1", "a": "<2>", "m": "\u2028"}},
			`{"external_reference":"B-1","currency":"ZAR","amount_due":99999999,"bill_date":"2026-11-01","due_date":"2026-11-30",` +
				`"customer":"bcus_1","metadata":{"a":"<2>","m":"\u2028","z":"1"}}`},
		{"new customer", BillRequest{ExternalReference: "B-1", Currency: "ZAR", AmountDue: 1, Customer: &CustomerRef{New: &customer}},
			`{"external_reference":"B-1","currency":"ZAR","amount_due":1,"customer":{"external_reference":"C-1","name":"R&D <Süd> \"x\"",` +
				`"email":"a@b.example","phone":"+27821234567"}}`},
		{"new account of a known customer", BillRequest{ExternalReference: "B-1", Currency: "ZAR", AmountDue: 1,
			Account: &AccountRef{New: &Account{ExternalReference: "A-1", Name: "A&B", Customer: &CustomerRef{ID: "bcus_1"}}}},
			`{"external_reference":"B-1","currency":"ZAR","amount_due":1,"account":{"external_reference":"A-1","name":"A&B","customer":"bcus_1"}}`},
		{"new account and customer", BillRequest{ExternalReference: "B-1", Currency: "ZAR", AmountDue: 1,
			Account: &AccountRef{New: &Account{ExternalReference: "A-1", Customer: &CustomerRef{New: &Customer{ExternalReference: "C&1"}}}}},
			`{"external_reference":"B-1","currency":"ZAR","amount_due":1,"account":{"external_reference":"A-1","customer":{"external_reference":"C&1"}}}`},
	} {
		for range 3 { // maps are walked in another order each time
			if got := string(EncodeBill(tc.in)); got != tc.want {
				t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
			}
		}
	}
}
