package webhook

import (
	"sync"
	"time"
)

// sayEvery is the time between two log lines of one kind, because anybody may cause them.
const sayEvery = time.Minute

// quiet bounds what is logged. Its zero value is ready.
type quiet struct {
	mu    sync.Mutex
	kinds map[kind]*silence
}

type kind struct {
	merchant string // one of the configuration, so that there are few
	result   Result
}

type silence struct {
	since time.Time // the latest line
	n     int       // since then
}

// count counts a delivery, and reports whether a line about its kind is due, with how many
// there were since the last one.
func (q *quiet) count(merchant string, r Result, now time.Time) (n int, say bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.kinds == nil {
		q.kinds = make(map[kind]*silence)
	}
	s := q.kinds[kind{merchant, r}]
	if s == nil {
		s = &silence{since: now.Add(-sayEvery)}
		q.kinds[kind{merchant, r}] = s
	}
	s.n++
	if now.Sub(s.since) < sayEvery {
		return 0, false
	}
	n, s.n, s.since = s.n, 0, now
	return n, true
}
