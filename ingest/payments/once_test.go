package payments

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
)

var errCrash = errors.New("the process is killed here")

// crashing is a store that dies at its nth call: before or after it has taken place.
type crashing struct {
	ledger.Payments
	left  *int
	after bool
}

// do runs a call, unless the process is dead by then.
func (c *crashing) do(call func() error) error {
	*c.left--
	switch {
	case *c.left < 0:
		return errCrash
	case *c.left == 0 && !c.after:
		return errCrash
	}
	err := call()
	if *c.left == 0 && err == nil {
		return errCrash
	}
	return err
}

func (c *crashing) BeginReport(ctx context.Context, s ledger.Scope, r ledger.PaymentReport) error {
	return c.do(func() error { return c.Payments.BeginReport(ctx, s, r) })
}

func (c *crashing) Settle(ctx context.Context, s ledger.Scope, name string, p []ledger.Payment, a []ledger.BillAccount) error {
	return c.do(func() error { return c.Payments.Settle(ctx, s, name, p, a) })
}

func (c *crashing) ComposedReport(ctx context.Context, s ledger.Scope, name, sum string, rows int) error {
	return c.do(func() error { return c.Payments.ComposedReport(ctx, s, name, sum, rows) })
}

func (c *crashing) PublishedReport(ctx context.Context, s ledger.Scope, name string, at time.Time) error {
	return c.do(func() error { return c.Payments.PublishedReport(ctx, s, name, at) })
}

func (c *crashing) DropReport(ctx context.Context, s ledger.Scope, name string) error {
	return c.do(func() error { return c.Payments.DropReport(ctx, s, name) })
}

func (c *crashing) AddPartyBills(ctx context.Context, s ledger.Scope, b []ledger.PartyBill, file, mark string) error {
	return c.do(func() error { return c.Payments.AddPartyBills(ctx, s, b, file, mark) })
}

