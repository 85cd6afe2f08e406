package delivery

import (
	"hash/maphash"
	"sync"
)

// billIDSlots is how many bill ids are remembered: enough for all rows under way, many times over,
// in 2 MiB.
const billIDSlots = 1 << 17

// billIDs remembers which reference the latest bill ids belong to: an API that answers two
// references with one id cannot be believed. A newer id may take the place of an older one. It may
// be used concurrently.
type billIDs struct {
	mu    sync.Mutex
	seed  maphash.Seed
	slots [][2]uint64 // hashes of an id and of its reference; nil until used
}

// isOther reports whether the id was seen with another reference, and remembers it.
func (b *billIDs) isOther(id, reference string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.slots == nil {
		b.seed, b.slots = maphash.MakeSeed(), make([][2]uint64, billIDSlots)
	}
	pair := [2]uint64{maphash.String(b.seed, id), maphash.String(b.seed, reference)}
	slot := &b.slots[pair[0]%billIDSlots]
	if slot[0] == pair[0] && *slot != pair {
		return true
	}
	*slot = pair
	return false
}
