package monitor

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

const (
	// firstRows is how many rows of each thing to do a file's page lists.
	firstRows = 20
	// moreRows is how many rows a page of one thing to do lists.
	moreRows = 200
	// readRows bounds the rows that one page reads. The next page continues from there.
	readRows = 20_480
)

// filePage is one file, with its rows that need attention.
type filePage struct {
	page
	File     describe.File
	Detail   string             // of the file as a whole, if it quotes no data
	Warnings []billfile.Warning // of a file that this process finished
	Took     time.Duration
	Moving   bool
	Progress advance
	Pace     *pacePicture // nil if it is not drawn
	Groups   []group
	Do       string // the one thing to do that is shown; "" = the first rows of all
}

// group is a group of rows, as a page may show them.
type group struct {
	*describe.Group
	More string // address of the other rows; "" = there are none
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
	record, err := v.Ledger.File(ctx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	f, err := v.read(ctx, record)
	if err != nil {
		return nil, err
	}
	query := r.URL.Query()
	p := &filePage{
		page: v.newPage(r, f.Name+" · billdrop", !f.State.Finished() && query.Get("do") == ""), File: f, Do: query.Get("do"),
	}
	if quotesNothing(record) {
		p.Detail = f.Why()
	}
	if !f.Started.IsZero() && f.Finished.After(f.Started) {
		p.Took = f.Finished.Sub(f.Started).Round(time.Millisecond)
	}
	p.Warnings = v.files.warningsOf(f.ID)
	if p.Progress, p.Moving, err = v.advanceOf(ctx, record, p.Now); err != nil {
		return nil, err
	}
	if p.Moving {
		p.Pace = v.paceOf(record, p.Now)
	}
	from, err := strconv.Atoi(query.Get("from"))
	if err != nil || from < 0 {
		from = 0
	}
	return p, p.readRows(ctx, v.Ledger, from)
}

// quotesNothing reports whether the detail of a file as a whole is in our own words. That of
// a refused header quotes column names, which in a file without a header are a customer's
// data.
func quotesNothing(f *ledger.File) bool {
	switch f.Code {
	case billfile.CodeMissingColumn, billfile.CodeDuplicateColumn, billfile.CodeUnknownColumn:
		return false
	}
	return true
}

// readRows lists rows from row from on, and links to the others.
func (p *filePage) readRows(ctx context.Context, led ledger.Ledger, from int) error {
	todo := p.File.ToDo()
	most := firstRows
	if p.Do != "" {
		most = moreRows
		todo.Groups = slices.DeleteFunc(todo.Groups, func(g *describe.Group) bool { return g.Do != p.Do })
	}
	next, err := todo.Read(ctx, led, p.File.ID, describe.Range{From: from, Most: most, Reads: readRows})
	if err != nil {
		return err
	}
	for _, g := range todo.Groups {
		for i := range g.Rows {
			g.Rows[i] = showable(g.Rows[i])
		}
		shown := group{Group: g}
		switch {
		case p.Do == "" && len(g.Rows) < g.Count:
			shown.More = "?do=" + url.QueryEscape(g.Do)
		case p.Do != "" && next > 0:
			shown.More = "?do=" + url.QueryEscape(g.Do) + "&from=" + strconv.Itoa(next)
		}
		p.Groups = append(p.Groups, shown)
	}
	return nil
}

// showable removes from a row what may be personal data. The detail of a conflict quotes
// only amounts, dates, currencies and ids.
func showable(r describe.Row) describe.Row {
	if !mayShow(r.BillReference) {
		r.BillReference = ""
	}
	if r.Status != ledger.Conflict {
		r.Detail = ""
	}
	return r
}

// mayShow reports whether a bill reference looks like one. That of an invalid row may hold
// anything, most likely a name or a mail address.
func mayShow(reference string) bool {
	return len(reference) <= 100 && !strings.ContainsFunc(reference, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-_./:#", c))
	})
}
