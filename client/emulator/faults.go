package emulator

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// Values of Fault.StopAfter.
const (
	StopCustomer = "customer"
	StopAccount  = "account"
)

// Call is one request, as a script sees it.
type Call struct {
	Method, Path string
	Reference    string // external_reference in the body of a POST; of any other request what the path names
	Key          string // Idempotency-Key
	Nth          int    // how often this key was sent, this time included; 0 without a key
	NthRef       int    // how often this method and kind of path came with this reference, this time included
	Body         []byte // must not be changed
}

// Fault says what goes wrong with one request; the zero value is nothing. A fault that
// answers by itself (Status, Body, Redirect, Garbage, Drop) stands for a gateway in front
// of the API: unless Apply or Store is set, the request is not executed, and nothing is
// stored. The others bend the answer to a request that is executed.
type Fault struct {
	Status      int     // answered instead; with StopAfter, the status of the failure (500 by default)
	Problem     Problem // of Status; zero = a plain one. Its own Status is ignored
	Body        string  // answered instead, with Status (500 by default) and ContentType (text/html by default)
	ContentType string
	RetryAfter  string        // header of whatever is answered
	Delay       time.Duration // before the execution, or with Apply before the answer; goes on when the client closes the connection
	Apply       bool          // the request is executed, then the answer is replaced or lost
	Store       bool          // the answer is stored under the key, as a failure of the API; never 401, 403, 429
	StopAfter   string        // nested creation fails after this object; stored only with Store. No effect when none is nested
	Drop        bool          // no answer: the connection is cut
	DropMid     bool          // the connection is cut in the middle of the answer
	Reference   string        // a success is answered about this reference instead
	Redirect    string        // answered as 307 (or Status) to this Location
	Garbage     bool          // answered with the success status (or Status) and a body that is not JSON
}

// rawBody is a scripted body.
type rawBody struct {
	contentType string
	body        string
}

// answers reports whether the fault has an answer of its own.
func (f *Fault) answers() bool {
	return (f.Status != 0 && f.StopAfter == "") || f.Body != "" || f.Redirect != "" || f.Garbage || f.Drop
}

// keeps reports whether the answer is stored under the key.
func (f *Fault) keeps() bool {
	switch f.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return false
	}
	return f.Store
}

// outcome returns the fault's own answer.
func (f *Fault) outcome(method string) *outcome {
	switch {
	case f.Garbage:
		status := http.StatusCreated
		if method != http.MethodPost {
			status = http.StatusOK
		}
		return &outcome{status: cmp.Or(f.Status, status), raw: &rawBody{"application/json", `{"id": "bill_`}}
	case f.Body != "":
		return &outcome{status: cmp.Or(f.Status, 500), raw: &rawBody{cmp.Or(f.ContentType, "text/html"), f.Body}}
	case f.Redirect != "":
		return &outcome{status: cmp.Or(f.Status, http.StatusTemporaryRedirect), raw: &rawBody{"text/plain", ""}}
	}
	p := f.Problem
	if p == (Problem{}) {
		p = problemFor(cmp.Or(f.Status, 500))
	}
	p.Status = cmp.Or(f.Status, 500)
	return &outcome{status: p.Status, problem: &p}
}

// stopOutcome returns the failure of nested creation that was stopped.
func (f *Fault) stopOutcome() *outcome {
	only := Fault{Status: f.Status, Problem: f.Problem}
	return only.outcome(http.MethodPost)
}

// stopped marks nested creation that a script stopped.
var stopped = new(outcome)

// Script sets what goes wrong from now on. The script is called for every request that
// has a good key, one at a time, and must not call the API. Where it returns the zero
// value, FaultRate applies. Nil removes the script.
func (a *API) Script(script func(Call) Fault) {
	a.scriptMu.Lock()
	defer a.scriptMu.Unlock()
	a.script = script
}

// fault returns what goes wrong with a call.
func (a *API) fault(c Call) Fault {
	a.scriptMu.Lock()
	var f Fault
	if a.script != nil {
		f = a.script(c)
	}
	a.scriptMu.Unlock()
	if f == (Fault{}) && a.cfg.FaultRate > 0 {
		return a.draw(c)
	}
	return f
}

// draw draws a fault for a call from the seed, the call, and how often it came before.
func (a *API) draw(c Call) Fault {
	nth := c.Nth
	if c.Key == "" {
		nth = c.NthRef
	}
	sum := sha256.Sum256([]byte(c.Method + c.Path + "\n" + c.Key + "\n" + strconv.Itoa(nth)))
	rng := rand.New(rand.NewPCG(a.cfg.Seed, binary.BigEndian.Uint64(sum[:])))
	if rng.Float64() >= a.cfg.FaultRate {
		return Fault{}
	}
	if c.Method != http.MethodPost {
		return lookupFaults[rng.IntN(len(lookupFaults))]
	}
	return postFaults[rng.IntN(len(postFaults))]
}

// FaultRate draws from lookupFaults and postFaults. They contain no redirects and no
// answers about another bill, because a client must survive them, and those stop it for
// good.
var (
	lookupFaults = [...]Fault{
		{Status: 500},
		{Status: 502, Body: "<html>bad gateway</html>"},
		{Status: 503, RetryAfter: "1"},
		{Status: 429, RetryAfter: "1"},
		{Drop: true},
		{DropMid: true},
		{Delay: 150 * time.Millisecond},
	}
	postFaults = [...]Fault{
		{Status: 500},
		{Status: 500, Store: true},
		{Status: 500, Apply: true},
		{Status: 500, Apply: true, Store: true},
		{Status: 502, Body: "<html>bad gateway</html>"},
		{Status: 503, RetryAfter: "1"},
		{Status: 504, Apply: true},
		{Status: 429, RetryAfter: "1"},
		{Drop: true},
		{Drop: true, Apply: true},
		{DropMid: true},
		{Garbage: true, Apply: true},
		{StopAfter: StopCustomer},
		{StopAfter: StopCustomer, Store: true},
		{StopAfter: StopAccount},
		{StopAfter: StopAccount, Store: true},
		{Delay: 150 * time.Millisecond},
	}
)
