package billfile

import (
	"errors"
	"io"
	"reflect"
	"testing"

	"billdrop/fixtures"
)

// prefixStep thins out the prefixes of files above 4 KiB: all of the first and the last
// half KiB, and between them each one that ends a line, and every prefixStep-th. It is a
// prime, so that it meets all places of a row.
const prefixStep = 499

// An upload that breaks off, at whatever byte, is refused, or the rows read from it are
// those of the whole file.
func TestPrefixesOfFixtures(t *testing.T) {
	files, prefixes, read := 0, 0, 0
	for _, f := range fixtures.All() {
		if f.Code != "" && f.Code != "invalid_rows" {
			continue
		}
		files++
		text, format := f.Bytes(), formatOf(f.Format)
		r := prefixReader{format: format, phones: newPhoneReader(format.PhoneRegion), hasher: newHasher()}
		whole, err := r.rows(text)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		for n := range text {
			if len(text) > 4096 && n >= 512 && n < len(text)-512 && n%prefixStep != 0 && text[n-1] != '\n' {
				continue
			}
			prefixes++
			rows, err := r.rows(text[:n])
			var refused *FileError
			if errors.As(err, &refused) {
				continue
			}
			if err != nil {
				t.Fatalf("%s, first %d bytes: %v", f.Name, n, err)
			}
			read++
			if len(rows) > len(whole) {
				t.Errorf("%s, first %d bytes: %d rows, the whole file has %d", f.Name, n, len(rows), len(whole))
				continue
			}
			for i := range rows {
				if !reflect.DeepEqual(rows[i], whole[i]) {
					t.Errorf("%s, first %d bytes: line %d differs from the whole file's", f.Name, n, whole[i].Line)
				}
			}
		}
	}
	t.Logf("%d files, %d prefixes, %d of them read", files, prefixes, read)
	if files < 40 || prefixes < 20_000 || read < 200 {
		t.Errorf("%d files, %d prefixes, %d of them read: that is too few to prove anything", files, prefixes, read)
	}
}

// prefixReader reads files of one format, as a survey does but with space that it keeps.
type prefixReader struct {
	format Format
	phones *phoneReader
	hasher hasher
	rest   []byte
	batch  batch
}

// rows reads a file to its end: each record with the problems that it has on its own,
// without bytes of the file.
func (r *prefixReader) rows(text []byte) ([]Record, error) {
	f := r.format
	src, err := newSource(&sliceReader{text}, f.Encoding, f.MaxFileSize, f.AllowNoFinalNewline)
	if err != nil {
		return nil, err
	}
	split := &splitter{src: src, allowCut: f.AllowNoFinalNewline, rest: r.rest[:0]}
	layout, err := readHeader(split, f)
	r.rest = split.rest
	if err != nil {
		return nil, err
	}
	var p *parser // made when there is something to parse: most prefixes end before
	var rows []Record
	b := &r.batch
	for {
		row := split.rows + 1
		b.buf, b.records, err = split.next(b.buf, b.records)
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		if p == nil {
			p = newParser(layout, f, r.phones)
		}
		for i := range b.records {
			var it item
			if err := p.parse(b.records[i].of(b.buf), &b.records[i], row+i, &it, r.hasher, nil); err != nil {
				return nil, err
			}
			it.Raw = nil
			rows = append(rows, it.Record)
		}
	}
}
