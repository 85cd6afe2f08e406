//go:build unix

package main

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger/postgres/pgtest"
)

var (
	clusterKills    = flag.Int("cluster.kills", 1, "how many workers TestClusterLoop kills")
	clusterFreezes  = flag.Int("cluster.freezes", 1, "how often it stops a worker longer than lost_after, and wakes it")
	clusterRestarts = flag.Int("cluster.restarts", 1, "how often it restarts PostgreSQL, every other time by SIGKILL")
	clusterTimes    = flag.Bool("cluster.times", false, "fail TestClusterLoop if a take-over lasts longer than promised; for a quiet machine")
	clusterCuts     = flag.Int("cluster.cuts", 1, "how often it cuts a worker off from PostgreSQL")
)

// loopRows are enough for a file that is divided among the workers; every fourth file is small.
const loopRows, loopSmall = 2400, 60

// TestClusterLoop has four workers send files while they, their connections and PostgreSQL are
// killed, stopped and restarted at random moments. The API loses answers and fails; in one
// half of the trouble it would not refuse a duplicate. At the end, every row of every file is
// one bill and one line of one report.
func TestClusterLoop(t *testing.T) {
	pg := pgtest.Start(t)
	for i, api := range []struct {
		name string
		weak bool
	}{{"strict", false}, {"weak", true}} {
		half := func(n int) int { return (n + i) / 2 }
		kills, freezes, restarts, cuts := half(*clusterKills), half(*clusterFreezes), half(*clusterRestarts), half(*clusterCuts)
		if kills+freezes+restarts+cuts == 0 {
			continue // the one half has all of it
		}
		t.Run(api.name, func(t *testing.T) {
			l := newLoop(t, pg, emulator.Config{Latency: 5 * time.Millisecond, Seed: 7, FaultRate: 0.02, Weak: api.weak})
			l.trouble(kills, freezes, restarts, cuts)
		})
	}
}

// loop is a cluster in trouble.
type loop struct {
	*cluster
	slots    []*slot
	want     map[string]string // bill reference → file
	rows     map[string]int    // file → rows
	restarts int
	taken    []time.Duration // how long the others needed to take over from a worker that was killed or stopped
}

// slot is a machine: a configuration, a spool and a link to PostgreSQL, and the worker that
// runs there.
type slot struct {
	conf   string
	link   *dbLink
	worker *process
}

func newLoop(t *testing.T, pg *pgtest.Server, api emulator.Config) *loop {
	l := &loop{cluster: newCluster(t, pg, api, clusterLost), want: make(map[string]string), rows: make(map[string]int)}
	for _, name := range []string{"a", "b", "c", "d"} {
		way := newDBLink(t, pg.Address)
		l.slots = append(l.slots, &slot{conf: l.config(name, "", way.address()), link: way})
	}
	for _, s := range l.slots {
		s.worker = l.run(s.conf, "")
	}
	for _, s := range l.slots {
		l.up(l.slots[0].conf, s.worker)
	}
	return l
}

