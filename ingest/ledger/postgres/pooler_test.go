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
			direct := server.Database(t)
			u, err := url.Parse(direct)
			if err != nil {
				t.Fatal(err)
			}
			u.Host = servertest.NewPgBouncer(t, server.Address, server.User, server.Password, mode).Address
			through, patience := u.String(), postgres.Options{Patience: 10 * time.Second}
			_, askErr := postgres.AskServer(t.Context(), through, patience)
			emptyErr := serveBehind(t, through)
			if l, err := postgres.Open(t.Context(), direct, patience); err != nil {
				t.Fatal(err)
			} else if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{"AskServer": askErr, "of an empty database": emptyErr, "of a ledger": serveBehind(t, through)} {
				if want == "" {
					if err != nil {
						t.Errorf("%s: %v", what, err)
					}
				} else if text := printed(err); !strings.Contains(text, want) && what != "of a ledger" || !strings.Contains(text, "session mode") {
					t.Errorf("%s: %s\nwant %q, and advice", what, text, want)
				}
			}
		})
	}
}

// serveBehind opens a ledger, and joins its workers.
func serveBehind(t *testing.T, through string) error {
	t.Helper()
	l, err := postgres.Open(t.Context(), through, postgres.Options{Patience: 10 * time.Second})
	if err != nil {
		return err
	}
	defer l.Close()
	return l.Join(t.Context(), ledger.Member{Name: "w", Role: "run", LostAfter: time.Minute})
}
