package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

// linkAPI is an API that makes every payment request, and takes its time.
type linkAPI struct {
	API
	takes func(reference string) time.Duration

	mu     sync.Mutex
	out    int // requests under way
	widest int
	bodies map[string][]string // by key
	unsafe func(key string) bool
	refuse func(n int) (client.Answer, bool) // may be nil; the answer to the nth request
	asked  int
	early  int // requests that unsafe complains of
}

func (a *linkAPI) CreatePaymentRequest(_ context.Context, key, reference string, body []byte) client.Answer {
	a.mu.Lock()
	a.out++
	a.widest = max(a.widest, a.out)
	a.bodies[key] = append(a.bodies[key], string(body))
	a.asked++
	refused, refuse := client.Answer{}, false
	if a.refuse != nil {
		refused, refuse = a.refuse(a.asked)
	}
	a.mu.Unlock()
	early := a.unsafe != nil && a.unsafe(reference)
	time.Sleep(a.takes(reference))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.out--
	if early {
		a.early++
	}
	if refuse {
		return refused
	}
	return client.Answer{Kind: client.Created, Status: 201, Date: time.Now(), PaymentRequest: &client.PaymentRequest{ID: "pr_" + reference, Link: "https://pay.example.com/" + reference}}
}

// slowLedger takes its time to record links, and counts the requests that are recorded and not
// settled.
type slowLedger struct {
	*ledgertest.Memory
	mu    sync.Mutex
	doubt map[string]bool
	most  int
	saves int
}

func (l *slowLedger) SaveLinks(ctx context.Context, s ledger.Scope, links []ledger.Link) error {
	time.Sleep(5 * time.Millisecond)
	l.mu.Lock()
	l.saves++
	for _, link := range links {
		delete(l.doubt, link.Reference)
		if link.State == ledger.LinkAsked {
			l.doubt[link.Reference] = true
		}
	}
	l.most = max(l.most, len(l.doubt))
	l.mu.Unlock()
	return l.Memory.SaveLinks(ctx, s, links)
}

func (l *slowLedger) asked(reference string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubt[reference]
}

// createdFile is a file whose bills were created.
func createdFile(t *testing.T, l ledger.Ledger, s ledger.Scope, references ...string) *ledger.File {
	t.Helper()
	f := &ledger.File{ID: "f", Name: "a.csv", Scope: s, State: ledger.Sending}
	if err := l.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	for i, ref := range references {
		o := &ledger.Outcome{Row: i + 1, Line: i + 2, Reference: ref, Status: ledger.Created, BillID: "bill_" + ref, Currency: "ZAR", Amount: 1000}
		if err := l.Record(t.Context(), ledger.Entry{Scope: s, File: f.ID, Outcome: o}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// Links keep all senders busy, also where some answers are slow and the ledger takes its time.
// Every request is recorded before it is sent, commits are shared, and few requests are in
// doubt at a time.
func TestPresentKeepsSendersBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rows, senders = 20_000, 64
		s := ledger.Scope{Merchant: "acme", Mode: "test"}
		led := &slowLedger{Memory: ledgertest.NewMemory(), doubt: make(map[string]bool)}
		var ideal time.Duration
		takes, random := make(map[string]time.Duration), rand.New(rand.NewPCG(1, 2))
		references := make([]string, rows)
		for i := range references {
			ref := fmt.Sprintf("INV-%05d", i)
			d := 45*time.Millisecond + time.Duration(random.IntN(10_000))*time.Microsecond
			if i%1000 == 500 && i < rows*8/10 { // the last one must not end last
				d = 2 * time.Second
			}
			references[i], takes[ref] = ref, d
			ideal += d / senders
		}
		api := &linkAPI{takes: func(ref string) time.Duration { return takes[ref] }, bodies: make(map[string][]string), unsafe: func(ref string) bool { return !led.asked(ref) }}
		policy := testPolicy()
		policy.Concurrency = senders
		f := createdFile(t, led, s, references...)
		began := time.Now()
		missing, err := NewLane(s, api, policy).Present(t.Context(), led, f, Presenting{Expires: 720 * time.Hour, Zone: time.UTC})
		took := time.Since(began)
		if err != nil || missing > 0 || len(api.bodies) != rows {
			t.Fatalf("%d missing of %d asked for, %v", missing, len(api.bodies), err)
		}
		if took > ideal*102/100+100*time.Millisecond {
			t.Errorf("it took %v; with all senders busy it is %v", took, ideal)
		}
		if api.widest != senders || api.early > 0 {
			t.Errorf("%d requests at a time, %d before they were recorded", api.widest, api.early)
		}
		if led.most > 4*linkBatch || led.saves > rows/20 {
			t.Errorf("%d requests in doubt, %d commits", led.most, led.saves)
		}
		t.Logf("%v, ideal %v; %d in doubt at most, %d commits", took, ideal, led.most, led.saves)
		if f, err = led.File(t.Context(), f.ID); err != nil || f.LinkPosts != rows || f.LinkRetries != 0 {
			t.Errorf("counted %d and %d, %v", f.LinkPosts, f.LinkRetries, err)
		}
	})
}

