//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// TestLedgerCopy takes a ledger from SQLite to PostgreSQL and back. Commands answer the same
// from each, and work goes on with each. A ledger that a worker uses, or that holds something,
// is refused.
func TestLedgerCopy(t *testing.T) {
	pg := pgtest.Start(t)
	c := newCluster(t, pg, emulator.Config{Seed: 1, FaultRate: 0.05}, clusterKept)
	o := newOutside(t)
	site := c.box.Path("config.yaml")
	var b strings.Builder
	b.WriteString("bill_reference,amount_due,account_reference,customer_reference,customer_name\n")
	for i := range 300 {
		fmt.Fprintf(&b, "M-%d,%d,ACC-%d,CUS-%d,Name\n", i, 100+i, i/2, i/4)
	}
	drop(t, c.box, "many.csv", b.String()+"bad,1.50,A,C,Name\n")
	o.say(1, "run", "--once", "--config", site)
	o.say(0, "import", dropped(t, filepath.Join(t.TempDir(), "local.csv"), "bill_reference,amount_due,customer_reference,customer_name\nL-1,100,C-1,Name\n"), "--config", site)

	file, again := "sqlite:"+c.box.Path("ledger.db"), "sqlite:"+c.box.Path("again.db")
	o.say(0, "ledger", "verify", file, "--output", "json", "--config", site)
	east := c.config("east", "east", "")
	back := reworded(t, c.box, "back.yaml", file, again)
	o.say(0, "ledger", "copy", file, c.database, "--output", "json", "--config", east)
	o.say(0, "ledger", "copy", c.database, again, "--config", east)
	ids := fileIDs(t, o, site)
	for _, args := range [][]string{
		{"status", "--limit", "0"}, {"why", "M-0"}, {"why", "M-299"}, {"why", "L-1"}, {"status", ids["many.csv"]}, {"status", ids["local.csv"]},
	} {
		answer := func(conf string) string {
			var doc any
			code := 0
			if args[0] == "status" && args[1] == ids["many.csv"] {
				code = 1
			}
			if err := json.Unmarshal(o.say(code, append(args, "--output", "json", "--config", conf)...).stdout, &doc); err != nil {
				t.Fatal(err)
			}
			text, err := json.MarshalIndent(doc, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		first := answer(site)
		for _, conf := range []string{east, back} {
			if got := answer(conf); got != first {
				t.Errorf("%v with %s:\n%s\nwant:\n%s", args, filepath.Base(conf), got, first)
			}
		}
	}

	// Not into a ledger that holds something, in either direction.
	for _, pair := range [][2]string{{file, c.database}, {c.database, again}, {c.database, file}, {file, file}} {
		if said := o.say(2, "ledger", "copy", pair[0], pair[1], "--config", east).stderr; !bytes.Contains(said, []byte("hint: ")) {
			t.Errorf("copy into what is not empty: %s", said)
		}
	}
	// Nor from one that a worker uses.
	worker := c.run(east, "east")
	c.up(east, worker)
	if a := o.say(2, "ledger", "copy", c.database, "sqlite:"+c.box.Path("third.db"), "--config", east); !bytes.Contains(a.stderr, []byte("east")) {
		t.Errorf("copy while a worker runs: %s", a.stderr)
	}
	// The same file again, with the copy: every bill exists, and nothing is sent.
	before, err := apiState(c.box.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	drop(t, c.box, "once-more.csv", b.String())
	if s := c.finished("once-more"); s.Rows.By["existing"] != 300 || s.Requests.Posts != 0 {
		t.Errorf("with the copy: %v, %+v", s.Rows.By, s.Requests)
	}
	worker.stop()
	// A copy that was cut short is refused by every command.
	pg.Query(t, databaseName(t, c.database), "INSERT INTO marks (name, value) VALUES ('copying', '')")
	for _, args := range [][]string{{"status"}, {"why", "M-0"}, {"run", "--once"}, {"prune", "--older-than", "1d"}, {"ledger", "verify"}, {"ledger", "rebind"}} {
		if a := o.say(2, append(args, "--config", east)...); !bytes.Contains(a.stderr, []byte("copy again")) {
			t.Errorf("%v on half a copy: %s", args, a.stderr)
		}
	}
	after, err := apiState(c.box.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	if len(after.Bills) != len(before.Bills) || after.Posts != before.Posts {
		t.Errorf("the copy sent something: %d POSTs before, %d after", before.Posts, after.Posts)
	}
}

// TestLedgerVerify: a row that was changed or removed by hand is named, with exit code 1, in
// both engines.
func TestLedgerVerify(t *testing.T) {
	pg := pgtest.Start(t)
	c := newCluster(t, pg, emulator.Config{Seed: 1, Latency: time.Millisecond}, clusterKept)
	o := newOutside(t)
	east := c.config("east", "east", "")
	drop(t, c.box, "bills.csv", string(numberedBills(20)))
	o.say(0, "run", "--once", "--config", east)
	o.say(0, "ledger", "verify", "--config", east, "--output", "json")
	name := databaseName(t, c.database)
	for _, change := range []struct{ sql, undo, names string }{
		{"UPDATE bills SET amount_due = amount_due + 1 WHERE reference = 'INV-00003'", "UPDATE bills SET amount_due = amount_due - 1 WHERE reference = 'INV-00003'", "INV-00003"},
		{"UPDATE outcomes SET status = 2 WHERE reference = 'INV-00004'", "UPDATE outcomes SET status = 1 WHERE reference = 'INV-00004'", "INV-00004"},
		{"DELETE FROM outcomes WHERE reference = 'INV-00005'", "", "INV-00005"},
		{"DELETE FROM bills WHERE reference = 'INV-00006'", "", "INV-00006"},
	} {
		pg.Query(t, name, change.sql)
		a := o.say(1, "ledger", "verify", "--config", east)
		if !strings.Contains(string(a.stdout), change.names) {
			t.Errorf("%s: the finding does not name %s:\n%s", change.sql, change.names, a.stdout)
		}
		o.say(1, "ledger", "verify", "--config", east, "--output", "json")
		if change.undo != "" {
			pg.Query(t, name, change.undo)
			o.say(0, "ledger", "verify", "--config", east)
		}
	}
}
