package ledgertest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"billdrop/ingest/ledger"
)

// testRevisions: a bill is begun only as it was read.
func testRevisions(t *testing.T, r sharedRig) {
	a, b := r.worker(t, "a"), r.worker(t, "b")
	add(t, a, newFile("f"))
	add(t, b, newFile("g"))

	mine, theirs := newBill("A", "f", 1), newBill("A", "g", 1)
	begin(t, a, mine)
	if mine.Revision == 0 {
		t.Error("Begin set no revision")
	}
	refused(t, "Begin of a bill that was unknown when it was read", b.Begin(t.Context(), scope, theirs), ledger.ErrTaken)
	same(t, "bill after a refused Begin", mine, bill(t, b, "A"))

	begun := mine.Revision
	answer := answered(mine)
	record(t, a, ledger.Entry{Scope: scope, Bill: answer})
	if answer.Revision == begun {
		t.Error("Record set no revision")
	}
	if got := bill(t, a, "A").Revision; got != answer.Revision {
		t.Errorf("the bill is read as revision %d, and was recorded as %d", got, answer.Revision)
	}
	ok(t, "Flush", a.Flush(t.Context()))
	theirs.Revision = begun
	refused(t, "Begin of a bill that was recorded since it was read", b.Begin(t.Context(), scope, theirs), ledger.ErrTaken)
	same(t, "bill after a refused Begin", answer, bill(t, b, "A"))

	theirs.Revision = bill(t, b, "A").Revision
	begin(t, b, theirs)
	same(t, "bill that was read, and begun", theirs, bill(t, a, "A"))
	elsewhere := ledger.Scope{Merchant: "other", Mode: "test"}
	ok(t, "Begin in another scope", a.Begin(t.Context(), elsewhere, newBill("A", "f", 2)))
}

// testHeld: a bill whose send is in another's hand is waited for.
func testHeld(t *testing.T, r sharedRig) {
	a, b := r.worker(t, "a"), r.worker(t, "b")
	divided(t, a, "f", 10)
	sent := newBill("sent", "f", 1)
	begin(t, a, sent)
	begin(t, a, newBill("not in a part of its own", "f", 7))

	held := func(l ledger.Shared, reference string, want bool) {
		t.Helper()
		if got := bill(t, l, reference); got == nil || got.Held != want {
			t.Errorf("bill %s is %+v, want held %v", reference, got, want)
		}
	}
	held(b, "sent", true)
	held(a, "sent", false)
	held(b, "not in a part of its own", false)
	held(r.outsider(t), "sent", true)
	again := bill(t, b, "sent")
	again.Send.File, again.Send.Row = "another", 1
	refused(t, "Begin of a bill in another's hand", b.Begin(t.Context(), scope, again), ledger.ErrTaken)

	record(t, a, ledger.Entry{Scope: scope, Bill: answered(sent)})
	ok(t, "Flush", a.Flush(t.Context()))
	held(b, "sent", false)

	second := newBill("second", "f", 2)
	begin(t, a, second)
	held(b, "second", true)
	ok(t, "ReleasePart", a.ReleasePart(t.Context(), "f", 0, false, nil))
	held(b, "second", false)
	again = bill(t, b, "second")
	again.Send.Count = 2
	begin(t, b, again)
}

// testLeads: a party has one leader, and a send gets all its leads or none.
func testLeads(t *testing.T, r sharedRig) {
	a, b := r.worker(t, "a"), r.worker(t, "b")
	divided(t, a, "f", 10)
	takePart(t, b, "f", 1, true)
	customer, account := ledger.PartyRef{Kind: ledger.Customer, Reference: "P"}, ledger.PartyRef{Kind: ledger.Account, Reference: "P"}
	other := ledger.PartyRef{Kind: ledger.Customer, Reference: "Q"}

	ok(t, "Begin with a lead", a.Begin(t.Context(), scope, newBill("A", "f", 1), customer))
	ok(t, "Begin with the account of the same reference", b.Begin(t.Context(), scope, newBill("B", "f", 6), account))
	refused(t, "Begin with a party that another leads", b.Begin(t.Context(), scope, newBill("C", "f", 7), other, customer), ledger.ErrTaken)
	if bill(t, a, "C") != nil {
		t.Error("the bill of a refused Begin is recorded")
	}
	ok(t, "Begin with a lead that was refused to another", a.Begin(t.Context(), scope, newBill("D", "f", 2), other))
	ok(t, "Begin in another scope", b.Begin(t.Context(), ledger.Scope{Merchant: "other", Mode: "test"}, newBill("C", "f", 7), customer))
	ok(t, "Begin without leads", b.Begin(t.Context(), scope, newBill("E", "f", 8)))
	ok(t, "Begin with a lead of its own", a.Begin(t.Context(), scope, newBill("F", "f", 3), customer))
}

