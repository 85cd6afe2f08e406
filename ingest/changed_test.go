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

// The detail of a file names all that made it complete with errors, and, after a retry, what
// still does.
func TestExplain(t *testing.T) {
	const links, changed = "created bills without a payment link: 2; ", "b.csv was changed after billdrop had read it, and is kept as b-1.changed.csv: "
	j := &job{file: &ledger.File{ID: "id", Name: "b.csv", Stem: "b-1"}}
	for i, c := range []struct {
		missing int
		changed bool
		want    []string
	}{
		{0, false, nil},
		{2, true, []string{links, changed}},
		{2, true, []string{links, changed}},
		{0, true, []string{changed}},
		{2, false, []string{links}},
		{0, false, nil},
	} {
		j.linksMissing = c.missing
		j.explain(c.changed)
		if n := strings.Count(j.file.Detail, links) + strings.Count(j.file.Detail, changed); n != len(c.want) || (n == 0) != (j.file.Detail == "") {
			t.Errorf("%d: %q, want each of %q once", i, j.file.Detail, c.want)
		}
		for _, want := range c.want {
			if !strings.Contains(j.file.Detail, want) {
				t.Errorf("%d: %q lacks %q", i, j.file.Detail, want)
			}
		}
	}
	j.file.Detail = "something else"
	if j.explain(true); j.file.Detail != "something else" {
		t.Errorf("what else it said is lost: %q", j.file.Detail)
	}
}
