package billfile

import (
	"encoding/hex"
	"testing"
)

// Idempotency keys rest on these values: they never change.
func TestContentDigestGolden(t *testing.T) {
	full := Bill{
		Reference: "INV-1", Currency: "ZAR", Amount: 2000, BillDate: "2026-10-01", DueDate: "2026-10-31",
		AccountReference: "A1", AccountID: "bacc_1", CustomerReference: "C1", CustomerID: "bcus_1",
		AccountName: "Main", CustomerName: "Zoë", CustomerEmail: "zoe@example.com", CustomerPhone: "+27821234567",
		Metadata: []Pair{{"branch", "Cape Town"}, {"period", "2026-10"}},
	}
	swapped := full
	swapped.Metadata = []Pair{{"period", "2026-10"}, {"branch", "Cape Town"}}
	for _, tt := range []struct {
		name string
		bill Bill
		want string
	}{
		{"empty", Bill{}, "84ccba7ec4ce32eb6e7e631e3e7cd93e3979998d230e386c1ad6785ef53e9fef"},
		{"small", Bill{Reference: "A", Currency: "ZAR", Amount: 1, CustomerReference: "C"}, "e5a9f6cfb953c2d2c292a6bc732e2db6db15f3d7c5470aad030b83b52b125c01"},
		{"full", full, "7c71546107294e88bc0bb460eb16c997c669cf84bd34905918c3a8900b0fad7e"},
		{"full, columns in another order", swapped, "7c71546107294e88bc0bb460eb16c997c669cf84bd34905918c3a8900b0fad7e"},
	} {
		if got := ContentDigest(&tt.bill); hex.EncodeToString(got[:]) != tt.want {
			t.Errorf("%s: got %x, want %s", tt.name, got, tt.want)
		}
	}
	if swapped.Metadata[0].Key != "period" {
		t.Error("the bill was changed")
	}
}

// Every field counts, and no field's end can pass for another's beginning.
func TestContentDigestTellsApart(t *testing.T) {
	seen := map[[32]byte]int{}
	for i, b := range []Bill{
		{}, {Reference: "A"}, {Currency: "A"}, {Amount: 1}, {BillDate: "A"}, {DueDate: "A"}, {AccountReference: "A"}, {AccountID: "A"},
		{CustomerReference: "A"}, {CustomerID: "A"}, {AccountName: "A"}, {CustomerName: "A"}, {CustomerEmail: "A"}, {CustomerPhone: "A"},
		{Metadata: []Pair{{"A", ""}}}, {Metadata: []Pair{{"", "A"}}}, {Metadata: []Pair{{"A", "B"}}}, {Metadata: []Pair{{"AB", ""}}},
		{AccountName: "AB"}, {AccountName: "A", CustomerName: "B"}, {Metadata: []Pair{{"A", "B"}, {"C", "D"}}}, {Metadata: []Pair{{"A", "D"}, {"C", "B"}}},
	} {
		d := ContentDigest(&b)
		if j, ok := seen[d]; ok {
			t.Errorf("bills %d and %d have one digest", j, i)
		}
		seen[d] = i
	}
}
