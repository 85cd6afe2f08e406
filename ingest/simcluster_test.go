package ingest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/transfer"
)

var (
	simLosses      = flag.Int("sim.losses", 400, "crashes, freezes and partitions that TestClusterSimulator goes through")
	simClusterSeed = flag.Uint64("sim.clusterseed", 0, "run only this seed of TestClusterSimulator, and say more")
)

// clusterConfig is one world of several workers.
type clusterConfig struct {
	Seed    uint64
	Workers int
	Deadly  uint64 // one step in so many kills the worker
	Frozen  uint64 // one step in so many freezes it
	Cut     uint64 // one step in so many cuts it off from the database
	Stopped uint64 // one step in so many has the operator stop it
	Trouble uint64 // one exchange with the database in so many is answered late, twice, or not
	Faulty  uint64 // one request in so many meets a fault
	Weak    bool
	Reuse   bool
	Slow    bool                 // the API takes seconds, so that a file takes longer than a worker may be unheard of
	Present *delivery.Presenting // the feed's bills get payment requests
	// Break, if set, makes the program a wrong one.
	Break func(*clusterParts)
}

// patience is how long things go wrong, and how long all may take.
func (c clusterConfig) patience() (storm, all time.Duration) {
	if c.Break != nil { // many a wrong program comes to no end
		return 3 * time.Minute, 10 * time.Minute
	}
	return 20 * time.Minute, 80 * time.Minute
}

// calm reports whether nothing goes wrong.
func (c clusterConfig) calm() bool {
	return c.Deadly == 0 && c.Frozen == 0 && c.Cut == 0 && c.Stopped == 0 && c.Trouble == 0 && c.Faulty == 0
}

// clusterParts is what a wrong program would use in another way.
type clusterParts struct {
	Name   string
	Ledger ledger.Shared
	API    delivery.API
	Handle *ledgertest.Handle
}

const simLostAfter = 10 * time.Second

// clusterWorld is what outlives the workers.
type clusterWorld struct {
	*world
	cfg    clusterConfig
	store  *ledgertest.Store
	losses atomic.Int64
	over   chan struct{} // closed when the workers are to stop

	mu    sync.Mutex
	quiet bool // nothing goes wrong any more
	names int
}

func newClusterWorld(t testing.TB, cfg clusterConfig) *clusterWorld {
	like := simConfig{Seed: cfg.Seed, Faulty: cfg.Faulty, Weak: cfg.Weak, Reuse: cfg.Reuse, Slow: cfg.Slow, Present: cfg.Present}
	if !cfg.calm() {
		like.Deadly = 1 // for checkInvariants
	}
	w := newWorld(t, like)
	w.files.remove("/inbox/b.csv")
	skew := time.Duration(w.roll("database")%121)*time.Second - time.Minute
	c := &clusterWorld{world: w, cfg: cfg, store: ledgertest.NewStore(skew), over: make(chan struct{})}
	if cfg.calm() {
		c.store.Trace(func(handle, op string, err error) {
			if errors.Is(err, ledger.ErrFenced) && handle != "" {
				c.wrong = append(c.wrong, fmt.Sprintf("%s: %s: taken for lost, although nothing is wrong", handle, op))
			}
		})
	}
	return c
}

// calmDown ends all that goes wrong.
func (c *clusterWorld) calmDown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = true
}

func (c *clusterWorld) calmed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.quiet
}

// machine runs one worker process after another until the world is over.
func (c *clusterWorld) machine(t testing.TB, no int) {
	m := &machineClock{}
	m.set(time.Duration(c.roll("clock", no)%121)*time.Second - time.Minute)
	spool := memoryDir(t)
	for life := 0; ; life++ {
		c.mu.Lock()
		c.names++
		name := fmt.Sprintf("m%d-%d", no, life)
		c.mu.Unlock()
		l := c.newLife(t, name, no, life, m, spool)
		err := l.worker.Run(l.ctx, time.Minute)
		l.end()
		select {
		case <-c.over:
			return
		default:
		}
		if err != nil && !l.p.isDead() && !errors.Is(err, context.Canceled) {
			c.fail("worker %s ended: %v", name, err)
			return
		}
		time.Sleep(time.Duration(c.roll("restart", no, life)%25) * time.Second)
	}
}

