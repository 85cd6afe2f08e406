package ingest

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
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