// testLeadsEnd: a party is free again once it is recorded, its leader's row has its outcome, or
// the part is no longer in the leader's hand. One that is recorded needs no leader.
func testLeadsEnd(t *testing.T, r sharedRig) {
	a, b := r.worker(t, "a"), r.worker(t, "b")
	divided(t, a, "f", 20)
	takePart(t, b, "f", 1, true)
	lead := func(l ledger.Shared, row int, ref ledger.PartyRef) (*ledger.Bill, error) {
		sent := newBill(fmt.Sprintf("%s-%d", ref.Reference, row), "f", row)
		return sent, l.Begin(t.Context(), scope, sent, ref)
	}
	ref := func(reference string) ledger.PartyRef {
		return ledger.PartyRef{Kind: ledger.Customer, Reference: reference}
	}

	sent, err := lead(a, 1, ref("recorded"))
	ok(t, "Begin", err)
	ok(t, "Record", recordNow(t, a, ledger.Entry{Scope: scope, Bill: answered(sent), Parties: []ledger.Party{{PartyRef: ref("recorded"), ID: "bcus_1"}}}))
	refused(t, "Begin with a party that was recorded since it was read", errOf(lead(b, 11, ref("recorded"))), ledger.ErrTaken)

	sent, err = lead(a, 2, ref("refused"))
	ok(t, "Begin", err)
	refused(t, "Begin with a party that another leads", errOf(lead(b, 12, ref("refused"))), ledger.ErrTaken)
	sent.State, sent.Send.Answer = ledger.Gone, "422"
	ok(t, "Record", recordNow(t, a, ledger.Entry{Scope: scope, Bill: sent, File: "f",
		Outcome: &ledger.Outcome{Row: 2, Line: 3, Reference: sent.Reference, Status: ledger.Rejected}}))
	ok(t, "Begin once the leader's row has its outcome", errOf(lead(b, 12, ref("refused"))))

	ok(t, "Begin", errOf(lead(a, 3, ref("released"))))
	ok(t, "ReleasePart", a.ReleasePart(t.Context(), "f", 0, false, nil))
	ok(t, "Begin once the leader's part is released", errOf(lead(b, 13, ref("released"))))

	c := r.mortal(t, "c")
	takePart(t, c, "f", 0, true)
	ok(t, "Begin", errOf(lead(c, 4, ref("lost"))))
	r.lose(t, c, "c", b)
	ok(t, "Begin once the leader is lost", errOf(lead(b, 14, ref("lost"))))
}

