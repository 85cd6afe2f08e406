package ingest

import (
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

// rig is the pipeline with real parts: an SFTP server over a directory, SQLite, and the API over HTTP.
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
	t.Run("in process", func(t *testing.T) {
		root := t.TempDir()
		s, err := sftpserver.Start(t.Context(), sftpserver.Config{Dir: root, Addr: "127.0.0.1:0", User: "acme", Password: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		home := t.TempDir()
		write(t, filepath.Join(home, "password"), "secret")
		write(t, filepath.Join(home, "known_hosts"), s.KnownHostsLine())
		test(t, newRig(t, root, "", inbox.Config{
			Address: s.Addr(), User: "acme", PasswordFile: filepath.Join(home, "password"), KnownHostsFile: filepath.Join(home, "known_hosts"),
		}))
	})
	t.Run("OpenSSH", func(t *testing.T) {
		root := t.TempDir()
		s := opensshtest.Start(t, root)
		test(t, newRig(t, s.Root, s.Root, inbox.Config{
			Address: s.Address, User: s.User, PrivateKeyFile: s.PrivateKeyFile, KnownHostsFile: s.KnownHostsFile,
		}))
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

// newRig makes the directories below root; prefix is how the SFTP server calls root ("" = /).
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

// A clean run is one POST a bill and not one GET, and each party is created once, also over several files at once. The same
// content again costs no request.
func TestCleanRun(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		r.drop(t, "one.csv", manyBills(0, 400, 300))
		r.drop(t, "two.csv", manyBills(400, 400, 300))
		r.drop(t, "three.csv", manyBills(800, 200, 200))
		customers, accounts := 0, 0
		for _, s := range r.poll(t) {
			if s.Outcome != ledger.Completed {
				t.Errorf("%s: %s %s", s.File, s.Outcome, s.Detail)
			}
			customers += s.Parties.Customers
			accounts += s.Parties.Accounts
		}
		state := r.api.State()
		if state.Posts != 1000 || state.Gets != 0 || len(state.Bills) != 1000 {
			t.Errorf("%d POSTs, %d GETs, %d bills; want 1000, 0, 1000", state.Posts, state.Gets, len(state.Bills))
		}
		if len(state.Customers) != 300 || len(state.Accounts) != 300 || customers != 300 || accounts != 300 {
			t.Errorf("%d customers, %d accounts, reported %d and %d; want 300 of each", len(state.Customers), len(state.Accounts), customers, accounts)
		}

		r.drop(t, "one.csv", manyBills(0, 400, 300))
		again := r.poll(t)
		if len(again) != 1 || r.statuses(t, again[0])["existing"] != 400 {
			t.Errorf("the same again: %+v", again)
		}
		if state := r.api.State(); state.Posts != 1000 || state.Gets != 0 {
			t.Errorf("the same again: %d POSTs and %d GETs more", state.Posts-1000, state.Gets)
		}
		if !strings.HasSuffix(again[0].Stem, "-2") {
			t.Errorf("stem of the second delivery: %s", again[0].Stem)
		}
	})
}

func TestEditedAmountIsConflict(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		r.drop(t, "a.csv", manyBills(0, 10, 3))
		r.poll(t)
		r.drop(t, "a.csv", strings.Replace(manyBills(0, 10, 3), "INV-000004,104,", "INV-000004,999,", 1))
		s := r.poll(t)
		if got := r.statuses(t, s[0]); got["existing"] != 9 || got["conflict"] != 1 {
			t.Errorf("statuses: %v", got)
		}
		b, err := os.ReadFile(filepath.Join(r.root, "results", report.NamesOf(s[0].Stem).Results))
		if err != nil || !strings.Contains(string(b), "amount_due: the bill has 104, this row 999") {
			t.Errorf("the conflict does not name both amounts: %v\n%s", err, b)
		}
		if state := r.api.State(); state.Posts != 10 {
			t.Errorf("%d POSTs, want 10", state.Posts)
		}
	})
}

// Customers and accounts that the API holds already are used, whether the API refuses to create them again or uses them itself.
func TestPartiesThatExist(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		r.drop(t, "a.csv", manyBills(0, 30, 10))
		r.poll(t)
		if err := os.Remove(filepath.Join(r.base, "ledger.db")); err != nil { // another machine, which knows nothing
			t.Fatal(err)
		}
		r.drop(t, "b.csv", manyBills(100, 30, 10))
		s := r.poll(t)
		if got := r.statuses(t, s[0]); got["created"] != 30 {
			t.Errorf("statuses: %v", got)
		}
		state := r.api.State()
		if len(state.Customers) != 10 || len(state.Accounts) != 10 || len(state.Bills) != 60 {
			t.Errorf("%d customers, %d accounts, %d bills", len(state.Customers), len(state.Accounts), len(state.Bills))
		}
		if s[0].Parties != (report.Parties{}) {
			t.Errorf("parties reported as created: %+v", s[0].Parties)
		}
	})
}

func TestUnknownAccountAlone(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		r.drop(t, "a.csv", "bill_reference,amount_due,account_reference\nINV-1,100,ACC-NONE\nINV-2,100,ACC-NONE\n")
		s := r.poll(t)
		if got := r.statuses(t, s[0]); got["rejected"] != 2 {
			t.Errorf("statuses: %v", got)
		}
		if state := r.api.State(); state.Posts != 0 {
			t.Errorf("%d POSTs", state.Posts)
		}
	})
}

func mkdir(t testing.TB, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}
