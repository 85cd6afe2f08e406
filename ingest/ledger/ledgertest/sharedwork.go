package ledgertest

import (
	"testing"

	"billdrop/ingest/ledger"
)

// testLeases: a lease has one holder.
func testLeases(t *testing.T, r sharedRig) {
	a, b := r.worker(t, "a"), r.worker(t, "b")
	take(t, a, "x", true)
	take(t, a, "x", true)
	take(t, b, "x", false)
	take(t, b, "y", true)
	ok(t, "Release of another's lease", b.Release(t.Context(), "x"))
	ok(t, "Release of a lease that nobody has", b.Release(t.Context(), "z"))
	take(t, b, "x", false)
	ok(t, "Release", a.Release(t.Context(), "x"))
	take(t, b, "x", true)
	ok(t, "Leave", b.Leave(t.Context()))
	take(t, a, "x", true)
	take(t, a, "y", true)
}

// testParts: a part has one worker, until it is done.
func testParts(t *testing.T, r sharedRig) {
	a, b, out := r.worker(t, "a"), r.worker(t, "b"), r.outsider(t)
	add(t, a, newFile("f"))
	add(t, a, newFile("g"))
	parts := func(file string, want ...ledger.Part) {
		t.Helper()
		got, err := out.Parts(t.Context(), file)
		ok(t, "Parts", err)
		if len(got) != len(want) {
			t.Fatalf("parts of %s: %+v, want %+v", file, got, want)
		}
		for i := range want {
			same(t, "part", want[i], got[i])
		}
	}
	zero, one := ledger.Part{No: 0, From: 0, To: 5}, ledger.Part{No: 1, From: 5, To: 12}
	parts("f")
	ok(t, "AddParts", a.AddParts(t.Context(), "f", []ledger.Part{zero, one}))
	ok(t, "AddParts again, in another way", b.AddParts(t.Context(), "f", []ledger.Part{{No: 0, From: 0, To: 12}}))
	ok(t, "AddParts of another file", b.AddParts(t.Context(), "g", []ledger.Part{zero}))
	parts("f", zero, one)

	takePart(t, a, "f", 0, true)
	takePart(t, a, "f", 0, true)
	takePart(t, b, "f", 0, false)
	takePart(t, b, "f", 1, true)
	zero.Worker, one.Worker = "a", "b"
	parts("f", zero, one)

	// What is in another's hand is not given back.
	_ = b.ReleasePart(t.Context(), "f", 0, true, nil)
	parts("f", zero, one)

	failure := &ledger.PartFailure{Reason: "out of reach", Hint: "look at it", Setup: true}
	ok(t, "ReleasePart", a.ReleasePart(t.Context(), "f", 0, false, failure))
	zero.Worker, zero.Failure = "", failure
	parts("f", zero, one)
	ok(t, "ReleasePart", b.ReleasePart(t.Context(), "f", 1, true, nil))
	one.Worker, one.Done = "", true
	parts("f", zero, one)
	takePart(t, a, "f", 1, false)
	takePart(t, b, "f", 0, true)
	ok(t, "ReleasePart", b.ReleasePart(t.Context(), "f", 0, true, nil))
	zero.Done, zero.Failure = true, nil
	parts("f", zero, one)

	ok(t, "DropParts", a.DropParts(t.Context(), "f"))
	parts("f")
	parts("g", ledger.Part{To: 5})
	ok(t, "AddParts once they were dropped", a.AddParts(t.Context(), "f", []ledger.Part{{To: 3}}))
	parts("f", ledger.Part{To: 3})
}

// testOrders: the latest order on a file waits until it is withdrawn.
func testOrders(t *testing.T, r sharedRig) {
	worker, out := r.worker(t, "a"), r.outsider(t)
	for _, id := range []string{"f", "g"} {
		add(t, worker, newFile(id))
	}
	orders := func(file string, want ...string) {
		t.Helper()
		list, err := worker.Orders(t.Context(), file)
		ok(t, "Orders", err)
		var got []string
		for i, o := range list {
			got = append(got, o.Order+" "+o.File)
			if o.At.IsZero() || i > 0 && o.At.Before(list[i-1].At) {
				t.Errorf("order %d is of %v", i, o.At)
			}
		}
		same(t, "orders", want, got)
	}
	orders("")
	ok(t, "LeaveOrder", out.LeaveOrder(t.Context(), "f", "approve"))
	ok(t, "LeaveOrder", worker.LeaveOrder(t.Context(), "g", "retry"))
	orders("", "approve f", "retry g")
	ok(t, "LeaveOrder", out.LeaveOrder(t.Context(), "f", "reject"))
	orders("", "retry g", "reject f")
	orders("f", "reject f")
	list, err := worker.Orders(t.Context(), "g")
	ok(t, "Orders", err)
	remove := func(want bool) {
		t.Helper()
		there, err := worker.RemoveOrder(t.Context(), list[0])
		ok(t, "RemoveOrder", err)
		same(t, "it was there", want, there)
	}
	ok(t, "LeaveOrder", out.LeaveOrder(t.Context(), "g", "reject"))
	remove(false) // another one has its place
	orders("g", "reject g")
	list, err = worker.Orders(t.Context(), "g")
	ok(t, "Orders", err)
	remove(true)
	remove(false)
	orders("g")
	ok(t, "LeaveOrder", worker.LeaveOrder(t.Context(), "g", "retry"))
	ok(t, "WithdrawOrders", worker.WithdrawOrders(t.Context(), "f"))
	ok(t, "WithdrawOrders again", worker.WithdrawOrders(t.Context(), "f"))
	orders("f")
	orders("", "retry g")
}
