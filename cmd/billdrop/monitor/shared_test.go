package monitor

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/watch"
)

// openHandle opens a shared ledger until the test ends.
func openHandle(t *testing.T, store *ledgertest.Store) *ledgertest.Handle {
	t.Helper()
	led := store.Open(time.Minute)
	t.Cleanup(func() {
		if err := led.Close(); err != nil {
			t.Error(err)
		}
	})
	return led
}

// newCrew returns a ledger that a worker "west" of another machine and a command share, with a file
// of 10 rows of which west has done 4.
func newCrew(t *testing.T) ledger.Shared {
	t.Helper()
	store := ledgertest.NewStore(0)
	west, command, ours := openHandle(t, store), openHandle(t, store), openHandle(t, store)
	for led, m := range map[ledger.Shared]ledger.Member{
		west:    {Name: "west", Machine: "w.example.com", Role: ingest.RoleRun, LostAfter: time.Minute, Formats: map[string]map[string]string{"bills": {}}},
		command: {Name: "import", Machine: "w.example.com", Role: ingest.RoleCommand, LostAfter: time.Minute},
	} {
		if err := led.Join(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	f := &ledger.File{ID: "20261123-053000-1f2e3d4c", Name: "november.csv", Feed: "bills", State: ledger.Sending, Rows: 10, Received: time.Now()}
	if err := west.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		o := ledger.Outcome{Row: i, Line: i + 2, Reference: fmt.Sprint("B", i), Status: ledger.Created, Currency: "ZAR", Amount: 100}
		if err := west.Record(t.Context(), ledger.Entry{File: f.ID, Outcome: &o}); err != nil {
			t.Fatal(err)
		}
	}
	if err := west.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ours
}

// TestPageOfSeveral: the page of one worker shows the others, and how far all of them have
// come with a file, on the front page and on the file's own.
func TestPageOfSeveral(t *testing.T) {
	handler, _ := newSite(t, newCrew(t), states{{Feed: "bills", Polled: time.Now()}})
	for path, want := range map[string][]string{
		"/":                               {"<h1>Workers</h1>", `<th role="rowheader" scope="row">west</th>`, "w.example.com", "<strong>4</strong> of 10 rows"},
		"/files/20261123-053000-1f2e3d4c": {"<strong>4</strong> of 10 rows"},
		"/metrics":                        {"\nbilldrop_workers 1\n"},
	} {
		code, _, body := ask(t, handler, http.MethodGet, path)
		if code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, code, body)
		}
		for _, text := range want {
			if !strings.Contains(body, text) {
				t.Errorf("%s lacks %s:\n%s", path, text, body)
			}
		}
	}
}

// TestPageOfOne: a ledger of one machine has no list of workers.
func TestPageOfOne(t *testing.T) {
	handler, _ := newSite(t, ledgertest.NewMemory(), states{{Feed: "bills", Polled: time.Now()}})
	if _, _, body := ask(t, handler, http.MethodGet, "/"); strings.Contains(body, "Workers") {
		t.Error(body)
	}
	if _, _, body := ask(t, handler, http.MethodGet, "/metrics"); strings.Contains(body, "billdrop_workers") {
		t.Error(body)
	}
}

// TestSharedPace: the pace of a file is what all workers did between two looks, and pages that are
// loaded at once share the sums.
func TestSharedPace(t *testing.T) {
	led := newCrew(t)
	s := newShared(led)
	f, err := led.File(t.Context(), "20261123-053000-1f2e3d4c")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if a, err := s.advanceOf(t.Context(), f); err != nil || a.Done != 4 || a.Rows != 10 || a.PerSecond != 0 || a.Left != 0 {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	if n := len(s.sums[f.ID]); n != 1 {
		t.Errorf("three looks at once added up %d times", n)
	}
	// Ten seconds ago, two rows were done.
	s.sums[f.ID] = slices.Insert(s.sums[f.ID], 0, sum{at: s.sums[f.ID][0].at.Add(-10 * time.Second), done: 2})
	if a, err := s.advanceOf(t.Context(), f); err != nil || a.PerSecond != 0.2 || a.Left != 30*time.Second {
		t.Errorf("2 rows in 10 s, 6 left: %+v, %v", a, err)
	}
}

var _ Worker = states{watch.State{}}

// TestReadyBesideOthers: a worker that stands by is ready, and one whose poll failed is not.
func TestReadyBesideOthers(t *testing.T) {
	_, v := newSite(t, newCrew(t), states{{Feed: "bills"}})
	if ok, why := v.ready(watch.State{Feed: "bills"}); !ok || !strings.Contains(why, "another worker") {
		t.Errorf("stands by: %v, %s", ok, why)
	}
	if ok, why := v.ready(watch.State{Feed: "bills", Failed: "no answer"}); ok || why != "no answer" {
		t.Errorf("failed: %v, %s", ok, why)
	}
}
