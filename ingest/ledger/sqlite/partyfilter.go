package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"

	"billdrop/ingest/ledger"
)

const (
	// filterBits is how many bits a digest takes, and filterProbes how many of them it sets: one in a hundred that is not
	// in the index is looked for in vain.
	filterBits   = 10
	filterProbes = 7
	// firstFilter is how many digests the first filter takes; each further one takes twice as many as the one before.
	firstFilter = 64 << 10
	// maxFilters bounds them to some 5 MiB. With more parties than that, four millions, those beyond are looked for in the index.
	maxFilters = 6
)

// partyFilter tells which digests are not in the index of the parties, without looking: a row of Bloom filters, all full but
// the last. Parties that are new are the rule where a biller begins, and looking for what is not there costs as much as finding
// what is. What is in the filter is kept with the index, in the same commits.
//
// The writer fills it; anybody asks it, under the lock of partyLag. A nil filter knows nothing.
type partyFilter struct {
	levels []bloom
	beyond bool // there are more digests than the filters take
}

// bloom is one Bloom filter. Digests are hashes already, so their bits are what others hash for.
type bloom struct {
	bits   []uint64
	held   int // digests
	unkept bool
}

// mayHold reports whether a digest may be in the index.
func (f *partyFilter) mayHold(d ledger.Digest) bool {
	if f == nil || f.beyond {
		return true
	}
	for i := range f.levels {
		if f.levels[i].mayHold(d) {
			return true
		}
	}
	return false
}

// add takes a digest that enters the index.
func (f *partyFilter) add(d ledger.Digest) {
	last := len(f.levels) - 1
	if last < 0 || f.levels[last].held >= capacityOf(last) {
		if last++; last == maxFilters {
			f.beyond = true
			return
		}
		f.levels = append(f.levels, bloom{bits: make([]uint64, capacityOf(last)*filterBits/64)})
	}
	f.levels[last].add(d)
}

// capacityOf is how many digests the i-th filter takes.
func capacityOf(i int) int { return firstFilter << i }

func (b *bloom) mayHold(d ledger.Digest) bool {
	h, step := halves(d)
	for range filterProbes {
		if bit := h % uint64(64*len(b.bits)); b.bits[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
		h += step
	}
	return true
}

func (b *bloom) add(d ledger.Digest) {
	h, step := halves(d)
	for range filterProbes {
		bit := h % uint64(64*len(b.bits))
		b.bits[bit/64] |= 1 << (bit % 64)
		h += step
	}
	b.held++
	b.unkept = true
}

func halves(d ledger.Digest) (h, step uint64) {
	return uint64(hashOf(d)), binary.LittleEndian.Uint64(d[8:]) | 1
}

// load reads the filter that belongs to the index. It fails when one is missing: then the index would hold what it denies.
func (f *partyFilter) load(ctx context.Context, q querier) error {
	err := eachRow(ctx, q, "SELECT level, held, bits FROM party_filters ORDER BY level", nil, func(rows *sql.Rows) error {
		var level int
		var b bloom
		var bits sql.RawBytes
		if err := rows.Scan(&level, &b.held, &bits); err != nil {
			return err
		}
		if level != len(f.levels) || level >= maxFilters || len(bits) != capacityOf(level)*filterBits/8 || b.held > capacityOf(level) {
			return fmt.Errorf("party filter %d: %w", level, errRecord)
		}
		b.bits = make([]uint64, len(bits)/8)
		for i := range b.bits {
			b.bits[i] = binary.LittleEndian.Uint64(bits[8*i:])
		}
		f.levels = append(f.levels, b)
		return nil
	})
	if err != nil {
		return err
	}
	var indexed, held int
	for i := range f.levels {
		held += f.levels[i].held
	}
	err = eachRow(ctx, q, "SELECT filtered FROM party_indexed", nil, func(rows *sql.Rows) error { return rows.Scan(&indexed) })
	if err == nil && indexed < held {
		return fmt.Errorf("party filters: %w", errRecord)
	}
	f.beyond = indexed > held
	return err
}
