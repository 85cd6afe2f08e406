package emulator

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// incoming is a request without its transport.
type incoming struct {
	method string
	path   string // escaped
	header http.Header
	body   []byte
}

// reply is an answer without its transport.
type reply struct {
	*outcome          // nil if the client closed the connection before there was one
	path       string // for the member instance of a problem
	replayed   bool
	retryAfter string
	location   string
	reference  string // answered in place of the object's own; "" = its own
	drop       bool
	dropMid    bool
}

// handle answers one request: count, key, script, limit, idempotency, execution. The
// error is ctx's, when the client closed the connection before the answer.
func (a *API) handle(ctx context.Context, in incoming) (reply, error) {
	t := read(in)
	call := Call{Method: in.method, Path: in.path, Reference: t.reference, Key: in.header.Get("Idempotency-Key"), Body: in.body}
	a.number(&call, t.scope)
	if refused := a.authorise(in.header); refused != nil {
		a.count(in.method, t)
		return reply{outcome: refused, path: in.path}, nil
	}
	f := a.fault(call)
	if a.count(in.method, t) {
		a.throttled.Add(1)
		return reply{outcome: refusal(429, "Slow down."), path: in.path, retryAfter: "1"}, nil
	}
	rep, err := a.perform(ctx, in, t, call.Key, &f)
	if rep.outcome != nil && rep.status == http.StatusTooManyRequests {
		a.throttled.Add(1)
	}
	rep.path = in.path
	return rep, err
}

// number sets how often the same was asked, in the two ways that a script can see.
func (a *API) number(c *Call, scope string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.Key != "" {
		k := askedKey{"key", c.Key}
		a.asked[k]++
		c.Nth = a.asked[k]
	}
	k := askedKey{scope, c.Reference}
	a.asked[k]++
	c.NthRef = a.asked[k]
}

// count counts a request that arrived, and reports whether it exceeds the limit of this
// second.
func (a *API) count(method string, t *task) (tooMany bool) {
	switch method {
	case http.MethodPost:
		a.posts.Add(1)
	case http.MethodGet:
		a.gets.Add(1)
	case http.MethodPatch:
		a.patches.Add(1)
	case http.MethodDelete:
		a.deletes.Add(1)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.scope == createBillScope && t.reference != "" {
		a.postsByRef[t.reference]++
	}
	return a.throttle(time.Now())
}

// authorise checks the bearer key (RFC 6750). It returns nil, or the refusal.
func (a *API) authorise(h http.Header) *outcome {
	value := h.Get("Authorization")
	scheme, key, _ := strings.Cut(value, " ")
	switch {
	case value == "":
		return refusal(401, "There is no API key.")
	case !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(key, "sk_") || !plain(key, "_-") || len(key) < len("sk_x"):
		return refusal(401, "The API key is malformed.")
	case strings.HasPrefix(key, DeletedKey):
		return refusal(403, "The API key was deleted.")
	case a.cfg.Key != "" && key != a.cfg.Key, a.cfg.Key == "" && !strings.HasPrefix(key, "sk_test_"):
		return refusal(401, "The API key is not known.")
	}
	return nil
}

// DeletedKey begins the keys that count as deleted. They are answered 403.
const DeletedKey = "sk_test_deleted"

// perform executes an authorised request, or answers with its fault.
func (a *API) perform(ctx context.Context, in incoming, t *task, key string, f *Fault) (reply, error) {
	post := in.method == http.MethodPost
	delay := a.cfg.Latency + f.Delay
	if f.answers() && !f.Apply && !(post && f.keeps()) {
		return f.bend(reply{outcome: f.outcome(in.method)}), wait(ctx, delay)
	}
	if !post {
		err := wait(ctx, delay)
		if err != nil {
			return reply{}, err
		}
		return f.mask(in.method, reply{outcome: a.execute(t, "")}), nil
	}
	if !validKey(key) {
		return reply{outcome: refusal(400, "Idempotency-Key must be 1 to 255 letters, digits and hyphens.")}, wait(ctx, delay)
	}
	return a.once(ctx, in, t, key, f, delay)
}

// execute runs a task that needs no idempotency.
func (a *API) execute(t *task, stop string) *outcome {
	if t.finding != nil {
		return t.finding
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.doLateWork(now)
	return t.do(&a.objects, stop, now)
}

// once executes a POST under its idempotency key, or answers what is stored under the
// key.
func (a *API) once(ctx context.Context, in incoming, t *task, key string, f *Fault, delay time.Duration) (reply, error) {
	request := fingerprint(in.method, in.path, in.body)
	start := time.Now()
	a.mu.Lock()
	a.doLateWork(start)
	rec, out, replayed := a.keys.begin(key, request, start)
	a.mu.Unlock()
	if rec == nil {
		if replayed {
			a.replayed.Add(1)
		}
		return f.mask(in.method, reply{outcome: out, replayed: replayed}), wait(ctx, delay)
	}
	work := func(now time.Time) { out = a.work(rec, in.method, t, f, now) } // under a.mu
	if f.Apply {
		a.mu.Lock()
		work(start)
		a.mu.Unlock()
		return f.mask(in.method, reply{outcome: out}), wait(ctx, delay)
	}
	err := wait(ctx, delay)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		// The client has closed the connection, and the server finishes its work all the
		// same.
		a.schedule(start.Add(delay), work)
		return reply{}, err
	}
	now := time.Now()
	a.doLateWork(now)
	work(now)
	return f.mask(in.method, reply{outcome: out}), nil
}

// work executes a task whose key is running, and stores what the key answers from now on.
// a.mu is held.
func (a *API) work(rec *keyRecord, method string, t *task, f *Fault, now time.Time) *outcome {
	if f.answers() && !f.Apply { // and Store: the API failed before it did anything
		out := f.outcome(method)
		a.keys.finish(rec, out)
		return out
	}
	out := t.finding
	if out == nil {
		out = t.do(&a.objects, f.StopAfter, now)
	}
	switch {
	case out == stopped:
		out = f.stopOutcome()
		if f.keeps() {
			a.keys.finish(rec, out)
		} else {
			a.keys.forget(rec)
		}
	case f.Apply && f.answers() && f.keeps():
		a.keys.finish(rec, f.outcome(method))
	default:
		a.keys.finish(rec, out)
	}
	return out
}

// mask replaces the answer to a request that was executed, if the fault has one of its
// own, and bends it.
func (f *Fault) mask(method string, rep reply) reply {
	if f.answers() && f.Apply {
		rep.outcome, rep.replayed = f.outcome(method), false
	}
	return f.bend(rep)
}

// bend adds what a fault does to any answer.
func (f *Fault) bend(rep reply) reply {
	rep.drop, rep.dropMid, rep.reference = f.Drop, f.DropMid, f.Reference
	rep.retryAfter, rep.location = f.RetryAfter, f.Redirect
	return rep
}

// wait waits for d, or until ctx ends. It returns the error of ctx.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
