package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// printed is err as a person reads it: what is wrong, and what to do about it.
func printed(err error) string {
	var advised *ledger.Error
	if errors.As(err, &advised) {
		return fmt.Sprintf("error: %v\nhint: %s", err, advised.Advice())
	}
	return fmt.Sprintf("error: %v", err)
}

// TestOpenMakesTables: many that open an empty database at once make its tables once.
func TestOpenMakesTables(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			l, err := postgres.Open(t.Context(), url, postgres.Options{Patience: time.Minute})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := l.Files(t.Context(), ledger.Query{}); err != nil {
				t.Error(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestOpenRefused: what waiting does not mend is an error at once, which says what to do.
func TestOpenRefused(t *testing.T) {
	server := pgtest.Start(t)
	newer, foreign := server.Database(t), server.Database(t)
	l := open(t, newer)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	server.Query(t, "ledger_1", "INSERT INTO ledger_version (version_id, is_applied) VALUES (7, true)")
	server.Query(t, "ledger_2", "CREATE TABLE bills (id integer)")
	server.Query(t, "postgres", "CREATE ROLE visitor LOGIN PASSWORD 'visitor-pw'")
	server.Query(t, "postgres", "CREATE DATABASE closed")
	server.Query(t, "closed", "REVOKE ALL ON SCHEMA public FROM PUBLIC")
	with := func(change func(u *url.URL)) string {
		u, err := url.Parse(server.URL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		return u.String()
	}
	for name, c := range map[string]struct {
		url  string
		want []string
	}{
		"wrong password":   {with(func(u *url.URL) { u.User = url.UserPassword("billdrop", "wrong-pw") }), []string{"password authentication failed", "hint: see ledger_password_file"}},
		"no such user":     {with(func(u *url.URL) { u.User = url.UserPassword("nobody", "wrong-pw") }), []string{"password authentication failed"}},
		"no such database": {with(func(u *url.URL) { u.Path = "/nothing" }), []string{`database "nothing" does not exist`, "hint: make it: createdb"}},
		"no right":         {with(func(u *url.URL) { u.User, u.Path = url.UserPassword("visitor", "visitor-pw"), "/closed" }), []string{"hint: make the"}},
		"no TLS":           {with(func(u *url.URL) { u.RawQuery = "sslmode=require" }), []string{"refused TLS", "hint: switch TLS on"}},
		"newer":            {newer, []string{"schema is version 7, written by a newer billdrop", "hint: use that one"}},
		"of another":       {foreign, []string{"tables of another program", "hint: name another database"}},
	} {
		began := time.Now()
		_, err := postgres.Open(t.Context(), c.url, postgres.Options{Warn: func(reason string) { t.Errorf("%s: waits because %s", name, reason) }})
		if !errors.Is(err, ledger.ErrUnusable) || time.Since(began) > 20*time.Second {
			t.Errorf("%s: %v after %v, want ErrUnusable at once", name, err, time.Since(began))
		}
		text := printed(err)
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %s\nwant %q", name, text, want)
			}
		}
		for _, secret := range []string{"wrong-pw", "visitor-pw", server.Password} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: a password is in %s", name, text)
			}
		}
	}
}

