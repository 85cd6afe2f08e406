package monitor

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

const (
	// firstRows are how many rows of each thing to do a file's page shows.
	firstRows = 20
	// moreRows are how many a page of one thing to do shows.
	moreRows = 200
	// lookRows bounds the rows that one page looks through; the next goes on from there.
	lookRows = 20 * readRows
	// readRows are read from the ledger at a time.
	readRows = 1024
)

// filePage is one file, with its rows that need attention.
type filePage struct {
	page
	File     File
	Detail   string // of the file as a whole, where it quotes nothing
	Took     time.Duration
	Moving   bool
	Progress advance
	Groups   []group
	Do       string // shown alone; "" = the first rows of all
}

// group are rows about which the same is to be done.
type group struct {
	ToDo
	Rows []row
	More string // address of the other rows; "" = there are none
}

// row is a row that needs attention. Its detail stays in the reports, but for a conflict, which is told by amounts,
// dates, currencies and ids.
type row struct {
	Line      int
	Reference string // "" where it is none that may be shown
	Status    ledger.Status
	Code      string
	Detail    string
}

// file shows one file.
func (v *view) file(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	p, err := v.filePage(ctx, r)
	if err != nil {
		v.sorry(w, r, err)
		return
	}
	v.show(w, http.StatusOK, "file", p)
}

func (v *view) filePage(ctx context.Context, r *http.Request) (*filePage, error) {
	f, err := v.Ledger.File(ctx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	told, err := v.tell(ctx, f)
	if err != nil {
		return nil, err
	}
	do, from := r.URL.Query().Get("do"), 0
	if n, err := strconv.Atoi(r.URL.Query().Get("from")); err == nil && n > 0 {
		from = n
	}
	p := &filePage{page: v.newPage(r, f.Name+" · billdrop", !f.State.Finished() && do == ""), File: told, Do: do}
	if quotesNothing(f) {
		p.Detail = told.Why()
	}
	if !f.Started.IsZero() && f.Finished.After(f.Started) {
		p.Took = f.Finished.Sub(f.Started).Round(time.Millisecond)
	}
	p.Progress, p.Moving = v.files.advanceOf(f.ID, p.Now)
	p.Moving = p.Moving && f.State == ledger.Sending
	for _, t := range told.ToDo {
		if do == "" || do == t.Do {
			p.Groups = append(p.Groups, group{ToDo: t})
		}
	}
	return p, p.readRows(ctx, v.Ledger, from)
}

// quotesNothing reports whether the detail of a file as a whole is in our own words and numbers. That of a refused
// header quotes column names, which in a file without a header are a customer's.
func quotesNothing(f *ledger.File) bool {
	switch f.Code {
	case billfile.CodeMissingColumn, billfile.CodeDuplicateColumn, billfile.CodeUnknownColumn:
		return false
	}
	return true
}

// readRows fills the groups with rows from row from on, and says where the others are.
func (p *filePage) readRows(ctx context.Context, led ledger.Ledger, from int) error {
	most := firstRows
	if p.Do != "" {
		most = moreRows
	}
	next, err := p.look(ctx, led, from, most)
	if err != nil {
		return err
	}
	for i := range p.Groups {
		g := &p.Groups[i]
		switch {
		case p.Do == "" && len(g.Rows) < g.Count:
			g.More = "?do=" + url.QueryEscape(g.Do)
		case p.Do != "" && next > 0:
			g.More = "?do=" + url.QueryEscape(g.Do) + "&from=" + strconv.Itoa(next)
		}
	}
	return nil
}

// look gives each group up to most rows, and looks through lookRows at most. next is the row to go on from; 0: that was all.
func (p *filePage) look(ctx context.Context, led ledger.Ledger, from, most int) (next int, err error) {
	open := 0 // groups that may take more
	for i := range p.Groups {
		if p.Groups[i].Count > 0 {
			open++
		}
	}
	for looked := 0; open > 0; {
		if looked >= lookRows {
			return from, nil
		}
		outcomes, err := led.Attention(ctx, p.File.ID, from, readRows)
		if err != nil {
			return 0, err
		}
		if len(outcomes) == 0 {
			return 0, nil
		}
		looked += len(outcomes)
		for _, o := range outcomes {
			from = o.Row + 1
			i := slices.IndexFunc(p.Groups, func(g group) bool { return slices.Contains(g.Statuses, o.Status) })
			if i < 0 || len(p.Groups[i].Rows) == most {
				continue
			}
			p.Groups[i].Rows = append(p.Groups[i].Rows, newRow(o))
			if n := len(p.Groups[i].Rows); n == most || p.Do == "" && n == p.Groups[i].Count {
				open--
			}
			if open == 0 {
				return from, nil
			}
		}
	}
	return 0, nil
}

func newRow(o ledger.Outcome) row {
	r := row{Line: o.Line, Status: o.Status, Code: o.Code}
	if mayShow(o.Reference) {
		r.Reference = o.Reference
	}
	if o.Status == ledger.Conflict {
		r.Detail = o.Detail
	}
	return r
}

// mayShow reports whether a bill reference looks like one. That of an invalid row may hold anything, and a name or a mail
// address is the likeliest.
func mayShow(reference string) bool {
	return len(reference) <= 100 && !strings.ContainsFunc(reference, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-_./:#", c))
	})
}
