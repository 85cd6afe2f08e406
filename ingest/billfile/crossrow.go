package billfile

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// What only the whole file shows: references that come twice, and parties with different
// details. Rows are compared by hashes with random seeds, so that no sender can write a file
// whose hashes collide.
//
//   - The first pass keeps sightings, 5 bytes a bill reference and 8 a party. They are
//     enough to find the suspects: references that come twice, and parties of which rows
//     say different things. Most files have none and are read once.
//   - The second pass looks at rows of suspects alone. It finds what is wrong, and the
//     line of the other row.
//   - The third pass adds the problems to their rows and counts the rows anew.

// hasher computes the hashes of one survey.
type hasher struct{ key, detail maphash.Seed }

func newHasher() hasher { return hasher{maphash.MakeSeed(), maphash.MakeSeed()} }

// of returns the hash of a reference. It is never 0, which stands for no reference.
func (h hasher) of(reference string) uint64 { return max(maphash.String(h.key, reference), 1) }

// details are hashes of what a row says of a party: three cells that must be the same in
// all rows. 0 stands for a blank cell, which contradicts nothing.
type details [3]uint32

func (h hasher) details(cells ...string) (d details) {
	for i, cell := range cells {
		if cell != "" {
			d[i] = max(uint32(maphash.String(h.detail, cell)), 1)
		}
	}
	return d
}

// seen is a text as a person sees it: accents composed (Unicode's form NFC), one plain space for
// every stretch of spaces. Rows whose names differ in nothing but that say the same.
func seen(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf || s[i] == ' ' && s[i-1] == ' ' { // cells are trimmed, so a space is never the first
			return strings.Join(strings.FieldsFunc(norm.NFC.String(s), isSpace), " ")
		}
	}
	return s
}

// asSeen is b with its texts as a person sees them, to compare it with other rows of the file.
func asSeen(b *Bill) *Bill {
	c := *b
	c.AccountName, c.CustomerName = seen(b.AccountName), seen(b.CustomerName)
	c.Metadata = slices.Clone(b.Metadata)
	for i := range c.Metadata {
		c.Metadata[i].Value = seen(c.Metadata[i].Value)
	}
	return &c
}

// The fields of details, in their order.
var (
	customerDetails = [3]field{fieldCustomerName, fieldCustomerEmail, fieldCustomerPhone}
	accountDetails  = [3]field{fieldAccountName, fieldCustomerReference, fieldCustomerID}
)

// identity is what a row is compared by. 0 stands for a reference that the row does not
// have, or that could not be read for certain.
type identity struct {
	reference, customer, account uint64
	folded                       uint64 // of the reference in capitals; 0 = it has no small letters
	ofCustomer, ofAccount        details
}

// capitals is the hash of the reference in capitals.
func (id *identity) capitals() uint64 { return cmp.Or(id.folded, id.reference) }

func (h hasher) identity(it *item) identity {
	var id identity
	b := &it.Bill
	if it.reference {
		id.reference = h.of(b.Reference)
		if capitals := strings.ToUpper(b.Reference); capitals != b.Reference {
			id.folded = h.of(capitals)
		}
	}
	if it.customer {
		id.customer, id.ofCustomer = h.of(b.CustomerReference), h.details(seen(b.CustomerName), b.CustomerEmail, b.CustomerPhone)
	}
	if it.account {
		id.account, id.ofAccount = h.of(b.AccountReference), h.details(seen(b.AccountName), b.CustomerReference, b.CustomerID)
	}
	return id
}

// content identifies what a row says, to tell the same row again from a contradiction.
// For a row with problems of its own it is the hash of its bytes.
func (h hasher) content(it *item, valid bool) uint64 {
	if valid {
		digest := ContentDigest(asSeen(&it.Bill))
		return binary.BigEndian.Uint64(digest[:])
	}
	body, _ := CutLineEnd(it.Raw)
	return maphash.Bytes(h.detail, body)
}

// groups are rows that share a reference or a party that is a suspect.
type groups struct {
	references, customers, accounts suspects
	repeated                        []repeated // by references
	disputed                        []disputed // by customers, then by accounts
	similar                         similarReferences
	complete                        bool // the second pass is over: from here on the groups are only read
}

// repeated is a bill reference that comes more than once.
type repeated struct {
	content uint64 // of its first row
	line    uint32 // of its first row; 0 = not seen yet
	other   uint32 // of the first row with other content; 0 = all say the same
	rest    uint16 // of its hash
}

