package ingest

import (
	"sync"

	"billdrop/ingest/ledger"
)

// outcomesPage outcomes are read from the ledger at a time.
const outcomesPage = 1024

// outcomesAhead fetches pages of outcomes, each while the one before it is used. It is used by one goroutine, which
// calls wait at last.
type outcomesAhead struct {
	fetch func(from int) ([]ledger.Outcome, error)
	from  int // where the page that is under way begins
	next  *fetchedPage
	wg    sync.WaitGroup
}

type fetchedPage struct {
	outcomes []ledger.Outcome
	err      error
}

// page returns some of the outcomes with from <= Row, as fetch does.
func (a *outcomesAhead) page(from int) ([]ledger.Outcome, error) {
	a.wg.Wait()
	p := a.next
	if p == nil || a.from != from || p.err != nil {
		p = &fetchedPage{}
		p.outcomes, p.err = a.fetch(from)
	}
	if n := len(p.outcomes); n > 0 && p.err == nil {
		a.from, a.next = p.outcomes[n-1].Row+1, &fetchedPage{}
		a.wg.Go(func() { a.next.outcomes, a.next.err = a.fetch(a.from) })
	}
	return p.outcomes, p.err
}

// wait joins what is under way.
func (a *outcomesAhead) wait() { a.wg.Wait() }
