package billfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Opener opens the same bytes from the beginning; a Survey may read them more than once.
type Opener func() (io.ReadCloser, error)

// Survey is what is known of a bill file once it was read from end to end. It may be used concurrently.
type Survey struct {
	Layout  Layout
	Lines   Lines
	Rows    int              // data records
	Invalid int              // records with at least one problem, those that only the whole file shows included
	Codes   map[string]int   // invalid records by their first code
	Amounts map[string]int64 // currency → minor units of the valid rows

	format Format
	hasher hasher
	phones *phoneReader
	found  *findings
	size   int64 // bytes
}

// TakeSurvey reads a file from end to end, once, and a second time where rows have to be compared with each
// other. visit, unless nil, is called for every record in order, with the problems that the record has on its own;
// the record and its strings are not valid after it returns, and an error from it ends the survey and is returned.
//
// A file that cannot be used as a whole gives a *FileError (see errors.As) and a Survey that tells its Layout as
// far as that was read, and nothing else. Any other error means that reading failed, and gives no Survey.
// Memory: some 4 MiB, 32 bytes a row, and more only for rows that contradict each other. Reading is spread over
// the processors; all that it started has ended when it returns.
func TakeSurvey(ctx context.Context, open Opener, f Format, visit func(*Record) error) (*Survey, error) {
	s := &Survey{format: f, hasher: newHasher(), Codes: map[string]int{}, Amounts: map[string]int64{}}
	if err := f.Validate(); err != nil {
		return nil, fmt.Errorf("read bill file: %w", err)
	}
	s.phones = newPhoneReader(f.PhoneRegion)
	var seen sightings
	err := s.pass(ctx, open, nil, func(it *item) error {
		s.count(it)
		seen.add(it.keys)
		if visit == nil {
			return nil
		}
		return visit(&it.Record)
	})
	var bad *FileError
	if errors.As(err, &bad) {
		return &Survey{Layout: s.Layout, format: f}, err
	}
	if err != nil {
		return nil, err
	}
	if s.found = seen.suspects(); s.found.none() {
		return s, nil
	}
	seen = sightings{}
	if err := s.compare(ctx, open); err != nil {
		return nil, err
	}
	return s, nil
}

// AtOdds reports whether rows may be at odds with each other. Only then do records have problems that visit was not told of.
func (s *Survey) AtOdds() bool { return s.found != nil && !s.found.none() }

// count adds a record, with the problems that it has on its own, to the sums.
func (s *Survey) count(it *item) {
	if len(it.Problems) > 0 {
		s.Invalid++
		s.Codes[it.Problems[0].Code]++
		return
	}
	s.Amounts[it.Bill.Currency] += it.Bill.Amount
}

// compare is the second pass: it looks at the suspects alone, and corrects the sums.
func (s *Survey) compare(ctx context.Context, open Opener) error {
	var rows []suspectRow
	var currencies []string
	again := &Survey{Layout: s.Layout, format: s.format, hasher: s.hasher, phones: s.phones}
	err := again.pass(ctx, open, s, func(it *item) error {
		r := suspectRow{line: uint32(it.Line), first: int16(it.first), customerCol: it.customerCol, valid: len(it.Problems) == 0}
		r.reference, r.customer, r.account = s.found.see(it, s.hasher)
		if r.reference == none && r.customer == none && r.account == none {
			return nil
		}
		if r.valid {
			r.amount = int32(it.Bill.Amount)
			i := slices.Index(currencies, it.Bill.Currency)
			if i < 0 {
				i = len(currencies)
				currencies = append(currencies, it.Bill.Currency)
			}
			r.currency = uint8(i)
		} else {
			r.code = uint8(slices.Index(rowCodes[:], it.Problems[0].Code))
		}
		rows = append(rows, r)
		return nil
	})
	if err != nil {
		return err
	}
	c := newChecker(s.Layout, s.format, s.phones)
	for i := range rows {
		s.recount(&rows[i], c, currencies)
	}
	return nil
}

// recount corrects the sums for a row that belongs to a group, now that the groups are known.
func (s *Survey) recount(r *suspectRow, c *checker, currencies []string) {
	first, code := -1, ""
	flag := func(col int, with string) {
		if code == "" || col < first {
			first, code = col, with
		}
	}
	if r.reference != none {
		switch g := &s.found.references.list[r.reference]; {
		case g.other != 0:
			flag(c.column(fieldReference), CodeContradictingReference)
		case g.line != r.line:
			flag(c.column(fieldReference), CodeDuplicateReference)
		}
	}
	if r.customer != none && s.found.customers.list[r.customer].bad() {
		flag(int(r.customerCol), CodeConflictingParty)
	}
	if r.account != none && s.found.accounts.list[r.account].bad() {
		flag(c.column(fieldAccountReference), CodeConflictingParty)
	}
	switch {
	case code == "":
	case r.valid:
		s.Invalid++
		s.Codes[code]++
		currency := currencies[r.currency]
		if s.Amounts[currency] -= int64(r.amount); s.Amounts[currency] == 0 {
			delete(s.Amounts, currency)
		}
	case first < int(r.first):
		s.Codes[code]++
		own := rowCodes[r.code]
		if s.Codes[own]--; s.Codes[own] == 0 {
			delete(s.Codes, own)
		}
	}
}

