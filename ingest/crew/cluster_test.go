//go:build unix

package crew

import (
	"context"
	"encoding/csv"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest"
	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres"
	"billdrop/ingest/ledger/postgres/pgtest"
	"billdrop/ingest/transfer"
)

var (
	clusterRows    = flag.Int("cluster.rows", 4000, "rows of the file that TestCluster has sent")
	clusterWorkers = flag.Int("cluster.workers", 3, "workers of TestCluster")
	clusterDelay   = flag.Duration("cluster.latency", 20*time.Millisecond, "of the API in TestCluster")
	clusterSenders = flag.Int("cluster.senders", 32, "of each worker in TestCluster")
)

// cluster is workers with real parts: PostgreSQL, River, an SFTP server and the API over HTTP.
type cluster struct {
	t      *testing.T
	pg     *pgtest.Server
	url    string
	root   string // the SFTP server's directory
	login  inbox.Config
	api    *emulator.API
	server *httptest.Server
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, pg: pgtest.Start(t), root: t.TempDir(), api: emulator.New(emulator.Config{Latency: *clusterDelay})}
	c.url = c.pg.Database(t)
	for _, dir := range []string{"inbox", "processing", "archive", "rejected", "results"} {
		if err := os.Mkdir(filepath.Join(c.root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sftp, err := sftpserver.Start(t.Context(), sftpserver.Config{Dir: c.root, Addr: "127.0.0.1:0", User: "acme", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sftp.Close() })
	home := t.TempDir()
	for name, content := range map[string]string{"password": "secret", "known_hosts": sftp.KnownHostsLine()} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.login = inbox.Config{Address: sftp.Addr(), User: "acme", PasswordFile: filepath.Join(home, "password"), KnownHostsFile: filepath.Join(home, "known_hosts")}
	c.server = httptest.NewServer(c.api)
	t.Cleanup(c.server.Close)
	return c
}

// start runs a worker until the test ends.
func (c *cluster) start(name string) {
	t := c.t
	t.Helper()
	led, err := postgres.Open(t.Context(), c.url, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	api, err := client.New(client.Config{BaseURL: c.server.URL, Key: "sk_test_rig", Timeout: 10 * time.Second, MaxConns: *clusterSenders})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil)).With("worker", name)
	lane := delivery.NewLane(ledger.Scope{Merchant: "acme", Mode: "test"}, api, delivery.Policy{
		Concurrency: *clusterSenders, MaxAttempts: 6, BackoffMin: 50 * time.Millisecond, BackoffMax: time.Second, LookupSettle: time.Second, GiveUpAfter: time.Minute,
	})
	w, err := ingest.New(ingest.Options{
		Ledger: led, Spool: t.TempDir(), Log: log, Version: "test",
		Feeds: []*ingest.Feed{{
			Name: "bills", Lane: lane, BaseURL: c.server.URL,
			Connect: func(ctx context.Context) (transfer.Remote, error) { return inbox.Dial(ctx, c.login) },
			Dirs:    transfer.Dirs{Inbox: "/inbox", Processing: "/processing", Archive: "/archive", Rejected: "/rejected", Results: "/results"},
			Watch:   inbox.Watch{Pattern: "*.csv", Marker: ".done"},
			Format:  billfile.Format{Amounts: billfile.Minor, Currency: "ZAR"},
			Hold:    ingest.Hold{MaxInvalidPercent: 100},
		}},
		Member: ingest.Member{Name: name, LostAfter: 5 * time.Second, Dispatcher: New(led.Pool(), log)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.Run(ctx, time.Second)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		if err := led.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
}

// drop delivers a file with its marker.
func (c *cluster) drop(name string, rows, parties int) {
	c.t.Helper()
	var b strings.Builder
	b.WriteString("bill_reference,amount_due,account_reference,customer_reference,customer_name\n")
	for i := range rows {
		p := i * parties / rows // as billers sort them
		fmt.Fprintf(&b, "INV-%06d,%d,ACC-%d,CUS-%d,Name %d\n", i, 100+i, p, p, p)
	}
	for _, f := range []struct{ name, content string }{{name, b.String()}, {name + ".done", ""}} {
		if err := os.WriteFile(filepath.Join(c.root, "inbox", f.name), []byte(f.content), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
}

// statuses waits for the summary of a file and counts the rows of its results by status.
func (c *cluster) statuses(within time.Duration) map[string]int {
	c.t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		if done, _ := filepath.Glob(filepath.Join(c.root, "results", "*.summary.json")); len(done) > 0 {
			break
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("no summary within %s", within)
		}
	}
	results, err := filepath.Glob(filepath.Join(c.root, "results", "*.results.csv"))
	if err != nil || len(results) != 1 {
		c.t.Fatalf("results: %v %v", results, err)
	}
	f, err := os.Open(results[0])
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	counts := make(map[string]int)
	r := csv.NewReader(f)
	for line := 0; ; line++ {
		rec, err := r.Read()
		if err == io.EOF {
			return counts
		}
		if err != nil {
			c.t.Fatal(err)
		}
		if line > 0 {
			counts[rec[2]]++
		}
	}
}

// A file is sent by several workers on one PostgreSQL: one POST a row, no look-up, each party once.
func TestCluster(t *testing.T) {
	c := newCluster(t)
	for i := range *clusterWorkers {
		c.start(fmt.Sprint("w", i))
	}
	rows := *clusterRows
	parties := rows / 3
	c.drop("a.csv", rows, parties)
	var began time.Time
	for began.IsZero() {
		if c.api.State().Posts > 0 {
			began = time.Now()
		}
		time.Sleep(5 * time.Millisecond)
	}
	sent := make(chan time.Time, 1)
	go func() {
		for c.api.State().Posts < int64(rows) {
			time.Sleep(50 * time.Millisecond)
		}
		sent <- time.Now()
	}()
	counts := c.statuses(2 * time.Minute)
	t.Logf("%d rows in %s, reported after %s", rows, (<-sent).Sub(began), time.Since(began))
	state := c.api.State()
	if counts["created"] != rows || len(state.Bills) != rows || state.Posts != int64(rows) || state.Gets != 0 {
		t.Errorf("rows: %v, %d bills, %d POSTs, %d GETs for %d rows", counts, len(state.Bills), state.Posts, state.Gets, rows)
	}
	if len(state.Customers) != parties || len(state.Accounts) != parties {
		t.Errorf("%d customers and %d accounts, want %d", len(state.Customers), len(state.Accounts), parties)
	}
}

// A database that is killed, stopped and frozen while a file is sent costs no bill and no row.
func TestClusterWithRestarts(t *testing.T) {
	c := newCluster(t)
	for i := range *clusterWorkers {
		c.start(fmt.Sprint("w", i))
	}
	const rows, parties = 3000, 500
	c.drop("a.csv", rows, parties)
	sent := func(n int64) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); c.api.State().Posts < n; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d sent, not %d within two minutes", c.api.State().Posts, n)
			}
		}
	}
	for i, trouble := range []func() error{c.pg.Kill, c.pg.Stop, c.pg.Freeze} {
		sent(int64((i + 1) * rows / 5))
		if err := trouble(); err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			if err := c.pg.Start(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		time.Sleep(3500 * time.Millisecond) // what was recorded may leave for three seconds
		before := c.api.State().Posts
		time.Sleep(2 * time.Second)
		if n := c.api.State().Posts - before; n > 0 {
			t.Errorf("%d requests while the database was frozen", n)
		}
		c.pg.Thaw()
	}
	counts := c.statuses(3 * time.Minute)
	state := c.api.State()
	if counts["created"] != rows || len(state.Bills) != rows || len(state.Customers) != parties || len(state.Accounts) != parties {
		t.Errorf("rows: %v, %d bills, %d customers, %d accounts", counts, len(state.Bills), len(state.Customers), len(state.Accounts))
	}
	t.Logf("%d POSTs and %d GETs for %d rows", state.Posts, state.Gets, rows)
}
