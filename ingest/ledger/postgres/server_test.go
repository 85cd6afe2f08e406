//go:build unix

package postgres

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// TestServer: what a database says of itself, before there is a ledger and after, and to a
// user who may not write.
func TestServer(t *testing.T) {
	pg := pgtest.Start(t)
	database := pg.Database(t)
	options := Options{Patience: time.Minute}
	s, err := AskServer(t.Context(), database, options)
	if err != nil {
		t.Fatal(err)
	}
	if s.Schema != 0 || s.Newest < 1 || !s.MayMake || !s.MayWrite || s.Durable || s.Encrypted || !s.Local || s.Version == "" || s.Ahead.Abs() > time.Second {
		t.Errorf("a new database: %+v", s)
	}
	if _, err := Open(t.Context(), database, Options{Patience: time.Minute, ReadOnly: true}); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("read a ledger that is not there: %v", err)
	}
	l, err := Open(t.Context(), database, options)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if l, err = Open(t.Context(), database, Options{Patience: time.Minute, ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Files(t.Context(), ledger.Query{}); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	pg.Query(t, name, "CREATE ROLE auditor LOGIN PASSWORD 'x'; REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA public TO auditor")
	u.User = url.UserPassword("auditor", "x")
	if s, err = AskServer(t.Context(), u.String(), options); err != nil {
		t.Fatal(err)
	}
	if s.Schema != s.Newest || s.MayMake || s.MayWrite {
		t.Errorf("to one who may only read: %+v", s)
	}
	if _, err := AskServer(t.Context(), strings.Replace(database, name, name+"_none", 1), options); !errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("no such database: %v", err)
	}
}
