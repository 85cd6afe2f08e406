package ingest

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// An import of everything in a directory, again and again, passes over the reports that it
// put there, and does not double.
func TestImportPassesOverOwnReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 1})
		dir := t.TempDir()
		write(t, filepath.Join(dir, "b.csv"), simBills)
		all := func() (files []LocalFile) {
			names, err := filepath.Glob(filepath.Join(dir, "*.csv"))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				files = append(files, LocalFile{Path: name})
			}
			return files
		}
		log := new(logged)
		worker := w.worker(t, alive())
		worker.Log = slog.New(slog.NewTextHandler(log, nil))
		for n, want := range []int{1, 1, 1} {
			files := all()
			done, err := worker.Import(t.Context(), worker.Feeds[0], files)
			if err != nil || len(done) != want || done[0].Summary.File != "b.csv" {
				t.Fatalf("import %d of %v: %+v, %v", n+1, files, done, err)
			}
		}
		if n := strings.Count(log.String(), "level=WARN msg=\"file passed over"); n != 2+4 { // results and rejects of one import, then of two
			t.Errorf("%d warnings:\n%s", n, log)
		}
		own := slices.DeleteFunc(all(), func(f LocalFile) bool { return filepath.Base(f.Path) == "b.csv" })
		if done, err := worker.Import(t.Context(), worker.Feeds[0], own); !errors.Is(err, ErrNotApplicable) || len(done) != 0 {
			t.Errorf("an import of reports alone: %+v, %v", done, err)
		}
		if spooled, err := filepath.Glob(filepath.Join(w.spool, "*.*")); err != nil || len(spooled) > 0 {
			t.Errorf("left in the spool: %v %v", spooled, err)
		}
	})
}

// In an inbox, a report is refused, and so is a rejects file in which nothing was changed.
// A corrected one is taken.
func TestInboxRefusesOwnReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 1})
		w.files.remove("/inbox/b.csv")
		worker := w.worker(t, alive())
		summaries, err := worker.Poll(t.Context())
		if err != nil || len(summaries) != 1 {
			t.Fatalf("%+v, %v", summaries, err)
		}
		names := report.NamesOf(summaries[0].Stem)
		rejects := w.files.files["/results/"+names.Rejects].content
		w.files.put("/inbox/1.csv", w.files.files["/results/"+names.Results].content)
		w.files.put("/inbox/2.csv", rejects)
		w.files.put("/inbox/3.csv", []byte(strings.Replace(string(rejects), "abc", "7000", 1)))
		summaries, err = worker.Poll(t.Context())
		if err != nil || len(summaries) != 3 {
			t.Fatalf("%+v, %v", summaries, err)
		}
		for i, want := range []string{billfile.CodeOwnReport, billfile.CodeOwnReport, ""} {
			if s := summaries[i]; s.Code != want || (s.Outcome == ledger.FileRejected) != (want != "") {
				t.Errorf("%s: %s (%s): %s", s.File, s.Outcome, s.Code, s.Detail)
			}
		}
		if n := len(w.api.Bills("INV-7")); n != 1 {
			t.Errorf("%d bills of the corrected row", n)
		}
	})
}

// A report that exists and says otherwise is not overwritten, at any step, when the ledger
// does not know it: it was restored from a backup. Once it is moved away, the file goes on.
func TestForeignReportsAreKept(t *testing.T) {
	for _, name := range []string{"results.csv", "rejects.csv", "summary.json"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, id := heldWorld(t, 1)
				worker := w.worker(t, alive())
				f, err := Approve(t.Context(), w.ledger, id)
				if err != nil {
					t.Fatal(err)
				}
				path := "/results/" + f.Stem + "." + name
				w.files.put(path, []byte("true\n"))
				for range 2 {
					_, err = worker.Poll(t.Context())
					if err == nil || !strings.Contains(err.Error(), f.Stem+"."+name+" exists in /results") || adviceOn(err) == "" {
						t.Errorf("err = %v", err)
					}
				}
				if got := string(w.files.files[path].content); got != "true\n" {
					t.Errorf("the report says %q", got)
				}
				w.files.remove(path)
				if summaries, err := worker.Poll(t.Context()); err != nil || len(summaries) != 1 || summaries[0].Outcome != ledger.CompletedWithErrors {
					t.Errorf("once it is moved away: %+v, %v", summaries, err)
				}
				w.checkSent(t)
			})
		})
	}
}

// A local report is not overwritten either, nor written through a link.
func TestForeignLocalReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, id, file, out := cutShort(t)
		f, err := w.ledger.File(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(out, report.NamesOf(f.Stem).Results)
		victim := filepath.Join(t.TempDir(), "victim")
		write(t, victim, "precious")
		worker := w.worker(t, alive())
		for _, put := range []func() error{
			func() error { return os.WriteFile(name, []byte("true\n"), 0o600) },
			func() error { return os.Symlink(victim, name) },
		} {
			if err := put(); err != nil {
				t.Fatal(err)
			}
			if _, err := worker.Import(t.Context(), worker.Feeds[0], []LocalFile{{Path: file, Out: out}}); err == nil || !strings.Contains(err.Error(), "says otherwise") {
				t.Errorf("err = %v", err)
			}
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
			t.Errorf("the file behind the link: %q, %v", got, err)
		}
	})
}
