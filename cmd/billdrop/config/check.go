package config

import (
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"billdrop/ingest/billfile"
)

const (
	ledgerScheme = "sqlite:"
	// maxAmount is the Billing API's own limit of one bill, in minor units.
	maxAmount = 99_999_999
	// maxWait bounds every duration that a row waits for: with key lifetimes of 24 h, and 20 h after which
	// a key is not used again, nothing of a row may take hours.
	maxWait = time.Hour
)

// fields are what a column of a bill file may be mapped to, but for metadata.KEY.
var fields = []string{
	"bill_reference", "amount_due", "currency", "bill_date", "due_date", "account_reference", "account_id",
	"customer_reference", "customer_id", "account_name", "customer_name", "customer_email", "customer_phone",
}

var (
	nameRule     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	currencyRule = regexp.MustCompile(`^[A-Z]{3}$`)
	regionRule   = regexp.MustCompile(`^[A-Z]{2}$`)
	metadataRule = regexp.MustCompile(`^metadata\..{1,50}$`)
)

const nameWords = "1 to 64 letters, digits, dots, dashes or underscores"

// checker holds a decoded configuration to the rules that single types cannot express.
type checker struct {
	*decoder
	config *Config
	needs  Needs
	dir    string // of the file: relative paths start there
}

func (k *checker) check() {
	c := k.config
	k.required("merchant", c.Merchant, "a name for your Moment merchant account, such as acme")
	if c.Merchant != "" && !nameRule.MatchString(c.Merchant) {
		k.problem("merchant", "is not valid; write %s", nameWords)
	}
	k.checkAPI("api", &c.API)
	k.checkSFTP()
	k.between("poll_interval", c.PollInterval, time.Millisecond, 24*time.Hour)
	k.checkLedger()
	k.required("spool_dir", c.SpoolDir, "a local directory for the files being worked on, such as /var/lib/billdrop/spool")
	if len(c.Feeds) == 0 {
		k.problem("feeds", "is missing; write at least one feed with its name and amounts, as config.example.yaml shows")
	}
	for i := range c.Feeds {
		k.checkFeed(i, &c.Feeds[i])
	}
	k.checkFeedNames()
	k.checkDirectories()
	k.checkLanes()
	k.checkKeys()
	k.checkCommands()
}

func (k *checker) required(key, value, what string) {
	if value == "" {
		k.problem(key, "is missing; write %s", what)
	}
}

func (k *checker) between(key string, value, least, most time.Duration) {
	if value < least || value > most {
		k.problem(key, "is out of range; write a duration between %s and %s", short(least), short(most))
	}
}

func (k *checker) within(key string, value, least, most int64) {
	if value < least || value > most {
		k.problem(key, "is out of range; write a number between %d and %d", least, most)
	}
}

func (k *checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		k.problem(key, "is not valid; write one of %s", strings.Join(allowed, ", "))
	}
}

func (k *checker) checkAPI(at string, a *API) {
	if what := baseURLProblem(a.BaseURL); what != "" {
		k.problem(join(at, "base_url"), "%s", what)
	}
	k.within(join(at, "concurrency"), int64(a.Concurrency), 1, 1024)
	k.within(join(at, "rate_limit"), int64(a.RateLimit), 0, 100_000)
	k.between(join(at, "timeout"), a.Timeout, time.Millisecond, maxWait)
	k.within(join(at, "max_attempts"), int64(a.MaxAttempts), 1, 1000)
	k.between(join(at, "backoff_min"), a.BackoffMin, time.Millisecond, maxWait)
	k.between(join(at, "backoff_max"), a.BackoffMax, time.Millisecond, maxWait)
	if a.BackoffMax < a.BackoffMin {
		k.problem(join(at, "backoff_max"), "is less than backoff_min (%s); write that much or more", short(a.BackoffMin))
	}
	k.between(join(at, "lookup_settle"), a.LookupSettle, 0, maxWait)
	k.between(join(at, "give_up_after"), a.GiveUpAfter, 0, 24*time.Hour)
}

