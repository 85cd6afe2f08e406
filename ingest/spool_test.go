package ingest

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

func writing(content string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	}
}

// Of a file over the limit only size and hash are taken.
func TestSpoolOverLimit(t *testing.T) {
	s := spool{t.TempDir()}
	sum, size, err := s.take(t.Context(), "x", 4, writing("a bill file"))
	if err != nil || size != 11 || sum != sha256Hex("a bill file") {
		t.Errorf("%s, %d, %v", sum, size, err)
	}
	if left, _ := os.ReadDir(s.dir); len(left) > 0 {
		t.Errorf("kept: %v", left)
	}
}

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
