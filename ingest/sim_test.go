package ingest

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

var (
	simCrashes = flag.Int("sim.crashes", 2_000, "crashes that TestSimulator goes through")
	simSeed    = flag.Uint64("sim.seed", 0, "run only this seed of TestSimulator, and say more")
)

// simClient returns a client that connects by dial.
func simClient(t testing.TB, dial func(ctx context.Context, network, address string) (net.Conn, error)) *client.Client {
	c, err := client.New(client.Config{
		BaseURL: "http://127.0.0.1:1", Key: "sk_test_simulation", Timeout: 30 * time.Second, MaxConns: 8, Dial: dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// faulty reports whether the dice let something go wrong with what was asked for the nth
// time, once in so many.
func (w *world) faulty(nth int, once uint64, words ...any) bool {
	return !w.well && (nth <= 4 || w.cfg.Harsh && nth <= 12) && w.oneIn(once, append(words, nth)...)
}

// unreachable reports whether the connection of a request is refused.
func (w *world) unreachable(request string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[request]++
	return w.script == nil && w.faulty(w.asked[request], 10*w.cfg.Faulty, "unreachable", request)
}

// checkInvariants returns everything that is not as it must be, whatever happened on the
// way.
func (w *world) checkInvariants() []string {
	wrong := w.wrong
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	state := w.api.State()
	bills := make(map[string][]emulator.Bill)
	for _, b := range state.Bills {
		bills[b.ExternalReference] = append(bills[b.ExternalReference], b)
	}
	for ref, b := range bills {
		if len(b) > 1 {
			fail("%s: %d bills", ref, len(b))
		}
	}
	parties := make(map[string]int)
	names := make(map[string]string)
	for _, c := range state.Customers {
		names[c.ID] = c.ExternalReference
		parties["customer "+c.ExternalReference]++
	}
	for _, a := range state.Accounts {
		parties["account "+a.ExternalReference]++
	}
	for party, n := range parties {
		if n > 1 {
			fail("%s: created %d times", party, n)
		}
	}
	if len(w.rejected) > 0 {
		return append(wrong, w.checkTruth(bills)...)
	}
	for _, dir := range []string{"/inbox", "/processing", "/rejected"} {
		if left := w.files.in(dir); len(left) > 0 {
			fail("left in %s: %v", dir, left)
		}
	}
	archive, wantA, wantB := "[a.csv b.csv]", w.wantA(), wantB
	if w.restores > 0 { // the files may be sent in any order
		wantA, wantB = nil, nil
	}
	if w.cfg.Harsh {
		archive = "[a.csv]"
		if !w.well {
			wantA = nil // whatever is true
		}
	}
	if got := w.archived(); fmt.Sprint(got) != archive {
		fail("archive: %v", got)
	}
	left, err := os.ReadDir(w.spool)
	left = slices.DeleteFunc(left, func(e os.DirEntry) bool { return e.Name() == OrdersDir })
	if err != nil || len(left) > 0 && w.restores == 0 { // copies that an older ledger does not know are kept for a while
		fail("left in the spool: %v %v", left, err)
	}
	created := w.checkReport("a.csv", simBills, wantA, bills, fail)
	if !w.cfg.Harsh {
		b := string(w.files.files["/archive/b.csv"].content)
		created += w.checkReport("b.csv", b, wantB[:min(len(wantB), max(0, strings.Count(b, "\n")-1))], bills, fail)
	}
	if others := len(state.Bills) - created; w.cfg.Weak && wantA != nil && others != 0 {
		fail("%d bills are in no report as created", others)
	}
	posts, gets := int(state.Posts-w.before.Posts), int(state.Gets-w.before.Gets)
	asked := 0
	if !w.cfg.Harsh {
		asked = 1 // for the owner of ACC-ELSE
	}
	if clean := !w.cfg.people.any() && w.cfg.Deadly == 0 && w.cfg.Faulty == 0 && w.cfg.Weak && w.cfg.Present == nil; clean && (posts != created || gets != asked) {
		fail("%d POSTs and %d GETs for %d bills in a clean run", posts, gets, created)
	}
	payers := payersOf(simBills + simPairs)
	for _, b := range state.Bills {
		if want := payers[b.ExternalReference]; want != "" && w.restores == 0 && want != names[b.CustomerID] && !strings.HasPrefix(b.ExternalReference, "OLD-") {
			fail("%s: billed to %s, the row names %s", b.ExternalReference, names[b.CustomerID], want)
		}
	}
	return wrong
}

// archived returns what rests in the archive. Where ledgers were restored, it leaves out a copy
// under the name of its reports of a file that rests there under its own name, too: an operator
// may move a file that one backup does not know back to the inbox, and then restore another
// backup that has it under way.
func (w *world) archived() []string {
	names := w.files.in("/archive")
	if w.restores == 0 {
		return names
	}
	content := func(name string) string { return string(w.files.files["/archive/"+name].content) }
	return slices.DeleteFunc(names, func(name string) bool {
		for _, own := range []string{"a.csv", "b.csv"} {
			stem := report.Stem(own, sha256Hex(content(own)), 1)
			if strings.HasPrefix(name, stem) && content(name) == content(own) {
				return true
			}
		}
		return false
	})
}

// What every run has to come to, with crashes and faults or without. A bill that existed
// before may be reported as created if a send for it was not answered, because the two
// cases cannot be told apart.
func (w *world) wantA() []string {
	same, other := "existing", "conflict"
	if w.cfg.Weak {
		same, other = "created", "created"
	}
	return []string{"created", "created", "created", "created", "created", "created", "invalid", "created", same, other}
}

var wantB = []string{"existing", "conflict", "created", "created", "invalid", "invalid"}

// payersOf returns the customers that the rows of bill files name, by bill reference.
func payersOf(rows string) map[string]string {
	payers := make(map[string]string)
	for _, line := range strings.Split(rows, "\n") {
		cells := strings.Split(line, ",")
		for _, cell := range cells {
			if strings.HasPrefix(cell, "CUS-") {
				payers[cells[0]] = cell
			}
		}
	}
	return payers
}

// checkReport checks one file's reports against the API and the expected statuses, and
// returns how many rows it says it created.
func (w *world) checkReport(name, content string, want []string, bills map[string][]emulator.Bill, fail func(string, ...any)) (created int) {
	sum := sha256Hex(content)
	names := w.lastReport(name, sum)
	rows, err := w.results(names.Results)
	if err != nil {
		fail("%s: %v", name, err)
		return 0
	}
	if records := strings.Count(content, "\n") - 1; len(rows) != records {
		fail("%s: %d rows reported, %d in the file", name, len(rows), records)
		return 0
	}
	counts := make(map[ledger.Status]int)
	for i, r := range rows {
		counts[ledger.Status(r.status)]++
		if r.status == "created" {
			created++
		}
		if want != nil && r.status != want[i] && !(r.reference == "OLD-SAME" && r.status == "created") {
			fail("%s line %s: %s is %s (%s), want %s", name, r.line, r.reference, r.status, r.code, want[i])
		}
		held := bills[r.reference]
		switch r.status {
		case "created", "existing":
			if len(held) != 1 || fmt.Sprint(held[0].AmountDue) != r.amount {
				fail("%s line %s: reported %s, the API holds %v", name, r.line, r.status, held)
			}
		case "conflict":
			if len(held) != 1 || fmt.Sprint(held[0].AmountDue) == r.amount && w.restores == 0 && len(w.rejected) == 0 {
				fail("%s line %s: reported %s, the API holds %v", name, r.line, r.status, held)
			}
		case "unknown":
		default:
			if w.restores > 0 && w.cfg.Reuse && r.code == ledger.CodePartyMismatch {
				continue // a send that the older ledger does not know made it; see docs/running.md
			}
			// A rejected file may have a row whose bill the other file, or others, made.
			if len(held) != 0 && !(len(w.rejected) > 0 && strings.Contains("INV-5 INV-6 OLD-SAME OLD-OTHER", r.reference)) {
				fail("%s line %s: reported %s, the API holds %v", name, r.line, r.status, held)
			}
		}
	}
	for _, name := range []string{names.Results, names.Summary} {
		_, there := w.files.files["/results/"+name]
		if _, kept := w.keptAside(name); kept && !there {
			return created // one may be of another ledger than the other
		}
	}
	s, err := report.Parse(w.files.files["/results/"+names.Summary].content)
	if err != nil {
		fail("%s: summary: %v", name, err)
		return created
	}
	for _, status := range ledger.Statuses {
		if s.Rows.By[status] != counts[status] {
			fail("%s: the summary counts %d %s, the results %d", name, s.Rows.By[status], status, counts[status])
		}
	}
	if s.Rows.Total != len(rows) || s.Lines.Total != strings.Count(content, "\n") {
		fail("%s: summary: %d rows, %d lines", name, s.Rows.Total, s.Lines.Total)
	}
	return created
}

// lastReport returns the names of the latest reports of a file.
func (w *world) lastReport(name, sum string) (names report.Names) {
	for n := 100; n > 0; n-- {
		names = report.NamesOf(report.Stem(name, sum, n))
		if _, there := w.files.files["/results/"+names.Results]; there {
			break
		}
	}
	return names
}

// checkTruth checks a world in which files were rejected: what its reports say is true.
func (w *world) checkTruth(bills map[string][]emulator.Bill) (wrong []string) {
	for name, content := range map[string]string{"a.csv": simBills, "b.csv": simPairs} {
		if !slices.Contains(append(w.files.in("/archive"), w.files.in("/rejected")...), name) {
			wrong = append(wrong, name+" is neither archived nor rejected")
		}
		if _, err := w.results(w.lastReport(name, sha256Hex(content)).Results); err != nil {
			continue // rejected before it was read
		}
		w.checkReport(name, content, nil, bills, func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) })
	}
	return wrong
}

// simulate runs one world to its end, in a bubble of its own time.
func simulate(t *testing.T, cfg simConfig) (deaths int, wrong []string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, cfg)
		if !cfg.Harsh {
			w.files.put("/inbox/b.csv", []byte(simPairs))
		}
		err := w.run(t)
		time.Sleep(5 * time.Minute) // what the server is still at comes to its end
		wrong = w.checkInvariants()
		if cfg.Harsh && err == nil && len(wrong) == 0 {
			err = w.recover(t)
			wrong = w.checkInvariants()
		}
		deaths = w.deaths
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	})
	return deaths, wrong
}

// simOf is the world of a seed: the seeds go through all kinds of APIs, and from calm to
// stormy.
func simOf(seed uint64) simConfig {
	d := dice{seed}
	cfg := simConfig{
		Seed:   seed,
		Deadly: []uint64{0, 200, 60, 25, 12}[d.roll("deadly")%5],
		Faulty: []uint64{0, 12, 4, 2}[d.roll("faulty")%4],
		Weak:   seed%2 == 1, Reuse: seed%4 >= 2,
		Jumps: d.oneIn(2, "jumps"),
		Harsh: d.oneIn(3, "harsh"),
	}
	cfg.people = peopleOf(d, cfg.Weak, cfg.Harsh)
	return cfg
}

// TestSimulator runs the real pipeline against a simulated world: seeded, with a crash at
// any step, lost answers, stored failures, expired keys, clocks that jump, and APIs that
// refuse duplicates or do not. A failure names its seed; -sim.seed runs it alone.
func TestSimulator(t *testing.T) {
	worlds[simConfig]{only: *simSeed, enough: *simCrashes, losses: "crashes", of: simOf, run: simulate}.test(t)
}