// TestEachOnce kills the reporter at every durable step, before and after it, and at the
// publication, while payments keep coming. Every payment is in exactly one report, matched as
// without a crash, and a report that was seen keeps its bytes.
func TestEachOnce(t *testing.T) {
	points := 0
	for n := 1; ; n++ {
		crashed := false
		for _, kind := range []string{"before", "after"} {
			t.Run(fmt.Sprintf("%s step %d", kind, n), func(t *testing.T) {
				w := newWorld(t)
				w.bill("B-1", "A-1", "", false)
				w.bill("B-2", "A-1", "", false)
				w.done()
				var sent, want []string
				pay := func(ref string, amount int64, as string) {
					sent = append(sent, w.pay(ref, amount, as))
					want = append(want, as+":"+ref)
				}
				for i := range 6 { // more than a page
					if i%2 == 0 {
						pay("B-1", 1, emulator.AsBill)
					} else {
						pay("B-2", 1, emulator.AsBill)
					}
				}
				pay("B-1", 30, emulator.AsAccount)
				left := n
				if left > 1 { // the publication counts as a step
					w.place.fail = func(op string) error {
						if op != "publish" {
							return nil
						}
						left--
						switch {
						case left < 0, left == 0 && kind == "before":
							return errCrash
						case left == 0:
							return errCut
						}
						return nil
					}
				}
				r := w.reporter()
				r.Store = &crashing{w.store, &left, kind == "after"}
				_, err := r.Publish(t.Context(), w.place, time.Now())
				crashed = crashed || err != nil
				seen := maps.Clone(w.place.files)
				w.place.fail = nil
				pay("B-2", 7, emulator.AsAccount) // in the meantime
				if err := w.store.Close(); err != nil {
					t.Fatal(err)
				}
				w.open()
				w.report()
				w.report()
				for name, text := range seen {
					if w.place.files[name] != text {
						t.Errorf("%s was changed", name)
					}
				}
				all := w.place.all(t)
				if !slices.Equal(all, sent) {
					t.Errorf("%d payments, %d in reports: %v", len(sent), len(all), all[max(0, len(all)-5):])
				}
				var got []string
				for _, name := range slices.Sorted(maps.Keys(w.place.files)) {
					for _, l := range w.place.lines(t, name) {
						got = append(got, l["matched_by"]+":"+l["bill_reference"])
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("matched otherwise: %v", got[max(0, len(got)-5):])
				}
			})
		}
		if !crashed {
			break
		}
		points++
	}
	if points < 6 {
		t.Errorf("only %d steps were cut", points)
	}
}

// A server that is out of reach delays a report, and loses nothing.
func TestServerOutOfReach(t *testing.T) {
	w := newWorld(t)
	w.bill("B-1", "A-1", "", false)
	w.done()
	first := w.pay("B-1", 1, emulator.AsBill)
	down := errors.New("no route to host")
	for _, op := range []string{"reported", "digest", "publish"} {
		w.place.fail = func(o string) error {
			if o == op {
				return down
			}
			return nil
		}
		if _, err := w.reporter().Publish(t.Context(), w.place, time.Now()); !errors.Is(err, down) {
			t.Fatalf("%s: %v", op, err)
		}
	}
	second := w.pay("B-1", 2, emulator.AsBill)
	w.place.fail = nil
	for range 2 {
		w.report()
	}
	if all := w.place.all(t); !slices.Equal(all, []string{first, second}) || len(w.place.files) != 2 {
		t.Errorf("reports %v have %v", slices.Sorted(maps.Keys(w.place.files)), all)
	}
}

// An API that gives no answer delays a report too.
func TestAPIOutOfReach(t *testing.T) {
	w := newWorld(t)
	w.bill("B-1", "A-1", "", false)
	w.done()
	w.pay("B-1", 1, emulator.AsBill)
	w.api.Script(func(c emulator.Call) emulator.Fault { return emulator.Fault{Status: 500} })
	if _, err := w.reporter().Publish(t.Context(), w.place, time.Now()); err == nil || len(w.place.files) > 0 {
		t.Fatalf("published %v, %v", w.place.files, err)
	}
	w.api.Script(nil)
	if got := matched(w.report()); got != "bill_id:B-1" {
		t.Errorf("once it answers: %s", got)
	}
}

// Two reports in one second have two names, and one that another program has put there is left
// alone.
func TestNames(t *testing.T) {
	w := newWorld(t)
	w.bill("B-1", "A-1", "", false)
	w.done()
	at := time.Date(2026, 11, 26, 6, 0, 0, 0, time.UTC)
	w.place.files["payments-acme-20261126T060000Z-2.csv"] = "something else"
	for i, want := range []string{"payments-acme-20261126T060000Z.csv", "payments-acme-20261126T060000Z-3.csv"} {
		w.pay("B-1", 1, emulator.AsBill)
		r := w.reporter()
		r.Every = Schedule{every: time.Nanosecond}
		published, err := r.Publish(t.Context(), w.place, at.Add(time.Duration(i)*time.Millisecond))
		if err != nil || len(published) != 1 || published[0].Name != want {
			t.Errorf("%v, %v, want %s", published, err, want)
		}
	}
	if w.place.files["payments-acme-20261126T060000Z-2.csv"] != "something else" {
		t.Error("another program's file was changed")
	}
}

// A report that says otherwise than what is recorded is never overwritten.
func TestForeignReport(t *testing.T) {
	w := newWorld(t)
	w.bill("B-1", "A-1", "", false)
	w.done()
	w.pay("B-1", 1, emulator.AsBill)
	w.place.fail = func(op string) error {
		if op == "publish" {
			return errors.New("full")
		}
		return nil
	}
	at := time.Now()
	if _, err := w.reporter().Publish(t.Context(), w.place, at); err == nil {
		t.Fatal("it should have failed")
	}
	w.place.fail = nil
	name := "payments-acme-" + at.UTC().Format("20060102T150405Z") + ".csv"
	w.place.files[name] = "something else"
	_, err := w.reporter().Publish(t.Context(), w.place, at)
	var own *Error
	if !errors.As(err, &own) || own.Advice() == "" || w.place.files[name] != "something else" {
		t.Errorf("%v, %v", err, w.place.files)
	}
}

func TestSchedule(t *testing.T) {
	joburg, err := time.LoadLocation("Africa/Johannesburg")
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time {
		if s == "" {
			return time.Time{}
		}
		v, err := time.ParseInLocation("2006-01-02 15:04:05", s, joburg)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		every, now, last, oldest string
		due                      bool
	}{
		{"1h", "2026-11-26 10:00:00", "", "2026-11-26 09:59:59", true},
		{"1h", "2026-11-26 10:00:00", "2026-11-26 09:00:00", "2026-11-26 09:30:00", true},
		{"1h", "2026-11-26 09:59:59", "2026-11-26 09:00:00", "2026-11-26 09:30:00", false},
		{"1h", "2026-11-26 09:00:00", "2026-12-26 09:00:00", "2026-11-26 08:30:00", true}, // the clock was set back
		{"daily 06:00", "2026-11-26 06:00:00", "", "2026-11-26 05:59:00", true},
		{"daily 06:00", "2026-11-26 05:59:59", "", "2026-11-25 06:01:00", false},
		{"daily 06:00", "2026-11-26 05:59:59", "", "2026-11-25 05:00:00", true},
		{"daily 06:00", "2026-11-26 07:00:00", "", "2026-11-26 06:30:00", false},
		{"daily 06:00", "2026-11-26 06:00:00", "2026-11-25 06:00:01", "2026-11-25 06:30:00", true},
		{"daily 06:00", "2026-11-26 23:00:00", "2026-11-26 06:00:01", "2026-11-26 07:00:00", false},
		{"daily 06:00", "2026-11-29 23:00:00", "2026-11-26 06:00:01", "2026-11-26 07:00:00", true},
	} {
		s, err := ParseSchedule(c.every, joburg)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.due(at(c.now).UTC(), at(c.last), at(c.oldest)); got != c.due {
			t.Errorf("%+v: %v", c, got)
		}
	}
	for _, s := range []string{"", "0s", "999ms", "-1h", "daily", "daily 6:00", "daily 24:00", "weekly 06:00", "hourly"} {
		if _, err := ParseSchedule(s, joburg); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
