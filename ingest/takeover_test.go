package ingest

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// takeOverWithin is how long the work of a lost worker may wait for others, from the moment
// from which the worker counts as lost. PostgreSQL may need 3 s of the ten to mark it, which
// the ledger of these tests does at once.
const takeOverWithin = 7 * time.Second

// losses are the ways in which a worker is lost, and how it comes back.
var losses = []struct {
	name string
	lose func(*cluster, *clusterWorker)
	mend func(*cluster, *clusterWorker)
}{
	{"killed", func(_ *cluster, w *clusterWorker) { w.die() }, func(_ *cluster, w *clusterWorker) { <-w.ended }},
	{"frozen", func(_ *cluster, w *clusterWorker) { w.handle.Freeze() }, func(_ *cluster, w *clusterWorker) { w.handle.Thaw() }},
	{"cut off", func(_ *cluster, w *clusterWorker) { w.handle.Cut() }, func(_ *cluster, w *clusterWorker) { w.handle.Heal() }},
}

// held is what a worker has in hand.
type held struct {
	feed  bool
	files []string
	parts map[string][]int // by file
}

func (c *cluster) heldBy(w *clusterWorker) held {
	c.t.Helper()
	h := held{parts: make(map[string][]int)}
	w.crew.mu.Lock()
	h.feed, h.files = w.crew.served > 0, slices.Sorted(maps.Keys(w.crew.owned))
	w.crew.mu.Unlock()
	c.eachPart(func(file string, p ledger.Part) {
		if p.Worker == w.Member.Name {
			h.parts[file] = append(h.parts[file], p.No)
		}
	})
	return h
}

func (c *cluster) eachPart(do func(file string, p ledger.Part)) {
	c.t.Helper()
	c.eachFile(func(f *ledger.File, parts []ledger.Part) {
		for _, p := range parts {
			do(f.ID, p)
		}
	})
}

// eachFile hands do every unfinished file with its parts.
func (c *cluster) eachFile(do func(f *ledger.File, parts []ledger.Part)) {
	c.t.Helper()
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
		do(f, parts)
	}
}

// waits is what of the work of a lost worker waits still; "" = nothing does.
func (c *cluster) waits(lost *clusterWorker, had held) string {
	c.t.Helper()
	others := slices.DeleteFunc(slices.Clone(c.workers), func(w *clusterWorker) bool { return w == lost })
	var left []string
	c.eachPart(func(file string, p ledger.Part) {
		if slices.Contains(had.parts[file], p.No) && !p.Done && (p.Worker == "" || p.Worker == lost.Member.Name) {
			left = append(left, fmt.Sprint("part ", p.No))
		}
	})
	for _, id := range had.files {
		f, err := c.store.Open(0).File(c.t.Context(), id)
		if err != nil {
			c.t.Fatal(err)
		}
		if !f.State.Finished() && !slices.ContainsFunc(others, func(w *clusterWorker) bool { return w.crew.owns(id) }) {
			left = append(left, "file "+id)
		}
	}
	serves := func(w *clusterWorker) bool {
		w.crew.mu.Lock()
		defer w.crew.mu.Unlock()
		return w.crew.served%100 > 0
	}
	if had.feed && !slices.ContainsFunc(others, serves) {
		left = append(left, "feed")
	}
	return strings.Join(left, ", ")
}

// takeOver waits until others have what a lost worker had.
func (c *cluster) takeOver(lost *clusterWorker, had held) {
	c.t.Helper()
	if !had.feed && len(had.files) == 0 && len(had.parts) == 0 {
		c.t.Fatal("it has nothing in hand: nothing is tested")
	}
	last := ""
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		waits := c.waits(lost, had)
		took := time.Since(began)
		if waits == "" {
			c.t.Logf("taken over after %s: feed %v, files %v, parts %v; the last was: %s", took, had.feed, len(had.files), had.parts, last)
			return
		}
		if last = waits; took > c.lost+takeOverWithin {
			c.t.Errorf("%s after the loss, and this still waits: %s", took, waits)
			return
		}
	}
}

