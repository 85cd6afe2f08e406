package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// eraseLine moves to the start of the terminal's line and empties it.
const eraseLine = "\r\x1b[2K"

// console is standard error. It keeps what is written to it and the progress bar apart: the bar is taken off,
// the text written, the bar drawn again. Safe for concurrent use.
type console struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	redraw   func() // draws the bar; nil while there is none. Called with mu held
}

func newConsole(f *os.File) *console {
	return &console{w: f, terminal: term.IsTerminal(int(f.Fd()))}
}

// Write writes whole lines, above the bar if there is one.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.redraw == nil {
		return c.w.Write(p)
	}
	io.WriteString(c.w, eraseLine)
	n, err := c.w.Write(p)
	c.redraw()
	return n, err
}

// draw draws the bar, and redraw again after each text from now on; nil takes the bar off the screen.
func (c *console) draw(redraw func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.redraw != nil {
		io.WriteString(c.w, eraseLine) // the next bar may be shorter
	}
	c.redraw = redraw
	if redraw != nil {
		redraw()
	}
}

// errorf tells a person what went wrong: every line starts with "error:", but for those that are hints.
func (c *console) errorf(format string, args ...any) {
	c.message("error: ", fmt.Sprintf(format, args...))
}

// warnf tells a person what is odd but does not stop the work.
func (c *console) warnf(format string, args ...any) {
	c.message("warning: ", fmt.Sprintf(format, args...))
}

func (c *console) message(kind, text string) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "hint: ") {
			b.WriteString(kind)
		}
		b.WriteString(strings.TrimRight(line, "\n"))
		b.WriteByte('\n')
	}
	io.WriteString(c, b.String())
}

// newLogger logs to the console: in colour for a person at a terminal who does not mind (NO_COLOR), as
// key=value or JSON for everybody else.
func newLogger(c *console, level, format string, env func(string) (string, bool)) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		least = slog.LevelInfo // the command line allows no other than the known ones
	}
	switch {
	case format == "json":
		return slog.New(slog.NewJSONHandler(c, &slog.HandlerOptions{Level: least}))
	case c.terminal:
		return slog.New(tint.NewTextHandler(c, &tint.Options{Level: least, TimeFormat: "15:04:05", NoColor: !colour(env)}))
	}
	return slog.New(slog.NewTextHandler(c, &slog.HandlerOptions{Level: least}))
}

// colour reports whether colours are welcome on a terminal: NO_COLOR, set to anything, says no (no-color.org).
func colour(env func(string) (string, bool)) bool {
	no, _ := env("NO_COLOR")
	kind, _ := env("TERM")
	return no == "" && kind != "dumb"
}
