// Package sftpserver is an SFTP server in this process over one directory, for the sandbox, the
// demo and tests.
//
// It behaves like OpenSSH in all that keeps bills unique: a plain rename never overwrites,
// posix-rename@openssh.com does, fsync@openssh.com reaches the disk, and lstat reports links as
// links. Nothing outside the directory can be reached, also not through links. It offers the
// sftp subsystem alone: no shell, commands or forwarding.
package sftpserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// handshakeTimeout bounds the time that a connection may take to log in.
const handshakeTimeout = 30 * time.Second

// Config is what to serve, and to which user. Dir and User are required, and one of Password
// and AuthorizedKeys.
type Config struct {
	Dir            string          // the directory that clients see as /
	Addr           string          // to listen on; "" = a free port of 127.0.0.1
	User           string          // the one account
	Password       string          // "" = no password login
	AuthorizedKeys []ssh.PublicKey // of User
	HostKeys       []ssh.Signer    // none = a new ed25519 and a new ECDSA key
	Hooks          Hooks           // faults; zero = none
	// Login changes how users log in, after Password and AuthorizedKeys were applied; nil = it does
	// not. A login that it lets in has the one account.
	Login func(*ssh.ServerConfig)
}

// Server is a running server. It owns its listener, its connections and their goroutines. Its
// methods may be called concurrently.
type Server struct {
	root     *os.Root
	listener net.Listener
	hostKeys []ssh.Signer
	config   *ssh.ServerConfig
	faults   atomic.Pointer[faults]
	ctx      context.Context // done when the server closes; passed to hooks
	cancel   context.CancelFunc
	release  func() bool // stops watching Start's context
	wg       sync.WaitGroup
	renames  sync.Mutex // one rename at a time

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// Start serves cfg.Dir until Close is called or ctx is done. When it returns, clients can connect.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.User == "" || (cfg.Password == "" && len(cfg.AuthorizedKeys) == 0 && cfg.Login == nil) {
		return nil, errors.New("start sftp server: a user is required, and a password or an authorized key")
	}
	hostKeys := cfg.HostKeys
	if len(hostKeys) == 0 {
		var err error
		if hostKeys, err = freshHostKeys(); err != nil {
			return nil, fmt.Errorf("start sftp server: make host keys: %w", err)
		}
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("start sftp server: %w", err)
	}
	addr := cfg.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start sftp server: %w", err), root.Close())
	}
	s := &Server{
		root:     root,
		listener: listener,
		hostKeys: hostKeys,
		config:   serverConfig(cfg, hostKeys),
		conns:    make(map[net.Conn]struct{}),
	}
	s.SetHooks(cfg.Hooks)
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.wg.Go(s.accept)
	s.release = context.AfterFunc(ctx, s.shut)
	return s, nil
}

// Addr returns the address that the server listens on, host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// KnownHostsLine returns the lines of a known_hosts file for this server: one for each host
// key, each with its line end.
func (s *Server) KnownHostsLine() string {
	var b strings.Builder
	for _, key := range s.hostKeys {
		b.WriteString(knownhosts.Line([]string{s.Addr()}, key.PublicKey()))
		b.WriteByte('\n')
	}
	return b.String()
}

// SetHooks replaces the faults from the next request on; Hooks{} repairs the server. The bytes
// counted for FullAfter start from 0 again. A session keeps the extensions that were announced
// when it started.
func (s *Server) SetHooks(h Hooks) { s.faults.Store(&faults{Hooks: h}) }

// Drop breaks every connection, as a network fault does. The server keeps listening.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// Close stops the server and returns when its last goroutine has ended. A second Close does
// nothing.
func (s *Server) Close() error {
	s.release()
	s.shut()
	s.wg.Wait()
	if err := s.root.Close(); err != nil {
		return fmt.Errorf("close sftp server: %w", err)
	}
	return nil
}

