//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// clusterLost is how long a worker may be unheard of in tests that lose some. In the others it is
// clusterKept, so that none is lost because the machine is busy.
const (
	clusterLost = 2 * time.Second
	clusterKept = time.Minute
)

// takeOver is how long it may take at most, after a worker was killed, until others do its work.
const takeOver = clusterLost + 10*time.Second

// TestCluster: several workers, which are real processes, on one PostgreSQL, and what they promise.
func TestCluster(t *testing.T) {
	pg := pgtest.Start(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *pgtest.Server)
	}{
		{"a worker is killed", oneIsKilled},
		{"the database is restarted", databaseRestarted},
		{"the document", clusterDocument},
		{"names", nameTaken},
		{"formats", formatsDiffer},
		{"pages", pagesOfAll},
		{"commands beside workers", commandsBeside},
		{"nothing about people", nothingAboutPeople},
		{"no password", passwordMasked},
		{"the database is not there", databaseMissing},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, pg) })
	}
}

// oneIsKilled: of two workers on one file, one is killed. The other sends the rest, within the
// time that is promised, and the report is right.
func oneIsKilled(t *testing.T, pg *pgtest.Server) {
	const rows = 6000
	c := newCluster(t, pg, emulator.Config{Latency: 20 * time.Millisecond, Seed: 1}, clusterLost)
	east, west := c.config("east", "east", ""), c.config("west", "west", "")
	first, second := c.run(east, "east"), c.run(west, "west")
	c.up(east, first, second)
	drop(t, c.box, "bills.csv", string(numberedBills(rows)))
	await(t, func() bool {
		live := c.workers(west)
		return c.box.Requests() > rows/4 && live["east"].InFlight > 0 && live["west"].InFlight > 0
	})
	first.kill()
	killed := time.Now()
	if sent := c.box.Requests(); sent >= rows {
		t.Fatal("the file was sent before a worker was killed: nothing was tested")
	}
	s := c.finished("bills")
	if took := time.Since(killed); took > takeOver+20*time.Second {
		t.Errorf("the file was finished %s after a worker was killed", took)
	}
	if s.Outcome != "completed" || s.Rows.By["created"] != rows {
		t.Errorf("the report: %s, %v", s.Outcome, s.Rows.By)
	}
	if live := c.workers(west); len(live) != 1 || live["west"].Name == "" {
		t.Errorf("workers after the kill: %v", live)
	}
	second.stop()
	state, err := apiState(c.box.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Bills) != rows || len(state.Customers) != rows {
		t.Errorf("the API holds %d bills and %d customers for %d rows", len(state.Bills), len(state.Customers), rows)
	}
}

// databaseRestarted: PostgreSQL is killed in the middle of a file and comes back. Nothing is sent
// meanwhile, and the workers go on by themselves.
func databaseRestarted(t *testing.T, pg *pgtest.Server) {
	const rows = 4000
	c := newCluster(t, pg, emulator.Config{Latency: 20 * time.Millisecond, Seed: 1}, 10*time.Second)
	east, west := c.config("east", "east", ""), c.config("west", "west", "")
	first, second := c.run(east, "east"), c.run(west, "west")
	c.up(east, first, second)
	drop(t, c.box, "bills.csv", string(numberedBills(rows)))
	await(t, func() bool { return c.box.Requests() > rows/4 })
	if err := pg.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	// 3 s after the loss nothing is sent any more, and nothing is until it is back.
	<-time.After(4 * time.Second)
	silent := c.box.Requests()
	<-time.After(time.Second)
	if sent := c.box.Requests(); sent != silent || sent >= rows {
		t.Errorf("%d requests at 4 s after the database was killed, and %d at 5 s, of %d", silent, sent, rows)
	}
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	if s := c.finished("bills"); s.Outcome != "completed" || s.Rows.By["created"] != rows {
		t.Errorf("the report: %s, %v, %s after the kill", s.Outcome, s.Rows.By, time.Since(killed))
	}
	first.stop()
	second.stop()
	state, err := apiState(c.box.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Bills) != rows {
		t.Errorf("the API holds %d bills for %d rows", len(state.Bills), rows)
	}
}

