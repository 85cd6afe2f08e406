package delivery

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
)

// references holds the bill references in flight, so that one row at a time works on a
// reference. It may be used concurrently.
type references struct {
	mu   sync.Mutex
	held map[string][]chan struct{} // reference → the rows that wait for it, in order
}

func newReferences() *references { return &references{held: make(map[string][]chan struct{})} }

// take takes a free reference and returns nil. For a reference that is held, it returns a
// channel that is closed once the reference is handed over.
func (r *references) take(ref string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting, held := r.held[ref]
	if !held {
		r.held[ref] = nil
		return nil
	}
	turn := make(chan struct{})
	r.held[ref] = append(waiting, turn)
	return turn
}

// give hands a reference to the next row that waits for it, or frees it.
func (r *references) give(ref string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if waiting := r.held[ref]; len(waiting) > 0 {
		close(waiting[0])
		r.held[ref] = waiting[1:]
		return
	}
	delete(r.held, ref)
}

// await waits for the turn that take returned. If it returns an error, the reference is not
// held.
func (r *references) await(ctx context.Context, ref string, turn <-chan struct{}) error {
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	waiting := r.held[ref]
	i := slices.IndexFunc(waiting, func(w chan struct{}) bool { return w == turn })
	if i >= 0 {
		r.held[ref] = append(waiting[:i:i], waiting[i+1:]...)
	}
	r.mu.Unlock()
	if i < 0 {
		r.give(ref) // it was handed over at this very moment
	}
	return context.Cause(ctx)
}

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
