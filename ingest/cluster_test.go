package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	"billdrop/ingest/transfer"
)

// cluster is several workers of one ledger, one SFTP account and one API, in a bubble of its own time.
type cluster struct {
	t       *testing.T
	world   *world // API and files; its ledger is not used
	store   *ledgertest.Store
	policy  delivery.Policy
	lost    time.Duration
	began   time.Time
	workers []*clusterWorker
	hub     *hub // nil: no dispatcher
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
		Name: "bills", BaseURL: "https://api.example.com", Lane: lane,
		Connect: func(context.Context) (transfer.Remote, error) { return &simRemote{c.world.files, w.p}, nil },
		Dirs:    transfer.Dirs{Inbox: "/inbox", Processing: "/processing", Archive: "/archive", Rejected: "/rejected", Results: "/results"},
		Watch:   inbox.Watch{Pattern: "*.csv"},
		Format:  billfile.Format{Amounts: billfile.Minor, Currency: "ZAR"},
		Hold:    Hold{MaxInvalidPercent: 100},
	}
	member := Member{Name: name, Machine: name, LostAfter: c.lost, Formats: map[string]map[string]string{"bills": {"currency": "ZAR"}}}
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
	w.p.mu.Lock()
	w.p.dead = true
	w.p.mu.Unlock()
	w.handle.Kill(func(n int) int { return n })
	w.end()
	<-w.ended
}

// stop has all workers end by themselves.
func (c *cluster) stop() {
	for _, w := range c.workers {
		w.end()
	}
	for _, w := range c.workers {
		<-w.ended
		if err := w.handle.Close(); err != nil {
			c.t.Errorf("%s: %v", w.Member.Name, err)
		}
	}
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

// requests returns POSTs and GETs since the beginning.
func (c *cluster) requests() (posts, gets int) {
	state := c.world.api.State()
	return int(state.Posts - c.world.before.Posts), int(state.Gets - c.world.before.Gets)
}

// hub is a Dispatcher in memory.
type hub struct {
	mu    sync.Mutex
	jobs  []hubJob
	wake  chan struct{}
	deaf  bool // nothing is handed out
	times int  // each hint is given so often
}

type hubJob struct {
	feed, file string
	no         int
}

func newHub() *hub { return &hub{wake: make(chan struct{}), times: 1} }

func (h *hub) Offer(_ context.Context, feed, file string, parts []int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range h.times {
		for _, no := range parts {
			h.jobs = append(h.jobs, hubJob{feed, file, no})
		}
	}
	close(h.wake)
	h.wake = make(chan struct{})
	return nil
}

func (h *hub) next() (hubJob, bool, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.jobs) == 0 || h.deaf {
		return hubJob{}, false, h.wake
	}
	j := h.jobs[0]
	h.jobs = h.jobs[1:]
	return j, true, nil
}

func (h *hub) Run(ctx context.Context, w Work) error {
	var all sync.WaitGroup
	defer all.Wait()
	for range w.AtOnce {
		all.Go(func() {
			for ctx.Err() == nil {
				j, ok, wake := h.next()
				if ok {
					w.Part(ctx, j.feed, j.file, j.no)
					continue
				}
				select {
				case <-wake:
				case <-ctx.Done():
				}
			}
		})
	}
	<-ctx.Done()
	return nil
}

