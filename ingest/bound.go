package ingest

import (
	"context"
	"fmt"
	"strings"

	"billdrop/ingest/ledger"
)

// A file that was begun is bound to its merchant and mode, and the bills of a merchant in one
// mode are bound to one API. Under another key, or at another address, the API would not know
// what was sent, and every row would become a second bill.

// checkBound returns an ErrNotApplicable that names both sides if unfinished files of the feed,
// or the bills of its merchant, are bound to something else than the feed is now set up for.
// It runs before anything is done.
func (w *Worker) checkBound(ctx context.Context, feed *Feed) error {
	files, err := w.Ledger.Files(ctx, ledger.Query{Feed: feed.Name, Unfinished: true})
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := w.checkScope(feed, f); err != nil {
			return err
		}
	}
	return w.checkAPI(ctx, feed)
}

// checkScope is checkBound of one file.
func (w *Worker) checkScope(feed *Feed, f *ledger.File) error {
	scope := feed.Lane.Scope()
	if f.Scope == scope {
		return nil
	}
	return notApplicable("put merchant and key back until the file is done; or end it under them: billdrop reject "+f.ID,
		"file %s (%s) was begun for merchant %s in %s mode, and the feed %s is now for %s in %s mode",
		f.Name, f.ID, f.Scope.Merchant, f.Scope.Mode, feed.Name, scope.Merchant, scope.Mode)
}

// checkAPI compares the address of the feed's API with that of the merchant's bills.
func (w *Worker) checkAPI(ctx context.Context, feed *Feed) error {
	scope := feed.Lane.Scope()
	bound, err := w.Ledger.BaseURL(ctx, scope)
	if err != nil || bound == "" || bound == feed.BaseURL {
		return err
	}
	return notApplicable("put api.base_url back; or, if this is the same API at a new address, run: billdrop ledger rebind",
		"the bills of merchant %s in %s mode are at %s, and api.base_url is now %s", scope.Merchant, scope.Mode, bound, feed.BaseURL)
}

// bind is checkBound of the job's file before its rows are sent. It records the address of the API
// before the first bill of the merchant is sent to it; of workers with two addresses, one records
// its own.
func (j *job) bind(ctx context.Context) error {
	if err := j.checkScope(j.feed, j.file); err != nil {
		return err
	}
	scope := j.feed.Lane.Scope()
	bound, err := j.Ledger.BaseURL(ctx, scope)
	if err != nil {
		return err
	}
	if bound == "" {
		giveBack, err := j.takeLease(ctx, "api/"+scope.Merchant+"/"+scope.Mode)
		if err != nil {
			return err
		}
		defer giveBack()
		if bound, err = j.Ledger.BaseURL(ctx, scope); err != nil {
			return err
		}
	}
	if bound == "" {
		return j.Ledger.SetBaseURL(ctx, scope, j.feed.BaseURL)
	}
	return j.checkAPI(ctx, j.feed)
}

// Rebound is a merchant in one mode whose bills are at another address now.
type Rebound struct {
	Scope    ledger.Scope
	From, To string
}

// Rebind records the addresses of the feeds' APIs, whatever was recorded before. It returns
// what it has changed.
func Rebind(ctx context.Context, led ledger.Ledger, feeds []*Feed) ([]Rebound, error) {
	var changed []Rebound
	for _, f := range feeds {
		scope := f.Lane.Scope()
		from, err := led.BaseURL(ctx, scope)
		if err != nil {
			return changed, err
		}
		if from == "" || from == f.BaseURL {
			continue // it has no bills, or another feed of the merchant came first
		}
		if err := led.SetBaseURL(ctx, scope, f.BaseURL); err != nil {
			return changed, err
		}
		changed = append(changed, Rebound{scope, from, f.BaseURL})
	}
	return changed, nil
}

// checkFeeds returns an error that names the unfinished files of feeds that are no longer in
// the configuration, because nothing else would: no feed goes on with them.
func (w *Worker) checkFeeds(ctx context.Context, which func(*ledger.File) bool) error {
	files, err := w.Ledger.Files(ctx, ledger.Query{Unfinished: true})
	if err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, f := range w.Feeds {
		known[f.Name] = true
	}
	if w.shared != nil {
		colleagues, err := w.shared.Workers(ctx)
		if err != nil {
			return err
		}
		for _, c := range colleagues {
			for _, feed := range c.Feeds {
				known[feed] = true
			}
		}
	}
	var lost []string
	for _, f := range files {
		if !known[f.Feed] && which(f) {
			lost = append(lost, fmt.Sprintf("%s (%s, feed %s)", f.Name, f.ID, f.Feed))
		}
	}
	const most = 10
	if more := len(lost) - most; more > 0 {
		lost = append(lost[:most], fmt.Sprintf("and %d more", more))
	}
	if len(lost) == 0 {
		return nil
	}
	return &Error{
		Err:  fmt.Errorf("files are under way of feeds that are no longer in the configuration: %s", strings.Join(lost, ", ")),
		Hint: "put the feeds back under these names until their files are done, or rejected (billdrop reject FILE_ID)",
	}
}

func anyFile(*ledger.File) bool { return true }

func localFile(f *ledger.File) bool { return f.Origin == ledger.FromLocal }
