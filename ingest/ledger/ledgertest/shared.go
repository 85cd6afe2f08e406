package ledgertest

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/ingest/ledger"
)

// SharedEngine is one way to keep a ledger that several workers share.
type SharedEngine struct {
	// New makes an empty ledger, and returns what opens a handle of it, whose calls wait for
	// patience while the engine is out of reach. The suite closes the handles.
	New func(t *testing.T) (open func(t *testing.T, patience time.Duration) ledger.Shared)
	// LostAfter is that of the workers which the suite loses. It waits for it some ten times.
	LostAfter time.Duration
	// Virtual: the engine runs within a bubble of testing/synctest, so that no time is waited for.
	Virtual bool
	// Silence keeps a worker's heartbeats from the engine until resume is called. Its other calls
	// get through.
	Silence func(l ledger.Shared) (resume func())
	// Cut keeps every call from the engine until heal is called; nil = tested beside the engine.
	Cut func(l ledger.Shared) (heal func())
	// LoseAnswer has the handle's next commit take effect and its answer get lost; nil = tested
	// beside the engine.
	LoseAnswer func(l ledger.Shared)
}

// RunShared runs the suite of what ledger.Shared promises beyond ledger.Ledger against e.
func RunShared(t *testing.T, e SharedEngine) {
	type test struct {
		name string
		run  func(*testing.T, sharedRig)
	}
	tests := []test{
		{"Join", testJoin},
		{"Outsider", testOutsider},
		{"Formats", testFormats},
		{"Current", testCurrent},
		{"Fence", testFence},
		{"TakeOver", testTakeOver},
		{"Revisions", testRevisions},
		{"Held", testHeld},
		{"Leads", testLeads},
		{"LeadsEnd", testLeadsEnd},
		{"StaleRecord", testStaleRecord},
		{"SharedFiles", testSharedFiles},
		{"Leases", testLeases},
		{"Parts", testParts},
		{"Orders", testOrders},
		{"Reserve", testReserve},
		{"Pause", testPause},
		{"Contest", testContest},
	}
	if e.Cut != nil {
		tests = append(tests, test{"Cut", testCut})
	}
	if e.LoseAnswer != nil {
		tests = append(tests, test{"LostAnswer", testLostAnswer})
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			run := func(t *testing.T) { c.run(t, sharedRig{e, e.New(t)}) }
			if e.Virtual {
				synctest.Test(t, run)
			} else {
				run(t)
			}
		})
	}
}

// sharedRig is one empty ledger of an engine.
type sharedRig struct {
	SharedEngine
	open func(t *testing.T, patience time.Duration) ledger.Shared
}

// outsider opens a handle that has not joined.
func (r sharedRig) outsider(t *testing.T) ledger.Shared { return r.impatient(t, time.Minute) }

