package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
)

// heldWorld is a world in which a.csv is held: it has more rows than may be. b.csv is done.
func heldWorld(t *testing.T, seed uint64) (w *world, id string) {
	t.Helper()
	w = newWorld(t, simConfig{Seed: seed})
	worker := w.worker(t, alive())
	worker.Feeds[0].Hold.MaxRows = 5
	summaries, err := worker.Poll(t.Context())
	if err != nil || len(summaries) != 2 || summaries[0].Outcome != ledger.FileHeld {
		t.Fatalf("%+v, %v", summaries, err)
	}
	return w, summaries[0].FileID
}

// checkRejected sees that nothing of a.csv was sent, and that its reports say so.
func (w *world) checkRejected(t *testing.T) {
	t.Helper()
	want := map[string]string{"INV-7": "invalid"}
	for _, ref := range []string{"INV-1", "INV-2", "INV-3", "INV-4", "INV-5", "INV-6", "INV-8", "OLD-SAME", "OLD-OTHER"} {
		want[ref] = "not_sent"
	}
	if got := statusOf(t, w, "a.csv", simBills); !maps.Equal(got, want) {
		t.Errorf("results: %v", got)
	}
	names := report.NamesOf(report.Stem("a.csv", sha256Hex(simBills), 1))
	s, err := report.Parse(w.files.files["/results/"+names.Summary].content)
	if err != nil || s.Outcome != ledger.FileRejected || s.Code != "over_limit" || !strings.Contains(s.Detail, "rejected by hand") || strings.Contains(s.Detail, "approve") ||
		s.Rows.By[ledger.NotSent] != 9 || s.Rows.By[ledger.Invalid] != 1 || s.Requests.Posts != 0 || s.FinishedAt.IsZero() {
		t.Errorf("summary: %+v, %v", s, err)
	}
	if n := strings.Count(string(w.files.files["/results/"+names.Rejects].content), "\n"); n != 11 {
		t.Errorf("the rejects have %d lines", n)
	}
	if rejected, left := w.files.in("/rejected"), w.files.in("/processing"); fmt.Sprint(rejected) != "[a.csv]" || len(left) > 0 {
		t.Errorf("rejected: %v, processing: %v", rejected, left)
	}
	if n := len(w.api.Bills("INV-1")); n != 0 {
		t.Errorf("%d bills for INV-1", n)
	}
	if spooled, err := filepath.Glob(filepath.Join(w.spool, "*.*")); err != nil || len(spooled) > 0 {
		t.Errorf("left in the spool: %v %v", spooled, err)
	}
}

// checkSent sees that a.csv was sent after b.csv, whose bills of the same references stand.
func (w *world) checkSent(t *testing.T) {
	t.Helper()
	want := map[string]string{"INV-5": "conflict", "INV-6": "existing", "INV-7": "invalid", "OLD-SAME": "existing", "OLD-OTHER": "conflict"}
	for _, ref := range []string{"INV-1", "INV-2", "INV-3", "INV-4", "INV-8"} {
		want[ref] = "created"
	}
	got := statusOf(t, w, "a.csv", simBills)
	if got["OLD-SAME"] == "created" { // a send for it went without an answer, see wantA
		got["OLD-SAME"] = "existing"
	}
	if !maps.Equal(got, want) {
		t.Errorf("results: %v", got)
	}
	for ref := range want {
		if n := len(w.api.Bills(ref)); n != 1 && ref != "INV-7" {
			t.Errorf("%s: %d bills", ref, n)
		}
	}
	if archived, left := w.files.in("/archive"), w.files.in("/processing"); fmt.Sprint(archived) != "[a.csv b.csv]" || len(left) > 0 {
		t.Errorf("archive: %v, processing: %v", archived, left)
	}
	if spooled, err := filepath.Glob(filepath.Join(w.spool, "*.*")); err != nil || len(spooled) > 0 {
		t.Errorf("left in the spool: %v %v", spooled, err)
	}
}

// A rejected file ends, and its corrected rows complete the job.
func TestReject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, id := heldWorld(t, 1)
		worker := w.worker(t, alive())
		s, err := worker.Reject(t.Context(), id)
		if err != nil || s.Outcome != ledger.FileRejected {
			t.Fatalf("%+v, %v", s, err)
		}
		w.checkRejected(t)
		for _, again := range []Order{OrderReject, OrderApprove} {
			if _, err := worker.carryOut(t.Context(), again, id); !errors.Is(err, ErrNotApplicable) {
				t.Errorf("%s once more: %v", again, err)
			}
		}
		rejects := w.files.files["/results/"+report.NamesOf(s.Stem).Rejects].content
		w.files.put("/inbox/corrected.csv", []byte(strings.Replace(string(rejects), "abc", "7000", 1)))
		summaries, err := worker.Poll(t.Context())
		if err != nil || len(summaries) != 1 || summaries[0].Rows.Total != 10 || summaries[0].Rows.By[ledger.Invalid]+summaries[0].Rows.By[ledger.NotSent] != 0 {
			t.Errorf("the corrected file: %+v, %v", summaries, err)
		}
		if n := len(w.api.Bills("INV-7")); n != 1 {
			t.Errorf("%d bills for INV-7", n)
		}
	})
}

