package ingest

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
)

var (
	simCrashes = flag.Int("sim.crashes", 20_000, "crashes that TestSimulator goes through")
	simSeed    = flag.Uint64("sim.seed", 0, "run only this seed of TestSimulator, and say more")
)

// The bill files of the simulation: new parties, many bills of an account, customers alone, an account of a known customer,
// a row that fails validation, and a bill that others have raised before, the same and another.
const (
	simBills = `bill_reference,amount_due,currency,due_date,account_reference,customer_reference,customer_name
INV-1,1000,ZAR,2026-12-01,ACC-1,CUS-1,Ann
INV-2,2000,ZAR,2026-12-01,ACC-1,CUS-1,Ann
INV-3,3000,ZAR,,ACC-1,CUS-1,
INV-4,4000,ZAR,,ACC-2,CUS-1,Ann
INV-5,5000,ZAR,,,CUS-2,Ben
INV-6,6000,ZAR,,,CUS-2,Ben
INV-7,abc,ZAR,,,CUS-3,Cas
INV-8,8000,ZAR,,ACC-8,CUS-8,Dee
OLD-SAME,9000,ZAR,2026-12-01,,CUS-OLD,
OLD-OTHER,9100,ZAR,,,CUS-OLD,
`
	simMore = `bill_reference,amount_due,currency,customer_reference
INV-6,6000,ZAR,CUS-2
INV-5,5001,ZAR,CUS-2
NEW-1,100,ZAR,CUS-8
`
)

// simConfig is one world.
type simConfig struct {
	Seed   uint64
	Deadly uint64 // one step in so many kills
	Faulty uint64 // one request in so many meets a fault
	Weak   bool   // the API accepts a second bill with a taken reference
	Reuse  bool   // the API reuses nested parties that exist
	Jumps  bool   // the clock jumps between lives
	// Harsh: more faults than a row has attempts, so that rows end as failed or unknown, until a retry with the API well again.
	Harsh bool
	// Break, if set, makes the program a wrong one.
	Break func(*ledgerAndAPI)
}

// ledgerAndAPI is what a wrong program would use in another way.
type ledgerAndAPI struct {
	Ledger ledger.Ledger
	API    delivery.API
	Policy *delivery.Policy
}

// world is what outlives processes.
type world struct {
	dice
	cfg    simConfig
	api    *emulator.API
	client *client.Client // with the transport of every client, over connections in memory
	// severed is a client like it that finds nobody listening.
	severed *client.Client
	ledger  *ledgertest.Memory
	files   *simFiles
	spool   string
	deaths  int
	// firstUse of every key, by the API's clock.
	firstUse map[string]time.Time
	asked    map[string]int // how often each request was made, those that found nobody listening included
	wrong    []string       // violations seen on the way
	well     bool           // no more faults
	mu       sync.Mutex     // guards asked
	// script, if set, decides on faults instead of the dice.
	script func(emulator.Call) emulator.Fault
}

func newWorld(t testing.TB, cfg simConfig) *world {
	existing := emulator.Conflict
	if cfg.Reuse {
		existing = emulator.Reuse
	}
	w := &world{
		dice: dice{cfg.Seed}, cfg: cfg,
		api:    emulator.New(emulator.Config{Seed: cfg.Seed, ExistingParty: existing, Weak: cfg.Weak, Latency: 20 * time.Millisecond}),
		ledger: ledgertest.NewMemory(), files: &simFiles{files: make(map[string]simFile)},
		spool: memoryDir(t), firstUse: make(map[string]time.Time), asked: make(map[string]int),
	}
	pipes := w.api.ServePipes()
	t.Cleanup(pipes.Close)
	w.client = simClient(t, pipes.Dial)
	w.severed = simClient(t, func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	})
	if !cfg.Weak { // what others did before
		w.others(t, `{"external_reference":"OLD-SAME","currency":"ZAR","amount_due":9000,"due_date":"2026-12-01","customer":{"external_reference":"CUS-OLD"}}`, "OLD-SAME")
		w.others(t, `{"external_reference":"OLD-OTHER","currency":"ZAR","amount_due":777,"customer":{"external_reference":"CUS-ELSE"}}`, "OLD-OTHER")
	}
	w.api.Script(w.fault)
	w.files.put("/inbox/a.csv", []byte(simBills))
	if !cfg.Harsh {
		w.files.put("/inbox/b.csv", []byte(simMore))
	}
	return w
}

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

