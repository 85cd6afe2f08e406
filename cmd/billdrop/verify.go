package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/console"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
	"billdrop/ingest/verify"
)

type verifyCmd struct {
	FileIDs []string `arg:"" optional:"" name:"FILE_ID" help:"Ids of finished files, as in their summaries."`
	Since   *since   `placeholder:"7d" help:"Verify every file that was finished since then: hours (24h), days (7d) or weeks (2w) ago."`
}

func (verifyCmd) Help() string {
	return `Asks the API for every bill that a file says exists, one request a bill and as fast as api.rate_limit allows, and writes STEM.verify.csv beside the file's reports. It changes nothing else, so it may be used while a worker runs. A finding is same, changed, voided, missing, or unknown where the API gave no answer. Exits 0 if all are the same, 1 if not, 3 if some are unknown.

Examples:
  billdrop verify 20261123-053000-1f2e3d4c
  billdrop verify --since 7d`
}

// since is how long ago something was.
type since time.Duration

var sinceForm = regexp.MustCompile(`^([0-9]{1,5})([hdw])$`)

// UnmarshalText reads 24h, 7d or 2w.
func (s *since) UnmarshalText(text []byte) error {
	m := sinceForm.FindStringSubmatch(string(text))
	if m == nil {
		return describe.Advise(fmt.Errorf("%q is not a time span", text), "write a whole number of hours, days or weeks, such as 24h, 7d or 2w")
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return err
	}
	hours := map[string]int{"h": 1, "d": 24, "w": 7 * 24}[m[2]]
	*s = since(time.Duration(n*hours) * time.Hour)
	return nil
}

// verifiedFile is what became of one file.
type verifiedFile struct {
	FileID   string                 `json:"file_id"`
	File     string                 `json:"file"`
	Report   string                 `json:"report"` // path
	Bills    int                    `json:"bills"`
	Requests int                    `json:"requests"`
	Findings map[report.Finding]int `json:"findings"`
}

// Run verifies the files one after the other.
func (c *verifyCmd) Run(ctx context.Context, s *session) error {
	if (len(c.FileIDs) > 0) == (c.Since != nil) {
		return usagef("neither files nor --since are named, or both").hint("name files (billdrop status lists their ids), or write --since 7d")
	}
	conf, err := loadConfig(s, config.Needs{Key: true})
	if err != nil {
		return err
	}
	led, err := readLedger(ctx, s, conf)
	if err != nil {
		return err
	}
	done, err := c.verify(ctx, s, conf, led)
	err = errors.Join(err, led.Close())
	return printVerified(s, done, err)
}

