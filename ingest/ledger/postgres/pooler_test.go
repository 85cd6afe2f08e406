//go:build servers && unix

package postgres_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"billdrop/client/servertest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// TestServersPooler: behind PgBouncer a ledger works if each client has a session of its own;
// else it is refused, with what to do.
func TestServersPooler(t *testing.T) {
	server := pgtest.Start(t)
	for mode, want := range map[string]string{
		"session":     "",
		"transaction": "clients share sessions",
		"statement":   "takes no transactions",
	} {
		t.Run(mode, func(t *testing.T) {
			u, err := url.Parse(server.Database(t))
			if err != nil {
				t.Fatal(err)
			}
			u.Host = servertest.NewPgBouncer(t, server.Address, server.User, server.Password, mode).Address
			through := u.String()
			_, askErr := postgres.AskServer(t.Context(), through, postgres.Options{Patience: 10 * time.Second})
			l, err := postgres.Open(t.Context(), through, postgres.Options{Patience: 10 * time.Second})
			if want == "" {
				if err != nil || askErr != nil {
					t.Fatal(err, askErr)
				}
				defer l.Close()
				if _, err := l.Files(t.Context(), ledger.Query{}); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, err := range []error{askErr, err} {
				if text := printed(err); !strings.Contains(text, want) || !strings.Contains(text, "session mode") {
					t.Errorf("%s\nwant %q, and advice", text, want)
				}
			}
		})
	}
}
