package inbox_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
)

// TestListingIsCut: of a directory that lists too much, or without end, the first 100,000 entries
// are read, and the call ends and says so.
func TestListingIsCut(t *testing.T) {
	const most = 100_000
	for name, tt := range map[string]struct {
		files int64  // that the server lists; 0 = without end
		long  string // in each name
		least int
		why   string // "" = it is not cut
	}{
		"120,000":     {files: 120_000, least: most, why: "more than 100000 entries"},
		"100,001":     {files: most + 1, least: most, why: "more than 100000 entries"},
		"100,000":     {files: most, least: most},
		"without end": {least: most, why: "more than 100000 entries"},
		"long names":  {long: strings.Repeat("x", 500), least: 50_000, why: "64 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			var listed atomic.Int64
			r := startInProcess(t, sftpserver.Hooks{Extra: func(i int64) (string, bool) {
				listed.Store(max(listed.Load(), i+1))
				return fmt.Sprintf("bills-%s%09d.csv", tt.long, i), tt.files == 0 || i < tt.files
			}})
			a := r.dial(t)
			entries, err := a.List(t.Context(), "/")
			if cut := errors.Is(err, inbox.ErrListingCut); cut != (tt.why != "") || err != nil && !strings.Contains(err.Error(), tt.why) {
				t.Fatalf("error %v, want one about %q", err, tt.why)
			}
			if len(entries) < tt.least || len(entries) > most {
				t.Errorf("%d entries, want %d to %d", len(entries), tt.least, most)
			}
			if n := listed.Load(); n > most+5_000 {
				t.Errorf("the server was asked for %d entries", n)
			}
			// The connection is as good as before.
			r.inProcess.SetHooks(sftpserver.Hooks{})
			r.put(t, "real.csv", "x")
			entries, err = a.List(t.Context(), "/")
			if err != nil || !slices.ContainsFunc(entries, func(e inbox.Entry) bool { return e.Name == "real.csv" }) || len(entries) != 1 {
				t.Errorf("then: %d entries, error %v", len(entries), err)
			}
		})
	}
}

// TestEndlessListingsDoNotGrow: listing after listing without end takes the same memory.
func TestEndlessListingsDoNotGrow(t *testing.T) {
	r := startInProcess(t, sftpserver.Hooks{Extra: func(i int64) (string, bool) { return fmt.Sprintf("bills-%09d.csv", i), true }})
	a := r.dial(t)
	var before uint64
	for i := range 3 {
		if _, err := a.List(t.Context(), "/"); !errors.Is(err, inbox.ErrListingCut) {
			t.Fatalf("error %v, want ErrListingCut", err)
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		if i == 0 {
			before = m.HeapAlloc
		} else if m.HeapAlloc > before+8<<20 {
			t.Errorf("%d MiB more after listing %d", (m.HeapAlloc-before)>>20, i+1)
		}
	}
}
