package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"billdrop/ingest/ledger"
)

// put is a bill on its way into the table. bill is a copy.
type put struct {
	bill               ledger.Bill
	ref                ledger.Scope
	scope, file        int64 // numbers
	revision, replaced int64
}

// values are what a statement puts of a bill whose sums are these, in the order of billColumns.
func (p *put) values(sum, sendSum int64) []any {
	b := &p.bill
	o, s := &b.Observed, &b.Send
	file := pgtype.Int8{Int64: p.file, Valid: *s != (ledger.Send{})}
	return []any{p.scope, b.Reference, int16(b.State), b.Doubt,
		o.BillID, o.CustomerID, o.AccountID, o.Currency, o.Amount, o.BillDate, o.DueDate, o.Voided,
		file, s.Row, s.Generation, int16(s.Form), s.CustomerID, s.AccountID, s.Content[:], s.Body[:], s.Key, micros(s.KeyFirstUsed), micros(s.At), s.Count,
		s.Answer, s.Unanswered, p.revision, p.replaced, sum, sendSum}
}

// summed is values with the sums of the bill as it is now.
func (p *put) summed() []any {
	return p.values(ledger.SumBill(p.ref, &p.bill), ledger.SumSend(p.ref, p.bill.Reference, &p.bill.Send))
}

var billColumns = []string{
	"scope", "reference", "state", "doubt",
	"bill_id", "customer_id", "account_id", "currency", "amount_due", "bill_date", "due_date", "voided",
	"file", "row_no", "generation", "form", "sent_customer_id", "sent_account_id", "content", "body", "key", "key_first_used", "sent_at", "sends",
	"answer", "unanswered", "revision", "replaced", "sum", "send_sum",
}

// givenBills are given rows of bills, as rows v, in the order in which all workers lock them,
// so that no two batches wait for each other.
var givenBills = `(SELECT * FROM unnest($1::bigint[], $2::text[], $3::smallint[], $4::boolean[],
		$5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::text[], $11::text[], $12::boolean[],
		$13::bigint[], $14::bigint[], $15::bigint[], $16::smallint[], $17::text[], $18::text[], $19::bytea[], $20::bytea[],
		$21::text[], $22::bigint[], $23::bigint[], $24::bigint[],
		$25::text[], $26::boolean[], $27::bigint[], $28::bigint[], $29::bigint[], $30::bigint[])
		AS v (` + strings.Join(billColumns, ", ") + `) ORDER BY v.reference COLLATE "C", v.scope) AS v`

// replaceable is the condition on which v may replace the bill b: what is stored is what
// v was read as, and no other worker has it in hand (which need not be asked for what
// this session wrote itself).
const replaceable = `b.revision = %[1]s.replaced
	AND (b.revision >> 32 = $31 OR b.state <> 0 OR b.file IS NULL OR NOT elsewhere(b.file, b.row_no, $31))`

var (
	// addBills adds bills that are not known, or replaces those that are. It returns the
	// new revisions, and whether the row is a new one. The send that a bill replaces
	// joins the attempts by a trigger.
	addBills = "INSERT INTO bills AS b (" + strings.Join(billColumns, ", ") + ") SELECT * FROM " + givenBills +
		" ON CONFLICT (reference, scope) DO UPDATE SET " + setBills("excluded") + " WHERE " + fmt.Sprintf(replaceable, "excluded") +
		" RETURNING b.revision, b.xmax = 0"
	// newBills is addBills of bills that are not known, for less work; see tx.careful.
	newBills = "INSERT INTO bills AS b (" + strings.Join(billColumns, ", ") + ") SELECT * FROM " + givenBills +
		" WHERE $31 > 0 RETURNING b.revision, true"
	// replaceBills is addBills of bills that are known, for less work.
	replaceBills = "UPDATE bills AS b SET " + setBills("v") + " FROM " + givenBills +
		" WHERE b.reference = v.reference AND b.scope = v.scope AND " + fmt.Sprintf(replaceable, "v") + " RETURNING b.revision, false"
)

