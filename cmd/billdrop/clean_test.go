package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"billdrop/cmd/billdrop/console"
	"billdrop/ingest/report"
)

// TestNothingRaw: no control or format character of a file's name, of a file's content or of an
// argument reaches standard output or standard error as it is, in any form.
func TestNothingRaw(t *testing.T) {
	const raw = "\x1b[2J\u009b31m\u202e"
	path := filepath.Join(t.TempDir(), "bills"+raw+".csv")
	if err := os.WriteFile(path, []byte("bill_reference,amount_due,customer_reference"+raw+"\nR"+raw+",1,C"+raw+"\n"), 0o600); err != nil {
		t.Skipf("no such file names here: %v", err)
	}
	for _, args := range [][]string{
		{"validate", "--amounts", "minor", "--currency", "ZAR", path},
		{"validate", "--amounts", "minor", path + "x"},
		{"nosuch" + raw},
		{"run", "--nosuch" + raw},
		{"run", "--config", path},
		{"status", "--config", path + "x"},
	} {
		for _, form := range [][]string{nil, {"--output", "json", "--log-format", "json"}} {
			var out, screen bytes.Buffer
			s := &session{stdout: &out, screen: console.New(&screen), env: func(string) (string, bool) { return "", false }}
			code := run(t.Context(), append(append([]string{}, form...), args...), s)
			if code == exitDone || out.Len()+screen.Len() == 0 {
				t.Errorf("%q: exit code %d, %d bytes of output", args, code, out.Len()+screen.Len())
			}
			for _, text := range []string{out.String(), screen.String()} {
				for _, r := range strings.ReplaceAll(text, "\n", "") {
					if r != '\uFFFD' && report.Hidden(r) {
						t.Errorf("%q: raw %U in %q", args, r, text)
						break
					}
				}
			}
			if form == nil {
				continue
			}
			for line := range strings.Lines(screen.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("%q: a line of standard error is not JSON: %q", args, line)
				}
			}
		}
	}
}
