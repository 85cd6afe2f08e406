package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/alecthomas/kong"

	"billdrop/cmd/billdrop/monitor"
)

// cli is the command line: what is here is what help, suggestions and completion know.
type cli struct {
	Globals

	Help helpFlag `short:"h" help:"Show help."`

	Run        runCmd        `cmd:"" help:"Poll every feed's inbox and turn bill files into bills."`
	Import     importCmd     `cmd:"" help:"Put local bill files through the same pipeline."`
	Validate   validateCmd   `cmd:"" help:"Check bill files offline: no network, no ledger, nothing sent."`
	Plan       planCmd       `cmd:"" help:"Tell what a run would do with bill files, without doing it."`
	Status     statusCmd     `cmd:"" help:"List files with their counts, or what to do about one."`
	Retry      retryCmd      `cmd:"" help:"Send the failed and unknown rows of a file again."`
	Approve    approveCmd    `cmd:"" help:"Release a held file: the next run sends it."`
	Reject     rejectCmd     `cmd:"" help:"Give a held file up: nothing of it is sent."`
	Why        whyCmd        `cmd:"" help:"Tell everything that the ledger knows of one bill."`
	Backup     backupCmd     `cmd:"" help:"Copy the ledger into a new file, beside a running worker."`
	Prune      pruneCmd      `cmd:"" help:"Take old files out of the ledger, and their local reports."`
	Forget     forgetCmd     `cmd:"" help:"Take one customer's references out of the ledger."`
	Check      checkCmd      `cmd:"" help:"Check the set-up: ok, or exactly what to do."`
	Sandbox    sandboxCmd    `cmd:"" help:"Serve a local SFTP server and a local Billing API, for trying things out."`
	Demo       demoCmd       `cmd:"" help:"See it work: sandbox, sample files and one run, in a temporary directory."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Completion completionCmd `cmd:"" help:"Print the completion script of a shell."`
}

// Globals are the flags of every command.
type Globals struct {
	Config     string `placeholder:"FILE" help:"Configuration file (default: ./config.yaml, then /etc/billdrop/config.yaml)."`
	LogLevel   string `enum:"debug,info,warn,error" default:"info" help:"Least level that is logged: debug, info, warn or error."`
	LogFormat  string `enum:"text,json" default:"text" help:"Form of the log lines on standard error: text or json."`
	Output     string `enum:"text,json" default:"text" help:"Form of standard output: text, or json for one JSON document."`
	NoProgress bool   `help:"Show no progress bar, on a terminal either."`
}

// helpFlag prints the help of the command it stands with.
type helpFlag bool

// errHelp ends parsing after help was shown.
var errHelp = errors.New("help was shown")

// BeforeReset is called by kong when the flag is there, before anything is checked.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	return errHelp
}

const description = `Creates one bill per row of the CSV files that a biller drops into an SFTP directory, exactly once, and writes a report back.

Example: billdrop demo

Exit codes: 0 all done; 1 done, some rows or files need attention; 2 bad usage or configuration, nothing touched; 3 could not be done, safe to run again; 4 another billdrop holds the ledger; 130, 143 interrupted, safe to run again.`

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
	var c cli
	parser, err := newParser(&c, s.stdout, s.screen)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return usagef("no command given\nhint: billdrop --help lists the commands; billdrop demo shows one run from end to end")
	}
	parsed, err := parser.Parse(args)
	if errors.Is(err, errHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	s.Globals = c.Globals
	s.log = newLogger(s.screen, c.LogLevel, c.LogFormat, s.env)
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(s, parser)
}

// session is what every command works with: its flags, and the world outside.
type session struct {
	Globals
	stdin  *os.File
	stdout io.Writer
	screen *console // standard error
	env    func(string) (string, bool)
	log    *slog.Logger
	// monitor counts what the worker does; nil but for a run with --listen.
	monitor *monitor.Monitor
}

func (s *session) json() bool { return s.Output == "json" }
