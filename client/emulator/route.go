package emulator

import (
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Kinds of objects, as paths name them.
const (
	kindBill           = "bills"
	kindCustomer       = "customers"
	kindAccount        = "accounts"
	kindPaymentRequest = "payment_requests"
	kindPayment        = "payments"
)

// pathOf is what the paths of a kind begin with.
func pathOf(kind string) string {
	if kind == kindPaymentRequest || kind == kindPayment {
		return "/collect/"
	}
	return "/billing/"
}

// createBillScope is the scope of requests that create bills.
const createBillScope = "POST bills"

// task is a request that was read and checked.
type task struct {
	scope     string   // method and kind of object: references are counted within it
	reference string   // external_reference in the body of a POST, or else what the path names
	finding   *outcome // the refusal of a request that is wrong; do is not called then
	do        func(o *objects, stop string, now time.Time) *outcome
}

func (t *task) refuse(status int, detail string) *task {
	t.finding = refusal(status, "%s", detail)
	return t
}

// read returns the task of a request.
func read(in incoming) *task {
	t := &task{scope: in.method}
	_, rest, _ := strings.Cut(strings.TrimPrefix(in.path, "/"), "/")
	kind, rest, named := strings.Cut(rest, "/")
	switch kind {
	case kindBill, kindCustomer, kindAccount, kindPaymentRequest, kindPayment:
	default:
		kind = ""
	}
	if kind == "" || !strings.HasPrefix(in.path, pathOf(kind)+kind) {
		return t.refuse(404, "There is no such resource.")
	}
	t.scope += " " + kind
	name, action, acts := strings.Cut(rest, "/")
	name, err := url.PathUnescape(name)
	if err != nil || (named && name == "") {
		return t.refuse(404, "There is no such resource.")
	}
	t.reference = name
	switch {
	case acts && (action != "void" || kind != kindBill):
		return t.refuse(404, "There is no such resource.")
	case acts && in.method == http.MethodPost:
		t.scope += " void"
		return t.readVoid(in, name)
	case acts:
		return t.refuse(405, "Use POST.")
	case !named && in.method == http.MethodPost && kind != kindPayment:
		return t.readCreate(in, kind)
	case named && in.method == http.MethodGet:
		t.do = func(o *objects, _ string, now time.Time) *outcome { return o.get(kind, name, now) }
		return t
	case named && in.method == http.MethodPatch && (kind == kindBill || kind == kindPaymentRequest):
		return t.readPatch(in, kind, name)
	case named && in.method == http.MethodDelete && kind == kindPaymentRequest:
		t.do = func(o *objects, _ string, _ time.Time) *outcome { return o.deletePaymentRequest(name) }
		return t
	}
	return t.refuse(405, "There is no such method on this resource.")
}

func (t *task) readCreate(in incoming, kind string) *task {
	if !isJSON(in.header) {
		return t.refuse(400, "Content-Type must be application/json.")
	}
	switch kind {
	case kindBill:
		r, finding := readBill(in.body)
		t.reference, t.finding = r.reference, finding
		t.do = func(o *objects, stop string, now time.Time) *outcome { return o.createBill(r, stop, now) }
	case kindCustomer:
		r, finding := readCustomer("", in.body)
		t.reference, t.finding = r.reference, finding
		t.do = func(o *objects, _ string, _ time.Time) *outcome {
			c, refused := o.createCustomer(r, false)
			return created(c, refused)
		}
	case kindAccount:
		r, finding := readAccount("", in.body, true)
		t.reference, t.finding = r.reference, finding
		t.do = func(o *objects, stop string, _ time.Time) *outcome {
			acc, refused := o.createAccount(r, false, stop)
			return created(acc, refused)
		}
	case kindPaymentRequest:
		r, finding := readPaymentRequest(in.body)
		t.reference, t.finding = r.reference, finding
		t.do = func(o *objects, _ string, now time.Time) *outcome { return o.createPaymentRequest(r, now) }
	}
	return t
}

func created[T any](object *T, refused *outcome) *outcome {
	if refused != nil {
		return refused
	}
	return ok(201, object)
}

func (t *task) readPatch(in incoming, kind, name string) *task {
	if !isJSON(in.header) {
		return t.refuse(400, "Content-Type must be application/json.")
	}
	if kind == kindPaymentRequest {
		r, finding := readPaymentRequestPatch(in.body)
		t.finding = finding
		t.do = func(o *objects, _ string, now time.Time) *outcome { return o.patchPaymentRequest(name, r, now) }
		return t
	}
	r, finding := readPatch(in.body)
	t.finding = finding
	t.do = func(o *objects, _ string, _ time.Time) *outcome { return o.patchBill(name, r) }
	return t
}

// readVoid accepts an empty body, or an empty object.
func (t *task) readVoid(in incoming, name string) *task {
	if len(in.body) > 0 {
		t.finding = openForm("", in.body).close()
	}
	t.do = func(o *objects, _ string, _ time.Time) *outcome { return o.voidBill(name) }
	return t
}

func isJSON(h http.Header) bool {
	value := h.Get("Content-Type")
	if value == "application/json" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(value)
	return err == nil && mediaType == "application/json"
}
