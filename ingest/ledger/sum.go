package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// The engines store a sum beside each bill, attempt and outcome: 64 bits of the SHA-256 of the
// row's content. A row that was changed behind the program's back has another one (it is no
// protection from a person who computes it anew). What is summed must never change: it would
// blame every row.

// SumBill is the sum of all that is stored of a bill; not Revision and Held, which are states of a
// Shared ledger.
func SumBill(s Scope, b *Bill) int64 {
	o := &b.Observed
	h := newSummer('b').text(s.Merchant, s.Mode, b.Reference).number(int64(b.State)).flag(b.Doubt).
		text(o.BillID, o.CustomerID, o.AccountID, o.Currency).number(o.Amount).text(o.BillDate, o.DueDate).flag(o.Voided)
	if b.Send != (Send{}) {
		n := &b.Send
		h = h.text(n.File).number(int64(n.Row), int64(n.Generation), int64(n.Form)).text(n.CustomerID, n.AccountID).
			text(string(n.Content[:]), string(n.Body[:]), n.Key).time(n.KeyFirstUsed).time(n.At).number(int64(n.Count)).
			text(n.Answer).flag(n.Unanswered)
	}
	return h.sum()
}

// SumSend is the sum of the attempt that a send becomes when another one replaces it; 0 if there is
// none.
func SumSend(s Scope, reference string, n *Send) int64 {
	if *n == (Send{}) {
		return 0
	}
	return newSummer('a').text(s.Merchant, s.Mode, reference, n.File).number(int64(n.Row), int64(n.Generation)).
		text(n.Key).time(n.At).text(n.Answer).sum()
}

// SumOutcome is the sum of an outcome of a file.
func SumOutcome(file string, o *Outcome) int64 {
	return newSummer('o').text(file).number(int64(o.Row), int64(o.Line)).text(o.Reference, string(o.Status), o.Code, o.Detail).
		text(o.BillID, o.CustomerID, o.AccountID, o.Currency).number(o.Amount, int64(o.Attempts)).text(o.Key).
		number(int64(o.Customers), int64(o.Accounts)).sum()
}

// summer gathers what is summed. Texts carry their length, so that no two rows have the same bytes.
type summer []byte

func newSummer(kind byte) summer { return append(make(summer, 0, 512), kind) }

func (s summer) text(texts ...string) summer {
	for _, t := range texts {
		s = append(binary.AppendUvarint(s, uint64(len(t))), t...)
	}
	return s
}

func (s summer) number(numbers ...int64) summer {
	for _, n := range numbers {
		s = binary.AppendVarint(s, n)
	}
	return s
}

func (s summer) flag(f bool) summer {
	if f {
		return append(s, 1)
	}
	return append(s, 0)
}

// time adds a time in the microseconds that a ledger keeps.
func (s summer) time(t time.Time) summer {
	if t.IsZero() {
		return append(s, 0)
	}
	return append(s, 1).number(t.UnixMicro())
}

func (s summer) sum() int64 {
	d := sha256.Sum256(s)
	return int64(binary.BigEndian.Uint64(d[:8]))
}
