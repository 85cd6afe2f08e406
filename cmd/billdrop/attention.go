package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// attentionPage is how many rows are read from the ledger at a time.
const attentionPage = 1024

// attention is what somebody has to do about one file. Keys may be added at any time.
type attention struct {
	Total  int           `json:"total"`  // rows that need attention
	Groups []*rowsToLook `json:"groups"` // by what to do; those without rows are left out
}

// rowsToLook are rows of a file about which the same is to be done.
type rowsToLook struct {
	Do       string          `json:"do"` // fix, resend, retry or look
	Statuses []ledger.Status `json:"statuses"`
	Count    int             `json:"count"`
	Advice   string          `json:"advice"` // what to do, for a person
	Rows     []rowToLook     `json:"rows"`   // in file order, --max-rows at most
}

type rowToLook struct {
	Line          int           `json:"line"`
	Row           int           `json:"row"`
	BillReference string        `json:"bill_reference"`
	Status        ledger.Status `json:"status"`
	Code          string        `json:"code"`
	Detail        string        `json:"detail"`
}

// one tells what to do about one file.
func (c *statusCmd) one(ctx context.Context, s *session, led ledger.Ledger) error {
	f, err := led.File(ctx, c.FileID)
	if errors.Is(err, ledger.ErrNotFound) {
		return notFor(c.FileID, err)
	}
	if err != nil {
		return err
	}
	status, summary, err := readStatus(ctx, led, f)
	if err != nil {
		return err
	}
	status.Attention = groups(f, summary)
	if err := status.Attention.read(ctx, led, f.ID, c.MaxRows); err != nil {
		return err
	}
	if s.json() {
		err = writeJSON(s.stdout, map[string]any{"files": []*fileStatus{status}})
	} else {
		_, err = io.WriteString(s.stdout, oneText(f, status, summary))
	}
	if err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	if status.needsAttention() {
		return errAttention
	}
	return nil
}

// groups says what is to be done about the rows of a file, by status.
func groups(f *ledger.File, s report.Summary) *attention {
	at := func(name string) string { return strings.TrimSuffix(f.Results, "/") + "/" + name }
	drop := "drop it into the inbox"
	if f.Origin == ledger.FromLocal {
		drop = "import it"
	}
	rejects := at(report.NamesOf(f.Stem).Rejects)
	a := &attention{}
	for _, g := range []rowsToLook{
		{Do: "fix", Statuses: []ledger.Status{ledger.Invalid, ledger.Rejected},
			Advice: fmt.Sprintf("correct them in %s and %s again", rejects, drop)},
		{Do: "resend", Statuses: []ledger.Status{ledger.NotSent},
			Advice: fmt.Sprintf("nothing is wrong with these: they go out with the corrected ones; they are in %s too", rejects)},
		{Do: "retry", Statuses: []ledger.Status{ledger.Failed, ledger.Unknown},
			Advice: "send them again: billdrop retry " + f.ID},
		{Do: "look", Statuses: []ledger.Status{ledger.Conflict},
			Advice: "decide which is right, the bill or the row; a bill that is to stand beside the other needs a reference of its own; what is known of a bill: billdrop why REFERENCE"},
	} {
		for _, status := range g.Statuses {
			g.Count += s.Rows.By[status]
		}
		if g.Count > 0 {
			g.Rows = []rowToLook{}
			a.Groups = append(a.Groups, &g)
			a.Total += g.Count
		}
	}
	if a.Groups == nil {
		a.Groups = []*rowsToLook{}
	}
	return a
}

// read fills each group with its first rows, most at most (0 = all). It reads no further than it has to.
func (a *attention) read(ctx context.Context, led ledger.Ledger, file string, most int) error {
	missing := 0 // rows that are still to be found
	for _, g := range a.Groups {
		missing += atMost(g.Count, most)
	}
	for from := 0; missing > 0; {
		page, err := led.Attention(ctx, file, from, attentionPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil // a running worker has settled some since they were counted
		}
		for _, o := range page {
			i := slices.IndexFunc(a.Groups, func(g *rowsToLook) bool { return slices.Contains(g.Statuses, o.Status) })
			if i < 0 || len(a.Groups[i].Rows) == atMost(a.Groups[i].Count, most) {
				continue
			}
			missing--
			a.Groups[i].Rows = append(a.Groups[i].Rows, rowToLook{
				Line: o.Line, Row: o.Row, BillReference: o.Reference, Status: o.Status, Code: o.Code, Detail: o.Detail,
			})
		}
		from = page[len(page)-1].Row + 1
	}
	return nil
}

