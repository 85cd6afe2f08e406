package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

const (
	// chunkRows are read, and looked up in the ledger, at a time.
	chunkRows = 256
	// maxActive bounds the rows of one file that are under way, but for those that are waiting: that wait for their party, for
	// another row with their reference, for a look-up, or to be sent again. It bounds memory.
	maxActive = 4 * chunkRows
	// maxWaiting bounds the waiting ones: twice as many, so that a slow party, or an API that answers now and then, holds nobody else
	// up. Each takes some 10 KiB, with its stack.
	maxWaiting = 2 * maxActive
	// minRecorded rows may be recorded as about to be sent however few senders there are: as many as a fast API takes while a commit
	// gathers and is made.
	minRecorded = 512
)

// fanout is the delivery of one file's rows.
type fanout struct {
	lane     *Lane
	ledger   ledger.Ledger
	file     *ledger.File
	onStatus func(ledger.Status) // of each row that gets its outcome; may be nil
	gate     *gate
	setup    *setupCheck
	// recorded bounds the rows that are recorded as about to be sent: enough to share syncs and to
	// keep all senders busy, few enough that a crash leaves few rows in doubt.
	recorded *semaphore.Weighted
	active   *semaphore.Weighted // of maxActive
	admitted *semaphore.Weighted // of maxActive and maxWaiting
	// resumed: an earlier run, or a retry's first, has recorded outcomes of this file.
	resumed bool
	// recordCtx is ctx without its end: answers are recorded, and requests that are out are awaited, whatever stops the run.
	recordCtx context.Context
}

// Deliver takes every row of the file that has no outcome yet to its outcome. When it returns nil, all of them are
// durable. Cancelling ctx is the soft stop: nothing new is sent, answers under way are awaited and
// recorded, and ctx's cause is returned. onStatus, if not nil, gets the status of each row that has its outcome; it is called
// concurrently and must not block. Errors of a run that had to stop are a *Stop.
func (l *Lane) Deliver(ctx context.Context, led ledger.Ledger, f *ledger.File, recs *billfile.Decoder, onStatus func(ledger.Status)) error {
	g, first := l.join(), l.setup
	defer l.leave()
	fan := &fanout{
		lane: l, ledger: led, file: f, onStatus: onStatus, gate: g, setup: first,
		recorded:  semaphore.NewWeighted(int64(max(minRecorded, 4*l.policy.Concurrency))),
		active:    semaphore.NewWeighted(maxActive),
		admitted:  semaphore.NewWeighted(maxActive + maxWaiting),
		recordCtx: context.WithoutCancel(ctx),
	}
	var rows errgroup.Group
	earlier, err := led.Outcomes(ctx, f.ID, 0, 1)
	if fan.resumed = len(earlier) > 0; err == nil {
		err = fan.feed(ctx, recs, &rows)
	}
	first.feeding(-1)
	// A row that could not be taken to its end says why; the gate says it best when the run was stopped.
	if e := rows.Wait(); err == nil {
		err = e
	}
	if e := g.err(); e != nil {
		err = e
	}
	if e := led.Flush(fan.recordCtx); e != nil {
		return fmt.Errorf("record outcomes of %s: %w", f.Name, e)
	}
	return err
}

// feed sets rows going, in file order, chunk by chunk.
func (f *fanout) feed(ctx context.Context, recs *billfile.Decoder, rows *errgroup.Group) error {
	next := make(chan *delivery)
	defer close(next)
	for done := false; !done; {
		chunk, err := f.read(ctx, recs)
		if errors.Is(err, io.EOF) {
			done = true
		} else if err != nil {
			return err
		}
		// Slots come first: a row that holds its reference is always under way, so two files that share
		// references never wait for each other.
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
			default: // nobody is free
				rows.Go(func() error { return f.work(ctx, d, next) })
			}
		}
	}
	return nil
}

// work takes a row to its end, and then others, until none comes any more: a goroutine that has done a row has the stack for
// the next. It returns the first error, and goes on all the same: each row finds out for itself that the run has stopped.
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

// park gives up the row's slot, for another row to be read: this one has to wait for something that may take long, or is done.
func (d *delivery) park() {
	if !d.waiting {
		d.waiting = true
		d.active.Release(1)
	}
}

// read reads the next chunk and drops the rows that have their outcome. Invalid ones get theirs here.
func (f *fanout) read(ctx context.Context, recs *billfile.Decoder) ([]*delivery, error) {
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
			if err := f.refuse(ctx, rec); err != nil {
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

// settled returns the outcomes that earlier runs recorded for the chunk that begins with row.
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

// reopened reports whether a row that has its outcome is sent all the same: by a retry, or because the file was about to be refused
// as a whole, and the feed sends the others by now.
func (f *fanout) reopened(o ledger.Outcome) bool {
	return o.Status == ledger.NotSent || f.file.Retried > 0 && (o.Status == ledger.Failed || o.Status == ledger.Unknown)
}

func (f *fanout) refuse(ctx context.Context, rec *billfile.Record) error {
	o := report.OfRecord(rec)
	if err := f.ledger.Record(ctx, ledger.Entry{File: f.file.ID, Outcome: &o}); err != nil {
		return err
	}
	f.tell(o.Status)
	return nil
}

// tell lets those who watch know of one more row that has its outcome.
func (f *fanout) tell(s ledger.Status) {
	if f.onStatus != nil {
		f.onStatus(s)
	}
}

// prepare takes the chunk's references and parties, and looks up in the ledger what is known of them. In this order:
// what is looked up without being held may be out of date when it is used.
func (f *fanout) prepare(ctx context.Context, chunk []*delivery) error {
	refs := make([]string, 0, len(chunk))
	leases := make([]*lease, 0, len(chunk))
	for _, d := range chunk {
		if d.turn = f.lane.refs.take(d.bill.Reference); d.turn == nil {
			refs = append(refs, d.bill.Reference)
		}
		d.lease = f.lane.parties.lease(&d.bill)
		leases = append(leases, d.lease)
	}
	known, err := f.ledger.Bills(ctx, f.lane.scope, refs)
	if err == nil {
		notLoaded := f.lane.parties.notLoaded(leases)
		var parties map[ledger.PartyRef]ledger.Party
		if parties, err = f.ledger.Parties(ctx, f.lane.scope, notLoaded); err == nil {
			f.lane.parties.load(notLoaded, parties)
		}
	}
	if err != nil {
		f.drop(chunk)
		return err
	}
	for _, d := range chunk {
		if d.turn != nil {
			continue
		}
		if d.rec = known[d.bill.Reference]; d.rec == nil {
			d.partiesReady = f.lane.parties.acquire(d.lease) // in file order: the first row of a party leads
		}
	}
	return nil
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
