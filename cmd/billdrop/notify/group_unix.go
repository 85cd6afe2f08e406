//go:build unix

package notify

import (
	"os/exec"
	"syscall"
)

// ownGroup gives a command a process group of its own. Ctrl-C on the terminal does not
// reach the group. When the command's time is up, SIGTERM goes to the whole group, and end
// kills what is left of it.
func ownGroup(cmd *exec.Cmd) (end func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	signal := func(s syscall.Signal) error {
		if cmd.Process == nil {
			return nil // it was never started
		}
		return syscall.Kill(-cmd.Process.Pid, s)
	}
	cmd.Cancel = func() error { return signal(syscall.SIGTERM) }
	return func() { _ = signal(syscall.SIGKILL) } // most often nothing is left
}
