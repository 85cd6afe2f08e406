package ledger

import "strconv"

// Codes of outcomes (Outcome.Code) that reading the row did not give; billfile has those.
// They stand in reports, so they never change.
const (
	CodeUnknownAccount    = "unknown_account"    // rejected: an account reference that neither ledger nor API knows
	CodeUnknownCustomer   = "unknown_customer"   // of a plan: a customer id that the API does not know
	CodePartyMismatch     = "party_mismatch"     // invalid before a send, else rejected: the account is another customer's
	CodeAttemptsExhausted = "attempts_exhausted" // failed: sends used up, and there is no bill; or no answer about the row's parties
	CodeNoAnswer          = "no_answer"          // unknown: neither an answer nor a look-up shows whether there is a bill
	CodeLinkFailed        = "link_failed"        // created: the bill's payment request could not be made
	CodeLinkUnknown       = "link_unknown"       // created: its payment request may exist, and its key is too old to ask again
)

// CodeHTTPPrefix begins the code of a row that the API refused: http_422.
const CodeHTTPPrefix = "http_"

// CodeHTTP is the code of a row that the API refused for good with this status.
func CodeHTTP(status int) string { return CodeHTTPPrefix + strconv.Itoa(status) }

// Codes of files (File.Code) that reading the file did not give; billfile has those.
const (
	CodeInvalidRows          = "invalid_rows"           // rejected: on_invalid: reject, and a row is invalid
	CodeTooManyInvalidRows   = "too_many_invalid_rows"  // rejected: over max_invalid_rows, and more than half of all rows
	CodeChecksumMismatch     = "checksum_mismatch"      // rejected: the companion NAME.sha256 disagrees
	CodeOverLimit            = "over_limit"             // held: over a limit of the feed
	CodeControlTotalMismatch = "control_total_mismatch" // held: the companion NAME.control.json disagrees or cannot be read
	CodeUnreadableCompanion  = "unreadable_companion"   // held: a companion cannot be used
)
