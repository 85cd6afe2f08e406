//go:build unix

package main

import (
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// TestPresentKillLoop kills workers on PostgreSQL with SIGKILL at random moments while links
// are made, over an API that loses answers and fails, and would make a second payment request
// for any second key. At the end every bill has at most one, and the report says which.
func TestPresentKillLoop(t *testing.T) {
	t.Parallel()
	const rows = 200
	pg := pgtest.Start(t)
	c := newCluster(t, pg, emulator.Config{Latency: 5 * time.Millisecond, Seed: 11, FaultRate: 0.02}, clusterLost)
	var confs []string
	var workers []*process
	for _, slot := range []string{"a", "b"} {
		conf := c.config(slot, "", "", "amounts: minor", "amounts: minor\n    present: payment_request")
		confs = append(confs, conf)
		workers = append(workers, c.run(conf, ""))
	}
	c.up(confs[0], workers...)
	links := func() (asked, made int) {
		said := pg.Query(t, databaseName(t, c.database), "SELECT count(*) FILTER (WHERE state = 'asked') || ' ' || count(*) FILTER (WHERE state = 'made') FROM link")
		if _, err := fmt.Sscan(said, &asked, &made); err != nil {
			t.Fatal(err)
		}
		return asked, made
	}
	files, interrupted, before := 0, 0, 0
	unfinished := func() int {
		done, err := filepath.Glob(c.box.Path("archive/*.csv"))
		if err != nil {
			t.Fatal(err)
		}
		return files - len(done)
	}
	for range *clusterKills {
		await(t, func() bool { // a file whose links are being made
			if unfinished() == 0 {
				files++
				drop(t, c.box, fmt.Sprintf("kill-%d.csv", files), strings.ReplaceAll(string(numberedBills(rows)), "INV-", fmt.Sprintf("K%d-", files)))
			}
			asked, made := links()
			return asked > 0 && made > before
		})
		// Not a wait for something: a kill comes at any moment.
		<-time.After(rand.N(100 * time.Millisecond))
		victims := [][]int{{0}, {1}, {0, 1}}[rand.IntN(3)]
		for _, v := range victims {
			workers[v].kill()
		}
		asked, made := links()
		if before = made; asked > 0 {
			interrupted++
		}
		for _, v := range victims {
			workers[v] = c.run(confs[v], "")
		}
	}
	await(t, func() bool { return unfinished() == 0 })
	for _, w := range workers {
		w.stop()
	}
	if interrupted == 0 && *clusterKills > 5 {
		t.Error("no kill came while links were being made")
	}
	missing := checkPresented(t, c, files, rows)
	t.Logf("%d kills, %d of them in the middle of links; %d files of %d rows, %d links missing", *clusterKills, interrupted, files, rows, missing)
}

// checkPresented compares the links of all results with the API, and returns how many are missing.
func checkPresented(t *testing.T, c *cluster, files, rows int) (missing int) {
	t.Helper()
	state, err := apiState(c.box.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]emulator.PaymentRequest{}
	for _, r := range state.PaymentRequests {
		if _, twice := made[r.ExternalReference]; twice {
			t.Errorf("%s has two payment requests", r.ExternalReference)
		}
		made[r.ExternalReference] = r
	}
	names, err := filepath.Glob(c.box.Path("results/*.results.csv"))
	if err != nil || len(names) != files {
		t.Errorf("%d results of %d files, %v", len(names), files, err)
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		records, err := csv.NewReader(f).ReadAll()
		f.Close()
		if err != nil || len(records) != rows+1 {
			t.Errorf("%s: %d lines, %v", name, len(records), err)
			continue
		}
		for _, r := range records[1:] {
			reference, status, code, link, id := r[1], r[2], r[3], r[12], r[13]
			request, there := made[reference]
			switch {
			case status != "created":
				t.Errorf("%s: %v", filepath.Base(name), r)
			case link == "":
				missing++
				if id != "" || code != "link_failed" {
					t.Errorf("%s: %v", filepath.Base(name), r)
				}
			case !there || request.ID != id || request.Link.URL != link || code != "" || fmt.Sprint(request.Amount) != r[9]:
				t.Errorf("%s: %v, the API has %+v", filepath.Base(name), r, request)
			}
		}
	}
	return missing
}
