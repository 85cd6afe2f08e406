package billfile

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// item is a record with what the comparison of rows needs.
type item struct {
	Record
	// Whether the cells by which rows are compared could be read for certain.
	reference, customer, account bool
	customerCol                  int16      // column of the customer reference, where it could be read
	id                           identity   // what other rows are compared with
	member                       membership // of groups; only once there are findings
	remarks                      remarks    // warnings that the row gives cause to
	last                         bool       // of the file
}

// checker applies every rule that concerns one row alone. It has scratch space, so it is
// not safe for concurrent use.
type checker struct {
	format Format
	dates  dateFormat
	// The dates of the last row, because most rows of a file have the same ones.
	billDate, dueDate lastDate
	most              int64 // minor units
	amounts           Amounts
	columns           []column
	at                [fieldCount]int // columns of fields; -1 where the file has none
	labels            []string        // of columns in details
	skip              []bool          // columns that are not looked at
	metas             int
	// template makes the bill reference; empty if the file has a column of it.
	template    template
	derivations []derivation
	phones      *phoneReader
	found       []placed // of the record at hand
	detail      []byte   // scratch space
	pairs       []Pair   // space for the metadata of the next record; nil = make some
	swallowed   string   // of a record that spans lines: which lines a stray quotation mark may have swallowed
	entities    bool     // there is an ampersand in the record at hand
	remarks     remarks  // on the record at hand
	nameless    int      // column without a name, 1 the first, that the record at hand has something in; 0 = none
}

// placed is a problem with the index of its column, by which problems are sorted.
type placed struct {
	col int
	Problem
}

func newChecker(l Layout, f Format, phones *phoneReader) *checker {
	c := &checker{format: f, dates: newDateFormat(f.dateFormat()), most: maxAmount, amounts: f.amounts(), columns: l.columns, skip: make([]bool, len(l.columns)), phones: phones}
	for f := range c.at {
		c.at[f] = slices.IndexFunc(l.columns, func(col column) bool { return col.field == field(f) })
	}
	if c.at[fieldReference] < 0 {
		c.template = f.template()
	}
	if p, ok := presetOf(f.Preset); ok {
		c.derivations = derivations(p, l.columns)
	}
	if f.MaxAmountDue > 0 {
		c.most = min(c.most, f.MaxAmountDue)
	}
	for _, col := range l.columns {
		label := col.name
		if len(label) > quoteLimit || invisible(label) >= 0 {
			label = quote(label)
		}
		c.labels = append(c.labels, label)
		if col.field == fieldMetadata {
			c.metas++
		}
	}
	return c
}

func (c *checker) add(col int, column, code, detail string) {
	c.found = append(c.found, placed{col, Problem{Column: column, Code: code, Detail: detail}})
}

// reportRecord adds a problem of the record as a whole.
func (c *checker) reportRecord(code, detail string) { c.add(-1, "", code, detail) }

// report adds a finding about a column. The column's name goes before it.
func (c *checker) report(col int, f finding) {
	if f.code == "" {
		return
	}
	c.detail = append(appendShown(append(c.detail[:0], c.labels[col]...), f.cell), f.detail...)
	c.add(col, c.columns[col].name, f.code, string(c.detail))
}

// finish moves the problems that were found to the record, in column order.
func (c *checker) finish(it *item) {
	if len(c.found) == 0 {
		return
	}
	if len(c.found) > 1 {
		slices.SortStableFunc(c.found, func(a, b placed) int { return cmp.Compare(a.col, b.col) })
	}
	it.Problems = make([]Problem, len(c.found))
	for i, p := range c.found {
		p.Line, p.Row = it.Line, it.Row
		it.Problems[i] = p.Problem
	}
	c.found = c.found[:0]
}

