package ingest

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
)

// Tests of whose bill a row becomes: a row that names an account and a customer is billed only if
// the customer owns the account.

// inOwnerWorld runs a test in a world without files and faults, with an API that refuses parties
// that exist, and again with one that reuses them.
func inOwnerWorld(t *testing.T, test func(t *testing.T, w *world)) {
	for name, reuse := range map[string]bool{"strict": false, "reusing": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, simConfig{Seed: 1, Reuse: reuse})
				clear(w.files.files)
				w.well = true
				test(t, w)
			})
		})
	}
}

// rowEnd is how a row ended, as its report says.
type rowEnd struct{ status, code, detail, billID, customerID, accountID string }

// deliver runs one file, and returns its rows by reference, and the requests it took.
func (w *world) deliver(t *testing.T, content string) (rows map[string]rowEnd, posts, gets int64) {
	t.Helper()
	rows, posts, gets, err := w.tryDeliver(t, content)
	if err != nil {
		t.Fatal(err)
	}
	return rows, posts, gets
}

func (w *world) tryDeliver(t *testing.T, content string) (rows map[string]rowEnd, posts, gets int64, err error) {
	t.Helper()
	time.Sleep(time.Minute) // files of one moment are one moment's
	before := w.api.State()
	w.files.put(fmt.Sprintf("/inbox/f%d.csv", len(w.files.in("/archive"))), []byte(content))
	summaries, err := w.worker(t, alive()).Poll(t.Context())
	after := w.api.State()
	if err != nil {
		return nil, after.Posts - before.Posts, after.Gets - before.Gets, err
	}
	f := w.files.files["/results/"+report.NamesOf(summaries[0].Stem).Results]
	records, err := csv.NewReader(bytes.NewReader(f.content)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	rows = make(map[string]rowEnd)
	for _, r := range records[1:] {
		rows[r[1]] = rowEnd{r[2], r[3], r[4], r[5], r[6], r[7]}
	}
	return rows, after.Posts - before.Posts, after.Gets - before.Gets, nil
}

// loseLedger has billdrop begin with an empty ledger.
func (w *world) loseLedger() { w.ledger = ledgertest.NewMemory() }

// owners returns the references of the customers that were billed, by bill reference.
func (w *world) owners() map[string]string {
	state := w.api.State()
	names := make(map[string]string)
	for _, c := range state.Customers {
		names[c.ID] = c.ExternalReference
	}
	owners := make(map[string]string)
	for _, b := range state.Bills {
		owners[b.ExternalReference] = names[b.CustomerID]
	}
	return owners
}

func (w *world) idOf(t *testing.T, reference string) string {
	t.Helper()
	state := w.api.State()
	for _, c := range state.Customers {
		if c.ExternalReference == reference {
			return c.ID
		}
	}
	for _, a := range state.Accounts {
		if a.ExternalReference == reference {
			return a.ID
		}
	}
	t.Fatalf("the API has no %s", reference)
	return ""
}

// check holds a row against what it should have become.
func (e rowEnd) check(t *testing.T, what, status, code string, says ...string) {
	t.Helper()
	if e.status != status || e.code != code {
		t.Errorf("%s: %s %s (%s), want %s %s", what, e.status, e.code, e.detail, status, code)
	}
	for _, s := range says {
		if !strings.Contains(e.detail, s) {
			t.Errorf("%s: %q does not say %q", what, e.detail, s)
		}
	}
}

const (
	pairHeader = "bill_reference,amount_due,account_reference,customer_reference,customer_name\n"
	annsBill   = pairHeader + "A-1,100,ERF,Ann,Ann A\n"
	bobsBill   = pairHeader + "A-2,26000,ERF,Bob,Bob B\n"
)

// A sold house: the account is Ann's, and the next file names Bob for it.
func TestAccountOfAnotherCustomer(t *testing.T) {
	inOwnerWorld(t, func(t *testing.T, w *world) {
		w.deliver(t, annsBill)
		rows, posts, gets := w.deliver(t, bobsBill)
		rows["A-2"].check(t, "Bob's bill", "invalid", "party_mismatch", "account ERF belongs to another customer than the row names: ", w.idOf(t, "Ann"), "not known to the API")
		if strings.Contains(rows["A-2"].detail, "Bob") {
			t.Errorf("the detail quotes the customer: %s", rows["A-2"].detail)
		}
		if posts != 0 || gets > 2 {
			t.Errorf("%d POSTs, %d GETs", posts, gets)
		}
		// Bob is a customer by now, of another account.
		w.deliver(t, pairHeader+"B-1,100,ERF-2,Bob,Bob B\n")
		rows, posts, gets = w.deliver(t, strings.Replace(bobsBill, "A-2", "A-3", 1))
		rows["A-3"].check(t, "Bob's bill", "invalid", "party_mismatch", w.idOf(t, "Ann"), w.idOf(t, "Bob"))
		if posts != 0 || gets != 0 {
			t.Errorf("both sides known: %d POSTs, %d GETs", posts, gets)
		}
		// One side is known, and the API has to be asked for the other.
		w.loseLedger()
		w.deliver(t, "bill_reference,amount_due,customer_reference\nB-2,100,Bob\n")
		rows, posts, gets = w.deliver(t, strings.Replace(bobsBill, "A-2", "A-4", 1))
		rows["A-4"].check(t, "only Bob is known", "invalid", "party_mismatch")
		if posts != 0 || gets != 1 {
			t.Errorf("only Bob is known: %d POSTs, %d GETs", posts, gets)
		}
		w.loseLedger()
		w.deliver(t, pairHeader+"A-5,100,ERF,Ann,Ann A\n")
		rows, posts, gets = w.deliver(t, strings.Replace(bobsBill, "A-2", "A-6", 1))
		rows["A-6"].check(t, "only the account is known", "invalid", "party_mismatch")
		if posts != 0 || gets != 1 {
			t.Errorf("only the account is known: %d POSTs, %d GETs", posts, gets)
		}
		for ref, owner := range w.owners() {
			if ref[0] == 'A' && owner != "Ann" || ref[0] == 'B' && owner != "Bob" {
				t.Errorf("%s was billed to %s", ref, owner)
			}
		}
	})
}

// With a lost ledger, neither side is known. A strict API refuses the row, and a look-up shows why.
func TestAccountOfAnotherCustomerAfterLoss(t *testing.T) {
	inOwnerWorld(t, func(t *testing.T, w *world) {
		w.deliver(t, annsBill)
		w.loseLedger()
		rows, _, _ := w.deliver(t, bobsBill)
		if w.cfg.Reuse { // nothing tells; what the answer shows of the pair is remembered
			rows["A-2"].check(t, "nothing known, all reused", "created", "")
			rows, posts, _ := w.deliver(t, pairHeader+"A-3,100,ERF,Cas,Cas C\n")
			if rows["A-3"].check(t, "the owner is known from the answer", "invalid", "party_mismatch"); posts != 0 {
				t.Errorf("%d POSTs", posts)
			}
			return
		}
		rows["A-2"].check(t, "Bob's bill", "rejected", "party_mismatch", "account ERF", w.idOf(t, "Ann"), w.idOf(t, "Bob"))
		if len(w.api.Bills("A-2")) != 0 {
			t.Error("A-2 was billed")
		}
		rows, posts, gets := w.deliver(t, strings.Replace(bobsBill, "A-2", "A-3", 1))
		rows["A-3"].check(t, "the next of the kind", "invalid", "party_mismatch")
		if posts != 0 || gets != 0 {
			t.Errorf("the next of the kind: %d POSTs, %d GETs", posts, gets)
		}
	})
}

// A customer that came with this file is not looked up. If the API then reuses an account of
// another customer, the answer shows it.
func TestAnswerNamesAnotherCustomer(t *testing.T) {
	inOwnerWorld(t, func(t *testing.T, w *world) {
		w.deliver(t, annsBill)
		w.loseLedger()
		rows, _, _ := w.deliver(t, pairHeader+"B-1,100,ERF-2,Bob,Bob B\nA-2,200,ERF,Bob,Bob B\n")
		if !w.cfg.Reuse {
			rows["A-2"].check(t, "refused", "rejected", "party_mismatch")
			return
		}
		rows["A-2"].check(t, "answered", "conflict", "", fmt.Sprintf("customer: the bill has %s, this row %s", w.idOf(t, "Ann"), w.idOf(t, "Bob")))
		rows, posts, gets := w.deliver(t, pairHeader+"A-3,200,ERF,Bob,Bob B\nA-2,200,ERF,Bob,Bob B\n")
		rows["A-3"].check(t, "the pair is known from the answer", "invalid", "party_mismatch")
		rows["A-2"].check(t, "the same row again", "conflict", "")
		if posts != 0 || gets != 0 {
			t.Errorf("%d POSTs, %d GETs", posts, gets)
		}
	})
}

// A row that was sent comes again with another customer: the bill is not the row's.
func TestCorrectedCustomer(t *testing.T) {
	inOwnerWorld(t, func(t *testing.T, w *world) {
		w.deliver(t, annsBill)
		w.deliver(t, pairHeader+"B-1,100,ERF-2,Bob,Bob B\n")
		corrected := strings.Replace(annsBill, "Ann,Ann A", "Bob,Bob B", 1)
		for _, ledgerIs := range []string{"kept", "lost"} {
			rows, posts, gets := w.deliver(t, corrected)
			says := fmt.Sprintf("customer: the bill has %s, this row %s", w.idOf(t, "Ann"), w.idOf(t, "Bob"))
			rows["A-1"].check(t, "ledger "+ledgerIs, "conflict", "", says)
			if ledgerIs == "kept" && (posts != 0 || gets != 0) {
				t.Errorf("%d POSTs, %d GETs", posts, gets)
			}
			rows, posts, gets = w.deliver(t, annsBill)
			rows["A-1"].check(t, "the right one again, ledger "+ledgerIs, "existing", "")
			if posts != 0 || ledgerIs == "kept" && gets != 0 {
				t.Errorf("the right one again: %d POSTs, %d GETs", posts, gets)
			}
			if _, posts, gets = w.deliver(t, annsBill); posts != 0 || gets != 0 {
				t.Errorf("and again: %d POSTs, %d GETs", posts, gets)
			}
			w.loseLedger()
		}
		unknown := strings.Replace(annsBill, "Ann,Ann A", "Eve,Eve E", 1)
		w.deliver(t, annsBill)
		rows, _, gets := w.deliver(t, unknown)
		rows["A-1"].check(t, "a customer that nobody has", "conflict", "", "another that the API does not know")
		if gets != 1 {
			t.Errorf("%d GETs for a customer that nobody has", gets)
		}
	})
}

// The account by its id, beside a customer by reference or id.
func TestAccountIDBesideCustomer(t *testing.T) {
	inOwnerWorld(t, func(t *testing.T, w *world) {
		w.deliver(t, annsBill+"B-1,100,ERF-2,Bob,Bob B\n")
		erf, ann, bob := w.idOf(t, "ERF"), w.idOf(t, "Ann"), w.idOf(t, "Bob")
		byReference := "bill_reference,amount_due,account_id,customer_reference\n%s-1,100," + erf + ",Ann\n%[1]s-2,100," + erf + ",Bob\n"
		byID := "bill_reference,amount_due,account_id,customer_id\n%s-1,100," + erf + "," + ann + "\n%[1]s-2,100," + erf + "," + bob + "\n"
		for _, ledgerIs := range []string{"kept", "lost"} {
			for name, file := range map[string]string{"reference": byReference, "id": byID} {
				prefix := "X-" + ledgerIs + "-" + name
				rows, posts, gets := w.deliver(t, fmt.Sprintf(file, prefix))
				rows[prefix+"-1"].check(t, "its own customer by "+name, "created", "")
				rows[prefix+"-2"].check(t, "another customer by "+name, "invalid", "party_mismatch", "account "+erf+" belongs")
				if posts != 1 || gets > 3 {
					t.Errorf("%s: %d POSTs, %d GETs", prefix, posts, gets)
				}
				rows, posts, gets = w.deliver(t, fmt.Sprintf(file, "Y-"+ledgerIs+"-"+name))
				rows["Y-"+ledgerIs+"-"+name+"-2"].check(t, "another customer by "+name, "invalid", "party_mismatch")
				if posts != 1 || gets != 0 {
					t.Errorf("%s again: %d POSTs, %d GETs", prefix, posts, gets)
				}
			}
			w.loseLedger()
		}
		for ref, owner := range w.owners() {
			if ref[0] == 'X' && owner != "Ann" {
				t.Errorf("%s was billed to %s", ref, owner)
			}
		}
	})
}

// accountsOf is a month's file over customers that have several accounts each, far apart.
func accountsOf(month, customers, accounts int) string {
	var b strings.Builder
	b.WriteString(pairHeader)
	for a := range accounts {
		for c := range customers {
			fmt.Fprintf(&b, "M%d-%d-%d,100,ACC-%d-%d,CUS-%d,Name\n", month, c, a, c, a, c)
		}
	}
	return b.String()
}

// Customers with several accounts, new and then known, take one POST a bill and no GET.
func TestCleanRunOfPairs(t *testing.T) {
	inOwnerWorld(t, func(t *testing.T, w *world) {
		const customers, accounts = 500, 3
		for month := range 2 {
			rows, posts, gets := w.deliver(t, accountsOf(month, customers, accounts))
			for ref, r := range rows {
				if r.status != "created" {
					t.Fatalf("%s: %+v", ref, r)
				}
			}
			if posts != customers*accounts || gets != 0 {
				t.Errorf("month %d: %d POSTs, %d GETs for %d bills", month, posts, gets, customers*accounts)
			}
		}
		if _, posts, gets := w.deliver(t, accountsOf(1, customers, accounts)); posts != 0 || gets != 0 {
			t.Errorf("the same file again: %d POSTs, %d GETs", posts, gets)
		}
		// A new account of a known customer is asked for once, however many rows name it.
		more := pairHeader
		for i := range 300 {
			more += fmt.Sprintf("MORE-%d,100,ACC-NEW,CUS-1,Name\n", i)
		}
		if _, posts, gets := w.deliver(t, more); posts != 300 || gets != 1 {
			t.Errorf("300 rows of one new pair: %d POSTs, %d GETs", posts, gets)
		}
		wrong := pairHeader
		for i := range 600 {
			wrong += fmt.Sprintf("WRONG-%d,100,ACC-1-0,CUS-NONE,Name\n", i)
		}
		rows, posts, gets := w.deliver(t, wrong)
		if posts != 0 || gets != 1 || rows["WRONG-599"].code != "party_mismatch" {
			t.Errorf("600 rows of one wrong pair: %d POSTs, %d GETs, %+v", posts, gets, rows["WRONG-599"])
		}
	})
}

// What the API calls taken and does not show is waited for. It may show late; it may never.
func TestTakenButNotShown(t *testing.T) {
	for _, c := range []struct {
		name   string
		hidden time.Duration
		title  string
		want   string
	}{
		{"shown after a minute", time.Minute, "Conflict", "existing"},
		{"shown after four minutes", 4 * time.Minute, "The bill is already paid or voided", "existing"},
		{"never shown", 24 * time.Hour, "Conflict", "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inOwnerWorld(t, func(t *testing.T, w *world) {
				content := "bill_reference,amount_due,customer_reference\nA-1,100,Ann\n"
				w.deliver(t, content)
				w.loseLedger()
				time.Sleep(25 * time.Hour) // the API forgets the key
				var first time.Time
				w.script = func(call emulator.Call) emulator.Fault {
					if first.IsZero() {
						first = time.Now()
					}
					switch {
					case call.Method == "POST":
						return emulator.Fault{Status: 409, Problem: emulator.Problem{Type: "about:blank", Title: c.title}, Store: true}
					case time.Since(first) < c.hidden:
						return emulator.Fault{Status: 404}
					}
					return emulator.Fault{}
				}
				rows, _, gets := w.deliver(t, content)
				if rows["A-1"].status != c.want || gets > 30 {
					t.Errorf("%+v, %d GETs", rows["A-1"], gets)
				}
				w.script = nil
				w.files.put("/inbox/again.csv", []byte(content))
				summaries, err := w.worker(t, alive()).Poll(t.Context())
				if err != nil || summaries[0].Rows.By[ledger.Existing] != 1 {
					t.Errorf("again, with the API well: %+v, %v", summaries, err)
				}
			})
		})
	}
}

