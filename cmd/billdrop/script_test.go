package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/ingest/ledger/sqlite"
)

// TestScripts runs the real binary from the outside. The commands that the scripts have over
// testscript's own:
//
//	code N PROGRAM ARG…   runs a program, which must exit with N
//	site DIR [LATENCY]    starts an SFTP server and a Billing API in this process, with all that is needed to use them in
//	                      DIR (see `billdrop sandbox`); $API is the API's address
//	requests N            the API has answered N requests so far
//	bills N               the API holds N bills
//	api STATUS METHOD PATH [BODY]  sends the API a request, which it must answer so; the answer becomes the standard output
//	lock FILE             holds a ledger, as another billdrop would
//	unlock                lets go of it
//	awaitfile FILE TEXT   waits until a file has a line that matches
//	numbers N FILE        writes a bill file of N rows with a party each
//	listening LOG         waits until a run's log names its status page; $PAGE is the page's address, $PORT its port
//	get STATUS URL        asks for a page, which must answer so; its body becomes the standard output
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[siteKey] = new(*sandbox.Sandbox)
			env.Values[lockKey] = new(*sqlite.Ledger)
			env.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": scriptCode, "site": scriptSite, "requests": scriptRequests, "bills": scriptBills, "api": scriptAPI, "lock": scriptLock, "unlock": scriptUnlock, "numbers": scriptNumbers,
			"listening": scriptListening, "get": scriptGet, "awaitfile": scriptAwaitFile,
		},
	})
}

const (
	siteKey = "site"
	lockKey = "lock"
)

func scriptSiteOf(ts *testscript.TestScript) *sandbox.Sandbox {
	box := *ts.Value(siteKey).(**sandbox.Sandbox)
	if box == nil {
		ts.Fatalf("no site was started")
	}
	return box
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N PROGRAM ARG…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s exited with %d, want %s", args[1], got, args[0])
	}
}

func scriptSite(ts *testscript.TestScript, neg bool, args []string) {
	var latency time.Duration
	if len(args) == 2 {
		var err error
		latency, err = time.ParseDuration(args[1])
		ts.Check(err)
	}
	box, err := sandbox.Open(context.Background(), sandbox.Options{
		Dir: ts.MkAbs(args[0]), SFTPAddr: "127.0.0.1:0", APIAddr: "127.0.0.1:0", API: emulator.Config{Latency: latency, Seed: 1},
	})
	ts.Check(err)
	ts.Defer(func() { ts.Check(box.Close()) })
	ts.Setenv("API", box.APIURL)
	*ts.Value(siteKey).(**sandbox.Sandbox) = box
}

func scriptRequests(ts *testscript.TestScript, neg bool, args []string) {
	if got := strconv.FormatInt(scriptSiteOf(ts).Requests(), 10); (got == args[0]) == neg {
		ts.Fatalf("the API has answered %s requests, want %s", got, args[0])
	}
}

func scriptBills(ts *testscript.TestScript, neg bool, args []string) {
	state, err := apiState(scriptSiteOf(ts).APIURL)
	ts.Check(err)
	if got := strconv.Itoa(len(state.Bills)); (got == args[0]) == neg {
		ts.Fatalf("the API holds %s bills, want %s", got, args[0])
	}
}

// scriptAPI sends the API a request of its own. Each POST has an idempotency key of its own.
func scriptAPI(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: api STATUS METHOD PATH [BODY]")
	}
	body := ""
	if len(args) == 4 {
		body = args[3]
	}
	req, err := http.NewRequestWithContext(context.Background(), args[1], scriptSiteOf(ts).APIURL+args[2], strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Authorization", "Bearer sk_test_script")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", strconv.FormatInt(time.Now().UnixNano(), 10))
	answer, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer answer.Body.Close()
	_, err = io.Copy(ts.Stdout(), answer.Body)
	ts.Check(err)
	if got := strconv.Itoa(answer.StatusCode); got != args[0] {
		ts.Fatalf("%s %s is answered %s, want %s", args[1], args[2], got, args[0])
	}
}

func scriptLock(ts *testscript.TestScript, neg bool, args []string) {
	l, err := sqlite.Open(context.Background(), ts.MkAbs(args[0]))
	ts.Check(err)
	*ts.Value(lockKey).(**sqlite.Ledger) = l
	ts.Defer(func() { ts.Check(l.Close()) }) // closing twice is fine
}

func scriptUnlock(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check((*ts.Value(lockKey).(**sqlite.Ledger)).Close())
}

func scriptAwaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: awaitfile FILE TEXT")
	}
	text := regexp.MustCompile(args[1])
	for deadline := time.Now().Add(time.Minute); ; {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && text.Match(b) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s has no line %s: %v\n%s", args[0], text, err, b)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func scriptNumbers(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), numberedBills(n), 0o600))
}

// scriptListening waits until a log names the status page, and sets $PAGE and $PORT.
func scriptListening(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listening LOG")
	}
	for deadline := time.Now().Add(time.Minute); ; {
		log, err := os.ReadFile(ts.MkAbs(args[0]))
		if url := pageURL(string(log)); err == nil && url != "" {
			ts.Setenv("PAGE", url)
			ts.Setenv("PORT", url[strings.LastIndex(url, ":")+1:])
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the log names no page: %s", log)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// scriptGet requests a page, which must answer with that status. The body becomes
// standard output.
func scriptGet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: get STATUS URL")
	}
	answer, err := http.Get(args[1])
	ts.Check(err)
	defer answer.Body.Close()
	_, err = io.Copy(ts.Stdout(), answer.Body)
	ts.Check(err)
	if got := strconv.Itoa(answer.StatusCode); got != args[0] {
		ts.Fatalf("%s answers %s, want %s", args[1], got, args[0])
	}
}