// A soft stop in the middle of links: nothing more is sent, what is out is awaited and
// recorded, no row gets a code, and the next run makes the rest: one request a bill.
func TestPresentStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rows = 2000
		s := ledger.Scope{Merchant: "acme", Mode: "test"}
		led := &slowLedger{Memory: ledgertest.NewMemory(), doubt: make(map[string]bool)}
		references := make([]string, rows)
		for i := range references {
			references[i] = fmt.Sprint("INV-", i)
		}
		api := &linkAPI{takes: func(string) time.Duration { return 50 * time.Millisecond }, bodies: make(map[string][]string)}
		f := createdFile(t, led, s, references...)
		how := Presenting{Expires: time.Hour, Zone: time.UTC}
		why := errors.New("stopped by the operator")
		ctx, stop := context.WithCancelCause(t.Context())
		atStop := 0
		time.AfterFunc(3*time.Second+time.Millisecond, func() {
			api.mu.Lock()
			defer api.mu.Unlock()
			atStop = len(api.bodies)
			stop(why)
		})
		if _, err := NewLane(s, api, testPolicy()).Present(ctx, led, f, how); !errors.Is(err, why) {
			t.Fatalf("stopped: %v", err)
		}
		if len(api.bodies) != atStop || atStop == 0 || atStop == rows {
			t.Errorf("%d links were asked for, %d when it was stopped", len(api.bodies), atStop)
		}
		links, err := led.Links(t.Context(), s, references)
		if err != nil {
			t.Fatal(err)
		}
		made := 0
		for ref, link := range links {
			switch {
			case link.State == ledger.LinkMade:
				made++
			case link.State != ledger.LinkNone || !link.KeyFirstUsed.IsZero():
				t.Errorf("%s: %+v", ref, link)
			}
		}
		outcomes, err := led.Outcomes(t.Context(), f.ID, 1, rows)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outcomes {
			if o.Code != "" {
				t.Errorf("%s: %s", o.Reference, o.Code)
			}
		}
		if f, err = led.File(t.Context(), f.ID); err != nil || f.LinkPosts != atStop || made != atStop {
			t.Errorf("%d made, %d counted, of %d that were asked for; %v", made, f.LinkPosts, atStop, err)
		}
		missing, err := NewLane(s, api, testPolicy()).Present(t.Context(), led, f, how)
		if err != nil || missing > 0 || len(api.bodies) != rows {
			t.Fatalf("%d missing of %d asked for, %v", missing, len(api.bodies), err)
		}
		for key, bodies := range api.bodies {
			if len(bodies) > 1 {
				t.Errorf("key %s: %d requests", key, len(bodies))
			}
		}
	})
}

// Links keep to the rate limit, and after a 429 all of them pause.
func TestPresentRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rows, limit = 600, 50
		s := ledger.Scope{Merchant: "acme", Mode: "test"}
		led := &slowLedger{Memory: ledgertest.NewMemory(), doubt: make(map[string]bool)}
		references := make([]string, rows)
		for i := range references {
			references[i] = fmt.Sprint("INV-", i)
		}
		var at []time.Time
		var paused time.Time
		api := &linkAPI{bodies: make(map[string][]string), takes: func(string) time.Duration { return 50 * time.Millisecond }}
		api.refuse = func(n int) (client.Answer, bool) {
			at = append(at, time.Now())
			if n != rows/2 {
				return client.Answer{}, false
			}
			paused = time.Now()
			return client.Answer{Kind: client.Throttled, Status: 429, RetryAfter: 20 * time.Second}, true
		}
		policy := testPolicy()
		policy.RateLimit = limit
		f := createdFile(t, led, s, references...)
		missing, err := NewLane(s, api, policy).Present(t.Context(), led, f, Presenting{Expires: time.Hour, Zone: time.UTC})
		if err != nil || missing > 0 || len(at) != rows+1 {
			t.Fatalf("%d missing of %d asked for, %v", missing, len(at), err)
		}
		for i := range at {
			if i >= limit && at[i].Sub(at[i-limit]) < time.Second {
				t.Errorf("request %d leaves %v after the %dth before it", i, at[i].Sub(at[i-limit]), limit)
			}
			// What was out when the answer came is not held back.
			if d := at[i].Sub(paused); d > 100*time.Millisecond && d < 20*time.Second {
				t.Errorf("request %d leaves %v after a 429 that asked for 20 s", i, d)
			}
		}
		if f, err = led.File(t.Context(), f.ID); err != nil || f.LinkPosts != rows+1 || f.LinkRetries != 1 || f.Throttled != 1 {
			t.Errorf("counted %+v, %v", f, err)
		}
	})
}

// Two rows of a file with one reference have one payment request: one key, one body.
func TestPresentTwoRowsOfABill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ledger.Scope{Merchant: "acme", Mode: "test"}
		led := &slowLedger{Memory: ledgertest.NewMemory(), doubt: make(map[string]bool)}
		references := []string{"A"}
		for i := range 2 * linkPage {
			references = append(references, fmt.Sprint("INV-", i))
		}
		references = append(references, "A")
		api := &linkAPI{takes: func(ref string) time.Duration {
			if ref == "A" {
				return 20 * time.Second // long after its second row was read
			}
			return time.Millisecond
		}, bodies: make(map[string][]string)}
		missing, err := NewLane(s, api, testPolicy()).Present(t.Context(), led, createdFile(t, led, s, references...), Presenting{Expires: time.Hour, Zone: time.UTC})
		if err != nil || missing > 0 || len(api.bodies) != len(references)-1 {
			t.Fatalf("%d missing of %d asked for, %v", missing, len(api.bodies), err)
		}
		for key, bodies := range api.bodies {
			if len(bodies) > 1 {
				t.Errorf("key %s: %d requests", key, len(bodies))
			}
		}
	})
}
