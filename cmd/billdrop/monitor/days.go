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

// day is the calendar day of a time in its time zone.
type day struct {
	year  int
	month time.Month
	day   int
}

func dayOf(t time.Time) day {
	y, m, d := t.Date()
	return day{y, m, d}
}

// moneyOf is what sums may be added up for.
type moneyOf struct{ mode, currency string }

// daySums are the sums of one day in minor units.
type daySums struct {
	Billed, Paid int64
	Payments     int
}

// byDay are sums by day. They are added up from the records of files, and from payments that
// are new since the last time, so that no page reads many rows.
type byDay struct {
	mu     sync.Mutex
	at     time.Time
	billed map[moneyOf]map[day]daySums
	paid   map[moneyOf]map[day]daySums
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
	b.billed = make(map[moneyOf]map[day]daySums)
	for _, f := range files {
		if f.Sums == nil || f.Finished.Before(since) || !served[f.Scope] {
			continue
		}
		for currency, by := range f.Sums.Amounts {
			if by[ledger.Created] != 0 {
				add(&b.billed, moneyOf{f.Scope.Mode, currency}, dayOf(f.Finished.In(since.Location())), daySums{Billed: by[ledger.Created]})
			}
		}
	}
	return nil
}

// readPayments adds up the payments that are new.
func (b *byDay) readPayments(ctx context.Context, v *view, since time.Time) error {
	for _, l := range v.lanes() {
		sums, last, err := v.Payments.PaidSince(ctx, l.Scope(), b.after[l.Scope()], since)
		if err != nil {
			return err
		}
		for _, s := range sums {
			add(&b.paid, moneyOf{l.Scope().Mode, s.Currency}, dayOf(s.At.In(since.Location())), daySums{Paid: s.Amount, Payments: s.Payments})
		}
		if b.after == nil {
			b.after = make(map[ledger.Scope]int64)
		}
		b.after[l.Scope()] = last
	}
	for _, days := range b.paid {
		for d := range days {
			if time.Date(d.year, d.month, d.day, 0, 0, 0, 0, since.Location()).Before(since) {
				delete(days, d)
			}
		}
	}
	return nil
}

func add(to *map[moneyOf]map[day]daySums, of moneyOf, d day, s daySums) {
	if *to == nil {
		*to = make(map[moneyOf]map[day]daySums)
	}
	if (*to)[of] == nil {
		(*to)[of] = make(map[day]daySums)
	}
	held := (*to)[of][d]
	held.Billed += s.Billed
	held.Paid += s.Paid
	held.Payments += s.Payments
	(*to)[of][d] = held
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
	for _, sums := range []map[moneyOf]map[day]daySums{b.billed, b.paid} {
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
func newDaysPicture(of moneyOf, billed, paid map[day]daySums, now time.Time) daysPicture {
	p := daysPicture{Currency: of.currency, Mode: of.mode}
	var sums []daySums
	var highest, allBilled, allPaid int64
	y, m, d := now.Date()
	for i := range shownDays {
		// Noon, because a change of clocks leaves it on its day.
		at := time.Date(y, m, d-shownDays+1+i, 12, 0, 0, 0, now.Location())
		s := daySums{Billed: billed[dayOf(at)].Billed, Paid: paid[dayOf(at)].Paid}
		sums = append(sums, s)
		highest = max(highest, s.Billed, s.Paid)
		allBilled += s.Billed
		allPaid += s.Paid
		p.Days = append(p.Days, dayBars{Day: at, X: i * dayWidth, Billed: moneyOrNone(of.currency, s.Billed), Paid: moneyOrNone(of.currency, s.Paid)})
	}
	for i := range p.Days {
		p.Days[i].BilledHeight, p.Days[i].PaidHeight = height(sums[i].Billed, highest), height(sums[i].Paid, highest)
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
