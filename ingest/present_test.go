package ingest

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

var thirtyDays = &delivery.Presenting{Expires: 720 * time.Hour, Zone: time.UTC}

// isLink reports whether a request is for a link.
func isLink(c emulator.Call) bool { return strings.HasSuffix(c.Path, "/payment_requests") }

// linkedRow is a row of results with links.
type linkedRow struct{ reference, status, code, detail, billID, amount, link, request string }

// linkedRows reads the latest results of a file.
func linkedRows(t *testing.T, w *world, name, content string) []linkedRow {
	t.Helper()
	f, found := w.files.find("/results/" + w.lastReport(name, sha256Hex(content)).Results)
	if !found {
		t.Fatalf("no results of %s", name)
	}
	records, err := csv.NewReader(bytes.NewReader(f.content)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if head := records[0]; len(head) != 14 || head[12] != "payment_link" || head[13] != "payment_request_id" {
		t.Fatalf("columns %q", head)
	}
	var rows []linkedRow
	for _, r := range records[1:] {
		rows = append(rows, linkedRow{r[1], r[2], r[3], r[4], r[5], r[9], r[12], r[13]})
	}
	return rows
}

// checkLinks returns what is wrong with the links of a file's report, and how many are missing.
func checkLinks(t *testing.T, w *world, name, content string) (missing int, wrong []string) {
	t.Helper()
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	made := map[string][]emulator.PaymentRequest{}
	for _, r := range w.api.State().PaymentRequests {
		made[r.ExternalReference] = append(made[r.ExternalReference], r)
	}
	for ref, requests := range made {
		if len(requests) > 1 {
			fail("%s: %d payment requests", ref, len(requests))
		}
	}
	for _, r := range linkedRows(t, w, name, content) {
		switch {
		case r.status != "created":
			if r.link != "" || r.request != "" || r.code == ledger.CodeLinkFailed || r.code == ledger.CodeLinkUnknown {
				fail("%s is %s, and has a link: %+v", r.reference, r.status, r)
			}
		case r.link == "":
			missing++
			if r.code != ledger.CodeLinkFailed && r.code != ledger.CodeLinkUnknown || r.detail == "" || r.request != "" {
				fail("%s has no link: %+v", r.reference, r)
			}
		default:
			m := made[r.reference]
			if len(m) != 1 || r.code != "" || m[0].ID != r.request || m[0].Link == nil || m[0].Link.URL != r.link ||
				fmt.Sprint(m[0].Amount) != r.amount || m[0].Metadata["bill"] != r.billID {
				fail("%s: %+v, the API has %+v", r.reference, r, m)
			}
		}
	}
	return missing, wrong
}

// outcomeOf reads the latest summary of a file.
func outcomeOf(t *testing.T, w *world, name, content string) report.Summary {
	t.Helper()
	f, _ := w.files.find("/results/" + w.lastReport(name, sha256Hex(content)).Summary)
	s, err := report.Parse(f.content)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every bill that a file created has a link, in its results; others have none.
func TestPresent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 1, Present: thirtyDays})
		if _, err := w.worker(t, alive()).Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"a.csv": simBills, "b.csv": simMore} {
			if missing, wrong := checkLinks(t, w, name, content); missing > 0 || len(wrong) > 0 {
				t.Errorf("%s: %d missing, %v", name, missing, wrong)
			}
		}
		if n := len(w.api.State().PaymentRequests); n != 8 {
			t.Errorf("%d payment requests for 8 created bills", n)
		}
		files, err := w.ledger.Files(t.Context(), ledger.Query{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if _, err := w.worker(t, alive()).Retry(t.Context(), f.ID); !errors.Is(err, ErrNothingToDo) {
				t.Errorf("retry of %s: %v", f.Name, err)
			}
		}
	})
}

