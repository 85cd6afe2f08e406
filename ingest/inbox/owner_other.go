//go:build !unix

package inbox

import "io/fs"

// exposed cannot tell here: access is not in the mode bits.
func exposed(fs.FileInfo) bool { return false }
