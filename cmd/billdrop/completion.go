package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
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

// Run prints a script made from the same model that parses the command line, so the two cannot part.
func (c *completionCmd) Run(s *session, parser *kong.Kong) error {
	if s.json() {
		return usagef("completion has no JSON form, it prints a script for a shell; leave --output out")
	}
	commands := completable(parser.Model)
	var b strings.Builder
	switch c.Shell {
	case "bash":
		bashCompletion(&b, commands)
	case "zsh":
		// zsh runs bash's completions when asked to.
		b.WriteString("#compdef billdrop\nautoload -U +X bashcompinit && bashcompinit\n")
		bashCompletion(&b, commands)
	case "fish":
		fishCompletion(&b, commands)
	}
	_, err := io.WriteString(s.stdout, b.String())
	return err
}

// completableCommand is a command as a shell offers it. The one without a name is what stands for all.
type completableCommand struct {
	name, help string
	words      []string // values of its argument, if they are listed
	flags      []completableFlag
}

type completableFlag struct {
	name, help string
	values     []string // that it takes; none = anything
	takesValue bool
}

func completable(app *kong.Application) []completableCommand {
	commands := []completableCommand{{flags: flagsOf(app.Flags)}}
	for _, n := range app.Children {
		c := completableCommand{name: n.Name, help: n.Help, flags: flagsOf(n.Flags)}
		for _, p := range n.Positional {
			c.words = append(c.words, enumOf(p)...)
		}
		commands = append(commands, c)
	}
	return commands
}

func flagsOf(flags []*kong.Flag) []completableFlag {
	var list []completableFlag
	for _, f := range flags {
		list = append(list, completableFlag{name: "--" + f.Name, help: f.Help, values: enumOf(f.Value), takesValue: !f.IsBool()})
	}
	return list
}

func enumOf(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return v.EnumSlice()
}

// bashCompletion offers commands first, then the flags of the one that was typed, a listed flag's values after
// it, and file names everywhere else.
func bashCompletion(b *strings.Builder, commands []completableCommand) {
	var names []string
	for _, c := range commands[1:] {
		names = append(names, c.name)
	}
	b.WriteString("_billdrop() {\n  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= w\n")
	fmt.Fprintf(b, "  for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case $w in %s) command=$w; break;; esac\n  done\n", strings.Join(names, "|"))
	b.WriteString("  case $before in\n")
	seen := map[string]bool{}
	for _, c := range commands {
		for _, f := range c.flags {
			if len(f.values) > 0 && !seen[f.name] {
				seen[f.name] = true
				fmt.Fprintf(b, "    %s) COMPREPLY=($(compgen -W '%s' -- \"$word\")); return;;\n", f.name, strings.Join(f.values, " "))
			}
		}
	}
	b.WriteString("  esac\n  case $command in\n")
	common := flagNames(commands[0])
	for _, c := range commands {
		words := slices.Concat(flagNames(c), c.words)
		if c.name == "" {
			fmt.Fprintf(b, "    '') COMPREPLY=($(compgen -W '%s' -- \"$word\"));;\n", strings.Join(slices.Concat(names, words), " "))
			continue
		}
		fmt.Fprintf(b, "    %s) COMPREPLY=($(compgen -W '%s' -- \"$word\"));;\n", c.name, strings.Join(slices.Concat(words, common), " "))
	}
	b.WriteString("  esac\n}\ncomplete -o default -F _billdrop billdrop\n")
}

func flagNames(c completableCommand) []string {
	var names []string
	for _, f := range c.flags {
		names = append(names, f.name)
	}
	return names
}

func fishCompletion(b *strings.Builder, commands []completableCommand) {
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
	}
	for _, c := range commands {
		where := ""
		if c.name != "" {
			fmt.Fprintf(b, "complete -c billdrop -n __fish_use_subcommand -f -a %s -d %s\n", c.name, quote(c.help))
			where = " -n " + quote("__fish_seen_subcommand_from "+c.name)
		}
		if len(c.words) > 0 {
			fmt.Fprintf(b, "complete -c billdrop%s -f -a %s\n", where, quote(strings.Join(c.words, " ")))
		}
		for _, f := range c.flags {
			fmt.Fprintf(b, "complete -c billdrop%s -l %s -d %s", where, strings.TrimPrefix(f.name, "--"), quote(f.help))
			switch {
			case len(f.values) > 0:
				fmt.Fprintf(b, " -x -a %s", quote(strings.Join(f.values, " ")))
			case f.takesValue:
				b.WriteString(" -r")
			}
			b.WriteByte('\n')
		}
	}
}
