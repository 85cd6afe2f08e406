package report

import (
	"fmt"
	"iter"
	"sync"

	"billdrop/ingest/ledger"
)

// Pages iterates over the outcomes of a file in row order, one page at a time. fetch returns
// some of the outcomes with from <= Row, in row order, and none at the end, as
// ledger.Ledger.Outcomes does.
func Pages(fetch func(from int) ([]ledger.Outcome, error)) iter.Seq2[ledger.Outcome, error] {
	return func(yield func(ledger.Outcome, error) bool) {
		for from := 1; ; {
			page, err := fetch(from)
			if err != nil {
				yield(ledger.Outcome{}, err)
				return
			}
			if len(page) == 0 {
				return
			}
			for _, o := range page {
				if o.Row < from {
					yield(ledger.Outcome{}, fmt.Errorf("%w: outcomes out of order: row %d in a page that begins at %d", ErrUnbalanced, o.Row, from))
					return
				}
				if !yield(o, nil) {
					return
				}
				from = o.Row + 1
			}
		}
	}
}

// Ahead fetches pages of outcomes, each while the one before it is used. One goroutine uses it, and
// calls Wait at the end.
type Ahead struct {
	Fetch func(from int) ([]ledger.Outcome, error) // as Pages needs it
	from  int                                      // where the next page begins
	next  *fetchedPage
	wg    sync.WaitGroup
}

type fetchedPage struct {
	outcomes []ledger.Outcome
	err      error
}

// Page returns what Fetch returns.
func (a *Ahead) Page(from int) ([]ledger.Outcome, error) {
	a.wg.Wait()
	p := a.next
	if p == nil || a.from != from || p.err != nil {
		p = &fetchedPage{}
		p.outcomes, p.err = a.Fetch(from)
	}
	if n := len(p.outcomes); n > 0 && p.err == nil {
		a.from, a.next = p.outcomes[n-1].Row+1, &fetchedPage{}
		a.wg.Go(func() { a.next.outcomes, a.next.err = a.Fetch(a.from) })
	}
	return p.outcomes, p.err
}

// Wait waits for the fetch under way, if there is one.
func (a *Ahead) Wait() { a.wg.Wait() }
