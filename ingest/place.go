package ingest

import (
	"context"
	"io"

	"billdrop/ingest/ledger"
)

// place is where one file comes from and where its reports go: a feed's remote directories, or a directory
// of this machine. Every method may be repeated after a crash at any point of it, and then completes what
// was begun; none leaves a report that is whole in name only.
type place interface {
	// fetch copies the bill file into w and returns its size. An error means that nothing is known of what w got.
	fetch(ctx context.Context, w io.Writer) (int64, error)
	// sidecar reads the companion NAME+suffix of the bill file; nil without error when there is none.
	sidecar(ctx context.Context, suffix string) ([]byte, error)
	// reported tells whether a report of this name is there.
	reported(ctx context.Context, name string) (bool, error)
	// publish puts a report in place: written under a temporary name, renamed, read back, compared.
	publish(ctx context.Context, name string, content io.ReadSeeker) error
	// withdraw removes a report; fine if there is none.
	withdraw(ctx context.Context, name string) error
	// shelve moves the bill file to where finished ones rest, and returns where it is now. spooled opens
	// the copy that was processed, for the case that the file itself is gone.
	shelve(ctx context.Context, spooled func() (io.ReadSeekCloser, error)) (string, error)
}

// sidecarLimit bounds what is read of a sidecar, bytes.
const sidecarLimit = 64 << 10

const (
	checksumSuffix = ".sha256"
	controlSuffix  = ".control.json"
)

// shelfFor is the directory in which a settled file rests.
func shelfFor(f *ledger.File, d Dirs) string {
	if f.Outcome == ledger.FileRejected {
		return d.Rejected
	}
	return d.Archive
}