// TestLeftBehind: a part was left behind if it was in a hand and is free, or was passed over
// for a while. One that failed is the owner's to offer.
func TestLeftBehind(t *testing.T) {
	failed := &ledger.PartFailure{Reason: "no"}
	began := time.Now()
	seen := newPartsSeen()
	for i, look := range []struct {
		after time.Duration
		parts string // one letter each: d(one), f(ree), x: failed, m(ine), o(ther's)
		want  string
	}{
		{0, "doffff", ""},
		{time.Second, "dffoff", "1"},               // 1 was in a hand, 2 is passed over
		{1500 * time.Millisecond, "dffoff", "1"},   // not for long
		{2100 * time.Millisecond, "dffoff", "1 2"}, // now it is
		{3 * time.Second, "doomxf", "3"},           // its own, if it is at work on it no more
		{4 * time.Second, "dfxfff", "1 3"},         // 2 was given up by another worker
		{5 * time.Second, "dddddf", ""},            // nobody has taken 5 yet
		{10 * time.Second, "dddddf", ""},
	} {
		var parts []ledger.Part
		for no, is := range look.parts {
			p := ledger.Part{No: no, Done: is == 'd'}
			switch is {
			case 'x':
				p.Failure = failed
			case 'm':
				p.Worker = "me"
			case 'o':
				p.Worker = "other"
			}
			parts = append(parts, p)
		}
		var got []string
		for _, p := range seen.leftBehind(parts, "me", began.Add(look.after)) {
			got = append(got, fmt.Sprint(p.No))
		}
		if strings.Join(got, " ") != look.want {
			t.Errorf("look %d: %v, want %s", i, got, look.want)
		}
	}
}

// TestTakeOver: what a lost worker had in hand is in another hand in time, whatever the others are
// at. They are never idle: each answer of the API takes so long that a part takes hours.
func TestTakeOver(t *testing.T) {
	const divided, small = 4000, 60
	for name, s := range map[string]struct {
		rows    int
		owner   bool // the worker that has the file in hand is lost, not another
		arrange func(*cluster)
		busy    func(*cluster, *clusterWorker) // what else the others are at
	}{
		"parts of another's file": {rows: divided},
		"parts and a file":        {rows: divided, owner: true},
		"a small file":            {rows: small, owner: true},
		"hints get lost":          {rows: divided, owner: true, arrange: func(c *cluster) { c.hub.deaf = true }},
		"each hint twice":         {rows: divided, arrange: func(c *cluster) { c.hub.times = 2 }},
		"the others serve feeds":  {rows: small, owner: true, busy: func(_ *cluster, w *clusterWorker) { w.crew.serving(100) }},
		"the others rest": {rows: divided, busy: func(c *cluster, w *clusterWorker) {
			time.AfterFunc(c.lost-time.Second, func() { w.crew.rest(w.Feeds[0], restAfter) })
		}},
		"the others have full hands": {rows: divided, busy: func(_ *cluster, w *clusterWorker) { w.crew.fill(w.Feeds[0].Name) }},
	} {
		for _, loss := range losses {
			t.Run(name+", "+loss.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCluster(t, 1)
					c.policy.Concurrency = 4
					var delay atomic.Int64
					c.world.script = func(emulator.Call) emulator.Fault { return emulator.Fault{Delay: time.Duration(delay.Load())} }
					if s.arrange != nil {
						s.arrange(c)
					}
					defer c.stop()
					c.start(3)
					time.Sleep(5 * time.Second)
					content := manyBills(1, s.rows, s.rows)
					delay.Store(int64(20 * time.Second))
					c.world.files.put("/inbox/a.csv", []byte(content))
					c.await(time.Minute, "it is sent", func() bool { return c.bills() > 0 })
					time.Sleep(30 * time.Second)
					i := slices.IndexFunc(c.workers, func(w *clusterWorker) bool { return s.owner == (len(c.heldBy(w).files) > 0) })
					lost := c.workers[i]
					for _, w := range c.workers {
						if w != lost && s.busy != nil {
							s.busy(c, w)
						}
					}
					had := c.heldBy(lost)
					loss.lose(c, lost)
					c.takeOver(lost, had)
					loss.mend(c, lost)
					delay.Store(0)
					c.check(c.finished("a.csv", content, time.Hour), s.rows, s.rows)
				})
			})
		}
	}
}

