// Package config reads billdrop's configuration file. It is strict: it reports every
// mistake at once, each with its line, its key path and what to write instead. It opens no
// connection and no ledger. Messages quote no value except the host of base_url, because a
// value may be a secret under the wrong key.
package config

import (
	"time"

	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
)

// EnvAPIKey is the environment variable that may hold the API key in place of the top-level
// api.key_file. If it is empty, it counts as not set. A feed's own key_file takes precedence.
const EnvAPIKey = "BILLDROP_API_KEY"

// Config is a configuration file. Load fills in defaults, reads the file and checks the
// result. Paths of local files are absolute.
type Config struct {
	Merchant     string        `yaml:"merchant"`      // scope of references in the ledger; required
	API          API           `yaml:"api"`           // of feeds without one of their own
	SFTP         SFTP          `yaml:"sftp"`          // needed by `run` alone
	PollInterval time.Duration `yaml:"poll_interval"` // between two looks at the inboxes
	Ledger       string        `yaml:"ledger"`        // sqlite:PATH, or postgres://…; required
	// LedgerPasswordFile holds the password of a PostgreSQL ledger; "" = PGPASSWORD or a passfile.
	LedgerPasswordFile string   `yaml:"ledger_password_file"`
	Worker             Worker   `yaml:"worker"`    // among those that share a PostgreSQL ledger
	SpoolDir           string   `yaml:"spool_dir"` // local directory; required
	OnFinish           []string `yaml:"on_finish"` // command and its arguments; none = no command
	Webhooks           Webhooks `yaml:"webhooks"`  // for `run` and `receive`
	Feeds              []Feed   `yaml:"feeds"`     // one or more; last, because feeds inherit from the above
}

// API is how to reach the Billing API, and how much to ask of it.
type API struct {
	BaseURL      string        `yaml:"base_url"`      // https, or http on a loopback address
	KeyFile      string        `yaml:"key_file"`      // or the environment variable EnvAPIKey
	Live         bool          `yaml:"live"`          // must agree with the key
	Concurrency  int           `yaml:"concurrency"`   // requests in flight at most
	RateLimit    int           `yaml:"rate_limit"`    // requests per second at most; 0 = no limit of ours
	Timeout      time.Duration `yaml:"timeout"`       // of one request
	MaxAttempts  int           `yaml:"max_attempts"`  // sends of one row in one run
	BackoffMin   time.Duration `yaml:"backoff_min"`   // full jitter between this
	BackoffMax   time.Duration `yaml:"backoff_max"`   // and this
	LookupSettle time.Duration `yaml:"lookup_settle"` // between the two 404s that prove absence
	GiveUpAfter  time.Duration `yaml:"give_up_after"` // how long a run waits for an API that is down

	Proxy             string `yaml:"proxy"`               // http://[user@]host:port, or environment; "" = none
	ProxyPasswordFile string `yaml:"proxy_password_file"` // of the user in Proxy
	CAFile            string `yaml:"ca_file"`             // roots beside the machine's own, PEM
	ClientCertFile    string `yaml:"client_cert_file"`    // for a server that asks for one, PEM
	ClientKeyFile     string `yaml:"client_key_file"`     // its key, PEM

	WebhookSecretFile string `yaml:"webhook_secret_file"` // whsec_…, one a line; "" = no events are received
}

// SFTP is the account that has the feeds' directories. With neither key nor password file,
// the SSH agent is asked.
type SFTP struct {
	Address          string        `yaml:"address"` // host:port
	User             string        `yaml:"user"`
	PrivateKeyFile   string        `yaml:"private_key_file"`
	PassphraseFile   string        `yaml:"private_key_passphrase_file"`
	CertificateFile  string        `yaml:"certificate_file"` // for the private key
	PasswordFile     string        `yaml:"password_file"`
	KnownHostsFile   string        `yaml:"known_hosts_file"` // mandatory
	ProxyJump        string        `yaml:"proxy_jump"`       // user@bastion[:port] or socks5://host:port
	Connections      int           `yaml:"connections"`      // at most, for all feeds together
	TemporaryName    string        `yaml:"temporary_name"`   // {name} stands for the final name
	LegacyAlgorithms bool          `yaml:"legacy_algorithms"`
	Timeout          time.Duration `yaml:"timeout"` // of a call without progress
}

