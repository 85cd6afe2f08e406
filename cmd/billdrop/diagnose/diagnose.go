// Package diagnose checks the set-up: configuration, keys, API, ledger, spool and SFTP
// server. It says of each thing that it is well, or exactly what to do.
package diagnose

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
)

// How a check ended.
const (
	OK      = "ok"
	Failed  = "failed"
	Fixed   = "fixed"   // it is well now
	Warning = "warning" // it works, and should be mended nevertheless
	Skipped = "skipped" // it needs something that failed, or is not needed
)

// Line is the result of one check. Keys of its JSON may be added at any time.
type Line struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, failed, fixed, warning or skipped
	Detail string `json:"detail"` // what was found; if it failed, also what to do
}

// Probe asks the Billing API for a bill that does not exist.
type Probe interface {
	Scope() ledger.Scope
	Probe(ctx context.Context, reference string) error
}

// Options is what to check, and with what.
type Options struct {
	Config string // path of the configuration file; "" = the usual places
	Fix    bool   // make directories that are missing
	Env    func(string) (string, bool)
	Report func(Line) // called at the end of each check
	// Lane returns what sends a feed's bills, and where its API key comes from.
	Lane func(*config.Config, *config.Feed) (lane Probe, from string, err error)
	Dial func(context.Context, *config.SFTP) (*inbox.Account, error)
}

// Result is the number of checks that failed.
type Result struct {
	Misconfigured int // because of the configuration or a key file
	Broken        int // for another reason
}

// Failed is the number of all checks that failed.
func (r Result) Failed() int { return r.Misconfigured + r.Broken }

// Run checks everything, whatever fails on the way. It returns early if ctx is cancelled.
func Run(ctx context.Context, o Options) Result {
	e := &examiner{Options: o}
	if conf := e.configuration(); conf != nil {
		e.merchants(ctx, conf)
		e.ledger(ctx, conf)
		e.spool(conf.SpoolDir)
		e.webhooks(conf)
		e.server(ctx, conf)
	}
	return e.Result
}

// examiner runs the checks and reports what it finds as it goes.
type examiner struct {
	Options
	Result
	temporary func(name string) string // the name of a remote file while it is written
}

func (e *examiner) report(check, status, format string, args ...any) {
	e.Report(Line{check, status, fmt.Sprintf(format, args...)})
}

// wrong reports an error for which the configuration is to blame. Each line of its text is
// one mistake.
func (e *examiner) wrong(check string, err error) {
	for line := range strings.Lines(text(err)) {
		e.Misconfigured++
		e.report(check, Failed, "%s", strings.TrimSpace(line))
	}
}

// fail reports what else is not well: what is wrong, and what to do.
func (e *examiner) fail(check, wrong, advice string) {
	e.Broken++
	e.report(check, Failed, "%s", strings.ReplaceAll(wrong+": "+advice, "\n", "; "))
}

// failed reports an error that has its own advice.
func (e *examiner) failed(check string, err error) {
	e.Broken++
	e.report(check, Failed, "%s", strings.ReplaceAll(text(err), "\n", "; "))
}

// text is what is wrong, and what to do. Joined errors have a line each.
func text(err error) string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && errors.Join(joined.Unwrap()...).Error() == err.Error() {
		var lines []string
		for _, e := range joined.Unwrap() {
			lines = append(lines, text(e))
		}
		return strings.Join(lines, "\n")
	}
	return strings.Join(append([]string{err.Error()}, describe.Advice(err)...), ": ")
}

func (e *examiner) configuration() *config.Config {
	const check = "configuration"
	path, err := config.Find(e.Config)
	if err != nil {
		e.wrong(check, err)
		return nil
	}
	// Keys and logins are checks of their own. The configuration may be good without them.
	conf, err := config.Load(path, e.Env, config.Needs{OnFinish: true})
	if err != nil {
		e.wrong(check, err)
		return nil
	}
	if err := errors.Join(config.CheckFileRights(path), conf.CheckRights()); err != nil {
		e.wrong("rights", err)
	}
	e.report(check, OK, "%s, %s: %s", path, describe.Count(len(conf.Feeds), "feed"), strings.Join(conf.FeedNames(), ", "))
	return conf
}

// merchants checks the API key of each merchant account, and that the API accepts it.
func (e *examiner) merchants(ctx context.Context, conf *config.Config) {
	seen := make(map[ledger.Scope]bool)
	for i := range conf.Feeds {
		f := &conf.Feeds[i]
		if seen[f.Scope()] {
			continue
		}
		seen[f.Scope()] = true
		of := ""
		if len(conf.Feeds) > 1 {
			of = " of " + f.Merchant
		}
		lane, from, err := e.lane(conf, f)
		if err != nil {
			e.wrong("api key"+of, err)
			e.report("api"+of, Skipped, "needs a valid key")
			continue
		}
		e.report("api key"+of, OK, "%s holds a %s key", from, lane.Scope().Mode)
		e.api(ctx, "api"+of, f.API.BaseURL, lane)
	}
}

func (e *examiner) lane(conf *config.Config, f *config.Feed) (Probe, string, error) {
	if secret, _ := e.Env(config.EnvAPIKey); f.API.KeyFile == "" && secret == "" {
		return nil, "", describe.Advise(fmt.Errorf("there is none"),
			"write it into a file (mode 0600) and name that in api.key_file, or set %s", config.EnvAPIKey)
	}
	lane, from, err := e.Lane(conf, f)
	if from != config.EnvAPIKey {
		from = f.API.KeyFile
	}
	return lane, from, err
}

func (e *examiner) api(ctx context.Context, check, url string, lane Probe) {
	start := time.Now()
	err := lane.Probe(ctx, "billdrop-check-"+rand.Text())
	switch took := time.Since(start).Round(time.Millisecond); {
	case ctx.Err() != nil:
		e.report(check, Skipped, "interrupted")
	case err != nil:
		e.Broken++
		e.report(check, Failed, "%s: %s", url, strings.TrimPrefix(text(err), delivery.ErrStopped.Error()+": ")) // nothing was to be stopped
	default:
		e.report(check, OK, "%s accepts the key, and answers in %s", url, took)
	}
}
