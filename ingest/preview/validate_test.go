package preview_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"billdrop/fixtures"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/preview"
	"billdrop/ingest/report"
)

// update writes the expected reports of the fixtures anew. A person checks the difference
// against the rules of the file format before it is committed.
var update = flag.Bool("update", false, "write the expected reports in fixtures anew")

// TestValidateFixtures: every fixture gets its expected reports, byte by byte, and what
// Validate returns agrees with them.
func TestValidateFixtures(t *testing.T) {
	for _, f := range fixtures.All() {
		t.Run(f.Name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "reports")
			path := drop(t, f.Name, f.Bytes())
			if sum := f.Checksum(); sum != nil {
				if err := os.WriteFile(path+".sha256", sum, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			check := preview.Check{Path: path, Format: fixtureFormat(f.Format), RejectInvalid: f.Format.OnInvalid == "reject", Version: "v0.0.0"}
			unwritten := validate(t, check)
			check.Out = out
			v := validate(t, check)
			unwritten.Stem = v.Stem
			if diff := cmp.Diff(v, unwritten); diff != "" {
				t.Errorf("without reports, something else is found (- with, + without):\n%s", diff)
			}
			for _, ending := range []string{"results.csv", "rejects.csv", "summary.json"} {
				got, err := os.ReadFile(filepath.Join(out, v.Stem+"."+ending))
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
				expect(t, f, ending, got)
			}
			agreesWithReports(t, f, v)
		})
	}
}

