package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// outgoing is a report that is about to be published, or withdrawn.
type outgoing struct {
	kind    string // in the spool
	name    string
	sum     string        // SHA-256 (hex); "" = withdraw it
	content io.ReadSeeker // nil = withdraw it
	field   func(*ledger.Reports) *string
}

func ackField(r *ledger.Reports) *string     { return &r.Ack }
func resultsField(r *ledger.Reports) *string { return &r.Results }
func rejectsField(r *ledger.Reports) *string { return &r.Rejects }
func summaryField(r *ledger.Reports) *string { return &r.Summary }

// inMemory is an outgoing report of a few bytes.
func inMemory(name string, b []byte, field func(*ledger.Reports) *string) outgoing {
	return outgoing{name: name, sum: hexSum(b), content: bytes.NewReader(b), field: field}
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// put publishes reports in this order. It never overwrites a report that says otherwise and
// that this file's record does not know: a ledger that was restored from a backup knows less
// than what was published after the backup.
func (j *job) put(ctx context.Context, reports ...outgoing) error {
	changed := false
	var foreign []error
	for _, r := range reports {
		published, publishing := r.field(&j.file.Published), r.field(&j.file.Publishing)
		there, err := j.inPlace(ctx, r)
		if err != nil {
			return err
		}
		switch there {
		case "", r.sum:
		case *publishing, *published:
			*published = there
		default:
			foreign = append(foreign, j.foreignReport(r, there))
			continue
		}
		changed = changed || *publishing != r.sum
		*publishing = r.sum
	}
	if len(foreign) > 0 {
		return errors.Join(foreign...) // all of them, so that one look at the server is enough
	}
	if changed {
		if err := j.advance(ctx, j.file.State); err != nil {
			return err
		}
	}
	for _, r := range reports {
		var err error
		if r.content == nil {
			err = j.place.Withdraw(ctx, r.name)
		} else {
			err = j.place.Publish(ctx, r.name, r.content)
		}
		if err != nil {
			return err
		}
		*r.field(&j.file.Published) = r.sum
	}
	return nil
}

// inPlace returns the SHA-256 (hex) of a report that exists, "" if there is none. A job that
// chose the stem has seen that it had no acknowledgement and no summary.
func (j *job) inPlace(ctx context.Context, r outgoing) (string, error) {
	if names := report.NamesOf(j.file.Stem); j.newStem && (r.name == names.Ack || r.name == names.Summary) {
		return "", nil
	}
	return j.place.Digest(ctx, r.name)
}

func (j *job) foreignReport(r outgoing, there string) error {
	what := "the ledger would publish another (SHA-256 " + r.sum + ")"
	if r.content == nil {
		what = "by the ledger there is none"
	}
	return &Error{
		Err: fmt.Errorf("report %s exists in %s (SHA-256 %s), was not published by this ledger, and says otherwise: %s",
			r.name, j.file.Results, there, what),
		Hint: "if the ledger was restored from a backup, the report that exists is the true one: keep it under another name, then run again; billdrop status " + j.file.ID + " shows what the ledger holds",
	}
}

// announce notes in the record what is about to be published for the first time, so that put
// need not record it.
func (j *job) announce(field func(*ledger.Reports) *string, sum string) {
	if *field(&j.file.Published) == "" && *field(&j.file.Publishing) == "" {
		*field(&j.file.Publishing) = sum
	}
}

// ack is the acknowledgement of the file.
func (j *job) ack() []byte {
	return report.Ack{
		FileID: j.file.ID, File: j.file.Name, Size: j.file.Size, SHA256: j.file.SHA256, ReceivedAt: report.At(j.file.Received),
	}.Bytes()
}

// acknowledge publishes that the file has arrived.
func (j *job) acknowledge(ctx context.Context) error {
	return j.put(ctx, inMemory(report.NamesOf(j.file.Stem).Ack, j.ack(), ackField))
}
