package billfile

import (
	"slices"
	"testing"
)

func TestMappedNames(t *testing.T) {
	f := zar
	f.Columns = map[string]string{"Region": "metadata.Region", "Invoice No": "bill_reference"}
	_, all := records(t, "invoice no,amount_due,customer_reference,REGION,metadata.Kind\nA B,1,C1,North,x\n", f)
	if got := all[0].Bill.Metadata; !slices.Equal(got, []Pair{{"Region", "North"}, {"Kind", "x"}}) {
		t.Errorf("got metadata %v", got)
	}
	if got := codes(all[0]); got != "invoice no:invalid_reference" {
		t.Errorf("got %q", got)
	}
}