// baseURLProblem: the key and people's data travel to this address, so it is https, or it is this machine.
func baseURLProblem(text string) string {
	const instead = "; write https://api.momentpay.net, or http:// with a loopback address such as http://127.0.0.1:8022"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return "is not a URL" + instead
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "must not hold a user, a query or a fragment" + instead
	case u.Port() != "" && !isPort(u.Port()):
		return "has a port that is not between 1 and 65535" + instead
	case u.Scheme == "https":
		return ""
	case u.Scheme == "http" && loopback(u.Hostname()):
		return ""
	case u.Scheme == "http":
		return "is http, which anyone on the way can read" + instead
	}
	return "has a scheme that is neither https nor http" + instead
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (k *checker) checkSFTP() {
	s := &k.config.SFTP
	if !k.needs.SFTP && !k.has("sftp") {
		return
	}
	k.required("sftp.address", s.Address, "the server's host and port, such as sftp.example.com:22")
	if s.Address != "" {
		s.Address = withPort(s.Address)
		if host, port, err := net.SplitHostPort(s.Address); err != nil || host == "" || !isPort(port) {
			k.problem("sftp.address", "is not valid; write host:port, such as sftp.example.com:22")
		}
	}
	k.required("sftp.user", s.User, "the user name to log in with")
	k.required("sftp.known_hosts_file", s.KnownHostsFile, "a file with the server's host key, in the form of ssh's known_hosts (ssh-keyscan -p PORT HOST prints it; compare the fingerprint with what the server's operator says)")
	if s.PrivateKeyFile != "" && s.PasswordFile != "" {
		k.problem("sftp.password_file", "stands beside private_key_file; keep one of the two")
	}
	k.between("sftp.timeout", s.Timeout, 100*time.Millisecond, maxWait)
}

// isPort reports whether a text is the number of a port that can be connected to.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// withPort puts SSH's port after an address that has none.
func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	if ip, err := netip.ParseAddr(address); err == nil || !strings.Contains(address, ":") {
		if err == nil && ip.Is6() {
			return "[" + address + "]:22"
		}
		return address + ":22"
	}
	return address
}

func (k *checker) checkLedger() {
	switch l := k.config.Ledger; {
	case l == "":
		k.problem("ledger", "is missing; write sqlite: and the path of a file, such as sqlite:/var/lib/billdrop/ledger.db")
	case strings.HasPrefix(l, "postgres:") || strings.HasPrefix(l, "postgresql:"):
		k.problem("ledger", "names PostgreSQL, which this version does not support; write sqlite: and the path of a file")
	case !strings.HasPrefix(l, ledgerScheme) || l == ledgerScheme:
		k.problem("ledger", "is not valid; write sqlite: and the path of a file, such as sqlite:/var/lib/billdrop/ledger.db")
	}
}

func (k *checker) checkFeed(i int, f *Feed) {
	at := feedPath(i)
	k.required(join(at, "name"), f.Name, "a short name for the feed, such as bills")
	if f.Name != "" && !nameRule.MatchString(f.Name) {
		k.problem(join(at, "name"), "is not valid; write %s", nameWords)
	}
	if k.has(join(at, "merchant")) && !nameRule.MatchString(f.Merchant) {
		k.problem(join(at, "merchant"), "is not valid; write %s", nameWords)
	}
	if k.has(join(at, "api")) {
		k.checkAPI(join(at, "api"), &f.API)
	}
	k.checkWatch(at, f)
	k.checkFormat(at, f)
	k.oneOf(join(at, "on_invalid"), f.OnInvalid, "continue", "reject")
	k.within(join(at, "max_amount_due"), f.MaxAmountDue, 0, maxAmount)
	k.within(join(at, "hold.max_invalid_percent"), int64(f.Hold.MaxInvalidPercent), 0, 100)
	k.within(join(at, "hold.max_rows"), int64(f.Hold.MaxRows), 0, 1<<40)
	for _, currency := range slices.Sorted(maps.Keys(f.Hold.MaxTotal)) {
		key := join(at, "hold.max_total."+printable(currency))
		if !currencyRule.MatchString(currency) {
			k.problem(key, "is not a currency; write its three letters, such as ZAR")
		}
		k.within(key, f.Hold.MaxTotal[currency], 0, 1<<60)
	}
	k.checkExpect(join(at, "expect"), f)
}

// checkWatch holds to the rules what says which names in the inbox are bill files.
func (k *checker) checkWatch(at string, f *Feed) {
	globs := map[string]string{"pattern": f.Pattern}
	for i, g := range f.Ignore {
		globs[indexed("ignore", i)] = g
	}
	for _, key := range slices.Sorted(maps.Keys(globs)) {
		glob := globs[key]
		if _, err := path.Match(glob, ""); err != nil || glob == "" || strings.Contains(glob, "/") {
			k.problem(join(at, key), "is not valid; write a pattern for file names such as \"*.csv\" (*, ? and [a-z] stand for others; no /)")
		}
	}
	k.between(join(at, "settle"), f.Settle, 0, 24*time.Hour)
	if strings.ContainsAny(f.Marker, "/*?[") || strings.TrimSpace(f.Marker) != f.Marker {
		k.problem(join(at, "marker"), "is not valid; write the ending of the marker's name, such as \".done\", or \"\" for none")
	}
}

