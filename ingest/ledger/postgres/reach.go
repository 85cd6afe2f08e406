package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"billdrop/ingest/ledger"
)

const (
	// firstTimeout is how long the first try of a call may take; each further one may take twice as
	// long, up to lastTimeout. A server that answers nothing is noticed by it.
	firstTimeout = 15 * time.Second
	lastTimeout  = 10 * time.Minute
	// firstBackoff and lastBackoff bound the pause before the next try.
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

// outage counts the callers that wait for a server out of reach, so that the operator is told once,
// and once more if the server is back and refuses to be connected to.
type outage struct {
	warn    func(reason string)
	waiting atomic.Int32
	refused atomic.Bool
}

// failed tells the operator of err. first is whether the caller did not wait before.
func (o *outage) failed(err error, first bool) {
	tell := first && o.waiting.Add(1) == 1
	tell = isRefusal(err) && o.refused.CompareAndSwap(false, true) || tell
	if tell && o.warn != nil {
		o.warn(inWords(err).Error())
	}
}

func (o *outage) end() {
	if o.waiting.Add(-1) == 0 {
		o.refused.Store(false)
	}
}

// attempts is one call that is tried until it succeeds, or fails for another reason than the server
// being out of reach.
type attempts struct {
	l       *Ledger
	n       int
	backoff time.Duration
	since   time.Time // when the first one failed; zero before
}

// timeout is how long the next try may take.
func (a *attempts) timeout() time.Duration {
	return min(firstTimeout<<min(a.n, 8), lastTimeout)
}

// failed notes that a try failed for a reason that may pass, and returns how long to wait
// before the next one.
func (a *attempts) failed(err error) time.Duration {
	first := a.since.IsZero()
	if first {
		a.since = time.Now()
	}
	a.l.outage.failed(err, first)
	a.n++
	a.backoff = min(max(2*a.backoff, firstBackoff), lastBackoff)
	return a.backoff/2 + rand.N(a.backoff/2)
}

// hopeless reports whether the server has been out of reach for longer than callers wait.
func (a *attempts) hopeless() bool {
	return !a.since.IsZero() && a.l.patience > 0 && time.Since(a.since) >= a.l.patience
}

// over ends the call.
func (a *attempts) over() {
	if !a.since.IsZero() {
		a.l.outage.end()
	}
}

// patiently calls do until it succeeds, fails for a reason that does not pass, ctx ends, or the
// server was out of reach for the patience of l.
func (l *Ledger) patiently(ctx context.Context, do func(context.Context) error) error {
	a := attempts{l: l}
	defer a.over()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		try, cancel := context.WithTimeout(ctx, a.timeout())
		err := do(try)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !l.passing(err):
			return err
		case isConflict(err):
			continue // the other one goes first
		}
		pause := time.NewTimer(a.failed(err))
		if a.hopeless() {
			pause.Stop()
			return l.unreachable(err)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-l.closing:
			pause.Stop()
			return fmt.Errorf("%w: %w", ledger.ErrUnusable, errClosed)
		}
	}
}

// unreachable says that the server was out of reach for too long, and why.
func (l *Ledger) unreachable(err error) error {
	return &ledger.Error{
		Err:  fmt.Errorf("%w for %v: %w", ledger.ErrUnreachable, l.patience, inWords(err)),
		Hint: "see that PostgreSQL runs and can be reached from here; the work goes on where it stopped",
	}
}

// errSilent: a try took longer than it may.
var errSilent = errors.New("the server does not answer")

// inWords says what is known of a server that took a connection, or was not asked for one, and did
// not answer in time.
func inWords(err error) error {
	var connect *pgconn.ConnectError
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &connect) || errors.Is(err, errSilent) {
		return err
	}
	return fmt.Errorf("%w: it is stuck, or it or a pooler in front of it has no connection left (a worker takes about 10)", errSilent)
}

// passing reports whether an error may pass by itself. A login that is refused may, if the
// ledger was open before: a password is being changed, another server has taken over, or a
// pooler has none.
func (l *Ledger) passing(err error) bool { return passing(err) || l.writer != nil && isRefusal(err) }

// isRefusal reports whether the server, or a pooler in front of it, refuses to be connected to, and
// not because it is starting, stopping or out of room.
func isRefusal(err error) bool {
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	if !errors.As(err, &connect) || !errors.As(err, &pg) {
		return false
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "08", "53", "57", "58":
		return false
	}
	return true
}

// passing reports whether an error may pass by itself: the server is out of reach, is starting or
// stopping, is out of room, has become a standby, or has broken a transaction off for the sake of
// another one.
func passing(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "57P01", "57P02", "57P03", "57P05", "57014", "40001", "40P01", "55P03", "25006", "25P03":
			return true
		}
		switch pg.Code[:min(2, len(pg.Code))] {
		case "08", "53", "58":
			return true
		case "55": // the database takes no connections now
			return isRefusal(err)
		}
		return false
	}
	if isCertificate(err) {
		return false
	}
	var network net.Error
	var number syscall.Errno
	switch {
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.As(err, &network), errors.As(err, &number), pgconn.SafeToRetry(err), pgconn.Timeout(err):
		return true
	}
	return strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "closed pool")
}

func isCertificate(err error) bool {
	var (
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	return errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

// unusable marks a failure of the engine, with what to do about those that a person can mend.
func unusable(err error) error {
	if errors.Is(err, ledger.ErrUnusable) || errors.Is(err, ledger.ErrUnreachable) || errors.Is(err, ledger.ErrFenced) {
		return err
	}
	marked := fmt.Errorf("%w: %w", ledger.ErrUnusable, err)
	if hint := hintFor(err); hint != "" {
		return &ledger.Error{Err: marked, Hint: hint}
	}
	return marked
}

const adviceOnPooler = "name the server itself in the URL, or a pooler in session mode (PgBouncer: pool_mode = session)"

func hintFor(err error) string {
	if isCertificate(err) {
		return "name the authority that signed the server's certificate by sslrootcert=FILE in the URL, and the host that it was made for"
	}
	if strings.Contains(err.Error(), "server refused TLS") {
		return "switch TLS on at the server, or say sslmode=disable in the URL if the network is safe"
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return ""
	}
	switch pg.Code {
	case "26000", "42P05": // a statement that another session prepared
		return adviceOnPooler
	case "28P01":
		return "see ledger_password_file, PGPASSWORD or the passfile"
	case "28000":
		return "see pg_hba.conf at the server, and the user and sslmode in the URL"
	case "3D000":
		return "make it: createdb -O USER DATABASE"
	case "42501":
		return "make the user the owner of the database: ALTER DATABASE … OWNER TO …"
	case "3F000":
		return "make the schema, or set search_path: ALTER ROLE … SET search_path = …"
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "42":
		return "its tables were changed by another program; restore them from a backup"
	case "XX":
		if isRefusal(err) {
			return "see the user and the database in the URL, and the log of the server or of the pooler in front of it"
		}
		return "the database is damaged; restore it from a backup"
	}
	return ""
}

// readError is the end of the caller's context, a server out of reach, or else a failure of
// the engine.
func readError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	return fmt.Errorf("%s: %w", what, unusable(err))
}
