package preview_test

import (
	"testing"

	"billdrop/ingest/preview"
)

// TestNewParties: a plan warns of a new customer or account that is like a known one.
func TestNewParties(t *testing.T) {
	const head = "bill_reference,amount_due,account_reference,customer_reference\n"
	for _, tt := range []struct {
		row   string
		warns bool
	}{
		{"N-1,100,,7012", true}, {"N-1,100,,07012", true}, {"N-1,100,,00007012", true}, {"N-1,100,,ERF-1", true}, {"N-1,100,,erf-1", true}, {"N-1,100,00088,007012", true}, {"N-1,100,A-7,007012", true},
		{"N-1,100,,007012", false}, {"N-1,100,,7013", false}, {"N-1,100,,70120", false}, {"N-1,100,a-8,007012", false}, {"N-1,100,,ERF_1", false},
	} {
		d := newDesk(t)
		d.carryOutText(t, head+"K-1,100,88,007012\nK-2,100,a-7,007012\nK-3,100,,ERF-1\n")
		if tt.row == "N-1,100,,ERF-1" {
			d = newDesk(t)
			d.carryOutText(t, head+"K-3,100,,erf-1\n")
		}
		p := d.mustPlan(t, head+tt.row+"\n")
		warns := len(p.Warnings) == 1 && p.Warnings[0].Code == preview.WarnNewParties && p.Warnings[0].Count == 1 && p.Warnings[0].Line == 2
		if warns != tt.warns || !warns && len(p.Warnings) > 0 {
			t.Errorf("%s: warnings %+v", tt.row, p.Warnings)
		}
	}
}
