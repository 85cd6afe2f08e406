package client

import "time"

// Kind is the verdict on one request: the left column of the table "Answers" in the delivery rules.
// A verdict is a value, never an error, and its zero value claims nothing.
type Kind uint8

const (
	// Unknown: nothing is known of the outcome. The zero value, so that success is never a default.
	Unknown Kind = iota
	// Created: 201, readable, and about the reference that was sent. Answer.Bill is set, or Customer or Account
	// where that was created.
	Created
	// Found: 200 on a GET, readable, and about the reference or id that was asked for.
	Found
	// Absent: 404 on a GET.
	Absent
	// Mismatched: a 2xx about another reference. The set-up cannot be trusted: look up, and stop the run.
	Mismatched
	// Unreadable: a 2xx whose body could not be read as the object it should be (a POST answered
	// 200 or 204 counts here too: it is no proof).
	Unreadable
	// Redirected: 3xx. Never followed.
	Redirected
	// Refused: the API refuses this row for good: 400, 402, 404 on a POST, 422, any other 4xx.
	Refused
	// KeyRefused: 401 or 403.
	KeyRefused
	// InFlight: 409, the first request with this idempotency key is still running.
	InFlight
	// KeyReused: 422, this idempotency key was used with another body before.
	KeyReused
	// Taken: a 409 or 422 that says, or may be read as saying, that a reference is taken: the bill's, or a nested
	// object's. A 422 that says nothing at all counts here too: only a look-up can tell.
	Taken
	// Throttled: 429. Nothing was executed. Answer.RetryAfter is set where the API gave one.
	Throttled
	// ServerFault: any 5xx, and 408 and 425, by which a server gives up on a request. The outcome is unknown.
	ServerFault
	// NotSent: no connection could be made (DNS, connect, TLS handshake), or the context ended before there was
	// one, or the request could not be built: no byte of it was sent.
	NotSent
	// Untrusted: the server's certificate was refused. Nothing was sent; the run stops.
	Untrusted
	// Lost: the connection broke or timed out after the request may have been sent. Also a 409 or 422 whose body broke
	// off, for its body alone says what it means; Answer.Status is set then.
	Lost
)

// Answer is what one request came to. It is a plain value: no body, no key, no personal data in it
// beyond what Problem says, and Err never quotes a request.
type Answer struct {
	Kind       Kind
	Status     int           // HTTP status; 0 when no answer arrived
	Replayed   bool          // Idempotent-Replayed: true was there
	RetryAfter time.Duration // 0: not given. Already clamped to 1 s…15 min when given
	Problem    Problem       // of a 4xx or 5xx
	Bill       *Bill         // of Created by CreateBill, or Found by GetBill
	Customer   *Customer     // of Created by CreateCustomer, or Found by GetCustomer
	Account    *Account      // of Created by CreateAccount, or Found by GetAccount
	Err        error         // why there is no usable answer: transport or decoding failure
}