// memoryDir is a temporary directory, in memory where there is such a place: no simulation waits for a disk.
func memoryDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "billdrop-simulation-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (w *world) others(t testing.TB, body, reference string) {
	if a := w.client.CreateBill(t.Context(), "others-"+reference, reference, []byte(body)); a.Kind != client.Created {
		t.Fatalf("prepare %s: %s %v", reference, a.Label(), a.Problem)
	}
}

// fault is what goes wrong with a request, and watches the rule on old keys.
func (w *world) fault(c emulator.Call) (f emulator.Fault) {
	if c.Key != "" {
		if first, ok := w.firstUse[c.Key]; !ok {
			w.firstUse[c.Key] = time.Now()
		} else if age := time.Since(first); age >= 20*time.Hour {
			w.wrong = append(w.wrong, fmt.Sprintf("key of %s sent %v after its first use", c.Reference, age))
		}
	}
	if *simSeed != 0 {
		defer func() {
			fmt.Fprintf(os.Stderr, "%s %s %s %.8s nth %d/%d: %+v\n", time.Now().Format("02 15:04:05.000"), c.Method, c.Reference, c.Key, c.Nth, c.NthRef, f)
		}()
	}
	if w.script != nil {
		return w.script(c)
	}
	if !w.faulty(c.NthRef, w.cfg.Faulty, "fault", c.Method, c.Path, c.Reference) {
		return emulator.Fault{}
	}
	faults := []emulator.Fault{
		{Drop: true},
		{Status: 503},
		{Status: 429, RetryAfter: "2"},
		{Garbage: true},
	}
	if c.Method == "POST" {
		faults = []emulator.Fault{
			{Drop: true},
			{Apply: true, Drop: true},
			{Apply: true, DropMid: true},
			{Status: 500, Store: true},
			{Apply: true, Status: 500, Store: true},
			{Status: 503},
			{Apply: true, Status: 502},
			{Status: 429, RetryAfter: "2"},
			{Status: 429},
			{Apply: true, Garbage: true},
			{StopAfter: emulator.StopCustomer},
			{StopAfter: emulator.StopAccount},
			{StopAfter: emulator.StopCustomer, Store: true},
			{StopAfter: emulator.StopAccount, Store: true},
			// Longer than the client waits, but not than a look-up settles.
			{Delay: 31*time.Second + time.Duration(w.roll("delay", c.Reference, c.NthRef)%54)*time.Second},
		}
	}
	return faults[w.roll("kind", c.Method, c.Path, c.Reference, c.NthRef)%uint64(len(faults))]
}

// faulty reports whether the dice let something go wrong with what was asked for the nth time, once in so many.
func (w *world) faulty(nth int, once uint64, words ...any) bool {
	return !w.well && (nth <= 4 || w.cfg.Harsh && nth <= 12) && w.oneIn(once, append(words, nth)...)
}

// unreachable reports whether a request finds nobody listening.
func (w *world) unreachable(request string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[request]++
	return w.script == nil && w.faulty(w.asked[request], 10*w.cfg.Faulty, "unreachable", request)
}

