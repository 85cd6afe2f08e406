package emulator_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"billdrop/client"
	"billdrop/client/emulator"
)

const key = "sk_test_abc"

// answer is what came back for a raw request.
type answer struct {
	status   int
	replayed bool
	header   http.Header
	body     map[string]any
	raw      string
}

func (a answer) text(member string) string {
	s, _ := a.body[member].(string)
	return s
}

// ask has the API answer a raw request. The fields of header may be overridden; "" takes
// one away.
func ask(t *testing.T, api *emulator.API, method, path, body string, header map[string]string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://api.example"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"Authorization": "Bearer " + key, "Content-Type": "application/json"}
	maps.Copy(all, header)
	for name, value := range all {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	res := httptest.NewRecorder()
	api.ServeHTTP(res, req)
	a := answer{status: res.Code, replayed: res.Header().Get("Idempotent-Replayed") == "true", header: res.Header(), raw: res.Body.String()}
	_ = json.Unmarshal(res.Body.Bytes(), &a.body) // nil when it is not an object
	return a
}

// post sends a POST under an idempotency key.
func post(t *testing.T, api *emulator.API, path, key, body string) answer {
	t.Helper()
	return ask(t, api, "POST", path, body, map[string]string{"Idempotency-Key": key})
}

func expect(t *testing.T, a answer, status int, replayed bool) answer {
	t.Helper()
	if a.status != status || a.replayed != replayed {
		t.Fatalf("got %d, replayed %v, %s; want %d, %v", a.status, a.replayed, a.raw, status, replayed)
	}
	return a
}

const (
	customerC = `{"external_reference":"C-1","name":"Name","email":"a@b.example","phone":"+27821234567"}`
	accountA  = `{"external_reference":"A-1","name":"Acc","customer":` + customerC + `}`
)

func bill(reference, party string) string {
	return fmt.Sprintf(`{"external_reference":%q,"currency":"ZAR","amount_due":2000,%s}`, reference, party)
}

// TestObjects: what each object is answered with, made alone and nested, and found again
// by id and reference.
func TestObjects(t *testing.T) {
	api := emulator.New(emulator.Config{})
	c := expect(t, post(t, api, "/billing/customers", "k1", `{"external_reference":"C-0","name":"N","currency":"ZAR","balance":-5,"metadata":{"a":"b"}}`), 201, false)
	if !strings.HasPrefix(c.text("id"), "bcus_") || c.text("name") != "N" || c.body["balance"] != -5.0 || c.body["payment_rules"] == nil {
		t.Errorf("customer %s", c.raw)
	}
	byID := expect(t, post(t, api, "/billing/accounts", "k2", `{"external_reference":"A-0","customer":"`+c.text("id")+`"}`), 201, false)
	byRef := expect(t, post(t, api, "/billing/accounts", "k3", `{"external_reference":"A-9","customer":"C-0"}`), 201, false)
	if byID.text("customer_id") != c.text("id") || byRef.text("customer_id") != c.text("id") {
		t.Errorf("accounts %s %s", byID.raw, byRef.raw)
	}
	nested := expect(t, post(t, api, "/billing/bills", "k4", bill("B-1", `"account":`+accountA+`,"due_date":"2026-12-01","metadata":{"m":"v"}`)), 201, false)
	if nested.text("account_id") == "" || nested.text("customer_id") == "" || nested.text("status") != "unpaid" || nested.body["amount_remaining"] != 2000.0 ||
		nested.text("due_date") != "2026-12-01" || nested.text("bill_date") == "" {
		t.Errorf("bill %s", nested.raw)
	}
	direct := expect(t, post(t, api, "/billing/bills", "k5", bill("B-2", `"customer":"`+nested.text("customer_id")+`"`)), 201, false)
	if _, there := direct.body["account_id"]; there || direct.text("customer_id") != nested.text("customer_id") {
		t.Errorf("bill %s", direct.raw)
	}
	known := expect(t, post(t, api, "/billing/bills", "k6", bill("B-3", `"account":"`+nested.text("account_id")+`"`)), 201, false)
	if known.text("account_id") != nested.text("account_id") || known.text("customer_id") != nested.text("customer_id") {
		t.Errorf("bill %s", known.raw)
	}
	mixed := expect(t, post(t, api, "/billing/bills", "k7", bill("B-4", `"account":{"external_reference":"A-2","customer":"`+c.text("id")+`"}`)), 201, false)
	if mixed.text("customer_id") != c.text("id") {
		t.Errorf("bill %s", mixed.raw)
	}
	for _, path := range []string{"/billing/bills/B-1", "/billing/bills/" + nested.text("id"), "/billing/bills/%42-1"} {
		if got := expect(t, ask(t, api, "GET", path, "", nil), 200, false); !reflect.DeepEqual(got.body, nested.body) {
			t.Errorf("%s: %s", path, got.raw)
		}
	}
	expect(t, ask(t, api, "GET", "/billing/customers/C-1", "", nil), 200, false)
	expect(t, ask(t, api, "GET", "/billing/accounts/A-1", "", nil), 200, false)
	for _, path := range []string{"/billing/bills/B-9", "/billing/customers/A-1", "/billing/accounts/bacc_x", "/billing/bills/b-1"} {
		if got := expect(t, ask(t, api, "GET", path, "", nil), 404, false); got.header.Get("Content-Type") != "application/problem+json" || got.text("instance") != path || got.body["status"] != 404.0 {
			t.Errorf("%s: %s", path, got.raw)
		}
	}
	s := api.State()
	if len(s.Bills) != 4 || len(s.Customers) != 2 || len(s.Accounts) != 4 || s.Posts != 7 || s.Gets != 9 || s.PostsByReference["B-1"] != 1 || len(s.PostsByReference) != 4 {
		t.Errorf("state %+v", s)
	}
}

// TestStrict: what the API would refuse is refused.
func TestStrict(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	with := func(members string) string { return bill("B-1", `"customer":"bcus_0",`+members) }
	pairs := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`"k%d":"v"`, i))
		}
		return `{` + strings.Join(list, ",") + `}`
	}
	customer := func(members string) string {
		return bill("B-1", `"customer":{"external_reference":"C-1",`+members+`}`)
	}
	for _, tc := range []struct {
		name, path, body string
		status           int
	}{
		{"no object", "bills", `[]`, 400},
		{"no JSON", "bills", `{`, 400},
		{"empty", "bills", ``, 400},
		{"null", "bills", `null`, 400},
		{"two documents", "bills", `{}{}`, 400},
		{"no reference", "bills", `{"currency":"ZAR","amount_due":1,"customer":"bcus_0"}`, 400},
		{"reference with a space", "bills", bill("B 1", `"customer":"bcus_0"`), 400},
		{"reference not ASCII", "bills", bill("Bé", `"customer":"bcus_0"`), 400},
		{"reference too long", "bills", bill(long(256), `"customer":"bcus_0"`), 400},
		{"reference a number", "bills", `{"external_reference":1,"currency":"ZAR","amount_due":1,"customer":"bcus_0"}`, 400},
		{"no currency", "bills", `{"external_reference":"B-1","amount_due":1,"customer":"bcus_0"}`, 400},
		{"currency in lower case", "bills", `{"external_reference":"B-1","currency":"zar","amount_due":1,"customer":"bcus_0"}`, 400},
		{"currency unsupported", "bills", `{"external_reference":"B-1","currency":"EUR","amount_due":1,"customer":"bcus_0"}`, 422},
		{"no amount", "bills", `{"external_reference":"B-1","currency":"ZAR","customer":"bcus_0"}`, 400},
		{"amount 0", "bills", `{"external_reference":"B-1","currency":"ZAR","amount_due":0,"customer":"bcus_0"}`, 400},
		{"amount negative", "bills", `{"external_reference":"B-1","currency":"ZAR","amount_due":-1,"customer":"bcus_0"}`, 400},
		{"amount too large", "bills", `{"external_reference":"B-1","currency":"ZAR","amount_due":100000000,"customer":"bcus_0"}`, 400},
		{"amount a fraction", "bills", `{"external_reference":"B-1","currency":"ZAR","amount_due":20.00,"customer":"bcus_0"}`, 400},
		{"amount with an exponent", "bills", `{"external_reference":"B-1","currency":"ZAR","amount_due":1e3,"customer":"bcus_0"}`, 400},
		{"amount a string", "bills", `{"external_reference":"B-1","currency":"ZAR","amount_due":"2000","customer":"bcus_0"}`, 400},
		{"member unknown", "bills", with(`"note":"x"`), 400},
		{"member in another case", "bills", with(`"Due_Date":"2026-12-01"`), 400},
		{"read-only member", "bills", with(`"id":"bill_1"`), 400},
		{"date not a day", "bills", with(`"due_date":"2026-02-30"`), 400},
		{"date the other way round", "bills", with(`"bill_date":"01-02-2026"`), 400},
		{"date empty", "bills", with(`"bill_date":""`), 400},
		{"date with a time", "bills", with(`"due_date":"2026-02-01T00:00:00Z"`), 400},
		{"no party", "bills", `{"external_reference":"B-1","currency":"ZAR","amount_due":1}`, 400},
		{"both parties", "bills", with(`"account":"bacc_0"`), 400},
		{"party an account's id", "bills", bill("B-1", `"customer":"bacc_0"`), 400},
		{"party a reference", "bills", bill("B-1", `"customer":"C-1"`), 400},
		{"account a reference", "bills", bill("B-1", `"account":"A-1"`), 400},
		{"party a number", "bills", bill("B-1", `"customer":1`), 400},
		{"customer unknown", "bills", bill("B-1", `"customer":"bcus_0"`), 422},
		{"account unknown", "bills", bill("B-1", `"account":"bacc_0"`), 422},
		{"nested customer unknown", "bills", bill("B-1", `"account":{"external_reference":"A-1","customer":"bcus_0"}`), 422},
		{"nested account without customer", "bills", bill("B-1", `"account":{"external_reference":"A-1"}`), 400},
		{"nested account with member unknown", "bills", bill("B-1", `"account":{"external_reference":"A-1","customer":"bcus_0","x":1}`), 400},
		{"nested customer without reference", "bills", bill("B-1", `"customer":{"name":"x"}`), 400},
		{"nested customer with id", "bills", customer(`"id":"bcus_1"`), 400},
		{"name too long", "bills", customer(`"name":"` + long(256) + `"`), 400},
		{"email too long", "bills", customer(`"email":"` + long(250) + `@x.com"`), 400},
		{"email without @", "bills", customer(`"email":"x"`), 400},
		{"phone national", "bills", customer(`"phone":"0821234567"`), 400},
		{"phone too long", "bills", customer(`"phone":"+1234567890123456"`), 400},
		{"phone with a line end", "bills", customer(`"phone":"+27821234567\n"`), 400},
		{"balance without currency", "bills", customer(`"balance":1`), 400},
		{"metadata a list", "bills", with(`"metadata":[]`), 400},
		{"metadata not strings", "bills", with(`"metadata":{"a":1}`), 400},
		{"metadata null", "bills", with(`"metadata":{"a":null}`), 400},
		{"metadata too many", "bills", with(`"metadata":` + pairs(21)), 400},
		{"metadata key empty", "bills", with(`"metadata":{"":"v"}`), 400},
		{"metadata key too long", "bills", with(`"metadata":{"` + long(51) + `":"v"}`), 400},
		{"metadata value empty", "bills", with(`"metadata":{"k":""}`), 400},
		{"metadata value too long", "bills", with(`"metadata":{"k":"` + long(501) + `"}`), 400},
		{"account without customer", "accounts", `{"external_reference":"A-1"}`, 400},
		{"account of a customer unknown", "accounts", `{"external_reference":"A-1","customer":"C-9"}`, 422},
		{"customer without reference", "customers", `{}`, 400},
		{"no such resource", "cheques", `{}`, 404},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := emulator.New(emulator.Config{})
			a := expect(t, post(t, api, "/billing/"+tc.path, "k", tc.body), tc.status, false)
			if a.header.Get("Content-Type") != "application/problem+json" || a.text("title") == "" || a.text("detail") == "" || a.body["status"] != float64(tc.status) {
				t.Errorf("problem %s", a.raw)
			}
			if s := api.State(); len(s.Bills)+len(s.Accounts)+len(s.Customers) > 0 {
				t.Errorf("something was made: %+v", s)
			}
		})
	}
	api := emulator.New(emulator.Config{})
	for name, body := range map[string]string{
		"longest": bill(long(255), `"customer":{"external_reference":"C-1","name":"`+strings.Repeat("é", 255)+`","phone":"+123456789012345"},"metadata":`+pairs(20)),
		"widest":  `{"external_reference":"B_1-x","currency":"USD","amount_due":99999999,"due_date":null,"customer":{"external_reference":"C-2"},"metadata":{"` + long(50) + `":"` + long(500) + `"}}`,
	} {
		expect(t, post(t, api, "/billing/bills", name, body), 201, false)
	}
}

