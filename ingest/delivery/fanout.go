package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

const (
	// chunkRows are read, and looked up in the ledger, at a time.
	chunkRows = 256
	// maxActive bounds the rows of one file that are active, which bounds memory.
	maxActive = 4 * chunkRows
	// maxWaiting bounds the rows that wait: for their party, for another row with their
	// reference, for a look-up, or before a re-send. It is twice maxActive, so that a slow
	// party or a struggling API does not hold up other rows. A row takes some 10 KiB, its
	// stack included.
	maxWaiting = 2 * maxActive
	// minRecorded rows may be recorded as about to be sent, however few senders there are. A
	// fast API takes about as many while one batch of them gathers and is committed.
	minRecorded = 1024
)

// fanout is the delivery of one file's rows.
type fanout struct {
	lane     *Lane
	ledger   ledger.Ledger
	file     *ledger.File
	onStatus func(ledger.Status) // called for each row that gets its outcome; may be nil
	member
	setup *setupCheck
	// recorded bounds the rows that are recorded as about to be sent. There are enough of them
	// to share commits and to keep all senders busy, and few enough that a crash leaves few
	// rows in doubt.
	recorded *semaphore.Weighted
	active   *semaphore.Weighted // of maxActive
	admitted *semaphore.Weighted // of maxActive + maxWaiting
	// resumed: outcomes of this file were recorded by an earlier run, or before a retry.
	resumed bool
	sending atomic.Int32 // rows that are being sent, or are about to be
	// settling: nothing is sent any more; see Settle.
	settling bool
	// recordCtx is the run's context without its end. Under it answers are recorded, and
	// requests in flight awaited, whatever stops the run.
	recordCtx context.Context
}

// Records yields the records of a file, or of a part of it, in order, then io.EOF.
// *billfile.Decoder implements it. If it is an Idler as well, it is told when all rows are read and
// those without an outcome only wait.
type Records interface {
	Next() (*billfile.Record, error)
}

// Idler is told that a delivery has room for other rows: what is left of it waits for look-ups
// or for other workers. Idle is called at most once, and must not block.
type Idler interface{ Idle() }

// Deliver takes every row of recs that has no outcome yet to its outcome. When it returns nil,
// all outcomes are durable.
//
// Cancelling ctx is the soft stop: nothing new is sent, requests in flight are awaited and
// their answers recorded, and ctx's cause is returned. A run that had to stop returns a *Stop.
// onStatus, if not nil, is called with the status of each row that gets its outcome. Calls are
// concurrent and must not block.
func (l *Lane) Deliver(ctx context.Context, led ledger.Ledger, f *ledger.File, recs Records, onStatus func(ledger.Status)) error {
	return l.deliver(ctx, led, f, recs, onStatus, false)
}

// Settle is Deliver for a file that the operator has rejected: it sends nothing. A row that was
// sent for the file is looked up, and every other row without an outcome is not_sent.
func (l *Lane) Settle(ctx context.Context, led ledger.Ledger, f *ledger.File, recs Records, onStatus func(ledger.Status)) error {
	return l.deliver(ctx, led, f, recs, onStatus, true)
}

func (l *Lane) deliver(ctx context.Context, led ledger.Ledger, f *ledger.File, recs Records, onStatus func(ledger.Status), settling bool) error {
	fan := &fanout{
		settling: settling,
		lane:     l, ledger: led, file: f, onStatus: onStatus, member: newMember(l.join(led), led), setup: l.setup,
		active:    semaphore.NewWeighted(maxActive),
		admitted:  semaphore.NewWeighted(maxActive + maxWaiting),
		recordCtx: context.WithoutCancel(ctx),
	}
	fan.recorded = semaphore.NewWeighted(int64(fan.maxRecorded()))
	defer l.leave()
	l.clock.recorded(f.Started)
	var rows errgroup.Group
	earlier, err := led.Outcomes(ctx, f.ID, 0, 1)
	if fan.resumed = len(earlier) > 0; err == nil {
		err = fan.feed(ctx, recs, &rows)
	}
	l.setup.feeding(-1)
	stop := fan.watchIdle(recs)
	if e := rows.Wait(); err == nil {
		err = e
	}
	stop()
	if e := fan.gate.err(); e != nil { // why the run was stopped, better than any one row can say
		err = e
	}
	if e := led.Flush(fan.recordCtx); e != nil {
		return fmt.Errorf("record outcomes of %s: %w", f.Name, e)
	}
	return err
}

// feed starts rows in file order, chunk by chunk.
func (f *fanout) feed(ctx context.Context, recs Records, rows *errgroup.Group) error {
	next := make(chan *delivery)
	defer close(next)
	for done := false; !done; {
		chunk, err := f.read(ctx, recs)
		if errors.Is(err, io.EOF) {
			done = true
		} else if err != nil {
			return err
		}
		// Places are taken before references. So a row that holds its reference always runs,
		// and two files that share references never wait for each other.
		for _, bound := range []*semaphore.Weighted{f.admitted, f.active} {
			if err := bound.Acquire(ctx, int64(len(chunk))); err != nil {
				return context.Cause(ctx)
			}
		}
		if err := f.gate.err(); err != nil {
			return err
		}
		if err := f.prepare(ctx, chunk); err != nil {
			return err
		}
		f.setup.working(len(chunk))
		for _, d := range chunk {
			select {
			case next <- d:
			default: // every worker is busy
				rows.Go(func() error { return f.work(ctx, d, next) })
			}
		}
	}
	return nil
}

