package delivery

import (
	"testing"
	"time"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// The table "Answers" of the delivery rules, line by line.
func TestAfterAnswer(t *testing.T) {
	fresh := history{MaxAttempts: 6}
	last := history{Charged: 5, MaxAttempts: 6}
	for _, tt := range []struct {
		name string
		a    client.Answer
		h    history
		want decision
	}{
		{"201, reference echoed", client.Answer{Kind: client.Created, Status: 201}, fresh, decision{Do: stepFinish, Status: ledger.Created}},
		{"201 replayed", client.Answer{Kind: client.Created, Status: 201, Replayed: true}, fresh, decision{Do: stepFinish, Status: ledger.Created}},
		{"nothing known", client.Answer{}, fresh, decision{Do: stepLookUp, Cause: causeUnclear, Inconclusive: true}},
		{"2xx unreadable", client.Answer{Kind: client.Unreadable, Status: 201}, fresh, decision{Do: stepLookUp, Cause: causeUnclear, Inconclusive: true}},
		{"2xx about another bill", client.Answer{Kind: client.Mismatched, Status: 201}, fresh, decision{Do: stepStop, Inconclusive: true}},
		{"3xx", client.Answer{Kind: client.Redirected, Status: 307}, fresh, decision{Do: stepStop}},
		{"400", client.Answer{Kind: client.Refused, Status: 400}, fresh, decision{Do: stepRefuse}},
		{"402", client.Answer{Kind: client.Refused, Status: 402}, fresh, decision{Do: stepRefuse}},
		{"404", client.Answer{Kind: client.Refused, Status: 404}, fresh, decision{Do: stepRefuse}},
		{"422", client.Answer{Kind: client.Refused, Status: 422}, fresh, decision{Do: stepLookUp, Cause: causeRefused}},
		{"401", client.Answer{Kind: client.KeyRefused, Status: 401}, fresh, decision{Do: stepStop}},
		{"401, though the key was good", client.Answer{Kind: client.KeyRefused, Status: 401}, history{MaxAttempts: 6, KeyGood: true}, decision{Do: stepStop}},
		{"403 as a problem", client.Answer{Kind: client.KeyRefused, Status: 403}, fresh, decision{Do: stepStop}},
		{"403 as a problem, the key is good", client.Answer{Kind: client.KeyRefused, Status: 403}, history{MaxAttempts: 6, KeyGood: true}, decision{Do: stepResend, Charged: true}},
		{"403 as a page", client.Answer{Kind: client.Blocked, Status: 403}, fresh, decision{Do: stepResend, Charged: true}},
		{"403 as a page, no attempts left", client.Answer{Kind: client.Blocked, Status: 403}, last, decision{Do: stepLookUp, Cause: causeForbidden, Charged: true}},
		{"proxy", client.Answer{Kind: client.ProxyRefused}, fresh, decision{Do: stepStop}},
		{"503 between good answers", client.Answer{Kind: client.ServerFault, Status: 503}, history{Charged: 5, MaxAttempts: 6, Spared: true}, decision{Do: stepResend, Inconclusive: true}},
		{"409 in flight", client.Answer{Kind: client.InFlight, Status: 409}, fresh, decision{Do: stepResend, Charged: true}},
		{"409 in flight, no attempts left", client.Answer{Kind: client.InFlight, Status: 409}, last, decision{Do: stepLookUp, Cause: causeInFlight, Charged: true}},
		{"taken", client.Answer{Kind: client.Taken, Status: 409}, fresh, decision{Do: stepLookUp, Cause: causeTaken, Charged: true}},
		{"429", client.Answer{Kind: client.Throttled, Status: 429}, last, decision{Do: stepResend}},
		{"5xx", client.Answer{Kind: client.ServerFault, Status: 503}, fresh, decision{Do: stepResend, Charged: true, Inconclusive: true}},
		{"5xx, no attempts left", client.Answer{Kind: client.ServerFault, Status: 503}, last, decision{Do: stepLookUp, Cause: causeExhausted, Charged: true, Inconclusive: true}},
		{"5xx replayed", client.Answer{Kind: client.ServerFault, Status: 500, Replayed: true}, fresh, decision{Do: stepLookUp, Cause: causeBurned, Inconclusive: true}},
		{"400 replayed", client.Answer{Kind: client.Refused, Status: 400, Replayed: true}, fresh, decision{Do: stepLookUp, Cause: causeBurned}},
		{"taken, replayed", client.Answer{Kind: client.Taken, Status: 409, Replayed: true}, fresh, decision{Do: stepLookUp, Cause: causeTaken}},
		{"key reused", client.Answer{Kind: client.KeyReused, Status: 422}, fresh, decision{Do: stepLookUp, Cause: causeBurned, Doubtful: true}},
		{"no connection", client.Answer{Kind: client.NotSent}, last, decision{Do: stepResend}},
		{"certificate", client.Answer{Kind: client.Untrusted}, fresh, decision{Do: stepStop}},
		{"lost", client.Answer{Kind: client.Lost}, fresh, decision{Do: stepResend, Charged: true, Inconclusive: true}},
		{"lost, no attempts left", client.Answer{Kind: client.Lost}, last, decision{Do: stepLookUp, Cause: causeExhausted, Charged: true, Inconclusive: true}},
	} {
		if got := afterAnswer(tt.a, tt.h); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// Only one kind of answer is success: whatever else the API says, no row ends as created by it.
func TestAfterAnswerSucceedsOnCreatedAlone(t *testing.T) {
	for kind := client.Unknown; kind <= client.Lost; kind++ {
		for _, replayed := range []bool{false, true} {
			for charged := range 7 {
				d := afterAnswer(client.Answer{Kind: kind, Status: 201, Replayed: replayed}, history{Charged: charged, MaxAttempts: 6})
				if (d.Do == stepFinish) != (kind == client.Created) {
					t.Errorf("kind %d, replayed %v: %+v", kind, replayed, d)
				}
				if d.Do == stepNone {
					t.Errorf("kind %d, replayed %v: nothing to do", kind, replayed)
				}
			}
		}
	}
}

// Only an answer of the API itself about what was sent shows that the first request has ended.
func TestEndsLost(t *testing.T) {
	ends := map[client.Kind]int{client.Refused: 422, client.Taken: 409, client.ServerFault: 500}
	for k := client.Unknown; k <= client.ProxyRefused; k++ {
		status, want := ends[k]
		if got := endsLost(client.Answer{Kind: k, Status: status, Replayed: true}); got != want {
			t.Errorf("%v replayed: %v, want %v", k, got, want)
		}
		if got := endsLost(client.Answer{Kind: k, Status: status}); got != (want && status != 500) {
			t.Errorf("%v, not replayed: %v", k, got)
		}
		if endsLost(client.Answer{Kind: k, Status: status, Replayed: true, Page: "error"}) {
			t.Errorf("%v: a page ends the wait", k)
		}
	}
	if endsLost(client.Answer{Kind: client.ServerFault, Status: 504, Replayed: true}) {
		t.Error("a gateway's 504 ends the wait")
	}
}

func TestAfterLookUp(t *testing.T) {
	finish := func(s ledger.Status) decision { return decision{Do: stepFinish, Status: s} }
	for _, tt := range []struct {
		name        string
		f           finding
		c           cause
		ours        bool
		generations int
		want        decision
	}{
		{"same, an unanswered send of ours", foundSame, causeExhausted, true, 1, finish(ledger.Created)},
		{"same, our first answer was taken", foundSame, causeTaken, false, 1, finish(ledger.Existing)},
		{"different", foundDifferent, causeTaken, true, 1, finish(ledger.Conflict)},
		{"absent, burned", foundAbsent, causeBurned, true, 1, decision{Do: stepSend}},
		{"absent, expired", foundAbsent, causeExpired, true, 1, decision{Do: stepSend}},
		{"absent, body changed", foundAbsent, causeChanged, false, 0, decision{Do: stepSend}},
		{"absent, generations used up", foundAbsent, causeBurned, true, maxGenerations, finish(ledger.Failed)},
		{"absent, taken", foundAbsent, causeTaken, false, 1, decision{Do: stepParties}},
		{"absent, refused", foundAbsent, causeRefused, false, 1, decision{Do: stepParties}},
		{"absent, attempts used up", foundAbsent, causeExhausted, true, 1, finish(ledger.Failed)},
		{"absent, a gateway refuses it", foundAbsent, causeForbidden, false, 1, decision{Do: stepRefuse}},
		{"the gateway refuses the look-up too", foundForbidden, causeForbidden, false, 1, decision{Do: stepRefuse}},
		{"a gateway refuses the look-up alone", foundForbidden, causeExhausted, true, 1, finish(ledger.Unknown)},
		{"no look-up, a gateway refused the sends", foundNothing, causeForbidden, false, 1, finish(ledger.Unknown)},
		{"absent, still in flight", foundAbsent, causeInFlight, true, 1, decision{Do: stepResend}},
		{"absent, still in flight after many rounds", foundAbsent, causeInFlight, true, maxGenerations, finish(ledger.Unknown)},
		{"no look-up, attempts used up", foundNothing, causeExhausted, true, 1, finish(ledger.Unknown)},
		{"no look-up, burned", foundNothing, causeBurned, true, 1, finish(ledger.Unknown)},
		{"no look-up, refused by 422", foundNothing, causeRefused, false, 1, finish(ledger.Unknown)},
	} {
		if got := afterLookUp(tt.f, tt.c, tt.ours, tt.generations); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestAfterParties(t *testing.T) {
	taken, unclear := refused{Taken: true}, refused{}
	stored, refusedFor := refused{Taken: true, Final: true}, refused{Final: true}
	for _, tt := range []struct {
		name        string
		learnt      bool
		refused     refused
		charged     int
		generations int
		looks       int
		want        decision
	}{
		{"a party exists", true, taken, 1, 1, 0, decision{Do: stepSend}},
		{"a party exists, one key left", true, taken, 1, maxGenerations - 1, 0, decision{Do: stepSend}},
		{"a party exists, the refusal was stored", true, stored, 1, 1, 0, decision{Do: stepSend}},
		{"a party exists, generations used up", true, stored, 1, maxGenerations, 0, decision{Do: stepFinish, Status: ledger.Failed}},
		{"nothing exists, and it was said for good", false, refusedFor, 1, 1, 0, decision{Do: stepRefuse}},
		{"nothing exists, perhaps it was in flight", false, unclear, 1, 1, 0, decision{Do: stepResend}},
		{"nothing exists, one attempt left", false, unclear, 5, 1, 0, decision{Do: stepResend}},
		{"nothing exists, attempts used up", false, unclear, 6, 1, 0, decision{Do: stepRefuse}},
		{"taken, perhaps it was in flight", false, taken, 1, 1, 0, decision{Do: stepResend}},
		{"taken, attempts used up, nothing shows", false, taken, 6, 1, 0, decision{Do: stepLookUp, Cause: causeLate}},
		{"taken, stored, nothing shows", false, stored, 1, 1, maxLateLooks - 1, decision{Do: stepLookUp, Cause: causeLate}},
		{"taken, and nothing ever shows", false, stored, 1, 1, maxLateLooks, decision{Do: stepFinish, Status: ledger.Unknown}},
	} {
		got := afterParties(tt.learnt, tt.refused, history{Charged: tt.charged, MaxAttempts: 6}, tt.generations, tt.looks)
		if got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestFirstStep(t *testing.T) {
	now := time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
	content, other := ledger.Digest{1}, ledger.Digest{2}
	body := ledger.Digest{3}
	pending := func(age time.Duration, change func(*ledger.Bill)) *ledger.Bill {
		b := &ledger.Bill{State: ledger.Pending, Send: ledger.Send{
			Generation: 1, Key: "k", Content: content, Body: body, Count: 1, KeyFirstUsed: now.Add(-age),
		}}
		if change != nil {
			change(b)
		}
		return b
	}
	for _, tt := range []struct {
		name string
		rec  *ledger.Bill
		want decision
	}{
		{"never onAnswer of", nil, decision{Do: stepSend}},
		{"known", pending(0, func(b *ledger.Bill) { b.State = ledger.Exists }), decision{Do: stepCompare}},
		{"gone", pending(0, func(b *ledger.Bill) { b.State = ledger.Gone }), decision{Do: stepLookUp, Cause: causeChanged}},
		{"in doubt", pending(time.Minute, nil), decision{Do: stepResend}},
		{"in doubt, just under 20 h", pending(20*time.Hour-1, nil), decision{Do: stepResend}},
		{"in doubt, 20 h", pending(20*time.Hour, nil), decision{Do: stepLookUp, Cause: causeExpired}},
		{"in doubt, 30 d", pending(30*24*time.Hour, nil), decision{Do: stepLookUp, Cause: causeExpired}},
		{"in doubt, the clock went back", pending(-time.Hour, nil), decision{Do: stepLookUp, Cause: causeExpired}},
		{"in doubt, content edited", pending(0, func(b *ledger.Bill) { b.Send.Content = other }), decision{Do: stepLookUp, Cause: causeChanged}},
		{"in doubt, other bytes", pending(0, func(b *ledger.Bill) { b.Send.Body = other }), decision{Do: stepLookUp, Cause: causeChanged}},
	} {
		if got := firstStep(tt.rec, content, body, now); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// A clock may be a second behind the key's first use, and a key has not quite 20 hours.
func TestKeyUsable(t *testing.T) {
	first := time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
	for age, want := range map[time.Duration]bool{
		-time.Second - 1: false, -time.Second: true, 0: true, 20*time.Hour - 1: true, 20 * time.Hour: false,
	} {
		if got := keyUsable(first, first.Add(age)); got != want {
			t.Errorf("%v after its first use: %v", age, got)
		}
	}
}
