// Package payments finds which bills were paid: it matches the payments that were received
// with bills, and publishes reports of them.
//
// # Once
//
// Each payment is in exactly one report. A report goes through four steps, each durable before
// the next: it is begun (its name is recorded), its payments are settled (each is recorded as
// it will stand there), it is composed (its digest is recorded), it is published. A crash
// leaves it at one of them, and the next run goes on from there with the same bytes. Where
// several workers share a ledger, one at a time reports the payments of a merchant. One that
// was taken for lost and wakes in the middle changes nothing: a report that is composed takes
// no further payment, and its digest is recorded only if it has every payment that is settled
// in it.
//
// # Matching
//
// An event names a bill, an account or a customer. A bill is asked for by its id, which also
// has its reference. For an account or a customer the candidates come from the outcomes of
// files; see index.go. What remains open is decided by what the API says of the candidates;
// see choose. A payment without a bill of this ledger waits while a file of the merchant is
// being sent, because its bill may be recorded soon.
package payments

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Place is where reports go: a part of transfer.Place.
type Place interface {
	// Reported reports whether a report of this name exists.
	Reported(ctx context.Context, name string) (bool, error)
	// Digest returns the SHA-256 (hex) of a report; "" without error when there is none.
	Digest(ctx context.Context, name string) (string, error)
	// Publish puts a report in place: written under a temporary name, read back, compared,
	// renamed.
	Publish(ctx context.Context, name string, content io.ReadSeeker) error
}

// Reporter reports the payments of one merchant. One process at a time may report them, and
// one goroutine of it.
type Reporter struct {
	Store  ledger.Payments
	Ledger ledger.Ledger // only read
	Lane   *delivery.Lane
	Every  Schedule
	// Current, if not nil, returns an error once another process may report in this one's
	// place. It is asked before a report is put in place.
	Current func() error

	page int // payments settled, or written, at a time; 0 = pageSize. Smaller in tests
	// foreign are ids of bills that were not of this ledger while a file was being sent, and
	// when that was found out.
	foreign map[string]time.Time
	indexed time.Time // when index ran last
}

// Published is a report that was published.
type Published struct {
	Name string
	Rows int
}

// pageSize is how many payments are settled, or written, at a time.
const pageSize = 500

// Due reports whether there is something to publish at now: a report that was begun, or new
// payments whose time has come.
func (r *Reporter) Due(ctx context.Context, now time.Time) (bool, error) {
	last, err := r.Store.LastReport(ctx, r.Lane.Scope())
	if err != nil {
		return false, err
	}
	if last != nil && last.Published.IsZero() {
		return true, nil
	}
	upTo, err := r.Store.Last(ctx, r.Lane.Scope())
	if err != nil || upTo == 0 {
		return false, err
	}
	first, err := r.Store.Unsettled(ctx, r.Lane.Scope(), 0, upTo, 1)
	if err != nil || len(first) == 0 {
		return false, err
	}
	var begun time.Time
	if last != nil {
		begun = last.Begun
	}
	return r.Every.due(now, begun, first[0].ReceivedAt), nil
}

// Publish publishes what is due at now, into a place. It first ends the report that an
// earlier run has begun. Whatever keeps it from its end may pass, and loses nothing.
func (r *Reporter) Publish(ctx context.Context, place Place, now time.Time) ([]Published, error) {
	var done []Published
	for range 2 { // the one that was begun, and a new one
		due, err := r.Due(ctx, now)
		if err != nil || !due {
			return done, err
		}
		published, err := r.publishOne(ctx, place, now)
		if err != nil {
			return done, fmt.Errorf("report payments of merchant %s: %w", r.Lane.Scope().Merchant, err)
		}
		if published == nil {
			return done, nil
		}
		done = append(done, *published)
	}
	return done, nil
}