// One file is sent by four workers as by one: one POST a row, no look-up, each party once.
func TestClusterCleanRun(t *testing.T) {
	const rows, parties = 4000, 700
	content := manyBills(1, rows, parties)
	for name, arrange := range map[string]func(*cluster){
		"handed out":       func(*cluster) {},
		"each hint twice":  func(c *cluster) { c.hub.times = 2 },
		"found by looking": func(c *cluster) { c.hub = nil },
		"hints get lost":   func(c *cluster) { c.hub.deaf = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1)
				arrange(c)
				defer c.stop()
				c.start(4)
				time.Sleep(5 * time.Second)
				c.world.files.put("/inbox/a.csv", []byte(content))
				began := time.Now()
				got := c.finished("a.csv", content, 2*time.Minute)
				c.check(got, rows, parties)
				if posts, gets := c.requests(); posts != rows || gets != 0 {
					t.Errorf("%d POSTs and %d GETs for %d rows", posts, gets, rows)
				}
				t.Logf("%s", time.Since(began))
				shares := make(map[string]int)
				for _, w := range c.workers {
					shares[w.Member.Name] = w.p.count("post ")
				}
				t.Logf("%v", shares)
				for name, n := range shares {
					if n < rows/10 {
						t.Errorf("%s sent %d of %d rows", name, n, rows)
					}
				}
			})
		})
	}
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

// takenOver reports whether a worker that was lost has nothing in hand, and all that is to be done is
// in the hands of others.
func (c *cluster) takenOver(lost *clusterWorker) bool {
	led := c.store.Open(0)
	files, err := led.Files(c.t.Context(), ledger.Query{Unfinished: true})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range files {
		parts, err := led.Parts(c.t.Context(), f.ID)
		if err != nil {
			c.t.Fatal(err)
		}
		free := 0
		for _, p := range parts {
			if !p.Done && p.Worker == "" {
				free++
			}
			if p.Worker == lost.Member.Name {
				return false
			}
		}
		if owned := slices.ContainsFunc(c.workers, func(w *clusterWorker) bool { return w != lost && w.crew.owns(f.ID) }); !owned || free > 0 {
			return false
		}
	}
	return true
}

// owns reports whether a worker has a file in hand.
func (c *crew) owns(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owned[id]
}

// alone is the report of a worker without others.
func alone(t *testing.T, content string) (rows []row) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		c.world.files.put("/inbox/a.csv", []byte(content))
		if _, err := c.world.worker(t, alive()).Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		rows = c.finished("a.csv", content, time.Minute)
	})
	return rows
}

// A worker that is killed, frozen or cut off in the middle of a file is replaced within the time after
// which it counts as lost and ten seconds. One that wakes again goes on as a worker.
func TestClusterLosesWorkers(t *testing.T) {
	const rows, parties = 3000, 400
	content := manyBills(1, rows, parties)
	want := alone(t, content)
	owner := func(c *cluster) *clusterWorker {
		for _, w := range c.workers {
			w.crew.mu.Lock()
			owned := len(w.crew.owned) > 0
			w.crew.mu.Unlock()
			if owned {
				return w
			}
		}
		t.Fatal("no worker has the file in hand")
		return nil
	}
	other := func(c *cluster) *clusterWorker {
		if c.workers[0] == owner(c) {
			return c.workers[1]
		}
		return c.workers[0]
	}
	for _, which := range []struct {
		name string
		of   func(*cluster) *clusterWorker
	}{{"owner", owner}, {"another", other}} {
		for _, how := range []struct {
			name  string
			lose  func(*cluster, *clusterWorker)
			after func(*cluster, *clusterWorker) // the file is done
		}{
			{"killed", func(c *cluster, w *clusterWorker) { c.kill(w) }, nil},
			{"frozen", func(_ *cluster, w *clusterWorker) { w.handle.Freeze() }, func(_ *cluster, w *clusterWorker) { w.handle.Thaw() }},
			{"cut off", func(_ *cluster, w *clusterWorker) { w.handle.Cut() }, func(_ *cluster, w *clusterWorker) { w.handle.Heal() }},
			{"told to stop", func(_ *cluster, w *clusterWorker) { w.end(); <-w.ended }, nil},
		} {
			t.Run(which.name+" "+how.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCluster(t, 1)
					c.policy.Concurrency = 8
					defer c.stop()
					c.start(4)
					time.Sleep(5 * time.Second)
					c.world.files.put("/inbox/a.csv", []byte(content))
					c.await(time.Minute, "a third is sent", func() bool { return c.bills() > rows/3 })
					lost := which.of(c)
					began := time.Now()
					how.lose(c, lost)
					if how.name != "told to stop" {
						time.Sleep(c.lost)
					}
					c.await(10*time.Second, "its work is taken over", func() bool { return c.takenOver(lost) })
					// A row that may have been sent and is absent is looked up twice.
					got := c.finished("a.csv", content, 5*time.Second+2*c.policy.LookupSettle)
					t.Logf("done %s after the loss", time.Since(began))
					c.check(got, rows, parties)
					for i := range got {
						if got[i] != want[i] {
							t.Fatalf("got %v, a worker alone has %v", got[i], want[i])
						}
					}
					if how.after == nil {
						return
					}
					how.after(c, lost)
					time.Sleep(c.lost)
					if _, gets := c.requests(); gets > 0 {
						t.Logf("%d look-ups", gets)
					}
					before := lost.p.count("post ")
					more := manyBills(rows+1, rows, parties)
					c.world.files.put("/inbox/b.csv", []byte(more))
					c.finished("b.csv", more, time.Minute)
					if lost.p.count("post ") == before {
						t.Error("it does not work any more")
					}
				})
			})
		}
	}
}

