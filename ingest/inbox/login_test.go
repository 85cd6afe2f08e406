package inbox_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/inbox/sftpserver/opensshtest"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/text/encoding/unicode"
)

// newKey creates a key; kind is ed25519, ecdsa or rsa.
func newKey(t *testing.T, kind string) (private any, signer ssh.Signer) {
	t.Helper()
	var err error
	switch kind {
	case "ed25519":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case "ecdsa":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		t.Fatalf("no such kind: %s", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	signer, err = ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return private, signer
}

// keyFile writes a private key.
func keyFile(t *testing.T, private any) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Join(t.TempDir(), "id"), string(pem.EncodeToMemory(block)))
}

func dialOnce(t *testing.T, cfg inbox.Config) error {
	t.Helper()
	a, err := inbox.Dial(t.Context(), cfg)
	if err != nil {
		return err
	}
	_, listErr := a.List(t.Context(), "/")
	return errors.Join(listErr, a.Close())
}

func TestLogin(t *testing.T) {
	t.Parallel()
	edPrivate, edSigner := newKey(t, "ed25519")
	rsaPrivate, rsaSigner := newKey(t, "rsa")
	otherPrivate, _ := newKey(t, "ecdsa")
	server, err := sftpserver.Start(context.Background(), sftpserver.Config{
		Dir: t.TempDir(), User: testUser, Password: testPassword,
		AuthorizedKeys: []ssh.PublicKey{edSigner.PublicKey(), rsaSigner.PublicKey()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	dir := t.TempDir()
	known := writeFile(t, filepath.Join(dir, "known_hosts"), server.KnownHostsLine())
	password := writeFile(t, filepath.Join(dir, "password"), testPassword+"\r\n")
	wrong := writeFile(t, filepath.Join(dir, "wrong"), "tr0ub4dor&3")
	public := writeFile(t, filepath.Join(dir, "id.pub"), string(ssh.MarshalAuthorizedKey(edSigner.PublicKey())))
	shared := keyFile(t, edPrivate)
	if err := os.Chmod(shared, 0o640); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/encrypted_key") // with the passphrase sesame
	if err != nil {
		t.Fatal(err)
	}
	encrypted := writeFile(t, filepath.Join(dir, "encrypted"), string(text))
	sesame := writeFile(t, filepath.Join(dir, "sesame"), "\xef\xbb\xbfsesame\r\n")
	open := writeFile(t, filepath.Join(dir, "open"), "sesame\n")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	plain, err := os.ReadFile(keyFile(t, edPrivate))
	if err != nil {
		t.Fatal(err)
	}
	windows := strings.ReplaceAll(string(plain), "\n", "\r\n")
	marked := writeFile(t, filepath.Join(dir, "marked"), "\xef\xbb\xbf"+windows)
	wideText, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(windows)
	if err != nil {
		t.Fatal(err)
	}
	wide := writeFile(t, filepath.Join(dir, "wide"), wideText)
	markedPassword := writeFile(t, filepath.Join(dir, "markedPassword"), "\xef\xbb\xbf"+testPassword+"\r\n")
	putty := writeFile(t, filepath.Join(dir, "id.ppk"), "PuTTY-User-Key-File-3: ssh-ed25519\r\nEncryption: none\r\n")
	empty := writeFile(t, filepath.Join(dir, "empty"), "\n")
	two := writeFile(t, filepath.Join(dir, "two"), testPassword+"\n"+testPassword+"\n")
	large := writeFile(t, filepath.Join(dir, "large"), strings.Repeat("x", 100<<10))
	garbage := writeFile(t, filepath.Join(dir, "garbage"), "not known to anybody\n")

	for name, c := range map[string]struct {
		change func(*inbox.Config)
		want   error
		texts  []string
	}{
		"password":               {func(c *inbox.Config) { c.PasswordFile = password }, nil, nil},
		"ed25519 key":            {func(c *inbox.Config) { c.PrivateKeyFile = keyFile(t, edPrivate) }, nil, nil},
		"rsa key":                {func(c *inbox.Config) { c.PrivateKeyFile = keyFile(t, rsaPrivate) }, nil, nil},
		"key fails, password ok": {func(c *inbox.Config) { c.PrivateKeyFile, c.PasswordFile = keyFile(t, otherPrivate), password }, nil, nil},
		"wrong password":         {func(c *inbox.Config) { c.PasswordFile = wrong }, inbox.ErrLogin, []string{`"acme"`, wrong}},
		"wrong key":              {func(c *inbox.Config) { c.PrivateKeyFile = keyFile(t, otherPrivate) }, inbox.ErrLogin, []string{`"acme"`, "SHA256:", "authorized keys"}},
		"wrong user":             {func(c *inbox.Config) { c.PasswordFile, c.User = password, "nobody" }, inbox.ErrLogin, []string{`"nobody"`}},
		"no user":                {func(c *inbox.Config) { c.PasswordFile, c.User = password, "" }, inbox.ErrConfig, []string{"sftp.user"}},
		"no address":             {func(c *inbox.Config) { c.PasswordFile, c.Address = password, "" }, inbox.ErrConfig, []string{"sftp.address"}},
		"missing key":            {func(c *inbox.Config) { c.PrivateKeyFile = dir + "/none" }, inbox.ErrConfig, []string{dir + "/none", "missing"}},
		"encrypted key":          {func(c *inbox.Config) { c.PrivateKeyFile = encrypted }, inbox.ErrConfig, []string{"sftp.private_key_passphrase_file"}},
		"wrong passphrase":       {func(c *inbox.Config) { c.PrivateKeyFile, c.PassphraseFile = encrypted, wrong }, inbox.ErrConfig, []string{encrypted, wrong}},
		"passphrase":             {func(c *inbox.Config) { c.PrivateKeyFile, c.PassphraseFile = encrypted, sesame }, inbox.ErrLogin, []string{encrypted}},
		"missing passphrase":     {func(c *inbox.Config) { c.PrivateKeyFile, c.PassphraseFile = encrypted, dir+"/none" }, inbox.ErrConfig, []string{dir + "/none"}},
		"open passphrase":        {func(c *inbox.Config) { c.PrivateKeyFile, c.PassphraseFile = encrypted, open }, inbox.ErrConfig, []string{"chmod 600 " + open}},
		"passphrase of a plain key": {func(c *inbox.Config) {
			c.PrivateKeyFile, c.PassphraseFile = keyFile(t, edPrivate), sesame
		}, nil, nil},
		"key from Windows":      {func(c *inbox.Config) { c.PrivateKeyFile = marked }, nil, nil},
		"key in UTF-16":         {func(c *inbox.Config) { c.PrivateKeyFile = wide }, nil, nil},
		"password from Windows": {func(c *inbox.Config) { c.PasswordFile = markedPassword }, nil, nil},
		"PuTTY key":             {func(c *inbox.Config) { c.PrivateKeyFile = putty }, inbox.ErrConfig, []string{"puttygen " + putty + " -O private-openssh"}},
		"public key":            {func(c *inbox.Config) { c.PrivateKeyFile = public }, inbox.ErrConfig, []string{public, "readable private key", "without .pub"}},
		"key open to others":    {func(c *inbox.Config) { c.PrivateKeyFile = shared }, inbox.ErrConfig, []string{"0640", "chmod 600"}},
		"key is a directory":    {func(c *inbox.Config) { c.PrivateKeyFile = dir }, inbox.ErrConfig, []string{"not a regular file"}},
		"missing password":      {func(c *inbox.Config) { c.PasswordFile = dir + "/none" }, inbox.ErrConfig, []string{"missing"}},
		"empty password":        {func(c *inbox.Config) { c.PasswordFile = empty }, inbox.ErrConfig, []string{"one line"}},
		"two passwords":         {func(c *inbox.Config) { c.PasswordFile = two }, inbox.ErrConfig, []string{"one line"}},
		"large password":        {func(c *inbox.Config) { c.PasswordFile = large }, inbox.ErrConfig, []string{"larger than 64 KiB"}},
		"no known_hosts":        {func(c *inbox.Config) { c.PasswordFile, c.KnownHostsFile = password, "" }, inbox.ErrConfig, []string{"sftp.known_hosts_file"}},
		"missing known_hosts":   {func(c *inbox.Config) { c.PasswordFile, c.KnownHostsFile = password, dir+"/none" }, inbox.ErrConfig, []string{dir + "/none", "ssh-keyscan"}},
		"broken known_hosts":    {func(c *inbox.Config) { c.PasswordFile, c.KnownHostsFile = password, garbage }, inbox.ErrConfig, []string{garbage}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := inbox.Config{Address: server.Addr(), User: testUser, KnownHostsFile: known, Timeout: 30 * time.Second}
			c.change(&cfg)
			check(t, dialOnce(t, cfg), c.want, c.texts...)
		})
	}
}

// check compares an error with a sentinel, and looks for texts in it and in its advice. Neither
// may hold a secret, and the error does not repeat the advice.
func check(t *testing.T, err, want error, texts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
	if want == nil {
		return
	}
	var failure *inbox.Error
	if !errors.As(err, &failure) || failure.Advice() == "" {
		t.Fatalf("%v has no advice", err)
	}
	if strings.Contains(err.Error(), failure.Advice()) {
		t.Errorf("%q holds its advice", err)
	}
	printed := fmt.Sprintf("error: %v\nhint: %s", err, failure.Advice())
	t.Log(printed) // for a person to judge
	for _, text := range texts {
		if !strings.Contains(printed, text) {
			t.Errorf("%q is not in:\n%s", text, printed)
		}
	}
	for _, secret := range []string{testPassword, "tr0ub4dor", "PRIVATE KEY", "sesame"} {
		if strings.Contains(printed, secret) {
			t.Errorf("a secret is in:\n%s", printed)
		}
	}
}

func TestOpenSSHLogin(t *testing.T) {
	t.Parallel()
	r := startOpenSSH(t, opensshtest.Config{})
	known, err := os.ReadFile(r.cfg.KnownHostsFile)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := newKey(t, "ed25519")
	dir := t.TempDir()
	lines := strings.SplitAfter(strings.TrimSpace(string(known)), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d host keys, want 2", len(lines))
	}
	for name, c := range map[string]struct {
		change func(*inbox.Config)
		want   error
	}{
		"as it is":        {func(*inbox.Config) {}, nil},
		"first key known": {func(c *inbox.Config) { c.KnownHostsFile = writeFile(t, dir+"/first", lines[0]) }, nil},
		"other key known": {func(c *inbox.Config) { c.KnownHostsFile = writeFile(t, dir+"/other", lines[1]) }, nil},
		"no key known":    {func(c *inbox.Config) { c.KnownHostsFile = writeFile(t, dir+"/none", "") }, inbox.ErrHostKey},
		"wrong key":       {func(c *inbox.Config) { c.PrivateKeyFile = keyFile(t, other) }, inbox.ErrLogin},
		"password": {func(c *inbox.Config) {
			c.PrivateKeyFile, c.PasswordFile = "", writeFile(t, dir+"/password", testPassword)
		}, inbox.ErrLogin},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := r.cfg
			c.change(&cfg)
			check(t, dialOnce(t, cfg), c.want)
		})
	}
}

