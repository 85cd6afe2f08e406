package ledgertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"billdrop/ingest/ledger"
)

// testCurrent: a worker that is not heard of stops by itself, long before it is lost.
func testCurrent(t *testing.T, r sharedRig) {
	watch := r.outsider(t)
	joined := time.Now()
	l := r.worker(t, "a")
	current(t, "Current after Join", l, joined, freshFor)
	resume := r.goStale(t, l, "a", watch, freshFor)
	resume()
	eventually(t, 5*time.Second, "Current is good again", func() bool { return l.Current() == nil })

	l = r.mortal(t, "b")
	resume = r.goStale(t, l, "b", watch, min(freshFor, r.LostAfter/2))
	eventually(t, r.LostAfter+10*time.Second, "worker b is lost", func() bool { return !lives(t, watch, "b") })
	if err := l.Current(); err == nil {
		t.Error("Current of a lost worker is good")
	}
	resume()
	eventually(t, 5*time.Second, "a lost worker learns it", func() bool { return errors.Is(l.Current(), ledger.ErrFenced) })
	joined = time.Now()
	r.join(t, l, "b")
	current(t, "Current after it joined anew", l, joined, freshFor)
	ok(t, "Leave", l.Leave(t.Context()))
	if l.Current() == nil {
		t.Error("Current is good after Leave")
	}
}

// freshFor is how long Current relies on a heartbeat at most.
const freshFor = 3 * time.Second

// current checks that Current is good while the latest heartbeat, which began after since, is
// fresh.
func current(t *testing.T, what string, l ledger.Shared, since time.Time, fresh time.Duration) {
	t.Helper()
	if err := l.Current(); err != nil && time.Since(since) < fresh {
		t.Errorf("%s: %v", what, err)
	}
}

// goStale has a worker unheard of until Current says so. It must before the worker is lost, and as
// soon as its latest heartbeat is not fresh any more.
func (r sharedRig) goStale(t *testing.T, l ledger.Shared, name string, watch ledger.Shared, fresh time.Duration) (resume func()) {
	t.Helper()
	resume = r.Silence(l)
	t.Cleanup(resume)
	for silent := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		lost, age := !lives(t, watch, name), time.Since(silent)
		if l.Current() != nil {
			return resume
		}
		if lost {
			t.Fatalf("worker %s is lost, and its Current is good", name)
		}
		if age >= fresh {
			t.Fatalf("Current of worker %s is good %v after its latest heartbeat, want less than %v", name, age, fresh)
		}
	}
}

// testFence: a worker that was lost can write nothing.
func testFence(t *testing.T, r sharedRig) {
	l, other := r.mortal(t, "a"), r.worker(t, "b")
	divided(t, l, "f", 10)
	pending := newBill("begun", "f", 1)
	begin(t, l, pending)
	f := readFile(t, l, "f")
	r.lose(t, l, "a", other)

	changed := *f
	changed.State = ledger.Sending
	entry := ledger.Entry{Scope: scope, Bill: answered(pending), File: "f", Outcome: created(answered(pending)), Gets: 1}
	for name, call := range map[string]func(context.Context) error{
		"Begin":       func(ctx context.Context) error { return l.Begin(ctx, scope, newBill("new", "f", 2)) },
		"Record":      func(context.Context) error { return recordNow(t, l, entry) },
		"SaveFile":    func(ctx context.Context) error { return l.SaveFile(ctx, &changed) },
		"AddFile":     func(ctx context.Context) error { return l.AddFile(ctx, newFile("g")) },
		"Acquire":     func(ctx context.Context) error { _, err := l.Acquire(ctx, "lease"); return err },
		"AddParts":    func(ctx context.Context) error { return l.AddParts(ctx, "f", []ledger.Part{{To: 10}}) },
		"AcquirePart": func(ctx context.Context) error { _, err := l.AcquirePart(ctx, "f", 1); return err },
		"ReleasePart": func(ctx context.Context) error { return l.ReleasePart(ctx, "f", 0, true, nil) },
		"DropParts":   func(ctx context.Context) error { return l.DropParts(ctx, "f") },
	} {
		refused(t, name+" of a lost worker", call(t.Context()), ledger.ErrFenced)
	}

	if bill(t, other, "new") != nil {
		t.Error("a bill that a lost worker began is recorded")
	}
	same(t, "bill that a lost worker recorded", pending, bill(t, other, "begun"))
	if got := outcomes(t, other, "f", 1, 10); len(got) != 0 {
		t.Errorf("outcomes that a lost worker recorded: %+v", got)
	}
	read := readFile(t, other, "f")
	same(t, "file that a lost worker saved", f, read)
	take(t, other, "lease", true)
	takePart(t, other, "f", 0, true)
	takePart(t, other, "f", 1, true)

	r.Silence(l)()
	r.join(t, l, "a")
	add(t, l, newFile("f2"))
	begin(t, l, newBill("new", "f2", 2))
}

