package monitor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"billdrop/ingest"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
)

// askedLedger counts what is read from it.
type askedLedger struct {
	ledger.Ledger
	unbounded int // lists of files without a limit
	totals    int
	rows      int // outcomes read
}

func (a *askedLedger) Files(ctx context.Context, q ledger.Query) ([]*ledger.File, error) {
	if q.Limit == 0 {
		a.unbounded++
	}
	return a.Ledger.Files(ctx, q)
}

func (a *askedLedger) Totals(ctx context.Context, id string) (ledger.Totals, error) {
	a.totals++
	return a.Ledger.Totals(ctx, id)
}

func (a *askedLedger) Attention(ctx context.Context, id string, from, limit int) ([]ledger.Outcome, error) {
	o, err := a.Ledger.Attention(ctx, id, from, limit)
	a.rows += len(o)
	return o, err
}

// TestManyFiles: with thousands of files in the ledger, the page reads those that it shows,
// and adds up the rows of none that is finished.
func TestManyFiles(t *testing.T) {
	led := &askedLedger{Ledger: ledgertest.NewMemory()}
	at := time.Now().Add(-24 * time.Hour)
	for i := range 3_000 {
		f := &ledger.File{ID: fmt.Sprintf("f%04d", i), Name: fmt.Sprintf("file-%04d.csv", i), Feed: "bills", State: ledger.Done, Outcome: ledger.Completed, Received: at.Add(time.Duration(i) * time.Second), Finished: at, Sums: &ledger.Totals{}}
		if i%100 == 0 {
			f.State = ledger.Dropped
		}
		if i < 3 {
			f.State, f.Outcome = ledger.Held, ledger.FileHeld
		}
		if err := led.AddFile(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	h, _ := newSite(t, led, states{{Feed: "bills", Polled: at}})
	_, _, body := ask(t, h, "GET", "/")
	if !strings.Contains(body, "file-2999.csv") || strings.Contains(body, "file-2900.csv") || !strings.Contains(body, "older ones") || !strings.Contains(body, "billdrop approve f0001") {
		t.Errorf("the page:\n%s", body)
	}
	if n := strings.Count(body, `role="rowheader"`); n != newestFiles {
		t.Errorf("%d files are listed, want %d", n, newestFiles)
	}
	if led.unbounded != 0 || led.totals != 3 {
		t.Errorf("%d unbounded lists, %d sums; want 0, and those of the 3 held ones", led.unbounded, led.totals)
	}
}

// TestFewRowsAtATime: a page reads a bounded number of rows, and the pages together show
// each row once.
func TestFewRowsAtATime(t *testing.T) {
	led := &askedLedger{Ledger: ledgertest.NewMemory()}
	const small = 650
	for id, rows := range map[string]int{"small": small, "large": readRows + 3000} {
		f := &ledger.File{ID: id, Name: "a.csv", Feed: "bills", State: ledger.Done, Rows: rows, RowsRead: true}
		if err := led.AddFile(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		for row := 1; row <= rows; row++ {
			o := ledger.Outcome{Row: row, Line: row + 1, Status: ledger.Invalid, Code: "invalid_amount", Reference: fmt.Sprint("R-", row), Detail: "CANARY"}
			if row == 10 || row == rows-1000 {
				o.Status, o.Detail = ledger.Conflict, "amount_due: the bill has 1, this row 2"
			}
			if err := led.Record(t.Context(), ledger.Entry{File: id, Outcome: &o}); err != nil {
				t.Fatal(err)
			}
		}
	}
	h, _ := newSite(t, led, states{{Feed: "bills"}})
	look := func(target string) string {
		t.Helper()
		led.rows = 0
		code, _, body := ask(t, h, "GET", target)
		if code != 200 || strings.Contains(body, "CANARY") {
			t.Fatalf("%s: %d\n%s", target, code, body)
		}
		if led.rows > readRows+1024 {
			t.Errorf("%s reads %d rows", target, led.rows)
		}
		return body
	}
	front := look("/files/large")
	for _, says := range []string{"R-1<", "R-10<", "R-21<", "the bill has 1, this row 2", `href="?do=fix"`, `href="?do=look"`} {
		if !strings.Contains(front, says) {
			t.Errorf("the page does not say %q", says)
		}
	}
	if strings.Contains(front, "R-22<") {
		t.Errorf("the page shows more than %d rows of a kind", firstRows)
	}
	for _, c := range []struct {
		file, do string
		want     int
	}{{"large", "look", 2}, {"small", "look", 1}, {"small", "fix", small - 1}} {
		do, seen, target := c.do, 0, "/files/"+c.file+"?do="+c.do
		for target != "" {
			body := look(target)
			seen += strings.Count(body, "<code>R-")
			target = ""
			if _, rest, more := strings.Cut(body, `href="?do=`+do+`&amp;from=`); more {
				from, _, _ := strings.Cut(rest, `"`)
				target = "/files/" + c.file + "?do=" + do + "&from=" + from
			}
		}
		if seen != c.want {
			t.Errorf("the pages of %s of the %s file show %d rows, want %d", do, c.file, seen, c.want)
		}
	}
	look("/files/large?do=nonsense&from=-1")
}

// TestRefusedHeader: the column names of a refused header stay in the reports. In a file
// without a header they are a customer's data.
func TestRefusedHeader(t *testing.T) {
	led := ledgertest.NewMemory()
	for _, code := range []string{"unknown_column", "missing_column", "duplicate_column", "truncated"} {
		f := &ledger.File{ID: code, Name: "a.csv", Feed: "bills", State: ledger.Done, Outcome: ledger.FileRejected, Code: code, Detail: "detail of " + code}
		if err := led.AddFile(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	h, _ := newSite(t, led, states{{Feed: "bills"}})
	for code, want := range map[string]bool{"unknown_column": false, "missing_column": false, "duplicate_column": false, "truncated": true} {
		_, _, front := ask(t, h, "GET", "/")
		_, _, body := ask(t, h, "GET", "/files/"+code)
		if got := strings.Contains(front+body, "detail of "+code); got != want {
			t.Errorf("%s: its detail is shown: %t", code, got)
		}
	}
}

// TestProgressOfAFile: after a restart, the progress of a file includes the rows of earlier
// runs, and the metrics count the rows of this process.
func TestProgressOfAFile(t *testing.T) {
	led := ledgertest.NewMemory()
	f := &ledger.File{ID: "f", Name: "a.csv", Feed: "bills", State: ledger.Sending, Rows: 10}
	if err := led.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	h, v := newSite(t, led, states{{Feed: "bills"}})
	v.files.FileStarted(ingest.Started{ID: "f", Name: "a.csv", Feed: "bills", Rows: 10, Done: map[ledger.Status]int{ledger.Created: 4}})
	v.files.RowDone("f", ledger.Created)
	v.files.RowDone("f", ledger.Invalid)
	v.files.RowDone("other", ledger.Invalid)
	a, ok := v.files.advanceOf("f", time.Now())
	if !ok || a.Done != 6 || a.Rows != 10 || a.ByStatus[ledger.Created] != 5 || a.PerSecond <= 0 || a.Left <= 0 {
		t.Errorf("progress: %+v", a)
	}
	for _, target := range []string{"/", "/files/f"} {
		if _, _, body := ask(t, h, "GET", target); !strings.Contains(body, `<progress max="10" value="6"`) || !strings.Contains(body, `http-equiv="refresh"`) {
			t.Errorf("%s:\n%s", target, body)
		}
	}
	if _, _, body := ask(t, h, "GET", "/?refresh=off"); strings.Contains(body, `http-equiv="refresh"`) {
		t.Error("the page does not hold still")
	}
	// Left to another worker, taken up again, and rejected: its row is counted once.
	v.files.FileStarted(ingest.Started{ID: "l", Name: "l.csv", Feed: "loans", Rows: 2})
	v.files.RowDone("l", ledger.Created)
	v.files.FileLeft("l")
	if _, ok := v.files.advanceOf("l", time.Now()); ok || v.files.busy("loans") || v.files.paceOf("l", time.Now()) != nil {
		t.Error("a file that was left is still followed")
	}
	v.files.FileFinished("l", report.Summary{Feed: "loans", Outcome: ledger.FileRejected, Rows: report.Rows{Total: 2, By: map[ledger.Status]int{ledger.Created: 1, ledger.NotSent: 1}}})
	v.files.FileFinished("f", report.Summary{Feed: "bills", Outcome: ledger.CompletedWithErrors, FinishedAt: report.At(time.Unix(1_800_000_000, 0)),
		Rows:     report.Rows{Total: 10, By: map[ledger.Status]int{ledger.Created: 9, ledger.Invalid: 1}},
		Warnings: []billfile.Warning{{Code: billfile.WarnMojibake, Count: 1, Line: 2, Detail: "1 row has <signs>"}}})
	if _, _, body := ask(t, h, "GET", "/files/f"); !strings.Contains(body, "Warning: 1 row has &lt;signs&gt;") {
		t.Errorf("the page lacks the warning:\n%s", body)
	}
	// Refused as a whole: there was no RowDone.
	v.files.FileFinished("g", report.Summary{Feed: "bills", Outcome: ledger.FileRejected, Rows: report.Rows{Total: 3, By: map[ledger.Status]int{ledger.NotSent: 3}}})
	// Published by an earlier process, archived by this one.
	v.files.FileFinished("e", report.Summary{Feed: "bills", Outcome: ledger.Completed, Rows: report.Rows{Total: 5, By: map[ledger.Status]int{ledger.Created: 5}}})
	_, _, body := ask(t, h, "GET", "/metrics")
	for _, line := range []string{
		`billdrop_rows_total{feed="loans",status="created"} 1`, `billdrop_files_total{feed="loans",outcome="rejected"} 1`,
		`billdrop_rows_total{feed="bills",status="created"} 1`, `billdrop_rows_total{feed="bills",status="invalid"} 1`, `billdrop_rows_total{feed="bills",status="not_sent"} 3`,
		`billdrop_files_total{feed="bills",outcome="completed_with_errors"} 1`, `billdrop_files_total{feed="bills",outcome="rejected"} 1`, `billdrop_files_total{feed="bills",outcome="completed"} 1`,
		`billdrop_feed_last_file_timestamp_seconds{feed="bills"} 1.8e+09`, `billdrop_files_in_progress{feed="bills"} 1`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("the metrics lack %s:\n%s", line, body)
		}
	}
}