// atMost is n, but not more than most unless that is 0.
func atMost(n, most int) int {
	if most == 0 {
		return n
	}
	return min(n, most)
}

// oneText tells a person how a file stands, and what to do.
func oneText(f *ledger.File, status *fileStatus, s report.Summary) string {
	var b strings.Builder
	switch f.State {
	case ledger.Done:
		showFile(&b, finished{Summary: s, where: f.Results})
	case ledger.Held:
		fmt.Fprintf(&b, "%s: %s, %s\n  %s\n", f.Name, status.stateWords(), count(f.Rows, "row"), f.Detail)
	case ledger.Dropped:
		fmt.Fprintf(&b, "%s: dropped: it was never taken, for another worker took it first, or it vanished\n", f.Name)
	default:
		fmt.Fprintf(&b, "%s: %s; not finished: a run that is going on, or the next one, goes on with it\n", f.Name, status.stateWords())
		if s.Rows.Total > status.RowsOpen {
			s.Rows.Total -= status.RowsOpen
			fmt.Fprintln(&b, statusTable(s))
		}
	}
	fmt.Fprintf(&b, "  file %s of feed %s, received %s", f.ID, f.Feed, status.Received.Local().Format("2006-01-02 15:04:05"))
	if f.Path != "" {
		fmt.Fprintf(&b, ", now %s", f.Path)
	}
	b.WriteByte('\n')
	switch {
	case f.State == ledger.Held && f.Approved:
		fmt.Fprintf(&b, "\nApproved: the next run sends it.\n")
	case f.State == ledger.Held && f.Outcome == ledger.FileRejected:
		fmt.Fprintf(&b, "\nRejected: nothing of it is sent, and the next run says so in its reports.\n")
	case f.State == ledger.Held:
		fmt.Fprintf(&b, "\nNothing is sent until somebody approves it: billdrop approve %s\nOr give it up: billdrop reject %s\n", f.ID, f.ID)
	case f.Outcome == ledger.FileRejected && len(status.Attention.Groups) == 0:
		fmt.Fprintf(&b, "\nThe file as a whole was refused: put it right as it says above, and deliver it again.\n")
	}
	for _, g := range status.Attention.Groups {
		showGroup(&b, g)
	}
	return b.String()
}

// title heads the group.
func (g *rowsToLook) title() string {
	return map[string]string{"fix": "To fix", "resend": "To send again with those", "retry": "To retry", "look": "To look into"}[g.Do]
}

func showGroup(b *strings.Builder, g *rowsToLook) {
	fmt.Fprintf(b, "\n%s, %s: %s\n", g.title(), count(g.Count, "row"), g.Advice)
	for _, r := range g.Rows {
		fmt.Fprintf(b, "  line %d", r.Line)
		if r.BillReference != "" {
			fmt.Fprintf(b, ", bill %s", printableReference(r.BillReference))
		}
		fmt.Fprintf(b, ": %s", r.Status)
		if r.Code != "" {
			fmt.Fprintf(b, " (%s)", r.Code)
		}
		if r.Detail != "" {
			fmt.Fprintf(b, ": %s", r.Detail)
		}
		b.WriteByte('\n')
	}
	if cut := g.Count - len(g.Rows); cut > 0 {
		fmt.Fprintf(b, "  … and %s more; --max-rows 0 shows all\n", count(cut, "row"))
	}
}

// printableReference is a bill reference as a terminal may show it: that of an invalid row may hold anything.
func printableReference(r string) string {
	if strings.ContainsFunc(r, func(c rune) bool {
		return c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	}) {
		return strconv.QuoteToASCII(r)
	}
	return r
}
