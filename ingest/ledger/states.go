package ledger

import (
	"context"
	"slices"
	"time"
)

// Status is how a row ended. Its zero value is not a status: success is never a default.
// A row has none until its outcome is recorded. A crash before that leaves none, and the
// next run goes on from the record of the row's bill.
type Status string

const (
	// Created: this file created the bill. Set from a 201, or from a look-up that finds
	// the same bill after a send for this file that got no conclusive answer.
	Created Status = "created"
	// Existing: the bill was there before and says the same. Set from the ledger or a
	// look-up, when no send for this file can have created it.
	Existing Status = "existing"
	// Conflict: the reference exists with other content, or is voided. Set by the
	// comparison with what the ledger holds, with a look-up, or with a 201 that says
	// something else than was sent.
	Conflict Status = "conflict"
	// Invalid: never sent. Set by validation, or by delivery when the row's account belongs
	// to another customer and that is known before any send.
	Invalid Status = "invalid"
	// Rejected: the row is refused for good. Set from the API's refusal, and only after a
	// look-up when an earlier send may have created the bill; when a gateway refuses the
	// row until its attempts are used up, and no look-up shows the bill; when its account
	// turns out to be another customer's after a send; or when neither ledger nor API knows
	// its account.
	Rejected Status = "rejected"
	// Failed: attempts or generations are used up, and a look-up shows that there is no
	// bill; or the API gave no answer about the row's account or customer before a send.
	// A retry replaces it.
	Failed Status = "failed"
	// Unknown: neither an answer nor a look-up shows whether the row has its bill. That
	// includes a first request that stays in flight, a reference that the API calls taken
	// while five late look-ups show no bill, and a bill that exists and could not be
	// compared because the API gave no answer about the row's parties. A retry replaces it.
	Unknown Status = "unknown"
	// NotSent: valid, but the file was rejected as a whole. Set when such a file is
	// settled.
	NotSent Status = "not_sent"
)

// Statuses are all of them, in the order of the reports.
var Statuses = [...]Status{Created, Existing, Conflict, Invalid, Rejected, Failed, Unknown, NotSent}

// statusCodes are the statuses by the numbers that engines store for them, from 1. They never
// change: the index outcomes_attention of an engine relies on the first two, and its view outcome
// on all.
var statusCodes = []Status{Created, Existing, Conflict, Invalid, Rejected, Failed, Unknown, NotSent}

// Number is how an engine stores s; 0 for what is not a status.
func (s Status) Number() int { return slices.Index(statusCodes, s) + 1 }

// StatusOf is the inverse of Number.
func StatusOf(number int) Status {
	if number < 1 || number > len(statusCodes) {
		return ""
	}
	return statusCodes[number-1]
}

// NeedsAttention reports whether a person has to look at a row of this status.
func (s Status) NeedsAttention() bool { return s != Created && s != Existing }

// FileState is how far a file has come. A file moves down this list, never up, except for
// the retry of a Done file (to Sending) and the approval of a Held one (to Spooled). Each
// state is committed after the step that it names is durable, so a crash repeats at most
// the one step after it: recovery is the same code as the first run.
type FileState string

const (
	// Claiming: the rename from the inbox is about to be tried. Set before it. After a
	// crash: look on which side the file is. Next: Claimed, or Dropped when the file is
	// not ours.
	Claiming FileState = "claiming"
	// Claimed: the file is ours. Set after the rename into processing/, or when a local
	// file is taken up. After a crash: fetch it again. Next: Spooled, or Dropped when it
	// cannot be read.
	Claimed FileState = "claimed"
	// Spooled: the whole file is in the spool. Set once the copy is synced and its hash
	// and report stem are known; from now on only that copy is read. Approval of a held
	// file sets it too. After a crash: acknowledge and validate again, by today's format.
	// Next: Sending, Held, or Settled when the file is refused.
	Spooled FileState = "spooled"
	// Held: over a limit, its control totals disagree, or its checksum or control file
	// cannot be used; nothing is sent. Set by validation, once the summary says why. It
	// rests across runs, and only a person moves it: approved, to Spooled, where it is
	// judged once more because the format may have changed meanwhile; given up (Outcome is
	// FileRejected), to Settled.
	Held FileState = "held"
	// Sending: the whole file was validated, by the format whose digest is in Format. Set
	// by validation, or by the retry of a Done file. After a crash: rows with an outcome
	// are passed over, the others are sent; then created bills get their payment requests, if
	// the feed presents them. Next: Settled.
	Sending FileState = "sending"
	// Settled: every row has its outcome, and all that the reports say is fixed. Set
	// after a Flush. After a crash: publish again, the same bytes. Next: Published.
	Settled FileState = "settled"
	// Published: the reports are in place, read back and compared, the summary last.
	// After a crash: archive again, looking for the file in its final directory first.
	// Next: Done.
	Published FileState = "published"
	// Done: the bill file is in archive/ or rejected/. Final, except for a retry. After a
	// crash: the next start removes the spool copy.
	Done FileState = "done"
	// Dropped: nothing of it was ever sent, because another worker won the rename, the file
	// was gone before it was read, standard input was cut short, or the operator rejected a
	// file that cannot be read. Final.
	Dropped FileState = "dropped"
)

