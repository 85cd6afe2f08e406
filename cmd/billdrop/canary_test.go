package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/ingest/ledger/sqlite"
)

// canaries stand for personal data: parts of every personal cell, and of the key. They
// are looked for in any letter case, and phone numbers with any spacing.
var canaries = []string{
	"qann", "qanname", "qanlast", "qanfirm", "qanmail", "qandomain", "qanmeta", "qannote", "qankey", "qanbroken",
	"825550199", "825550188",
}

const canaryKey = "sk_test_QANKEYqankey0123456789"

// canaryFile has canaries in every personal column, in valid cells and in cells that are
// invalid in every way. The API answers a row as its reference says (see echoing).
func canaryFile() string {
	const header = "bill_reference,amount_due,account_reference,customer_reference,account_name,customer_name,customer_email,customer_phone,metadata.note,metadata.ward\n"
	var b strings.Builder
	b.WriteString(header)
	row := func(reference, amount string, personal ...string) {
		fmt.Fprintf(&b, "%s,%s,ACC-%s,CUS-%s,%s\n", reference, amount, reference, reference, strings.Join(personal, ","))
	}
	good := []string{"Qanfirm Holdings", `"Qanname ""Bob"" & O'Qanlast"`, "qanmail.person@qandomain.example", "082 555 0199", "qannote on the gate", "qanmeta-7"}
	with := func(column int, cell string) []string {
		cells := append([]string(nil), good...)
		cells[column] = cell
		return cells
	}
	for _, answer := range []string{"201", "422", "400", "409", "402", "500", "html", "garbage", "cut", "long", "twice"} {
		row("A-"+answer, "1000", good...)
	}
	row("A-422", "1000", good...) // again: a duplicate
	row("A-201", "2000", good...) // and a contradiction
	long := strings.Repeat("qanbroken ", 60)
	for i, cells := range [][]string{
		with(0, "Qanfirm\u200bHidden"), with(1, "Qanname\tTab"), with(1, `"Qanname`+"\n"+`Two lines"`), with(1, long), with(1, "#REF! qanname"),
		with(2, "qanmail at qandomain"), with(2, "qanmail@@qandomain.example"), with(2, "qanmail@qandomain.example;qanmail2@qandomain.example"), with(2, long+"@qandomain.example"),
		with(3, "082 555 0199 x12 qanname"), with(3, "8.2555E+10 qanbroken"), with(3, "+27 825550188 825550188"), with(4, long), with(4, "qannote\u202eevil"),
	} {
		row(fmt.Sprint("B-", i), "1000", cells...)
	}
	row("B-amount", "10.00", good...)
	row("E-fine", "1000", good...)
	row("C-party", "1000", good...)
	b.WriteString("C-party2,1000,ACC-C-party,CUS-C-party,Qanfirm Other,Qanname Other,qanmail2@qandomain.example,0825550188,qannote,qanmeta\n") // other details
	b.WriteString("D-few,1000,qanbroken\n")
	b.WriteString("D-many,1000,A,B,Qanfirm,Qanname,qanmail@qandomain.example,0825550199,qannote,qanmeta,qanbroken,qanbroken\n")
	b.WriteString(`D-quote,1000,A,B,Qanfirm "Qanname" x,Qanname,qanmail@qandomain.example,0825550199,qannote,qanmeta` + "\n")
	return b.String()
}

