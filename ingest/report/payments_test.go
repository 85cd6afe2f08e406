package report_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

func TestPaymentsWriter(t *testing.T) {
	var b bytes.Buffer
	w := report.NewPaymentsWriter(&b)
	due, paid := int64(2000), int64(0)
	at := time.Date(2026, 11, 26, 6, 0, 0, 123_000_000, time.UTC)
	for _, p := range []ledger.Payment{
		{ReceivedAt: at, EventID: "evt_1", Type: "obligation.amount_applied", PaymentID: "pay_1", ObligationID: "ob_1", Currency: "ZAR", Amount: 500, MatchedBy: ledger.ByBill,
			Reference: "-B", BillID: "bill_1", AccountID: "bacc_1", CustomerID: "bcus_1", State: ledger.BillMoney{Status: "unpaid", Due: &due, Paid: &paid}},
		{ReceivedAt: at, EventID: "evt_2", Type: "payment_request.paid", Currency: "USD", Amount: 1, MatchedBy: ledger.ByNone},
	} {
		if err := w.Write(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	const want = "received_at,event_id,type,payment_id,obligation_id,currency,amount,matched_by,bill_reference,bill_id,account_id,customer_id," +
		"bill_status,bill_amount_due,bill_amount_paid,bill_amount_remaining\n" +
		"2026-11-26T06:00:00.123Z,evt_1,obligation.amount_applied,pay_1,ob_1,ZAR,500,bill_id,'-B,bill_1,bacc_1,bcus_1,unpaid,2000,0,\n" +
		"2026-11-26T06:00:00.123Z,evt_2,payment_request.paid,,,USD,1,none,,,,,,,,\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if name := report.PaymentsName("acme", at, 1) + " " + report.PaymentsName("acme", at, 2); name != "payments-acme-20261126T060000Z.csv payments-acme-20261126T060000Z-2.csv" {
		t.Error(name)
	}
}

// TestOwnReportsAreKnown: what is written here is not taken for a bill file.
func TestOwnReportsAreKnown(t *testing.T) {
	var payments, verified bytes.Buffer
	if err := report.NewPaymentsWriter(&payments).Close(); err != nil {
		t.Fatal(err)
	}
	v := report.NewVerifyWriter(&verified)
	err := v.Write(report.Verified{Line: 2, BillReference: "=B", BillID: "bill_1", Finding: report.Changed, Detail: "@x", BillStatus: "unpaid"})
	if err == nil {
		err = v.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, line, _ := strings.Cut(verified.String(), "\n"); line != "2,'=B,bill_1,changed,'@x,unpaid,,,\n" {
		t.Errorf("line %q", line)
	}
	for name, text := range map[string]string{"payments": payments.String(), "verify": verified.String()} {
		if own, err := billfile.OwnReport(strings.NewReader(text)); own == nil || err != nil {
			t.Errorf("a %s report is not known as one: %v", name, err)
		}
	}
}
