package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/config"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
)

// readJSON runs the real program with --output json, and reads the one document that it prints into doc.
func readJSON(t *testing.T, code int, doc any, args ...string) {
	t.Helper()
	cmd := billdrop(t, append(args, "--output", "json")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code {
		t.Fatalf("%v exited with %d, want %d: %s", args, got, code, &stderr)
	}
	d := json.NewDecoder(bytes.NewReader(out))
	if err := d.Decode(doc); err != nil {
		t.Fatalf("%v printed what is no JSON document: %v\n%s", args, err, out)
	}
	if d.More() {
		t.Errorf("%v printed more than one document:\n%s", args, out)
	}
}

// TestReadSideJSON holds the documents of plan, status, why and check to the names that their users were promised.
func TestReadSideJSON(t *testing.T) {
	box := startSite(t, emulator.Config{Seed: 1})
	conf := box.path("config.yaml")
	drop := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(box.path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const header = "bill_reference,amount_due,customer_reference,customer_name\n"
	drop("inbox/first.csv", header+"A-1,1000,C-1,Naledi\nA-2,2000,C-2,Thabo\n")
	if out, err := billdrop(t, "run", "--once", "--config", conf).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	drop("next.csv", header+"A-1,1500,C-1,Naledi\nA-2,2000,C-2,Thabo\nA-3,300,C-3,Zed\nA-4,4.00,C-3,Zed\n")

	var plan struct {
		Files []struct {
			File, SHA256, Outcome, Code string
			Rows                        map[string]int
			New                         map[string]int
			Amounts                     map[string]int64
			ProblemsTotal               int `json:"problems_total"`
			Problems                    []struct {
				Line, Row            int
				Column, Code, Detail string
				BillReference        string `json:"bill_reference"`
			}
			Conflicts []struct {
				Line          int
				BillReference string `json:"bill_reference"`
				Fields        map[string][]int64
			}
		}
	}
	readJSON(t, 1, &plan, "plan", box.path("next.csv"), "--config", conf)
	p := plan.Files[0]
	want := map[string]int{"total": 4, "create": 1, "existing": 1, "conflict": 1, "invalid": 1, "rejected": 0, "unknown": 0, "not_sent": 0}
	if diff := cmp.Diff(want, p.Rows); diff != "" {
		t.Errorf("rows of the plan (- want, + got):\n%s", diff)
	}
	if p.File != "next.csv" || len(p.SHA256) != 64 || p.Outcome != "invalid" || p.New["customers"] != 1 || p.New["accounts"] != 0 || p.Amounts["ZAR"] != 3800 {
		t.Errorf("the plan: %+v", p)
	}
	if p.ProblemsTotal != 1 || p.Problems[0].Line != 5 || p.Problems[0].Row != 4 || p.Problems[0].Code != "amount_not_minor" || p.Problems[0].BillReference != "A-4" {
		t.Errorf("its problems: %+v", p.Problems)
	}
	if c := p.Conflicts; len(c) != 1 || c[0].Line != 2 || c[0].BillReference != "A-1" || !slices.Equal(c[0].Fields["amount_due"], []int64{1000, 1500}) {
		t.Errorf("its conflicts: %+v", c)
	}

	type statusDocument struct {
		Files []struct {
			FileID                             string `json:"file_id"`
			File, SHA256, Feed, State, Outcome string
			Rows                               map[string]int
			Amounts                            map[string]map[string]int64
			ReceivedAt                         time.Time `json:"received_at"`
			FinishedAt                         time.Time `json:"finished_at"`
			Attention                          *attention
		}
	}
	var list statusDocument
	readJSON(t, 0, &list, "status", "--config", conf)
	f := list.Files[0]
	if len(list.Files) != 1 || f.File != "first.csv" || f.Feed != "bills" || f.State != "done" || f.Outcome != "completed" || len(f.SHA256) != 64 ||
		f.Rows["total"] != 2 || f.Rows["created"] != 2 || f.Amounts["ZAR"]["created"] != 3000 || f.ReceivedAt.IsZero() || f.FinishedAt.Before(f.ReceivedAt) || f.Attention != nil {
		t.Errorf("status: %+v", list.Files)
	}
	var one statusDocument
	readJSON(t, 0, &one, "status", f.FileID, "--config", conf)
	if a := one.Files[0].Attention; len(one.Files) != 1 || one.Files[0].FileID != f.FileID || a == nil || a.Total != 0 || len(a.Groups) != 0 {
		t.Errorf("status of one file: %+v", one.Files)
	}

	var why struct {
		BillReference string `json:"bill_reference"`
		Status        string
		BillID        string `json:"bill_id"`
		Sightings     []struct {
			FileID string `json:"file_id"`
			File   string
			Line   int
			Status string
		}
		Attempts []struct {
			At             time.Time
			IdempotencyKey string `json:"idempotency_key"`
			Generation     int
			Answer         string
		}
	}
	readJSON(t, 0, &why, "why", "A-2", "--config", conf)
	if why.BillReference != "A-2" || why.Status != "created" || why.BillID == "" || len(why.Sightings) != 1 || len(why.Attempts) != 1 {
		t.Fatalf("why: %+v", why)
	}
	if s := why.Sightings[0]; s.FileID != f.FileID || s.File != "first.csv" || s.Line != 3 || s.Status != "created" {
		t.Errorf("sighting: %+v", s)
	}
	if a := why.Attempts[0]; a.At.IsZero() || len(a.IdempotencyKey) != 36 || a.Generation != 1 || a.Answer != "201" {
		t.Errorf("attempt: %+v", a)
	}

	var check struct {
		OK     bool
		Checks []checked
	}
	readJSON(t, 0, &check, "check", "--config", conf)
	if !check.OK || len(check.Checks) != 14 {
		t.Errorf("check: %+v", check)
	}
	for _, c := range check.Checks {
		if c.Status != checkOK || c.Check == "" || c.Detail == "" {
			t.Errorf("check: %+v", c)
		}
	}
	if err := os.Remove(box.path("rejected")); err != nil {
		t.Fatal(err)
	}
	check.Checks = nil
	readJSON(t, 3, &check, "check", "--config", conf)
	if failed := slices.DeleteFunc(check.Checks, func(c checked) bool { return c.Status != checkFailed }); check.OK || len(failed) != 1 || failed[0].Check != "bills: rejected" {
		t.Errorf("check without a directory: %+v", check)
	}
}

// TestScopes: as the feeds are set up now first, and each once.
func TestScopes(t *testing.T) {
	feed := func(merchant string, live bool) config.Feed {
		return config.Feed{Merchant: merchant, API: config.API{Live: live}}
	}
	got := scopesOf(&config.Config{Feeds: []config.Feed{feed("acme", true), feed("acme", true), feed("loans", false), feed("acme", false)}})
	want := []ledger.Scope{{Merchant: "acme", Mode: "live"}, {Merchant: "loans", Mode: "test"}, {Merchant: "acme", Mode: "test"}, {Merchant: "loans", Mode: "live"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(- want, + got)\n%s", diff)
	}
}

// TestFateOf: what a bill came to is not what the last row that named it came to.
func TestFateOf(t *testing.T) {
	for _, c := range []struct {
		rows []ledger.Status
		want ledger.Status
	}{
		{nil, ledger.Unknown},
		{[]ledger.Status{ledger.Created}, ledger.Created},
		{[]ledger.Status{ledger.Created, ledger.Existing, ledger.Conflict}, ledger.Created},
		{[]ledger.Status{ledger.Failed, ledger.Created, ledger.Invalid}, ledger.Created},
		{[]ledger.Status{ledger.Invalid, ledger.Rejected}, ledger.Rejected},
		{[]ledger.Status{ledger.Unknown, ledger.Existing}, ledger.Existing},
	} {
		h := &ledger.History{}
		for _, s := range c.rows {
			h.Sightings = append(h.Sightings, ledger.Sighting{Status: s})
		}
		if got := fateOf(h); got != c.want {
			t.Errorf("rows %v: %s, want %s", c.rows, got, c.want)
		}
	}
}

// TestStory: a bill that was sent for and may be there is told as such, and so is one in two scopes.
func TestStory(t *testing.T) {
	l := ledgertest.NewMemory()
	test, live := ledger.Scope{Merchant: "acme", Mode: "test"}, ledger.Scope{Merchant: "acme", Mode: "live"}
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f", Name: "a.csv", Scope: live}); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 6, 30, 0, 0, time.UTC)
	b := &ledger.Bill{Reference: "A", Send: ledger.Send{File: "f", Row: 1, Generation: 1, Key: "key", At: at, Count: 1}}
	if err := l.Begin(t.Context(), live, b); err != nil {
		t.Fatal(err)
	}
	gone := &ledger.Bill{Reference: "A", State: ledger.Gone}
	if err := l.Record(t.Context(), ledger.Entry{Scope: test, Bill: gone}); err != nil {
		t.Fatal(err)
	}
	stories, err := tellStories(t.Context(), l, []ledger.Scope{live, test, {Merchant: "other", Mode: "test"}}, "A")
	if err != nil || len(stories) != 2 {
		t.Fatalf("%d stories, %v", len(stories), err)
	}
	want := []billAttempt{{At: report.At(at), IdempotencyKey: "key", Generation: 1, FileID: "f"}}
	if s := stories[0]; s.Mode != "live" || s.Status != "unknown" || s.BillID != "" || s.Bill != nil || !slices.Equal(s.Attempts, want) || len(s.Sightings) != 0 {
		t.Errorf("story %+v", s)
	}
	var text strings.Builder
	for _, s := range stories {
		s.show(&text)
	}
	for _, says := range []string{"whether the API holds it is not known yet", "none recorded", "there is no such bill"} {
		if !strings.Contains(text.String(), says) {
			t.Errorf("the stories do not say %q:\n%s", says, &text)
		}
	}
}

// TestAttention: each group gets its first rows, however far down the file they are, and reading ends with the last needed.
func TestAttention(t *testing.T) {
	l := ledgertest.NewMemory()
	f := &ledger.File{ID: "f", Name: "a.csv", Results: "/results/", Stem: "a-01234567", Rows: 5000, State: ledger.Done}
	if err := l.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	for row := 1; row <= f.Rows; row++ {
		status := ledger.Invalid
		switch {
		case row%10 == 0:
			status = ledger.Created
		case row == 4001:
			status = ledger.Conflict
		case row == 4002, row == 4003:
			status = ledger.Unknown
		case row == 4999:
			status = ledger.Failed
		}
		o := ledger.Outcome{Row: row, Line: row + 1, Status: status, Reference: fmt.Sprint("R-", row)}
		if err := l.Record(t.Context(), ledger.Entry{File: "f", Outcome: &o}); err != nil {
			t.Fatal(err)
		}
	}
	_, s, err := readStatus(t.Context(), l, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		most  int
		want  map[string][]int // first and last row shown
		pages int
	}{
		{2, map[string][]int{"fix": {1, 2}, "retry": {4002, 4003}, "look": {4001, 4001}}, 4},
		{1000, map[string][]int{"fix": {1, 1111}, "retry": {4002, 4999}, "look": {4001, 4001}}, 5},
		{0, map[string][]int{"fix": {1, 4998}, "retry": {4002, 4999}, "look": {4001, 4001}}, 5},
	} {
		counted := &pageCounter{Ledger: l}
		a := groups(f, s)
		if err := a.read(t.Context(), counted, "f", c.most); err != nil {
			t.Fatal(err)
		}
		if a.Total != 4500 {
			t.Errorf("%d rows need attention, want 4500", a.Total)
		}
		got := map[string][]int{}
		for _, g := range a.Groups {
			got[g.Do] = []int{g.Rows[0].Row, g.Rows[len(g.Rows)-1].Row}
			if want := atMost(g.Count, c.most); len(g.Rows) != want {
				t.Errorf("at most %d: %d rows to %s, want %d", c.most, len(g.Rows), g.Do, want)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("at most %d (- want, + got):\n%s", c.most, diff)
		}
		if counted.pages != c.pages {
			t.Errorf("at most %d: %d pages were read, want %d", c.most, counted.pages, c.pages)
		}
	}
}

type pageCounter struct {
	ledger.Ledger
	pages int
}

func (p *pageCounter) Attention(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	p.pages++
	return p.Ledger.Attention(ctx, file, from, limit)
}

// TestStatusOfFilesUnderWay: what is under way is counted as far as it has come.
func TestStatusOfFilesUnderWay(t *testing.T) {
	l := ledgertest.NewMemory()
	for _, f := range []*ledger.File{
		{ID: "sending", State: ledger.Sending, Rows: 1200},
		{ID: "claimed", State: ledger.Claimed},
		{ID: "held", State: ledger.Held, Rows: 7, Outcome: ledger.FileHeld, Code: "over_limit"},
	} {
		if err := l.AddFile(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Record(t.Context(), ledger.Entry{File: "sending", Outcome: &ledger.Outcome{Row: 1, Status: ledger.Created, Currency: "ZAR", Amount: 5}}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]struct {
		words       string
		total, open int
		attention   bool
	}{
		"sending": {"sending, 1 of 1,200 rows", 1200, 1199, false},
		"claimed": {"claimed", 0, 0, false},
		"held":    {"held (over_limit)", 7, 7, true},
	} {
		f, err := l.File(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := readStatus(t.Context(), l, f)
		if err != nil {
			t.Fatal(err)
		}
		if s.stateWords() != want.words || s.Rows.Total != want.total || s.RowsOpen != want.open || s.needsAttention() != want.attention {
			t.Errorf("%s: %s, %d rows, %d open, attention %v", id, s.stateWords(), s.Rows.Total, s.RowsOpen, s.needsAttention())
		}
	}
}
