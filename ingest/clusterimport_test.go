package ingest

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
)

// An import works beside running workers, which leave its file alone. What it leaves
// unfinished is for its own machine.
func TestClusterImport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		c.start(2)
		time.Sleep(3 * time.Second)
		// It is killed in the middle.
		killed, name := c.addImport(manyBills(1, 2500, 100))
		c.await(time.Minute, "a third is sent", func() bool { return c.bills() > 800 })
		c.kill(killed)
		time.Sleep(time.Minute)
		sent := c.bills()
		if f := c.only(); f.State != ledger.Sending || f.Machine != killed.Member.Machine || sent > 1200 {
			t.Fatalf("%s on %q, %d sent: others have gone on with it", f.State, f.Machine, sent)
		}
		// Its own machine finishes it.
		again := c.newWorkerOn(killed, "again")
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

// An import that was killed can be given again at once: it waits until the one that was killed is
// taken for lost. One that another process is at work on is waited for, too.
func TestClusterImportAgain(t *testing.T) {
	for name, kill := range map[string]bool{"killed": true, "at work": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1)
				defer c.stop()
				first, name := c.addImport(manyBills(1, 600, 100))
				c.await(time.Minute, "some are sent", func() bool { return c.bills() > 100 })
				if kill {
					c.kill(first)
				}
				again := c.newWorkerOn(first, "again")
				done, err := again.Import(t.Context(), again.Feeds[0], []LocalFile{{Path: name}})
				if err != nil || len(done) != 1 || done[0].Summary.Rows.By[ledger.Created] != 600 {
					t.Errorf("%+v, %v", done, err)
				}
				if err := again.handle.Close(); err != nil {
					t.Error(err)
				}
				if n := len(c.world.api.State().Bills); n != 600 {
					t.Errorf("%d bills", n)
				}
			})
		})
	}
}

// An import that was killed is finished by a worker of its machine, whoever serves the feed.
func TestClusterResumesImports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		c.start(2)
		time.Sleep(3 * time.Second)
		killed, _ := c.addImport(manyBills(1, 1500, 100))
		c.await(time.Minute, "a third is sent", func() bool { return c.bills() > 500 })
		c.kill(killed)
		c.serve(c.newWorkerOn(killed, "late"))
		c.await(2*time.Minute, "the import is done", func() bool { return c.only().State == ledger.Done })
		if n := len(c.world.api.State().Bills); n != 1500 {
			t.Errorf("%d bills", n)
		}
	})
}

// Orders about a local file may be given on any machine. They wait for its own, which carries them
// out when billdrop runs there, and sends nothing more of a file that is to be rejected.
func TestClusterOrdersAwaitTheMachine(t *testing.T) {
	const rows = 1500
	order := func(t *testing.T, c *cluster, o Order, machine string) {
		err := c.command(func(w *Worker, ctx context.Context) error {
			give := w.Retry
			if o == OrderReject {
				give = w.Reject
			}
			_, err := give(ctx, c.only().ID)
			return err
		})
		var left *Left
		if !errors.As(err, &left) || left.Order != o || left.Machine != machine || !strings.Contains(err.Error(), machine) {
			t.Fatalf("%s: %v", o, err)
		}
	}
	start := func(t *testing.T, c *cluster) (killed *clusterWorker) {
		c.start(2)
		time.Sleep(3 * time.Second)
		killed, _ = c.addImport(manyBills(1, rows, rows))
		return killed
	}
	back := func(c *cluster, before *clusterWorker) { c.serve(c.newWorkerOn(before, "back")) }
	t.Run("reject", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 1)
			defer c.stop()
			killed := start(t, c)
			c.await(time.Minute, "a third is sent", func() bool { return c.bills() > rows/3 })
			c.kill(killed)
			time.Sleep(time.Minute)
			order(t, c, OrderReject, killed.Member.Machine)
			// A worker of another feed leaves the order alone.
			c.feed = "others"
			c.start(1)
			time.Sleep(10 * time.Second)
			c.feed = ""
			sent := c.bills()
			back(c, killed)
			c.await(2*time.Minute, "it is done", func() bool { return c.only().State == ledger.Done })
			if f := c.only(); f.Outcome != ledger.FileRejected || c.bills() != sent || sent == rows {
				t.Errorf("%s, %d bills, %d of them before the rejection", f.Outcome, c.bills(), sent)
			}
		})
	})
	t.Run("reject while it is sent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 1)
			defer c.stop()
			c.policy.Concurrency = 2
			w := start(t, c)
			c.await(time.Minute, "a third is sent", func() bool { return c.bills() > rows/3 })
			order(t, c, OrderReject, w.Member.Machine)
			c.await(10*time.Second, "it is done", func() bool { return c.only().State == ledger.Done })
			if f := c.only(); f.Outcome != ledger.FileRejected || c.bills() == rows {
				t.Errorf("%s, %d bills", f.Outcome, c.bills())
			}
		})
	})
	t.Run("retry", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 1)
			defer c.stop()
			var mended atomic.Bool
			c.world.script = func(call emulator.Call) emulator.Fault {
				if !mended.Load() && strings.HasSuffix(call.Reference, "7") {
					return emulator.Fault{Status: 500}
				}
				return emulator.Fault{}
			}
			w := start(t, c)
			c.await(time.Hour, "it is done", func() bool { return c.bills() > 0 && c.only().State == ledger.Done })
			if mended.Store(true); len(c.world.api.State().Bills) == rows {
				t.Fatal("no row failed")
			}
			order(t, c, OrderRetry, w.Member.Machine)
			back(c, w)
			c.await(10*time.Minute, "the rest is sent", func() bool { return len(c.world.api.State().Bills) == rows && c.only().State == ledger.Done })
		})
	})
}
