package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/transfer"
	"billdrop/ingest/watch"
)

// claim claims a complete file of the inbox, and takes it up.
func (r *round) claim(ctx context.Context, e inbox.Entry) error {
	f, err := r.recordClaim(ctx, e)
	if f == nil || err != nil {
		return err
	}
	defer r.giveFile(ctx, f.ID)
	server := serverPlace(r.feed, r.remote)
	if err := r.certain(); err != nil {
		return err
	}
	claimed, err := server.Claim(ctx, placed(f))
	if err != nil {
		return err
	}
	j := r.newJob(r.feed, f, server)
	if !claimed {
		j.log.Info("not claimed: another worker took it")
		return j.advance(ctx, ledger.Dropped)
	}
	r.settlers[r.feed.Name].Claimed(f.Name)
	r.inboxes.Claimed(r.feed.Name, f.Name)
	j.log.Info("file claimed", "size", f.Size)
	if err := j.advance(ctx, ledger.Claimed); err != nil {
		return err
	}
	r.takeUp(ctx, j, false)
	return nil
}

// recordClaim records that a file is about to be claimed. The record is durable before the
// rename, so that no claimed file is unknown after a crash. It returns nil without an error
// when the file cannot be claimed.
//
// Feeds may share processing/, so the choice of the name there is made by one round at a
// time.
func (r *round) recordClaim(ctx context.Context, e inbox.Entry) (*ledger.File, error) {
	r.claims.Lock()
	defer r.claims.Unlock()
	giveBack, err := r.takeLease(ctx, "claims/"+path.Clean(r.feed.Dirs.Processing))
	if err != nil {
		return nil, err
	}
	defer giveBack()
	name, err := r.processingName(ctx, e.Name)
	if err != nil {
		return nil, err
	}
	processing := path.Join(r.feed.Dirs.Processing, name)
	switch _, err := r.remote.Lstat(ctx, processing); {
	case err == nil:
		r.unclaimed = append(r.unclaimed, watch.Remark{Kind: watch.Stranger, Name: e.Name, Since: time.Now(),
			Text: r.feed.Dirs.Processing + " has a file of this name that is not in this ledger: another worker's, or left behind; move it away if no worker has it"})
		return nil, nil
	case !errors.Is(err, inbox.ErrNotExist):
		return nil, err
	}
	f := &ledger.File{
		ID: newID(time.Now()), Feed: r.feed.Name, Scope: r.feed.Lane.Scope(), Origin: ledger.FromInbox,
		Name: e.Name, Path: processing, Results: r.feed.Dirs.Results,
		Size: e.Size, ModTime: e.ModTime, State: ledger.Claiming, Received: r.feed.Lane.Now(),
	}
	if _, err := r.takeFile(ctx, f.ID); err != nil {
		return nil, err
	}
	if err := r.Ledger.AddFile(ctx, f); err != nil {
		r.giveFile(ctx, f.ID)
		return nil, fmt.Errorf("record claim of %q: %w", e.Name, err)
	}
	return f, nil
}

// processingName is the name that a file takes in processing/: its own, or with "~" and a
// number where an unfinished file has that. A name with "~" is not claimed, so no two names
// can meet.
func (r *round) processingName(ctx context.Context, name string) (string, error) {
	files, err := r.Ledger.Files(ctx, ledger.Query{Unfinished: true})
	if err != nil {
		return "", err
	}
	taken := make(map[string]bool)
	for _, f := range files {
		if path.Dir(f.Path) == path.Clean(r.feed.Dirs.Processing) {
			taken[path.Base(f.Path)] = true
		}
	}
	free := name
	for n := 2; taken[free]; n++ {
		free = fmt.Sprintf("%s~%d", name, n)
	}
	return free, nil
}

// resolveClaim finds out whether a claim that was cut short took place. If not, the file is
// claimed now. If it were dropped, the next round would claim it under a new id, and an order
// given for the old id would be lost.
func (j *job) resolveClaim(ctx context.Context) error {
	claimed, err := j.place.Claimed(ctx, placed(j.file))
	if server, ok := j.place.(*transfer.Server); ok && !claimed && err == nil {
		claim := server.ClaimUnchanged
		if RejectedByHand(j.file) {
			claim = server.Claim
		}
		claimed, err = claim(ctx, placed(j.file))
	}
	if !claimed && err == nil {
		// A worker that was taken for lost in the middle of its claim may have made it meanwhile.
		claimed, err = j.place.Claimed(ctx, placed(j.file))
	}
	if err != nil {
		return err
	}
	if !claimed {
		return j.advance(ctx, ledger.Dropped)
	}
	return j.advance(ctx, ledger.Claimed)
}

// fetch spools a claimed file and gives its reports their name.
func (j *job) fetch(ctx context.Context) error {
	if j.file.Origin == ledger.FromLocal && j.file.Path == "" {
		return j.advance(ctx, ledger.Dropped) // standard input that was cut short: nothing was sent for it
	}
	if err := j.place.TakeCompanions(ctx, placed(j.file)); err != nil {
		return err
	}
	err := j.take(ctx, fetching(j.place, j.file))
	if errors.Is(err, inbox.ErrNotExist) || errors.Is(err, fs.ErrNotExist) {
		j.log.Warn("the file is gone, and nothing was read or sent of it: deliver it again, unless it was taken back on purpose", "path", j.file.Path)
		return j.advance(ctx, ledger.Dropped)
	}
	if err != nil {
		if RejectedByHand(j.file) && !outOfReach(ctx, err) {
			return j.dropRejected(ctx, err)
		}
		return err
	}
	j.file.Started = j.feed.Lane.Now()
	return j.chooseStem(ctx, ledger.Spooled)
}

// take copies the file into the spool for the first time. One that is too large is left unread: it
// has no copy and no hash, and judge refuses it.
func (j *job) take(ctx context.Context, fetch func(context.Context, io.Writer) error) error {
	limit := j.feed.Format.MaxFileSize
	if limit > 0 && j.file.Size > limit {
		return nil
	}
	sum, size, err := j.spool.take(ctx, j.file.ID, limit, fetch)
	if errors.Is(err, errTooLarge) {
		j.file.Size = limit + 1 // at least
		return nil
	}
	if err == nil {
		j.file.SHA256, j.file.Size = sum, size
	}
	return err
}

// placed is what a place needs of a file.
func placed(f *ledger.File) transfer.File {
	return transfer.File{
		Name: f.Name, Path: f.Path, Size: f.Size, ModTime: f.ModTime, Stem: f.Stem, Rejected: f.Outcome == ledger.FileRejected,
	}
}

// localPlace is the place of an imported file.
func localPlace(f *ledger.File) transfer.Place { return transfer.Local{Results: f.Results} }

// serverPlace is the place of a feed's claimed files.
func serverPlace(feed *Feed, remote transfer.Remote) *transfer.Server {
	return &transfer.Server{Remote: remote, Dirs: feed.Dirs, Marker: feed.Watch.Marker}
}

// fetching copies a file from its place, and sets f.ModTime to that of what was copied.
func fetching(p transfer.Place, f *ledger.File) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		modTime, err := p.Fetch(ctx, placed(f), w)
		if err == nil {
			f.ModTime = modTime
		}
		return err
	}
}