func TestAgentLogin(t *testing.T) {
	private, signer := newKey(t, "ed25519")
	server, err := sftpserver.Start(context.Background(), sftpserver.Config{
		Dir: t.TempDir(), User: testUser, AuthorizedKeys: []ssh.PublicKey{signer.PublicKey()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	cfg := inbox.Config{
		Address: server.Addr(), User: testUser, Timeout: 30 * time.Second,
		KnownHostsFile: writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), server.KnownHostsLine()),
	}

	t.Setenv("SSH_AUTH_SOCK", "")
	check(t, dialOnce(t, cfg), inbox.ErrConfig, "SSH_AUTH_SOCK", "sftp.private_key_file")
	t.Setenv("SSH_AUTH_SOCK", filepath.Join(t.TempDir(), "none"))
	check(t, dialOnce(t, cfg), inbox.ErrConfig, "ssh-add")

	keyring := agent.NewKeyring()
	t.Setenv("SSH_AUTH_SOCK", serveAgent(t, keyring))
	check(t, dialOnce(t, cfg), inbox.ErrConfig, "holds no keys")
	otherPrivate, _ := newKey(t, "ecdsa")
	if err := keyring.Add(agent.AddedKey{PrivateKey: otherPrivate}); err != nil {
		t.Fatal(err)
	}
	check(t, dialOnce(t, cfg), inbox.ErrLogin, "SSH agent", "authorized keys")
	if err := keyring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	check(t, dialOnce(t, cfg), nil)
}

// serveAgent serves keys at a socket until the test ends.
func serveAgent(t *testing.T, keys agent.Agent) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // a test's own directory can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = agent.ServeAgent(keys, conn) // until the client hangs up
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
		os.RemoveAll(dir)
	})
	return socket
}