// echoing is a Billing API that repeats the request, key included, in every failure.
func echoing(t *testing.T) *httptest.Server {
	api := emulator.New(emulator.Config{Seed: 1})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		echo := fmt.Sprintf("you said %s with %s; %s", body, r.Header.Get("Authorization"), strings.ToUpper(string(body)))
		problem := func(status int) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"type":"about:blank","title":%q,"status":%d,"detail":%q,"instance":%q,"errors":{"customer":[%q]}}`, "no: "+echo, status, echo, echo, echo)
		}
		_, reference, _ := strings.Cut(string(body), `"external_reference":"A-`)
		reference, _, _ = strings.Cut(reference, `"`)
		switch {
		case r.Method != http.MethodPost || reference == "201" || reference == "":
			api.ServeHTTP(w, r)
		case reference == "html":
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprintf(w, "<html>%s</html>", echo)
		case reference == "garbage":
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, echo)
		case reference == "cut":
			panic(http.ErrAbortHandler)
		case reference == "twice": // a second answer that was not asked for
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%s", len(echo), echo)
			_, _ = io.Copy(io.Discard, c) // until the client closes it
			c.Close()
		case reference == "long": // the name stands where the text is cut off
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprintf(w, `{"title":%q,"detail":%q}`, strings.Repeat("x", 195)+" QANNAME", strings.Repeat("y", 492)+" qanmail.person@qandomain.example")
		default:
			status := http.StatusInternalServerError
			fmt.Sscan(reference, &status)
			problem(status)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// TestCanaries: personal data and the key are in nothing that billdrop prints, logs,
