package crew

import (
	"context"
	"sync"

	"github.com/riverqueue/river"

	"billdrop/ingest"
)

// Arguments of jobs are ids and numbers alone. The feed is known by the queue.

type lookArgs struct{}

func (lookArgs) Kind() string { return "billdrop_look" }

type partArgs struct {
	File string `json:"file"` // id
	No   int    `json:"no"`
}

func (partArgs) Kind() string { return "billdrop_part" }

// handler calls the functions of a Work until its context ends.
type handler struct {
	ctx   context.Context
	work  ingest.Work
	feeds map[string]string // by queue

	mu      sync.Mutex
	closed  bool
	calling sync.WaitGroup
}

func newHandler(ctx context.Context, w ingest.Work) *handler {
	h := &handler{ctx: ctx, work: w, feeds: make(map[string]string)}
	for _, feed := range w.Feeds {
		h.feeds[partQueue(feed)], h.feeds[lookQueue(feed)] = feed, feed
	}
	return h
}

// call calls a function for the feed of a queue, unless the worker stops.
func (h *handler) call(queue string, do func(ctx context.Context, feed string)) {
	feed, ok := h.feeds[queue]
	h.mu.Lock()
	if ok = ok && !h.closed; ok {
		h.calling.Add(1)
	}
	h.mu.Unlock()
	if ok {
		defer h.calling.Done()
		do(h.ctx, feed)
	}
}

// close returns once no function is being called, and none will be.
func (h *handler) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.calling.Wait()
}

func (h *handler) look(_ context.Context, job *river.Job[lookArgs]) error {
	h.call(job.Queue, h.work.Look)
	return nil
}

func (h *handler) part(_ context.Context, job *river.Job[partArgs]) error {
	h.call(job.Queue, func(ctx context.Context, feed string) { h.work.Part(ctx, feed, job.Args.File, job.Args.No) })
	return nil
}