// disputed is a party with a detail that differs between rows.
type disputed struct {
	detail uint32 // the first that is not blank
	line   uint32 // where it stands
	other  uint32 // of the first row that says otherwise; 0 = none does
	rest   uint16 // of its hash
	which  uint8  // of the details; the first that differs
	seen   bool
}

// none is the number of no group.
const none = -1

// member is a row's place in a group.
type member struct {
	group int    // in repeated or disputed; none = the row is in no group
	rest  uint16 // of the hash of its reference
}

// membership is the groups that a row belongs to.
type membership struct {
	reference, customer, account member
	content                      uint64 // only where it is in a group of references
}

// parties returns how many parties are suspects.
func (g *groups) parties() int { return g.customers.n + g.accounts.n }

func (g *groups) any() bool { return g.references.n+g.parties() > 0 }

// skipUncompared makes a checker skip the columns that the second pass does not compare.
// If no reference is repeated, these are all but the parties' columns.
func (g *groups) skipUncompared(c *checker) {
	if g.complete || g.references.n > 0 || g.similar.any() {
		return
	}
	for i, col := range c.columns {
		c.skip[i] = col.to != fieldCustomerReference && col.to != fieldAccountReference && !slices.Contains(customerDetails[:], col.to) && !slices.Contains(accountDetails[:], col.to)
	}
}

// membership finds the groups of a row; valid means that the row has no problems of its
// own. During the second pass it may name a group that the row does not belong to,
// because only the first bits of a group's hash are known. observe checks the rest.
func (g *groups) membership(it *item, h hasher, valid bool) membership {
	m := membership{reference: g.references.find(it.id.reference), customer: g.customers.find(it.id.customer), account: g.accounts.find(it.id.account)}
	if m.account.group != none {
		m.account.group += g.customers.n
	}
	if g.complete {
		if r := &m.reference; r.group != none && g.repeated[r.group].rest != r.rest {
			r.group = none
		}
		for _, p := range [...]*member{&m.customer, &m.account} {
			if p.group != none && g.disputed[p.group].rest != p.rest {
				p.group = none
			}
		}
	}
	if m.reference.group != none {
		m.content = h.content(it, valid)
	}
	return m
}

// round is one reading of the second pass. It looks at a limited number of parties, so
// that memory stays bounded even if all parties of a large file contradict each other.
type round struct {
	groups *groups
	from   int       // of disputed
	sides  []dispute // of disputed[from:], limited
}

// maxDisputes is how many parties a round looks at. A dispute takes 24 bytes.
const maxDisputes = 1 << 20

// dispute is what the rows of a party say.
type dispute struct {
	says  details   // of each detail the first that is not blank
	lines [3]uint32 // where that stands
}

// newRound starts a round at suspect number from. It takes at most most suspects.
func newRound(f *groups, from, most int) *round {
	return &round{groups: f, from: from, sides: make([]dispute, min(f.parties()-from, most))}
}

// observe adds a row to its groups.
func (r *round) observe(it *item) {
	m, line := &it.member, uint32(it.Line)
	if r.from == 0 {
		r.groups.similar.observe(&it.id, line)
	}
	if !r.groups.any() {
		return
	}
	if m.reference.group != none && r.from == 0 {
		switch g := &r.groups.repeated[m.reference.group]; {
		case g.line == 0:
			*g = repeated{content: m.content, line: line, rest: m.reference.rest}
		case g.other == 0 && g.content != m.content && g.rest == m.reference.rest:
			g.other = line
		}
	}
	r.party(m.customer, it.id.ofCustomer, line)
	r.party(m.account, it.id.ofAccount, line)
}

func (r *round) party(m member, says details, line uint32) {
	if m.group < r.from || m.group >= r.from+len(r.sides) {
		return
	}
	g, d := &r.groups.disputed[m.group], &r.sides[m.group-r.from]
	if !g.seen {
		g.seen, g.rest = true, m.rest
	}
	if g.rest != m.rest {
		return
	}
	for i, v := range says {
		switch {
		case v == 0:
		case d.says[i] == 0:
			d.says[i], d.lines[i] = v, line
		case v != d.says[i] && (g.other == 0 || i < int(g.which)):
			g.detail, g.line, g.other, g.which = d.says[i], d.lines[i], line, uint8(i)
		}
	}
}

