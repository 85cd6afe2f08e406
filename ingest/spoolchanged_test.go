package ingest

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
)

// What a sender adds to a file that is being sent is not read. The reports, the exit code and
// the ledger say so, because all of the file seems to be processed otherwise. The same content
// with another time is no change.
func TestFileChangedWhileSent(t *testing.T) {
	const b = "/processing/b.csv"
	for _, c := range []struct {
		name  string
		added string
		want  string // outcome of the file
	}{
		{"rows added", "LATE-1,100,CUST-LATE\n", ledger.CompletedWithErrors},
		{"touched", "", ledger.Completed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, simConfig{Seed: 1})
				for _, name := range w.files.in("/inbox") {
					w.files.remove("/inbox/" + name)
				}
				content := []byte("bill_reference,amount_due,customer_reference\nINV-1,100,CUST-1\n")
				w.files.put("/inbox/b.csv", content)
				w.script = func(emulator.Call) emulator.Fault {
					time.Sleep(2 * time.Second) // so that its time differs
					w.files.put(b, append(bytes.Clone(content), c.added...))
					return emulator.Fault{}
				}
				summaries, err := w.worker(t, alive()).Poll(t.Context())
				if err != nil || len(summaries) != 1 {
					t.Fatalf("%+v, %v", summaries, err)
				}
				s := summaries[0]
				if s.Outcome != c.want || s.Rows.By[ledger.Created] != 1 || s.Attention() != (c.added != "") {
					t.Errorf("%+v", s)
				}
				if told := strings.Contains(s.Detail, "b.csv was changed after billdrop had read it"); told != (c.added != "") {
					t.Errorf("detail: %q", s.Detail)
				}
				if f, err := w.ledger.File(t.Context(), s.FileID); err != nil || f.Outcome != s.Outcome || f.Detail != s.Detail {
					t.Errorf("the ledger has %+v, %v", f, err)
				}
			})
		})
	}
}
