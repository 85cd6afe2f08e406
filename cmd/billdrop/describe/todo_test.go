package describe

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

// TestRead: each group gets its first rows, wherever in the file they are, and reading ends
// with the last one.
func TestRead(t *testing.T) {
	l := ledgertest.NewMemory()
	f := &ledger.File{ID: "f", Name: "a.csv", Results: "/results/", Stem: "a-01234567", Rows: 5000, State: ledger.Done}
	if err := l.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	for row := 1; row <= f.Rows; row++ {
		status := ledger.Invalid
		switch {
		case row%10 == 0:
			status = ledger.Created
		case row == 4001:
			status = ledger.Conflict
		case row == 4002, row == 4003:
			status = ledger.Unknown
		case row == 4999:
			status = ledger.Failed
		}
		o := ledger.Outcome{Row: row, Line: row + 1, Status: status, Reference: fmt.Sprint("R-", row)}
		if err := l.Record(t.Context(), ledger.Entry{File: "f", Outcome: &o}); err != nil {
			t.Fatal(err)
		}
	}
	file, err := ReadFile(t.Context(), l, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		most  int
		want  map[string][]int // first and last row shown
		pages int
	}{
		{2, map[string][]int{"fix": {1, 2}, "retry": {4002, 4003}, "look": {4001, 4001}}, 4},
		{1000, map[string][]int{"fix": {1, 1111}, "retry": {4002, 4999}, "look": {4001, 4001}}, 5},
		{0, map[string][]int{"fix": {1, 4998}, "retry": {4002, 4999}, "look": {4001, 4001}}, 5},
	} {
		counted := &pageCounter{Ledger: l}
		a := file.ToDo()
		if next, err := a.Read(t.Context(), counted, "f", Range{Most: c.most}); err != nil || c.most == 0 && next != 0 {
			t.Fatalf("next %d, error %v", next, err)
		}
		if a.Total != 4500 {
			t.Errorf("%d rows need attention, want 4500", a.Total)
		}
		got := map[string][]int{}
		for _, g := range a.Groups {
			got[g.Do] = []int{g.Rows[0].Row, g.Rows[len(g.Rows)-1].Row}
			want := g.Count
			if c.most > 0 {
				want = min(want, c.most)
			}
			if len(g.Rows) != want {
				t.Errorf("at most %d: %d rows to %s, want %d", c.most, len(g.Rows), g.Do, want)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("at most %d (- want, + got):\n%s", c.most, diff)
		}
		if counted.pages != c.pages {
			t.Errorf("at most %d: %d pages were read, want %d", c.most, counted.pages, c.pages)
		}
	}
}

type pageCounter struct {
	ledger.Ledger
	pages int
}

func (p *pageCounter) Attention(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	p.pages++
	return p.Ledger.Attention(ctx, file, from, limit)
}

// TestReadOn: the calls for one group list each of its rows once, whatever their number.
func TestReadOn(t *testing.T) {
	l := ledgertest.NewMemory()
	f := &ledger.File{ID: "f", Rows: 3000, State: ledger.Done}
	if err := l.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	want := 0
	for row := 1; row <= f.Rows; row++ {
		o := ledger.Outcome{Row: row, Status: ledger.Conflict}
		if row%3 == 0 {
			o.Status = ledger.Invalid
			want++
		}
		if err := l.Record(t.Context(), ledger.Entry{File: "f", Outcome: &o}); err != nil {
			t.Fatal(err)
		}
	}
	file, err := ReadFile(t.Context(), l, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Range{{Most: 97}, {Most: want}, {Most: want + 1}, {Reads: 1}, {Most: 500, Reads: 1}, {}} {
		var rows []int
		calls := 0
		for more := true; more; calls++ {
			todo := file.ToDo()
			todo.Groups = todo.Groups[:1]
			if todo.Groups[0].Do != "fix" {
				t.Fatalf("the first group is %s", todo.Groups[0].Do)
			}
			if r.From, err = todo.Read(t.Context(), l, "f", r); err != nil {
				t.Fatal(err)
			}
			for _, row := range todo.Groups[0].Rows {
				rows = append(rows, row.Row)
			}
			more = r.From > 0
		}
		for i, row := range rows {
			if row != 3*(i+1) {
				t.Fatalf("%+v: row %d is number %d", r, row, i)
			}
		}
		if len(rows) != want || r.Most > 0 && calls > want/r.Most+1+3*r.Reads {
			t.Errorf("%+v: %d rows in %d calls, want %d", r, len(rows), calls, want)
		}
	}
}
