package main

import (
	"io"

	"github.com/alecthomas/kong"

	"billdrop/cmd/billdrop/completion"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (completionCmd) Help() string {
	return `Examples:
  bash: billdrop completion bash > /etc/bash_completion.d/billdrop
  zsh:  billdrop completion zsh > "${fpath[1]}/_billdrop"
  fish: billdrop completion fish > ~/.config/fish/completions/billdrop.fish`
}

// Run prints a script for a shell.
func (c *completionCmd) Run(s *session, parser *kong.Kong) error {
	if s.json() {
		return usagef("completion has no JSON form, because it prints a script for a shell").Hint("leave --output out")
	}
	script := map[string]func(*kong.Application) string{
		"bash": completion.Bash, "zsh": completion.Zsh, "fish": completion.Fish,
	}[c.Shell]
	_, err := io.WriteString(s.stdout, script(parser.Model))
	return err
}
