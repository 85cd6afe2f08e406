package watch

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A remark keeps the time since when it stands, and is logged when it is made and when it
// is over, not at each look. Topics do not touch each other.
func TestRemark(t *testing.T) {
	var log strings.Builder
	b := NewBoard(slog.New(slog.NewTextHandler(&log, nil)), []string{"bills", "more"})
	start := time.Unix(1_700_000_000, 0)
	looks := []struct {
		about   Topic
		remarks []Remark
		stands  string // name@minutes since start
		logged  string // in the log then; "" = nothing
	}{
		{Inbox, []Remark{{Stranger, "a", "why", start}, {Unsettled, "b", "why", start}}, "a@0 b@0", "not complete yet, left in the inbox"},
		{Inbox, []Remark{{Stranger, "a", "why", start.Add(time.Minute)}}, "a@0", ""},
		{Processing, []Remark{{Stranger, "c", "why", start.Add(2 * time.Minute)}}, "a@0 c@2", "left alone in processing"},
		{Expected, []Remark{{Missing, "d", "why", start}, {Missing, "d", "why", start}}, "d@0 a@0 c@2", "expected file is missing"},
		{Expected, nil, "a@0 c@2", "no more: expected file is missing"},
		{Inbox, []Remark{{Stranger, "a", "another why", start.Add(5 * time.Minute)}}, "a@5 c@2", "another why"},
	}
	for i, l := range looks {
		log.Reset()
		b.Remark("bills", l.about, l.remarks)
		var stands []string
		for _, r := range b.State("bills").Remarks {
			stands = append(stands, fmt.Sprintf("%s@%.0f", r.Name, r.Since.Sub(start).Minutes()))
		}
		if got := strings.Join(stands, " "); got != l.stands {
			t.Errorf("look %d: %s; want %s", i, got, l.stands)
		}
		if got := log.String(); !strings.Contains(got, l.logged) || l.logged == "" && got != "" {
			t.Errorf("look %d logs %q; want %q", i, got, l.logged)
		}
	}
	if s := b.State("more"); len(s.Remarks) != 0 {
		t.Errorf("the other feed has remarks: %v", s.Remarks)
	}
}

// A look at a directory full of strangers logs a bounded number of lines.
func TestManyRemarks(t *testing.T) {
	var log strings.Builder
	b := NewBoard(slog.New(slog.NewTextHandler(&log, nil)), []string{"bills"})
	remarks := make([]Remark, 3*mostLogged)
	for i := range remarks {
		remarks[i] = Remark{Kind: Stranger, Name: fmt.Sprint(i)}
	}
	b.Remark("bills", Inbox, remarks)
	if n := strings.Count(log.String(), "\n"); n != mostLogged+1 || !strings.Contains(log.String(), "more=200") {
		t.Errorf("%d lines, the last: %.200s", n, log.String()[strings.LastIndex(strings.TrimSpace(log.String()), "\n")+1:])
	}
	if n := len(b.State("bills").Remarks); n != len(remarks) {
		t.Errorf("%d remarks stand, want all %d", n, len(remarks))
	}
}

func TestWaiting(t *testing.T) {
	b := NewBoard(slog.New(slog.DiscardHandler), []string{"bills"})
	early, late := time.Unix(1_700_000_000, 0), time.Unix(1_700_000_060, 0)
	b.Saw("bills", map[string]time.Time{"a.csv": early, "b.csv": late})
	if s := b.State("bills"); s.Waiting != 2 || !s.OldestWaiting.Equal(early) {
		t.Errorf("%d wait since %v", s.Waiting, s.OldestWaiting)
	}
	b.Claimed("bills", "a.csv")
	b.Polled("bills", late, "no such directory")
	if s := b.State("bills"); s.Waiting != 1 || !s.OldestWaiting.Equal(late) || !s.Polled.Equal(late) || s.Failed != "no such directory" {
		t.Errorf("after a claim and a poll: %+v", s)
	}
}