func (c *clusterWorld) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// clusterLife is one life of a worker process.
type clusterLife struct {
	p      *process
	handle *ledgertest.Handle
	worker *Worker
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
	ends   sync.WaitGroup
}

func (c *clusterWorld) newLife(t testing.TB, name string, no, life int, clock *machineClock, spool string) *clusterLife {
	dice := dice{c.roll("machine", no, life)}
	l := &clusterLife{p: &process{dice: dice, deadly: c.cfg.Deadly, steps: make(map[string]int), stops: true}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.handle = c.store.Open(20 * time.Second) // less than the longest partition
	if c.calmed() {
		l.p.deadly = 0
	}
	l.p.died = func() {
		c.losses.Add(1)
		l.ends.Go(func() {
			l.handle.Kill(func(n int) int { return int(dice.roll("tail") % uint64(n+1)) })
			l.cancel()
		})
	}
	l.p.before = func(step string, nth int) { c.disturb(l, step, nth) }
	l.handle.Network(c.network(dice))
	l.ended = make(chan struct{})
	go c.stopWhenOver(l, name)

	policy := testPolicy()
	policy.Now = clock.now
	parts := &clusterParts{Name: name, Ledger: &simShared{l.handle, &simLedger{l.handle, l.p}, l.p}, API: &simAPI{c.client, l.p, c.world}, Handle: l.handle}
	if c.cfg.Break != nil {
		c.cfg.Break(parts)
	}
	log := slog.New(slog.DiscardHandler)
	if *simClusterSeed != 0 {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("worker", name)
	}
	feed := &Feed{
		Name: "bills", BaseURL: "https://api.example.com", Lane: delivery.NewLane(c.scope, parts.API, policy),
		Connect: func(context.Context) (transfer.Remote, error) { return &simRemote{c.files, l.p}, nil },
		Dirs:    transfer.Dirs{Inbox: "/inbox", Processing: "/processing", Archive: "/archive", Rejected: "/rejected", Results: "/results"},
		Watch:   inbox.Watch{Pattern: "*.csv"},
		Format:  billfile.Format{Amounts: billfile.Minor, Currency: "ZAR"},
		Hold:    Hold{MaxInvalidPercent: 100},
		Present: c.cfg.Present,
	}
	worker, err := New(Options{
		Ledger: parts.Ledger, Spool: spool, Feeds: []*Feed{feed}, Log: log, Version: "simulated",
		Member: Member{Name: name, Machine: fmt.Sprint("m", no), LostAfter: simLostAfter},
	})
	if err != nil {
		t.Fatal(err)
	}
	worker.crew.division = division{from: 4, part: 3}
	l.worker = worker
	return l
}

// stopWhenOver tells a worker to stop once the world is over, and kills it if it does not.
func (c *clusterWorld) stopWhenOver(l *clusterLife, name string) {
	select {
	case <-c.over:
		l.cancel()
	case <-l.ended:
		return
	}
	select {
	case <-time.After(5 * time.Minute):
		c.fail("worker %s does not stop", name)
		l.p.kill()
	case <-l.ended:
	}
}

// end ends a life for good.
func (l *clusterLife) end() {
	close(l.ended)
	l.cancel()
	l.handle.Kill(func(n int) int { return 0 })
	l.ends.Wait()
}

// disturb freezes the worker, or cuts it off from the database, as the dice say.
func (c *clusterWorld) disturb(l *clusterLife, step string, nth int) {
	if c.calmed() {
		return
	}
	lasts := func(kind string) time.Duration {
		all := []time.Duration{time.Second, simLostAfter/2 + time.Second, simLostAfter - time.Second, simLostAfter + time.Second, 3 * simLostAfter}
		return all[l.p.dice.roll("lasts", kind, step, nth)%uint64(len(all))]
	}
	if l.p.dice.oneIn(c.cfg.Cut, "cut off", step, nth) {
		c.losses.Add(1)
		l.handle.Cut()
		time.AfterFunc(lasts("cut off"), l.handle.Heal)
	}
	if l.p.dice.oneIn(c.cfg.Stopped, "stop", step, nth) {
		c.losses.Add(1)
		l.cancel()
	}
	if l.p.dice.oneIn(c.cfg.Frozen, "freeze", step, nth) {
		c.losses.Add(1)
		l.handle.Freeze()
		l.p.sleep(lasts("freeze"))
		l.handle.Thaw()
	}
}

// network is what happens between a worker and the database.
func (c *clusterWorld) network(d dice) func(op string) ledgertest.Trouble {
	asked := make(map[string]int)
	return func(op string) (trouble ledgertest.Trouble) {
		asked[op]++
		if c.calmed() || !d.oneIn(c.cfg.Trouble, "trouble", op, asked[op]) {
			return trouble
		}
		switch d.roll("which trouble", op, asked[op]) % 4 {
		case 0:
			trouble.Drop = true
		case 1:
			trouble.LoseAnswer = true
		case 2:
			trouble.Late = time.Duration(d.roll("late", op, asked[op])%8000) * time.Millisecond
		case 3:
			trouble.LoseAnswer, trouble.Late = true, time.Second
		}
		return trouble
	}
}

// simShared is a shared ledger as a mortal process sees it.
type simShared struct {
	ledger.Shared
	mortal *simLedger
	p      *process
}

func (l *simShared) AddFile(ctx context.Context, f *ledger.File) error {
	return l.mortal.AddFile(ctx, f)
}
func (l *simShared) SaveFile(ctx context.Context, f *ledger.File) error {
	return l.mortal.SaveFile(ctx, f)
}
func (l *simShared) Record(ctx context.Context, e ledger.Entry) error { return l.mortal.Record(ctx, e) }
func (l *simShared) SaveLinks(ctx context.Context, s ledger.Scope, links []ledger.Link) error {
	return l.mortal.SaveLinks(ctx, s, links)
}
func (l *simShared) Flush(ctx context.Context) error { return l.mortal.Flush(ctx) }
func (l *simShared) Begin(ctx context.Context, s ledger.Scope, b *ledger.Bill, leads ...ledger.PartyRef) error {
	return l.mortal.Begin(ctx, s, b, leads...)
}

func (l *simShared) Bills(ctx context.Context, s ledger.Scope, refs []string) (known map[string]*ledger.Bill, err error) {
	err = l.p.step("bills", func() error { known, err = l.Shared.Bills(ctx, s, refs); return err })
	return known, err
}

func (l *simShared) Join(ctx context.Context, m ledger.Member) error {
	return l.p.step("join", func() error { return l.Shared.Join(ctx, m) })
}

func (l *simShared) Leave(ctx context.Context) error {
	return l.p.step("leave", func() error { return l.Shared.Leave(ctx) })
}

func (l *simShared) Acquire(ctx context.Context, lease string) (held bool, err error) {
	err = l.p.step("acquire", func() error { held, err = l.Shared.Acquire(ctx, lease); return err })
	return held && err == nil, err
}

func (l *simShared) Release(ctx context.Context, lease string) error {
	return l.p.step("release", func() error { return l.Shared.Release(ctx, lease) })
}

func (l *simShared) AddParts(ctx context.Context, file string, parts []ledger.Part) error {
	return l.p.step("add parts", func() error { return l.Shared.AddParts(ctx, file, parts) })
}

func (l *simShared) AcquirePart(ctx context.Context, file string, no int) (held bool, err error) {
	err = l.p.step(fmt.Sprint("acquire part ", no), func() error { held, err = l.Shared.AcquirePart(ctx, file, no); return err })
	return held && err == nil, err
}

func (l *simShared) ReleasePart(ctx context.Context, file string, no int, done bool, failure *ledger.PartFailure) error {
	return l.p.step(fmt.Sprint("release part ", no), func() error { return l.Shared.ReleasePart(ctx, file, no, done, failure) })
}

func (l *simShared) DropParts(ctx context.Context, file string) error {
	return l.p.step("drop parts", func() error { return l.Shared.DropParts(ctx, file) })
}

// done reports whether nothing is left to do.
func (c *clusterWorld) done(t testing.TB) bool {
	if len(c.files.in("/inbox")) > 0 || len(c.files.in("/processing")) > 0 {
		return false
	}
	h := c.store.Open(0)
	defer h.Close()
	files, err := h.Files(t.Context(), ledger.Query{})
	return err == nil && len(files) > 0 && !slices.ContainsFunc(files, func(f *ledger.File) bool { return !f.State.Finished() })
}

// run lets the machines work until all is done, and returns why it does not come to that.
func (c *clusterWorld) run(t testing.TB) error {
	var machines sync.WaitGroup
	for no := range c.cfg.Workers {
		machines.Go(func() { c.machine(t, no) })
	}
	var err error
	storm, all := c.cfg.patience()
	delivered := false
	for began := time.Now(); !delivered || !c.done(t); time.Sleep(time.Second) {
		lasts := time.Since(began)
		if _, done := c.files.find("/archive/a.csv"); done && !delivered {
			delivered = true // no sooner: files may be sent in any order
			c.files.put("/inbox/b.csv", []byte(simPairs))
		}
		if lasts > storm || c.losses.Load() > 60 {
			c.calmDown()
		}
		if lasts > all {
			err = fmt.Errorf("not done after %v", lasts)
			break
		}
	}
	c.calmDown()
	close(c.over)
	machines.Wait()
	return err
}

// simulateCluster runs one world to its end, in a bubble of its own time.
func simulateCluster(t *testing.T, cfg clusterConfig) (losses int, wrong []string) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterWorld(t, cfg)
		err := c.run(t)
		time.Sleep(5 * time.Minute) // what the server is still at comes to its end
		wrong = c.checkInvariants()
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		if cfg.Present != nil {
			for name, content := range map[string]string{"a.csv": simBills, "b.csv": simPairs} {
				_, bad := checkLinks(t, c.world, name, content)
				wrong = append(wrong, bad...)
			}
		}
		losses = int(c.losses.Load())
	})
	return losses, wrong
}

