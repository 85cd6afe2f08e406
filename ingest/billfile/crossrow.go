package billfile

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"slices"
)

// What only the whole file shows: references that come twice, and parties with different details. The first pass
// keeps 8 bytes a bill reference and 12 a party, hashes all of them, so that a million rows fit. Where hashes come twice (or
// twice with different details), a second pass looks at those rows alone, by hashes of 128 bits.

// hasher makes the hashes of one survey. Its seeds are random, so nobody can write a file whose hashes collide.
type hasher struct {
	key, verify, detail maphash.Seed
}

func newHasher() hasher {
	return hasher{maphash.MakeSeed(), maphash.MakeSeed(), maphash.MakeSeed()}
}

// sum never is 0, which stands for nothing.
func sum(seed maphash.Seed, s string) uint64 { return max(maphash.String(seed, s), 1) }

// optional is 0 for a blank, which contradicts nothing.
func (h hasher) optional(s string) uint64 {
	if s == "" {
		return 0
	}
	return sum(h.detail, s)
}

// details are hashes of what a row says of a party: the three cells that must not differ; 0 where blank.
type details [3]uint64

func (d details) all() uint32 {
	if d == (details{}) {
		return 0
	}
	x := d[0]
	for _, v := range d[1:] {
		x = bits.RotateLeft64(x, 23)*0x9e3779b97f4a7c15 ^ v
	}
	x *= 0x9e3779b97f4a7c15
	return max(uint32(x>>32), 1)
}

// crossKeys are the hashes of one row that the first pass keeps; 0 = nothing to keep.
type crossKeys struct {
	reference, customer, account    uint64
	customerDetails, accountDetails uint32
}

func (h hasher) customer(b *Bill) details {
	return details{h.optional(b.CustomerName), h.optional(b.CustomerEmail), h.optional(b.CustomerPhone)}
}

func (h hasher) account(b *Bill) details {
	return details{h.optional(b.AccountName), h.optional(b.CustomerReference), h.optional(b.CustomerID)}
}

// keys hashes what of it can be read. Details that are all blank are not worth keeping.
func (h hasher) keys(it *item) crossKeys {
	var k crossKeys
	b := &it.Bill
	if it.reference {
		k.reference = sum(h.key, b.Reference)
	}
	if it.customer {
		if d := h.customer(b).all(); d != 0 {
			k.customer, k.customerDetails = sum(h.key, b.CustomerReference), d
		}
	}
	if it.account {
		if d := h.account(b).all(); d != 0 {
			k.account, k.accountDetails = sum(h.key, b.AccountReference), d
		}
	}
	return k
}

// content identifies what a row says, to tell the same row again from a contradiction. Of a row with
// problems of its own it is what stands in the file.
func (h hasher) content(it *item) uint64 {
	if len(it.Problems) == 0 {
		digest := ContentDigest(&it.Bill)
		return binary.BigEndian.Uint64(digest[:])
	}
	body, _ := CutLineEnd(it.Raw)
	return maphash.Bytes(h.detail, body)
}

// party is a sighting of a party in the first pass: its key in two halves, and its details. 12 bytes.
type party [3]uint32

// sightings is what the first pass keeps of all rows.
type sightings struct {
	references parted[uint64]
	customers  parted[party]
	accounts   parted[party]
}

func (s *sightings) add(k crossKeys) {
	if k.reference != 0 {
		s.references.add(k.reference, k.reference)
	}
	if k.customer != 0 {
		s.customers.add(k.customer, party{uint32(k.customer >> 32), uint32(k.customer), k.customerDetails})
	}
	if k.account != 0 {
		s.accounts.add(k.account, party{uint32(k.account >> 32), uint32(k.account), k.accountDetails})
	}
}

// suspects finds what has to be looked at again: references that come twice, parties with different details.
func (s *sightings) suspects() *findings {
	f := &findings{}
	var seen flat
	for i := range s.references.parts {
		seen.reset()
		for _, chunk := range s.references.parts[i] {
			for _, key := range chunk {
				if _, fresh := seen.put(key, 0); !fresh {
					f.references.suspect(key)
				}
			}
		}
	}
	seen = flat{}
	f.customers.gather(&s.customers, &seen)
	f.accounts.gather(&s.accounts, &seen)
	return f
}

// findings is what the second pass finds about the suspects. After it, it is only read.
type findings struct {
	references groups[repeated]
	customers  groups[disputed]
	accounts   groups[disputed]
}

func (f *findings) none() bool {
	return len(f.references.list)+len(f.customers.list)+len(f.accounts.list) == 0
}

// groups are rows that share a key.
type groups[G any] struct {
	index flat
	list  []G
}

func (g *groups[G]) suspect(key uint64) {
	if _, fresh := g.index.put(key, uint32(len(g.list))); fresh {
		var zero G
		g.list = append(g.list, zero)
	}
}

func (g *groups[G]) at(key uint64) (int, bool) {
	i, ok := g.index.get(key)
	return int(i), ok
}

func (g *groups[G]) gather(from *parted[party], seen *flat) {
	for i := range from.parts {
		seen.reset()
		for _, chunk := range from.parts[i] {
			for _, e := range chunk {
				key := uint64(e[0])<<32 | uint64(e[1])
				if stands, _ := seen.put(key, e[2]); stands != e[2] {
					g.suspect(key)
				}
			}
		}
	}
}

// repeated is a bill reference that comes more than once.
type repeated struct {
	verify  uint64
	content uint64 // of its first row
	line    uint32 // of its first row; 0 = not seen yet
	other   uint32 // of the first row with other content; 0 = all say the same
}

// disputed is a party with details that differ.
type disputed struct {
	verify  uint64
	details details   // the first that is not blank of each
	lines   [3]uint32 // where that stands
	others  [3]uint32 // of the first row that says otherwise; 0 = none does
}