// end ends the round. It returns where the next round begins, or 0 after the last.
func (r *round) end() int {
	if next := r.from + len(r.sides); next < r.groups.parties() {
		return next
	}
	r.groups.complete = true
	return 0
}

// addProblems adds to a row the problems that only the whole file shows.
func (g *groups) addProblems(it *item, c *checker) {
	m := &it.member
	if m.reference.group != none {
		switch r := &g.repeated[m.reference.group]; {
		case r.other != 0:
			other := r.line
			if m.content == r.content {
				other = r.other
			}
			c.ofReference(it, CodeContradictingReference, " stands on "+lineText(int(other))+" with other content, so no row with it is sent: give each bill a reference of its own; if the rows are items of one bill, write one row with their sum")
		case r.line != uint32(it.Line):
			c.ofReference(it, CodeDuplicateReference, " stands on "+lineText(int(r.line))+" already, with the same content, and only that row is sent: if the two are items of one bill, write one row with their sum; if not, remove this one")
			it.remarks[remarkDuplicate] = true
		}
	}
	if m.customer.group != none {
		if other, what := g.disputed[m.customer.group].against(it.id.ofCustomer); other != 0 {
			c.reportConflict(int(it.customerCol), customerDetails[what], other, ": give a customer the same details in all rows, or in one row only")
		}
	}
	if m.account.group != none {
		if other, what := g.disputed[m.account.group].against(it.id.ofAccount); other != 0 {
			c.reportConflict(c.at[fieldAccountReference], accountDetails[what], other, ": give an account the same details in all rows, or in one row only")
		}
	}
}

// reportConflict adds the problem of a party of which another line says something else. A file may
// have millions of them, so the text is put together once.
func (c *checker) reportConflict(col int, detail field, line int, advice string) {
	b := append(append(c.detail[:0], c.labels[col]...), " has a different "...)
	b = append(append(b, fieldNames[detail]...), " on line "...)
	c.detail = append(strconv.AppendInt(b, int64(line), 10), advice...)
	c.add(col, c.columns[col].name, CodeConflictingParty, string(c.detail))
}

// ofReference adds a problem of a row's bill reference, which may be made from a
// template.
func (c *checker) ofReference(it *item, code, detail string) {
	if col := c.at[fieldReference]; col >= 0 {
		c.report(col, finding{code, it.Bill.Reference, detail})
		return
	}
	c.reportRecord(code, c.referenceName()+detail)
}

// against returns a line that contradicts a row with these details, and which detail it
// is; line 0 if no row does.
func (d *disputed) against(says details) (line, which int) {
	switch {
	case d.other == 0:
		return 0, 0
	case says[d.which] == d.detail:
		return int(d.other), int(d.which)
	}
	return int(d.line), int(d.which)
}

// minTotalRows is how many rows a file has at least, the last one included, before that one is
// taken for a total. In shorter files the last amount is the sum of the others by chance too often.
const minTotalRows = 4

// isTotal reports whether the last row looks like the total that spreadsheets put under a list.
func (s *Survey) isTotal(it *item) bool {
	reported := slices.ContainsFunc(it.Problems, func(p Problem) bool { return p.Code == CodeTotalRow })
	if s.format.AllowTotalRow || it.Row < minTotalRows || reported {
		return false
	}
	return it.Bill.Amount > 0 && it.Bill.Amount == s.sum || saysTotal(it.Bill.Reference)
}

// saysTotal reports whether a text is or begins with the word total.
func saysTotal(s string) bool {
	const word = "total"
	return len(s) >= len(word) && strings.EqualFold(s[:len(word)], word) && (len(s) == len(word) || !isLetter(s[len(word)]) && !isDigit(s[len(word)]))
}

// totalRow is the problem of a row that looks like a total.
func totalRow(it *item) Problem {
	return Problem{Line: it.Line, Row: it.Row, Code: CodeTotalRow, Detail: looksLikeTotal}
}

const looksLikeTotal = "the row looks like a total that a spreadsheet added at the end (its amount is the sum of the other rows, or its reference begins with Total): remove it; if it is a bill, set total_row: allow for this feed"

// refuse adds a problem of the row as a whole, which stands before all others.
func (it *item) refuse(p Problem) { it.Problems = append([]Problem{p}, it.Problems...) }
