package ingest

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
)

// everyWay are the ways in which a worker goes on with a file.
var everyWay = map[string]func(ctx context.Context, w *Worker, id, file, out string) error{
	"run --once": func(ctx context.Context, w *Worker, _, _, _ string) error {
		_, err := w.Poll(ctx)
		return err
	},
	"run": func(ctx context.Context, w *Worker, _, _, _ string) error { return w.Run(ctx, time.Minute) },
	"import": func(ctx context.Context, w *Worker, _, file, out string) error {
		_, err := w.Import(ctx, w.Feeds[0], []LocalFile{{Path: file, Out: out}})
		return err
	},
	"import of another file": func(ctx context.Context, w *Worker, _, file, _ string) error {
		_, err := w.Import(ctx, w.Feeds[0], []LocalFile{{Path: file, Out: filepath.Join(filepath.Dir(file), "elsewhere")}})
		return err
	},
	"retry": func(ctx context.Context, w *Worker, id, _, _ string) error {
		_, err := w.Retry(ctx, id)
		return err
	},
	"reject": func(ctx context.Context, w *Worker, id, _, _ string) error {
		_, err := w.Reject(ctx, id)
		return err
	},
}

// A file that was begun under another key, merchant or API is not gone on with, in whatever
// way, and nothing is asked of the API.
func TestBoundFile(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world, f *Feed)
		names  []string // in the error
	}{
		"live key": {func(w *world, f *Feed) {
			f.Lane = delivery.NewLane(ledger.Scope{Merchant: "acme", Mode: "live"}, w.client, testPolicy())
		}, []string{"for merchant acme in test mode", "for acme in live mode"}},
		"another merchant": {func(w *world, f *Feed) {
			f.Lane = delivery.NewLane(ledger.Scope{Merchant: "other", Mode: "test"}, w.client, testPolicy())
		}, []string{"for merchant acme in test mode", "for other in test mode"}},
		"another API": {func(_ *world, f *Feed) { f.BaseURL = "https://api2.example.com" },
			[]string{"of merchant acme in test mode are at https://api.example.com", "api.base_url is now https://api2.example.com"}},
	} {
		for way, do := range everyWay {
			t.Run(name+"/"+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, id, file, out := cutShort(t)
					worker := w.worker(t, alive())
					c.change(w, worker.Feeds[0])
					before := w.api.State()
					err := do(t.Context(), worker, id, file, out)
					if !errors.Is(err, ErrNotApplicable) || adviceOn(err) == "" {
						t.Errorf("err = %v", err)
					}
					for _, part := range c.names {
						if err == nil || !strings.Contains(err.Error(), part) {
							t.Errorf("%v does not name %q", err, part)
						}
					}
					if after := w.api.State(); after.Posts != before.Posts || after.Gets != before.Gets {
						t.Errorf("%d POSTs and %d GETs", after.Posts-before.Posts, after.Gets-before.Gets)
					}
					if spooled, err := filepath.Glob(filepath.Join(w.spool, "*.csv")); err != nil || len(spooled) != 1 {
						t.Errorf("in the spool: %v %v", spooled, err)
					}
				})
			})
		}
	}
}

// The bills of a merchant stay bound to their API when no file is under way, until the
// operator says that it has moved. A merchant without bills is bound to nothing.
func TestBoundMerchant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 1})
		worker := w.worker(t, alive())
		moved := func() *Worker {
			worker := w.worker(t, alive())
			worker.Feeds[0].BaseURL = "https://api2.example.com"
			return worker
		}
		w.script = func(c emulator.Call) emulator.Fault { // nothing is sent, because the key is refused
			return emulator.Fault{Status: 401}
		}
		if changed, err := Rebind(t.Context(), w.ledger, moved().Feeds); err != nil || len(changed) != 0 {
			t.Errorf("a rebind without bills: %v, %v", changed, err)
		}
		w.script = nil
		if _, err := worker.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.files.put("/inbox/c.csv", []byte(simMore))
		if _, err := moved().Poll(t.Context()); !errors.Is(err, ErrNotApplicable) || !strings.Contains(adviceOn(err), "billdrop ledger rebind") {
			t.Errorf("at another address: %v", err)
		}
		if in := w.files.in("/inbox"); len(in) != 1 {
			t.Errorf("the inbox has %v", in)
		}
		changed, err := Rebind(t.Context(), w.ledger, moved().Feeds)
		if err != nil || len(changed) != 1 || changed[0] != (Rebound{worker.Feeds[0].Lane.Scope(), "https://api.example.com", "https://api2.example.com"}) {
			t.Errorf("rebind: %v, %v", changed, err)
		}
		if _, err := worker.Poll(t.Context()); !errors.Is(err, ErrNotApplicable) {
			t.Errorf("at the old address: %v", err)
		}
		if summaries, err := moved().Poll(t.Context()); err != nil || len(summaries) != 1 {
			t.Errorf("after the rebind: %v, %v", summaries, err)
		}
	})
}

