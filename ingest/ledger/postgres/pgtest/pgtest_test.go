//go:build unix

package pgtest_test

import (
	"os/exec"
	"testing"
	"time"

	"billdrop/ingest/ledger/postgres/pgtest"
)

// TestServer: what is committed survives a stop, a kill and a freeze, and a frozen server does not
// answer.
func TestServer(t *testing.T) {
	s := pgtest.Start(t)
	url := s.Database(t)
	s.Query(t, "ledger_1", "CREATE TABLE seen (what text)")
	for what, change := range map[string]func() error{"restart": s.Restart, "kill": func() error {
		if err := s.Kill(); err != nil {
			return err
		}
		return s.Start()
	}} {
		s.Query(t, "ledger_1", "INSERT INTO seen VALUES ('"+what+"')")
		if err := change(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if got := s.Query(t, "ledger_1", "SELECT what FROM seen ORDER BY what"); got != "kill\nrestart" {
		t.Errorf("after a kill and a restart: %q", got)
	}
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("psql", "-c", "SELECT 1", url)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		t.Errorf("a frozen server answered: %v", err)
	case <-time.After(200 * time.Millisecond): // longer than an answer takes
		s.Thaw()
		if err := <-ended; err != nil {
			t.Errorf("after the thaw: %v", err)
		}
	}
}
