//go:build bench && unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"billdrop/ingest/ledger/postgres/pgtest"
	"billdrop/ingest/report"
)

// TestBenchCluster measures workers on one PostgreSQL, which syncs its commits to the disk: four of
// them beside one, and one beside the same worker on SQLite. All are on one machine, so they share
// its processors; where that is what bounds them, the ratio of four to one is below what four
// machines reach.
func TestBenchCluster(t *testing.T) {
	b := newBench(t)
	pg := pgtest.StartConfig(t, pgtest.Config{Durable: true})
	b.crew(pg)
	b.engines(pg)
	t.Logf("medians of %d\n%s", *benchRuns, b.table.Render())
}

// crew raises one file's bills with four workers, and with one.
func (b *bench) crew(pg *pgtest.Server) {
	const name, rows = "40,000 rows of one file, 50 ms, 64 senders each: 4 workers", 40_000
	if b.skip(name) {
		return
	}
	several, alone := b.crewOf(pg, 4), b.crewOf(pg, 1)
	var one, four report.Summary
	r := pairs(*benchRuns,
		func() (f figure) { four, f = several.raise(rows); return f },
		func() (f figure) { one, f = alone.raise(rows); return f })
	for _, s := range []report.Summary{one, four} {
		if s.Rows.By["created"] != rows || s.Requests.Posts != rows || s.Requests.Gets != 0 || s.Parties != one.Parties {
			b.t.Errorf("%d created with %+v, %+v; want %d POSTs, no GET and each party once", s.Rows.By["created"], s.Requests, s.Parties, rows)
		}
	}
	b.row(name, r, "1 worker", bars{rate: "≥ 3.6"}, fmt.Sprintf("%d POSTs, %d GETs; %.0f bills/s", four.Requests.Posts, four.Requests.Gets, rows/r.ours.wall.Seconds()))
}

// crew is workers that stay, on one site.
type crew struct {
	b       *bench
	site    *site
	workers []*exec.Cmd
}

// crewOf starts workers, until the test ends.
func (b *bench) crewOf(pg *pgtest.Server, workers int) *crew {
	b.t.Helper()
	c := &crew{b: b, site: b.site(50*time.Millisecond, false, 64)}
	database := pg.Database(b.t)
	conf := ""
	for i := range workers {
		conf = c.site.onPostgres(fmt.Sprint("worker", i), database)
		cmd := b.command(b.binary, "run", "--no-progress", "--log-level", "error", "--config", conf)
		cmd.Stderr = os.Stderr
		must(cmd.Start())
		c.workers = append(c.workers, cmd)
	}
	b.t.Cleanup(func() {
		for _, w := range c.workers {
			_ = w.Process.Signal(syscall.SIGTERM)
			_ = w.Wait()
		}
	})
	await(b.t, func() bool {
		out, err := b.command(b.binary, "status", "--output", "json", "--config", conf).Output()
		var doc struct{ Workers []json.RawMessage }
		return err == nil && json.Unmarshal(out, &doc) == nil && len(doc.Workers) == workers // else there is no ledger yet
	})
	return c
}

// raise drops a file, and measures the time until its reports are there. The processor time is
// that of all workers, which go on.
func (c *crew) raise(rows int) (report.Summary, figure) {
	c.b.t.Helper()
	c.b.files++
	name := fmt.Sprintf("b%d", c.b.files)
	part := filepath.Join(c.site.root, "inbox", name+".part")
	writeBills(part, fmt.Sprint("R", c.b.files), rows, kind{currency: "ZAR"})
	before := c.cpu()
	began := time.Now()
	must(os.Rename(part, filepath.Join(c.site.root, "inbox", name+".csv")))
	var found []string
	await(c.b.t, func() bool {
		var err error
		found, err = filepath.Glob(filepath.Join(c.site.root, "results", name+"-*.summary.json"))
		must(err)
		return len(found) == 1
	})
	f := figure{wall: time.Since(began), cpu: c.cpu() - before}
	text, err := os.ReadFile(found[0])
	must(err)
	s, err := report.Parse(text)
	must(err)
	return s, f
}

// cpu is the processor time that all workers have used.
func (c *crew) cpu() (total time.Duration) {
	for _, w := range c.workers {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.Process.Pid))
		must(err)
		var user, system int64
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
		must(err)
		total += time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
	}
	return total
}

// engines raises the bills of a file with one worker on PostgreSQL, and with one on SQLite.
func (b *bench) engines(pg *pgtest.Server) {
	for _, c := range []struct {
		name    string
		rows    int
		latency time.Duration
		want    string
	}{
		{"PostgreSQL, one worker, 50,000 rows, 50 ms, 64 senders", 50_000, 50 * time.Millisecond, "≥ 0.9"},
		{"PostgreSQL, one worker, 100,000 rows, latency 0", 100_000, 0, ""},
	} {
		if b.skip(c.name) {
			continue
		}
		file, database := b.site(c.latency, false, 64), b.site(c.latency, false, 64)
		database.config = database.onPostgres("worker", pg.Database(b.t))
		r := pairs(*benchRuns, func() figure { return b.once(database, c.rows) }, func() figure { return b.once(file, c.rows) })
		b.row(c.name, r, "SQLite", bars{rate: c.want}, fmt.Sprintf("%.0f bills/s (at latency 0: bar ≥ 5,000)", float64(c.rows)/r.ours.wall.Seconds()))
	}
}

// onPostgres writes the configuration of a worker with this ledger and a spool of its own.
func (s *site) onPostgres(name, database string) string {
	text, err := os.ReadFile(s.config)
	must(err)
	dir := filepath.Dir(s.config)
	conf := filepath.Join(dir, name+".yaml")
	changed := strings.NewReplacer(
		"ledger: sqlite:"+dir+"/ledger.db", fmt.Sprintf("poll_interval: 200ms\nledger: %q", database),
		"spool_dir: "+dir+"/spool", "spool_dir: "+filepath.Join(dir, "spool-"+name),
	).Replace(string(text))
	must(os.WriteFile(conf, []byte(changed), 0o600))
	return conf
}