// clusterOf is the world of a seed.
func clusterOf(seed uint64) clusterConfig {
	d := dice{seed}
	cfg := clusterConfig{
		Seed: seed, Workers: 2 + int(d.roll("workers")%3), Weak: seed%2 == 1, Reuse: seed%4 >= 2, Slow: d.oneIn(3, "slow"),
		Deadly:  []uint64{0, 200, 60, 25}[d.roll("deadly")%4],
		Frozen:  []uint64{0, 300, 80}[d.roll("frozen")%3],
		Cut:     []uint64{0, 300, 80}[d.roll("cut off")%3],
		Stopped: []uint64{0, 0, 100}[d.roll("stopped")%3],
		Faulty:  []uint64{0, 12, 4}[d.roll("faulty")%3], Trouble: []uint64{0, 40, 10}[d.roll("trouble")%3],
	}
	if d.oneIn(6, "calm") {
		cfg.Deadly, cfg.Frozen, cfg.Cut, cfg.Stopped, cfg.Faulty, cfg.Trouble = 0, 0, 0, 0, 0, 0
	}
	return cfg
}

// TestClusterSimulator runs several workers that share a ledger against a simulated
// world: they are killed, stopped, frozen and cut off from the database at any step,
// which answers late, twice or never, and their clocks differ by up to two minutes. A
// failure names its seed; -sim.clusterseed runs it alone.
func TestClusterSimulator(t *testing.T) {
	worlds[clusterConfig]{
		only: *simClusterSeed, enough: *simLosses, losses: "crashes, freezes and partitions", of: clusterOf, run: simulateCluster,
	}.test(t)
}