// A rejection that is killed at any step is finished by the next run. One that was not
// recorded is given anew.
func TestRejectCrash(t *testing.T) {
	crashes := 0
	for seed := uint64(1); seed <= 60; seed++ {
		synctest.Test(t, func(t *testing.T) {
			w, id := heldWorld(t, seed)
			p := &process{dice: dice{seed}, deadly: 6, steps: make(map[string]int)}
			if _, err := w.worker(t, p).Reject(t.Context(), id); p.dead {
				crashes++
				w.ledger.Crash(func(n int) int { return int(w.roll("tail") % uint64(n+1)) })
			} else if err != nil {
				t.Fatal(err)
			}
			if err := w.run(t); err != nil { // cron
				t.Fatal(err)
			}
			if f, err := w.ledger.File(t.Context(), id); err != nil {
				t.Fatal(err)
			} else if resting(f) {
				if _, err := w.worker(t, alive()).Reject(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			w.checkRejected(t)
			if t.Failed() {
				t.Fatalf("seed %d, died %s", seed, p.where)
			}
		})
	}
	if crashes < 20 {
		t.Errorf("only %d of the rejections were killed", crashes)
	}
}

// A file is rejected whatever is left of it: it was taken out of processing/, changed
// there, or is gone altogether, or the feed's format is another one.
func TestRejectWhatIsLeft(t *testing.T) {
	for _, c := range []struct {
		name     string
		spoil    func(w *world, id string, feed *Feed)
		rejected string // what rests in rejected/ then
		rows     int
	}{
		{"taken out of processing", func(w *world, _ string, _ *Feed) { delete(w.files.files, "/processing/a.csv") }, "[a-STEM.csv]", 10},
		{"its copy lost", func(w *world, id string, _ *Feed) { w.worker(t, alive()).spool.remove(id) }, "[a.csv]", 10},
		{"gone altogether", func(w *world, id string, _ *Feed) {
			delete(w.files.files, "/processing/a.csv")
			w.worker(t, alive()).spool.remove(id)
		}, "[]", 0},
		{"changed, and its copy lost", func(w *world, id string, _ *Feed) {
			w.files.put("/processing/a.csv", []byte("other\n"))
			w.worker(t, alive()).spool.remove(id)
		}, "[a-STEM.changed.csv]", 0},
		{"of another format", func(_ *world, _ string, f *Feed) { f.Format.Delimiter = ';' }, "[a.csv]", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, id := heldWorld(t, 1)
				worker := w.worker(t, alive())
				c.spoil(w, id, worker.Feeds[0])
				s, err := worker.Reject(t.Context(), id)
				if err != nil || s.Outcome != ledger.FileRejected || s.Code != "over_limit" || s.Rows.Total != c.rows || s.Requests.Posts != 0 {
					t.Errorf("%+v, %v", s, err)
				}
				want := strings.ReplaceAll(c.rejected, "a-STEM", s.Stem)
				if got := fmt.Sprint(w.files.in("/rejected")); got != want {
					t.Errorf("rejected: %s, want %s", got, want)
				}
				if f, err := w.ledger.File(t.Context(), id); err != nil || f.State != ledger.Done {
					t.Errorf("the file: %+v, %v", f, err)
				}
				if summaries, err := worker.Poll(t.Context()); err != nil || len(summaries) > 0 {
					t.Errorf("the next run: %v, %v", summaries, err)
				}
			})
		})
	}
}