// shut ends every goroutine and waits for none.
func (s *Server) shut() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.listener.Close()
	s.Drop()
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || s.ctx.Err() != nil {
				return
			}
			continue // a connection died in the queue; the listener is fine
		}
		if !s.track(conn) {
			conn.Close()
			return
		}
		s.wg.Go(func() {
			defer s.untrack(conn)
			s.serveConn(conn)
		})
	}
}

func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) untrack(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// serveConn logs one client in and serves its sessions. It returns when the connection and all
// sessions have ended.
func (s *Server) serveConn(nc net.Conn) {
	if nc.SetDeadline(time.Now().Add(handshakeTimeout)) != nil {
		return
	}
	conn, channels, requests, err := ssh.NewServerConn(nc, s.config)
	if err != nil {
		return // the client got the reason
	}
	defer conn.Close()
	if nc.SetDeadline(time.Time{}) != nil {
		return
	}
	var sessions sync.WaitGroup
	sessions.Go(func() { ssh.DiscardRequests(requests) }) // refuses keepalives, which answers them
	for offer := range channels {
		if offer.ChannelType() != "session" {
			_ = offer.Reject(ssh.UnknownChannelType, "only sessions are served")
			continue
		}
		ch, reqs, err := offer.Accept()
		if err != nil {
			break
		}
		sessions.Go(func() { s.serveSession(ch, reqs) })
	}
	conn.Close()
	sessions.Wait()
}

// serveSession waits for the request for the sftp subsystem, refuses all others, and serves it.
func (s *Server) serveSession(ch ssh.Channel, requests <-chan *ssh.Request) {
	defer ch.Close()
	var serving sync.WaitGroup
	defer serving.Wait()
	started := false
	for req := range requests {
		var subsystem struct{ Name string }
		ok := !started && req.Type == "subsystem" &&
			ssh.Unmarshal(req.Payload, &subsystem) == nil && subsystem.Name == "sftp"
		_ = req.Reply(ok, nil) // a lost connection ends the loop
		if !ok {
			continue
		}
		started = true
		serving.Go(func() {
			s.serveSFTP(ch)
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{0}))
			ch.Close()
		})
	}
}

func (s *Server) serveSFTP(ch ssh.Channel) {
	f := s.faults.Load()
	handlers := &files{server: s}
	server := sftp.NewRequestServer(
		&frames{Channel: ch, extensions: f.extensions()},
		sftp.Handlers{FileGet: handlers, FilePut: handlers, FileCmd: handlers, FileList: handlers},
	)
	_ = server.Serve() // ends with the connection
	_ = server.Close()
}

func serverConfig(cfg Config, hostKeys []ssh.Signer) *ssh.ServerConfig {
	refused := errors.New("refused")
	c := &ssh.ServerConfig{}
	if cfg.Password != "" {
		c.PasswordCallback = func(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			right := subtle.ConstantTimeCompare(password, []byte(cfg.Password)) == 1
			if m.User() != cfg.User || !right {
				return nil, refused
			}
			return nil, nil
		}
	}
	if len(cfg.AuthorizedKeys) > 0 {
		allowed := make(map[string]bool, len(cfg.AuthorizedKeys))
		for _, key := range cfg.AuthorizedKeys {
			allowed[string(key.Marshal())] = true
		}
		c.PublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if m.User() != cfg.User || !allowed[string(key.Marshal())] {
				return nil, refused
			}
			return nil, nil
		}
	}
	for _, key := range hostKeys {
		c.AddHostKey(key)
	}
	if cfg.Login != nil {
		cfg.Login(c)
	}
	return c
}

func freshHostKeys() ([]ssh.Signer, error) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	edSigner, err := ssh.NewSignerFromKey(ed)
	if err != nil {
		return nil, err
	}
	ecSigner, err := ssh.NewSignerFromKey(ec)
	if err != nil {
		return nil, err
	}
	return []ssh.Signer{edSigner, ecSigner}, nil
}
