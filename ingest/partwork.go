package ingest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
)

const (
	// partsAtOnce is how many parts of one feed a worker delivers at a time: the senders that one
	// part leaves idle at its end are busy with another.
	partsAtOnce = 3
	// maxInHand bounds the parts of one feed in a worker's hand, those included whose rows
	// only wait. As many more may be parts that other workers have left.
	maxInHand = 4 * partsAtOnce
	// adoptAtOnce is how many parts that others have left a worker takes at one look. Where
	// there are more, other workers have some of them.
	adoptAtOnce = 2 * partsAtOnce
	// restAfter is how long a worker takes no parts of a feed after it had to give one up.
	restAfter = 5 * time.Second
)

// crew is this worker's share in the files of all workers. It may be used concurrently. Package
// crew is something else: a Dispatcher, which hands out work by River.
type crew struct {
	*Worker
	feeds map[string]*Feed
	slots map[string]*semaphore.Weighted // of partsAtOnce, by feed
	looks map[string]chan struct{}       // by feed: holds a token when it is to be looked at
	// dirsFound is, by feed, whether a round found all of its directories. Each is for serveFeed.
	dirsFound map[string]*bool
	done      chan struct{}  // a part that was found by looking has ended
	at        sync.WaitGroup // parts in hand that this worker found by itself
	division

	mu     sync.Mutex
	ctx    context.Context // of the membership
	stop   context.CancelCauseFunc
	served int // feeds that this worker serves
	busy   map[partID]bool
	inHand map[string]int       // parts, by feed
	owned  map[string]bool      // files in this worker's hand
	copies map[string]*fileCopy // by file
	rests  map[string]time.Time // by feed: no parts of it are taken before
	unfits map[string]error     // by feed: why this worker cannot send for it
}

type partID struct {
	file string
	no   int
}

func newCrew(w *Worker) *crew {
	c := &crew{
		Worker: w, division: usualDivision, feeds: make(map[string]*Feed), slots: make(map[string]*semaphore.Weighted), looks: make(map[string]chan struct{}), dirsFound: make(map[string]*bool),
		done: make(chan struct{}, 1), busy: make(map[partID]bool), inHand: make(map[string]int), owned: make(map[string]bool), copies: make(map[string]*fileCopy),
		rests: make(map[string]time.Time), unfits: make(map[string]error),
	}
	for _, f := range w.Feeds {
		c.feeds[f.Name], c.slots[f.Name], c.looks[f.Name], c.dirsFound[f.Name] = f, semaphore.NewWeighted(partsAtOnce), make(chan struct{}, 1), new(bool)
	}
	return c
}

// begin begins a membership.
func (c *crew) begin(ctx context.Context, stop context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctx, c.stop = ctx, stop
	clear(c.rests) // what it gave up as a lost worker says nothing
}

// lost ends the membership of a worker that is taken for lost.
func (c *crew) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.stop(ledger.ErrFenced)
	}
}

// end ends a membership whose context has ended: no part is in hand when it returns.
func (c *crew) end() {
	c.at.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, cp := range c.copies {
		cp.close()
		delete(c.copies, id)
	}
}

// work takes up what the dispatcher hands out, and what no worker has in hand, until ctx ends.
// finish waits for the end.
func (c *crew) work(ctx context.Context, interval time.Duration) (finish func()) {
	var all sync.WaitGroup
	all.Go(func() { c.lookAround(ctx) })
	if d := c.Member.Dispatcher; d != nil {
		w := Work{Interval: interval, AtOnce: partsAtOnce, Look: c.handleLook, Part: c.handlePart}
		for _, f := range c.Feeds {
			w.Feeds = append(w.Feeds, f.Name)
		}
		all.Go(func() {
			for ctx.Err() == nil {
				if err := d.Run(ctx, w); err != nil && ctx.Err() == nil {
					c.Log.Warn("work is found by looking alone, because none is handed out; trying again", "error", err)
				}
				_ = sleep(ctx, restAfter)
			}
		})
	}
	return all.Wait
}

// handleLook has a feed looked at, if this worker serves it or no worker does.
func (c *crew) handleLook(_ context.Context, feed string) {
	select {
	case c.looks[feed] <- struct{}{}:
	default: // it is about to be; or another worker's
	}
}

