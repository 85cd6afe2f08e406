package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"billdrop/ingest/durable"
)

// maxSecretFile bounds key and password files, in bytes. A larger file was named by mistake.
const maxSecretFile = 64 << 10

// maxPublicFile bounds known_hosts and certificates, in bytes.
const maxPublicFile = 16 << 20

// login is what the user authenticates with.
type login struct {
	keys     []ssh.Signer             // in the order in which they are tried
	keyText  string                   // for error texts: which key; never the secret itself
	keyHint  func(user string) string // what to do when the key is refused
	password string                   // "" = none
	passFile string                   // where it comes from
	done     func()                   // releases the agent
}

// readLogin prepares the login of cfg: its key, its password, both if both are given, and
// otherwise the SSH agent. Its errors wrap ErrConfig. The agent has to answer before the
// deadline.
func readLogin(ctx context.Context, op string, cfg Config, deadline time.Time) (*login, error) {
	l := &login{done: func() {}}
	if cfg.PrivateKeyFile == "" && cfg.PasswordFile == "" {
		return l, l.useAgent(ctx, op, deadline)
	}
	if cfg.PrivateKeyFile != "" {
		if err := l.useKey(op, cfg); err != nil {
			return nil, err
		}
	}
	if cfg.PasswordFile != "" {
		var err error
		if l.password, err = readLine(op, "password", cfg.PasswordFile); err != nil {
			return nil, err
		}
		l.passFile = cfg.PasswordFile
	}
	return l, nil
}

// CheckFiles reads the files that the configuration names, as Dial does, and connects to nothing.
// Its errors wrap ErrConfig.
func (c Config) CheckFiles() error {
	const op = "prepare the sftp login"
	if _, err := readKnownHosts(op, c.KnownHostsFile); err != nil {
		return err
	}
	if c.PrivateKeyFile == "" && c.PasswordFile == "" {
		return nil // the agent is asked when it is needed
	}
	_, err := readLogin(context.Background(), op, c, time.Time{})
	return err
}

func (l *login) useKey(op string, cfg Config) error {
	signer, err := readKey(op, cfg.PrivateKeyFile, cfg.PassphraseFile)
	if err != nil {
		return err
	}
	l.keyText = fmt.Sprintf("key %s (%s)", cfg.PrivateKeyFile, ssh.FingerprintSHA256(signer.PublicKey()))
	l.keyHint = func(user string) string {
		hint := fmt.Sprintf("add the public half of the key to the authorized keys of %q on the server", user)
		if signer.PublicKey().Type() == ssh.KeyAlgoRSA && !cfg.LegacyAlgorithms {
			hint += "; if it is there, the server may know SHA-1 signatures alone: give billdrop an Ed25519 key, or set sftp.legacy_algorithms: true"
		}
		return hint
	}
	if cfg.CertificateFile != "" {
		certified, err := readCertificate(op, cfg.CertificateFile, signer)
		if err != nil {
			return err
		}
		cert := certified.PublicKey().(*ssh.Certificate)
		l.keys = inTurn(certified, cfg.LegacyAlgorithms)
		l.keyText += " with certificate " + cfg.CertificateFile
		l.keyHint = func(user string) string {
			return fmt.Sprintf("ask the server's operator whether it trusts the certificate's authority (%s) for %q%s",
				ssh.FingerprintSHA256(cert.SignatureKey), user, validity(cert))
		}
	}
	l.keys = append(l.keys, inTurn(signer, cfg.LegacyAlgorithms)...)
	return nil
}

