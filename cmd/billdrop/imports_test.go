package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestArrowsPointOneWay: packages import only what the architecture allows. Tests may
// import anything.
func TestArrowsPointOneWay(t *testing.T) {
	const root = "../.."
	rules := []struct {
		imports string   // this package, and those below it
		by      []string // may be imported by these directories, and those below them, alone
	}{
		{"go.yaml.in/yaml", []string{"cmd"}},
		{"net/http", []string{"client", "cmd"}},
		{"github.com/standard-webhooks", []string{"client"}},
		{"golang.org/x/crypto/ssh", []string{"ingest/inbox", "cmd"}},
		{"github.com/pkg/sftp", []string{"ingest/inbox"}},
		{"github.com/skeema/knownhosts", []string{"ingest/inbox"}},
		{"database/sql", []string{"ingest/ledger"}},
		{"modernc.org/sqlite", []string{"ingest/ledger/sqlite"}},
		{"github.com/pressly/goose", []string{"ingest/ledger"}},
		{"github.com/gocarina/gocsv", []string{"ingest/billfile"}},
		{"github.com/alecthomas/kong", []string{"cmd"}},
		{"billdrop/cmd", []string{"cmd"}},
		{"billdrop/fixtures", []string{"cmd"}},
		{"billdrop/client/emulator", []string{"cmd"}},
		{"billdrop/ingest/inbox/sftpserver", []string{"cmd", "ingest/inbox/sftpserver"}},
		{"github.com/jackc/pgx", []string{"ingest/ledger/postgres", "ingest/crew"}},
		{"github.com/riverqueue/river", []string{"ingest/crew"}},
		{"billdrop/ingest/ledger/sqlite", []string{"cmd"}},
		{"billdrop/ingest/ledger/postgres", []string{"cmd"}},
		{"billdrop/ingest/ledger/groupcommit", []string{"ingest/ledger/sqlite", "ingest/ledger/postgres"}},
		{"billdrop/ingest/crew", []string{"cmd"}},
		{"billdrop/ingest/preview", []string{"cmd"}},
		{"billdrop/ingest/verify", []string{"cmd"}},
		{"billdrop/ingest/payments", []string{"cmd"}},
	}
	rooms := map[string][]string{ // directory, and those below it → what of this module it may import
		"client":                    nil,
		"fixtures":                  nil,
		"ingest/billfile":           nil,
		"ingest/durable":            nil,
		"ingest/delivery":           {"billdrop/ingest/billfile", "billdrop/ingest/ledger", "billdrop/ingest/report", "billdrop/client"},
		"ingest/transfer":           {"billdrop/ingest/durable", "billdrop/ingest/inbox"},
		"ingest/watch":              {"billdrop/ingest/inbox", "billdrop/ingest/ledger"},
		"ingest/ledger":             {"billdrop/ingest/ledger", "billdrop/ingest/durable"},
		"ingest/ledger/groupcommit": {"billdrop/ingest/ledger"},
		"ingest/inbox":              {"billdrop/ingest/inbox", "billdrop/ingest/durable"},
		"ingest/report":             {"billdrop/ingest/billfile", "billdrop/ingest/ledger"},
		"ingest": {"billdrop/ingest/billfile", "billdrop/ingest/delivery", "billdrop/ingest/durable", "billdrop/ingest/inbox",
			"billdrop/ingest/ledger", "billdrop/ingest/report", "billdrop/ingest/transfer", "billdrop/ingest/watch"},
		"ingest/preview":  {"billdrop/ingest"},
		"ingest/crew":     {"billdrop/ingest"},
		"ingest/payments": {"billdrop/client", "billdrop/ingest/delivery", "billdrop/ingest/ledger", "billdrop/ingest/report"},
		"ingest/verify":   {"billdrop/client", "billdrop/ingest/delivery", "billdrop/ingest/ledger", "billdrop/ingest/report"},
		"cmd":             {"billdrop"},

		"ingest/inbox/sftpserver/opensshtest": {"billdrop/client/servertest"}, // both are for tests alone

		"cmd/billdrop/config":     {"billdrop/client", "billdrop/ingest/billfile", "billdrop/ingest/durable", "billdrop/ingest/inbox", "billdrop/ingest/ledger", "billdrop/ingest/payments"},
		"cmd/billdrop/completion": nil,
		"cmd/billdrop/console":    {"billdrop/ingest"},
		"cmd/billdrop/describe":   {"billdrop/ingest"},
		"cmd/billdrop/payreport":  {"billdrop/cmd/billdrop/config", "billdrop/cmd/billdrop/describe", "billdrop/cmd/billdrop/engine", "billdrop/cmd/billdrop/webhook", "billdrop/cmd/billdrop/wiring", "billdrop/ingest"},
		"cmd/billdrop/recheck":    {"billdrop/cmd/billdrop/config", "billdrop/cmd/billdrop/describe", "billdrop/cmd/billdrop/wiring", "billdrop/ingest"},
		"cmd/billdrop/input":      {"billdrop/cmd/billdrop/describe", "billdrop/ingest/durable"},
		"cmd/billdrop/engine":     {"billdrop/cmd/billdrop/config", "billdrop/cmd/billdrop/describe", "billdrop/ingest"},
		"cmd/billdrop/diagnose":   {"billdrop/cmd/billdrop/config", "billdrop/cmd/billdrop/engine", "billdrop/cmd/billdrop/describe", "billdrop/ingest"},
		"cmd/billdrop/monitor":    {"billdrop/cmd/billdrop/describe", "billdrop/cmd/billdrop/webhook", "billdrop/ingest", "billdrop/client"},
		"cmd/billdrop/notify":     {"billdrop/cmd/billdrop/config", "billdrop/ingest/report"},
		"cmd/billdrop/wiring":     {"billdrop/cmd/billdrop/config", "billdrop/cmd/billdrop/console", "billdrop/cmd/billdrop/describe", "billdrop/cmd/billdrop/engine", "billdrop/cmd/billdrop/monitor", "billdrop/cmd/billdrop/notify", "billdrop/cmd/billdrop/webhook", "billdrop/client", "billdrop/ingest"},
		"cmd/billdrop/webhook":    {"billdrop/client", "billdrop/cmd/billdrop/describe", "billdrop/ingest/ledger"},
		"cmd/billdrop/sandbox": {
			"billdrop/cmd/billdrop/config", "billdrop/cmd/billdrop/describe", "billdrop/client/emulator", "billdrop/fixtures",
			"billdrop/ingest/inbox/sftpserver",
		},
		"cmd/billdrop/demo": {
			"billdrop/cmd/billdrop/config", "billdrop/cmd/billdrop/describe", "billdrop/cmd/billdrop/sandbox", "billdrop/fixtures",
			"billdrop/ingest/ledger", "billdrop/ingest/report", "billdrop/client/emulator",
		},
	}
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		dir = filepath.ToSlash(dir)
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			for _, r := range rules {
				if within(imported, r.imports) && !anyWithin(dir, r.by) {
					t.Errorf("%s imports %s, which only %v may", path, imported, r.by)
				}
			}
			if room := roomOf(dir, rooms); within(imported, "billdrop") && !anyWithin(imported, rooms[room]) {
				t.Errorf("%s imports %s; %s may import %v of this module", path, imported, room, rooms[room])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d files were looked at: is the root right?", files)
	}
}

// roomOf is the longest entry of rooms that dir is in.
func roomOf(dir string, rooms map[string][]string) string {
	best := ""
	for room := range rooms {
		if within(dir, room) && len(room) > len(best) {
			best = room
		}
	}
	return best
}

func anyWithin(path string, of []string) bool {
	for _, o := range of {
		if within(path, o) {
			return true
		}
	}
	return false
}

// within reports whether a slash-separated path is top or below it.
func within(path, top string) bool { return path == top || strings.HasPrefix(path, top+"/") }