// batch is a stretch of a file on its way from the splitter over a worker to the survey.
type batch struct {
	buf     []byte
	records []extent
	items   []item
	row     int // ordinal of the first record
	err     error
	done    chan struct{} // a worker is through with it
}

// pass reads the file once, parses and checks its records on all processors, and hands them to visit in order, on
// the caller's goroutine. Where before is given, the file must be as it was then.
func (s *Survey) pass(ctx context.Context, open Opener, before *Survey, visit func(*item) error) (err error) {
	r, err := open()
	if err != nil {
		return fmt.Errorf("open bill file: %w", err)
	}
	defer func() { err = cmp.Or(err, r.Close()) }()
	src, split, err := s.start(r, before)
	if err != nil {
		return err
	}
	workers := max(1, runtime.GOMAXPROCS(0))
	parsers := make([]*parser, workers)
	for i := range parsers {
		if parsers[i], err = newParser(s.Layout, s.format, s.phones); err != nil {
			return err
		}
	}
	depth := 2*workers + 1
	free, work, order := make(chan *batch, depth), make(chan *batch, depth), make(chan *batch, depth)
	for range depth {
		free <- &batch{done: make(chan struct{}, 1)}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error {
		defer close(order)
		defer close(work)
		return cutBatches(ctx, split, free, work, order)
	})
	for _, parser := range parsers {
		group.Go(func() error {
			for b := range work {
				b.err = parser.batch(b, s.hasher)
				b.done <- struct{}{}
			}
			return nil
		})
	}
	err = consume(ctx, order, free, visit)
	cancel()
	if cutErr := group.Wait(); err == nil {
		err = cutErr
	}
	if err != nil {
		return err
	}
	s.end(src, split)
	return s.sameAs(before)
}

// start opens the text and reads the header, or in a second pass cuts off the one that is known.
func (s *Survey) start(r io.Reader, before *Survey) (*source, *splitter, error) {
	src, err := newSource(r, s.format.Encoding, s.format.MaxFileSize, s.format.AllowNoFinalNewline)
	if err != nil {
		return nil, nil, err
	}
	split := &splitter{src: src, allowCut: s.format.AllowNoFinalNewline}
	layout, err := readHeader(split, s.format)
	layout.Encoding, layout.BOM = src.encoding, src.bom
	if err != nil {
		s.Layout = layout
		return nil, nil, err
	}
	if before != nil && string(layout.Header) != string(before.Layout.Header) {
		return nil, nil, ErrChanged
	}
	s.Layout = layout
	return src, split, nil
}

// ErrChanged: the bytes of a later pass are not those of the first.
var ErrChanged = errors.New("read bill file: it was changed while it was read: keep it still, and read it again")

// end takes over what was counted while reading.
func (s *Survey) end(src *source, split *splitter) {
	s.Rows = split.rows
	s.Lines = Lines{Header: s.Layout.HeaderLines, Blank: split.blank, Data: split.data}
	s.Lines.Total = s.Lines.Header + s.Lines.Blank + s.Lines.Data
	s.size = src.read
}

func (s *Survey) sameAs(before *Survey) error {
	if before != nil && (s.Rows != before.Rows || s.Lines != before.Lines || s.size != before.size) {
		return ErrChanged
	}
	return nil
}

// cutBatches fills batches until the text ends, and sends them to the workers and, in order, to the consumer.
func cutBatches(ctx context.Context, split *splitter, free <-chan *batch, work, order chan<- *batch) error {
	for {
		var b *batch
		select {
		case b = <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		b.row = split.rows + 1
		var err error
		if b.buf, b.records, err = split.next(b.buf, b.records); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		work <- b // never blocks: there is room for all batches
		order <- b
	}
}

// batch parses and checks all records of b.
func (p *parser) batch(b *batch, h hasher) error {
	b.items = slices.Grow(b.items[:0], len(b.records))[:len(b.records)]
	for i := range b.records {
		it, e := &b.items[i], &b.records[i]
		if err := p.parse(e.of(b.buf), e, b.row+i, it); err != nil {
			return err
		}
		it.keys = h.keys(it)
	}
	return nil
}

// consume visits the records of all batches in order.
func consume(ctx context.Context, order <-chan *batch, free chan<- *batch, visit func(*item) error) error {
	for b := range order {
		<-b.done
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.err != nil {
			return b.err
		}
		for i := range b.items {
			if err := visit(&b.items[i]); err != nil {
				return err
			}
		}
		free <- b
	}
	return nil
}
