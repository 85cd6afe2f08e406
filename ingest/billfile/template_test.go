package billfile

import (
	"strings"
	"testing"
)

func TestTemplates(t *testing.T) {
	for text, good := range map[string]bool{
		"{customer_reference}-{due_date}": true, "X{bill_date}": true, "{metadata.Period}_{ account_reference }": true, "{amount_due}": true, "{CURRENCY}1": true,
		"": false, "X": false, "{}": false, "{bill_reference}": false, "{customer_email}": false, "{customer_phone}": false, "{due_date": false,
		"{due_date}}": false, "{first_name}": false, "{due_date} {amount_due}": false, "é{due_date}": false, "{metadata.}": false, "a/{due_date}": false,
	} {
		if err := CheckTemplate(text); (err == nil) != good {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestMadeReferences(t *testing.T) {
	f := zar
	f.Amounts = Major
	f.BillReference = "R-{customer_reference}-{amount_due}-{currency}-{metadata.kind}"
	text := "customer_reference,amount_due,Metadata.Kind,account_reference\n"
	for _, tt := range []struct{ row, reference, codes string }{
		{"C1,10.5,x,", "R-C1-1050-ZAR-x", ""},
		{"C1,10.5,,", "", "Metadata.Kind:missing_field"},
		{"C1,10.5,x y,", "", "Metadata.Kind:invalid_reference"},
		{",10.5,x,A1", "", "customer_reference:missing_field"},
		{"C 1,10.5,x,", "", "customer_reference:invalid_reference"},
		{"C1,,x,", "", "amount_due:missing_field"},
		{"C1,ten,x,", "", "amount_due:invalid_amount"},
		{"C1,10.5,,,", "", ":wrong_field_count"},
	} {
		_, all := records(t, text+tt.row+"\n", f)
		if got := codes(all[0]); got != tt.codes || all[0].Bill.Reference != tt.reference {
			t.Errorf("%s: got %q, %q, want %q, %q", tt.row, all[0].Bill.Reference, got, tt.reference, tt.codes)
		}
	}
	// A file with a column of references has its own.
	_, all := records(t, "bill_reference,"+text+"INV-1,C1,10.5,,\n,C1,10.5,x,\n", f)
	if got := all[0].Bill.Reference; got != "INV-1" || len(all[0].Problems) > 0 {
		t.Errorf("got %q, %v", got, all[0].Problems)
	}
	if got := codes(all[1]); got != "bill_reference:missing_field" {
		t.Errorf("got %q", got)
	}
	if got := refusal(t, "customer_reference,amount_due\n", f); got.Code != CodeMissingColumn || !strings.Contains(got.Detail, "metadata.kind (the bill reference is made from it)") {
		t.Errorf("got %v", got)
	}
}