// TestKeys: which API keys are accepted, and that a refused request stores nothing under
// its idempotency key.
func TestKeys(t *testing.T) {
	for _, tc := range []struct {
		accepted, authorization string
		status                  int
	}{
		{"", "Bearer sk_test_abc", 201},
		{"", "bearer sk_test_abc", 201},
		{"", "", 401},
		{"", "sk_test_abc", 401},
		{"", "Basic sk_test_abc", 401},
		{"", "Bearer ", 401},
		{"", "Bearer pk_test_abc", 401},
		{"", "Bearer sk_", 401},
		{"", "Bearer sk_test_a b", 401},
		{"", "Bearer sk_live", 401},
		{"", "Bearer " + emulator.DeletedKey + "_1", 403},
		{"sk_mine", "Bearer sk_mine", 201},
		{"sk_mine", "Bearer sk_test_abc", 401},
	} {
		api := emulator.New(emulator.Config{Key: tc.accepted})
		expect(t, ask(t, api, "POST", "/billing/customers", customerC, map[string]string{"Authorization": tc.authorization, "Idempotency-Key": "k"}), tc.status, false)
		good := tc.accepted
		if good == "" {
			good = key
		}
		again := ask(t, api, "POST", "/billing/customers", customerC, map[string]string{"Authorization": "Bearer " + good, "Idempotency-Key": "k"})
		expect(t, again, 201, tc.status == 201)
	}
	api := emulator.New(emulator.Config{})
	for _, bad := range []string{"", "a_b", "a b", strings.Repeat("k", 256)} {
		expect(t, post(t, api, "/billing/customers", bad, customerC), 400, false)
	}
	expect(t, ask(t, api, "POST", "/billing/customers", customerC, map[string]string{"Idempotency-Key": "k", "Content-Type": "text/plain"}), 400, false)
	expect(t, post(t, api, "/billing/customers", strings.Repeat("k", 255), customerC), 201, false)
}

