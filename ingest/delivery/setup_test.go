package delivery

import (
	"context"
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

// keyless answers alike whatever the key is.
type keyless struct {
	API
	answer client.Answer
}

func (k keyless) GetBill(context.Context, string) client.Answer             { return k.answer }
func (k keyless) GetBillWithWrongKey(context.Context, string) client.Answer { return k.answer }

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
		{"a gateway's page", emulator.Fault{Status: 403, Body: "<title>Blocked</title>"}, ErrSetup, "403: Blocked"},
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
	elsewhere := `{"type":"about:blank","title":"Not Found","detail":"no such path"}`
	lane.api = keyless{lane.api, client.Answer{Kind: client.Absent, Status: 404, Problem: client.Problem{Detail: elsewhere}}}
	if err := lane.Probe(t.Context(), "nobody-has-it"); !errors.Is(err, ErrSetup) || !strings.Contains(err.Error(), "does not look at the key") {
		t.Errorf("another path of the API's server: %v", err)
	}
	_, _, lane = newLane(t)
	body := []byte(`{"external_reference":"THERE","currency":"ZAR","amount_due":1,"customer":{"external_reference":"C"}}`)
	if a := lane.api.CreateBill(t.Context(), "key", "THERE", body); a.Kind != client.Created {
		t.Fatal(a.Label())
	}
	if err := lane.Probe(t.Context(), "THERE"); !errors.Is(err, ErrSetup) {
		t.Errorf("a bill that somebody has: %v", err)
	}
}