// A link that cannot be made leaves the row created, with a code, and the file completed with
// errors, as each kind of answer demands; and the retry makes it if that is still safe.
func TestPresentFailures(t *testing.T) {
	stored := emulator.Fault{Status: 500, Store: true}
	for _, c := range []struct {
		name    string
		fault   emulator.Fault // of every request for INV-3's link, or of the first only
		first   bool
		later   time.Duration // until the retry
		code    string
		asks    int    // for that link in the first run; 0 = any number
		retried string // code after the retry; "-" = there is nothing to retry
	}{
		{"stored failure", stored, true, time.Hour, ledger.CodeLinkFailed, 2, ledger.CodeLinkFailed},
		{"stored failure, key forgotten", stored, true, 25 * time.Hour, ledger.CodeLinkFailed, 2, ledger.CodeLinkFailed},
		{"stored failure after it was made", emulator.Fault{Apply: true, Status: 500, Store: true}, true, 25 * time.Hour, ledger.CodeLinkFailed, 2, ledger.CodeLinkFailed},
		{"refused", emulator.Fault{Status: 422, Store: true}, true, 25 * time.Hour, ledger.CodeLinkFailed, 1, ledger.CodeLinkFailed},
		{"no such address", emulator.Fault{Status: 404}, false, 25 * time.Hour, ledger.CodeLinkFailed, 1, ""},
		{"forbidden", emulator.Fault{Status: 403}, false, time.Hour, ledger.CodeLinkFailed, 1, ""},
		{"503 as often as there are attempts", emulator.Fault{Status: 503}, false, time.Hour, ledger.CodeLinkFailed, 0, ""},
		{"503, and the key too old", emulator.Fault{Status: 503}, false, 21 * time.Hour, ledger.CodeLinkFailed, 0, ledger.CodeLinkUnknown},
		{"made, and the answers lost", emulator.Fault{Apply: true, Drop: true}, false, time.Hour, ledger.CodeLinkFailed, 6, ""},
		{"made, and the answers lost for long", emulator.Fault{Apply: true, Drop: true}, false, 21 * time.Hour, ledger.CodeLinkFailed, 6, ledger.CodeLinkUnknown},
		{"not readable", emulator.Fault{Apply: true, Garbage: true}, false, time.Hour, ledger.CodeLinkFailed, 6, ""},
		{"an answer lost", emulator.Fault{Apply: true, Drop: true}, true, 0, "", 2, "-"},
		{"a pause", emulator.Fault{Status: 429, RetryAfter: "30"}, true, 0, "", 2, "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, simConfig{Seed: 1, Present: thirtyDays})
				ill, asks := true, 0
				keys, bodies := map[string]bool{}, map[string]bool{}
				w.script = func(call emulator.Call) emulator.Fault {
					if !isLink(call) || call.Reference != "INV-3" {
						return emulator.Fault{}
					}
					asks++
					keys[call.Key], bodies[string(call.Body)] = true, true
					if ill && (!c.first || asks == 1) {
						return c.fault
					}
					return emulator.Fault{}
				}
				if _, err := w.worker(t, alive()).Poll(t.Context()); err != nil {
					t.Fatal(err)
				}
				check := func(when, code string) {
					t.Helper()
					missing, wrong := checkLinks(t, w, "a.csv", simBills)
					if len(wrong) > 0 {
						t.Errorf("%s: %v", when, wrong)
					}
					want := 0
					if code != "" {
						want = 1
					}
					if missing != want {
						t.Errorf("%s: %d links are missing, want %d", when, missing, want)
					}
					for _, r := range linkedRows(t, w, "a.csv", simBills) {
						if r.reference == "INV-3" && (r.code != code || r.status != "created") {
							t.Errorf("%s: %+v, want code %q", when, r, code)
						}
					}
				}
				check("first", c.code)
				if c.asks > 0 && asks != c.asks {
					t.Errorf("asked %d times, want %d", asks, c.asks)
				}
				s := outcomeOf(t, w, "a.csv", simBills)
				if !s.Attention() { // an invalid row alone would do; see TestPresentOutcome
					t.Error("the file needs no attention")
				}
				ill = false
				time.Sleep(c.later)
				_, err := w.worker(t, alive()).Retry(t.Context(), s.FileID)
				if c.retried == "-" {
					if !errors.Is(err, ErrNothingToDo) {
						t.Errorf("retry: %v", err)
					}
				} else if err != nil {
					t.Fatal(err)
				} else {
					check("retried", c.retried)
				}
				if len(keys) != 1 || len(bodies) != 1 {
					t.Errorf("%d keys and %d bodies for one link", len(keys), len(bodies))
				}
			})
		})
	}
}

