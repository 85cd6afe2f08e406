package client

import "time"

// Kind is the verdict on one request. docs/delivery.md says what follows from each. A
// verdict is a value, never an error, and its zero value claims nothing.
type Kind uint8

const (
	// Unknown: nothing is known about the outcome. It is the zero value, so that success
	// is never a default.
	Unknown Kind = iota
	// Created: 201, readable, and about the reference that was sent. Answer.Bill is set,
	// or Customer, Account or PaymentRequest, whichever was created.
	Created
	// Found: 200 on a GET, readable, and about the reference or id that was asked for.
	Found
	// Absent: 404 on a GET that is not a page; see Answer.Foreign.
	Absent
	// Mismatched: a 2xx about another reference. The setup cannot be trusted: look up,
	// and stop the run.
	Mismatched
	// Unreadable: a 2xx whose body could not be read as the object that was asked for. A
	// POST answered 200 or 204 counts here too, because only a 201 proves a creation.
	Unreadable
	// Redirected: 3xx. Never followed.
	Redirected
	// Refused: the API refuses this request for good: 400, 402, 404 on a POST, 422, any
	// other 4xx.
	Refused
	// KeyRefused: 401, or 403 that is not a page. A gateway may answer 403 to one request
	// alone; that the key is at fault shows when every request gets it.
	KeyRefused
	// Blocked: 403 as an HTML page. A gateway refuses this request, and the API most likely
	// did not see it.
	Blocked
	// InFlight: 409, because the first request with this idempotency key is still
	// running.
	InFlight
	// KeyReused: 422, because this idempotency key was used with another body before.
	KeyReused
	// Taken: a 409 or 422 whose text means, or may mean, that a reference is taken: the
	// bill's, or a nested object's. A 422 without a text counts here too. A look-up
	// decides.
	Taken
	// Throttled: 429. Nothing was executed. Answer.RetryAfter is set where the API gave
	// one.
	Throttled
	// ServerFault: any 5xx; 408, 423 and 425, with which a server gives up on a request;
	// and most 4xx that come as an HTML page, because the API itself answers JSON. The
	// outcome is unknown.
	ServerFault
	// NotSent: no byte of the request was sent. No connection could be made (DNS,
	// connect, TLS handshake), or the context ended before there was one, or the request
	// could not be built.
	NotSent
	// Untrusted: the server's certificate was refused. Nothing was sent; the run stops.
	Untrusted
	// ProxyRefused: the configured proxy refuses to connect to the API (407, 403). Nothing
	// was sent; the run stops.
	ProxyRefused
	// Lost: the connection broke or timed out after a byte of the request may have been
	// sent. A 409 or 422 whose body broke off counts here too, because only the body says
	// what it means, and so does a status below 200; Answer.Status is set then.
	Lost
)

// Answer is the outcome of one request. It is a plain value. It holds no body and no key,
// and no personal data beyond the texts of Problem. Err never quotes a request.
type Answer struct {
	Kind       Kind
	Status     int           // HTTP status; 0 when no answer arrived
	Replayed   bool          // the answer had Idempotent-Replayed: true
	Date       time.Time     // the server's time, of an answer that no cache kept; zero = not told
	RetryAfter time.Duration // clamped to 1 s…15 min; 0 when the API gave none
	Problem    Problem       // of a 4xx or 5xx
	Server     string        // name of the software that answered a 4xx or 5xx, such as nginx; "" = not known
	Page       string        // title of a 4xx or 5xx that is an HTML page
	Foreign    bool          // Absent, by a body that the API does not send: a gateway may have lost its route
	Bill       *Bill         // of Created by CreateBill, or Found by GetBill
	Customer   *Customer     // of Created by CreateCustomer, or Found by GetCustomer
	Account    *Account      // of Created by CreateAccount, or Found by GetAccount
	// PaymentRequest is that of Created by CreatePaymentRequest.
	PaymentRequest *PaymentRequest
	Err            error // why there is no usable answer: transport or decoding
}