// record checks all cells of one record. swallowed, for a record of several lines, is the
// text about lines that a stray quotation mark may have joined.
func (c *checker) record(record []string, swallowed string, it *item) {
	c.swallowed, c.remarks, c.nameless = swallowed, remarks{}, 0
	b := &it.Bill
	decimals := c.currency(c.text(record, fieldCurrency), b)
	if c.metas > 0 {
		if b.Metadata = c.pairs[:0]; cap(b.Metadata) < c.metas {
			b.Metadata = make([]Pair, 0, c.metas)
		}
		c.pairs = nil
	}
	for i := range c.columns {
		col := &c.columns[i]
		if c.skip[i] {
			continue
		}
		cell := record[i]
		if col.field == ignored {
			c.passedOver(i, col, cell)
			if c.swallowed != "" && strings.ContainsAny(cell, "\r\n") {
				c.add(i, col.name, CodeControlCharacter, c.labels[i]+" has a line break: remove it"+c.swallowed)
			}
			continue
		}
		s := trim(cell)
		if len(s) > maxField {
			if col.field == fieldPart {
				c.derivation(col).set(col, s, false)
			}
			c.add(i, col.name, CodeRowTooLarge, c.labels[i]+" has "+strconv.Itoa(len(s))+" bytes, but a field may have at most "+strconv.Itoa(maxField)+": shorten it")
			continue
		}
		if c.entities && col.holdsText() && hasEntity(s) {
			c.remarks[remarkEntity] = true
		}
		clean := c.visible(i, s)
		if col.field == fieldPart {
			c.part(i, col, s, clean)
			continue
		}
		if !c.cell(i, col, clean, len(clean) == len(s), decimals, it) && col.field == fieldReference {
			b.Reference = cutReference(s)
		}
	}
	if len(c.derivations) > 0 {
		c.derive(it)
	}
	c.parties(record, it)
	if len(c.template) > 0 {
		c.makeReference(it)
	}
	if b.BillDate != "" && b.DueDate != "" && b.DueDate < b.BillDate {
		i := c.column(fieldDueDate)
		c.report(i, finding{CodeDueBeforeBillDate, "", " " + b.DueDate + " is before the bill date " + b.BillDate + ": correct one of them"})
	}
	if c.swallowed != "" && !slices.ContainsFunc(c.found, func(p placed) bool { return p.Code == CodeControlCharacter }) {
		c.reportRecord(CodeControlCharacter, "the row has a line break in a field: remove it"+c.swallowed)
	}
	it.remarks = c.remarks
}

// passedOver looks at a cell of a column that goes to no field.
func (c *checker) passedOver(i int, col *column, cell string) {
	switch {
	case cell == "":
	case col.nameless && c.nameless == 0 && trim(cell) != "":
		c.nameless = i + 1
	case col.verdict && trim(cell) == CodeTotalRow && !c.format.AllowTotalRow:
		c.reportRecord(CodeTotalRow, looksLikeTotal) // it was refused as one, and may be the only row now
	}
}

// text returns the trimmed cell of a field, or "" if the file has no column of it.
func (c *checker) text(record []string, f field) string {
	if i := c.at[f]; i >= 0 {
		return trim(record[i])
	}
	return ""
}

// visible reports the first invisible character of a cell. It returns the cell without
// all such characters, so that its other problems are found too.
func (c *checker) visible(col int, s string) string {
	beyond := beyondASCII(s)
	if beyond < 0 {
		return s
	}
	if c.columns[col].holdsText() && isMojibake(s[beyond:]) {
		c.remarks[remarkMojibake] = true
	}
	at := invisibleFrom(s, beyond)
	if at < 0 {
		return s
	}
	detail := " " + invisibleDetail(s, at)
	if c.swallowed != "" && strings.ContainsRune(s, '\n') {
		detail += c.swallowed
	}
	c.report(col, finding{CodeControlCharacter, "", detail})
	return trim(strings.Map(func(r rune) rune {
		if invisibleName(r) != "" {
			return -1
		}
		return r
	}, s))
}

// currency fills in the bill's currency and returns its decimals, or -1 if it is not
// known.
func (c *checker) currency(s string, b *Bill) int {
	s = cmp.Or(s, c.format.Currency)
	if s == "ZAR" { // by far the most
		b.Currency = s
		return 2
	}
	code := s
	if len(s) == 3 {
		code = strings.ToUpper(s)
	}
	decimals, ok := MinorUnits(code)
	if !ok {
		return -1
	}
	b.Currency = code
	return decimals
}

// cell checks one cell and fills in its field of the bill if it is good. intact means
// that no invisible character was removed from s before.
func (c *checker) cell(i int, col *column, s string, intact bool, decimals int, it *item) bool {
	b := &it.Bill
	if s == "" {
		switch col.field {
		case fieldReference, fieldAmount:
			c.report(i, finding{CodeMissingField, "", " is blank: fill it in"})
		case fieldCurrency:
			if c.format.Currency == "" {
				c.report(i, finding{CodeMissingField, "", " is blank, and this feed has no default currency: fill it in"})
			}
		}
		return false
	}
	var f finding
	switch col.field {
	case fieldReference:
		if f = checkReference(s, false); f.code == "" && intact {
			b.Reference, it.reference = s, true
		}
	case fieldAmount:
		var v int64
		if v, f = c.amount(s, decimals); intact {
			b.Amount = v
		}
	case fieldCurrency:
		f = c.checkCurrency(s, b.Currency)
	case fieldBillDate:
		b.BillDate, f = c.date(&c.billDate, s)
	case fieldDueDate:
		b.DueDate, f = c.date(&c.dueDate, s)
	case fieldAccountReference:
		if f = checkReference(s, true); f.code == "" && intact {
			b.AccountReference, it.account = s, true
		}
	case fieldCustomerReference:
		if f = checkReference(s, true); f.code == "" && intact {
			b.CustomerReference, it.customer, it.customerCol = s, true, int16(i)
		}
	case fieldAccountID:
		f = keep(&b.AccountID, s, checkID(s, "bacc_"))
	case fieldCustomerID:
		f = keep(&b.CustomerID, s, checkID(s, "bcus_"))
	case fieldAccountName:
		f = keep(&b.AccountName, s, checkName(s))
	case fieldCustomerName:
		f = keep(&b.CustomerName, s, checkName(s))
	case fieldCustomerEmail:
		f = keep(&b.CustomerEmail, s, checkEmail(s))
	case fieldCustomerPhone:
		b.CustomerPhone, f = c.phones.parse(s)
	case fieldMetadata:
		f = c.metadata(col, s, b)
	}
	c.report(i, f)
	return f.code == "" && intact
}