// The summary counts every request that the API got for the file: for its bills and for its
// links, the repeated ones and those of a retry.
func TestPresentRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 1, Present: thirtyDays})
		delete(w.files.files, "/inbox/b.csv")
		var calls report.Requests
		ill, seen := true, map[string]int{}
		w.script = func(c emulator.Call) emulator.Fault {
			if c.Method == http.MethodGet {
				calls.Gets++
				return emulator.Fault{}
			}
			calls.Posts++
			if seen[c.Key]++; seen[c.Key] > 1 {
				calls.Retries++
			}
			switch {
			case !isLink(c):
			case c.Reference == "INV-1" && seen[c.Key] == 1:
				calls.Throttled++
				return emulator.Fault{Status: 429, RetryAfter: "3"}
			case c.Reference == "INV-2" && seen[c.Key] == 1:
				return emulator.Fault{Apply: true, Drop: true}
			case c.Reference == "INV-4" && ill:
				return emulator.Fault{Status: 503}
			}
			return emulator.Fault{}
		}
		check := func(when string) report.Summary {
			t.Helper()
			s := outcomeOf(t, w, "a.csv", simBills)
			if s.Requests != calls {
				t.Errorf("%s: the summary counts %+v, the API %+v", when, s.Requests, calls)
			}
			return s
		}
		if _, err := w.worker(t, alive()).Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := check("first")
		if s.Requests.Posts < 20 || s.Requests.Retries < 7 || s.Requests.Throttled != 1 {
			t.Errorf("%+v", s.Requests)
		}
		ill = false
		time.Sleep(time.Hour)
		if _, err := w.worker(t, alive()).Retry(t.Context(), s.FileID); err != nil {
			t.Fatal(err)
		}
		check("retried")
	})
}

// A file whose bills are all there and one of whose links is not has completed with errors. A
// link that was made later completes it.
func TestPresentOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bills = "bill_reference,amount_due,currency,customer_reference\nA-1,100,ZAR,C-1\nA-2,200,ZAR,C-2\n"
		w := newWorld(t, simConfig{Seed: 1, Present: thirtyDays})
		delete(w.files.files, "/inbox/a.csv")
		delete(w.files.files, "/inbox/b.csv")
		w.files.put("/inbox/c.csv", []byte(bills))
		down := true
		w.script = func(c emulator.Call) emulator.Fault {
			if down && isLink(c) {
				return emulator.Fault{Status: 503}
			}
			return emulator.Fault{}
		}
		summaries, err := w.worker(t, alive()).Poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s := summaries[0]; s.Outcome != ledger.CompletedWithErrors || !s.Attention() || s.Rows.By[ledger.Created] != 2 || s.Rows.Attention() != 0 {
			t.Errorf("with links missing: %+v", s)
		}
		if want := "created bills without a payment link: 2; "; !strings.HasPrefix(summaries[0].Detail, want) {
			t.Errorf("detail %q, want %q", summaries[0].Detail, want)
		}
		if _, found := w.files.find("/results/" + w.lastReport("c.csv", sha256Hex(bills)).Rejects); found {
			t.Error("rows without a link are in a rejects file")
		}
		down = false
		s, err := w.worker(t, alive()).Retry(t.Context(), summaries[0].FileID)
		if err != nil || s.Outcome != ledger.Completed || s.Attention() || s.Detail != "" {
			t.Errorf("after the retry: %+v, %v", s, err)
		}
		if missing, wrong := checkLinks(t, w, "c.csv", bills); missing > 0 || len(wrong) > 0 {
			t.Errorf("%d missing, %v", missing, wrong)
		}
	})
}

