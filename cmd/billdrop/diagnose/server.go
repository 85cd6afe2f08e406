package diagnose

import (
	"context"
	"crypto/rand"
	"errors"
	"path"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/ingest/inbox"
)

// server checks that the SFTP server answers, its host key, the login, and the directories
// of each feed.
func (e *examiner) server(ctx context.Context, conf *config.Config) {
	if conf.SFTP.Address == "" {
		e.report("sftp", Skipped, "there is no sftp section: import needs none, run does")
		return
	}
	if err := conf.SFTP.CheckFiles(); err != nil {
		e.wrong("sftp", err)
		return
	}
	account := e.login(ctx, &conf.SFTP, engine.Location{Place: conf.LedgerPlace()})
	if account == nil {
		return
	}
	defer account.Close()
	e.temporary = conf.SFTP.Account().TemporaryName
	for i := range conf.Feeds {
		if ctx.Err() != nil {
			return
		}
		e.directories(ctx, account, &conf.Feeds[i])
	}
}

// login connects and reports each step. It returns nil if one failed.
func (e *examiner) login(ctx context.Context, c *config.SFTP, location engine.Location) *inbox.Account {
	const reach, key, login = "sftp server", "host key", "sftp login"
	account, err := e.Dial(ctx, c)
	reached := func() { e.report(reach, OK, "%s answers", c.Address) }
	trusted := func() { e.report(key, OK, "is the one in %s", c.KnownHostsFile) }
	switch {
	case err == nil:
		reached()
		trusted()
		e.report(login, OK, "as %s", c.User)
	case ctx.Err() != nil:
		e.report(reach, Skipped, "interrupted")
	case errors.Is(err, inbox.ErrConfig):
		e.wrong(login, err)
	case errors.Is(err, inbox.ErrHostKey):
		reached()
		e.failed(key, err)
		e.report(login, Skipped, "needs a server that is trusted")
	case errors.Is(err, inbox.ErrLogin), errors.Is(err, inbox.ErrRefused):
		reached()
		trusted()
		e.failed(login, beside(err, location))
	default:
		e.failed(reach, beside(err, location))
	}
	return account
}

// beside adds to a failure to log in that a billdrop that runs now has a connection: there are
// servers that admit one connection a user.
func beside(err error, location engine.Location) error {
	pid, _ := location.Holder()
	if pid == 0 {
		return err
	}
	return describe.Advise(err, "%s; or the server admits one connection a user, and billdrop (process %d) has it: stop that, and check again",
		strings.Join(describe.Advice(err), "; "), pid)
}

// directories checks that a feed's directories exist, and that billdrop may do in them and
// between them what it has to.
func (e *examiner) directories(ctx context.Context, account *inbox.Account, f *config.Feed) {
	// A probe that was begun is removed even after an interrupt. The timeout bounds each call.
	soft := context.WithoutCancel(ctx)
	sound := true
	for _, d := range f.Dirs() {
		if ctx.Err() != nil {
			return
		}
		ok := e.directory(soft, account, f.Name+": "+d.Key, d.Path)
		sound = sound && (ok || d.Key == "payments") // which no bill file passes through
	}
	check := f.Name + ": moves"
	if !sound {
		e.report(check, Skipped, "needs all directories")
		return
	}
	for _, final := range []string{f.Archive, f.Rejected} {
		if err := e.tryMoves(soft, account, f.Inbox, f.Processing, final); err != nil {
			e.fail(check, text(err), "all directories of the feed must be on one file system")
			return
		}
	}
	e.report(check, OK, "from the inbox to processing, and from there to archive and rejected")
}

// directory checks one directory, and makes it if it is missing and Fix is set.
func (e *examiner) directory(ctx context.Context, account *inbox.Account, check, dir string) bool {
	status := OK
	entry, err := account.Lstat(ctx, dir)
	switch {
	case errors.Is(err, inbox.ErrNotExist) && e.Fix:
		if err := account.Mkdir(ctx, dir); err != nil {
			e.fail(check, text(err), "or make it by hand")
			return false
		}
		status = Fixed
	case errors.Is(err, inbox.ErrNotExist):
		e.fail(check, "there is no directory "+dir+" on the server", "make it (billdrop check --fix), or correct the feed's configuration")
		return false
	case err != nil:
		e.failed(check, err)
		return false
	case !entry.Dir && !entry.Link:
		e.fail(check, dir+" is not a directory", "name another in the feed's configuration")
		return false
	}
	entries, err := account.List(ctx, dir)
	found := describe.Count(len(entries), "entry")
	if errors.Is(err, inbox.ErrListingCut) { // of use all the same
		found, err = "more than "+found, nil
	}
	if err == nil {
		err = e.tryRemote(ctx, account, dir)
	}
	if err != nil {
		e.failed(check, err)
		return false
	}
	e.report(check, status, "%s, %s in it; may be read and written", dir, found)
	return true
}

// probeText is the content of a probe, here and on the server.
const probeText = "billdrop check\n"

// probeName is the name of a probe. It is that of a file that is being written, which no billdrop
// takes for a bill file.
func (e *examiner) probeName() string { return e.temporary("billdrop-check-" + rand.Text()) }

// tryRemote does in a directory what billdrop does: write a file, read it back, rename it,
// remove it.
func (e *examiner) tryRemote(ctx context.Context, account *inbox.Account, dir string) error {
	name := e.probeName()
	at, to := path.Join(dir, name), path.Join(dir, e.probeName())
	err := account.Publish(ctx, dir, name, strings.NewReader(probeText))
	if err == nil {
		if err = account.Rename(ctx, at, to); err == nil {
			at = to
		}
	}
	return removeProbe(ctx, account, at, err)
}

// tryMoves moves a file from directory to directory, as bill files go, and removes it.
func (e *examiner) tryMoves(ctx context.Context, account *inbox.Account, dirs ...string) error {
	name := e.probeName()
	err := account.Publish(ctx, dirs[0], name, strings.NewReader(probeText))
	at := dirs[0]
	for _, to := range dirs[1:] {
		if err != nil {
			break
		}
		if err = account.Rename(ctx, path.Join(at, name), path.Join(to, name)); err == nil {
			at = to
		}
	}
	return removeProbe(ctx, account, path.Join(at, name), err)
}

// removeProbe removes a probe. If an error came before, it returns that one.
func removeProbe(ctx context.Context, account *inbox.Account, at string, before error) error {
	err := account.Remove(ctx, at)
	if before != nil {
		return before
	}
	return err
}
