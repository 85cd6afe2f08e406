package billfile

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"golang.org/x/sync/errgroup"
)

// sightings is what the first pass keeps of all rows: 5 bytes a bill reference, 8 more where
// that has small letters, 8 a party with details. It finds out what comes twice. Hashes are
// parted by their first bits, which so need not be kept. Of a million rows with as many
// customers and accounts, two look alike by chance in one file of 300; such a file is read
// again, to the same end.
type sightings struct {
	references parts[[5]byte]
	customers  parts[partySighting]
	accounts   parts[partySighting]
	folded     parts[foldedSighting] // references with small letters
}

// parts is a list of entries, divided by the first partBits of their hash. Entries lie in
// chunks, so that nothing is copied when the list grows. nil is empty.
type parts[E any] [][][]E

const (
	partBits     = 10
	detailBits   = 26 // of a party's sighting, which the details of the row have
	sightedRef   = partBits + 40
	sightedParty = partBits + 64 - detailBits
)

// partySighting is the rest of a party's hash and, in the last detailBits, a hash of what
// the row says of the party.
type partySighting uint64

const detailMask = 1<<detailBits - 1

func (p *parts[E]) add(hash uint64, e E) {
	if *p == nil {
		*p = make(parts[E], 1<<partBits)
	}
	part := &(*p)[hash>>(64-partBits)]
	last := len(*part) - 1
	if last < 0 || len((*part)[last]) == cap((*part)[last]) {
		last++
		*part = append(*part, make([]E, 0, 8<<min(last, 5))) // 8, 16, … 256: small files cost little
	}
	(*part)[last] = append((*part)[last], e)
}

func (s *sightings) add(id *identity) {
	if id.reference != 0 {
		var left [8]byte
		binary.BigEndian.PutUint64(left[:], id.reference<<partBits)
		s.references.add(id.reference, [5]byte(left[:]))
	}
	if id.folded != 0 {
		s.folded.add(id.folded, foldedSighting(id.folded<<partBits&^detailMask|id.reference&detailMask))
	}
	// A row that says nothing of a party contradicts nothing.
	if says := id.ofCustomer.sum(); says != 0 {
		s.customers.add(id.customer, partySighting(id.customer<<partBits&^detailMask|says))
	}
	if says := id.ofAccount.sum(); says != 0 {
		s.accounts.add(id.account, partySighting(id.account<<partBits&^detailMask|says))
	}
}

// sum returns one hash of all three details, or 0 if all are blank.
func (d details) sum() uint64 {
	if d == (details{}) {
		return 0
	}
	x := uint64(d[0])
	for _, v := range d[1:] {
		x = (x ^ uint64(v)) * 0x9e3779b97f4a7c15
		x ^= x >> 29
	}
	return max(x>>(64-detailBits), 1)
}

// suspects finds the references that come twice, and the parties of which rows say
// different things. It empties s.
func (s *sightings) suspects() *groups {
	f := &groups{}
	var group errgroup.Group
	group.Go(func() error {
		f.references, f.similar.suspects = repeatedReferences(s.references, s.folded)
		return nil
	})
	group.Go(func() error {
		f.customers = contradictedParties(s.customers)
		f.accounts = contradictedParties(s.accounts)
		return nil
	})
	_ = group.Wait() // neither fails
	*s = sightings{}
	f.repeated = make([]repeated, f.references.n)
	f.disputed = make([]disputed, f.parties())
	f.similar.groups = make([]similarGroup, f.similar.suspects.n)
	return f
}

// repeatedReferences finds the references that come twice, and those that may differ in the case
// of letters alone.
func repeatedReferences(p parts[[5]byte], folded parts[foldedSighting]) (found, similar suspects) {
	found, similar = suspects{bits: sightedRef}, suspects{bits: sightedParty}
	var hashes []uint64
	for i, part := range p {
		hashes = hashes[:0]
		for _, chunk := range part {
			for _, e := range chunk {
				hashes = append(hashes, uint64(e[0])<<32|uint64(binary.BigEndian.Uint32(e[1:])))
			}
		}
		slices.Sort(hashes)
		for j := 1; j < len(hashes); j++ {
			if hashes[j] == hashes[j-1] {
				found.add(i, hashes[j])
			}
		}
		p[i] = nil
		if folded != nil {
			similar.addFolded(i, slices.Concat(folded[i]...), hashes)
			folded[i] = nil
		}
	}
	return found, similar
}

func contradictedParties(p parts[partySighting]) suspects {
	found := suspects{bits: sightedParty}
	var all []partySighting
	for i, part := range p {
		all = all[:0]
		for _, chunk := range part {
			all = append(all, chunk...)
		}
		slices.Sort(all)
		for j := 1; j < len(all); j++ {
			if a, b := all[j-1], all[j]; a != b && a>>detailBits == b>>detailBits {
				found.add(i, uint64(b>>detailBits))
			}
		}
		p[i] = nil
	}
	return found
}

// suspects is a list of hashes, of each the first bits. They are sorted, and lie in parts as
// the sightings do, so that each part takes the room of sightings that are gone.
type suspects struct {
	bits   int
	n      int
	hashes [][]uint64 // by part
	starts []int      // the number of the first hash of each part
}

// add appends a hash, given by its part and the rest of its bits, unless it is the last
// one already.
func (s *suspects) add(part int, left uint64) {
	if s.hashes == nil {
		s.hashes, s.starts = make([][]uint64, 1<<partBits), make([]int, 1<<partBits)
	}
	in := &s.hashes[part]
	switch n := len(*in); {
	case n == 0:
		s.starts[part] = s.n
	case (*in)[n-1] == left:
		return
	}
	*in = append(*in, left)
	s.n++
}

// find returns a hash's place among the suspects, with the bits that the sightings do not
// have.
func (s *suspects) find(hash uint64) member {
	if s.n == 0 || hash == 0 {
		return member{group: none}
	}
	part := hash >> (64 - partBits)
	in, left := s.hashes[part], hash<<partBits>>(64-s.bits+partBits)
	if len(in) == 0 {
		return member{group: none}
	}
	// Hashes are spread evenly, so one stands near its share of the way through.
	at, _ := bits.Mul64(hash<<partBits, uint64(len(in)))
	i := int(at)
	for i > 0 && in[i] > left {
		i--
	}
	for i < len(in)-1 && in[i] < left {
		i++
	}
	if in[i] != left {
		return member{group: none}
	}
	return member{s.starts[part] + i, uint16(hash & (1<<(64-s.bits) - 1))}
}