// trouble makes trouble in a random order, and then waits for all files.
func (l *loop) trouble(kills, freezes, restarts, cuts int) {
	t := l.t
	var order []func()
	for _, kind := range []struct {
		times int
		make  func()
	}{{kills, l.kill}, {freezes, l.freeze}, {restarts, l.restart}, {cuts, l.cut}} {
		for range kind.times {
			order = append(order, kind.make)
		}
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, next := range order {
		l.feed()
		// Not a wait for something: trouble comes at any moment.
		<-time.After(rand.N(700 * time.Millisecond))
		next()
		for _, s := range l.slots {
			if s.worker.over() {
				t.Fatalf("a worker ended by itself: %v\n%s", s.worker.err, lastLines(s.worker.stderr.String(), 30))
			}
		}
	}
	if len(l.rows) == 0 {
		l.feed()
	}
	began := time.Now()
	await(t, func() bool { return l.unfinished() == 0 })
	t.Logf("%d kills, %d freezes, %d restarts and %d cuts over %d files, %d rows; the last file %.1f s after the last trouble; taken over in %s at most",
		kills, freezes, restarts, cuts, len(l.rows), len(l.want), time.Since(began).Seconds(), slices.Max(append(l.taken, 0)).Round(time.Millisecond))
	for _, s := range l.slots {
		s.worker.stop()
	}
	l.check()
}

// unfinished is how many files are not in the archive.
func (l *loop) unfinished() int {
	done, err := filepath.Glob(l.box.Path("archive/*.csv"))
	if err != nil {
		l.t.Fatal(err)
	}
	return len(l.rows) - len(done)
}

// feed keeps two files under way.
func (l *loop) feed() {
	for l.unfinished() < 2 {
		n := len(l.rows) + 1
		name := fmt.Sprintf("loop-%d.csv", n)
		rows := loopRows
		if n%4 == 0 {
			rows = loopSmall
		}
		var b bytes.Buffer
		b.WriteString("bill_reference,amount_due,account_reference,customer_reference,customer_name\n")
		for i := range rows {
			ref := fmt.Sprintf("K%d-%d", n, i)
			l.want[ref] = name
			// New parties, parties of the same file, and parties of files before; some have many
			// rows, which lie in several parts.
			party := (n/3)*1500 + i%1500
			if i%10 == 0 {
				party = n * 1_000_000
			}
			fmt.Fprintf(&b, "%s,%d,ACC-%d,CUS-%d,Name %d\n", ref, 100+i, party, party, party)
		}
		l.rows[name] = rows
		drop(l.t, l.box, name, b.String())
	}
}

func (l *loop) some() *slot { return l.slots[rand.N(len(l.slots))] }

// kill ends a worker, and starts another one on its machine once the others have its work.
func (l *loop) kill() {
	s := l.some()
	work := l.inHand(s.worker.name)
	s.worker.kill()
	l.awaitTakeOver(work)
	s.worker = l.run(s.conf, "")
	l.up(l.other(s).conf, s.worker)
}

// awaitTakeOver waits until the others have the work of a worker that is lost from now on.
func (l *loop) awaitTakeOver(work string) {
	began := time.Now()
	last := ""
	await(l.t, func() bool {
		waits := l.waiting(work)
		if waits != "" {
			last = waits
		}
		return waits == ""
	})
	took := time.Since(began)
	if took > takeOver/2 {
		l.t.Logf("a take-over lasted %s, and the last that waited was: %s", took, strings.ReplaceAll(last, "\n", ", "))
	}
	if work != "" {
		l.taken = append(l.taken, took)
	}
	if *clusterTimes && took > takeOver {
		l.t.Errorf("the work of a lost worker was taken over after %s, and lost_after is %s", took, clusterLost)
	}
}

// other is a machine other than s.
func (l *loop) other(s *slot) *slot {
	if l.slots[0] == s {
		return l.slots[1]
	}
	return l.slots[0]
}

// inHand are the parts and leases that a worker has in hand, in SQL; "" = none.
func (l *loop) inHand(name string) string {
	work := l.query(fmt.Sprintf(`SELECT format('(%%L, %%s, %%s, %%s, %%L)', 'part', p.file, p.no, w.id, '') FROM parts AS p JOIN workers AS w ON w.id = p.worker
			WHERE NOT p.done AND w.lost_at IS NULL AND w.name = '%[1]s'
		UNION ALL SELECT format('(%%L, 0, 0, %%s, %%L)', 'lease', w.id, l.name) FROM leases AS l JOIN workers AS w ON w.id = l.worker
			WHERE w.lost_at IS NULL AND w.name = '%[1]s'`, name))
	return strings.ReplaceAll(strings.TrimSpace(work), "\n", ", ")
}

// waiting is what of a worker's work waits still, "" if nothing does: parts that are neither
// done nor in another worker's hand, files that are not finished and in no worker's, a feed that
// no worker serves. Other leases must not be in its name. What no worker needs any more is gone.
func (l *loop) waiting(work string) string {
	if work == "" {
		return ""
	}
	return strings.TrimSpace(l.query(`SELECT v.* FROM (VALUES ` + work + `) AS v (kind, file, no, worker, lease)
		WHERE EXISTS (SELECT FROM parts AS p WHERE v.kind = 'part' AND p.file = v.file AND p.no = v.no AND NOT p.done
			AND (p.worker IS NULL OR p.worker = v.worker))
		OR EXISTS (SELECT FROM leases AS l WHERE v.kind = 'lease' AND l.name = v.lease AND l.worker = v.worker)
		OR v.kind = 'lease' AND NOT EXISTS (SELECT FROM leases AS l WHERE l.name = v.lease)
			AND (v.lease LIKE 'feed/%' OR EXISTS (SELECT FROM file AS f WHERE v.lease = 'file/' || f.file_id AND f.state NOT IN ('done', 'dropped')))`))
}

func (l *loop) query(sql string) string {
	return l.pg.Query(l.t, databaseName(l.t, l.database), sql)
}

// freeze stops a worker for longer than it may be unheard of. It goes on as a worker by itself.
func (l *loop) freeze() {
	s := l.some()
	work := l.inHand(s.worker.name)
	s.worker.signal(syscall.SIGSTOP)
	l.awaitTakeOver(work)
	other := l.other(s)
	await(l.t, func() bool { _, there := l.workers(other.conf)[s.worker.name]; return !there })
	s.worker.signal(syscall.SIGCONT)
	l.up(other.conf, s.worker)
}

// restart stops PostgreSQL, every other time by SIGKILL, and starts it again.
func (l *loop) restart() {
	l.restarts++
	end := l.pg.Stop
	if l.restarts%2 == 0 {
		end = l.pg.Kill
	}
	if err := end(); err != nil {
		l.t.Fatal(err)
	}
	<-time.After(rand.N(2 * clusterLost))
	if err := l.pg.Start(); err != nil {
		l.t.Fatal(err)
	}
}

// cut breaks a worker's connections off, every other time for longer than it may be unheard of.
func (l *loop) cut() {
	s := l.some()
	s.link.cut()
	<-time.After(rand.N(2 * clusterLost))
	s.link.mend()
}

// check compares the reports with the API, row by row.
func (l *loop) check() {
	state, err := apiState(l.box.APIURL)
	if err != nil {
		l.t.Fatal(err)
	}
	bills := make(map[string]int)
	amounts := make(map[string]int64)
	for _, b := range state.Bills {
		bills[b.ExternalReference]++
		amounts[b.ExternalReference] = b.AmountDue
	}
	duplicates, lost := 0, 0
	for ref := range l.want {
		switch n := bills[ref]; {
		case n > 1:
			duplicates++
		case n == 0:
			lost++
		}
	}
	if duplicates > 0 || lost > 0 || len(state.Bills) != len(l.want) {
		l.t.Errorf("%d duplicates, %d lost; %d bills for %d rows", duplicates, lost, len(state.Bills), len(l.want))
	}
	parties := make(map[string]int)
	for _, c := range state.Customers {
		parties[c.ExternalReference]++
	}
	for ref, n := range parties {
		if n > 1 {
			l.t.Errorf("customer %s was created %d times", ref, n)
		}
	}
	for name, rows := range l.rows {
		found, err := filepath.Glob(l.box.Path("results/" + name[:len(name)-len(".csv")] + "-*.results.csv"))
		if err != nil || len(found) != 1 {
			l.t.Errorf("%s has %d results files (%v)", name, len(found), err)
			continue
		}
		checkResults(l.t, found[0], rows, l.want, amounts)
	}
	for _, dir := range []string{"inbox/*.csv", "processing/*", "rejected/*", "results/*.part", "results/.*"} {
		if left, _ := filepath.Glob(l.box.Path(dir)); len(left) > 0 {
			l.t.Errorf("left behind: %v", left)
		}
	}
}
