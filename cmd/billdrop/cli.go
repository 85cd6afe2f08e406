package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/alecthomas/kong"

	"billdrop/cmd/billdrop/console"
	"billdrop/cmd/billdrop/monitor"
)

// cli is the command line. Help, suggestions and completion are made from it.
type cli struct {
	Globals

	Help helpFlag `short:"h" help:"Show help."`

	Run        runCmd        `cmd:"" help:"Poll every feed's inbox and turn bill files into bills."`
	Receive    receiveCmd    `cmd:"" help:"Receive the events of payments, beside run --once."`
	Import     importCmd     `cmd:"" help:"Put local bill files through the same pipeline."`
	Validate   validateCmd   `cmd:"" help:"Check bill files offline: no network, no ledger, nothing sent."`
	Plan       planCmd       `cmd:"" help:"Show what a run would do with bill files, without doing it."`
	Status     statusCmd     `cmd:"" help:"List files with their counts, or show what to do about one."`
	Retry      retryCmd      `cmd:"" help:"Send the failed and unknown rows of a file again."`
	Approve    approveCmd    `cmd:"" help:"Release a held file: the next run sends it."`
	Reject     rejectCmd     `cmd:"" help:"End a file that is held or cannot go on: nothing more of it is sent."`
	Why        whyCmd        `cmd:"" help:"Show everything that the ledger knows of one bill."`
	Payments   paymentsCmd   `cmd:"" help:"List the payments that were received, and the bills that they were for."`
	Verify     verifyCmd     `cmd:"" help:"Ask the API whether the bills of finished files are still there, and the same."`
	Backup     backupCmd     `cmd:"" help:"Copy the ledger into a new file, also while a worker runs."`
	Prune      pruneCmd      `cmd:"" help:"Remove old files from the ledger, and their local reports."`
	Forget     forgetCmd     `cmd:"" help:"Remove one customer's references from the ledger."`
	Ledger     ledgerCmd     `cmd:"" help:"Commands about the ledger as a whole."`
	Check      checkCmd      `cmd:"" help:"Check the set-up: ok, or exactly what to do."`
	Sandbox    sandboxCmd    `cmd:"" help:"Serve a local SFTP server and a local Billing API to try things out."`
	Demo       demoCmd       `cmd:"" help:"See it work: sandbox, sample files and one run, in a temporary directory."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Completion completionCmd `cmd:"" help:"Print the completion script of a shell."`
}

// Globals are the flags of every command.
type Globals struct {
	Config     string `placeholder:"FILE" help:"Configuration file (default: ./config.yaml, then /etc/billdrop/config.yaml)."`
	LogLevel   string `enum:"debug,info,warn,error" default:"info" help:"Lowest level that is logged: debug, info, warn or error."`
	LogFormat  string `enum:"text,json" default:"text" help:"Form of the log lines on standard error: text or json."`
	Output     string `enum:"text,json" default:"text" help:"Form of standard output: text, or json for one JSON document."`
	NoProgress bool   `help:"Show no progress bar, even on a terminal."`
}

// helpFlag prints the help of the command that it stands with.
type helpFlag bool

// errHelp ends parsing after help was printed.
var errHelp = errors.New("help was printed")

// BeforeReset prints help before anything is checked.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	return errHelp
}

const description = `Creates one bill per row of the CSV files that a biller drops into an SFTP directory, exactly once, and writes a report back.

Example: billdrop demo

Exit codes: 0 all done; 1 done, but some rows or files need attention; 2 wrong usage or configuration, nothing was changed; 3 the work could not be done, safe to run again; 4 another billdrop holds the ledger; 130, 143 interrupted, safe to run again.`

func newParser(c *cli, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("billdrop"),
		kong.Description(description),
		kong.NoDefaultHelp(),
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.Vars{"defaultSandbox": "billdrop-sandbox"},
	)
}

// dispatch parses args and runs the command that they name.
func dispatch(ctx context.Context, args []string, s *session) error {
	if wantsJSONLog(args) {
		s.screen.UseJSON() // also for what is wrong with the arguments
	}
	var c cli
	parser, err := newParser(&c, s.stdout, s.screen)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return usagef("no command given").Hint("billdrop --help lists the commands; billdrop demo shows one run from end to end")
	}
	parsed, err := parser.Parse(args)
	if errors.Is(err, errHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	s.Globals = c.Globals
	s.log = s.screen.Logger(c.LogLevel, c.LogFormat, s.env)
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(s, parser)
}

// wantsJSONLog reports whether args ask for log lines in JSON. Parsing may fail before it has
// come to that flag.
func wantsJSONLog(args []string) bool {
	for i, arg := range args {
		if arg == "--log-format=json" || arg == "--log-format" && i+1 < len(args) && args[i+1] == "json" {
			return true
		}
	}
	return false
}

// session is what every command works with: its flags and the world outside.
type session struct {
	Globals
	stdin   *os.File
	stdout  io.Writer
	screen  *console.Console
	env     func(string) (string, bool)
	log     *slog.Logger
	monitor *monitor.Monitor // nil except for a run with --listen
}

func (s *session) json() bool { return s.Output == "json" }

// print writes to standard output: the JSON document doc with --output json, else text.
func (s *session) print(doc any, text func() string) error {
	err := error(nil)
	if s.json() {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err = e.Encode(doc); err == nil {
			_, err = s.stdout.Write(console.CleanJSON(b.Bytes()))
		}
	} else {
		_, err = io.WriteString(s.stdout, console.Clean(text()))
	}
	if err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}