func (k *checker) checkFormat(at string, f *Feed) {
	preset := k.checkPreset(at, f)
	if f.Amounts == "" && preset.Name == "" {
		k.problem(join(at, "amounts"), "is missing; write minor if 2000 means R20.00, or major if 20.00 does")
	} else if f.Amounts == "" || preset.Name != "" {
		if f.Amounts != "" && f.Amounts != map[billfile.Amounts]string{billfile.Minor: "minor", billfile.Major: "major"}[preset.Amounts] {
			k.problem(join(at, "amounts"), "is not how files of preset %s write amounts; leave amounts out", preset.Name)
		}
	} else if f.Amounts != "minor" && f.Amounts != "major" {
		k.problem(join(at, "amounts"), "is not valid; write minor if 2000 means R20.00, or major if 20.00 does")
	}
	if f.Currency != "" && !currencyRule.MatchString(f.Currency) {
		k.problem(join(at, "currency"), "is not valid; write three capital letters, such as ZAR, or \"\" when every file has the column")
	} else if f.Currency != "" && len(f.Currencies) > 0 && !slices.Contains(f.Currencies, f.Currency) {
		k.problem(join(at, "currency"), "is not among currencies; add it there, or write one of them")
	}
	if f.Currency != "" && !iso4217(f.Currency) {
		k.problem(join(at, "currency"), "is no currency of ISO 4217; write its code, such as ZAR")
	}
	for i, c := range f.Currencies {
		if !currencyRule.MatchString(c) {
			k.problem(join(at, indexed("currencies", i)), "is not valid; write three capital letters, such as ZAR")
		} else if !iso4217(c) {
			k.problem(join(at, indexed("currencies", i)), "is no currency of ISO 4217; write its code, such as ZAR")
		}
	}
	k.oneOf(join(at, "delimiter"), f.Delimiter, "auto", ",", ";", "tab", "|")
	k.oneOf(join(at, "encoding"), f.Encoding, "auto", "utf-8", "utf-16", "windows-1252")
	if !dateLayout(f.DateFormat) || (billfile.Format{Amounts: billfile.Minor, DateFormat: f.DateFormat}).Validate() != nil {
		k.problem(join(at, "date_format"), "is not valid; write the day 2 January 2006 in your format: \"2006-01-02\", \"02/01/2006\", \"20060102\", …")
	}
	if f.PhoneRegion != "" && !regionRule.MatchString(f.PhoneRegion) {
		k.problem(join(at, "phone_region"), "is not valid; write a country's two capital letters, such as ZA, or \"\" to take international numbers only")
	} else if (billfile.Format{Amounts: billfile.Minor, PhoneRegion: f.PhoneRegion}).Validate() != nil {
		k.problem(join(at, "phone_region"), "is no country that has telephone numbers; write its two letters, such as ZA, or \"\" to take international numbers only")
	}
	known := slices.Concat(fields, preset.Parts())
	for _, header := range slices.Sorted(maps.Keys(f.Columns)) {
		field := f.Columns[header]
		key := join(at, "columns."+printable(header))
		if strings.TrimSpace(header) == "" {
			k.problem(key, "maps a header without a name; write {\"Your Header\": field}")
		}
		if slices.Contains(known, field) || metadataRule.MatchString(field) {
			continue
		}
		if near := nearest(field, known); near != "" {
			k.problem(key, "is not mapped to a known field; did you mean %s?", near)
		} else {
			k.problem(key, "is not mapped to a known field; write one of %s, or metadata.KEY", strings.Join(known, ", "))
		}
	}
}

func iso4217(currency string) bool {
	_, ok := billfile.MinorUnits(currency)
	return ok || !currencyRule.MatchString(currency) // which is told already
}