// A 201 that tells otherwise than was sent is a conflict: a bill exists, but not the row's.
func TestAnswerContradicts(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(*client.Bill)
		says string
	}{
		"amount":   {func(b *client.Bill) { b.AmountDue = 9 }, "amount_due: the bill has 9, this row 100"},
		"currency": {func(b *client.Bill) { b.Currency = "USD" }, "currency: the bill has USD, this row ZAR"},
		"date":     {func(b *client.Bill) { b.DueDate = "2027-01-31" }, "due_date: the bill has 2027-01-31, this row 2026-12-01"},
		"account":  {func(b *client.Bill) { b.AccountID = "bacc_other" }, "account: the bill has bacc_other, this row bacc_"},
		"customer": {func(b *client.Bill) { b.CustomerID = "bcus_other" }, "customer: the bill has bcus_other, this row bcus_"},
	} {
		t.Run(name, func(t *testing.T) {
			inOwnerWorld(t, func(t *testing.T, w *world) {
				w.deliver(t, annsBill)
				w.cfg.Break = func(p *ledgerAndAPI) {
					p.API = &lyingAPI{API: p.API, create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
						a := real.CreateBill(ctx, key, reference, body)
						c.lie(a.Bill)
						return a
					}}
				}
				rows, _, _ := w.deliver(t, "bill_reference,amount_due,due_date,account_reference,customer_reference\nA-2,100,2026-12-01,ERF,Ann\n")
				rows["A-2"].check(t, name, "conflict", "", c.says)
			})
		})
	}
}

