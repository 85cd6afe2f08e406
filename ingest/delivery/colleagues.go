package delivery

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"sync"
	"time"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// Where several workers share a ledger, it decides who may send a bill, and who may create a
// party: Begin is ErrTaken for all others. They wait and read again what the ledger holds. So a
// clean run has one POST a bill and no look-up, however many workers there are.

const (
	// colleagueMin and colleagueMax bound the wait before the ledger is read again for a row that
	// a colleague is at work on.
	colleagueMin = 50 * time.Millisecond
	colleagueMax = 500 * time.Millisecond
	// currentPoll is how often a worker that is not certain to be a live one looks whether it is.
	currentPoll = 100 * time.Millisecond
)

// share takes a ledger that other workers may use too; any other ledger changes nothing.
func (g *gate) share(led ledger.Ledger, s ledger.Scope) {
	shared, ok := led.(ledger.Shared)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shared, g.scope = shared, s
}

// member is a worker that sends through a gate.
type member struct {
	gate   *gate
	shared ledger.Shared // the ledger, if other workers use it too; else nil
}

func newMember(g *gate, led ledger.Ledger) member {
	shared, _ := led.(ledger.Shared)
	return member{g, shared}
}

// acquire is gate.acquire for a worker. It returns at the last moment before a request leaves,
// and not as long as this worker may be taken for lost.
func (m *member) acquire(ctx context.Context) (ticket, error) {
	for {
		t, err := m.gate.acquire(ctx)
		if err != nil || m.shared == nil {
			return t, err
		}
		if err = m.shared.Current(); err == nil {
			return t, nil
		}
		m.gate.cancel(t)
		if errors.Is(err, ledger.ErrFenced) {
			return ticket{}, err
		}
		if err := m.gate.sleep(ctx, currentPoll); err != nil {
			return ticket{}, err
		}
	}
}

// certain reports whether this worker is not taken for lost by others.
func (m *member) certain() bool { return m.shared == nil || m.shared.Current() == nil }

// maxRecorded returns how many rows may be recorded as about to be sent. Where others share
// the ledger, they are few: if this worker is lost, other rows of their parties go on at once,
// and a body that nests such a party is no longer of use.
func (f *fanout) maxRecorded() int {
	if f.shared != nil {
		return max(64, 2*f.lane.policy.Concurrency)
	}
	return max(minRecorded, 4*f.lane.policy.Concurrency)
}

// since is when a party that a send of this file created counts as first recorded. The clocks
// of workers differ, so on a ledger that they share it is a time that is the file's own, right
// after the file was begun: it shows which file created the party.
func (f *fanout) since() time.Time {
	if f.shared == nil {
		return f.lane.Now()
	}
	h := fnv.New32a()
	io.WriteString(h, f.file.ID)
	return f.file.Started.Truncate(time.Microsecond).Add(time.Duration(1+h.Sum32()%1_000_000) * time.Microsecond)
}

// knownBefore reports whether a party was known before the file.
func (f *fanout) knownBefore(p ledger.Party) bool {
	if f.shared == nil {
		return !p.Since.After(f.file.Started)
	}
	return !p.Since.Equal(f.since())
}

// idleAfter is how long no row may be sent for a delivery to be idle.
const idleAfter = time.Second

// watchIdle calls Idle of recs, if it is an Idler, when the rows of a delivery only wait, from when
// all are read until stop is called.
func (f *fanout) watchIdle(recs Records) (stop func()) {
	idler, ok := recs.(Idler)
	if !ok {
		return func() {}
	}
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		ticker := time.NewTicker(idleAfter / 4)
		defer ticker.Stop()
		for quiet := 0; quiet < 4; {
			select {
			case <-ticker.C:
			case <-ended:
				return
			}
			if quiet++; f.sending.Load() > 0 {
				quiet = 0
			}
		}
		idler.Idle()
	})
	return func() {
		close(ended)
		watch.Wait()
	}
}

// InFlight returns how many requests are out.
func (l *Lane) InFlight() int {
	l.mu.Lock()
	gates := []*gate{l.gate, l.links}
	l.mu.Unlock()
	n := 0
	for _, g := range gates {
		if g != nil {
			g.mu.Lock()
			n += g.inFlight
			g.mu.Unlock()
		}
	}
	return n
}

// taken is how a row waits for colleagues. The zero value is ready.
type taken struct {
	since time.Time     // when the wait began
	wait  time.Duration // the latest one
}

// leads returns the parties that a body of this form would create, as far as is known.
func (d *delivery) leads(form ledger.Form) []ledger.PartyRef {
	if d.shared == nil || !form.Nested() {
		return nil
	}
	return d.lane.parties.unknown(d.lease, form)
}

// unknown returns the parties that a body of this form nests and that are not known yet.
func (p *parties) unknown(l *lease, form ledger.Form) []ledger.PartyRef {
	p.mu.Lock()
	defer p.mu.Unlock()
	var refs []ledger.PartyRef
	for _, e := range l.leads(route{Do: routeSend, Form: form}) {
		refs = append(refs, e.ref)
	}
	return refs
}

// beginAnew waits a little for the colleague that is at work on the row's bill or on its parties,
// and decides anew how to begin.
func (d *delivery) beginAnew(ctx context.Context) (decision, error) {
	d.last, d.silence, d.partiesReady = client.Answer{}, nil, nil
	if err := d.pauseForColleague(ctx); err != nil {
		return decision{}, err
	}
	return d.begin(ctx)
}

// awaitColleague waits until no colleague has the row's bill in hand.
func (d *delivery) awaitColleague(ctx context.Context) error {
	for d.rec != nil && d.rec.Held {
		d.lane.parties.handOver(d.lease) // other rows of the party need not wait
		if err := d.pauseForColleague(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pauseForColleague waits, longer each time, and reads again what the ledger holds of the row. A
// wait that outlasts every outage, and every look-up after it, ends the run.
func (d *delivery) pauseForColleague(ctx context.Context) error {
	d.park()
	d.setup.working(-1) // it waits for another row, so it cannot tell anything
	defer d.setup.working(1)
	if d.taken.wait == 0 {
		d.taken = taken{since: time.Now(), wait: colleagueMin / 2}
	}
	p := &d.lane.policy
	if waited := time.Since(d.taken.since); waited > 2*p.GiveUpAfter+p.Timeout+p.LookupSettle {
		d.gate.close(&Stop{Reason: fmt.Sprintf("another worker has had bill %s, or its parties, in hand for %s", d.bill.Reference, waited.Round(time.Second)),
			Hint: "see what holds it up: billdrop status"})
		return d.gate.err()
	}
	d.taken.wait = min(2*d.taken.wait, colleagueMax)
	if err := d.gate.sleep(ctx, d.taken.wait); err != nil {
		return err
	}
	if err := d.reload(ctx); err != nil {
		return err
	}
	return d.reloadParties(ctx)
}

// reloadParties reads the row's parties again, and lets other rows of theirs go on if something
// was learnt.
func (d *delivery) reloadParties(ctx context.Context) error {
	p := d.lane.parties
	before := p.known(d.lease)
	var refs []ledger.PartyRef
	for _, e := range d.lease.named() {
		refs = append(refs, e.ref)
	}
	known, err := d.ledger.Parties(ctx, d.lane.scope, refs)
	if err != nil {
		return d.broken(err)
	}
	p.load(refs, known, d.knownBefore)
	if p.known(d.lease) != before {
		p.handOver(d.lease)
	}
	return nil
}