// The limit of the rate holds for all workers together, and so does a pause that the API asks for.
func TestClusterRate(t *testing.T) {
	const rows, limit = 3000, 50
	content := manyBills(1, rows, rows)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		c.policy.RateLimit = limit
		var mu sync.Mutex
		var at []time.Time
		throttled := false
		var pausedAt time.Time
		c.world.script = func(emulator.Call) emulator.Fault {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
			if len(at) > rows/2 && !throttled {
				throttled, pausedAt = true, time.Now()
				return emulator.Fault{Status: 429, RetryAfter: "7"}
			}
			return emulator.Fault{}
		}
		defer c.stop()
		c.start(4)
		for i, w := range c.workers { // each as far from the database as another network is
			w.handle.Network(func(string) ledgertest.Trouble {
				return ledgertest.Trouble{Late: time.Duration(1+3*i) * time.Millisecond}
			})
		}
		time.Sleep(5 * time.Second)
		c.world.files.put("/inbox/a.csv", []byte(content))
		c.check(c.finished("a.csv", content, 5*time.Minute), rows, rows)
		most, first := 0, 0
		for last := range at {
			for at[last].Sub(at[first]) >= time.Second {
				first++
			}
			most = max(most, last-first+1)
		}
		if took := at[len(at)-1].Sub(at[0]); most > limit*110/100 || took > (rows/limit*12/10+8)*time.Second {
			t.Errorf("at most %d requests in a second, and %s for all", most, took)
		} else {
			t.Logf("at most %d requests in a second, and %s for all", most, took)
		}
		for _, a := range at {
			if d := a.Sub(pausedAt); d > time.Second && d < 7*time.Second {
				t.Fatalf("a request %s after the API asked for a pause of 7s", d)
			}
		}
	})
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

// only returns the only file.
func (c *cluster) only() *ledger.File {
	c.t.Helper()
	files, err := c.store.Open(0).Files(c.t.Context(), ledger.Query{})
	if err != nil || len(files) != 1 {
		c.t.Fatalf("%d files, %v", len(files), err)
	}
	return files[0]
}

