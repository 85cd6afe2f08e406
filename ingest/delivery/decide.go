package delivery

import (
	"time"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// keyLifetime is how long an idempotency key is used after its first use. The API forgets a key
// after 24 h and would then execute the request as new; four hours allow for clocks that differ.
const keyLifetime = 20 * time.Hour

// maxGenerations is how many keys one row may use up in one run.
const maxGenerations = 5

// maxLateLooks is how often a row is looked up again, LookupSettle apart, because the API calls its
// reference taken and shows no bill.
const maxLateLooks = 5

// step is what to do next for one row.
type step uint8

const (
	stepNone           step = iota // the zero value: no decision
	stepCompare                    // the bill is known: compare with it, without asking the API
	stepSend                       // begin a generation: choose a form, new key, send
	stepResend                     // same key, same bytes, after a wait
	stepLookUp                     // ask the API for the bill
	stepParties                    // ask the API for the nested customer and account
	stepRefuse                     // the API's refusal is final for this row
	stepMismatch                   // the row's account belongs to another customer
	stepUnknownAccount             // the row's account is not there, and no customer is named to open it for
	stepUnsent                     // nothing of the row was sent, and nothing is
	stepFinish                     // the row has its status
	stepStop                       // the run ends; no row is to blame
)

// cause is why the API is asked for a bill. It decides what the bill's absence means.
type cause uint8

const (
	causeNone      cause = iota
	causeBurned          // the key gives nothing but the stored failure
	causeExpired         // the API may have forgotten the key
	causeChanged         // the recorded bytes cannot be sent again, or an earlier delivery ended without a bill
	causeUnclear         // a success that could not be read
	causeTaken           // some reference is taken
	causeLate            // called taken, but not to be seen yet: looked up again after a wait
	causeRefused         // a 422, which may mean "taken" in unfamiliar words
	causeExhausted       // attempts used up
	causeForbidden       // attempts used up on a gateway that refuses the request
	causeInFlight        // attempts used up while the first request was still running
)

// decision is what the pure functions below return.
type decision struct {
	Do     step
	Cause  cause         // of stepLookUp
	Status ledger.Status // of stepFinish
	// Inconclusive: this send may or may not have created the bill.
	Inconclusive bool
	// Doubtful: a request that is not ours may be at work on the bill.
	Doubtful bool
	// Charged: this send counts against the row's attempts.
	Charged bool
}

// history is what afterAnswer needs to know of a row besides the answer.
type history struct {
	Charged     int // sends of this run that counted against the row, without this one
	MaxAttempts int
	Spared      bool // the answer asks for fewer requests, and uses up no attempt; see sparing
	KeyGood     bool // the API accepts the key from other rows
}

// afterAnswer is the table of answers: what to do after one answer to a create-bill request.
func afterAnswer(a client.Answer, h history) decision {
	if a.Replayed && failure(a.Kind) {
		return burned(a)
	}
	switch a.Kind {
	case client.Created:
		return decision{Do: stepFinish, Status: ledger.Created}
	case client.Unreadable:
		return decision{Do: stepLookUp, Cause: causeUnclear, Inconclusive: true}
	case client.Mismatched:
		return decision{Do: stepStop, Inconclusive: true} // after a last look
	case client.Redirected, client.Untrusted, client.ProxyRefused:
		return decision{Do: stepStop}
	case client.KeyRefused:
		if !forbidden(a) || !h.KeyGood {
			return decision{Do: stepStop}
		}
		return again(h, decision{Do: stepResend, Charged: true}, causeForbidden)
	case client.Blocked:
		return again(h, decision{Do: stepResend, Charged: true}, causeForbidden)
	case client.Refused:
		if a.Status == 422 {
			return decision{Do: stepLookUp, Cause: causeRefused}
		}
		return decision{Do: stepRefuse}
	case client.KeyReused:
		return decision{Do: stepLookUp, Cause: causeBurned, Doubtful: true}
	case client.Taken:
		return decision{Do: stepLookUp, Cause: causeTaken, Charged: true}
	case client.Throttled, client.NotSent:
		return decision{Do: stepResend}
	case client.InFlight:
		return again(h, decision{Do: stepResend, Charged: true}, causeInFlight)
	case client.ServerFault, client.Lost:
		if h.Spared {
			return decision{Do: stepResend, Inconclusive: true}
		}
		return again(h, decision{Do: stepResend, Charged: true, Inconclusive: true}, causeExhausted)
	}
	// Any other kind proves nothing.
	return decision{Do: stepLookUp, Cause: causeUnclear, Inconclusive: true}
}

// failure reports whether a replay of this kind means that its key is used up.
func failure(k client.Kind) bool {
	switch k {
	case client.Refused, client.KeyReused, client.Taken, client.InFlight, client.ServerFault, client.Unreadable, client.Throttled:
		return true
	}
	return false
}

// endsLost reports whether the answer to a key that was sent again shows that no earlier request
// under it is at work any more: the API would have called the key in flight. A gateway's answer
// shows nothing of the API.
func endsLost(a client.Answer) bool {
	if a.Page != "" {
		return false
	}
	return a.Kind == client.Refused || a.Kind == client.Taken || a.Kind == client.ServerFault && a.Status == 500 && a.Replayed
}

// burned is for a key that the API keeps answering with a stored failure.
func burned(a client.Answer) decision {
	if a.Kind == client.Taken {
		return decision{Do: stepLookUp, Cause: causeTaken}
	}
	return decision{Do: stepLookUp, Cause: causeBurned, Inconclusive: a.Kind == client.ServerFault}
}

// again returns d while the row has attempts left, and a look-up when they are used up.
func again(h history, d decision, spent cause) decision {
	if h.Charged+1 >= h.MaxAttempts {
		d.Do, d.Cause = stepLookUp, spent
	}
	return d
}

// finding is what a look-up established.
type finding uint8

const (
	foundNothing   finding = iota // the API gave no usable answer, which proves nothing
	foundSame                     // the bill is there and is the row's
	foundDifferent                // the bill is there with other content, or voided
	foundAbsent                   // there is no such bill, and none can come of what was sent
	foundForbidden                // a gateway refuses the look-up as it refused the sends
)

// afterLookUp is the second half of the table: what a look-up means, by why it was made.
//
// ours: some send for this file was answered 201 or got no conclusive answer.
// generations: the keys this row has used up in this run, or the rounds it has waited for a
// request in flight.
func afterLookUp(f finding, c cause, ours bool, generations int) decision {
	switch f {
	case foundSame:
		if ours {
			return decision{Do: stepFinish, Status: ledger.Created}
		}
		return decision{Do: stepFinish, Status: ledger.Existing}
	case foundDifferent:
		return decision{Do: stepFinish, Status: ledger.Conflict}
	case foundAbsent:
		return whenAbsent(c, generations)
	case foundForbidden:
		if c == causeForbidden {
			return decision{Do: stepRefuse}
		}
	}
	return decision{Do: stepFinish, Status: ledger.Unknown}
}

func whenAbsent(c cause, generations int) decision {
	switch c {
	case causeBurned, causeExpired, causeChanged, causeUnclear:
		if generations >= maxGenerations {
			return decision{Do: stepFinish, Status: ledger.Failed}
		}
		return decision{Do: stepSend}
	case causeTaken, causeLate, causeRefused: // the last may be "taken" in unfamiliar words
		return decision{Do: stepParties}
	case causeExhausted:
		return decision{Do: stepFinish, Status: ledger.Failed}
	case causeForbidden:
		return decision{Do: stepRefuse}
	case causeInFlight:
		// The first request is still running, so the bill may yet come: the key is sent again.
		if generations >= maxGenerations {
			return decision{Do: stepFinish, Status: ledger.Unknown}
		}
		return decision{Do: stepResend}
	}
	return decision{Do: stepFinish, Status: ledger.Unknown}
}

// refused is what afterParties needs to know of the answer that led to the look-ups.
type refused struct {
	Taken bool // the API calls a reference taken
	// Final: the answer came from the API's store or is about what was sent, so it was not a
	// request in flight in unfamiliar words.
	Final bool
}

// afterParties decides what follows a refusal when the bill is absent and its parties were asked
// for. learnt: a party that the body nested as new exists. looks: how often the row was looked up
// again because what the API calls taken did not show.
func afterParties(learnt bool, r refused, h history, generations, looks int) decision {
	switch {
	case learnt && generations < maxGenerations:
		return decision{Do: stepSend}
	case learnt: // the reason is mended, but this run has no key left
		return decision{Do: stepFinish, Status: ledger.Failed}
	case !r.Final && h.Charged < h.MaxAttempts:
		return decision{Do: stepResend}
	case !r.Taken:
		return decision{Do: stepRefuse}
	case looks < maxLateLooks:
		return decision{Do: stepLookUp, Cause: causeLate}
	}
	return decision{Do: stepFinish, Status: ledger.Unknown} // something is there, and no look-up shows it
}

// firstStep decides how a row begins, from what the ledger holds of its reference. content and
// body are the digests of this row's content and of the recorded generation's body, rebuilt from
// this row.
func firstStep(rec *ledger.Bill, content, body ledger.Digest, now time.Time) decision {
	switch {
	case rec == nil:
		return decision{Do: stepSend}
	case rec.State == ledger.Exists:
		return decision{Do: stepCompare}
	case rec.State == ledger.Gone, rec.Send.Key == "", rec.Send.Content != content, rec.Send.Body != body:
		return decision{Do: stepLookUp, Cause: causeChanged}
	case !keyUsable(rec.Send.KeyFirstUsed, now):
		return decision{Do: stepLookUp, Cause: causeExpired}
	}
	return decision{Do: stepResend}
}

// keyUsable reports whether a key may be sent now. Its age is by the wall clock, because the
// monotonic one stands while the machine is suspended. If the clock stands before the key's first
// use, its age is not known, and it counts as too old.
func keyUsable(firstUsed, now time.Time) bool {
	age := wall(firstUsed, now)
	return age >= -time.Second && age < keyLifetime
}
