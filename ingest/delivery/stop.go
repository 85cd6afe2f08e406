package delivery

import (
	"errors"
	"fmt"
	"strings"

	"billdrop/client"
)

var (
	// ErrStopped marks every run that ended before its work was done although no row is to blame:
	// the API is down or refuses the key, or a disk is full. It is safe to run again.
	ErrStopped = errors.New("stopped before the work was done")
	// ErrSetup marks an ErrStopped that waiting does not mend: the operator has to correct the
	// set-up.
	ErrSetup = errors.New("the set-up has to be corrected")
)

// Stop is why a run ended before its work was done. errors.Is finds ErrStopped in it, and
// ErrSetup if Setup is set.
type Stop struct {
	Reason string // what is wrong
	Hint   string // what to do, before the next run
	Setup  bool   // waiting does not help
	Err    error  // the error behind it; nil: none
}

func (s *Stop) Error() string { return ErrStopped.Error() + ": " + s.Reason }

// Advice returns what the operator is to do about it.
func (s *Stop) Advice() string { return s.Hint }

// Is reports whether target is ErrStopped, or ErrSetup for a Stop with Setup.
func (s *Stop) Is(target error) bool {
	return target == ErrStopped || target == ErrSetup && s.Setup
}

func (s *Stop) Unwrap() error { return s.Err }

// stopSameID is the Stop of a run in which two references were answered with one bill id.
var stopSameID = &Stop{Setup: true, Reason: "the API answers with the same bill id for two references",
	Hint: "check what stands between this machine and api.base_url, then ask Moment"}

// stopsAll reports whether an answer shows that nothing more may be sent to this API. A 403 does
// only if no answer has shown that the key is good; see gate.awaitProof.
func stopsAll(a client.Answer) bool {
	switch a.Kind {
	case client.Mismatched, client.Redirected, client.KeyRefused, client.Untrusted, client.ProxyRefused:
		return true
	}
	return false
}

// stopReason returns the Stop for an answer that ends the run. It quotes no text of the API, which
// may contain a row's data.
func stopReason(a client.Answer) error {
	status := fmt.Sprintf("%d %s", a.Status, client.StatusText(a.Status))
	switch a.Kind {
	case client.KeyRefused:
		return &Stop{Setup: true, Reason: "the API refuses the key (" + status + ")",
			Hint: "check api.key_file and that the key is active"}
	case client.Redirected:
		return &Stop{Setup: true, Reason: fmt.Sprintf("the API answers with a redirect (%d), which is never followed", a.Status),
			Hint: "correct api.base_url"}
	case client.Untrusted:
		return &Stop{Setup: true, Reason: fmt.Sprintf("the API's certificate is not trusted (%s)", a.Reason()),
			Hint: "check api.base_url and the machine's certificates; a private authority's goes into api.ca_file"}
	case client.ProxyRefused:
		return &Stop{Setup: true, Reason: "the proxy refuses the connection to the API (" + a.Reason() + ")",
			Hint: "check api.proxy, its user and api.proxy_password_file, and that the proxy may connect to the host of api.base_url"}
	case client.Mismatched:
		return &Stop{Setup: true, Reason: "the API answered about another bill than was asked for",
			Hint: "check what stands between here and api.base_url"}
	case client.Refused:
		return &Stop{Setup: true, Reason: "the API refuses the first rows all alike (" + status + "), so no row is blamed",
			Hint: "check api.base_url and that the merchant may bill"}
	}
	return &Stop{Reason: "the API answered " + a.Label()}
}

// outageHint returns what to do about an outage in which a was the last answer.
func outageHint(a client.Answer) string {
	switch {
	case a.Kind == client.Blocked:
		return "ask those who run the gateway to let these requests through; nothing is lost"
	case strings.Contains(a.Reason(), "certificate required"):
		return "name a certificate that the server accepts in api.client_cert_file and api.client_key_file; nothing is lost"
	case a.Kind == client.NotSent:
		return "check the network, api.base_url and api.proxy, or wait until it is back; nothing is lost"
	}
	return "wait until it is back; nothing is lost"
}
