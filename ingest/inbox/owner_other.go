//go:build !unix

package inbox

import "io/fs"

// Exposed returns false: on this system access is not in the mode bits.
func Exposed(fs.FileInfo) bool { return false }
