package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
)

// Label returns the answer in a few fixed words, for the ledger and for logs: "201", "409
// taken", "500 replayed", "timeout", "not sent: connection refused". It never contains text
// of the API or of a request.
func (a Answer) Label() string {
	label := a.label()
	if a.Replayed {
		label += " replayed"
	}
	return label
}

func (a Answer) label() string {
	status := strconv.Itoa(a.Status)
	switch a.Kind {
	case Mismatched:
		return status + " other reference"
	case Unreadable:
		return status + " unreadable"
	case InFlight:
		return status + " in flight"
	case KeyReused:
		return status + " key reused"
	case Taken:
		return status + " taken"
	case Blocked:
		return status + " page"
	case NotSent:
		if a.Err == nil {
			return "not sent"
		}
		return "not sent: " + causeOf(a.Err)
	case Untrusted:
		return "certificate refused"
	case ProxyRefused:
		return "proxy refused"
	case Lost:
		return lostLabel(a.Err)
	case Unknown:
		return "unknown"
	}
	return status // Created, Found, Absent, Redirected, Refused, KeyRefused, Throttled, ServerFault
}

// lostLabel returns how a request was lost.
func lostLabel(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.As(err, &timeout) && timeout.Timeout(): // context.DeadlineExceeded is one
		return "timeout"
	}
	return "connection lost"
}

var kindNames = [...]string{"unknown", "created", "found", "absent", "mismatched", "unreadable", "redirected", "refused",
	"key refused", "blocked", "in flight", "key reused", "taken", "throttled", "server fault", "not sent", "untrusted", "proxy refused", "lost"}

// String returns the verdict's name.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// StatusText returns what an HTTP status means, in the words of RFC 9110.
func StatusText(status int) string { return http.StatusText(status) }