// records or publishes, except in the biller's own files and in the rejects.
func TestCanaries(t *testing.T) {
	t.Parallel()
	box := startSite(t, emulator.Config{Seed: 1})
	api := echoing(t)
	o := newOutside(t)
	text := canaryFile()
	if err := os.WriteFile(box.Path("api.key"), []byte(canaryKey), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := reworded(t, box, "canary.yaml", box.APIURL, api.URL, "give_up_after: 30s", "give_up_after: 5s\n  max_attempts: 2", "backoff_max: 2s", "backoff_max: 50ms", "lookup_settle: 1s", "lookup_settle: 50ms", "    amounts: minor\n", "    amounts: minor\n    hold: {max_rows: 40}\n")
	all := func(code int, args ...string) {
		t.Helper()
		args = append(args, "--config", conf, "--log-level", "debug")
		o.say(code, args...)
		o.say(code, append(args, "--output", "json", "--log-format", "json")...)
	}
	mine := func(name, content string) string { return dropped(t, box.Path("mine/"+name), content) }
	for _, dir := range []string{"mine", "out"} {
		if err := os.Mkdir(box.Path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	broken := map[string]string{ // refused as a whole, with what is personal where a message might quote
		"headless.csv": "INV-1,1000,CUS-1,Qanname Qanlast,qanmail@qandomain.example,0825550199\nINV-2,1000,CUS-2,Qanname,,\n",
		"column.csv":   "bill_reference,amount_due,customer_reference,customer_name\nX-1,1000,C,\"Qanname Qanlast\n",
		"cut.csv":      "bill_reference,amount_due,customer_reference,customer_name\nX-1,1000,C,Qanname Qanlast",
		"latin.csv":    "bill_reference,amount_due,customer_reference,customer_name\nX-1,1000,C,Qanname \xe9\n",
		"cr.csv":       "bill_reference,amount_due,customer_reference,customer_name\rX-1,1000,C,Qanname\r",
	}
	canary := mine("canary.csv", text)

	all(1, "validate", canary, "--out", box.Path("out"))
	all(1, "plan", canary)
	dropped(t, box.Path("inbox/canary.csv"), text)
	for name, content := range broken {
		mine(name, content)
		dropped(t, box.Path("inbox/"+name), content)
	}
	o.say(1, "run", "--once", "--config", conf, "--log-level", "debug")
	dropped(t, box.Path("inbox/again.csv"), text+"\n")
	o.say(1, "run", "--once", "--config", conf, "--log-level", "debug", "--log-format", "json", "--output", "json")
	all(1, "import", canary, filepath.Join(box.Dir, "mine/cut.csv"), "--out", box.Path("out"))
	dropped(t, box.Path("inbox/held.csv"), text+strings.Repeat("H,1,,C,,Qanname Qanlast,qanmail@qandomain.example,,,\n", 20))
	o.say(1, "run", "--once", "--config", conf, "--log-level", "debug")
	all(0, "status")
	ids := fileIDs(t, o, conf)
	for _, name := range []string{"canary.csv", "headless.csv", "held.csv"} {
		all(1, "status", ids[name])
	}
	for _, reference := range []string{"A-201", "A-422", "A-500", "A-cut", "A-long"} {
		all(0, "why", reference)
	}
	all(1, "retry", ids["again.csv"])
	led, err := sqlite.Open(t.Context(), box.Path("ledger.db")) // as a worker has it
	if err != nil {
		t.Fatal(err)
	}
	all(0, "approve", ids["held.csv"])
	all(0, "reject", ids["held.csv"])
	all(0, "retry", ids["again.csv"])
	all(4, "forget", "CUS-E-fine")
	if err := led.Close(); err != nil {
		t.Fatal(err)
	}
	o.say(0, "backup", box.Path("copy.db"), "--config", conf)
	o.say(0, "backup", box.Path("copy2.db"), "--config", conf, "--log-level", "debug", "--output", "json")
	o.say(0, "reject", ids["held.csv"], "--config", conf, "--log-level", "debug")
	all(2, "reject", ids["held.csv"])
	o.say(0, "forget", "CUS-E-fine", "--config", conf, "--log-level", "debug")
	all(2, "forget", "Qanname Qanlast")
	all(0, "prune", "--older-than", "0d", "--dry-run")
	all(0, "prune", "--older-than", "1d")
	all(0, "check")
	o.env = []string{"BILLDROP_API_KEY=" + canaryKey}
	all(0, "check")
	o.say(2, "run", "--once", "--config", dropped(t, box.Path("bad.yaml"), "api: {key: "+canaryKey+", key_file: ["+canaryKey+"], base_url: "+canaryKey+"}\n"+canaryKey+": 1\nmerchant: "+canaryKey+"\n"))
	o.env = nil
	for _, command := range [][]string{{"run", "--once"}, {"check"}} { // the key itself where its file should be named
		o.say(2, append(command, "--config", reworded(t, box, "bad.yaml", box.Path("api.key"), canaryKey))...)
		o.say(2, append(command, "--config", reworded(t, box, "bad.yaml", box.Path("id_ed25519"), canaryKey))...)
	}

	for _, found := range canariesIn(o.heard.Bytes()) {
		t.Errorf("printed or logged: %s", found)
	}
	o.own(box, text)
}

// own searches every file in the site. Only the biller's own files and the rejects hold
// canaries; if they did not, the test would search in vain.
func (o *outside) own(box *sandbox.Sandbox, text string) {
	o.t.Helper()
	looked := map[bool]int{}
	err := filepath.WalkDir(box.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, _ := filepath.Rel(box.Dir, path)
		dir, base := filepath.Dir(name), filepath.Base(name)
		switch {
		case name == "api.key", name == "bad.yaml", dir == "mine":
			return nil
		}
		content := readAll(o.t, path)
		theirs := (dir == "archive" || dir == "rejected" || dir == "processing") && strings.HasSuffix(base, ".csv") || strings.HasSuffix(base, ".rejects.csv")
		if dir == "spool" && bytes.HasPrefix(content, []byte(text)) {
			theirs = true // the copy of the file that is held
		}
		found := canariesIn(content)
		looked[theirs]++
		switch {
		case theirs && len(found) == 0:
			o.t.Errorf("%s should hold the biller's own rows", name)
		case !theirs && len(found) > 0:
			o.t.Errorf("%s: %s", name, strings.Join(found, "; "))
		}
		return nil
	})
	if err != nil || looked[true] < 8 || looked[false] < 12 {
		o.t.Errorf("looked through %d files of the biller's and %d of ours: %v", looked[true], looked[false], err)
	}
}

// canariesIn are the places in b where a canary is, with what stands around it.
func canariesIn(b []byte) []string {
	var found []string
	low := bytes.ToLower(b)
	dense := bytes.Map(func(r rune) rune {
		if strings.ContainsRune(" -()./", r) {
			return -1
		}
		return r
	}, low)
	for _, c := range canaries {
		for _, text := range [][]byte{low, dense} {
			if i := bytes.Index(text, []byte(c)); i >= 0 {
				found = append(found, fmt.Sprintf("%s in %q", c, text[max(0, i-120):min(len(text), i+60)]))
				break
			}
		}
	}
	return found
}