// awaitLook waits until a feed is to be looked at.
func (c *crew) awaitLook(ctx context.Context, f *Feed, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.looks[f.Name]:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// handlePart delivers a part, unless it is done or in another worker's hand. It returns when
// this worker has room for another.
func (c *crew) handlePart(ctx context.Context, feed, file string, no int) {
	f := c.feeds[feed]
	if f == nil || c.resting(f) || c.slots[feed].Acquire(ctx, 1) != nil {
		return
	}
	room := make(chan struct{})
	if c.startInSlot(ctx, f, file, no, func() { close(room) }) {
		<-room
	}
}

// startInSlot is start for a part for which this worker has a slot. The slot is given back
// before free is called.
func (c *crew) startInSlot(ctx context.Context, f *Feed, file string, no int, free func()) bool {
	giveBack := func() { c.slots[f.Name].Release(1) }
	started := c.start(ctx, f, file, no, maxInHand, func() {
		giveBack()
		free()
	})
	if !started {
		giveBack()
	}
	return started
}

// start delivers a part in the background, and reports false if it is in this worker's hand
// already, or there are as many as there may be. free is called once, when the part has ended
// or its rows only wait.
func (c *crew) start(ctx context.Context, f *Feed, file string, no, most int, free func()) bool {
	if !c.enter(f, file, no, most) {
		return false
	}
	free = sync.OnceFunc(free)
	c.at.Go(func() {
		defer free()
		defer c.leave(f, file, no)
		c.deliverPart(ctx, f, file, no, free)
	})
	return true
}

// lookAround looks for parts that no worker has in hand, and for workers that are gone.
func (c *crew) lookAround(ctx context.Context) {
	seen := make(map[string]*partsSeen)
	var live []ledger.Colleague
	for {
		files, err := c.Ledger.Files(ctx, ledger.Query{Unfinished: true})
		if err == nil {
			c.closeCopies(files)
			err = c.takeParts(ctx, files, seen)
		}
		if err == nil {
			live, err = c.noticeGone(ctx, live)
		}
		if err != nil && ctx.Err() == nil {
			c.noticeLoss(err)
			c.Log.Debug("no look for parts", "error", err)
		}
		if c.awaitPart(ctx, colleaguePoll) != nil {
			return
		}
	}
}

// takeParts takes parts of files that other workers have in hand, or lost, oldest file first:
// those that were left behind, and as many of the others as this worker has slots for.
func (c *crew) takeParts(ctx context.Context, files []*ledger.File, seen map[string]*partsSeen) error {
	sending := make(map[string]bool)
	for _, f := range slices.Backward(files) {
		feed := c.feeds[f.Feed]
		if feed == nil || !c.division.divided(f) || f.State != ledger.Sending || RejectedByHand(f) {
			continue
		}
		parts, err := c.shared.Parts(ctx, f.ID)
		if err != nil {
			return err
		}
		if sending[f.ID] = true; seen[f.ID] == nil {
			seen[f.ID] = newPartsSeen()
		}
		c.adopt(feed, f.ID, seen[f.ID].leftBehind(parts, c.Member.Name, time.Now()))
		c.take(feed, f.ID, parts)
	}
	maps.DeleteFunc(seen, func(id string, _ *partsSeen) bool { return !sending[id] })
	return nil
}

// adopt begins to deliver parts that other workers have left, a few at a look, so that others
// have some of them, too. They do not wait for a slot: the parts that are in the slots may
// last long.
func (c *crew) adopt(f *Feed, file string, left []ledger.Part) {
	if c.resting(f) {
		return
	}
	for n := 0; n < adoptAtOnce && len(left) > 0; left = left[1:] {
		no, started := left[0].No, false
		if c.slots[f.Name].TryAcquire(1) {
			started = c.startInSlot(c.membership(), f, file, no, c.found)
		} else {
			started = c.start(c.membership(), f, file, no, 2*maxInHand, c.found)
		}
		if started {
			n++
		}
	}
}

// take begins to deliver parts that no worker has in hand, as many as this worker has slots for.
func (c *crew) take(f *Feed, file string, parts []ledger.Part) {
	if c.resting(f) {
		return
	}
	for _, p := range parts {
		if p.Done || p.Failure != nil || p.Worker != "" && p.Worker != c.Member.Name {
			continue
		}
		if !c.slots[f.Name].TryAcquire(1) {
			return
		}
		c.startInSlot(c.membership(), f, file, p.No, c.found)
	}
}

// membership is the context of the membership.
func (c *crew) membership() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ctx
}