// A look-up without an amount proves nothing, and one bill id for two references ends the run.
func TestAnswersThatCannotBe(t *testing.T) {
	inOwnerWorld(t, func(t *testing.T, w *world) {
		content := "bill_reference,amount_due,customer_reference\nA-1,100,Ann\n"
		w.deliver(t, content)
		w.loseLedger()
		time.Sleep(25 * time.Hour) // the API forgets the key
		w.script = func(c emulator.Call) emulator.Fault {
			if c.Method == "GET" {
				return emulator.Fault{Status: 200, Body: `{"id":"bill_1","external_reference":"A-1"}`, ContentType: "application/json"}
			}
			return emulator.Fault{}
		}
		rows, _, _ := w.deliver(t, content)
		rows["A-1"].check(t, "no amount", "unknown", "no_answer")
		w.script = nil

		w.cfg.Break = func(p *ledgerAndAPI) {
			p.API = &lyingAPI{API: p.API, create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
				a := real.CreateBill(ctx, key, reference, body)
				if a.Bill != nil {
					a.Bill.ID = "bill_same"
				}
				return a
			}}
		}
		_, _, _, err := w.tryDeliver(t, "bill_reference,amount_due,customer_reference\nB-1,100,Ann\nB-2,100,Ann\n")
		if !errors.Is(err, delivery.ErrSetup) || !strings.Contains(err.Error(), "same bill id for two references") {
			t.Errorf("one id for two bills: %v", err)
		}
	})
}