// Orders that were left while another process held the ledger are carried out by the next
// poll, wherever that dies.
func TestOrders(t *testing.T) {
	for _, o := range []Order{OrderApprove, OrderReject, OrderRetry} {
		t.Run(string(o), func(t *testing.T) {
			crashes := 0
			for seed := uint64(1); seed <= 60; seed++ {
				synctest.Test(t, func(t *testing.T) {
					w, id := heldWorld(t, seed)
					if o == OrderRetry { // a.csv is sent, and no answer comes for one of its rows
						ill := true
						w.script = func(c emulator.Call) emulator.Fault {
							if ill && c.Reference == "INV-2" && c.Method == "POST" {
								return emulator.Fault{Status: 503}
							}
							return emulator.Fault{}
						}
						if _, err := Approve(t.Context(), w.ledger, id); err != nil {
							t.Fatal(err)
						}
						if err := w.run(t); err != nil {
							t.Fatal(err)
						}
						ill = false
					}
					if _, err := LeaveOrder(t.Context(), w.ledger, w.spool, o, id); err != nil {
						t.Fatal(err)
					}
					p := &process{dice: dice{seed}, deadly: 8, steps: make(map[string]int)}
					if _, err := w.worker(t, p).Poll(t.Context()); p.dead {
						crashes++
						w.ledger.Crash(func(n int) int { return int(w.roll("tail") % uint64(n+1)) })
					} else if err != nil {
						t.Fatal(err)
					}
					if err := w.run(t); err != nil {
						t.Fatal(err)
					}
					if err := os.Remove(filepath.Join(w.spool, OrdersDir)); err != nil {
						t.Errorf("an order is left: %v", err)
					}
					if o == OrderReject {
						w.checkRejected(t)
					} else {
						w.checkSent(t)
					}
					if t.Failed() {
						t.Fatalf("seed %d, died %s", seed, p.where)
					}
				})
			}
			if crashes < 10 {
				t.Errorf("only %d of the polls were killed", crashes)
			}
		})
	}
}

// What is ordered has to fit, and the last word counts.
func TestLeaveOrder(t *testing.T) {
	led, dir := ledgertest.NewMemory(), t.TempDir()
	const held, done, sent = "20261123-053000-00000001", "20261123-053000-00000002", "../20261123-053000-00000003"
	for _, f := range []ledger.File{
		{ID: held, State: ledger.Held, Outcome: ledger.FileHeld},
		{ID: done, State: ledger.Done},
		{ID: sent, State: ledger.Held, Outcome: ledger.FileHeld},
	} {
		if err := led.AddFile(t.Context(), &f); err != nil {
			t.Fatal(err)
		}
	}
	left := func() string {
		t.Helper()
		orders, err := spoolOrders{dir}.list(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, o := range orders {
			names = append(names, orderFile(o.Order, o.file))
		}
		return strings.Join(names, " ")
	}
	for _, c := range []struct {
		order Order
		id    string
		want  error // nil: it is left
		left  string
	}{
		{OrderApprove, "20261123-053000-0000000f", ledger.ErrNotFound, ""},
		{OrderApprove, done, ErrNotApplicable, ""},
		{OrderReject, done, ErrNotApplicable, ""},
		{OrderRetry, done, ErrNothingToDo, ""},
		{OrderRetry, held, ErrNotApplicable, ""},
		{OrderReject, held, nil, "reject-" + held},
		{OrderApprove, held, nil, "approve-" + held},
		{OrderApprove, held, nil, "approve-" + held},
	} {
		_, err := LeaveOrder(t.Context(), led, dir, c.order, c.id)
		if !errors.Is(err, c.want) || left() != c.left {
			t.Errorf("%s %s: %v, left: %q", c.order, c.id, err, left())
		}
	}
	if _, err := LeaveOrder(t.Context(), led, dir, OrderApprove, sent); err == nil || left() != "approve-"+held {
		t.Errorf("an id that leads elsewhere: %v, left: %q", err, left())
	}
	if _, err := LeaveOrder(t.Context(), led, filepath.Join(dir, "none"), OrderApprove, held); err == nil {
		t.Error("an order was left in a spool that is not there")
	}
	for _, name := range []string{".approve-" + held, "approve-" + held + ".tmp", "remove-" + held, "approve-../" + held} {
		if err := os.WriteFile(filepath.Join(dir, OrdersDir, strings.ReplaceAll(name, "/", "_")), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, OrdersDir, "approve-"+done), 0o700); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, OrdersDir, "approve-"+held)); err != nil || info.Mode() != 0o600 || left() != "approve-"+held {
		t.Errorf("%v, %v, left: %q", info, err, left())
	}
	if err := WithdrawOrders(t.Context(), led, dir, held); err != nil || left() != "" {
		t.Errorf("%v, left: %q", err, left())
	}
}

// watchedLedger calls a function around the SaveFile of a file that reaches a state.
type watchedLedger struct {
	ledger.Ledger
	state         ledger.FileState
	before, after func()
	once          bool // it was reached
}

func (l *watchedLedger) SaveFile(ctx context.Context, f *ledger.File) error {
	reached := f.State == l.state && f.Name == "a.csv" && !l.once
	l.once = l.once || reached
	if reached && l.before != nil {
		l.before()
	}
	err := l.Ledger.SaveFile(ctx, f)
	if reached && l.after != nil {
		l.after()
	}
	return err
}

