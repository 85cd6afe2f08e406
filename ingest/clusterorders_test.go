package ingest

import (
	"context"
	"errors"
	"slices"
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

// approvedFirst is the ledger of a worker that is overtaken by an approval of the file that it is
// about to save.
type approvedFirst struct {
	*ledgertest.Handle
	approve func()
}

func (l *approvedFirst) SaveFile(ctx context.Context, f *ledger.File) error {
	l.approve()
	return l.Handle.SaveFile(ctx, f)
}

// An approval does not keep a rejection from being obeyed that comes at the same moment, as a
// command or as an order that was left.
func TestClusterRejectsWhileApproved(t *testing.T) {
	for name, left := range map[string]bool{"command": false, "order": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1)
				defer c.stop()
				limited := func(w *Worker) { w.Feeds[0].Hold.MaxRows = 1 }
				holder := c.newWorker("holder")
				limited(holder.Worker)
				defer holder.handle.Close()
				c.world.files.put("/inbox/a.csv", []byte(manyBills(1, 3, 3)))
				if _, err := holder.Poll(t.Context()); err != nil {
					t.Fatal(err)
				}
				id := c.only().ID
				w := c.newWorker("rejecter")
				limited(w.Worker)
				defer w.handle.Close()
				o := w.Options
				o.Ledger = &approvedFirst{w.handle, sync.OnceFunc(func() {
					if _, err := Approve(t.Context(), holder.handle, id); err != nil {
						t.Error(err)
					}
				})}
				worker, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				if left {
					if _, err := LeaveOrder(t.Context(), holder.handle, holder.Spool, OrderReject, id); err != nil {
						t.Fatal(err)
					}
					_, err = worker.Poll(t.Context())
				} else {
					_, err = worker.Reject(t.Context(), id)
				}
				if err != nil {
					t.Errorf("reject: %v", err)
				}
				if f := c.only(); f.State != ledger.Done || f.Outcome != ledger.FileRejected || c.bills() > 0 {
					t.Errorf("the file is %s, %s; %d bills", f.State, f.Outcome, c.bills())
				}
			})
		})
	}
}
