package ingest

import (
	"bytes"
	"encoding/csv"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/report"
)

// Reports that cannot be written are found before the import is recorded: nothing of it is
// left.
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
		if _, err := w.Import(t.Context(), r.feed, []LocalFile{{Path: file, Out: file}}); !errors.Is(err, ErrNotApplicable) {
			t.Errorf("err = %v", err)
		}
		if files, err := led.Files(t.Context(), ledger.Query{}); err != nil || len(files) != 0 {
			t.Errorf("recorded: %v, %v", files, err)
		}
		if _, err := w.Import(t.Context(), r.feed, []LocalFile{{Path: file, Out: filepath.Join(r.base, "out")}}); err != nil {
			t.Error(err)
		}
	})
}

// cutShort is a world in which an import was cut short: INV-5 was sent and its bill exists,
// but the answer was lost; the API refused the key for INV-8; INV-6 was not sent. file is
// what was imported, out is where its reports go.
func cutShort(t *testing.T) (w *world, id, file, out string) {
	t.Helper()
	w = newWorld(t, simConfig{Seed: 1})
	clear(w.files.files)
	dir := t.TempDir()
	file, out = filepath.Join(dir, "a.csv"), filepath.Join(dir, "out")
	write(t, file, simBills)
	w.script = func(c emulator.Call) emulator.Fault {
		switch {
		case c.Method == "POST" && c.Reference == "INV-5":
			return emulator.Fault{Apply: true, Drop: true}
		case c.Method == "POST" && c.Reference == "INV-8":
			return emulator.Fault{Status: 401, Delay: 3 * time.Second}
		}
		return emulator.Fault{}
	}
	worker := w.worker(t, alive())
	done, err := worker.Import(t.Context(), worker.Feeds[0], []LocalFile{{Path: file, Out: out}})
	if !errors.Is(err, delivery.ErrStopped) || len(done) != 0 {
		t.Fatalf("the import that is cut short: %v, %v", done, err)
	}
	files, err := w.ledger.Files(t.Context(), ledger.Query{Unfinished: true})
	if err != nil || len(files) != 1 || files[0].State != ledger.Sending {
		t.Fatalf("%v, %v", files, err)
	}
	w.script = nil
	return w, files[0].ID, file, out
}

// reported reads the statuses in the results of a local file, by reference.
func reported(t *testing.T, dir string, s report.Summary) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, report.NamesOf(s.Stem).Results))
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	statuses := make(map[string]string)
	for _, r := range records[1:] {
		statuses[r[1]] = r[2]
	}
	return statuses
}

// An import finishes what was cut short first, wherever its reports were to go, whatever it
// is told to import, and logs it.
func TestImportGoesOnWithUnfinished(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, file string) (next LocalFile)
		want   map[string]int // statuses of what is imported next; nil: it is the same import
	}{
		{"the same again", func(_ *testing.T, file string) LocalFile {
			return LocalFile{Path: file, Out: filepath.Join(filepath.Dir(file), "out")}
		}, nil},
		{"another place of the reports", func(_ *testing.T, file string) LocalFile {
			return LocalFile{Path: file, Out: filepath.Join(filepath.Dir(file), "other")}
		}, map[string]int{"existing": 8, "conflict": 1, "invalid": 1}},
		{"another path", func(t *testing.T, file string) LocalFile {
			moved := filepath.Join(filepath.Dir(file), "moved.csv")
			if err := os.Rename(file, moved); err != nil {
				t.Fatal(err)
			}
			return LocalFile{Path: moved, Out: filepath.Join(filepath.Dir(file), "out")}
		}, map[string]int{"existing": 8, "conflict": 1, "invalid": 1}},
		{"corrected in place", func(t *testing.T, file string) LocalFile {
			write(t, file, strings.Replace(simBills, "abc", "7000", 1))
			return LocalFile{Path: file, Out: filepath.Join(filepath.Dir(file), "out")}
		}, map[string]int{"existing": 8, "conflict": 1, "created": 1}},
		{"another file", func(t *testing.T, file string) LocalFile {
			other := filepath.Join(filepath.Dir(file), "b.csv")
			write(t, other, simMore)
			return LocalFile{Path: other}
		}, map[string]int{"existing": 1, "conflict": 1, "created": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, id, file, out := cutShort(t)
				next := c.change(t, file)
				log := new(logged)
				worker := w.worker(t, alive())
				worker.Log = slog.New(slog.NewTextHandler(log, nil))
				done, err := worker.Import(t.Context(), worker.Feeds[0], []LocalFile{next})
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(log.String(), `msg="resuming file" feed=bills file=a.csv file_id=`+id) {
					t.Errorf("not logged:\n%s", log)
				}
				if len(done) == 0 || done[0].Summary.FileID != id || done[0].Results != out {
					t.Fatalf("finished: %+v", done)
				}
				want := map[string]string{"OLD-SAME": "existing", "OLD-OTHER": "conflict", "INV-7": "invalid"}
				for _, ref := range []string{"INV-1", "INV-2", "INV-3", "INV-4", "INV-5", "INV-6", "INV-8"} {
					want[ref] = "created"
				}
				if got := reported(t, out, done[0].Summary); !maps.Equal(got, want) {
					t.Errorf("what was cut short: %v", got)
				}
				if (len(done) == 2) != (c.want != nil) {
					t.Fatalf("finished: %+v", done)
				}
				if c.want != nil {
					got := make(map[string]int)
					for _, status := range reported(t, done[1].Results, done[1].Summary) {
						got[status]++
					}
					if !maps.Equal(got, c.want) {
						t.Errorf("what was imported next: %v, want %v", got, c.want)
					}
				}
				if spooled, err := filepath.Glob(filepath.Join(w.spool, "*.*")); err != nil || len(spooled) > 0 {
					t.Errorf("left in the spool: %v %v", spooled, err)
				}
			})
		})
	}
}

