package main

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/diagnose"
)

// TestReadSideJSON: the documents of plan, status, why and check have the promised keys.
func TestReadSideJSON(t *testing.T) {
	box := startSite(t, emulator.Config{Seed: 1})
	conf := box.Path("config.yaml")
	drop := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(box.Path(name), []byte(content), 0o600); err != nil {
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
	readJSON(t, 1, &plan, "plan", box.Path("next.csv"), "--config", conf)
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
			Attention                          *describe.ToDo
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
		Checks []diagnose.Line
	}
	readJSON(t, 0, &check, "check", "--config", conf)
	if !check.OK || len(check.Checks) != 14 {
		t.Errorf("check: %+v", check)
	}
	for _, c := range check.Checks {
		if c.Status != diagnose.OK || c.Check == "" || c.Detail == "" {
			t.Errorf("check: %+v", c)
		}
	}
	if err := os.Remove(box.Path("rejected")); err != nil {
		t.Fatal(err)
	}
	check.Checks = nil
	readJSON(t, 3, &check, "check", "--config", conf)
	if failed := slices.DeleteFunc(check.Checks, func(c diagnose.Line) bool { return c.Status != diagnose.Failed }); check.OK || len(failed) != 1 || failed[0].Check != "bills: rejected" {
		t.Errorf("check without a directory: %+v", check)
	}
}