// TestMethods: what a resource does not do.
func TestMethods(t *testing.T) {
	api := emulator.New(emulator.Config{})
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/billing/bills", 405},
		{"DELETE", "/billing/bills/B-1", 405},
		{"PATCH", "/billing/customers/C-1", 405},
		{"GET", "/billing/bills/B-1/void", 405},
		{"POST", "/billing/customers/C-1/void", 404},
		{"GET", "/billing/bills/", 404},
		{"GET", "/billing", 404},
		{"GET", "/", 404},
		{"POST", "/billing/bills/B-1/void", 404},
		{"PATCH", "/billing/bills/B-1", 404},
		{"GET", "/collect/payments", 405},
		{"POST", "/collect/payments", 405},
		{"DELETE", "/collect/payments/pay_1", 405},
		{"GET", "/collect/payments/pay_1", 404},
		{"GET", "/billing/payments/pay_1", 404},
		{"PATCH", "/collect/payment_requests/pr_1", 404},
		{"DELETE", "/collect/payment_requests/pr_1", 404},
		{"DELETE", "/collect/payment_requests", 405},
	} {
		a := ask(t, api, tc.method, tc.path, "{}", map[string]string{"Idempotency-Key": "k" + strings.ReplaceAll(tc.method+tc.path, "/", "-")})
		if a.status != tc.status {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, a.status, a.raw)
		}
	}
}