// The API takes bills and no payment requests: the file ends within the patience, its links
// are missing, and a retry days later makes those that were never asked for.
func TestPresentOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rows = 1000
		w := newWorld(t, simConfig{Seed: 1, Present: thirtyDays})
		delete(w.files.files, "/inbox/a.csv")
		delete(w.files.files, "/inbox/b.csv")
		content := manyBills(0, rows, 300)
		w.files.put("/inbox/a.csv", []byte(content))
		down, asks := true, map[string]bool{}
		w.script = func(c emulator.Call) emulator.Fault {
			if down && isLink(c) {
				asks[c.Reference] = true
				return emulator.Fault{Status: 503}
			}
			return emulator.Fault{}
		}
		began := time.Now()
		summaries, err := w.worker(t, alive()).Poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > testPolicy().GiveUpAfter+5*time.Minute {
			t.Errorf("it took %v", took)
		}
		if missing, wrong := checkLinks(t, w, "a.csv", content); missing != rows || len(wrong) > 0 {
			t.Errorf("%d missing, %v", missing, wrong)
		}
		if s := summaries[0]; s.Outcome != ledger.CompletedWithErrors || s.Rows.By[ledger.Created] != rows {
			t.Errorf("%+v", s)
		}
		down = false
		time.Sleep(72 * time.Hour)
		if _, err := w.worker(t, alive()).Retry(t.Context(), summaries[0].FileID); err != nil {
			t.Fatal(err)
		}
		missing, wrong := checkLinks(t, w, "a.csv", content)
		if missing != len(asks) || len(wrong) > 0 {
			t.Errorf("after the retry %d are missing, %d were asked for in vain; %v", missing, len(asks), wrong)
		}
		if len(asks) == 0 || len(asks) > 300 {
			t.Errorf("%d links were asked for while the API was down", len(asks))
		}
	})
}

// A refused key stops the run. The next one goes on.
func TestPresentKeyRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 1, Present: thirtyDays})
		ill := true
		w.script = func(c emulator.Call) emulator.Fault {
			if ill && isLink(c) {
				return emulator.Fault{Status: 401}
			}
			return emulator.Fault{}
		}
		if _, err := w.worker(t, alive()).Poll(t.Context()); !errors.Is(err, delivery.ErrSetup) {
			t.Fatalf("with a refused key: %v", err)
		}
		if files := w.files.in("/results"); len(files) > 0 && strings.Contains(strings.Join(files, " "), ".results.csv") {
			t.Errorf("reports: %v", files)
		}
		ill = false
		time.Sleep(30 * time.Hour)
		if _, err := w.worker(t, alive()).Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"a.csv": simBills, "b.csv": simMore} {
			if missing, wrong := checkLinks(t, w, name, content); missing > 0 || len(wrong) > 0 {
				t.Errorf("%s: %d missing, %v", name, missing, wrong)
			}
		}
	})
}

// presentWorld runs a world to its end, and retries what is left with the API well again.
func presentWorld(t *testing.T, cfg simConfig) (deaths, unknown int, wrong []string) {
	cfg.Present = thirtyDays
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, cfg)
		err := w.run(t)
		time.Sleep(5 * time.Minute) // what the server is still at comes to its end
		if wrong = append(wrong, w.checkInvariants()...); err == nil {
			err = w.recover(t)
		}
		if err != nil {
			wrong = append(wrong, err.Error())
			return
		}
		contents := map[string]string{"a.csv": simBills, "b.csv": simMore}
		if cfg.Harsh {
			delete(contents, "b.csv")
		}
		for name, content := range contents {
			missing, bad := checkLinks(t, w, name, content)
			unknown += missing
			wrong = append(wrong, bad...)
		}
		deaths = w.deaths
	})
	return deaths, unknown, wrong
}

