package monitor

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/ledger"
)

const (
	// shownDays is how many days the pictures of sums cover, today included.
	shownDays = 30
	// daysFor is how long what was billed is shown before files are read again.
	daysFor = 15 * time.Second
	// mostBilledFiles bounds the files that are read for that, the newest ones.
	mostBilledFiles = 5_000
	// mostPictures bounds the pictures, one a currency.
	mostPictures = 4
)

// dayOf is the calendar day of a time in its time zone. Of two days, the earlier one is less.
func dayOf(t time.Time) string { return t.Format(time.DateOnly) }

// moneyOf is what sums may be added up for.
type moneyOf struct{ mode, currency string }

// daySums are sums in minor units, by day.
type daySums map[moneyOf]map[string]int64

func (s daySums) add(of moneyOf, day string, amount int64) {
	if s[of] == nil {
		s[of] = make(map[string]int64)
	}
	s[of][day] += amount
}

// byDay are sums by day. They are added up from the records of files, and from payments that
// are new since the last time, so that no page reads many rows.
type byDay struct {
	mu     sync.Mutex
	at     time.Time
	billed daySums
	paid   daySums
	after  map[ledger.Scope]int64 // payments that are in paid
}

// read brings the sums up to date. b.mu is held.
func (b *byDay) read(ctx context.Context, v *view, now time.Time) error {
	if now.Sub(b.at) < daysFor && now.After(b.at) {
		return nil
	}
	y, m, d := now.Date()
	since := time.Date(y, m, d-shownDays+1, 0, 0, 0, 0, now.Location())
	if err := b.readFiles(ctx, v, since); err != nil {
		return err
	}
	if v.Payments != nil {
		if err := b.readPayments(ctx, v, since); err != nil {
			return err
		}
	}
	b.at = now
	return nil
}

// readFiles adds up what the files of this page's merchants billed, by the day on which they ended.
func (b *byDay) readFiles(ctx context.Context, v *view, since time.Time) error {
	files, err := v.Ledger.Files(ctx, ledger.Query{ExcludeDropped: true, Limit: mostBilledFiles})
	if err != nil {
		return err
	}
	served := make(map[ledger.Scope]bool)
	for _, l := range v.lanes() {
		served[l.Scope()] = true
	}
	b.billed = make(daySums)
	for _, f := range files {
		if f.Sums == nil || f.Finished.Before(since) || !served[f.Scope] {
			continue
		}
		for currency, by := range f.Sums.Amounts {
			if by[ledger.Created] != 0 {
				b.billed.add(moneyOf{f.Scope.Mode, currency}, dayOf(f.Finished.In(since.Location())), by[ledger.Created])
			}
		}
	}
	return nil
}

// readPayments adds up the payments that are new.
func (b *byDay) readPayments(ctx context.Context, v *view, since time.Time) error {
	if b.paid == nil {
		b.paid, b.after = make(daySums), make(map[ledger.Scope]int64)
	}
	for _, l := range v.lanes() {
		sums, last, err := v.Payments.PaidSince(ctx, l.Scope(), b.after[l.Scope()], since)
		if err != nil {
			return err
		}
		for _, s := range sums {
			b.paid.add(moneyOf{l.Scope().Mode, s.Currency}, dayOf(s.At.In(since.Location())), s.Amount)
		}
		b.after[l.Scope()] = last
	}
	for _, days := range b.paid {
		for d := range days {
			if d < dayOf(since) {
				delete(days, d)
			}
		}
	}
	return nil
}

// daysPicture is what was billed and paid in one currency, by day. Its bars stand in a view box of
// daysWidth by picHeight, which is stretched to the room that there is.
type daysPicture struct {
	Currency, Mode string
	Moded          bool // another picture is of the other mode
	Days           []dayBars
	Most           string // of the highest day, in major units
	Billed, Paid   string // in all
	Receives       bool   // payments are received here
}

const (
	dayWidth  = 10
	daysWidth = shownDays * dayWidth
	picHeight = 100
)

// dayBars is a day: a wide bar for what was billed, and a narrow one before it for what was paid.
type dayBars struct {
	Day          time.Time
	Billed, Paid string // in major units; "" = nothing
	X            int
	BilledHeight int
	PaidHeight   int
}

// BilledTop and PaidTop are where the bars end.
func (d dayBars) BilledTop() int { return picHeight - d.BilledHeight }
func (d dayBars) PaidTop() int   { return picHeight - d.PaidHeight }

// daysPictures returns a picture for each currency in which anything was billed or paid of
// late, at most mostPictures, those with the most days first, and how many were left out.
func (v *view) daysPictures(ctx context.Context, now time.Time) (pictures []daysPicture, more int, err error) {
	b := &v.days
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.read(ctx, v, now); err != nil {
		return nil, 0, err
	}
	days := make(map[moneyOf]int)
	modes := make(map[string]bool)
	for _, sums := range []daySums{b.billed, b.paid} {
		for of, by := range sums {
			if len(by) > 0 {
				days[of] += len(by)
				modes[of.mode] = true
			}
		}
	}
	var all []moneyOf
	for of := range days {
		all = append(all, of)
	}
	slices.SortFunc(all, func(x, y moneyOf) int {
		return cmp.Or(days[y]-days[x], cmp.Compare(x.currency, y.currency), cmp.Compare(x.mode, y.mode))
	})
	more = max(0, len(all)-mostPictures)
	for _, of := range all[:len(all)-more] {
		p := newDaysPicture(of, b.billed[of], b.paid[of], now)
		p.Moded, p.Receives = len(modes) > 1, v.Payments != nil
		pictures = append(pictures, p)
	}
	return pictures, more, nil
}

// newDaysPicture draws the days up to now.
func newDaysPicture(of moneyOf, billed, paid map[string]int64, now time.Time) daysPicture {
	p := daysPicture{Currency: of.currency, Mode: of.mode}
	var highest, allBilled, allPaid int64
	y, m, d := now.Date()
	for i := range shownDays {
		// Noon, because a change of clocks leaves it on its day.
		at := time.Date(y, m, d-shownDays+1+i, 12, 0, 0, 0, now.Location())
		billed, paid := billed[dayOf(at)], paid[dayOf(at)]
		highest = max(highest, billed, paid)
		allBilled += billed
		allPaid += paid
		p.Days = append(p.Days, dayBars{Day: at, X: i * dayWidth, Billed: moneyOrNone(of.currency, billed), Paid: moneyOrNone(of.currency, paid)})
	}
	for i := range p.Days {
		d := &p.Days[i]
		d.BilledHeight, d.PaidHeight = height(billed[dayOf(d.Day)], highest), height(paid[dayOf(d.Day)], highest)
	}
	p.Most, p.Billed, p.Paid = describe.Money(of.currency, highest), describe.Money(of.currency, allBilled), describe.Money(of.currency, allPaid)
	return p
}

func moneyOrNone(currency string, minor int64) string {
	if minor == 0 {
		return ""
	}
	return describe.Money(currency, minor)
}

// height is how high a bar is. One of a small amount can be seen, too.
func height(n, highest int64) int {
	if n <= 0 || highest <= 0 {
		return 0
	}
	return max(2, int(float64(n)/float64(highest)*picHeight))
}
