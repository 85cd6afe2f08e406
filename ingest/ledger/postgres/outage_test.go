package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// newBill is a bill whose first send is about to leave for a row of a file.
func newBill(reference, file string, row int) *ledger.Bill {
	digest := ledger.DigestOf([]byte(reference))
	now := time.Now()
	return &ledger.Bill{Reference: reference, Send: ledger.Send{File: file, Row: row, Generation: 1, Form: ledger.FormNewAccountCustomer,
		Content: digest, Body: digest, Key: uuid.UUID(digest).String(), KeyFirstUsed: now, At: now, Count: 1}}
}

// sendRow is a row's life: it leads a customer and an account, and brings them.
func sendRow(ctx context.Context, l ledger.Ledger, file, reference string, row int) error {
	b := newBill(reference, file, row)
	customer, account := ledger.PartyRef{Kind: ledger.Customer, Reference: reference}, ledger.PartyRef{Kind: ledger.Account, Reference: reference}
	if err := l.Begin(ctx, scope, b, customer, account); err != nil {
		return err
	}
	b.State, b.Send.Answer = ledger.Exists, "201"
	b.Observed = ledger.Observed{BillID: "bill_" + reference, CustomerID: "bcus_" + reference, AccountID: "bacc_" + reference,
		Currency: "ZAR", Amount: 12345, BillDate: "2026-11-01", DueDate: "2026-11-30"}
	return l.Record(ctx, ledger.Entry{Scope: scope, Bill: b, File: file, Gets: 1,
		Parties: []ledger.Party{{PartyRef: customer, ID: b.Observed.CustomerID}, {PartyRef: account, ID: b.Observed.AccountID, CustomerID: b.Observed.CustomerID}},
		Outcome: &ledger.Outcome{Row: row, Line: row + 1, Reference: reference, Status: ledger.Created, BillID: b.Observed.BillID,
			CustomerID: b.Observed.CustomerID, AccountID: b.Observed.AccountID, Currency: "ZAR", Amount: 12345, Attempts: 1, Key: b.Send.Key},
	})
}

// sendRows sends rows of a file from many senders until stop is closed, and returns how many
// there were.
func sendRows(t *testing.T, l ledger.Ledger, file string, stop <-chan struct{}) int {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				row := int(next.Add(1))
				if err := sendRow(t.Context(), l, file, fmt.Sprintf("%s-%d", file, row), row); err != nil {
					t.Errorf("row %d: %v", row, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := l.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	return int(next.Load())
}

// checkRows fails t unless each of n rows of a file was recorded exactly once.
func checkRows(t *testing.T, server *pgtest.Server, database, file string, n int) {
	t.Helper()
	got := server.Query(t, database, fmt.Sprintf(`SELECT (SELECT count(*) FROM outcome WHERE file_id = '%[1]s' AND status = 'created'),
		(SELECT count(*) FROM bill WHERE file_id = '%[1]s' AND status = 'exists'), (SELECT count(*) FROM attempt WHERE file_id = '%[1]s'),
		(SELECT gets FROM file WHERE file_id = '%[1]s'), (SELECT count(*) FROM parties WHERE id LIKE '%%_%[1]s-%%' AND lead_worker IS NULL)`, file))
	if want := fmt.Sprintf("%d|%d|%d|%d|%d", n, n, n, n, 2*n); got != want {
		t.Errorf("outcomes, bills, attempts, look-ups and parties of %s: %s, want %s", file, got, want)
	}
}

// soonLost is how long a worker that a test loses may be unheard of: longer than a busy
// machine keeps it from being heard of.
const soonLost = 4 * time.Second

func joinShort(t *testing.T, l *postgres.Ledger, name string, lostAfter time.Duration) {
	t.Helper()
	if err := l.Join(t.Context(), ledger.Member{Name: name, Role: "run", LostAfter: lostAfter}); err != nil {
		t.Fatal(err)
	}
}

// TestCutConnections: connections that break at any moment, answers to commits that are lost, and a
// server that is killed change nothing about what is recorded: every row once, every count once.
func TestCutConnections(t *testing.T) {
	server := pgtest.Start(t)
	relay, url := newRelay(t, server.Database(t))
	l := open(t, url)
	t.Cleanup(func() { l.Close() })
	joinShort(t, l, "a", time.Minute)
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f", Scope: scope, State: ledger.Sending}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		enough := func() bool {
			relay.mu.Lock()
			defer relay.mu.Unlock()
			return relay.lost >= 5
		}
		for i := 0; i < 30 || i < 500 && !enough(); i++ {
			time.Sleep(time.Duration(20+rand.IntN(80)) * time.Millisecond)
			switch {
			case i == 10 || i == 20:
				if err := server.Kill(); err != nil {
					t.Error(err)
				}
				if err := server.Start(); err != nil {
					t.Error(err)
				}
			case i%3 != 0:
				relay.set(func() { relay.lose = true })
			default:
				relay.set(func() { relay.cut = true })
				relay.set(func() { relay.cut = false })
			}
		}
	}()
	n := sendRows(t, l, "f", stop)
	if n < 30 || relay.lost < 5 {
		t.Errorf("%d rows, %d answers lost: too few to show anything", n, relay.lost)
	}
	checkRows(t, server, "ledger_1", "f", n)
	t.Logf("%d rows, %d answers to commits lost", n, relay.lost)
}

