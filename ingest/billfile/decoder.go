package billfile

import (
	"errors"
	"io"
)

// Decoder yields the records of a surveyed file with all their problems, including those
// that only the whole file shows. It is not safe for concurrent use. It starts no
// goroutines and needs no closing.
//
// Bytes become a record in three steps: source (source.go) turns the file into UTF-8,
// splitter (split.go) finds where each record ends, and parser (parse.go) reads its cells.
// check.go has the rules of one row, text.go what may stand in a cell, and crossrow.go the
// rules between rows.
type Decoder struct {
	survey  *Survey
	seen    *Survey // what this pass has read
	source  *source
	split   *splitter
	parser  *parser
	batch   batch
	next    int // in the batch
	current item
	err     error // sticky
}

// Decode begins a pass over r, which must be the bytes that were surveyed. If they are
// not, Decode or Next returns an error. Several passes may run at the same time. The
// caller closes r.
func (s *Survey) Decode(r io.Reader) (*Decoder, error) {
	if s.groups == nil {
		return nil, errors.New("decode bill file: its survey did not succeed")
	}
	d := &Decoder{survey: s, seen: &Survey{format: s.format}}
	var err error
	if d.source, d.split, err = d.seen.start(r, s); err != nil {
		return nil, err
	}
	d.parser = newParser(s.Layout, s.format, s.phones)
	return d, nil
}

// Next returns the next record: a bill, or the problems that it has. The record is valid
// until the next call, its strings for good. io.EOF means that the whole file was read
// and is the one that was surveyed.
func (d *Decoder) Next() (*Record, error) {
	if d.err == nil {
		d.err = d.advance()
	}
	if d.err != nil {
		return nil, d.err
	}
	return &d.current.Record, nil
}

// Skip passes over the next n records, or what is left of them, without looking into them. Its
// errors are those of Next.
func (d *Decoder) Skip(n int) error {
	for d.err == nil && n > 0 {
		if d.err = d.fill(); d.err == nil {
			passed := min(n, len(d.batch.records)-d.next)
			d.next += passed
			n -= passed
		}
	}
	return d.err
}

// fill reads the next batch once all records of the present one have been yielded.
func (d *Decoder) fill() error {
	for d.next == len(d.batch.records) {
		b := &d.batch
		b.row, d.next = d.split.rows+1, 0
		var err error
		b.buf, b.records, err = d.split.next(b.buf, b.records)
		if errors.Is(err, io.EOF) {
			d.seen.end(d.source, d.split)
			if err := d.seen.sameAs(d.survey); err != nil {
				return err
			}
			return io.EOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) advance() error {
	if err := d.fill(); err != nil {
		return err
	}
	e := &d.batch.records[d.next]
	if err := d.parser.parse(e.of(d.batch.buf), e, d.batch.row+d.next, &d.current, d.survey.hasher, d.survey.groups); err != nil {
		return err
	}
	if d.current.Row == d.survey.totalRow {
		d.current.refuse(totalRow(&d.current))
	}
	d.next++
	return nil
}
