package ledger

import (
	"context"
	"time"
)

// Status is how a row ended. Its zero value is no status: success is never a default.
type Status string

const (
	Created  Status = "created"  // this file created the bill
	Existing Status = "existing" // it was there before and says the same
	Conflict Status = "conflict" // the reference exists with other content, or is voided
	Invalid  Status = "invalid"  // failed validation; never sent
	Rejected Status = "rejected" // the API refused it for good
	Failed   Status = "failed"   // attempts used up, and a look-up shows that it is not there
	Unknown  Status = "unknown"  // sent, and neither the answer nor a look-up could be had
	NotSent  Status = "not_sent" // valid, but the file was rejected as a whole
)

// Statuses are all of them, in the order of the reports.
var Statuses = [...]Status{Created, Existing, Conflict, Invalid, Rejected, Failed, Unknown, NotSent}

// NeedsAttention reports whether somebody has to look at a row of this status.
func (s Status) NeedsAttention() bool { return s != Created && s != Existing }

// FileState is how far a file has come. A file moves down this list, never up, but for a retry of a Done
// file (to Sending) and the approval of a Held one (to Spooled). Each state is committed after the step that
// it names is durable, so a crash repeats at most the one step after it.
type FileState string

const (
	// Claiming: the rename from the inbox is about to be tried. After a crash: look where the file is.
	Claiming FileState = "claiming"
	// Claimed: the file is ours, in processing/ (or was always local). After a crash: fetch it again.
	Claimed FileState = "claimed"
	// Spooled: the whole file is in the spool, synced, its hash known; only that copy is read from now on.
	Spooled FileState = "spooled"
	// Held: over a limit; nothing is sent until it is approved. Rests across runs. With the outcome FileRejected: a person
	// has given it up, and the next run settles it.
	Held FileState = "held"
	// Sending: the whole file was validated and may be sent. After a crash: send what has no outcome yet.
	Sending FileState = "sending"
	// Settled: every row has its outcome and all that the reports say is fixed. After a crash: publish again, same bytes.
	Settled FileState = "settled"
	// Published: the reports are in place, read back and compared. After a crash: move the bill file.
	Published FileState = "published"
	// Done: the bill file is in archive/ or rejected/, the spool copy is gone. Final.
	Done FileState = "done"
	// Dropped: nothing of it was ever sent: another worker won the rename, or the file was gone before it was read. Final.
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

// Origin tells where a file came from.
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
	ModTime   time.Time // as the server told it at the claim
	SHA256    string    // hex; "" until spooled
	State     FileState
	Outcome   string // "" until settled, held or given up
	Code      string // file-level code, if any
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
	Sums      *Totals   // of its outcomes when it was last settled, as its reports say them; nil before. Not to be changed
}

// SumsOf are the sums of a file's outcomes: those that were fixed when it was settled, else those of what is recorded so far.
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
