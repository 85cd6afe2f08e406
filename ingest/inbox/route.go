package inbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/net/proxy"
)

// jump is what the connection to the server passes through. The zero value is nothing.
type jump struct {
	socks   string // host:port of a SOCKS5 proxy
	user    string // on the bastion
	bastion string // host:port of an SSH server that forwards connections
}

// CheckJump returns an error unless text is empty or a valid Config.ProxyJump.
func CheckJump(text string) error {
	_, err := parseJump(text)
	return err
}

func parseJump(text string) (jump, error) {
	wrong := errors.New("is not valid; write user@bastion, user@bastion:port or socks5://host:port")
	if text == "" {
		return jump{}, nil
	}
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "socks5" || u.Hostname() == "" || u.Port() == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
			return jump{}, wrong
		}
		return jump{socks: u.Host}, nil
	}
	at := strings.LastIndexByte(text, '@')
	if at < 1 || at == len(text)-1 || strings.ContainsAny(text, " ,/") {
		return jump{}, wrong
	}
	address := withPort(text[at+1:])
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return jump{}, wrong
	}
	return jump{user: text[:at], bastion: address}, nil
}

// reach opens a connection to the server, by the way that the configuration names. bastion is
// nil unless the connection passes through one; the caller then closes conn and waits for it.
func (d *dialing) reach() (conn net.Conn, bastion *ssh.Client, err error) {
	by, err := parseJump(d.cfg.ProxyJump)
	switch {
	case err != nil:
		return nil, nil, misconfigured(d.op, "write user@bastion, user@bastion:port or socks5://host:port", "sftp.proxy_jump is not valid")
	case by.socks != "":
		conn, err = d.throughSOCKS(by.socks)
	case by.bastion != "":
		return d.throughBastion(by)
	default:
		conn, err = d.connect(d.op, "sftp.address", d.address)
	}
	return conn, nil, err
}

// throughSOCKS connects through a SOCKS5 proxy, which resolves the server's name (RFC 1928).
func (d *dialing) throughSOCKS(address string) (net.Conn, error) {
	d.op += " through SOCKS proxy " + address
	dialer, err := proxy.SOCKS5("tcp", address, nil, forward{d})
	if err != nil {
		return nil, misconfigured(d.op, "correct sftp.proxy_jump", "%w", err)
	}
	conn, err := dialer.(proxy.ContextDialer).DialContext(d.ctx, "tcp", d.address)
	var own *Error
	switch {
	case err == nil:
		return conn, nil
	case errors.As(err, &own):
		return nil, own // the proxy itself is out of reach
	default:
		return nil, &Error{
			Op: d.op, Kind: ErrUnreachable, Err: err, Hint: "ask the proxy's operator whether it admits this machine to the server, and check sftp.address",
			brokenOff: wasBrokenOff(err) || strings.Contains(err.Error(), "connection refused"),
		}
	}
}

// forward makes the connection to a SOCKS proxy.
type forward struct{ d *dialing }

func (f forward) Dial(network, address string) (net.Conn, error) {
	return f.DialContext(f.d.ctx, network, address)
}

func (f forward) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	return f.d.connect(f.d.op, "sftp.proxy_jump", address)
}

// throughBastion logs in to an SSH server, with the key and never with the password, and connects
// from there.
func (d *dialing) throughBastion(by jump) (net.Conn, *ssh.Client, error) {
	op := fmt.Sprintf("connect to bastion %s of sftp server %s", by.bastion, d.address)
	base, err := d.connect(op, "sftp.proxy_jump", by.bastion)
	if err != nil {
		return nil, nil, err
	}
	bastion, err := d.handshake(base, op, by.bastion, d.login.begin(by.user, false))
	if err != nil {
		base.Close()
		return nil, nil, err
	}
	d.op += " through bastion " + by.bastion
	conn, err := bastion.DialContext(d.ctx, "tcp", d.address)
	if err == nil {
		return tunnel{conn, base}, bastion, nil
	}
	base.Close()
	_ = bastion.Wait() // its goroutines end with the connection
	e := &Error{Op: d.op, Kind: ErrUnreachable, Err: err, Hint: "check sftp.address, as the bastion sees it, and that the server is up"}
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) {
		e.brokenOff = refused.Reason == ssh.ConnectionFailed
		if refused.Reason == ssh.Prohibited {
			e.Hint = fmt.Sprintf("ask the bastion's operator to permit user %q to forward to %s", by.user, d.address)
		}
	}
	return nil, nil, e
}

// tunnel is a connection through a bastion. Its Close ends the bastion's connection, because the
// end of the tunnel alone waits for a bastion that may be dead.
type tunnel struct {
	net.Conn
	base net.Conn
}

func (t tunnel) Close() error {
	err := t.base.Close()
	_ = t.Conn.Close() // ended with the base
	return err
}
