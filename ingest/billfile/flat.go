package billfile

// flat is a hash table from hashes to small numbers that costs 12 bytes a slot and no garbage. Keys are hashes
// already, and never 0. Its zero value is empty and ready. Not for concurrent use; concurrent gets are fine.
type flat struct {
	keys   []uint64
	values []uint32
	n      int
}

func (t *flat) get(key uint64) (uint32, bool) {
	if t.n == 0 {
		return 0, false
	}
	mask := uint64(len(t.keys) - 1)
	for i := key & mask; ; i = (i + 1) & mask {
		switch t.keys[i] {
		case key:
			return t.values[i], true
		case 0:
			return 0, false
		}
	}
}

// put adds a key that is not there, or keeps the one that is; it returns the value that stands.
func (t *flat) put(key uint64, value uint32) (uint32, bool) {
	if 4*(t.n+1) > 3*len(t.keys) {
		t.grow()
	}
	mask := uint64(len(t.keys) - 1)
	for i := key & mask; ; i = (i + 1) & mask {
		switch t.keys[i] {
		case key:
			return t.values[i], false
		case 0:
			t.keys[i], t.values[i] = key, value
			t.n++
			return value, true
		}
	}
}

func (t *flat) grow() {
	old := *t
	size := max(16, 2*len(old.keys))
	*t = flat{keys: make([]uint64, size), values: make([]uint32, size)}
	for i, key := range old.keys {
		if key != 0 {
			t.put(key, old.values[i])
		}
	}
}

// reset empties the table and keeps its space.
func (t *flat) reset() {
	clear(t.keys)
	t.n = 0
}

// parted is an append-only list of entries in 256 parts by the first byte of their key, so that each part can be searched
// for what comes twice in a table of its own that fits the processor's cache.
type parted[E any] struct {
	parts [256][][]E
}

// add appends to a part in chunks of 8, 16, … 512 entries, so that small files cost little and large ones no copying.
func (p *parted[E]) add(key uint64, e E) {
	part := &p.parts[key>>56]
	n := len(*part)
	if n == 0 || len((*part)[n-1]) == cap((*part)[n-1]) {
		*part = append(*part, make([]E, 0, 8<<min(n, 6)))
		n++
	}
	(*part)[n-1] = append((*part)[n-1], e)
}