// setBills sets all columns of a bill but its key to those of another row.
func setBills(from string) string {
	var set []string
	for _, c := range billColumns[2:] {
		set = append(set, c+" = "+from+"."+c)
	}
	return strings.Join(set, ", ")
}

// selectBills selects what scanBill reads. What it is followed by joins bills AS b and
// file_numbers AS n.
const selectBills = `SELECT b.reference, b.state, b.doubt,
	b.bill_id, b.customer_id, b.account_id, b.currency, b.amount_due, b.bill_date, b.due_date, b.voided,
	n.id, b.row_no, b.generation, b.form, b.sent_customer_id, b.sent_account_id, b.content, b.body,
	b.key, b.key_first_used, b.sent_at, b.sends, b.answer, b.unanswered, b.revision`

const billsByReference = selectBills + `, b.state = 0 AND b.file IS NOT NULL AND elsewhere(b.file, b.row_no, $3)
	FROM bills AS b LEFT JOIN file_numbers AS n ON n.number = b.file
	WHERE b.reference = ANY ($1) AND b.scope = $2`

// scanBill reads what selectBills selects, and what follows it.
func scanBill(row tableRow, more ...any) (*ledger.Bill, error) {
	b := &ledger.Bill{}
	o, s := &b.Observed, &b.Send
	into := append([]any{&b.Reference, &b.State, &b.Doubt, &o.BillID, &o.CustomerID, &o.AccountID, &o.Currency, &o.Amount, &o.BillDate, &o.DueDate,
		&o.Voided, &s.File, &s.Row, &s.Generation, &s.Form, &s.CustomerID, &s.AccountID, &s.Content, &s.Body, &s.Key, &s.KeyFirstUsed, &s.At, &s.Count,
		&s.Answer, &s.Unanswered, &b.Revision}, more...)
	return b, row.Scan(into...)
}

// lead is a party that a send may create.
type lead struct {
	digest ledger.Digest
	kind   ledger.PartyKind
}

// begin is Ledger.Begin.
type begin struct {
	put
	leads   []lead
	refusal // ErrTaken
}

func (o *begin) apply(t *tx) error {
	o.refused = nil
	return t.addBegin(o)
}

// Bills implements ledger.Ledger.
func (l *Ledger) Bills(ctx context.Context, s ledger.Scope, refs []string) (map[string]*ledger.Bill, error) {
	wanted := make(map[string]bool, len(refs))
	for _, r := range refs {
		wanted[r] = true
	}
	err := l.queue.Barrier(ctx, func(o op) bool {
		switch o := o.(type) {
		case *begin:
			return wanted[o.bill.Reference]
		case *record:
			return o.entry.Bill != nil && wanted[o.bill.Reference]
		}
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("read bills: %w", err)
	}
	bills := make(map[string]*ledger.Bill)
	if len(refs) == 0 {
		return bills, nil
	}
	scope, err := l.scope(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("read bills: %w", err)
	}
	err = l.query(ctx, billsByReference, []any{allStored(refs), scope, l.session()}, func() { clear(bills) }, func(row tableRow) error {
		var held bool
		b, err := scanBill(row, &held)
		b.Held = held
		bills[b.Reference] = b
		return err
	})
	if err != nil {
		return nil, readError(ctx, "read bills", err)
	}
	return bills, nil
}

// session is that under which l writes, 0 before the first write.
func (l *Ledger) session() int64 {
	if me := l.self.Load(); me != nil {
		return me.session
	}
	return 0
}

// query runs a query on the pool and hands each of its rows to scan. It may be run
// several times: reset is called before each.
func (l *Ledger) query(ctx context.Context, sql string, args []any, reset func(), scan func(tableRow) error) error {
	return l.patiently(ctx, func(ctx context.Context) error {
		reset()
		return eachRow(ctx, l.pool, sql, args, scan)
	})
}

func eachRow(ctx context.Context, q querier, sql string, args []any, scan func(tableRow) error) error {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(tableRow{rows}); err != nil {
			return err
		}
	}
	return rows.Err()
}