// Files under way of a feed that was renamed or removed are named, and not by a usage error:
// nothing else goes on with them. Held ones too.
func TestFilesOfALostFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, id := heldWorld(t, 1)
		worker := w.worker(t, alive())
		worker.Feeds[0].Name = "renamed"
		worker, err := New(worker.Options)
		if err != nil {
			t.Fatal(err)
		}
		w.files.put("/inbox/c.csv", []byte(simMore))
		summaries, err := worker.Poll(t.Context())
		if err == nil || errors.Is(err, ErrNotApplicable) || !strings.Contains(err.Error(), "a.csv ("+id+", feed bills)") || adviceOn(err) == "" {
			t.Errorf("err = %v", err)
		}
		if len(summaries) != 1 || summaries[0].File != "c.csv" {
			t.Errorf("other files: %+v", summaries)
		}
		if err := worker.Run(t.Context(), time.Minute); err == nil || !strings.Contains(err.Error(), id) {
			t.Errorf("run: %v", err)
		}
	})
}

// A worker whose API is at another address than the bills of the merchant sends no part of a
// file that another worker has in hand, and ends.
func TestClusterOfTwoAPIs(t *testing.T) {
	const rows = 3000
	content := manyBills(1, rows, 300)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		c.start(2)
		time.Sleep(5 * time.Second)
		astray := c.newWorker("astray")
		astray.Feeds[0].BaseURL = "https://api2.example.com"
		c.serve(astray)
		time.Sleep(5 * time.Second)
		c.world.files.put("/inbox/a.csv", []byte(content))
		c.check(c.finished("a.csv", content, 2*time.Minute), rows, 300)
		c.await(time.Minute, "the worker has ended", func() bool {
			select {
			case <-astray.ended:
				return true
			default:
				return false
			}
		})
		if !errors.Is(astray.err, ErrNotApplicable) || !strings.Contains(astray.err.Error(), "api.base_url is now https://api2.example.com") {
			t.Errorf("it ended with %v", astray.err)
		}
		astray.p.mu.Lock()
		defer astray.p.mu.Unlock()
		if astray.p.posts > 0 {
			t.Errorf("it sent %d bills", astray.p.posts)
		}
	})
}

// A worker whose API is at another address than the bills of the merchant does not go on with
// an import that its machine left unfinished, also while another worker serves the feed.
func TestClusterImportOfTwoAPIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		c.start(1)
		time.Sleep(3 * time.Second)
		killed, _ := c.addImport(manyBills(1, 1500, 100))
		c.await(time.Minute, "some are sent", func() bool { return c.bills() > 300 })
		c.kill(killed)
		sent := c.bills()
		if err := c.command(func(w *Worker, ctx context.Context) error {
			_, err := w.Reject(ctx, c.only().ID)
			return err
		}); !errors.As(err, new(*Left)) {
			t.Fatalf("reject: %v", err)
		}
		astray := c.newWorkerOn(killed, "astray")
		astray.Feeds[0].BaseURL = "https://api2.example.com"
		c.serve(astray)
		time.Sleep(2 * time.Minute)
		if n := c.bills(); n != sent {
			t.Errorf("it sent %d bills", n-sent)
		}
		if left, err := astray.handle.Orders(t.Context(), ""); err != nil || len(left) != 1 {
			t.Errorf("the order is gone: %v, %v", left, err)
		}
	})
}

// A worker that has a file in hand when its API is bound to another address gives the file up, so
// that a worker that is set up for that address goes on with it.
func TestClusterReboundWhileSending(t *testing.T) {
	const rows = 4000
	content := manyBills(1, rows, rows)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		c.policy.Concurrency = 4
		defer c.stop()
		c.start(1)
		time.Sleep(3 * time.Second)
		c.world.files.put("/inbox/a.csv", []byte(content))
		c.await(time.Minute, "a quarter is sent", func() bool { return c.bills() > rows/4 })
		const other = "https://api2.example.com"
		if err := c.workers[0].handle.SetBaseURL(t.Context(), c.only().Scope, other); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		sent := c.bills()
		if sent == rows {
			t.Fatal("all was sent")
		}
		id := c.only().ID
		if err := c.command(func(w *Worker, ctx context.Context) error {
			return w.AsMember(ctx, "", func(ctx context.Context) error {
				held, err := w.takeFile(ctx, id)
				if err == nil && !held {
					err = errors.New("a worker still has it in hand")
				}
				w.giveFile(ctx, id)
				return err
			})
		}); err != nil {
			t.Errorf("the file: %v", err)
		}
		w := c.newWorker("rebound")
		w.Feeds[0].BaseURL = other
		c.serve(w)
		c.await(5*time.Minute, "it is done", func() bool { return c.only().State == ledger.Done })
		if n := len(c.world.api.State().Bills); n != rows {
			t.Errorf("%d bills", n)
		}
	})
}