func (r sharedRig) impatient(t *testing.T, patience time.Duration) ledger.Shared {
	t.Helper()
	l := r.open(t, patience)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

// worker opens a handle and joins.
func (r sharedRig) worker(t *testing.T, name string) ledger.Shared {
	t.Helper()
	l := r.outsider(t)
	r.join(t, l, name)
	return l
}

// mortal is worker for one that the test loses.
func (r sharedRig) mortal(t *testing.T, name string) ledger.Shared {
	t.Helper()
	l := r.outsider(t)
	m := r.member(name)
	m.LostAfter = r.LostAfter
	ok(t, "Join", l.Join(t.Context(), m))
	return l
}

func (r sharedRig) join(t *testing.T, l ledger.Shared, name string) {
	t.Helper()
	if err := l.Join(t.Context(), r.member(name)); err != nil {
		t.Fatalf("Join(%s): %v", name, err)
	}
}

// member is one that is not lost while the test's machine is busy with something else.
func (r sharedRig) member(name string) ledger.Member {
	return ledger.Member{Name: name, Machine: "host of " + name, Role: "run", LostAfter: time.Minute}
}

// lose has a mortal worker unheard of until it is lost.
func (r sharedRig) lose(t *testing.T, l ledger.Shared, name string, watch ledger.Shared) {
	t.Helper()
	t.Cleanup(r.Silence(l))
	eventually(t, r.LostAfter+10*time.Second, "worker "+name+" is lost", func() bool { return !lives(t, watch, name) })
}

// lives reports whether a worker is among the live ones.
func lives(t *testing.T, l ledger.Shared, name string) bool {
	t.Helper()
	_, live := heard(t, l, name)
	return live
}

// heard is when a live worker was heard of last.
func heard(t *testing.T, l ledger.Shared, name string) (at time.Time, live bool) {
	t.Helper()
	list, err := l.Workers(t.Context())
	if err != nil {
		t.Fatalf("Workers: %v", err)
	}
	for _, c := range list {
		if c.Name == name {
			return c.HeardAt, true
		}
	}
	return time.Time{}, false
}

// eventually waits until cond returns true, and fails t if it does not within d. Time in which
// a busy machine kept the test from looking counts as one look: what is waited for was kept,
// too.
func eventually(t *testing.T, d time.Duration, what string, cond func() bool) {
	t.Helper()
	const pause = 20 * time.Millisecond
	var waited time.Duration
	for began := time.Now(); !cond(); began = time.Now() {
		if waited > d {
			t.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(pause)
		waited += min(time.Since(began), 2*pause)
	}
}

// divided records a file of so many rows in two parts, and has a worker take the first.
func divided(t *testing.T, l ledger.Shared, file string, rows int) {
	t.Helper()
	add(t, l, newFile(file))
	ok(t, "AddParts", l.AddParts(t.Context(), file, []ledger.Part{{No: 0, From: 0, To: rows / 2}, {No: 1, From: rows / 2, To: rows}}))
	takePart(t, l, file, 0, true)
}

// takePart checks whether a worker gets a part.
func takePart(t *testing.T, l ledger.Shared, file string, no int, want bool) {
	t.Helper()
	if got, err := l.AcquirePart(t.Context(), file, no); err != nil || got != want {
		t.Fatalf("AcquirePart(%s, %d) = %v, %v; want %v", file, no, got, err, want)
	}
}

// take checks whether a worker gets a lease.
func take(t *testing.T, l ledger.Shared, lease string, want bool) {
	t.Helper()
	if got, err := l.Acquire(t.Context(), lease); err != nil || got != want {
		t.Fatalf("Acquire(%s) = %v, %v; want %v", lease, got, err, want)
	}
}

// testJoin: a name is one live worker's.
func testJoin(t *testing.T, r sharedRig) {
	a, b := r.outsider(t), r.outsider(t)
	m := r.member("a")
	m.Formats = map[string]map[string]string{"bills": {}, "accounts": {}}
	m.InFlight = func() int { return 7 }
	ok(t, "Join", a.Join(t.Context(), m))
	refused(t, "Join under the name of a live worker", b.Join(t.Context(), r.member("a")), ledger.ErrNameTaken)
	r.join(t, b, "b")

	eventually(t, 5*time.Second, "a heartbeat tells what is in flight", func() bool {
		list, err := b.Workers(t.Context())
		ok(t, "Workers", err)
		if len(list) != 2 || list[0].Name != "a" || list[1].Name != "b" || list[0].Machine != "host of a" || list[0].Role != "run" {
			t.Fatalf("workers %+v", list)
		}
		if fmt.Sprint(list[0].Feeds) != "[accounts bills]" || list[0].Since.IsZero() || list[0].HeardAt.Before(list[0].Since) {
			t.Fatalf("worker %+v", list[0])
		}
		return list[0].InFlight == 7
	})

	ok(t, "Leave", a.Leave(t.Context()))
	if lives(t, b, "a") {
		t.Error("a worker that left is still there")
	}
	ok(t, "Leave", b.Leave(t.Context()))
	r.join(t, b, "a") // another handle, the same name
}

// testOutsider: who has not joined reads, and changes files that rest.
func testOutsider(t *testing.T, r sharedRig) {
	out := r.outsider(t)
	refused(t, "Current", out.Current(), ledger.ErrFenced)
	worker := r.worker(t, "a")
	f := newFile("f")
	f.State, f.Machine = ledger.Held, "host of a"
	add(t, worker, f)

	read := readFile(t, out, "f")
	same(t, "file as others see it", f, read)
	read.Approved = true
	ok(t, "SaveFile of a file that rests", out.SaveFile(t.Context(), read))
	seen := readFile(t, worker, "f")
	same(t, "file as an outsider saved it", read, seen)

	refused(t, "Begin", out.Begin(t.Context(), scope, newBill("A", "f", 1)), ledger.ErrFenced)
	refused(t, "Record", recordNow(t, out, ledger.Entry{File: "f", Gets: 1}), ledger.ErrFenced)
	refused(t, "Acquire", errOf(out.Acquire(t.Context(), "lease")), ledger.ErrFenced)
	if bill(t, worker, "A") != nil {
		t.Error("a bill that an outsider began is recorded")
	}
}

// recordNow records e and waits until it is durable.
func recordNow(t *testing.T, l ledger.Shared, e ledger.Entry) error {
	t.Helper()
	if err := l.Record(t.Context(), e); err != nil {
		return err
	}
	return l.Flush(t.Context())
}

// testFormats: workers that are alive at the same time read a feed's files the same way.
func testFormats(t *testing.T, r sharedRig) {
	join := func(l ledger.Shared, name string, formats map[string]map[string]string) error {
		m := r.member(name)
		m.Formats = formats
		return l.Join(t.Context(), m)
	}
	a, b := r.outsider(t), r.outsider(t)
	ok(t, "Join", join(a, "a", map[string]map[string]string{"bills": {"amounts": "minor", "currency": "ZAR", "delimiter": ","}}))

	err := join(b, "b", map[string]map[string]string{"other": {"amounts": "major"}, "bills": {"amounts": "major", "currency": "ZAR", "encoding": "utf-8"}})
	var differ *ledger.FormatsDiffer
	if !errors.As(err, &differ) {
		t.Fatalf("Join with another format: %v, want FormatsDiffer", err)
	}
	same(t, "what differs", &ledger.FormatsDiffer{Feed: "bills", Worker: "a", Keys: []string{"amounts", "delimiter", "encoding"}}, differ)
	if lives(t, a, "b") {
		t.Error("a worker that was refused is among the live ones")
	}

	ok(t, "Join with other feeds", join(b, "b", map[string]map[string]string{"other": {"amounts": "major"}}))
	ok(t, "Leave", a.Leave(t.Context()))
	ok(t, "Leave", b.Leave(t.Context()))
	ok(t, "Join once the other has left", join(b, "b", map[string]map[string]string{"bills": {"amounts": "major"}}))
}
