package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"

	"billdrop/ingest/inbox"
	"billdrop/ingest/transfer"
)

// changedAdvice ends the detail of a file that was changed while its rows were sent.
const changedAdvice = ": what differs was not read; deliver it again, and rows that have their bill are not billed twice"

// tellChanged has the file's detail say that the delivered file is no longer the one whose
// rows were sent, because its sender takes all of it for processed. It returns whether it
// does. What a file's detail says of it stays, also after a retry.
func (j *job) tellChanged(ctx context.Context) (bool, error) {
	if strings.HasSuffix(j.file.Detail, changedAdvice) {
		return true, nil
	}
	changed, err := j.sourceChanged(ctx)
	if err != nil || !changed {
		return false, err
	}
	j.file.Detail = fmt.Sprintf("%s was changed after billdrop had read it, and is kept as %s.changed%s%s", j.file.Name, j.file.Stem, path.Ext(j.file.Name), changedAdvice)
	j.log.Warn("the file was changed after it had been read, and what differs was not read: deliver it again")
	return true, nil
}

// sourceChanged reports whether the delivered file has other content than the copy that was
// read. A file that is gone has not changed.
func (j *job) sourceChanged(ctx context.Context) (bool, error) {
	if j.file.SHA256 == "" { // refused unread
		return false, nil
	}
	touched, err := j.place.Touched(ctx, placed(j.file))
	if err != nil || !touched {
		return false, err
	}
	sum := sha256.New()
	_, err = j.place.Fetch(ctx, placed(j.file), sum)
	var writing *transfer.Error
	switch {
	case errors.Is(err, inbox.ErrNotExist):
		return false, nil
	case errors.As(err, &writing): // it changed while it was read
		return true, nil
	case err != nil:
		return false, err
	}
	return hex.EncodeToString(sum.Sum(nil)) != j.file.SHA256, nil
}