// TestPayAndVoid: a bill's way through its statuses.
func TestPayAndVoid(t *testing.T) {
	api := emulator.New(emulator.Config{})
	for _, ref := range []string{"B-1", "B-2"} {
		expect(t, post(t, api, "/billing/bills", "k-"+ref, bill(ref, `"customer":{"external_reference":"C-`+ref+`"}`)), 201, false)
	}
	part := expect(t, ask(t, api, "PATCH", "/billing/bills/B-1", `{"amount_paid":500,"metadata":{"a":"b"}}`, nil), 200, false)
	if part.text("status") != "unpaid" || part.body["amount_remaining"] != 1500.0 || part.body["metadata"] == nil {
		t.Errorf("bill %s", part.raw)
	}
	merged := expect(t, ask(t, api, "PATCH", "/billing/bills/B-1", `{"metadata":{"c":"d"}}`, nil), 200, false)
	if pairs, _ := merged.body["metadata"].(map[string]any); len(pairs) != 2 || pairs["a"] != "b" || pairs["c"] != "d" {
		t.Errorf("bill %s", merged.raw)
	}
	whole := expect(t, ask(t, api, "PATCH", "/billing/bills/B-1", `{"amount_paid":2000}`, nil), 200, false)
	if whole.text("status") != "paid" || whole.body["amount_remaining"] != 0.0 {
		t.Errorf("bill %s", whole.raw)
	}
	expect(t, ask(t, api, "PATCH", "/billing/bills/B-1", `{"amount_due":1}`, nil), 400, false)
	expect(t, post(t, api, "/billing/bills/B-1/void", "v1", ""), 422, false)
	if void := expect(t, post(t, api, "/billing/bills/B-2/void", "v2", "{}"), 200, false); void.text("status") != "voided" {
		t.Errorf("bill %s", void.raw)
	}
	expect(t, post(t, api, "/billing/bills/B-2/void", "v2", "{}"), 200, true)
	expect(t, post(t, api, "/billing/bills/B-2/void", "v3", ""), 422, false)
	expect(t, ask(t, api, "PATCH", "/billing/bills/B-2", `{"amount_paid":1}`, nil), 422, false)
	expect(t, post(t, api, "/billing/bills", "k-3", bill("B-2", `"customer":{"external_reference":"C-3"}`)), 409, false)
	// What is stored under a key is what was answered, not what has become of the object.
	if first := expect(t, post(t, api, "/billing/bills", "k-B-1", bill("B-1", `"customer":{"external_reference":"C-B-1"}`)), 201, true); first.text("status") != "unpaid" {
		t.Errorf("replayed %s", first.raw)
	}
}

