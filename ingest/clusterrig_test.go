package ingest

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

// cluster is several workers of one ledger, one SFTP account and one API, in a bubble of
// its own time.
type cluster struct {
	t       *testing.T
	world   *world // API and files; its ledger is not used
	store   *ledgertest.Store
	policy  delivery.Policy
	lost    time.Duration
	began   time.Time
	workers []*clusterWorker
	hub     *hub   // nil: no dispatcher
	feed    string // that further workers serve; "" = bills
}

// clusterWorker is one process of a cluster.
type clusterWorker struct {
	*Worker
	handle *ledgertest.Handle
	p      *process
	end    context.CancelFunc
	ended  chan struct{}
	err    error // of Run, once ended is closed
}

const clusterInterval = 10 * time.Second

func newCluster(t *testing.T, seed uint64) *cluster {
	w := newWorld(t, simConfig{Seed: seed, Weak: true, Harsh: true})
	w.files.remove("/inbox/a.csv")
	w.script = func(emulator.Call) emulator.Fault { return emulator.Fault{} }
	policy := testPolicy()
	policy.Concurrency = 16
	return &cluster{t: t, world: w, store: ledgertest.NewStore(0), policy: policy, lost: 10 * time.Second, began: time.Now(), hub: newHub()}
}

// start starts n workers.
func (c *cluster) start(n int) {
	for range n {
		c.add(func(w *clusterWorker, ctx context.Context) error { return w.Run(ctx, clusterInterval) })
	}
}