// A rejection from any machine stops a file that all workers are sending, within seconds.
func TestClusterRejects(t *testing.T) {
	const rows = 4000
	content := manyBills(1, rows, rows)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		c.policy.Concurrency = 4
		defer c.stop()
		c.start(3)
		time.Sleep(5 * time.Second)
		c.world.files.put("/inbox/a.csv", []byte(content))
		c.await(time.Minute, "a quarter is sent", func() bool { return c.bills() > rows/4 })
		err := c.command(func(w *Worker, ctx context.Context) error {
			_, err := w.Reject(ctx, c.only().ID)
			return err
		})
		var left *Left
		if !errors.As(err, &left) || left.Order != OrderReject || left.File.State != ledger.Sending {
			t.Fatalf("reject: %v", err)
		}
		time.Sleep(3 * time.Second)
		sent := c.bills()
		names := report.NamesOf(report.Stem("a.csv", sha256Hex(content), 1))
		c.await(30*time.Second, "it is reported", func() bool { return slices.Contains(c.world.files.in("/rejected"), "a.csv") })
		got, err := c.world.results(names.Results)
		if err != nil {
			t.Fatal(err)
		}
		counts := make(map[string]int)
		for _, r := range got {
			counts[r.status]++
		}
		if c.bills() != sent || counts["created"] != sent || counts["not_sent"] != rows-sent {
			t.Errorf("%d bills, %d of them 3s after the rejection; the report has %v", c.bills(), sent, counts)
		}
	})
}

// A worker that the API refuses gives its parts up, and the others finish the file.
func TestClusterRefusedWorker(t *testing.T) {
	const rows = 3000
	content := manyBills(1, rows, 300)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		c.start(3)
		refused := c.workers[0]
		refused.p.mu.Lock()
		refused.p.refused = true
		refused.p.mu.Unlock()
		time.Sleep(5 * time.Second)
		c.world.files.put("/inbox/a.csv", []byte(content))
		c.check(c.finished("a.csv", content, 2*time.Minute), rows, 300)
		<-refused.ended
		if !errors.Is(refused.err, delivery.ErrSetup) {
			t.Errorf("the refused worker ended with %v", refused.err)
		}
	})
}

// While the API refuses every worker, nothing is blamed; a file goes on once it does not.
func TestClusterOutage(t *testing.T) {
	const rows = 2500
	content := manyBills(1, rows, 300)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		var mu sync.Mutex
		down := false
		c.world.script = func(emulator.Call) emulator.Fault {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return emulator.Fault{Status: 503}
			}
			return emulator.Fault{}
		}
		c.policy.GiveUpAfter = time.Minute
		c.start(2)
		time.Sleep(5 * time.Second)
		set := func(to bool) {
			mu.Lock()
			defer mu.Unlock()
			down = to
		}
		c.world.files.put("/inbox/a.csv", []byte(content))
		c.await(time.Minute, "a third is sent", func() bool { return len(c.world.api.State().Bills) > rows/3 })
		set(true)
		time.Sleep(5 * time.Minute)
		set(false)
		rowsGot := c.finished("a.csv", content, 5*time.Minute)
		c.check(rowsGot, rows, 300)
	})
}

// Single rounds of several machines at once do each file once, and import leaves a file to its machine.
func TestClusterSingleRounds(t *testing.T) {
	const rows = 2200
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		var contents []string
		for i := range 3 {
			contents = append(contents, manyBills(1+i*rows, rows-1100*(i%2), 50))
			c.world.files.put(fmt.Sprintf("/inbox/%c.csv", 'a'+i), []byte(contents[i]))
		}
		var mu sync.Mutex
		var reported []string
		for range 3 {
			c.add(func(w *clusterWorker, ctx context.Context) error {
				summaries, err := w.Poll(ctx)
				mu.Lock()
				defer mu.Unlock()
				for _, s := range summaries {
					reported = append(reported, s.File)
				}
				return err
			})
		}
		for _, w := range c.workers {
			if <-w.ended; w.err != nil {
				t.Errorf("%s: %v", w.Member.Name, w.err)
			}
		}
		slices.Sort(reported)
		if got := strings.Join(reported, " "); got != "a.csv b.csv c.csv" {
			t.Errorf("reported: %s", got)
		}
		for i, content := range contents {
			c.finished(fmt.Sprintf("%c.csv", 'a'+i), content, time.Second)
		}
		want := rows + rows - 1100 + rows
		if posts, gets := c.requests(); posts != want || gets != 0 {
			t.Errorf("%d POSTs and %d GETs for %d rows", posts, gets, want)
		}
	})
}

