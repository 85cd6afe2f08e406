package console

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// TestProgressLog: every 10 s a log line says how far each file is, its rate, and the
// time left.
func TestProgressLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := NewProgress(New(&log), slog.New(slog.NewTextHandler(&log, nil)), true)
		defer p.Close()
		lines := func() []string {
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			text := strings.Split(strings.TrimSpace(log.String()), "\n")
			log.Reset()
			return text
		}
		time.Sleep(2 * time.Second)
		p.FileStarted(ingest.Started{ID: "1", Name: "a.csv", Rows: 1000, Done: map[ledger.Status]int{ledger.Rejected: 5}})
		for i := range 80 {
			status := ledger.Created
			if i%8 == 0 {
				status = ledger.Invalid
			}
			p.RowDone("1", status)
		}
		time.Sleep(7 * time.Second)
		p.FileStarted(ingest.Started{ID: "2", Name: "b.csv", Rows: 10}) // too new to have a rate
		p.RowDone("2", ledger.Created)
		time.Sleep(time.Second)
		got := lines()
		want := "file=a.csv file_id=1 rows=1000 done=85 created=70 invalid=10 rejected=5 per_second=10 left=1m32s"
		if len(got) != 1 || !strings.HasSuffix(got[0], want) {
			t.Errorf("log %q, want a line that ends in %q", got, want)
		}
		p.FileFinished("1", report.Summary{})
		time.Sleep(10 * time.Second)
		got = lines()
		want = "file=b.csv file_id=2 rows=10 done=1 created=1 per_second=0 left=1m39s"
		if len(got) != 1 || !strings.HasSuffix(got[0], want) {
			t.Errorf("log %q, want a line that ends in %q", got, want)
		}
		p.FileLeft("2") // nothing is known of it any more
		time.Sleep(time.Minute)
		if got = lines(); len(got) != 1 || got[0] != "" {
			t.Errorf("log of a file that was left: %q", got)
		}
	})
}
