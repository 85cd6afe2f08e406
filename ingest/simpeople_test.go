package ingest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
)

// What people do to a world, besides killing processes: they close laptops, set clocks, restore
// backups, give orders, edit copies in the spool, and switch keys.
type people struct {
	Suspends bool // the machine is suspended: the wall clock runs, the monotonic one stands
	Clocks   bool // the machine's clock is set wrong, and corrected
	Restores bool // the ledger is replaced by an older one; only where the API refuses a second bill
	Orders   bool // files are rejected
	Edits    bool // the copies in the spool are edited
	Rekeys   bool // a process is started with the key of another mode
}

// any reports whether somebody does something.
func (p people) any() bool { return p != people{} }

// peopleOf chooses what people do in the world of a seed.
func peopleOf(d dice, weak, harsh bool) (p people) {
	if d.oneIn(2, "calm people") {
		return p
	}
	switch kind := d.roll("people") % 7; {
	case kind == 0:
		p.Suspends = true
	case kind == 1:
		p.Clocks = true
	case kind == 2:
		p.Suspends, p.Clocks = true, true
	case harsh:
	case kind == 3:
		p.Restores = !weak
	case kind == 4:
		p.Orders = true
	case kind == 5:
		p.Edits = true
	case kind == 6:
		p.Rekeys = true
	}
	return p
}

// machineClock is the clock of the machine on which processes run. It may be wrong, and its
// monotonic part stands while the machine is suspended.
type machineClock struct {
	mu     sync.Mutex
	ahead  time.Duration // of the true time
	stood  time.Duration
	asleep time.Time // since when; zero = awake
}

// withMonotonic is a time that has a monotonic reading. The times of a bubble have none.
var withMonotonic = time.Now()

func (c *machineClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	stood := c.stood
	if !c.asleep.IsZero() {
		stood += now.Sub(c.asleep)
	}
	now = withMonotonic.Add(now.Add(c.ahead).Sub(withMonotonic))
	(*[2]int64)(unsafe.Pointer(&now))[1] -= int64(c.ahead + stood) // the monotonic reading; see type time.Time
	return now
}

func (c *machineClock) set(ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = ahead
}