// clusterDocument does what docs/cluster.md says of role, database and grants: a worker runs with
// them, and an auditor reads the views and nothing else.
func clusterDocument(t *testing.T, pg *pgtest.Server) {
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(readAll(t, "../../docs/cluster.md")), -1)
	if len(blocks) != 2 {
		t.Fatalf("docs/cluster.md has %d blocks of SQL", len(blocks))
	}
	// The superuser of these tests has the role's name already.
	role := strings.NewReplacer("ROLE billdrop", "ROLE worker", "OWNER billdrop", "OWNER worker", "DATABASE billdrop", "DATABASE documented", "'…'", "'S3cret'")
	for line := range strings.Lines(role.Replace(blocks[0][1])) {
		pg.Query(t, "postgres", line)
	}
	c := &cluster{t: t, pg: pg, box: startSite(t, emulator.Config{Seed: 1}), lostAfter: clusterKept}
	c.database = strings.NewReplacer("billdrop:"+pg.Password, "worker:S3cret").Replace(pg.URL("documented"))
	east := c.config("east", "east", "")
	o := newOutside(t)
	o.say(0, "check", "--fix", "--config", east)
	drop(t, c.box, "bills.csv", string(numberedBills(5)))
	o.say(0, "run", "--once", "--config", east)
	out := o.say(0, "check", "--config", east).stdout
	for _, text := range []string{"version ", "may make and write", "clocks? ", "schema [0-9]+, 0 files not finished", "none runs now", "stands in the configuration"} {
		if !regexp.MustCompile(text).Match(out) {
			t.Errorf("check does not say %q:\n%s", text, out)
		}
	}
	pg.Query(t, "postgres", "CREATE ROLE auditor LOGIN PASSWORD 'x'")
	pg.Query(t, "documented", role.Replace(blocks[1][1]))
	for sql, allowed := range map[string]string{
		"SELECT count(*) FROM bill": "t", "SELECT count(*) FROM outcome": "t", "SELECT count(*) FROM attempt": "t", "SELECT count(*) FROM file": "t",
	} {
		view := sql[strings.LastIndex(sql, " ")+1:]
		if got := strings.TrimSpace(pg.Query(t, "documented", "SELECT has_table_privilege('auditor', '"+view+"', 'SELECT')")); got != allowed {
			t.Errorf("%s: %s", sql, got)
		}
		if got := strings.TrimSpace(pg.Query(t, "documented", "SET ROLE auditor; "+sql)); got != "5" && view != "file" || view == "file" && got != "1" {
			t.Errorf("%s as the auditor: %s", sql, got)
		}
	}
	for _, table := range []string{"bills", "outcomes", "parties"} {
		if got := strings.TrimSpace(pg.Query(t, "documented", "SELECT has_table_privilege('auditor', '"+table+"', 'SELECT, INSERT, UPDATE, DELETE')")); got != "f" {
			t.Errorf("the auditor has rights on %s", table)
		}
	}
}

// nameTaken: a second worker of a name is refused as long as the first one is alive.
func nameTaken(t *testing.T, pg *pgtest.Server) {
	c := newCluster(t, pg, emulator.Config{Seed: 1}, clusterKept)
	east := c.config("east", "east", "")
	first := c.run(east, "east")
	c.up(east, first)
	other := c.config("other", "east", "")
	o := newOutside(t)
	said := o.say(2, "run", "--once", "--config", other).stderr
	for _, text := range []string{"error: ", "east", "hint: ", "worker.name"} {
		if !bytes.Contains(said, []byte(text)) {
			t.Errorf("the refusal lacks %q:\n%s", text, said)
		}
	}
	// Nor may it use the spool of another one.
	spool := reworded(t, c.box, "spool.yaml", "sqlite:"+c.box.Path("ledger.db"), c.database, c.box.Path("spool"), c.box.Path("spool-east"))
	if said := o.say(2, "run", "--once", "--config", spool).stderr; !bytes.Contains(said, []byte("another worker on this machine uses spool_dir")) {
		t.Errorf("a spool that is taken: %s", said)
	}
	first.stop() // leaves, so its name is free at once
	o.say(0, "run", "--once", "--config", other)
}