// checkPreset returns the feed's preset; one without a name where there is none.
func (k *checker) checkPreset(at string, f *Feed) billfile.Preset {
	if f.BillReference != "" {
		if err := billfile.CheckTemplate(f.BillReference); err != nil {
			k.problem(join(at, "bill_reference"), "%s", err)
		}
	}
	var names []string
	for _, p := range billfile.Presets() {
		if p.Name == f.Preset {
			return p
		}
		names = append(names, p.Name)
	}
	if f.Preset != "" {
		k.problem(join(at, "preset"), "is not a known preset; write one of %s, or leave it out", strings.Join(names, ", "))
	}
	return billfile.Preset{}
}

// dateLayout reports whether a layout keeps a day whole: year, month and day come back as they went in.
func dateLayout(layout string) bool {
	for _, day := range [...]time.Time{
		time.Date(2006, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(2027, 11, 30, 0, 0, 0, 0, time.UTC), time.Date(2031, 12, 9, 0, 0, 0, 0, time.UTC),
	} {
		back, err := time.Parse(layout, day.Format(layout))
		if err != nil || !back.Equal(day) {
			return false
		}
	}
	return true
}

func (k *checker) checkFeedNames() {
	first := map[string]int{}
	for i, f := range k.config.Feeds {
		if j, twice := first[f.Name]; twice && f.Name != "" {
			k.problem(join(feedPath(i), "name"), "is the name of %s too (line %d); give each feed a name of its own", feedPath(j), k.at(join(feedPath(j), "name")))
			continue
		}
		first[f.Name] = i
	}
}

// checkDirectories keeps what billdrop writes out of what it reads: a report in an inbox would be taken for a
// bill file, and of two feeds on one inbox either might take a file.
func (k *checker) checkDirectories() {
	type use struct{ at, key string }
	inboxes := map[string]use{}
	for i := range k.config.Feeds {
		f := &k.config.Feeds[i]
		at := feedPath(i)
		for _, key := range []string{"inbox", "processing", "archive", "rejected", "results"} {
			if dir := f.Dirs()[key]; strings.TrimSpace(dir) == "" || strings.ContainsFunc(dir, func(r rune) bool { return r < ' ' }) {
				k.problem(join(at, key), "is not valid; write a directory of the SFTP server, such as /%s", key)
			}
		}
		inbox := path.Clean(f.Inbox)
		if other, taken := inboxes[inbox]; taken {
			k.problem(join(at, "inbox"), "is the inbox of %s too (line %d); give each feed an inbox of its own", other.at, k.at(join(other.at, "inbox")))
			continue
		}
		inboxes[inbox] = use{at, "inbox"}
	}
	for i := range k.config.Feeds {
		dirs := k.config.Feeds[i].Dirs()
		at := feedPath(i)
		for _, key := range []string{"processing", "archive", "rejected", "results"} {
			if other, taken := inboxes[path.Clean(dirs[key])]; taken {
				k.problem(join(at, key), "is the inbox of %s too; write another directory", other.at)
			} else if key != "processing" && path.Clean(dirs[key]) == path.Clean(dirs["processing"]) {
				k.problem(join(at, key), "is the processing directory too; write another directory")
			}
		}
	}
}

// checkLanes: all feeds of one merchant share one lane to the API, or two of them might create the same
// customer at the same time. So they must agree on how the API is used.
func (k *checker) checkLanes() {
	type account struct {
		merchant string
		live     bool
	}
	first := map[account]int{}
	for i, f := range k.config.Feeds {
		a := account{f.Merchant, f.API.Live}
		j, seen := first[a]
		if !seen {
			first[a] = i
			continue
		}
		if !reflect.DeepEqual(k.config.Feeds[j].API, f.API) {
			k.problem(join(feedPath(i), "api"), "differs from the api of %s though both have the same merchant; give them the same settings, or each a merchant of its own", feedPath(j))
		}
	}
}

func (k *checker) checkKeys() {
	if key, _ := k.env(EnvAPIKey); key != "" || !k.needs.Key {
		return
	}
	for i, f := range k.config.Feeds {
		if f.API.KeyFile != "" {
			continue
		}
		if at := join(feedPath(i), "api"); k.has(at) {
			k.problem(join(at, "key_file"), "is missing; write the path of a file that holds the API key, or set %s", EnvAPIKey)
			continue
		}
		k.problem("api.key_file", "is missing; write the path of a file that holds the API key, or set %s", EnvAPIKey)
		return
	}
	if len(k.config.Feeds) == 0 && k.config.API.KeyFile == "" {
		k.problem("api.key_file", "is missing; write the path of a file that holds the API key, or set %s", EnvAPIKey)
	}
}