func TestHostKey(t *testing.T) {
	t.Parallel()
	_, ed := newKey(t, "ed25519")
	_, ec := newKey(t, "ecdsa")
	_, other := newKey(t, "ed25519")
	_, otherRSA := newKey(t, "rsa")
	server, err := sftpserver.Start(context.Background(), sftpserver.Config{
		Dir: t.TempDir(), User: testUser, Password: testPassword, HostKeys: []ssh.Signer{ec, ed},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	address := server.Addr()
	line := func(host string, key ssh.Signer) string {
		return knownhosts.Line([]string{host}, key.PublicKey()) + "\n"
	}
	bare := func(key ssh.Signer) string { return string(ssh.MarshalAuthorizedKey(key.PublicKey())) }
	// Each of these lines is one that ssh passes over.
	foreign := "example.com 1024 35 1234567890\n" + // a key of SSH version 1
		"example.com ssh-newest AAAA\n" +
		"example.com ssh-ed25519 !!!!\n" +
		"@unknown " + line("example.com:22", other) +
		"[broken " + bare(ed) +
		"not known to anybody\n"
	hashed := xknownhosts.HashHostname(knownhosts.Normalize(address)) + " " + bare(ed)

	for name, c := range map[string]struct {
		known string
		want  error
		texts []string
	}{
		"both keys":         {line(address, ed) + line(address, ec), nil, nil},
		"ed25519 alone":     {line(address, ed), nil, nil},
		"ecdsa alone":       {line(address, ec), nil, nil},
		"hashed name":       {hashed, nil, nil},
		"wildcard":          {"* " + bare(ed), nil, nil},
		"byte order mark":   {"\xef\xbb\xbf" + strings.ReplaceAll(line("example.com", other)+line(address, ed), "\n", "\r\n"), nil, nil},
		"foreign lines":     {foreign + line(address, ed), nil, nil},
		"foreign, changed":  {foreign + line(address, other), inbox.ErrHostKey, []string{"line 7"}},
		"among others":      {line("example.com:22", other) + "# comment\n\n" + line(address, ec), nil, nil},
		"unknown":           {line("example.com:22", ed), inbox.ErrHostKey, []string{"SHA256:", "known_hosts", "ssh-keyscan -p"}},
		"empty file":        {"", inbox.ErrHostKey, []string{"SHA256:", "does not hold a key"}},
		"other port":        {line("127.0.0.1:22", ed), inbox.ErrHostKey, []string{"does not hold a key"}},
		"changed":           {line(address, other), inbox.ErrHostKey, []string{ssh.FingerprintSHA256(ed.PublicKey()), ssh.FingerprintSHA256(other.PublicKey()), "line 1", "operator"}},
		"changed, new kind": {line(address, otherRSA), inbox.ErrHostKey, []string{"SHA256:", ssh.FingerprintSHA256(otherRSA.PublicKey())}},
		"revoked":           {"@revoked * " + bare(ed) + "@revoked * " + bare(ec), inbox.ErrHostKey, []string{"revoked", "SHA256:"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := dialOnce(t, inbox.Config{
				Address: address, User: testUser, Timeout: 30 * time.Second,
				PasswordFile:   writeFile(t, filepath.Join(dir, "password"), testPassword),
				KnownHostsFile: writeFile(t, filepath.Join(dir, "known_hosts"), c.known),
			})
			check(t, err, c.want, c.texts...)
		})
	}
}

// TestNoTemporaryDirectory: a container may have none. A usual known_hosts needs none.
func TestNoTemporaryDirectory(t *testing.T) {
	r := startInProcess(t, sftpserver.Hooks{})
	strange := writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), "\xef\xbb\xbf"+r.inProcess.KnownHostsLine())
	t.Setenv("TMPDIR", "/nowhere")
	check(t, dialOnce(t, r.cfg), nil)
	r.cfg.KnownHostsFile = strange
	check(t, dialOnce(t, r.cfg), inbox.ErrConfig, strange, "no byte order mark")
}