// testTakeOver: what a lost worker had is another's, and not before it is lost.
func testTakeOver(t *testing.T, r sharedRig) {
	a, b := r.mortal(t, "a"), r.worker(t, "b")
	take(t, a, "lease", true)
	divided(t, a, "f", 10)
	sent := newBill("sent", "f", 1)
	begin(t, a, sent)
	latest, live := heard(t, b, "a")
	if !live {
		t.Fatal("a worker is lost that is heard of")
	}
	t.Cleanup(r.Silence(a))
	eventually(t, r.LostAfter+10*time.Second, "a worker that is unheard of is lost", func() bool {
		at, live := heard(t, b, "a")
		if !live {
			return true
		}
		latest = at
		got, err := b.Acquire(t.Context(), "lease")
		ok(t, "Acquire", err)
		if got && lives(t, b, "a") {
			t.Fatal("the lease of a live worker was given to another")
		}
		return false
	})
	if after := time.Since(latest); after < r.LostAfter {
		t.Errorf("a worker is lost %v after it was heard of, want %v", after, r.LostAfter)
	}
	take(t, b, "lease", true)
	takePart(t, b, "f", 0, true)
	found := bill(t, b, "sent")
	same(t, "bill of a lost worker", sent, found)
	if found.Held || !found.InDoubt() {
		t.Errorf("bill of a lost worker: held %v, in doubt %v; want only in doubt", found.Held, found.InDoubt())
	}
	found.Send.Count, found.Send.At = 2, found.Send.At.Add(time.Second)
	begin(t, b, found)
}

// testStaleRecord: only the worker that began a send last changes its bill.
func testStaleRecord(t *testing.T, r sharedRig) {
	a, b := r.worker(t, "a"), r.worker(t, "b")
	divided(t, a, "f", 10)
	sent := newBill("sent", "f", 1)
	begin(t, a, sent)
	ok(t, "ReleasePart", a.ReleasePart(t.Context(), "f", 0, false, &ledger.PartFailure{Reason: "stopped"}))

	takePart(t, b, "f", 0, true)
	again := bill(t, b, "sent")
	again.Send.Count, again.Send.At = 2, again.Send.At.Add(time.Second)
	begin(t, b, again)
	stale := answered(sent)
	if err := recordNow(t, a, ledger.Entry{Scope: scope, Bill: stale, File: "f", Gets: 1}); err != nil && !errors.Is(err, ledger.ErrTaken) {
		t.Errorf("a late Record: %v, want none or ErrTaken", err)
	}
	same(t, "bill after a late Record of another worker", again, bill(t, b, "sent"))

	// Its own answer counts.
	ok(t, "Record", recordNow(t, b, ledger.Entry{Scope: scope, Bill: answered(again)}))
	same(t, "bill after its answer", answered(again), bill(t, a, "sent"))
}

// testCut: while the engine is out of reach calls wait, and go on by themselves.
func testCut(t *testing.T, r sharedRig) {
	a := r.worker(t, "a")
	hasty := r.impatient(t, 500*time.Millisecond)
	r.join(t, hasty, "hasty")
	heal := r.Cut(hasty)
	err := hasty.Begin(t.Context(), scope, newBill("A", "f", 1))
	refused(t, "Begin while cut off", err, ledger.ErrUnreachable)
	if errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("Begin while cut off: %v, which is not ErrUnusable", err)
	}
	_, err = hasty.Bills(t.Context(), scope, []string{"A"})
	refused(t, "Bills while cut off", err, ledger.ErrUnreachable)
	heal()

	heal = r.Cut(a)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	refused(t, "Begin until its context ends", a.Begin(ctx, scope, newBill("C", "f", 3)), context.DeadlineExceeded)
	done := make(chan error, 1)
	go func() { done <- a.Begin(t.Context(), scope, newBill("B", "f", 2)) }()
	select {
	case err := <-done:
		t.Fatalf("Begin while cut off returned %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	heal()
	ok(t, "Begin once the engine is back", <-done)
	if bill(t, a, "B") == nil {
		t.Error("the bill is not recorded")
	}
}

// testLostAnswer: a write whose commit was not confirmed is done once.
func testLostAnswer(t *testing.T, r sharedRig) {
	a := r.worker(t, "a")
	f := newFile("f")
	r.LoseAnswer(a)
	ok(t, "AddFile", a.AddFile(t.Context(), f))
	f.State = ledger.Sending
	r.LoseAnswer(a)
	ok(t, "SaveFile", a.SaveFile(t.Context(), f))
	f.State = ledger.Settled
	ok(t, "SaveFile after it", a.SaveFile(t.Context(), f))

	b := newBill("A", "f", 1)
	r.LoseAnswer(a)
	ok(t, "Begin", a.Begin(t.Context(), scope, b))
	same(t, "bill", b, bill(t, a, "A"))
	b = answered(b)
	r.LoseAnswer(a)
	ok(t, "Record", recordNow(t, a, ledger.Entry{Scope: scope, Bill: b, File: "f", Outcome: created(b), Gets: 2}))
	same(t, "bill after its answer", b, bill(t, a, "A"))
	read := readFile(t, a, "f")
	if read.Gets != 2 {
		t.Errorf("%d look-ups counted, want 2", read.Gets)
	}
	h, err := a.History(t.Context(), scope, "A")
	ok(t, "History", err)
	if len(h.Attempts) != 1 {
		t.Errorf("attempts %+v, want one", h.Attempts)
	}
}