// publishOne takes the report that was begun to its end, or a new one. It returns nil if
// every payment has to wait.
func (r *Reporter) publishOne(ctx context.Context, place Place, now time.Time) (*Published, error) {
	scope := r.Lane.Scope()
	last, err := r.Store.LastReport(ctx, scope)
	if err != nil {
		return nil, err
	}
	if last == nil || !last.Published.IsZero() {
		if last, err = r.begin(ctx, place, now); err != nil {
			return nil, err
		}
	}
	if last.SHA256 == "" {
		if err := r.settle(ctx, last); err != nil {
			return nil, err
		}
	}
	draft, err := os.CreateTemp("", "billdrop-payments-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(draft.Name())
	defer draft.Close()
	sum, rows, err := r.compose(ctx, last.Name, draft)
	switch {
	case err != nil:
		return nil, err
	case rows == 0:
		return nil, r.Store.DropReport(ctx, scope, last.Name)
	case last.SHA256 == "":
		if err := r.Store.ComposedReport(ctx, scope, last.Name, sum, rows); err != nil {
			return nil, err
		}
	case last.SHA256 != sum:
		return nil, &Error{fmt.Errorf("report %s was composed with the SHA-256 %s and has %s now", last.Name, last.SHA256, sum),
			"the store of payments was changed by hand; restore it from a backup"}
	}
	if err := r.put(ctx, place, last.Name, sum, draft); err != nil {
		return nil, err
	}
	if err := r.Store.PublishedReport(ctx, scope, last.Name, now); err != nil {
		return nil, err
	}
	return &Published{last.Name, rows}, nil
}

// begin begins a report with all that was received so far. A second one in the same second
// gets a number, and so does one whose name is taken by a file that is not of this store.
func (r *Reporter) begin(ctx context.Context, place Place, now time.Time) (*ledger.PaymentReport, error) {
	scope := r.Lane.Scope()
	upTo, err := r.Store.Last(ctx, scope)
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		begun := &ledger.PaymentReport{Name: report.PaymentsName(scope.Merchant, now, n), UpTo: upTo, Begun: now}
		there, err := place.Reported(ctx, begun.Name)
		switch {
		case err != nil:
			return nil, err
		case there && n < maxPerSecond:
			continue
		}
		err = r.Store.BeginReport(ctx, scope, *begun)
		if !errors.Is(err, ledger.ErrExists) || n == maxPerSecond {
			return begun, err
		}
	}
}

// maxPerSecond bounds the search for a name.
const maxPerSecond = 100

// compose writes a report from what was settled, and returns its digest.
func (r *Reporter) compose(ctx context.Context, name string, w io.Writer) (sha256Hex string, rows int, err error) {
	sum := sha256.New()
	out := report.NewPaymentsWriter(io.MultiWriter(w, sum))
	for after := int64(0); ; {
		page, err := r.Store.Reported(ctx, r.Lane.Scope(), name, after, cmp.Or(r.page, pageSize))
		if err != nil {
			return "", 0, err
		}
		if len(page) == 0 {
			break
		}
		for i := range page {
			if err := out.Write(&page[i]); err != nil {
				return "", 0, err
			}
		}
		rows += len(page)
		after = page[len(page)-1].Seq
	}
	if err := out.Close(); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(sum.Sum(nil)), rows, nil
}

// put publishes a report, and never over another one.
func (r *Reporter) put(ctx context.Context, place Place, name, sum string, content io.ReadSeeker) error {
	there, err := place.Digest(ctx, name)
	if err != nil {
		return err
	}
	if there != "" && there != sum {
		return &Error{fmt.Errorf("report %s exists (SHA-256 %s) and says otherwise than what is recorded (SHA-256 %s)", name, there, sum),
			"if the payments were restored from a backup, keep the one that exists under another name, then run again"}
	}
	if r.Current != nil {
		if err := r.Current(); err != nil {
			return err
		}
	}
	return place.Publish(ctx, name, content)
}

// Error is a failure that a person can mend.
type Error struct {
	Err  error  // what is wrong
	Hint string // what to do
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Advice returns what a person is to do about it.
func (e *Error) Advice() string { return e.Hint }
