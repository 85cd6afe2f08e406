package transfer

import (
	"errors"
	"fmt"
)

// Suffixes of the companions, which follow a bill file's whole name.
const (
	ChecksumSuffix = ".sha256"       // its SHA-256, as the usual programs write it
	ControlSuffix  = ".control.json" // its number of rows and its sums
)

// CompanionSuffixes are all of them.
var CompanionSuffixes = [...]string{ChecksumSuffix, ControlSuffix}

// CompanionLimit bounds what is read of a companion, in bytes.
const CompanionLimit = 64 << 10

// ErrUnusableCompanion: a companion is larger than CompanionLimit, or not a regular file.
var ErrUnusableCompanion = errors.New("no checksum or control file")

func tooLarge(size int64) error {
	return fmt.Errorf("it has %d bytes, and the limit is %d: %w", size, CompanionLimit, ErrUnusableCompanion)
}
