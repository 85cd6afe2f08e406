package postgres

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"billdrop/ingest/ledger"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// schemaVersion is the number of the latest migration: what this program reads and writes.
	schemaVersion = 5
	// versions is the table that says which migrations were applied.
	versions = "ledger_version"
	// oldest is the oldest server that is supported.
	oldest = 130000
	// migrateLock is the advisory lock under which one process at a time migrates.
	migrateLock = 0x62647270_00000001
	// connectTimeout bounds a connection attempt to one address, where the URL does not.
	connectTimeout = 5 * time.Second
	// sessionCheck bounds how long checkSession takes.
	sessionCheck = 2 * time.Second
	// readers bounds the connections that reads and leases take, where the URL does not.
	readers = 8
)

// Options are how a ledger is opened. The zero value is usable.
type Options struct {
	// Password is used in place of that of the URL. When both are empty, PGPASSWORD and
	// the passfile are, as libpq does it.
	Password string
	// Patience is how long a call waits for a server out of reach; 0 = until its context ends.
	Patience time.Duration
	// Warn, if not nil, is called when calls begin to wait for the server, once until it is back.
	Warn func(reason string)
	// ReadOnly has Open change nothing: ErrNotFound if there is no ledger yet, and
	// ErrUnusable if it is one of an older billdrop.
	ReadOnly bool
}

// Open opens the ledger in the database at url (postgres://USER@HOST/DATABASE), and makes
// its tables when there are none. An older ledger is brought up to date. Any number of
// processes may have it open.
//
// A server out of reach is waited for, as Options.Patience says, and so is a database that
// takes no connections now; then the error is ErrUnreachable. What waiting does not mend is
// ErrUnusable at once: no such database, a wrong password, a user whom a pooler does not
// know, no right, a server that is too old, a ledger of a newer billdrop. No error holds a
// password.
func Open(ctx context.Context, url string, o Options) (*Ledger, error) {
	l, err := prepared(ctx, url, o)
	if err != nil {
		return nil, err
	}
	l.writer = newWriter(l)
	l.queue = newQueue(l.writer)
	return l, nil
}

// prepared makes a handle once the database is as this program wants it.
func prepared(ctx context.Context, url string, o Options) (*Ledger, error) {
	l, err := connect(ctx, url, o)
	if err != nil {
		return nil, err
	}
	err = l.patiently(ctx, func(ctx context.Context) error { return l.prepare(ctx, o.ReadOnly) })
	if err != nil {
		l.pool.Close()
		if errors.Is(err, ledger.ErrNotFound) {
			return nil, fmt.Errorf("open ledger %s: %w", l.name, err)
		}
		return nil, l.openError(ctx, err)
	}
	return l, nil
}

// connect makes a handle without looking at the database. It connects when it is asked to.
func connect(ctx context.Context, url string, o Options) (*Ledger, error) {
	config, err := parse(url, o.Password)
	if err != nil {
		return nil, err
	}
	l := &Ledger{patience: o.Patience, closing: make(chan struct{})}
	l.outage.warn = o.Warn
	l.name = nameOf(config)
	if l.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, l.openError(ctx, err)
	}
	l.config = l.pool.Config().ConnConfig
	return l, nil
}

func (l *Ledger) openError(ctx context.Context, err error) error {
	return readError(ctx, "open ledger "+l.name, err)
}

// parse reads a URL. Its errors are in words of this package, because those of the
// library quote the URL, and with it a password that was not written as a URL wants it.
func parse(text, password string) (*pgxpool.Config, error) {
	refuse := func(what, hint string) error {
		return fmt.Errorf("open ledger: %w", &ledger.Error{Err: fmt.Errorf("%w: the URL of PostgreSQL %s", ledger.ErrUnusable, what), Hint: hint})
	}
	const hint = "write it as postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full, and the password into ledger_password_file"
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return nil, refuse("does not begin with postgres://", hint)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, refuse("cannot be read", hint)
	}
	config, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, refuse("cannot be used"+reasonOf(err, u), hint)
	}
	c := config.ConnConfig
	if password != "" {
		c.Password = password
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "billdrop"
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}, Control: control}
	c.DialFunc = dialer.DialContext
	config.AfterConnect = setSession
	if !u.Query().Has("pool_max_conns") {
		config.MaxConns = readers
	}
	return config, nil
}

