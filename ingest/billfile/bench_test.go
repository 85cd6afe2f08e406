package billfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"testing"
)

// samples are files of 100,000 rows of 15 columns. In all but the last, every customer
// and account is a new one.
var samples = []struct {
	name    string
	invalid bool
	row     func(i int) string
}{
	{"clean", false, func(i int) string { return sampleRow(i, "ZAR", "2026-10-31", i, i) }},
	{"many dates", false, func(i int) string { return sampleRow(i, "ZAR", fmt.Sprintf("2026-11-%02d", i%30+1), i, i) }},
	{"bad currency", true, func(i int) string { return sampleRow(i, "XXX", "2026-10-31", i, i) }},
	{"bad date", true, func(i int) string { return sampleRow(i, "ZAR", "31/10/2026", i, i) }},
	{"conflicts", true, func(i int) string { return sampleRow(i, "ZAR", "2026-10-31", i%50_001, i%33_335) }},
}

const sampleRows = 100_000

func sampleRow(i int, currency, due string, account, customer int) string {
	return fmt.Sprintf("INV-2026-%08d,%d,%s,2026-10-01,%s,ACC-%07d,CUS-%07d,Main account %d,Customer Number %d,customer.%d@example.co.za,08%08d,Cape Town,2026-10,domestic-2,%d\r\n",
		i, 100+i%900000, currency, due, account, customer, i, i, i, 10000000+i, i%7)
}

func sample(row func(int) string) []byte {
	var b bytes.Buffer
	b.WriteString("bill_reference,amount_due,currency,bill_date,due_date,account_reference,customer_reference,account_name,customer_name,customer_email,customer_phone,metadata.branch,metadata.period,metadata.tariff,metadata.run\r\n")
	for i := range sampleRows {
		b.WriteString(row(i))
	}
	return b.Bytes()
}

// BenchmarkBareCSV is what the others are compared with.
func BenchmarkBareCSV(b *testing.B) {
	text := sample(samples[0].row)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r := csv.NewReader(bytes.NewReader(text))
		r.ReuseRecord = true
		for {
			if _, err := r.Read(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkSurvey(b *testing.B) {
	for _, s := range samples {
		b.Run(s.name, func(b *testing.B) {
			text := sample(s.row)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				got, err := TakeSurvey(b.Context(), opener(string(text)), zar, func(*Record) error { return nil })
				if err != nil || got.Rows != sampleRows || (got.Invalid == sampleRows) != s.invalid {
					b.Fatal(got, err)
				}
			}
		})
	}
}

// BenchmarkDecode is a pass over a file that was surveyed.
func BenchmarkDecode(b *testing.B) {
	for _, sampled := range samples {
		b.Run(sampled.name, func(b *testing.B) {
			text := sample(sampled.row)
			s := survey(b, string(text), zar)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				d, err := s.Decode(bytes.NewReader(text))
				rows := 0
				for ; err == nil; rows++ {
					_, err = d.Next()
				}
				if !errors.Is(err, io.EOF) || rows != sampleRows+1 {
					b.Fatal(rows, err)
				}
			}
		})
	}
}

// BenchmarkSmallSurvey is what a file costs before its first row.
func BenchmarkSmallSurvey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if s, err := TakeSurvey(b.Context(), opener(rowHeader+row(nil)), zar, nil); err != nil || s.Rows != 1 {
			b.Fatal(s, err)
		}
	}
}
