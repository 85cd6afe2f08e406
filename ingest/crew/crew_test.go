//go:build unix

package crew

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"billdrop/ingest"
	"billdrop/ingest/ledger/postgres/pgtest"
)

func newPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// took is which worker got which part of which file.
type took struct {
	mu    sync.Mutex
	parts map[string][]string // "feed/file/no" → workers
	looks map[string]int      // by worker
	news  chan struct{}
}

func newTook() *took {
	return &took{parts: make(map[string][]string), looks: make(map[string]int), news: make(chan struct{}, 1)}
}

func (k *took) add(note func()) {
	k.mu.Lock()
	note()
	k.mu.Unlock()
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// await waits until something is so.
func (k *took) await(t *testing.T, what string, so func() bool) {
	t.Helper()
	late := time.After(40 * time.Second)
	for {
		k.mu.Lock()
		ok := so()
		k.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-k.news:
		case <-late:
			t.Fatalf("not within 40s: %s", what)
		}
	}
}

// start runs a worker with its own pool until the test ends, or stop is called.
func (k *took) start(t *testing.T, url, name string, interval time.Duration, feeds ...string) (d *Dispatcher, stop func()) {
	t.Helper()
	d = New(newPool(t, url), slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- d.Run(ctx, ingest.Work{
			Feeds: feeds, Interval: interval, AtOnce: 3,
			Look: func(context.Context, string) { k.add(func() { k.looks[name]++ }) },
			Part: func(_ context.Context, feed, file string, no int) {
				time.Sleep(time.Millisecond) // a short one
				k.add(func() {
					id := fmt.Sprint(feed, "/", file, "/", no)
					k.parts[id] = append(k.parts[id], name)
				})
			},
		})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	t.Cleanup(stop)
	return d, stop
}

func numbers(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// Workers that start together on an empty database share the parts of the feeds that they
// serve, each part once, and go on after the database was restarted.
func TestDispatcher(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	k := newTook()
	const odd = "Bills & more, Ünïcode/1"
	var offers *Dispatcher
	for i := range 3 {
		feeds := []string{"daily", odd}
		if i == 2 {
			feeds = feeds[:1]
		}
		offers, _ = k.start(t, url, fmt.Sprint("w", i), time.Second, feeds...)
	}
	offer := func(feed, file string, n int) {
		t.Helper()
		if err := offers.Offer(t.Context(), feed, file, numbers(n)); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	offer("daily", "f1", 60)
	offer(odd, "f2", 20)
	k.await(t, "80 parts", func() bool { return len(k.parts) == 80 })
	t.Logf("80 parts in %s", time.Since(began))
	shares := make(map[string]int)
	k.mu.Lock()
	for id, workers := range k.parts {
		if len(workers) != 1 {
			t.Errorf("%s: %v", id, workers)
		}
		shares[workers[0]]++
		if strings.HasPrefix(id, odd) && workers[0] == "w2" {
			t.Errorf("%s went to a worker that does not serve the feed", id)
		}
	}
	k.mu.Unlock()
	t.Logf("shares: %v", shares)
	if len(shares) < 2 {
		t.Errorf("shares: %v", shares)
	}
	k.await(t, "a look", func() bool { return len(k.looks) > 0 })

	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	for offers.Offer(t.Context(), "daily", "f3", numbers(10)) != nil {
	}
	k.await(t, "10 more parts", func() bool { return len(k.parts) == 90 })
	t.Logf("10 parts %s after a restart of the database", time.Since(began))
}

// Nothing of a job's arguments is more than ids and numbers.
func TestJobArguments(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	d := New(newPool(t, url), slog.New(slog.DiscardHandler))
	if err := d.Offer(t.Context(), "feed with a name", "20261123-053000-00000001", []int{7}); err != nil {
		t.Fatal(err)
	}
	var queue, args string
	if err := d.pool.QueryRow(t.Context(), "SELECT queue, args::text FROM river_job").Scan(&queue, &args); err != nil {
		t.Fatal(err)
	}
	if want := `{"no": 7, "file": "20261123-053000-00000001"}`; args != want || queue != partQueue("feed with a name") {
		t.Errorf("queue %s, arguments %s", queue, args)
	}
}

// A worker that is told to stop returns once its parts have ended.
func TestDispatcherStops(t *testing.T) {
	server := pgtest.Start(t)
	d := New(newPool(t, server.Database(t)), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	begun, told := make(chan struct{}), false
	ended := make(chan error, 1)
	go func() {
		ended <- d.Run(ctx, ingest.Work{Feeds: []string{"daily"}, AtOnce: 1, Look: func(context.Context, string) {},
			Part: func(ctx context.Context, _, _ string, _ int) {
				close(begun)
				<-ctx.Done()
				told = true
			}})
	}()
	if err := d.Offer(t.Context(), "daily", "f", []int{0}); err != nil {
		t.Fatal(err)
	}
	<-begun
	cancel()
	if err := <-ended; err != nil || !told {
		t.Errorf("%v, the part was told: %v", err, told)
	}
}
