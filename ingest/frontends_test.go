//go:build servers && unix

package ingest

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/client/servertest"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Tests through real servers that stand in front of an API; see make test-servers.

// behind makes a rig whose requests reach its API through a front end that front starts. The API
// accepts a second bill with a reference that is taken, so that a duplicate shows.
func behind(t *testing.T, front func(upstream string) *servertest.Server) (*rig, *servertest.Server) {
	t.Helper()
	r := inProcess(t)
	r.api = emulator.New(emulator.Config{Weak: true, Latency: 10 * time.Millisecond})
	api := httptest.NewServer(r.api)
	t.Cleanup(api.Close)
	s := front(api.Listener.Addr().String())
	c, err := client.New(client.Config{BaseURL: "http://" + s.Address, Key: "sk_test_rig", Timeout: 10 * time.Second, MaxConns: 32})
	if err != nil {
		t.Fatal(err)
	}
	policy := testPolicy()
	policy.Concurrency, policy.LookupSettle, policy.BackoffMax = 32, 2*time.Second, 5*time.Second
	r.client = c
	r.lane = delivery.NewLane(ledger.Scope{Merchant: "acme", Mode: "test"}, c, policy)
	r.feed.Lane = r.lane
	return r, s
}

// A gateway that lets 20 requests a second through costs no row its bill.
func TestServersNginxRate(t *testing.T) {
	r, _ := behind(t, func(upstream string) *servertest.Server {
		return servertest.NewNginx(t, upstream, "limit_req_zone $binary_remote_addr zone=all:1m rate=20r/s;", "limit_req zone=all;")
	})
	const rows = 1000
	r.drop(t, "a.csv", manyBills(0, rows, rows))
	begun := time.Now()
	s := r.poll(t)[0]
	if s.Rows.By[ledger.Created] != rows {
		t.Errorf("rows: %v", s.Rows.By)
	}
	t.Logf("%d sends for %d rows in %v", s.Requests.Posts, rows, time.Since(begun))
	if s.Requests.Posts > rows*3/2 || s.Requests.Posts == rows { // what was refused on the way counts as sent
		t.Errorf("%d sends for %d rows", s.Requests.Posts, rows)
	}
}

// One row that a firewall refuses is rejected with the page's title, and the others get their
// bills.
func TestServersNginxFirewall(t *testing.T) {
	r, _ := behind(t, func(upstream string) *servertest.Server {
		return servertest.NewNginx(t, upstream, "", `if ($content_length ~ "^[3-9]..$") { return 403; }`)
	})
	r.drop(t, "a.csv", "bill_reference,amount_due,customer_reference,customer_name\nA-1,100,C-1,Ann\nA-2,100,C-2,"+strings.Repeat("Long ", 49)+"\nA-3,100,C-3,Cas\n")
	s := r.poll(t)[0]
	content, err := os.ReadFile(filepath.Join(r.root, "results", report.NamesOf(s.Stem).Results))
	if err != nil {
		t.Fatal(err)
	}
	want := "A-2,rejected,http_403,\"a gateway refuses it (403 from nginx: Forbidden); "
	if s.Rows.By[ledger.Created] != 2 || !strings.Contains(string(content), want) {
		t.Errorf("%v\n%s\nwant %s", s.Rows.By, content, want)
	}
}

// A front end that is reloaded, killed and restarted in the middle of a file makes no
// duplicate and no report that says what is not so. The run finishes the file, or the next
// one.
func TestServersFrontEndComesAndGoes(t *testing.T) {
	for name, front := range map[string]func(t *testing.T, upstream string) *servertest.Server{
		"nginx": func(t *testing.T, upstream string) *servertest.Server {
			return servertest.NewNginx(t, upstream, "", "")
		},
		"HAProxy": func(t *testing.T, upstream string) *servertest.Server { return servertest.NewHAProxy(t, upstream) },
	} {
		t.Run(name, func(t *testing.T) {
			const rows = 5000
			r, s := behind(t, func(upstream string) *servertest.Server { return front(t, upstream) })
			var posts atomic.Int64
			reached := make(chan int64, rows/500)
			r.api.Script(func(c emulator.Call) emulator.Fault {
				if n := posts.Add(1); n%500 == 0 && n < rows {
					reached <- n
				}
				return emulator.Fault{}
			})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for n := range reached {
					switch n {
					case 500, 1500, 3000:
						s.Reload()
					case 1000, 2500:
						s.Kill()
						s.Start()
					case 2000, 3500:
						s.Restart()
					}
				}
			}()
			r.drop(t, "a.csv", manyBills(0, rows, 1000))
			var summaries []report.Summary
			for run := 1; len(summaries) == 0; run++ {
				var err error
				if summaries, err = r.try(t); err != nil && (!errors.Is(err, delivery.ErrStopped) || run == 3) {
					t.Fatal(err)
				}
			}
			close(reached)
			<-done
			checkReport(t, r, summaries[0], rows)
			t.Logf("%d POSTs for %d rows: %v", r.api.State().Posts, rows, summaries[0].Rows.By)
		})
	}
}

// checkReport compares what a report says with what the API holds: every row has its bill, and
// there is no other.
func checkReport(t *testing.T, r *rig, s report.Summary, rows int) {
	t.Helper()
	bills := make(map[string]string) // ids by reference
	for _, b := range r.api.State().Bills {
		if _, twice := bills[b.ExternalReference]; twice {
			t.Errorf("two bills of %s", b.ExternalReference)
		}
		bills[b.ExternalReference] = b.ID
	}
	content, err := os.ReadFile(filepath.Join(r.root, "results", report.NamesOf(s.Stem).Results))
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(strings.NewReader(string(content))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(bills) != rows || len(records) != rows+1 || s.Rows.By[ledger.Created] != rows {
		t.Errorf("%d bills, %d rows reported, %v; want %d", len(bills), len(records)-1, s.Rows.By, rows)
	}
	for _, rec := range records[1:] {
		if reference, status, id := rec[1], rec[2], rec[5]; status != "created" || id != bills[reference] || id == "" {
			t.Errorf("%s is reported as %s with the id %q; the API holds %q", reference, status, id, bills[reference])
		}
	}
	if left := fmt.Sprint(len(mustList(t, filepath.Join(r.root, "processing")))); left != "0" {
		t.Errorf("%s files are left in processing", left)
	}
}

func mustList(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}