// TestServerRefuses: what the server refuses for a while is waited for, what it refuses for
// good ends the ledger's writes.
func TestServerRefuses(t *testing.T) {
	server := pgtest.Start(t)
	warned := make(chan string, 10)
	l, err := postgres.Open(t.Context(), server.Database(t), postgres.Options{Warn: func(reason string) { warned <- reason }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	joinShort(t, l, "a", time.Minute)
	refuse := func(code string) {
		t.Helper()
		server.Query(t, "ledger_1", fmt.Sprintf(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			RAISE EXCEPTION 'refused' USING ERRCODE = '%s'; END $$; CREATE TRIGGER refuse BEFORE INSERT ON bills EXECUTE FUNCTION refuse()`, code))
	}
	for i, code := range []string{"53100", "25006", "58030", "57P01"} { // disk full, a standby now, I/O error, shutting down
		refuse(code)
		begun := make(chan error, 1)
		go func() { begun <- l.Begin(t.Context(), scope, newBill(fmt.Sprint("A", i), "f", i)) }()
		if reason := <-warned; !strings.Contains(reason, "refused") {
			t.Errorf("%s: warned %q", code, reason)
		}
		select {
		case err := <-begun:
			t.Fatalf("%s: Begin while the server refuses: %v", code, err)
		default:
		}
		server.Query(t, "ledger_1", "DROP TRIGGER refuse ON bills; DROP FUNCTION refuse")
		if err := <-begun; err != nil {
			t.Errorf("%s: Begin once the server takes it: %v", code, err)
		}
	}
	refuse("42501") // insufficient privilege
	if err := l.Begin(t.Context(), scope, newBill("B", "f", 9)); !errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("Begin without the right: %v, want ErrUnusable", err)
	}
	server.Query(t, "ledger_1", "DROP TRIGGER refuse ON bills; DROP FUNCTION refuse")
	if err := l.Record(t.Context(), ledger.Entry{Scope: scope, Bill: newBill("C", "f", 9)}); !errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("Record after a write that failed for good: %v, want ErrUnusable", err)
	}
}

// TestLoginRefused: a login that is refused is waited for by a ledger that was open before, and by
// no other. A database that takes no connections is waited for from the start.
func TestLoginRefused(t *testing.T) {
	server := pgtest.Start(t)
	relay, url := newRelay(t, server.Database(t))
	server.Query(t, "postgres", "CREATE ROLE clerk LOGIN SUPERUSER PASSWORD 'first'")
	url = strings.Replace(url, "billdrop:"+server.Password, "clerk:first", 1)
	warned := make(chan string, 10)
	o := postgres.Options{Warn: func(reason string) { warned <- reason }}
	l, err := postgres.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	joinShort(t, l, "a", time.Minute)
	query := func(sql string) func() { return func() { server.Query(t, "postgres", sql) } }
	for i, c := range []struct {
		refuse, admit func()
		code          string
		first         error // of Open meanwhile
	}{
		{query("ALTER ROLE clerk PASSWORD 'second'"), query("ALTER ROLE clerk PASSWORD 'first'"), "28P01", ledger.ErrUnusable},
		{query("ALTER ROLE clerk NOLOGIN"), query("ALTER ROLE clerk LOGIN"), "28000", ledger.ErrUnusable},
		{func() { relay.set(func() { relay.unknown = true }) }, func() { relay.set(func() { relay.unknown = false }) }, "XX000", ledger.ErrUnusable},
		{query("ALTER DATABASE ledger_1 ALLOW_CONNECTIONS false"), query("ALTER DATABASE ledger_1 ALLOW_CONNECTIONS true"), "55000", ledger.ErrUnreachable},
	} {
		c.refuse()
		server.Query(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'ledger_1'")
		begun := make(chan error, 1)
		go func() { begun <- l.Begin(t.Context(), scope, newBill(fmt.Sprint("A", i), "f", i)) }()
		for reason := ""; !strings.Contains(reason, c.code); {
			select {
			case reason = <-warned:
			case err := <-begun:
				t.Fatalf("%s: Begin while logins are refused: %v", c.code, err)
			}
		}
		patience := time.Minute
		if errors.Is(c.first, ledger.ErrUnreachable) {
			patience = 100 * time.Millisecond
		}
		if _, err := postgres.Open(t.Context(), url, postgres.Options{Patience: patience}); !errors.Is(err, c.first) {
			t.Errorf("%s: Open while logins are refused: %v, want %v", c.code, err, c.first)
		}
		c.admit()
		if err := <-begun; err != nil {
			t.Errorf("%s: Begin once they are not: %v", c.code, err)
		}
	}
}

// TestManyWorkers: workers that meet in every party create each once, and do not lock each
// other out.
func TestManyWorkers(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	const workers, senders, rows, parties = 4, 16, 300, 40
	handles := make([]*postgres.Ledger, workers)
	for w := range handles {
		handles[w] = open(t, url)
		t.Cleanup(func() { handles[w].Close() })
		joinShort(t, handles[w], fmt.Sprint("worker-", w), time.Minute)
	}
	if err := handles[0].AddFile(t.Context(), &ledger.File{ID: "f", Scope: scope, State: ledger.Sending}); err != nil {
		t.Fatal(err)
	}
	var created [parties]atomic.Int32
	var one [workers][parties]sync.Mutex // a worker has one row of a party at a time
	var wg sync.WaitGroup
	for w, l := range handles {
		for s := range senders {
			wg.Go(func() {
				for i := s; i < rows; i += senders {
					p := (i + w) % parties
					one[w][p].Lock()
					n, err := meet(t.Context(), l, w*rows+i, p)
					one[w][p].Unlock()
					if err != nil {
						t.Error(err)
						return
					}
					created[p].Add(int32(n))
				}
			})
		}
	}
	wg.Wait()
	for _, l := range handles {
		if err := l.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for p := range created {
		if n := created[p].Load(); n != 1 {
			t.Errorf("party %d was created %d times", p, n)
		}
	}
	if got, want := server.Query(t, "ledger_1", "SELECT count(*) FROM bill WHERE status = 'exists'"), fmt.Sprint(workers*rows); got != want {
		t.Errorf("%s bills, want %s", got, want)
	}
	if strings.Contains(server.Log(), "deadlock") {
		t.Error("workers locked each other out")
	}
}

// meet sends a row of a party that rows of other workers have, too, and returns how many parties it
// created.
func meet(ctx context.Context, l ledger.Ledger, row, party int) (created int, err error) {
	ref := ledger.PartyRef{Kind: ledger.Customer, Reference: fmt.Sprint("P", party)}
	b := newBill(fmt.Sprint("M", row), "f", row)
	for {
		known, err := l.Parties(ctx, scope, []ledger.PartyRef{ref})
		if err != nil {
			return 0, err
		}
		var leads []ledger.PartyRef
		if known[ref].ID == "" {
			leads = append(leads, ref)
		}
		switch err := l.Begin(ctx, scope, b, leads...); {
		case errors.Is(err, ledger.ErrTaken):
			time.Sleep(5 * time.Millisecond)
			continue
		case err != nil:
			return 0, err
		}
		created = len(leads)
		break
	}
	b.State, b.Send.Answer, b.Observed = ledger.Exists, "201", ledger.Observed{BillID: fmt.Sprint("bill_", row), CustomerID: fmt.Sprint("bcus_", party)}
	return created, l.Record(ctx, ledger.Entry{Scope: scope, Bill: b, File: "f", Parties: []ledger.Party{{PartyRef: ref, ID: b.Observed.CustomerID}},
		Outcome: &ledger.Outcome{Row: row, Reference: b.Reference, Status: ledger.Created, BillID: b.Observed.BillID}})
}

// TestPartition: a worker from which nothing gets through is lost, and others have its work.
// What it had on its way is refused when the network is back, and it may join anew.
func TestPartition(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	relay, through := newRelay(t, url)
	a, b := open(t, through), open(t, url)
	t.Cleanup(func() { a.Close() })
	t.Cleanup(func() { b.Close() })
	joinShort(t, a, "a", soonLost)
	joinShort(t, b, "b", time.Minute)
	if err := a.AddFile(t.Context(), &ledger.File{ID: "f", Scope: scope, State: ledger.Sending}); err != nil {
		t.Fatal(err)
	}
	if err := a.AddParts(t.Context(), "f", []ledger.Part{{To: 100}}); err != nil {
		t.Fatal(err)
	}
	if ok, err := a.AcquirePart(t.Context(), "f", 0); err != nil || !ok {
		t.Fatalf("AcquirePart: %v, %v", ok, err)
	}
	customer := ledger.PartyRef{Kind: ledger.Customer, Reference: "P"}
	if err := a.Begin(t.Context(), scope, newBill("led", "f", 1), customer); err != nil {
		t.Fatal(err)
	}

	relay.set(func() { relay.deaf = true })
	late := make(chan error, 1)
	go func() { late <- a.Begin(t.Context(), scope, newBill("late", "f", 2)) }()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if ok, err := b.AcquirePart(t.Context(), "f", 0); err != nil {
			t.Fatal(err)
		} else if ok {
			break
		}
		if a.Current() != nil {
			// By now it would not send any more. It is not lost before.
			if time.Now().After(deadline) {
				t.Fatal("the part of a worker that is cut off is not given to another")
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	if a.Current() == nil {
		t.Error("a worker that is lost goes on sending")
	}
	if err := b.Begin(t.Context(), scope, newBill("mine", "f", 3), customer); err != nil {
		t.Errorf("Begin with a party that a lost worker led: %v", err)
	}
	relay.set(func() { relay.deaf = false })
	if err := <-late; !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("Begin of a worker that was lost meanwhile: %v, want ErrFenced", err)
	}
	if bills, err := b.Bills(t.Context(), scope, []string{"late"}); err != nil || len(bills) != 0 {
		t.Errorf("bills %v, %v: a worker that is lost recorded a send", bills, err)
	}
	joined := time.Now()
	joinShort(t, a, "a", time.Minute)
	if err := a.Current(); err != nil && time.Since(joined) < 3*time.Second {
		t.Errorf("Current after a worker joined anew: %v", err)
	}
}

// TestFrozenInTransaction: a worker that stops within a transaction does not hold those up who
// take its work over.
func TestFrozenInTransaction(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	a, b := open(t, url), open(t, url)
	t.Cleanup(func() { a.Close() })
	t.Cleanup(func() { b.Close() })
	joinShort(t, a, "a", soonLost)
	joinShort(t, b, "b", time.Minute)
	if ok, err := a.Acquire(t.Context(), "x"); err != nil || !ok {
		t.Fatalf("Acquire: %v, %v", ok, err)
	}
	thaw := postgres.Freeze(a) // in the middle of a batch, with its locks
	began := time.Now()
	for {
		if ok, err := b.Acquire(t.Context(), "x"); err != nil {
			t.Fatal(err)
		} else if ok {
			break
		}
		if time.Since(began) > soonLost+10*time.Second {
			t.Fatal("the lease of a frozen worker is not given to another")
		}
		time.Sleep(20 * time.Millisecond)
	}
	thaw()
	err := a.Begin(t.Context(), scope, newBill("A", "f", 1))
	if err == nil {
		err = a.Flush(t.Context())
	}
	if !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("Begin of a worker that was frozen: %v, want ErrFenced", err)
	}
}
