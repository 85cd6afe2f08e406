package delivery

import (
	"fmt"
	"testing"
)

func TestBillIDs(t *testing.T) {
	var b billIDs
	for i := range 1000 {
		id, ref := fmt.Sprint("bill_", i), fmt.Sprint("INV-", i)
		if b.isOther(id, ref) {
			t.Fatalf("%s is new", id)
		}
		if b.isOther(id, ref) {
			t.Fatalf("%s twice for %s", id, ref)
		}
		if !b.isOther(id, "INV-X") {
			t.Fatalf("%s for two references", id)
		}
	}
}
