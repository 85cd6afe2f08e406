package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// seeds are answers, good and odd, that readBill has to take as encoding/json does.
var seeds = []string{
	goodBill, fmt.Sprintf(longBill, "B-1"), " \t\r\n" + strings.ReplaceAll(goodBill, ":", " :\n\t") + "\n ", "{}", "", " ", "null", "[]", `"x"`, "1", "{", "}", "{}}", "{} {}", goodBill + "x", goodBill + "\x00",
	`{"id":"a","id":"b"}`, `{"id":"a","id":null}`, `{"ID":"a"}`, `{"Id":"a","id":"b"}`, `{"id":"a","iD":"b"}`, `{"\u0069d":"a"}`, "{\"\u017ftatus\":\"x\"}", `{"status":1}`, `{"status":{}}`, `{"id":["a"]}`,
	`{"id":"a\"b"}`, `{"id":"a\u0041"}`, `{"id":"é"}`, "{\"id\":\"\xff\"}", "{\"id\":\"a\nb\"}", "{\"id\":\"\x7f\"}", "{\"id\":\"\u2028\"}", "{\"\xff\":1}", `{"id":"\ud800"}`,
	`{"amount_due":0}`, `{"amount_due":-0}`, `{"amount_due":-1}`, `{"amount_due":00}`, `{"amount_due":01}`, `{"amount_due":1.0}`, `{"amount_due":1e2}`, `{"amount_due":"1"}`, `{"amount_due":null}`, `{"amount_due":true}`,
	`{"amount_due":9223372036854775807}`, `{"amount_due":9223372036854775808}`, `{"amount_due":-9223372036854775808}`, `{"amount_due":-}`, `{"amount_due":}`, `{"amount_due":1 2}`, `{"amount_due":+1}`,
	`{"amount_due":1,"amount_due":20.5}`, `{"amount_due":20.5,"amount_due":1}`,
	`{"x":1.5}`, `{"x":1.}`, `{"x":.5}`, `{"x":1.5e3}`, `{"x":-0.0}`, `{"x":01.5}`, `{"x":truex}`, `{"x":tru}`, `{"x":nul}`, `{"x":[]}`, `{"x":[1,]}`, `{"x":[,1]}`, `{"x":[1 2]}`, `{"x":{"id":"no"}}`, `{"x":{"a":1,}}`, `{"x":{,}}`,
	`{"x":1,}`, `{,"x":1}`, `{"x"}`, `{"x":}`, `{x:1}`, `{'x':1}`, `{"x":1;"y":2}`, `{"x":/**/1}`, "\ufeff{}", `{"x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `,"id":"a"}`,
	`{"x":` + strings.Repeat("[", 10001) + strings.Repeat("]", 10001) + `,"id":"a"}`, `{"x":` + strings.Repeat("[", 20) + `}`,
}

// sameAsJSON fails the test if readBill and encoding/json take body differently.
func sameAsJSON(t interface{ Fatalf(string, ...any) }, body []byte) {
	var got, want Bill
	err, wantErr := readBill(body, &got), json.Unmarshal(body, &want)
	if (err == nil) != (wantErr == nil) || got != want {
		t.Fatalf("%q:\n got %+v, %v\nwant %+v, %v", body, got, err, want, wantErr)
	}
}

// TestReadBill: as strict and as tolerant as encoding/json, for pieces of answers put together at random.
func TestReadBill(t *testing.T) {
	for _, body := range seeds {
		sameAsJSON(t, []byte(body))
		for i := range body {
			if i < 300 {
				sameAsJSON(t, []byte(body[:i]))
				sameAsJSON(t, []byte(body[i:]))
			}
		}
	}
	values := []string{`"a"`, `"é"`, `"a\n"`, "\"\xff\"", `""`, "0", "12", "-5", "1.5", "1e3", "01", "true", "false", "null", "{}", `{"id":"x"}`, "[]", `[1,"a",null]`, "[1,]", "", "nul"}
	names := []string{"id", "ID", "external_reference", "customer_id", "account_id", "status", "Status", "currency", "amount_due", "AMOUNT_DUE", "bill_date", "due_date", "metadata", "", "é", `\u0069d`}
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		space := rapid.SampledFrom([]string{"", "", "", " ", "\n", "\t", "\f"})
		piece := func(s string) { b.WriteString(space.Draw(t, "space") + s) }
		piece("{")
		for i := range rapid.IntRange(0, 6).Draw(t, "members") {
			if i > 0 {
				piece(",")
			}
			piece(`"` + rapid.SampledFrom(names).Draw(t, "name") + `"`)
			piece(":")
			piece(rapid.SampledFrom(values).Draw(t, "value"))
		}
		piece("}")
		piece("")
		sameAsJSON(t, []byte(b.String()))
	})
}

func FuzzReadBill(f *testing.F) {
	for _, body := range seeds {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) { sameAsJSON(t, body) })
}

// TestPlainBillIsPlain: the answer that the API documents is not left to encoding/json.
func TestPlainBillIsPlain(t *testing.T) {
	body := fmt.Appendf(nil, longBill, "B-1")
	var v Bill
	if s := (scanner{b: body}); !s.bill(&v) || !s.end() || v.ExternalReference != "B-1" {
		t.Errorf("%+v", v)
	}
}

func BenchmarkClassify(b *testing.B) {
	body := fmt.Appendf(nil, longBill, "INV-0001234")
	b.ReportAllocs()
	for b.Loop() {
		if a := classify(result{method: http.MethodPost, object: bills, asked: "INV-0001234", status: http.StatusCreated, body: body}); a.Kind != Created {
			b.Fatal(a.Err)
		}
	}
}
