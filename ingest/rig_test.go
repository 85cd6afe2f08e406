package ingest

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/inbox/sftpserver/opensshtest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
)

// rig is the pipeline with real parts: an SFTP server over a directory, SQLite, and the API
// over HTTP.
type rig struct {
	root   string // the SFTP server's directory
	api    *emulator.API
	lane   *delivery.Lane
	client delivery.API // of api
	feed   *Feed
	base   string
	login  inbox.Config
}

var rigDirs = transfer.Dirs{Inbox: "/inbox", Processing: "/processing", Archive: "/archive", Rejected: "/rejected", Results: "/results"}

// onServers runs a test against the in-process SFTP server and against OpenSSH.
func onServers(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("in process", func(t *testing.T) { test(t, inProcess(t)) })
	t.Run("OpenSSH", func(t *testing.T) {
		root := t.TempDir()
		s := opensshtest.Start(t, root)
		test(t, newRig(t, s.Root, s.Root, inbox.Config{
			Address: s.Address, User: s.User, PrivateKeyFile: s.PrivateKeyFile, KnownHostsFile: s.KnownHostsFile,
		}))
	})
}

// inProcess is a rig with the in-process SFTP server.
func inProcess(t *testing.T) *rig {
	root := t.TempDir()
	s, err := sftpserver.Start(t.Context(), sftpserver.Config{Dir: root, Addr: "127.0.0.1:0", User: "acme", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	home := t.TempDir()
	write(t, filepath.Join(home, "password"), "secret")
	write(t, filepath.Join(home, "known_hosts"), s.KnownHostsLine())
	return newRig(t, root, "", inbox.Config{
		Address: s.Addr(), User: "acme", PasswordFile: filepath.Join(home, "password"), KnownHostsFile: filepath.Join(home, "known_hosts"),
	})
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newLane makes a lane of the rig's merchant account.
func newLane(api delivery.API) *delivery.Lane {
	policy := testPolicy()
	policy.Concurrency = 32
	return delivery.NewLane(ledger.Scope{Merchant: "acme", Mode: "test"}, api, policy)
}

// newRig makes the directories below root; prefix is how the SFTP server calls root ("" =
// /).
func newRig(t testing.TB, root, prefix string, login inbox.Config) *rig {
	r := &rig{root: root, api: emulator.New(emulator.Config{}), base: t.TempDir(), login: login}
	dirs := rigDirs
	for _, d := range []*string{&dirs.Inbox, &dirs.Processing, &dirs.Archive, &dirs.Rejected, &dirs.Results} {
		if err := os.Mkdir(filepath.Join(root, *d), 0o700); err != nil {
			t.Fatal(err)
		}
		*d = prefix + *d
	}
	server := httptest.NewServer(r.api)
	t.Cleanup(server.Close)
	api, err := client.New(client.Config{BaseURL: server.URL, Key: "sk_test_rig", Timeout: 10 * time.Second, MaxConns: 32})
	if err != nil {
		t.Fatal(err)
	}
	r.client = api
	r.lane = newLane(api)
	r.feed = &Feed{
		Name: "bills", Lane: r.lane, Dirs: dirs,
		Connect: func(ctx context.Context) (transfer.Remote, error) { return inbox.Dial(ctx, r.login) },
		Watch:   inbox.Watch{Pattern: "*.csv"},
		Format:  billfile.Format{Amounts: billfile.Minor, Currency: "ZAR"},
		Hold:    Hold{MaxInvalidPercent: 100},
	}
	return r
}

// poll is one run of the program that is to end well.
func (r *rig) poll(t *testing.T) []report.Summary {
	t.Helper()
	summaries, err := r.try(t)
	if err != nil {
		t.Fatal(err)
	}
	return summaries
}

// try is one run of the program: the ledger is opened and closed.
func (r *rig) try(t *testing.T) ([]report.Summary, error) {
	t.Helper()
	led, err := sqlite.Open(t.Context(), filepath.Join(r.base, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer led.Close()
	w, err := New(Options{
		Ledger: led, Spool: filepath.Join(r.base, "spool"), Feeds: []*Feed{r.feed}, Log: slog.New(slog.DiscardHandler), Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	return w.Poll(t.Context())
}

func (r *rig) drop(t *testing.T, name, content string) {
	write(t, filepath.Join(r.root, "inbox", name), content)
}

// statuses reads a published results file and counts its rows by status.
func (r *rig) statuses(t *testing.T, s report.Summary) map[string]int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.root, "results", report.NamesOf(s.Stem).Results))
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(strings.NewReader(string(b))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for _, rec := range records[1:] {
		counts[rec[2]]++
	}
	return counts
}

// manyBills is a file of rows over parties, each a new customer with one account.
func manyBills(first, rows, parties int) string {
	var b strings.Builder
	b.WriteString("bill_reference,amount_due,account_reference,customer_reference,customer_name\n")
	for i := range rows {
		p := i % parties
		fmt.Fprintf(&b, "INV-%06d,%d,ACC-%d,CUS-%d,Name %d\n", first+i, 100+i, p, p, p)
	}
	return b.String()
}

func mkdir(t testing.TB, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

// claimOnly leaves a file as a kill does right after the rename of its claim.
func (r *rig) claimOnly(t *testing.T, content string) {
	t.Helper()
	r.drop(t, "a.csv", content)
	from, to := filepath.Join(r.root, "inbox", "a.csv"), filepath.Join(r.root, "processing", "a.csv")
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	led, err := sqlite.Open(t.Context(), filepath.Join(r.base, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer led.Close()
	f := &ledger.File{
		ID: newID(time.Now()), Feed: "bills", Scope: r.lane.Scope(), Origin: ledger.FromInbox, Name: "a.csv", State: ledger.Claiming,
		Path: r.feed.Dirs.Processing + "/a.csv", Results: r.feed.Dirs.Results, Size: info.Size(), ModTime: info.ModTime(), Received: time.Now(),
	}
	if err := led.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// finished checks that the next run finishes what a failed one left: one bill a row, one
// report that says so.
func (r *rig) finished(t *testing.T, rows int) {
	t.Helper()
	summaries, err := r.try(t)
	if err != nil {
		t.Fatalf("the next run: %v", err)
	}
	if len(summaries) != 1 || summaries[0].Rows.By[ledger.Created] != rows {
		t.Errorf("the next run: %+v", summaries)
	} else if got := r.statuses(t, summaries[0]); got["created"] != rows {
		t.Errorf("report of the next run: %v", got)
	}
	if n := len(r.api.State().Bills); n != rows {
		t.Errorf("%d bills for %d rows", n, rows)
	}
	for _, dir := range []string{"inbox", "processing", "rejected"} {
		if left, _ := os.ReadDir(filepath.Join(r.root, dir)); len(left) > 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
	if got, _ := os.ReadDir(filepath.Join(r.root, "archive")); len(got) != 1 {
		t.Errorf("archive: %v", got)
	}
}

// worker is a worker of some feeds, with a ledger that lives as long as the test.
func (r *rig) worker(t *testing.T, log *bytes.Buffer, feeds ...*Feed) *Worker {
	t.Helper()
	led, err := sqlite.Open(t.Context(), filepath.Join(r.base, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { led.Close() })
	w, err := New(Options{Ledger: led, Spool: filepath.Join(r.base, "spool"), Feeds: feeds, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return w
}
