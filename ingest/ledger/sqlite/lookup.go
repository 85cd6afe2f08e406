package sqlite

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"sync"

	"billdrop/ingest/ledger"
)

// inAtOnce is how many keys one statement looks up at most: more than a chunk of the pipeline asks for.
const inAtOnce = 512

// lookUp is a query by many keys. Joining them is cheaper than an IN, which sorts them first, and there are few
// sizes of it, so that each is prepared once: keys are filled up with NULLs, which nothing equals.
type lookUp struct {
	head string // ends where the list of values begins
	tail string // begins where it ends; a value is v.column1

	mu       sync.Mutex
	prepared map[int]*sql.Stmt // by the number of keys
}

// each looks up the keys, with the query's other arguments behind them, and hands every row that is found to scan. tx may be
// nil.
func (q *lookUp) each(ctx context.Context, db *sql.DB, tx *sql.Tx, keys, others []any, scan func(*sql.Rows) error) error {
	for chunk := range slices.Chunk(keys, inAtOnce) {
		size := 1
		for size < len(chunk) {
			size *= 2
		}
		stmt, err := q.of(ctx, db, size)
		if err != nil {
			return err
		}
		if tx != nil {
			stmt = tx.StmtContext(ctx, stmt)
		}
		args := make([]any, size, size+len(others))
		copy(args, chunk)
		rows, err := stmt.QueryContext(ctx, append(args, others...)...)
		if err != nil {
			return err
		}
		if err := scanAll(rows, scan); err != nil {
			return err
		}
	}
	return nil
}

// of returns the statement for so many keys.
func (q *lookUp) of(ctx context.Context, db *sql.DB, size int) (*sql.Stmt, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.prepared[size]; s != nil {
		return s, nil
	}
	s, err := db.PrepareContext(ctx, q.head+strings.TrimSuffix(strings.Repeat("(?), ", size), ", ")+q.tail)
	if err != nil {
		return nil, err
	}
	if q.prepared == nil {
		q.prepared = make(map[int]*sql.Stmt)
	}
	q.prepared[size] = s
	return s, nil
}

// lookUps are those of a ledger.
type lookUps struct {
	bills   lookUp
	parties lookUp // by hash, through the index
	recent  lookUp // by id
}

func newLookUps() *lookUps {
	return &lookUps{
		bills: lookUp{
			head: "SELECT b.id, b.reference, b.record FROM (VALUES ",
			tail: ") AS v CROSS JOIN bills AS b ON b.scope = (SELECT id FROM scopes WHERE merchant = ? AND mode = ?) AND b.reference = v.column1",
		},
		parties: lookUp{
			head: "SELECT p.digest, p.party_id FROM (VALUES ",
			tail: ") AS v CROSS JOIN party_index AS i ON i.hash = v.column1 JOIN parties AS p ON p.id = i.party",
		},
		recent: lookUp{
			head: "SELECT p.digest, p.party_id FROM (VALUES ",
			tail: ") AS v CROSS JOIN parties AS p ON p.id = v.column1",
		},
	}
}

func (l *lookUps) close() {
	for _, q := range []*lookUp{&l.bills, &l.parties, &l.recent} {
		for _, s := range q.prepared {
			_ = s.Close() // nothing was written by it
		}
	}
}

// hashKeys are the keys of digests in the index, in its order, so that neighbours on a page are met together.
func hashKeys(digests []ledger.Digest) []any {
	slices.SortFunc(digests, compareHashes)
	keys := make([]any, len(digests))
	for i, d := range digests {
		keys[i] = hashOf(d)
	}
	return keys
}

// eachRow runs a query and hands each of its rows to scan.
func eachRow(ctx context.Context, q querier, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return scanAll(rows, scan)
}

func scanAll(rows *sql.Rows, scan func(*sql.Rows) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}
