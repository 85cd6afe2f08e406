package emulator_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
)

// setup returns an API with a client of it, connected in memory.
func setup(t testing.TB, cfg emulator.Config) (*emulator.API, *client.Client) {
	t.Helper()
	api := emulator.New(cfg)
	pipes := api.ServePipes()
	t.Cleanup(pipes.Close)
	return api, connect(t, client.Config{BaseURL: "http://127.0.0.1:1", Timeout: 30 * time.Second, Dial: pipes.Dial})
}

func connect(t testing.TB, cfg client.Config) *client.Client {
	t.Helper()
	cfg.Key = key
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// nested is a bill of a new account of a new customer.
func nested(reference string) []byte {
	return client.EncodeBill(client.BillRequest{ExternalReference: reference, Currency: "ZAR", AmountDue: 100, Account: &client.AccountRef{
		New: &client.Account{ExternalReference: "A-" + reference, Customer: &client.CustomerRef{New: &client.Customer{ExternalReference: "C-" + reference}}}}})
}

// once is a script whose fault strikes the first request of each key, and of each GET.
func once(f emulator.Fault) func(emulator.Call) emulator.Fault {
	return func(c emulator.Call) emulator.Fault {
		if c.Nth == 1 || c.Nth == 0 && c.NthRef == 1 {
			return f
		}
		return emulator.Fault{}
	}
}

// TestFaults plays every fault on one bill: what the client makes of the first answer, of
// the same request sent again, and what there is then.
func TestFaults(t *testing.T) {
	for _, tc := range []struct {
		name                        string
		fault                       emulator.Fault
		first, second               string // labels
		bills, accounts, parties    int    // after the first
		billsInTheEnd, countedPosts int
	}{
		{"none", emulator.Fault{}, "201", "201 replayed", 1, 1, 1, 1, 2},
		{"500", emulator.Fault{Status: 500}, "500", "201", 0, 0, 0, 1, 2},
		{"500 kept", emulator.Fault{Status: 500, Store: true}, "500", "500 replayed", 0, 0, 0, 0, 2},
		{"500 applied", emulator.Fault{Status: 500, Apply: true}, "500", "201 replayed", 1, 1, 1, 1, 2},
		{"500 applied and kept", emulator.Fault{Status: 500, Apply: true, Store: true}, "500", "500 replayed", 1, 1, 1, 1, 2},
		{"502 with a page", emulator.Fault{Status: 502, Body: "<html>"}, "502", "201", 0, 0, 0, 1, 2},
		{"503", emulator.Fault{Status: 503, RetryAfter: "7"}, "503", "201", 0, 0, 0, 1, 2},
		{"429 is never kept", emulator.Fault{Status: 429, Store: true}, "429", "201", 0, 0, 0, 1, 2},
		{"401 is never kept", emulator.Fault{Status: 401, Store: true}, "401", "201", 0, 0, 0, 1, 2},
		{"422 kept", emulator.Fault{Status: 422, Store: true, Problem: emulator.Problem{Title: "No"}}, "422", "422 replayed", 0, 0, 0, 0, 2},
		{"409 made up", emulator.Fault{Status: 409, Problem: emulator.Problem{Title: "Reference taken"}}, "409 taken", "201", 0, 0, 0, 1, 2},
		{"stopped after the customer", emulator.Fault{StopAfter: emulator.StopCustomer}, "500", "409 taken", 0, 0, 1, 0, 2},
		{"stopped after the account", emulator.Fault{StopAfter: emulator.StopAccount}, "500", "409 taken", 0, 1, 1, 0, 2},
		{"stopped and kept", emulator.Fault{StopAfter: emulator.StopAccount, Store: true, Status: 503}, "503", "503 replayed", 0, 1, 1, 0, 2},
		{"dropped", emulator.Fault{Drop: true}, "connection lost", "201", 0, 0, 0, 1, 2},
		{"dropped after", emulator.Fault{Drop: true, Apply: true}, "connection lost", "201 replayed", 1, 1, 1, 1, 2},
		{"dropped in the middle", emulator.Fault{DropMid: true}, "201 unreadable", "201 replayed", 1, 1, 1, 1, 2},
		{"500 dropped in the middle", emulator.Fault{DropMid: true, Status: 500}, "500", "201", 0, 0, 0, 1, 2},
		{"422 dropped in the middle", emulator.Fault{DropMid: true, Status: 422}, "connection lost", "201", 0, 0, 0, 1, 2},
		{"about another", emulator.Fault{Reference: "B-9"}, "201 other reference", "201 replayed", 1, 1, 1, 1, 2},
		{"redirect", emulator.Fault{Redirect: "https://elsewhere.example/"}, "307", "201", 0, 0, 0, 1, 2},
		{"redirect 302", emulator.Fault{Redirect: "/x", Status: 302}, "302", "201", 0, 0, 0, 1, 2},
		{"garbage", emulator.Fault{Garbage: true}, "201 unreadable", "201", 0, 0, 0, 1, 2},
		{"garbage after", emulator.Fault{Garbage: true, Apply: true}, "201 unreadable", "201 replayed", 1, 1, 1, 1, 2},
		{"no content", emulator.Fault{Status: 204, Apply: true}, "204 unreadable", "201 replayed", 1, 1, 1, 1, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api, c := setup(t, emulator.Config{})
			api.Script(once(tc.fault))
			a := c.CreateBill(t.Context(), "k", "B-1", nested("B-1"))
			if a.Label() != tc.first {
				t.Fatalf("first: %s (%v)", a.Label(), a.Err)
			}
			if tc.fault.RetryAfter == "7" && a.RetryAfter != 7*time.Second {
				t.Errorf("retry after %v", a.RetryAfter)
			}
			if s := api.State(); len(s.Bills) != tc.bills || len(s.Accounts) != tc.accounts || len(s.Customers) != tc.parties {
				t.Errorf("after the first: %+v", s)
			}
			if b := c.CreateBill(t.Context(), "k", "B-1", nested("B-1")); b.Label() != tc.second {
				t.Errorf("second: %s (%v)", b.Label(), b.Err)
			}
			if n := len(api.Bills("B-1")); n != tc.billsInTheEnd {
				t.Errorf("%d bills in the end", n)
			}
			if s := api.State(); s.Posts != int64(tc.countedPosts) || (a.Status == 429) != (s.Throttled == 1) {
				t.Errorf("state %+v", s)
			}
		})
	}
}

