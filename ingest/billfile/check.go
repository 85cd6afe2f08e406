package billfile

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// item is a record with what the survey needs of it besides.
type item struct {
	Record
	// readable: the cells that cross-row rules compare could be read for certain.
	reference, customer, account bool
	customerCol                  int16      // column of the customer reference, where it could be read
	id                           identity   // what other rows are compared with
	member                       membership // of groups; only once there are findings
	remarks                      remarks    // warnings that the row gives cause to
	last                         bool       // of the file
}

// checker holds cells to every rule that a row can be held to alone. Not for concurrent use: it has scratch space.
type checker struct {
	format  Format
	dates   dateFormat
	most    int64 // minor units
	amounts Amounts
	columns []column
	at      [fieldCount]int // columns of fields; -1 where the file has none
	labels  []string        // of columns in details
	skip    []bool          // columns that are not looked at
	metas   int
	// template makes the bill reference; none where the file has a column of it.
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

// placed is a problem with its place in column order.
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

// whole adds a problem of the record as a whole.
func (c *checker) reportRecord(code, detail string) { c.add(-1, "", code, detail) }

// say adds a finding about a column, whose name goes before it.
func (c *checker) report(col int, f finding) {
	if f.code == "" {
		return
	}
	c.detail = append(appendShown(append(c.detail[:0], c.labels[col]...), f.cell), f.detail...)
	c.add(col, c.columns[col].name, f.code, string(c.detail))
}

// finish moves what was found to the record, in column order.
func (c *checker) finish(it *item) {
	if len(c.found) == 0 {
		return
	}
	slices.SortStableFunc(c.found, func(a, b placed) int { return cmp.Compare(a.col, b.col) })
	it.Problems = make([]Problem, len(c.found))
	for i, p := range c.found {
		p.Line, p.Row = it.Line, it.Row
		it.Problems[i] = p.Problem
	}
	c.found = c.found[:0]
}

// record checks all cells of one record. swallowed, where the record spans lines, is what is to be said of them.
func (c *checker) record(record []string, swallowed string, it *item) {
	c.swallowed, c.remarks, c.nameless = swallowed, 0, 0
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
			c.add(i, col.name, CodeRowTooLarge, c.labels[i]+" has "+strconv.Itoa(len(s))+" bytes, more than the "+strconv.Itoa(maxField)+" that a field may have: shorten it")
			continue
		}
		if c.entities && col.holdsText() && hasEntity(s) {
			c.remarks |= remarkEntity
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

// text is the cell of a field, trimmed; "" where the file has no column of it.
func (c *checker) text(record []string, f field) string {
	if i := c.at[f]; i >= 0 {
		return trim(record[i])
	}
	return ""
}

// visible reports the first invisible character of a cell and returns the cell without all of them, to look for
// what else is wrong.
func (c *checker) visible(col int, s string) string {
	beyond := beyondASCII(s)
	if beyond < 0 {
		return s
	}
	if c.columns[col].holdsText() && isMojibake(s[beyond:]) {
		c.remarks |= remarkMojibake
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

// currency settles the bill's currency and returns its decimals, -1 where it is not known.
func (c *checker) currency(s string, b *Bill) int {
	if s == "" {
		s = c.format.Currency
	}
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

// cell checks one cell and fills in its field of the bill where it is good. sound says that nothing invisible
// was taken out of s before.
func (c *checker) cell(i int, col *column, s string, sound bool, decimals int, it *item) bool {
	b := &it.Bill
	if s == "" {
		switch col.field {
		case fieldReference, fieldAmount:
			c.report(i, finding{CodeMissingField, "", " is blank: fill it in"})
		case fieldCurrency:
			if c.format.Currency == "" {
				c.report(i, finding{CodeMissingField, "", " is blank, and this feed has no default: fill it in"})
			}
		}
		return false
	}
	var f finding
	switch col.field {
	case fieldReference:
		if f = checkReference(s, false); f.code == "" && sound {
			b.Reference, it.reference = s, true
		}
	case fieldAmount:
		var v int64
		if v, f = c.amount(s, decimals); sound {
			b.Amount = v
		}
	case fieldCurrency:
		f = c.checkCurrency(s, b.Currency)
	case fieldBillDate:
		b.BillDate, f = c.dates.parse(s)
	case fieldDueDate:
		b.DueDate, f = c.dates.parse(s)
	case fieldAccountReference:
		if f = checkReference(s, true); f.code == "" && sound {
			b.AccountReference, it.account = s, true
		}
	case fieldCustomerReference:
		if f = checkReference(s, true); f.code == "" && sound {
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
	return f.code == "" && sound
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

// keep fills in a field of the bill where nothing was found.
func keep(to *string, s string, f finding) finding {
	if f.code == "" {
		*to = s
	}
	return f
}

func (c *checker) checkCurrency(s, code string) finding {
	switch {
	case code == "" && spreadsheetError(s):
		return finding{CodeSpreadsheetDamage, "", " holds a spreadsheet's error " + quote(s) + ": correct the sheet"}
	case code == "":
		return finding{CodeInvalidCurrency, s, " is no ISO 4217 currency: write a code of three letters such as ZAR"}
	case len(c.format.Currencies) > 0 && !slices.Contains(c.format.Currencies, code):
		return finding{CodeUnsupportedCurrency, "", " " + code + " is not among the currencies of this feed (" + strings.Join(c.format.Currencies, ", ") + "): correct it, or add it to currencies:"}
	}
	return finding{}
}

// metadata checks one metadata value, and that there are not too many.
func (c *checker) metadata(col *column, s string, b *Bill) finding {
	b.Metadata = append(b.Metadata, Pair{col.key, s})
	switch {
	case len(b.Metadata) == maxMetadataPairs+1:
		return finding{CodeInvalidMetadata, "", " is one too many: a bill has at most " + strconv.Itoa(maxMetadataPairs) + " metadata values; leave some blank"}
	case len(s) > maxMetadataValue && utf8.RuneCountInString(s) > maxMetadataValue:
		return finding{CodeInvalidMetadata, "", " has " + strconv.Itoa(utf8.RuneCountInString(s)) + " characters, at most " + strconv.Itoa(maxMetadataValue) + " are allowed: shorten it"}
	case spreadsheetError(s):
		return finding{CodeSpreadsheetDamage, "", " holds a spreadsheet's error value: correct the sheet"}
	case isNullText(s):
		return finding{CodePlaceholderValue, "", placeholderDetail(s) + "write the value, or leave the cell blank"}
	}
	return finding{}
}

// column is the index of a field's column, or of the first of those that it is put together from; -1 where the file has none.
func (c *checker) column(f field) int {
	return slices.IndexFunc(c.columns, func(col column) bool { return col.to == f })
}

// parties checks that the row says who pays, in one way only.
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
	c.report(max(i, j), finding{CodeAmbiguousParty, "", " stands beside " + c.labels[min(i, j)] + ": give a reference or an id, not both"})
}
