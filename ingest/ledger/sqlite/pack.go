package sqlite

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"

	"billdrop/ingest/ledger"
)

// What no query looks into is kept packed, in one value: a value more in a statement costs more than all else about it.
// A record begins with the version of its form; strings are preceded by their length, numbers are varints.

const packed = 1 // the only version so far

var errRecord = errors.New("a record in it cannot be read")

// statusCodes are how statuses are stored, from 1. They never change; outcomes_attention knows the first two.
var statusCodes = [...]ledger.Status{
	ledger.Created, ledger.Existing, ledger.Conflict, ledger.Invalid, ledger.Rejected, ledger.Failed, ledger.Unknown, ledger.NotSent,
}

// statusCode is 0 for what is no status.
func statusCode(s ledger.Status) int64 {
	for i, c := range statusCodes {
		if c == s {
			return int64(i + 1)
		}
	}
	return 0
}

func statusOf(code int64) ledger.Status {
	if code < 1 || code > int64(len(statusCodes)) {
		return ""
	}
	return statusCodes[code-1]
}

// Flags of a bill's record.
const (
	flagDoubt = 1 << iota
	flagVoided
	flagSend // something was sent
	flagUnanswered
)

// packBill appends all of b but its reference to room. file is the number of Send.File.
func packBill(room []byte, b *ledger.Bill, file int64) []byte {
	sent := b.Send != (ledger.Send{})
	flags := byte(flag(b.Doubt)*flagDoubt | flag(b.Seen.Voided)*flagVoided | flag(sent)*flagSend | flag(b.Send.Unanswered)*flagUnanswered)
	p := append(packer(room), packed, byte(b.State), flags)
	n, s := &b.Seen, &b.Send
	p.text(n.BillID, n.CustomerID, n.AccountID, n.Currency, n.BillDate, n.DueDate)
	p.number(n.Amount)
	if !sent {
		return p
	}
	p.number(file, int64(s.Row), int64(s.Generation), int64(s.Form), int64(s.Count))
	p = append(append(p, s.Content[:]...), s.Body[:]...)
	p.text(s.CustomerID, s.AccountID, s.Answer)
	p.key(s.Key)
	p.time(s.KeyFirstUsed)
	p.time(s.At)
	return p
}

// unpackBill is the inverse of packBill, but for the reference and Send.File, whose number it returns (0 = nothing was sent).
func unpackBill(record []byte) (b *ledger.Bill, file int64, err error) {
	u := unpacker{rest: record}
	if u.byte() != packed {
		return nil, 0, errRecord
	}
	b = &ledger.Bill{State: ledger.BillState(u.byte())}
	flags := u.byte()
	b.Doubt, b.Seen.Voided, b.Send.Unanswered = flags&flagDoubt != 0, flags&flagVoided != 0, flags&flagUnanswered != 0
	n, s := &b.Seen, &b.Send
	u.text(&n.BillID, &n.CustomerID, &n.AccountID, &n.Currency, &n.BillDate, &n.DueDate)
	n.Amount = u.number()
	if flags&flagSend != 0 {
		file = u.number()
		s.Row, s.Generation, s.Form, s.Count = int(u.number()), int(u.number()), ledger.Form(u.number()), int(u.number())
		copy(s.Content[:], u.take(len(s.Content)))
		copy(s.Body[:], u.take(len(s.Body)))
		u.text(&s.CustomerID, &s.AccountID, &s.Answer)
		s.Key = u.key()
		s.KeyFirstUsed, s.At = u.time(), u.time()
	}
	return b, file, u.end()
}

// packOutcome appends what has no column of its own to room.
func packOutcome(room []byte, o *ledger.Outcome) []byte {
	p := append(packer(room), packed)
	p.number(int64(o.Line))
	p.text(o.Reference, o.Code, o.Detail, o.BillID, o.CustomerID, o.AccountID)
	p.key(o.Key)
	return p
}

// unpackOutcome is the inverse of packOutcome.
func unpackOutcome(record []byte, o *ledger.Outcome) error {
	u := unpacker{rest: record}
	if u.byte() != packed {
		return errRecord
	}
	o.Line = int(u.number())
	u.text(&o.Reference, &o.Code, &o.Detail, &o.BillID, &o.CustomerID, &o.AccountID)
	o.Key = u.key()
	return u.end()
}

type packer []byte

func (p *packer) number(values ...int64) {
	for _, v := range values {
		*p = binary.AppendVarint(*p, v)
	}
}

func (p *packer) text(values ...string) {
	for _, v := range values {
		*p = append(binary.AppendUvarint(*p, uint64(len(v))), v...)
	}
}

// key packs an idempotency key: a UUID in its one canonical spelling as 16 bytes, anything else as it is.
func (p *packer) key(key string) {
	if u, ok := canonical(key); ok {
		*p = append(append(*p, 1), u[:]...)
		return
	}
	*p = append(*p, 0)
	p.text(key)
}

// time packs microseconds since 1970 UTC, and 0 for the zero time.
func (p *packer) time(t time.Time) {
	if t.IsZero() {
		*p = append(*p, 0)
		return
	}
	*p = append(*p, 1)
	p.number(t.UnixMicro())
}

// unpacker reads what packer wrote. After the end everything is zero, and end says so.
type unpacker struct {
	rest []byte
	bad  bool
}

// end is errRecord unless exactly all was read.
func (u *unpacker) end() error {
	if u.bad || len(u.rest) > 0 {
		return errRecord
	}
	return nil
}

// take returns the next n bytes, which are the record's own; nil where there are not so many.
func (u *unpacker) take(n int) []byte {
	if u.bad || n < 0 || n > len(u.rest) {
		u.bad = true
		return nil
	}
	b := u.rest[:n]
	u.rest = u.rest[n:]
	return b
}

func (u *unpacker) byte() byte {
	if b := u.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (u *unpacker) number() int64 {
	v, n := binary.Varint(u.rest)
	u.bad = u.bad || n <= 0
	u.take(n)
	return v
}

func (u *unpacker) text(to ...*string) {
	for _, t := range to {
		length, n := binary.Uvarint(u.rest)
		if n <= 0 || length > uint64(len(u.rest)) {
			u.bad = true
			return
		}
		u.take(n)
		*t = string(u.take(int(length)))
	}
}

func (u *unpacker) key() string {
	if u.byte() == 1 {
		if id, err := uuid.FromBytes(u.take(16)); err == nil {
			return id.String()
		}
		return ""
	}
	var key string
	u.text(&key)
	return key
}

func (u *unpacker) time() time.Time {
	if u.byte() == 0 {
		return time.Time{}
	}
	return time.UnixMicro(u.number()).UTC()
}
