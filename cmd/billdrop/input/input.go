// Package input reads what is named on the command line: bill files, and standard input.
package input

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/durable"
)

// Stdin stands for standard input among the files.
const Stdin = "-"

// Reader is stdin if path stands for it; nil for a file.
func Reader(ctx context.Context, stdin io.Reader, path string) io.Reader {
	if path == Stdin {
		return &interruptible{ctx: ctx, from: stdin}
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

// CheckFiles reports all files that cannot be read, at once.
func CheckFiles(paths []string) error {
	var wrong []error
	stdin := 0
	for _, path := range paths {
		if path == Stdin {
			stdin++
		} else if err := checkFile(path); err != nil {
			wrong = append(wrong, err)
		}
	}
	if stdin > 1 {
		wrong = append(wrong, describe.Advise(errors.New("- is given twice, and standard input can be read only once"), "name it once"))
	}
	return errors.Join(wrong...)
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

// Lines returns the lines of stdin, without white space around them and without empty ones.
func Lines(stdin io.Reader) ([]string, error) {
	var lines []string
	in := bufio.NewScanner(stdin)
	for in.Scan() {
		if line := strings.TrimSpace(in.Text()); line != "" {
			lines = append(lines, line)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return lines, nil
}
