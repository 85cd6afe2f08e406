package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// defaultTimeout is the Timeout of a Config that has none.
const defaultTimeout = 60 * time.Second

// Config is where the account is and how to log in. Address, User and KnownHostsFile are
// required. Secret files are readable by their owner alone.
type Config struct {
	Address         string // host, or host:port; the default port is 22
	User            string
	PrivateKeyFile  string
	PassphraseFile  string        // one line: of the private key, if it is encrypted
	CertificateFile string        // an SSH user certificate for the private key; "" = none
	PasswordFile    string        // one line; beside a key, for servers that demand both; without either, the SSH agent at SSH_AUTH_SOCK logs in
	KnownHostsFile  string        // in OpenSSH's format: hashed names, ports, @cert-authority
	ProxyJump       string        // user@bastion[:port], or socks5://host:port; "" = a direct connection
	Timeout         time.Duration // a call without progress for this long fails; 0 = 60 s
	Connections     int           // of a Pool, at most; 0 = 1
	Temporary       string        // name of a file while it is written, with {name} for its final one; "" = DefaultTemporaryName

	// LegacyAlgorithms also offers what is known to be weak: SHA-1 signatures, CBC ciphers and the
	// key exchange group1.
	LegacyAlgorithms bool
}

// Dial connects, checks the host key, logs in and starts SFTP, all within cfg.Timeout. ctx
// bounds Dial alone, not the account. Errors wrap ErrConfig, ErrUnreachable, ErrHostKey,
// ErrLogin, ErrRefused (the server does not offer SFTP), or the cause of ctx.
func Dial(ctx context.Context, cfg Config) (*Account, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	d := &dialing{cfg: cfg, address: withPort(cfg.Address), deadline: time.Now().Add(cfg.Timeout)}
	d.op = "connect to sftp server " + d.address
	if cfg.Address == "" || cfg.User == "" {
		return nil, misconfigured("connect to sftp server", "set sftp.address and sftp.user", "the address or the user is missing")
	}
	if err := CheckTemporaryName(cfg.Temporary); err != nil {
		return nil, misconfigured(d.op, "correct it", "sftp.temporary_name %w", err)
	}
	var cancel context.CancelFunc
	d.ctx, cancel = context.WithDeadline(ctx, d.deadline)
	defer cancel()
	a, err := d.dial()
	if err != nil && ctx.Err() != nil {
		return nil, interrupted(ctx, d.op)
	}
	return a, err
}

// dialing is what the steps of one Dial share.
type dialing struct {
	cfg      Config
	op       string // for errors
	address  string // host:port
	ctx      context.Context
	deadline time.Time
	hosts    *knownHosts
	login    *login
}

func (d *dialing) dial() (*Account, error) {
	var err error
	if d.hosts, err = readKnownHosts(d.op, d.cfg.KnownHostsFile); err != nil {
		return nil, err
	}
	if d.login, err = readLogin(d.ctx, d.op, d.cfg, d.deadline); err != nil {
		return nil, err
	}
	defer d.login.done()

	conn, bastion, err := d.reach()
	if err != nil {
		return nil, err
	}
	a := &Account{cfg: d.cfg, where: d.address, bastion: bastion, done: make(chan struct{})}
	a.conn = &wire{Conn: conn, stall: &a.stall}
	a.ssh, err = d.handshake(a.conn, d.op, d.address, d.login.begin(d.cfg.User, true))
	if err == nil {
		err = d.startSFTP(a)
	}
	if err != nil {
		conn.Close()
		a.join()
		return nil, err
	}
	a.watch()
	return a, nil
}

// startSFTP starts SFTP on an account that has logged in.
func (d *dialing) startSFTP(a *Account) error {
	release := context.AfterFunc(d.ctx, func() { a.conn.Close() })
	defer release()
	if err := a.startSFTP(); err != nil {
		return d.startError(err, a.alive())
	}
	return nil
}

// connect makes a TCP connection. key is the configuration's key of the address.
func (d *dialing) connect(op, key, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(d.ctx, "tcp", address)
	if err != nil {
		return nil, &Error{
			Op: op, Kind: ErrUnreachable, Err: err, Hint: fmt.Sprintf("check %s, the network, and that the server is up", key),
			brokenOff: wasBrokenOff(err),
		}
	}
	return conn, nil
}

// handshake checks the host key of the SSH server at the other end of conn and logs in, before
// the deadline. address is the server's own, whatever conn passes through. The caller closes
// conn. Connections through a bastion have no deadlines, so closing conn is what ends a
// handshake that takes too long.
func (d *dialing) handshake(conn net.Conn, op, address string, auth *auth) (*ssh.Client, error) {
	keys := d.hosts.of(address)
	release := context.AfterFunc(d.ctx, func() { conn.Close() })
	c, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		Config:            algorithms(d.cfg.LegacyAlgorithms),
		User:              auth.user,
		AuthCallback:      auth.next,
		HostKeyCallback:   keys.check,
		HostKeyAlgorithms: keys.algorithms(d.cfg.LegacyAlgorithms),
	})
	release()
	if err != nil {
		return nil, d.handshakeError(op, err, keys, auth)
	}
	return ssh.NewClient(c, channels, requests), nil
}

