package sandbox

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/fixtures"
)

// configMark begins a config.yaml that a sandbox wrote and may write again. Sandboxes of
// earlier versions have it too, so it does not change.
const configMark = "# Written by billdrop sandbox, and written anew each time it starts: copy it to change it.\n"

// configForm is filled in with: merchant, base URL, key file, SFTP address, user, private
// key, known hosts, ledger, spool, settle. What %q writes, YAML reads as the same text.
const configForm = `merchant: %q
api:
  base_url: %q
  key_file: %q
  backoff_min: 50ms
  backoff_max: 2s
  lookup_settle: 1s
  timeout: 10s
  give_up_after: 30s
sftp:
  address: %q
  user: %q
  private_key_file: %q
  known_hosts_file: %q
poll_interval: 2s
ledger: %q
spool_dir: %q
feeds:
  - name: bills
    amounts: minor
    settle: %s
`

// paymentsForm is added if events go to an address of this machine. It is filled in with:
// webhook secret file, address.
const paymentsForm = `    api: {webhook_secret_file: %q}
    payments: /payments
    payments_every: 1s
webhooks:
  listen: %q
`

// paymentsConfig is what the configuration says of payments; "" if events go nowhere.
func (b *Sandbox) paymentsConfig(o Options) string {
	u, err := url.Parse(o.Hooks.URL)
	if o.Hooks.URL == "" || err != nil || u.Port() == "" {
		return ""
	}
	return fmt.Sprintf(paymentsForm, b.Path(secretFile), u.Host)
}

func (b *Sandbox) writeFiles(o Options) error {
	if _, err := os.Stat(b.Path("api.key")); errors.Is(err, os.ErrNotExist) {
		secret := make([]byte, 16)
		rand.Read(secret) // never fails
		if err := WritePrivate(b.Path("api.key"), "sk_test_"+hex.EncodeToString(secret)+"\n"); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"known_hosts": b.SFTP.KnownHostsLine(),
		"sample.csv":  string(fixtures.Demo()[0].Bytes()),
		"config.yaml": configMark + fmt.Sprintf(configForm, User, b.APIURL, b.Path("api.key"), b.SFTP.Addr(), User,
			b.Path("id_ed25519"), b.Path("known_hosts"), "sqlite:"+b.Path("ledger.db"), b.Path("spool"), o.Settle) + b.paymentsConfig(o),
	} {
		if err := WritePrivate(b.Path(name), text); err != nil {
			return err
		}
	}
	return nil
}

// WriteWorker writes NAME.yaml, the configuration of one of several workers that share the
// ledger in a PostgreSQL database: as config.yaml, with its own name and spool. It returns the
// path.
func (b *Sandbox) WriteWorker(name, database string, lostAfter time.Duration) (path string, err error) {
	text, err := os.ReadFile(b.Path("config.yaml"))
	if err != nil {
		return "", fmt.Errorf("fill the sandbox: %w", err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		switch key, _, _ := strings.Cut(line, ":"); key {
		case "ledger":
			line = fmt.Sprintf("ledger: %q\nworker: {name: %q, lost_after: %s}\n", database, name, lostAfter)
		case "spool_dir":
			line = fmt.Sprintf("spool_dir: %q\n", b.Path("spool-"+name))
		}
		lines = append(lines, line)
	}
	path = b.Path(name + ".yaml")
	return path, WritePrivate(path, strings.Join(lines, ""))
}

// WritePrivate replaces a file of the sandbox, mode 0600.
func WritePrivate(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("fill the sandbox: %w", err)
	}
	return nil
}

// keyPair reads the private key in path, or makes one. A sandbox has the same keys each
// time it starts.
func keyPair(path string) (ssh.Signer, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		b, err = newKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the sandbox's key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, describe.Advise(fmt.Errorf("read the sandbox's key %s: %w", path, err), "remove the file; the sandbox makes a new one")
	}
	return signer, nil
}

func newKey(path string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "billdrop sandbox")
	if err != nil {
		return nil, err
	}
	b := pem.EncodeToMemory(block)
	return b, WritePrivate(path, string(b))
}

// Document says where everything is, as JSON.
func (b *Sandbox) Document() map[string]any {
	return map[string]any{
		"dir": b.Dir, "config": b.Path("config.yaml"),
		"sftp": map[string]string{
			"address": b.SFTP.Addr(), "user": User, "private_key_file": b.Path("id_ed25519"), "known_hosts_file": b.Path("known_hosts"),
		},
		"api": map[string]string{
			"base_url": b.APIURL, "key_file": b.Path("api.key"), "state": b.APIURL + emulator.StatePath, "pay": b.APIURL + emulator.PayPath,
			"webhook_secret_file": b.Path(secretFile),
		},
	}
}

// Introduction says where everything is, and what to try.
func (b *Sandbox) Introduction() string {
	host, port, _ := net.SplitHostPort(b.SFTP.Addr()) // it listens there
	path := func(name string) string { return config.ShellWord(b.Path(name)) }
	return strings.NewReplacer(
		"{dir}", path(""), "{sftp}", b.SFTP.Addr(), "{host}", host, "{port}", port, "{user}", User, "{api}", b.APIURL,
		"{key}", path("id_ed25519"), "{hosts}", path("known_hosts"), "{sample}", path("sample.csv"),
		"{config}", path("config.yaml"), "{results}", path("results"),
	).Replace(introduction)
}

const introduction = `The sandbox is up, in {dir}
  SFTP         {sftp}, user {user}, key {key}
  Billing API  {api} (what it holds: {api}/_sandbox/state)

In another terminal, drop a bill file into the inbox, and turn it into bills:
  echo 'put {sample} /inbox/' | sftp -q -b - -P {port} -i {key} -o IdentitiesOnly=yes -o UserKnownHostsFile={hosts} {user}@{host}
  billdrop run --once --config {config}

Then open the reports in {results}, and see what happens when the same file is dropped again.
Ctrl-C ends the sandbox; its directory stays until you remove it: rm -r {dir}
`
