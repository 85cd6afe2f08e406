package delivery

import (
	"errors"
	"strings"
	"testing"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
)

// newLane makes a lane to an API in memory.
func newLane(t *testing.T) (*emulator.API, *emulator.Pipes, *Lane) {
	t.Helper()
	api := emulator.New(emulator.Config{})
	pipes := api.ServePipes()
	t.Cleanup(pipes.Close)
	c, err := client.New(client.Config{BaseURL: "http://127.0.0.1:1", Key: "sk_test_lane", MaxConns: 8, Dial: pipes.Dial})
	if err != nil {
		t.Fatal(err)
	}
	return api, pipes, NewLane(ledger.Scope{Merchant: "acme", Mode: "test"}, c, testPolicy())
}

func TestProbe(t *testing.T) {
	unreachable := emulator.Fault{Delay: -1} // not a fault of the API: nothing listens
	for _, c := range []struct {
		name  string
		fault emulator.Fault
		is    error
		says  string
	}{
		{"the API", emulator.Fault{}, nil, ""},
		{"another server", emulator.Fault{Status: 404, Body: "<html>not here</html>"}, ErrSetup, "page for people: correct api.base_url"},
		{"a key that it does not know", emulator.Fault{Status: 401}, ErrSetup, "refuses the key"},
		{"a key that may not", emulator.Fault{Status: 403}, ErrSetup, "refuses the key"},
		{"a redirect", emulator.Fault{Redirect: "http://127.0.0.1:2/"}, ErrSetup, "redirect"},
		{"too many requests", emulator.Fault{Status: 429}, ErrStopped, "429"},
		{"not well", emulator.Fault{Status: 503}, ErrStopped, "not well (503"},
		{"not there", unreachable, ErrStopped, "no answer"},
		{"gone", emulator.Fault{Drop: true}, ErrStopped, "no answer"},
		{"odd", emulator.Fault{Status: 418}, ErrSetup, "418"},
	} {
		api, pipes, lane := newLane(t)
		api.Script(func(emulator.Call) emulator.Fault { return c.fault })
		pipes.Refuse(c.fault == unreachable)
		err := lane.Probe(t.Context(), "nobody-has-it")
		var stop *Stop
		if !errors.Is(err, c.is) || err != nil && (!errors.As(err, &stop) || !strings.Contains(stop.Reason+": "+stop.Hint, c.says)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	_, _, lane := newLane(t)
	body := []byte(`{"external_reference":"THERE","currency":"ZAR","amount_due":1,"customer":{"external_reference":"C"}}`)
	if a := lane.api.CreateBill(t.Context(), "key", "THERE", body); a.Kind != client.Created {
		t.Fatal(a.Label())
	}
	if err := lane.Probe(t.Context(), "THERE"); !errors.Is(err, ErrSetup) {
		t.Errorf("a bill that somebody has: %v", err)
	}
}