// TestOpenUnusual: a ledger works in databases that are set up in other ways than usual, and for a
// reader who has one connection.
func TestOpenUnusual(t *testing.T) {
	server := pgtest.Start(t)
	server.Query(t, "postgres", "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	server.Query(t, "postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	server.Query(t, "postgres", "CREATE DATABASE backslash")
	server.Query(t, "postgres", "ALTER DATABASE backslash SET standard_conforming_strings = off")
	for _, name := range []string{"ascii", "latin", "backslash"} {
		if _, err := postgres.AskServer(t.Context(), server.URL(name), postgres.Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		l := open(t, server.URL(name))
		if err := l.Join(t.Context(), ledger.Member{Name: "w", Role: "run", LostAfter: time.Minute}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	server.Query(t, "postgres", "CREATE ROLE reader LOGIN PASSWORD 'reader-pw' CONNECTION LIMIT 1 IN ROLE billdrop")
	u, err := url.Parse(server.URL("ascii"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("reader", "reader-pw")
	l, err := postgres.Open(t.Context(), u.String(), postgres.Options{ReadOnly: true, Patience: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Files(t.Context(), ledger.Query{}); err != nil {
		t.Error(err)
	}
}

// TestInWords: the end of a call's time is told as what may have caused it, and a failure to
// connect as it is.
func TestInWords(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{context.DeadlineExceeded, "no connection left"},
		{fmt.Errorf("timeout: %w", context.DeadlineExceeded), "no connection left"},
		{errors.New("connection reset by peer"), "connection reset by peer"},
	} {
		if text := postgres.InWords(c.err).Error(); !strings.Contains(text, c.want) || strings.Contains(text, "deadline") {
			t.Errorf("%v is told as %q, want %q", c.err, text, c.want)
		}
	}
}

// TestPasswordUnshown: no error quotes a password, however the URL is spoilt.
func TestPasswordUnshown(t *testing.T) {
	const secret = "s3cr3t"
	for _, u := range []string{
		"postgres://billdrop:" + secret + "%zz@db/billdrop",
		"postgres://billdrop:" + secret + "#x@db/billdrop",
		"postgres://billdrop:" + secret + "/x@db/billdrop",
		"postgres://billdrop:" + secret + "?x@db/billdrop",
		"postgres://billdrop:" + secret + " x@db/billdrop",
		"postgres://billdrop:" + secret + "[x@db/billdrop",
		"postgres://billdrop:" + secret + "@db:port/billdrop",
		"postgres://billdrop:" + secret + "@db:99999/billdrop",
		"postgres://billdrop:" + secret + "@db/billdrop?sslmode=wrong",
		"postgres://billdrop:" + secret + "@db/billdrop?sslrootcert=/no/such/file",
		"postgres://billdrop:" + secret + "@db/billdrop?connect_timeout=" + secret,
		"postgres://billdrop@db/billdrop?password=" + secret + "&sslmode=wrong",
		"postgres://billdrop@db/billdrop?password=" + secret + "%zz",
		"postgres://billdrop@db/billdrop?pool_max_conns=x&password=" + secret,
		"postgresql://billdrop:" + secret + "@db/billdrop?pool_max_conns=0",
		"postgres:billdrop:" + secret + "@db",
		"host=db user=billdrop password=" + secret,
		secret,
	} {
		_, err := postgres.Open(t.Context(), u, postgres.Options{Patience: time.Millisecond})
		if err == nil {
			t.Errorf("%s was opened", u)
			continue
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(fmt.Sprintf("%v %+v", e, e), secret) {
				t.Errorf("the password is in %v", e)
			}
		}
		if strings.Contains(printed(err), secret) {
			t.Errorf("the password is in %s", printed(err))
		}
	}
}

// TestPassword: it comes from the options, the URL, PGPASSWORD or the passfile.
func TestPassword(t *testing.T) {
	server := pgtest.Start(t)
	full := server.Database(t)
	u, err := url.Parse(full)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(u.User.Username())
	bare := u.String()
	try := func(name, url, password string, want bool) {
		t.Helper()
		l, err := postgres.Open(t.Context(), url, postgres.Options{Password: password, Patience: time.Second})
		if err == nil {
			err = l.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("PGPASSFILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("PGPASSWORD", "")
	try("no password", bare, "", false)
	try("option", bare, server.Password, true)
	try("option before the URL", strings.Replace(full, server.Password, "other", 1), server.Password, true)
	try("URL", full, "", true)
	passfile := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(passfile, fmt.Appendf(nil, "127.0.0.1:*:*:%s:%s\n", server.User, server.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSFILE", passfile)
	try("passfile", bare, "", true)
	t.Setenv("PGPASSFILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("PGPASSWORD", server.Password)
	try("PGPASSWORD", bare, "", true)
}

// TestServerGone: a server that is not there yet is waited for; the operator is told once why.
func TestServerGone(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	var warnings atomic.Int32
	warned := make(chan string, 1)
	warn := func(reason string) {
		if warnings.Add(1) == 1 {
			warned <- reason
		}
	}
	_, err := postgres.Open(t.Context(), url, postgres.Options{Patience: 300 * time.Millisecond, Warn: warn})
	if !errors.Is(err, ledger.ErrUnreachable) || errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("Open without a server: %v, want ErrUnreachable alone", err)
	}
	if text := printed(err); !strings.Contains(text, "connection refused") || !strings.Contains(text, "hint: ") || strings.Contains(text, server.Password) {
		t.Errorf("Open without a server: %s", text)
	}
	if reason := <-warned; !strings.Contains(reason, "connection refused") || strings.Contains(reason, server.Password) {
		t.Errorf("warned: %s", reason)
	}

	warnings.Store(0)
	opened := make(chan error, 1)
	go func() {
		l, err := postgres.Open(t.Context(), url, postgres.Options{Warn: warn})
		if err == nil {
			err = l.Close()
		}
		opened <- err
	}()
	<-warned
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("Open once the server is back: %v", err)
	}
	if n := warnings.Load(); n != 1 {
		t.Errorf("warned %d times, want once", n)
	}
}
