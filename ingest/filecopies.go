package ingest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sync/semaphore"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// fileCopy is the spooled copy of a file, open for the parts of it that this worker delivers.
type fileCopy struct {
	users int // parts; guarded by crew.mu

	// turn is held while what follows is used, also while the file is fetched.
	turn   *semaphore.Weighted
	survey *billfile.Survey
	file   *os.File
	recs   *billfile.Decoder
	next   int // the row that recs yields next
}

// own records whether a file is in this worker's hand.
func (c *crew) own(id string, owned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.owned, id); owned {
		c.owned[id] = true
	}
}

// lend lets parts of the owner's file be read by its survey.
func (c *crew) lend(ctx context.Context, j *job) error {
	cp := c.borrow(j.file.ID)
	defer c.giveUp(cp)
	if cp.turn.Acquire(ctx, 1) != nil {
		return context.Cause(ctx)
	}
	defer cp.turn.Release(1)
	cp.survey = j.survey
	return nil
}

// takeBack ends what lend began: the owner may remove its copy.
func (c *crew) takeBack(j *job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cp := c.copies[j.file.ID]; cp != nil && cp.users == 0 {
		cp.close()
		delete(c.copies, j.file.ID)
	}
}

// borrow returns the copy of a file, which is not removed before it is given up.
func (c *crew) borrow(id string) *fileCopy {
	c.mu.Lock()
	defer c.mu.Unlock()
	cp := c.copies[id]
	if cp == nil {
		cp = &fileCopy{turn: semaphore.NewWeighted(1)}
		c.copies[id] = cp
	}
	cp.users++
	return cp
}

func (c *crew) giveUp(cp *fileCopy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cp.users--
}

// read returns the records of a part. The file is fetched once, checked by its hash, and read
// forwards.
func (c *crew) read(ctx context.Context, feed *Feed, f *ledger.File, p ledger.Part) ([]billfile.Record, error) {
	cp := c.borrow(f.ID)
	defer c.giveUp(cp)
	if cp.turn.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	defer cp.turn.Release(1)
	if cp.recs == nil || cp.next > p.From {
		if err := c.open(ctx, feed, f, cp); err != nil {
			return nil, err
		}
	}
	if err := cp.recs.Skip(p.From - cp.next); err != nil {
		return nil, err
	}
	cp.next = p.From
	recs := make([]billfile.Record, 0, p.To-p.From)
	for ; cp.next < p.To; cp.next++ {
		rec, err := cp.recs.Next()
		if err != nil {
			return nil, err
		}
		kept := *rec
		kept.Raw, kept.Problems = nil, slices.Clone(rec.Problems)
		recs = append(recs, kept)
	}
	return recs, nil
}

// open begins another reading of a file. cp.turn is held.
func (c *crew) open(ctx context.Context, feed *Feed, f *ledger.File, cp *fileCopy) error {
	cp.close()
	own := *f
	j := c.newJob(feed, &own, nil)
	if err := j.sameFormat(); err != nil {
		return err
	}
	file, err := c.spool.open(f)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errCopyDiffers) {
		place, done, e := c.reach(ctx, feed, f)
		if e != nil {
			return e
		}
		defer done()
		j.place = place
		if err = j.ensureSpooled(ctx); err == nil {
			file, err = c.spool.open(f)
		}
	}
	if err != nil {
		return err
	}
	j.survey = cp.survey
	if err = j.takeSurvey(ctx); err == nil {
		cp.survey = j.survey
		cp.recs, err = j.survey.Decode(file)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	cp.file, cp.next = file, 1
	return nil
}

func (cp *fileCopy) close() {
	if cp.file != nil {
		cp.file.Close()
	}
	cp.file, cp.recs = nil, nil
}

// closeCopies closes the copies of files whose rows are all sent, and removes those that are
// not this worker's to publish: copies hold personal data.
func (c *crew) closeCopies(unfinished []*ledger.File) {
	sending := make(map[string]bool)
	for _, f := range unfinished {
		sending[f.ID] = f.State == ledger.Sending
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, cp := range c.copies {
		if cp.users > 0 || sending[id] {
			continue
		}
		cp.close()
		delete(c.copies, id)
		if c.owned[id] {
			continue
		}
		if err := c.spool.remove(id); err != nil {
			c.Log.Warn("a copy that is no longer needed could not be removed", "error", err)
		}
	}
}
