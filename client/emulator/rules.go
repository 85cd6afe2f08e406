package emulator

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of the API.
const (
	maxAmount    = 99_999_999 // minor units
	maxReference = 255
	maxText      = 255
	maxPairs     = 20
	maxMetaKey   = 50
	maxMetaValue = 500
)

var defaultRules = PaymentRules{MinAmount: 1, MaxAmount: maxAmount, UnderpaymentAllowed: true, OverpaymentAllowed: false}

// phonePattern is the API's pattern of an E.164 number.
var phonePattern = regexp.MustCompile(`^\+[1-9]\d{1,14}$`)

// customerRequest is a new customer.
type customerRequest struct {
	reference, name, email, phone, currency string
	balance                                 *int64
	metadata                                map[string]string
}

// party names a customer or an account: by an id, where allowed by a reference, or as a new
// object.
type party[T any] struct {
	name   string
	object *T
}

// accountRequest is a new account.
type accountRequest struct {
	reference, name, currency string
	balance                   *int64
	customer                  party[customerRequest]
	metadata                  map[string]string
}

// billRequest is a new bill; one of account and customer is set.
type billRequest struct {
	reference, currency, billDate, dueDate string
	amount                                 int64
	account                                *party[accountRequest]
	customer                               *party[customerRequest]
	metadata                               map[string]string
}

// patchRequest changes a bill. A nil member stays as it is.
type patchRequest struct {
	paid     *int64
	metadata map[string]string
}

// form reads the members of one JSON object strictly. A member that is unknown, has the
// wrong type or breaks a rule is a finding, and the first finding counts.
type form struct {
	path    string // of the object within the body: "", "account.", "account.customer."
	members map[string]json.RawMessage
	finding *outcome
}

// refuse records a finding, unless there is one. Details name members and rules, never
// values.
func (f *form) refuse(status int, format string, args ...any) {
	if f.finding == nil {
		f.finding = refusal(status, format, args...)
	}
}

func openForm(path string, body []byte) *form {
	f := &form{path: path}
	if err := json.Unmarshal(body, &f.members); err != nil || f.members == nil {
		f.refuse(400, "%s is not a JSON object.", nameOf(path))
	}
	return f
}

// nameOf returns what a finding calls the object at path.
func nameOf(path string) string {
	if path == "" {
		return "The body"
	}
	return strings.TrimSuffix(path, ".")
}

// take removes and returns a member; null counts as absent.
func (f *form) take(name string) (json.RawMessage, bool) {
	raw, there := f.members[name]
	delete(f.members, name)
	return raw, there && string(raw) != "null"
}

// close refuses what was not taken, and returns the finding.
func (f *form) close() *outcome {
	if len(f.members) > 0 {
		f.refuse(400, "%s has an unknown member.", nameOf(f.path))
	}
	return f.finding
}

// adopt takes over the finding of a nested form.
func (f *form) adopt(nested *outcome) {
	if f.finding == nil {
		f.finding = nested
	}
}

// text returns a string of 1 to limit characters, or "" when it is absent.
func (f *form) text(name string, limit int) string {
	raw, there := f.take(name)
	if !there {
		return ""
	}
	var s string
	switch err := json.Unmarshal(raw, &s); {
	case err != nil:
		f.refuse(400, "%s%s must be a string.", f.path, name)
	case s == "" || utf8.RuneCountInString(s) > limit:
		f.refuse(400, "%s%s must be 1 to %d characters.", f.path, name, limit)
	}
	return s
}

func (f *form) reference() string {
	s := f.text("external_reference", maxReference)
	if !validReference(s) {
		f.refuse(400, "%sexternal_reference must be 1 to %d letters, digits, _ and -.", f.path, maxReference)
	}
	return s
}

func (f *form) date(name string) string {
	s := f.text(name, len(time.DateOnly))
	if s == "" {
		return ""
	}
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		f.refuse(400, "%s%s must be a date, YYYY-MM-DD.", f.path, name)
	}
	return s
}

func (f *form) currency(required bool) string {
	s := f.text("currency", 3)
	switch {
	case s == "" && !required:
	case len(s) != 3 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "":
		f.refuse(400, "%scurrency must be an ISO 4217 code.", f.path)
	case s != "ZAR" && s != "USD":
		f.refuse(422, "%scurrency is not supported.", f.path)
	}
	return s
}

