package delivery

import (
	"billdrop/client"
)

// maxSpared answers of a row that mean "too many" use up no attempt. From the next one on, each
// does: then it is the row that the server does not like.
const maxSpared = 9

// busy reports whether an answer asks for fewer requests rather than reports a fault: 503, which
// gateways also give to what exceeds a rate, and 502 or 504 with Retry-After.
func busy(a client.Answer) bool {
	if a.Kind != client.ServerFault || a.Replayed {
		return false
	}
	return a.Status == 503 || (a.Status == 502 || a.Status == 504) && a.RetryAfter > 0
}

// sparing decides which busy answers to one request and its repetitions use up no attempt. The
// zero value is ready.
type sparing struct {
	count    int    // busy answers so far
	answered uint64 // good answers that the gate had seen when the last one was sent
}

// spares reports whether the answer to the request of t uses up no attempt: it is busy, and names
// a time, or another request got a good answer since the one before was sent.
func (s *sparing) spares(g *gate, t ticket, a client.Answer) bool {
	alive := g.goodAnswers() > s.answered
	s.answered = t.answered
	if !busy(a) {
		return false
	}
	s.count++
	return s.count <= maxSpared && (alive || a.RetryAfter > 0)
}