// TestTaken: a reference is taken once, and what was made on the way stays.
func TestTaken(t *testing.T) {
	for _, status := range []int{0, 422} {
		api := emulator.New(emulator.Config{TakenStatus: status})
		taken := max(status, 409)
		first := expect(t, post(t, api, "/billing/bills", "k1", bill("B-1", `"account":`+accountA)), 201, false)
		expect(t, post(t, api, "/billing/bills", "k2", bill("B-1", `"account":"`+first.text("account_id")+`"`)), taken, false)
		expect(t, post(t, api, "/billing/bills", "k2", bill("B-1", `"account":"`+first.text("account_id")+`"`)), taken, true)
		expect(t, post(t, api, "/billing/bills", "k3", bill("B-2", `"customer":`+customerC)), taken, false)
		expect(t, post(t, api, "/billing/customers", "k4", customerC), taken, false)
		expect(t, post(t, api, "/billing/accounts", "k5", `{"external_reference":"A-1","customer":"C-1"}`), taken, false)
		// The customer is new, the account is not: the customer stays behind.
		expect(t, post(t, api, "/billing/bills", "k6", bill("B-3", `"account":{"external_reference":"A-1","customer":{"external_reference":"C-2"}}`)), taken, false)
		// The parties are new, the bill is not: both stay behind.
		expect(t, post(t, api, "/billing/bills", "k7", bill("B-1", `"account":{"external_reference":"A-3","customer":{"external_reference":"C-3"}}`)), taken, false)
		s := api.State()
		if len(s.Bills) != 1 || len(s.Customers) != 3 || len(s.Accounts) != 2 {
			t.Errorf("state %+v", s)
		}
	}
}

// TestReuse: nested parties that exist are used as they are; those on their own are
// refused all the same.
func TestReuse(t *testing.T) {
	api := emulator.New(emulator.Config{ExistingParty: emulator.Reuse})
	first := expect(t, post(t, api, "/billing/bills", "k1", bill("B-1", `"account":`+accountA)), 201, false)
	again := expect(t, post(t, api, "/billing/bills", "k2", bill("B-2", `"account":{"external_reference":"A-1","name":"Other","customer":{"external_reference":"C-1","name":"Other"}}`)), 201, false)
	direct := expect(t, post(t, api, "/billing/bills", "k3", bill("B-3", `"customer":{"external_reference":"C-1"}`)), 201, false)
	if again.text("account_id") != first.text("account_id") || again.text("customer_id") != first.text("customer_id") || direct.text("customer_id") != first.text("customer_id") {
		t.Errorf("bills %s %s %s", first.raw, again.raw, direct.raw)
	}
	expect(t, post(t, api, "/billing/bills", "k4", bill("B-1", `"customer":{"external_reference":"C-1"}`)), 409, false)
	expect(t, post(t, api, "/billing/customers", "k5", customerC), 409, false)
	if s := api.State(); len(s.Customers) != 1 || s.Customers[0].Name != "Name" || len(s.Accounts) != 1 || s.Accounts[0].Name != "Acc" {
		t.Errorf("state %+v", s)
	}
}

