package ingest

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
)

// The bill files of the simulation: new parties, many bills of an account, customers alone,
// an account of a known customer, a row that fails validation, and a bill that others have
// raised before, the same and another.
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
	// simPairs is simMore and, where a.csv came before, an account of its customer's, one of
	// another customer of a.csv, and one of a customer that only the API has.
	simPairs = `bill_reference,amount_due,currency,account_reference,customer_reference
INV-6,6000,ZAR,,CUS-2
INV-5,5001,ZAR,,CUS-2
NEW-1,100,ZAR,,CUS-8
NEW-2,200,ZAR,ACC-1,CUS-1
FOE-1,300,ZAR,ACC-2,CUS-2
FOE-2,400,ZAR,ACC-ELSE,CUS-2
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
	// Harsh: more faults than a row has attempts, so that rows end as failed or unknown,
	// until a retry with the API well again.
	Harsh bool
	Slow  bool // the API takes seconds
	// Present: the feed's bills get payment requests.
	Present *delivery.Presenting
	people
	// Break, if set, makes the program a wrong one.
	Break func(*ledgerAndAPI)
}

// ledgerAndAPI is what a wrong program would use in another way.
type ledgerAndAPI struct {
	Ledger ledger.Ledger
	API    delivery.API
	Policy *delivery.Policy
	Scope  ledger.Scope
	Spool  string
}

// world is what outlives processes.
type world struct {
	dice
	cfg    simConfig
	api    *emulator.API
	client *client.Client // with the transport of every client, over connections in memory
	// severed is a client like it whose connections are refused.
	severed *client.Client
	ledger  *ledgertest.Memory
	files   *simFiles
	spool   string
	scope   ledger.Scope // of the key that processes are started with
	clock   machineClock
	backups []*ledgertest.Memory
	before  emulator.State // what others did
	deaths  int
	// firstUse of every key, by the API's clock.
	firstUse map[string]time.Time
	asked    map[string]int       // how often each request was made, those that found nobody listening included
	wrong    []string             // violations seen on the way
	well     bool                 // no more faults
	restores int                  // how often the ledger was replaced by a backup
	moved    map[string]int       // reports that were moved away, with the restores until then
	mu       sync.Mutex           // guards asked and rejected
	rejected map[string]time.Time // when a file's last request may have left, by name
	// script, if set, decides on faults instead of the dice.
	script func(emulator.Call) emulator.Fault
}

func newWorld(t testing.TB, cfg simConfig) *world {
	existing := emulator.Conflict
	if cfg.Reuse {
		existing = emulator.Reuse
	}
	latency := 20 * time.Millisecond
	if cfg.Slow {
		latency = 3 * time.Second
	}
	w := &world{
		dice: dice{cfg.Seed}, cfg: cfg,
		api:    emulator.New(emulator.Config{Seed: cfg.Seed, ExistingParty: existing, Weak: cfg.Weak, Latency: latency}),
		ledger: ledgertest.NewMemory(), files: &simFiles{files: make(map[string]simFile)},
		spool: memoryDir(t), scope: ledger.Scope{Merchant: "acme", Mode: "test"}, rejected: make(map[string]time.Time), firstUse: make(map[string]time.Time), asked: make(map[string]int), moved: make(map[string]int),
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
	owner := client.Account{ExternalReference: "ACC-ELSE", Customer: &client.CustomerRef{New: &client.Customer{ExternalReference: "CUS-OWNER"}}}
	if a := w.client.CreateAccount(t.Context(), "others-ACC-ELSE", owner); a.Kind != client.Created {
		t.Fatalf("prepare ACC-ELSE: %s %v", a.Label(), a.Problem)
	}
	w.before = w.api.State()
	w.api.Script(w.fault)
	w.files.put("/inbox/a.csv", []byte(simBills))
	if !cfg.Harsh {
		w.files.put("/inbox/b.csv", []byte(simMore))
	}
	return w
}

// memoryDir is a temporary directory, in memory where there is such a place: no simulation
// waits for a disk.
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
		} else if age := time.Since(first); !strings.HasSuffix(c.Path, "/payment_requests") && age >= 20*time.Hour+w.skew() && w.restores == 0 {
			w.wrong = append(w.wrong, fmt.Sprintf("key of %s sent %v after its first use", c.Reference, age))
		}
	}
	if wrong := w.ordered(c); wrong != "" {
		w.wrong = append(w.wrong, wrong)
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

// run lets processes live until one has nothing left to do, and returns why it does not
// come to that.
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
		p.before = func(step string, nth int) { w.whileAlive(t, p, step, nth) }
		w.beforeLife(t, life)
		_, err := w.worker(t, p).Poll(t.Context())
		switch {
		case p.dead:
			w.deaths++
			w.ledger.Crash(func(n int) int { return int(w.roll("tail", life) % uint64(n+1)) })
			if w.cfg.Jumps {
				time.Sleep(jumps[w.roll("jump", life)%uint64(len(jumps))])
			}
			w.afterDeath(t, life)
		case w.mend(err):
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
		LookupSettle: time.Minute, Timeout: 30 * time.Second, GiveUpAfter: 15 * time.Minute,
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
	policy.Now = w.clock.now
	parts := &ledgerAndAPI{&simLedger{w.ledger, p}, &simAPI{w.client, p, w}, &policy, w.scope, w.spool}
	if w.cfg.Break != nil {
		w.cfg.Break(parts)
	}
	feed := &Feed{
		Name: "bills", BaseURL: "https://api.example.com", Lane: delivery.NewLane(w.scope, parts.API, policy),
		Connect: func(context.Context) (transfer.Remote, error) { return &simRemote{w.files, p}, nil },
		Dirs:    transfer.Dirs{Inbox: "/inbox", Processing: "/processing", Archive: "/archive", Rejected: "/rejected", Results: "/results"},
		Watch:   inbox.Watch{Pattern: "*.csv"},
		Format:  billfile.Format{Amounts: billfile.Minor, Currency: "ZAR"},
		Hold:    Hold{MaxInvalidPercent: 100},
		Present: w.cfg.Present,
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
		f, ok = w.keptAside(name)
	}
	if !ok {
		return nil, fmt.Errorf("no report %s; there are %v", name, w.files.in("/results"))
	}
	records, err := csv.NewReader(bytes.NewReader(f.content)).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("report %s is empty", name)
	}
	var rows []row
	for _, r := range records[1:] {
		rows = append(rows, row{r[0], r[1], r[2], r[3], r[9], r[4]})
	}
	return rows, nil
}

func statusOf(t *testing.T, w *world, name, content string) map[string]string {
	t.Helper()
	rows, err := w.results(report.NamesOf(report.Stem(name, sha256Hex(content), 1)).Results)
	if err != nil {
		t.Fatal(err)
	}
	statuses := make(map[string]string)
	for _, r := range rows {
		statuses[r.reference] = r.status
	}
	return statuses
}

// addFiles records finished files, one an hour, and the last of them as held.
func addFiles(tb testing.TB, led ledger.Ledger, feed *Feed, files, held int) {
	tb.Helper()
	var group errgroup.Group
	group.SetLimit(256) // that share a sync
	for i := range files {
		f := &ledger.File{
			ID: fmt.Sprintf("20260101-000000-%08x", i), Feed: feed.Name, Scope: feed.Lane.Scope(), Origin: ledger.FromInbox,
			Name: fmt.Sprintf("done-%05d.csv", i), Path: fmt.Sprintf("/archive/done-%05d.csv", i), Results: "/results", Stem: fmt.Sprintf("done-%05d", i),
			State: ledger.Done, Outcome: ledger.Completed, Received: time.Now().Add(time.Duration(i-files) * time.Hour),
		}
		if i >= files-held {
			f.State, f.Outcome = ledger.Held, ledger.FileHeld
		}
		group.Go(func() error { return led.AddFile(tb.Context(), f) })
	}
	if err := group.Wait(); err != nil {
		tb.Fatal(err)
	}
}
