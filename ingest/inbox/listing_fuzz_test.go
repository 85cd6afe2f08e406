package inbox

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// TestListingCounts: what the server sends is counted the same in pieces of any length, with
// packets of any kind between.
func TestListingCounts(t *testing.T) {
	packet := func(kind byte, body ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(1+len(body))), append([]byte{kind}, body...)...)
	}
	var stream []byte
	for _, p := range [][]byte{
		packet(2, 0, 0, 0, 3), packet(fxpName, 0, 0, 0, 1, 0, 0, 0, 100, fxpName, 0, 0, 0, 0, 0, 0, 9, 9, 9),
		packet(101), packet(101, make([]byte, 300)...), packet(fxpName, 0, 0, 0, 2, 0, 0, 0, 0),
		packet(fxpName, 0, 0), packet(103, fxpName, 0, 0, 0, 7, 0, 0, 0, 7), packet(fxpName, 0, 0, 0, 3, 0, 0, 0, 2, 1),
	} {
		stream = append(stream, p...)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for most := 1; most <= len(stream); most++ {
		var l listing
		for rest := stream; len(rest) > 0; {
			n := min(1+random.IntN(most), len(rest))
			l.received(rest[:n])
			rest = rest[n:]
		}
		if l.entries != 100+1+2 || len(l.head) != 0 || l.rest != 0 {
			t.Fatalf("in pieces of up to %d: %d entries, %d and %d bytes left, want 103, 0 and 0", most, l.entries, len(l.head), l.rest)
		}
	}
}

// FuzzReceived: whatever a server sends, counting it neither fails nor keeps any of it, and what
// the library would read entries of is counted.
func FuzzReceived(f *testing.F) {
	f.Add([]byte{0, 0, 0, 9, fxpName, 0, 0, 0, 1, 255, 255, 255, 255}, 1)
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 9, fxpName, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, fxpName}, 3)
	f.Add([]byte{255, 255, 255, 255, fxpName, 0, 0, 0, 1, 0, 0, 0, 7}, 5)
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		whole, pieces := new(listing), new(listing)
		whole.received(stream)
		piece = 1 + int(uint(piece)%64)
		for rest := stream; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			pieces.received(rest[:min(piece, len(rest))])
		}
		if whole.entries != pieces.entries || whole.bytes != pieces.bytes || whole.rest != pieces.rest || len(whole.head) != len(pieces.head) {
			t.Errorf("as one: %+v, in pieces of %d: %+v", whole, piece, pieces)
		}
		if whole.entries < 0 || whole.bytes < 0 || whole.rest < 0 || len(whole.head) > 13 {
			t.Errorf("%+v", whole)
		}
		names := 0
		for rest := stream; len(rest) >= 13; {
			n := int(binary.BigEndian.Uint32(rest))
			if n >= 9 && rest[4] == fxpName {
				names++
			}
			rest = rest[min(4+n, len(rest)):]
		}
		if whole.entries < names {
			t.Errorf("%d entries in %d parts of listings", whole.entries, names)
		}
	})
}
