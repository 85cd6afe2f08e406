package crew

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// sayAgain is the least time between two warnings: while the database is away, River has many.
const sayAgain = time.Minute

// quiet passes on what River logs from warnings upwards: one a minute as a warning, because nothing
// rests on River, and all others for those who debug.
type quiet struct {
	to   slog.Handler
	said *said
}

// said is when the latest warning was passed on.
type said struct {
	mu sync.Mutex
	at time.Time
}

func (q *quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.to.Enabled(ctx, slog.LevelWarn)
}

func (q *quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level, r.Message = slog.LevelWarn, "handing out work: "+r.Message
	q.said.mu.Lock()
	if time.Since(q.said.at) < sayAgain {
		r.Level = slog.LevelDebug
	} else {
		q.said.at = time.Now()
	}
	q.said.mu.Unlock()
	if !q.to.Enabled(ctx, r.Level) {
		return nil
	}
	return q.to.Handle(ctx, r)
}

func (q *quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &quiet{q.to.WithAttrs(attrs), q.said}
}

func (q *quiet) WithGroup(name string) slog.Handler { return &quiet{q.to.WithGroup(name), q.said} }
