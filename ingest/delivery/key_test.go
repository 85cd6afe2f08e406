package delivery

import (
	"testing"

	"billdrop/ingest/ledger"
)

func TestIdempotencyKey(t *testing.T) {
	s := ledger.Scope{Merchant: "acme", Mode: "test"}
	key := idempotencyKey(s, "INV-1", [32]byte{1}, 1)
	// Pinned: a key that changes between versions would raise a bill twice.
	if want := "69005aea-6039-8c91-a759-be0bca9b87d4"; key != want {
		t.Errorf("key = %s, want %s", key, want)
	}
	if key[14] != '8' {
		t.Errorf("key %s is not a version 8 UUID", key)
	}
	for name, other := range map[string]string{
		"mode":       idempotencyKey(ledger.Scope{Merchant: "acme", Mode: "live"}, "INV-1", [32]byte{1}, 1),
		"merchant":   idempotencyKey(ledger.Scope{Merchant: "acm", Mode: "test"}, "INV-1", [32]byte{1}, 1),
		"reference":  idempotencyKey(s, "INV-2", [32]byte{1}, 1),
		"content":    idempotencyKey(s, "INV-1", [32]byte{2}, 1),
		"generation": idempotencyKey(s, "INV-1", [32]byte{1}, 2),
	} {
		if other == key {
			t.Errorf("another %s gives the same key", name)
		}
	}
}
