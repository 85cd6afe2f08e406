// Package recheck verifies the bills of finished files with the API, one file after the other, and
// puts a report of each beside the file's own.
package recheck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"billdrop/cmd/billdrop/config"
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

// refusef refuses files that cannot be verified as billdrop is called or set up. Nothing was asked.
func refusef(hint, format string, args ...any) error {
	return describe.Misused(fmt.Errorf(format, args...)).Hint("%s", hint)
}

// Recheck is what to verify, and with what.
type Recheck struct {
	Config   *config.Config
	Ledger   ledger.Ledger // is only read
	Kit      wiring.Kit
	FileIDs  []string
	Since    time.Time // every file that was finished since then; zero = none
	Progress ingest.Progress
}

// File is what became of one file.
type File struct {
	FileID   string                 `json:"file_id"`
	File     string                 `json:"file"`
	Report   string                 `json:"report"` // path
	Bills    int                    `json:"bills"`
	Requests int                    `json:"requests"`
	Findings map[report.Finding]int `json:"findings"`
}

// Run returns the files that were verified, also with an error.
func (r *Recheck) Run(ctx context.Context) ([]File, error) {
	conf := r.Config
	lanes, err := r.Kit.Lanes(conf)
	if err != nil {
		return nil, describe.Misused(err)
	}
	feeds := make(map[string]*ingest.Feed)
	for i := range conf.Feeds {
		feeds[conf.Feeds[i].Name] = wiring.Feed(&conf.Feeds[i], lanes[i])
	}
	files, err := r.files(ctx, feeds)
	if err != nil {
		return nil, err
	}
	places, err := openPlaces(conf, files)
	if err != nil {
		return nil, err
	}
	defer places.close()
	var done []File
	for _, f := range files {
		v, err := r.file(ctx, feeds[f.Feed], f, places)
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
func (r *Recheck) files(ctx context.Context, feeds map[string]*ingest.Feed) ([]*ledger.File, error) {
	var files []*ledger.File
	if !r.Since.IsZero() {
		all, err := r.Ledger.Files(ctx, ledger.Query{ExcludeDropped: true})
		if err != nil {
			return nil, err
		}
		for _, f := range slices.Backward(all) {
			if f.State == ledger.Done && !f.Finished.Before(r.Since) && f.RowsRead {
				files = append(files, f)
			}
		}
	}
	for _, id := range r.FileIDs {
		f, err := r.Ledger.File(ctx, id)
		if err != nil {
			return nil, describe.AdviseOrder(id, err)
		}
		if f.State != ledger.Done {
			return nil, refusef("let it end, then verify it", "%s (%s) is not finished yet (%s)", f.Name, f.ID, f.State)
		}
		files = append(files, f)
	}
	for _, f := range files {
		if err := r.check(ctx, feeds, f); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// check checks that the API that is configured now is the one that has the file's
// bills. Another one would not know any of them.
func (r *Recheck) check(ctx context.Context, feeds map[string]*ingest.Feed, f *ledger.File) error {
	feed := feeds[f.Feed]
	if feed == nil {
		return refusef("put the feed back", "%s came from feed %q, which is no longer in the configuration", f.ID, f.Feed)
	}
	if scope := feed.Lane.Scope(); scope != f.Scope {
		return refusef("verify it under that merchant and key", "file %s was billed for merchant %s in %s mode, and the feed %s is now for %s in %s mode",
			f.ID, f.Scope.Merchant, f.Scope.Mode, feed.Name, scope.Merchant, scope.Mode)
	}
	bound, err := r.Ledger.BaseURL(ctx, f.Scope)
	if err == nil && bound != "" && bound != feed.BaseURL {
		return refusef("put api.base_url back; or, if this is the same API at a new address, run: billdrop ledger rebind", "the bills of merchant %s in %s mode are at %s, and api.base_url is now %s", f.Scope.Merchant, f.Scope.Mode, bound, feed.BaseURL)
	}
	return err
}

// file verifies one file, and returns nil if there is no report of it.
func (r *Recheck) file(ctx context.Context, feed *ingest.Feed, f *ledger.File, places *places) (*File, error) {
	place, err := places.of(ctx, feed, f)
	if err != nil {
		return nil, err
	}
	r.Progress.FileStarted(ingest.Started{ID: f.ID, Name: f.Name, Feed: f.Feed, Rows: f.Rows})
	found, err := verify.File(ctx, verify.Options{
		Ledger: r.Ledger, Lane: feed.Lane, File: f, Place: place, Asked: func() { r.Progress.RowDone(f.ID, "") },
	})
	r.Progress.FileFinished(f.ID, report.Summary{})
	if stopped := errors.Is(err, delivery.ErrStopped) && !errors.Is(err, delivery.ErrSetup); err != nil && !stopped {
		return nil, err
	}
	return &File{FileID: f.ID, File: f.Name, Report: strings.TrimSuffix(f.Results, "/") + "/" + found.Report,
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
		return nil, refusef("put the section back", "a file came from an SFTP inbox, and the configuration has no sftp section")
	}
	if err := conf.SFTP.CheckFiles(); err != nil {
		return nil, describe.Misused(err)
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

// Table is a table of what was found.
func Table(files []File) string {
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
