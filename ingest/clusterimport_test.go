package ingest

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

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