func (d *disputed) bad() bool { return d.others != [3]uint32{} }

// none marks a row that belongs to no group.
const none = -1

// suspectRow is a row that belongs to some group, in the second pass: what it takes to count its code again.
type suspectRow struct {
	reference, customer, account int32 // groups
	line                         uint32
	amount                       int32 // minor units
	first                        int16 // column of its own first problem
	customerCol                  int16 // of the customer reference
	code                         uint8 // its own first, in rowCodes
	currency                     uint8 // its place in a list of the survey's; only of rows valid on their own
	valid                        bool  // on its own
}

// groupsOf finds the groups that a row belongs to.
func (f *findings) groupsOf(it *item, h hasher) (reference, customer, account int32) {
	reference, customer, account = none, none, none
	b := &it.Bill
	if it.reference && len(f.references.list) > 0 {
		if i, ok := f.references.at(sum(h.key, b.Reference)); ok {
			g := &f.references.list[i]
			if v := sum(h.verify, b.Reference); g.verify == 0 || g.verify == v {
				reference = int32(i)
			}
		}
	}
	if it.customer && len(f.customers.list) > 0 {
		if i, ok := f.customers.at(sum(h.key, b.CustomerReference)); ok && f.customers.list[i].holds(sum(h.verify, b.CustomerReference)) {
			customer = int32(i)
		}
	}
	if it.account && len(f.accounts.list) > 0 {
		if i, ok := f.accounts.at(sum(h.key, b.AccountReference)); ok && f.accounts.list[i].holds(sum(h.verify, b.AccountReference)) {
			account = int32(i)
		}
	}
	return reference, customer, account
}

func (d *disputed) holds(verify uint64) bool { return d.verify == 0 || d.verify == verify }

// see takes a row of the second pass into its groups.
func (f *findings) see(it *item, h hasher) (reference, customer, account int32) {
	reference, customer, account = f.groupsOf(it, h)
	line := uint32(it.Line)
	if reference != none {
		g := &f.references.list[reference]
		switch content := h.content(it); {
		case g.line == 0:
			*g = repeated{verify: sum(h.verify, it.Bill.Reference), content: content, line: line}
		case g.other == 0 && content != g.content:
			g.other = line
		}
	}
	if customer != none {
		f.customers.list[customer].see(sum(h.verify, it.Bill.CustomerReference), h.customer(&it.Bill), line)
	}
	if account != none {
		f.accounts.list[account].see(sum(h.verify, it.Bill.AccountReference), h.account(&it.Bill), line)
	}
	return reference, customer, account
}

func (d *disputed) see(verify uint64, says details, line uint32) {
	d.verify = verify
	for i, v := range says {
		switch {
		case v == 0:
		case d.details[i] == 0:
			d.details[i], d.lines[i] = v, line
		case d.others[i] == 0 && v != d.details[i]:
			d.others[i] = line
		}
	}
}

// judge adds to a row the problems that only the whole file shows.
func (f *findings) judge(it *item, h hasher, c *checker) {
	reference, customer, account := f.groupsOf(it, h)
	if reference == none && customer == none && account == none {
		return
	}
	var more []placed
	add := func(col int, code, detail string) {
		p := Problem{Line: it.Line, Row: it.Row, Code: code, Detail: detail}
		if col >= 0 {
			p.Column, p.Detail = c.columns[col].name, c.labels[col]+detail
		}
		more = append(more, placed{col, p})
	}
	if reference != none {
		g := &f.references.list[reference]
		col, name := c.column(fieldReference), shown(it.Bill.Reference)
		if col < 0 {
			name = c.referenceName()
		}
		switch {
		case g.other != 0:
			other := g.line
			if h.content(it) == g.content {
				other = g.other
			}
			add(col, CodeContradictingReference, name+" stands on "+lineText(int(other))+" with other content, so no row with it is sent: give each bill a reference of its own")
		case g.line != uint32(it.Line):
			add(col, CodeDuplicateReference, name+" stands on "+lineText(int(g.line))+" already, with the same content: remove one of them")
		}
	}
	if customer != none {
		if other, i := f.customers.list[customer].against(h.customer(&it.Bill)); other != 0 {
			what := fieldNames[[...]field{fieldCustomerName, fieldCustomerEmail, fieldCustomerPhone}[i]]
			add(int(it.customerCol), CodeConflictingParty, " has another "+what+" on "+lineText(int(other))+": give a customer the same details in all rows, or leave them blank in all but one")
		}
	}
	if account != none {
		if other, i := f.accounts.list[account].against(h.account(&it.Bill)); other != 0 {
			what := fieldNames[[...]field{fieldAccountName, fieldCustomerReference, fieldCustomerID}[i]]
			add(c.column(fieldAccountReference), CodeConflictingParty, " has another "+what+" on "+lineText(int(other))+": give an account the same details in all rows, or leave them blank in all but one")
		}
	}
	for _, p := range more {
		at := 0
		for at < len(it.Problems) && c.place(it.Problems[at].Column) <= p.col {
			at++
		}
		it.Problems = slices.Insert(it.Problems, at, p.Problem)
	}
}

// place is where a column stands; -1 for "", the record as a whole.
func (c *checker) place(name string) int {
	if name == "" {
		return -1
	}
	return slices.IndexFunc(c.columns, func(col column) bool { return col.name == name })
}

// against names a line that says otherwise than a row with these details, and in which of them; 0 where none does.
func (d *disputed) against(says details) (line uint32, which int) {
	for i, other := range d.others {
		if other == 0 {
			continue
		}
		if says[i] == d.details[i] {
			return other, i
		}
		return d.lines[i], i
	}
	return 0, 0
}