// TestLookupFaults: GETs fail too, and prove nothing then.
func TestLookupFaults(t *testing.T) {
	for _, tc := range []struct {
		fault emulator.Fault
		label string
	}{
		{emulator.Fault{Status: 500}, "500"},
		{emulator.Fault{Status: 429}, "429"},
		{emulator.Fault{Drop: true}, "connection lost"},
		{emulator.Fault{DropMid: true}, "200 unreadable"},
		{emulator.Fault{Garbage: true}, "200 unreadable"},
		{emulator.Fault{Reference: "B-9"}, "200 other reference"},
		{emulator.Fault{Redirect: "/x"}, "307"},
	} {
		api, c := setup(t, emulator.Config{})
		if a := c.CreateBill(t.Context(), "k", "B-1", nested("B-1")); a.Kind != client.Created {
			t.Fatal(a.Label())
		}
		api.Script(once(tc.fault))
		if a := c.GetBill(t.Context(), "B-1"); a.Label() != tc.label {
			t.Errorf("%+v: %s (%v)", tc.fault, a.Label(), a.Err)
		}
	}
}

// TestCallNumbers: what a script sees.
func TestCallNumbers(t *testing.T) {
	api, c := setup(t, emulator.Config{})
	var seen []string
	api.Script(func(call emulator.Call) emulator.Fault {
		seen = append(seen, fmt.Sprintf("%s %s %s %s %d %d %t", call.Method, call.Path, call.Reference, call.Key, call.Nth, call.NthRef, len(call.Body) > 0))
		return emulator.Fault{}
	})
	ctx := t.Context()
	c.CreateBill(ctx, "k1", "B-1", nested("B-1"))
	c.CreateBill(ctx, "k1", "B-1", nested("B-1"))
	c.CreateBill(ctx, "k2", "B-1", nested("B-1"))
	c.CreateBill(ctx, "k3", "B-2", nested("B-2"))
	c.GetBill(ctx, "B-1")
	c.GetBill(ctx, "B-1")
	c.GetCustomer(ctx, "B-1")
	want := []string{
		"POST /billing/bills B-1 k1 1 1 true",
		"POST /billing/bills B-1 k1 2 2 true",
		"POST /billing/bills B-1 k2 1 3 true",
		"POST /billing/bills B-2 k3 1 1 true",
		"GET /billing/bills/B-1 B-1  0 1 false",
		"GET /billing/bills/B-1 B-1  0 2 false",
		"GET /billing/customers/B-1 B-1  0 1 false",
	}
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", seen, want)
	}
}

