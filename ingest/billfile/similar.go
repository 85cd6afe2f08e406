package billfile

import "slices"

// foldedSighting is what the first pass keeps of a reference with small letters: of the hash of the
// reference in capitals what a part does not say, and in the last detailBits the end of the hash of
// the reference itself.
type foldedSighting uint64

// maxSimilar is how many groups of similar references are looked at. They take 24 bytes each.
const maxSimilar = 1 << 20

// addFolded adds the references of one part that may differ in the case of letters alone: two
// sightings with the same capitals and different references, or one whose capitals are another
// row's reference. hashes are the sorted references of the part.
func (s *suspects) addFolded(part int, folded []foldedSighting, hashes []uint64) {
	slices.Sort(folded)
	const more = 40 - (64 - detailBits) // bits that hashes have and sightings have not
	for i, f := range folded {
		capitals := uint64(f >> detailBits)
		twice := i > 0 && folded[i-1] != f && uint64(folded[i-1]>>detailBits) == capitals
		if !twice {
			at, _ := slices.BinarySearch(hashes, capitals<<more)
			twice = at < len(hashes) && hashes[at]>>more == capitals
		}
		if twice && len(s.hashes) < maxSimilar {
			s.add(part, capitals)
		}
	}
}

// similarReferences are groups of rows whose references may differ in the case of letters alone.
type similarReferences struct {
	suspects suspects
	groups   []similarGroup
}

type similarGroup struct {
	reference uint64 // hash of the first row's
	line      uint32 // of its first row; 0 = not seen yet
	other     uint32 // of the first row with another spelling; 0 = there is none
	rows      uint32
	rest      uint16 // of the hash of the capitals
}

func (s *similarReferences) any() bool { return len(s.groups) > 0 }

// observe takes a row into its group.
func (s *similarReferences) observe(id *identity, line uint32) {
	m := s.suspects.find(id.capitals())
	if m.group == none {
		return
	}
	g := &s.groups[m.group]
	switch {
	case g.line == 0:
		*g = similarGroup{reference: id.reference, line: line, rows: 1, rest: m.rest}
	case g.rest == m.rest:
		g.rows++
		if g.other == 0 && g.reference != id.reference {
			g.other = line
		}
	}
}

// rows counts the rows of all groups with more than one spelling. other is the line of the second
// spelling in the group that comes first.
func (s *similarReferences) rows() (rows rowsWith, other int) {
	for i := range s.groups {
		g := &s.groups[i]
		if g.other == 0 {
			continue
		}
		rows.count += int(g.rows)
		if rows.line == 0 || int(g.line) < rows.line {
			rows.line, other = int(g.line), int(g.other)
		}
	}
	return rows, other
}

func hasSmallLetter(s string) bool {
	for i := range len(s) {
		if s[i] >= 'a' && s[i] <= 'z' {
			return true
		}
	}
	return false
}
