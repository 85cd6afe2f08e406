package transfer

// Suffixes of the companions, which follow a bill file's whole name.
const (
	ChecksumSuffix = ".sha256"       // its SHA-256, as sha256sum writes it
	ControlSuffix  = ".control.json" // its number of rows and its sums
)

// CompanionSuffixes are all of them.
var CompanionSuffixes = [...]string{ChecksumSuffix, ControlSuffix}

// CompanionLimit bounds what is read of a companion, in bytes.
const CompanionLimit = 64 << 10
