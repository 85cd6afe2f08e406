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