// integer returns a whole number that is written as one, without fraction, exponent or
// quotes.
func (f *form) integer(name string, low, high int64) *int64 {
	raw, there := f.take(name)
	if !there {
		return nil
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < low || n > high {
		f.refuse(400, "%s%s must be a whole number from %d to %d.", f.path, name, low, high)
	}
	return &n
}

func (f *form) balance(currency string) *int64 {
	n := f.integer("balance", -1<<53, 1<<53)
	if n != nil && currency == "" {
		f.refuse(400, "%sbalance needs a currency.", f.path)
	}
	return n
}

func (f *form) metadata() map[string]string {
	raw, there := f.take("metadata")
	if !there {
		return nil
	}
	var pairs map[string]*string
	if json.Unmarshal(raw, &pairs) != nil {
		f.refuse(400, "%smetadata must be an object of strings.", f.path)
		return nil
	}
	if len(pairs) > maxPairs {
		f.refuse(400, "%smetadata has more than %d pairs.", f.path, maxPairs)
	}
	out := make(map[string]string, len(pairs))
	for k, v := range pairs {
		switch {
		case v == nil:
			f.refuse(400, "%smetadata must be an object of strings.", f.path)
			continue
		case k == "" || utf8.RuneCountInString(k) > maxMetaKey:
			f.refuse(400, "%smetadata has a key that is not 1 to %d characters.", f.path, maxMetaKey)
		case *v == "" || utf8.RuneCountInString(*v) > maxMetaValue:
			f.refuse(400, "%smetadata has a value that is not 1 to %d characters.", f.path, maxMetaValue)
		}
		out[k] = *v
	}
	return out
}

// customer reads the member customer: an id, with byReference also a reference, or a new
// customer.
func (f *form) customer(byReference bool) *party[customerRequest] {
	raw, there := f.take("customer")
	if !there {
		return nil
	}
	if raw[0] == '{' {
		r, finding := readCustomer(f.path+"customer.", raw)
		f.adopt(finding)
		return &party[customerRequest]{object: r}
	}
	var name string
	if json.Unmarshal(raw, &name) != nil || !(validID("bcus_", name) || byReference && validReference(name)) {
		f.refuse(400, "%scustomer must be a customer's id or a new customer.", f.path)
	}
	return &party[customerRequest]{name: name}
}

// account reads the member account: an id, or a new account.
func (f *form) account() *party[accountRequest] {
	raw, there := f.take("account")
	if !there {
		return nil
	}
	if raw[0] == '{' {
		r, finding := readAccount(f.path+"account.", raw, false)
		f.adopt(finding)
		return &party[accountRequest]{object: r}
	}
	var name string
	if json.Unmarshal(raw, &name) != nil || !validID("bacc_", name) {
		f.refuse(400, "%saccount must be an account's id or a new account.", f.path)
	}
	return &party[accountRequest]{name: name}
}

func readCustomer(path string, body []byte) (*customerRequest, *outcome) {
	f := openForm(path, body)
	r := &customerRequest{
		reference: f.reference(),
		name:      f.text("name", maxText),
		email:     f.text("email", maxText),
		phone:     f.text("phone", maxText),
		currency:  f.currency(false),
	}
	r.balance, r.metadata = f.balance(r.currency), f.metadata()
	if local, domain, _ := strings.Cut(r.email, "@"); r.email != "" && (local == "" || domain == "" || strings.ContainsAny(r.email, " \t\r\n")) {
		f.refuse(400, "%semail must be a mail address.", f.path)
	}
	if r.phone != "" && !phonePattern.MatchString(r.phone) {
		f.refuse(400, "%sphone must be in E.164 form.", f.path)
	}
	return r, f.close()
}

func readAccount(path string, body []byte, byReference bool) (*accountRequest, *outcome) {
	f := openForm(path, body)
	r := &accountRequest{
		reference: f.reference(),
		name:      f.text("name", maxText),
		currency:  f.currency(false),
	}
	r.balance, r.metadata = f.balance(r.currency), f.metadata()
	if c := f.customer(byReference); c != nil {
		r.customer = *c
	} else {
		f.refuse(400, "%scustomer is missing.", f.path)
	}
	return r, f.close()
}

func readBill(body []byte) (*billRequest, *outcome) {
	f := openForm("", body)
	r := &billRequest{
		reference: f.reference(),
		currency:  f.currency(true),
		billDate:  f.date("bill_date"),
		dueDate:   f.date("due_date"),
		metadata:  f.metadata(),
		account:   f.account(),
		customer:  f.customer(false),
	}
	if n := f.integer("amount_due", 1, maxAmount); n != nil {
		r.amount = *n
	} else {
		f.refuse(400, "amount_due is missing.")
	}
	if (r.account == nil) == (r.customer == nil) {
		f.refuse(400, "Exactly one of account and customer must be given.")
	}
	return r, f.close()
}

func readPatch(body []byte) (*patchRequest, *outcome) {
	f := openForm("", body)
	r := &patchRequest{paid: f.integer("amount_paid", 0, maxAmount), metadata: f.metadata()}
	return r, f.close()
}

// validReference reports whether s is 1 to 255 characters of [a-zA-Z0-9_-].
func validReference(s string) bool {
	return 0 < len(s) && len(s) <= maxReference && plain(s, "_-")
}

// validID reports whether s is the prefix, then letters and digits.
func validID(prefix, s string) bool {
	rest, found := strings.CutPrefix(s, prefix)
	return found && rest != "" && len(s) <= maxReference && plain(rest, "")
}

// validKey reports whether s can be an idempotency key: 1 to 255 characters of
// [a-zA-Z0-9-].
func validKey(s string) bool { return 0 < len(s) && len(s) <= 255 && plain(s, "-") }

// plain reports whether s consists of ASCII letters, digits and the characters in more.
func plain(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(more, c) >= 0) {
			return false
		}
	}
	return true
}

// Problem is the document of a refusal (RFC 9457).
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance,omitempty"`
}

// problemFor returns the plain problem of a status.
func problemFor(status int) Problem {
	slug, title := "about:blank", fmt.Sprintf("Status %d", status)
	for _, known := range [...]struct {
		status      int
		slug, title string
	}{
		{400, "invalid-request", "Invalid request"},
		{401, "unauthorized", "Unauthorized"},
		{402, "request-failed", "Request failed"},
		{403, "forbidden", "Forbidden"},
		{404, "not-found", "Not found"},
		{405, "method-not-allowed", "Method not allowed"},
		{409, "conflict", "Conflict"},
		{422, "unprocessable", "Unprocessable"},
		{429, "too-many-requests", "Too many requests"},
		{500, "internal-error", "Internal server error"},
		{502, "bad-gateway", "Bad gateway"},
		{503, "unavailable", "Service unavailable"},
		{504, "gateway-timeout", "Gateway timeout"},
	} {
		if known.status == status {
			slug, title = "https://docs.momentpay.net/problems/"+known.slug, known.title
		}
	}
	return Problem{Type: slug, Title: title, Status: status}
}
