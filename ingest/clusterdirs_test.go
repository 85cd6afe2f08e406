package ingest

import (
	"testing"
	"testing/synctest"
	"time"
)

// A directory that goes away for a while ends no feed of several workers: neither where they join
// again meanwhile, nor where another one takes the feed over.
func TestClusterDirectoryGoneForAWhile(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*cluster)
	}{
		{"they join again", func(c *cluster) {
			for _, w := range c.workers {
				w.handle.Freeze()
			}
			time.Sleep(time.Minute)
			for _, w := range c.workers {
				w.handle.Thaw()
			}
		}},
		{"one takes over", func(c *cluster) {
			for _, w := range c.workers {
				if w.p.count("list") > 0 { // it polls the feed
					w.end()
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCluster(t, 1)
				defer w.stop()
				w.start(2)
				w.world.files.put("/inbox/first.csv", []byte(manyBills(1, 3, 3)))
				time.Sleep(2 * time.Minute)
				w.world.files.lose("/results")
				time.Sleep(time.Minute)
				c.do(w)
				time.Sleep(3 * time.Minute)
				w.world.files.lose("")
				w.world.files.put("/inbox/second.csv", []byte(manyBills(2, 3, 3)))
				time.Sleep(3 * time.Minute)
				if in := w.world.files.in("/archive"); len(in) != 2 {
					t.Errorf("/archive has %v", in)
				}
			})
		})
	}
}
