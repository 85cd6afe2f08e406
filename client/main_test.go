package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// serveFast, in the environment, makes the test binary a server for benchmarks, so that
// what they measure is the client alone.
const serveFast = "BILLDROP_TEST_SERVE_FAST"

func TestMain(m *testing.M) {
	if os.Getenv(serveFast) != "" {
		if err := fastServer(); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// fastServer answers every POST with its bill until standard input ends. It prints its
// address.
func fastServer() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = l.Close()
	}()
	err = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, rest, _ := bytes.Cut(body, []byte(`"external_reference":"`))
		reference, _, _ := bytes.Cut(rest, []byte(`"`))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, longBill, reference)
	}))
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// longBill is an answer with all that the API's documents name, about a reference.
const longBill = `{"id":"bill_01JABCDEF","external_reference":"%s","customer_id":"bcus_01JABCDEF","account_id":"bacc_01JABCDEF","status":"unpaid",` +
	`"currency":"ZAR","amount_due":123456,"amount_paid":0,"amount_remaining":123456,"bill_date":"2026-11-23","due_date":"2026-12-31",` +
	`"payment_rules":{"min_amount":null,"max_amount":null,"underpayment_allowed":true,"overpayment_allowed":false},"metadata":{}}`