// TestWeak: duplicates are let in, and seen.
func TestWeak(t *testing.T) {
	api := emulator.New(emulator.Config{Weak: true})
	a := expect(t, post(t, api, "/billing/bills", "k1", bill("B-1", `"customer":`+customerC)), 201, false)
	b := expect(t, post(t, api, "/billing/bills", "k2", bill("B-1", `"customer":"`+a.text("customer_id")+`"`)), 201, false)
	twice := api.Bills("B-1")
	if len(twice) != 2 || twice[0].ID != a.text("id") || twice[1].ID != b.text("id") || a.text("id") == b.text("id") {
		t.Errorf("bills %+v", twice)
	}
	if got := ask(t, api, "GET", "/billing/bills/B-1", "", nil); got.text("id") != a.text("id") {
		t.Errorf("got %s", got.raw)
	}
	if none := api.Bills("B-2"); len(none) != 0 {
		t.Errorf("bills %+v", none)
	}
}

// TestIDs: they follow from seed and reference, whatever the order, and are letters and
// digits.
func TestIDs(t *testing.T) {
	ids := func(seed uint64, refs ...string) map[string]string {
		api := emulator.New(emulator.Config{Seed: seed})
		for _, ref := range refs {
			expect(t, post(t, api, "/billing/bills", "k"+ref, bill(ref, `"account":{"external_reference":"`+ref+`","customer":{"external_reference":"`+ref+`"}}`)), 201, false)
		}
		out := make(map[string]string)
		for _, b := range api.State().Bills {
			out[b.ExternalReference] = b.ID + " " + b.AccountID + " " + b.CustomerID
			for _, id := range []string{b.ID, b.AccountID, b.CustomerID} {
				if _, rest, _ := strings.Cut(id, "_"); len(rest) != 16 || strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz234567") != "" {
					t.Errorf("id %q", id)
				}
			}
		}
		return out
	}
	one, two, other := ids(1, "x", "y"), ids(1, "y", "x"), ids(2, "x", "y")
	if !maps.Equal(one, two) || one["x"] == other["x"] || one["x"] == one["y"] {
		t.Errorf("ids %v %v %v", one, two, other)
	}
}

// TestManyAtOnce: however many send the same, there is one bill, and the others are
// answered that it is taken.
func TestManyAtOnce(t *testing.T) {
	api := emulator.New(emulator.Config{})
	s := httptest.NewServer(api)
	t.Cleanup(s.Close)
	c, err := client.New(client.Config{BaseURL: s.URL, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	body := client.EncodeBill(client.BillRequest{ExternalReference: "B-1", Currency: "ZAR", AmountDue: 1, Customer: &client.CustomerRef{New: &client.Customer{ExternalReference: "C-1"}}})
	var mu sync.Mutex
	var fresh, ids []string
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			a := c.CreateBill(t.Context(), fmt.Sprintf("key-%d", i%2), "B-1", body)
			mu.Lock()
			defer mu.Unlock()
			switch a.Kind {
			case client.Created:
				ids = append(ids, a.Bill.ID)
				if !a.Replayed {
					fresh = append(fresh, a.Bill.ID)
				}
			case client.Taken, client.InFlight:
			default:
				t.Errorf("%v %s %v", a.Kind, a.Label(), a.Err)
			}
		})
	}
	wg.Wait()
	if len(fresh) != 1 || len(slices.Compact(ids)) != 1 || len(api.Bills("B-1")) != 1 {
		t.Errorf("created %v, answered %v, held %+v", fresh, ids, api.Bills("B-1"))
	}
	if st := api.State(); st.Posts != 40 || st.PostsByReference["B-1"] != 40 {
		t.Errorf("posts %d, %v", st.Posts, st.PostsByReference)
	}
}

// TestStateOverHTTP: it needs no key, is not counted, and says what State says.
func TestStateOverHTTP(t *testing.T) {
	api := emulator.New(emulator.Config{})
	expect(t, post(t, api, "/billing/bills", "k1", bill("B-1", `"customer":`+customerC)), 201, false)
	s := httptest.NewServer(api)
	t.Cleanup(s.Close)
	res, err := http.Get(s.URL + emulator.StatePath)
	if err != nil {
		t.Fatal(err)
	}
	var got emulator.State
	if err := errors.Join(json.NewDecoder(res.Body).Decode(&got), res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 || !reflect.DeepEqual(got, api.State()) || got.Posts != 1 || got.Gets != 0 {
		t.Errorf("state %d %+v", res.StatusCode, got)
	}
	if a := ask(t, api, "GET", emulator.StatePath, "", map[string]string{"Authorization": ""}); a.status != 200 || a.body["posts"] != 1.0 {
		t.Errorf("state %d %s", a.status, a.raw)
	}
}