// verify returns the files that were verified, also with an error.
func (c *verifyCmd) verify(ctx context.Context, s *session, conf *config.Config, led ledger.Ledger) ([]verifiedFile, error) {
	lanes, err := s.kit().Lanes(conf)
	if err != nil {
		return nil, usageError{err}
	}
	feeds := make(map[string]*ingest.Feed)
	for i := range conf.Feeds {
		feeds[conf.Feeds[i].Name] = wiring.Feed(&conf.Feeds[i], lanes[i])
	}
	files, err := c.files(ctx, led, feeds)
	if err != nil {
		return nil, err
	}
	places, err := openPlaces(conf, files)
	if err != nil {
		return nil, err
	}
	defer places.close()
	bar := console.NewProgress(s.screen, s.log, !s.NoProgress)
	defer bar.Close()
	var done []verifiedFile
	for _, f := range files {
		v, err := verifyFile(ctx, led, feeds[f.Feed], f, places, bar)
		if v != nil {
			done = append(done, *v)
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// files returns the files to verify, oldest first. It refuses before anything is asked.
func (c *verifyCmd) files(ctx context.Context, led ledger.Ledger, feeds map[string]*ingest.Feed) ([]*ledger.File, error) {
	var files []*ledger.File
	if c.Since != nil {
		all, err := led.Files(ctx, ledger.Query{ExcludeDropped: true})
		if err != nil {
			return nil, err
		}
		from := time.Now().Add(-time.Duration(*c.Since))
		for _, f := range slices.Backward(all) {
			if f.State == ledger.Done && !f.Finished.Before(from) && f.RowsRead {
				files = append(files, f)
			}
		}
	}
	for _, id := range c.FileIDs {
		f, err := led.File(ctx, id)
		if err != nil {
			return nil, adviseOrder(id, err)
		}
		if f.State != ledger.Done {
			return nil, usagef("%s (%s) is not finished yet (%s)", f.Name, f.ID, f.State).hint("let it end, then verify it")
		}
		files = append(files, f)
	}
	for _, f := range files {
		if err := checkVerifiable(ctx, led, feeds, f); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// checkVerifiable checks that the API that is configured now is the one that has the file's
// bills. Another one would not know any of them.
func checkVerifiable(ctx context.Context, led ledger.Ledger, feeds map[string]*ingest.Feed, f *ledger.File) error {
	feed := feeds[f.Feed]
	if feed == nil {
		return usagef("%s came from feed %q, which is no longer in the configuration", f.ID, f.Feed).hint("put the feed back")
	}
	if scope := feed.Lane.Scope(); scope != f.Scope {
		return usagef("file %s was billed for merchant %s in %s mode, and the feed %s is now for %s in %s mode",
			f.ID, f.Scope.Merchant, f.Scope.Mode, feed.Name, scope.Merchant, scope.Mode).hint("verify it under that merchant and key")
	}
	bound, err := led.BaseURL(ctx, f.Scope)
	if err == nil && bound != "" && bound != feed.BaseURL {
		return usagef("the bills of merchant %s in %s mode are at %s, and api.base_url is now %s", f.Scope.Merchant, f.Scope.Mode, bound, feed.BaseURL).
			hint("put api.base_url back; or, if this is the same API at a new address, run: billdrop ledger rebind")
	}
	return err
}

// verifyFile verifies one file, and returns nil if there is no report of it.
func verifyFile(ctx context.Context, led ledger.Ledger, feed *ingest.Feed, f *ledger.File, places *places, bar *console.Progress) (*verifiedFile, error) {
	place, err := places.of(ctx, feed, f)
	if err != nil {
		return nil, err
	}
	bar.FileStarted(ingest.Started{ID: f.ID, Name: f.Name, Feed: f.Feed, Rows: f.Rows})
	found, err := verify.File(ctx, verify.Options{
		Ledger: led, Lane: feed.Lane, File: f, Place: place, Asked: func() { bar.RowDone(f.ID, "") },
	})
	bar.FileFinished(f.ID, report.Summary{})
	if stopped := errors.Is(err, delivery.ErrStopped) && !errors.Is(err, delivery.ErrSetup); err != nil && !stopped {
		return nil, err
	}
	return &verifiedFile{FileID: f.ID, File: f.Name, Report: strings.TrimSuffix(f.Results, "/") + "/" + found.Report,
		Bills: found.Bills, Requests: found.Gets, Findings: found.By}, err
}

// places are where the reports of files go. The SFTP server is reached once it is needed.
type places struct{ server *inbox.Pool }

// openPlaces checks the configuration of the SFTP server if a file came from one.
func openPlaces(conf *config.Config, files []*ledger.File) (*places, error) {
	if !slices.ContainsFunc(files, func(f *ledger.File) bool { return f.Origin == ledger.FromInbox }) {
		return &places{}, nil
	}
	if conf.SFTP.Address == "" {
		return nil, usagef("a file came from an SFTP inbox, and the configuration has no sftp section").hint("put the section back")
	}
	if err := conf.SFTP.CheckFiles(); err != nil {
		return nil, usageError{err}
	}
	return &places{inbox.NewPool(conf.SFTP.Account())}, nil
}

// of returns the place of a file's reports.
func (p *places) of(ctx context.Context, feed *ingest.Feed, f *ledger.File) (transfer.Place, error) {
	if f.Origin == ledger.FromLocal {
		return transfer.Local{Results: f.Results}, nil
	}
	remote, err := p.server.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("feed %s: %w", feed.Name, err)
	}
	dirs := feed.Dirs
	dirs.Results = f.Results // where its other reports are
	return &transfer.Server{Remote: remote, Dirs: dirs}, nil
}

func (p *places) close() {
	if p.server != nil {
		_ = p.server.Close() // returns nil
	}
}

// printVerified prints what was found. It returns err, or what the findings mean for the
// exit code.
func printVerified(s *session, done []verifiedFile, err error) error {
	doc := struct {
		Files []verifiedFile `json:"files"`
		Error string         `json:"error,omitempty"`
	}{Files: done}
	if doc.Files == nil {
		doc.Files = []verifiedFile{}
	}
	if err != nil {
		if len(done) == 0 {
			return err
		}
		doc.Error = err.Error()
	}
	printed := s.print(doc, func() string { return verifiedText(done) })
	unknown, differ := 0, 0
	for _, f := range done {
		unknown += f.Findings[report.Unverified]
		differ += f.Bills - f.Findings[report.Same] - f.Findings[report.Unverified]
	}
	switch {
	case err != nil:
		return err
	case printed != nil:
		return printed
	case unknown > 0:
		return describe.Advise(fmt.Errorf("the API gave no usable answer about %s", describe.Count(unknown, "bill")), "run it again when the API is well")
	case differ > 0:
		return errAttention
	}
	return nil
}

// verifiedText is a table of what was found.
func verifiedText(files []verifiedFile) string {
	if len(files) == 0 {
		return "no file was finished since then\n"
	}
	t := describe.NewTable()
	header := []any{"file", "bills"}
	for _, finding := range report.Findings {
		header = append(header, string(finding))
	}
	t.AppendHeader(header)
	var paths []string
	for _, f := range files {
		row := []any{f.File, describe.Number(f.Bills)}
		for _, finding := range report.Findings {
			row = append(row, describe.Number(f.Findings[finding]))
		}
		t.AppendRow(row)
		paths = append(paths, f.Report)
	}
	return t.Render() + "\n  reports: " + strings.Join(paths, " ") + "\n"
}
