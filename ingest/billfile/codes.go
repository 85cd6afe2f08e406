// Package billfile reads bill files: bytes in, bills or named problems out. It is pure:
// it uses a reader, and no network, clock or ledger. Nothing is guessed. A byte that
// cannot be read for certain makes its row or its file invalid, with a code, a place and
// advice.
//
// TakeSurvey checks a file as a whole, including what only the whole file shows, such as
// a reference that comes twice or a customer with two names. Survey.Decode then yields
// each record with all its problems. Memory is bounded: a row of a million columns or a
// field of a gigabyte costs no more than the row limit, and a million rows cost 21 bytes
// each.
//
// The CSV library only splits a record into cells; what a cell means is decided here.
// Space around a cell, of any width and tabs included, is ignored. Any other invisible
// character makes the row invalid, wherever it stands. A line of spaces and tabs is
// blank; a line of delimiters is a row without values. A record of several lines is read
// by the rules of CSV, but it never becomes a bill, because a stray quotation mark may
// have joined its lines.
package billfile

import (
	"slices"
	"strconv"
)

// Limits on what is buffered. They are far beyond any real bill file. What exceeds them
// is reported and not held in memory.
const (
	maxRow         = 1 << 20  // bytes of one record in UTF-8, its line ends included
	maxField       = 64 << 10 // bytes of one field in UTF-8
	defaultColumns = 1000     // fields of one record, unless Format.MaxColumns says otherwise
	mostColumns    = 10_000   // that Format.MaxColumns may say
)

// Limits of the Billing API.
const (
	maxReference     = 255        // characters of an external reference
	maxText          = 255        // characters of a name or mail address
	maxMetadataPairs = 20         // per bill
	maxMetadataKey   = 50         // characters
	maxMetadataValue = 500        // characters
	maxAmount        = 99_999_999 // minor units
)

// Row codes: the values of Problem.Code.
const (
	CodeMissingField           = "missing_field"
	CodeInvalidReference       = "invalid_reference"
	CodeReferenceTooLong       = "reference_too_long"
	CodeInvalidAmount          = "invalid_amount"
	CodeAmountNotMinor         = "amount_not_minor"
	CodeAmountPrecision        = "amount_precision"
	CodeAmountOutOfRange       = "amount_out_of_range"
	CodeInvalidCurrency        = "invalid_currency"
	CodeUnsupportedCurrency    = "unsupported_currency"
	CodeInvalidDate            = "invalid_date"
	CodeDueBeforeBillDate      = "due_before_bill_date"
	CodeInvalidEmail           = "invalid_email"
	CodeInvalidPhone           = "invalid_phone"
	CodeInvalidID              = "invalid_id"
	CodeFieldTooLong           = "field_too_long"
	CodeInvalidMetadata        = "invalid_metadata"
	CodeMissingParty           = "missing_party"
	CodeAmbiguousParty         = "ambiguous_party"
	CodeConflictingParty       = "conflicting_party"
	CodeDuplicateReference     = "duplicate_reference"
	CodeContradictingReference = "contradicting_reference"
	CodeControlCharacter       = "control_character"
	CodeSpreadsheetDamage      = "spreadsheet_damage"
	CodeWrongFieldCount        = "wrong_field_count"
	CodeBareQuote              = "bare_quote"
	CodeRowTooLarge            = "row_too_large"
	CodePlaceholderValue       = "placeholder_value"
	CodeReservedReference      = "reserved_reference"
	CodeTotalRow               = "total_row"
	CodeDateOutOfRange         = "date_out_of_range"
)

// rowCodes are all row codes.
var rowCodes = [...]string{
	CodeMissingField, CodeInvalidReference, CodeReferenceTooLong, CodeInvalidAmount, CodeAmountNotMinor,
	CodeAmountPrecision, CodeAmountOutOfRange, CodeInvalidCurrency, CodeUnsupportedCurrency, CodeInvalidDate,
	CodeDueBeforeBillDate, CodeInvalidEmail, CodeInvalidPhone, CodeInvalidID, CodeFieldTooLong,
	CodeInvalidMetadata, CodeMissingParty, CodeAmbiguousParty, CodeConflictingParty, CodeDuplicateReference,
	CodeContradictingReference, CodeControlCharacter, CodeSpreadsheetDamage, CodeWrongFieldCount,
	CodeBareQuote, CodeRowTooLarge, CodePlaceholderValue, CodeReservedReference, CodeTotalRow, CodeDateOutOfRange,
}

// File-level codes: the values of FileError.Code.
const (
	CodeEmptyFile       = "empty_file"
	CodeNoHeader        = "no_header"
	CodeMissingColumn   = "missing_column"
	CodeDuplicateColumn = "duplicate_column"
	CodeUnknownColumn   = "unknown_column"
	CodeUndecodable     = "undecodable"
	CodeNotCSV          = "not_csv"
	CodeBadLineEnds     = "bad_line_ends"
	CodeUnbalancedQuote = "unbalanced_quote"
	CodeTruncated       = "truncated"
	CodeFileTooLarge    = "file_too_large"
	CodeTooManyRows     = "too_many_rows"
	CodeTooManyColumns  = "too_many_columns"
)

// otherCodes are what a rejects file has in error_code for rows that are not invalid:
// statuses, and codes of the delivery.
var otherCodes = [...]string{"conflict", "rejected", "failed", "unknown", "not_sent", "unknown_account", "party_mismatch", "attempts_exhausted", "no_answer"}

// RowCodes returns all row codes.
func RowCodes() []string { return slices.Clone(rowCodes[:]) }

// FileCodes returns all file-level codes.
func FileCodes() []string {
	return []string{
		CodeEmptyFile, CodeNoHeader, CodeMissingColumn, CodeDuplicateColumn, CodeUnknownColumn, CodeUndecodable, CodeNotCSV,
		CodeBadLineEnds, CodeUnbalancedQuote, CodeTruncated, CodeFileTooLarge, CodeOwnReport, CodeTooManyRows, CodeTooManyColumns,
	}
}

// Lines counts the physical lines of a file: Total = Header + Blank + Data. A last line
// without a line end counts. A sep= line belongs to the header, and a header record may
// span lines.
type Lines struct {
	Total  int
	Header int
	Blank  int
	Data   int // lines of all data records
}

// lineText returns "line 12".
func lineText(n int) string { return "line " + strconv.Itoa(n) }

// count returns "1 field", "2 fields".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}
