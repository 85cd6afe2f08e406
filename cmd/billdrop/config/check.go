package config

import (
	"errors"
	"net"
	"net/netip"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"billdrop/client"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
)

// maxWait bounds every duration that a row waits for. The API forgets a key after 24
// hours, and a key is not used after 20 hours, so no such wait may take hours.
const maxWait = time.Hour

var nameRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

const nameWords = "1 to 64 letters, digits, dots, dashes or underscores"

// checker checks a decoded configuration for what the types of single values cannot
// express.
type checker struct {
	*decoder
	config *Config
	needs  Needs
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
	k.checkWebhooks()
}

func (k *checker) required(key, value, what string) {
	if value == "" {
		k.problem(key, "is missing; write %s", what)
	}
}

func (k *checker) between(key string, value, least, most time.Duration) {
	if value < least || value > most {
		k.problem(key, "is out of range; write a duration between %s and %s", Duration(least), Duration(most))
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
	var wrong *client.Error
	if errors.As(client.CheckBaseURL(a.BaseURL), &wrong) {
		k.problem(join(at, "base_url"), "%s; %s", wrong.Problem, wrong.Hint)
	}
	k.within(join(at, "concurrency"), int64(a.Concurrency), 1, 1024)
	k.within(join(at, "rate_limit"), int64(a.RateLimit), 0, 100_000)
	k.between(join(at, "timeout"), a.Timeout, time.Millisecond, maxWait)
	k.within(join(at, "max_attempts"), int64(a.MaxAttempts), 1, 1000)
	k.between(join(at, "backoff_min"), a.BackoffMin, time.Millisecond, maxWait)
	k.between(join(at, "backoff_max"), a.BackoffMax, time.Millisecond, maxWait)
	if a.BackoffMax < a.BackoffMin {
		k.problem(join(at, "backoff_max"), "is less than backoff_min (%s); write that much or more", Duration(a.BackoffMin))
	}
	k.between(join(at, "lookup_settle"), a.LookupSettle, 0, maxWait)
	k.between(join(at, "give_up_after"), a.GiveUpAfter, 0, 24*time.Hour)
	k.checkNetwork(at, a)
}

func (k *checker) checkSFTP() {
	s := &k.config.SFTP
	if !k.needs.SFTP && !k.has("sftp") {
		return
	}
	k.required("sftp.address", s.Address, "the server's host and port, such as sftp.example.com:22")
	if s.Address != "" {
		s.Address = withPort(s.Address)
		if host, port, err := net.SplitHostPort(s.Address); err != nil || host == "" || !client.ValidPort(port) {
			k.problem("sftp.address", "is not valid; write host:port, such as sftp.example.com:22")
		}
	}
	k.required("sftp.user", s.User, "the user name to log in with")
	k.required("sftp.known_hosts_file", s.KnownHostsFile, "the path of a file in the form of ssh's known_hosts, and "+hostKeyHint)
	for key, value := range map[string]string{"private_key_passphrase_file": s.PassphraseFile, "certificate_file": s.CertificateFile} {
		if value != "" && s.PrivateKeyFile == "" {
			k.problem(join("sftp", key), "needs private_key_file; name the key that it belongs to")
		}
	}
	if err := inbox.CheckJump(s.ProxyJump); err != nil {
		k.problem("sftp.proxy_jump", "%s", err)
	} else if strings.Contains(s.ProxyJump, "@") && s.PrivateKeyFile == "" && s.PasswordFile != "" {
		k.problem("sftp.proxy_jump", "needs private_key_file: the bastion never gets the password; name a key that it admits")
	}
	k.within("sftp.connections", int64(s.Connections), 1, 64)
	if err := inbox.CheckTemporaryName(s.TemporaryName); err != nil || s.TemporaryName == "" {
		k.problem("sftp.temporary_name", "is not valid; write {name} and something before or after it, such as .{name}.part or {name}.tmp")
	}
	k.between("sftp.timeout", s.Timeout, 100*time.Millisecond, maxWait)
}

// withPort adds SSH's port to an address that has none.
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

// checkDirectories keeps what billdrop writes out of what it reads. A report in an inbox
// would be taken for a bill file, and of two feeds on one inbox either might take a file.
func (k *checker) checkDirectories() {
	inboxes := map[string]string{} // directory → feed
	for i := range k.config.Feeds {
		f := &k.config.Feeds[i]
		at := feedPath(i)
		for _, d := range f.Dirs() {
			none := ""
			if d.Key == "payments" {
				none = `, or "" for none`
			}
			if strings.TrimSpace(d.Path) == "" || strings.ContainsFunc(d.Path, func(r rune) bool { return r < ' ' }) {
				k.problem(join(at, d.Key), "is not valid; write a directory of the SFTP server, such as /%s%s", d.Key, none)
			}
		}
		inbox := path.Clean(f.Inbox)
		if other, taken := inboxes[inbox]; taken {
			k.problem(join(at, "inbox"), "is the inbox of %s too (line %d); give each feed an inbox of its own", other, k.at(join(other, "inbox")))
			continue
		}
		inboxes[inbox] = at
	}
	for i, f := range k.config.Feeds {
		at := feedPath(i)
		for _, d := range f.Dirs()[1:] {
			if other, taken := inboxes[path.Clean(d.Path)]; taken {
				k.problem(join(at, d.Key), "is the inbox of %s too; write another directory", other)
			} else if d.Key != "processing" && path.Clean(d.Path) == path.Clean(f.Processing) {
				k.problem(join(at, d.Key), "is the processing directory too; write another directory")
			}
		}
	}
}

// checkLanes checks that feeds of one merchant have the same api. They share one lane to
// the API, or two of them might create the same customer at the same time.
func (k *checker) checkLanes() {
	first := map[ledger.Scope]int{}
	for i, f := range k.config.Feeds {
		j, seen := first[f.Scope()]
		if !seen {
			first[f.Scope()] = i
			continue
		}
		if !reflect.DeepEqual(k.config.Feeds[j].API, f.API) {
			k.problem(join(feedPath(i), "api"), "differs from the api of %s (feeds %s and %s) though both have the same merchant; give them the same settings, or each a merchant of its own",
				feedPath(j), k.config.Feeds[j].Name, f.Name)
		}
	}
}

// checkKeys finds the key files that are missing. Feeds without a key file of their own
// need the top-level one.
func (k *checker) checkKeys() {
	const missing = "is missing; write the path of a file that holds the API key, or set %s"
	if key, _ := k.env(EnvAPIKey); key != "" || !k.needs.Key {
		return
	}
	shared := len(k.config.Feeds) == 0 && k.config.API.KeyFile == ""
	for i, f := range k.config.Feeds {
		switch at := join(feedPath(i), "api"); {
		case f.API.KeyFile != "":
		case k.has(at):
			k.problem(join(at, "key_file"), missing, EnvAPIKey)
		default:
			shared = true
		}
	}
	if shared {
		k.problem("api.key_file", missing, EnvAPIKey)
	}
}
