package crew

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// sayAgain is how long a message of River's is not repeated: while the database is away, it has many.
const sayAgain = time.Minute

// quiet passes on what River logs from warnings upwards, as warnings: nothing rests on River.
type quiet struct {
	to   slog.Handler
	said *said
}

// said is when each message was passed on last.
type said struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (q *quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.to.Enabled(ctx, slog.LevelWarn)
}

func (q *quiet) Handle(ctx context.Context, r slog.Record) error {
	q.said.mu.Lock()
	again := time.Since(q.said.at[r.Message]) < sayAgain
	if !again {
		if len(q.said.at) > 1000 {
			clear(q.said.at)
		}
		q.said.at[r.Message] = time.Now()
	}
	q.said.mu.Unlock()
	if again {
		return nil
	}
	r.Level, r.Message = slog.LevelWarn, "handing out work: "+r.Message
	return q.to.Handle(ctx, r)
}

func (q *quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &quiet{q.to.WithAttrs(attrs), q.said}
}

func (q *quiet) WithGroup(name string) slog.Handler { return &quiet{q.to.WithGroup(name), q.said} }
