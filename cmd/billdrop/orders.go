package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/report"
)

// ordered is an order that was left for the billdrop that has the ledger.
type ordered struct {
	Order  ingest.Order `json:"order"`
	FileID string       `json:"file_id"`
	File   string       `json:"file"`
}

// leaveOrder leaves an order for the billdrop that has the ledger. Where none can be left, the ledger is just locked.
func leaveOrder(ctx context.Context, conf *config.Config, o ingest.Order, id string) (*ordered, error) {
	locked := func(why error) error {
		return fmt.Errorf("%w (%s), and no order can be left for it: %w", ledger.ErrLocked, conf.LedgerPath(), why)
	}
	led, err := lookIntoLedger(ctx, conf)
	if err != nil {
		return nil, locked(err)
	}
	f, err := ingest.LeaveOrder(ctx, led, conf.SpoolDir, o, id)
	switch err = errors.Join(err, led.Close()); {
	case errors.Is(err, ledger.ErrNotFound), errors.Is(err, ingest.ErrNotApplicable), errors.Is(err, ingest.ErrNothingToDo):
		return nil, err
	case err != nil:
		return nil, locked(err)
	}
	return &ordered{Order: o, FileID: f.ID, File: f.Name}, nil
}

// words tell a person what was ordered, and when it is done.
func (o *ordered) words(conf *config.Config) string {
	is, does := "is approved", "sends it"
	switch o.Order {
	case ingest.OrderReject:
		is, does = "is rejected", "reports it so"
	case ingest.OrderRetry:
		is, does = "is to be retried", "sends its failed and unknown rows"
	}
	return fmt.Sprintf("%s (%s) %s; the running worker %s at its next poll (poll_interval %s); where an import or a single run is at work, the next run does\n",
		o.File, o.FileID, is, does, plainDuration(conf.PollInterval))
}

// plainDuration writes 1m for 1m0s.
func plainDuration(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// again has a file that rests gone on with: by this process, or by the one that has the ledger. showFiles' errors, and
// what a person may have to be told of the file itself.
func again(ctx context.Context, s *session, o ingest.Order, id string) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	// Seen early where it can be seen: an order needs neither key nor server.
	if pid, _, err := sqlite.Holder(conf.LedgerPath()); err == nil && pid != 0 {
		return againElsewhere(ctx, s, conf, o, id)
	}
	if conf, err = loadConfig(s, config.Needs{Key: true, OnFinish: true}); err != nil {
		return err
	}
	m, err := assemble(ctx, s, conf, conf.SFTP.Address != "")
	if errors.Is(err, ledger.ErrLocked) {
		return againElsewhere(ctx, s, conf, o, id)
	}
	if err != nil {
		return err
	}
	f, err := againHere(ctx, m, conf.SpoolDir, o, id)
	if err = errors.Join(err, m.close()); err != nil {
		return againFailed(s, id, err)
	}
	return showFiles(s, []finished{f}, nil)
}

func againHere(ctx context.Context, m *machine, spoolDir string, o ingest.Order, id string) (f finished, err error) {
	if err := ingest.WithdrawOrders(spoolDir, id); err != nil { // this is the last word
		return f, err
	}
	if o == ingest.OrderReject {
		f.Summary, err = m.worker.Reject(ctx, id)
	} else {
		f.Summary, err = m.worker.Retry(ctx, id)
	}
	if err != nil {
		return f, err
	}
	record, err := m.ledger.File(ctx, id)
	if err != nil {
		return f, err
	}
	f.where = record.Results
	return f, nil
}

func againElsewhere(ctx context.Context, s *session, conf *config.Config, o ingest.Order, id string) error {
	left, err := leaveOrder(ctx, conf, o, id)
	if err != nil {
		return againFailed(s, id, err)
	}
	if s.json() {
		return writeJSON(s.stdout, filesDocument{Files: []report.Summary{}, Ordered: left})
	}
	_, err = fmt.Fprint(s.stdout, left.words(conf))
	return err
}

// againFailed tells why nothing came of it.
func againFailed(s *session, id string, err error) error {
	switch {
	case errors.Is(err, ingest.ErrNothingToDo):
		s.log.Info(err.Error())
		return showFiles(s, nil, nil)
	case errors.Is(err, ledger.ErrNotFound), errors.Is(err, ingest.ErrNotApplicable):
		return notFor(id, err)
	case errors.Is(err, ledger.ErrLocked):
		return err
	}
	return showFiles(s, nil, err)
}

// notFor adds to the refusal of an order where to look.
func notFor(id string, err error) error {
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return fmt.Errorf("%w\nhint: the id of a file stands in its ack.json and summary.json as file_id, such as 20261123-053000-1f2e3d4c; %q is none that this ledger knows", err, id)
	case errors.Is(err, ingest.ErrNotApplicable):
		return fmt.Errorf("%w\nhint: billdrop status %s tells how the file stands", err, id)
	}
	return err
}