// An order to reject meets the worker that goes on with the file. Whenever it is left: if it
// was accepted before anything of the file was sent, nothing is; if it comes in the middle,
// no more is than was on its way, and the file ends as rejected.
func TestRejectionMeetsSending(t *testing.T) {
	for _, c := range []struct {
		name  string
		place func(l *watchedLedger, w *world, order func())
		begun bool // rows may have been sent
	}{
		{"before it is judged", func(l *watchedLedger, _ *world, order func()) { l.state, l.before = ledger.Spooled, order }, false},
		{"before Sending is durable", func(l *watchedLedger, _ *world, order func()) { l.state, l.before = ledger.Sending, order }, false},
		{"after Sending is durable", func(l *watchedLedger, _ *world, order func()) { l.state, l.after = ledger.Sending, order }, true},
		{"in the middle", func(_ *watchedLedger, w *world, order func()) {
			var once sync.Once
			w.script = func(c emulator.Call) emulator.Fault {
				if c.Method == "POST" && c.Reference == "INV-1" {
					once.Do(order)
					return emulator.Fault{Delay: 5 * time.Second} // the other rows of its party wait
				}
				return emulator.Fault{}
			}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, id := heldWorld(t, 1)
				if _, err := Approve(t.Context(), w.ledger, id); err != nil {
					t.Fatal(err)
				}
				worker := w.worker(t, alive())
				watched := &watchedLedger{Ledger: w.ledger}
				worker.Ledger = watched
				ordered := 0
				c.place(watched, w, func() {
					f, err := LeaveOrder(t.Context(), w.ledger, w.spool, OrderReject, id)
					if err != nil || (f.State == ledger.Sending) != c.begun {
						t.Errorf("the order: %+v, %v", f, err)
					}
					ordered++
				})
				before := w.api.State().Posts
				summaries, err := worker.Poll(t.Context())
				if err != nil || ordered != 1 || len(summaries) != 1 || summaries[0].Outcome != ledger.FileRejected {
					t.Fatalf("%d orders, %+v, %v", ordered, summaries, err)
				}
				if n := w.api.State().Posts - before; !c.begun && n > 0 {
					t.Errorf("%d requests after the order was accepted", n)
				}
				statuses := statusOf(t, w, "a.csv", simBills)
				if statuses["INV-2"] != "not_sent" || statuses["INV-3"] != "not_sent" || statuses["INV-7"] != "invalid" {
					t.Errorf("%v", statuses)
				}
				for ref, status := range statuses {
					if n := len(w.api.Bills(ref)); status == "created" && n != 1 || status == "not_sent" && n != 0 && ref != "INV-5" && ref != "INV-6" && !strings.HasPrefix(ref, "OLD") {
						t.Errorf("%s is %s, and the API has %d", ref, status, n)
					}
				}
				if orders, err := worker.orders.list(t.Context()); err != nil || len(orders) > 0 {
					t.Errorf("left: %v, %v", orders, err)
				}
			})
		})
	}
}

// An import obeys the orders that wait, before it goes on with a file.
func TestImportObeysOrders(t *testing.T) {
	for _, o := range []Order{OrderReject, OrderApprove} {
		t.Run(string(o), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, simConfig{Seed: 1})
				file := filepath.Join(t.TempDir(), "a.csv")
				write(t, file, simBills)
				again := []LocalFile{{Path: file}}
				worker := w.worker(t, alive())
				worker.Feeds[0].Hold.MaxRows = 5
				done, err := worker.Import(t.Context(), worker.Feeds[0], again)
				if err != nil || len(done) != 1 || done[0].Summary.Outcome != ledger.FileHeld {
					t.Fatalf("%+v, %v", done, err)
				}
				if _, err := LeaveOrder(t.Context(), w.ledger, w.spool, o, done[0].Summary.FileID); err != nil {
					t.Fatal(err)
				}
				posts := w.api.State().Posts
				outcome := map[Order]string{OrderReject: ledger.FileRejected, OrderApprove: ledger.CompletedWithErrors}[o]
				id := done[0].Summary.FileID
				done, err = worker.Import(t.Context(), worker.Feeds[0], again)
				if err != nil || len(done) != 1 || done[0].Summary.FileID != id || done[0].Summary.Outcome != outcome {
					t.Fatalf("%+v, %v", done, err)
				}
				if sent := w.api.State().Posts > posts; sent != (o == OrderApprove) {
					t.Errorf("sent: %v", sent)
				}
			})
		})
	}
}

