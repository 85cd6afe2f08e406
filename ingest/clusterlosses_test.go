package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

// A worker that is killed, frozen or cut off in the middle of a file is replaced within
// the time after which it counts as lost and ten seconds. One that wakes again goes on as
// a worker.
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

// takenOver reports whether a worker that was lost has nothing in hand, and all that is
// to be done is in the hands of others.
func (c *cluster) takenOver(lost *clusterWorker) bool {
	taken := true
	c.eachFile(func(f *ledger.File, parts []ledger.Part) {
		waits := func(p ledger.Part) bool { return !p.Done && p.Worker == "" || p.Worker == lost.Member.Name }
		owned := slices.ContainsFunc(c.workers, func(w *clusterWorker) bool { return w != lost && w.crew.owns(f.ID) })
		taken = taken && owned && !slices.ContainsFunc(parts, waits)
	})
	return taken
}

// owns reports whether a worker has a file in hand.
func (c *crew) owns(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owned[id]
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

// slow is an API that takes its time.
func slow(emulator.Call) emulator.Fault { return emulator.Fault{Delay: 300 * time.Millisecond} }

// Without its database a worker sends nothing from three seconds on, waits, and goes on
// by itself. A single round ends once it has waited for as long as it may.
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
