package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

const (
	ledgerScheme = "sqlite:"
	ledgerForms  = "write sqlite: and the path of a file, such as sqlite:/var/lib/billdrop/ledger.db, or, where several machines work together, " +
		"postgres://USER@HOST/DATABASE"
	// leastLost is the shortest worker.lost_after. A worker is heard of twice a second, and
	// one that is taken for lost too soon only makes others ask the API about its rows.
	leastLost = 2 * time.Second
)

// Worker is this billdrop among those that share a ledger in PostgreSQL.
type Worker struct {
	Name      string        `yaml:"name"`       // "" = host name and process id
	LostAfter time.Duration `yaml:"lost_after"` // unheard of this long, a worker is taken for lost
}

// Place is where a ledger is: in a file of SQLite, or in a database of PostgreSQL.
type Place struct {
	Path string // of SQLite's file; "" = a database
	url  string // of the database, which may hold a password
}

// Shared reports whether several workers can use the ledger at once.
func (p Place) Shared() bool { return p.url != "" }

// URL is the address of the database as it was configured, with its password if it has one. It is
// for the engine alone.
func (p Place) URL() string { return p.url }

// String is the place for messages and documents, without a password.
func (p Place) String() string {
	if !p.Shared() {
		return p.Path
	}
	u, err := url.Parse(p.url)
	if err != nil {
		return "postgres://…" // not reached: ParsePlace has parsed it
	}
	return masked(u)
}

// GoString keeps a password out of %#v.
func (p Place) GoString() string { return fmt.Sprintf("config.Place(%q)", p.String()) }

// HasPassword reports whether the address of the database holds a password.
func (p Place) HasPassword() bool {
	u, err := url.Parse(p.url)
	return err == nil && hasPassword(u)
}

// passwordKeys are parameters of a PostgreSQL URL that hold a secret.
var passwordKeys = []string{"password", "sslpassword"}

// masked spells a URL with *** in the place of passwords.
func masked(u *url.URL) string {
	c := *u
	if _, has := c.User.Password(); has {
		c.User = url.UserPassword(c.User.Username(), "MASK")
	}
	query, changed := c.Query(), false
	for _, key := range passwordKeys {
		if query.Has(key) {
			query.Set(key, "MASK")
			changed = true
		}
	}
	if changed {
		c.RawQuery = query.Encode()
	}
	// String would escape the asterisks.
	return strings.NewReplacer(":MASK@", ":***@", "password=MASK", "password=***").Replace(c.String())
}

// hasPassword reports whether a PostgreSQL URL holds a password.
func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}

// ParsePlace reads where a ledger is: sqlite:PATH, or the URL of a PostgreSQL database. The text of
// its error quotes nothing, because a URL may hold a password.
func ParsePlace(text string) (Place, error) {
	if path, ok := strings.CutPrefix(text, ledgerScheme); ok && path != "" {
		return Place{Path: path}, nil
	}
	if !isPostgres(text) {
		return Place{}, errors.New("is not valid; " + ledgerForms)
	}
	if _, err := parseURL(text); err != nil {
		return Place{}, err
	}
	return Place{url: text}, nil
}

func isPostgres(text string) bool {
	return strings.HasPrefix(text, "postgres:") || strings.HasPrefix(text, "postgresql:")
}

func parseURL(text string) (*url.URL, error) {
	const form = "write it as postgres://USER@HOST/DATABASE?sslmode=verify-full, and the password into ledger_password_file"
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("is not a valid address of a database (special characters in a password have to be escaped); " + form)
	case u.Opaque != "":
		return nil, errors.New("lacks the // after postgres:; " + form)
	case u.Fragment != "" || strings.HasSuffix(text, "#"):
		return nil, errors.New("has a #, which ends an address; " + form)
	}
	if _, err := url.ParseQuery(u.RawQuery); err != nil {
		return nil, errors.New("has parameters after the ? that cannot be read; " + form)
	}
	return u, nil
}

// LedgerPlace is where the ledger is. The configuration was checked.
func (c *Config) LedgerPlace() Place {
	place, err := ParsePlace(c.Ledger)
	if err != nil {
		return Place{}
	}
	return place
}

// LedgerPassword returns the content of ledger_password_file; "" if none is named.
func (c *Config) LedgerPassword() (string, error) {
	if c.LedgerPasswordFile == "" {
		return "", nil
	}
	return ReadSecret("ledger_password_file", c.LedgerPasswordFile)
}

func (k *checker) checkLedger() {
	c := k.config
	k.required("ledger", c.Ledger, strings.TrimPrefix(ledgerForms, "write "))
	place, err := ParsePlace(c.Ledger)
	if err != nil && c.Ledger != "" {
		k.problem("ledger", "%s", err)
	}
	if c.LedgerPasswordFile != "" && err == nil {
		if !place.Shared() {
			k.problem("ledger_password_file", "is for PostgreSQL, and ledger names a file of SQLite; leave it out")
		} else if u, err := parseURL(place.url); err == nil && hasPassword(u) {
			k.problem("ledger_password_file", "is the second password, because ledger has one in its address; leave that out there")
		}
	}
	if c.Worker.Name != "" && !nameRule.MatchString(c.Worker.Name) {
		k.problem("worker.name", "is not valid; write %s, or \"\" for the host name and the process id", nameWords)
	}
	k.between("worker.lost_after", c.Worker.LostAfter, leastLost, maxWait)
}