// TestRefusedConnection: nothing is sent to an API that cannot be connected to.
func TestRefusedConnection(t *testing.T) {
	api := emulator.New(emulator.Config{})
	pipes := api.ServePipes()
	t.Cleanup(pipes.Close)
	c := connect(t, client.Config{BaseURL: "http://127.0.0.1:1", Dial: pipes.Dial})
	pipes.Refuse(true)
	if a := c.CreateBill(t.Context(), "k", "B-1", nested("B-1")); a.Kind != client.NotSent {
		t.Errorf("%v (%v)", a.Kind, a.Err)
	}
	if s := api.State(); s.Posts != 0 || len(s.PostsByReference) != 0 {
		t.Errorf("state %+v", s)
	}
	pipes.Refuse(false)
	if a := c.CreateBill(t.Context(), "k", "B-1", nested("B-1")); a.Label() != "201" {
		t.Errorf("then %s", a.Label())
	}
}

// TestKeyOfAnotherRequest: same key, other body.
func TestKeyOfAnotherRequest(t *testing.T) {
	_, c := setup(t, emulator.Config{})
	c.CreateBill(t.Context(), "k", "B-1", nested("B-1"))
	if a := c.CreateBill(t.Context(), "k", "B-2", nested("B-2")); a.Label() != "422 key reused" {
		t.Error(a.Label())
	}
	if a := c.CreateBill(t.Context(), "k", "B-1", nested("B-1")); a.Label() != "201 replayed" {
		t.Error(a.Label())
	}
}

// TestKeyInFlight: while the first request runs, its key is answered 409; afterwards it
// is replayed.
func TestKeyInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := setup(t, emulator.Config{Latency: 10 * time.Second})
		start := time.Now()
		done := make(chan string)
		go func() { done <- c.CreateBill(t.Context(), "k", "B-1", nested("B-1")).Label() }()
		synctest.Wait()
		time.Sleep(time.Second) // of the bubble's clock
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if a := c.CreateBill(ctx, "k", "B-1", nested("B-1")); a.Label() != "timeout" { // a 409 takes its 10 s too
			t.Errorf("second: %s", a.Label())
		}
		second := make(chan string)
		go func() { second <- c.CreateBill(t.Context(), "k", "B-1", nested("B-1")).Label() }()
		if got := <-done; got != "201" || time.Since(start) != 10*time.Second {
			t.Errorf("first: %s after %v", got, time.Since(start))
		}
		if got := <-second; got != "409 in flight" {
			t.Errorf("third: %s", got)
		}
		if a := c.CreateBill(t.Context(), "k", "B-1", nested("B-1")); a.Label() != "201 replayed" {
			t.Errorf("last: %s", a.Label())
		}
	})
}

// TestLateWork: a client that gives up does not stop the server: the bill comes to be
// later.
func TestLateWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, c := setup(t, emulator.Config{})
		api.Script(once(emulator.Fault{Delay: 50 * time.Second}))
		start := time.Now()
		if a := c.CreateBill(t.Context(), "k", "B-1", nested("B-1")); a.Label() != "timeout" || time.Since(start) != 30*time.Second {
			t.Fatalf("%s after %v", a.Label(), time.Since(start))
		}
		if a := c.CreateBill(t.Context(), "k", "B-1", nested("B-1")); a.Label() != "409 in flight" {
			t.Errorf("sent again: %s", a.Label())
		}
		api.Script(nil)
		if a := c.GetBill(t.Context(), "B-1"); a.Kind != client.Absent {
			t.Errorf("after 30 s: %v", a.Kind)
		}
		time.Sleep(20*time.Second - 1)
		if n := len(api.Bills("B-1")); n != 0 {
			t.Errorf("%d bills before it is time", n)
		}
		time.Sleep(time.Nanosecond)
		if a := c.GetBill(t.Context(), "B-1"); a.Kind != client.Found {
			t.Errorf("after 50 s: %v", a.Kind)
		}
		if a := c.CreateBill(t.Context(), "k", "B-1", nested("B-1")); a.Label() != "201 replayed" {
			t.Errorf("sent again: %s", a.Label())
		}
	})
}

// TestHang: without an answer and without execution, or with.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, apply := range []bool{false, true} {
			api, c := setup(t, emulator.Config{})
			api.Script(once(emulator.Fault{Delay: 24 * time.Hour, Drop: true, Apply: apply}))
			if a := c.CreateBill(t.Context(), "k", "B-1", nested("B-1")); a.Label() != "timeout" {
				t.Errorf("%s", a.Label())
			}
			if n := len(api.Bills("B-1")); (n == 1) != apply {
				t.Errorf("%d bills, applied %v", n, apply)
			}
			a := c.CreateBill(t.Context(), "k", "B-1", nested("B-1"))
			if a.Kind != client.Created || a.Replayed != apply {
				t.Errorf("then %s", a.Label())
			}
		}
	})
}