// amount reads an amount as the feed writes it.
func (c *checker) amount(s string, decimals int) (int64, finding) {
	if !c.format.DecimalComma {
		return parseAmount(s, c.amounts, decimals, c.most)
	}
	plain, ok := commaAmount(s)
	if !ok {
		return 0, badCommaAmount(s)
	}
	v, f := parseAmount(plain, c.amounts, decimals, c.most)
	if f.cell != "" {
		f.cell = s
	}
	return v, f
}

// lastDate is the last cell of a column of dates, and what it was read as.
type lastDate struct {
	cell, date string
	finding    finding
}

// date reads a date by the feed's format.
func (c *checker) date(last *lastDate, s string) (string, finding) {
	if s != last.cell {
		last.cell = s
		last.date, last.finding = c.dates.parse(s)
	}
	return last.date, last.finding
}

// keep sets a field of the bill if nothing is wrong with it.
func keep(to *string, s string, f finding) finding {
	if f.code == "" {
		*to = s
	}
	return f
}

func (c *checker) checkCurrency(s, code string) finding {
	switch {
	case code == "" && spreadsheetError(s):
		return finding{CodeSpreadsheetDamage, "", " is the error value " + quote(s) + " of a spreadsheet: correct the formula and export the file again"}
	case code == "":
		return finding{CodeInvalidCurrency, s, " is not an ISO 4217 currency code: write three letters, such as ZAR"}
	case len(c.format.Currencies) > 0 && !slices.Contains(c.format.Currencies, code):
		return finding{CodeUnsupportedCurrency, "", " " + code + " is not one of this feed's currencies (" + strings.Join(c.format.Currencies, ", ") + "): correct it, or add it to currencies: in the configuration"}
	}
	return finding{}
}

// metadata checks one metadata value, and the number of them.
func (c *checker) metadata(col *column, s string, b *Bill) finding {
	b.Metadata = append(b.Metadata, Pair{col.key, s})
	switch {
	case len(b.Metadata) == maxMetadataPairs+1:
		return finding{CodeInvalidMetadata, "", " is one metadata value too many, because a bill may have at most " + strconv.Itoa(maxMetadataPairs) + ": leave some blank"}
	case len(s) > maxMetadataValue && utf8.RuneCountInString(s) > maxMetadataValue:
		return finding{CodeInvalidMetadata, "", " has " + strconv.Itoa(utf8.RuneCountInString(s)) + " characters, but at most " + strconv.Itoa(maxMetadataValue) + " are allowed: shorten it"}
	case spreadsheetError(s):
		return finding{CodeSpreadsheetDamage, "", " holds a spreadsheet's error value: correct the sheet"}
	case isNullText(s):
		return finding{CodePlaceholderValue, "", placeholderDetail(s) + "write the value, or leave the cell blank"}
	}
	return finding{}
}

// column returns the index of a field's column, or of the first of the columns that it is
// put together from; -1 if the file has none.
func (c *checker) column(f field) int {
	return slices.IndexFunc(c.columns, func(col column) bool { return col.to == f })
}

// parties checks that the row names who pays, and in one way only.
func (c *checker) parties(record []string, it *item) {
	accountRef, accountID := c.text(record, fieldAccountReference) != "", c.text(record, fieldAccountID) != ""
	customerRef, customerID := c.given(record, fieldCustomerReference), c.text(record, fieldCustomerID) != ""
	if accountRef && accountID {
		c.ambiguous(c.column(fieldAccountReference), c.column(fieldAccountID))
	}
	if customerRef && customerID {
		reference := c.column(fieldCustomerReference)
		if it.customer {
			reference = int(it.customerCol) // one of several
		}
		c.ambiguous(reference, c.column(fieldCustomerID))
	}
	if accountRef || accountID || customerRef || customerID {
		return
	}
	i := slices.IndexFunc(c.columns, column.isParty)
	choice := fieldNames[fieldAccountReference : fieldCustomerID+1]
	if len(c.derivations) > 0 {
		choice = nil
		for j, col := range c.columns {
			if col.isParty() {
				choice = append(choice, c.labels[j])
			}
		}
	}
	c.add(i, c.columns[i].name, CodeMissingParty, "the row does not say who pays: fill in one of "+strings.Join(choice, ", "))
}

func (c *checker) ambiguous(i, j int) {
	c.report(max(i, j), finding{CodeAmbiguousParty, "", " is filled in as well as " + c.labels[min(i, j)] + ": give a reference or an id, not both"})
}
