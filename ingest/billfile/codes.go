// Package billfile reads bill files: bytes in, bills or named problems out. It is pure: a reader in, no
// network, no clock, no ledger, and nothing is ever guessed. A byte that cannot be read for certain makes its row
// or its file invalid, with a code, a place and what to do.
//
// A file is read in two passes over the same bytes. TakeSurvey checks the file as a whole and finds what only the
// whole file shows (a reference that comes twice, a customer with two names); Survey.Decode then yields every
// record with all its problems. Memory is bounded: a row of a million columns or a field of a gigabyte costs no
// more than the row limit, and a million rows cost some 32 bytes each.
//
// What a cell means is settled here alone: the CSV library only splits. Space around a cell (of any width, tabs too) is
// nothing; any other invisible character, wherever it stands, makes the row invalid. A line of spaces and tabs is blank;
// a line of delimiters is a row without values. A record that spans lines is read as CSV has it and never becomes a
// bill, for a stray quotation mark may have joined its lines.
package billfile

import (
	"slices"
	"strconv"
)

// Limits on what is buffered. They are far beyond any real bill file; what exceeds them is named, not held.
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

// Row codes: what Problem.Code may be.
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

// File-level codes that reading a file can give: what FileError.Code may be.
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

// otherCodes are the codes and statuses that a rejects file has in error_code for rows that are not invalid.
var otherCodes = [...]string{"conflict", "rejected", "failed", "unknown", "not_sent", "unknown_account", "attempts_exhausted", "no_answer"}

// RowCodes are all row codes.
func RowCodes() []string { return slices.Clone(rowCodes[:]) }

// FileCodes are all file-level codes that reading a file can give.
func FileCodes() []string {
	return []string{
		CodeEmptyFile, CodeNoHeader, CodeMissingColumn, CodeDuplicateColumn, CodeUnknownColumn, CodeUndecodable, CodeNotCSV,
		CodeBadLineEnds, CodeUnbalancedQuote, CodeTruncated, CodeFileTooLarge, CodeOwnReport, CodeTooManyRows, CodeTooManyColumns,
	}
}

// Lines counts the physical lines of a file; Total = Header + Blank + Data. A last line without a line end
// counts. A sep= line belongs to the header, and a header record may span lines.
type Lines struct {
	Total  int
	Header int
	Blank  int
	Data   int // lines of all data records
}

// lineText is "line 12".
func lineText(n int) string { return "line " + strconv.Itoa(n) }
