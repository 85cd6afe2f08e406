package client

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// TestEncodeBill pins the bytes: bodies are built again after a restart, perhaps by
// another version, and have to be the ones that were sent first.
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

// plainBill and plainAccount are a bill request in the form in which encoding/json writes
// what EncodeBill writes.
type (
	plainBill struct {
		ExternalReference string            `json:"external_reference"`
		Currency          string            `json:"currency"`
		AmountDue         int64             `json:"amount_due"`
		BillDate          string            `json:"bill_date,omitempty"`
		DueDate           string            `json:"due_date,omitempty"`
		Account           any               `json:"account,omitempty"`
		Customer          any               `json:"customer,omitempty"`
		Metadata          map[string]string `json:"metadata,omitempty"`
	}
	plainAccount struct {
		ExternalReference string `json:"external_reference"`
		Name              string `json:"name,omitempty"`
		Customer          any    `json:"customer,omitempty"`
	}
)

func plain(r BillRequest) *plainBill {
	p := &plainBill{r.ExternalReference, r.Currency, r.AmountDue, r.BillDate, r.DueDate, nil, plainCustomer(r.Customer), r.Metadata}
	switch a := r.Account; {
	case a == nil:
	case a.New == nil:
		p.Account = a.ID
	default:
		p.Account = &plainAccount{a.New.ExternalReference, a.New.Name, plainCustomer(a.New.Customer)}
	}
	return p
}

func plainCustomer(c *CustomerRef) any {
	switch {
	case c == nil:
		return nil
	case c.New == nil:
		return c.ID
	}
	return c.New
}

// texts are strings of everything that JSON treats in a way of its own.
func texts() *rapid.Generator[string] {
	odd := rapid.SampledFrom([]string{"", "a", "R&D <x>", `"`, `\`, "/", "\x00", "\x1f", "\n\r\t\b\f", "\x7f", "\u0085", "é", "\u2028", "\u2029", "\u2027", "\uFFFD",
		"\xff", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "😀", "\ufeff"})
	return rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]*`), rapid.Custom(func(t *rapid.T) string {
		return odd.Draw(t, "odd") + odd.Draw(t, "odd") + odd.Draw(t, "odd")
	}))
}

func drawCustomer(t *rapid.T) *CustomerRef {
	s := texts()
	return rapid.SampledFrom([]*CustomerRef{nil, {ID: s.Draw(t, "id")}, {New: &Customer{
		ID: s.Draw(t, "new id"), ExternalReference: s.Draw(t, "reference"), Name: s.Draw(t, "name"), Email: s.Draw(t, "email"), Phone: s.Draw(t, "phone"),
	}}}).Draw(t, "customer")
}

// TestEncodeBillIsJSON holds the bytes to those of encoding/json, whatever is in the
// strings.
func TestEncodeBillIsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := texts()
		r := BillRequest{
			ExternalReference: s.Draw(t, "reference"), Currency: s.Draw(t, "currency"), AmountDue: rapid.Int64().Draw(t, "amount"),
			BillDate: s.Draw(t, "bill date"), DueDate: s.Draw(t, "due date"), Customer: drawCustomer(t),
			Metadata: rapid.MapOfN(s, s, 0, 25).Draw(t, "metadata"),
			Account: rapid.SampledFrom([]*AccountRef{nil, {ID: s.Draw(t, "account")}, {New: &Account{
				ID: s.Draw(t, "account id"), ExternalReference: s.Draw(t, "account reference"), Name: s.Draw(t, "account name"),
				Customer: drawCustomer(t), CustomerID: s.Draw(t, "customer id"),
			}}}).Draw(t, "account"),
		}
		want, err := encode(plain(r))
		if err != nil {
			t.Fatal(err)
		}
		if got := EncodeBill(r); string(got) != string(want) || !json.Valid(got) {
			t.Fatalf("\n got %q\nwant %q", got, want)
		}
	})
}

// benchBill is a row with a new account of a new customer.
func benchBill() BillRequest {
	return BillRequest{ExternalReference: "INV-0001234", Currency: "ZAR", AmountDue: 123456, DueDate: "2026-12-31",
		Account: &AccountRef{New: &Account{ExternalReference: "ACC-0001234", Name: "Account 1234",
			Customer: &CustomerRef{New: &Customer{ExternalReference: "CUS-0001234", Name: "Naledi Dube", Email: "n@example.com", Phone: "+27821234567"}}}}}
}

// TestEncodeBillAllocates: the bytes that it gives back, and nothing else.
func TestEncodeBillAllocates(t *testing.T) {
	r := benchBill()
	r.Metadata = map[string]string{"b": "2", "a": "é"}
	if n := testing.AllocsPerRun(100, func() { _ = EncodeBill(r) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEncodeBill(b *testing.B) {
	r := benchBill()
	b.ReportAllocs()
	for b.Loop() {
		_ = EncodeBill(r)
	}
}

// BenchmarkEncodeBillJSON is the same through encoding/json.
func BenchmarkEncodeBillJSON(b *testing.B) {
	r := benchBill()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = encode(plain(r))
	}
}
