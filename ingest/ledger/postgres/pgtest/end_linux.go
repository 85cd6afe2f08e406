package pgtest

import "syscall"

// endWithParent has the system end the server, as in a crash, when the process that started it
// ends.
func endWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGQUIT }
