package monitor

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
	"billdrop/ingest/watch"
)

// TestPageIsBounded: whatever a sender leaves in an inbox, the page lists 200 lines of a kind,
// counts the others, and holds no control character.
func TestPageIsBounded(t *testing.T) {
	const strangers, waits, unfinished = 100_000, 7, 1_000
	state := watch.State{Feed: "bills", Polled: time.Now()}
	for i := range strangers {
		state.Remarks = append(state.Remarks, watch.Remark{Kind: watch.Stranger, Name: fmt.Sprintf("s-%d\u202e\u009b\x1b.txt", i), Text: strings.Repeat("t", 10_000)})
	}
	for i := range waits {
		state.Remarks = append(state.Remarks, watch.Remark{Kind: watch.Unsettled, Name: fmt.Sprintf("w-%d.csv", i)})
	}
	led := ledgertest.NewMemory()
	for i := range unfinished {
		f := &ledger.File{ID: fmt.Sprintf("f%04d", i), Name: fmt.Sprintf("n-%d\u202e.csv", i), Feed: "bills", State: ledger.Claimed}
		if err := led.AddFile(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	h, _ := newSite(t, led, states{state})
	code, _, body := ask(t, h, "GET", "/")
	if code != http.StatusOK || len(body) > 1<<20 {
		t.Errorf("status %d, %d bytes", code, len(body))
	}
	for what, want := range map[string]int{"stranger s-": mostLines, "unsettled w-": waits, `">n-`: mostLines, "99,800 more: stranger": 1, "and 800 more held or under way": 1} {
		if got := strings.Count(body, what); got != want {
			t.Errorf("%q is there %d times, want %d", what, got, want)
		}
	}
	if i := strings.IndexFunc(body, func(r rune) bool { return r != '\n' && r != '\uFFFD' && report.Hidden(r) }); i >= 0 {
		t.Errorf("a raw control or format character: %q", body[max(0, i-20):i+10])
	}
}

// TestFlood: of a flood of requests a bounded number is answered. The supervisor's question is
// answered all the same.
func TestFlood(t *testing.T) {
	h, _ := newSite(t, ledgertest.NewMemory(), states{{Feed: "bills", Polled: time.Now()}})
	for _, path := range []string{"/", "/files/none", "/readyz", "/metrics"} {
		began := time.Now()
		answered, refused := 0, 0
		for range 20 * pagesAtOnce {
			if code, header, _ := ask(t, h, "GET", path); code == http.StatusTooManyRequests && header.Get("Retry-After") != "" {
				refused++
			} else {
				answered++
			}
		}
		if most := pagesAtOnce + pagesPerSecond*int(time.Since(began).Seconds()+1); answered > most || refused == 0 {
			t.Errorf("%s: %d requests answered, want at most %d", path, answered, most)
		}
	}
	for range 20 * pagesAtOnce {
		if code, _, _ := ask(t, h, "GET", "/healthz"); code != http.StatusOK {
			t.Fatalf("/healthz: %d", code)
		}
	}
}

// TestConnectionsAreBounded: no more than 64 connections are served at a time.
func TestConnectionsAreBounded(t *testing.T) {
	m := New("test")
	if _, err := m.Progress(t.Context(), ledgertest.NewMemory(), nil, noProgress{}); err != nil {
		t.Fatal(err)
	}
	l := listenAnywhere(t)
	s, err := m.Serve(l, Site{Worker: states{}, Ledger: ledgertest.NewMemory(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.patience = 10 * time.Millisecond
	defer s.Close()
	connect := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		return c, bufio.NewReader(c)
	}
	var first net.Conn
	for i := range maxConns {
		c, r := connect()
		if i == 0 {
			first = c
		}
		if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	c, r := connect()
	if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Peek(1); err == nil {
		t.Errorf("connection %d is served beside %d others", maxConns+1, maxConns)
	}
	first.Close()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Peek(1); err != nil {
		t.Errorf("after one has gone, the next is not served: %v", err)
	}
}
