package report_test

import (
	"fmt"
	"io"
	"testing"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// BenchmarkCompose writes the reports of 100,000 rows that are read already: all created, or all
// rejected.
func BenchmarkCompose(b *testing.B) {
	const rows = 100_000
	for _, status := range []ledger.Status{ledger.Created, ledger.Rejected} {
		b.Run(string(status), func(b *testing.B) {
			recs := make([]billfile.Record, rows)
			outcomes := make([]ledger.Outcome, rows)
			for i := range recs {
				r, o := &recs[i], &outcomes[i]
				*r = billfile.Record{Row: i + 1, Line: i + 2, Span: 1, Bill: billfile.Bill{Reference: fmt.Sprintf("INV-2026-%08d", i), Currency: "ZAR", Amount: int64(100 + i)}}
				r.Raw = fmt.Appendf(nil, "%s,%d,ZAR,2026-10-01,2026-10-31,ACC-%07d,CUS-%07d,Customer Number %d\r\n", r.Bill.Reference, r.Bill.Amount, i, i, i)
				*o = report.OfRecord(r)
				o.Status, o.Attempts, o.Key = status, 1, fmt.Sprintf("%064d", i)
				if status == ledger.Created {
					o.BillID, o.CustomerID, o.AccountID = fmt.Sprintf("bill_%024d", i), fmt.Sprintf("bcus_%024d", i), fmt.Sprintf("bacc_%024d", i)
				} else {
					o.Code, o.Detail = "http_422", "Unprocessable Content: amount_due is above what this merchant may bill"
				}
			}
			layout := layoutOf("bill_reference,amount_due,currency,bill_date,due_date,account_reference,customer_reference,customer_name\r\n", ',', "")
			b.ReportAllocs()
			for b.Loop() {
				var size counter
				tally, err := report.Compose(report.Output{Results: &size, Rejects: &size, Layout: layout}, &recordCursor{recs: recs}, seq(outcomes))
				if err != nil || tally.Records != rows {
					b.Fatal(tally, err)
				}
				b.SetBytes(int64(size))
			}
		})
	}
}

// counter counts the bytes written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// recordCursor returns the records of a slice without copies.
type recordCursor struct {
	recs []billfile.Record
	next int
}

func (c *recordCursor) Next() (*billfile.Record, error) {
	if c.next == len(c.recs) {
		return nil, io.EOF
	}
	c.next++
	return &c.recs[c.next-1], nil
}
