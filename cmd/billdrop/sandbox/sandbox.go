// Package sandbox is an SFTP server and a Billing API in this process, on loopback, for
// trying things out, for the demo and for tests.
package sandbox

import (
	"context"
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
	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/inbox/sftpserver"
)

// User is the one SFTP account of a sandbox.
const User = "sandbox"

// Options is what to serve, and where.
type Options struct {
	Dir      string        // to serve, and to keep keys, ledger and reports in
	SFTPAddr string        // loopback address and port; port 0 takes a free one
	APIAddr  string        // likewise
	Settle   time.Duration // of the configuration that is written
	API      emulator.Config
	// Hooks is where the events of payments go. URL "" = nowhere; Secret "" = the sandbox's own.
	Hooks emulator.HookConfig
}

// Sandbox serves a directory that holds everything that a billdrop needs to use it.
type Sandbox struct {
	Dir      string             // absolute
	SFTP     *sftpserver.Server // serves Dir
	APIURL   string             // base URL of the Billing API
	API      *emulator.API      // what serves it
	requests atomic.Int64
	hooks    *emulator.Hooks
	server   *http.Server
	serving  sync.WaitGroup
}

// Open starts both servers, and then writes the files that say where they are. The caller
// closes the sandbox. Options that cannot be used are a describe.Misuse.
func Open(ctx context.Context, o Options) (*Sandbox, error) {
	if err := checkHooks(o.Hooks); err != nil {
		return nil, err
	}
	for _, addr := range []string{o.SFTPAddr, o.APIAddr} {
		if a, err := netip.ParseAddrPort(addr); err != nil || !a.Addr().Unmap().IsLoopback() {
			return nil, describe.Misused(fmt.Errorf("%s is not a loopback address with a port", addr)).Hint("write one such as 127.0.0.1:0")
		}
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the sandbox directory: %w", err)
	}
	b := &Sandbox{Dir: dir}
	again, err := b.checkConfig()
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"inbox", "processing", "archive", "rejected", "results", "payments", "spool"} {
		if err := os.MkdirAll(b.Path(sub), 0o700); err != nil {
			return nil, fmt.Errorf("make the sandbox: %w", err)
		}
	}
	login, err := keyPair(b.Path("id_ed25519"))
	if err != nil {
		return nil, err
	}
	host, err := keyPair(b.Path("host_ed25519"))
	if err != nil {
		return nil, err
	}
	if b.hooks, err = b.newHooks(o.Hooks); err != nil {
		return nil, err
	}
	b.SFTP, err = sftpserver.Start(ctx, sftpserver.Config{
		Dir: dir, Addr: o.SFTPAddr, User: User, AuthorizedKeys: []ssh.PublicKey{login.PublicKey()}, HostKeys: []ssh.Signer{host},
	})
	if err != nil {
		return nil, describe.Advise(err, "take a free port: --sftp-addr 127.0.0.1:0")
	}
	if err := b.serveAPI(ctx, o); err != nil {
		return nil, errors.Join(err, b.SFTP.Close())
	}
	if again {
		err = b.reset()
	}
	if err == nil {
		err = b.writeFiles(o)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Path is a file in the sandbox's directory.
func (b *Sandbox) Path(name string) string { return filepath.Join(b.Dir, name) }

// Requests is how many requests the Billing API has answered.
func (b *Sandbox) Requests() int64 { return b.requests.Load() }

// Pay pays all that remains of a bill, as its customer would, and returns once the event was
// acknowledged, or ctx ends.
func (b *Sandbox) Pay(ctx context.Context, bill string) error {
	before := b.Acknowledged()
	if _, err := b.API.Pay(bill, 0, emulator.AsAccount); err != nil {
		return err
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for b.Acknowledged() == before {
		select {
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Acknowledged is how many events were acknowledged, and are not under way any more.
func (b *Sandbox) Acknowledged() int64 {
	n, _, _ := b.hooks.Counts()
	return n
}

// Close stops both servers and joins them.
func (b *Sandbox) Close() error {
	err := b.server.Close()
	b.serving.Wait()
	b.hooks.Close()
	return errors.Join(err, b.SFTP.Close())
}

func (b *Sandbox) serveAPI(ctx context.Context, o Options) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.APIAddr)
	if err != nil {
		return describe.Advise(fmt.Errorf("start the Billing API: %w", err), "take a free port: --api-addr 127.0.0.1:0")
	}
	b.APIURL = "http://" + listener.Addr().String()
	api := emulator.New(o.API)
	b.API = api
	if o.Hooks.URL != "" {
		api.DeliverTo(b.hooks)
	}
	b.server = &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/billing/") || strings.HasPrefix(r.URL.Path, "/collect/") {
				b.requests.Add(1)
			}
			api.ServeHTTP(w, r)
		}),
	}
	b.serving.Go(func() { _ = b.server.Serve(listener) }) // ends with Close
	return nil
}

// checkConfig reports whether the directory was a sandbox before. It refuses a directory
// whose config.yaml was not written by a sandbox.
func (b *Sandbox) checkConfig() (again bool, err error) {
	f, err := os.Open(b.Path("config.yaml"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the sandbox's configuration: %w", err)
	}
	defer f.Close()
	head := make([]byte, len(configMark))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != configMark {
		return false, describe.Misused(fmt.Errorf("%s was not written by a sandbox and is left alone", b.Path("config.yaml"))).
			Hint("name another directory with --dir")
	}
	return true, nil
}

// reset prepares an earlier sandbox's directory for an API that starts empty. It removes
// the ledger, which knows bills and customers that the API does not have, and puts files
// that were under way back into the inbox. Archive and reports stay.
func (b *Sandbox) reset() error {
	for dir, prefix := range map[string]string{b.Dir: "ledger.db", b.Path("spool"): ""} {
		err := eachEntry(dir, func(e os.DirEntry) error {
			if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), prefix) {
				return nil
			}
			return os.Remove(filepath.Join(dir, e.Name()))
		})
		if err != nil {
			return err
		}
	}
	return eachEntry(b.Path("processing"), func(e os.DirEntry) error {
		return os.Rename(filepath.Join(b.Path("processing"), e.Name()), filepath.Join(b.Path("inbox"), e.Name()))
	})
}

func eachEntry(dir string, do func(os.DirEntry) error) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, do(e))
	}
	if err != nil {
		return fmt.Errorf("clear the sandbox: %w", err)
	}
	return nil
}
