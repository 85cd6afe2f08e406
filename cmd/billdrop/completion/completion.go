// Package completion makes the completion scripts of shells from the model that parses the
// command line.
package completion

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// command is a command as a shell completes it. The one without a name has what
// all commands have.
type command struct {
	name, help string
	words      []string // values of its argument, if they are known
	flags      []flag
}

type flag struct {
	name, help string
	values     []string // accepted; none = any
	takesValue bool
}

func commandsOf(app *kong.Application) []command {
	commands := []command{{flags: flagsOf(app.Flags)}}
	for _, n := range app.Children {
		c := command{name: n.Name, help: n.Help, flags: flagsOf(n.Flags)}
		for _, p := range n.Positional {
			c.words = append(c.words, enumOf(p)...)
		}
		commands = append(commands, c)
	}
	return commands
}

func flagsOf(flags []*kong.Flag) []flag {
	var list []flag
	for _, f := range flags {
		list = append(list, flag{name: "--" + f.Name, help: f.Help, values: enumOf(f.Value), takesValue: !f.IsBool()})
	}
	return list
}

func enumOf(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return v.EnumSlice()
}

// Bash returns a completion script. It completes commands first, then the flags of the
// command that was typed, the known values of a flag, and file names everywhere else.
func Bash(app *kong.Application) string {
	var b strings.Builder
	commands := commandsOf(app)
	var names []string
	for _, c := range commands[1:] {
		names = append(names, c.name)
	}
	b.WriteString("_billdrop() {\n  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= w\n")
	fmt.Fprintf(&b, "  for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case $w in %s) command=$w; break;; esac\n  done\n", strings.Join(names, "|"))
	b.WriteString("  case $before in\n")
	seen := map[string]bool{}
	for _, c := range commands {
		for _, f := range c.flags {
			if len(f.values) > 0 && !seen[f.name] {
				seen[f.name] = true
				fmt.Fprintf(&b, "    %s) COMPREPLY=($(compgen -W '%s' -- \"$word\")); return;;\n", f.name, strings.Join(f.values, " "))
			}
		}
	}
	b.WriteString("  esac\n  case $command in\n")
	common := flagNames(commands[0])
	for _, c := range commands {
		words := slices.Concat(flagNames(c), c.words)
		if c.name == "" {
			fmt.Fprintf(&b, "    '') COMPREPLY=($(compgen -W '%s' -- \"$word\"));;\n", strings.Join(slices.Concat(names, words), " "))
			continue
		}
		fmt.Fprintf(&b, "    %s) COMPREPLY=($(compgen -W '%s' -- \"$word\"));;\n", c.name, strings.Join(slices.Concat(words, common), " "))
	}
	b.WriteString("  esac\n}\ncomplete -o default -F _billdrop billdrop\n")
	return b.String()
}

// Zsh returns a completion script. zsh runs scripts for bash when asked to.
func Zsh(app *kong.Application) string {
	return "#compdef billdrop\nautoload -U +X bashcompinit && bashcompinit\n" + Bash(app)
}

func flagNames(c command) []string {
	var names []string
	for _, f := range c.flags {
		names = append(names, f.name)
	}
	return names
}

// Fish returns a completion script.
func Fish(app *kong.Application) string {
	var b strings.Builder
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
	}
	for _, c := range commandsOf(app) {
		where := ""
		if c.name != "" {
			fmt.Fprintf(&b, "complete -c billdrop -n __fish_use_subcommand -f -a %s -d %s\n", c.name, quote(c.help))
			where = " -n " + quote("__fish_seen_subcommand_from "+c.name)
		}
		if len(c.words) > 0 {
			fmt.Fprintf(&b, "complete -c billdrop%s -f -a %s\n", where, quote(strings.Join(c.words, " ")))
		}
		for _, f := range c.flags {
			fmt.Fprintf(&b, "complete -c billdrop%s -l %s -d %s", where, strings.TrimPrefix(f.name, "--"), quote(f.help))
			switch {
			case len(f.values) > 0:
				fmt.Fprintf(&b, " -x -a %s", quote(strings.Join(f.values, " ")))
			case f.takesValue:
				b.WriteString(" -r")
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
