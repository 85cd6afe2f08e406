package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Errors of a ledger that several workers share.
var (
	// ErrTaken: another worker has the bill, or a party that the send would create, in hand,
	// or has changed it since it was read. Nothing was recorded. Read it again, and wait while
	// it is Held.
	ErrTaken = errors.New("another worker is at work on it")
	// ErrChanged: another process has changed the file since it was read. Nothing was recorded.
	ErrChanged = errors.New("changed by another process since it was read")
	// ErrFenced: this worker was not heard of for the time after which it is taken for lost, so
	// others may have its work. Nothing was recorded, and nothing may be sent before it joins anew.
	ErrFenced = errors.New("this worker was taken for lost")
	// ErrNameTaken: a live worker has this name.
	ErrNameTaken = errors.New("a live worker has this name")
	// ErrUnreachable: the engine did not answer for as long as its user was ready to wait. It
	// may pass, so it is not ErrUnusable.
	ErrUnreachable = errors.New("ledger out of reach")
)

// FormatsDiffer: a live worker reads a feed's files by another format.
type FormatsDiffer struct {
	Feed, Worker string
	Keys         []string // of the feed's configuration, sorted
}

func (e *FormatsDiffer) Error() string {
	return fmt.Sprintf("feed %s: worker %s, which is running, has other values of %s", e.Feed, e.Worker, strings.Join(e.Keys, ", "))
}

// Advice returns what to do about the error.
func (e *FormatsDiffer) Advice() string {
	return "give all workers the same configuration of the feed, or stop the other one first"
}

// DiffersFrom returns a *FormatsDiffer if m has a feed in common with a worker that is running,
// and reads its files by another format.
func (m *Member) DiffersFrom(worker string, formats map[string]map[string]string) error {
	for _, feed := range slices.Sorted(maps.Keys(m.Formats)) {
		theirs, served := formats[feed]
		if keys := differences(m.Formats[feed], theirs); served && len(keys) > 0 {
			return &FormatsDiffer{Feed: feed, Worker: worker, Keys: keys}
		}
	}
	return nil
}

// differences are the keys that have other values in a than in b, or stand in one alone, sorted.
func differences(a, b map[string]string) []string {
	var keys []string
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			keys = append(keys, k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// Member is a worker about to join.
type Member struct {
	Name    string
	Machine string // host name: files of this machine's disk are left to it
	// Role is "run" for those that `status` shows; commands that send for a moment have others.
	Role string
	// LostAfter is how long a worker may be unheard of before it is taken for lost; at least 2 s.
	LostAfter time.Duration
	// Formats: of each feed that it serves, the value of each key that says how its files are read.
	Formats map[string]map[string]string
	// InFlight, if not nil, returns how many requests are out. It is called by the heartbeat.
	InFlight func() int
}

// Colleague is a live worker.
type Colleague struct {
	Name, Machine, Role string
	Since, HeardAt      time.Time // by the engine's clock
	InFlight            int
	Feeds               []string
}

// Part is a range of a file's rows that one worker at a time delivers.
type Part struct {
	No       int // from 0
	From, To int // rows, as ordinals: From <= row < To
	Done     bool
	// Failure is why the last worker that had it gave it up; nil if none did.
	Failure *PartFailure
	Worker  string // the live worker that has it in hand; "" = none
}

// PartFailure is why a worker gave a part up.
type PartFailure struct {
	Reason string
	Hint   string
	Setup  bool // the set-up is wrong, so no worker need try again before it is mended
}

// LeftOrder is an operator's order that waits for a worker.
type LeftOrder struct {
	Order string
	File  string // id
	At    time.Time
}

// Shared is a Ledger that any number of workers use at once.
//
// A handle that has not joined only reads, and changes files that rest. One that has joined is
// a worker: it is heard of by a heartbeat that the engine sends by itself, and each of its
// writes is refused with ErrFenced once it was unheard of for LostAfter, by the engine's clock. The
// check and the write are one transaction, so a worker that was frozen, cut off or thought
// lost cannot record a send, and so cannot send.
//
// Beyond what Ledger promises:
//   - Begin is refused with ErrTaken unless the stored bill is the one that b was read as
//     (Bill.Revision), no other worker has it or its row's part in hand, and each of the parties that the
//     body would create (leads) is unknown and not led by another live worker. A caller that gets nil
//     leads these parties until they are recorded, its row has its outcome, or its part is no longer
//     in its hand. All leads are granted, or none.
//   - Bills marks as Held a Pending bill whose latest send belongs to a part that another live
//     worker has in hand. Whoever finds one waits, and reads it again.
//   - SaveFile is refused with ErrChanged unless the stored file is the one that f was read as (File.Revision).
//   - Record changes a bill only as this worker read, began or recorded it last: one that another has changed
//     since then stays as it is. Record is ErrFenced after a loss.
//   - A write whose commit got no answer is tried again, and succeeds if it had succeeded before. While the
//     engine is out of reach, calls wait, for as long as the handle was opened to, then they are ErrUnreachable.
type Shared interface {
	Ledger

	// Join makes the handle a worker. ErrNameTaken; *FormatsDiffer. A worker that was fenced
	// joins anew.
	Join(ctx context.Context, m Member) error
	// Leave ends what Join began, and gives back all leases.
	Leave(ctx context.Context) error
	// Current returns nil as long as this worker is certain not to be taken for lost: the latest
	// heartbeat that was confirmed began less than 3 s, and less than half of LostAfter, ago. It is
	// the last check before a request leaves, reads no network, and costs next to nothing.
	Current() error
	// Workers returns the live ones, by name.
	Workers(ctx context.Context) ([]Colleague, error)

	// Acquire takes a lease until it is released, or its worker is lost. It reports false if
	// another live worker has it, and true if this one has it already.
	Acquire(ctx context.Context, lease string) (bool, error)
	// Release gives a lease back. What was not held is not an error.
	Release(ctx context.Context, lease string) error

	// AddParts records how a file's rows are divided, unless that is recorded already.
	AddParts(ctx context.Context, file string, parts []Part) error
	// Parts returns them, by No.
	Parts(ctx context.Context, file string) ([]Part, error)
	// AcquirePart is Acquire for a part that is not done.
	AcquirePart(ctx context.Context, file string, no int) (bool, error)
	// ReleasePart gives a part back: done, or for the reason that failure says.
	ReleasePart(ctx context.Context, file string, no int, done bool, failure *PartFailure) error
	// DropParts forgets them, once the file is settled.
	DropParts(ctx context.Context, file string) error

	// LeaveOrder records an operator's order on a file, in place of earlier ones on it.
	LeaveOrder(ctx context.Context, file, order string) error
	// Orders returns those that wait, oldest first; of one file, or of all if file is "".
	Orders(ctx context.Context, file string) ([]LeftOrder, error)
	// WithdrawOrders removes the orders on a file.
	WithdrawOrders(ctx context.Context, file string) error
	// RemoveOrder removes an order that Orders returned, and reports whether it was there. One that
	// has come in its place meanwhile stays.
	RemoveOrder(ctx context.Context, o LeftOrder) (bool, error)

	// Reserve takes the next n places of a rate of perSecond that all workers share, and returns
	// when the first of them may be used, from now; the others follow evenly.
	Reserve(ctx context.Context, s Scope, perSecond float64, n int) (in time.Duration, err error)
	// Pause keeps every worker of the scope from sending for d.
	Pause(ctx context.Context, s Scope, d time.Duration) error
	// Paused returns how long such a pause still lasts, as far as the latest heartbeat (at most
	// 500 ms old) told.
	Paused(s Scope) time.Duration
}