// algorithms are those to offer, in order of preference: the library's own choice, then the rest
// of what it calls safe, and on request what it calls insecure.
func algorithms(legacy bool) ssh.Config {
	var c ssh.Config
	c.SetDefaults()
	sets := []ssh.Algorithms{ssh.SupportedAlgorithms()}
	if legacy {
		sets = append(sets, ssh.InsecureAlgorithms())
	}
	for _, set := range sets {
		c.KeyExchanges = union(c.KeyExchanges, set.KeyExchanges)
		c.Ciphers = union(c.Ciphers, set.Ciphers)
		c.MACs = union(c.MACs, set.MACs)
	}
	return c
}

// union is a, followed by what b has beside it.
func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// handshakeError returns what is to blame for a failed handshake: the host key, the login or
// the network.
func (d *dialing) handshakeError(op string, err error, keys *hostKeys, auth *auth) error {
	var noCommon *ssh.AlgorithmNegotiationError
	switch {
	case keys.refusal != nil:
		keys.refusal.Op = op
		return keys.refusal
	case d.ctx.Err() != nil:
		return &Error{Op: op, Kind: ErrUnreachable, Err: fmt.Errorf("no login within %v", d.cfg.Timeout), Hint: unreachableHint}
	case errors.As(err, &noCommon):
		hint := "the server offers only outdated SSH algorithms; ask its operator for current ones, or set sftp.legacy_algorithms: true"
		if d.cfg.LegacyAlgorithms {
			hint = "ask the server's operator for current SSH algorithms"
		}
		return &Error{Op: op, Kind: ErrUnreachable, Err: err, Hint: hint}
	case auth.decided(err):
		return auth.refusal(op)
	default:
		return &Error{
			Op: op, Kind: ErrUnreachable, Err: err, Hint: fmt.Sprintf("check that %s is an SSH server that admits this machine", keys.address),
			brokenOff: wasBrokenOff(err),
		}
	}
}

// startSFTP opens the session. It counts the SFTP bytes on their way, because they are what
// counts as progress.
func (a *Account) startSFTP() error {
	session, err := a.ssh.NewSession()
	if err != nil {
		return err
	}
	in, err := session.StdinPipe()
	if err != nil {
		return err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return err
	}
	errs, err := session.StderrPipe()
	if err != nil {
		return err
	}
	// What a server writes beside SFTP is of no use, but unread it would fill the channel.
	a.wg.Go(func() { _, _ = io.Copy(io.Discard, errs) })
	if err := session.RequestSubsystem("sftp"); err != nil {
		return err
	}
	// Reads and writes are pipelined: 64 packets of 32 KiB in flight fill a line at any usual
	// round trip. The packet size is the library's default, which every server serves whole.
	pipe := &pipe{in: in, out: out, stall: &a.stall, list: &a.listing}
	a.sftp, err = sftp.NewClientPipe(pipe, pipe,
		sftp.UseConcurrentReads(true), sftp.UseConcurrentWrites(true), sftp.UseFstat(true))
	return err
}

// alive reports whether the server still answers.
func (a *Account) alive() bool {
	_, _, err := a.ssh.SendRequest("keepalive@openssh.com", true, nil)
	return err == nil
}

// startError returns why SFTP did not start after a login that succeeded. alive means that the
// server is still there.
func (d *dialing) startError(err error, alive bool) error {
	e := &Error{Op: d.op, Kind: ErrUnreachable, Err: fmt.Errorf("start sftp: %w", err), Hint: unreachableHint}
	if d.ctx.Err() != nil {
		return e
	}
	var channel *ssh.OpenChannelError
	switch {
	case errors.As(err, &channel), strings.Contains(err.Error(), "subsystem request failed"): // the library has no type for it
		e.Kind, e.Hint = ErrRefused, fmt.Sprintf("enable SFTP for user %q on the server", d.cfg.User)
	default:
		e.Err = fmt.Errorf("the login succeeded, and then the server hung up: %w", err)
		e.Hint = fmt.Sprintf("ask the server's operator what its log says of user %q: the home directory may be missing or not "+
			"permitted, SFTP not enabled, or the account may have no more connections", d.cfg.User)
		if e.brokenOff = !alive; alive {
			e.Kind = ErrRefused
		}
	}
	return e
}

// withPort returns address with port 22 if it has none.
func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), "22")
}