// TestHangOverSockets: a client that goes away frees the server's goroutine, or closing
// the server would wait for it.
func TestHangOverSockets(t *testing.T) {
	api := emulator.New(emulator.Config{})
	s := httptest.NewServer(api)
	t.Cleanup(s.Close)
	c := connect(t, client.Config{BaseURL: s.URL})
	ctx, cancel := context.WithCancel(t.Context())
	api.Script(func(emulator.Call) emulator.Fault {
		cancel() // it has arrived
		return emulator.Fault{Delay: time.Hour}
	})
	if a := c.CreateBill(ctx, "k", "B-1", nested("B-1")); a.Kind != client.Lost || !errors.Is(a.Err, context.Canceled) {
		t.Errorf("%v (%v)", a.Kind, a.Err)
	}
}

// TestKeysExpire: 24 hours after its first use a key is new again.
func TestKeysExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, c := setup(t, emulator.Config{Weak: true, ExistingParty: emulator.Reuse})
		send := func() string { return c.CreateBill(t.Context(), "k", "B-1", nested("B-1")).Label() }
		for _, step := range []struct {
			after time.Duration
			label string
			bills int
		}{
			{0, "201", 1},
			{12 * time.Hour, "201 replayed", 1},
			{12*time.Hour - 1, "201 replayed", 1},
			{1, "201", 2},
			{24*time.Hour - 1, "201 replayed", 2},
			{1, "201", 3},
		} {
			time.Sleep(step.after)
			if got := send(); got != step.label || len(api.Bills("B-1")) != step.bills {
				t.Errorf("%+v: %s, %d bills", step, got, len(api.Bills("B-1")))
			}
		}
	})
}

// TestRateLimit: so many a second, and 429 for the rest, which leave nothing behind.
func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, c := setup(t, emulator.Config{RateLimit: 3})
		labels := make(map[string]int)
		for range 2 {
			for i := range 5 {
				a := c.CreateBill(t.Context(), fmt.Sprintf("k%d", i), fmt.Sprintf("B-%d", i), nested(fmt.Sprintf("B-%d", i)))
				labels[a.Label()]++
				if a.Status == 429 && a.RetryAfter != time.Second {
					t.Errorf("retry after %v", a.RetryAfter)
				}
			}
			time.Sleep(time.Second)
		}
		if s := api.State(); s.Throttled != 4 || s.Posts != 10 || labels["429"] != 4 || labels["201"] != 3 || labels["201 replayed"] != 3 || len(s.Bills) != 3 {
			t.Errorf("labels %v, state %+v", labels, s)
		}
	})
}

// TestFaultRate: the same seed gives the same faults to the same requests, in whatever
// order they come; another gives others; and the share is about what was asked for.
func TestFaultRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 400
		run := func(seed uint64, backwards bool) (labels [n]string, faults int) {
			_, c := setup(t, emulator.Config{FaultRate: 0.25, Seed: seed, Latency: time.Millisecond})
			for i := range n {
				if backwards {
					i = n - 1 - i
				}
				ref := fmt.Sprintf("B-%d", i)
				for range 3 {
					labels[i] += c.CreateBill(t.Context(), "key-"+ref, ref, nested(ref)).Label() + ", "
				}
				labels[i] += c.GetBill(t.Context(), ref).Label()
				if labels[i] != "201, 201 replayed, 201 replayed, 200" {
					faults++
				}
			}
			return labels, faults
		}
		one, faults := run(1, false)
		two, _ := run(1, true)
		other, _ := run(2, false)
		if one != two || one == other {
			t.Error("faults do not follow from the seed")
		}
		if faults < n/2 || faults > n*5/6 { // 1 - 0.75⁴ = 0.68; a drawn delay shows in no label
			t.Errorf("%d of %d bills met a fault", faults, n)
		}
	})
}

// BenchmarkPosts is the pace that a client can be measured against.
func BenchmarkPosts(b *testing.B) {
	_, c := setup(b, emulator.Config{})
	i := 0
	for b.Loop() {
		ref := fmt.Sprintf("B-%d", i)
		i++
		if a := c.CreateBill(b.Context(), "key-"+ref, ref, nested(ref)); a.Kind != client.Created {
			b.Fatal(a.Label())
		}
	}
}
