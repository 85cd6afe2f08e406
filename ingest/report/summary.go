package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// Summary is the result of one file on one page. Its JSON is pinned; keys may be added at any
// time.
type Summary struct {
	File    string `json:"file"`
	SHA256  string `json:"sha256"`
	FileID  string `json:"file_id"` // "" in an offline validation
	RunID   string `json:"run_id"`  // "" in an offline validation
	Feed    string `json:"feed"`
	Stem    string `json:"stem"` // of the names of this file's reports; "" if it has none
	Mode    string `json:"mode"` // test or live; "" in an offline validation
	Outcome string `json:"outcome"`
	Code    string `json:"code"`   // file-level; "" if the file as a whole is fine
	Detail  string `json:"detail"` // of Code: what is wrong and what to do
	Line    int    `json:"line"`   // physical line of Code; 0 = the file as a whole

	Lines    ledger.Lines `json:"lines"`
	Rows     Rows         `json:"rows"`
	Amounts  Amounts      `json:"amounts"`
	Requests Requests     `json:"requests"`
	Parties  Parties      `json:"parties"`
	// Warnings are what is not wrong with the file, but worth a look: one of each kind.
	Warnings []billfile.Warning `json:"warnings"`

	StartedAt  Timestamp `json:"started_at"`
	FinishedAt Timestamp `json:"finished_at"` // null while a file is held
	Version    string    `json:"version"`
}

// Requests counts the requests to the API for one file, over all runs: those for its bills, and
// those for the payment requests of its bills.
type Requests struct {
	Posts     int `json:"posts"`
	Gets      int `json:"gets"`
	Retries   int `json:"retries"`   // posts after the first of a row's bill, or of its payment request
	Throttled int `json:"throttled"` // answers 429
}

// Parties counts the customers and accounts that were created with the bills of one file.
type Parties struct {
	Customers int `json:"customers"`
	Accounts  int `json:"accounts"`
}

// Amounts are sums in minor units by currency and status. A currency has the statuses of its
// rows. A sum may be 0, because an amount that could not be read counts 0.
type Amounts map[string]map[ledger.Status]int64

// Rows counts records by status. Total is always the sum of the others.
type Rows struct {
	Total int
	By    map[ledger.Status]int
}

// MarshalJSON writes total and all statuses, in the order of the reports. Valid, which only
// offline validations have, comes before them.
func (r Rows) MarshalJSON() ([]byte, error) {
	b := append([]byte(`{"total":`), strconv.Itoa(r.Total)...)
	if n, ok := r.By[Valid]; ok {
		b = strconv.AppendInt(append(b, `,"valid":`...), int64(n), 10)
	}
	for _, s := range ledger.Statuses {
		b = append(append(append(b, `,"`...), s...), `":`...)
		b = strconv.AppendInt(b, int64(r.By[s]), 10)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads the output of MarshalJSON.
func (r *Rows) UnmarshalJSON(b []byte) error {
	by := map[ledger.Status]int{}
	if err := json.Unmarshal(b, &by); err != nil {
		return fmt.Errorf("read row counts: %w", err)
	}
	const total = ledger.Status("total")
	r.Total = by[total]
	delete(by, total)
	r.By = by
	return nil
}

// Attention returns the number of rows that need attention.
func (r Rows) Attention() int {
	n := 0
	for s, count := range r.By {
		if needsAttention(s) {
			n += count
		}
	}
	return n
}

// Attention reports whether the file needs attention, as a whole or for some row.
func (s Summary) Attention() bool {
	return s.Outcome != ledger.Completed || s.Code != "" || s.Rows.Attention() > 0
}

// Summarize returns the summary of f, whose outcomes sum up to t. If the rows of f are in a
// report, Balance has checked t. The summary has no warnings yet: they come from the survey.
// If f was refused unread, t is zero. If f is held, t comes from Unsent.
func Summarize(f *ledger.File, t ledger.Totals) Summary {
	return Summary{
		File:    f.Name,
		SHA256:  f.SHA256,
		FileID:  f.ID,
		RunID:   f.RunID,
		Feed:    f.Feed,
		Stem:    f.Stem,
		Mode:    f.Scope.Mode,
		Outcome: f.Outcome,
		Code:    f.Code,
		Detail:  f.Detail,
		Line:    f.Line,
		Lines:   f.Lines,
		Rows:    rowsOf(t.Rows),
		Amounts: amountsOf(t.Amounts),
		Requests: Requests{
			Posts:     t.Attempts + f.LinkPosts,
			Gets:      f.Gets,
			Retries:   t.Resends + f.LinkRetries,
			Throttled: f.Throttled,
		},
		Parties:    Parties{Customers: t.Customers, Accounts: t.Accounts},
		Warnings:   []billfile.Warning{},
		StartedAt:  At(f.Started),
		FinishedAt: At(f.Finished),
		Version:    f.Version,
	}
}

// OutcomeOf returns the outcome of a finished file with these row counts:
// completed_with_errors if some row needs attention, otherwise completed.
func OutcomeOf(rows map[ledger.Status]int) string {
	if rowsOf(rows).Attention() > 0 {
		return ledger.CompletedWithErrors
	}
	return ledger.Completed
}

// Unsent returns the totals for the summary of a held file, of which nothing was sent: its
// valid rows are not_sent, the others invalid. amounts and invalidAmounts are the sums of both, by
// currency.
func Unsent(rows, invalid int, amounts, invalidAmounts map[string]int64) ledger.Totals {
	t := ledger.Totals{Rows: map[ledger.Status]int{}, Amounts: map[string]map[ledger.Status]int64{}}
	if rows > invalid {
		t.Rows[ledger.NotSent] = rows - invalid
	}
	if invalid > 0 {
		t.Rows[ledger.Invalid] = invalid
	}
	for currency, sum := range amounts {
		t.Amounts[currency] = map[ledger.Status]int64{ledger.NotSent: sum}
	}
	for currency, sum := range invalidAmounts {
		if t.Amounts[currency] == nil {
			t.Amounts[currency] = map[ledger.Status]int64{}
		}
		t.Amounts[currency][ledger.Invalid] = sum
	}
	return t
}

// Parse reads a published summary. It passes over unknown keys, because a newer billdrop may
// have written it.
func Parse(b []byte) (Summary, error) {
	var s Summary
	if err := json.Unmarshal(b, &s); err != nil {
		return Summary{}, fmt.Errorf("parse summary: %w", err)
	}
	return s, nil
}

// Bytes returns the summary as it is published: indented JSON with a final line end.
func (s Summary) Bytes() []byte {
	if s.Amounts == nil {
		s.Amounts = Amounts{} // {} rather than null
	}
	if s.Warnings == nil {
		s.Warnings = []billfile.Warning{}
	}
	return encode(s)
}

func rowsOf(by map[ledger.Status]int) Rows {
	r := Rows{By: maps.Clone(by)}
	if r.By == nil {
		r.By = map[ledger.Status]int{}
	}
	for _, n := range by {
		r.Total += n
	}
	return r
}

// amountsOf leaves out amounts without a currency: they are numbers, not money.
func amountsOf(by map[string]map[ledger.Status]int64) Amounts {
	a := Amounts{}
	for currency, sums := range by {
		if currency != "" {
			a[currency] = maps.Clone(sums)
		}
	}
	return a
}