// An import works beside running workers, which leave its file alone. What it leaves unfinished is for
// its own machine.
func TestClusterImport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		c.start(2)
		time.Sleep(3 * time.Second)
		dir := t.TempDir()
		name := filepath.Join(dir, "local.csv")
		write(t, name, manyBills(1, 2500, 100))
		// It is killed in the middle.
		killed := c.add(func(w *clusterWorker, ctx context.Context) error {
			_, err := w.Import(ctx, w.Feeds[0], []LocalFile{{Path: name}})
			return err
		})
		c.await(time.Minute, "a third is sent", func() bool { return c.bills() > 800 })
		c.kill(killed)
		time.Sleep(time.Minute)
		sent := c.bills()
		if f := c.only(); f.State != ledger.Sending || f.Machine != killed.Member.Machine || sent > 1200 {
			t.Fatalf("%s on %q, %d sent: others have gone on with it", f.State, f.Machine, sent)
		}
		// Its own machine finishes it.
		again := c.newWorker("again")
		again.Member.Machine = killed.Member.Machine
		done, err := again.Import(t.Context(), again.Feeds[0], []LocalFile{{Path: name}})
		if err != nil || len(done) != 1 || done[0].Summary.Rows.By[ledger.Created] != 2500 {
			t.Errorf("%+v, %v", done, err)
		}
		if err := again.handle.Close(); err != nil {
			t.Error(err)
		}
		if n := len(c.world.api.State().Bills); n != 2500 {
			t.Errorf("%d bills", n)
		}
	})
}

// slow is an API that takes its time.
func slow(emulator.Call) emulator.Fault { return emulator.Fault{Delay: 300 * time.Millisecond} }

// Without its database a worker sends nothing from three seconds on, waits, and goes on by itself. A
// single round ends once it has waited for as long as it may.
func TestClusterWithoutDatabase(t *testing.T) {
	const rows = 2400
	content := manyBills(1, rows, rows)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		c.policy.Concurrency = 2
		c.world.script = slow // so that many rows are recorded and wait
		defer c.stop()
		for range 3 { // before it has ever been there, too
			w := c.newWorker(fmt.Sprintf("w%d", len(c.workers)+1))
			w.handle.Cut()
			c.run(w, func(w *clusterWorker, ctx context.Context) error { return w.Run(ctx, clusterInterval) })
		}
		each := func(do func(*ledgertest.Handle)) {
			for _, w := range c.workers {
				do(w.handle)
			}
		}
		c.world.files.put("/inbox/a.csv", []byte(content))
		time.Sleep(time.Minute)
		each((*ledgertest.Handle).Heal)
		for _, length := range []time.Duration{5 * time.Second, 2 * c.lost} {
			before := c.bills()
			c.await(time.Minute, "some more is sent", func() bool { return c.bills() > before+100 })
			each((*ledgertest.Handle).Cut)
			time.Sleep(3*time.Second + 50*time.Millisecond)
			sent := c.bills()
			time.Sleep(length)
			if n := c.bills(); n != sent {
				t.Errorf("%d requests later than 3s after the loss of the database", n-sent)
			}
			each((*ledgertest.Handle).Heal)
		}
		c.check(c.finished("a.csv", content, 5*time.Minute), rows, rows)

		w := c.newWorker("impatient")
		w.handle = c.store.Open(time.Minute)
		w.Options.Ledger, w.shared, w.orders = w.handle, w.handle, ordersOf(w.handle, w.Spool)
		w.handle.Cut()
		began := time.Now()
		if _, err := w.Poll(t.Context()); !errors.Is(err, ledger.ErrUnreachable) || time.Since(began) > 3*time.Minute {
			t.Errorf("%s: %v", time.Since(began), err)
		}
		w.handle.Heal()
		if err := w.handle.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A retry from any machine sends the rows that failed, in parts again.
func TestClusterRetry(t *testing.T) {
	const rows = 2100
	content := manyBills(1, rows, rows)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		var mu sync.Mutex
		bad := true
		c.world.script = func(call emulator.Call) emulator.Fault {
			mu.Lock()
			defer mu.Unlock()
			if bad && strings.HasSuffix(call.Reference, "7") {
				return emulator.Fault{Status: 500}
			}
			return emulator.Fault{}
		}
		c.start(2)
		c.world.files.put("/inbox/a.csv", []byte(content))
		c.finished("a.csv", content, time.Hour)
		failed := rows - len(c.world.api.State().Bills)
		mu.Lock()
		bad = false
		mu.Unlock()
		err := c.command(func(w *Worker, ctx context.Context) error {
			s, err := w.Retry(ctx, c.only().ID)
			if s.Rows.By[ledger.Created] != rows {
				t.Errorf("%d failed; after the retry: %v", failed, s.Rows.By)
			}
			return err
		})
		if err != nil || failed == 0 {
			t.Errorf("%d failed, %v", failed, err)
		}
	})
}

