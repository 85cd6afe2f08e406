package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"billdrop/cmd/billdrop/config"
)

// stdinName stands for standard input among the files.
const stdinName = "-"

type importCmd struct {
	Files []string `arg:"" name:"FILE" help:"Bill files; - is standard input."`
	Feed  string   `placeholder:"NAME" help:"Feed whose format and merchant apply (default: the only one)."`
	Out   string   `placeholder:"DIR" help:"Directory for the reports, made where missing (default: beside each file)."`
}

func (importCmd) Help() string {
	return `The files stay where they are; their reports go beside them, or to --out. No SFTP server is needed.

Example: billdrop import november.csv --feed bills --out reports/`
}

// Run imports one file after the other. What cannot be read is found before anything is sent.
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
	m, err := assemble(ctx, s, conf, false)
	if err != nil {
		return err
	}
	var files []finished
	for _, path := range c.Files {
		var in io.Reader
		if path == stdinName {
			in = s.stdin
		}
		out := c.Out
		if out == "" && path == stdinName {
			out = "." // there is no file to be beside of
		}
		summary, ierr := m.worker.Import(ctx, m.feeds[i], path, in, out)
		if ierr != nil {
			err = fmt.Errorf("import %s: %w", path, ierr)
			break
		}
		files = append(files, finished{Summary: summary, where: cmp.Or(out, filepath.Dir(path))})
	}
	return showFiles(s, files, errors.Join(err, m.close()))
}

// checkFiles finds all files that cannot be read, at once.
func checkFiles(paths []string) error {
	var wrong []error
	stdin := 0
	for _, path := range paths {
		if path == stdinName {
			stdin++
			continue
		}
		if err := checkFile(path); err != nil {
			wrong = append(wrong, err)
		}
	}
	if stdin > 1 {
		wrong = append(wrong, errors.New("- is given twice; standard input can be read only once, so name it once"))
	}
	if len(wrong) > 0 {
		return usageError{errors.Join(wrong...)}
	}
	return nil
}

func checkFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read the bill file: %w; check its name and rights", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cannot look at the bill file: %w", err)
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory; name the bill files in it", path)
	}
	return nil
}

// list writes names for a person.
func list(names []string) string { return strings.Join(names, ", ") }
