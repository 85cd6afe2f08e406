// Package console is standard error: messages, log lines, colours and the progress bar.
package console

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/lmittmann/tint"
	"golang.org/x/term"

	"billdrop/ingest/report"
)

// eraseLine moves to the start of the terminal's line and empties it.
const eraseLine = "\r\x1b[2K"

// Console writes to standard error. It keeps text and the progress bar apart: it takes
// the bar off the screen, writes the text and draws the bar again. Its methods may be
// called concurrently.
type Console struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	lines    *slog.Logger // set if every line is to be JSON
	redraw   func()       // draws the bar; nil while there is none; called with mu held
}

// New returns a console on w. Only a terminal gets colours and a bar.
func New(w io.Writer) *Console {
	f, ok := w.(*os.File)
	return &Console{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// Write writes whole lines, above the bar if there is one.
func (c *Console) Write(p []byte) (int, error) {
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

// draw draws the bar now and after each text to come. nil takes the bar off the screen.
func (c *Console) draw(redraw func()) {
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

// Error writes what went wrong and what to do about it. Each line of text begins with
// "error:", each line of a hint with "hint:".
func (c *Console) Error(text string, hints ...string) {
	if c.lines == nil {
		io.WriteString(c, prefixed("error: ", text)+prefixed("hint: ", hints...))
		return
	}
	if len(hints) > 0 {
		c.lines.Error(text, "hint", strings.Join(hints, "\n"))
		return
	}
	c.lines.Error(text)
}

// Warnf writes what is odd but does not stop the work.
func (c *Console) Warnf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if c.lines == nil {
		io.WriteString(c, prefixed("warning: ", text))
		return
	}
	c.lines.Warn(text)
}

func prefixed(prefix string, texts ...string) string {
	var b strings.Builder
	for _, text := range texts {
		for line := range strings.Lines(text) {
			b.WriteString(prefix + report.Visible(strings.TrimRight(line, "\n")) + "\n")
		}
	}
	return b.String()
}

// UseJSON makes every line a JSON object, the messages too, and shows no bar. It is called
// before anything is written.
func (c *Console) UseJSON() {
	c.lines = slog.New(cleanHandler{slog.NewJSONHandler(c, nil)})
	c.terminal = false
}

// Logger returns a logger on the console: in colour on a terminal that accepts it, as
// key=value or JSON everywhere else.
func (c *Console) Logger(level, format string, env func(string) (string, bool)) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		least = slog.LevelInfo // the command line accepts known levels only
	}
	var h slog.Handler = slog.NewTextHandler(c, &slog.HandlerOptions{Level: least})
	switch {
	case format == "json":
		h = slog.NewJSONHandler(c, &slog.HandlerOptions{Level: least})
	case c.terminal:
		h = tint.NewTextHandler(c, &tint.Options{Level: least, TimeFormat: "15:04:05", NoColor: !colour(env)})
	}
	return slog.New(cleanHandler{h})
}

// colour reports whether a terminal accepts colours. NO_COLOR, set to anything, refuses
// them (https://no-color.org), and so does a dumb terminal.
func colour(env func(string) (string, bool)) bool {
	no, _ := env("NO_COLOR")
	kind, _ := env("TERM")
	return no == "" && kind != "dumb"
}
