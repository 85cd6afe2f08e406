package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest"
	"billdrop/ingest/durable"
)

// stdinName stands for standard input among the files.
const stdinName = "-"

type importCmd struct {
	Files []string `arg:"" name:"FILE" help:"Bill files; - is standard input."`
	Feed  string   `placeholder:"NAME" help:"Feed whose format and merchant apply (default: the only one)."`
	Out   string   `placeholder:"DIR" help:"Directory for the reports, made if missing (default: beside each file)."`
}

func (importCmd) Help() string {
	return `The files stay where they are; their reports go beside them, or to --out. No SFTP server is needed. Imports of the feed that were cut short are finished first, with their reports where they were to go.

Example: billdrop import november.csv --feed bills --out reports/`
}

// Run imports one file after the other. It checks that all can be read before it sends
// anything.
func (c *importCmd) Run(ctx context.Context, s *session) error {
	if err := checkFiles(c.Files); err != nil {
		return err
	}
	conf, err := loadConfig(s, config.Needs{Key: true, OnFinish: true})
	if err != nil {
		return err
	}
	i, err := chooseFeed(conf, c.Feed)
	if err != nil {
		return err
	}
	m, err := assemble(ctx, s, conf, job{role: ingest.RoleCommand})
	if err != nil {
		return err
	}
	files := make([]ingest.LocalFile, len(c.Files))
	shown := make(map[string]string) // directory of reports as the operator named it
	for n, path := range c.Files {
		out := c.Out
		if out == "" && path == stdinName {
			out = "." // standard input has no directory
		}
		files[n] = ingest.LocalFile{Path: path, In: s.input(ctx, path), Out: out}
		dir := cmp.Or(out, filepath.Dir(path))
		if abs, err := filepath.Abs(dir); err == nil {
			shown[abs] = dir
		}
	}
	imported, err := m.worker.Import(ctx, m.feeds[i], files)
	finished := make([]describe.Finished, len(imported))
	for n, f := range imported {
		finished[n] = describe.Finished{Summary: f.Summary, Dir: cmp.Or(shown[f.Results], f.Results)}
	}
	return printFiles(s, finished, errors.Join(err, m.close()))
}

// input is standard input if path stands for it; nil for a file.
func (s *session) input(ctx context.Context, path string) io.Reader {
	if path == stdinName {
		return &interruptible{ctx: ctx, from: s.stdin}
	}
	return nil
}

// interruptible reads what may keep a reader waiting, such as a pipe, until ctx ends. It is
// not read again after that, so at most one read is left waiting.
type interruptible struct {
	ctx  context.Context
	from io.Reader
	buf  []byte
}

func (r *interruptible) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	if len(r.buf) < len(p) {
		r.buf = make([]byte, len(p))
	}
	done := make(chan result, 1)
	buf := r.buf[:len(p)]
	go func() {
		n, err := r.from.Read(buf)
		done <- result{n, err}
	}()
	select {
	case got := <-done:
		return copy(p, buf[:got.n]), got.err
	case <-r.ctx.Done():
		return 0, context.Cause(r.ctx)
	}
}

// checkFiles reports all files that cannot be read, at once.
func checkFiles(paths []string) error {
	var wrong []error
	stdin := 0
	for _, path := range paths {
		if path == stdinName {
			stdin++
		} else if err := checkFile(path); err != nil {
			wrong = append(wrong, err)
		}
	}
	if stdin > 1 {
		wrong = append(wrong, describe.Advise(errors.New("- is given twice, and standard input can be read only once"), "name it once"))
	}
	if len(wrong) > 0 {
		return usageError{errors.Join(wrong...)}
	}
	return nil
}

func checkFile(path string) error {
	f, err := durable.OpenRegular(path)
	switch {
	case errors.Is(err, durable.ErrNotRegular):
		return describe.Advise(fmt.Errorf("cannot read the bill file: %w", err), "name bill files; - is standard input, for what comes through a pipe")
	case err != nil:
		return describe.Advise(fmt.Errorf("cannot read the bill file: %w", err), "check the name and rights of the file")
	}
	return f.Close()
}
