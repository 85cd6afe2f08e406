package billfile

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// ContentDigest identifies what a row says. It is the SHA-256 of every field of b, each
// after its length, with metadata in the order of its keys, so that the order of columns
// does not matter. Idempotency keys rest on it: it must never change for the same
// content. It is safe for concurrent use, and b is not changed.
func ContentDigest(b *Bill) [32]byte {
	var space [768]byte
	text := append(space[:0], "billdrop bill 1\n"...)
	field := func(s string) {
		text = binary.BigEndian.AppendUint32(text, uint32(len(s)))
		text = append(text, s...)
	}
	field(b.Reference)
	field(b.Currency)
	text = binary.BigEndian.AppendUint64(text, uint64(b.Amount))
	for _, s := range [...]string{
		b.BillDate, b.DueDate,
		b.AccountReference, b.AccountID, b.CustomerReference, b.CustomerID,
		b.AccountName, b.CustomerName, b.CustomerEmail, b.CustomerPhone,
	} {
		field(s)
	}
	pairs := b.Metadata
	byKey := func(x, y Pair) int { return cmp.Compare(x.Key, y.Key) }
	if !slices.IsSortedFunc(pairs, byKey) {
		pairs = slices.Clone(pairs)
		slices.SortStableFunc(pairs, byKey)
	}
	text = binary.BigEndian.AppendUint32(text, uint32(len(pairs)))
	for _, p := range pairs {
		field(p.Key)
		field(p.Value)
	}
	return sha256.Sum256(text)
}
