package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/console"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// watched is a worker with a status page, in this process. As a Writer, it is the worker's
// standard error.
type watched struct {
	url string

	mu  sync.Mutex
	log bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

// said is what the worker wrote to standard error so far.
func (w *watched) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// startWatched runs a worker over a site until the test ends. The worker must not fail
// before.
func startWatched(t *testing.T, conf string) *watched {
	t.Helper()
	w := new(watched)
	ctx, cancel := context.WithCancelCause(context.Background())
	var running sync.WaitGroup
	code := -1
	running.Go(func() {
		code = run(ctx, []string{"run", "--listen", "0", "--log-level", "debug", "--config", conf}, &session{
			stdout: io.Discard, screen: console.New(w), env: func(string) (string, bool) { return "", false },
		})
	})
	t.Cleanup(func() {
		cancel(&signalError{syscall.SIGTERM})
		running.Wait()
		if code != exitSignal+int(syscall.SIGTERM) {
			t.Errorf("the worker ended with %d:\n%s", code, w.said())
		}
	})
	await(t, func() bool { w.url = pageURL(w.said()); return w.url != "" })
	return w
}

// pageURL is the address of the page in a log; "" if it is not there yet.
func pageURL(log string) string {
	m := regexp.MustCompile(`msg="status page" url=(http://\S+)/ `).FindStringSubmatch(log)
	if m == nil {
		return ""
	}
	return m[1]
}

// get asks for a page, and again if the machine is too busy to read the ledger in time.
func (w *watched) get(t *testing.T, path string) (code int, page string) {
	t.Helper()
	await(t, func() bool {
		answer, err := http.Get(w.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		code, page = answer.StatusCode, string(body)
		return !strings.Contains(page, unread)
	})
	return code, page
}

// unread is what a page says whose ledger could not be read in time.
const unread = "The ledger cannot be read"

// sample adds up the values of a metric whose labels contain all of these.
func sample(t *testing.T, metrics, name string, labels ...string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(metrics) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		of, set, _ := strings.Cut(series, "{")
		matches := of == name
		for _, l := range labels {
			matches = matches && strings.Contains(set, l)
		}
		if !matches {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		sum += v
	}
	return sum
}

// TestMetricsAreTheSummaries: after two files, one with all kinds of rows, the metrics
// agree with the summaries.
func TestMetricsAreTheSummaries(t *testing.T) {
	box := startSite(t, emulator.Config{Seed: 3, FaultRate: 0.05})
	w := startWatched(t, box.Path("config.yaml"))
	drop(t, box, "a.csv", string(numberedBills(300)))
	drop(t, box, "b.csv", strings.Replace(string(numberedBills(40)), "INV-00007,1007", "INV-00007,9.99", 1)+"INV-00008,77,ACC-8,CUS-8,Naledi Dube\nINV-7777,5,ACC-1,CUS-1,Naledi Dube\nINV-7778,5,ACC-NONE,,\n")
	var all []report.Summary
	var metrics string // asked for once more they may be refused: the loop asks often
	await(t, func() bool {
		all = append(summaries(t, box, "a"), summaries(t, box, "b")...)
		_, metrics = w.get(t, "/metrics")
		return len(all) == 2 && sample(t, metrics, "billdrop_files_total") == 2
	})
	posts, gets := 0, 0
	rows, outcomes := map[ledger.Status]int{}, map[string]int{}
	for _, s := range all {
		posts, gets = posts+s.Requests.Posts, gets+s.Requests.Gets
		outcomes[s.Outcome]++
		for status, n := range s.Rows.By {
			rows[status] += n
		}
	}
	if rows[ledger.Created] == 0 || rows[ledger.Invalid] == 0 || rows[ledger.Existing] == 0 || rows[ledger.Rejected] == 0 {
		t.Fatalf("the files show too little: %v", rows)
	}
	for _, status := range ledger.Statuses {
		if got := sample(t, metrics, "billdrop_rows_total", `feed="bills"`, fmt.Sprintf(`status=%q`, status)); got != float64(rows[status]) {
			t.Errorf("%s: %v rows, the summaries say %d", status, got, rows[status])
		}
	}
	for _, outcome := range []string{ledger.Completed, ledger.CompletedWithErrors, ledger.FileRejected} {
		if got := sample(t, metrics, "billdrop_files_total", fmt.Sprintf(`outcome=%q`, outcome)); got != float64(outcomes[outcome]) {
			t.Errorf("%s: %v files, the summaries say %d", outcome, got, outcomes[outcome])
		}
	}
	for method, want := range map[string]int{"POST": posts, "GET": gets} {
		label := fmt.Sprintf(`method=%q`, method)
		if got := sample(t, metrics, "billdrop_api_requests_total", label); got != float64(want) {
			t.Errorf("%v %s requests, the summaries say %d", got, method, want)
		}
		if got := sample(t, metrics, "billdrop_api_request_duration_seconds_count", label); got != float64(want) {
			t.Errorf("%v %s requests were timed, the summaries say %d", got, method, want)
		}
	}
	if n := sample(t, metrics, "billdrop_api_requests_in_flight"); n != 0 {
		t.Errorf("%v requests in flight", n)
	}
	for _, s := range all {
		_, page := w.get(t, "/files/"+s.FileID)
		for _, says := range []string{s.File, s.SHA256, "ZAR"} {
			if !strings.Contains(page, says) {
				t.Errorf("the page of %s does not say %q:\n%s", s.File, says, page)
			}
		}
	}
}

// TestPagesKeepSecrets puts canaries wherever personal data or the key could be, in right
// and in wrong columns, and searches all pages and the log.
func TestPagesKeepSecrets(t *testing.T) {
	box := startSite(t, emulator.Config{Seed: 1})
	key, err := os.ReadFile(box.Path("api.key"))
	if err != nil {
		t.Fatal(err)
	}
	w := startWatched(t, box.Path("config.yaml"))
	const header = "bill_reference,amount_due,account_reference,account_name,customer_reference,customer_name,customer_email,customer_phone,metadata.note\n"
	drop(t, box, "right.csv", header+
		"R-1,100,A-1,CANARY-account,C-1,CANARY Name,canary@example.com,+27820000001,CANARY note\n"+
		"R-2,1.00,A-2,CANARY-account,C-2,CANARY Name,canary@example.com,+27820000001,CANARY note\n"+
		"R-3,100,A-3,CANARY-account,C-3,CANARY Name,CANARY mail,CANARY phone,CANARY note\n")
	drop(t, box, "shifted.csv", header+
		"CANARY Name,100,A-4,x,C-4,x,,,\n"+
		"canary@example.com,100,A-5,x,C-5,x,,,\n"+
		"S-3,CANARY Name,A-6,x,C-6,x,,,\n"+
		"+27820000001,100,A-7,x,C-7,x,,,\n")
	drop(t, box, "header.csv", "bill_reference,amount_due,CANARY Name,canary@example.com\nX,1,2,3\n")
	await(t, func() bool { return len(summaries(t, box, "right")) == 1 })
	drop(t, box, "again.csv", header+"R-1,200,A-1,CANARY-account,C-1,CANARY Name,canary@example.com,+27820000001,CANARY note\n")
	var files []report.Summary
	await(t, func() bool {
		files = nil
		for _, name := range []string{"right", "shifted", "header", "again"} {
			files = append(files, summaries(t, box, name)...)
		}
		_, metrics := w.get(t, "/metrics")
		return sample(t, metrics, "billdrop_files_total") == 4
	})
	if len(files) != 4 {
		t.Fatalf("%d summaries", len(files))
	}
	paths := []string{"/", "/metrics", "/healthz", "/readyz", "/files/none"}
	for _, s := range files {
		paths = append(paths, "/files/"+s.FileID, "/files/"+s.FileID+"?do=fix", "/files/"+s.FileID+"?do=look")
	}
	shown := map[string]string{"the log": w.said()}
	for _, path := range paths {
		_, shown[path] = w.get(t, path)
	}
	for where, text := range shown {
		for _, secret := range []string{"canary", "27820000001", strings.TrimSpace(string(key))} {
			if strings.Contains(strings.ToLower(text), secret) {
				t.Errorf("%s shows %q:\n%s", where, secret, text)
			}
		}
	}
	// What was looked for is there to be found: the rows themselves are shown.
	for _, says := range []string{"R-2", "amount_not_minor", "S-3", "the bill has 100, this row 200", "see the report"} {
		found := false
		for _, text := range shown {
			found = found || strings.Contains(text, says)
		}
		if !found {
			t.Errorf("no page says %q", says)
		}
	}
}

// TestHealthWithoutInbox: a worker without its SFTP server is not ready, but healthy.
func TestHealthWithoutInbox(t *testing.T) {
	box := startSite(t, emulator.Config{Seed: 1})
	conf, err := os.ReadFile(box.Path("config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(box.Path("often.yaml"), bytes.Replace(conf, []byte("poll_interval: 2s"), []byte("poll_interval: 1s"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	w := startWatched(t, box.Path("often.yaml"))
	await(t, func() bool { code, _ := w.get(t, "/readyz"); return code == 200 })
	if err := box.SFTP.Close(); err != nil {
		t.Fatal(err)
	}
	var says string
	await(t, func() bool { var code int; code, says = w.get(t, "/readyz"); return code == 503 })
	if !strings.HasPrefix(says, "ledger: ok\nfeed bills: ") || strings.Count(says, "\n") != 2 {
		t.Errorf("readyz says %q", says)
	}
	if code, body := w.get(t, "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	if _, page := w.get(t, "/"); !strings.Contains(page, "The latest poll failed.") || !strings.Contains(page, "<title>1 in trouble · billdrop</title>") {
		t.Errorf("the page does not tell:\n%s", page)
	}
}

// TestPageInABrowser: Chromium renders the pages, without a message on its console.
func TestPageInABrowser(t *testing.T) {
	chromium := needs(t, "chromium")
	box := startSite(t, emulator.Config{Seed: 1, Latency: 100 * time.Millisecond})
	conf, err := os.ReadFile(box.Path("config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(box.Path("config.yaml"), append(conf, "    hold: {max_rows: 20000}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	w := startWatched(t, box.Path("config.yaml"))
	drop(t, box, "problems.csv", "bill_reference,amount_due,customer_reference\nP-1,2050,C-1\nP-2,20.50,C-1\n")
	drop(t, box, "too-big.csv", string(numberedBills(20_001)))
	await(t, func() bool {
		_, metrics := w.get(t, "/metrics")
		return sample(t, metrics, "billdrop_files_total") == 1 && sample(t, metrics, "billdrop_files_held") == 1
	})
	drop(t, box, "under-way.csv", string(numberedBills(20_000)))
	await(t, func() bool { _, page := w.get(t, "/"); return strings.Contains(page, "<progress") })

	front := dumpDOM(t, chromium, w.url+"/?refresh=off")
	problems := summaries(t, box, "problems")[0]
	held := regexp.MustCompile(`<code>billdrop approve (\S+)</code>`).FindStringSubmatch(front)
	for _, says := range []string{
		"<h2>bills</h2>", "too-big.csv", "it has 20001 rows, more than hold.max_rows (20000)", "under-way.csv", "of 20,000 rows",
		`<a href="/files/` + problems.FileID + `">problems.csv</a>`, "completed with errors", "ZAR 20.50",
	} {
		if !strings.Contains(front, says) {
			t.Errorf("the front page does not show %q:\n%s", says, front)
		}
	}
	if held == nil {
		t.Fatalf("the front page does not show how to approve:\n%s", front)
	}
	page := dumpDOM(t, chromium, w.url+"/files/"+problems.FileID)
	for _, says := range []string{"To fix, 1 row", "problems-", ".rejects.csv", "<code>P-2</code>", "<code>amount_not_minor</code>"} {
		if !strings.Contains(page, says) {
			t.Errorf("the file's page does not show %q:\n%s", says, page)
		}
	}
	if page := dumpDOM(t, chromium, w.url+"/files/"+held[1]); !strings.Contains(page, "billdrop approve "+held[1]) {
		t.Errorf("the held file's page does not show how to approve:\n%s", page)
	}
}

// dumpDOM is a page as Chromium has loaded it, again if the ledger could not be read in time.
func dumpDOM(t *testing.T, chromium, url string) (dom string) {
	t.Helper()
	await(t, func() bool { dom = loaded(t, chromium, url); return !strings.Contains(dom, unread) })
	return dom
}

func loaded(t *testing.T, chromium, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(), "--enable-logging=stderr", "--window-size=390,844", "--dump-dom", url)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", url, err, &stderr)
	}
	if complaint := regexp.MustCompile(`.*CONSOLE.*`).Find(stderr.Bytes()); complaint != nil {
		t.Errorf("%s: the browser complains: %s", url, complaint)
	}
	return string(dom)
}
