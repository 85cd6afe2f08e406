package ingest

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/report"
)

// Two workers, each with a ledger of its own, share an inbox. The rename decides which of
// them has a file, and every bill and every party is created once.
func TestTwoWorkersOneInbox(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		const files, rows = 24, 20
		for i := range files {
			r.drop(t, fmt.Sprintf("f%02d.csv", i), manyBills(i*rows, rows, 7))
		}
		var together sync.WaitGroup
		var mu sync.Mutex
		var all []report.Summary
		for i := range 2 {
			// Its own ledger and spool, and its own lane: nothing is shared but the
			// servers.
			feed := *r.feed
			feed.Lane = newLane(r.client)
			base := filepath.Join(r.base, fmt.Sprint(i))
			led, err := sqlite.Open(t.Context(), filepath.Join(r.base, fmt.Sprintf("%d.db", i)))
			if err != nil {
				t.Fatal(err)
			}
			defer led.Close()
			w, err := New(Options{Ledger: led, Spool: base, Feeds: []*Feed{&feed}, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			together.Go(func() {
				for range 3 { // what one has not claimed when it looks, the other has
					summaries, err := w.Poll(t.Context())
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					all = append(all, summaries...)
					mu.Unlock()
				}
			})
		}
		together.Wait()
		seen := make(map[string]int)
		created := 0
		for _, s := range all {
			seen[s.File]++
			created += s.Rows.By[ledger.Created]
		}
		state := r.api.State()
		if len(seen) != files || len(all) != files || created != files*rows || len(state.Bills) != files*rows {
			t.Errorf("%d files in %d reports, %d rows created, %d bills; want %d, %d, %d, %d",
				len(seen), len(all), created, len(state.Bills), files, files, files*rows, files*rows)
		}
		if len(state.Customers) != 7 || len(state.Accounts) != 7 {
			t.Errorf("%d customers and %d accounts, want 7 of each", len(state.Customers), len(state.Accounts))
		}
	})
}