// An unfinished import can be ended, whatever is left of it: nothing more is sent, what was
// sent is looked up, and its reports go where they were to go.
func TestRejectUnfinishedImport(t *testing.T) {
	settled := map[string]string{
		"INV-1": "created", "INV-2": "created", "INV-3": "created", "INV-4": "created", "INV-5": "created", "INV-6": "not_sent",
		"INV-7": "invalid", "INV-8": "failed", "OLD-SAME": "existing", "OLD-OTHER": "conflict",
	}
	recorded := maps.Clone(settled)
	for _, ref := range []string{"INV-5", "INV-6", "INV-8"} {
		delete(recorded, ref) // what the ledger held when it was cut short
	}
	for _, c := range []struct {
		name    string
		spoil   func(w *world, id, file string, feed *Feed) error
		want    map[string]string
		rejects bool
	}{
		{"all is there", func(*world, string, string, *Feed) error { return nil }, settled, true},
		{"source gone", func(_ *world, _, file string, _ *Feed) error { return os.Remove(file) }, settled, true},
		{"source changed", func(_ *world, _, file string, _ *Feed) error { return os.WriteFile(file, []byte("other\n"), 0o600) }, settled, true},
		{"copy gone", func(w *world, id, _ string, _ *Feed) error { return spool{w.spool}.remove(id) }, settled, true},
		{"both gone", func(w *world, id, file string, _ *Feed) error {
			return errors.Join(spool{w.spool}.remove(id), os.Remove(file))
		}, recorded, false},
		{"copy gone, source changed", func(w *world, id, file string, _ *Feed) error {
			return errors.Join(spool{w.spool}.remove(id), os.WriteFile(file, []byte("other\n"), 0o600))
		}, recorded, false},
		{"another format", func(_ *world, _, _ string, f *Feed) error { f.Format.PhoneRegion = "NA"; return nil }, recorded, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, id, file, out := cutShort(t)
				worker := w.worker(t, alive())
				if err := c.spoil(w, id, file, worker.Feeds[0]); err != nil {
					t.Fatal(err)
				}
				before := w.api.State().Posts
				s, err := worker.Reject(t.Context(), id)
				if err != nil || s.Outcome != ledger.FileRejected || !strings.Contains(s.Detail, "rejected by hand") {
					t.Fatalf("%+v, %v", s, err)
				}
				if after := w.api.State().Posts; after != before {
					t.Errorf("%d requests after the rejection", after-before)
				}
				if got := reported(t, out, s); !maps.Equal(got, c.want) {
					t.Errorf("results: %v", got)
				}
				if _, err := os.Stat(filepath.Join(out, report.NamesOf(s.Stem).Rejects)); (err == nil) != c.rejects {
					t.Errorf("rejects: %v", err)
				}
				if spooled, err := filepath.Glob(filepath.Join(w.spool, "*.*")); err != nil || len(spooled) > 0 {
					t.Errorf("left in the spool: %v %v", spooled, err)
				}
				worker.Feeds[0].Format.PhoneRegion = ""
				if _, err := worker.Retry(t.Context(), id); (c.name == "all is there" || c.name == "copy gone") && err != nil {
					t.Errorf("retry: %v", err) // INV-8 is looked up once more
				}
				if after := w.api.State().Posts; after != before {
					t.Errorf("a retry of a rejected file sent %d requests", after-before)
				}
			})
		})
	}
}

// A rejection of a file that is being sent, killed at any step, is finished by the next run,
// and sends nothing.
func TestRejectUnfinishedCrash(t *testing.T) {
	crashes := 0
	for seed := uint64(1); seed <= 60; seed++ {
		synctest.Test(t, func(t *testing.T) {
			w, id, _, out := cutShort(t)
			before := w.api.State().Posts
			p := &process{dice: dice{seed}, deadly: 6, steps: make(map[string]int)}
			if _, err := w.worker(t, p).Reject(t.Context(), id); p.dead {
				crashes++
				w.ledger.Crash(func(n int) int { return int(dice{seed}.roll("tail") % uint64(n+1)) })
			} else if err != nil {
				t.Fatal(err)
			}
			if _, err := w.worker(t, alive()).Reject(t.Context(), id); err != nil && !errors.Is(err, ErrNotApplicable) {
				t.Fatal(err)
			}
			f, err := w.ledger.File(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			got := reported(t, out, report.Summarize(f, *f.Sums))
			if got["INV-5"] != "created" || got["INV-6"] != "not_sent" || got["INV-8"] != "failed" || w.api.State().Posts != before {
				t.Errorf("seed %d, died %s: %v, %d requests", seed, p.where, got, w.api.State().Posts-before)
			}
		})
	}
	if crashes < 20 {
		t.Errorf("only %d of the rejections were killed", crashes)
	}
}
