package ingest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Tests of 403, which may be the key's fault or that of a gateway which refuses single requests.

var (
	page403    = emulator.Fault{Status: 403, Body: "<html><head><title>403 Forbidden</title></head></html>"}
	problem403 = emulator.Fault{Status: 403}
)

// some returns a script that answers the rows from first up to, not including, end with a
// fault; with gets, look-ups of them too.
func some(first, end int, gets bool, f emulator.Fault) func(emulator.Call) emulator.Fault {
	return func(c emulator.Call) emulator.Fault {
		var n int
		if _, err := fmt.Sscanf(c.Reference, "ROW-%d", &n); err == nil && n >= first && n < end && (gets || c.Method == "POST") {
			return f
		}
		return emulator.Fault{}
	}
}

// A row that a gateway refuses is tried like one that fails, and then rejected. The file goes on.
func TestRowsThatAGatewayRefuses(t *testing.T) {
	for _, c := range []struct {
		name       string
		rows       int
		first, end int // refused
		gets       bool
		fault      emulator.Fault
	}{
		{"a page, first row", 50, 0, 1, false, page403},
		{"a page, in the middle", 50, 20, 21, false, page403},
		{"a page, last row", 50, 49, 50, false, page403},
		{"a page, look-ups too", 50, 20, 21, true, page403},
		{"a page, last row, look-ups too", 50, 49, 50, true, page403},
		{"a page, the last eight rows", 50, 42, 50, false, page403},
		{"a page, the only row", 1, 0, 1, false, page403},
		{"a problem, in the middle", 50, 20, 21, false, problem403},
		{"a problem, first row, before others are answered", 50, 0, 1, false, problem403},
		{"a problem, three rows, look-ups too", 50, 10, 13, true, problem403},
		{"a problem, last row", 50, 49, 50, false, problem403},
	} {
		t.Run(c.name, func(t *testing.T) {
			refuse := some(c.first, c.end, c.gets, c.fault)
			script := func(call emulator.Call) emulator.Fault {
				f := refuse(call)
				if f == (emulator.Fault{}) {
					f.Delay = 100 * time.Millisecond // what is refused is answered first
				}
				return f
			}
			bubble(t, nestedRows(c.rows), script, func(t *testing.T, w *world) {
				summaries, err := w.worker(t, alive()).Poll(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				bad := c.end - c.first
				if by := summaries[0].Rows.By; by[ledger.Rejected] != bad || by[ledger.Created] != c.rows-bad {
					t.Errorf("rows: %v, want %d rejected", by, bad)
				}
				rows, err := w.results(report.NamesOf(summaries[0].Stem).Results)
				if err != nil {
					t.Fatal(err)
				}
				for i := c.first; i < c.end; i++ {
					if rows[i].code != "http_403" || !strings.HasPrefix(rows[i].detail, "a gateway refuses it (403") {
						t.Errorf("row %d: %+v", i, rows[i])
					}
					if n := w.api.State().PostsByReference[fmt.Sprint("ROW-", i)]; n > 6 || n < 2 {
						t.Errorf("row %d was sent %d times", i, n)
					}
				}
			})
		})
	}
}

// Where everything is refused, the run stops and no row is blamed; once that is mended, the rows go
// through. A key that is refused is not tried for long.
func TestEverythingIsRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		rows  int
		good  int // rows that get through before
		gets  bool
		fault emulator.Fault
		setup bool // and stops at once
	}{
		{"a problem, from the start", 60, 0, true, problem403, true},
		{"a problem, from the start, look-ups pass", 60, 0, false, problem403, true},
		{"a problem, one row", 1, 0, true, problem403, true},
		{"a problem, since some moment", 60, 30, true, problem403, true},
		{"a problem, since some moment, look-ups pass", 60, 30, false, problem403, true},
		{"a problem, since the last row but one", 60, 58, true, problem403, true},
		{"a page, from the start", 60, 0, true, page403, false},
		{"a page, one row", 1, 0, true, page403, false},
		{"a page, since some moment", 60, 30, true, page403, false},
		{"a page, many rows, look-ups pass", 600, 30, false, page403, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			mended, got, posts := false, 0, 0
			script := func(call emulator.Call) emulator.Fault {
				switch {
				case mended, call.Method == "GET" && !c.gets:
					return emulator.Fault{}
				case call.Method == "POST":
					posts++
					if got < c.good {
						got++
						return emulator.Fault{}
					}
				case got < c.good:
					return emulator.Fault{}
				}
				return c.fault
			}
			bubble(t, nestedRows(c.rows), script, func(t *testing.T, w *world) {
				begun := time.Now()
				summaries, err := w.worker(t, alive()).Poll(t.Context())
				took := time.Since(begun)
				if !errors.Is(err, delivery.ErrStopped) || errors.Is(err, delivery.ErrSetup) != c.setup || len(summaries) != 0 {
					t.Fatalf("err %v, %+v", err, summaries)
				}
				if c.setup && (posts > c.good+20 || took > 5*time.Minute) || took > 20*time.Minute {
					t.Errorf("%d POSTs in %v", posts, took)
				}
				var stop *delivery.Stop
				if !errors.As(err, &stop) || !strings.Contains(stop.Reason, "403") {
					t.Errorf("reason: %v", err)
				}
				mended = true
				summaries, err = w.worker(t, alive()).Poll(t.Context())
				if err != nil || summaries[0].Rows.By[ledger.Created] != c.rows {
					t.Errorf("once it is mended: err %v, %+v", err, summaries)
				}
			})
		})
	}
}
