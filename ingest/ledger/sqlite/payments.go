package sqlite

import (
	"context"
	"database/sql"
	_ "embed" // the schema
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/gofrs/flock"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/groupcommit"
)

//go:embed payments.sql
var paymentsSchema string

const (
	// paymentsVersion is the schema of payments that this program reads and writes.
	paymentsVersion = 1
	// paymentsID marks a SQLite file as payments of billdrop's; set by the schema.
	paymentsID = 0x62647065
)

// PaymentsPath returns where the payments of the ledger at path are. They are a database of
// their own, because the ledger is held by one process, and payments are received while it is.
func PaymentsPath(ledger string) string { return ledger + "-events" }

// Payments is a ledger.Payments in a SQLite file beside the ledger. Any number of processes
// may have it open.
type Payments struct {
	*groupcommit.Receiver
	path      string
	write     *sql.DB // one connection; nil when read-only
	read      *sql.DB
	scopes    sync.Map // ledger.Scope → its number
	closeOnce sync.Once
	closeErr  error
}

var _ ledger.Payments = (*Payments)(nil)

// OpenPayments opens the payments of the ledger at path, and makes them where there are none.
// Errors wrap ledger.ErrUnusable.
func OpenPayments(ctx context.Context, path string) (*Payments, error) {
	p, err := paymentsAt(path)
	if err == nil {
		err = checkDirectory(p.path)
	}
	if err == nil {
		err = p.open(ctx)
	}
	if err != nil {
		return nil, errors.Join(openPaymentsError(ctx, p, err), p.release())
	}
	p.receive()
	return p, nil
}

// OpenPaymentsReadOnly opens them for reading. Errors wrap ledger.ErrNotFound when there are
// none, else ledger.ErrUnusable.
func OpenPaymentsReadOnly(ctx context.Context, path string) (*Payments, error) {
	p, err := paymentsAt(path)
	if err == nil {
		if _, err = os.Stat(p.path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open payments %q: %w", p.path, ledger.ErrNotFound)
		}
	}
	if err == nil {
		p.read, err = openReaders(p.path)
	}
	if err == nil {
		err = p.checkVersion(ctx, p.read)
	}
	if err != nil {
		return nil, errors.Join(openPaymentsError(ctx, p, err), p.release())
	}
	p.receive()
	return p, nil
}

func paymentsAt(ledgerPath string) (*Payments, error) {
	real, err := realPath(ledgerPath)
	return &Payments{path: PaymentsPath(real)}, err
}

func openPaymentsError(ctx context.Context, p *Payments, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	} else {
		err = unusable(err)
	}
	return fmt.Errorf("open payments %q: %w", p.path, err)
}

// open makes the file and its schema under a lock, because two processes may do so at once.
func (p *Payments) open(ctx context.Context) (err error) {
	opening := flock.New(p.path+".lock", flock.SetPermissions(0o600))
	if err := opening.Lock(); err != nil {
		return fmt.Errorf("take the lock of its opening: %w", err)
	}
	defer func() { err = errors.Join(err, opening.Close()) }()
	if err := create(p.path); err != nil {
		return err
	}
	if p.write, err = openWriter(p.path); err != nil {
		return err
	}
	err = p.checkVersion(ctx, p.write)
	if errors.Is(err, errNoSchema) {
		_, err = p.write.ExecContext(ctx, "BEGIN IMMEDIATE;\n"+paymentsSchema+"\nCOMMIT;")
	}
	if err != nil {
		return err
	}
	p.read, err = openReaders(p.path)
	return err
}

var errNoSchema = errors.New("it is empty")

// checkVersion returns errNoSchema of a new file, and another error of one that is not payments.
func (p *Payments) checkVersion(ctx context.Context, db *sql.DB) error {
	var id, version, tables int
	err := db.QueryRowContext(ctx, `SELECT a.application_id, v.user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id AS a, pragma_user_version AS v`).Scan(&id, &version, &tables)
	switch {
	case err != nil:
		return err
	case id == 0 && tables == 0:
		return errNoSchema
	case id != paymentsID:
		return advised("move it away", "it is a SQLite database, but not payments of billdrop's")
	case version > paymentsVersion:
		return newerError(version)
	}
	return nil
}

// receive begins to record what is received.
func (p *Payments) receive() {
	p.Receiver = groupcommit.NewReceiver(func(batch []*groupcommit.Received) error {
		return p.tx(context.Background(), func(tx *sql.Tx) error { return insertPayments(tx, batch) })
	}, unusable(errClosed))
}

// insertPayments inserts a batch, and finds out which of it is repeated.
func insertPayments(tx *sql.Tx, batch []*groupcommit.Received) error {
	add, err := tx.Prepare(`INSERT INTO payments (scope, webhook_id, event_id, type, obligation_id, payment_id, currency, amount,
		bill_id, account_id, customer_id, received) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`)
	if err != nil {
		return err
	}
	defer add.Close()
	for _, r := range batch {
		scope, err := addScope(tx, r.Scope)
		if err != nil {
			return err
		}
		e := &r.Payment
		result, err := add.Exec(scope, r.WebhookID, e.EventID, e.Type, e.ObligationID, e.PaymentID, e.Currency, e.Amount,
			e.BillID, e.AccountID, e.CustomerID, e.ReceivedAt.UnixMicro())
		if err != nil {
			return err
		}
		added, err := result.RowsAffected()
		if err != nil {
			return err
		}
		r.Repeated = added == 0
	}
	return nil
}

// tx runs do in a transaction that is durable when it returns nil.
func (p *Payments) tx(ctx context.Context, do func(*sql.Tx) error) error {
	if p.write == nil {
		return unusable(errReadOnly)
	}
	tx, err := p.write.BeginTx(ctx, nil)
	if err != nil {
		return unusable(err)
	}
	err = do(tx)
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		_ = tx.Rollback() // fails if SQLite has rolled back by itself
		if errors.Is(err, ledger.ErrExists) || errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		return unusable(err)
	}
	return nil
}

// addScope returns the number of a scope, which is added where it is new.
func addScope(tx *sql.Tx, s ledger.Scope) (n int64, err error) {
	err = tx.QueryRow("SELECT id FROM scopes WHERE merchant = ? AND mode = ?", s.Merchant, s.Mode).Scan(&n)
	if !errors.Is(err, sql.ErrNoRows) {
		return n, err
	}
	err = tx.QueryRow("INSERT INTO scopes (merchant, mode) VALUES (?, ?) RETURNING id", s.Merchant, s.Mode).Scan(&n)
	return n, err
}

// scope returns the number of a scope; 0 if nothing was recorded of it.
func (p *Payments) scope(ctx context.Context, s ledger.Scope) (int64, error) {
	if n, ok := p.scopes.Load(s); ok {
		return n.(int64), nil
	}
	var n int64
	err := p.read.QueryRowContext(ctx, "SELECT id FROM scopes WHERE merchant = ? AND mode = ?", s.Merchant, s.Mode).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, unusable(err)
	}
	p.scopes.Store(s, n)
	return n, nil
}

// Close implements ledger.Payments.
func (p *Payments) Close() error {
	p.closeOnce.Do(func() {
		p.Receiver.Close()
		p.closeErr = p.release()
	})
	return p.closeErr
}

func (p *Payments) release() error {
	var errs []error
	for _, db := range []*sql.DB{p.read, p.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}
