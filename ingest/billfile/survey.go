package billfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"
)

// Opener opens the same bytes from the beginning. A survey may read them more than once.
type Opener func() (io.ReadCloser, error)

// Survey is what is known of a bill file that was read from end to end. It is safe for
// concurrent use.
type Survey struct {
	Layout  Layout
	Lines   Lines
	Rows    int              // data records
	Invalid int              // records with at least one problem, those that only the whole file shows included
	Codes   map[string]int   // invalid records by their first code
	Amounts map[string]int64 // currency → minor units of the valid rows
	// InvalidAmounts are those of the invalid rows, as far as they and their currency could be
	// read.
	InvalidAmounts map[string]int64
	// Warnings are what is not wrong, but worth a look: one of each kind, in the order of
	// WarningCodes.
	Warnings []Warning

	format Format
	hasher hasher
	phones *phoneReader
	groups *groups
	size   int64 // bytes
	rows   remarked
	// sum is the amount of all rows so far that could be read, whatever their currency; totalRow is
	// the last row where that is a total, else 0.
	sum      int64
	totalRow int
}

// TakeSurvey reads a file from end to end, once. If rows have to be compared with each
// other, it reads the file twice more, and more often if more than a million parties
// contradict each other.
//
// visit, unless nil, is called for every record in order. The record and its strings are
// not valid after it returns. An error from it ends the survey and is returned. In the
// first reading a record has the problems that it has on its own. If rows have to be
// compared, all records are visited once more, from Row 1 on, with all their problems;
// what was visited before is then void.
//
// For a file that cannot be used as a whole, TakeSurvey returns a *FileError (see
// errors.As) and a Survey that has only its Layout, as far as that was read. Any other
// error means that reading failed, and there is no Survey.
//
// Memory: about 4 MiB, 21 bytes a row, and 24 bytes for each party or reference with a
// contradiction. Reading is spread over the processors. Everything that it started has
// ended when it returns.
func TakeSurvey(ctx context.Context, open Opener, f Format, visit func(*Record) error) (*Survey, error) {
	s := &Survey{format: f, hasher: newHasher()}
	if visit == nil {
		visit = func(*Record) error { return nil }
	}
	if err := f.Validate(); err != nil {
		return nil, fmt.Errorf("read bill file: %w", err)
	}
	s.phones = newPhoneReader(f.PhoneRegion)
	var seen sightings
	err := s.pass(ctx, open, nil, s.counter(func(it *item) error {
		seen.add(&it.id)
		return visit(&it.Record)
	}))
	if _, ok := errors.AsType[*FileError](err); ok {
		return &Survey{Layout: s.Layout, format: f}, err
	}
	if err != nil {
		return nil, err
	}
	if found := seen.suspects(); found.any() || found.similar.any() {
		s.groups = found
		err = s.compare(ctx, open, visit)
	} else {
		s.groups = &groups{complete: true}
	}
	if err != nil {
		return nil, err
	}
	s.Warnings = s.warnings()
	return s, nil
}

// counter returns a function that counts records, beginning at 0, and passes them on.
func (s *Survey) counter(visit func(*item) error) func(*item) error {
	s.Invalid, s.Codes, s.rows, s.sum, s.totalRow = 0, map[string]int{}, remarked{}, 0, 0
	s.Amounts, s.InvalidAmounts = map[string]int64{}, map[string]int64{}
	return func(it *item) error {
		s.rows.add(it)
		if it.last && s.isTotal(it) {
			s.totalRow = it.Row
			it.refuse(totalRow(it))
		}
		s.sum += it.Bill.Amount
		if len(it.Problems) > 0 {
			s.Invalid++
			s.Codes[it.Problems[0].Code]++
			if it.Bill.Amount != 0 && it.Bill.Currency != "" {
				s.InvalidAmounts[it.Bill.Currency] += it.Bill.Amount
			}
		} else {
			s.Amounts[it.Bill.Currency] += it.Bill.Amount
		}
		return visit(it)
	}
}