// run lets processes live until one has nothing left to do, and returns why it does not come to that.
func (w *world) run(t testing.TB) error {
	jumps := []time.Duration{0, time.Second, 2 * time.Minute, 3 * time.Hour, 20*time.Hour - time.Minute, 21 * time.Hour, 25 * time.Hour, 30 * 24 * time.Hour}
	for life := 0; ; life++ {
		if life > 400 {
			return fmt.Errorf("not done after %d lives", life)
		}
		p := &process{dice: dice{w.roll("life", life)}, deadly: w.cfg.Deadly, steps: make(map[string]int)}
		if life > 40 {
			p.deadly = 0 // long enough: see that it comes to an end
		}
		_, err := w.worker(t, p).Poll(t.Context())
		switch {
		case p.dead:
			w.deaths++
			w.ledger.Crash(func(n int) int { return int(w.roll("tail", life) % uint64(n+1)) })
			if w.cfg.Jumps {
				time.Sleep(jumps[w.roll("jump", life)%uint64(len(jumps))])
			}
		case err == nil:
			return nil
		case errors.Is(err, delivery.ErrStopped):
			time.Sleep(time.Hour) // an outage; cron comes again
		default:
			return err
		}
	}
}

// recover has the API well again, and retries what is left to be retried.
func (w *world) recover(t testing.TB) error {
	w.well = true
	files, err := w.ledger.Files(t.Context(), ledger.Query{})
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.State != ledger.Done {
			continue
		}
		p := &process{steps: make(map[string]int)}
		if _, err := w.worker(t, p).Retry(t.Context(), f.ID); err != nil && !errors.Is(err, ErrNothingToDo) {
			return err
		}
	}
	return nil
}

func testPolicy() delivery.Policy {
	return delivery.Policy{
		Concurrency: 8, MaxAttempts: 6, BackoffMin: 500 * time.Millisecond, BackoffMax: time.Minute,
		LookupSettle: time.Minute, GiveUpAfter: 15 * time.Minute,
	}
}

