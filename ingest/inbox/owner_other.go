//go:build !unix

package inbox

import "io/fs"

// Exposed cannot tell here: access is not in the mode bits.
func Exposed(fs.FileInfo) bool { return false }
