package config

import (
	"os/exec"
	"path/filepath"
)

// checkCommands finds commands of on_finish that cannot be run. A command that feeds have
// from the top level is reported once.
func (k *checker) checkCommands() {
	if k.has("on_finish") {
		k.checkCommand("on_finish", k.config.OnFinish)
	}
	for i, f := range k.config.Feeds {
		if at := join(feedPath(i), "on_finish"); k.has(at) && len(f.OnFinish) > 0 {
			k.checkCommand(at, f.OnFinish)
		}
	}
}

func (k *checker) checkCommand(at string, command []string) {
	if len(command) == 0 || command[0] == "" {
		k.problem(at, "names no command; write [/path/to/command, argument, …], or leave the key out")
		return
	}
	if !k.needs.OnFinish {
		return
	}
	if _, err := exec.LookPath(command[0]); err != nil {
		k.problem(indexed(at, 0), "is not a command that can be run here; write the path of one that exists, and make it executable (chmod +x)")
	}
}

// resolveCommand makes the path of a command absolute, from dir. A name without a slash
// stays, to be looked up in PATH.
func resolveCommand(dir string, command []string) []string {
	if len(command) == 0 || filepath.Base(command[0]) == command[0] {
		return command
	}
	return append([]string{absolute(dir, command[0])}, command[1:]...)
}