// readKey reads a private key. Its errors wrap ErrConfig. They drop the parser's error, which may
// quote what it read.
func readKey(op, file, passphraseFile string) (ssh.Signer, error) {
	text, err := readSecret(op, "private key", file)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	switch {
	case err == nil:
		return signer, nil
	case errors.As(err, &locked) && passphraseFile == "":
		return nil, misconfigured(op, "name a file with the passphrase in sftp.private_key_passphrase_file, give billdrop a key of its own without a passphrase, or use the SSH agent",
			"private key file %s is encrypted with a passphrase", file)
	case errors.As(err, &locked):
		passphrase, err := readLine(op, "passphrase", passphraseFile)
		if err != nil {
			return nil, err
		}
		if signer, err = ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase)); err != nil {
			return nil, misconfigured(op, "correct the passphrase; ssh-keygen -y -f "+file+" asks for it and shows whether it is right",
				"private key file %s cannot be opened with the passphrase of %s", file, passphraseFile)
		}
		return signer, nil
	case bytes.HasPrefix(text, []byte("PuTTY-User-Key-File")):
		return nil, misconfigured(op, fmt.Sprintf("convert it: puttygen %s -O private-openssh -o %s", file, strings.TrimSuffix(file, ".ppk")+".openssh"),
			"private key file %s is a key of PuTTY, which has a format of its own", file)
	case bytes.HasPrefix(text, []byte("ssh-")), bytes.HasPrefix(text, []byte("ecdsa-")), bytes.HasPrefix(text, []byte("---- BEGIN SSH2 PUBLIC")):
		return nil, misconfigured(op, "name the private half: the file of the same name without .pub",
			"private key file %s holds a public key, not a readable private key", file)
	default:
		return nil, misconfigured(op, "make a key: ssh-keygen -t ed25519 -N '' -f FILE; the file without .pub is the private key",
			"private key file %s does not hold a readable private key", file)
	}
}

// readCertificate reads the user certificate of a key. Its errors wrap ErrConfig.
func readCertificate(op, file string, key ssh.Signer) (ssh.Signer, error) {
	text, _, err := durable.ReadRegular(file, maxPublicFile)
	if err != nil {
		return nil, misconfigured(op, "correct sftp.certificate_file, or let billdrop's user read it", "read the certificate: %w", err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(PlainText(text))
	cert, ok := public.(*ssh.Certificate)
	if err != nil || !ok || cert.CertType != ssh.UserCert {
		return nil, misconfigured(op, "name the file that ssh-keygen -s wrote: it ends in -cert.pub", "certificate file %s does not hold an SSH user certificate", file)
	}
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		return nil, misconfigured(op, "name the certificate of sftp.private_key_file", "certificate file %s is for another key (%s)", file, ssh.FingerprintSHA256(cert.Key))
	}
	return signer, nil
}

// validity says until when a certificate is valid, for a hint.
func validity(cert *ssh.Certificate) string {
	if cert.ValidBefore == ssh.CertTimeInfinity {
		return ""
	}
	return fmt.Sprintf("; it is valid until %s", time.Unix(int64(cert.ValidBefore), 0).UTC().Format(time.RFC3339))
}

// inTurn returns the signers with which a key is tried. An RSA key is tried with SHA-512 and with
// SHA-256, because servers exist that accept one of them alone and do not say which.
func inTurn(signer ssh.Signer, legacy bool) []ssh.Signer {
	algorithm, ok := signer.(ssh.AlgorithmSigner)
	certificate := signer.PublicKey().Type() == ssh.CertAlgoRSAv01
	if !ok || !certificate && signer.PublicKey().Type() != ssh.KeyAlgoRSA {
		return []ssh.Signer{signer}
	}
	turns := []ssh.Signer{
		rsaSigner{algorithm, ssh.KeyAlgoRSASHA512, certificate},
		rsaSigner{algorithm, ssh.KeyAlgoRSASHA256, certificate},
	}
	if legacy {
		turns = append(turns, rsaSigner{algorithm, ssh.KeyAlgoRSA, certificate})
	}
	if certificate {
		return turns // servers refuse a login after six tries, and the bare key is tried too
	}
	// There are servers that accept a key and answer with its own type. The library takes that
	// for a refusal of the above, but not of the key as it is.
	if plain, err := ssh.NewSignerWithAlgorithms(algorithm, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}); err == nil {
		turns = append(turns, plain)
	}
	return turns
}