// Whatever step a process dies at, and whatever the API loses, a bill has at most one payment
// request, and the report says which.
func TestPresentCrash(t *testing.T) {
	deaths, missing := 0, 0
	for seed := uint64(1); seed <= 150; seed++ {
		d := dice{seed}
		n, m, wrong := presentWorld(t, simConfig{Seed: seed, Deadly: []uint64{200, 60, 25, 12}[seed%4], Faulty: []uint64{0, 12, 4}[d.roll("faulty")%3],
			Jumps: seed%2 == 0, Harsh: seed%3 == 0})
		deaths, missing = deaths+n, missing+m
		if len(wrong) > 0 {
			t.Errorf("seed %d: %s", seed, strings.Join(wrong, "\n  "))
		}
	}
	if deaths < 300 || missing == 0 {
		t.Errorf("only %d deaths, %d links missing", deaths, missing)
	}
	t.Logf("%d deaths, %d links missing", deaths, missing)
}

// The file's owner makes the links, and if it is lost, whoever takes the file goes on.
func TestPresentCluster(t *testing.T) {
	losses := 0
	for seed := uint64(1); seed <= 60; seed++ {
		cfg := clusterOf(seed)
		cfg.Present = thirtyDays
		n, wrong := simulateCluster(t, cfg)
		losses += n
		if len(wrong) > 0 {
			t.Errorf("seed %d, %d losses: %s", seed, n, strings.Join(wrong, "\n  "))
		}
	}
	if losses < 100 {
		t.Errorf("only %d workers were lost", losses)
	}
}

// linkLiar is an API through which a wrong program asks for links.
type linkLiar struct {
	delivery.API
	key func(string) string
}

func (a *linkLiar) CreatePaymentRequest(ctx context.Context, key, reference string, body []byte) client.Answer {
	return a.API.CreatePaymentRequest(ctx, a.key(key), reference, body)
}

// forgetful is a ledger that a wrong program does not write links to before it asks for them,
// or does not believe.
type forgetful struct {
	ledger.Ledger
	deaf, young bool
}

func (l *forgetful) SaveLinks(ctx context.Context, s ledger.Scope, links []ledger.Link) error {
	if l.deaf && links[0].State == ledger.LinkAsked && links[0].Answer == "" {
		return nil
	}
	return l.Ledger.SaveLinks(ctx, s, links)
}

func (l *forgetful) Links(ctx context.Context, s ledger.Scope, refs []string) (map[string]ledger.Link, error) {
	found, err := l.Ledger.Links(ctx, s, refs)
	for ref, link := range found {
		if l.young && !link.KeyFirstUsed.IsZero() {
			link.KeyFirstUsed = time.Now()
			found[ref] = link
		}
	}
	return found, err
}

// The worlds catch programs that break one rule each.
func TestPresentBroken(t *testing.T) {
	for name, broken := range map[string]func(*ledgerAndAPI){
		"another key after a restart": func(p *ledgerAndAPI) {
			life := fmt.Sprint(time.Now().Unix())
			p.API = &linkLiar{p.API, func(key string) string { return key[:20] + life }}
		},
		"asked before it is recorded": func(p *ledgerAndAPI) { p.Ledger = &forgetful{Ledger: p.Ledger, deaf: true} },
		"a key of any age":            func(p *ledgerAndAPI) { p.Ledger = &forgetful{Ledger: p.Ledger, young: true} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 300; seed++ {
				_, _, wrong := presentWorld(t, simConfig{Seed: seed, Deadly: 12, Faulty: 4, Jumps: true, Harsh: seed%3 == 0, Break: broken})
				for _, w := range wrong {
					if strings.Contains(w, "payment requests") {
						return
					}
				}
			}
			t.Error("no world has caught it")
		})
	}
}
