package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

type whyCmd struct {
	BillReference string `arg:"" name:"BILL_REFERENCE" help:"Reference of the bill, as the bill file has it."`
}

func (whyCmd) Help() string {
	return `Every file and line that named the bill, every request that was sent for it with its idempotency key and answer, and what came of it. It looks for the merchants of all feeds, in test and in live mode. Only reads the ledger, so it may be used while a worker runs. A bill that the ledger does not know exits with 2.

Example: billdrop why RATES-000101`
}

// billStory is everything the ledger knows of one reference in one scope. Keys may be added at any time.
type billStory struct {
	BillReference string `json:"bill_reference"`
	Status        string `json:"status"`  // what came of it, as a row status
	BillID        string `json:"bill_id"` // "" when no bill is known to exist
	Merchant      string `json:"merchant"`
	Mode          string `json:"mode"`
	// What the API was last seen to hold; null when no bill is known to exist.
	Bill      *knownBill     `json:"bill"`
	Sightings []billSighting `json:"sightings"` // rows that named it and have an outcome, oldest file first
	Attempts  []billAttempt  `json:"attempts"`  // requests that were to create it, oldest first
	Also      []*billStory   `json:"also,omitempty"`
	history   *ledger.History
}

type knownBill struct {
	CustomerID string `json:"customer_id"`
	AccountID  string `json:"account_id"` // "" when raised directly against the customer
	Currency   string `json:"currency"`
	AmountDue  int64  `json:"amount_due"` // minor units
	BillDate   string `json:"bill_date"`
	DueDate    string `json:"due_date"`
	Voided     bool   `json:"voided"`
}

type billSighting struct {
	FileID string        `json:"file_id"`
	File   string        `json:"file"`
	Line   int           `json:"line"`
	Status ledger.Status `json:"status"`
	Code   string        `json:"code"`
	Detail string        `json:"detail"`
}

type billAttempt struct {
	At             report.Timestamp `json:"at"`
	IdempotencyKey string           `json:"idempotency_key"`
	Generation     int              `json:"generation"`
	Answer         string           `json:"answer"` // "" when none was recorded
	FileID         string           `json:"file_id"`
}

