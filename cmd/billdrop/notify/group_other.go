//go:build !unix

package notify

import "os/exec"

// ownGroup does nothing here: when its time is up, the command is killed, but not the
// processes that it started.
func ownGroup(*exec.Cmd) (end func()) { return func() {} }
