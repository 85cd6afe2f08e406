package billfile

// Format is how a feed's files are to be read. Its zero value is no usable format: Amounts has no default.
type Format struct {
	Amounts             Amounts
	Currency            string            // default for rows without the column; "" = the column is needed
	Currencies          []string          // what may be billed in; empty = every ISO 4217 currency
	Delimiter           rune              // 0 = auto: sep= line, else the one of , ; tab | that the header speaks for
	Encoding            string            // "" or auto, utf-8, utf-16, windows-1252
	DateFormat          string            // Go layout; "" = 2006-01-02
	PhoneRegion         string            // ISO 3166 two letters, for national numbers; "" = only international ones
	Columns             map[string]string // the file's header → field
	IgnoreColumns       []string
	AllowNoFinalNewline bool  // the opposite of require_final_newline, so that the zero value is the safe one
	MaxAmountDue        int64 // minor units; 0 = the API's own limit
	MaxFileSize         int64 // bytes; 0 = no limit
}

// Amounts tells how amount_due is written.
type Amounts uint8

const (
	AmountsUnset Amounts = iota
	Minor                // 2000 = R20.00
	Major                // 20.00 = R20.00
)

// FileError is a file-level finding: nothing of the file is sent and it goes to rejected/.
type FileError struct {
	Code   string // one of the file-level codes
	Line   int    // physical line that it is about; 0 = the file as a whole
	Detail string // what is wrong and what to do; no personal data
}

func (e *FileError) Error() string { return e.Code + ": " + e.Detail }
