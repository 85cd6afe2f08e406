package billfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"testing"
)

// sample is a file of n rows of 15 columns, every customer and account a new one.
func sample(n int, bad bool) []byte {
	var b bytes.Buffer
	b.WriteString("bill_reference,amount_due,currency,bill_date,due_date,account_reference,customer_reference,account_name,customer_name,customer_email,customer_phone,metadata.branch,metadata.period,metadata.tariff,metadata.run\r\n")
	for i := range n {
		date := "2026-10-31"
		if bad {
			date = "31/10/2026"
		}
		fmt.Fprintf(&b, "INV-2026-%08d,%d,ZAR,2026-10-01,%s,ACC-%07d,CUS-%07d,Main account %d,Customer Number %d,customer.%d@example.co.za,08%08d,Cape Town,2026-10,domestic-2,%d\r\n",
			i, 100+i%900000, date, i, i, i, i, i, 10000000+i, i%7)
	}
	return b.Bytes()
}

func BenchmarkBareCSV(b *testing.B) {
	text := sample(100_000, false)
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
	for name, bad := range map[string]bool{"good": false, "bad": true} {
		b.Run(name, func(b *testing.B) {
			text := sample(100_000, bad)
			open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				s, err := TakeSurvey(b.Context(), open, zar, func(*Record) error { return nil })
				if err != nil || s.Rows != 100_000 || (s.Invalid > 0) != bad {
					b.Fatal(s, err)
				}
			}
		})
	}
}

// BenchmarkDecode is a pass over a file that was surveyed.
func BenchmarkDecode(b *testing.B) {
	for name, text := range map[string][]byte{"good": sample(100_000, false), "bad": sample(100_000, true)} {
		b.Run(name, func(b *testing.B) {
			s := survey(b, string(text), zar)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				d, err := s.Decode(bytes.NewReader(text))
				rows := 0
				for ; err == nil; rows++ {
					_, err = d.Next()
				}
				if !errors.Is(err, io.EOF) || rows != 100_001 {
					b.Fatal(rows, err)
				}
			}
		})
	}
}

// BenchmarkSmallSurvey is what a file costs before its first row.
func BenchmarkSmallSurvey(b *testing.B) {
	text := sample(10, false)
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	b.ReportAllocs()
	for b.Loop() {
		if s, err := TakeSurvey(b.Context(), open, zar, nil); err != nil || s.Rows != 10 {
			b.Fatal(s, err)
		}
	}
}