func (c *cluster) newWorker(name string) *clusterWorker {
	w := &clusterWorker{handle: c.store.Open(0), p: alive(), ended: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() && os.Getenv("CLUSTER_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("worker", name)
	}
	pipes := c.world.api.ServePipes()
	c.t.Cleanup(pipes.Close)
	api, err := client.New(client.Config{
		BaseURL: "http://127.0.0.1:1", Key: "sk_test_simulation", Timeout: 30 * time.Second, MaxConns: c.policy.Concurrency, Dial: pipes.Dial,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	lane := delivery.NewLane(ledger.Scope{Merchant: "acme", Mode: "test"}, &simAPI{api, w.p, c.world}, c.policy)
	feed := &Feed{
		Name: cmp.Or(c.feed, "bills"), BaseURL: "https://api.example.com", Lane: lane,
		Connect: func(context.Context) (transfer.Remote, error) { return &simRemote{c.world.files, w.p}, nil },
		Dirs:    transfer.Dirs{Inbox: "/inbox", Processing: "/processing", Archive: "/archive", Rejected: "/rejected", Results: "/results"},
		Watch:   inbox.Watch{Pattern: "*.csv"},
		Format:  billfile.Format{Amounts: billfile.Minor, Currency: "ZAR"},
		Hold:    Hold{MaxInvalidPercent: 100},
	}
	member := Member{Name: name, Machine: name, LostAfter: c.lost, Formats: map[string]map[string]string{feed.Name: {"currency": "ZAR"}}}
	if c.hub != nil {
		member.Dispatcher = c.hub
	}
	w.Worker, err = New(Options{
		Ledger: w.handle, Spool: memoryDir(c.t), Feeds: []*Feed{feed}, Log: log, Version: "simulated", Member: member,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return w
}

// add starts a worker that does something.
func (c *cluster) add(do func(*clusterWorker, context.Context) error) *clusterWorker {
	w := c.newWorker(fmt.Sprintf("w%d", len(c.workers)+1))
	c.run(w, do)
	return w
}

// addImport starts a worker that imports a local file with this content, and returns the
// file's name.
func (c *cluster) addImport(content string) (w *clusterWorker, name string) {
	name = filepath.Join(c.t.TempDir(), "local.csv")
	write(c.t, name, content)
	return c.add(func(w *clusterWorker, ctx context.Context) error {
		_, err := w.Import(ctx, w.Feeds[0], []LocalFile{{Path: name}})
		return err
	}), name
}

// newWorkerOn is newWorker on the machine of an earlier one.
func (c *cluster) newWorkerOn(before *clusterWorker, name string) *clusterWorker {
	w := c.newWorker(name)
	w.Member.Machine = before.Member.Machine
	return w
}

// serve has a worker serve its feed.
func (c *cluster) serve(w *clusterWorker) {
	c.run(w, func(w *clusterWorker, ctx context.Context) error { return w.Run(ctx, clusterInterval) })
}

// run has a worker do something.
func (c *cluster) run(w *clusterWorker, do func(*clusterWorker, context.Context) error) {
	c.workers = append(c.workers, w)
	ctx, cancel := context.WithCancel(context.Background())
	w.end = cancel
	go func() {
		defer close(w.ended)
		w.err = do(w, ctx)
	}()
}

// kill ends a worker as kill -9 does.
func (c *cluster) kill(w *clusterWorker) {
	w.die()
	<-w.ended
}

// die is kill of a worker whose goroutines may still wait for answers.
func (w *clusterWorker) die() {
	w.p.mu.Lock()
	w.p.dead = true
	w.p.mu.Unlock()
	w.handle.Kill(func(n int) int { return n })
	w.end()
}

// stop has all workers end by themselves.
func (c *cluster) stop() {
	for _, w := range c.workers { // some may be frozen still, after a failure
		w.handle.Thaw()
		w.handle.Heal()
		w.end()
	}
	for _, w := range c.workers {
		<-w.ended
		if err := w.handle.Close(); err != nil {
			c.t.Errorf("%s: %v", w.Member.Name, err)
		}
	}
}

// command runs a command's worker to its end.
func (c *cluster) command(do func(*Worker, context.Context) error) error {
	c.t.Helper()
	w := c.newWorker(fmt.Sprintf("command%d", len(c.workers)+1))
	err := do(w.Worker, c.t.Context())
	if e := w.handle.Close(); e != nil {
		c.t.Errorf("close: %v", e)
	}
	return err
}

// await waits until something is so, and fails if it is not within d.
func (c *cluster) await(d time.Duration, what string, so func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(d); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %s: %s", d, what)
		}
	}
}

// bills returns how many there are.
func (c *cluster) bills() int { return int(c.world.api.State().Posts - c.world.before.Posts) }

// requests returns POSTs and GETs since the beginning.
func (c *cluster) requests() (posts, gets int) {
	state := c.world.api.State()
	return int(state.Posts - c.world.before.Posts), int(state.Gets - c.world.before.Gets)
}

// only returns the only file.
func (c *cluster) only() *ledger.File {
	c.t.Helper()
	files, err := c.store.Open(0).Files(c.t.Context(), ledger.Query{})
	if err != nil || len(files) != 1 {
		c.t.Fatalf("%d files, %v", len(files), err)
	}
	return files[0]
}

// count returns how many steps of a kind were taken.
func (p *process) count(prefix string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, times := range p.steps {
		if strings.HasPrefix(name, prefix) {
			n += times
		}
	}
	return n
}

// finished waits for the report of a file.
func (c *cluster) finished(name, content string, within time.Duration) []row {
	c.t.Helper()
	names := report.NamesOf(report.Stem(name, sha256Hex(content), 1))
	c.await(within, name+" is reported and archived", func() bool {
		return slices.Contains(c.world.files.in("/results"), names.Summary) && slices.Contains(c.world.files.in("/archive"), name) && len(c.world.files.in("/processing")) == 0
	})
	rows, err := c.world.results(names.Results)
	if err != nil {
		c.t.Fatal(err)
	}
	return rows
}

// check holds the API's state to what a file must have come to.
func (c *cluster) check(rows []row, want, parties int) {
	c.t.Helper()
	state := c.world.api.State()
	seen := make(map[string]int)
	for _, b := range state.Bills {
		seen[b.ExternalReference]++
	}
	for ref, n := range seen {
		if n > 1 {
			c.t.Errorf("%s: %d bills", ref, n)
		}
	}
	if len(seen) != want || len(rows) != want {
		c.t.Errorf("%d bills and %d rows reported, want %d", len(seen), len(rows), want)
	}
	for _, r := range rows {
		if r.status != "created" {
			c.t.Fatalf("line %s: %s %s is %s %s", r.line, r.reference, r.detail, r.status, r.code)
		}
	}
	if n := len(state.Customers) - len(c.world.before.Customers); n != parties {
		c.t.Errorf("%d customers created, want %d", n, parties)
	}
	if n := len(state.Accounts) - len(c.world.before.Accounts); n != parties {
		c.t.Errorf("%d accounts created, want %d", n, parties)
	}
}
