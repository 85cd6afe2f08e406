// Package crew hands out work among the workers of a cluster by River, on the database of
// their ledger. A job is a hint and proves nothing: it may come twice, late or never, and for
// work that is done or in another worker's hand. Who may do what is decided by the ledger, so
// it does not matter if River takes a job of a lost worker for one that still runs.
package crew

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"billdrop/ingest"
)

const (
	// fetchCooldown is the least time between two fetches of jobs: parts are short.
	fetchCooldown = 20 * time.Millisecond
	// fetchPoll is how often jobs are fetched for which no notification came.
	fetchPoll = time.Second
	// kept is how long the record of a job stays, for those who look at the queues.
	kept = time.Hour
	// lastWords bounds how long River may record the ends of jobs once the worker stops.
	lastWords = 5 * time.Second
)

// Dispatcher is an ingest.Dispatcher. It may be used concurrently, but Run by one goroutine at
// a time.
type Dispatcher struct {
	pool *pgxpool.Pool
	log  *slog.Logger

	mu       sync.Mutex
	migrated bool
	inserts  *river.Client[pgx.Tx] // only inserts jobs
}

var _ ingest.Dispatcher = (*Dispatcher)(nil)

// New makes a Dispatcher on the database of a ledger, whose pool stays the caller's. It connects to
// nothing yet.
func New(pool *pgxpool.Pool, log *slog.Logger) *Dispatcher {
	return &Dispatcher{pool: pool, log: slog.New(&quiet{to: log.Handler(), said: new(said)})}
}

// Offer inserts a job for each part.
func (d *Dispatcher) Offer(ctx context.Context, feed, file string, parts []int) error {
	if len(parts) == 0 {
		return nil
	}
	client, err := d.inserter(ctx)
	if err != nil {
		return err
	}
	jobs := make([]river.InsertManyParams, len(parts))
	for i, no := range parts {
		jobs[i] = river.InsertManyParams{Args: partArgs{File: file, No: no}, InsertOpts: &river.InsertOpts{Queue: partQueue(feed), MaxAttempts: 1}}
	}
	if _, err := client.InsertManyFast(ctx, jobs); err != nil {
		return fmt.Errorf("hand out parts: %w", err)
	}
	return nil
}

// inserter returns a client that inserts jobs.
func (d *Dispatcher) inserter(ctx context.Context) (*river.Client[pgx.Tx], error) {
	if err := d.migrate(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inserts == nil {
		client, err := river.NewClient(riverpgxv5.New(d.pool), &river.Config{Logger: d.log})
		if err != nil {
			return nil, fmt.Errorf("hand out work: %w", err)
		}
		d.inserts = client
	}
	return d.inserts, nil
}

// Run works on the jobs of w's feeds until ctx ends.
func (d *Dispatcher) Run(ctx context.Context, w ingest.Work) error {
	if len(w.Feeds) == 0 {
		<-ctx.Done()
		return nil
	}
	if err := d.migrate(ctx); err != nil {
		return err
	}
	h := newHandler(ctx, w)
	client, err := river.NewClient(riverpgxv5.New(d.pool), d.config(w, h))
	if err != nil {
		return fmt.Errorf("hand out work: %w", err)
	}
	// Not ctx: when it ends, jobs end by themselves, and then River.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("hand out work: %w", err)
	}
	<-ctx.Done()
	h.close()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if err := client.StopAndCancel(stopping); err != nil {
		d.log.Warn("the ends of some jobs could not be recorded; others find their work undone or done", "error", err)
	}
	return nil
}

// config is River's for a worker.
func (d *Dispatcher) config(w ingest.Work, h *handler) *river.Config {
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(h.look))
	river.AddWorker(workers, river.WorkFunc(h.part))
	c := &river.Config{
		ID:     "billdrop-" + rand.Text(), // two workers may start at the same moment
		Queues: make(map[string]river.QueueConfig), Workers: workers, Logger: d.log,
		FetchCooldown: fetchCooldown, FetchPollInterval: fetchPoll,
		JobTimeout: -1, MaxAttempts: 1, // a part takes as long as it takes, and nothing rests on a second attempt
		CompletedJobRetentionPeriod: kept, CancelledJobRetentionPeriod: kept, DiscardedJobRetentionPeriod: kept,
	}
	for _, feed := range w.Feeds {
		c.Queues[partQueue(feed)] = river.QueueConfig{MaxWorkers: max(1, w.AtOnce)}
		c.Queues[lookQueue(feed)] = river.QueueConfig{MaxWorkers: 1, FetchPollInterval: 5 * fetchPoll}
		if w.Interval > 0 {
			look := func() (river.JobArgs, *river.InsertOpts) {
				return lookArgs{}, &river.InsertOpts{Queue: lookQueue(feed), MaxAttempts: 1}
			}
			c.PeriodicJobs = append(c.PeriodicJobs, river.NewPeriodicJob(river.PeriodicInterval(max(time.Second, w.Interval)), look, nil))
		}
	}
	return c
}

// Queues are named by a digest, because a feed's name may have characters that a queue's may not.
func partQueue(feed string) string { return "part_" + digest(feed) }
func lookQueue(feed string) string { return "look_" + digest(feed) }

func digest(feed string) string {
	sum := sha256.Sum256([]byte(feed))
	return hex.EncodeToString(sum[:8])
}