// fill fills this worker's hand, as parts do whose rows only wait.
func (c *crew) fill(feed string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inHand[feed] = max(c.inHand[feed], maxInHand)
}

// TestTakeOverOfLeads: rows whose party a lost worker was about to create go on.
func TestTakeOverOfLeads(t *testing.T) {
	const rows = 2500
	content := manyBills(1, rows, 1) // all of one customer
	for _, loss := range losses {
		t.Run(loss.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1)
				c.world.script = func(call emulator.Call) emulator.Fault {
					if call.Method == "POST" && c.bills() == 0 {
						return emulator.Fault{Status: 500, Delay: 20 * time.Second}
					}
					return emulator.Fault{}
				}
				defer c.stop()
				c.start(3)
				time.Sleep(5 * time.Second)
				c.world.files.put("/inbox/a.csv", []byte(content))
				leader := -1
				c.await(time.Minute, "the first one is sent", func() bool {
					leader = slices.IndexFunc(c.workers, func(w *clusterWorker) bool { return w.p.count("post ") > 0 })
					return leader >= 0
				})
				lost := c.workers[leader]
				loss.lose(c, lost)
				c.await(c.lost+takeOverWithin, "another worker sends", func() bool {
					return slices.ContainsFunc(c.workers, func(w *clusterWorker) bool { return w != lost && w.p.count("post ") > 0 })
				})
				loss.mend(c, lost)
				c.check(c.finished("a.csv", content, time.Hour), rows, 1)
			})
		})
	}
}

// TestTakeOverBesideAnImport: a worker that finishes an import of its own machine takes over a
// feed all the same.
func TestTakeOverBesideAnImport(t *testing.T) {
	const rows = 300
	for _, loss := range losses {
		t.Run(loss.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1)
				c.policy.Concurrency = 2
				c.world.script = slow
				defer c.stop()
				name := filepath.Join(t.TempDir(), "local.csv")
				write(t, name, manyBills(1001, rows, rows))
				importing := c.add(func(w *clusterWorker, ctx context.Context) error {
					_, err := w.Import(ctx, w.Feeds[0], []LocalFile{{Path: name}})
					return err
				})
				c.await(time.Minute, "the import is under way", func() bool { return c.bills() > 0 })
				c.kill(importing)
				lost := c.add(func(w *clusterWorker, ctx context.Context) error { return w.Run(ctx, clusterInterval) })
				content := manyBills(1, rows, rows)
				c.world.files.put("/inbox/a.csv", []byte(content))
				time.Sleep(15 * time.Second)
				late := c.newWorker("late")
				late.Member.Machine = importing.Member.Machine
				c.run(late, func(w *clusterWorker, ctx context.Context) error { return w.Run(ctx, clusterInterval) })
				time.Sleep(3 * time.Second)
				had := c.heldBy(lost)
				if len(had.files) == 0 || len(c.heldBy(late).files) == 0 {
					t.Fatalf("it has %v, and the other worker has %v", had, c.heldBy(late))
				}
				loss.lose(c, lost)
				c.takeOver(lost, had)
				loss.mend(c, lost)
				c.finished("a.csv", content, time.Hour)
				c.await(time.Hour, "the import is done", func() bool { return len(c.heldBy(late).files) == 0 && len(c.world.api.State().Bills) == 2*rows })
			})
		})
	}
}