// suspend has the machine of p sleep for d.
func (c *machineClock) suspend(p *process, d time.Duration) {
	c.mu.Lock()
	if !c.asleep.IsZero() {
		c.mu.Unlock()
		return
	}
	c.asleep = time.Now()
	c.mu.Unlock()
	p.sleep(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stood += time.Since(c.asleep)
	c.asleep = time.Time{}
}

// whileAlive is what people do at a step of a process.
func (w *world) whileAlive(t testing.TB, p *process, step string, nth int) {
	dice := p.dice
	if w.cfg.Suspends && dice.oneIn(150, "suspend", step, nth) {
		naps := []time.Duration{time.Minute, 3 * time.Hour, 19*time.Hour + 59*time.Minute, 21 * time.Hour, 26 * time.Hour}
		w.clock.suspend(p, naps[dice.roll("nap", step, nth)%uint64(len(naps))])
	}
	// A clock that is set back by as much as the machine slept, before the API tells the time
	// again, hides the sleep from any program.
	if w.cfg.Clocks && !w.cfg.Suspends && dice.oneIn(150, "set the clock", step, nth) {
		w.setClock(dice.roll("clock", step, nth))
	}
	if w.cfg.Orders && dice.oneIn(150, "order", step, nth) {
		w.order(t, dice.roll("which", step, nth))
	}
}

func (w *world) setClock(roll uint64) {
	errs := []time.Duration{0, 0, 0, 4 * time.Minute, -4 * time.Minute, 10 * time.Hour, -10 * time.Hour, 13 * time.Hour, -26 * time.Hour}
	w.clock.set(errs[roll%uint64(len(errs))])
}

// afterDeath is what people do while no process is alive.
func (w *world) afterDeath(t testing.TB, life int) {
	if w.cfg.Clocks && w.oneIn(2, "set the clock", life) {
		w.setClock(w.roll("clock", life))
	}
	if w.cfg.Restores && len(w.backups) > 0 && w.oneIn(4, "restore", life) {
		w.restores++
		w.ledger.Restore(w.backups[w.roll("backup", life)%uint64(len(w.backups))])
	}
	if w.cfg.Orders && w.oneIn(6, "order", life) {
		w.order(t, w.roll("which", life))
	}
	if w.cfg.Edits && w.oneIn(2, "edit", life) {
		w.edit(t)
	}
}

// beforeLife is what people do before a process starts.
func (w *world) beforeLife(t testing.TB, life int) {
	if w.cfg.Clocks && life == 0 {
		w.setClock(w.roll("first clock"))
	}
	if w.cfg.Restores && len(w.backups) < 50 {
		w.backups = append(w.backups, w.ledger.Backup())
	}
	if w.cfg.Rekeys && w.oneIn(2, "rekey", life) {
		w.rekey(t, life)
	}
}

// order has an operator reject an unfinished file.
func (w *world) order(t testing.TB, roll uint64) {
	files, err := w.ledger.Files(t.Context(), ledger.Query{Unfinished: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		return
	}
	f, err := w.leaveReject(t.Context(), files[roll%uint64(len(files))].ID)
	if err != nil {
		return // it has gone on, or is rejected already
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	grace := time.Duration(0)
	if f.State == ledger.Sending {
		grace = 2 * orderPoll // until it is seen
	}
	if _, before := w.rejected[f.Name]; !before {
		w.rejected[f.Name] = time.Now().Add(grace)
	}
}

func (w *world) leaveReject(ctx context.Context, id string) (*ledger.File, error) {
	return LeaveOrder(ctx, w.ledger, w.spool, OrderReject, id)
}

// ordered returns what is wrong with a POST, given the orders.
func (w *world) ordered(c emulator.Call) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	only := map[string]string{"INV-1": "a.csv", "INV-2": "a.csv", "INV-3": "a.csv", "INV-4": "a.csv", "INV-8": "a.csv",
		"NEW-1": "b.csv", "NEW-2": "b.csv"}
	if since, rejected := w.rejected[only[c.Reference]]; rejected && c.Method == "POST" && time.Now().After(since) {
		return fmt.Sprintf("%s sent although its file was rejected", c.Reference)
	}
	return ""
}

// edit changes what the copies in the spool say.
func (w *world) edit(t testing.TB) {
	copies, err := filepath.Glob(filepath.Join(w.spool, "*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range copies {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.NewReplacer(",1000,", ",66600,", ",6000,", ",66600,", ",100,", ",66600,").Replace(string(b))
		write(t, name, changed+strings.Replace(strings.SplitAfter(simMore, "\n")[1], "INV-6", "EVIL-1", 1))
	}
}

// rekey starts a process with the key of another mode while files are under way. It must do
// nothing.
func (w *world) rekey(t testing.TB, life int) {
	files, err := w.ledger.Files(t.Context(), ledger.Query{Unfinished: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		return
	}
	w.scope.Mode = "live"
	defer func() { w.scope.Mode = "test" }()
	p := &process{dice: dice{w.roll("rekeyed life", life)}, steps: make(map[string]int)}
	if _, err := w.worker(t, p).Poll(t.Context()); err == nil || p.posts > 0 {
		w.wrong = append(w.wrong, fmt.Sprintf("files under way in test mode, a key of live mode: %d POSTs, %v", p.posts, err))
	}
}

var otherReport = regexp.MustCompile(`report (\S+) exists in \S+ \(SHA-256 \w+\), was not published by this ledger`)

// mend does what docs/running.md says after a restore, and reports whether there was anything.
func (w *world) mend(err error) bool {
	if w.restores == 0 {
		return false
	}
	f := w.files
	f.mu.Lock()
	defer f.mu.Unlock()
	mended := false
	if err != nil {
		for _, m := range otherReport.FindAllStringSubmatch(err.Error(), -1) {
			from := "/results/" + m[1]
			w.moved[m[1]] = w.restores
			f.files["/kept/"+m[1]] = f.files[from]
			delete(f.files, from)
			mended = true
		}
		return mended
	}
	for name, file := range f.files {
		base, _, _ := strings.Cut(strings.TrimPrefix(name, "/processing/"), "~")
		if _, taken := f.files["/inbox/"+base]; strings.HasPrefix(name, "/processing/") && !taken {
			f.files["/inbox/"+base] = file
			delete(f.files, name)
			mended = true
		}
	}
	return mended
}

// keptAside returns a report that mend moved away, if another backup was restored after that: it
// may be one that has the report as published.
func (w *world) keptAside(report string) (simFile, bool) {
	if at, moved := w.moved[report]; !moved || at == w.restores {
		return simFile{}, false
	}
	return w.files.files["/kept/"+report], true
}

// skew is by how much a key may be older than its life, because a clock that is wrong by no more
// than 5 minutes counts as right.
func (w *world) skew() time.Duration {
	if w.cfg.Clocks {
		return 10 * time.Minute
	}
	return 0
}
