//go:build servers && unix

package postgres_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
			through := pooled(t, server, server.Database(t), mode)
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

// pooled starts PgBouncer before a server, and returns the URL of a database through it.
func pooled(t *testing.T, server *pgtest.Server, database, mode string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Fatal("PgBouncer is missing: apt-get install pgbouncer")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	host, port, _ := net.SplitHostPort(address)
	_, behind, _ := net.SplitHostPort(server.Address)
	dir := t.TempDir()
	conf := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n* = host=127.0.0.1 port=%s user=%s password=%s\n"+
		"[pgbouncer]\nlisten_addr = %s\nlisten_port = %s\nunix_socket_dir =\nauth_type = any\npool_mode = %s\n", behind, server.User, server.Password, host, port, mode)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{conf}
	if os.Geteuid() == 0 { // as which it refuses to run
		args = []string{"-u", "nobody", conf}
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	for {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			break
		}
		select {
		case <-ended:
			t.Fatalf("PgBouncer ended: %s", log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = address
	return u.String()
}
