package describe

import (
	"errors"
	"fmt"

	"billdrop/ingest"
	"billdrop/ingest/ledger"
)

// Ordered is an order that waits for the billdrop that has the file or the ledger, in the JSON
// of the commands that leave it.
type Ordered struct {
	Order  ingest.Order `json:"order"`
	FileID string       `json:"file_id"`
	File   string       `json:"file"`
	State  string       `json:"state"` // of the file, when the order lay there
	// Machine is where the file was imported, if the order waits for billdrop there.
	Machine string `json:"machine,omitempty"`
}

// OrderOn describes an order that was left on a file.
func OrderOn(o ingest.Order, f *ledger.File) *Ordered {
	return &Ordered{Order: o, FileID: f.ID, File: f.Name, State: string(f.State)}
}

// LeftOrder describes the order that was left for a worker of a shared ledger, if err says so; else
// it is nil.
func LeftOrder(err error) *Ordered {
	var left *ingest.Left
	if !errors.As(err, &left) {
		return nil
	}
	o := OrderOn(left.Order, left.File)
	o.Machine = left.Machine
	return o
}

// begun reports whether rows of the file may have been sent.
func (o *Ordered) begun() bool {
	switch ledger.FileState(o.State) {
	case ledger.Claiming, ledger.Claimed, ledger.Spooled, ledger.Held:
		return false
	}
	return true
}

// Text says what was ordered, and when it is done. poll is how often a worker looks for
// orders, with its unit; "" = the ledger is shared, and the worker that has the file looks all
// the time.
func (o *Ordered) Text(poll string) string {
	is, does := "is approved", "sends it"
	switch {
	case o.Machine != "" && o.Order == ingest.OrderReject:
		return fmt.Sprintf("%s (%s) is to be rejected; it was imported on the machine %s, and billdrop there does it: at once while it sends the file, else at its next poll, or the next run\n", o.File, o.FileID, o.Machine)
	case o.Machine != "":
		return fmt.Sprintf("%s (%s) is to be retried; it was imported on the machine %s, and billdrop there does it: at its next poll, or the next run\n", o.File, o.FileID, o.Machine)
	case o.Order == ingest.OrderReject && o.begun():
		return fmt.Sprintf("%s (%s) is to be rejected; rows of it were sent, and the running worker stops sending it within seconds, or the next run does\n", o.File, o.FileID)
	case o.Order == ingest.OrderReject:
		is, does = "is rejected", "reports it so"
	case o.Order == ingest.OrderRetry:
		is, does = "is to be retried", "sends its failed and unknown rows"
	}
	if poll == "" {
		return fmt.Sprintf("%s (%s) %s; the worker that has it in hand %s within seconds\n", o.File, o.FileID, is, does)
	}
	return fmt.Sprintf("%s (%s) %s; the running worker %s at its next poll (poll_interval %s); during an import or a run --once, the next run does\n",
		o.File, o.FileID, is, does, poll)
}

// AdviseOrder adds to the refusal of an order on a file where to look, unless the refusal says it.
func AdviseOrder(id string, err error) error {
	switch {
	case len(Advice(err)) > 0:
	case errors.Is(err, ledger.ErrNotFound):
		return Advise(err, "%q is not the id of a file in this ledger; billdrop status lists the ids, and ack.json and summary.json have it as file_id, such as 20261123-053000-1f2e3d4c", id)
	case errors.Is(err, ingest.ErrNotApplicable):
		return Advise(err, "billdrop status %s shows the state of the file", id)
	}
	return err
}