// formatsDiffer: a worker that would read a feed's files in another way than a live one is refused,
// and the keys are named.
func formatsDiffer(t *testing.T, pg *pgtest.Server) {
	c := newCluster(t, pg, emulator.Config{Seed: 1}, clusterKept)
	east := c.config("east", "east", "")
	first := c.run(east, "east")
	c.up(east, first)
	o := newOutside(t)
	other := c.config("west", "west", "", "amounts: minor", "amounts: major\n    date_format: 02/01/2006")
	said := o.say(2, "run", "--once", "--config", other).stderr
	for _, text := range []string{"feed bills", "worker east", "amounts, date_format", "hint: "} {
		if !bytes.Contains(said, []byte(text)) {
			t.Errorf("the refusal lacks %q:\n%s", text, said)
		}
	}
	// Another feed is no matter of the first worker's.
	o.say(0, "run", "--once", "--config", c.config("west", "west", "", "name: bills", "name: loans", "amounts: minor", "amounts: major"))
	first.stop()
	o.say(0, "run", "--once", "--config", other)
}

// pagesOfAll: the page of each worker shows all workers and files, whichever worker has them
// in hand, and each worker is ready, whether or not it is the one that looks into the inbox.
func pagesOfAll(t *testing.T, pg *pgtest.Server) {
	c := newCluster(t, pg, emulator.Config{Latency: 50 * time.Millisecond, Seed: 1}, clusterKept)
	ports := map[string]string{"east": freePort(t), "west": freePort(t)}
	var all []*process
	for name, port := range ports {
		all = append(all, c.run(c.config(name, name, ""), name, "--listen", port))
	}
	c.up(c.box.Path("east.yaml"), all...)
	// get is what a worker answers once it is up, and once the machine is not too busy.
	get := func(port, path string) (text string) {
		await(t, func() bool {
			answer, err := http.Get("http://127.0.0.1:" + port + path)
			if err != nil {
				return false
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			text = string(body)
			return answer.StatusCode == http.StatusOK
		})
		return text
	}
	for _, port := range ports {
		get(port, "/readyz")
	}
	drop(t, c.box, "bills.csv", string(numberedBills(4000)))
	await(t, func() bool { return c.box.Requests() > 500 })
	for name, port := range ports {
		page := get(port, "/")
		for _, text := range []string{`scope="row">east<`, `scope="row">west<`, ">bills.csv</a>", " of 4,000 rows"} {
			if !strings.Contains(page, text) {
				t.Errorf("the page of %s lacks %q:\n%s", name, text, page)
			}
		}
		if metrics := get(port, "/metrics"); !strings.Contains(metrics, "\nbilldrop_workers 2\n") {
			t.Errorf("the metrics of %s lack the workers", name)
		}
	}
	c.finished("bills")
	for _, port := range ports {
		await(t, func() bool { return strings.Contains(get(port, "/"), "completed") })
		get(port, "/readyz")
	}
	for _, p := range all {
		p.stop()
	}
}

// commandsBeside: every command works at once beside a worker that runs, and exit code 4 does not
// occur.
func commandsBeside(t *testing.T, pg *pgtest.Server) {
	c := newCluster(t, pg, emulator.Config{Seed: 1}, clusterKept)
	east := c.config("east", "east", "", "amounts: minor", "amounts: minor\n    hold: {max_rows: 3}")
	desk := c.config("desk", "desk", "", "amounts: minor", "amounts: minor\n    hold: {max_rows: 3}")
	first := c.run(east, "east")
	c.up(east, first)
	o := newOutside(t)
	const header = "bill_reference,amount_due,customer_reference,customer_name\n"
	local := dropped(t, filepath.Join(t.TempDir(), "local.csv"), header+"L-1,100,C-1,Name\n")
	o.say(0, "import", local, "--config", desk)
	o.say(0, "plan", local, "--config", desk)
	o.say(0, "why", "L-1", "--config", desk)
	drop(t, c.box, "held.csv", header+"H-1,100,C-1,\nH-2,100,C-1,\nH-3,100,C-1,\nH-4,100,C-1,\n")
	drop(t, c.box, "refused.csv", header+"R-1,100,C-1,\nR-2,100,C-1,\nR-3,100,C-1,\nR-4,100,C-1,\n")
	await(t, func() bool {
		return len(summaries(t, c.box, "held")) == 1 && len(summaries(t, c.box, "refused")) == 1
	})
	ids := fileIDs(t, o, desk)
	o.say(0, "approve", ids["held.csv"], "--config", desk)
	await(t, func() bool { s := summaries(t, c.box, "held"); return len(s) == 1 && s[0].Rows.By["created"] == 4 })
	o.say(0, "reject", ids["refused.csv"], "--config", desk)
	await(t, func() bool { s := summaries(t, c.box, "refused"); return len(s) == 1 && s[0].Outcome == "rejected" })
	o.say(0, "retry", ids["held.csv"], "--config", desk) // there is nothing to do
	o.say(0, "forget", "C-1", "--config", desk)
	o.say(0, "prune", "--older-than", "1d", "--config", desk)
	o.say(0, "ledger", "rebind", "--config", desk)
	o.say(0, "ledger", "verify", "--config", desk)
	o.say(0, "check", "--config", desk)
	if said := o.say(2, "backup", filepath.Join(t.TempDir(), "copy.db"), "--config", desk).stderr; !bytes.Contains(said, []byte("pg_dump")) {
		t.Errorf("backup: %s", said)
	}
	if live := c.workers(desk); len(live) != 1 {
		t.Errorf("commands are among the workers: %v", live)
	}
	first.stop()
}

// nothingAboutPeople: after runs with every kind of outcome, and a payment, no name, mail
// address, phone number, metadata value, key or secret is in the database, the arguments of
// its jobs included.
func nothingAboutPeople(t *testing.T, pg *pgtest.Server) {
	c := newPayingCluster(t, pg, 1, emulator.Config{Seed: 1, FaultRate: 0.05}, emulator.HookConfig{})
	east := c.config("east", "east", "", "amounts: minor", "amounts: minor\n    present: payment_request\n    columns: {Tower: metadata.tower}", c.front, c.backends[0])
	first := c.run(east, "east")
	c.up(east, first)
	var b strings.Builder
	b.WriteString("bill_reference,amount_due,account_reference,customer_reference,customer_name,customer_email,customer_phone,Tower\n")
	for i := range 2500 {
		phone := fmt.Sprintf("+2782%07d", i)
		if i%500 == 0 {
			phone = "CANARYPHONE" // invalid
		}
		fmt.Fprintf(&b, "P-%d,%d,ACC-%d,CUS-%d,Canaryname %d,canarymail%d@example.com,%s,CANARYTOWER%d\n", i, 100+i, i/2, i/2, i/2, i/2, phone, i)
	}
	drop(t, c.box, "people.csv", b.String())
	c.finished("people")
	secret := strings.TrimSpace(string(readAll(t, c.box.Path("webhook.secret"))))
	event(t, c.backends[0], secret, `{"id":"evt_dumped","type":"obligation.amount_applied","data":{"id":"ob_1","amount":500,"currency":"ZAR","payment_id":"pay_1",
		"account_id":"bacc_1","payer":"Canaryname 1","metadata":{"email":"canarymail1@example.com","phone":"+27820000001","tower":"CANARYTOWER1"}}}`)
	await(t, func() bool { return len(paymentLines(t, c.box)) == 1 })
	first.stop()
	dump := strings.ToLower(pg.Dump(t, c.database))
	if !strings.Contains(dump, "evt_dumped") || !strings.Contains(dump, "people.csv") || !strings.Contains(dump, "p-2499") || !strings.Contains(dump, "https://pay.example.com/") {
		t.Fatal("the dump lacks the file, its bills, their links, or the payment: nothing was looked at")
	}
	key := strings.TrimSpace(string(readAll(t, c.box.Path("api.key"))))
	password := regexp.MustCompile(`:([^:@]+)@`).FindStringSubmatch(c.database)[1]
	for _, secret := range []string{"canaryname", "canarymail", "+2782", "canaryphone", "canarytower", key, strings.TrimPrefix(key, "sk_test_"), password, strings.TrimPrefix(secret, "whsec_"), "cus-", "acc-"} {
		if i := strings.Index(dump, strings.ToLower(secret)); i >= 0 {
			t.Errorf("the database holds %q: …%s…", secret, dump[max(0, i-200):min(len(dump), i+100)])
		}
	}
}

// passwordMasked: whatever is said, by whichever command, the password of the database is not
// in it.
func passwordMasked(t *testing.T, pg *pgtest.Server) {
	c := newCluster(t, pg, emulator.Config{Seed: 1}, clusterKept)
	east := c.config("east", "east", "", "give_up_after: 30s", "give_up_after: 300ms")
	password := regexp.MustCompile(`:([^:@]+)@`).FindStringSubmatch(c.database)[1]
	o := newOutside(t)
	local := dropped(t, filepath.Join(t.TempDir(), "local.csv"), "bill_reference,amount_due,customer_reference,customer_name\nL-1,100,C-1,Name\n")
	quiet := func(a said) {
		t.Helper()
		if bytes.Contains(a.stdout, []byte(password)) || bytes.Contains(a.stderr, []byte(password)) {
			t.Errorf("the password is in:\n%s%s", a.stdout, a.stderr)
		}
	}
	for _, level := range []string{"debug", "info"} {
		for _, args := range [][]string{
			{"run", "--once"}, {"import", local}, {"plan", local}, {"status"}, {"status", "--output", "json"}, {"check"}, {"check", "--output", "json"}, {"ledger", "rebind"},
		} {
			quiet(o.say(0, append(args, "--config", east, "--log-level", level)...))
		}
	}
	quiet(o.say(2, "backup", filepath.Join(t.TempDir(), "copy.db"), "--config", east))
	for name, wrong := range map[string]struct {
		code  int
		edit  func(string) string
		hints []string
	}{
		"password": {2, func(s string) string { return strings.Replace(s, password, password+"x", 1) }, []string{"ledger_password_file"}},
		"database": {2, func(s string) string { return strings.Replace(s, "?sslmode", "_none?sslmode", 1) }, []string{"createdb"}},
		"TLS":      {2, func(s string) string { return strings.Replace(s, "sslmode=disable", "sslmode=require", 1) }, []string{"sslmode"}},
		"sslmode":  {2, func(s string) string { return strings.Replace(s, "sslmode=disable", "sslmode=perhaps", 1) }, []string{"postgres://USER@HOST"}},
		"port":     {3, func(s string) string { return strings.Replace(s, pg.Address, "127.0.0.1:"+freePort(t), 1) }, []string{"PostgreSQL runs"}},
	} {
		text := string(readAll(t, east))
		bad := dropped(t, c.box.Path("bad.yaml"), wrong.edit(text))
		if wrong.edit(text) == text {
			t.Fatalf("%s: the configuration is the same", name)
		}
		commands := [][]string{{"run", "--once"}, {"status"}, {"why", "X"}, {"import", local}, {"prune", "--older-than", "1d"}}
		if name == "port" { // each of them waits
			commands = commands[:2]
		}
		for _, args := range commands {
			a := o.say(wrong.code, append(args, "--config", bad)...)
			quiet(a)
			for _, hint := range append(wrong.hints, "hint: ") {
				if !bytes.Contains(a.stderr, []byte(hint)) {
					t.Errorf("wrong %s: %v does not say %q:\n%s", name, args, hint, a.stderr)
				}
			}
		}
		quiet(o.say(wrong.code, "check", "--config", bad))
	}
	// The ways in which libpq takes a password.
	bare := dropped(t, c.box.Path("bare.yaml"), strings.Replace(string(readAll(t, east)), ":"+password+"@", "@", 1))
	host, port, err := net.SplitHostPort(pg.Address)
	if err != nil {
		t.Fatal(err)
	}
	passfile := dropped(t, c.box.Path("pgpass"), fmt.Sprintf("%s:%s:*:%s:%s\n", host, port, pg.User, password))
	for _, env := range []string{"PGPASSWORD=" + password, "PGPASSFILE=" + passfile} {
		o.env = []string{env}
		quiet(o.say(0, "status", "--config", bare))
	}
	o.env = nil
	quiet(o.say(2, "status", "--config", bare))
	// A user who may do nothing.
	pg.Query(t, "postgres", "CREATE ROLE guest LOGIN PASSWORD 'guest'")
	guest := strings.Replace(string(readAll(t, east)), c.database, strings.Replace(pg.Database(t), pg.User+":"+password, "guest:guest", 1), 1)
	if a := o.say(2, "run", "--once", "--config", dropped(t, c.box.Path("guest.yaml"), guest)); !bytes.Contains(a.stderr, []byte("owner of the database")) {
		t.Errorf("a user without rights: %s", a.stderr)
	}
	// A secret file of its own.
	secret := dropped(t, c.box.Path("pw"), "\ufeff"+password+"\r\n")
	text := strings.Replace(string(readAll(t, east)), ":"+password+"@", "@", 1)
	text = strings.Replace(text, "\nworker:", fmt.Sprintf("\nledger_password_file: %q\nworker:", secret), 1)
	own := dropped(t, c.box.Path("own.yaml"), text)
	quiet(o.say(0, "status", "--config", own))
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	if a := o.say(2, "status", "--config", own); !bytes.Contains(a.stderr, []byte("ledger_password_file: others may read")) {
		t.Errorf("a password that others may read: %s", a.stderr)
	}
}

// databaseMissing: a worker that stays waits for a server that is not there, says so in its first
// warning, and goes on by itself once it is.
func databaseMissing(t *testing.T, pg *pgtest.Server) {
	c := newCluster(t, pg, emulator.Config{Seed: 1}, clusterKept)
	way := newDBLink(t, pg.Address)
	way.cut()
	east := c.config("east", "east", way.address())
	first := c.run(east, "east", "--log-format", "json")
	drop(t, c.box, "bills.csv", string(numberedBills(5)))
	o := newOutside(t)
	if a := o.say(3, "status", "--config", east); !bytes.Contains(a.stderr, []byte("hint: ")) {
		t.Errorf("status of a database out of reach: %s", a.stderr)
	}
	if first.over() {
		t.Fatalf("the worker ended: %s", first.stderr)
	}
	other := c.run(c.config("west", "west", way.address()), "west")
	await(t, func() bool { return strings.Contains(other.stderr.String(), "waiting for the ledger") })
	other.stop() // also while it waits
	way.mend()
	if s := c.finished("bills"); s.Rows.By["created"] != 5 {
		t.Errorf("rows: %v", s.Rows.By)
	}
	first.stop()
	for line := range strings.Lines(first.stderr.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if entry["level"] == "WARN" {
			if text := fmt.Sprint(entry["msg"], entry["reason"]); !strings.Contains(text, "waiting for the ledger") {
				t.Errorf("the first warning is %s", line)
			}
			return
		}
	}
	t.Errorf("there is no warning:\n%s", first.stderr)
}
