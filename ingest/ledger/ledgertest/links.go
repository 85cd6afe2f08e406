package ledgertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"billdrop/ingest/ledger"
)

func newLink(reference string, state ledger.LinkState) ledger.Link {
	digest := ledger.DigestOf([]byte(reference))
	return ledger.Link{Reference: reference, BillID: "bill_" + reference, State: state, Key: uuid.UUID(digest).String(),
		KeyFirstUsed: epoch, ExpiresAt: epoch.Add(720 * time.Hour), Body: digest, Answer: "201", RequestID: "pr_" + reference, URL: "https://pay.example/" + reference}
}

// testLinks: the payment request of a bill is found as it was saved last, in its scope alone,
// also after a crash right after SaveLinks returned.
func testLinks(t *testing.T, e Engine) {
	dir := t.TempDir()
	l := e.Open(t, dir)
	never := ledger.Link{Reference: "é'\"\x01", State: ledger.LinkNone, Key: newLink("x", 0).Key}
	links := []ledger.Link{newLink("A-1", ledger.LinkAsked), newLink("A-2", ledger.LinkMade), newLink("A-3", ledger.LinkFailed), never}
	for i := range 300 {
		links = append(links, newLink(fmt.Sprintf("B-%d", i), ledger.LinkAsked))
	}
	ok(t, "SaveLinks", l.SaveLinks(t.Context(), scope, links))
	live := ledger.Scope{Merchant: scope.Merchant, Mode: "live"}
	other := newLink("A-1", ledger.LinkMade)
	ok(t, "SaveLinks", l.SaveLinks(t.Context(), live, []ledger.Link{other}))
	want := map[string]ledger.Link{}
	refs := []string{"unknown"}
	for _, link := range links {
		want[link.Reference] = link
		refs = append(refs, link.Reference)
	}
	check := func(when string) {
		t.Helper()
		got, err := l.Links(t.Context(), scope, refs)
		ok(t, "Links", err)
		same(t, "links "+when, want, got)
		got, err = l.Links(t.Context(), live, refs)
		ok(t, "Links", err)
		same(t, "links of another mode "+when, map[string]ledger.Link{"A-1": other}, got)
		if got, err = l.Links(t.Context(), scope, nil); err != nil || len(got) > 0 {
			t.Errorf("links of no reference: %v, %v", got, err)
		}
	}
	check("as saved")
	made := newLink("A-1", ledger.LinkMade)
	made.Answer, made.URL = "201 again", "https://pay.example/new"
	ok(t, "SaveLinks", l.SaveLinks(t.Context(), scope, []ledger.Link{made}))
	want["A-1"] = made
	check("replaced")
	e.Crash(t, l)
	l = e.Open(t, dir)
	check("after a crash")
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
