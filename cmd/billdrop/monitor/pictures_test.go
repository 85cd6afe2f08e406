package monitor

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/watch"
)

// paidList are payments that are received, each with its number.
type paidList struct {
	fixedPayments
	paid  []ledger.PaidSum
	asked []int64 // after
}

func (p *paidList) PaidSince(_ context.Context, _ ledger.Scope, after int64, since time.Time) ([]ledger.PaidSum, int64, error) {
	p.asked = append(p.asked, after)
	var sums []ledger.PaidSum
	for _, s := range p.paid[after:] {
		if !s.At.Before(since) {
			sums = append(sums, s)
		}
	}
	return sums, int64(len(p.paid)), nil
}

// billed adds a file that ended at a time.
func billed(t *testing.T, led ledger.Ledger, id string, merchant string, at time.Time, currency string, amount int64) {
	t.Helper()
	err := led.AddFile(t.Context(), &ledger.File{ID: id, Name: id + ".csv", Feed: "bills", Scope: ledger.Scope{Merchant: merchant, Mode: "test"}, State: ledger.Done,
		Outcome: ledger.Completed, Received: at, Finished: at, Rows: 1, Sums: &ledger.Totals{Rows: map[ledger.Status]int{ledger.Created: 1},
			Amounts: map[string]map[ledger.Status]int64{currency: {ledger.Created: amount, ledger.Existing: 7}}}})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDaysPictures: what was billed and paid stands on its day, in scale, for 30 days and for the
// merchants of the page, and what was added up is not read again.
func TestDaysPictures(t *testing.T) {
	led := ledgertest.NewMemory()
	now := time.Date(2026, 11, 26, 10, 0, 0, 0, time.Local)
	billed(t, led, "today", "acme", now, "ZAR", 100_000)
	billed(t, led, "today-too", "acme", now.Add(-9*time.Hour), "ZAR", 100_000)
	billed(t, led, "first", "acme", time.Date(2026, 10, 28, 0, 0, 0, 0, time.Local), "ZAR", 50_000)
	billed(t, led, "too-old", "acme", time.Date(2026, 10, 27, 23, 59, 59, 0, time.Local), "ZAR", 999_999)
	billed(t, led, "other", "another", now, "ZAR", 999_999)
	billed(t, led, "yen", "acme", now.AddDate(0, 0, -1), "JPY", 5)
	_, v := newSite(t, led, states{{Feed: "bills", Polled: now}})
	store := &paidList{paid: []ledger.PaidSum{
		{At: time.Date(2026, 11, 25, 23, 45, 0, 0, time.Local), Currency: "ZAR", Payments: 2, Amount: 20_000},
		{At: time.Date(2026, 11, 26, 0, 0, 0, 0, time.Local), Currency: "ZAR", Payments: 1, Amount: 1},
		{At: time.Date(2026, 10, 1, 0, 0, 0, 0, time.Local), Currency: "ZAR", Payments: 1, Amount: 999_999},
	}}
	v.Payments = store
	draw := func(at time.Time) []daysPicture {
		t.Helper()
		pictures, more, err := v.daysPictures(t.Context(), at)
		if err != nil || more != 0 || len(pictures) != 2 {
			t.Fatalf("%d pictures, %d more, %v", len(pictures), more, err)
		}
		return pictures
	}
	check := func(p daysPicture, want map[int]string) {
		t.Helper()
		for i, d := range p.Days {
			got := ""
			if d.Billed != "" || d.Paid != "" {
				got = fmt.Sprintf("%s %s/%d %s/%d at %d", d.Day.Format(time.DateOnly), d.Billed, d.BilledHeight, d.Paid, d.PaidHeight, d.X)
			}
			if got != want[i] {
				t.Errorf("%s, day %d: %q, want %q", p.Currency, i, got, want[i])
			}
		}
	}
	pictures := draw(now)
	zar := pictures[0]
	if zar.Currency != "ZAR" || zar.Billed != "2,500.00" || zar.Paid != "200.01" || zar.Most != "2,000.00" || zar.Moded || len(zar.Days) != shownDays {
		t.Errorf("%+v", zar)
	}
	check(zar, map[int]string{0: "2026-10-28 500.00/25 /0 at 0", 28: "2026-11-25 /0 200.00/10 at 280", 29: "2026-11-26 2,000.00/100 0.01/2 at 290"})
	check(pictures[1], map[int]string{28: "2026-11-25 5/100 /0 at 280"})

	store.paid = append(store.paid, ledger.PaidSum{At: now.Truncate(15 * time.Minute), Currency: "ZAR", Payments: 1, Amount: 99_999})
	draw(now.Add(daysFor / 2))
	if len(store.asked) != 1 {
		t.Errorf("asked %d times within %v", len(store.asked), daysFor)
	}
	check(draw(now.Add(2 * daysFor))[0], map[int]string{0: "2026-10-28 500.00/25 /0 at 0", 28: "2026-11-25 /0 200.00/10 at 280", 29: "2026-11-26 2,000.00/100 1,000.00/50 at 290"})
	if fmt.Sprint(store.asked) != "[0 3]" {
		t.Errorf("asked for payments after %v", store.asked)
	}
	// A month later nothing of it is left.
	if pictures, _, err := v.daysPictures(t.Context(), now.AddDate(0, 2, 0)); err != nil || len(pictures) != 0 {
		t.Errorf("two months later: %+v, %v", pictures, err)
	}
}

// TestPicturesAreBounded: a currency too many is counted.
func TestPicturesAreBounded(t *testing.T) {
	led := ledgertest.NewMemory()
	now := time.Now()
	for i, currency := range []string{"ZAR", "USD", "EUR", "XOF", "JPY", "BWP"} {
		billed(t, led, fmt.Sprint("f", i), "acme", now, currency, 1)
	}
	h, _ := newSite(t, led, states{{Feed: "bills", Polled: now}})
	_, _, page := ask(t, h, "GET", "/")
	if n := strings.Count(page, "<svg"); n != mostPictures || !strings.Contains(page, "2 more currencies") {
		t.Errorf("%d pictures:\n%s", n, page)
	}
}

// TestTrack: the pace of a file is kept from its beginning, in at most 60 steps, and a
// standstill shows.
func TestTrack(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	var tr track
	if tr.add(start, 0); tr.picture(start, 0) != nil {
		t.Error("a picture of one moment")
	}
	done := 0
	for s := 1; s <= 3600; s++ {
		done += 100
		if s > 1800 {
			done -= 50
		}
		tr.add(start.Add(time.Duration(s)*time.Second), done)
		if len(tr.points) > mostPoints {
			t.Fatalf("%d points", len(tr.points))
		}
	}
	end := start.Add(2 * time.Hour) // an hour without a row
	p := tr.picture(end, done)
	if !p.Since.Equal(start) || p.Most != 100 || len(p.Steps) > mostPoints || len(p.Steps) < mostPoints/2 {
		t.Fatalf("%+v", p)
	}
	rows := 0
	for i, s := range p.Steps {
		rows += s.Rows
		if i > 0 && !s.From.Equal(p.Steps[i-1].To) {
			t.Errorf("step %d does not begin where the one before it ends", i)
		}
		if want := 100; s.To.Before(start.Add(1800*time.Second)) && s.Rate != want {
			t.Errorf("step %d: %d rows a second, want %d", i, s.Rate, want)
		}
	}
	if last := p.Steps[len(p.Steps)-1]; rows != done || !last.To.Equal(end) || last.Rate > 2 {
		t.Errorf("%d rows, want %d; the last step %+v", rows, done, last)
	}
	// Half of the way at full height, a quarter at half of it.
	if !strings.HasPrefix(p.Outline, "M0 100V0.0H") || !strings.Contains(p.Outline, "V50.0H") || !strings.HasSuffix(p.Outline, "H300.0V100Z") {
		t.Errorf("outline %s", p.Outline)
	}
}

// TestPicturesOnThePage: each picture is well formed, has a name and a table, and needs no
// script and no style of its own, which the page's policy would refuse.
func TestPicturesOnThePage(t *testing.T) {
	led := ledgertest.NewMemory()
	now := time.Now()
	billed(t, led, "f1", "acme", now, "ZAR", 123_456)
	moving := &ledger.File{ID: "moving", Name: "under-way.csv", Feed: "bills", Scope: ledger.Scope{Merchant: "acme", Mode: "test"}, State: ledger.Sending, Received: now, Rows: 100}
	if err := led.AddFile(t.Context(), moving); err != nil {
		t.Fatal(err)
	}
	h, v := newSite(t, led, states{watch.State{Feed: "bills", Polled: now}})
	v.Payments = &paidList{paid: []ledger.PaidSum{{At: now.Truncate(15 * time.Minute), Currency: "ZAR", Payments: 1, Amount: 100}}}
	v.files.FileStarted(ingest.Started{ID: "moving", Name: "under-way.csv", Feed: "bills", Rows: 100})
	m := v.files.moving["moving"]
	m.track = track{}
	for s := range 10 {
		m.track.add(now.Add(time.Duration(s-10)*time.Second), 3*s)
	}
	m.all = 27
	_, _, front := ask(t, h, "GET", "/")
	_, _, file := ask(t, h, "GET", "/files/moving")
	for _, c := range []struct{ page, says string }{
		{front, "ZAR by day, the last 30 days: 1,234.56 billed, 1.00 paid."}, {front, "<title>" + now.Format("2 Jan") + ", billed 1,234.56, paid 1.00</title>"},
		{front, `<td class="n">1,234.56</td><td class="n">1.00</td>`}, {front, "at most 3 rows a second"},
		{file, "at most 3 rows a second"}, {file, "The pace as a table"},
	} {
		if !strings.Contains(c.page, c.says) {
			t.Errorf("the page lacks %q:\n%s", c.says, c.page)
		}
	}
	pictures := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(front+file, -1)
	if len(pictures) != 3 {
		t.Errorf("%d pictures, want 3", len(pictures))
	}
	for _, p := range pictures {
		d := xml.NewDecoder(strings.NewReader(p))
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in %s", err, p)
			}
			e, ok := token.(xml.StartElement)
			for _, a := range e.Attr {
				if ok && (a.Name.Local == "style" || strings.HasPrefix(a.Name.Local, "on")) || e.Name.Local == "script" {
					t.Errorf("%s has %s", p, a.Name.Local)
				}
			}
		}
		if !strings.Contains(p, `role="img" aria-label="`) {
			t.Errorf("no name for those who cannot see it: %s", p)
		}
	}
}
