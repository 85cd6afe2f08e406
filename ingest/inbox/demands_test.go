package inbox_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/inbox/sftpserver/opensshtest"

	"golang.org/x/crypto/ssh"
)

// demanding is a server with logins of its own, and what it was asked.
type demanding struct {
	cfg inbox.Config

	mu        sync.Mutex
	passwords int // sent, by either method
}

func (d *demanding) check(password string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passwords++; password != testPassword {
		return errors.New("refused")
	}
	return nil
}

// password and keyboard are the two ways to ask for a password. Both let in.
func (d *demanding) password(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
	return nil, d.check(string(password))
}

func (d *demanding) keyboard(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	answers, err := ask("", "", []string{"Password: "}, []bool{false})
	if err != nil || len(answers) != 1 {
		return nil, errors.New("no answer")
	}
	return nil, d.check(answers[0])
}

func startDemanding(t *testing.T, login func(*demanding, *ssh.ServerConfig)) *demanding {
	t.Helper()
	d := new(demanding)
	server, err := sftpserver.Start(context.Background(), sftpserver.Config{
		Dir: t.TempDir(), User: testUser, Login: func(c *ssh.ServerConfig) { login(d, c) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	d.cfg = inbox.Config{
		Address: server.Addr(), User: testUser, Timeout: 30 * time.Second,
		KnownHostsFile: writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), server.KnownHostsLine()),
	}
	return d
}

// TestPasswordIsTriedOnce: by one method alone, whatever else the server offers.
func TestPasswordIsTriedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	right, wrong := writeFile(t, dir+"/right", testPassword+"\n"), writeFile(t, dir+"/wrong", "tr0ub4dor&3\n")
	for name, login := range map[string]func(*demanding, *ssh.ServerConfig){
		"password":             func(d *demanding, c *ssh.ServerConfig) { c.PasswordCallback = d.password },
		"keyboard-interactive": func(d *demanding, c *ssh.ServerConfig) { c.KeyboardInteractiveCallback = d.keyboard },
		"both": func(d *demanding, c *ssh.ServerConfig) {
			c.PasswordCallback, c.KeyboardInteractiveCallback = d.password, d.keyboard
		},
	} {
		t.Run(name, func(t *testing.T) {
			for file, want := range map[string]error{right: nil, wrong: inbox.ErrLogin} {
				d := startDemanding(t, login)
				d.cfg.PasswordFile = file
				check(t, dialOnce(t, d.cfg), want, "password of "+file)
				if d.passwords != 1 {
					t.Errorf("%s was sent %d times", file, d.passwords)
				}
			}
		})
	}
}

// TestHungUpOnThePassword: the server ends the connection in place of an answer. It may have
// counted the password, so that counts as a refusal.
func TestHungUpOnThePassword(t *testing.T) {
	t.Parallel()
	d := startDemanding(t, func(d *demanding, c *ssh.ServerConfig) {
		c.MaxAuthTries = 1
		c.PasswordCallback = d.password
	})
	d.cfg.PasswordFile = writeFile(t, t.TempDir()+"/wrong", "tr0ub4dor&3\n")
	p := inbox.NewPool(d.cfg)
	defer p.Close()
	for range 3 {
		check(t, p.Connect(t.Context()), inbox.ErrLogin, "password of ")
	}
	if d.passwords != 1 {
		t.Errorf("the password was sent %d times", d.passwords)
	}
}

// TestKeyAndPassword: a server demands both.
func TestKeyAndPassword(t *testing.T) {
	t.Parallel()
	private, signer := newKey(t, "ed25519")
	dir := t.TempDir()
	key := keyFile(t, private)
	right, wrong := writeFile(t, dir+"/right", testPassword+"\n"), writeFile(t, dir+"/wrong", "tr0ub4dor&3\n")
	for name, c := range map[string]struct {
		key, password string
		keyboard      bool
		want          error
		texts         []string
	}{
		"both":                 {key, right, false, nil, nil},
		"keyboard-interactive": {key, right, true, nil, nil},
		"no password":          {key, "", false, inbox.ErrLogin, []string{"accepted key " + key, "sftp.password_file, beside private_key_file"}},
		"no key":               {"", right, false, inbox.ErrLogin, []string{"admits only publickey", "sftp.private_key_file"}},
		"wrong password":       {key, wrong, false, inbox.ErrLogin, []string{"accepted key " + key, "refused the password of " + wrong}},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDemanding(t, func(d *demanding, s *ssh.ServerConfig) {
				s.PublicKeyCallback = func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
					if string(offered.Marshal()) != string(signer.PublicKey().Marshal()) {
						return nil, errors.New("refused")
					}
					next := ssh.ServerAuthCallbacks{PasswordCallback: d.password}
					if c.keyboard {
						next = ssh.ServerAuthCallbacks{KeyboardInteractiveCallback: d.keyboard}
					}
					return nil, &ssh.PartialSuccessError{Next: next}
				}
			})
			d.cfg.PrivateKeyFile, d.cfg.PasswordFile = c.key, c.password
			check(t, dialOnce(t, d.cfg), c.want, c.texts...)
		})
	}
}

// TestOpenSSHWantsAPasswordToo: as above, with sshd.
func TestOpenSSHWantsAPasswordToo(t *testing.T) {
	t.Parallel()
	r := startOpenSSH(t, opensshtest.Config{Lines: []string{"AuthenticationMethods publickey,password", "PasswordAuthentication yes"}})
	check(t, dialOnce(t, r.cfg), inbox.ErrLogin, "demands a password too", "sftp.password_file")
	r.cfg.PasswordFile = writeFile(t, t.TempDir()+"/wrong", "tr0ub4dor&3\n")
	check(t, dialOnce(t, r.cfg), inbox.ErrLogin, "refused the password of")
	if n := strings.Count(r.sshd.Log(), "Failed password"); n != 1 {
		t.Errorf("the password was sent %d times", n)
	}
}