// TestHostNameInAnyCase: letter case counts neither in the address nor in known_hosts.
func TestHostNameInAnyCase(t *testing.T) {
	t.Parallel()
	r := startInProcess(t, sftpserver.Hooks{})
	_, port, _ := net.SplitHostPort(r.cfg.Address)
	_, key, _ := strings.Cut(r.inProcess.KnownHostsLine(), " ")
	key, _, _ = strings.Cut(key, "\n")
	for _, name := range []string{"[LocalHost]:" + port, "[localhost]:" + port, xknownhosts.HashHostname("[localhost]:" + port)} {
		for _, host := range []string{"localhost", "LOCALHOST"} {
			cfg := r.cfg
			cfg.Address = net.JoinHostPort(host, port)
			cfg.KnownHostsFile = writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), name+" "+key+"\n")
			if err := dialOnce(t, cfg); err != nil {
				t.Errorf("%s, known as %s: %v", host, name, err)
			}
		}
	}
}

func TestHostCertificate(t *testing.T) {
	t.Parallel()
	_, host := newKey(t, "ed25519")
	_, ca := newKey(t, "ed25519")
	_, otherCA := newKey(t, "ed25519")
	cert := &ssh.Certificate{
		Key: host.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"127.0.0.1"}, ValidBefore: ssh.CertTimeInfinity,
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(cert, host)
	if err != nil {
		t.Fatal(err)
	}
	_, plain := newKey(t, "ecdsa")
	server, err := sftpserver.Start(context.Background(), sftpserver.Config{
		Dir: t.TempDir(), User: testUser, Password: testPassword, HostKeys: []ssh.Signer{plain, signer},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for name, c := range map[string]struct {
		authority ssh.Signer
		want      error
	}{"known authority": {ca, nil}, "unknown authority": {otherCA, inbox.ErrHostKey}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := dialOnce(t, inbox.Config{
				Address: server.Addr(), User: testUser, Timeout: 30 * time.Second,
				PasswordFile: writeFile(t, filepath.Join(dir, "password"), testPassword),
				KnownHostsFile: writeFile(t, filepath.Join(dir, "known_hosts"), fmt.Sprintf("@cert-authority %s %s",
					knownhosts.Normalize(server.Addr()), ssh.MarshalAuthorizedKey(c.authority.PublicKey()))),
			})
			check(t, err, c.want, "SHA256:")
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	r := startInProcess(t, sftpserver.Hooks{})
	for name, address := range map[string]string{
		"nobody listens": nobody, "no such name": "sftp.invalid:22", "silent": silent.Addr().String(),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := r.cfg
			cfg.Address, cfg.Timeout = address, time.Second
			start := time.Now()
			check(t, dialOnce(t, cfg), inbox.ErrUnreachable, address)
			if took := time.Since(start); took > cfg.Timeout+busy {
				t.Errorf("it took %v", took)
			}
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		cfg := r.cfg
		cfg.Address = silent.Addr().String()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		start := time.Now()
		_, err := inbox.Dial(ctx, cfg)
		if !errors.Is(err, context.Canceled) || time.Since(start) > busy {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}
