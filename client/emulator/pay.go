package emulator

import (
	"encoding/json"
	"errors"
	"net/http"
)

// PayPath applies a payment: POST {"bill": reference or id, "amount": minor units, "as":
// "bill_id"}. Without an amount, all that remains is paid. It needs no key and is not
// counted.
const PayPath = "/_sandbox/pay"

func (a *API) servePay(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
		return
	}
	answer := func(status int, contentType string, v any) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write(mustEncode(v)) // fails only if the client has closed the connection
	}
	refuse := func(status int, detail string) {
		p := problemFor(status)
		p.Detail, p.Instance = detail, PayPath
		answer(status, "application/problem+json", p)
	}
	var in struct {
		Bill   string `json:"bill"`
		Amount int64  `json:"amount"`
		As     string `json:"as"`
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if d.Decode(&in) != nil || in.Bill == "" {
		refuse(400, `The body must be {"bill": reference, "amount": minor units, "as": "bill_id"}.`)
		return
	}
	p, err := a.Pay(in.Bill, in.Amount, in.As)
	var refused *PayError
	if errors.As(err, &refused) {
		refuse(refused.Status, refused.Detail)
		return
	}
	answer(http.StatusOK, "application/json", p)
}
