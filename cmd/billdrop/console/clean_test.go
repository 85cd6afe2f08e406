package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"billdrop/ingest/report"
)

// hostile is a text that moves the cursor, rings the bell, turns text around, and breaks a line.
const hostile = "a\x1b[2Jb\u009b31mc\u202ed\u200be\x07f\rg\nerror: h\U000E0041"

// noHidden fails if one line of out holds a raw control or format character.
func noHidden(t *testing.T, what, out string) {
	t.Helper()
	for line := range strings.Lines(out) {
		for _, r := range strings.TrimSuffix(line, "\n") {
			if r != utf8.RuneError && report.Hidden(r) {
				t.Errorf("%s: raw %U in %q", what, r, line)
			}
		}
	}
}

// Nothing that is logged, in any format, holds a raw control or format character.
func TestLogsAreClean(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log := New(&out).Logger("info", format, func(string) (string, bool) { return "", false })
		log = log.With("with", hostile).WithGroup("group")
		log.Info(hostile, "string", hostile, "error", errors.New(hostile), "list", []string{hostile},
			slog.Group("inner", "string", hostile), "long", strings.Repeat("x", 1<<20))
		noHidden(t, format, out.String())
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Errorf("%s: %d lines", format, n)
		}
		if out.Len() > 2*maxText {
			t.Errorf("%s: a line of %d bytes", format, out.Len())
		}
	}
}

func TestMessagesAreClean(t *testing.T) {
	var out bytes.Buffer
	c := New(&out)
	c.Error(hostile, hostile)
	c.Warnf("%s", hostile)
	noHidden(t, "messages", out.String())
}

// With UseJSON every line is a JSON object, with the level and the hint.
func TestUseJSON(t *testing.T) {
	var out bytes.Buffer
	c := New(&out)
	c.UseJSON()
	c.Warnf("odd: %s", hostile)
	c.Error("it failed\nand this, too", "do this", "or that")
	c.Error("no advice")
	noHidden(t, "JSON", out.String())
	var lines []map[string]any
	for line := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, m)
	}
	if len(lines) != 3 || lines[0]["level"] != "WARN" || lines[1]["level"] != "ERROR" || lines[1]["msg"] != "it failed; and this, too" ||
		lines[1]["hint"] != "do this; or that" || lines[2]["hint"] != nil {
		t.Errorf("lines %v", lines)
	}
}

// A JSON document means the same after it was cleaned.
func TestCleanJSON(t *testing.T) {
	doc, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	clean := CleanJSON(doc)
	noHidden(t, "document", string(clean))
	var got string
	if err := json.Unmarshal(clean, &got); err != nil || got != hostile {
		t.Errorf("%q, %v", got, err)
	}
	noHidden(t, "text", Clean(hostile))
	if got := Clean("a\n\tb\n"); got != "a\n\tb\n" {
		t.Errorf("%q", got)
	}
}
