package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

type checkCmd struct {
	Fix bool `help:"Make the spool directory and the feeds' directories on the server where they are missing."`
}

func (checkCmd) Help() string {
	return `A line for each thing: ok, or exactly what to do. It looks up one bill that cannot exist, logs in to the SFTP server, and writes, moves and deletes a small hidden file in the directories there. It sends no bill and does not write to the ledger, so it may be used while a worker runs. Exits 0 when all is well, 2 when the configuration or a key file is at fault, 3 when something else is.

Example: billdrop check --fix`
}

// How a check ended.
const (
	checkOK      = "ok"
	checkFailed  = "failed"
	checkFixed   = "fixed"   // by --fix; it is well now
	checkSkipped = "skipped" // it rests on something that failed, or is not needed
)

// minSpace is the room on the spool's disk below which a run is likely to stop, bytes.
const minSpace = 64 << 20

// checked is one line of the check. Keys may be added at any time.
type checked struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, failed, fixed or skipped
	Detail string `json:"detail"` // what was found; of failed: what to do
}

// examiner goes through the set-up and says what it finds as it goes.
type examiner struct {
	*session
	fix   bool
	lines []checked
	// Failures that are the configuration's, and others'.
	misconfigured, broken int
}

// Run checks everything that can be checked, whatever fails on the way.
func (c *checkCmd) Run(ctx context.Context, s *session) error {
	e := &examiner{session: s, fix: c.Fix, lines: []checked{}}
	if conf := e.configuration(); conf != nil {
		e.merchants(ctx, conf)
		e.ledger(ctx, conf)
		e.spool(conf.SpoolDir)
		e.server(ctx, conf)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	failed := e.misconfigured + e.broken
	if s.json() {
		if err := writeJSON(s.stdout, map[string]any{"ok": failed == 0, "checks": e.lines}); err != nil {
			return fmt.Errorf("write to standard output: %w", err)
		}
	}
	err := fmt.Errorf("%s failed; put right what the lines say, then run again: billdrop check", count(failed, "check"))
	switch {
	case e.misconfigured > 0:
		return usageError{err}
	case e.broken > 0:
		return err
	}
	return nil
}

// say writes a line: what was found, and what to do if that is not well.
func (e *examiner) say(check, status, format string, args ...any) {
	l := checked{check, status, fmt.Sprintf(format, args...)}
	e.lines = append(e.lines, l)
	if !e.json() {
		fmt.Fprintf(e.stdout, "%-7s  %-18s  %s\n", l.Status, l.Check, l.Detail)
	}
}

// wrong says each of the errors joined in err, which the configuration is to blame for.
func (e *examiner) wrong(check string, err error) {
	for line := range strings.Lines(err.Error()) {
		e.misconfigured++
		e.say(check, checkFailed, "%s", strings.TrimSpace(line))
	}
}

// fail says what else is not well.
func (e *examiner) fail(check, format string, args ...any) {
	e.broken++
	e.say(check, checkFailed, "%s", strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; "))
}

func (e *examiner) configuration() *config.Config {
	const check = "configuration"
	path, err := config.Find(e.Config)
	if err != nil {
		e.wrong(check, err)
		return nil
	}
	// Keys and logins are checks of their own: a configuration may be good but for them.
	conf, err := config.Load(path, e.env, config.Needs{OnFinish: true})
	if err != nil {
		e.wrong(check, err)
		return nil
	}
	e.say(check, checkOK, "%s, %s: %s", path, count(len(conf.Feeds), "feed"), list(conf.FeedNames()))
	return conf
}

// merchants checks the API key of each merchant account, and that the API knows it.
func (e *examiner) merchants(ctx context.Context, conf *config.Config) {
	type merchant struct {
		name string
		live bool
	}
	seen := make(map[merchant]bool)
	for i := range conf.Feeds {
		f := &conf.Feeds[i]
		of := ""
		if len(conf.Feeds) > 1 {
			of = " of " + f.Merchant
		}
		if m := (merchant{f.Merchant, f.API.Live}); seen[m] {
			continue
		} else {
			seen[m] = true
		}
		lane, from, err := e.lane(conf, f)
		if err != nil {
			e.wrong("api key"+of, err)
			e.say("api"+of, checkSkipped, "needs a key that can be used")
			continue
		}
		e.say("api key"+of, checkOK, "%s holds a %s key", from, lane.Scope().Mode)
		e.api(ctx, "api"+of, f.API.BaseURL, lane)
	}
}

// lane is what a feed's bills would go through, and where its key comes from.
func (e *examiner) lane(conf *config.Config, f *config.Feed) (*delivery.Lane, string, error) {
	if secret, _ := e.env(config.EnvAPIKey); f.API.KeyFile == "" && secret == "" {
		return nil, "", fmt.Errorf("there is none: write it into a file (mode 0600) and name that in api.key_file, or set %s", config.EnvAPIKey)
	}
	_, from, err := readKey(e.session, conf, f)
	if err != nil {
		return nil, "", err
	}
	if from != config.EnvAPIKey {
		from = f.API.KeyFile
	}
	lane, err := buildLane(e.session, conf, f)
	return lane, from, err
}

// api asks for a bill that cannot be there.
func (e *examiner) api(ctx context.Context, check, url string, lane *delivery.Lane) {
	start := time.Now()
	err := lane.Probe(ctx, "billdrop-check-"+randomWord())
	switch took := time.Since(start).Round(time.Millisecond); {
	case ctx.Err() != nil:
		e.say(check, checkSkipped, "interrupted")
	case err != nil:
		e.fail(check, "%s: %s", url, plain(err))
	default:
		e.say(check, checkOK, "%s knows the key, and answers in %s", url, took)
	}
}

// plain is a reason to stop without what it has to say about a run: here there is none.
func plain(err error) string {
	var stop *delivery.Stop
	if errors.As(err, &stop) {
		return stop.Reason + ": " + stop.Hint
	}
	return err.Error()
}

// ledger looks into the ledger, if there is one, and whether its directory can be written.
func (e *examiner) ledger(ctx context.Context, conf *config.Config) {
	const check = "ledger"
	path := conf.LedgerPath()
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		// It is not made, not even by --fix: it may be a disk that is not mounted.
		e.fail(check, "there is no directory %s for it: make it (mkdir -p -m 700 %s), or mount the disk that it is on", dir, shellWord(dir))
		return
	}
	if err := tryFile(dir); err != nil {
		e.fail(check, "%v: give billdrop's user the right to write in %s", err, dir)
		return
	}
	led, err := sqlite.OpenReadOnly(ctx, path)
	if errors.Is(err, ledger.ErrNotFound) {
		e.say(check, checkOK, "%s is not there yet; the first run makes it", path)
		return
	}
	if err != nil {
		e.fail(check, "%v", err)
		return
	}
	unfinished, err := led.Files(ctx, ledger.Query{Unfinished: true})
	if err = errors.Join(err, led.Close()); err != nil {
		e.fail(check, "%v", err)
		return
	}
	e.say(check, checkOK, "%s, %s not finished%s", path, count(len(unfinished), "file"), holder(path))
}

// holder says who is at work with the ledger, as far as that can be seen.
func holder(path string) string {
	switch pid, seen, err := sqlite.Holder(path); {
	case err != nil || !seen:
		return ""
	case pid == 0:
		return "; no billdrop is at work with it"
	default:
		return fmt.Sprintf("; a billdrop is at work with it: process %d", pid)
	}
}

// spool checks the directory for copies of files that are being worked on.
func (e *examiner) spool(dir string) {
	const check = "spool"
	status := checkOK
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist) && e.fix:
		if err := os.MkdirAll(dir, 0o700); err != nil {
			e.fail(check, "make the directory: %v: make it by hand, writable for billdrop's user, or name another in spool_dir", err)
			return
		}
		status = checkFixed
	case errors.Is(err, os.ErrNotExist):
		e.fail(check, "there is no directory %s: make it: billdrop check --fix", dir)
		return
	case err != nil:
		e.fail(check, "%v: let billdrop's user look at it", err)
		return
	case !info.IsDir():
		e.fail(check, "%s is no directory: name another in spool_dir", dir)
		return
	}
	if err := tryFile(dir); err != nil {
		e.fail(check, "%v: give billdrop's user the right to write in %s", err, dir)
		return
	}
	free, known := freeSpace(dir)
	switch {
	case known && free < minSpace:
		e.fail(check, "%s has only %s free: make room on its disk", dir, humanize.IBytes(free))
	case known:
		e.say(check, status, "%s, writable, %s free", dir, humanize.IBytes(free))
	default:
		e.say(check, status, "%s, writable", dir)
	}
}

// tryFile makes a file in a directory and removes it.
func tryFile(dir string) error {
	f, err := os.CreateTemp(dir, ".billdrop-check-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(probeText)
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

func randomWord() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
