package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"billdrop/ingest/ledger"
)

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// eachRow runs a query and hands each of its rows to scan.
func eachRow(ctx context.Context, q querier, query string, args []any, scan func(*row) error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return scanAll(rows, scan)
}

func scanAll(rows *sql.Rows, scan func(*row) error) error {
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values := make([]any, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := scan(&row{values}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// row is one row of a result. Its methods return the next column, and the zero value
// where that is NULL.
type row struct {
	rest []any
}

func (r *row) next() any {
	v := r.rest[0]
	r.rest = r.rest[1:]
	return v
}

func (r *row) text() string {
	s, _ := r.next().(string)
	return s
}

func (r *row) number() int64 {
	n, _ := r.next().(int64)
	return n
}

func (r *row) scope() ledger.Scope { return ledger.Scope{Merchant: r.text(), Mode: r.text()} }

// optional is a number that may be NULL.
func (r *row) optional() *int64 {
	if n, ok := r.next().(int64); ok {
		return &n
	}
	return nil
}

func (r *row) int() int   { return int(r.number()) }
func (r *row) flag() bool { return r.number() != 0 }

func (r *row) digest() (d ledger.Digest) {
	b, _ := r.next().([]byte)
	copy(d[:], b)
	return d
}

// time is the inverse of micros.
func (r *row) time() time.Time {
	if n, ok := r.next().(int64); ok {
		return time.UnixMicro(n).UTC()
	}
	return time.Time{}
}

// key is the inverse of keyValue.
func (r *row) key() string {
	switch v := r.next().(type) {
	case []byte:
		u, _ := uuid.FromBytes(v)
		return u.String()
	case string:
		return v
	}
	return ""
}

// micros is how a time is stored: microseconds since 1970 UTC, NULL for the zero time.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// keyValue is how an idempotency key is stored: a UUID in its canonical spelling as 16
// bytes, because then the bytes give the key back; anything else as text, none as NULL.
func keyValue(key string) any {
	if u, err := uuid.Parse(key); err == nil && u.String() == key {
		return u[:]
	}
	if key == "" {
		return nil
	}
	return key
}

// readTx runs read on one snapshot that holds every write that returned before.
func (l *Ledger) readTx(ctx context.Context, read func(*sql.Tx) error) (err error) {
	if err := l.settle(ctx, nil); err != nil {
		return err
	}
	tx, err := l.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() {
		if r := tx.Rollback(); r != nil && err == nil && !errors.Is(r, sql.ErrTxDone) { // done: ctx has ended
			err = r
		}
	}()
	return read(tx)
}

// readError is the end of the caller's context, or else a failure of the engine.
func readError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	return fmt.Errorf("%s: %w", what, unusable(err))
}