// reasonOf is why the library refused a URL, if that can be said without quoting the URL.
func reasonOf(err error, u *url.URL) string {
	var parse interface{ Unwrap() error }
	if !errors.As(err, &parse) || parse.Unwrap() == nil {
		return ""
	}
	inner := parse.Unwrap()
	var quotes *url.Error
	if errors.As(inner, &quotes) {
		return ""
	}
	reason := inner.Error()
	password, _ := u.User.Password()
	for _, secret := range append([]string{password, u.User.String(), u.RawQuery, u.String()}, u.Query()["password"]...) {
		if secret != "" && strings.Contains(reason, secret) {
			return ""
		}
	}
	return ": " + reason
}

// nameOf is the ledger's address as it is shown: without a password.
func nameOf(config *pgxpool.Config) string {
	c := config.ConnConfig
	u := url.URL{Scheme: "postgres", Host: net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), Path: "/" + c.Database}
	if strings.HasPrefix(c.Host, "/") {
		u.Host = ""
	}
	if c.User != "" {
		u.User = url.User(c.User)
	}
	return u.String()
}

// setSession sets what every session needs: commits that wait for the disk (of those that
// wait for standbys, too, where the server says so), and an end to transactions whose
// client is gone or frozen. Plans are made for each query anew: one that was made for an
// empty table would read all of a large one.
func setSession(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SELECT
		set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
		set_config('idle_in_transaction_session_timeout', '5s', false), set_config('lock_timeout', '10s', false),
		set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),
		set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '10s', false),
		set_config('jit', 'off', false), set_config('plan_cache_mode', 'force_custom_plan', false), set_config('default_transaction_isolation', 'read committed', false)`)
	return err
}

// prepare checks the server, and brings the schema up to date, or refuses it if nothing
// may be changed.
func (l *Ledger) prepare(ctx context.Context, readOnly bool) error {
	var server int
	if err := l.pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::integer").Scan(&server); err != nil {
		return err
	}
	if server < oldest {
		return advised("upgrade the server", "its PostgreSQL is version %d, older than %d", server/10000, oldest/10000)
	}
	version, err := schemaOf(ctx, l.pool)
	switch {
	case err != nil || version >= schemaVersion:
	case readOnly && version == 0:
		return ledger.ErrNotFound
	case readOnly:
		return advised("the next run brings it up to date", "its schema is version %d, older than this billdrop's %d", version, schemaVersion)
	default:
		version, err = l.migrate(ctx)
	}
	switch {
	case err != nil:
		return err
	case version > schemaVersion:
		return newerError(version)
	}
	return checkWhole(ctx, l.pool)
}

// checkSession refuses a pooler that gives a client another session of the server for each
// transaction, because what setSession sets would hold for some of them only. It gives no verdict
// where it cannot have the two connections that it takes within sessionCheck.
func (l *Ledger) checkSession(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sessionCheck)
	defer cancel()
	shared, err := l.sharesSessions(ctx)
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && strings.Contains(pg.Message, "transaction blocks not allowed") {
		return advised(adviceOnPooler, "it is behind a pooler that takes no transactions")
	}
	if shared {
		return advised(adviceOnPooler, "it is behind a pooler whose clients share sessions of the server")
	}
	return nil
}

// sharesSessions reports whether a transaction gets a session of the server that another client
// has. It begins one beside a session that said who it is: a pooler that shares them gives it that
// very session, which is free between two transactions.
func (l *Ledger) sharesSessions(ctx context.Context) (bool, error) {
	// Nothing is prepared, because statements of several clients collide in one session.
	const name, unprepared = "SELECT coalesce(current_setting('billdrop.session', true), '')", pgx.QueryExecModeExec
	mine, err := l.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer mine.Release()
	beside, err := pgx.ConnectConfig(ctx, l.config.Copy())
	if err != nil {
		return false, err
	}
	defer hangUp(&beside)
	me := rand.Text()
	if _, err := mine.Exec(ctx, "SELECT set_config('billdrop.session', $1, false)", unprepared, me); err != nil {
		return false, err
	}
	if _, err := beside.Exec(ctx, "BEGIN"); err != nil {
		return false, err
	}
	var its, still string
	if err := beside.QueryRow(ctx, name, unprepared).Scan(&its); err != nil {
		return false, err
	}
	err = mine.QueryRow(ctx, name, unprepared).Scan(&still)
	return err == nil && (its == me || still != me), err
}

// migrate brings the schema up to date, one process at a time, and returns its version.
func (l *Ledger) migrate(ctx context.Context) (int, error) {
	if err := l.checkSession(ctx); err != nil {
		return 0, err
	}
	c, err := l.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Release()
	if _, err := c.Exec(ctx, "SELECT set_config('lock_timeout', '0', false), pg_advisory_lock($1)", int64(migrateLock)); err != nil {
		return 0, err
	}
	// The lock goes with the connection, which may have other settings now.
	defer c.Conn().Close(context.WithoutCancel(ctx))
	version, err := schemaOf(ctx, c)
	if err != nil || version >= schemaVersion {
		return version, err
	}
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return 0, err
	}
	db := stdlib.OpenDBFromPool(l.pool)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, steps, goose.WithDisableGlobalRegistry(true), goose.WithTableName(versions))
	if err != nil {
		return 0, fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return 0, fmt.Errorf("bring its schema up to date: %w", err)
	}
	return schemaVersion, nil
}

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// schemaOf returns the number of the last migration that was applied to the database, 0
// for a new one.
func schemaOf(ctx context.Context, q querier) (version int, err error) {
	var made, others bool
	err = q.QueryRow(ctx, "SELECT to_regclass('"+versions+"') IS NOT NULL, to_regclass('bills') IS NOT NULL OR to_regclass('files') IS NOT NULL").Scan(&made, &others)
	switch {
	case err != nil:
		return 0, err
	case !made && others:
		return 0, advised("name another database, or give the ledger a schema of its own: ALTER ROLE … SET search_path = …", "it has tables of another program with the ledger's names")
	case !made:
		return 0, nil
	}
	err = q.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+versions+" WHERE is_applied").Scan(&version)
	return version, err
}

func newerError(version int) error {
	return advised("use that one", "its schema is version %d, written by a newer billdrop (this one knows %d)", version, schemaVersion)
}

// advised is an error and what to do about it.
func advised(hint, format string, args ...any) error {
	return &ledger.Error{Err: fmt.Errorf("%w: %w", ledger.ErrUnusable, fmt.Errorf(format, args...)), Hint: hint}
}

// Server is what a database says of itself.
type Server struct {
	Version   string        // "15.18"
	Encrypted bool          // the connection is, by TLS
	Local     bool          // the connection leads to this machine
	Durable   bool          // it syncs commits, whole pages included, to the disk
	Ahead     time.Duration // of its clock to this machine's, within half of the time that an answer takes
	Schema    int           // number of the ledger's latest migration; 0 = there is no ledger
	Newest    int           // that this program knows
	// MayMake: the user may make tables in the schema that new ones go into. MayWrite:
	// the user may read and write the tables of the ledger; true if there are none.
	MayMake, MayWrite bool
}

// AskServer asks the database at url. It changes nothing, and needs no ledger there. Its errors are
// those of Open, except that any version will do.
func AskServer(ctx context.Context, url string, o Options) (s Server, err error) {
	l, err := connect(ctx, url, o)
	if err != nil {
		return s, err
	}
	defer l.pool.Close()
	if err := l.checkSession(ctx); err != nil {
		return s, l.openError(ctx, err)
	}
	err = l.patiently(ctx, func(ctx context.Context) error {
		s, err = l.askServer(ctx)
		return err
	})
	if err != nil {
		return s, l.openError(ctx, err)
	}
	return s, nil
}

func (l *Ledger) askServer(ctx context.Context) (s Server, err error) {
	if s.Schema, err = schemaOf(ctx, l.pool); err != nil {
		return s, err
	}
	s.Newest = schemaVersion
	var now time.Time
	began := time.Now()
	if err := l.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return s, err
	}
	s.Ahead = now.Sub(began.Add(time.Since(began) / 2))
	err = l.pool.QueryRow(ctx, `SELECT current_setting('server_version'),
		coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
		inet_server_addr() IS NULL OR inet_client_addr() = inet_server_addr(),
		current_setting('fsync')::boolean AND current_setting('full_page_writes')::boolean,
		current_schema() IS NOT NULL AND has_schema_privilege(current_schema(), 'CREATE'),
		NOT EXISTS (SELECT FROM unnest(ARRAY['files', 'bills', 'outcomes', 'attempts', 'parties', 'workers', 'leases', 'parts']) AS t
			WHERE to_regclass(t) IS NOT NULL AND NOT (has_table_privilege(t, 'SELECT') AND has_table_privilege(t, 'INSERT')
				AND has_table_privilege(t, 'UPDATE') AND has_table_privilege(t, 'DELETE')))`).
		Scan(&s.Version, &s.Encrypted, &s.Local, &s.Durable, &s.MayMake, &s.MayWrite)
	return s, err
}