// A file can be ended by a rejection in every state, also where nothing else brings it to its
// end, and nothing more of it is sent.
func TestRejectInEveryState(t *testing.T) {
	for _, c := range []struct {
		state ledger.FileState
		spoil func(w *world, f *ledger.File) // what keeps it from its end
		end   ledger.FileState
		left  string // what is in processing/ and the inbox then
	}{
		{ledger.Claiming, func(w *world, f *ledger.File) { // the rename did not take place
			w.files.put("/inbox/a.csv", w.files.files[f.Path].content)
			w.files.remove(f.Path)
		}, ledger.Done, "[] []"},
		{ledger.Claimed, func(*world, *ledger.File) {}, ledger.Done, "[] []"},
		{ledger.Claimed, func(w *world, f *ledger.File) { w.files.remove(f.Path) }, ledger.Dropped, "[] []"},
		{ledger.Spooled, func(w *world, f *ledger.File) { w.files.remove(f.Path) }, ledger.Done, "[] []"},
		{ledger.Held, func(w *world, f *ledger.File) { w.files.remove(f.Path) }, ledger.Done, "[] []"},
		{ledger.Sending, func(w *world, f *ledger.File) { w.files.remove(f.Path) }, ledger.Done, "[] []"},
		{ledger.Settled, func(w *world, f *ledger.File) { w.files.remove(f.Path) }, ledger.Done, "[] []"},
		{ledger.Published, func(w *world, f *ledger.File) {
			for _, dir := range []string{"/rejected/", "/archive/"} {
				w.files.put(dir+"a.csv", []byte("another"))
				w.files.put(dir+f.Stem+".csv", []byte("one more"))
			}
		}, ledger.Done, "[a.csv] []"},
	} {
		t.Run(string(c.state), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, id := heldWorld(t, 1)
				w.files.remove("/inbox/b.csv")
				f, err := w.ledger.File(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				switch f.State, f.Outcome = c.state, ""; c.state {
				case ledger.Claiming, ledger.Claimed:
					f.Stem, f.SHA256 = "", ""
				case ledger.Held:
					f.Outcome = ledger.FileHeld
				case ledger.Settled, ledger.Published:
					f.Outcome = ledger.Completed
					for row := range f.Rows {
						o := ledger.Outcome{Row: row + 1, Line: row + 2, Status: ledger.NotSent}
						if err := w.ledger.Record(t.Context(), ledger.Entry{File: id, Outcome: &o}); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := w.ledger.SaveFile(t.Context(), f); err != nil {
					t.Fatal(err)
				}
				c.spoil(w, f)
				if err := os.Remove(spool{w.spool}.path(id)); err != nil {
					t.Fatal(err)
				}
				posts := w.api.State().Posts
				worker := w.worker(t, alive())
				if _, err := worker.Reject(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				if f, err = w.ledger.File(t.Context(), id); err != nil || f.State != c.end {
					t.Errorf("%+v, %v", f, err)
				}
				if _, err := worker.Poll(t.Context()); err != nil || w.api.State().Posts != posts {
					t.Errorf("the next run: %v, %d requests", err, w.api.State().Posts-posts)
				}
				if left := fmt.Sprint(w.files.in("/processing"), w.files.in("/inbox")); left != c.left {
					t.Errorf("left: %s", left)
				}
			})
		})
	}
}

// logged collects what is logged.
type logged struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// A worker that polls takes orders up by itself, and drops those that do not apply with a
// warning. Told both, it rejects.
func TestOrdersToARunningWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, id := heldWorld(t, 1)
		log := new(logged)
		worker := w.worker(t, alive())
		worker.Log = slog.New(slog.NewTextHandler(log, nil))
		done := make(chan error)
		ctx, stop := context.WithCancel(t.Context())
		go func() { done <- worker.Run(ctx, time.Minute) }()
		time.Sleep(time.Second)
		synctest.Wait()
		const stranger = "20200101-000000-00000000"
		for _, name := range []string{"approve-" + id, "reject-" + id, "retry-" + stranger, "retry-" + id} {
			if err := os.MkdirAll(filepath.Join(w.spool, OrdersDir), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(w.spool, OrdersDir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		w.checkRejected(t)
		if err := os.Remove(filepath.Join(w.spool, OrdersDir)); err != nil {
			t.Errorf("an order is left: %v", err)
		}
		if said := log.String(); strings.Count(said, "order taken") != 1 || strings.Count(said, "level=WARN msg=\"order not carried out") != 3 {
			t.Errorf("logged:\n%s", said)
		}
		stop()
		<-done
	})
}