// TestTakeOverOfCommands: a file that a command had in hand is gone on with, although the next
// poll is an hour away.
func TestTakeOverOfCommands(t *testing.T) {
	const rows = 80
	content := manyBills(1, rows, rows)
	for name, command := range map[string]func(*clusterWorker, context.Context, string) error{
		"retry":      func(w *clusterWorker, ctx context.Context, id string) error { _, err := w.Retry(ctx, id); return err },
		"run --once": func(w *clusterWorker, ctx context.Context, _ string) error { _, err := w.Poll(ctx); return err },
	} {
		for _, loss := range losses {
			t.Run(name+", "+loss.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCluster(t, 1)
					c.policy.Concurrency = 2
					var bad, late atomic.Bool
					bad.Store(name == "retry")
					c.world.script = func(call emulator.Call) emulator.Fault {
						switch {
						case bad.Load() && strings.HasSuffix(call.Reference, "7"):
							return emulator.Fault{Status: 500}
						case late.Load():
							return emulator.Fault{Delay: 20 * time.Second}
						}
						return emulator.Fault{}
					}
					defer c.stop()
					c.world.files.put("/inbox/a.csv", []byte(content))
					for range 2 {
						c.add(func(w *clusterWorker, ctx context.Context) error { return w.Run(ctx, time.Hour) })
					}
					c.finished("a.csv", content, time.Hour)
					id := c.only().ID
					bad.Store(false)
					late.Store(true)
					if name == "run --once" {
						c.world.files.put("/inbox/b.csv", []byte(manyBills(rows+1, rows, rows)))
					}
					lost := c.add(func(w *clusterWorker, ctx context.Context) error { return command(w, ctx, id) })
					c.await(time.Minute, "the command is under way", func() bool { return lost.p.count("post ") > 0 })
					had := c.heldBy(lost)
					loss.lose(c, lost)
					c.takeOver(lost, had)
					loss.mend(c, lost)
					late.Store(false)
					c.await(time.Hour, "all is done", func() bool {
						bills := len(c.world.api.State().Bills)
						return len(c.world.files.in("/processing")) == 0 && (bills == rows && name == "retry" || bills == 2*rows)
					})
				})
			})
		}
	}
}

// follower is a Progress that says which files are followed.
type follower struct {
	mu    sync.Mutex
	files map[string]bool
}

func (f *follower) set(id string, followed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[id] = followed
}

func (f *follower) FileStarted(s Started)                    { f.set(s.ID, true) }
func (f *follower) RowDone(string, ledger.Status)            {}
func (f *follower) FileLeft(id string)                       { f.set(id, false) }
func (f *follower) FileFinished(id string, _ report.Summary) { f.set(id, false) }

func (f *follower) followed(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.files[id]
}

// TestTakeOverIsSeen: a worker that lost its feed and its file says no more of them, neither
// how far the file is nor what was wrong with the last poll.
func TestTakeOverIsSeen(t *testing.T) {
	const rows = 400
	content := manyBills(1, rows, rows)
	for _, loss := range losses[1:] {
		t.Run(loss.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1)
				c.policy.Concurrency = 2
				c.world.script = slow
				defer c.stop()
				shown := &follower{files: make(map[string]bool)}
				lost := c.newWorker("first")
				lost.Progress = shown
				c.run(lost, func(w *clusterWorker, ctx context.Context) error { return w.Run(ctx, clusterInterval) })
				c.world.files.put("/inbox/a.csv", []byte(content))
				c.await(time.Minute, "it is sent", func() bool { return c.bills() > 10 })
				id := c.only().ID
				lost.inboxes.Polled("bills", time.Now(), "the poll before has failed")
				if !shown.followed(id) {
					t.Fatal("its file is not followed")
				}
				c.start(1)
				loss.lose(c, lost)
				time.Sleep(c.lost + takeOverWithin)
				loss.mend(c, lost)
				c.await(30*time.Second, "it is a worker again", func() bool { return lost.handle.Current() == nil })
				if shown.followed(id) {
					t.Error("it still follows a file that another worker has")
				}
				if s := lost.Inboxes()[0]; s.Failed != "" || !s.Polled.IsZero() || s.Waiting != 0 {
					t.Errorf("it still says of the inbox that another worker polls: %+v", s)
				}
				c.check(c.finished("a.csv", content, time.Hour), rows, rows)
			})
		})
	}
}
