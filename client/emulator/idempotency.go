package emulator

import (
	"crypto/sha256"
	"time"
)

// keyRecord is what is stored under one idempotency key.
type keyRecord struct {
	key     string
	used    time.Time // first use
	request [sha256.Size]byte
	running bool
	outcome *outcome // of the first request, once it is over
}

// keyStore keeps idempotency keys from their first use until they expire, as the draft of
// the IETF (draft-ietf-httpapi-idempotency-key-header) describes it. The API's lock
// guards it.
type keyStore struct {
	ttl     time.Duration
	records map[string]*keyRecord
	queue   []*keyRecord // in order of first use, for expiry
}

// fingerprint identifies a request among those with the same key.
func fingerprint(method, path string, body []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(method+" "+path+"\n"), body...))
}

// begin looks up a key. A new one is stored as running and returned, for finish or
// forget. Otherwise the record is nil and the outcome is the answer: the stored one
// (replayed), 409 while the first request is running, 422 for another request.
func (s *keyStore) begin(key string, request [sha256.Size]byte, now time.Time) (rec *keyRecord, out *outcome, replayed bool) {
	s.expire(now)
	held := s.records[key]
	switch {
	case held == nil:
		rec = &keyRecord{key: key, used: now, request: request, running: true}
		s.records[key] = rec
		s.queue = append(s.queue, rec)
		return rec, nil, false
	case held.request != request:
		return nil, refusal(422, "This Idempotency-Key was used with a different request body."), false
	case held.running:
		return nil, refusal(409, "A request with this Idempotency-Key is still being processed."), false
	}
	return nil, held.outcome, true
}

// finish stores the outcome of the request that began rec.
func (s *keyStore) finish(rec *keyRecord, out *outcome) {
	rec.outcome, rec.running = out, false
}

// forget removes a record, as though the key had never been used.
func (s *keyStore) forget(rec *keyRecord) {
	if s.records[rec.key] == rec {
		delete(s.records, rec.key)
	}
}

// expire removes the keys whose time is over.
func (s *keyStore) expire(now time.Time) {
	for len(s.queue) > 0 && now.Sub(s.queue[0].used) >= s.ttl {
		s.forget(s.queue[0])
		s.queue[0] = nil
		s.queue = s.queue[1:]
	}
}
