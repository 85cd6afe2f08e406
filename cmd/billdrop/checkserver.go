package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest/inbox"
)

// server checks the SFTP server: that it can be reached, its host key, the login, and each feed's directories.
func (e *examiner) server(ctx context.Context, conf *config.Config) {
	if conf.SFTP.Address == "" {
		e.say("sftp", checkSkipped, "there is no sftp section: import needs none, run does")
		return
	}
	if err := checkLogin(&conf.SFTP); err != nil {
		e.wrong("sftp", err)
		return
	}
	account := e.login(ctx, &conf.SFTP)
	if account == nil {
		return
	}
	defer account.Close()
	for i := range conf.Feeds {
		if ctx.Err() != nil {
			return
		}
		e.directories(ctx, account, &conf.Feeds[i])
	}
}

// login dials and says how far it came; nil when that was not far enough.
func (e *examiner) login(ctx context.Context, c *config.SFTP) *inbox.Account {
	const reach, key, login = "sftp server", "host key", "sftp login"
	account, err := dial(ctx, c)
	reached := func() { e.say(reach, checkOK, "%s answers", c.Address) }
	trusted := func() { e.say(key, checkOK, "is the one in %s", c.KnownHostsFile) }
	switch {
	case err == nil:
		reached()
		trusted()
		e.say(login, checkOK, "as %s", c.User)
	case ctx.Err() != nil:
		e.say(reach, checkSkipped, "interrupted")
	case errors.Is(err, inbox.ErrConfig):
		e.wrong(login, err)
	case errors.Is(err, inbox.ErrHostKey):
		reached()
		e.fail(key, "%v", err)
		e.say(login, checkSkipped, "no login is tried on a server that is not trusted")
	case errors.Is(err, inbox.ErrLogin), errors.Is(err, inbox.ErrRefused):
		reached()
		trusted()
		e.fail(login, "%v", err)
	default:
		e.fail(reach, "%v", err)
	}
	return account
}

// directories checks that a feed's directories are there and that billdrop may do in them, and between them, what it
// has to.
func (e *examiner) directories(ctx context.Context, account *inbox.Account, f *config.Feed) {
	// A probe that was begun is cleared away: calls are bounded by the timeout, not by an impatient person.
	soft := context.WithoutCancel(ctx)
	sound := true
	for _, d := range []struct{ name, path string }{
		{"inbox", f.Inbox}, {"processing", f.Processing}, {"archive", f.Archive}, {"rejected", f.Rejected}, {"results", f.Results},
	} {
		if ctx.Err() != nil {
			return
		}
		sound = e.directory(soft, account, f.Name+": "+d.name, d.path) && sound
	}
	check := f.Name + ": moves"
	if !sound {
		e.say(check, checkSkipped, "needs all directories")
		return
	}
	if err := tryMoves(soft, account, f); err != nil {
		e.fail(check, "%v; the feed's directories have to be on one file system", err)
		return
	}
	e.say(check, checkOK, "from the inbox to processing, and from there to archive and rejected")
}

// directory checks one directory, and makes it where it is missing and may be made.
func (e *examiner) directory(ctx context.Context, account *inbox.Account, check, dir string) bool {
	status := checkOK
	entry, err := account.Lstat(ctx, dir)
	switch {
	case errors.Is(err, inbox.ErrNotExist) && e.fix:
		if err := account.Mkdir(ctx, dir); err != nil {
			e.fail(check, "%v; or make it by hand", err)
			return false
		}
		status = checkFixed
	case errors.Is(err, inbox.ErrNotExist):
		e.fail(check, "there is no directory %s on the server: make it (billdrop check --fix), or correct the feed's configuration", dir)
		return false
	case err != nil:
		e.fail(check, "%v", err)
		return false
	case !entry.Dir && !entry.Link:
		e.fail(check, "%s is no directory: name another in the feed's configuration", dir)
		return false
	}
	entries, err := account.List(ctx, dir)
	if err == nil {
		err = tryRemote(ctx, account, dir)
	}
	if err != nil {
		e.fail(check, "%v", err)
		return false
	}
	e.say(check, status, "%s, %s in it; may be read and written", dir, counted(len(entries), "entry", "entries"))
	return true
}

// probeText is what stands in a probe, here and on the server.
const probeText = "billdrop check\n"

// probeName is hidden, so no billdrop takes it for a bill file, whatever its pattern.
func probeName() string { return ".billdrop-check-" + randomWord() + ".tmp" }

// tryRemote does in a directory what billdrop does: write a file, read it back, rename it, remove it.
func tryRemote(ctx context.Context, account *inbox.Account, dir string) error {
	name := probeName()
	at, to := path.Join(dir, name), path.Join(dir, probeName())
	err := account.Publish(ctx, dir, name, strings.NewReader(probeText))
	if err == nil {
		if err = account.Rename(ctx, at, to); err == nil {
			at = to
		}
	}
	return clearProbe(ctx, account, at, err)
}

// clearProbe removes a probe that has got as far as at. Where something went wrong before, that is what is told.
func clearProbe(ctx context.Context, account *inbox.Account, at string, err error) error {
	if e := account.Remove(ctx, at); err == nil {
		err = e
	}
	return err
}

// tryMoves takes a file the ways that bill files go.
func tryMoves(ctx context.Context, account *inbox.Account, f *config.Feed) error {
	for _, shelf := range []string{f.Archive, f.Rejected} {
		if err := tryWay(ctx, account, f.Inbox, f.Processing, shelf); err != nil {
			return err
		}
	}
	return nil
}

// tryWay moves a file from directory to directory, and removes it at the end, or from where it got to.
func tryWay(ctx context.Context, account *inbox.Account, dirs ...string) error {
	name := probeName()
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
	return clearProbe(ctx, account, path.Join(at, name), err)
}

// counted is count for words whose plural is another.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%s %s", grouped(int64(n)), many)
}
