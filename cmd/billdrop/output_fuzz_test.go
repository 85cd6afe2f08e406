package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"billdrop/cmd/billdrop/console"
	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
	"billdrop/ingest/watch"
)

// FuzzOutput: whatever others call a file, and whatever they answer, standard output and standard
// error show it bounded, and without a raw control or format character, as text and
// as JSON.
func FuzzOutput(f *testing.F) {
	f.Add("a.csv", "no such bill")
	f.Add("a\u202e\x1b[2J.csv", "\u009b31m\r\nerror: all is well\x00\xff")
	f.Add(strings.Repeat("\u2066", 300), `{"title": "\u001b]0;x\u0007"}`)
	f.Fuzz(func(t *testing.T, name, text string) {
		for _, form := range []string{"text", "json"} {
			var out, screen bytes.Buffer
			c := console.New(&screen)
			if form == "json" {
				c.UseJSON()
			}
			log := c.Logger("debug", form, func(string) (string, bool) { return "", false })
			board := watch.NewBoard(log, []string{"bills"})
			entries := []inbox.Entry{{Name: name, Regular: true}, {Name: name + "/", Link: true}}
			now := time.Unix(1, 0)
			look := watch.Look{Listing: inbox.NewSettler(inbox.Watch{}).Look(now, entries), At: now, Entries: entries}
			board.Remark("bills", watch.Inbox, look.Remarks())
			board.Remark("bills", watch.Inbox, nil)
			log.Warn(text, "file", name, "err", errors.New(text))
			c.Error(text, name)
			c.Warnf("%s: %s", name, text)

			led := ledgertest.NewMemory()
			record := &ledger.File{ID: "f", Name: name, Feed: "bills", Stem: name, State: ledger.Held, Code: "limits", Detail: text}
			if err := led.AddFile(t.Context(), record); err != nil {
				t.Fatal(err)
			}
			file, err := describe.ReadFile(t.Context(), led, record)
			if err != nil {
				t.Fatal(err)
			}
			todo := file.ToDo()
			s := &session{stdout: &out, screen: c}
			s.Output = form
			for _, shown := range []func() string{func() string { return file.Text(todo) }, func() string { return describe.List([]describe.File{file}, 0) }} {
				if err := s.print(map[string]any{"files": []describe.Document{file.Document(&todo)}}, shown); err != nil {
					t.Fatal(err)
				}
			}
			for what, shown := range map[string]string{"standard output": out.String(), "standard error": screen.String()} {
				if len(shown) > 64<<10+40*(len(name)+len(text)) {
					t.Errorf("%s as %s: %d bytes", what, form, len(shown))
				}
				for _, r := range shown {
					if r != '\n' && r != '\uFFFD' && report.Hidden(r) {
						t.Errorf("%s as %s: raw %U in %q", what, form, r, shown)
						break
					}
				}
			}
			if form == "text" {
				continue
			}
			for line := range strings.Lines(screen.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("not JSON: %q", line)
				}
			}
			for dec := json.NewDecoder(&out); dec.More(); {
				var doc any
				if err := dec.Decode(&doc); err != nil {
					t.Fatalf("not JSON: %v", err)
				}
			}
		}
	})
}