// compare is the second pass, which looks at the suspects, and the third, which counts
// again with the result.
func (s *Survey) compare(ctx context.Context, open Opener, visit func(*Record) error) error {
	for from := 0; !s.groups.complete; {
		r := newRound(s.groups, from, maxDisputes)
		if err := s.nextPass().pass(ctx, open, s, func(it *item) error { r.observe(it); return nil }); err != nil {
			return err
		}
		from = r.end()
	}
	if !s.groups.any() {
		return nil
	}
	return s.nextPass().pass(ctx, open, s, s.counter(func(it *item) error { return visit(&it.Record) }))
}

// nextPass returns a survey for a further pass.
func (s *Survey) nextPass() *Survey {
	return &Survey{format: s.format, hasher: s.hasher, phones: s.phones, groups: s.groups}
}

// batch is a stretch of a file on its way from the splitter through a worker to the
// survey.
type batch struct {
	buf     []byte
	records []extent
	items   []item
	row     int // ordinal of the first record
	err     error
	last    bool          // of the file; only known once the next one was cut
	done    chan struct{} // a worker is through with it
}

// pass reads the file once. It parses and checks the records on all processors, and calls
// visit in order on the caller's goroutine. With before, the file must be as it was then.
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
		parsers[i] = newParser(s.Layout, s.format, s.phones)
		if s.groups != nil {
			s.groups.skipUncompared(parsers[i].check)
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
				b.err = parser.batch(b, s.hasher, s.groups)
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

// start opens the text and reads the header. In a further pass the header must be the
// known one.
func (s *Survey) start(r io.Reader, before *Survey) (*source, *splitter, error) {
	src, err := newSource(r, s.format.Encoding, s.format.MaxFileSize, s.format.AllowNoFinalNewline)
	if err != nil {
		return nil, nil, err
	}
	split := &splitter{src: src, allowCut: s.format.AllowNoFinalNewline, maxRows: s.format.MaxRows}
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

// ErrChanged means that the bytes of a later pass are not those of the first.
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

// cutBatches fills batches until the text ends. It sends them to the workers and, in
// order, to the consumer.
func cutBatches(ctx context.Context, split *splitter, free <-chan *batch, work, order chan<- *batch) error {
	var held *batch
	defer func() {
		if held != nil {
			held.last = true
			order <- held
		}
	}()
	var b *batch
	for {
		if b == nil {
			select {
			case b = <-free:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		b.row = split.rows + 1
		var err error
		if b.buf, b.records, err = split.next(b.buf, b.records); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if len(b.records) == 0 {
			continue
		}
		if most := split.maxRows; most > 0 && split.rows > most {
			return tooManyRows(b, most)
		}
		b.last = false
		work <- b // neither blocks: there is room for all batches
		if held != nil {
			order <- held
		}
		held, b = b, nil
	}
}

// tooManyRows is the error of a file with more rows than max_rows, of which b has the first
// too many.
func tooManyRows(b *batch, most int) error {
	line := b.records[max(0, most+1-b.row)].line
	return &FileError{Code: CodeTooManyRows, Line: line, Detail: "the file has more than the " + strconv.Itoa(most) + " rows that max_rows allows: split it, or raise the limit"}
}

// batch parses and checks all records of b, and compares them with what was found so far,
// unless that is nil.
func (p *parser) batch(b *batch, h hasher, g *groups) error {
	b.items = slices.Grow(b.items[:0], len(b.records))[:len(b.records)]
	for i := range b.records {
		it, e := &b.items[i], &b.records[i]
		p.check.pairs = it.Bill.Metadata // of a record that was visited long ago
		if err := p.parse(e.of(b.buf), e, b.row+i, it, h, g); err != nil {
			return err
		}
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
			b.items[i].last = b.last && i == len(b.items)-1
			if err := visit(&b.items[i]); err != nil {
				return err
			}
		}
		free <- b
	}
	return nil
}