// work delivers a row, and then others until the channel is closed: a goroutine that has
// delivered a row has grown its stack already. It returns the first error but takes all rows,
// because each row finds out for itself that the run has stopped.
func (f *fanout) work(ctx context.Context, d *delivery, next <-chan *delivery) error {
	var first error
	for ok := true; ok; d, ok = <-next {
		err := d.run(ctx)
		f.setup.working(-1)
		d.park()
		f.admitted.Release(1)
		if first == nil {
			first = err
		}
	}
	return first
}

// park gives the row's active place to another row, because this one is done or has to wait
// for something that may take long.
func (d *delivery) park() {
	if !d.waiting {
		d.waiting = true
		d.active.Release(1)
	}
}

// read reads the next chunk. It drops rows that have their outcome, and records invalid rows.
func (f *fanout) read(ctx context.Context, recs Records) ([]*delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	var chunk []*delivery
	var settled map[int]ledger.Outcome
	for range chunkRows {
		rec, err := recs.Next()
		if err != nil {
			return chunk, err // io.EOF among them
		}
		if settled == nil && f.resumed {
			if settled, err = f.settled(ctx, rec.Row); err != nil {
				return chunk, err
			}
		}
		if o, ok := settled[rec.Row]; ok && !f.reopened(o) {
			continue
		}
		if len(rec.Problems) > 0 {
			if err := f.recordInvalid(ctx, rec); err != nil {
				return chunk, err
			}
			continue
		}
		chunk = append(chunk, &delivery{
			fanout: f, row: rec.Row, line: rec.Line, bill: rec.Bill, content: billfile.ContentDigest(&rec.Bill),
			customers: settled[rec.Row].Customers, accounts: settled[rec.Row].Accounts,
		})
	}
	return chunk, nil
}

// settled returns the outcomes, by row, that earlier runs recorded for the chunk that begins
// with row.
func (f *fanout) settled(ctx context.Context, row int) (map[int]ledger.Outcome, error) {
	outcomes, err := f.ledger.Outcomes(ctx, f.file.ID, row, chunkRows)
	if err != nil {
		return nil, err
	}
	byRow := make(map[int]ledger.Outcome, len(outcomes))
	for _, o := range outcomes {
		byRow[o.Row] = o
	}
	return byRow, nil
}

// reopened reports whether a row is sent although it has an outcome. A retry reopens rows that
// are failed or unknown. A row is reopened, too, if it was not sent because the file was about
// to be refused as a whole and the feed now sends the valid rows of such a file.
func (f *fanout) reopened(o ledger.Outcome) bool {
	return o.Status == ledger.NotSent || f.file.Retried > 0 && (o.Status == ledger.Failed || o.Status == ledger.Unknown)
}

func (f *fanout) recordInvalid(ctx context.Context, rec *billfile.Record) error {
	o := report.OfRecord(rec)
	if err := f.ledger.Record(ctx, ledger.Entry{File: f.file.ID, Outcome: &o}); err != nil {
		return err
	}
	f.rowDone(o.Status)
	return nil
}

func (f *fanout) rowDone(s ledger.Status) {
	if f.onStatus != nil {
		f.onStatus(s)
	}
}

// prepare takes the chunk's references, and then looks them up in the ledger; its parties
// likewise. What is looked up without being held may be outdated when it is used. A row whose
// bill proves its parties, as in a file that comes again, takes none.
func (f *fanout) prepare(ctx context.Context, chunk []*delivery) error {
	refs := make([]string, 0, len(chunk))
	for _, d := range chunk {
		if d.turn = f.lane.refs.take(d.bill.Reference); d.turn == nil {
			refs = append(refs, d.bill.Reference)
		}
	}
	known, err := f.ledger.Bills(ctx, f.lane.scope, refs)
	leases := make([]*lease, 0, len(chunk))
	for _, d := range chunk {
		if b := known[d.bill.Reference]; d.turn == nil && b != nil {
			d.read(b)
			f.lane.clock.recorded(b.Send.At)
			d.proven = provesParties(b, ledger.Digest(d.content[:16]), &d.bill)
		}
		if d.proven {
			d.lease = noLease(&d.bill)
			continue
		}
		d.lease = f.lane.parties.lease(&d.bill)
		leases = append(leases, d.lease)
	}
	if err == nil {
		err = f.loadParties(ctx, leases)
	}
	if err != nil {
		f.drop(chunk)
		return err
	}
	for _, d := range chunk {
		if d.turn == nil && d.rec == nil && !f.settling {
			d.partiesReady = f.lane.parties.acquire(d.lease) // in file order: the first row of a party leads
		}
	}
	return nil
}

// loadParties reads the parties of leases from the ledger that were not read yet.
func (f *fanout) loadParties(ctx context.Context, leases []*lease) error {
	refs := f.lane.parties.notLoaded(leases)
	if len(refs) == 0 {
		return nil
	}
	known, err := f.ledger.Parties(ctx, f.lane.scope, refs)
	if err == nil {
		f.lane.parties.load(refs, known, f.knownBefore)
	}
	return err
}

// drop gives back what prepare took.
func (f *fanout) drop(chunk []*delivery) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, d := range chunk {
		if d.turn == nil || f.lane.refs.await(gone, d.bill.Reference, d.turn) == nil {
			f.lane.refs.give(d.bill.Reference)
		}
		f.lane.parties.release(d.lease)
	}
}
