package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

func writing(content string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	}
}

// A file over the limit is not read on, and not kept.
func TestSpoolOverLimit(t *testing.T) {
	s := spool{t.TempDir()}
	written := 0
	endless := func(_ context.Context, w io.Writer) error {
		for {
			n, err := w.Write([]byte("abc"))
			if written += n; err != nil {
				return err
			}
		}
	}
	if _, _, err := s.take(t.Context(), "x", 10, endless); !errors.Is(err, errTooLarge) || written > 10 {
		t.Errorf("%v after %d bytes", err, written)
	}
	if left, _ := os.ReadDir(s.dir); len(left) > 0 {
		t.Errorf("kept: %v", left)
	}
}

// A file that is announced as larger than max_file_size is refused without a byte of it being
// read, and keeps its feed from nothing. So is one that a pipe brings, once it is seen.
func TestTooLargeIsRefusedUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 1})
		w.files.put("/inbox/a.csv", []byte(strings.Repeat(simBills, 3)))
		p := alive()
		worker := w.worker(t, p)
		worker.Feeds[0].Format.MaxFileSize = int64(len(simBills))
		summaries, err := worker.Poll(t.Context())
		if err != nil || len(summaries) != 2 {
			t.Fatalf("%+v, %v", summaries, err)
		}
		for _, s := range summaries {
			if s.File == "a.csv" && (s.Code != billfile.CodeFileTooLarge || s.Stem != "a-unread" || s.SHA256 != "") || s.File == "b.csv" && s.Code != "" {
				t.Errorf("%+v", s)
			}
		}
		if p.steps["fetch /processing/a.csv"] != 0 || fmt.Sprint(w.files.in("/rejected")) != "[a.csv]" {
			t.Errorf("fetched %d times, rejected: %v", p.steps["fetch /processing/a.csv"], w.files.in("/rejected"))
		}
		w.files.put("/inbox/a.csv", []byte(strings.Repeat(simBills, 2)))
		if summaries, err = worker.Poll(t.Context()); err != nil || len(summaries) != 1 || summaries[0].Stem != "a-unread-2" {
			t.Errorf("another one: %+v, %v", summaries, err)
		}

		dir := t.TempDir()
		sparse := filepath.Join(dir, "sparse.csv")
		write(t, sparse, simBills)
		if err := os.Truncate(sparse, 1<<40); err != nil {
			t.Fatal(err)
		}
		endless := io.MultiReader(strings.NewReader(simBills), forever{})
		done, err := worker.Import(t.Context(), worker.Feeds[0], []LocalFile{{Path: sparse}, {Path: "-", In: endless, Out: dir}})
		if err != nil || len(done) != 2 {
			t.Fatalf("%+v, %v", done, err)
		}
		for _, d := range done {
			if d.Summary.Code != billfile.CodeFileTooLarge || !strings.HasSuffix(d.Summary.Stem, "-unread") {
				t.Errorf("%+v", d.Summary)
			}
		}
	})
}

// forever is a pipe that never ends.
type forever struct{}

func (forever) Read(p []byte) (int, error) { return len(p), nil }

// Copies of people's data go with their file, also after a crash; those of files under way
// stay, and so does what is none of ours.
func TestSpoolSweep(t *testing.T) {
	s, led := spool{t.TempDir()}, ledgertest.NewMemory()
	for id, state := range map[string]ledger.FileState{"done": ledger.Done, "sending": ledger.Sending, "dropped": ledger.Dropped} {
		if err := led.AddFile(t.Context(), &ledger.File{ID: id, State: state}); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * orphanAge)
	for _, name := range []string{"done.csv", "done.results.part", "sending.csv", "dropped.csv.part", "orphan.csv", "fresh.csv", "notes.txt"} {
		write(t, filepath.Join(s.dir, name), "x")
		if name != "fresh.csv" {
			if err := os.Chtimes(filepath.Join(s.dir, name), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.sweep(t.Context(), led); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "fresh.csv notes.txt sending.csv" {
		t.Errorf("left: %s", got)
	}
}

// A copy that was changed in the spool is never sent: it is fetched again, or the file stops
// with the copy's path.
func TestChangedCopy(t *testing.T) {
	for _, c := range []struct {
		name  string
		gone  bool // the source
		again bool // it is changed once more while the file is worked on
	}{
		{"source there", false, false}, {"source gone", true, false}, {"changed once more", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, id, file, _ := cutShort(t)
				copied := spool{w.spool}.path(id)
				change := func() {
					if err := os.WriteFile(copied, []byte(strings.Replace(simBills, "INV-6,6000", "INV-6,1000", 1)), 0o600); err != nil {
						t.Error(err)
					}
				}
				change()
				if c.gone {
					if err := os.Remove(file); err != nil {
						t.Fatal(err)
					}
				}
				worker := w.worker(t, alive())
				if c.again {
					reads := 0
					worker.Ledger = &readLedger{w.ledger, func() {
						if reads++; reads == 1 {
							change()
						}
					}}
				}
				before := w.api.State().Posts
				r := round{Worker: worker, feed: worker.Feeds[0], once: true}
				r.resume(t.Context(), ledger.FromLocal)
				err := errors.Join(r.errs...)
				if !c.gone && !c.again {
					if err != nil || len(r.summaries()) != 1 {
						t.Fatalf("%v, %+v", err, r.summaries())
					}
					if b := w.api.Bills("INV-6"); len(b) != 1 || b[0].AmountDue != 6000 {
						t.Errorf("INV-6: %+v", b)
					}
					return
				}
				if err == nil || errors.Is(err, ErrNotApplicable) || !strings.Contains(err.Error(), copied) || adviceOn(err) == "" {
					t.Errorf("err = %v", err)
				}
				if n := w.api.State().Posts - before; n != 0 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

// readLedger calls a function when the API's address is looked up, which is right before the
// rows are sent.
type readLedger struct {
	ledger.Ledger
	read func()
}

func (l *readLedger) BaseURL(ctx context.Context, s ledger.Scope) (string, error) {
	l.read()
	return l.Ledger.BaseURL(ctx, s)
}