// An import that was killed is finished by a worker of its machine, whoever serves the feed.
func TestClusterResumesImports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		c.start(2)
		time.Sleep(3 * time.Second)
		name := filepath.Join(t.TempDir(), "local.csv")
		write(t, name, manyBills(1, 1500, 100))
		killed := c.add(func(w *clusterWorker, ctx context.Context) error {
			_, err := w.Import(ctx, w.Feeds[0], []LocalFile{{Path: name}})
			return err
		})
		c.await(time.Minute, "a third is sent", func() bool { return c.bills() > 500 })
		c.kill(killed)
		w := c.newWorker("late")
		w.Member.Machine = killed.Member.Machine
		c.run(w, func(w *clusterWorker, ctx context.Context) error { return w.Run(ctx, clusterInterval) })
		c.await(2*time.Minute, "the import is done", func() bool { return c.only().State == ledger.Done })
		if n := len(c.world.api.State().Bills); n != 1500 {
			t.Errorf("%d bills", n)
		}
	})
}

// Rows that wait for a look-up do not keep a worker from other parts.
func TestClusterIdleParts(t *testing.T) {
	const rows = 3000
	content := manyBills(1, rows, rows)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		c.world.script = func(call emulator.Call) emulator.Fault {
			if strings.HasSuffix(call.Reference, "50") && call.Method == "POST" && call.NthRef == 1 {
				return emulator.Fault{Garbage: true} // unreadable, so the bill is looked up twice, a minute apart
			}
			return emulator.Fault{}
		}
		c.start(1)
		c.world.files.put("/inbox/a.csv", []byte(content))
		began := time.Now()
		c.check(c.finished("a.csv", content, time.Hour), rows, rows)
		if took := time.Since(began); took > 4*c.policy.LookupSettle {
			t.Errorf("%s: parts have waited for each other", took)
		}
	})
}

// The copy of a file is removed also from the machine of a worker that had the file in hand, was
// lost, and is back while another finishes it.
func TestClusterSweepsCopies(t *testing.T) {
	const rows = 100
	content := manyBills(1, rows, rows)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		c.world.script = slow
		c.start(2)
		c.world.files.put("/inbox/a.csv", []byte(content))
		c.await(time.Minute, "the file is being sent", func() bool { return c.bills() > 0 })
		id := c.only().ID
		for _, w := range c.workers {
			write(t, w.spool.path(id), content)
		}
		c.check(c.finished("a.csv", content, time.Hour), rows, rows)
		c.await(2*sweepEvery, "no worker has a copy", func() bool {
			return !slices.ContainsFunc(c.workers, func(w *clusterWorker) bool {
				_, err := os.Stat(w.spool.path(id))
				return !errors.Is(err, fs.ErrNotExist)
			})
		})
	})
}
