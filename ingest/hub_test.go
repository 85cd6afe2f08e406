package ingest

import (
	"context"
	"sync"
)

// hub is a Dispatcher in memory.
type hub struct {
	mu    sync.Mutex
	jobs  []hubJob
	wake  chan struct{}
	deaf  bool // nothing is handed out
	times int  // each hint is given so often
}

type hubJob struct {
	feed, file string
	no         int
}

func newHub() *hub { return &hub{wake: make(chan struct{}), times: 1} }

func (h *hub) Offer(_ context.Context, feed, file string, parts []int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range h.times {
		for _, no := range parts {
			h.jobs = append(h.jobs, hubJob{feed, file, no})
		}
	}
	close(h.wake)
	h.wake = make(chan struct{})
	return nil
}

func (h *hub) next() (hubJob, bool, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.jobs) == 0 || h.deaf {
		return hubJob{}, false, h.wake
	}
	j := h.jobs[0]
	h.jobs = h.jobs[1:]
	return j, true, nil
}

func (h *hub) Run(ctx context.Context, w Work) error {
	var all sync.WaitGroup
	defer all.Wait()
	for range w.AtOnce {
		all.Go(func() {
			for ctx.Err() == nil {
				j, ok, wake := h.next()
				if ok {
					w.Part(ctx, j.feed, j.file, j.no)
					continue
				}
				select {
				case <-wake:
				case <-ctx.Done():
				}
			}
		})
	}
	<-ctx.Done()
	return nil
}