// Run looks the reference up in every scope that the configuration may have written in.
func (c *whyCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	led, err := lookIntoLedger(ctx, conf)
	if err != nil {
		return err
	}
	stories, err := tellStories(ctx, led, scopesOf(conf), c.BillReference)
	if err = errors.Join(err, led.Close()); err != nil {
		return err
	}
	if len(stories) == 0 {
		return usagef("no such bill in this ledger: %s, for %s, in test or live mode\nhint: check the spelling, capital letters included; a file that is still being worked on enters its bills one by one (billdrop status)",
			printableReference(c.BillReference), list(merchantsOf(conf)))
	}
	if s.json() {
		first := stories[0]
		first.Also = stories[1:]
		err = writeJSON(s.stdout, first)
	} else {
		var b strings.Builder
		for i, story := range stories {
			if i > 0 {
				b.WriteByte('\n')
			}
			story.show(&b)
		}
		_, err = io.WriteString(s.stdout, b.String())
	}
	if err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

func merchantsOf(conf *config.Config) []string {
	var merchants []string
	for i := range conf.Feeds {
		if m := conf.Feeds[i].Merchant; !slices.Contains(merchants, m) {
			merchants = append(merchants, m)
		}
	}
	return merchants
}

// scopesOf are the scopes of the feeds as they are set up now, in their order, and then the same merchants in the other
// mode: what was rehearsed in test mode is asked for after going live, too.
func scopesOf(conf *config.Config) []ledger.Scope {
	var scopes []ledger.Scope
	for _, other := range []bool{false, true} {
		for i := range conf.Feeds {
			f := &conf.Feeds[i]
			scope := ledger.Scope{Merchant: f.Merchant, Mode: "test"}
			if f.API.Live != other {
				scope.Mode = "live"
			}
			if !slices.Contains(scopes, scope) {
				scopes = append(scopes, scope)
			}
		}
	}
	return scopes
}

// tellStories reads what the ledger knows of a reference, scope by scope.
func tellStories(ctx context.Context, led ledger.Ledger, scopes []ledger.Scope, reference string) ([]*billStory, error) {
	var stories []*billStory
	for _, scope := range scopes {
		h, err := led.History(ctx, scope, reference)
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		stories = append(stories, newStory(scope, reference, h))
	}
	return stories, nil
}

func newStory(scope ledger.Scope, reference string, h *ledger.History) *billStory {
	s := &billStory{
		BillReference: reference, Status: string(fateOf(h)), Merchant: scope.Merchant, Mode: scope.Mode,
		Sightings: []billSighting{}, Attempts: []billAttempt{}, history: h,
	}
	if b := h.Bill; b != nil && b.State == ledger.Exists {
		s.BillID = b.Seen.BillID
		s.Bill = &knownBill{
			CustomerID: b.Seen.CustomerID, AccountID: b.Seen.AccountID, Currency: b.Seen.Currency, AmountDue: b.Seen.Amount,
			BillDate: b.Seen.BillDate, DueDate: b.Seen.DueDate, Voided: b.Seen.Voided,
		}
	}
	for _, g := range h.Sightings {
		s.Sightings = append(s.Sightings, billSighting{g.File, g.Name, g.Line, g.Status, g.Code, g.Detail})
	}
	for _, a := range h.Attempts {
		s.Attempts = append(s.Attempts, billAttempt{report.At(a.At), a.Key, a.Generation, a.Answer, a.File})
	}
	return s
}

// fateOf is what came of a bill: created once any file created it, whatever later rows say; else how the latest row
// that named it ended. Where those rows were pruned, what is known of the bill tells. A bill that was sent for and has
// no outcome yet is unknown.
func fateOf(h *ledger.History) ledger.Status {
	last := ledger.Unknown
	for _, g := range h.Sightings {
		if last = g.Status; last == ledger.Created {
			return last
		}
	}
	if h.Bill == nil || h.Bill.State != ledger.Exists || (last != ledger.Unknown && last != ledger.Existing) {
		return last
	}
	if slices.ContainsFunc(h.Attempts, func(a ledger.Attempt) bool { return a.Answer == "201" }) {
		return ledger.Created
	}
	return ledger.Existing
}

// show tells the story to a person.
func (s *billStory) show(b *strings.Builder) {
	fmt.Fprintf(b, "%s: %s (merchant %s, %s mode)\n", printableReference(s.BillReference), s.Status, s.Merchant, s.Mode)
	switch {
	case s.Bill != nil:
		fmt.Fprintf(b, "  the API holds %s: %s %s", s.BillID, s.Bill.Currency, majorUnits(s.Bill.Currency, s.Bill.AmountDue))
		for _, part := range []struct{ name, value string }{
			{"bill date", s.Bill.BillDate}, {"due", s.Bill.DueDate}, {"customer", s.Bill.CustomerID}, {"account", s.Bill.AccountID},
		} {
			if part.value != "" {
				fmt.Fprintf(b, ", %s %s", part.name, part.value)
			}
		}
		if s.Bill.Voided {
			b.WriteString(", voided")
		}
		b.WriteString(" (when it was last seen)\n")
	case s.history.Bill == nil:
		b.WriteString("  nothing was ever sent for it\n")
	case s.history.Bill.State == ledger.Gone:
		b.WriteString("  the API was asked, or refused it for good: there is no such bill\n")
	default:
		b.WriteString("  it was sent, and whether the API holds it is not known yet; the next run, or billdrop retry FILE_ID, finds out\n")
	}
	if len(s.Sightings) > 0 {
		fmt.Fprintf(b, "\nNamed by %s:\n", count(len(s.Sightings), "row"))
	}
	for _, g := range s.Sightings {
		fmt.Fprintf(b, "  %s line %d (file %s): %s", g.File, g.Line, g.FileID, g.Status)
		if g.Code != "" {
			fmt.Fprintf(b, " (%s)", g.Code)
		}
		if g.Detail != "" {
			fmt.Fprintf(b, ": %s", g.Detail)
		}
		b.WriteByte('\n')
	}
	if len(s.Attempts) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s to create it:\n", count(len(s.Attempts), "request"))
	t := newTable("idempotency key", "answer", "file id")
	t.AppendHeader(table.Row{"at", "generation", "idempotency key", "answer", "file id"})
	for _, a := range s.Attempts {
		answer := a.Answer
		if answer == "" {
			answer = "none recorded"
		}
		t.AppendRow(table.Row{a.At.Local().Format("2006-01-02 15:04:05.000"), a.Generation, a.IdempotencyKey, answer, a.FileID})
	}
	fmt.Fprintln(b, t.Render())
}
