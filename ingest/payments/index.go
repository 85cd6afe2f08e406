package payments

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"billdrop/ingest/ledger"
)

const (
	// outcomesPage is how many outcomes are read at a time.
	outcomesPage = 1024
	// reread is how many rows before the last one that was read are read again of a file under
	// way, because rows end out of order. Once it is done, all of it is read again.
	reread = 10_000
)

// index brings up to date which bills each account has, and each customer without an account.
// It reads the outcomes of files, so it needs nothing of a ledger that is not there anyway,
// and nothing while bills are sent. It is only called when a payment names no bill.
func (r *Reporter) index(ctx context.Context) error {
	scope := r.Lane.Scope()
	files, err := r.Ledger.Files(ctx, ledger.Query{ExcludeDropped: true})
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Scope != scope || !hasOutcomes(f.State) {
			continue
		}
		mark, err := r.Store.Mark(ctx, scope, f.ID)
		if err != nil {
			return err
		}
		done := fmt.Sprintf("done %d %d", f.Retried, f.Finished.UnixMicro())
		if mark == done {
			continue
		}
		if err := r.indexFile(ctx, f, mark, done); err != nil {
			return fmt.Errorf("index bills of %s: %w", f.ID, err)
		}
	}
	return nil
}

// hasOutcomes reports whether rows of a file in this state may have their bill.
func hasOutcomes(s ledger.FileState) bool {
	switch s {
	case ledger.Sending, ledger.Settled, ledger.Published, ledger.Done:
		return true
	}
	return false
}

// indexFile indexes the bills of one file, from where an earlier mark says.
func (r *Reporter) indexFile(ctx context.Context, f *ledger.File, mark, done string) error {
	from := 0
	if row, found := strings.CutPrefix(mark, "row "); found && f.State == ledger.Sending {
		if n, err := strconv.Atoi(row); err == nil {
			from = max(0, n-reread)
		}
	}
	for {
		page, err := r.Ledger.Outcomes(ctx, f.ID, from, outcomesPage)
		if err != nil {
			return err
		}
		next := done
		if f.State != ledger.Done {
			next = "" // what was remembered stays
		}
		if len(page) > 0 {
			from = page[len(page)-1].Row + 1
			next = "row " + strconv.Itoa(from)
		}
		if err := r.Store.AddPartyBills(ctx, f.Scope, partyBills(page), f.ID, next); err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
	}
}

// partyBills are the parties that may be named in place of the bills of these rows.
func partyBills(page []ledger.Outcome) []ledger.PartyBill {
	var bills []ledger.PartyBill
	for i := range page {
		o := &page[i]
		if o.Status != ledger.Created && o.Status != ledger.Existing {
			continue
		}
		if party := cmp.Or(o.AccountID, o.CustomerID); party != "" {
			bills = append(bills, ledger.PartyBill{PartyID: party, Reference: o.Reference})
		}
	}
	return bills
}

// sending reports whether a file of the merchant is being sent, so that bills may be at the API
// that the ledger does not have yet.
func (r *Reporter) sending(ctx context.Context) (bool, error) {
	files, err := r.Ledger.Files(ctx, ledger.Query{Unfinished: true})
	return slices.ContainsFunc(files, func(f *ledger.File) bool { return f.Scope == r.Lane.Scope() && f.State == ledger.Sending }), err
}