// Finished reports whether nothing is left to do for a file in this state.
func (s FileState) Finished() bool { return s == Done || s == Dropped }

// Outcome of a file as a whole, as its summary says it.
const (
	Completed           = "completed"
	CompletedWithErrors = "completed_with_errors"
	FileRejected        = "rejected"
	FileHeld            = "held"
)

// Origin is where a file came from.
type Origin string

const (
	FromInbox Origin = "inbox" // claimed from an SFTP inbox
	FromLocal Origin = "local" // imported from this machine
)

// File is one delivery of one bill file.
type File struct {
	ID        string
	Feed      string
	Scope     Scope
	Origin    Origin
	Name      string    // as the biller named it: a base name, "stdin" for standard input
	Path      string    // where the file is now: remote path, or absolute local path ("" for standard input)
	Results   string    // where the reports go: remote directory, or absolute local one
	Stem      string    // of the report names; "" until the content is known
	Size      int64     // bytes
	ModTime   time.Time // as the server gave it at the claim
	SHA256    string    // hex; "" until spooled
	State     FileState
	Outcome   string // "" until settled, held or given up
	Code      string // file-level code, if any: billfile's, or one of this package
	Detail    string // what is wrong and what to do, for Code
	Line      int    // physical line that Code is about; 0 = none
	Approved  bool   // released by a person: the limits no longer apply
	Retried   int    // how often `retry` has reopened it
	Rows      int    // data records
	Lines     Lines  // physical lines
	Format    string // digest of the format by which its rows were read; it may not change while they are under way
	RowsRead  bool   // the rows were read, so the reports list them (false for a file refused unread)
	RunID     string // of the run that settled it
	Version   string // of the billdrop that settled it
	Received  time.Time
	Started   time.Time // when its first validation began
	Finished  time.Time // when its last row was settled
	Gets      int       // look-ups sent for it; counted by Record
	Throttled int       // 429 answers it met; counted by Record
	// LinkPosts are the requests for payment links that were sent for it, and LinkRetries those of
	// them that were not the first of their bill; counted by Record.
	LinkPosts, LinkRetries int
	// Sums are those of its outcomes when it was last settled, as its reports say them;
	// nil before that. They are shared between copies of the File and must not be
	// changed.
	Sums *Totals
	// Published are the reports that were published last. Publishing are those that are about
	// to be: they are recorded before, so that after a crash, too, a report that exists is
	// known to be this file's.
	Published, Publishing Reports
	// Machine is the host name of the machine that Path of a local file is on; "" = the only one.
	Machine string
	// Revision names the stored state that was read, in a Shared ledger. SaveFile sets it.
	Revision int64
}

// Reports are the SHA-256 (hex) of a file's reports; "" = no such report.
type Reports struct {
	Ack     string `json:"ack,omitempty"`
	Results string `json:"results,omitempty"`
	Rejects string `json:"rejects,omitempty"`
	Summary string `json:"summary,omitempty"`
}

// SumsOf returns the sums of a file's outcomes: those that were fixed when it was
// settled, or else those of what is recorded so far.
func SumsOf(ctx context.Context, l Ledger, f *File) (Totals, error) {
	switch f.State {
	case Settled, Published, Done:
		if f.Sums != nil {
			return *f.Sums, nil
		}
	}
	return l.Totals(ctx, f.ID)
}

// Lines counts the physical lines of a file; Total = Header + Blank + Data.
type Lines struct {
	Total  int `json:"total"`
	Header int `json:"header"`
	Blank  int `json:"blank"`
	Data   int `json:"data"`
}