// Feed is one stream of bill files.
type Feed struct {
	Name     string `yaml:"name"`     // unique; required
	Merchant string `yaml:"merchant"` // "" in the file = the top-level one
	API      API    `yaml:"api"`      // the top-level one, overridden key by key

	Inbox      string `yaml:"inbox"`
	Processing string `yaml:"processing"`
	Archive    string `yaml:"archive"`
	Rejected   string `yaml:"rejected"`
	Results    string `yaml:"results"`

	Pattern string        `yaml:"pattern"`
	Settle  time.Duration `yaml:"settle"`
	Marker  string        `yaml:"marker"`
	Ignore  []string      `yaml:"ignore"`

	Preset              string            `yaml:"preset"`         // name of a preset; "" = none
	BillReference       string            `yaml:"bill_reference"` // template for files without the column; "" = the preset's, else none
	Amounts             string            `yaml:"amounts"`        // minor or major; required without a preset
	Currency            string            `yaml:"currency"`
	Currencies          []string          `yaml:"currencies"`
	Delimiter           string            `yaml:"delimiter"`
	Encoding            string            `yaml:"encoding"`
	DateFormat          string            `yaml:"date_format"`
	PhoneRegion         string            `yaml:"phone_region"`
	Columns             map[string]string `yaml:"columns"`
	IgnoreColumns       []string          `yaml:"ignore_columns"`
	RequireFinalNewline bool              `yaml:"require_final_newline"`
	DecimalSeparator    string            `yaml:"decimal_separator"` // . or , (in major units alone)
	ShortRows           string            `yaml:"short_rows"`        // refuse or blank
	TotalRow            string            `yaml:"total_row"`         // refuse or allow

	OnInvalid    string `yaml:"on_invalid"` // continue or reject
	MaxAmountDue int64  `yaml:"max_amount_due"`
	MaxFileSize  Size   `yaml:"max_file_size"`
	// Limits of what is read; 0 = no limit, except for MaxColumns.
	MaxRows        int  `yaml:"max_rows"`
	MaxColumns     int  `yaml:"max_columns"`
	MaxInvalidRows int  `yaml:"max_invalid_rows"`
	Hold           Hold `yaml:"hold"`

	Expect   Expect `yaml:"expect"`
	Timezone string `yaml:"timezone"` // IANA name, of times of day; "" = this machine's

	Payments      string `yaml:"payments"`       // remote directory of payment reports; "" = none
	PaymentsEvery string `yaml:"payments_every"` // a duration, or "daily HH:MM"

	Present        string `yaml:"present"`         // none or payment_request
	PresentExpires string `yaml:"present_expires"` // a duration, or due_date

	OnFinish []string `yaml:"on_finish"` // the top-level one, or this in its place; [] = none
}

// Hold are the limits above which a file waits for approval.
type Hold struct {
	MaxInvalidPercent int              `yaml:"max_invalid_percent"` // 0…100; 100 = no limit
	MaxRows           int              `yaml:"max_rows"`            // 0 = no limit
	MaxTotal          map[string]int64 `yaml:"max_total"`           // currency → minor units
}

// Expect is a file that is due at a time of day.
type Expect struct {
	Pattern  string   `yaml:"pattern"`  // "" = the feed's
	By       string   `yaml:"by"`       // HH:MM; "" = no file is expected
	Timezone string   `yaml:"timezone"` // IANA name; "" = this machine's
	Days     []string `yaml:"days"`     // mon … sun; none = every day
}

// Size is a number of bytes, written as 500MB, 1GiB or plain bytes. 0 = no limit.
type Size int64

// Default has the default of every key that may be left out.
func Default() Config {
	return Config{
		API: API{
			BaseURL:      "https://api.momentpay.net",
			Concurrency:  32,
			Timeout:      30 * time.Second,
			MaxAttempts:  6,
			BackoffMin:   500 * time.Millisecond,
			BackoffMax:   60 * time.Second,
			LookupSettle: 60 * time.Second,
			GiveUpAfter:  15 * time.Minute,
		},
		SFTP:         SFTP{Timeout: 60 * time.Second, Connections: 1, TemporaryName: inbox.DefaultTemporaryName},
		PollInterval: time.Minute,
		Worker:       Worker{LostAfter: 30 * time.Second},
	}
}

// DefaultFeed has the default of every key of a feed that may be left out. Merchant and
// API come from the top level.
func DefaultFeed() Feed {
	return Feed{
		Inbox:               "/inbox",
		Processing:          "/processing",
		Archive:             "/archive",
		Rejected:            "/rejected",
		Results:             "/results",
		Pattern:             "*.csv",
		Settle:              10 * time.Second,
		Ignore:              []string{"*.part", "*.tmp", "*.filepart", ".*"},
		Currency:            "ZAR",
		Currencies:          []string{"ZAR", "USD"},
		Delimiter:           "auto",
		Encoding:            "auto",
		DateFormat:          "2006-01-02",
		PhoneRegion:         "ZA",
		RequireFinalNewline: true,
		DecimalSeparator:    ".",
		ShortRows:           "refuse",
		TotalRow:            "refuse",
		OnInvalid:           "continue",
		MaxFileSize:         1 << 30,
		MaxRows:             5_000_000,
		MaxColumns:          1000,
		MaxInvalidRows:      10_000,
		Hold:                Hold{MaxInvalidPercent: 100},
		PaymentsEvery:       "1h",
		Present:             presentNone,
		PresentExpires:      "720h",
	}
}

// Dir is a remote directory, and its key in the file.
type Dir struct{ Key, Path string }

// Dirs are the feed's remote directories: its inbox first, and last that of payment reports if
// there is one.
func (f *Feed) Dirs() []Dir {
	dirs := []Dir{{"inbox", f.Inbox}, {"processing", f.Processing}, {"archive", f.Archive}, {"rejected", f.Rejected}, {"results", f.Results}}
	if f.Payments != "" {
		dirs = append(dirs, Dir{"payments", f.Payments})
	}
	return dirs
}

// Scope is the merchant and the mode of the feed's bills.
func (f *Feed) Scope() ledger.Scope {
	if f.API.Live {
		return ledger.Scope{Merchant: f.Merchant, Mode: "live"}
	}
	return ledger.Scope{Merchant: f.Merchant, Mode: "test"}
}

// FeedNames are the names of all feeds, in the order of the file.
func (c *Config) FeedNames() []string {
	names := make([]string, len(c.Feeds))
	for i := range c.Feeds {
		names[i] = c.Feeds[i].Name
	}
	return names
}