// expect compares a report, nil where none was written, with the expected one; with -update it
// writes that one.
func expect(t *testing.T, f fixtures.Fixture, ending string, got []byte) {
	t.Helper()
	if diff := cmp.Diff(string(f.Report(ending)), string(got)); !*update && diff != "" {
		t.Errorf("%s (- want, + got):\n%s", ending, diff)
	}
	if !*update {
		return
	}
	path := filepath.Join("..", "..", "fixtures", filepath.FromSlash(f.ReportPath(ending)))
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if len(got) > 0 {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// agreesWithReports checks what Validate returns against the expected reports.
func agreesWithReports(t *testing.T, f fixtures.Fixture, v preview.Validation) {
	t.Helper()
	s, err := report.Parse(f.Report("summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	invalid := s.Rows.By[ledger.Invalid]
	if v.Code != f.Code || v.Rows.Total != s.Rows.Total || v.Rows.Invalid != invalid {
		t.Errorf("found %q, %+v, want %q, %d rows, %d invalid", v.Code, v.Rows, f.Code, s.Rows.Total, invalid)
	}
	outcome := preview.OutcomeValid
	if f.Code != "" {
		outcome = preview.OutcomeRejected
	} else if invalid > 0 {
		outcome = preview.OutcomeInvalid
	}
	if v.Outcome != outcome {
		t.Errorf("outcome %s, want %s", v.Outcome, outcome)
	}

	rows, err := csv.NewReader(bytes.NewReader(f.Report("results.csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	// The first problem of a row is the report's code, and its detail names the codes of the
	// others.
	var want, got []string
	for _, row := range rows {
		if row[2] != string(ledger.Invalid) {
			continue
		}
		want = append(want, row[0]+" "+row[3])
		for _, code := range furtherCode.FindAllStringSubmatch(row[4], -1) {
			want = append(want, row[0]+" "+code[1])
		}
	}
	for _, p := range v.Problems {
		got = append(got, fmt.Sprint(p.Line, " ", p.Code))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems by line (- as reported, + returned):\n%s", diff)
	}
}

var furtherCode = regexp.MustCompile("; ([a-z_]+): ")

const goodBills = "bill_reference,amount_due,customer_reference,customer_name\nA-1,100,C-1,Naledi\nA-2,250,C-1,Naledi\n"
const badBills = "bill_reference,amount_due,customer_reference,customer_name\nA-1,1.00,C-1,Naledi\nA-2,250,C-1,Naledi\n,x,C-1,Naledi\n"

var minorZAR = billfile.Format{Amounts: billfile.Minor, Currency: "ZAR"}

func TestValidateWritesNothing(t *testing.T) {
	for _, content := range []string{goodBills, badBills, ""} {
		path := drop(t, "bills.csv", []byte(content))
		v := validate(t, preview.Check{Path: path, Format: minorZAR})
		if v.Stem != "" {
			t.Errorf("reports were written: %s", v.Stem)
		}
		names, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(names) != 1 {
			t.Errorf("beside the file: %v, %v", names, err)
		}
	}
}

func TestValidateStandardInput(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	sum := sha256.Sum256([]byte(badBills))
	v := validate(t, preview.Check{In: strings.NewReader(badBills), Format: minorZAR})
	if v.File != "stdin" || v.SHA256 != hex.EncodeToString(sum[:]) || v.Rows.Invalid != 2 {
		t.Errorf("found %+v", v)
	}
	small := minorZAR
	small.MaxFileSize = 20
	v = validate(t, preview.Check{In: endless{}, Format: small})
	if v.Code != billfile.CodeFileTooLarge || v.SHA256 != "" {
		t.Errorf("an endless input: code %q, hash %q", v.Code, v.SHA256)
	}
	if names, err := os.ReadDir(temp); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "bill_reference,amount_due\n"), nil }

func TestValidateListsAtMost(t *testing.T) {
	path := drop(t, "bills.csv", []byte(badBills))
	for most, listed := range map[int]int{0: 3, 1: 1, 2: 2, 100: 3} {
		v := validate(t, preview.Check{Path: path, Format: minorZAR, MaxProblems: most})
		if len(v.Problems) != listed || v.ProblemsTotal != 3 {
			t.Errorf("at most %d: %d listed of %d", most, len(v.Problems), v.ProblemsTotal)
		}
		if v.ByCode[billfile.CodeAmountNotMinor] != 1 || v.ByCode[billfile.CodeMissingField] != 1 {
			t.Errorf("by code: %v", v.ByCode)
		}
		if len(v.First[billfile.CodeAmountNotMinor]) != 1 || len(v.First[billfile.CodeMissingField]) != 1 {
			t.Errorf("at most %d: the first of each code: %v", most, v.First)
		}
	}
}

func TestValidateRejectInvalid(t *testing.T) {
	path := drop(t, "bills.csv", []byte(badBills))
	out := t.TempDir()
	v := validate(t, preview.Check{Path: path, Format: minorZAR, RejectInvalid: true, Out: out})
	if v.Outcome != preview.OutcomeRejected || v.Code != "invalid_rows" || v.Rows.Valid != 1 || len(v.Problems) != 3 {
		t.Errorf("found %+v", v)
	}
	rejects, err := os.ReadFile(filepath.Join(out, report.NamesOf(v.Stem).Rejects))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(rejects, []byte("\n")); n != 4 {
		t.Errorf("the rejects have %d lines, want the header and all 3 rows:\n%s", n, rejects)
	}
	if v := validate(t, preview.Check{Path: drop(t, "good.csv", []byte(goodBills)), Format: minorZAR, RejectInvalid: true}); v.Outcome != preview.OutcomeValid {
		t.Errorf("a clean file: %+v", v)
	}
}

// TestValidateKeepsReportsOfRuns: a report of a file that was sent is never overwritten;
// one of a validation is.
func TestValidateKeepsReportsOfRuns(t *testing.T) {
	path := drop(t, "bills.csv", []byte(badBills))
	out := t.TempDir()
	check := preview.Check{Path: path, Format: minorZAR, Out: out}
	first := validate(t, check)
	if again := validate(t, check); again.Stem != first.Stem {
		t.Errorf("a second validation wrote %s beside %s", again.Stem, first.Stem)
	}
	ack := filepath.Join(out, report.NamesOf(first.Stem).Ack)
	if err := os.WriteFile(ack, report.Ack{FileID: "x"}.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if v := validate(t, check); v.Stem != first.Stem+"-2" {
		t.Errorf("beside a run's reports it wrote %s", v.Stem)
	}
	sent := report.Summary{FileID: "y"}
	if err := os.WriteFile(filepath.Join(out, report.NamesOf(first.Stem+"-2").Summary), sent.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if v := validate(t, check); v.Stem != first.Stem+"-3" {
		t.Errorf("beside two runs' reports it wrote %s", v.Stem)
	}
	// A rejects file of an earlier validation goes when nothing needs attention any more:
	// the name is of the content, so only another format can bring that about.
	major := minorZAR
	major.Amounts = billfile.Major
	content := "bill_reference,amount_due,customer_reference\nA-1,1.00,C-1\n"
	check = preview.Check{Path: drop(t, "one.csv", []byte(content)), Format: minorZAR, Out: t.TempDir()}
	v := validate(t, check)
	rejects := filepath.Join(check.Out, report.NamesOf(v.Stem).Rejects)
	if _, err := os.Stat(rejects); err != nil {
		t.Fatal(err)
	}
	check.Format = major
	validate(t, check)
	if _, err := os.Stat(rejects); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the rejects of the earlier validation are still there: %v", err)
	}
}

func TestValidateChecksum(t *testing.T) {
	path := drop(t, "bills.csv", []byte(goodBills))
	sum := sha256.Sum256([]byte(goodBills))
	for sidecar, code := range map[string]string{hex.EncodeToString(sum[:]) + "  bills.csv\n": "", strings.Repeat("0", 64): "checksum_mismatch"} {
		if err := os.WriteFile(path+".sha256", []byte(sidecar), 0o600); err != nil {
			t.Fatal(err)
		}
		if v := validate(t, preview.Check{Path: path, Format: minorZAR}); v.Code != code {
			t.Errorf("sidecar %q: code %q, want %q", sidecar, v.Code, code)
		}
	}
}

func TestValidateCannotRead(t *testing.T) {
	if _, err := preview.Validate(t.Context(), preview.Check{Path: filepath.Join(t.TempDir(), "gone.csv"), Format: minorZAR}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	broken := errors.New("broken pipe")
	if _, err := preview.Validate(t.Context(), preview.Check{In: io.MultiReader(strings.NewReader(goodBills), failing{broken}), Format: minorZAR}); !errors.Is(err, broken) {
		t.Errorf("standard input that breaks: %v", err)
	}
	path := drop(t, "bills.csv", []byte(badBills))
	if _, err := preview.Validate(t.Context(), preview.Check{Path: path, Format: minorZAR, Out: path}); err == nil {
		t.Error("reports went into a directory that is a file")
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if _, err := preview.Validate(stopped, preview.Check{Path: path, Format: minorZAR}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestValidationJSON pins the keys that the documentation promises.
func TestValidationJSON(t *testing.T) {
	b, err := json.Marshal(validate(t, preview.Check{Path: drop(t, "bills.csv", []byte(badBills)), Format: minorZAR}))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"file", "sha256", "outcome", "code", "lines", "rows", "amounts", "problems_total", "problems"} {
		if _, ok := got[key]; !ok {
			t.Errorf("no key %q in %s", key, b)
		}
	}
	for key, want := range map[string]string{
		"outcome": `"invalid"`, "rows": `{"total":3,"valid":1,"invalid":2}`, "amounts": `{"ZAR":250}`,
		"lines": `{"total":4,"header":1,"blank":0,"data":3}`, "problems_total": `3`,
	} {
		if string(got[key]) != want {
			t.Errorf("%s is %s, want %s", key, got[key], want)
		}
	}
	if bytes.Contains(b, []byte("Naledi")) {
		t.Errorf("a name is in it: %s", b)
	}
}

// drop writes a bill file into a directory of its own.
func drop(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func validate(t *testing.T, c preview.Check) preview.Validation {
	t.Helper()
	v, err := preview.Validate(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// fixtureFormat is the format of a fixture's feed.
func fixtureFormat(f fixtures.Format) billfile.Format {
	return billfile.Format{
		Preset: f.Preset, BillReference: f.BillReference,
		Amounts:  map[string]billfile.Amounts{"minor": billfile.Minor, "major": billfile.Major}[f.Amounts],
		Currency: f.Currency, Currencies: f.Currencies, Encoding: f.Encoding, DateFormat: f.DateFormat, PhoneRegion: f.PhoneRegion,
		Columns: f.Columns, IgnoreColumns: f.IgnoreColumns, MaxFileSize: f.MaxFileSize,
		MaxRows: f.MaxRows, DecimalComma: f.DecimalSeparator == ",", ShortRows: f.ShortRows == "blank", AllowTotalRow: f.TotalRow == "allow",
	}
}