func (w *world) worker(t testing.TB, p *process) *Worker {
	policy := testPolicy()
	if w.cfg.Harsh {
		policy.MaxAttempts = 3
	}
	log := slog.New(slog.DiscardHandler)
	if *simSeed != 0 {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	parts := &ledgerAndAPI{&simLedger{w.ledger, p}, &simAPI{w.client, p, w}, &policy}
	if w.cfg.Break != nil {
		w.cfg.Break(parts)
	}
	feed := &Feed{
		Name: "bills", Lane: delivery.NewLane(ledger.Scope{Merchant: "acme", Mode: "test"}, parts.API, policy),
		Connect: func(context.Context) (Remote, error) { return &simRemote{w.files, p}, nil },
		Dirs:    Dirs{Inbox: "/inbox", Processing: "/processing", Archive: "/archive", Rejected: "/rejected", Results: "/results"},
		Watch:   inbox.Watch{Pattern: "*.csv"},
		Format:  billfile.Format{Amounts: billfile.Minor, Currency: "ZAR"},
		Hold:    Hold{MaxInvalidPercent: 100},
	}
	worker, err := New(Options{Ledger: parts.Ledger, Spool: w.spool, Feeds: []*Feed{feed}, Log: log, Version: "simulated"})
	if err != nil {
		t.Fatal(err)
	}
	return worker
}

// row is what a results file says of one row, as far as it is the same in every run.
type row struct{ line, reference, status, code, amount, detail string }

// results reads a published results file.
func (w *world) results(name string) ([]row, error) {
	f, ok := w.files.files["/results/"+name]
	if !ok {
		return nil, fmt.Errorf("no report %s; there are %v", name, w.files.in("/results"))
	}
	records, err := csv.NewReader(bytes.NewReader(f.content)).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, r := range records[1:] {
		rows = append(rows, row{r[0], r[1], r[2], r[3], r[9], r[4]})
	}
	return rows, nil
}

// checkInvariants returns everything that is not as it must be, whatever happened on the way.
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
	for _, c := range state.Customers {
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
	for _, dir := range []string{"/inbox", "/processing", "/rejected"} {
		if left := w.files.in(dir); len(left) > 0 {
			fail("left in %s: %v", dir, left)
		}
	}
	archive, wantA := "[a.csv b.csv]", w.wantA()
	if w.cfg.Harsh {
		archive = "[a.csv]"
		if !w.well {
			wantA = nil // whatever is true
		}
	}
	if got := w.files.in("/archive"); fmt.Sprint(got) != archive {
		fail("archive: %v", got)
	}
	if left, err := os.ReadDir(w.spool); err != nil || len(left) > 0 {
		fail("left in the spool: %v %v", left, err)
	}
	created := w.checkReport("a.csv", simBills, wantA, bills, fail)
	if !w.cfg.Harsh {
		created += w.checkReport("b.csv", simMore, wantB, bills, fail)
	}
	if others := len(state.Bills) - created; w.cfg.Weak && wantA != nil && others != 0 {
		fail("%d bills are in no report as created", others)
	}
	if clean := w.cfg.Deadly == 0 && w.cfg.Faulty == 0 && w.cfg.Weak; clean && (int(state.Posts) != created || state.Gets != 0) {
		fail("%d POSTs and %d GETs for %d bills in a clean run", state.Posts, state.Gets, created)
	}
	return wrong
}

// What every run has to come to, crashes and faults or not. A bill that was there before may be reported as created, if
// a send for it went without an answer: nobody can tell the two apart.
func (w *world) wantA() []string {
	same, other := "existing", "conflict"
	if w.cfg.Weak {
		same, other = "created", "created"
	}
	return []string{"created", "created", "created", "created", "created", "created", "invalid", "created", same, other}
}

var wantB = []string{"existing", "conflict", "created"}

// checkReport checks one file's reports against the API and the expected statuses, and returns how many rows it says it created.
func (w *world) checkReport(name, content string, want []string, bills map[string][]emulator.Bill, fail func(string, ...any)) (created int) {
	sum := sha256Hex(content)
	names := report.NamesOf(report.Stem(name, sum, 1))
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
			if len(held) != 1 || fmt.Sprint(held[0].AmountDue) == r.amount {
				fail("%s line %s: reported %s, the API holds %v", name, r.line, r.status, held)
			}
		case "unknown":
		default:
			if len(held) != 0 {
				fail("%s line %s: reported %s, the API holds %v", name, r.line, r.status, held)
			}
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

// simulate runs one world to its end, in a bubble of its own time.
func simulate(t *testing.T, cfg simConfig) (deaths int, wrong []string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, cfg)
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

// simOf is the world of a seed: the seeds go through all kinds of APIs, and from calm to stormy.
func simOf(seed uint64) simConfig {
	d := dice{seed}
	return simConfig{
		Seed:   seed,
		Deadly: []uint64{0, 200, 60, 25, 12}[d.roll("deadly")%5],
		Faulty: []uint64{0, 12, 4, 2}[d.roll("faulty")%4],
		Weak:   seed%2 == 1, Reuse: seed%4 >= 2,
		Jumps: d.oneIn(2, "jumps"),
		Harsh: d.oneIn(3, "harsh"),
	}
}

// TestSimulator runs the real pipeline against a simulated world: seeded, with a crash at any step, lost answers, stored failures,
// expired keys, clocks that jump, and APIs that refuse duplicates or do not. A failure names its seed; -sim.seed runs it alone.
func TestSimulator(t *testing.T) {
	if *simSeed != 0 {
		deaths, wrong := simulate(t, simOf(*simSeed))
		t.Logf("seed %d: %+v, %d deaths", *simSeed, simOf(*simSeed), deaths)
		for _, w := range wrong {
			t.Error(w)
		}
		return
	}
	shards := uint64(runtime.GOMAXPROCS(0))
	var deaths, seeds, failed atomic.Int64
	t.Run("worlds", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				for seed := 1 + shard; deaths.Load() < int64(*simCrashes) && failed.Load() < 5; seed += shards {
					n, wrong := simulate(t, simOf(seed))
					deaths.Add(int64(n))
					seeds.Add(1)
					if len(wrong) > 0 {
						failed.Add(1)
						t.Errorf("seed %d (%+v), %d deaths:\n  %s", seed, simOf(seed), n, strings.Join(wrong, "\n  "))
					}
				}
			})
		}
	})
	t.Logf("%d worlds, %d crashes, %d worlds with violations", seeds.Load(), deaths.Load(), failed.Load())
}