// TestHungUpAfterTheLogin: sshd accepts the key, and has no place for the user.
func TestHungUpAfterTheLogin(t *testing.T) {
	t.Parallel()
	r := startOpenSSH(t, opensshtest.Config{Lines: []string{"ChrootDirectory /nowhere"}})
	check(t, dialOnce(t, r.cfg), inbox.ErrRefused, "the login succeeded, and then the server hung up", "home directory")
}

// TestRSA: a server that accepts one signature of RSA keys alone.
func TestRSA(t *testing.T) {
	t.Parallel()
	private, signer := newKey(t, "rsa")
	key := keyFile(t, private)
	for _, algorithm := range []string{"rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"} {
		t.Run(algorithm, func(t *testing.T) {
			r := startOpenSSH(t, opensshtest.Config{
				Lines: []string{"PubkeyAcceptedAlgorithms " + algorithm}, AuthorizedKeys: []ssh.PublicKey{signer.PublicKey()},
			})
			r.cfg.PrivateKeyFile = key
			if algorithm == "ssh-rsa" {
				check(t, dialOnce(t, r.cfg), inbox.ErrLogin, key, "sftp.legacy_algorithms: true")
				r.cfg.LegacyAlgorithms = true
			}
			check(t, dialOnce(t, r.cfg), nil)
		})
	}
}

// TestUserCertificate: sshd trusts an authority, and no key of its own.
func TestUserCertificate(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			private, signer := newKey(t, kind)
			otherPrivate, _ := newKey(t, "ed25519")
			_, authority := newKey(t, "ed25519")
			dir := t.TempDir()
			r := startOpenSSH(t, opensshtest.Config{Lines: []string{
				"TrustedUserCAKeys " + writeFile(t, dir+"/ca.pub", string(ssh.MarshalAuthorizedKey(authority.PublicKey()))),
			}})
			cert := &ssh.Certificate{
				Key: signer.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{r.cfg.User}, ValidBefore: ssh.CertTimeInfinity,
			}
			certified := func(change func(*ssh.Certificate)) string {
				t.Helper()
				c := *cert
				change(&c)
				if err := c.SignCert(rand.Reader, authority); err != nil {
					t.Fatal(err)
				}
				f, err := os.CreateTemp(dir, "*-cert.pub")
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := f.Write(ssh.MarshalAuthorizedKey(&c)); err != nil {
					t.Fatal(err)
				}
				return f.Name()
			}
			good := certified(func(*ssh.Certificate) {})
			ended := certified(func(c *ssh.Certificate) { c.ValidBefore = 1_700_000_000 })
			host := certified(func(c *ssh.Certificate) { c.CertType = ssh.HostCert })
			for name, c := range map[string]struct {
				key, certificate string
				want             error
				texts            []string
			}{
				"valid":             {keyFile(t, private), good, nil, nil},
				"none":              {keyFile(t, private), "", inbox.ErrLogin, nil},
				"ended":             {keyFile(t, private), ended, inbox.ErrLogin, []string{ended, "2023-11-14"}},
				"of another key":    {keyFile(t, otherPrivate), good, inbox.ErrConfig, []string{good, "another key"}},
				"of a host":         {keyFile(t, private), host, inbox.ErrConfig, []string{"user certificate"}},
				"not a certificate": {keyFile(t, private), dir + "/ca.pub", inbox.ErrConfig, []string{"-cert.pub"}},
				"missing":           {keyFile(t, private), dir + "/none", inbox.ErrConfig, []string{"sftp.certificate_file"}},
			} {
				cfg := r.cfg
				cfg.PrivateKeyFile, cfg.CertificateFile = c.key, c.certificate
				t.Log(name)
				check(t, dialOnce(t, cfg), c.want, c.texts...)
			}
		})
	}
}

// TestKeyExchanges: sshd offers one alone. All that the library calls safe are used, and the
// others on request.
func TestKeyExchanges(t *testing.T) {
	t.Parallel()
	for name, legacy := range map[string]bool{
		"KexAlgorithms diffie-hellman-group16-sha512":        false,
		"KexAlgorithms diffie-hellman-group-exchange-sha256": false,
		"KexAlgorithms ecdh-sha2-nistp521":                   false,
		"KexAlgorithms diffie-hellman-group14-sha1":          false,
		"KexAlgorithms diffie-hellman-group1-sha1":           true,
		"Ciphers aes128-cbc":                                 true,
		"HostKeyAlgorithms ssh-rsa":                          true,
	} {
		t.Run(name, func(t *testing.T) {
			hostPrivate, host := newKey(t, "rsa")
			lines := []string{name}
			if strings.HasPrefix(name, "HostKey") {
				lines = append(lines, "HostKey "+keyFile(t, hostPrivate))
			}
			r := startOpenSSH(t, opensshtest.Config{Lines: lines})
			known, err := os.ReadFile(r.cfg.KnownHostsFile)
			if err != nil {
				t.Fatal(err)
			}
			if len(lines) == 2 {
				name, _, _ := strings.Cut(string(known), " ")
				known = slices.Concat(known, []byte(name+" "), ssh.MarshalAuthorizedKey(host.PublicKey()))
				r.cfg.KnownHostsFile = writeFile(t, t.TempDir()+"/known_hosts", string(known))
			}
			if legacy {
				check(t, dialOnce(t, r.cfg), inbox.ErrUnreachable, "sftp.legacy_algorithms: true")
				r.cfg.LegacyAlgorithms = true
			}
			check(t, dialOnce(t, r.cfg), nil)
		})
	}
}
