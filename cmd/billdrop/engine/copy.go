package engine

import (
	"context"
	"errors"
	"fmt"

	"billdrop/cmd/billdrop/describe"
)

// Counts are how many rows of each kind a ledger holds.
type Counts struct {
	Files    int64 `json:"files"`
	Bills    int64 `json:"bills"`
	Outcomes int64 `json:"outcomes"`
	Attempts int64 `json:"attempts"`
	Parties  int64 `json:"parties"`
}

// String lists them.
func (c Counts) String() string {
	return fmt.Sprintf("%s, %s, %s, %s and %s", describe.Count(int(c.Files), "file"), describe.Count(int(c.Bills), "bill"),
		describe.Count(int(c.Outcomes), "outcome"), describe.Count(int(c.Attempts), "attempt"), describe.Count(int(c.Parties), "known party"))
}

// Verified is what Verify has found.
type Verified struct {
	Checked  Counts
	Findings []Finding // empty if all is well, never nil
}

// Finding is a row that is not as it was recorded.
type Finding struct {
	Table string `json:"table"` // bill, outcome or attempt
	Row   string `json:"row"`   // which one: a reference, or a file and a line
	What  string `json:"what"`  // changed, added or missing
}

// Copy takes a ledger from one place to another.
func Copy(ctx context.Context, from, to Location) (Counts, error) {
	return Counts{}, errors.ErrUnsupported
}

// Verify compares a ledger with the digests that it keeps.
func Verify(ctx context.Context, l Location) (Verified, error) {
	return Verified{}, errors.ErrUnsupported
}
