package ingest

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/report"
)

// With a marker nothing settles and nothing is waited for: a file is complete when its marker is there, which goes with it.
func TestMarker(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		r.feed.Watch.Marker, r.feed.Watch.Settle = ".done", time.Hour
		r.drop(t, "a.csv", manyBills(0, 3, 3))
		if summaries := r.poll(t); len(summaries) != 0 {
			t.Errorf("taken without its marker: %+v", summaries)
		}
		r.drop(t, "a.csv.done", "")
		r.finished(t, 3)
	})
}

// A checksum that disagrees refuses the file, control totals that disagree hold it, and both go where the file goes. An empty
// companion is no companion that agrees.
func TestSidecars(t *testing.T) {
	content := manyBills(0, 3, 3)
	for name, c := range map[string]struct {
		suffix, text, outcome, code string
	}{
		"checksum agrees":       {".sha256", sha256Hex(content) + "  a.csv\n", ledger.Completed, ""},
		"checksum disagrees":    {".sha256", sha256Hex("x"), ledger.FileRejected, "checksum_mismatch"},
		"checksum empty":        {".sha256", "", ledger.FileRejected, "checksum_mismatch"},
		"totals agree":          {".control.json", `{"rows": 3, "amounts": {"ZAR": 303}}`, ledger.Completed, ""},
		"sum disagrees":         {".control.json", `{"rows": 3, "amounts": {"ZAR": 304}}`, ledger.FileHeld, "control_total_mismatch"},
		"rows disagree":         {".control.json", `{"rows": 4}`, ledger.FileHeld, "control_total_mismatch"},
		"totals empty":          {".control.json", "", ledger.FileHeld, "control_total_mismatch"},
		"totals say nothing":    {".control.json", "{}", ledger.FileHeld, "control_total_mismatch"},
		"totals say two things": {".control.json", `{"rows": 3}{"rows": 4}`, ledger.FileHeld, "control_total_mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			onServers(t, func(t *testing.T, r *rig) {
				r.drop(t, "a.csv", content)
				r.drop(t, "a.csv"+c.suffix, c.text)
				s := r.poll(t)
				if len(s) != 1 || s[0].Outcome != c.outcome || s[0].Code != c.code {
					t.Fatalf("summaries %+v", s)
				}
				where := map[string]string{ledger.Completed: "archive", ledger.FileRejected: "rejected", ledger.FileHeld: "processing"}[c.outcome]
				for _, file := range []string{"a.csv", "a.csv" + c.suffix} {
					if _, err := os.Stat(filepath.Join(r.root, where, file)); err != nil {
						t.Errorf("%s: %v", file, err)
					}
				}
				if c.outcome != ledger.Completed && r.api.State().Posts != 0 {
					t.Errorf("%d POSTs", r.api.State().Posts)
				}
			})
		})
	}
}

// What is not claimed is named: links, directories, odd names, and files in processing/ that nobody remembers.
func TestOddities(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		var log bytes.Buffer
		inboxDir := filepath.Join(r.root, "inbox")
		mkdir(t, filepath.Join(inboxDir, "dir.csv"))
		if err := os.Symlink("/etc/passwd", filepath.Join(inboxDir, "link.csv")); err != nil {
			t.Fatal(err)
		}
		r.drop(t, "odd;name.csv", "x")
		r.drop(t, "notes.txt", "x")
		write(t, filepath.Join(r.root, "processing", "stranger.csv"), manyBills(0, 1, 1))
		r.drop(t, "stranger.csv", manyBills(0, 1, 1))
		led, err := sqlite.Open(t.Context(), filepath.Join(r.base, "ledger.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer led.Close()
		w, err := New(Options{Ledger: led, Spool: filepath.Join(r.base, "spool"), Feeds: []*Feed{r.feed}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		summaries, err := w.Poll(t.Context())
		if err != nil || len(summaries) != 0 {
			t.Errorf("%v, %+v", err, summaries)
		}
		for _, name := range []string{"dir.csv", "link.csv", "odd;name.csv", "notes.txt", "stranger.csv"} {
			if !strings.Contains(log.String(), name) {
				t.Errorf("%s is not named in the log", name)
			}
		}
		if state := r.api.State(); state.Posts != 0 {
			t.Errorf("%d POSTs", state.Posts)
		}
	})
}

// Reports that cannot be written are found before the import is recorded: nothing of it is left.
func TestImportOutMustBeWritable(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		led, err := sqlite.Open(t.Context(), filepath.Join(r.base, "ledger.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer led.Close()
		w, err := New(Options{Ledger: led, Spool: filepath.Join(r.base, "spool"), Feeds: []*Feed{r.feed}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(r.base, "a.csv")
		write(t, file, manyBills(0, 2, 2))
		if _, err := w.Import(t.Context(), r.feed, file, nil, file); !errors.Is(err, ErrNotApplicable) {
			t.Errorf("err = %v", err)
		}
		if files, err := led.Files(t.Context(), ledger.Query{}); err != nil || len(files) != 0 {
			t.Errorf("recorded: %v, %v", files, err)
		}
		if _, err := w.Import(t.Context(), r.feed, file, nil, filepath.Join(r.base, "out")); err != nil {
			t.Error(err)
		}
	})
}

// Finished hears of each file once, when its reports are in place, and of what its summary says to the byte: of a refused one, of one that
// is held and then approved, and of one whose run ended when all was published.
func TestFinished(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		var log bytes.Buffer
		w := r.worker(t, &log, r.feed)
		heard := make(map[string]int)
		w.Finished = func(s report.Summary) {
			published, err := os.ReadFile(filepath.Join(r.root, "results", report.NamesOf(s.Stem).Summary))
			if err != nil || !bytes.Equal(published, s.Bytes()) {
				t.Errorf("%s: %v: heard\n%s\nbut published is\n%s", s.File, err, s.Bytes(), published)
			}
			heard[s.File+" "+s.Outcome]++
		}
		poll := func(want map[string]int) []report.Summary {
			t.Helper()
			clear(heard)
			summaries, err := w.Poll(t.Context())
			if err != nil || !maps.Equal(heard, want) {
				t.Errorf("%v, heard of %v, want %v", err, heard, want)
			}
			return summaries
		}
		r.drop(t, "good.csv", manyBills(0, 3, 3))
		r.drop(t, "mixed.csv", manyBills(10, 3, 3)+"INV-9,abc,A,C,N\n")
		r.drop(t, "bad.csv", "nothing\n1\n")
		poll(map[string]int{"good.csv completed": 1, "mixed.csv completed_with_errors": 1, "bad.csv rejected": 1})
		poll(map[string]int{})

		r.feed.Hold.MaxRows = 1
		r.drop(t, "held.csv", manyBills(20, 3, 3))
		s := poll(map[string]int{"held.csv held": 1})
		poll(map[string]int{})
		if _, err := Approve(t.Context(), w.Ledger, s[0].FileID); err != nil {
			t.Fatal(err)
		}
		poll(map[string]int{"held.csv completed": 1})

		f, err := w.Ledger.File(t.Context(), s[0].FileID)
		if err != nil {
			t.Fatal(err)
		}
		f.State = ledger.Published
		if err := w.Ledger.SaveFile(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		poll(map[string]int{"held.csv completed": 1})
	})
}
