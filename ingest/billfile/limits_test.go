package billfile

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

// readCloser shortens an opener's signature.
type readCloser = io.ReadCloser

// endless is a stream that begins with one text, repeats another until it has size bytes more, and ends with a third.
func endless(begin, repeat string, size int, end string) Opener {
	repeat = strings.Repeat(repeat, 1+(32<<10)/len(repeat))
	return func() (io.ReadCloser, error) {
		left := size
		middle := readerFunc(func(p []byte) (int, error) {
			if left == 0 {
				return 0, io.EOF
			}
			n := copy(p[:min(len(p), left)], repeat)
			left -= n
			return n, nil
		})
		return io.NopCloser(io.MultiReader(strings.NewReader(begin), middle, strings.NewReader(end))), nil
	}
}

// What is too large costs no memory, and the rows around it are read.
func TestLimits(t *testing.T) {
	const size, less = 100 << 20, 10 << 20
	for _, tt := range []struct {
		name  string
		open  Opener
		file  string // file-level code
		codes map[string]int
		rows  int
	}{
		{"a field of 100 MB", endless(head+"A,1,C1\nB,1,", "x", size, "\nC,1,C2\n"), "", map[string]int{CodeRowTooLarge: 1}, 3},
		{"a quoted field of 100 MB", endless(head+"A,1,C1\nB,1,\"", "x", size, "\"\nC,1,C2\n"), "", map[string]int{CodeRowTooLarge: 1}, 3},
		{"a row of 5 million columns", endless(head+"A,1,C1\nB,1,", "x,", less, "\nC,1,C2\n"), "", map[string]int{CodeRowTooLarge: 1}, 3},
		{"a row of 500 thousand columns", endless(head+"A,1,C1\nB,1,", "x,", 1_000_000, "\nC,1,C2\n"), "", map[string]int{CodeWrongFieldCount: 1}, 3},
		{"a quote that swallows 100 MB", endless(head+"A,1,C1\nB,1,\"", "x,1,C3\n", size, ""), CodeUnbalancedQuote, nil, 0},
		{"a quote that swallows 10 MB in a line", endless(head+"A,1,C1\nB,1,\"", "x", less, "\n"), CodeUnbalancedQuote, nil, 0},
		{"a last line of 10 MB", endless(head+"A,1,C1\nB,1,", "x", less, ""), CodeTruncated, nil, 0},
		{"a header of 100 MB", endless("bill_reference,", "x", size, "\n"), CodeNoHeader, nil, 0},
		{"a header of 50 million columns", endless("bill_reference,", "x,", size, "\n"), CodeNoHeader, nil, 0},
		{"10 MB of blank lines", endless(head, "\n", less, "A,1,C1\n"), "", map[string]int{}, 1},
		{"10 MB of nothing but spaces", endless(head, " ", less, "\nA,1,C1\n"), "", map[string]int{CodeRowTooLarge: 1}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s, err := TakeSurvey(t.Context(), tt.open, zar, nil)
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 40<<20 {
				t.Errorf("%d MiB were allocated in all", grown>>20)
			}
			var bad *FileError
			if errors.As(err, &bad) != (tt.file != "") || bad != nil && bad.Code != tt.file || bad == nil && err != nil {
				t.Fatalf("got error %v, want %q", err, tt.file)
			}
			if tt.file == "" && (s.Rows != tt.rows || !equal(s.Codes, tt.codes)) {
				t.Errorf("got %d rows, %v, want %d, %v", s.Rows, s.Codes, tt.rows, tt.codes)
			}
		})
	}
}

// The places where rows are cut do not depend on where reads and batches end.
func TestBatchBorders(t *testing.T) {
	var text bytes.Buffer
	text.WriteString(head)
	rows, lines := 0, 1
	for text.Len() < 3*batchSize {
		text.WriteString("A" + strings.Repeat("é", rows%50) + ",1,\"C" + strings.Repeat("\n", rows%3) + "\"\r\n")
		if lines += 1 + rows%3; rows%7 == 0 {
			text.WriteString("\r\n")
			lines++
		}
		rows++
	}
	for _, step := range []int{1, 7, 4095, 4096, 1 << 20} {
		whole := text.Bytes()
		open := func() (io.ReadCloser, error) {
			rest := whole
			return io.NopCloser(readerFunc(func(p []byte) (int, error) {
				if len(rest) == 0 {
					return 0, io.EOF
				}
				n := copy(p[:min(len(p), step)], rest)
				rest = rest[n:]
				return n, nil
			})), nil
		}
		at := len(head)
		s, err := TakeSurvey(t.Context(), open, zar, func(r *Record) error {
			if r.Row == 1 { // the references come again and again, so all rows are visited twice
				at = len(head)
			}
			for bytes.HasPrefix(whole[at:], []byte("\r\n")) {
				at += 2
			}
			if !bytes.HasPrefix(whole[at:], r.Raw) {
				t.Fatalf("steps of %d: row %d is %q, the file goes on %.60q", step, r.Row, r.Raw, whole[at:])
			}
			at += len(r.Raw)
			return nil
		})
		if err != nil || s.Rows != rows || s.Lines.Total != lines {
			t.Errorf("steps of %d: got %d rows, %+v, %v, want %d rows, %d lines", step, s.Rows, s.Lines, err, rows, lines)
		}
	}
}