// testContest: of all that want the same at the same time, one gets it.
func testContest(t *testing.T, r sharedRig) {
	const workers, bills = 3, 20
	var begun, led, held [bills]atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		l := r.worker(t, fmt.Sprint("worker-", w))
		file := fmt.Sprint("f", w)
		add(t, l, newFile(file))
		ok(t, "AddParts", l.AddParts(t.Context(), file, []ledger.Part{{To: 1000}}))
		takePart(t, l, file, 0, true)
		wg.Go(func() {
			for i := range bills {
				count := func(n *atomic.Int32, err error) {
					if err == nil {
						n.Add(1)
					} else if !errors.Is(err, ledger.ErrTaken) {
						t.Errorf("Begin: %v", err)
					}
				}
				count(&begun[i], l.Begin(t.Context(), scope, newBill(fmt.Sprint("bill-", i), file, i)))
				party := ledger.PartyRef{Kind: ledger.Account, Reference: fmt.Sprint("party-", i)}
				count(&led[i], l.Begin(t.Context(), scope, newBill(fmt.Sprintf("leader-%d-%d", w, i), file, 100+i), party))
				got, err := l.Acquire(t.Context(), fmt.Sprint("lease-", i))
				if err != nil {
					t.Errorf("Acquire: %v", err)
				}
				if got {
					held[i].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for i := range bills {
		if begun[i].Load() != 1 || led[i].Load() != 1 || held[i].Load() != 1 {
			t.Errorf("bill, party and lease %d: %d, %d and %d workers got it, want one each", i, begun[i].Load(), led[i].Load(), held[i].Load())
		}
	}
}

// testSharedFiles: a file is saved only as it was read.
func testSharedFiles(t *testing.T, r sharedRig) {
	a, b := r.worker(t, "a"), r.worker(t, "b")
	f := newFile("f")
	f.Machine = "host of a"
	add(t, a, f)
	theirs := readFile(t, b, "f")
	same(t, "file as another reads it", f, theirs)

	f.State = ledger.Claimed
	ok(t, "SaveFile", a.SaveFile(t.Context(), f))
	theirs.State = ledger.Dropped
	refused(t, "SaveFile of a file that was saved since it was read", b.SaveFile(t.Context(), theirs), ledger.ErrChanged)
	f.State = ledger.Spooled
	ok(t, "SaveFile again", a.SaveFile(t.Context(), f))
	read, err := b.Files(t.Context(), ledger.Query{})
	ok(t, "Files", err)
	same(t, "files after a refused SaveFile", []*ledger.File{f}, read)

	ok(t, "Record", recordNow(t, a, ledger.Entry{File: "f", Gets: 3}))
	read[0].State = ledger.Sending
	ok(t, "SaveFile after its counters changed", b.SaveFile(t.Context(), read[0]))
	if got := readFile(t, a, "f"); got.Gets != 3 || got.State != ledger.Sending {
		t.Errorf("file %+v", got)
	}
}

// testReserve: all workers together keep to the rate.
func testReserve(t *testing.T, r sharedRig) {
	const workers, calls, n, perSecond = 3, 6, 5, 100
	const taken = workers * calls * n * time.Second / perSecond
	places := make(chan time.Duration, workers*calls*n)
	handles := make([]ledger.Shared, workers)
	for w := range handles {
		handles[w] = r.worker(t, fmt.Sprint("worker-", w))
	}
	start := time.Now()
	var wg sync.WaitGroup
	for _, l := range handles {
		wg.Go(func() {
			for range calls {
				in, err := l.Reserve(t.Context(), scope, perSecond, n)
				if err != nil || in < 0 || in > taken {
					t.Errorf("Reserve: in %v, %v; all places take %v", in, err, taken)
					return
				}
				first := time.Since(start) + in
				for i := range n {
					places <- first + time.Duration(i)*time.Second/perSecond
				}
			}
		})
	}
	wg.Wait()
	close(places)
	var all []time.Duration
	for p := range places {
		all = append(all, p)
	}
	for _, p := range all {
		before := 0
		for _, o := range all {
			if o <= p {
				before++
			}
		}
		if at := time.Duration(before-1) * time.Second / perSecond; p < at-time.Millisecond {
			t.Fatalf("%d places within %v, at %d a second", before, p, perSecond)
		}
	}
	if in, err := handles[0].Reserve(t.Context(), ledger.Scope{Merchant: "other", Mode: "test"}, perSecond, 1); err != nil || in > 100*time.Millisecond {
		t.Errorf("Reserve in another scope: %v, %v", in, err)
	}
}

// testPause: a pause is everybody's within a second, and ends by itself.
func testPause(t *testing.T, r sharedRig) {
	a, b := r.worker(t, "a"), r.worker(t, "b")
	const long, shorter = time.Minute, time.Millisecond
	began := time.Now()
	ok(t, "Pause", a.Pause(t.Context(), scope, long))
	paused := time.Now()
	ok(t, "a shorter Pause", b.Pause(t.Context(), scope, shorter))
	for name, l := range map[string]ledger.Shared{"its own": a, "the other": b} {
		// The other worker's own pause is at most the shorter one: more is what the first began.
		eventually(t, time.Second, name+" worker is paused", func() bool { return l.Paused(scope) > shorter })
		eventually(t, time.Second, name+" worker is paused for as long as that", func() bool {
			most := long - time.Since(paused) + time.Second
			left := l.Paused(scope)
			if least := long - time.Since(began) - time.Second; left < least {
				t.Fatalf("%s worker is paused for %v, %v after a pause of %v", name, left, time.Since(began), long)
			}
			return left <= most
		})
		if left := l.Paused(ledger.Scope{Merchant: "other", Mode: "test"}); left != 0 {
			t.Errorf("another scope is paused for %v", left)
		}
	}

	const d = 2 * time.Second
	brief := ledger.Scope{Merchant: "brief", Mode: "test"}
	began = time.Now()
	ok(t, "Pause", a.Pause(t.Context(), brief, d))
	over := func() bool { return time.Since(began) >= d }
	eventually(t, time.Second, "both workers are paused", func() bool { return a.Paused(brief) > 0 && b.Paused(brief) > 0 || over() })
	eventually(t, d+2*time.Second, "the pause ends", func() bool { return a.Paused(brief) == 0 && b.Paused(brief) == 0 })
	if since := time.Since(began); since < d {
		t.Errorf("a pause of %v ended after %v", d, since)
	}
}