// found has those look that look for parts: where one was found, there may be more.
func (c *crew) found() {
	select {
	case c.done <- struct{}{}:
	default:
	}
}

// enter puts a part into this worker's hand, and reports false if it is there already, or as
// many as there may be are.
func (c *crew) enter(f *Feed, file string, no, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := partID{file, no}
	if c.busy[id] || c.inHand[f.Name] >= most {
		return false
	}
	c.busy[id] = true
	c.inHand[f.Name]++
	return true
}

// leave ends what enter began.
func (c *crew) leave(f *Feed, file string, no int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, partID{file, no})
	c.inHand[f.Name]--
}

// awaitPart waits until a part that this worker found by looking has ended, but not longer than d.
func (c *crew) awaitPart(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// deliverPart takes the rows of a part to their outcomes, if no other worker does. idle is called
// when they only wait.
func (c *crew) deliverPart(ctx context.Context, feed *Feed, file string, no int, idle func()) {
	held, err := c.shared.AcquirePart(ctx, file, no)
	if err == nil && held {
		err = c.partRows(ctx, feed, file, no, idle)
		err = errors.Join(err, c.release(ctx, file, no, err))
	}
	if errors.Is(err, errOrdered) || errors.Is(err, ledger.ErrNotFound) {
		c.rest(feed, partsPoll) // else whoever looks for parts would find the same one at once, and again
		return
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	c.noticeLoss(err)
	if errors.Is(err, delivery.ErrSetup) || errors.Is(err, ErrNotApplicable) {
		c.drop(feed, err)
	}
	c.rest(feed, restAfter)
	c.Log.Warn("part of a file given up", append(failure(feed, err), "file_id", file, "part", no)...)
}

// partRows delivers the rows of a part that is in hand.
func (c *crew) partRows(ctx context.Context, feed *Feed, file string, no int, idle func()) error {
	f, err := c.Ledger.File(ctx, file)
	if err != nil {
		return err
	}
	if f.State != ledger.Sending || RejectedByHand(f) {
		return errOrdered
	}
	parts, err := c.shared.Parts(ctx, file)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(parts, func(p ledger.Part) bool { return p.No == no })
	if i < 0 {
		return ledger.ErrNotFound
	}
	j := c.newJob(feed, f, nil)
	if err := j.bind(ctx); err != nil {
		return err
	}
	recs, err := c.read(ctx, feed, f, parts[i])
	if err != nil {
		return &noCopy{err}
	}
	ctx, stop := j.whileSending(ctx)
	defer stop()
	return feed.Lane.Deliver(ctx, c.Ledger, f, &rows{recs, idle}, nil)
}

// noCopy is why this worker cannot read a file that others may be able to read.
type noCopy struct{ error }

func (e *noCopy) Unwrap() error { return e.error }

// release gives a part back that ended with err; nil = it is done.
func (c *crew) release(ctx context.Context, file string, no int, err error) error {
	var failed *ledger.PartFailure
	var local *noCopy
	switch {
	case errors.Is(err, ledger.ErrFenced), errors.Is(err, ledger.ErrUnreachable):
		return nil // it is another's by now; or still this worker's, which goes on with it
	case err == nil, ctx.Err() != nil, errors.Is(err, errOrdered), errors.Is(err, ErrNotApplicable), errors.As(err, &local):
	default:
		failed = &ledger.PartFailure{Reason: err.Error(), Hint: adviceOn(err), Setup: errors.Is(err, delivery.ErrSetup)}
		if s := (*delivery.Stop)(nil); errors.As(err, &s) {
			failed.Reason = s.Reason
		}
	}
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		defer cancel()
	}
	return c.shared.ReleasePart(ctx, file, no, err == nil, failed)
}

// drop records that this worker cannot send for a feed until the set-up is mended.
func (c *crew) drop(f *Feed, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unfits[f.Name] = why
}

// unfit returns why this worker cannot send for a feed; nil if it can.
func (c *crew) unfit(f *Feed) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unfits[f.Name]
}

// rest keeps this worker from taking parts of a feed for a while.
func (c *crew) rest(f *Feed, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rests[f.Name] = time.Now().Add(d)
}

// again ends the rest after a part that was given up.
func (c *crew) again(f *Feed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.rests, f.Name)
}

// resting reports whether this worker takes no parts of a feed at the moment.
func (c *crew) resting(f *Feed) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unfits[f.Name] != nil || time.Now().Before(c.rests[f.Name])
}
