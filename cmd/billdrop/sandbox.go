package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"billdrop/client/emulator"
	"billdrop/fixtures"
	"billdrop/ingest/inbox/sftpserver"
)

type sandboxCmd struct {
	Dir           string        `placeholder:"DIR" default:"${defaultSandbox}" help:"Directory to serve and to keep keys, ledger and reports in (default: ./billdrop-sandbox)."`
	SFTPAddr      string        `name:"sftp-addr" placeholder:"ADDR" default:"127.0.0.1:2222" help:"Loopback address of the SFTP server; port 0 takes a free one (default: 127.0.0.1:2222)."`
	APIAddr       string        `name:"api-addr" placeholder:"ADDR" default:"127.0.0.1:8022" help:"Loopback address of the Billing API; port 0 takes a free one (default: 127.0.0.1:8022)."`
	Latency       time.Duration `placeholder:"TIME" default:"0s" help:"How long the API takes to answer, such as 50ms (default: 0s)."`
	FaultRate     float64       `placeholder:"RATE" default:"0" help:"Share of requests that fail in some way, 0 to 1 (default: 0)."`
	Seed          uint64        `placeholder:"N" default:"1" help:"Which faults occur: the same seed, the same faults (default: 1)."`
	RateLimit     int           `placeholder:"N" default:"0" help:"Requests per second above which the API answers 429; 0 = no limit (default: 0)."`
	ExistingParty string        `enum:"conflict,reuse" default:"conflict" help:"What the API does with a new customer or account whose reference exists: conflict (refuse) or reuse."`
}

func (sandboxCmd) Help() string {
	return `Both servers listen on loopback only. The directory gets a ready config.yaml, keys and a sample file; the output says what to try. It serves until it is interrupted. The API forgets everything when it stops, so each start begins with a new ledger; archive and reports are kept.

Example: billdrop sandbox --latency 50ms --fault-rate 0.1`
}

// Run serves until ctx is cancelled.
func (c *sandboxCmd) Run(ctx context.Context, s *session) error {
	if c.FaultRate < 0 || c.FaultRate > 1 || c.Latency < 0 || c.RateLimit < 0 {
		return usagef("--fault-rate must be between 0 and 1, and --latency and --rate-limit not negative")
	}
	box, err := openSandbox(ctx, sandboxOptions{
		dir: c.Dir, sftpAddr: c.SFTPAddr, apiAddr: c.APIAddr, settle: time.Second,
		api: emulator.Config{
			Latency: c.Latency, FaultRate: c.FaultRate, Seed: c.Seed, RateLimit: c.RateLimit, ExistingParty: c.ExistingParty,
		},
	})
	if err != nil {
		return err
	}
	if err := box.introduce(s); err != nil {
		return errors.Join(err, box.close())
	}
	<-ctx.Done()
	return errors.Join(context.Cause(ctx), box.close())
}

// sandboxUser is the one SFTP account of a sandbox.
const sandboxUser = "sandbox"

// configMark begins a config.yaml that a sandbox wrote and may write again.
const configMark = "# Written by billdrop sandbox, and written anew each time it starts: copy it to change it.\n"

type sandboxOptions struct {
	dir               string
	sftpAddr, apiAddr string
	settle            time.Duration
	api               emulator.Config
}

// sandbox is an SFTP server and a Billing API in this process, with a directory that holds everything that a
// billdrop needs to use them.
type sandbox struct {
	dir      string // absolute
	sftp     *sftpserver.Server
	apiURL   string
	requests atomic.Int64 // answered by the API
	server   *http.Server
	serving  sync.WaitGroup
}

func (b *sandbox) path(name string) string { return filepath.Join(b.dir, name) }

// openSandbox starts both servers, and only then writes the files that say where they are. The caller closes it.
func openSandbox(ctx context.Context, o sandboxOptions) (*sandbox, error) {
	for _, addr := range []string{o.sftpAddr, o.apiAddr} {
		if a, err := netip.ParseAddrPort(addr); err != nil || !a.Addr().IsLoopback() {
			return nil, usagef("%s is no loopback address with a port; write one such as 127.0.0.1:0", addr)
		}
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return nil, fmt.Errorf("find the sandbox directory: %w", err)
	}
	b := &sandbox{dir: dir}
	again, err := b.checkConfig()
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"inbox", "processing", "archive", "rejected", "results", "spool"} {
		if err := os.MkdirAll(b.path(sub), 0o700); err != nil {
			return nil, fmt.Errorf("make the sandbox: %w", err)
		}
	}
	login, err := keyPair(b.path("id_ed25519"))
	if err != nil {
		return nil, err
	}
	host, err := keyPair(b.path("host_ed25519"))
	if err != nil {
		return nil, err
	}
	b.sftp, err = sftpserver.Start(ctx, sftpserver.Config{
		Dir: dir, Addr: o.sftpAddr, User: sandboxUser, AuthorizedKeys: []ssh.PublicKey{login.PublicKey()}, HostKeys: []ssh.Signer{host},
	})
	if err != nil {
		return nil, fmt.Errorf("%w; --sftp-addr 127.0.0.1:0 takes a free port", err)
	}
	if err := b.serveAPI(ctx, o); err != nil {
		return nil, errors.Join(err, b.sftp.Close())
	}
	if again {
		err = b.forget()
	}
	if err == nil {
		err = b.writeFiles(o)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// close stops both servers and joins them.
func (b *sandbox) close() error {
	err := b.server.Close()
	b.serving.Wait()
	return errors.Join(err, b.sftp.Close())
}

func (b *sandbox) serveAPI(ctx context.Context, o sandboxOptions) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.apiAddr)
	if err != nil {
		return fmt.Errorf("start the Billing API: %w; --api-addr 127.0.0.1:0 takes a free port", err)
	}
	b.apiURL = "http://" + listener.Addr().String()
	api := emulator.New(o.api)
	b.server = &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/billing/") {
				b.requests.Add(1)
			}
			api.ServeHTTP(w, r)
		}),
	}
	b.serving.Go(func() { _ = b.server.Serve(listener) }) // it ends with close, which is no error
	return nil
}