// The same rows in two feeds of one merchant at the same time: one of them creates a bill,
// the other finds it.
func TestSameFileInTwoFeeds(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		const rows = 200
		second := *r.feed
		second.Name = "second"
		dirs := &second.Dirs
		for _, d := range []*string{&dirs.Inbox, &dirs.Processing, &dirs.Archive, &dirs.Rejected, &dirs.Results} {
			name := "second-" + filepath.Base(*d)
			mkdir(t, filepath.Join(r.root, name))
			*d = filepath.Dir(*d) + "/" + name
			*d = strings.Replace(*d, "//", "/", 1)
		}
		r.drop(t, "a.csv", manyBills(0, rows, 30))
		write(t, filepath.Join(r.root, "second-inbox", "b.csv"), reversed(manyBills(0, rows, 30)))
		led, err := sqlite.Open(t.Context(), filepath.Join(r.base, "ledger.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer led.Close()
		w, err := New(Options{Ledger: led, Spool: filepath.Join(r.base, "spool"), Feeds: []*Feed{r.feed, &second}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		summaries, err := w.Poll(t.Context())
		if err != nil || len(summaries) != 2 {
			t.Fatalf("%d summaries, %v", len(summaries), err)
		}
		created, existing := 0, 0
		for _, s := range summaries {
			created += s.Rows.By[ledger.Created]
			existing += s.Rows.By[ledger.Existing]
		}
		state := r.api.State()
		if created != rows || existing != rows || state.Posts != rows || len(state.Bills) != rows {
			t.Errorf("%d created, %d existing, %d POSTs, %d bills; want %d of each", created, existing, state.Posts, len(state.Bills), rows)
		}
		if len(state.Customers) != 30 {
			t.Errorf("%d customers, want 30", len(state.Customers))
		}
	})
}

// reversed is the same file with its rows in the other order.
func reversed(content string) string {
	lines := strings.SplitAfter(strings.TrimSuffix(content, "\n"), "\n")
	var b strings.Builder
	b.WriteString(lines[0])
	for i := len(lines) - 1; i > 0; i-- {
		b.WriteString(strings.TrimSuffix(lines[i], "\n") + "\n")
	}
	return b.String()
}

// Feeds that share processing/ do not get in each other's way, also with files of one name.
func TestFeedsShareProcessing(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		second := *r.feed
		second.Name = "second"
		mkdir(t, filepath.Join(r.root, "second"))
		second.Dirs.Inbox = strings.TrimSuffix(r.feed.Dirs.Inbox, "/inbox") + "/second"
		r.feed.Hold.MaxRows = 3 // the first feed's file stays in processing/
		r.drop(t, "a.csv", manyBills(0, 5, 5))
		led, err := sqlite.Open(t.Context(), filepath.Join(r.base, "ledger.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer led.Close()
		w, err := New(Options{Ledger: led, Spool: filepath.Join(r.base, "spool"), Feeds: []*Feed{r.feed, &second}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(r.root, "second", "a.csv"), manyBills(100, 5, 5))
		second.Hold.MaxRows = 0
		summaries, err := w.Poll(t.Context())
		if err != nil || len(summaries) != 2 {
			t.Fatalf("%v, %+v", err, summaries)
		}
		for _, s := range summaries {
			want := map[string]string{"bills": ledger.FileHeld, "second": ledger.Completed}[s.Feed]
			if s.Outcome != want {
				t.Errorf("feed %s: %s, want %s", s.Feed, s.Outcome, want)
			}
		}
	})
}

// With a marker nothing settles and nothing is waited for: a file is complete when its
// marker is there, which goes with it.
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

// A checksum that disagrees refuses the file, control totals that disagree hold it, and
// both go where the file goes. A checksum that cannot be read holds it.
func TestSidecars(t *testing.T) {
	content := manyBills(0, 3, 3)
	for name, c := range map[string]struct {
		suffix, text, outcome, code string
	}{
		"checksum agrees":       {".sha256", sha256Hex(content) + "  a.csv\n", ledger.Completed, ""},
		"checksum disagrees":    {".sha256", sha256Hex("x"), ledger.FileRejected, "checksum_mismatch"},
		"checksum empty":        {".sha256", "", ledger.FileHeld, "unreadable_companion"},
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

// A claim that was cut short before its rename goes on under its own record, so that an order on
// the file that was accepted meanwhile counts.
func TestClaimGoesOnUnderItsRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 2, Harsh: true})
		w.well = true
		p := alive()
		p.before = func(step string, _ int) {
			if step == "rename /inbox/a.csv" {
				p.kill()
			}
		}
		if _, err := w.worker(t, p).Poll(t.Context()); !errors.Is(err, errDead) {
			t.Fatalf("the first run: %v, want to die", err)
		}
		begun, err := w.ledger.Files(t.Context(), ledger.Query{})
		if err != nil || len(begun) != 1 || begun[0].State != ledger.Claiming {
			t.Fatalf("after the first run: %+v, %v", begun, err)
		}

		p = alive()
		p.before = func(step string, _ int) {
			if step == "rename /inbox/a.csv" { // the last look for orders is over
				if _, err := LeaveOrder(t.Context(), w.ledger, w.spool, OrderReject, begun[0].ID); err != nil {
					t.Error(err)
				}
			}
		}
		if _, err := w.worker(t, p).Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		files, err := w.ledger.Files(t.Context(), ledger.Query{})
		if err != nil || len(files) != 1 || files[0].ID != begun[0].ID || files[0].Outcome != ledger.FileRejected {
			t.Errorf("after the second run: %+v, %v; want %s alone, rejected", files, err, begun[0].ID)
		}
		if p.posts > 0 {
			t.Errorf("%d bills were sent of a rejected file", p.posts)
		}
	})
}

// A worker that was taken for lost in the middle of its claim may make it while the one that took
// its file over looks where that is. The file is not dropped.
func TestClaimMadeMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 2, Harsh: true})
		w.well = true
		frozen := alive()
		frozen.before = func(step string, _ int) {
			if step == "rename /inbox/a.csv" {
				frozen.kill()
			}
		}
		if _, err := w.worker(t, frozen).Poll(t.Context()); !errors.Is(err, errDead) {
			t.Fatalf("the first run: %v, want to die", err)
		}
		made := false
		p := alive()
		p.before = func(step string, _ int) {
			if step == "lstat /inbox/a.csv" && !made {
				made = true
				if err := (&simRemote{w.files, alive()}).Rename(t.Context(), "/inbox/a.csv", "/processing/a.csv"); err != nil {
					t.Error(err)
				}
			}
		}
		if _, err := w.worker(t, p).Poll(t.Context()); err != nil || !made {
			t.Fatalf("%v; claimed meanwhile: %v", err, made)
		}
		files, err := w.ledger.Files(t.Context(), ledger.Query{})
		if err != nil || len(files) != 1 || files[0].State != ledger.Done || p.posts == 0 {
			t.Errorf("%+v, %v, %d bills sent; want the file to be done", files, err, p.posts)
		}
	})
}
