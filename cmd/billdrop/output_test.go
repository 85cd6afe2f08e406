package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger/sqlite"
)

// TestEveryCommandHasAForm: every command has its schema, and every schema its command.
func TestEveryCommandHasAForm(t *testing.T) {
	parser, err := newParser(&cli{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string]bool{"ack": true, "summary": true, "common": true}
	for _, command := range parser.Model.Children {
		form, known := formOf[command.Name]
		if !known {
			t.Errorf("%s is not among the commands whose JSON is documented", command.Name)
		}
		if form != "" {
			forms[form] = true
		}
	}
	c := schemas(t)
	paths, err := filepath.Glob("../../docs/schema/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		if !forms[name] {
			t.Errorf("%s belongs to no command", path)
		}
		if _, err := c.Compile(schemaURL(name)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		delete(forms, name)
	}
	if len(forms) > 0 {
		t.Errorf("without a schema: %v", forms)
	}
}

// TestOutput: with --output json, standard output is one document of the documented form,
// as are the JSON reports. Lines on standard error keep their form, whatever fails.
func TestOutput(t *testing.T) {
	const header = "bill_reference,amount_due,customer_reference,customer_name\n"
	t.Parallel()
	box := startSite(t, emulator.Config{Seed: 1})
	o := newOutside(t)
	conf := box.Path("config.yaml")
	held := reworded(t, box, "held.yaml", "    amounts: minor\n", "    amounts: minor\n    hold: {max_rows: 3}\n")
	json := func(code int, args ...string) {
		t.Helper()
		o.say(code, append(args, "--output", "json")...)
		o.say(code, append(args, "--output", "json", "--log-format", "json", "--log-level", "debug")...)
	}
	good := dropped(t, box.Path("good.csv"), header+"G-1,1000,C-1,Naledi\nG-2,2000,C-2,Thabo\n")
	mixed := dropped(t, box.Path("mixed.csv"), header+"G-1,1500,C-1,Naledi\nG-3,3.00,C-3,Zed\nG-4,400,C-4,Zed\n")
	none := dropped(t, box.Path("none.csv"), "amount_due\n1\n")

	t.Run("before the first run", func(t *testing.T) {
		o.t = t
		json(0, "version")
		json(0, "check", "--config", conf)
		json(3, "status", "--config", conf)
		json(3, "why", "G-1", "--config", conf)
		json(0, "validate", good, "--amounts", "minor", "--config", conf)
		json(1, "validate", mixed, none, "--config", conf, "--out", box.Path("dry"))
		json(1, "plan", good, mixed, none, "--config", conf)
		json(0, "run", "--once", "--config", conf)
	})
	t.Run("files", func(t *testing.T) {
		o.t = t
		for _, path := range []string{good, mixed, none} {
			dropped(t, box.Path("inbox/"+filepath.Base(path)), string(readAll(t, path)))
		}
		o.say(1, "run", "--once", "--config", conf, "--output", "json")
		dropped(t, box.Path("inbox/many.csv"), header+"M-1,1,C-1,Naledi\nM-2,1,C-2,Thabo\nM-3,1,C-3,Zed\nM-4,1,C-4,Zed\n")
		json(1, "run", "--once", "--config", held)
		json(1, "import", good, mixed, "--config", conf, "--out", box.Path("imported"))
		json(1, "plan", mixed, "--config", conf)
		json(0, "status", "--config", conf)
		json(0, "why", "G-1", "--config", conf)
		ids := fileIDs(t, o, conf)
		for name, code := range map[string]int{"good.csv": 0, "mixed.csv": 1, "none.csv": 1, "many.csv": 1} {
			json(code, "status", ids[name], "--config", conf)
		}
		json(0, "verify", ids["good.csv"], "--config", conf)
		json(0, "verify", "--since", "1d", "--config", conf)
		json(0, "payments", "--config", conf)
		json(0, "retry", ids["good.csv"], "--config", conf)
		led, err := sqlite.Open(t.Context(), box.Path("ledger.db")) // as a worker has it
		if err != nil {
			t.Fatal(err)
		}
		json(0, "reject", ids["many.csv"], "--config", held)
		json(0, "approve", ids["many.csv"], "--config", held)
		json(0, "retry", ids["good.csv"], "--config", conf)
		json(2, "retry", ids["many.csv"], "--config", conf)
		json(4, "forget", "C-1", "--config", conf)
		json(4, "prune", "--older-than", "0d", "--config", conf)
		json(4, "run", "--once", "--config", conf)
		o.say(0, "backup", box.Path("beside.db"), "--config", conf, "--output", "json")
		if err := led.Close(); err != nil {
			t.Fatal(err)
		}
		o.say(0, "approve", ids["many.csv"], "--config", held, "--output", "json")
		o.say(0, "status", "--config", conf, "--output", "json")
		o.say(0, "run", "--once", "--config", conf, "--output", "json")
		dropped(t, box.Path("inbox/given-up.csv"), header+"U-1,1,C-1,Naledi\nU-2,1,C-2,Thabo\nU-3,1,C-3,Zed\nU-4,1,C-4,Zed\n")
		o.say(1, "run", "--once", "--config", held)
		o.say(0, "reject", fileIDs(t, o, conf)["given-up.csv"], "--config", held, "--output", "json")
		o.say(0, "backup", box.Path("copy.db"), "--config", conf)
		for glob, schema := range map[string]string{"*/*.ack.json": "ack", "*/*.summary.json": "summary"} {
			paths, err := filepath.Glob(box.Path(glob))
			if err != nil || len(paths) < 4 {
				t.Fatalf("%s: %v, %v", glob, paths, err)
			}
			for _, path := range paths {
				o.valid(path, schema, readAll(t, path))
			}
		}
	})
	t.Run("failures", func(t *testing.T) {
		o.t = t
		ids := fileIDs(t, o, conf)
		deaf := httptest.NewServer(emulator.New(emulator.Config{Seed: 1, FaultRate: 1}))
		deaf.Close() // connections to it are refused from now on
		down := reworded(t, box, "down.yaml", box.APIURL, deaf.URL, "give_up_after: 30s", "give_up_after: 1ms", "sqlite:", "sqlite:"+box.Path("down")+"/", box.Path("ledger.db"), "ledger.db")
		if err := os.MkdirAll(box.Path("down"), 0o700); err != nil {
			t.Fatal(err)
		}
		stranger := reworded(t, box, "stranger.yaml", "known_hosts\"", "no_such_hosts\"")
		lost := reworded(t, box, "lost.yaml", "\"sqlite:"+box.Path("ledger.db"), "\"sqlite:"+box.Path("nodisk/ledger.db"))
		noKey := reworded(t, box, "nokey.yaml", "api.key", "no.key")
		bad := dropped(t, box.Path("bad.yaml"), "merchnt: acme\nledger: nonsense\nfeeds: [{amounts: cents}]\n")
		next := dropped(t, box.Path("next.csv"), header+"N-1,100,C-1,Naledi\n")
		for _, c := range []struct {
			code int
			args []string
		}{
			{2, nil}, {2, []string{"rnu"}}, {2, []string{"run", "--onec"}}, {2, []string{"import"}}, {2, []string{"why"}},
			{2, []string{"status", "a", "b"}}, {2, []string{"completion", "tcsh"}},
			{2, []string{"run", "--once", "--config", box.Path("gone.yaml")}}, {2, []string{"run", "--once", "--config", bad}},
			{2, []string{"check", "--config", bad}}, {2, []string{"check", "--config", noKey}},
			{2, []string{"run", "--once", "--config", noKey}}, {2, []string{"plan", next, "--config", noKey}}, {2, []string{"import", next, "--config", noKey}},
			{2, []string{"run", "--once", "--config", stranger}}, {2, []string{"check", "--config", stranger}},
			{2, []string{"import", box.Path("gone.csv"), box.Dir, "-", "-", "--config", conf}}, {2, []string{"import", next, "--feed", "other", "--config", conf}},
			{2, []string{"import", next, "--out", next + "/x", "--config", conf}}, {3, []string{"validate", next, "--out", next + "/x", "--config", conf}},
			{2, []string{"validate", next, "--preset", "other", "--config", conf}}, {2, []string{"validate", next, "--currency", "XXX", "--config", conf}},
			{2, []string{"validate", next, "--max-problems=-1", "--config", conf}}, {2, []string{"plan", next, "--max-problems=-1", "--config", conf}},
			{2, []string{"status", "--limit=-1", "--config", conf}}, {2, []string{"status", "nosuch", "--config", conf}}, {2, []string{"why", "nosuch", "--config", conf}},
			{2, []string{"retry", "nosuch", "--config", conf}}, {2, []string{"approve", "nosuch", "--config", conf}}, {2, []string{"approve", ids["good.csv"], "--config", conf}},
			{2, []string{"payments", "--limit=-1", "--config", conf}}, {2, []string{"payments", "--since", "soon", "--config", conf}}, {2, []string{"receive", "--config", conf}},
			{2, []string{"verify", "--config", conf}}, {2, []string{"verify", "nosuch", "--config", conf}}, {2, []string{"verify", "--since", "soon", "--config", conf}},
			{2, []string{"verify", ids["good.csv"], "--since", "1d", "--config", conf}}, {3, []string{"verify", ids["good.csv"], "--config", lost}},
			{2, []string{"reject", "nosuch", "--config", conf}}, {2, []string{"reject", ids["good.csv"], "--config", conf}},
			{2, []string{"backup", next, "--config", conf}}, {2, []string{"backup", box.Path("none/copy.db"), "--config", conf}}, {3, []string{"backup", box.Path("new.db"), "--config", lost}},
			{2, []string{"prune", "--older-than", "90", "--config", conf}}, {2, []string{"prune", "--config", conf}}, {3, []string{"prune", "--older-than", "90d", "--config", lost}},
			{2, []string{"forget", "nosuch", "--config", conf}}, {2, []string{"forget", "--config", conf}}, {2, []string{"forget", "C-1", "--feed", "other", "--config", conf}}, {3, []string{"forget", "C-1", "--config", lost}},
			{3, []string{"import", next, "--config", down}}, {3, []string{"plan", next, "--config", down}}, {3, []string{"check", "--config", down}},
			{3, []string{"status", "--config", lost}}, {3, []string{"import", next, "--config", lost}}, {3, []string{"check", "--config", lost}},
			{2, []string{"sandbox", "--sftp-addr", "0.0.0.0:2222"}}, {2, []string{"sandbox", "--fault-rate", "2"}}, {3, []string{"sandbox", "--dir", next + "/x"}},
		} {
			o.say(c.code, c.args...)
			json(c.code, c.args...)
		}
		for _, args := range [][]string{{"run", "--config", conf}, {"receive", "--config", conf}, {"demo"}, {"completion", "bash"}} { // these have no JSON form
			json(2, args...)
		}
		if doc := o.say(3, "import", next, "--config", down, "--output", "json"); !bytes.Contains(doc.stdout, []byte(`"error": "`)) {
			t.Errorf("an import that could not be done printed %s", doc.stdout)
		}
		o.say(0, "prune", "--older-than", "0d", "--dry-run", "--config", conf, "--output", "json")
		o.say(0, "forget", "C-2", "--config", conf, "--output", "json")
		o.say(0, "prune", "--older-than", "0d", "--config", conf, "--output", "json")
		if err := os.Rename(box.Path("results"), box.Path("elsewhere")); err != nil {
			t.Fatal(err)
		}
		dropped(t, box.Path("inbox/next.csv"), header+"N-1,100,C-1,Naledi\n")
		json(3, "run", "--once", "--config", conf)
		json(3, "check", "--config", conf)
	})
}