// checkConfig reports whether the directory was a sandbox before. It refuses one whose config.yaml is somebody's own.
func (b *sandbox) checkConfig() (again bool, err error) {
	f, err := os.Open(b.path("config.yaml"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the sandbox's configuration: %w", err)
	}
	defer f.Close()
	head := make([]byte, len(configMark))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != configMark {
		return false, usagef("%s was not written by a sandbox and is left alone; name another directory with --dir", b.path("config.yaml"))
	}
	return true, nil
}

// forget makes an earlier sandbox's directory fit for an API that starts empty: the ledger must not believe to know
// bills and customers, and files that were being worked on wait in the inbox again. Archive and reports stay.
func (b *sandbox) forget() error {
	for dir, prefix := range map[string]string{b.dir: "ledger.db", b.path("spool"): ""} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("clear the sandbox: %w", err)
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), prefix) {
				continue
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("clear the sandbox: %w", err)
			}
		}
	}
	entries, err := os.ReadDir(b.path("processing"))
	if err != nil {
		return fmt.Errorf("clear the sandbox: %w", err)
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(b.path("processing"), e.Name()), filepath.Join(b.path("inbox"), e.Name())); err != nil {
			return fmt.Errorf("clear the sandbox: %w", err)
		}
	}
	return nil
}

func (b *sandbox) writeFiles(o sandboxOptions) error {
	conf := configMark + fmt.Sprintf(sandboxConfig, sandboxUser, b.apiURL, b.path("api.key"), b.sftp.Addr(), sandboxUser,
		b.path("id_ed25519"), b.path("known_hosts"), "sqlite:"+b.path("ledger.db"), b.path("spool"), o.settle)
	if _, err := os.Stat(b.path("api.key")); errors.Is(err, os.ErrNotExist) {
		secret := make([]byte, 16)
		rand.Read(secret) // never fails
		if err := writePrivate(b.path("api.key"), "sk_test_"+hex.EncodeToString(secret)+"\n"); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"known_hosts": b.sftp.KnownHostsLine(), "config.yaml": conf} {
		if err := writePrivate(b.path(name), text); err != nil {
			return err
		}
	}
	return writePrivate(b.path("sample.csv"), string(fixtures.Demo()[0].Bytes()))
}

// sandboxConfig is filled in with: merchant, base URL, key file, SFTP address, user, private key, known hosts, ledger,
// spool, settle. %q writes what YAML reads as the same text in double quotes.
const sandboxConfig = `merchant: %q
api:
  base_url: %q
  key_file: %q
  backoff_min: 50ms
  backoff_max: 2s
  lookup_settle: 1s
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

// writePrivate replaces a file of the sandbox, mode 0600.
func writePrivate(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("fill the sandbox: %w", err)
	}
	return nil
}

// keyPair reads the private key in path, or makes one, so that a sandbox is the same server each time it starts.
func keyPair(path string) (ssh.Signer, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		_, private, gerr := ed25519.GenerateKey(rand.Reader)
		if gerr != nil {
			return nil, fmt.Errorf("make a key pair: %w", gerr)
		}
		block, merr := ssh.MarshalPrivateKey(private, "billdrop sandbox")
		if merr != nil {
			return nil, fmt.Errorf("make a key pair: %w", merr)
		}
		b, err = pem.EncodeToMemory(block), writePrivate(path, string(pem.EncodeToMemory(block)))
	}
	if err != nil {
		return nil, fmt.Errorf("read the sandbox's key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("read the sandbox's key %s: %w; remove the file, and a new one is made", path, err)
	}
	return signer, nil
}

// introduce says where everything is, and what to try.
func (b *sandbox) introduce(s *session) error {
	if s.json() {
		return writeJSON(s.stdout, map[string]any{
			"dir": b.dir, "config": b.path("config.yaml"),
			"sftp": map[string]string{
				"address": b.sftp.Addr(), "user": sandboxUser, "private_key_file": b.path("id_ed25519"), "known_hosts_file": b.path("known_hosts"),
			},
			"api": map[string]string{"base_url": b.apiURL, "key_file": b.path("api.key"), "state": b.apiURL + "/_sandbox/state"},
		})
	}
	host, port, err := net.SplitHostPort(b.sftp.Addr())
	if err != nil {
		return fmt.Errorf("read the SFTP server's address: %w", err)
	}
	_, err = strings.NewReplacer(
		"{dir}", shellWord(b.dir), "{sftp}", b.sftp.Addr(), "{host}", host, "{port}", port, "{user}", sandboxUser, "{api}", b.apiURL,
		"{key}", shellWord(b.path("id_ed25519")), "{hosts}", shellWord(b.path("known_hosts")), "{sample}", shellWord(b.path("sample.csv")),
		"{config}", shellWord(b.path("config.yaml")), "{results}", shellWord(b.path("results")),
	).WriteString(s.stdout, introduction)
	return err
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

// shellWord quotes a path where a shell would take it apart.
func shellWord(path string) string {
	if strings.ContainsAny(path, " \t'\"\\$&;()<>|*?[]{}!#~`") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}
