package describe

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// attentionPage is how many rows are read from the ledger at a time.
const attentionPage = 1024

// ToDo is what to do about the rows of a file. Keys of its JSON may be added at any time.
type ToDo struct {
	Total  int      `json:"total"`  // rows that need attention
	Groups []*Group `json:"groups"` // none of them without rows
}

// Group are the rows of a file that need the same to be done.
type Group struct {
	Do       string          `json:"do"` // fix, resend, retry or look
	Title    string          `json:"-"`  // heads the group
	Statuses []ledger.Status `json:"statuses"`
	Count    int             `json:"count"`
	Advice   string          `json:"advice"` // what to do
	Rows     []Row           `json:"rows"`   // in file order; the first ones, see Read
}

// Row is a row that needs attention.
type Row struct {
	Line          int           `json:"line"`
	Row           int           `json:"row"`
	BillReference string        `json:"bill_reference"`
	Status        ledger.Status `json:"status"`
	Code          string        `json:"code"`
	Detail        string        `json:"detail"`
}

// ToDo returns what to do about the rows counted so far, without listing them.
func (f File) ToDo() ToDo {
	drop := "drop it into the inbox"
	if f.Origin == ledger.FromLocal {
		drop = "import it"
	}
	rejects := inDir(f.Results, report.NamesOf(f.Stem).Rejects)
	correct, resend := "correct them in "+rejects, rejects+" holds them too, and they are sent with the corrected ones"
	if f.Published.Rejects == "" || !f.there(rejects) {
		correct, resend = "correct them in the bill file", "they are sent with the bill file when it comes again"
	}
	todo := ToDo{Groups: []*Group{}}
	for _, g := range []Group{
		{
			Do: "fix", Title: "To fix", Statuses: []ledger.Status{ledger.Invalid, ledger.Rejected},
			Advice: correct + " and " + drop + " again",
		},
		{
			Do: "resend", Title: "To send again with those", Statuses: []ledger.Status{ledger.NotSent},
			Advice: "these rows are valid; " + resend,
		},
		{
			Do: "retry", Title: "To retry", Statuses: []ledger.Status{ledger.Failed, ledger.Unknown},
			Advice: "send them again: billdrop retry " + f.ID,
		},
		{
			Do: "look", Title: "To look into", Statuses: []ledger.Status{ledger.Conflict},
			Advice: "decide which is right, the bill or the row; if both are, give the row another reference. What is known of a bill: billdrop why REFERENCE",
		},
	} {
		for _, status := range g.Statuses {
			g.Count += f.Summary.Rows.By[status]
		}
		if g.Count > 0 {
			g.Rows = []Row{}
			todo.Groups = append(todo.Groups, &g)
			todo.Total += g.Count
		}
	}
	return todo
}

// Range is which rows Read lists.
type Range struct {
	From  int // the first row
	Most  int // rows listed in a group at most; 0 = all
	Reads int // rows read at most, about; 0 = all
}

// Read lists rows of a file in their groups. If there is one group, next is the row from
// which another call continues, or 0 after the last row.
func (t *ToDo) Read(ctx context.Context, led ledger.Ledger, file string, r Range) (next int, err error) {
	full := func(g *Group) bool { return r.Most > 0 && len(g.Rows) >= r.Most }
	next = r.From
	for read := 0; ; {
		complete, open := true, false
		for _, g := range t.Groups {
			if listed := r.From == 0 && len(g.Rows) >= g.Count; !listed {
				complete = false
				open = open || !full(g)
			}
		}
		switch {
		case complete:
			return 0, nil
		case !open, r.Reads > 0 && read >= r.Reads:
			return next, nil
		}
		page, err := led.Attention(ctx, file, next, attentionPage)
		if err != nil {
			return 0, err
		}
		if len(page) == 0 { // the last row, or a worker has settled rows since they were counted
			return 0, nil
		}
		read += len(page)
		for _, o := range page {
			i := slices.IndexFunc(t.Groups, func(g *Group) bool { return slices.Contains(g.Statuses, o.Status) })
			switch {
			case i >= 0 && !full(t.Groups[i]):
				t.Groups[i].Rows = append(t.Groups[i].Rows, Row{
					Line: o.Line, Row: o.Row, BillReference: o.Reference, Status: o.Status, Code: o.Code, Detail: o.Detail,
				})
			case i >= 0 && len(t.Groups) == 1:
				return next, nil
			}
			next = o.Row + 1
		}
	}
}

func (g *Group) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s, %s: %s\n", g.Title, Count(g.Count, "row"), g.Advice)
	for _, r := range g.Rows {
		fmt.Fprintf(&b, "  line %d", r.Line)
		if r.BillReference != "" {
			fmt.Fprintf(&b, ", bill %s", Reference(r.BillReference))
		}
		fmt.Fprintf(&b, ": %s\n", rowStatus(r.Status, r.Code, r.Detail))
	}
	b.WriteString(more(g.Count-len(g.Rows), "row", "--max-rows"))
	return b.String()
}