// rsaSigner is an RSA key that signs with one algorithm, whatever the server announces. Its
// public key has the algorithm as its type: for the library, a key of the type ssh-rsa signs with
// SHA-1 unless the server announces something better.
type rsaSigner struct {
	ssh.AlgorithmSigner
	algorithm   string
	certificate bool
}

func (s rsaSigner) Algorithms() []string { return []string{s.algorithm} }

func (s rsaSigner) PublicKey() ssh.PublicKey {
	algorithm := s.algorithm
	if s.certificate {
		algorithm = map[string]string{
			ssh.KeyAlgoRSASHA512: ssh.CertAlgoRSASHA512v01, ssh.KeyAlgoRSASHA256: ssh.CertAlgoRSASHA256v01, ssh.KeyAlgoRSA: ssh.CertAlgoRSAv01,
		}[algorithm]
	}
	return typedKey{s.AlgorithmSigner.PublicKey(), algorithm}
}

// typedKey is a public key under another type.
type typedKey struct {
	ssh.PublicKey
	as string
}

func (k typedKey) Type() string { return k.as }

func (l *login) useAgent(ctx context.Context, op string, deadline time.Time) error {
	const how = "start one and add a key (ssh-add), or set sftp.private_key_file or sftp.password_file"
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return misconfigured(op, how, "neither a private key nor a password file is given, and there is no SSH agent (SSH_AUTH_SOCK is not set)")
	}
	conn, err := (&net.Dialer{Deadline: deadline}).DialContext(ctx, "unix", socket)
	if err != nil {
		return misconfigured(op, how, "reach the SSH agent: %w", err)
	}
	release := context.AfterFunc(ctx, func() { conn.Close() })
	l.done = func() { release(); conn.Close() }
	signers, err := agent.NewClient(conn).Signers()
	if err == nil && len(signers) == 0 {
		err = errors.New("it holds no keys")
	}
	if err != nil {
		l.done()
		return misconfigured(op, how, "ask the SSH agent for its keys: %w", err)
	}
	for _, signer := range signers {
		l.keys = append(l.keys, inTurn(signer, false)...)
	}
	l.keyText = fmt.Sprintf("the %d keys of the SSH agent", len(signers))
	l.keyHint = func(user string) string {
		return fmt.Sprintf("add the public half of one of them to the authorized keys of %q on the server", user)
	}
	return nil
}

// readLine reads a secret file of one line.
func readLine(op, what, file string) (string, error) {
	text, err := readSecret(op, what, file)
	if err != nil {
		return "", err
	}
	line := string(bytes.TrimRight(text, "\r\n"))
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", misconfigured(op, fmt.Sprintf("write the %s into it, and nothing else", what), "%s file %s does not hold exactly one line", what, file)
	}
	return line, nil
}

// readSecret reads a file that its owner alone may read. Its errors wrap ErrConfig.
func readSecret(op, what, file string) ([]byte, error) {
	text, info, err := durable.ReadRegular(file, maxSecretFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, misconfigured(op, "create it, or correct its path", "%s file %s is missing", what, file)
	case errors.Is(err, durable.ErrNotRegular):
		return nil, misconfigured(op, "correct its path", "%s file %s is not a regular file", what, file)
	case errors.Is(err, durable.ErrTooLarge):
		return nil, misconfigured(op, "correct its path", "%s file %s is larger than %d KiB", what, file, maxSecretFile>>10)
	case err != nil:
		return nil, misconfigured(op, "let billdrop's user read it", "%s file: %w", what, err)
	case Exposed(info):
		return nil, misconfigured(op, "chmod 600 "+file, "%s file %s is readable by others (mode %04o)", what, file, info.Mode().Perm())
	}
	return PlainText(text), nil
}

// PlainText returns the text of a file that may come from an editor on Windows: without a byte
// order mark, in UTF-8 if the mark says UTF-16, and with the line ends of this system.
func PlainText(text []byte) []byte {
	decoded, _, err := transform.Bytes(unicode.BOMOverride(transform.Nop), text)
	if err != nil {
		decoded = text
	}
	return bytes.ReplaceAll(decoded, []byte("\r\n"), []byte("\n"))
}
